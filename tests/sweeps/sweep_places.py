"""The executors that tests go through, and a Ray cluster to run them on."""

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from sweep_helpers import until

from isolation import send

EXECUTORS = {
    "inline": {"executor": "inline"},
    "process": {"executor": "process", "workers": 2},
    "process, reused": {"executor": "process", "workers": 2, "reuse_workers": True},
    "slurm": {"executor": "slurm", "workers": 2, "slurm": {"cluster": "local"}},
    "ray": {"executor": "ray", "workers": 2},
}


class Head:
    """A Ray cluster of one node, which says that it has two cards."""

    def __init__(self):
        if " " in sys.executable:
            pytest.skip("Ray starts no head from an environment whose path has a space")
        self.home = Path(tempfile.mkdtemp(prefix="rp"))  # Ray makes sockets there, whose paths must be short
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        words = f"start --head --block --port {port} --num-cpus 2 --num-gpus 2 --temp-dir {self.home}"
        quiet = "--include-dashboard=false --disable-usage-stats"
        log = self.home / "head.log"
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [str(Path(sys.executable).parent / "ray"), *words.split(), *quiet.split()],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.home,
            )
        self.address = until(lambda: re.search(r"--address='([^']+)'", log.read_text()), 60, "Ray").group(1)

    def kill(self):
        """Everything at once, as when the machine goes down."""
        processes = [self.process.pid, *(each.pid for each in psutil.Process(self.process.pid).children(True))]
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                send(pid, signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)


def on_executors(*names):
    """Runs a test on each of these executors, by `place`."""
    return pytest.mark.parametrize("place", names or list(EXECUTORS), indirect=True)
