"""No test may end the run: what harms a process is done in one of its own, and a check of the sources holds it."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from isolation import send

TESTS = Path(__file__).parent

# What a test may do only in a process of its own, by the names that Python has for it.
HARMFUL = {
    *(f"signal.{name}" for name in ("signal", "raise_signal", "setitimer", "alarm", "pthread_kill", "pthread_sigmask")),
    *(f"signal.{name}" for name in ("siginterrupt", "set_wakeup_fd", "sigwait", "pause")),
    *(f"os.{name}" for name in ("kill", "killpg", "abort", "_exit", "fork", "forkpty", "dup2", "closerange")),
    *("os.setpgid", "os.setsid", "os.setpgrp", "os.tcsetpgrp"),
    *("resource.setrlimit", "resource.prlimit", "sys.setrecursionlimit", "threading.stack_size", "_thread.stack_size"),
    *("_thread.interrupt_main", "ctypes.pythonapi.PyThreadState_SetAsyncExc"),
    *("faulthandler.enable", "faulthandler.disable", "faulthandler.register", "faulthandler.dump_traceback_later"),
}

# What runs in children only, or sends signals to children that it has forked itself.
PROGRAMS = {
    "checkpoint/background_helper.py": "a program",
    "checkpoint/faults_helper.py": "a program",
    "checkpoint/ranks_helper.py": "a program",
    "integrations/ignite_training.py": "a program that tests run",
    "integrations/keras_training.py": "a program that tests run",
    "integrations/lightning_training.py": "a program that tests run",
    "peers/hf_training.py": "a program that tests run",
    "pipeline/fork_server.py": "a program, and the side that signals its children",
    "isolation.py": "the mechanism itself",
    "quick_python.py": "the side that forks interpreters, which only reads the mask of signals here",
    "sweeps/sweep_helpers.py:endings": "an objective that worker processes run",
    "conftest.py:pytest_configure": "makes the dispositions of signals those of a plain shell",
}


class Module:
    """What one file of the tests defines at its top level, and which of it is harmful in itself."""

    def __init__(self, path, text, root=TESTS):
        self.name, self.stem = path.relative_to(root).as_posix(), path.stem
        self.imported, self.aliases, self.bodies = {}, {}, {}
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.aliases[alias.asname or alias.name.partition(".")[0]] = (
                        alias.name if alias.asname else alias.name.partition(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    self.aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        for node in tree.body:
            self.bodies.setdefault(getattr(node, "name", "the module"), []).append(node)
        self.all_isolated = any(marked(node) for node in self.bodies.get("the module", ()) if is_pytestmark(node))

    def dotted(self, node):
        """The name in full of an expression such as `os.kill`, however it was imported."""
        if isinstance(node, ast.Name):
            return self.aliases.get(node.id, node.id)
        if isinstance(node, ast.Attribute) and (base := self.dotted(node.value)):
            return f"{base}.{node.attr}"
        if isinstance(node, ast.Call) and self.dotted(node.func) in ("__import__", "importlib.import_module"):
            return getattr(node.args[0], "value", None) if node.args else None
        return None

    def names_in(self, name):
        """Whatever a definition names: by itself, of another module, or as a fixture that it asks for."""
        for body in self.bodies[name]:
            for node in ast.walk(body):
                if isinstance(node, ast.Name | ast.Attribute) and (found := self.dotted(node)):
                    yield found
                elif isinstance(node, ast.arg):
                    yield node.arg
                elif isinstance(node, ast.Call) and (self.dotted(node.func) or "").endswith("usefixtures"):
                    yield from (each.value for each in node.args)


def is_pytestmark(node):
    return isinstance(node, ast.Assign) and any(getattr(each, "id", "") == "pytestmark" for each in node.targets)


def marked(node):
    return any(isinstance(each, ast.Attribute) and each.attr == "isolated" for each in ast.walk(node))


def is_isolated(module, name):
    return module.all_isolated or any(
        marked(mark) for body in module.bodies[name] for mark in getattr(body, "decorator_list", ())
    )


def harmful(files, root=TESTS, programs=PROGRAMS):
    """The tests, autouse fixtures and modules that do harm in the run's own process: `file:name` to what they reach."""
    modules = [Module(path, text, root) for path, text in files]
    reached = {}  # (file, name) -> the call, and how it comes to it
    for module in modules:
        for name in module.bodies:
            if module.name in programs or f"{module.name}:{name}" in programs:
                continue
            if found := sorted(HARMFUL.intersection(module.names_in(name))):
                reached[module.name, name] = found[0]
    shared = {module.name: module for module in modules}
    grown = True
    while grown:
        grown = False
        offered = {}  # what another file can import or ask for as a fixture
        for (file, name), what in reached.items():
            offered.setdefault(f"{shared[file].stem}.{name}", f"{name} -> {what}")
            if shared[file].stem == "conftest":
                offered.setdefault(name, f"{name} -> {what}")
        for module in modules:
            for name in module.bodies:
                if (module.name, name) in reached or f"{module.name}:{name}" in programs or module.name in programs:
                    continue
                own = {other: f"{other} -> {what}" for (file, other), what in reached.items() if file == module.name}
                found = next(((offered | own)[each] for each in module.names_in(name) if each in offered | own), None)
                if found:
                    reached[module.name, name], grown = found, True
    return {
        f"{file}:{name}": what
        for (file, name), what in reached.items()
        if runs_by_itself(shared[file], name) and not is_isolated(shared[file], name)
    }


