"""Runs each trial as a job of SLURM, or as a process of this machine in its place, through submitit."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ridgepole.errors import SweepError, did_you_mean, text_of
from ridgepole.files import read_json
from ridgepole.sweeps.executors.base import EXCLUSIVE, TrialSpec, for_workers
from ridgepole.sweeps.executors.errand import Parcel
from ridgepole.sweeps.executors.slurmjobs import Jobs, LocalJobs, SlurmJobs, perform_job
from ridgepole.sweeps.executors.tasks import Gone, Task, TaskExecutor
from ridgepole.sweeps.extras import need
from ridgepole.sweeps.jobs import Job
from ridgepole.sweeps.options import Options
from ridgepole.sweeps.outcome import Outcome

if TYPE_CHECKING:
    import submitit

_SHARED = frozenset(
    ("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node", "stderr_to_stdout")
)
"""Parameters that submitit knows for every cluster; all others have the cluster's name in front."""
_CLUSTERS = ("slurm", "local", "auto")
_TIMEOUTS = 3
"""How often a trial may run out of time before it has failed: `max_num_timeout`, as submitit has it."""
_WEEK_MIN = 10080
_EARLY_SECONDS = 120.0
"""How much earlier than it was asked to SLURM may warn, and how long a job may take to begin its trial."""
_REST = 0.1


def make(options: Options, workers: int) -> SlurmExecutor:
    """The executor, with so many jobs at most."""
    return SlurmExecutor(options.slurm, workers)


def check(options: Options) -> None:
    """Finds out what can be known before anything is made.

    Raises:
        MissingExtraError: If submitit is not installed.
        SweepError: If there is no SLURM.
    """
    need("submitit", "the executor 'slurm'")
    if options.slurm.get("cluster", "slurm") == "slurm" and shutil.which("srun") is None:
        message = "there is no SLURM here (no 'srun' on the PATH)"
        raise SweepError(f"{message}: start the sweep on a login node, or write ridgepole.slurm.cluster = 'local'")


