"""Submit, follow and cancel jobs of SLURM."""

from __future__ import annotations

from collections.abc import Sequence

from ridgepole.clusters import slurm
from ridgepole.errors import ClusterError
from ridgepole.submit.job import Job, State
from ridgepole.submit.script import batch_script, write_copy
from ridgepole.submit.spec import JobSpec

_RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "STAGE_OUT", "STOPPED", "SIGNALING", "RESIZING")
_SHARED = "it must be on a file system that all nodes share, at the same path"


def start(spec: JobSpec) -> Job:
    """Submit a job, and note its number.

    Raises:
        ClusterError: If SLURM is not here, or refuses the job. Nothing is left of it then.
    """
    job = Job.create(spec, "slurm")
    try:
        write_copy(spec, job)
        number = slurm.submit(batch_script(spec, job))  # through a pipe: secret values are in no file of ours
    except BaseException:
        job.discard()
        raise
    job.fields["number"] = number
    job.write()
    return job


def states(jobs: Sequence[Job]) -> dict[str, tuple[State, str]]:
    """Return state and detail of jobs that have no recorded end, by their ids; record the ends."""
    found: dict[str, tuple[State, str]] = {
        job.id: ("waiting", "it is being submitted") for job in jobs if job.is_being_submitted
    }
    jobs = [job for job in jobs if job.id not in found]
    numbers = {job.id: _number(job) for job in jobs}
    known = [number for number in numbers.values() if number]
    queued = slurm.query(known) if known else {}
    for job in jobs:
        number = numbers[job.id]
        if queued is None or number is None:
            found[job.id] = "unknown", "SLURM does not answer: 'squeue' is missing here, or the controller is away"
        elif not number:
            found[job.id] = job.record_end("lost", "it was never submitted: the command was killed before that")
        elif number in queued and not queued[number].has_ended:
            found[job.id] = _live(queued[number])
        else:
            found[job.id] = job.record_end(*_end(job, queued.get(number)))
    return found


def cancel(job: Job) -> None:
    """Cancel a job: one that runs takes a checkpoint at its next tick.

    Raises:
        ClusterError: If SLURM does not take it.
    """
    number = _number(job)
    job.stop_file.touch()
    if not number or not slurm.cancel(number):
        job.stop_file.unlink(missing_ok=True)
        raise ClusterError(
            f"SLURM does not cancel job {job.id}: try 'scancel {number or '--name=' + job.cluster_name}'"
        )


def _number(job: Job) -> str | None:
    """Return the number of a job, "" if it never had one; None if SLURM does not answer."""
    return job.number or slurm.find(job.cluster_name)


def _live(queued: slurm.QueuedJob) -> tuple[State, str]:
    reason = queued.reason if queued.reason != "None" else ""
    if queued.state.startswith(_RUNNING):
        return "running", f"on {queued.nodes}" if queued.nodes else ""
    return "waiting", f"{queued.state}: {reason}" if reason else queued.state


def _end(job: Job, queued: slurm.QueuedJob | None) -> tuple[State, str]:
    """Return how a job has ended: by the queue while that knows it, else by its own notes."""
    events = job.events()
    last = events[-1] if events else {}
    code = last.get("code") if last.get("event") == "ended" else None
    word = queued.state if queued is not None else ""
    if word.startswith("COMPLETED") or (not word and code == 0):
        return "finished", ""
    if word.startswith("CANCELLED") or (job.stop_file.exists() and word in ("", "FAILED")):
        return "cancelled", ""
    if word.startswith("TIMEOUT"):
        return "failed", "it ran out of time before it had stopped: submit it again to resume, with a longer --warn"
    if word.startswith("OUT_OF_MEMORY"):
        return "failed", "it used more memory than it had asked for: give more with --mem"
    if code == 143:
        return "cancelled", "stopped by SIGTERM"
    if code == 75:
        return "failed", "it was stopped in good time, but not queued again: submit it again to resume"
    if code is not None:
        return "failed", f"exit code {code}; see {job.log}"
    if not events:
        node = f" on {queued.nodes}" if queued is not None and queued.nodes else ""
        state: State = "failed" if word else "lost"
        return state, f"{word or 'gone'} before it had begun{node}: does the node see {job.path}? {_SHARED}"
    if word:
        return "failed", f"{word} on {last.get('node', '?')}; see {job.log}"
    return "lost", f"SLURM no longer knows it, and it noted no end: it was killed on {last.get('node', '?')}"