def runs_by_itself(module, name):
    """Whether pytest or an import runs a definition without a test that names it."""
    automatic = any(getattr(each, "arg", "") == "autouse" for body in module.bodies[name] for each in ast.walk(body))
    return name.startswith(("test", "Test", "pytest_")) or name == "the module" or automatic


def test_only_isolated_tests_harm_their_process():
    files = [(path, path.read_text(encoding="utf-8")) for path in sorted(TESTS.rglob("*.py"))]
    found = harmful(files)
    assert not found, "\n".join(
        [
            "These need `@pytest.mark.isolated`; a signal to another process is sent with `isolation.send`:",
            *(f"  tests/{place} -> {what}" for place, what in found.items()),
        ]
    )
    for program in PROGRAMS:
        file, _, name = program.partition(":")
        module = Module(TESTS / file, (TESTS / file).read_text(encoding="utf-8"))
        names = [name] if name else module.bodies
        assert any(HARMFUL.intersection(module.names_in(each)) for each in names), f"{program} needs no exception"


BAD = {
    "itself": "import os\ndef test_it():\n    os.kill(os.getpid(), 9)\n",
    "from": "from os import kill as blow\ndef test_it():\n    blow(1, 9)\n",
    "module under another name": "import signal as s\ndef test_it():\n    s.setitimer(0, 1)\n",
    "imported in place": "def test_it():\n    __import__('resource').setrlimit(7, (1, 1))\n",
    "handed on": "import os, threading\ndef test_it():\n    threading.Timer(1, os.abort).start()\n",
    "helper": "import os\ndef inner():\n    os.fork()\ndef outer():\n    inner()\ndef test_it():\n    outer()\n",
    "fixture": "import os, pytest\n@pytest.fixture\ndef harm():\n    os._exit(1)\ndef test_it(harm):\n    pass\n",
    "used fixture": "import os, pytest\n@pytest.fixture\ndef harm():\n    os._exit(1)\n"
    "@pytest.mark.usefixtures('harm')\ndef test_it():\n    pass\n",
    "class": "import os\nclass TestIt:\n    def test_it(self):\n        os.dup2(1, 2)\n",
    "module level": "import sys\nsys.setrecursionlimit(9)\ndef test_it():\n    pass\n",
    "autouse": "import os, pytest\n@pytest.fixture(autouse=True)\ndef harm():\n    os.abort()\n",
    "thread": "import ctypes\ndef test_it():\n    ctypes.pythonapi.PyThreadState_SetAsyncExc(1, None)\n",
    "shared helper": "from helper import harm\ndef test_it():\n    harm()\n",
    "shared helper's module": "import helper\ndef test_it():\n    helper.harm()\n",
    "shared fixture": "def test_it(harms):\n    pass\n",
}
GOOD = {
    "isolated": "import os, pytest\n@pytest.mark.isolated\ndef test_it():\n    os.abort()\n",
    "isolated module": "import os, pytest\npytestmark = [pytest.mark.isolated]\ndef test_it():\n    os.abort()\n",
    "program": "PROGRAM = 'import os; os.abort()'\ndef test_it():\n    print(PROGRAM)\n",
    "send": "from isolation import send\ndef test_it():\n    send(7, 9)\n",
    "unused helper": "import os\ndef harm():\n    os.abort()\ndef test_it():\n    pass\n",
}
SHARED = {
    "helper.py": "import os\ndef harm():\n    os.abort()\n",
    "conftest.py": "import os, pytest\n@pytest.fixture\ndef harms():\n    os.abort()\n",
}


