"""Real signals to real processes: what stops, what is cleaned up, which exit code comes out."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from isolation import send
from ridgepole import Pipeline, process
from ridgepole.pipeline.lifecycle.decisions import Action, SignalState, transition
from ridgepole.pipeline.lifecycle.signals import EXIT_CODES

pytestmark = pytest.mark.fault("SIGTERM, SIGINT, two and three Ctrl-C, SIGHUP, SIGUSR1: as the table of stopping says")

PACKAGE = """
import os, signal, sys, threading, time
from ridgepole import Permanence, PipelineProcess, process


def say(text):
    os.write(1, f"{text}\\n".encode())


class Held(Permanence):
    def checkpoint(self):
        say("checkpointing")

    def cleanup(self):
        say("cleanup starts")
        time.sleep(float(os.environ.get("CLEANUP_SECONDS", "0")))
        say("cleanup done")


class Ticking(PipelineProcess):
    def __init__(self, held: Held):
        self.held = held

    def execute(self):
        for step in range(100000):
            say(f"step {step}")
            time.sleep(0.05)
            self.controller.tick()


@process
def never_ticks(held: Held):
    say("step 0")
    time.sleep(60)


@process
def short(held: Held):
    say("step 0")
    time.sleep(0.7)
    say("short done")


@process
def stuck_after_a_tick(held: Held, n: int = 2):
    say("step 0")
    yield
    say("step 1")
    time.sleep(60)


class Saving(Held):
    # takes its time to make a state

    def __init__(self):
        self.count = 0

    def state_dict(self):
        if self.count:
            say("saving")
            time.sleep(float(os.environ.get("SAVE_SECONDS", "0.8")))
            say("saved")
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


class Long(PipelineProcess):
    def __init__(self, held: Saving, seconds: float = 0.5):
        self.held, self.seconds = held, seconds

    def execute(self):
        for _ in range(100):
            self.held.count += 1
            say(f"step {self.held.count}")
            time.sleep(self.seconds)
            self.controller.tick()

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class Prints(Long):
    # prints in its loop, as most trainings do
    def __init__(self, held: Saving, last: int = 1000000):
        self.held, self.last = held, last

    def execute(self):
        while self.held.count < self.last:
            self.held.count += 1
            if self.held.count == 100:
                say("step 100")
            print("loss", 1 / self.held.count, flush=True)
            print("loss", 1 / self.held.count, file=sys.stderr)
            self.controller.tick()


class Counting(Saving):
    def state_dict(self):
        return {"count": self.count}

    def checkpoint(self):
        print("checkpoint", flush=True)

    def cleanup(self):
        print("cleanup", flush=True)


@process
def unwinds(held: Held):
    try:
        say("step 0")
        time.sleep(60)
    finally:
        say("unwinding")
        time.sleep(0.5)
        say("unwound")


@process
def interrupts_itself(held: Held):
    raise KeyboardInterrupt


@process
def forks(held: Held):
    pid = os.fork()
    if pid == 0:
        say("child up")
        time.sleep(60)
        os._exit(0)
    say("step 0")
    yield
    try:
        time.sleep(0.5)
        done, status = os.waitpid(pid, os.WNOHANG)
        say(f"child {'gone' if done else 'alive'}")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
