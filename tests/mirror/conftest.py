"""A project whose runs are mirrored, and a real S3 server on loopback."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

pytest.importorskip("obstore", reason="the extra 'remote' is not installed")

PROJECT = """
import random
import time
from pathlib import Path

from ridgepole import Permanence, process, track
from ridgepole.permanences import BaseLoggerManager


class Net(Permanence):
    def __init__(self) -> None:
        self.weights = [0.0] * 1000
        self.at = 0

    def state_dict(self):
        return {"weights": self.weights, "at": self.at}

    def load_state_dict(self, state):
        self.weights, self.at = list(state["weights"]), state["at"]

    def cleanup(self):
        pass


@process
def learn(net: Net, logger: BaseLoggerManager, steps: int = 30, pause: float = 0.0, stop: int = -1) -> None:
    for step in track(range(steps), tick=True):
        net.at = step
        net.weights[step % 1000] = random.random()
        logger.log_metrics({"loss": net.weights[step % 1000], "at": float(step)})
        time.sleep(pause)
        if step == stop and not Path("go").exists():
            raise OSError("the machine is broken")
"""

PIPELINE = """
[pipeline]
package = "job"
seed = 3
progress = false
console = false
guard = false
system = false
checkpoint = {{ every_steps = 5, keep_last = 2 }}
mirror = {{ url = "{url}", every_seconds = 0.05, lease_seconds = 1, drain_seconds = {drain} }}

[permanences.net]
type = "Net"

[processes.learn]
type = "learn"
"""


def make_project(folder: Path, url: str, drain: float = 20) -> Path:
    """Write the project into a folder, as on a machine of its own."""
    (folder / "job").mkdir(parents=True)
    (folder / "job" / "__init__.py").write_text(PROJECT)
    (folder / "pipe.toml").write_text(PIPELINE.format(url=url, drain=drain))
    return folder


def run_of(folder: Path) -> Path:
    """Return the only run directory of a project."""
    (run,) = (path for path in (folder / "runs").iterdir() if path.name[0].isdigit())
    return run


@pytest.fixture
def store(tmp_path):
    """The URL of a mirror in a directory."""
    return f"file://{tmp_path}/mirror"


@pytest.fixture(scope="session")
def s3_server():
    """A server of S3, with the environment by which clients find it."""
    pytest.importorskip("moto.server", reason="moto and flask are not installed")
    code = (
        "from moto.moto_server.werkzeug_app import DomainDispatcherApplication as A, create_backend_app as c\n"
        "from werkzeug.serving import make_server\n"
        "s = make_server('127.0.0.1', 0, A(c), threaded=True)\n"
        "print(s.port, flush=True)\n"
        "s.serve_forever()"
    )
    environment = os.environ | {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    server = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    try:
        port = int(server.stdout.readline())
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_REGION": "us-east-1",
        }
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
        server.stdout.close()


@pytest.fixture
def bucket(s3_server, monkeypatch):
    """The URL of runs in a bucket of its own."""
    import urllib.request

    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    request = urllib.request.Request(f"{s3_server['AWS_ENDPOINT_URL']}/{name}", method="PUT")
    urllib.request.urlopen(request, timeout=60).close()
    return f"s3://{name}/runs"