def found_in(text):
    files = {Path("/t", name): each for name, each in SHARED.items()} | {Path("/t/test_it.py"): text}
    return harmful(files.items(), root=Path("/t"), programs=())


@pytest.mark.parametrize("case", BAD)
def test_the_check_sees(case):
    assert [place.partition(":")[0] for place in found_in(BAD[case])] == ["test_it.py"]


@pytest.mark.parametrize("case", GOOD)
def test_the_check_leaves(case):
    assert found_in(GOOD[case]) == {}


@pytest.mark.parametrize("pid", [0, 1, -1, os.getpid(), os.getppid()], ids=["group", "init", "all", "self", "parent"])
def test_no_signal_goes_to_the_run(pid):
    with pytest.raises(AssertionError):
        send(pid, 0)


def test_no_signal_goes_to_the_group_of_the_run():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    send(child.pid, signal.SIGTERM, group=True)
    assert child.wait(30) == -signal.SIGTERM
    with pytest.raises(AssertionError, match="the tests"):
        send(os.getpgrp(), 0, group=True)


# --- the mechanism

HARM = """
import os, signal, subprocess, sys, time
import pytest

SERVER = os.getpid()  # where the module was imported
isolated = pytest.mark.isolated

def test_plain_before(shared):
    assert shared == SERVER

@isolated
def test_it_runs_elsewhere_with_its_fixtures(tmp_path, capfd, shared, record_property):
    assert os.getppid() == SERVER and shared == os.getpid() == os.getpgrp()
    (tmp_path / "file").write_text("x")
    print("printed")
    assert capfd.readouterr().out == "printed\\n"
    record_property("seen", {"by": "the run"})

@isolated
def test_a_failure_has_its_traceback():
    print("said before")
    left = {"key": "wanted"}
    assert left == {"key": "found"}

@isolated
def test_a_warning_is_an_error():
    import warnings
    warnings.warn("careless")

@isolated
def test_skipped():
    pytest.skip("for a reason")

@isolated
@pytest.mark.xfail
def test_expected_to_fail():
    assert False

@isolated
def test_killed():
    os.kill(os.getpid(), signal.SIGKILL)

@isolated
def test_interrupted():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)

@isolated
def test_left_early():
    os._exit(0)

@isolated
@pytest.mark.timeout(0.5)
def test_hangs():
    time.sleep(60)

@isolated
@pytest.mark.timeout(0.5)
def test_hangs_and_hears_nothing(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    open(os.environ["CHILD"], "w").write(str(child.pid))
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    while True:
        time.sleep(60)

@isolated
def test_forks_and_the_child_comes_back():
    pid = os.fork()
    if pid == 0:
        raise ValueError("in the fork")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 70

@isolated
def test_a_fixture_that_fails(fails): ...

@isolated
def test_kills_the_server():
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(1)

@isolated
def test_after_all_that():
    assert os.getppid() == SERVER

def test_lets_an_interrupt_out():
    raise KeyboardInterrupt

def test_plain_after(shared):
    assert shared == SERVER
"""
MORE = """
import os, pytest
pytestmark = pytest.mark.isolated

def test_another_file_sees_the_same_fixtures(shared):
    assert shared == os.getpid() and os.environ["SET_BY_A_FIXTURE"] == "1"
"""
CONFTEST = """
import os, isolation, pytest

def pytest_configure(config):
    isolation.register(config)

@pytest.fixture(scope="module")
def shared():
    yield os.getpid()

@pytest.fixture(autouse=True)
def sets(monkeypatch):
    monkeypatch.setenv("SET_BY_A_FIXTURE", "1")

@pytest.fixture
def fails():
    assert 0, "no fixture"
"""
SETTINGS = "[pytest]\nfilterwarnings = error\ntimeout = 60\nmarkers = isolated: x\naddopts = --strict-markers -rA\n"


