"""What TensorBoard itself reads back of what the logger wrote."""

import io
import math
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import STORE_EVERYTHING_SIZE_GUIDANCE, EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as ServerAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.api_pb2 import Status
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from ridgepole.metrics import ACCURACY_CURVE, LOSS_CURVE, CurveFigurePattern, MetricRecord, validation_loss
from ridgepole.permanences import BasicLogger, LoggerGroup, TensorBoardLogger


def read(directory):
    """All that TensorBoard's own reader finds in a directory, nothing thinned."""
    found = EventAccumulator(str(directory), STORE_EVERYTHING_SIZE_GUIDANCE)
    found.Reload()
    return found


def points(directory, tag):
    return [(event.step, event.value) for event in read(directory).Scalars(tag)]


def texts(directory, tag):
    return [(event.step, event.tensor_proto.string_val[0].decode()) for event in read(directory).Tensors(tag)]


def hparams(directory):
    """The hyperparameters and the status that the plugin finds."""
    plugin = read(directory).PluginTagToContent("hparams")
    start = HParamsPluginData.FromString(plugin["_hparams_/session_start_info"]).session_start_info
    end = HParamsPluginData.FromString(plugin["_hparams_/session_end_info"]).session_end_info
    return {name: getattr(v, v.WhichOneof("kind")) for name, v in start.hparams.items()}, Status.Name(end.status)


def test_scalars(tmp_path):
    with TensorBoardLogger(tmp_path) as logger:
        for i in range(200):
            logger.log_metrics({"loss": 1 / (i + 1), "nested": {"x": i}})
        logger.log_metrics(validation_loss(0.25))
        logger.log_metrics({"flag": True})
        logger.log_metrics({"flag": False})
        assert (logger.global_step, logger.last_step) == (202, 201)
    loss = points(tmp_path, "loss")
    assert [step for step, _ in loss] == list(range(200))
    assert [value for _, value in loss] == pytest.approx([1 / (i + 1) for i in range(200)], rel=1e-6)
    assert points(tmp_path, "nested/x") == [(i, i) for i in range(200)]
    assert points(tmp_path, "validation/loss") == [(199, 0.25)]
    assert points(tmp_path, "flag") == [(200, 1.0), (201, 0.0)]


@pytest.mark.parametrize("also", [{}, {"whole": 1}], ids=["floats alone", "mixed"])
def test_numbers_that_are_not_finite_or_too_large_for_32_bits(tmp_path, also):
    values = {"nan": math.nan, "inf": math.inf, "minus": -math.inf, "huge": 1e300, "tiny": 1e-300}
    with TensorBoardLogger(tmp_path) as logger:
        logger.log_metrics(values | also)
    got = {name: points(tmp_path, name)[0][1] for name in values}
    assert math.isnan(got.pop("nan"))
    assert got == {"inf": math.inf, "minus": -math.inf, "huge": math.inf, "tiny": 0.0}


def test_every_step_is_stored_in_any_order(tmp_path):
    with TensorBoardLogger(tmp_path) as logger:
        for step in (10, 3, 7, 7):
            logger.log_metrics({"a": 1.0}, step=step)
        logger.log_metrics({"a": 2.0})
        logger.log_metrics([MetricRecord("a", 3.0, step=2), MetricRecord("a", 4.0, step=2**62)])
    assert points(tmp_path, "a") == [(10, 1), (3, 1), (7, 1), (7, 1), (11, 2), (2, 3), (2**62, 4)]


NAMES = ["../x", "/abs", "Loss", "loss", "📈 é", "x" * 300, "with space/and:colon", "a\nb", "<b>&"]


def test_names_reach_tensorboard_as_they_are(tmp_path):
    with TensorBoardLogger(tmp_path) as logger:
        for name in NAMES:
            logger.log_metrics({name: 1.0})
            logger.log_metrics({name + "!": 1})
    assert read(tmp_path).Tags()["scalars"] == [name for plain in NAMES for name in (plain, plain + "!")]


