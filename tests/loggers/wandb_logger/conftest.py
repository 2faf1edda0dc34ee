"""What the tests of WandBLogger share: surroundings of their own, a reader of the client's files, a small server."""

import json
import struct
from collections import Counter
from pathlib import Path

import psutil
import pytest

from ridgepole.permanence import current_run
from ridgepole.ticks import Ticks
from wandb_server import KEY, Server, forget_account

BLOCK = 32768  # of the file format, which is LevelDB's log behind a header of 7 bytes


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path, quick_python):
    """No account, no settings and no home of whoever runs the tests."""
    forget_account(monkeypatch, tmp_path / "home")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture(autouse=True)
def children(quick_python):
    """Tells which processes a test has started; none of them outlives it."""
    before = psutil.Process().children(recursive=True)  # such as the one that draws another test's figures

    def new():
        found = [child for child in psutil.Process().children(recursive=True) if child not in before]
        return [child for child in found if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]

    yield new
    left = new()
    for child in left:
        child.kill()
    assert not [child for child in left if "wandb" in child.name() or "python" in child.name()]


class Context:
    """A run as a permanence sees it; two of the same directory are two attempts."""

    seed, attempt, step, failed = 7, 1, 0, False

    def __init__(self, run_dir, config):
        self.run_dir, self.run_id, self.config = run_dir, run_dir.name, config
        self.ticks = Ticks()


@pytest.fixture
def inside(tmp_path):
    """Makes a logger as a run does."""

    def make(cls, *args, config=None, **kwargs):
        run_dir = tmp_path / "20261122-101500-7f3a91c2"
        run_dir.mkdir(exist_ok=True)
        token = current_run.set(Context(run_dir, config or {}))
        try:
            logger = cls(*args, **kwargs)
            logger.get_state()  # the framework's slot remembers the run from now on
            return logger
        finally:
            current_run.reset(token)

    return make


class Recorded:
    """What a `.wandb` file holds."""

    def __init__(self, directory):
        (self.path,) = Path(directory).glob("*.wandb")
        self.records = list(_records(self.path.read_bytes()))
        self.kinds = Counter(record.WhichOneof("record_type") for record in self.records)

    def of(self, kind):
        return [getattr(record, kind) for record in self.records if record.WhichOneof("record_type") == kind]

    @property
    def rows(self):
        """The history: one nested mapping a record."""
        return [_nested(history.item) for history in self.of("history")]

    def column(self, name):
        return [row[name] for row in self.rows if name in row]

    @property
    def config(self):
        return {key: value for record in [run.config for run in self.of("run")] + self.of("config")
                for key, value in _nested(record.update).items()}  # fmt: skip

    @property
    def summary(self):
        merged = {}
        for record in self.of("summary"):
            merged |= _nested(record.update)
        return merged

    @property
    def messages(self):
        return "".join(record.line for record in self.of("output_logger"))


def _records(data):
    from wandb.proto.wandb_internal_pb2 import Record

    assert data[:4] == b":W&B", data[:16]
    at, whole = 7, b""
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:  # no header fits behind the last one of a block
            at += BLOCK - at % BLOCK
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            record = Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def _nested(items):
    out = {}
    for item in items:
        *path, last = item.nested_key or [item.key]
        place = out
        for part in path:
            place = place.setdefault(part, {})
        place[last] = json.loads(item.value_json)
    return out


@pytest.fixture(scope="session")
def recorded():
    return Recorded


@pytest.fixture
def start_server(monkeypatch):
    """Starts a server and points the client to it, with a key."""
    started = []

    def start(mode="ok"):
        started.append(Server(mode))
        monkeypatch.setenv("WANDB_BASE_URL", started[-1].url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def key():
    return KEY
