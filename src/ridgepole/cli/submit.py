"""`ridgepole submit`."""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ridgepole.cli.faults import show_problems
from ridgepole.cli.labels import labels_of
from ridgepole.cli.output import columns, complain, near, say, say_json, when
from ridgepole.cli.roots import runs_root
from ridgepole.errors import RunDirError
from ridgepole.project import plain_path
from ridgepole.rundir import JOBS
from ridgepole.scripts.record import runs_root as root_of_scripts
from ridgepole.submit.job import ENDS, Job, State, find_job, list_jobs, submitting
from ridgepole.submit.spec import JobSpec, masked

_OF_SLURM = ("time", "partition", "account", "qos", "mem", "constraint", "sbatch", "setup", "warn")
_COLOURS = {"finished": "green", "running": "bold", "failed": "red", "lost": "red", "cancelled": "yellow"}


def call(arguments: argparse.Namespace) -> int:
    """Submit a job, or show, cancel or print one."""
    if arguments.action == "start":
        return _start(arguments)
    root = runs_root(arguments)
    if arguments.action == "status":
        return _status(arguments, root)
    job = find_job(arguments.job, root)
    return _cancel(job) if arguments.action == "cancel" else _logs(job)


def _start(arguments: argparse.Namespace) -> int:
    """Check what can be checked here, and submit the job."""
    foreign = _OF_SLURM if arguments.executor == "ray" else ("address",)
    given = [f"--{name}" for name in foreign if getattr(arguments, name)]
    if given:
        raise RunDirError(f"{', '.join(given)} can't be used with --executor {arguments.executor}")
    spec = _spec(arguments)
    if arguments.dry_run:
        _show(spec, arguments.executor)
        return 0
    with submitting(Path(spec.root)):
        _refuse_second(spec)
        if arguments.executor == "slurm":
            from ridgepole.submit import slurm

            job = slurm.start(spec)
        else:
            from ridgepole.submit import ray

            job = ray.start(spec, ray.address_of(arguments.address))
    if arguments.json:
        say_json(_described(job, "waiting", ""))
    else:
        say(f"submitted {job.id} as {job.number} · log {near(job.log)}")
    return 0


def _spec(arguments: argparse.Namespace) -> JobSpec:
    """Return the job, after a check of the pipeline.

    Raises:
        RunDirError: If there is no such file, or it takes no such options.
        ConfigError: If the pipeline can't run.
    """
    labels_of(arguments)
    file = str(arguments.file)
    if not file.endswith((".toml", ".py")):
        raise RunDirError(f"{file} is neither a pipeline (.toml) nor a script (.py)")
    given = plain_path(arguments.runs_dir) if arguments.runs_dir else None
    root, directory = given, str(Path.cwd())  # importing the user's package may change it
    if file.endswith(".toml"):
        if arguments.arguments:
            raise RunDirError(f"{file} is a pipeline, which takes -s KEY=VALUE and no arguments behind --")
        from ridgepole.pipeline.api import Pipeline

        pipeline = Pipeline.from_toml(file, arguments.overrides)
        root = pipeline.root(given)
        warnings = pipeline.plan().warnings
        if warnings:
            show_problems(list(warnings))
    elif arguments.overrides:
        raise RunDirError("-s is for pipelines; arguments of a script go behind --")
    elif not Path(file).is_file():
        raise RunDirError(f"no script {file}: there is no such file in {directory}")
    options = [text for each in arguments.overrides for text in ("-s", each)]
    labels = [("--name", arguments.name), *(("--tag", tag) for tag in arguments.tags), ("--note", arguments.note)]
    options += [text for pair in labels if pair[1] for text in pair]
    sbatch = [f"--{name}={getattr(arguments, name)}" for name in _OF_SLURM[:6] if getattr(arguments, name)]
    return JobSpec(
        name=Path(file).stem,
        file=file,
        directory=directory,
        root=str(plain_path(root or root_of_scripts())),
        options=tuple(options),
        arguments=tuple(arguments.arguments),
        nodes=arguments.nodes,
        gpus=arguments.gpus_per_node,
        processes=arguments.processes_per_node or arguments.gpus_per_node or 1,
        cpus=arguments.cpus,
        requeues=arguments.max_requeues,
        warn_seconds=arguments.warn or 120,
        sbatch=(*sbatch, *map(_sbatch_option, arguments.sbatch)),
        setup=tuple(arguments.setup),
    )


