"""Tick and store checkpoints together with the other ranks."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ridgepole.checkpoint import CheckpointStore, Saved
from ridgepole.checkpoint.policy import CheckpointPolicy
from ridgepole.checkpoint.saving import Part, Saving
from ridgepole.checkpoint.shards import Plan as Boxes
from ridgepole.checkpoint.shards import assign
from ridgepole.errors import CheckpointError
from ridgepole.launch import local_place
from ridgepole.pipeline.distributed.agreement import Decision, StepAgreement
from ridgepole.pipeline.distributed.coordinator import Coordinator
from ridgepole.pipeline.distributed.failure import signal_of, stop_of
from ridgepole.pipeline.distributed.protocol import Message
from ridgepole.pipeline.lifecycle.background import BackgroundSaves
from ridgepole.pipeline.lifecycle.checkpointing import Checkpoints
from ridgepole.pipeline.lifecycle.scheduler import CheckpointScheduler, Kind
from ridgepole.pipeline.lifecycle.signals import SignalGuard
from ridgepole.pipeline.spec.plan import Plan

CHECKPOINT_SECONDS = 600.0
"""Seconds that a rank waits at a checkpoint for the others."""

_SPREAD = "its tensors are spread over ranks, and the other ranks are elsewhere"

_PROBLEM = "?"
"""Replaces a file's name in the receipt of a rank that could not write its part."""


