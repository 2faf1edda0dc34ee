"""Signals at any moment, at a terminal and in a notebook: what stops, how, and that the run goes on afterwards."""

import os
import random
import signal
import sys
import time

import pexpect
import pytest
from steps_project import STEPS, TOML, WHOLE, read_run, values

from isolation import send
from ridgepole.checkpoint import CheckpointStore
from ridgepole.rundir import list_runs

TORTURE = pytest.mark.skipif(not os.environ.get("RIDGEPOLE_TORTURE"), reason="needs RIDGEPOLE_TORTURE=1")

# By lifecycle: 130 after Ctrl-C, 143 after SIGTERM, 129 after a hang-up, 75 after SIGUSR1, 0 where it came too late.
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGUSR1: 75}
PLANS = [
    [signal.SIGINT],
    [signal.SIGINT] * 2,
    [signal.SIGINT] * 3,
    [signal.SIGTERM],
    [signal.SIGHUP],
    [signal.SIGUSR1],
    [signal.SIGTERM, signal.SIGINT],
]
SLOWLY = STEPS.replace("self.controller.tick()", "time.sleep(0.01)\n            self.controller.tick()")


def stopped_at_random(place, rng, tally):
    """Starts a run, sends signals at a random moment, and lets it go on until it is done."""
    place.write(steps__toml=TOML, steps__py=SLOWLY)
    for attempt in range(6):
        plan = rng.choice(PLANS) if attempt < 3 else []
        child = place.start("run", "steps.toml", "--resume")
        time.sleep(rng.uniform(0, 0.35))
        for number in plan:
            child.send(number)
            time.sleep(rng.choice((0, 0, 0.005, 0.03)))
        began = time.monotonic()
        code = child.wait(40)
        tally(1 if plan else 0, worst=time.monotonic() - began if plan else 0)
        allowed = {0} | {CODES[number] for number in plan} | {-number for number in plan}
        assert code in allowed, f"{plan}: {code}\n{child.stderr}"
        if (
            code < 0 or code == 130 or "Exception ignored" in child.stderr
        ):  # before the run had begun, it is Python's own
            continue
        assert "Traceback" not in child.stderr, f"{plan}: {child.stderr}"
        if code == 0:
            break
    runs = [path for path in (place.path / "runs").iterdir() if values_or_none(path) == WHOLE]
    assert runs, child.stderr
    assert all(read_run(path).status == "finished" for path in runs)


def values_or_none(run):
    try:
        return values(run)
    except OSError:  # it was stopped before it had a record
        return None


SIGNALS = pytest.mark.fault("signals at any moment (one to three Ctrl-C, SIGTERM, SIGHUP, SIGUSR1), then resumed")


@SIGNALS
def test_signals_at_any_moment(here, tally):
    rng = random.Random(1)
    for number in range(5):
        here.path.joinpath(str(number)).mkdir()
        stopped_at_random(type(here)(here.server, here.path / str(number)), rng, tally)


@SIGNALS
@pytest.mark.torture
@TORTURE
@pytest.mark.parametrize("number", range(60))
def test_signals_at_any_moment_often(here, number, tally):
    stopped_at_random(here, random.Random(number), tally)


# --- a scheduler's escalation

LONG = """
import os, time
from ridgepole import Permanence, PipelineProcess


class Held(Permanence):
    def __init__(self):
        self.count = 0

    def state_dict(self):
        time.sleep(0.1)
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]

    def cleanup(self):
        pass


class Work(PipelineProcess):
    def __init__(self, held: Held):
        self.held = held

    def execute(self):
        while True:
            self.held.count += 1
            time.sleep(0.1)
            print("step", self.held.count, flush=True)
            self.controller.tick()

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass
"""
LONG_FILE = """
[pipeline]
package = "long"
progress = false
logger = false
checkpoint = { every_steps = 2 }
[permanences.held]
type = "Held"
[processes.work]
type = "Work"
"""
ESCALATIONS = [
    [signal.SIGUSR1, signal.SIGTERM],
    [signal.SIGTERM, signal.SIGTERM],
    [signal.SIGINT, signal.SIGTERM],
    [signal.SIGHUP, signal.SIGTERM, signal.SIGTERM],
    [signal.SIGTERM, signal.SIGUSR1],
]
ESCALATION = pytest.mark.fault(
    "a scheduler's escalation at any moment of a step and of a save: a checkpoint of the step"
)


