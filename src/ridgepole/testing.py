"""Contract tests that a logger from outside inherits, so that it behaves in a run as ours do.

```python
from ridgepole.testing import LoggerContract


class TestMyLogger(LoggerContract):
    def make_logger(self, tmp_path):
        return MyLogger(tmp_path)
```

pytest finds the tests in the subclass. Importing this module needs neither pytest nor anything heavy.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgepole.errors import LifecycleError
from ridgepole.metrics.record import MetricRecord
from ridgepole.permanences.loggers.base import BaseLoggerManager

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
"""Names that are data, and must stay so."""

_UNLOGGABLE: tuple[tuple[Any, type[Exception]], ...] = (
    ({"ok": 1.0, "bad": None}, TypeError),
    ({"ok": 1.0, "bad": object()}, TypeError),
    ({"ok": 1.0, "nested": {"bad": b"bytes"}}, TypeError),
    ({"ok": 1.0, "bad": 1j}, TypeError),
    ({"ok": 1.0, 7: 1.0}, TypeError),
    ({"ok": 1.0, "bad": [1.0, "text"]}, TypeError),
    ({"a": {"b": 1.0}, "a/b": 2.0}, ValueError),
    ([{"ok": 1.0}, MetricRecord("bad", None)], TypeError),
    (MetricRecord("bad", 1.0, step=-1), ValueError),
    (3.5, TypeError),
)


class LoggerContract:
    """What every logger must do, as tests. Override `make_logger`, and `read_back` where the backend can be read.

    A test that makes no sense for a logger is left out with `test_name = None` in the subclass, which says so in plain
    sight. The logger may take `step` in `log_metrics` or not.
    """

    # -- what a subclass writes --------------------------------------------------------------------------------------

    def make_logger(self, tmp_path: Path) -> BaseLoggerManager:
        """Makes a logger, neither initialised nor used; called several times in some tests.

        Args:
            tmp_path: An existing directory that is the logger's own.

        Returns:
            The logger.
        """
        raise NotImplementedError(f"{type(self).__name__} must override make_logger(tmp_path)")

    def read_back(self, logger: BaseLoggerManager, tmp_path: Path) -> Values | None:
        """Reads what arrived, so that the tests can look at more than the absence of errors.

        Args:
            logger: A logger that was cleaned up.
            tmp_path: What `make_logger` was given for it.

        Returns:
            `(step, name, value)` of every number that was logged, in any order, NaN and the infinities as floats; other
            values may be left out. None where the backend can't be read.
        """
        del logger, tmp_path
        return None

    # -- lifecycle ---------------------------------------------------------------------------------------------------

    def test_lifecycle(self, tmp_path: Path) -> None:
        """Ready inside `with`, and not before or after."""
        logger = self.make_logger(tmp_path)
        assert isinstance(logger, BaseLoggerManager), f"{type(logger).__name__} is no BaseLoggerManager"
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
        """A plain script may log at once."""
        logger = self.make_logger(tmp_path)
        try:
            logger.log_metrics({"a": 1.0})
        finally:
            logger.cleanup()
        self._came_back(logger, tmp_path, [(0, "a", 1.0)])

    def test_cleanup_of_what_was_never_used(self, tmp_path: Path) -> None:
        """After a failure elsewhere, a logger is cleaned up that never ran."""
        self.make_logger(tmp_path).cleanup()

    def test_cleanup_twice(self, tmp_path: Path) -> None:
        """A second cleanup does nothing."""
        logger = self.make_logger(tmp_path)
        with logger:
            logger.log_metrics({"a": 1.0})
        logger.cleanup()
        self._came_back(logger, tmp_path, [(0, "a", 1.0)])

    def test_use_after_cleanup(self, tmp_path: Path) -> None:
        """What comes too late is refused or dropped, and harms nothing that was logged in time."""
        logger = self.make_logger(tmp_path)
        with logger:
            logger.log_metrics({"a": 1.0})
        with contextlib.suppress(Exception):
            logger.log_metrics({"late": 2.0})
        with contextlib.suppress(LifecycleError):
            logger.initialize()
            raise AssertionError("initialize() after cleanup() must be refused with a LifecycleError")
        self._came_back(logger, tmp_path, [(0, "a", 1.0)], among=("a",))

    def test_get_state(self, tmp_path: Path) -> None:
        """Plain values at any time, with `type` and `initialized`."""
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

    # -- steps -------------------------------------------------------------------------------------------------------

    def test_steps(self, tmp_path: Path) -> None:
        """Counted from 0, a call a step; explicit ones as given, in any order; nothing is dropped."""
        with self._logger(tmp_path) as logger:
            self._stands(logger, 0, 0)
            logger.log_metrics({"a": 0.0, "b": 0.5})
            self._stands(logger, 1, 0)
            logger.log_metrics({"a": 1.0})
            self._stands(logger, 2, 1)
            _log(logger, {"a": 2.0}, step=10)
            self._stands(logger, 11, 10)
            _log(logger, {"a": 3.0}, step=4)
            self._stands(logger, 11, 4)
            _log(logger, {"a": 4.0}, step=4)
            logger.log_metrics({"a": 5.0})
            self._stands(logger, 12, 11)
        values = [(0, "a", 0.0), (0, "b", 0.5), (1, "a", 1.0), (10, "a", 2.0), (4, "a", 3.0), (4, "a", 4.0)]
        self._came_back(logger, tmp_path, [*values, (11, "a", 5.0)])

    def test_step_policies(self, tmp_path: Path) -> None:
        """Records that reuse the last step belong to it and move nothing."""
        validation = MetricRecord("validation", 0.5, step_policy="reuse_last")
        with self._logger(tmp_path) as logger:
            logger.log_metrics(validation)
            self._stands(logger, 0, 0)
            logger.log_metrics([{"train": 1.0}, MetricRecord("also", 2.0, "pattern", "train", "train")])
            logger.log_metrics({"train": 3.0})
            logger.log_metrics([validation])
            self._stands(logger, 2, 1)
            logger.log_metrics(MetricRecord("own", 4.0, step=7))
            self._stands(logger, 8, 7)
        values = [(0, "validation", 0.5), (0, "train", 1.0), (0, "also", 2.0), (1, "train", 3.0)]
        self._came_back(logger, tmp_path, [*values, (1, "validation", 0.5), (7, "own", 4.0)])

    def test_a_state_is_gone_on_from(self, tmp_path: Path) -> None:
        """A resumed run's logger stands where the checkpoint's stood; an empty state is that of the beginning."""
        with self._logger(tmp_path) as logger:
            logger.log_metrics({"a": 0.0})
            logger.log_metrics({"a": 1.0})
            state = json.loads(json.dumps(logger.state_dict()))
            logger.log_metrics({"a": 2.0})
            logger.load_state_dict(state)
            self._stands(logger, 2, 1)
            logger.log_metrics({"a": 3.0})
            self._stands(logger, 3, 2)
            logger.load_state_dict({})
            self._stands(logger, 0, 0)

    def test_resolved_records_are_taken_as_they_are(self, tmp_path: Path) -> None:
        """In a run with several loggers, steps are given once for all."""
        from ridgepole.permanences.loggers.group import NullLogger

        lead = NullLogger()
        with self._logger(tmp_path) as logger:
            for step in (3, 1):
                records = lead.resolve([{"x": {"y": 0.5}}, MetricRecord("z", 2.0)], step)
                before = list(records)
                logger.log_metrics(records)
                assert list(records) == before, "the records are other loggers' too, and must not be changed"
            self._stands(logger, 4, 1)
        self._came_back(logger, tmp_path, [(3, "x/y", 0.5), (3, "z", 2.0), (1, "x/y", 0.5), (1, "z", 2.0)])

    # -- values ------------------------------------------------------------------------------------------------------

    def test_nested(self, tmp_path: Path) -> None:
        """Nested names are joined with `/`; what was given is left as it is."""
        metrics = {"lr": {"head": {"a": 0.25}, "body": 0.5}, "loss": 1}
        before = json.dumps(metrics)
        with self._logger(tmp_path) as logger:
            logger.log_metrics(metrics)
        assert json.dumps(metrics) == before, "log_metrics changed what it was given"
        self._came_back(logger, tmp_path, [(0, "lr/head/a", 0.25), (0, "lr/body", 0.5), (0, "loss", 1.0)])

    def test_values_of_every_kind(self, tmp_path: Path) -> None:
        """Everything that the interface takes, and the numbers among it arrive."""
        pytest = _pytest()
        np = pytest.importorskip("numpy")
        with self._logger(tmp_path) as logger:
            logger.log_metrics({"int": 2, "large": 2**62, "bool": True, "text": "word", "empty": ""})
            logger.log_metrics(
                {"f32": np.float32(0.5), "f64": np.float64(0.25), "i8": np.int8(-3), "zero_d": np.array(4)}
            )
            logger.log_metrics({"short": [1, 2.5, math.nan], "tuple": (1, 2), "many": np.arange(1000), "none": {}})
        self._came_back(
            logger,
            tmp_path,
            [(0, "int", 2.0), (1, "f32", 0.5), (1, "f64", 0.25), (1, "i8", -3.0), (1, "zero_d", 4.0)],
            among=("int", "f32", "f64", "i8", "zero_d"),
        )

    def test_values_that_are_not_finite(self, tmp_path: Path) -> None:
        """A diverging loss is seen, not lost."""
        with self._logger(tmp_path) as logger:
            logger.log_metrics({"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.0})
            logger.log_metrics({"a": 2.0})
        values = [(0, "a", math.nan), (0, "b", math.inf), (0, "c", -math.inf), (0, "d", 1.0), (1, "a", 2.0)]
        self._came_back(logger, tmp_path, values)

    def test_refusals_leave_everything_as_it_was(self, tmp_path: Path) -> None:
        """What can't be logged is a TypeError or ValueError; nothing of that call is logged and the step stays."""
        with self._logger(tmp_path) as logger:
            logger.log_metrics({"a": 1.0})
            for metrics, kind in _UNLOGGABLE:
                with contextlib.suppress(kind):
                    logger.log_metrics(metrics)
                    raise AssertionError(f"log_metrics({metrics!r}) must raise a {kind.__name__}")
                self._stands(logger, 1, 0)
            with contextlib.suppress(ValueError):
                _log(logger, {"a": 1.0}, step=-1)
                raise AssertionError("a negative step must raise a ValueError")
            logger.log_metrics({"a": 2.0})
            self._stands(logger, 2, 1)
        self._came_back(logger, tmp_path, [(0, "a", 1.0), (1, "a", 2.0)])

    def test_evil_names(self, tmp_path: Path) -> None:
        """Names are kept apart, reach the backend as they are, and never become paths."""
        np = _pytest().importorskip("numpy")
        own = tmp_path / "own"
        own.mkdir()
        around = _tree(tmp_path, but=own)
        with self._logger(own) as logger:
            logger.log_metrics({name: float(index) for index, name in enumerate(EVIL_NAMES)})
            for name in EVIL_NAMES:
                logger.log_figure(name, np.zeros((4, 4)))
        assert _tree(tmp_path, but=own) == around, "a name led to a file outside the logger's directory"
        self._came_back(logger, own, [(0, name, float(index)) for index, name in enumerate(EVIL_NAMES)])

    # -- threads and neighbours --------------------------------------------------------------------------------------

    def test_many_threads(self, tmp_path: Path) -> None:
        """No record is lost, no step given twice."""
        threads, calls = 8, 40
        errors: list[BaseException] = []
        start = threading.Barrier(threads)

        def work(logger: BaseLoggerManager, number: int) -> None:
            try:
                start.wait(30)
                for call in range(calls):
                    logger.log_metrics({f"thread{number}": float(call)})
            except BaseException as error:  # noqa: BLE001 - shown below, in the thread that tests
                errors.append(error)

        with self._logger(tmp_path) as logger:
            workers = [threading.Thread(target=work, args=(logger, number)) for number in range(threads)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            assert not errors, f"logging from several threads raised {errors[0]!r}"
            assert logger.global_step == threads * calls, "a step was given twice"
        found = self._read(logger, tmp_path)
        if found is not None:
            assert sorted(step for step, *_ in found) == list(range(threads * calls)), "records were lost"
            names = {f"thread{number}": [float(call) for call in range(calls)] for number in range(threads)}
            for name, values in names.items():
                assert [value for _, at, value in sorted(found) if at == name] == values, f"{name} is out of order"

    def test_two_at_once(self, tmp_path: Path) -> None:
        """Two loggers of one kind have nothing in common."""
        homes = [tmp_path / "one", tmp_path / "two"]
        for home in homes:
            home.mkdir()
        with self._logger(homes[0]) as one, self._logger(homes[1]) as two:
            one.log_metrics({"a": 1.0})
            two.log_metrics({"b": 2.0})
            two.log_metrics({"b": 3.0})
            self._stands(one, 1, 0)
            self._stands(two, 2, 1)
        self._came_back(one, homes[0], [(0, "a", 1.0)])
        self._came_back(two, homes[1], [(0, "b", 2.0), (1, "b", 3.0)])

    # -- figures and other media -------------------------------------------------------------------------------------

    def test_figures(self, tmp_path: Path) -> None:
        """Figures and arrays are taken, belong to the last step, and are closed."""
        pytest = _pytest()
        np = pytest.importorskip("numpy")
        pyplot = pytest.importorskip("matplotlib.pyplot")
        open_before = pyplot.get_fignums()
        with self._logger(tmp_path) as logger:
            logger.log_metrics({"a": 1.0})
            for _ in range(3):
                figure = pyplot.figure(figsize=(1, 1))
                figure.add_subplot().plot([1, 2])
                logger.log_figure("curve", figure)
            logger.log_figure("free", _free_figure())
            logger.log_figure("pixels", np.zeros((4, 6, 3), np.uint8))
            self._stands(logger, 1, 0)
        assert pyplot.get_fignums() == open_before, "pyplot still holds figures that were logged: they leak"

    def test_matplotlib_stays_as_it_is(self, tmp_path: Path) -> None:
        """No global backend, no settings of the user's are touched."""
        matplotlib = _pytest().importorskip("matplotlib")

        def settings() -> dict[str, str]:
            # the backend apart: asking rcParams for it would choose one
            shown = {key: str(matplotlib.rcParams[key]) for key in matplotlib.rcParams if key != "backend"}
            return shown | {"backend": str(dict.__getitem__(matplotlib.rcParams, "backend"))}

        before = settings()
        with self._logger(tmp_path) as logger:
            logger.log_metrics({"a": 1.0})
            logger.log_figure("curve", _free_figure())
        changed = {key for key, value in settings().items() if before.get(key) != value}
        assert not changed, f"the logger changed matplotlib's settings: {sorted(changed)}"

    def test_other_media(self, tmp_path: Path) -> None:
        """What a backend can't show, it leaves out without an error."""
        pytest = _pytest()
        np = pytest.importorskip("numpy")
        pytest.importorskip("PIL")
        with self._logger(tmp_path) as logger:
            logger.log_metrics({"a": 1.0})
            logger.log_image("image", np.zeros((8, 8, 3), np.uint8), masks={"truth": np.ones((8, 8), int)})
            logger.log_image("boxes", np.zeros((8, 8)), boxes={"found": [{"corners": (1, 1, 5, 5), "label": 1}]})
            logger.log_table("table", {"name": ["a", "b"], "count": [1, None]})
            logger.log_histogram("histogram", [1.0, 2.0, math.nan])
            logger.log_text("text", "some *text*")
            logger.log_hparams({"lr": 0.5, "nested": {"kind": "adam"}}, {"accuracy": 0.75})
            self._stands(logger, 1, 0)

    def test_messages(self, tmp_path: Path) -> None:
        """Messages take arguments as the stdlib's do, and one that is wrong stops nothing."""
        with self._logger(tmp_path) as logger:
            for say in (logger.debug, logger.info, logger.warning, logger.error):
                say("%d of %s", 1, "two")
                say("100 %")
                say({"not": "text"})

    # -- in company --------------------------------------------------------------------------------------------------

    def test_in_a_group(self, tmp_path: Path) -> None:
        """Beside a local record, with the same steps."""
        from ridgepole.permanences.loggers.basic import BasicLogger
        from ridgepole.permanences.loggers.group import LoggerGroup

        own = tmp_path / "own"
        own.mkdir()
        with BasicLogger(tmp_path / "local") as local, self._logger(own) as logger:
            group = LoggerGroup([local, logger])
            self._log_a_little(group)
            assert group.global_step == logger.global_step == 6, "the members of a group stand at different steps"
            off = group.get_state()["off"]
            assert not off, f"the logger failed in a group and was switched off: {off}"
        self._came_back(logger, own, _A_LITTLE)

    def test_in_a_pipeline(self, tmp_path: Path) -> None:
        """Declared as a permanence, initialised and cleaned up by the run, and given what processes log."""
        from ridgepole import Pipeline, process
        from ridgepole.permanences.loggers.group import NullLogger

        own = tmp_path / "own"
        own.mkdir()
        made: list[BaseLoggerManager] = []
        contract = self

        class Declared(NullLogger):  # a pipeline takes classes; this one makes the logger under test
            def __new__(cls) -> Any:
                made.append(contract.make_logger(own))
                return made[-1]

        @process
        def work(logger: BaseLoggerManager) -> None:
            assert made[0].is_initialized(), "the run must have initialised the logger"
            contract._log_a_little(logger)

        pipeline = Pipeline("contract", progress=False, checkpoint=False, seed=0).permanence("mine", Declared)
        pipeline.process("work", work).run(tmp_path / "runs")
        assert len(made) == 1, "a run must make a logger once"
        assert not made[0].is_initialized(), "the run must have cleaned the logger up"
        self._came_back(made[0], own, _A_LITTLE)

    # -- helpers -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _logger(self, tmp_path: Path) -> Iterator[BaseLoggerManager]:
        with self.make_logger(tmp_path) as logger:
            yield logger

    def _log_a_little(self, logger: BaseLoggerManager) -> None:
        logger.log_metrics({"a": 1.0, "nested": {"b": 2.0}})
        logger.log_metrics(MetricRecord("validation", 0.5, step_policy="reuse_last"))
        logger.log_metrics([{"a": 3.0}], step=5)
        with contextlib.suppress(ImportError):
            logger.log_figure("curve", _free_figure())
        logger.info("logged %s", "a little")

    @staticmethod
    def _stands(logger: BaseLoggerManager, global_step: int, last_step: int) -> None:
        assert logger.global_step == global_step, f"global_step is {logger.global_step}, not {global_step}"
        assert logger.last_step == last_step, f"last_step is {logger.last_step}, not {last_step}"

    def _read(self, logger: BaseLoggerManager, tmp_path: Path) -> list[tuple[int, str, float]] | None:
        found = self.read_back(logger, tmp_path)
        if found is None:
            return None
        return [(step, name, float(value)) for step, name, value in found if isinstance(value, bool | int | float)]

    def _came_back(
        self, logger: BaseLoggerManager, tmp_path: Path, wanted: Values, among: Sequence[str] | None = None
    ) -> None:
        found = self._read(logger, tmp_path)
        if found is None:
            return
        shown = [value for value in found if among is None or value[1] in among]
        # as text: NaN is not equal to itself
        assert sorted(map(repr, shown)) == sorted(map(repr, wanted)), f"logged {wanted}, read back {shown}"


_A_LITTLE: tuple[tuple[int, str, float], ...] = (
    (0, "a", 1.0),
    (0, "nested/b", 2.0),
    (0, "validation", 0.5),
    (5, "a", 3.0),
)


def _log(logger: BaseLoggerManager, metrics: Any, step: int) -> None:
    """Logs at an explicit step, also with a logger whose `log_metrics` takes the metrics alone."""
    if "step" in inspect.signature(logger.log_metrics).parameters:
        logger.log_metrics(metrics, step=step)
    else:
        logger.log_metrics(logger.resolve(metrics, step))


def _free_figure() -> Figure:
    """A figure that pyplot knows nothing of."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1))
    figure.add_subplot().plot([1, 2])
    return figure


def _tree(directory: Path, but: Path) -> set[Path]:
    """All that lies in a directory and around it, apart from one part."""
    below = {path for path in directory.rglob("*") if but not in (path, *path.parents)}
    return below | set(directory.parent.iterdir())


def _pytest() -> Any:
    """pytest, which whoever runs these tests has; importing this module does not need it."""
    import pytest

    return pytest
