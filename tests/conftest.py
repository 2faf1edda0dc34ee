"""Fixtures that more than one room's tests use."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long something takes says nothing on a machine that is busy.
settings.register_profile("ridgepole", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ridgepole")


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    """Tests see no rank, no colour wish and no run of the machine they happen to run on."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_PROCID", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def project(tmp_path):
    """Writes the files of a small project and gives its directory; values are file contents by name."""

    def write(**files: str) -> Path:
        for name, text in files.items():
            path = tmp_path / name.replace("__", ".")
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return write


@pytest.fixture
def ridgepole(tmp_path):
    """Calls the command line in a process of its own, in the test's directory."""

    def call(*arguments: str, cwd: Path = tmp_path, timeout: float = 60, **environment: str):
        return subprocess.run(
            [sys.executable, "-m", "ridgepole", *arguments],
            capture_output=True,
            text=True,
            cwd=cwd,
            timeout=timeout,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"} | environment,
        )

    return call


@pytest.fixture
def trials(record_property):
    """Counts the trials of a test that is marked `fault`; `fault_table.py` adds them up. Without it a test is one."""
    total = {"trials": 0, "kills": 0, "torn": 0, "worst": 0.0}

    def count(number: int = 1, *, kills: int = 0, torn: int = 0, worst: float = 0.0) -> None:
        total.update(trials=total["trials"] + number, kills=total["kills"] + kills, torn=total["torn"] + torn)
        total["worst"] = max(total["worst"], worst)

    yield count
    record_property("trials", total)


def pytest_collection_modifyitems(items):
    for item in items:
        for mark in item.iter_markers("fault"):
            item.user_properties.append(("fault", mark.args[0]))
            break


def pytest_configure():
    """Under `nohup`, or in the background of a shell, signals are ignored, and every child would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