def started(here):
    here.write(long__py=LONG, long__toml=LONG_FILE)
    return here.start("run", "long.toml")


def escalate(child, rng):
    """Half of the time is in steps, and half in saves."""
    child.until("step 1")
    time.sleep(rng.uniform(0, 0.4))
    for number in rng.choice(ESCALATIONS):
        child.send(number)
        time.sleep(rng.choice((0, 0.003, rng.uniform(0, 0.15))))


def check_last_step(child, here, tally):
    """Whenever the signals came, the last step is stored."""
    began = time.monotonic()
    code = child.wait(40)
    tally(worst=time.monotonic() - began)
    # The last signal may come when the run has ended, and its process has not: a shell says 143 there, too
    assert code in (75, 129, 130, 143, -signal.SIGTERM), f"{code}\n{child.stderr}"
    steps = int(child.stdout.split()[-1])
    (run,) = list_runs(here.path / "runs")
    assert run.status == "interrupted", child.stderr
    newest = CheckpointStore(run.path / "checkpoints").list()[-1]
    assert newest.usable, newest
    assert newest.step == steps, f"{newest.kind}: step {newest.step} of {steps}"


@ESCALATION
def test_an_escalation_at_any_moment(here, tally):
    rng = random.Random(7)
    places = [type(here)(here.server, here.path / str(number)) for number in range(20)]
    children = []
    for place in places:
        place.path.mkdir()
        children.append(started(place))
    for child in children:
        escalate(child, rng)
    for child, place in zip(children, places, strict=True):
        check_last_step(child, place, tally)


@ESCALATION
@pytest.mark.torture
@TORTURE
@pytest.mark.parametrize("number", range(200))
def test_an_escalation_at_any_moment_often(here, number, tally):
    child = started(here)
    escalate(child, random.Random(number))
    check_last_step(child, here, tally)


# --- at a terminal

PACKAGE = """
import sys, time
from ridgepole import Permanence, PipelineProcess, track


class Held(Permanence):
    def __init__(self, seconds: float = 0.0, saving: float = 0.0):
        self.seconds, self.saving, self.count = seconds, saving, 0

    def state_dict(self):
        if self.count and self.saving:
            print("saving now", flush=True)
            time.sleep(self.saving)
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]

    def cleanup(self):
        print("cleaning up now", flush=True)
        time.sleep(self.seconds)
        print("count", self.count, flush=True)


class Work(PipelineProcess):
    def __init__(self, held: Held, stuck: bool = False):
        self.held, self.stuck = held, stuck

    def execute(self):
        while self.held.count < 40:
            self.held.count += 1
            time.sleep(0.05)
            self.controller.tick()
            print("step", self.held.count, flush=True)
            if self.stuck and self.held.count == 3:
                time.sleep(60)

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass
"""

FILE = '[pipeline]\npackage = "work"\n[permanences.held]\ntype = "Held"\n[processes.work]\ntype = "Work"\n'
TERMINAL = pytest.mark.fault("one, two and three Ctrl-C at a terminal (a pty)")


@pytest.fixture
def terminal(project):
    """A run at a terminal of its own, where Ctrl-C is a key."""
    started = []

    def start(*arguments):
        folder = project(work__py=PACKAGE, work__toml=FILE)
        child = pexpect.spawn(
            sys.executable,
            ["-m", "ridgepole", *arguments],
            cwd=str(folder),
            env=os.environ | {"TERM": "xterm", "PYTHONDONTWRITEBYTECODE": "1"},
            timeout=60,
            encoding="utf-8",
        )
        started.append(child)
        return child

    yield start
    for child in started:
        child.close(force=True)


def code_of(child):
    """The exit code; the cursor is visible again, whatever was drawn."""
    rest = child.read()
    child.wait()
    shown, hidden = "\x1b[?25h", "\x1b[?25l"
    seen = (child.before or "") + rest
    assert seen.rfind(shown) >= seen.rfind(hidden), "the cursor stays hidden"
    return child.exitstatus, rest