def test_whatever_an_isolated_test_does_it_fails_alone(tmp_path):
    """A run of its own, in a worker as under `make test`; each test ends as its body says, and the run goes on."""
    files = {"tests/conftest.py": CONFTEST, "tests/in/test_harm.py": HARM, "tests/in/test_more.py": MORE}
    (tmp_path / "tests/in").mkdir(parents=True)
    for name, text in (files | {"pytest.ini": SETTINGS}).items():
        (tmp_path / name).write_text(text)
    more = {"PYTHONPATH": str(TESTS), "CHILD": str(tmp_path / "child"), "PYTEST_ADDOPTS": "-n1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-pno:cacheprovider", f"--basetemp={tmp_path / 'base'}", "--junitxml=out.xml"],
        cwd=tmp_path,
        env=os.environ | more,
        capture_output=True,
        text=True,
        timeout=100,
    )
    summary = done.stdout.partition("short test summary info")[2]
    ends = {line.split("::")[1].split()[0]: line.split()[0] for line in summary.splitlines() if "::" in line}
    assert ends == {
        "test_plain_before": "PASSED",
        "test_it_runs_elsewhere_with_its_fixtures": "PASSED",
        "test_a_failure_has_its_traceback": "FAILED",
        "test_a_warning_is_an_error": "FAILED",
        "test_expected_to_fail": "XFAIL",
        "test_killed": "FAILED",
        "test_interrupted": "FAILED",
        "test_left_early": "FAILED",
        "test_hangs": "FAILED",
        "test_hangs_and_hears_nothing": "FAILED",
        "test_forks_and_the_child_comes_back": "PASSED",
        "test_a_fixture_that_fails": "ERROR",
        "test_kills_the_server": "FAILED",
        "test_after_all_that": "PASSED",
        "test_lets_an_interrupt_out": "FAILED",
        "test_plain_after": "PASSED",
        "test_another_file_sees_the_same_fixtures": "PASSED",
    }, done.stdout + done.stderr
    assert summary.count("::") == len(ends), "a test was reported twice"
    for said in (
        "E       AssertionError: assert {'key': 'wanted'} == {'key': 'found'}",
        "said before",
        "careless",
        "for a reason",
        "The test's process was ended by SIGKILL.",
        "the test let a KeyboardInterrupt out",
        "The test's process ended with exit code 0 before its test did.",
        "Timeout (>0.5s)",
        "The test hung and was killed: it took more than 0.5 s.",
        "in test_hangs_and_hears_nothing",  # where it was
        "no fixture",
        "The server that forks a process for each test ended.",
    ):
        assert said in done.stdout, f"{said!r} is not in:\n{done.stdout}"
    assert """<property name="seen" value="{'by': 'the run'}" />""" in (tmp_path / "out.xml").read_text()
    child = Path("/proc", (tmp_path / "child").read_text(), "status")
    assert not child.exists() or "State:\tZ" in child.read_text(), "what a killed test had started lives on"


AGAIN = """
import os, signal
from pathlib import Path
import pytest

def first(path):
    try:
        path.open("x").close()
    except FileExistsError:
        return False
    return True

@pytest.mark.isolated
def test_dies_once():
    if first(Path("died")):
        os.kill(os.getpid(), signal.SIGKILL)

@pytest.mark.isolated
def test_always_fails():
    assert 0, "each time"

def test_plain_fails_once():
    assert not first(Path("failed")), "the first time"

def test_plain_always_fails():
    assert 0
"""
TRY_AGAIN = """
import isolation, pytest

def pytest_configure(config):
    isolation.register(config)

def pytest_collection_modifyitems(config, items):
    if not config.pluginmanager.has_plugin("isolation-server"):
        for item in items:
            item.add_marker(pytest.mark.flaky(reruns=1))
"""


def test_a_test_on_processes_is_tried_once_more_and_the_run_says_so(tmp_path):
    (tmp_path / "conftest.py").write_text(TRY_AGAIN)
    (tmp_path / "test_again.py").write_text(AGAIN)
    (tmp_path / "pytest.ini").write_text(SETTINGS.replace("-rA", "-rAR"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-pno:cacheprovider", f"--basetemp={tmp_path / 'base'}", "-n1"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "2 failed, 2 passed, 4 rerun" in done.stdout.splitlines()[-1], done.stdout + done.stderr
    for name in ("dies_once", "always_fails", "plain_fails_once", "plain_always_fails"):
        assert f"RERUN test_again.py::test_{name}" in done.stdout, done.stdout
    for name in ("dies_once", "plain_fails_once"):
        assert f"PASSED test_again.py::test_{name}" in done.stdout, done.stdout
    for name in ("always_fails", "plain_always_fails"):
        assert f"FAILED test_again.py::test_{name}" in done.stdout, done.stdout
