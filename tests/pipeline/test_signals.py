"""Real signals to real processes: what stops, what is cleaned up, which exit code comes out."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from ridgepole import Pipeline, process

pytestmark = pytest.mark.fault("SIGTERM, SIGINT, two and three Ctrl-C, SIGHUP, SIGUSR1: as the table of stopping says")

PACKAGE = """
import os, signal, sys, threading, time
from ridgepole import Permanence, PipelineProcess, process


def say(text):
    os.write(1, f"{text}\\n".encode())


class Held(Permanence):
    def checkpoint(self):
        say("checkpoint")

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

    def __init__(self, folder, process, config="", **environment):
        (folder / "stops").mkdir()
        (folder / "stops" / "__init__.py").write_text(PACKAGE)
        (folder / "stops.toml").write_text(
            f'[pipeline]\npackage = "stops"\nprogress = false\n{config}\n'
            f'[permanences.held]\ntype = "Held"\n[processes.work]\ntype = "{process}"\n'
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
    assert run.count("checkpoint") == 2, "one at the boundary before the process, one on the signal"
    assert run.count("cleanup done") == 1
    assert run.record["status"] == "interrupted"
    assert run.count("Traceback") == 0


def test_second_ctrl_c_stops_now_without_a_checkpoint(start):
    run = start("stuck_after_a_tick").until("step 1").send(signal.SIGINT).until("stopping after").send(signal.SIGINT)
    assert run.end() == 130
    assert run.count("checkpoint") == 1
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
    assert run.count("checkpoint") == 2
    assert run.count("cleanup done") == 1
    assert run.record["status"] == "interrupted"


def test_sigterm_where_nothing_ticks_any_more_raises_by_itself(start):
    run = start("stuck_after_a_tick", "grace_seconds = 1").until("step 1").send(signal.SIGTERM)
    assert run.end() == 143
    assert run.count("cleanup done") == 1


def test_a_hang_up_stops_at_the_next_tick(start):
    run = start("Ticking").until("step 2").send(signal.SIGHUP)
    assert run.end() == 129
    assert run.count("cleanup done") == 1


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
    os.killpg(run.child.pid, signal.SIGINT)
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
        "from ridgepole.pipeline.signals import SignalGuard\n"
        "guard = SignalGuard()\n"
        "with guard.installed():\n"
        "    pass\n"
        "guard.demand(KeyboardInterrupt())\n"
        "print('alive')\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "alive\n", done
