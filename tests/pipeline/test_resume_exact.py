"""The proof: digits, killed with `kill -9` at any moment and resumed, ends bit-equal to the run that was left alone.

Equal are the weights, the optimiser's moments and counts, the states of all random generators, and the metrics that
readers show: every column but the time and the number of a record. Moments are spread over the whole life of a process
(its start, steps, saves, ends of epochs, its clean-up), and a run may be killed again and again before it may finish.
"""

import contextlib
import copy
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from polars.testing import assert_frame_equal

from isolation import send
from ridgepole import read_metrics
from ridgepole.checkpoint import CheckpointStore
from ridgepole.rundir import list_runs

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"
TORTURE = pytest.mark.skipif(not os.environ.get("RIDGEPOLE_TORTURE"), reason="needs RIDGEPOLE_TORTURE=1")

# The example as it is, but for a number of workers, and noise on the images that is drawn where they are loaded.
CHANGES = {
    "batch_size: PositiveInt = 64,": "batch_size: PositiveInt = 64, num_workers: int = 0,",
    "self.batch_size = batch_size": "self.batch_size = batch_size; self.num_workers = num_workers",
    "collate_fn=part.pick)": """collate_fn=self.noisy, num_workers=self.num_workers)

    def noisy(self, chosen):
        part = self.parts["train"].pick(chosen)
        return part._replace(images=part.images + 0.05 * torch.randn(part.images.shape))""",
}
POLICY = 'checkpoint = { every_steps = 7, keep_best = { metric = "validation/accuracy", mode = "max" } }'
SHORTER = {
    "seed = 7": f"seed = 7\n{POLICY}\n#",
    "width = 32": "width = 8",
    "batch_size = 64": "num_workers = 0",
    "epochs = 30": "epochs = 3",
    '[processes.report]\ntype = "report"\n': "",
}


def changed(text, changes):
    for old, new in changes.items():
        assert text.count(old) == 1, f"the example has changed: {old}"
        text = text.replace(old, new)
    return text


EPOCHS = 3


class Digits:
    """The variant in a directory of its own."""

    def __init__(self, command_server, path, workers, *, fresh=False):
        self.server, self.path, self.fresh = command_server, path, fresh
        shutil.copytree(EXAMPLE / "digits", path / "digits", ignore=shutil.ignore_patterns("__pycache__"))
        data, file = path / "digits" / "data.py", path / "digits.toml"
        data.write_text(changed(data.read_text(), CHANGES))
        shorter = SHORTER | {"batch_size = 64": f"num_workers = {workers}"}
        file.write_text(changed((EXAMPLE / file.name).read_text(), shorter))

    def start(self):
        """An attempt: the newest unfinished run goes on, or a new one begins."""
        arguments = ("run", "digits.toml", "--resume")
        return Interpreter(arguments, self.path) if self.fresh else self.server.start(*arguments, cwd=self.path)

    @property
    def runs(self):
        return list(list_runs(self.path / "runs")) if (self.path / "runs").exists() else []

    @property
    def finished(self):
        return next((run for run in self.runs if run.status == "finished"), None)


class Interpreter:
    """An attempt by an interpreter of its own, imports and all."""

    def __init__(self, arguments, path):
        self.started = time.monotonic()
        self.log = (path / "said").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ridgepole", *arguments],
            cwd=path,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            start_new_session=True,
        )
        self.pid = self.process.pid
        self.poll, self.send = self.process.poll, self.process.send_signal

    def wait(self, timeout=90):
        code = self.process.wait(timeout)
        self.log.close()
        return code

    @property
    def stderr(self):
        return (Path(self.log.name)).read_text()


@pytest.fixture(scope="session")
def alone(torch_server, tmp_path_factory):
    """What is left of a run that nobody disturbed, and how long it took; once for each number of workers."""
    made = {}

    def of(workers):
        if workers not in made:
            digits = Digits(torch_server, tmp_path_factory.mktemp("alone"), workers)
            child = digits.start()
            assert child.wait() == 0, child.stderr
            took = time.monotonic() - child.started
            made[workers] = what_is_left(digits.finished.path), took
        return made[workers]

    return of


def what_is_left(run):
    """All that must be equal in the end."""
    loaded = CheckpointStore(run / "checkpoints").load()
    metrics = json.loads((run / "summary.json").read_text())["metrics"]
    best = CheckpointStore(run / "checkpoints").best()
    return {
        "metrics": read_metrics(run).drop("seq", "time"),
        "summary": {name: [entry[key] for key in ("last", "min", "max", "count")] for name, entry in metrics.items()},
        "permanences": {name: state for name, state in loaded.state["permanences"].items() if name != "logger"},
        "rng": loaded.state["framework"]["rng"],
        "step": (loaded.info.step, loaded.state["framework"]["count"]),
        "best": (best.step, best.score.value),
    }  # fmt: skip


def difference(a, b, where=""):
    """Where two nested states differ in the least bit; empty where they don't."""
    if type(a) is not type(b):
        return f"{where}: {type(a)} and {type(b)}"
    if isinstance(a, torch.Tensor):
        return "" if a.dtype == b.dtype and torch.equal(a, b) else f"{where}: tensors differ"
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return f"{where}: keys {a.keys() ^ b.keys()}"
        return next(filter(None, (difference(a[key], b[key], f"{where}.{key}") for key in a)), "")
    if isinstance(a, list | tuple):
        if len(a) != len(b):
            return f"{where}: {len(a)} and {len(b)} items"
        return next(
            filter(None, (difference(x, y, f"{where}[{i}]") for i, (x, y) in enumerate(zip(a, b, strict=True)))), ""
        )
    if hasattr(a, "tobytes"):
        return "" if a.tobytes() == b.tobytes() else f"{where}: arrays differ"
    return "" if a == b else f"{where}: {a} and {b}"


