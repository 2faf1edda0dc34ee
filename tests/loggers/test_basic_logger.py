"""Check BasicLogger: the content of its files, reopening a directory, and what it refuses."""

import copy
import gc
import json
import pickle
import threading
from pathlib import Path

import pytest
import torch

from ridgepole.errors import LifecycleError, MissingExtraError, RunDirError
from ridgepole.metrics import (
    ACCURACY_CURVE,
    LOSS_CURVE,
    MetricRecord,
    batch_loss,
    load_metrics,
    read_metrics,
    validation_accuracy,
)
from ridgepole.permanence import current_run
from ridgepole.permanences import BaseLoggerManager, BasicLogger


def lines(directory, name="metrics.jsonl"):
    return [json.loads(line) for line in (Path(directory) / name).read_text().splitlines()]


def test_a_plain_script(tmp_path):
    with BasicLogger(tmp_path) as logger:
        logger.log_metrics({"loss": 0.5, "lr": {"head": 0.1}})
        logger.log_metrics([batch_loss(0.25), validation_accuracy(0.75)])
    first, second = lines(tmp_path)
    assert list(first) == ["seq", "time", "step", "metrics"]
    assert (first["seq"], first["step"], first["metrics"]) == (0, 0, {"loss": 0.5, "lr/head": 0.1})
    assert second["metrics"] == {"train/batch_loss": 0.25, "validation/accuracy": 0.75}
    assert second["pattern"] == {"train/batch_loss": "batch_loss", "validation/accuracy": "validation_accuracy"}
    assert (second["seq"], second["step"]) == (1, 1)
    assert 1.7e9 < first["time"] <= second["time"]


def test_one_line_for_each_call_and_distinct_step(tmp_path):
    with BasicLogger(tmp_path) as logger:
        logger.log_metrics([MetricRecord("a", 1, step=4), MetricRecord("b", 2, step=2), MetricRecord("c", 3, step=4)])
    assert [(line["seq"], line["step"], line["metrics"]) for line in lines(tmp_path)] == [
        (0, 4, {"a": 1, "c": 3}), (1, 2, {"b": 2})]  # fmt: skip


def test_a_call_is_on_the_disk_before_anything_is_closed(tmp_path):
    with BasicLogger(tmp_path) as logger:
        for i in range(5):
            logger.log_metrics({"a": i})
            assert len(lines(tmp_path)) == i + 1


def test_it_initialises_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logger = BasicLogger()
    assert logger.log_dir == Path("logs")
    assert not Path("logs").exists(), "the constructor must take nothing"
    logger.log_metrics({"a": 1})
    monkeypatch.chdir("/")
    logger.log_metrics({"a": 2})
    logger.cleanup()
    assert len(lines(tmp_path / "logs")) == 2


def test_inside_a_run_it_logs_to_the_run_directory(tmp_path):
    class Run:
        run_dir = tmp_path / "run-1"

    token = current_run.set(Run())
    try:
        logger, elsewhere = BasicLogger(), BasicLogger(tmp_path / "other")
    finally:
        current_run.reset(token)
    assert logger.log_dir == tmp_path / "run-1"
    assert elsewhere.log_dir == tmp_path / "other"


def test_values_that_are_not_finite(tmp_path):
    with BasicLogger(tmp_path) as logger:
        logger.log_metrics({"a": float("nan"), "b": float("inf"), "c": torch.tensor(-float("inf")), "d": 1.0})
        logger.log_metrics({"d": float("nan"), "text": "null"})
    first, second = lines(tmp_path)
    assert first["metrics"] == {"a": None, "b": None, "c": None, "d": 1.0}
    assert first["special"] == {"a": "nan", "b": "inf", "c": "-inf"}
    assert second["special"] == {"d": "nan"}
    assert second["metrics"]["text"] == "null"
    entry = json.loads((tmp_path / "summary.json").read_text())["metrics"]["d"]
    assert (entry["min"], entry["max"], entry["nonfinite"], entry["count"]) == (1.0, 1.0, 1, 2)


@pytest.mark.parametrize(
    "bad",
    [{"bad\ud800": 1}, {"ok": 1, 3: 1}, {"ok": 1, "bad": {3: 1}}, [batch_loss(0.1), MetricRecord("bad", {3: 1})],
     [{"ok": 1}, MetricRecord("bad\ud800", 1)]],
)  # fmt: skip
def test_a_refusal_leaves_nothing_half_logged(tmp_path, bad):
    with BasicLogger(tmp_path) as logger:
        logger.log_metrics({"a": 1})
        before = (tmp_path / "metrics.jsonl").read_bytes(), logger.get_state()
        with pytest.raises(TypeError, match=r"'bad|bad'|3"):
            logger.log_metrics(bad)
        assert ((tmp_path / "metrics.jsonl").read_bytes(), logger.get_state()) == before
        logger.log_metrics({"a": 2})
    assert [(line["seq"], line["step"]) for line in lines(tmp_path)] == [(0, 0), (1, 1)]


