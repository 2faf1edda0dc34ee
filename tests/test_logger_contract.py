"""All our loggers pass the contract, and the contract sees what it is there for."""

import json
import math
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest

from ridgepole.loggers.figures.render import close, prepare
from ridgepole.metrics import MetricRecord, read_metrics
from ridgepole.permanences import BaseLoggerManager, BasicLogger, LoggerGroup, NullLogger
from ridgepole.testing import LoggerContract


def rows(directory):
    frame = read_metrics(directory)
    return [row for row in frame.select("step", "name", "value").iter_rows() if row[2] is not None]


class TestBasicLogger(LoggerContract):
    def make_logger(self, tmp_path):
        return BasicLogger(tmp_path / "log")

    def read_back(self, logger, tmp_path):
        return rows(tmp_path / "log")


class TestNullLogger(LoggerContract):
    def make_logger(self, tmp_path):
        return NullLogger()


class OwningGroup(LoggerGroup):
    """A group that owns its members' lifecycle, which otherwise is their owner's."""

    def initialize(self):
        for logger in self.loggers:
            logger.initialize()

    def cleanup(self):
        for logger in self.loggers:
            logger.cleanup()


class TestLoggerGroup(LoggerContract):
    def make_logger(self, tmp_path):
        return OwningGroup([NullLogger(), BasicLogger(tmp_path / "log")])

    def read_back(self, logger, tmp_path):
        return rows(tmp_path / "log")


class TestLoggerGroupOfOne(TestLoggerGroup):
    def make_logger(self, tmp_path):
        return OwningGroup([BasicLogger(tmp_path / "log")])


class LineLogger(BaseLoggerManager):
    """A minimal third-party logger: the reference page's one-argument form, a line a record."""

    def __init__(self, path):
        self.path = path

    def log_metrics(self, metrics):
        lines = [json.dumps([record.step, record.name, self.plain(record.value)]) for record in self.resolve(metrics)]
        with self.path.open("a") as file:
            file.write("".join(line + "\n" for line in lines))

    @staticmethod
    def plain(value):
        return value if isinstance(value, bool | int | float) else str(value)

    def log_figure(self, name, figure):
        prepare(figure)()
        close(figure)

    def cleanup(self):
        pass


class TestLineLogger(LoggerContract):
    kind = LineLogger

    def make_logger(self, tmp_path):
        return self.kind(tmp_path / "lines")

    def read_back(self, logger, tmp_path):
        path = tmp_path / "lines"
        return [tuple(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


# -- the contract itself ---------------------------------------------------------------------------------------------


class DropsLowerSteps(LineLogger):
    def log_metrics(self, metrics):
        records = self.resolve(metrics)
        self.highest = max([getattr(self, "highest", 0), *(record.step for record in records)])
        super().log_metrics(self.resolve([record for record in records if record.step >= self.highest]))


class MergesSteps(LineLogger):
    def log_metrics(self, metrics):
        for record in self.resolve(metrics):
            super().log_metrics(self.resolve([MetricRecord(record.name, record.value, step=record.step // 2)]))


class HalfLogs(LineLogger):
    def log_metrics(self, metrics):
        for name, value in metrics.items() if isinstance(metrics, dict) else [("x", metrics)]:
            super().log_metrics({name: value} if isinstance(metrics, dict) else value)


class LosesNan(LineLogger):
    @staticmethod
    def plain(value):
        return None if isinstance(value, float) and math.isnan(value) else value


class KeepsFigures(LineLogger):
    def log_figure(self, name, figure):
        prepare(figure)()


class NamesAsPaths(LineLogger):
    def log_figure(self, name, figure):
        super().log_figure(name, figure)
        if "\0" not in name and len(name) < 200:
            path = self.path.parent / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")


class FoldsCase(LineLogger):
    def log_metrics(self, metrics):
        records = self.resolve(metrics)
        for record in records:
            object.__setattr__(record, "name", record.name.lower())
        super().log_metrics(records)


class ChangesRecords(LineLogger):
    def log_metrics(self, metrics):
        records = self.resolve(metrics)
        super().log_metrics(records)
        records.clear()


class LogsTooLate(LineLogger):
    def cleanup(self):
        with self.path.open("a") as file:
            file.write('[0, "closed", 1.0]\n')


class ChangesSettings(LineLogger):
    def log_figure(self, name, figure):
        mpl.rcParams["axes.grid"] = not mpl.rcParams["axes.grid"]
        super().log_figure(name, figure)


class FailsInCompany(LineLogger):
    def log_rendered(self, name, rendered, *, step=None):
        raise RuntimeError("no bytes, please")


class OwnSteps(LineLogger):
    def log_metrics(self, metrics):
        self.count = getattr(self, "count", -1) + 1
        records = self.resolve(metrics)
        super().log_metrics(self.resolve([MetricRecord(r.name, r.value, step=self.count) for r in records]))


class BadState(LineLogger):
    def get_state(self):
        return {"path": self.path}


class OneForAll(LineLogger):
    def __init__(self, path):
        super().__init__(Path(path).parents[1] / "shared" if path.parent.name in ("one", "two") else path)


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (DropsLowerSteps, "test_steps"),
        (MergesSteps, "test_steps"),
        (OwnSteps, "test_step_policies"),
        (OwnSteps, "test_resolved_records_are_taken_as_they_are"),
        (ChangesRecords, "test_resolved_records_are_taken_as_they_are"),
        (HalfLogs, "test_refusals_leave_everything_as_it_was"),
        (LosesNan, "test_values_that_are_not_finite"),
        (KeepsFigures, "test_figures"),
        (NamesAsPaths, "test_evil_names"),
        (FoldsCase, "test_evil_names"),
        (LogsTooLate, "test_cleanup_twice"),
        (ChangesSettings, "test_matplotlib_stays_as_it_is"),
        (FailsInCompany, "test_in_a_group"),
        (BadState, "test_get_state"),
        (OneForAll, "test_two_at_once"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_the_contract_sees(kind, test, tmp_path, monkeypatch):
    contract = TestLineLogger()
    contract.kind = kind
    getattr(TestLineLogger(), test)(_made(tmp_path / "good"))
    with mpl.rc_context(), pytest.raises((AssertionError, TypeError, OSError)):
        getattr(contract, test)(_made(tmp_path / "bad"))
    if kind is KeepsFigures:
        mpl.pyplot.close("all")


def _made(path):
    path.mkdir()
    return path


def test_a_contract_without_a_logger_says_what_is_missing(tmp_path):
    with pytest.raises(NotImplementedError, match=r"LoggerContract must override make_logger"):
        LoggerContract().test_lifecycle(tmp_path)


def test_importing_the_contract_needs_neither_pytest_nor_anything_heavy():
    heavy = ["pytest", "_pytest", "numpy", "matplotlib", "polars", "torch", "PIL"]
    code = f"import ridgepole.testing, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