@TERMINAL
def test_ctrl_c_at_a_terminal_and_on_from_there(terminal):
    child = terminal("run", "work.toml")
    child.expect("step 3")
    child.sendintr()
    child.expect("stopping after this step; again to stop now")
    child.expect("count (\\d+)")
    reached = int(child.match[1])
    child.expect("resume with: ridgepole (resume [^\r\n]*)")
    command = child.match[1].split()
    assert code_of(child)[0] == 130
    child = terminal(*command)
    child.expect(f"resumes from [^ ]+, step {reached}")
    child.expect(f"step {reached + 1}\r")
    child.expect("count 40")
    assert code_of(child)[0] == 0


@TERMINAL
def test_two_ctrl_c_at_a_terminal(terminal):
    child = terminal("run", "work.toml", "-s", "work.stuck=true")
    child.expect("step 3")
    child.sendintr()
    child.expect("again to stop now")
    child.sendintr()
    child.expect("count 3")
    assert code_of(child)[0] == 130


@TERMINAL
def test_a_second_ctrl_c_at_a_terminal_gives_up_the_checkpoint(terminal):
    child = terminal("run", "work.toml", "-s", "held.saving=100")
    child.expect("step 3")
    child.sendintr()
    child.expect("saving now")
    child.sendintr()
    child.expect("count \\d+")
    assert code_of(child)[0] == 130


@TERMINAL
def test_three_ctrl_c_at_a_terminal(terminal):
    child = terminal("run", "work.toml", "-s", "work.stuck=true", "-s", "held.seconds=60")
    child.expect("step 3")
    child.sendintr()
    child.expect("again to stop now")
    child.sendintr()
    child.expect("cleaning up now")
    child.sendintr()
    code, rest = code_of(child)
    assert code == 130
    assert "count" not in rest, "the clean-up was left at once"


# --- in a notebook

CELL = """
import sys, time
from ridgepole import Permanence, Pipeline, PipelineProcess

class Held(Permanence):
    def cleanup(self):
        print("cleaned up", flush=True)

class Work(PipelineProcess):
    def __init__(self, held: Held, steps: int):
        self.held, self.steps, self.done = held, steps, 0

    def execute(self):
        print("begins at", self.done, flush=True)
        while self.done < self.steps:
            self.done += 1
            time.sleep(0.02)
            self.controller.tick()

    def state_dict(self):
        return {"done": self.done}

    def load_state_dict(self, state):
        self.done = state["done"]

pipeline = Pipeline("cells", seed=1, progress=False).permanence("held", Held).process("work", Work, steps=150)
"""


@pytest.mark.fault("Ctrl-C in a notebook kernel: KeyboardInterrupt after the clean-up, resumed in the next cell")
def test_an_interrupted_cell(tmp_path):
    import threading

    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    cells = [CELL, "pipeline.run('runs')", "print('the kernel lives'); result = pipeline.resume(root='runs')", "result"]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    client = NotebookClient(book, timeout=60, resources={"metadata": {"path": str(tmp_path)}}, allow_errors=False)
    with client.setup_kernel():
        client.execute_cell(book.cells[0], 0)

        def interrupt():
            until = time.monotonic() + 30
            while "begins" not in text_of(book.cells[1]) and time.monotonic() < until:
                time.sleep(0.02)
            time.sleep(0.3)
            send(client.km.provisioner.pid, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(CellExecutionError) as caught:
            client.execute_cell(book.cells[1], 1)
        thread.join()
        assert caught.value.ename == "KeyboardInterrupt"
        said = text_of(book.cells[1])
        assert said.count("cleaned up") == 1, said
        client.execute_cell(book.cells[2], 2)
        client.execute_cell(book.cells[3], 3)
    said = text_of(book.cells[2])
    assert "the kernel lives" in said
    assert 0 < int(said.partition("begins at ")[2].split()[0]) < 150, said
    assert "status='finished'" in book.cells[3].outputs[0]["data"]["text/plain"]


def text_of(cell):
    return "".join(output.get("text", "") for output in cell.outputs if output["output_type"] == "stream")