"""


class Running:
    """A pipeline in a process of its own."""

    def __init__(self, folder, process, config="", held="Held", params="{}", progress="false", **environment):
        (folder / "stops").mkdir()
        (folder / "stops" / "__init__.py").write_text(PACKAGE)
        (folder / "stops.toml").write_text(
            f'[pipeline]\npackage = "stops"\nprogress = {progress}\n{config}\n'
            f'[permanences.held]\ntype = "{held}"\n[processes.work]\ntype = "{process}"\nparams = {params}\n'
        )
        self.folder = folder
        self.child = subprocess.Popen(
            [sys.executable, "-m", "ridgepole", "run", "stops.toml"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | environment,
            start_new_session=True,
        )
        self.lines = []

    def until(self, wanted):
        for line in self.child.stdout:
            self.lines.append(line.rstrip())
            if wanted in line:
                return self
        raise AssertionError(f"{wanted!r} never came: {self.lines}")

    def send(self, number):
        self.child.send_signal(number)
        return self

    def end(self):
        """The exit code, after reading all that is left."""
        out, _ = self.child.communicate(timeout=30)
        self.lines += out.splitlines()
        return self.child.returncode

    @property
    def record(self):
        (path,) = (self.folder / "runs").glob("*/run.json")
        return json.loads(path.read_text())

    def count(self, text):
        return sum(text in line for line in self.lines)


@pytest.fixture
def start(tmp_path):
    started = []

    def make(*arguments, **keywords):
        started.append(Running(tmp_path, *arguments, **keywords))
        return started[-1]

    yield make
    for running in started:
        running.child.kill()
        running.child.stdout.close()
        running.child.wait(10)


def test_first_ctrl_c_finishes_the_step(start):
    run = start("Ticking").until("step 2").send(signal.SIGINT)
    assert run.end() == 130
    assert run.count("stopping after this step; again to stop now") == 1
    assert run.count("checkpointing") == 2, "one at the boundary before the process, one on the signal"
    assert run.count("cleanup done") == 1
    assert run.record["status"] == "interrupted"
    assert run.count("Traceback") == 0


def test_second_ctrl_c_stops_now_without_a_checkpoint(start):
    run = start("stuck_after_a_tick").until("step 1").send(signal.SIGINT).until("stopping after").send(signal.SIGINT)
    assert run.end() == 130
    assert run.count("checkpointing") == 1
    assert run.count("cleanup done") == 1


def test_third_ctrl_c_leaves_at_once(start):
    run = start("stuck_after_a_tick", CLEANUP_SECONDS="30").until("step 1")
    run.send(signal.SIGINT).until("stopping after").send(signal.SIGINT).until("cleanup starts").send(signal.SIGINT)
    assert run.end() == 130
    assert run.count("cleanup done") == 0


def test_ctrl_c_in_a_process_that_never_ticks_stops_now(start):
    run = start("never_ticks").until("step 0").send(signal.SIGINT)
    assert run.end() == 130
    assert run.count("cleanup done") == 1
    assert run.count("stopping after") == 0


def test_ctrl_c_during_cleanup_is_only_noted(start):
    run = start("never_ticks", CLEANUP_SECONDS="1.5").until("step 0").send(signal.SIGINT)
    run.until("cleanup starts").send(signal.SIGINT)
    assert run.end() == 130
    assert run.count("cleanup done") == 1


def test_sigterm_stops_at_the_next_tick(start):
    run = start("Ticking").until("step 2").send(signal.SIGTERM)
    assert run.end() == 143
    assert run.count("checkpointing") == 2
    assert run.count("cleanup done") == 1
    assert run.record["status"] == "interrupted"


def test_sigterm_where_nothing_ticks_any_more_raises_by_itself(start):
    run = start("stuck_after_a_tick", "grace_seconds = 1").until("step 1").send(signal.SIGTERM)
    assert run.end() == 143
    assert run.count("cleanup done") == 1


ESCALATIONS = [
    ("step 2", [signal.SIGUSR1, signal.SIGTERM], {75, 143}),  # two at once may reach two threads, in any order
    ("step 2", [signal.SIGTERM, signal.SIGTERM], {143}),
    ("saving", [signal.SIGTERM, signal.SIGTERM], {143}),
    ("saving", [signal.SIGINT, signal.SIGTERM], {130}),
]


@pytest.mark.parametrize(("where", "numbers", "codes"), ESCALATIONS, ids=lambda value: str(value))
def test_a_scheduler_that_repeats_itself_costs_no_checkpoint(numbers, codes, where, start, ridgepole):
    """In the middle of a long step, and of the checkpoint that the first signal has asked for."""
    run = start("Long", held="Saving").until("step 2").send(numbers[0])
    if where == "saving":
        run.until(where)
    for number in numbers[1:]:
        run.send(number)
    assert run.end() in codes, run.lines
    assert run.count("saved") == 1
    assert run.count("cleanup done") == 1
    assert run.record["status"] == "interrupted"
    listed = json.loads(ridgepole("checkpoints", "show", "latest", "--json").stdout)
    last = [line for line in run.lines if line.startswith("step ")][-1]
    assert (f"step {listed['step']}", listed["kind"]) == (last, "signal"), listed


def test_a_second_interrupt_that_no_terminal_sends_lets_a_checkpoint_finish(start):
    run = start("Long", held="Saving").until("step 2").send(signal.SIGINT).until("saving").send(signal.SIGINT)
    assert run.end() == 130
    assert run.count("saved") == 1


def test_a_checkpoint_that_outlasts_the_grace_time_is_given_up(start):
    run = start("Long", "grace_seconds = 1", held="Saving", SAVE_SECONDS="100").until("step 2")
    run.send(signal.SIGINT).until("saving").send(signal.SIGTERM)
    assert run.end() == 130
    assert run.count("saving") == 1
    assert run.count("saved") == 0
    assert run.count("cleanup done") == 1


@pytest.mark.parametrize("progress", ["false", "true"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_dead_stdout_costs_no_checkpoint(number, progress, start, ridgepole):
    """As under `2>&1 | tee log`, where Ctrl-C ends tee too."""
    run = start("Prints", held="Counting", progress=progress).until("step 100")
    run.child.stdout.close()
    run.send(number)
    assert run.child.wait(60) == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert run.record["status"] == "interrupted", run.record
    listed = json.loads(ridgepole("checkpoints", "show", "latest", "--json").stdout)
    assert listed["kind"] == "signal"
    assert listed["step"] >= 100


def test_a_dead_stdout_ends_no_run(start):
    """As under `| head`: the training is worth more than its output."""
    run = start("Prints", held="Counting", params="{ last = 1000 }").until("step 100")
    run.child.stdout.close()
    assert run.child.wait(60) == 0
    assert run.record["status"] == "finished"


def test_a_repeated_sigterm_leaves_what_unwinds_alone(start):
    run = start("unwinds").until("step 0").send(signal.SIGTERM).until("unwinding").send(signal.SIGTERM)
    assert run.end() == 143
    assert run.count("unwound") == 1
    assert run.count("cleanup done") == 1


def test_a_hang_up_stops_at_the_next_tick(start):
    run = start("Ticking").until("step 2").send(signal.SIGHUP)
    assert run.end() == 129
    assert run.count("cleanup done") == 1


@pytest.mark.isolated
def test_an_ignored_signal_stays_ignored(start):
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = start("short").until("step 0").send(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, previous)
    assert run.end() == 0
    assert run.count("short done") == 1


def test_sigusr1_waits_for_the_end_of_a_process(start):
    run = start("short").until("step 0").send(signal.SIGUSR1)
    assert run.end() == 75
    assert run.count("short done") == 1
    assert run.count("cleanup done") == 1


def test_a_keyboard_interrupt_of_the_users_own(start):
    run = start("interrupts_itself")
    assert run.end() == 130
    assert run.count("cleanup done") == 1
    assert run.record["status"] == "interrupted"


def test_a_forked_worker_leaves_ctrl_c_to_its_parent(start):
    run = start("forks").until("child up")
    time.sleep(0.3)
    send(run.child.pid, signal.SIGINT, group=True)
    run.end()
    assert run.count("child alive") == 1, run.lines
    assert run.count("cleanup done") == 1


def test_a_killed_run_is_crashed(start, ridgepole):
    run = start("Ticking").until("step 1").send(signal.SIGKILL)
    assert run.end() == -signal.SIGKILL
    listed = json.loads(ridgepole("runs", "ls", "--json").stdout)
    assert [row["status"] for row in listed] == ["crashed"]


def test_handlers_are_restored(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    seen = []

    @process
    def look():
        seen.append(signal.getsignal(signal.SIGTERM))

    Pipeline(progress=False, logger=False).process("look", look).run(tmp_path)
    assert seen != [before[1]]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == before


def test_a_run_outside_the_main_thread(tmp_path):
    ran = []

    @process
    def work():
        ran.append(threading.current_thread().name)

    thread = threading.Thread(target=Pipeline(progress=False, logger=False).process("work", work).run, args=(tmp_path,))
    thread.start()
    thread.join(30)
    assert ran == [thread.name]


def test_nothing_wakes_a_process_whose_handlers_are_gone(tmp_path):
    """A thread that asks for a stop too late must not send a signal that nobody catches any more."""
    script = tmp_path / "late.py"
    script.write_text(
        "from ridgepole.pipeline.lifecycle.signals import SignalGuard\n"
        "guard = SignalGuard()\n"
        "with guard.installed():\n"
        "    pass\n"
        "guard.demand(KeyboardInterrupt())\n"
        "print('alive')\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "alive\n", done


OVERLAPPING = """
import functools, os, signal, sys, time
from ridgepole.pipeline.lifecycle import signals