def test_strings_sequences_and_large_arrays(tmp_path):
    with TensorBoardLogger(tmp_path) as logger:
        logger.log_metrics({"note": "a **word**", "pair": [1, 2.5], "array": np.arange(100.0)})
        logger.log_metrics({"array": np.full(50, np.nan)})
    assert texts(tmp_path, "note") == [(0, "a **word**")]
    assert (points(tmp_path, "pair[0]"), points(tmp_path, "pair[1]")) == ([(0, 1)], [(0, 2.5)])
    full, empty = read(tmp_path).Histograms("array")
    value = full.histogram_value
    assert (value.min, value.max, value.num, value.sum) == (0, 99, 100, 4950)
    assert sum(value.bucket) == 100
    assert value.sum_squares == pytest.approx(sum(i * i for i in range(100)))
    assert empty.histogram_value.num == 0


def test_a_refusal_logs_nothing_and_leaves_the_step(tmp_path):
    with TensorBoardLogger(tmp_path) as logger:
        for bad in ({"ok": 1.0, 1: None}, {1: 1.0}, {"lone \ud800": 1.0}):
            with pytest.raises(TypeError):
                logger.log_metrics(bad)
        with pytest.raises(ValueError, match="empty"):
            logger.log_metrics({"": 1.0})
        with pytest.raises(ValueError, match="twice"):
            logger.log_metrics({"a": {"b": 1}, "a/b": 1})
        with pytest.raises(ValueError, match="step"):
            logger.log_metrics({"a": 1.0}, step=-1)
        assert logger.global_step == 0
        logger.log_metrics({"a": 1.0})
    assert read(tmp_path).Tags()["scalars"] == ["a"]


def test_figures_and_images(tmp_path):
    figure = Figure(figsize=(2, 1), dpi=50)
    figure.add_subplot().plot([1, 2])
    with TensorBoardLogger(tmp_path) as logger:
        logger.log_metrics({"a": 1.0}, step=4)
        logger.log_figure("curve", figure)
        logger.log_figure("noise", np.zeros((5, 7, 3)), step=9)
        logger.log_seaborn_graph("graph", [1, 2, 3])
        logger.log_figure("page", Figure(), close=False)
    found = read(tmp_path)
    assert found.Tags()["images"] == ["curve", "noise", "graph", "page"]
    (curve,), (noise,) = found.Images("curve"), found.Images("noise")
    assert (curve.step, (curve.width, curve.height)) == (4, Image.open(io.BytesIO(curve.encoded_image_string)).size)
    assert (noise.step, noise.width, noise.height) == (9, 7, 5)
    assert Image.open(io.BytesIO(noise.encoded_image_string)).size == (7, 5)


def test_every_picture_of_a_step_has_a_tag_of_its_own(tmp_path):
    with TensorBoardLogger(tmp_path) as logger:
        logger.log_image("batch", [np.full((2, 2), n, np.uint8) for n in range(3)], step=5)
        logger.log_image("batch", np.zeros((2, 2)), step=6)
    found = read(tmp_path)
    assert found.Tags()["images"] == ["batch", "batch/2", "batch/3"]
    assert [event.step for event in found.Images("batch")] == [5, 6]
    pixels = [np.asarray(Image.open(io.BytesIO(found.Images(tag)[0].encoded_image_string))).max()
              for tag in ("batch", "batch/2", "batch/3")]  # fmt: skip
    assert pixels == [0, 1, 2]


def test_a_single_element_is_a_scalar_and_other_values_are_text(tmp_path):
    with TensorBoardLogger(tmp_path) as logger:
        logger.log_metrics({"loss": torch.tensor([0.5]), "square": np.array([[2.0]]), "other": 1j})
    assert (points(tmp_path, "loss"), points(tmp_path, "square")) == ([(0, 0.5)], [(0, 2.0)])
    assert texts(tmp_path, "other") == [(0, "complex 1j")]


def test_a_histogram_without_finite_values_has_its_counts(tmp_path):
    with TensorBoardLogger(tmp_path) as logger:
        logger.log_histogram("gradients", [float("nan")] * 3 + [float("inf")], step=2)
    (event,) = read(tmp_path).Histograms("gradients")
    assert (event.step, event.histogram_value.num) == (2, 0)
    assert (points(tmp_path, "gradients/nan"), points(tmp_path, "gradients/inf")) == ([(2, 3)], [(2, 1)])


