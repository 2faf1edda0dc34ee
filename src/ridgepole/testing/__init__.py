"""Contract tests for loggers: inherit them to check that a logger behaves in a run as ours do.

```python
from ridgepole.testing import LoggerContract


class TestMyLogger(LoggerContract):
    def make_logger(self, tmp_path):
        return MyLogger(tmp_path)
```

pytest finds the tests in the subclass. Importing this module needs neither pytest nor anything
heavy.
"""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

from ridgepole.loggers.base import BaseLoggerManager
from ridgepole.testing.records import EVIL_NAMES, SAMPLE, RecordContract, Values, free_figure, import_pytest

__all__ = ["EVIL_NAMES", "LoggerContract", "Values"]


class LoggerContract(RecordContract):
    """Tests of what every logger must do. Override `make_logger`, and `read_back` if possible.

    A subclass leaves out a test that makes no sense for its logger with `test_name = None`. The
    logger's `log_metrics` may take `step` or not, and its `log_figure` `step` and `close` or not.
    """

    # -- threads and neighbours --------------------------------------------------------------------

    def test_many_threads(self, tmp_path: Path) -> None:
        """Lose no record and give no step twice."""
        threads, calls = 8, 40
        errors: list[BaseException] = []
        start = threading.Barrier(threads)

        def work(logger: BaseLoggerManager, number: int) -> None:
            try:
                start.wait(30)
                for call in range(calls):
                    logger.log_metrics({f"thread{number}": float(call)})
            except BaseException as error:  # noqa: BLE001 - shown below, in the main thread
                errors.append(error)

        with self.make_logger(tmp_path) as logger:
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
        """Share nothing between two loggers of one kind."""
        homes = [tmp_path / "one", tmp_path / "two"]
        for home in homes:
            home.mkdir()
        with self.make_logger(homes[0]) as one, self.make_logger(homes[1]) as two:
            one.log_metrics({"a": 1.0})
            two.log_metrics({"b": 2.0})
            two.log_metrics({"b": 3.0})
            self._assert_steps(one, 1, 0)
            self._assert_steps(two, 2, 1)
        self._assert_read_back(one, homes[0], [(0, "a", 1.0)])
        self._assert_read_back(two, homes[1], [(0, "b", 2.0), (1, "b", 3.0)])

    # -- figures and other media -------------------------------------------------------------------

    def test_figures(self, tmp_path: Path) -> None:
        """Accept figures and arrays, and close figures."""
        pytest = import_pytest()
        np = pytest.importorskip("numpy")
        pyplot = pytest.importorskip("matplotlib.pyplot")
        open_before = pyplot.get_fignums()
        with self.make_logger(tmp_path) as logger:
            logger.log_metrics({"a": 1.0})
            for _ in range(3):
                figure = pyplot.figure(figsize=(1, 1))
                figure.add_subplot().plot([1, 2])
                logger.log_figure("curve", figure)
            logger.log_figure("free", free_figure())
            logger.log_figure("pixels", np.zeros((4, 6, 3), np.uint8))
            self._assert_steps(logger, 1, 0)
        assert pyplot.get_fignums() == open_before, "pyplot still holds figures that were logged: they leak"

    def test_matplotlib_stays_as_it_is(self, tmp_path: Path) -> None:
        """Change neither matplotlib's backend nor its settings."""
        matplotlib = import_pytest().importorskip("matplotlib")

        def settings() -> dict[str, str]:
            # the backend apart: asking rcParams for it would choose one
            shown = {key: str(matplotlib.rcParams[key]) for key in matplotlib.rcParams if key != "backend"}
            return shown | {"backend": str(dict.__getitem__(matplotlib.rcParams, "backend"))}

        before = settings()
        with self.make_logger(tmp_path) as logger:
            logger.log_metrics({"a": 1.0})
            logger.log_figure("curve", free_figure())
        changed = {key for key, value in settings().items() if before.get(key) != value}
        assert not changed, f"the logger changed matplotlib's settings: {sorted(changed)}"

    def test_other_media(self, tmp_path: Path) -> None:
        """Accept all media, with or without a step; leave out what the backend can't show."""
        pytest = import_pytest()
        np = pytest.importorskip("numpy")
        pytest.importorskip("PIL")
        with self.make_logger(tmp_path) as logger:
            logger.log_metrics({"a": 1.0})
            logger.log_image("image", np.zeros((8, 8, 3), np.uint8), masks={"truth": np.ones((8, 8), int)})
            logger.log_image("boxes", np.zeros((8, 8)), boxes={"found": [{"corners": (1, 1, 5, 5), "label": 1}]})
            logger.log_table("table", {"name": ["a", "b"], "count": [1, None]})
            logger.log_histogram("histogram", [1.0, 2.0, math.nan], step=3)
            logger.log_text("text", "some *text*", step=3)
            logger.log_audio("sound", np.zeros(8), sample_rate=8000, step=3)
            logger.log_html("page", "<p>text</p>", step=3)
            logger.log_artifact(__file__, step=3)
            logger.log_hparams({"lr": 0.5, "nested": {"kind": "adam"}}, {"accuracy": 0.75}, step=3)
            self._assert_steps(logger, 1, 0)

    def test_messages(self, tmp_path: Path) -> None:
        """Format messages as the stdlib does, and survive arguments that do not fit."""
        with self.make_logger(tmp_path) as logger:
            for say in (logger.debug, logger.info, logger.warning, logger.error):
                say("%d of %s", 1, "two")
                say("100 %")
                say({"not": "text"})

    # -- in company --------------------------------------------------------------------------------

    def test_in_a_group(self, tmp_path: Path) -> None:
        """Log beside a local record, with the same steps."""
        from ridgepole.loggers.composite import LoggerGroup
        from ridgepole.loggers.local.logger import BasicLogger

        own = tmp_path / "own"
        own.mkdir()
        with BasicLogger(tmp_path / "local") as local, self.make_logger(own) as logger:
            group = LoggerGroup([local, logger])
            self._log_sample(group)
            assert group.global_step == logger.global_step == 6, "the members of a group are at different steps"
            off = group.get_state()["off"]
            assert not off, f"the logger failed in a group and was switched off: {off}"
        self._assert_read_back(logger, own, SAMPLE)

    def test_in_a_pipeline(self, tmp_path: Path) -> None:
        """Log as a declared permanence, initialized and cleaned up by the run."""
        from ridgepole import Pipeline, process
        from ridgepole.loggers.composite import NullLogger

        own = tmp_path / "own"
        own.mkdir()
        made: list[BaseLoggerManager] = []
        contract = self

        # A pipeline takes classes; this one makes the logger under test
        class Declared(NullLogger):
            def __new__(cls) -> Any:
                made.append(contract.make_logger(own))
                return made[-1]

        @process
        def work(logger: BaseLoggerManager) -> None:
            assert made[0].is_initialized(), "the run must have initialised the logger"
            contract._log_sample(logger)

        pipeline = Pipeline("contract", progress=False, checkpoint=False, seed=0).permanence("mine", Declared)
        pipeline.process("work", work).run(tmp_path / "runs")
        assert len(made) == 1, "a run must make a logger once"
        assert not made[0].is_initialized(), "the run must have cleaned the logger up"
        self._assert_read_back(made[0], own, SAMPLE)
