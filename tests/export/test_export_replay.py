"""A run replayed into a logger: everything, in order, at its steps and times."""

import json
import math
import multiprocessing
import os

import numpy as np
import pytest
from matplotlib.figure import Figure

from ridgepole.errors import RunDirError
from ridgepole.export import refill
from ridgepole.metrics import MetricRecord, load_metrics, read_metrics, validation_loss
from ridgepole.permanences import BaseLoggerManager, BasicLogger, LoggerGroup, NullLogger


class Collector(BaseLoggerManager):
    """Keeps what it is given, with the time that it was told; fails where it is asked to."""

    def __init__(self, fail_at=None):
        self.fail_at = fail_at
        self.now = None
        self.records, self.figures, self.times = [], [], []

    def set_wall_time(self, seconds):
        self.now = seconds

    def log_metrics(self, metrics, *, step=None):
        if self.fail_at is not None and len(self.records) == self.fail_at:
            raise ConnectionError("the server is gone")
        for record in self.resolve(metrics, step):
            self.records.append((record.step, record.name, record.value))
            self.times.append(self.now)

    def log_figure(self, name, figure):
        self.figures.append((name, figure, self.now))

    def cleanup(self):
        pass


def figure():
    made = Figure(figsize=(1, 1))
    made.add_subplot().plot([1, 2])
    return made


@pytest.fixture
def run(tmp_path):
    with BasicLogger(tmp_path / "run") as logger:
        logger.log_metrics({"loss": 0.5, "nested": {"x": math.nan}, "word": "w", "pair": [1, math.inf]})
        logger.log_figure("a figure", figure())
        logger.log_metrics({"loss": 0.25, "weights": np.arange(100)})
        logger.log_metrics(validation_loss(0.75))
        logger.log_metrics({"loss": 0.125}, step=0)
        logger.log_figure("../é", np.zeros((4, 6)), step=9)
    return tmp_path / "run"


def test_into_another_local_record(run, tmp_path):
    with BasicLogger(tmp_path / "copy") as copy:
        done = refill(run, copy)
        assert (done.records, done.media, done.skipped, done.bad, done.hidden) == (4, 2, (), 0, 0)
        assert copy.global_step == 2
    keep = ["step", "name", "value", "text", "pattern", "stage", "split"]
    assert read_metrics(tmp_path / "copy").select(keep).equals(read_metrics(run).select(keep))
    ours, theirs = (
        [json.loads(x) for x in (d / "media.jsonl").read_text().splitlines()] for d in (run, tmp_path / "copy")
    )
    assert [(x["name"], x["step"], x["bytes"]) for x in theirs] == [(x["name"], x["step"], x["bytes"]) for x in ours]
    for a, b in zip(ours, theirs, strict=True):
        assert (run / a["file"]).read_bytes() == (tmp_path / "copy" / b["file"]).read_bytes()


def test_a_logger_is_told_when_it_was(run):
    sink = Collector()
    refill(run, sink)
    assert sink.times == read_metrics(run)["time"].to_list()
    index = [json.loads(line) for line in (run / "media.jsonl").read_text().splitlines()]
    assert [time for _, _, time in sink.figures] == [line["time"] for line in index]
    assert sink.now is None, "what the logger logs later is of its own time again"


def test_a_logger_that_knows_no_bytes_gets_pictures(run):
    sink = Collector()
    refill(run, sink)
    (name, picture, _), (other, array, _) = sink.figures
    assert (name, other) == ("a figure", "../é")
    assert min(picture.size) > 50
    assert np.asarray(array).shape[:2] == (4, 6)


def test_everything_arrives_in_the_order_of_logging(run):
    order = []

    class Ordered(Collector):
        def log_metrics(self, metrics, *, step=None):
            order.extend(record.name for record in self.resolve(metrics, step))

        def log_figure(self, name, figure):
            order.append(name)

    refill(run, Ordered())
    assert order == [
        "loss",
        "nested/x",
        "word",
        "pair",
        "a figure",
        "loss",
        "weights",
        "validation/loss",
        "loss",
        "../é",
    ]


def test_abandoned_segments_are_left_out(tmp_path):
    with BasicLogger(tmp_path) as logger:
        for i in range(6):
            logger.log_metrics({"a": i})
            logger.log_figure("f", np.zeros((2, 2)))
    (tmp_path / "attempts.jsonl").write_text('{"attempt": 2, "first_seq": 8, "resumed_from_seq": 3}\n')
    sink = Collector()
    done = refill(tmp_path, sink)
    assert [value for _, _, value in sink.records] == [0, 1, 4, 5]
    assert len(sink.figures) == 3
    assert done.hidden == 5


def _log_in_a_worker(logger):
    logger.log_metrics({"worker": 1.0}, step=50)
    logger.log_figure("by the worker", np.zeros((2, 2)))