def test_images_of_a_table_are_images(tmp_path):
    with TensorBoardLogger(tmp_path) as logger:
        logger.log_table("t", {"n": [1, 2], "image": [np.zeros((2, 3, 3), np.uint8), np.ones((2, 3, 3), np.uint8)]})
    assert read(tmp_path).Tags()["images"] == ["t/image/0", "t/image/1"]
    assert "(image, 3 x 2)" in texts(tmp_path, "t")[0][1]


def test_in_a_group_the_same_bytes_go_to_the_record_and_to_tensorboard(tmp_path):
    with BasicLogger(tmp_path) as basic, TensorBoardLogger(tmp_path) as board:
        group = LoggerGroup([basic, board])
        group.log_metrics({"a": 1.0}, step=3)
        group.log_figure("f", np.zeros((5, 7)))
        assert group.global_step == board.global_step == 4
    (file,) = tmp_path.glob("figures/*.png")
    (image,) = read(tmp_path).Images("f")
    assert (image.step, image.encoded_image_string) == (3, file.read_bytes())


@pytest.mark.filterwarnings("ignore:html5lib's sanitizer is deprecated")  # tensorboard's own
def test_tables_texts_and_histograms(tmp_path):
    from tensorboard.plugin_util import markdown_to_safe_html

    with TensorBoardLogger(tmp_path) as logger:
        logger.log_metrics({"a": 1.0}, step=6)
        logger.log_table("t", {"x|y": [1, None], "text": ["*a*|b\nc", "<script>"]})
        logger.log_table("long", {"i": list(range(1500))})
        logger.log_text("note", "# title")
        logger.log_histogram("h", [1.0, 2.0, 2.0, math.nan])
    ((step, table),) = texts(tmp_path, "t")
    page = markdown_to_safe_html(table)
    assert step == 6
    for shown in ("<th>x|y</th>", "<td>*a*|b c</td>", "&lt;script&gt;", "<td>1</td>"):
        assert shown in page
    ((_, long),) = texts(tmp_path, "long")
    assert long.endswith("\n\n500 more rows")
    assert long.count("\n|") == 1001
    assert texts(tmp_path, "note") == [(6, "# title")]
    (histogram,) = read(tmp_path).Histograms("h")
    assert (histogram.histogram_value.num, histogram.histogram_value.sum) == (3, 5)


def test_hyperparameters_in_the_same_directory(tmp_path):
    with TensorBoardLogger(tmp_path) as logger:
        logger.log_metrics({"a": 1.0}, step=5)
        logger.log_hparams({"lr": 0.1, "opt": {"name": "adam", "nesterov": True}}, {"best": 0.9})
        assert hparams(tmp_path) == ({"lr": 0.1, "opt/name": "adam", "opt/nesterov": True}, "STATUS_RUNNING")
        logger.log_hparams({"lr": 0.2, "depth": 3})
    assert hparams(tmp_path) == (
        {"lr": 0.2, "opt/name": "adam", "opt/nesterov": True, "depth": 3}, "STATUS_SUCCESS")  # fmt: skip

    def fail():
        with TensorBoardLogger(tmp_path) as again:
            again.log_hparams({"more": 1})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    got, status = hparams(tmp_path)
    assert (got["more"], got["lr"], status) == (1, 0.2, "STATUS_FAILURE")
    assert points(tmp_path, "best") == [(5, pytest.approx(0.9))]
    assert [path for path in tmp_path.iterdir() if path.is_dir() or "tfevents" not in path.name] == []


def layout_of(directory):
    (event,) = read(directory).Tensors("custom_scalars__config__")
    (category,) = Layout.FromString(event.tensor_proto.string_val[0]).category
    return {chart.title: list(chart.multiline.tag) for chart in category.chart}


