"""Run each trial as a job of SLURM, or as a local process in its place, through submitit."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ridgepole.errors import SweepError, did_you_mean, text_of
from ridgepole.files import read_json
from ridgepole.sweeps.executors.remote_task import TaskPayload
from ridgepole.sweeps.executors.slurm_jobs import Jobs, LocalJobs, SlurmJobs, run_job
from ridgepole.sweeps.executors.tasks import Task, TaskExecutor, TaskExited
from ridgepole.sweeps.executors.trial_process import EXCLUSIVE, replace_text, worker_environ
from ridgepole.sweeps.extras import need
from ridgepole.sweeps.run.targets import Target
from ridgepole.sweeps.run.trial import TrialSpec
from ridgepole.sweeps.spec.options import Options
from ridgepole.sweeps.study.outcome import TrialOutcome

if TYPE_CHECKING:
    import submitit

_SHARED = frozenset(
    ("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node", "stderr_to_stdout")
)
"""Submitit's parameters for every cluster; all others begin with the cluster's name."""
_CLUSTERS = ("slurm", "local", "auto")
_TIMEOUTS = 3  # default of submitit's `max_num_timeout`: timeouts after which a trial has failed
_WEEK_MIN = 10080
_EARLY_SECONDS = 120.0  # SLURM may warn this much early, or a job take so long to begin its trial
_POLL_SECONDS = 0.1


class SlurmExecutor(TaskExecutor[str]):
    """An executor that submits one job for each attempt of a trial.

    Jobs outlive their driver, and the next one adopts them. A preempted job, or one that has run
    out of time, has stopped at a tick with a checkpoint. It is submitted again.

    Args:
        parameters: Those of submitit, with or without `slurm_` in front, and `cluster`.
        workers: The number of jobs that wait or run at a time.
    """

    def __init__(self, parameters: Mapping[str, Any], workers: int) -> None:
        super().__init__(workers)
        self._given = dict(parameters)
        self._timeouts = self._given.pop("max_num_timeout", _TIMEOUTS)
        self._cluster = self._given.pop("cluster", "slurm")
        self._python = self._given.pop("python", None)
        self._client: submitit.AutoExecutor | None = None
        self._jobs: Jobs = LocalJobs()

    @classmethod
    def validate(cls, options: Options) -> None:
        """Check that submitit is installed, and SLURM too where it is used."""
        need("submitit", "the executor 'slurm'")
        if options.slurm.get("cluster", "slurm") == "slurm" and shutil.which("srun") is None:
            message = "SLURM is not available here (no 'srun' on the PATH)"
            raise SweepError(f"{message}: start the sweep on a login node, or write ridgepole.slurm.cluster = 'local'")

    @classmethod
    def create(cls, options: Options, workers: int) -> SlurmExecutor:
        """Return an executor with so many jobs at most."""
        return cls(options.slurm, workers)

    # --- the scheduler

    def _open(self, target: Target) -> TaskPayload:
        import cloudpickle  # type: ignore[import-untyped, unused-ignore]

        if self._cluster not in _CLUSTERS:
            raise SweepError(
                f"expected one of {', '.join(_CLUSTERS)} as ridgepole.slurm.cluster, got {self._cluster!r}"
            )
        if self._cluster == "auto":
            self._cluster = "slurm" if shutil.which("srun") else "local"
        # submitit writes on standard output, where the result goes
        logging.getLogger("submitit").setLevel(logging.CRITICAL)
        self._client = self._make_client()
        self._jobs = SlurmJobs() if self._cluster == "slurm" else LocalJobs()
        if self._cluster == "slurm":
            return TaskPayload.pack(target, cloudpickle.dumps, EXCLUSIVE)
        self._outcome_delay = 0.0
        return TaskPayload.pack(target, cloudpickle.dumps, worker_environ(self._workers))

    def _launch(self, payload: TaskPayload, spec: TrialSpec) -> str:
        assert self._client is not None
        # Written before and after: if the driver is killed in between, the next one knows at least
        # that there is a later attempt, and this job ends at once.
        note = self.directory.trial_task(spec.number, spec.attempt)
        note.write_text(json.dumps({"cluster": self._cluster, "id": None}), encoding="utf-8")
        self._client.update_parameters(name=f"{self._given.get('name', 'ridgepole')}-{spec.sweep}-{spec.number}")
        try:
            number = self._jobs.submit(self._client, run_job, payload, spec, self._cluster == "local")
        except Exception as error:
            raise SweepError(f"can't submit a job: {text_of(error)}") from error
        replace_text(note, json.dumps({"cluster": self._cluster, "id": number}))
        return number

    def adopt(self, spec: TrialSpec) -> bool:
        """Take over the job of an attempt, unless it is known to have ended."""
        note = read_json(self.directory.trial_task(spec.number, spec.attempt))
        if note.get("cluster") != self._cluster or not note.get("id"):
            return False
        if self.directory.trial_result(spec.number, spec.attempt).exists():
            return False
        self._jobs.adopt(note["id"], self.directory.tasks)
        task = Task.of(spec, str(note["id"]))
        if self._jobs.end_state(task.handle) is not None:
            return False
        self._tasks[spec.number] = task
        return True

    def _exit_of(self, task: Task[str]) -> TaskExited | None:
        state = self._jobs.end_state(task.handle, exact=task.outcome is not None)
        if state is None:
            return None
        problem = self._jobs.problem(task.handle)
        if problem:
            return TaskExited(problem, fatal=True)
        job = f"its job {task.handle}"
        if task.outcome is None:
            log = self._jobs.log(task.handle)
            timed_out = state.startswith("TIMEOUT") and self._may_retry_timeout(task)
            preempted = timed_out or state.startswith("PREEMPTED")
            return TaskExited(f"{job} ended as {state}; see {log}", preempted=preempted)
        if state.startswith("CANCELLED"):
            return TaskExited(f"{job} was cancelled")
        if not self._has_timed_out(task.outcome):
            return TaskExited(f"{job} was preempted", preempted=True)
        return TaskExited(f"{job} has run out of time", preempted=self._may_retry_timeout(task))

    def _cancel(self, task: Task[str]) -> None:
        self._jobs.cancel(task.handle)

    def _kill(self, task: Task[str]) -> None:
        self._jobs.kill(task.handle)

    def _clean_up(self, task: Task[str]) -> None:
        self._jobs.clean_up(task.handle)

    def _wait(self, timeout: float) -> None:
        time.sleep(min(timeout, _POLL_SECONDS))
        self._jobs.refresh()

    def _disconnect(self) -> None:
        self._jobs.close()

    # --- parameters

    def _make_client(self) -> submitit.AutoExecutor:
        """Return submitit's client."""
        import submitit

        values = {_full_name(key): value for key, value in self._given.items()}
        self._check(values)
        self.directory.tasks.mkdir(mode=0o700, exist_ok=True)  # what jobs are sent may hold secrets
        python = {} if self._python is None else {f"{self._cluster}_python": self._python}
        try:
            client = submitit.AutoExecutor(folder=self.directory.tasks, cluster=self._cluster, **python)
            client.update_parameters(**values)
        except Exception as error:
            raise SweepError(f"ridgepole.slurm: {_plain_message(text_of(error), list(self._given))}") from error
        return client

    def _check(self, values: dict[str, Any]) -> None:
        for key in ("nodes", "tasks_per_node", "slurm_ntasks_per_node"):
            if values.get(key, 1) != 1:
                message = f"ridgepole.slurm: a trial is one task, and {key.removeprefix('slurm_')} is {values[key]}"
                raise SweepError(f"{message}; for several cards give gpus_per_node alone")
        if not {"timeout_min", "slurm_time"} & set(values):
            if self._cluster == "slurm":
                example = "such as timeout_min = 240"
                raise SweepError(f"ridgepole.slurm has no time limit for a trial: write it in minutes, {example}")
            values["timeout_min"] = _WEEK_MIN

    def _has_timed_out(self, outcome: TrialOutcome) -> bool:
        """Return whether a trial that was stopped from outside had used up its time, or nearly."""
        given = {key.removeprefix("slurm_"): value for key, value in self._given.items()}
        minutes, ahead = given.get("time", given.get("timeout_min")), given.get("signal_delay_s", 90)
        return isinstance(minutes, int | float) and outcome.seconds + float(ahead) + _EARLY_SECONDS >= 60 * minutes

    def _may_retry_timeout(self, task: Task[str]) -> bool:
        """Record that an attempt has run out of time; return whether there may be another."""
        spec = task.spec
        if task.requested:
            return False
        note = self.directory.trial_task(spec.number, spec.attempt)
        note.write_text(json.dumps(read_json(note) | {"timed_out": True}), encoding="utf-8")
        notes = (read_json(self.directory.trial_task(spec.number, each)) for each in range(1, spec.attempt + 1))
        return sum(bool(each.get("timed_out")) for each in notes) <= int(self._timeouts)


def _full_name(key: str) -> str:
    """Return a parameter's name as submitit has it."""
    return key if key in _SHARED or key.partition("_")[0] in _CLUSTERS else f"slurm_{key}"


def _plain_message(message: str, names: list[str]) -> str:
    """Return submitit's message about a parameter, with a suggestion in place of a list of all."""
    known = message.partition("Valid arguments: ")[2].partition("\n")[0].split(", ")
    wrong = next((name for name in names if f"'{name.removeprefix('slurm_')}'" in message), None)
    hint = did_you_mean(wrong.removeprefix("slurm_"), known) if wrong else ""
    first = message.partition("\n")[0]
    return f"submitit has no parameter {wrong!r}; {hint}" if wrong and hint else first
