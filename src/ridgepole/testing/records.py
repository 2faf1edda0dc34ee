"""The part of the logger contract about lifecycle, steps and values, and its helpers."""

from __future__ import annotations

import contextlib
import inspect
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgepole.errors import LifecycleError
from ridgepole.loggers.base import BaseLoggerManager
from ridgepole.metrics.record import MetricRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Values = Iterable[tuple[int, str, Any]]

EVIL_NAMES: tuple[str, ...] = (
    "../outside",
    "/absolute",
    "a/b/../../c",
    "with\0nul",
    "line\nbreak",
    "🚀 emoji",
    "n" * 300,
    "Loss",
    "loss",
    "a b",
    "a.b",
    "%s {x} $HOME",
)
"""Names that a logger must treat as data."""

_REFUSED: tuple[tuple[Any, type[Exception]], ...] = (
    ({"ok": 1.0, 7: 1.0}, TypeError),
    ({"ok": 1.0, "": 1.0}, ValueError),
    ({"a": {"b": 1.0}, "a/b": 2.0}, ValueError),
    ([{"ok": 1.0}, MetricRecord("", 1.0)], ValueError),
    (MetricRecord("bad", 1.0, step=-1), ValueError),
    ([1.0], TypeError),
    (3.5, TypeError),
)

_NOT_NUMBERS: tuple[Any, ...] = (None, object(), {"inside": b"bytes"}, 1j, [1.0, "text"], {1, 2}, 2**70, "\ud800")