def _sbatch_option(text: str) -> str:
    if not text.startswith("-"):
        raise RunDirError(f"expected an option of sbatch, as in --sbatch=--exclude=n1, got {text!r}")
    return text


def _show(spec: JobSpec, executor: str) -> None:
    """Print the job that would be submitted."""
    if executor == "slurm":
        from ridgepole.submit.script import batch_script

        say(batch_script(spec, Job(Path(spec.root) / JOBS / "JOB", {"name": spec.name}), hide_secrets=True).rstrip())
        return
    say(shlex.join(masked(spec.command)))
    for name, value in spec.launch_environ().items():
        say(f"{name}={value}")
    say(f"on {spec.nodes} x CPU {spec.cpus or 1}, GPU {spec.gpus}, in {spec.directory}")


def _refuse_second(spec: JobSpec) -> None:
    """Refuse a job that would take the run of one that waits or runs.

    Raises:
        RunDirError: If there is one.
    """
    same = [job for job in list_jobs(Path(spec.root)) if job.fields.get("key") == spec.key and job.end() is None]
    for job in same:
        state, detail = _states([job])[job.id]
        if state not in ENDS:
            raise RunDirError(
                f"job {job.id} does the same and is {state}{f' ({detail})' if detail else ''}: "
                f"both would resume one run. Stop it with: ridgepole submit cancel {job.id}"
            )


def _states(jobs: Sequence[Job]) -> dict[str, tuple[State, str]]:
    """Return state and detail of jobs by their ids; ask the clusters about those without an end."""
    found = {job.id: end for job in jobs if (end := job.end()) is not None}
    for executor in ("slurm", "ray"):
        asked = [job for job in jobs if job.id not in found and job.fields.get("executor") == executor]
        if asked:
            found |= importlib.import_module(f"ridgepole.submit.{executor}").states(asked)
    return {job.id: found.get(job.id, ("unknown", "its executor is not known here")) for job in jobs}


def _status(arguments: argparse.Namespace, root: Path) -> int:
    jobs = list_jobs(root) if arguments.job is None else [find_job(arguments.job, root)]
    states = _states(jobs)
    described = [_described(job, *states[job.id]) for job in jobs]
    if arguments.json:
        say_json(described if arguments.job is None else described[0])
    elif arguments.job is not None:
        for key, value in described[0].items():
            say(f"{key:10}{when(value) + ' UTC' if key == 'submitted' else value}")
    elif jobs:
        rows = [
            [str(each[key] or "-") for key in ("job", "state", "starts", "number", "run", "file", "detail")]
            for each in described
        ]
        columns(rows, ("JOB", "STATE", "STARTS", "NUMBER", "RUN", "FILE", "DETAIL"), _COLOURS)
    else:
        complain(f"no jobs in {near(root)}")
    return 0


def _described(job: Job, state: State, detail: str) -> dict[str, Any]:
    return {
        "job": job.id,
        "executor": job.fields.get("executor"),
        "number": job.number,
        "state": state,
        "detail": detail,
        "file": job.fields.get("file"),
        "submitted": job.fields.get("submitted"),
        "starts": job.starts(),
        "run": job.run(),
        "log": str(job.log),
    }


def _cancel(job: Job) -> int:
    state, _ = _states([job])[job.id]
    if state in ENDS:
        raise RunDirError(f"job {job.id} is not running: it is {state}")
    importlib.import_module(f"ridgepole.submit.{job.fields['executor']}").cancel(job)
    complain(f"cancelled {job.id}: a run that has begun takes a checkpoint; ridgepole submit status {job.id}")
    return 0


def _logs(job: Job) -> int:
    """Print the output of a job; with several nodes, that of each."""
    files = sorted(job.path.glob("job*.log"), key=lambda path: (len(path.name), path.name))
    if not files:
        state, detail = _states([job])[job.id]
        complain(f"job {job.id} has printed nothing: it is {state}{f' ({detail})' if detail else ''}")
    for file in files:
        if len(files) > 1:
            complain(f"--- {file.name}")
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                say(line.rstrip("\n"))
    sys.stdout.flush()
    return 0
