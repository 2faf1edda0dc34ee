"""Runs the tests that are marked `isolated` in processes of their own, so that none of them can end the run.

Such a test sends itself signals, forks, or uses up a limit of its process. All of it, with its fixtures, runs in a
child of a fork server; its reports come back, and a child that dies or hangs fails its test and nothing else. The
server is this file run as a script: a pytest without threads that has collected the files of these tests.
"""

import contextlib
import gc
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest
from _pytest.skipping import evaluate_skip_marks

MARGIN_SECONDS = 10.0  # at most, after its time limit, for a test to say by itself where it hangs; then it is killed
LAST_WORDS_SECONDS = 2.0  # for faulthandler to write what each thread does


def send(pid, number, *, group=False):
    """Sends a signal to another process or its group, and refuses one that would reach the test's own process."""
    assert pid > 1, f"{pid} names no single process"
    assert pid not in (os.getpid(), os.getppid()), "the signal would reach the run of the tests"
    assert not group or pid != os.getpgrp(), "the signal would reach the group of the tests"
    (os.killpg if group else os.kill)(pid, number)


class NoInterrupt:
    """Turns a KeyboardInterrupt that a test lets out into its failure: pytest would end the run."""

    def _phase(self):
        try:
            return (yield)
        except KeyboardInterrupt as error:
            raise AssertionError("the test let a KeyboardInterrupt out") from error

    pytest_runtest_setup = pytest.hookimpl(wrapper=True, tryfirst=True)(_phase)
    pytest_runtest_call = pytest.hookimpl(wrapper=True, tryfirst=True)(_phase)
    pytest_runtest_teardown = pytest.hookimpl(wrapper=True, tryfirst=True)(_phase)


def register(config):
    """Adds the plugins to the run of the tests; the server has added its own."""
    if config.pluginmanager.has_plugin("isolation-server"):
        return
    config.pluginmanager.register(Isolation(config), "isolation")
    if hasattr(config, "workerinput"):  # Ctrl-C at the terminal is seen by the process that started this one
        config.pluginmanager.register(NoInterrupt(), "no-interrupt")


# --- in the run of the tests