def test_a_lower_step_is_stored(tmp_path):
    with BasicLogger(tmp_path) as logger:
        for step in (100, 3, None, 50):
            logger.log_metrics({"a": 1}, step=step)
        assert logger.global_step == 102
    assert [line["step"] for line in lines(tmp_path)] == [100, 3, 101, 50]


def test_opening_again_goes_on_and_hides_nothing(tmp_path):
    with BasicLogger(tmp_path) as logger:
        for i in range(3):
            logger.log_metrics({"loss": float(i)})
        logger.log_metrics({"loss": 9.0}, step=50)
        logger.log_metrics({"loss": 8.0}, step=7)
        logger.log_figure("f", torch.zeros(4, 4))
    with BasicLogger(tmp_path) as again:
        assert again.global_step == 51
        again.log_metrics(validation_accuracy(0.5))
        again.log_metrics({"loss": 1.0})
    table = load_metrics(tmp_path)
    assert table.frame["step"].to_list() == [0, 1, 2, 50, 7, 7, 51]
    assert table.frame["seq"].to_list() == [0, 1, 2, 3, 4, 6, 7], "the figure has number 5"
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["metrics"]["loss"]["count"] == 6
    assert (summary["records"], summary["steps"]) == (7, 52)


def test_summary_json(tmp_path):
    with BasicLogger(tmp_path) as logger:
        logger.log_metrics({"validation/loss": 2.0})
        logger.log_metrics({"validation/loss": 1.0, "phase": "x"})
        logger.checkpoint()
        written = json.loads((tmp_path / "summary.json").read_text())
        assert written == logger.summary()
        logger.log_metrics({"validation/loss": 3.0})
    assert written == {
        "format": 1,
        "metrics": {
            "validation/loss": {"last": 1.0, "last_step": 1, "min": 1.0, "min_step": 1, "max": 2.0, "max_step": 0,
                                "count": 2, "nonfinite": 0, "best": 1.0, "best_step": 1},
            "phase": {"last": "x", "last_step": 1, "min": None, "min_step": None, "max": None, "max_step": None,
                      "count": 1, "nonfinite": 0, "best": None, "best_step": None},
        },
        "records": 2, "steps": 2, "dropped": 0,
    }  # fmt: skip
    assert json.loads((tmp_path / "summary.json").read_text())["records"] == 3, "cleanup renews it"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_torn_tail_is_repaired_on_opening(tmp_path, capfd):
    with BasicLogger(tmp_path) as logger:
        logger.log_metrics({"a": 1})
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + b'{"seq":1,"time":1.0,"st')
    with BasicLogger(tmp_path) as logger:
        logger.log_metrics({"a": 2})
    table = load_metrics(tmp_path)
    assert (table.records, table.bad, table.torn) == (2, 0, 0)
    assert "torn last line of 23 bytes" in capfd.readouterr().err


def test_a_foreign_file_is_left_alone(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"epoch,loss\n1,0.5")
    logger = BasicLogger(tmp_path)
    with pytest.raises(RunDirError, match="not a file of Ridgepole's"):
        logger.initialize()
    logger.cleanup()
    assert path.read_bytes() == b"epoch,loss\n1,0.5"


def test_a_second_logger_of_the_same_directory(tmp_path):
    first, second = BasicLogger(tmp_path), BasicLogger(tmp_path, metrics_filename="metrics-b.jsonl")
    first.log_metrics({"a": 1})
    with pytest.raises(RunDirError, match="another BasicLogger of this process writes to"):
        second.initialize()
    second.cleanup()
    first.cleanup()
    with BasicLogger(tmp_path) as third:
        third.log_metrics({"a": 2})
    assert [line["metrics"]["a"] for line in lines(tmp_path)] == [1, 2]


def test_a_forgotten_logger_frees_its_directory(tmp_path):
    """A notebook cell that is run again makes a new logger; the old one was never cleaned up."""
    for i in range(3):
        logger = BasicLogger(tmp_path)
        logger.log_metrics({"a": i})
        del logger
    assert [line["step"] for line in lines(tmp_path)] == [0, 1, 2]
    assert json.loads((tmp_path / "summary.json").read_text())["records"] == 3


