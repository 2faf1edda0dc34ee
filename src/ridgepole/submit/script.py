"""The text that sbatch gets."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from ridgepole import rundir
from ridgepole.submit.job import Job
from ridgepole.submit.spec import JobSpec, masked

_PLAIN = re.compile(r"[\w./:=,@%+-]*", re.ASCII)

_BODY = """\
export {variable}={job}
restart=${{SLURM_RESTART_COUNT:-0}}

note() {{
    printf '{{"event": "%s", "number": "%s", "restart": %d, "node": "%s", "code": %d, "time": %(%s)T}}\\n' \\
        "$1" "$SLURM_JOB_ID" "$restart" "$SLURMD_NODENAME" "$2" -1 >>{events}
}}

warned=0 ended=0 child=
forward() {{
    [ -z "$child" ] || kill -s "$1" "$child" 2>/dev/null
}}
trap 'warned=1; forward USR1' USR1  # the time limit is near
trap 'ended=1; forward TERM' TERM   # cancelled, preempted, or out of time

note began 0
cd -- {directory} || {{
    echo "node $SLURMD_NODENAME does not see {shown_directory}:" \\
        "it must be on a file system that all nodes share, at the same path" >&2
    note ended 2
    exit 2
}}
{setup}{command} &
child=$!
[ "$warned" = 0 ] || forward USR1
[ "$ended" = 0 ] || forward TERM
wait "$child"
code=$?
while kill -0 "$child" 2>/dev/null; do  # a signal has interrupted the wait
    wait "$child"
    code=$?
done
wait "$child"
code=$?
note ended "$code"

# {requeue_note}
again=0
if [ "$ended" = 0 ] && {{ [ "$code" = 75 ] || {{ [ "$warned" = 1 ] && [ "$code" {requeue_test} ]; }}; }}; then
    again=1
elif [ "$code" {requeue_test} ] && scontrol show job "$SLURM_JOB_ID" | grep -q 'PreemptTime=[0-9]'; then
    again=1  # SLURM itself does not requeue a job that stops in the grace time of its preemption
fi
if [ "$again" = 1 ]; then
    if [ "$restart" -ge {requeues} ]; then
        echo "the job was requeued $restart times, and is not queued again" >&2
        exit 1
    fi
    scontrol requeue "$SLURM_JOB_ID" && exit 0
    exit 75
fi
[ "$ended" = 0 ] || [ "$code" != 75 ] || code=143  # cancelled: 75 might queue it again
exit "$code"
"""
_RENDEZVOUS = """\
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export PET_RDZV_ID="$SLURM_JOB_ID-$restart"
export PET_RDZV_ENDPOINT="$head:$((20000 + SLURM_JOB_ID % 20000))"
"""


def batch_script(spec: JobSpec, job: Job, *, hide_secrets: bool = False) -> str:
    """Return the batch script of a job.

    Its shell forwards the signals of SLURM to the run, and requeues the job where the run was
    stopped before the time limit. It does not rely on `RequeueExit` in the cluster's settings.

    Args:
        spec: The job.
        job: Its record.
        hide_secrets: Whether to replace secret values, for the eyes of people.
    """
    commands = [masked(each) if hide_secrets else each for each in (spec.command, spec.other_command)]
    setup = [*spec.setup, *(f"export {name}={shlex.quote(value)}" for name, value in spec.launch_environ().items())]
    body = _BODY.format(
        variable=rundir.JOB_VARIABLE,
        job=shlex.quote(str(job.path)),
        events=shlex.quote(str(job.events_file)),
        directory=shlex.quote(spec.directory),
        shown_directory=re.sub(r'(["\\$`])', r"\\\1", spec.directory),
        setup="".join(f"{line}\n" for line in setup) + (_RENDEZVOUS if spec.nodes > 1 else ""),
        command=_command(spec, *commands),
        requeues=spec.requeues,
        requeue_note=(
            "Stopped in good time: torchrun does not pass on the code 75, so each failure after the warning counts"
            if spec.is_launched
            else "Stopped in good time (75), or warned while it was starting (killed by the signal)"
        ),
        requeue_test="-ne 0" if spec.is_launched else "-gt 128",
    )
    return "\n".join(["#!/bin/bash", *map(_directive, _options(spec, job)), "", body])


def _options(spec: JobSpec, job: Job) -> list[str]:
    """Return the options of sbatch; later ones, those of the user, count more."""
    found = [
        f"--job-name={job.cluster_name}",
        f"--output={str(job.log).replace('%', '%%')}",
        "--open-mode=append",
        f"--chdir={spec.directory}",
        f"--nodes={spec.nodes}",
        "--ntasks-per-node=1",
        *([f"--gpus-per-node={spec.gpus}"] if spec.gpus else []),
        *([f"--cpus-per-task={spec.cpus}"] if spec.cpus else []),
        f"--signal=B:USR1@{spec.warn_seconds}",
        "--requeue",
    ]
    return [*found, *spec.sbatch]


def _directive(option: str) -> str:
    """Return a line that sbatch reads, which has quotes and escapes of its own."""
    if not _PLAIN.fullmatch(option):
        name, equals, value = option.partition("=")
        option = name + equals + '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
    return f"#SBATCH {option}"


def _command(spec: JobSpec, first: Sequence[str], others: Sequence[str]) -> str:
    """Return the command line; with several nodes srun starts it on each."""
    if spec.nodes == 1:
        return shlex.join(first)
    step = ["srun", f"--nodes={spec.nodes}", f"--ntasks={spec.nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1"]
    if spec.cpus:
        step.append(f"--cpus-per-task={spec.cpus}")  # srun no longer takes that from sbatch
    if first == others:
        return shlex.join([*step, *first])
    text = f'if [ "$SLURM_NODEID" -gt 0 ]; then exec {shlex.join(others)}; fi; exec {shlex.join(first)}'
    return shlex.join([*step, "bash", "-c", text])


def write_copy(spec: JobSpec, job: Job) -> None:
    """Keep the script, without secrets, in the job's record."""
    Path(job.path / "job.sh").write_text(batch_script(spec, job, hide_secrets=True), encoding="utf-8")