signals._in_foreground = lambda: True
guard = signals.SignalGuard()
interrupt = functools.partial(os.kill, os.getpid(), signal.SIGINT)

with guard.installed(), guard.user_code():
    guard.ticking = True
    guard.on_request = interrupt
    began = time.monotonic()
    caught = 0
    try:
        interrupt()
        time.sleep(30)
    except KeyboardInterrupt:
        caught += 1
        try:
            time.sleep(0.3)
        except KeyboardInterrupt:
            caught += 1
    print("caught", caught, "early" if time.monotonic() - began < 20 else "late")
"""


def test_a_second_ctrl_c_while_the_first_is_handled_stops_the_users_code(tmp_path):
    """It must not be lost, and not raise twice."""
    script = tmp_path / "overlapping.py"
    script.write_text(OVERLAPPING)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "caught 1 early\n", done


def test_a_signal_is_answered_as_the_table_says():
    """The table at the top of the module, and of docs/pipelines.md, row by row."""
    idle, ticks = SignalState(), SignalState(ticking=True)
    stopping = SignalState(interrupts=1, stopping=True, ticking=True)
    saving = replace(stopping, saving=True)
    table = [
        (ticks, "SIGINT", Action.STOP_AT_TICK),
        (idle, "SIGINT", Action.STOP_NOW),
        (stopping, "SIGINT", Action.STOP_NOW),
        (replace(stopping, interrupts=2), "SIGINT", Action.EXIT),
        (replace(stopping, interrupts=2, cleaning=True), "SIGINT", Action.EXIT),
        (SignalState(stopping=True, ticking=True), "SIGINT", Action.STOP_AT_TICK),  # the first Ctrl-C after a SIGTERM
        (ticks, "SIGTERM", Action.STOP_IN_TIME),
        (idle, "SIGTERM", Action.STOP_NOW),
        (stopping, "SIGTERM", Action.STOP_IN_TIME),  # a scheduler that goes from SIGINT or SIGUSR1 to SIGTERM
        (replace(idle, stopping=True), "SIGTERM", Action.STOP_NOW),  # SIGUSR1, and nothing ticks
        (replace(idle, stopping=True, overdue=True), "SIGTERM", Action.STOP_IN_TIME),  # it unwinds already
        (replace(ticks, stopping=True, terminated=True), "SIGTERM", Action.NOTE),
        (replace(ticks, stopping=True, terminated=True), "SIGHUP", Action.NOTE),
        (replace(idle, stopping=True, terminated=True, overdue=True), "SIGTERM", Action.NOTE),
        (ticks, "SIGHUP", Action.STOP_IN_TIME),
        (idle, "SIGHUP", Action.STOP_NOW),
        (ticks, "SIGUSR1", Action.STOP_AT_TICK),
        (idle, "SIGUSR1", Action.STOP_AT_TICK),
        (replace(saving, terminated=True), "SIGTERM", Action.NOTE),
        *((replace(ticks, cleaning=True), name, Action.NOTE) for name in EXIT_CODES),
        *((replace(stopping, cleaning=True), name, Action.NOTE) for name in EXIT_CODES),
    ]
    for before, name, action in table:
        after, taken = transition(before, name)
        assert taken is action, (before, name)
        assert after.stopping
        assert after.interrupts == before.interrupts + (name == "SIGINT")
        assert after.overdue == (before.overdue or action is Action.STOP_NOW)
    for at_terminal in (False, True):  # who presses Ctrl-C twice does not want to wait for the disk
        after, _ = transition(replace(saving, at_terminal=at_terminal), "SIGINT")
        assert after.forced == at_terminal
    assert transition(stopping, "SIGINT")[0].forced


def test_any_three_interrupts_leave_the_process():
    for others in itertools.product(["", "SIGTERM", "SIGHUP", "SIGUSR1"], repeat=3):
        state, taken = SignalState(ticking=True), []
        for other in others:
            if other:
                state, _ = transition(state, other)
            state, action = transition(state, "SIGINT")
            taken.append(action)
        assert taken.index(Action.EXIT) == 2, others
