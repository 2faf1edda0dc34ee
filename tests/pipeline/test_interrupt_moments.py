"""A Ctrl-C at every line of the framework while a run starts and ends, one after the other."""

import contextlib
import os
import shutil
import signal
import sys
import types
from pathlib import Path

import pytest

import ridgepole
from ridgepole import Permanence, Pipeline, files, process
from ridgepole.pipeline.run import attempt, provenance
from ridgepole.rundir import list_runs

SOURCES = str(Path(ridgepole.__file__).parent)
OFTEN = bool(os.environ.get("RIDGEPOLE_TORTURE"))
# What makes, owns and ends a run's directory, and what handles signals meanwhile; in torture all that runs then
CORE = (
    "pipeline/run/attempt.py",
    "pipeline/run/run_record.py",
    "pipeline/lifecycle/signals.py",
    "rundir.py",
    "files.py",
)
PLACES = ("pipeline/run/", "pipeline/lifecycle/", "rundir.py", "files.py", "permanence.py", "seeding.py")

pytestmark = [pytest.mark.isolated, pytest.mark.timeout(3600 if OFTEN else 120)]


class Held(Permanence):
    made, cleaned = [], []

    def __init__(self, n: int):
        self.n = n
        self.made.append(n)

    def state_dict(self):
        return {"n": self.n}

    def load_state_dict(self, state):
        self.n = state["n"]

    def cleanup(self):
        self.cleaned.append(self.n)


@process
def work(first: Held, second: Held):
    pass


@process
def fails(first: Held):
    raise ValueError("as planned")


class CtrlC:
    """Sends SIGINT as the framework reaches a line for the first or the last time; counts what is reached."""

    def __init__(self, at=None):
        self.at, self.reached = at, {}

    def __enter__(self):
        sys.settrace(self.trace)
        return self

    def __exit__(self, *_):
        sys.settrace(None)

    def trace(self, frame, event, _argument):
        name = frame.f_code.co_filename
        if not name.startswith(SOURCES) or not name[len(SOURCES) + 1 :].startswith(PLACES if OFTEN else CORE):
            return None
        if event == "line":
            moment = name[len(SOURCES) + 1 :], frame.f_lineno
            self.reached[moment] = self.reached.get(moment, 0) + 1
            if (moment, self.reached[moment]) == self.at:
                # The handler looks at the file that it interrupts, which is not this one
                code = interrupt.__code__.replace(co_filename=name)
                types.FunctionType(code, globals())()
        return self.trace


def interrupt():
    signal.raise_signal(signal.SIGINT)


def moments(action, last=True):
    """Every moment of an action: each line as it is reached for the first time, and for the last time, too."""
    action(0)  # what it imports, it imports here
    with CtrlC() as counted:
        action(1)
    found = counted.reached.items()
    return [(moment, count) for moment, times in found for count in dict.fromkeys((1, times) if last else (1,))]


def plan(target, checkpoint):
    made = Pipeline(progress=False, logger=False, checkpoint=checkpoint)
    made.permanence("first", Held, n=1).permanence("second", Held, n=2)
    return made.process("work", target).plan()


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(provenance, "packages", dict)
    monkeypatch.setattr(provenance, "machine", dict)
    monkeypatch.setattr(provenance, "code_state", lambda _directory: ({}, ""))
    monkeypatch.setattr(os, "fsync", lambda _fd: None)


def interrupted(moment, action):
    """Does something with a Ctrl-C at a moment, and returns how it ended; what is left is as it was before."""
    Held.made.clear()
    Held.cleaned.clear()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)]
    ended = None
    with CtrlC(moment) as sent:
        try:
            action()
        except BaseException as error:
            ended = error
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)]
    assert sent.reached.get(moment[0], 0) >= moment[1], f"{moment} was not reached"
    assert after == handlers, moment
    assert Held.cleaned == Held.made[::-1], moment
    assert not files._held_descriptors(), f"{moment}: a lock is held"
    return ended


def test_a_run_interrupted_at_any_line_says_so(tmp_path):
    good = plan(work, checkpoint=False)

    def run(root):
        attempt.run(good, root)

    for number, moment in enumerate(moments(lambda n: run(tmp_path / f"whole {n}"))):
        root = tmp_path / str(number)
        ended = interrupted(moment, lambda root=root: run(root))
        assert ended is None or type(ended) is KeyboardInterrupt, moment
        statuses = [info.status for info in list_runs(root)]
        assert statuses in (["interrupted"], ["finished"], []), moment
        assert len(statuses) == (len(list(root.iterdir())) if root.exists() else 0), f"{moment}: a bare directory"
        if ended is None:
            assert statuses == ["finished"], moment
        shutil.rmtree(root, ignore_errors=True)


@pytest.mark.torture
@pytest.mark.skipif(not OFTEN, reason="needs RIDGEPOLE_TORTURE=1")
def test_a_failing_run_interrupted_at_any_line_says_so(tmp_path):
    bad = plan(fails, checkpoint={"on_error": False})

    def run(root):
        with contextlib.suppress(ValueError):
            attempt.run(bad, root)

    for number, moment in enumerate(moments(lambda n: run(tmp_path / f"whole {n}"))):
        root = tmp_path / str(number)
        interrupted(moment, lambda root=root: run(root))
        assert [info.status for info in list_runs(root)] in (["interrupted"], ["failed"], []), moment
        shutil.rmtree(root, ignore_errors=True)


def test_a_resume_interrupted_at_any_line_can_be_repeated(tmp_path):
    bad = plan(fails, checkpoint={"on_error": False})
    with contextlib.suppress(ValueError):
        attempt.run(bad, tmp_path / "kept")
    (kept,) = (tmp_path / "kept").iterdir()

    def resume(root):
        with contextlib.suppress(ValueError):
            attempt.resume(bad, root / kept.name)

    for n in range(2):
        shutil.copytree(tmp_path / "kept", tmp_path / f"whole {n}")
    for number, moment in enumerate(moments(lambda n: resume(tmp_path / f"whole {n}"), last=OFTEN)):
        root = tmp_path / str(number)
        shutil.copytree(tmp_path / "kept", root)
        interrupted(moment, lambda root=root: resume(root))
        assert [info.status for info in list_runs(root)] in (["interrupted"], ["failed"]), moment
        if not number % 8:  # the assertion above is what it takes
            with pytest.raises(ValueError, match="as planned"):
                attempt.resume(bad, root / kept.name)
        shutil.rmtree(root)