class Isolation:
    """Has the marked tests run by a server, which starts with the first of them."""

    def __init__(self, config):
        self.config, self.process, self.folder = config, None, None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item, nextitem):
        if item.get_closest_marker("isolated") is None or evaluate_skip_marks(item):
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        self.config.hook.pytest_timeout_cancel_timer(item=item)  # the server keeps the time
        reports = self.reports_of(item)
        if item.get_closest_marker("flaky") is not None and any(report.failed for report in reports):
            for report in reports:
                if report.failed:
                    report.outcome, report.rerun = "rerun", 0  # as pytest-rerunfailures has it
                    item.ihook.pytest_runtest_logreport(report=report)
            reports = self.reports_of(item)
            for report in reports:
                report.rerun = 1
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        # what earlier tests of a module share goes down here, as behind any test
        call = pytest.CallInfo.from_call(lambda: item.session._setupstate.teardown_exact(nextitem), when="teardown")
        if call.excinfo is not None:
            item.ihook.pytest_runtest_logreport(report=pytest.TestReport.from_item_and_call(item, call))
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def reports_of(self, item):
        began = time.time()
        try:
            return self.run(item, began)
        except Exception:
            self.close()
            return [self.failed(item, traceback.format_exc(), began, [])]

    def run(self, item, began):
        """Runs a test in a child and gives its reports; one more where it ended before its last one."""
        if self.process is None:
            self.start(item.session.items)
        results, words = self.folder / "results", self.folder / "words"
        results.write_bytes(b"")
        said = words.stat().st_size
        limit = limit_of(item)
        answer = self.ask(nodeid=item.nodeid, limit=limit, results=str(results))
        hook = self.config.hook
        reports = []
        for line in results.read_text().splitlines():
            data = json.loads(line)
            if isinstance(data["longrepr"], list):  # the place and the reason of a skip
                data["longrepr"] = tuple(data["longrepr"])
            reports.append(hook.pytest_report_from_serializable(config=self.config, data=data))
        if answer.get("code") != 0 or [report.when for report in reports][-1:] != ["teardown"]:
            with words.open("rb") as file:
                file.seek(said)
                left = file.read().decode(errors="replace")
            reports.append(self.failed(item, f"{what_happened(answer, limit)}\n{left}", began, reports))
        return reports

    def failed(self, item, why, began, reports):
        now = time.time()
        return pytest.TestReport(
            nodeid=item.nodeid,
            location=item.location,
            keywords=dict.fromkeys(item.keywords, 1),
            outcome="failed",
            longrepr=why,
            when="teardown" if any(report.when == "call" for report in reports) else "call",
            user_properties=item.user_properties,
            duration=now - began,
            start=began,
            stop=now,
        )

    def start(self, items):
        option = self.config.option
        self.folder = self.config._tmp_path_factory.mktemp("isolated")
        arguments = [f"--rootdir={self.config.rootpath}", f"--basetemp={self.folder / 'tests'}", "-pno:cacheprovider"]
        arguments += ["-pno:rerunfailures"]  # it starts a thread, and this class tries again itself
        arguments += [f"--tb={option.tbstyle}", f"--verbosity={option.verbose}", f"--capture={option.capture}"]
        arguments += ["-n0"] if self.config.pluginmanager.has_plugin("xdist") else []
        arguments += ["--showlocals"] if option.showlocals else []
        arguments += [] if option.timeout is None else [f"--timeout={option.timeout}"]
        arguments += {str(item.path): "" for item in items if item.get_closest_marker("isolated") is not None}
        shown = option.capture == "no"
        with (self.folder / "words").open("wb") as words:
            self.process = subprocess.Popen(
                [sys.executable, __file__, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if shown else words,
                cwd=self.config.rootpath,
                start_new_session=True,  # Ctrl-C at the terminal is for the run, which then closes the server
                env={name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
                | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
            )

    def ask(self, **request):
        """Sends a request and waits for its answer: empty if the server died, and it is closed if it hangs."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        answers = self.process.stdout
        ready, _, _ = select.select([answers], [], [], request["limit"] + MARGIN_SECONDS + LAST_WORDS_SECONDS + 60)
        line = answers.readline() if ready else b""
        if not line:
            self.close()
            return {}
        return json.loads(line)

    def close(self):
        if self.process is not None:
            self.process.stdin.close()  # a child that runs is killed then
            self.process.stdout.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def pytest_unconfigure(self):
        self.close()


def limit_of(item):
    """The seconds that a test may take; one without a limit gets an hour."""
    mark = item.get_closest_marker("timeout")
    if mark is not None:
        return float(mark.args[0] if mark.args else mark.kwargs["timeout"])
    option = item.config.getoption("timeout", None)
    return float(item.config.getini("timeout") if option is None else option) or 3600.0


def what_happened(answer, limit):
    if "problem" in answer:
        return f"The test can't run in a process of its own:\n{answer['problem']}"
    if "code" not in answer:
        return "The server that forks a process for each test ended."
    if answer["hung"]:
        return f"The test hung and was killed: it took more than {limit:g} s."
    if answer["code"] < 0:
        return f"The test's process was ended by {signal.Signals(-answer['code']).name}."
    return f"The test's process ended with exit code {answer['code']} before its test did."


# --- the server


class Server:
    """Makes a pytest fork a child for each test that it is asked for, instead of running what it has collected."""

    __name__ = "isolation-server"  # the name under which pytest registers it

    def __init__(self, requests, answers, words):
        self.requests, self.answers, self.words = requests, answers, words
        self.items, self.problems = {}, []
        self.results = self.child = None

    def pytest_collectreport(self, report):
        if report.failed:
            self.problems.append(report.longreprtext)

    def pytest_runtestloop(self, session):
        self.items = {item.nodeid: item for item in session.items}
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # a module that a test writes anew is compiled anew
        sys.dont_write_bytecode = True
        gc.collect()
        gc.freeze()  # no child looks through what the server has imported, nor copies its pages
        session.config._tmp_path_factory.getbasetemp()  # here, so that no child makes it anew
        with open(self.requests, "rb", closefd=False) as requests:
            for line in requests:
                os.write(self.answers, json.dumps(self.answer(json.loads(line))).encode() + b"\n")
        return True

    def answer(self, request):
        if request["nodeid"] not in self.items:
            return {"problem": "\n".join(["It was not collected.", *self.problems])}
        if threads() > 1:
            return {"problem": "A module of the tests starts a thread, and a fork would copy the locks that it holds."}
        pid = os.fork()
        if pid == 0:
            self.become(self.items[request["nodeid"]], request["results"])
        return wait(pid, request["limit"], self.requests)

    def become(self, item, results):
        """The child: runs its test, and never comes back."""
        code = 70  # of a fork of the test's own, too, that comes back here
        try:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0)
            for fd in (null, self.requests, self.answers):
                os.close(fd)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            random.seed()
            capture = item.config.pluginmanager.getplugin("capturemanager")
            capture.stop_global_capturing()  # its files are those of the server and of every child
            capture.start_global_capturing()
            capture.suspend_global_capture(in_=True)
            self.results, self.child = results, os.getpid()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            code = 0 if os.getpid() == self.child else 70
        except BaseException:
            os.write(self.words, traceback.format_exc().encode())
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def pytest_runtest_logreport(self, report):
        if os.getpid() != self.child:
            return
        data = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        with Path(self.results).open("a") as file:
            file.write(json.dumps(data) + "\n")

    def pytest_internalerror(self, excrepr):
        os.write(self.words, str(excrepr).encode() + b"\n")

    def pytest_configure(self, config):
        self.config = config
        config.pluginmanager.register(NoInterrupt())


def threads():
    tasks = Path("/proc/self/task")
    if tasks.is_dir():
        return len(list(tasks.iterdir()))
    import threading

    return threading.active_count()


def wait(pid, limit, requests):
    """Waits for the child and kills what is left of its group; also when it takes too long or the run is over."""
    asked, killed, hung = time.monotonic() + limit + min(limit, MARGIN_SECONDS), None, False
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        over = bool(select.select([requests], [], [], 0.002)[0])  # it ends while its only request is still going on
        now = time.monotonic()
        if not hung and now > asked:
            hung, killed = True, now + LAST_WORDS_SECONDS
            send(pid, signal.SIGABRT)  # faulthandler says where each thread is
        elif over or (hung and now > killed):
            end(pid)
    end(pid)
    _, status = os.waitpid(pid, 0)
    return {"code": os.waitstatus_to_exitcode(status), "hung": hung}


def end(pid):
    """Kills a child, and all that it has left in its group; the child is still a process or a zombie."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        send(pid, signal.SIGKILL, group=True)
    with contextlib.suppress(ProcessLookupError):
        send(pid, signal.SIGKILL)


def main(arguments):
    pipes = [os.dup(fd) for fd in (0, 1, 2)]  # pytest captures the usual ones
    if "--capture=no" in arguments:
        os.dup2(2, 1)
    else:  # what the server's own terminal reporter says is of no use
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
    pytest.main(arguments, plugins=[Server(*pipes)])


if __name__ == "__main__":
    main(sys.argv[1:])
