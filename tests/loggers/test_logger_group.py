"""Several loggers as one, loggers of other people's, and the logger that stands where none is wanted."""

import inspect
import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from ridgepole.errors import LogWriteError
from ridgepole.metrics import LOSS_CURVE, ConfusionMatrixFigurePattern, MetricRecord, load_metrics, validation_loss
from ridgepole.permanences import (
    BaseLoggerManager,
    BasicLogger,
    LoggerGroup,
    NullLogger,
    TensorBoardLogger,
    WandBLogger,
)


class Collector(BaseLoggerManager):
    """A third-party logger: no `super().__init__()`, and the one-argument form of `log_metrics`."""

    def __init__(self, fail_from=None):
        self.records, self.figures, self.messages = [], [], []
        self.fail_from = fail_from

    def log_metrics(self, metrics):
        if self.fail_from is not None and len(self.records) >= self.fail_from:
            raise ConnectionError("the server is gone")
        self.records.append(list(self.resolve(metrics)))

    def log_figure(self, name, figure):
        self.figures.append((name, figure))

    def warning(self, message, *args):
        self.messages.append(message % args if args else message)

    def cleanup(self):
        pass


@pytest.fixture
def basic(tmp_path):
    with BasicLogger(tmp_path) as logger:
        yield logger


def test_a_third_party_logger_alone():
    logger = Collector()
    logger.log_metrics({"a": {"b": 1}})
    logger.log_metrics([validation_loss(0.5)])
    logger.log_metrics({"a": np.float32(2)})
    assert [(r.name, r.value, r.step) for call in logger.records for r in call] == [
        ("a/b", 1, 0), ("validation/loss", 0.5, 0), ("a", 2.0, 1)]  # fmt: skip
    assert logger.global_step == 2
    assert logger.get_state() == {"type": "Collector", "initialized": False}


def test_resolved_once_for_all(basic, tmp_path):
    one, two = Collector(), Collector()
    group = LoggerGroup([one, basic, two])
    group.log_metrics({"loss": 1.0, "nested": {"x": float("nan")}})
    group.log_metrics(validation_loss(0.5))
    group.log_metrics([MetricRecord("m", [1, 2]), {"late": True}], step=9)
    assert group.loggers == (one, basic, two)
    assert one.records == two.records or str(one.records) == str(two.records)
    assert [[(r.name, r.step) for r in call] for call in one.records] == [
        [("loss", 0), ("nested/x", 0)], [("validation/loss", 0)], [("m", 9), ("late", 9)]]  # fmt: skip
    assert one.records[1][0].pattern == "validation_loss"
    assert np.isnan(one.records[0][1].value), "a number that is not finite reaches a backend as it is"
    assert group.global_step == one.global_step == two.global_step == basic.global_step == 10
    assert load_metrics(tmp_path).frame["step"].to_list() == [0, 0, 0, 9, 9]


def test_a_refusal_reaches_no_member(basic):
    sink = Collector()
    group = LoggerGroup([sink, basic])
    with pytest.raises(TypeError, match="name 3"):
        group.log_metrics({"ok": 1, 3: 1})
    assert sink.records == []
    assert group.global_step == 0


def test_a_sink_that_fails_warns_once_and_is_switched_off(basic, tmp_path, capfd):
    sink, healthy = Collector(fail_from=2), Collector()
    group = LoggerGroup([basic, sink, healthy])
    for i in range(5):
        group.log_metrics({"a": i})
    group.log_figure("f", np.zeros((2, 2)))
    assert len(sink.records) == 2
    assert sink.figures == []
    assert len(healthy.records) == 5
    assert len(healthy.figures) == 1
    assert capfd.readouterr().err.count("Collector failed and is switched off") == 1
    assert healthy.messages == [
        "Collector failed and is switched off for this run: ConnectionError: the server is gone"
    ]
    assert group.get_state()["off"] == [{"type": "Collector", "dropped": 4}]
    assert group.summary()["dropped"] == 4
    assert load_metrics(tmp_path).records == 5


def test_a_strict_sink_raises(basic):
    sink = Collector(fail_from=0)
    sink.strict = True
    with pytest.raises(ConnectionError):
        LoggerGroup([basic, sink]).log_metrics({"a": 1})


def test_a_local_record_that_cannot_be_written_raises_and_no_member_logs(tmp_path):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    sink = Collector()
    with BasicLogger(tmp_path) as basic:
        group = LoggerGroup([sink, basic])
        with pytest.raises(LogWriteError):
            group.log_metrics({"a": 1})
        assert sink.records == []
        assert group.global_step == 0


def test_a_figure_is_drawn_once(basic, tmp_path, monkeypatch):
    drawn = []
    figure = plt.figure(figsize=(1, 1))
    figure.add_subplot().add_callback(lambda axes: drawn.append(1))
    original = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (drawn.append(self), original(self, *a, **k))[1])
    sink = Collector()
    with BasicLogger(tmp_path / "second") as second:
        group = LoggerGroup([basic, sink, second])
        group.log_metrics({"a": 1}, step=5)
        group.log_figure("f", figure)
        assert drawn == [figure]
        assert plt.get_fignums() == []
        assert sink.figures == [("f", figure)]
        (one,), (two,) = ([json.loads(x) for x in (d / "media.jsonl").read_text().splitlines()]
                          for d in (tmp_path, tmp_path / "second"))  # fmt: skip
        assert one["step"] == two["step"] == 5
        assert (tmp_path / one["file"]).read_bytes() == (tmp_path / "second" / two["file"]).read_bytes()
        group.log_seaborn_graph("g", [1, 2, 3])
        group.log_metrics({"loss": 1.0})
        group.log_metric_figure(LOSS_CURVE)
        assert [name for name, _ in sink.figures] == ["f", "g", "loss_curve"]
        group.flush()  # graphs are drawn by another process
        assert (tmp_path / "second" / "media.jsonl").read_text().count('"data"') == 1


