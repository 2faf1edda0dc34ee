"""Fixtures that more than one room's tests use."""

import gc
import multiprocessing.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fork_server import PLAIN, ForkServer
from hypothesis import HealthCheck, settings

import isolation
from quick_python import REAL_POPEN, SPAWN, Forks
from starters import Starters

CORE = (
    "ridgepole.cli.run",
    "ridgepole.cli.check",
    "ridgepole.cli.resume",
    "ridgepole.loggers.local.logger",
    "ridgepole.progress",
    "ridgepole.checkpoint.store",
    "ridgepole.pipeline.spec.compile",
    "ridgepole.devices.choose",
    "ridgepole.devices.device",
    "ridgepole.loggers.composite",
    "ridgepole.progress.injection",
    "ridgepole.progress.manager",
    "pydantic.dataclasses",
    "numpy.random",
    "psutil",
    "rich.live",
)
TORCH = (
    "torch",
    "torch.utils.data",
    "torch._dynamo",  # the first optimiser imports it
    "sklearn.datasets",
    "sklearn.model_selection",
    "ridgepole.data.loader",
    "ridgepole.metrics.confusion",
    "matplotlib.backends.backend_agg",
    "polars",
    "seaborn",
)

# How long something takes says nothing on a machine that is busy.
settings.register_profile("ridgepole", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ridgepole")

# What changes what Ridgepole, Python or a tool that tests call does, and says nothing about where they are installed.
OUTSIDE = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT"),
    *("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES"),
    *("PYTHONWARNINGS", "PYTHONOPTIMIZE", "PYTHONSAFEPATH", "PYTHONIOENCODING", "PYTHONUNBUFFERED", "PYTHONDEVMODE"),
    *(
        "RIDGEPOLE_DEVICE_LEASE",
        "RIDGEPOLE_DEVICE_WAIT",
        "RIDGEPOLE_JOIN_SECONDS",
        "RIDGEPOLE_RUNS_DIR",
        "RIDGEPOLE_LAUNCH",
        "RIDGEPOLE_ONE_CARD",
        "RIDGEPOLE_JOB",
    ),
    *("RIDGEPOLE_LEASE_DIR", "OMP_NUM_THREADS", "NETRC", "MPLBACKEND"),
)
OUTSIDE_PREFIXES = (
    *("SLURM_", "SUBMITIT_", "OMPI_", "PMI_", "PMIX_", "TORCHELASTIC_", "PET_", "WANDB_", "RAY_", "GIT_", "PG"),
)


@pytest.fixture(autouse=True)
def _matplotlib_stays_as_it_was():
    """Close what a test has left in pyplot, and undo the settings that it, or a library that it calls, has changed."""
    mpl = sys.modules.get("matplotlib")
    before = dict.copy(mpl.rcParams) if mpl else None
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")
    if mpl := sys.modules.get("matplotlib"):
        before = dict.copy(mpl.rcParamsOrig) if before is None else before
        dict.update(mpl.rcParams, {key: value for key, value in before.items() if key != "backend"})


@pytest.fixture
def project(tmp_path):
    """Writes the files of a small project and gives its directory; values are file contents by name."""

    def write(**files: str) -> Path:
        for name, text in files.items():
            path = tmp_path / name.replace("__", ".")
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return write


@pytest.fixture(scope="session")
def command_server(tmp_path_factory):
    """Forks `ridgepole` commands; see `fork_server.py`."""
    made = ForkServer(tmp_path_factory.mktemp("server"), *CORE)
    yield made
    made.close()


@pytest.fixture(scope="session")
def torch_server(tmp_path_factory):
    """The same for runs that need torch and scikit-learn, whose imports take seconds."""
    made = ForkServer(tmp_path_factory.mktemp("server"), *CORE, *TORCH)
    yield made
    made.close()


@pytest.fixture
def ridgepole(command_server, tmp_path):
    """Calls the command line in a process of its own, in the test's directory.

    The process is forked from one that has imported the core; `fresh_ridgepole` starts an interpreter.
    """

    def call(*arguments: str, cwd: Path = tmp_path, timeout: float = 60, **environment: str):
        return command_server.call(*arguments, cwd=cwd, timeout=timeout, **environment)

    return call


@pytest.fixture
def fresh_ridgepole(tmp_path):
    """Does the same in an interpreter that is started for it."""

    def call(*arguments: str, cwd: Path = tmp_path, timeout: float = 60, **environment: str):
        return subprocess.run(
            [sys.executable, "-m", "ridgepole", *arguments],
            capture_output=True,
            text=True,
            cwd=cwd,
            timeout=timeout,
            env=os.environ | PLAIN | environment,
        )

    return call


@pytest.fixture(scope="session")
def python_forks():
    """Starts interpreters quickly; None where that is not possible."""
    if sys.platform != "linux":
        yield None
        return
    forks = Forks.started()
    yield forks
    forks.close()


@pytest.fixture
def quick_python(python_forks, monkeypatch):
    """Has interpreters that the test and its processes start forked from one that has imported what they need."""
    if python_forks is not None:
        monkeypatch.setattr(subprocess, "Popen", python_forks.popen)
        monkeypatch.setattr(multiprocessing.util, "spawnv_passfds", python_forks.spawn)


@pytest.fixture
def fresh_python(monkeypatch):
    """Has interpreters started as users' are, in a test whose neighbours have them forked."""
    monkeypatch.setattr(subprocess, "Popen", REAL_POPEN)
    monkeypatch.setattr(multiprocessing.util, "spawnv_passfds", SPAWN)


@pytest.fixture
def tally(record_property):
    """Counts the trials of a test that is marked `fault`; `fault_table.py` adds them up. Without it a test is one."""
    total = {"trials": 0, "kills": 0, "torn": 0, "worst": 0.0}

    def count(number: int = 1, *, kills: int = 0, torn: int = 0, worst: float = 0.0) -> None:
        total.update(trials=total["trials"] + number, kills=total["kills"] + kills, torn=total["torn"] + torn)
        total["worst"] = max(total["worst"], worst)

    yield count
    record_property("trials", total)


def pytest_collection_modifyitems(config, items):
    """Tells which tests start processes, and lets those try once more: a busy machine may hold a process up.

    The run names each test that needed it ("R", "1 rerun"). The full torture runs don't try again.
    """
    starters = Starters()
    again = config.pluginmanager.has_plugin("rerunfailures") and os.environ.get("RIDGEPOLE_TORTURE") != "1"
    for item in items:
        if starters.in_test(item):
            item.add_marker("process")
        if again and (item.get_closest_marker("process") or item.get_closest_marker("isolated")):
            item.add_marker(pytest.mark.flaky(reruns=1))
        for mark in item.iter_markers("fault"):
            item.user_properties.append(("fault", mark.args[0]))
            break


def pytest_collection_finish():
    """Modules and tests stay to the end: a collection in a test need not go through all of them again."""
    gc.collect()
    gc.freeze()


def pytest_configure(config):
    """Takes away what the shell that started the tests would hand on to them and to every child.

    Under `nohup`, or in the background of a shell, signals are ignored. In a job, under a launcher or in a git hook
    there are variables that make a test's run another one.
    """
    for name in [name for name in os.environ if name in OUTSIDE or name.startswith(OUTSIDE_PREFIXES)]:
        if name != "SLURM_CONF":  # where a cluster is, for the tests of one
            del os.environ[name]
    os.environ |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}  # no signed commits, no hooks
    os.environ["TERM"] = "xterm"  # a dumb terminal gets no bars
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    isolation.register(config)