@pytest.mark.isolated
def test_what_workers_logged_is_there_too(tmp_path):
    with BasicLogger(tmp_path) as logger:
        logger.log_metrics({"main": 0.0})
        pid = os.fork()
        if pid == 0:
            _log_in_a_worker(logger)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        logger.log_metrics({"main": 1.0})
    sink = Collector()
    done = refill(tmp_path, sink)
    assert [record[:2] for record in sink.records] == [(0, "main"), (50, "worker"), (1, "main")]
    assert [name for name, *_ in sink.figures] == ["by the worker"]
    assert done.records == load_metrics(tmp_path).records == 3


def test_a_sink_that_failed_is_refilled_with_what_it_missed(tmp_path):
    sink = Collector(fail_at=2)
    with BasicLogger(tmp_path) as local:
        group = LoggerGroup([local, sink])
        for i in range(5):
            group.log_metrics({"a": float(i)})
        missed = group.get_state()["off"][0]["dropped"]
        fresh = Collector()
        refill(tmp_path, fresh)
        assert [value for *_, value in fresh.records] == [0, 1, 2, 3, 4], "all of it, into a new place"
        sink.fail_at = None
        done = refill(tmp_path, sink, first_seq=5 - missed)
        assert [value for *_, value in sink.records] == [0, 1, 2, 3, 4], "or what it lacks, into the same"
        local.log_metrics({"a": 5.0})
        assert refill(tmp_path, sink, first_seq=done.next_seq).records == 1
        assert sink.global_step == 6


def test_steps_go_on_behind_the_replayed_ones(run):
    sink = NullLogger()
    refill(run, sink)
    assert sink.global_step == 2


def test_an_error_of_the_logger_says_where_it_stood(run):
    with pytest.raises(ConnectionError) as caught:
        refill(run, Collector(fail_at=4))
    assert caught.value.__notes__ == [f"while seq 2 of {run} was replayed into Collector"]


def test_files_that_are_gone_or_damaged_are_named(run):
    first, second = [json.loads(x)["file"] for x in (run / "media.jsonl").read_text().splitlines()]
    (run / first).unlink()
    (run / second).write_bytes(b"not a picture")
    with (run / "media.jsonl").open("a") as file:
        for line in (
            {"kind": "hologram", "name": "from the future"},
            {"kind": "figure", "name": "outside", "file": "../../etc/passwd"},
            {"kind": "figure", "name": "no file"},
        ):
            file.write(json.dumps({"seq": 90, "time": 1.0, "step": 3} | line) + "\n")
        file.write('{"seq": "x"}\nnonsense\n{"torn')
    sink = Collector()
    done = refill(run, sink)
    assert len(sink.records) == 8
    assert sink.figures == []
    assert done.media == 0
    assert done.bad == 3
    assert [reason.split(": ")[0] for reason in done.skipped] == [
        "figure 'a figure' of step 0", "figure '../é' of step 9", "hologram 'from the future' of step 3",
        "figure 'outside' of step 3", "figure 'no file' of step 3"]  # fmt: skip
    for reason, word in zip(
        done.skipped, ("can't be read", "damaged", "newer", "outside", "names no file"), strict=True
    ):
        assert word in reason


def test_never_into_the_record_itself(run):
    with BasicLogger(run) as logger:
        before = logger.get_state()["records"]
        for target in (logger, LoggerGroup([logger, NullLogger()])):
            with pytest.raises(ValueError, match="would read what it writes"):
                refill(run, target)
        assert logger.get_state()["records"] == before


def test_a_directory_without_a_record(tmp_path):
    with pytest.raises(RunDirError, match=r"there is no metrics\.jsonl in it"):
        refill(tmp_path, NullLogger())


def test_a_run_that_goes_on_can_be_read(tmp_path):
    with BasicLogger(tmp_path) as logger:
        logger.log_metrics(MetricRecord("a", 1.0))
        sink = Collector()
        assert refill(tmp_path, sink).records == 1


def test_memory_does_not_grow_with_the_run(tmp_path):
    """A child process of its own, so that the peak is that of the replay."""
    with BasicLogger(tmp_path) as logger:
        for i in range(60_000):
            logger.log_metrics({"a": float(i), "b": float(i)})
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=_peak, args=(str(tmp_path), queue))
    child.start()
    grown, records = queue.get(timeout=60)
    child.join()
    size = (tmp_path / "metrics.jsonl").stat().st_size
    assert records == 60_000
    assert grown < size, f"{grown} bytes grown over a file of {size}"


def _peak(directory, queue):
    import resource

    sink = NullLogger()
    refill(directory, sink, first_seq=59_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = refill(directory, NullLogger())
    queue.put(((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024, done.records))