def test_no_descriptor_or_logger_is_left(tmp_path):
    import logging

    known = set(logging.root.manager.loggerDict)
    open_before = len(list(Path("/dev/fd").iterdir()))
    for i in range(5):
        with BasicLogger(tmp_path / str(i)) as logger:
            logger.log_metrics({"a": 1})
            logger.log_figure("f", torch.zeros(4, 4))
            logger.warning("x")
    gc.collect()
    assert len(list(Path("/dev/fd").iterdir())) == open_before
    assert {name for name in set(logging.root.manager.loggerDict) - known if "ridgepole.BasicLogger" in name} == set()


def test_after_cleanup_it_says_so(tmp_path):
    logger = BasicLogger(tmp_path)
    logger.log_metrics({"a": 1})
    logger.cleanup()
    logger.cleanup()
    with pytest.raises(LifecycleError, match="was cleaned up"):
        logger.log_metrics({"a": 2})
    assert len(lines(tmp_path)) == 1


def test_cleanup_of_one_that_never_started(tmp_path):
    BasicLogger(tmp_path / "x").cleanup()
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("options", [{"metrics_filename": "../m.jsonl"}, {"metrics_filename": ""}, {"log_file": "a/b"},
                                     {"log_level": "LOUD"}, {"theme": {"shout": "red"}}])  # fmt: skip
def test_wrong_options(tmp_path, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        BasicLogger(tmp_path, **options)


def test_another_file_name(tmp_path):
    with BasicLogger(tmp_path, "metrics-fold2.jsonl", log_file=None) as logger:
        logger.log_metrics({"a": 1})
        logger.warning("x")
    assert read_metrics(tmp_path / "metrics-fold2.jsonl").height == 1
    assert not (tmp_path / "run.log").exists()


def test_threads(tmp_path):
    count, each = 16, 400

    def work(number):
        for i in range(each):
            logger.log_metrics({f"t{number}": i, "nested": {"x": i}} if i % 2 else {f"t{number}": float(i)})

    logger = BasicLogger(tmp_path)  # the first use, in several threads at once, initialises it
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    logger.cleanup()
    table = load_metrics(tmp_path)
    assert (table.records, table.bad, table.torn) == (count * each, 0, 0)
    written = lines(tmp_path)
    assert [line["seq"] for line in written] == list(range(count * each))
    assert [line["step"] for line in written] == list(range(count * each))
    for number in range(count):
        mine = [line["metrics"][f"t{number}"] for line in written if f"t{number}" in line["metrics"]]
        assert mine == list(range(each)), f"thread {number}"


def test_state_is_plain(tmp_path):
    logger = BasicLogger(tmp_path)
    assert logger.get_state()["initialized"] is False
    logger.log_metrics({"a": 1})
    state = json.loads(json.dumps(logger.get_state()))
    assert state == {
        "type": "BasicLogger", "initialized": True, "log_dir": str(tmp_path), "global_step": 1, "last_step": 0,
        "seq": 1, "records": 1, "figures": 0, "dropped": 0,
    }  # fmt: skip
    logger.cleanup()


def test_a_copy_writes_a_file_of_its_own(tmp_path):
    with BasicLogger(tmp_path) as logger:
        logger.log_metrics({"a": 0})
        with pickle.loads(pickle.dumps(logger)) as twin, copy.deepcopy(logger) as other:
            twin.log_metrics({"b": 1})
            other.log_metrics({"b": 2})
            logger.log_metrics({"a": 3})
    frame = read_metrics(tmp_path)
    assert sorted(frame["value"].to_list()) == [0.0, 1.0, 2.0, 3.0]
    assert frame["seq"].n_unique() == 4
    assert len(list(tmp_path.glob("metrics*.jsonl"))) == 3


def test_a_curve_from_the_history(tmp_path):
    with BasicLogger(tmp_path) as logger:
        for _ in range(3):
            logger.log_metric_figure(LOSS_CURVE)
        logger.log_metrics(batch_loss(0.5))
        logger.log_metrics({"other": 0.5})
        logger.log_metric_figure(LOSS_CURVE)
        logger.log_metric_figure(ACCURACY_CURVE)
    assert [line["name"] for line in lines(tmp_path, "media.jsonl")] == ["loss_curve"]
    told = [line for line in (tmp_path / "run.log").read_text().splitlines() if "log_metric_figure" in line]
    assert len(told) == 2, told
    assert "'loss_curve' draws *loss; logged so far: nothing yet (said once)" in told[0]
    assert "'accuracy_curve' draws *accuracy, *acc; logged so far: 'train/batch_loss', 'other'" in told[1]


def test_no_sweep_engine_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [])
    logger = BasicLogger(tmp_path)
    assert logger.supports_sweep() is True
    with pytest.raises(MissingExtraError, match=r"run_sweep needs a sweep engine.*pip install 'optuna>="):
        logger.run_sweep(lambda: None, {})


def test_the_interface_is_on_rank_zero():
    assert BaseLoggerManager.ranks == BasicLogger.ranks == "zero"