def test_the_layout_comes_from_the_figure_patterns(tmp_path):
    import re

    with TensorBoardLogger(tmp_path / "default"):
        pass
    charts = layout_of(tmp_path / "default")
    assert list(charts) == [LOSS_CURVE.title, ACCURACY_CURVE.title]
    (loss,) = (re.compile(tag) for tag in charts["Loss"])
    assert loss.match("train/batch_loss")
    assert not loss.match("loss/scale")
    dice = CurveFigurePattern("dice", ("*dice",))
    with TensorBoardLogger(tmp_path / "own", layout=[dice]):
        pass
    assert list(layout_of(tmp_path / "own")) == ["dice"]
    with TensorBoardLogger(tmp_path / "none", layout=()):
        pass
    assert read(tmp_path / "none").Tags()["tensors"] == []


def test_opening_again_goes_on_and_hides_nothing(tmp_path):
    for run in range(3):
        with TensorBoardLogger(tmp_path) as logger:
            assert logger.global_step == run * 10
            for _ in range(10):
                logger.log_metrics({"a": float(run)})
            logger.log_figure("f", np.zeros((2, 2)), step=1000)
    assert points(tmp_path, "a") == [(step, step // 10) for step in range(30)]
    assert len(list(tmp_path.iterdir())) == 3


def test_going_on_where_another_writer_left_off(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        for i in range(5):
            writer.add_scalar("a", float(i), i)
    with TensorBoardLogger(tmp_path) as logger:
        logger.log_metrics({"a": 9.0})
    assert points(tmp_path, "a") == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 9)]


def test_a_clock_that_was_set_back_does_not_change_the_order(tmp_path):
    (tmp_path / "events.out.tfevents.4000000000.host.1.0").touch()
    for i in range(2):
        with TensorBoardLogger(tmp_path) as logger:
            logger.log_metrics({"a": float(i)})
    assert points(tmp_path, "a") == [(0, 0), (1, 1)]
    assert sorted(path.name.split(".")[3] for path in tmp_path.iterdir()) == ["4000000000", "4000000001", "4000000002"]


def expected_after_purge():
    return [(step, 1) for step in range(20)] + [(step, 2) for step in range(20, 25)]


@pytest.mark.parametrize("how", ["purge_step", "load_state_dict"])
def test_what_a_resume_undoes_is_hidden_and_not_deleted(tmp_path, how):
    with TensorBoardLogger(tmp_path) as logger:
        for i in range(50):
            logger.log_metrics({"a": 1.0})
            if i == 19:
                state = logger.state_dict()
    with TensorBoardLogger(tmp_path, purge_step=20 if how == "purge_step" else None) as logger:
        if how == "load_state_dict":
            logger.load_state_dict(state)
        assert (logger.global_step, logger.last_step) == (20, 19)
        for _ in range(5):
            logger.log_metrics({"a": 2.0})
    assert points(tmp_path, "a") == expected_after_purge()
    server = ServerAccumulator(str(tmp_path), {"tensors": 0})  # the one behind `tensorboard --logdir`
    server.Reload()
    assert [event.step for event in server.Tensors("a")] == list(range(25))
    with TensorBoardLogger(tmp_path) as logger:
        assert logger.global_step == 25
        logger.log_metrics({"loss": 1.0})
        logger.log_metric_figure(LOSS_CURVE)
    kept = EventAccumulator(str(tmp_path), STORE_EVERYTHING_SIZE_GUIDANCE, purge_orphaned_data=False)
    kept.Reload()
    assert len(kept.Scalars("a")) == 55


def test_a_curve_is_rebuilt_from_the_events(tmp_path, monkeypatch, capsys):
    drawn = []
    pattern_build = CurveFigurePattern.build
    monkeypatch.setattr(
        CurveFigurePattern, "build", lambda self, history: (drawn.append(history), pattern_build(self, history))[1]
    )
    with TensorBoardLogger(tmp_path) as logger:
        logger.log_metric_figure(LOSS_CURVE)
        for i in range(3):
            logger.log_metrics({"train/loss": float(i), "other": 1})
        logger.log_metric_figure(LOSS_CURVE)
        logger.log_metric_figure(ACCURACY_CURVE)
    assert drawn == [{"train/loss": ([0, 1, 2], [0.0, 1.0, 2.0])}]
    assert read(tmp_path).Tags()["images"] == ["loss_curve"]
    told = capsys.readouterr().err
    assert "logged so far: nothing yet" in told
    assert "logged so far: 'train/loss', 'other'" in told


def test_the_time_of_a_replay(tmp_path):
    with TensorBoardLogger(tmp_path) as logger:
        logger.set_wall_time(1000.5)
        logger.log_metrics({"a": 1.0})
        logger.log_metrics({"a": 1})
        logger.set_wall_time(None)
        logger.log_metrics({"a": 1.0})
    times = [event.wall_time for event in read(tmp_path).Scalars("a")]
    assert times[:2] == [1000.5, 1000.5]
    assert times[2] > 10**9


def test_threads(tmp_path):
    def work(number):
        for i in range(500):
            logger.log_metrics({"n": float(i), f"t{number}": i})

    with TensorBoardLogger(tmp_path) as logger:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert logger.global_step == 4000
    assert sorted(step for step, _ in points(tmp_path, "n")) == list(range(4000))
    assert all(len(points(tmp_path, f"t{number}")) == 500 for number in range(8))


def in_child(work):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.isolated
def test_a_forked_child_is_a_run_of_its_own(tmp_path):
    with TensorBoardLogger(tmp_path) as logger:
        logger.log_metrics({"parent": 0.0})

        def work():
            logger.log_metrics({"child": 1.0})
            logger.log_hparams({"of": "the child"})
            logger.cleanup()

        assert in_child(work) == 0
        assert in_child(lambda: None) == 0
        assert in_child(logger.cleanup) == 0
        logger.log_metrics({"parent": 1.0})
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert folder.name.startswith("worker-")
    assert points(folder, "child") == [(1, 1)]
    assert points(tmp_path, "parent") == [(0, 0), (1, 1)]
    assert hparams(folder) == ({"of": "the child"}, "STATUS_RUNNING")


def test_a_copy_in_another_process_is_a_run_of_its_own(tmp_path):
    with TensorBoardLogger(tmp_path) as logger:
        logger.log_metrics({"a": 0.0})
        script = "import pickle, sys; pickle.load(sys.stdin.buffer).log_metrics({'b': 1.0})"
        subprocess.run([sys.executable, "-c", script], input=pickle.dumps(logger), check=True, timeout=60)
        logger.log_metrics({"a": 1.0})
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert points(folder, "b") == [(1, 1)]
    assert len(points(tmp_path, "a")) == 2


def test_used_without_initialising_and_cleaned_up_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logger = TensorBoardLogger()
    assert str(logger.log_dir) == "logs"
    logger.log_metrics({"a": 1.0})
    monkeypatch.chdir("/")
    logger.log_metrics({"a": 1.0})
    state = logger.get_state()
    assert (state["type"], state["initialized"], state["events"], state["global_step"]) == (
        "TensorBoardLogger", True, 2, 2)  # fmt: skip
    assert (tmp_path / "logs" / state["event_file"]).is_file()
    logger.checkpoint()
    logger.cleanup()
    logger.cleanup()
    assert len(points(tmp_path / "logs", "a")) == 2
    with pytest.raises(RuntimeError, match="cleaned up"):
        logger.log_metrics({"a": 1.0})


def test_messages(tmp_path, capfd):
    with TensorBoardLogger(tmp_path, log_level="WARNING", log_file="board.log") as logger:
        logger.info("not shown")
        logger.warning("said %d", 1)
    assert "said 1" in capfd.readouterr().err
    assert (tmp_path / "board.log").read_text().count("said 1") == 1
    assert "not shown" not in (tmp_path / "board.log").read_text()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"log_level": "LOUD"}, ValueError, "log_level must be one of"),
        ({"log_file": "../x"}, ValueError, "log_file must be the plain name"),
        ({"theme": {"shout": "red"}}, ValueError, "unknown level 'shout'"),
        ({"layout": ["*loss"]}, TypeError, "not str"),
        ({"purge_step": -1}, ValueError, "step must be"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, error, words):
    with pytest.raises(error, match=words):
        TensorBoardLogger(tmp_path / "x", **arguments)
    assert not (tmp_path / "x").exists()