class RankScheduler(CheckpointScheduler):
    """Counts the steps of one of several ranks; `coordinator` knows the others.

    The other arguments are those of `CheckpointScheduler`. `is_new_best` is asked on rank 0 only.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        policy: CheckpointPolicy,
        guard: SignalGuard,
        checkpoint: Callable[[Kind], None],
        is_new_best: Callable[[], bool],
        last_seconds: Callable[[], float],
        warn: Callable[[str], None],
    ) -> None:
        self._coordinator = coordinator
        self._agreement = StepAgreement()
        self._stops = self._ends = 0
        self._leads = not coordinator.rank
        self._requested = False
        super().__init__(policy, guard, checkpoint, is_new_best, last_seconds, warn)
        coordinator.answer_with(self._answer, self._on_decision)
        guard.on_request = self._request_stop
        if guard.requested is not None:  # it came before the ranks were connected
            self._request_stop()

    def steps_ahead(self) -> int:
        """Return 1: a step that was handed out further ahead could not be taken back."""
        return 1

    def schedule(self) -> None:
        """Compute when the next checkpoint is due, from now on."""
        super().schedule()
        self._requested = False

    def on_step(self) -> None:
        """Act as all ranks do at this step.

        Raises:
            KeyboardInterrupt: If the run was asked to stop, or another rank failed.
        """
        self._guard.ticking = True
        if self._look is not None:
            self._watch(self._look)
        self.inspect()
        decision = self._decision() if self.count >= self._agreement.gate else None
        # Asked first: it may rank the checkpoint that is taken now
        own = self._due() if self._leads else None
        if decision is not None and decision.signal:
            self._stop(stop_of(decision.signal))
        elif self.count >= self._due_count:
            self._checkpoint(self._triggers.kind_at(self.count))
        elif decision is not None:
            self._checkpoint(decision.kind)
        elif own is not None and not self._requested:
            self._requested = True
            self._coordinator.request(own)

    def end_process(self) -> None:
        """Count the end of a process as a step, at which all ranks wait for each other.

        Raises:
            KeyboardInterrupt: If the run was asked to stop, or another rank failed.
        """
        if self.guard is not None:
            self.guard.inspect(ended=True)
        self._ends += 1
        key = f"the end of process {self._ends}"
        counts = self._coordinator.gather(key, self.count + 1)
        # Ranks may tick differently inside a process; from here on they agree again
        self.count = max(counts.values())
        agreed = self._coordinator.share(key, {"count": self.count, "kind": self._due() if self._leads else None})
        self.count = agreed["count"]
        self.begin_process()
        decision = self._decision() if self.count >= self._agreement.gate else None
        stop = stop_of(decision.signal) if decision is not None and decision.signal else None
        kind = decision.kind if decision is not None else agreed["kind"]
        if self._policy.after_process or (stop is not None and self._policy.on_signal):
            kind = "boundary"
        if stop is not None and not self._agreed_time():
            kind = None
        if kind is not None:
            self._checkpoint(kind)
        if stop is not None:
            self._coordinator.stopping = True
            raise stop

    def _stop(self, stop: KeyboardInterrupt) -> None:
        self._guard.obey_forced()
        if self._policy.on_signal and self._agreed_time():
            self._checkpoint("signal")
        self._coordinator.stopping = True
        raise stop

    def _agreed_time(self) -> bool:
        """Return whether rank 0 expects a checkpoint to be done in time."""
        self._stops += 1
        return bool(self._coordinator.share(f"time for a checkpoint {self._stops}", self._leads and self._has_time()))

    def _decision(self) -> Decision | None:
        """Return the decision for this step, once it is known.

        Raises:
            KeyboardInterrupt: If another rank failed.
        """
        while True:
            if self._agreement.must_wait(self.count):
                with self.times.spent("ranks"):
                    self._coordinator.wait_for(lambda: not self._agreement.must_wait(self.count))
            with self._coordinator.news:
                if not self._agreement.must_wait(self.count):  # not asked again in between
                    return self._agreement.due(self.count)

    # --- called in threads and signal handlers

    def _request_stop(self) -> None:
        stop = self._guard.requested
        if stop is not None:
            left = self._guard.deadline - time.monotonic()
            self._coordinator.request("signal", signal_of(stop), left if left < math.inf else None)

    def _answer(self) -> int:
        with self._coordinator.news:
            return self._agreement.answer(lambda: self.count)

    def _on_decision(self, message: Message) -> None:
        with self._coordinator.news:
            self._agreement.decide(Decision(message["at"], message["kind"], message["signal"]))
            if message["grace"] is not None:
                self._guard.deadline = min(self._guard.deadline, time.monotonic() + message["grace"])
            self._coordinator.news.notify_all()


class RankCheckpoints(Checkpoints):
    """Takes checkpoints together: each rank stores its part, rank 0 the rest and the manifest.

    The other arguments are those of `Checkpoints`.
    """

    def __init__(
        self, coordinator: Coordinator, plan: Plan, directory: Path, config: Mapping[str, Any], attempt: int
    ) -> None:
        super().__init__(plan, directory, config, attempt)
        if self.behind is not None:
            limit = plan.policy.host_memory_limit
            place = local_place(os.environ)
            self.behind = BackgroundSaves(None if limit is None else limit * 1e9, place[1] if place else 1)
        self._coordinator = coordinator
        self._taken = self._asked = 0
        self._sharded = False

    def refusal(self, kind: str) -> str:
        """Return why the checkpoint of an error is left out; else "".

        The other ranks are elsewhere: a state that they make together would wait for them for ever.
        """
        if kind != "error":
            return ""
        if self._coordinator.rank:
            return "rank 0 stores it alone"
        return _SPREAD if self._sharded else ""

    def note_shards(self) -> None:
        """Note that the state has tensors that are spread over ranks."""
        self._sharded = True

    def must_skip(self, kind: str, *, until: float, best: bool) -> bool:
        """Return whether all ranks leave a checkpoint out; rank 0 decides, whose save ends last."""
        if kind == "error" or self.behind is None:
            return not self._coordinator.rank and super().must_skip(kind, until=until, best=best)
        self._asked += 1
        leads = not self._coordinator.rank
        answer = super().must_skip(kind, until=until, best=best) if leads else None
        skip = bool(self._coordinator.share(f"whether to leave out checkpoint {self._asked}", answer))
        if not skip:
            self.behind.wait(math.inf)  # over on rank 0, so it ends here at once
        return skip

    def _write(
        self,
        state: Mapping[str, Any],
        *,
        step: int,
        kind: str,
        score: float | None,
        protect: str | None,
        meta: Mapping[str, Any],
    ) -> Saved | None:
        # The other ranks are somewhere else; it is for inspection, not for resuming
        if kind == "error":
            if Part(state).plan:
                raise CheckpointError(_SPREAD)
            return super()._write(state, step=step, kind=kind, score=score, protect=protect, meta=meta)
        self._taken += 1
        key = f"checkpoint {self._taken} of this attempt"
        save: Callable[[str], Saved | None]
        if self._coordinator.rank:
            own = {each: state[each] for each in ("permanences", "process")} | {"rng": state["framework"]["rng"]}
            part = Part(own)
            save = partial(self._write_part, key, part, list(own["permanences"]), meta["resumable"])
        else:
            part = Part(state)
            begin = partial(self.store.begin, step=step, kind=kind)
            save = partial(self._lead, key, part, begin, score, protect, meta)
        self._sharded = self._sharded or bool(part.plan)
        return self._run(kind, part, save)

    def _lead(
        self,
        key: str,
        part: Part,
        begin: Callable[[], Saving],
        score: float | None,
        protect: str | None,
        meta: Mapping[str, Any],
        problem: str,
    ) -> Saved:
        """Save on rank 0: collect the parts of all ranks, and commit them if all were written."""
        began = time.monotonic()
        own = _Offer(resumable=meta["resumable"], plan=part.plan, digests={}, problem=problem)
        offers = {0: own} | {
            rank: _Offer(**offer)
            for rank, offer in self._coordinator.gather_large(key, None, seconds=CHECKPOINT_SECONDS).items()
            if rank
        }
        resumable = all(offer.resumable for offer in offers.values())
        told = False
        try:
            assignment = assign({rank: offer.plan for rank, offer in offers.items()})
            with begin() as saving:
                kept, copied = assignment.left_out, assignment.copied
                orders = {str(rank): [list(kept[rank]), list(copied[rank])] for rank in offers}
                self._coordinator.share_large(key, {"directory": saving.directory.name, "orders": orders})
                told = True
                receipts = self._coordinator.gather_large(f"the parts of {key}", None)
                saved = saving.commit(
                    part,
                    parts=[_checked(rank, receipt) for rank, receipt in receipts.items() if rank],
                    assignment=assignment,
                    score=score,
                    protect=protect if resumable else None,
                    config_hash=self._config_hash,
                    world_size=self._coordinator.size,
                    meta=dict(meta) | {"resumable": resumable, "uneven": _uneven(part, offers)},
                )
        finally:  # also after a failure: the other ranks are waiting
            if not told:
                self._coordinator.share_large(key, None)
            self._coordinator.share(f"the end of {key}")
        self.seconds = time.monotonic() - began
        problems = [f"rank {rank}: {offer.problem}" for rank, offer in offers.items() if offer.problem]
        return replace(saved, problems=(*problems, *saved.problems))

    def _write_part(self, key: str, part: Part, names: Sequence[str], resumable: bool, problem: str) -> None:
        """Save on another rank: offer the part, and write what rank 0 asks for."""
        digests = {f"permanences.{name}": part.digest("permanences", name) for name in names}
        digests["process"] = part.digest("process")
        rank = self._coordinator.rank
        offer = _Offer(resumable=resumable, plan=part.plan, digests=digests, problem=problem)
        self._coordinator.gather_large(key, asdict(offer))
        order = self._coordinator.share_large(key, seconds=CHECKPOINT_SECONDS)
        if order is not None:
            try:
                receipt = part.write(self.store.path / order["directory"], rank, *order["orders"][str(rank)])
            except CheckpointError as error:
                receipt = {_PROBLEM: str(error)}
            self._coordinator.gather_large(f"the parts of {key}", receipt)
        self._coordinator.share(f"the end of {key}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offer:
    """The part of a rank, as rank 0 knows it before it is written.

    Attributes:
        resumable: Whether this rank can be resumed from there.
        plan: Its boxes of tensors that are spread over ranks.
        digests: Hashes of what it stores besides, by name.
        problem: Why it is written in the foreground, if that is to be told.
    """

    resumable: bool
    plan: Boxes
    digests: Mapping[str, str]
    problem: str = ""


def _uneven(part: Part, offers: Mapping[int, _Offer]) -> list[str]:
    """Return the names of states that differ between ranks, apart from tensors in shards."""
    found = []
    for name in sorted({name for offer in offers.values() for name in offer.digests}):
        others = {offer.digests.get(name) for rank, offer in offers.items() if rank}
        try:
            own = part.digest(*name.split(".", 1))
        except KeyError:  # rank 0 has no such permanence
            own = ""
        if others != {own}:
            found.append(name)
    return found


def _checked(rank: int, receipt: Mapping[str, Any]) -> Mapping[str, Any]:
    if _PROBLEM in receipt:
        raise CheckpointError(f"rank {rank}: {receipt[_PROBLEM]}")
    return receipt


class JointVerification:
    """Verifies checkpoints together: each rank reads its share of the files.

    Args:
        coordinator: The ranks.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def verify(self, store: CheckpointStore, name: str) -> tuple[str, ...]:
        """Return every problem that a rank has found; called on rank 0.

        Raises:
            CheckpointError: If the system can't read it at the moment.
        """
        key = self._ask({"path": str(store.path), "name": name})
        found = self._coordinator.gather(f"the verdicts on {key}", self._look(store, name))
        for rank, answer in sorted(found.items()):
            if answer["errno"] is not None:
                raise CheckpointError(answer["errno"], f"rank {rank}: {answer['problems'][0]}")
        return tuple(dict.fromkeys(text for _, answer in sorted(found.items()) for text in answer["problems"]))

    def end(self) -> None:
        """Tell the other ranks that nothing more is to be verified; called on rank 0."""
        self._ask(None)

    def help(self) -> None:
        """Verify what rank 0 asks for, until it has ended; called on the other ranks."""
        while True:
            key = self._next_key()
            asked = self._coordinator.share(key)
            if asked is None:
                return
            answer = self._look(CheckpointStore(Path(asked["path"])), asked["name"])
            self._coordinator.gather(f"the verdicts on {key}", answer)

    def _next_key(self) -> str:
        self._coordinator.verified += 1
        return f"checkpoint {self._coordinator.verified} to verify"

    def _ask(self, value: Any) -> str:
        key = self._next_key()
        self._coordinator.share(key, value)
        return key

    def _look(self, store: CheckpointStore, name: str) -> dict[str, Any]:
        """Return the problems of this rank's share, and the system's error if it can't be read."""
        try:
            problems = store.verify(name, share=(self._coordinator.rank, self._coordinator.size))
        except CheckpointError as error:
            return {"problems": [error.strerror or str(error)], "errno": error.errno}
        return {"problems": list(problems), "errno": None}