class SlurmExecutor(TaskExecutor[str]):
    """One job for each attempt of a trial; jobs outlive their driver, and the next one takes them over.

    A job that is preempted, or has run out of time, has stopped at a tick with a checkpoint and is submitted again.

    Args:
        parameters: Those of submitit, with or without `slurm_` in front, and `cluster`.
        workers: How many jobs wait or run at a time.
    """

    def __init__(self, parameters: Mapping[str, Any], workers: int) -> None:
        super().__init__(workers)
        self._given = dict(parameters)
        self._timeouts = self._given.pop("max_num_timeout", _TIMEOUTS)
        self._cluster = self._given.pop("cluster", "slurm")
        self._python = self._given.pop("python", None)
        self._client: submitit.AutoExecutor | None = None
        self._jobs: Jobs = LocalJobs()

    # --- what TaskExecutor asks for

    def _open(self, job: Job) -> Parcel:
        import cloudpickle  # type: ignore[import-untyped, unused-ignore]

        if self._cluster not in _CLUSTERS:
            raise SweepError(f"ridgepole.slurm.cluster is one of {', '.join(_CLUSTERS)}, not {self._cluster!r}")
        if self._cluster == "auto":
            self._cluster = "slurm" if shutil.which("srun") else "local"
        # submitit writes on standard output, where the result goes
        logging.getLogger("submitit").setLevel(logging.CRITICAL)
        self._client = self._make_client()
        self._jobs = SlurmJobs() if self._cluster == "slurm" else LocalJobs()
        if self._cluster == "slurm":
            return Parcel.of(job, cloudpickle.dumps, EXCLUSIVE)
        self._late = 0.0
        return Parcel.of(job, cloudpickle.dumps, for_workers(self._count))

    def _launch(self, parcel: Parcel, spec: TrialSpec) -> str:
        assert self._client is not None
        # Noted before and after: of a job that was submitted by a driver killed in between, its successor knows at
        # least that there is a later attempt, and it ends at once.
        note = self.directory.trial_task(spec.number, spec.attempt)
        note.write_text(json.dumps({"cluster": self._cluster, "id": None}), encoding="utf-8")
        self._client.update_parameters(name=f"{self._given.get('name', 'ridgepole')}-{spec.sweep}-{spec.number}")
        try:
            number = self._jobs.submit(self._client, perform_job, parcel, spec, self._cluster == "local")
        except Exception as error:
            raise SweepError(f"no job can be submitted: {text_of(error)}") from error
        part = note.with_suffix(".part")
        part.write_text(json.dumps({"cluster": self._cluster, "id": number}), encoding="utf-8")
        part.replace(note)
        return number

    def adopt(self, spec: TrialSpec) -> bool:
        """Whether the job of an attempt still waits or runs; where that can't be found out, it is taken to."""
        note = read_json(self.directory.trial_task(spec.number, spec.attempt))
        if note.get("cluster") != self._cluster or not note.get("id"):
            return False
        if self.directory.trial_result(spec.number, spec.attempt).exists():
            return False
        self._jobs.know(note["id"], self.directory.tasks)
        task = Task(spec, str(note["id"]))
        if self._jobs.gone(task.handle) is not None:
            return False
        self._tasks[spec.number] = task
        return True

    def _gone(self, task: Task[str]) -> Gone | None:
        state = self._jobs.gone(task.handle, exactly=task.outcome is not None)
        if state is None:
            return None
        said = self._jobs.answer(task.handle)
        if said:
            return Gone(said, useless=True)
        job = f"its job {task.handle}"
        if task.outcome is None:
            log = self._jobs.log(task.handle)
            timed_out = state.startswith("TIMEOUT") and task.asked == 0 and self._may_time_out(task.spec)
            return Gone(f"{job} ended as {state}; see {log}", evicted=timed_out or state.startswith("PREEMPTED"))
        if state.startswith("CANCELLED"):
            return Gone(f"{job} was cancelled")
        if not self._has_timed_out(task.outcome):
            return Gone(f"{job} was preempted", evicted=True)
        return Gone(f"{job} has run out of time", evicted=task.asked == 0 and self._may_time_out(task.spec))

    def _drop(self, task: Task[str]) -> None:
        self._jobs.drop(task.handle)

    def _kill(self, task: Task[str]) -> None:
        self._jobs.kill(task.handle)

    def _forget(self, task: Task[str]) -> None:
        if self._jobs.gone(task.handle) is not None:
            self._jobs.forget(task.handle)

    def _rest(self, timeout: float) -> None:
        time.sleep(min(timeout, _REST))
        self._jobs.refresh()

    def _shut(self) -> None:
        self._jobs.close()

    # --- parameters

    def _make_client(self) -> submitit.AutoExecutor:
        """Gives submitit's client, which refuses what it does not know.

        Raises:
            SweepError: If it does.
        """
        import submitit

        values = {_in_full(key): value for key, value in self._given.items()}
        self._check(values)
        self.directory.tasks.mkdir(mode=0o700, exist_ok=True)  # what jobs are sent may hold secrets
        python = {} if self._python is None else {f"{self._cluster}_python": self._python}
        try:
            client = submitit.AutoExecutor(folder=self.directory.tasks, cluster=self._cluster, **python)
            client.update_parameters(**values)
        except Exception as error:
            raise SweepError(f"ridgepole.slurm: {_plainly(text_of(error), list(self._given))}") from error
        return client

    def _check(self, values: dict[str, Any]) -> None:
        for key in ("nodes", "tasks_per_node", "slurm_ntasks_per_node"):
            if values.get(key, 1) != 1:
                message = f"ridgepole.slurm: a trial is one task, and {key.removeprefix('slurm_')} is {values[key]}"
                raise SweepError(f"{message}; for several cards give gpus_per_node alone")
        if not {"timeout_min", "slurm_time"} & set(values):
            if self._cluster == "slurm":
                example = "such as timeout_min = 240"
                raise SweepError(f"ridgepole.slurm says not how long a trial may take: write it in minutes, {example}")
            values["timeout_min"] = _WEEK_MIN

    def _has_timed_out(self, outcome: Outcome) -> bool:
        """Whether a trial that was stopped from outside had used up its time. SLURM warns up to a minute early."""
        given = {key.removeprefix("slurm_"): value for key, value in self._given.items()}
        minutes, ahead = given.get("time", given.get("timeout_min")), given.get("signal_delay_s", 90)
        return isinstance(minutes, int | float) and outcome.seconds + float(ahead) + _EARLY_SECONDS >= 60 * minutes

    def _may_time_out(self, spec: TrialSpec) -> bool:
        """Notes that an attempt has run out of time; whether there may be a further one."""
        note = self.directory.trial_task(spec.number, spec.attempt)
        note.write_text(json.dumps(read_json(note) | {"timed_out": True}), encoding="utf-8")
        notes = (read_json(self.directory.trial_task(spec.number, each)) for each in range(1, spec.attempt + 1))
        return sum(bool(each.get("timed_out")) for each in notes) <= int(self._timeouts)


def _in_full(key: str) -> str:
    """A parameter's name as submitit has it."""
    return key if key in _SHARED or key.partition("_")[0] in _CLUSTERS else f"slurm_{key}"


def _plainly(message: str, names: list[str]) -> str:
    """What submitit says of a parameter, with a guess at what was meant in the place of a list of all."""
    known = message.partition("Valid arguments: ")[2].partition("\n")[0].split(", ")
    wrong = next((name for name in names if f"'{name.removeprefix('slurm_')}'" in message), None)
    hint = did_you_mean(wrong.removeprefix("slurm_"), known) if wrong else ""
    first = message.partition("\n")[0]
    return f"submitit knows no parameter {wrong!r}; {hint}" if wrong and hint else first