def assert_equal(left, wanted):
    assert_frame_equal(left["metrics"], wanted["metrics"])
    for key in wanted.keys() - {"metrics"}:
        assert not difference(left[key], wanted[key], key)


# --- moments


def anywhere(digits, child, rng, took):
    until = (
        child.started + rng.uniform(0, 1.1) * took if hasattr(child, "started") else time.monotonic() + rng.random() * 6
    )
    while time.monotonic() < until and child.poll() is None:
        time.sleep(0.001)


def at_the_start(digits, child, rng, took):
    time.sleep(rng.uniform(0, 0.3))


def in_a_save(digits, child, rng, took):
    """While a temporary directory is there, or right after it got its name."""
    skip = rng.randrange(8)
    wait_for(child, lambda: seen(digits, ".saving-*"), skip)
    time.sleep(rng.choice((0, 0, 0.001, 0.003)))


def at_the_end_of_an_epoch(digits, child, rng, took):
    wanted = rng.randrange(1, EPOCHS + 1)
    wait_for(child, lambda: logged(digits, b"validation/accuracy") >= wanted)
    time.sleep(rng.uniform(0, 0.005))


def in_the_clean_up(digits, child, rng, took):
    """Once the last checkpoint is there."""
    wait_for(child, lambda: done(digits) == 2)
    time.sleep(rng.uniform(0, 0.05))


MOMENTS = [anywhere, at_the_start, in_a_save, at_the_end_of_an_epoch, in_the_clean_up]


def wait_for(child, true, times=0):
    """Until something has become true for so many times more, or the child has ended."""
    until = time.monotonic() + 60
    for _ in range(times + 1):
        while child.poll() is None and not true() and time.monotonic() < until:
            time.sleep(0.0005)
        if times:
            while child.poll() is None and true() and time.monotonic() < until:
                time.sleep(0.0005)


def seen(digits, pattern):
    return any(digits.path.glob(f"runs/*/checkpoints/{pattern}"))


def logged(digits, name):
    total = 0
    for path in digits.path.glob("runs/*/metrics.jsonl"):
        with contextlib.suppress(OSError):
            total += path.read_bytes().count(name)
    return total


def done(digits):
    """How many processes were done at the newest checkpoint."""
    with contextlib.suppress(OSError, ValueError, IndexError, TypeError):
        checkpoints = digits.runs[0].path / "checkpoints"
        newest = json.loads((checkpoints / "index.json").read_text())["latest"]["name"]
        return json.loads((checkpoints / newest / "manifest.json").read_text())["meta"]["position"]
    return 0


# --- trials


def trial(digits, wanted, took, rng):
    """Kills a run up to three times, lets it finish, and compares; gives the moments that were hit."""
    hit = []
    for _ in range(rng.randint(1, 3)):
        child = digits.start()
        moment = rng.choice(MOMENTS)
        moment(digits, child, rng, took)
        with contextlib.suppress(ProcessLookupError):
            child.send(signal.SIGKILL)
        code = child.wait()
        assert code in (0, -signal.SIGKILL), f"{moment.__name__}: {child.stderr}"
        hit.append(moment.__name__ if code else "too late")
        if digits.finished:
            break
    if not digits.finished:
        child = digits.start()
        assert child.wait() == 0, child.stderr
    run = digits.finished.path
    assert_equal(what_is_left(run), wanted)
    raw = read_metrics(run, raw=True)
    assert raw["seq"].n_unique() == raw["seq"].len(), "a number was used twice"
    return hit


def check(command_server, alone, path, workers, number, tally, *, fresh=False):
    wanted, took = alone(workers)
    digits = Digits(command_server, path, workers, fresh=fresh)
    began = time.monotonic()
    try:
        hit = trial(digits, wanted, took, random.Random(f"{workers} {number}"))
        tally(
            hit.count("too late") < len(hit),
            kills=sum(moment != "too late" for moment in hit),
            worst=time.monotonic() - began,
        )
    finally:
        for pid in children_in(path):  # workers of the data loader see within seconds that they are alone
            with contextlib.suppress(ProcessLookupError):
                send(pid, signal.SIGKILL)


def children_in(path):
    """Processes whose working directory is a path."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "cwd").readlink() == path:
                yield int(entry.name)


@pytest.mark.fault("digits killed at any moment and resumed: bit-equal to the run left alone")
def test_killed_and_resumed_ends_bit_equal(torch_server, alone, tmp_path, tally):
    """One test, so that one process imports torch; `make torture` has one for each trial."""
    wanted, _ = alone(0)
    assert_frame_equal(alone(2)[0]["metrics"], wanted["metrics"])
    spoilt = copy.deepcopy(wanted)
    spoilt["permanences"]["network"]["model"]["0.bias"][0] += 1e-7
    with pytest.raises(AssertionError, match=r"model.0.bias: tensors differ"):
        assert_equal(spoilt, wanted)
    for workers, number in itertools.product((0, 2), range(2)):
        path = tmp_path / f"{workers}-{number}"
        path.mkdir()
        check(torch_server, alone, path, workers, number, tally)


@pytest.mark.torture
@pytest.mark.timeout(600)
@TORTURE
@pytest.mark.fault("digits killed at any moment and resumed: bit-equal to the run left alone")
@pytest.mark.parametrize("number", range(3, 23))
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_and_resumed_twenty_times(torch_server, alone, workers, number, tmp_path, tally):
    check(torch_server, alone, tmp_path, workers, number, tally, fresh=number % 4 == 0)