def test_it_leaves_the_lifecycle_of_its_members_alone(tmp_path):
    basic = BasicLogger(tmp_path)
    with LoggerGroup([basic]) as group:
        assert not group.is_initialized()
        group.log_metrics({"a": 1})
    assert basic.is_initialized()
    basic.log_metrics({"a": 2})
    basic.cleanup()
    assert load_metrics(tmp_path).records == 2


def test_messages_once_on_the_terminal_and_in_every_file(tmp_path, capfd):
    with BasicLogger(tmp_path / "a") as a, BasicLogger(tmp_path / "b") as b:
        LoggerGroup([a, b]).warning("said %s", "once")
    assert capfd.readouterr().err.count("said once") == 1
    for name in "ab":
        assert (tmp_path / name / "run.log").read_text().count("said once") == 1


def test_flush_checkpoint_and_summary(basic, tmp_path):
    group = LoggerGroup([basic, Collector()])
    group.log_metrics({"a": 1})
    group.flush()
    group.flush(durable=True)
    group.checkpoint()
    assert json.loads((tmp_path / "summary.json").read_text()) == group.summary() == basic.summary()
    state = group.get_state()
    assert (state["type"], state["global_step"], len(state["loggers"])) == ("LoggerGroup", 1, 2)


@pytest.mark.parametrize("members", [[], [NullLogger()]])
def test_without_a_local_record(members, capfd):
    group = LoggerGroup(members)
    group.log_metrics({"a": 1})
    group.log_metrics({"a": 1})
    group.log_figure("f", plt.figure())
    group.log_seaborn_graph("g", [1])
    group.log_metric_figure(LOSS_CURVE)
    group.info("quiet")
    assert (group.global_step, group.summary()) == (2, {})
    assert capfd.readouterr().err == ""
    assert plt.get_fignums() == []


def test_a_group_holds_loggers():
    with pytest.raises(TypeError, match="holds loggers, not str"):
        LoggerGroup(["BasicLogger"])


def test_the_null_logger_checks_and_counts():
    logger = NullLogger()
    logger.log_metrics({"a": 1})
    with pytest.raises(TypeError, match="name 3"):
        logger.log_metrics({3: 1})
    logger.log_metrics(validation_loss(1.0))
    assert (logger.global_step, logger.last_step) == (1, 0)
    assert logger.supports_sweep()
    logger.cleanup()


class Stepper(Collector):
    """A backend with the whole interface of figures."""

    def log_figure(self, name, figure, *, step=None, close=True):
        self.figures.append((name, step, close))


def log_with_steps(logger):
    figure = plt.figure(figsize=(1, 1))
    logger.log_figure("f", figure, step=4, close=False)
    assert plt.fignum_exists(figure.number), "close=False keeps the figure open"
    plt.close(figure)
    logger.log_seaborn_graph("g", [1, 2, 3], step=5)
    logger.log_metric_figure(ConfusionMatrixFigurePattern("m"), [0, 1], [0, 1], step=6)
    logger.log_image("i", np.zeros((2, 2)), step=7)


def test_every_figure_takes_a_step_on_base_and_group(basic, tmp_path):
    alone, member, two_arguments = Stepper(), Stepper(), Collector()
    log_with_steps(alone)
    group = LoggerGroup([basic, member, two_arguments])
    log_with_steps(group)
    group.flush()
    assert [(name, step) for name, step, _ in alone.figures] == [("f", 4), ("g", 5), ("m", 6), ("i", 7)]
    assert [(name, step) for name, step, _ in member.figures] == [("f", 4), ("g", 5), ("m", 6), ("i", 7)]
    assert [close for *_, close in member.figures] == [False] * 4, "the group closes figures, not its members"
    assert [name for name, _ in two_arguments.figures] == ["f", "g", "m", "i"]
    lines = [json.loads(line) for line in (tmp_path / "media.jsonl").read_text().splitlines()]
    assert {line["name"]: line["step"] for line in lines} == {"f": 4, "g": 5, "m": 6, "i": 7}


LOGGERS = [BaseLoggerManager, BasicLogger, LoggerGroup, NullLogger, TensorBoardLogger, WandBLogger]


@pytest.mark.parametrize("cls", LOGGERS)
def test_every_log_method_takes_a_step(cls):
    methods = [name for name in dir(cls) if name.startswith("log_") and callable(getattr(cls, name))]
    assert len(methods) >= 9
    for name in methods:
        parameters = inspect.signature(getattr(cls, name)).parameters
        kinds = {parameter.kind for parameter in parameters.values()}
        assert "step" in parameters or inspect.Parameter.VAR_KEYWORD in kinds, name


def test_only_the_local_record_is_one():
    assert [cls.__name__ for cls in LOGGERS if cls.is_local_record] == ["BasicLogger"]


def test_one_that_keeps_no_history_says_so():
    with pytest.raises(TypeError, match="Collector keeps no history to draw 'loss_curve'"):
        Collector().log_metric_figure(LOSS_CURVE)