class RecordContract:
    """Tests of lifecycle, steps and values; see `LoggerContract`."""

    def make_logger(self, tmp_path: Path) -> BaseLoggerManager:
        """Make a logger that is neither initialized nor used; some tests call this several times.

        Args:
            tmp_path: An existing directory that is the logger's own.
        """
        raise NotImplementedError(f"{type(self).__name__} must override make_logger(tmp_path)")

    def read_back(self, logger: BaseLoggerManager, tmp_path: Path) -> Values | None:
        """Read what arrived, so that the tests can check it.

        Args:
            logger: A logger that was cleaned up.
            tmp_path: The directory that `make_logger` was given for it.

        Returns:
            `(step, name, value)` of every logged number, in any order, NaN and infinities as
            floats; other values may be left out. None if the backend can't be read.
        """
        del logger, tmp_path
        return None

    # -- lifecycle ---------------------------------------------------------------------------------

    def test_lifecycle(self, tmp_path: Path) -> None:
        """Be ready inside `with`, and not before or after."""
        logger = self.make_logger(tmp_path)
        assert isinstance(logger, BaseLoggerManager), f"{type(logger).__name__} is not a BaseLoggerManager"
        assert not logger.is_initialized(), "a constructed logger is not initialised yet"
        with logger:
            assert logger.is_initialized(), "initialize() must leave it ready"
            logger.validate()
            logger.log_metrics({"a": 1.0})
            logger.checkpoint()
            logger.flush()
            logger.flush(durable=True)
        assert not logger.is_initialized(), "cleanup() must leave it closed"

    def test_used_without_initialize(self, tmp_path: Path) -> None:
        """Log without `initialize`, as a plain script does."""
        logger = self.make_logger(tmp_path)
        try:
            logger.log_metrics({"a": 1.0})
        finally:
            logger.cleanup()
        self._assert_read_back(logger, tmp_path, [(0, "a", 1.0)])

    def test_cleanup_of_what_was_never_used(self, tmp_path: Path) -> None:
        """Clean up a logger that never ran, as after a failure elsewhere."""
        self.make_logger(tmp_path).cleanup()

    def test_cleanup_twice(self, tmp_path: Path) -> None:
        """Do nothing in a second cleanup."""
        logger = self.make_logger(tmp_path)
        with logger:
            logger.log_metrics({"a": 1.0})
        logger.cleanup()
        self._assert_read_back(logger, tmp_path, [(0, "a", 1.0)])

    def test_use_after_cleanup(self, tmp_path: Path) -> None:
        """Refuse or drop late records, and keep what was logged in time."""
        logger = self.make_logger(tmp_path)
        with logger:
            logger.log_metrics({"a": 1.0})
        with contextlib.suppress(Exception):
            logger.log_metrics({"late": 2.0})
        _must_raise(LifecycleError, logger.initialize, "initialize() after cleanup()")
        self._assert_read_back(logger, tmp_path, [(0, "a", 1.0)], among=("a",))

    def test_get_state(self, tmp_path: Path) -> None:
        """Return plain values at any time, with `type` and `initialized`."""
        logger = self.make_logger(tmp_path)
        states = [logger.get_state()]
        with logger:
            logger.log_metrics({"a": 1.0})
            states.append(logger.get_state())
        states.append(logger.get_state())
        for state, ready in zip(states, (False, True, False), strict=True):
            assert state["type"] == type(logger).__name__, f"get_state() must name the class: {state}"
            assert state["initialized"] is ready, f"get_state() says initialized={state['initialized']}: {state}"
            json.dumps(state)

    # -- steps -------------------------------------------------------------------------------------

    def test_steps(self, tmp_path: Path) -> None:
        """Count calls from 0; keep explicit steps in any order; drop nothing."""
        with self.make_logger(tmp_path) as logger:
            self._assert_steps(logger, 0, 0)
            logger.log_metrics({"a": 0.0, "b": 0.5})
            self._assert_steps(logger, 1, 0)
            logger.log_metrics({"a": 1.0})
            self._assert_steps(logger, 2, 1)
            _log(logger, {"a": 2.0}, step=10)
            self._assert_steps(logger, 11, 10)
            _log(logger, {"a": 3.0}, step=4)
            self._assert_steps(logger, 11, 4)
            _log(logger, {"a": 4.0}, step=4)
            logger.log_metrics({"a": 5.0})
            self._assert_steps(logger, 12, 11)
        values = [(0, "a", 0.0), (0, "b", 0.5), (1, "a", 1.0), (10, "a", 2.0), (4, "a", 3.0), (4, "a", 4.0)]
        self._assert_read_back(logger, tmp_path, [*values, (11, "a", 5.0)])

    def test_step_policies(self, tmp_path: Path) -> None:
        """Give `reuse_last` records the last step, and do not advance."""
        validation = MetricRecord("validation", 0.5, step_policy="reuse_last")
        with self.make_logger(tmp_path) as logger:
            logger.log_metrics(validation)
            self._assert_steps(logger, 0, 0)
            logger.log_metrics([{"train": 1.0}, MetricRecord("also", 2.0, "pattern", "train", "train")])
            logger.log_metrics({"train": 3.0})
            logger.log_metrics([validation])
            self._assert_steps(logger, 2, 1)
            logger.log_metrics(MetricRecord("own", 4.0, step=7))
            self._assert_steps(logger, 8, 7)
        values = [(0, "validation", 0.5), (0, "train", 1.0), (0, "also", 2.0), (1, "train", 3.0)]
        self._assert_read_back(logger, tmp_path, [*values, (1, "validation", 0.5), (7, "own", 4.0)])

    def test_state_is_restored(self, tmp_path: Path) -> None:
        """Resume from the steps of a checkpoint; return to the beginning from an empty state."""
        with self.make_logger(tmp_path) as logger:
            logger.log_metrics({"a": 0.0})
            logger.log_metrics({"a": 1.0})
            state = json.loads(json.dumps(logger.state_dict()))
            logger.log_metrics({"a": 2.0})
            logger.load_state_dict(state)
            self._assert_steps(logger, 2, 1)
            logger.log_metrics({"a": 3.0})
            self._assert_steps(logger, 3, 2)
            logger.load_state_dict({})
            self._assert_steps(logger, 0, 0)

    def test_resolved_records_are_taken_as_they_are(self, tmp_path: Path) -> None:
        """Keep the steps that a group has given its records."""
        from ridgepole.loggers.composite import NullLogger

        lead = NullLogger()
        with self.make_logger(tmp_path) as logger:
            for step in (3, 1):
                records = lead.resolve([{"x": {"y": 0.5}}, MetricRecord("z", 2.0)], step)
                before = list(records)
                logger.log_metrics(records)
                assert list(records) == before, "the records are other loggers' too, and must not be changed"
            self._assert_steps(logger, 4, 1)
        self._assert_read_back(logger, tmp_path, [(3, "x/y", 0.5), (3, "z", 2.0), (1, "x/y", 0.5), (1, "z", 2.0)])

    # -- values ------------------------------------------------------------------------------------

    def test_nested(self, tmp_path: Path) -> None:
        """Join nested names with `/`, and leave the argument unchanged."""
        metrics = {"lr": {"head": {"a": 0.25}, "body": 0.5}, "loss": 1}
        before = json.dumps(metrics)
        with self.make_logger(tmp_path) as logger:
            logger.log_metrics(metrics)
        assert json.dumps(metrics) == before, "log_metrics changed what it was given"
        self._assert_read_back(logger, tmp_path, [(0, "lr/head/a", 0.25), (0, "lr/body", 0.5), (0, "loss", 1.0)])

    def test_values_of_every_kind(self, tmp_path: Path) -> None:
        """Accept every kind of value that the interface lists; numbers arrive."""
        pytest = import_pytest()
        np = pytest.importorskip("numpy")
        with self.make_logger(tmp_path) as logger:
            logger.log_metrics({"int": 2, "large": 2**62, "bool": True, "text": "word", "empty": ""})
            logger.log_metrics(
                {"f32": np.float32(0.5), "f64": np.float64(0.25), "i8": np.int8(-3), "zero_d": np.array(4)}
            )
            logger.log_metrics({"short": [1, 2.5, math.nan], "tuple": (1, 2), "many": np.arange(1000), "none": {}})
        self._assert_read_back(
            logger,
            tmp_path,
            [(0, "int", 2.0), (1, "f32", 0.5), (1, "f64", 0.25), (1, "i8", -3.0), (1, "zero_d", 4.0)],
            among=("int", "f32", "f64", "i8", "zero_d"),
        )

    def test_values_that_are_not_finite(self, tmp_path: Path) -> None:
        """Keep NaN and infinities: a diverging loss must be seen."""
        with self.make_logger(tmp_path) as logger:
            logger.log_metrics({"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.0})
            logger.log_metrics({"a": 2.0})
        values = [(0, "a", math.nan), (0, "b", math.inf), (0, "c", -math.inf), (0, "d", 1.0), (1, "a", 2.0)]
        self._assert_read_back(logger, tmp_path, values)

    def test_any_value_is_taken(self, tmp_path: Path) -> None:
        """Log what is not a number as text, and the numbers beside it as ever; never raise."""
        with self.make_logger(tmp_path) as logger:
            for value in _NOT_NUMBERS:
                logger.log_metrics({"ok": 1.0, "other": value})
            self._assert_steps(logger, len(_NOT_NUMBERS), len(_NOT_NUMBERS) - 1)
        wanted = [(step, "ok", 1.0) for step in range(len(_NOT_NUMBERS))]
        self._assert_read_back(logger, tmp_path, wanted, among=("ok",))

    def test_refusals_leave_everything_as_it_was(self, tmp_path: Path) -> None:
        """Raise a TypeError or ValueError for an impossible call, and log nothing of it."""
        with self.make_logger(tmp_path) as logger:
            logger.log_metrics({"a": 1.0})
            for metrics, kind in _REFUSED:
                _must_raise(kind, lambda: logger.log_metrics(metrics), f"log_metrics({metrics!r})")  # noqa: B023
                self._assert_steps(logger, 1, 0)
            _must_raise(ValueError, lambda: _log(logger, {"a": 1.0}, step=-1), "a negative step")
            logger.log_metrics({"a": 2.0})
            self._assert_steps(logger, 2, 1)
        self._assert_read_back(logger, tmp_path, [(0, "a", 1.0), (1, "a", 2.0)])

    def test_evil_names(self, tmp_path: Path) -> None:
        """Keep names apart and unchanged, and never use them as paths."""
        np = import_pytest().importorskip("numpy")
        own = tmp_path / "own"
        own.mkdir()
        around = _tree(tmp_path, but=own)
        with self.make_logger(own) as logger:
            logger.log_metrics({name: float(index) for index, name in enumerate(EVIL_NAMES)})
            for name in EVIL_NAMES:
                logger.log_figure(name, np.zeros((4, 4)))
        assert _tree(tmp_path, but=own) == around, "a name led to a file outside the logger's directory"
        self._assert_read_back(logger, own, [(0, name, float(index)) for index, name in enumerate(EVIL_NAMES)])

    # -- helpers -----------------------------------------------------------------------------------

    def _log_sample(self, logger: BaseLoggerManager) -> None:
        logger.log_metrics({"a": 1.0, "nested": {"b": 2.0}})
        logger.log_metrics(MetricRecord("validation", 0.5, step_policy="reuse_last"))
        logger.log_metrics([{"a": 3.0}], step=5)
        with contextlib.suppress(ImportError):
            logger.log_figure("curve", free_figure())
        logger.info("logged %s", "a little")

    @staticmethod
    def _assert_steps(logger: BaseLoggerManager, global_step: int, last_step: int) -> None:
        assert logger.global_step == global_step, f"global_step is {logger.global_step}, not {global_step}"
        assert logger.last_step == last_step, f"last_step is {logger.last_step}, not {last_step}"

    def _read(self, logger: BaseLoggerManager, tmp_path: Path) -> list[tuple[int, str, float]] | None:
        found = self.read_back(logger, tmp_path)
        if found is None:
            return None
        return [(step, name, float(value)) for step, name, value in found if isinstance(value, bool | int | float)]

    def _assert_read_back(
        self, logger: BaseLoggerManager, tmp_path: Path, wanted: Values, among: Sequence[str] | None = None
    ) -> None:
        found = self._read(logger, tmp_path)
        if found is None:
            return
        # A run that takes seconds, on a busy machine, has system metrics too
        found = [value for value in found if not value[1].startswith("system/")]
        shown = [value for value in found if among is None or value[1] in among]
        # as text: NaN is not equal to itself
        assert sorted(map(repr, shown)) == sorted(map(repr, wanted)), f"logged {wanted}, read back {shown}"


SAMPLE: tuple[tuple[int, str, float], ...] = (
    (0, "a", 1.0),
    (0, "nested/b", 2.0),
    (0, "validation", 0.5),
    (5, "a", 3.0),
)


def _log(logger: BaseLoggerManager, metrics: Any, step: int) -> None:
    """Log at an explicit step, also with a logger whose `log_metrics` takes no step."""
    if "step" in inspect.signature(logger.log_metrics).parameters:
        logger.log_metrics(metrics, step=step)
    else:
        logger.log_metrics(logger.resolve(metrics, step))


def _must_raise(kind: type[Exception], call: Callable[[], object], what: str) -> None:
    with contextlib.suppress(kind):
        call()
        raise AssertionError(f"{what} must raise a {kind.__name__}")


def free_figure() -> Figure:
    """Make a figure that pyplot does not know."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1))
    figure.add_subplot().plot([1, 2])
    return figure


def _tree(directory: Path, but: Path) -> set[Path]:
    """List the files in and beside a directory, apart from one subtree."""
    below = {path for path in directory.rglob("*") if but not in (path, *path.parents)}
    return below | set(directory.parent.iterdir())


def import_pytest() -> Any:
    """Import pytest, which importing this module must not need."""
    import pytest

    return pytest
