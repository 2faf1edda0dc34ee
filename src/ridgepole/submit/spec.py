"""The description of a job, and the commands that it runs."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass

from ridgepole.errors import RunDirError
from ridgepole.scripts.record import Script

_LAUNCHER = ("-m", "torch.distributed.run")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """A pipeline or a script, and the nodes that it is to run on.

    Attributes:
        name: The name of the pipeline's file or of the script.
        file: That file, as it was given.
        directory: The working directory, absolute.
        root: The directory that holds the runs, absolute.
        options: Options of `ridgepole run`, such as `-s` and a value.
        arguments: The script's own arguments.
        nodes: The number of nodes.
        gpus: The number of GPUs on each node.
        processes: The number of processes on each node.
        cpus: The number of cores on each node; None leaves it to the cluster.
        requeues: How often the job may start again.
        warn_seconds: How long before the time limit SLURM is to warn the job.
        sbatch: Further options of sbatch.
        setup: Lines of shell that run first on each SLURM job.
    """

    name: str
    file: str
    directory: str
    root: str
    options: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    nodes: int = 1
    gpus: int = 0
    processes: int = 1
    cpus: int | None = None
    requeues: int = 100
    warn_seconds: int = 120
    sbatch: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no line of a job's script can hold."""
        for text in (self.name, self.file, self.directory, self.root, *self.options, *self.arguments, *self.sbatch):
            if any(char in text for char in "\n\r\0"):
                raise RunDirError(f"a job takes no line breaks in its paths, options and arguments: {text!r}")

    @property
    def is_script(self) -> bool:
        """Return whether it is a script, not a pipeline."""
        return not self.file.endswith(".toml")

    @property
    def is_launched(self) -> bool:
        """Return whether torchrun starts several processes."""
        return self.nodes * self.processes > 1

    @property
    def command(self) -> tuple[str, ...]:
        """Return the command of the first node; it resumes what an earlier start of it has left."""
        run = ("-m", "ridgepole", "run")
        options = ("--resume", "--runs-dir", self.root, *self.options)
        if not self.is_script:
            launcher = _LAUNCHER if self.is_launched else ()
            return (sys.executable, *launcher, *run, self.file, *options)
        if not self.is_launched:
            return (sys.executable, *run, self.file, *options, "--", *self.arguments)
        # One record around torchrun, not one in each of its processes
        named = () if "--name" in self.options else ("--name", self.name)
        return (sys.executable, *run, *_LAUNCHER, *options, *named, "--", self.file, *self.arguments)

    @property
    def other_command(self) -> tuple[str, ...]:
        """Return the command of the other nodes."""
        if not self.is_script:
            return self.command
        return (sys.executable, *_LAUNCHER, self.file, *self.arguments)

    @property
    def key(self) -> str:
        """Return what two jobs have in common that would resume each other's run."""
        text = json.dumps([self.file, self.directory, self.root, self.options, self.arguments])
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]

    def launch_environ(self) -> dict[str, str]:
        """Return torchrun's options, as the variables that it reads for them.

        Variables keep the command the same at each start, and older versions ignore unknown ones.
        """
        if not self.is_launched:
            return {}
        # torchrun would end by a signal that it does not handle
        names = {"PET_NPROC_PER_NODE": str(self.processes), "PET_SIGNALS_TO_HANDLE": "SIGTERM,SIGINT,SIGHUP,SIGUSR1"}
        if self.nodes == 1:
            return names | {"PET_STANDALONE": "1"}
        return names | {"PET_NNODES": str(self.nodes), "PET_RDZV_BACKEND": "c10d"}


def masked(command: tuple[str, ...]) -> tuple[str, ...]:
    """Return a command without its secrets."""
    return tuple(Script(name="", command=command, directory="").shown())
