"""What a run off line holds, read back from the files of the real client."""

import json
import math
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from ridgepole.errors import LifecycleError
from ridgepole.loggers.local.media_files import from_hparams
from ridgepole.loggers.wandb.frames import merged, nested
from ridgepole.metrics import batch_loss, validation_accuracy
from ridgepole.metrics.convert import JsonText
from ridgepole.permanences import BasicLogger, LoggerGroup, WandBLogger

EVIL = ["../../evil", "/abs", "a\0b", "x" * 300, "Lo.ss", "é🎉", "a/b/c", " ", "step", "_step", "new\nline", "q?<>|*"]


@pytest.fixture(scope="module")
def full(tmp_path_factory, recorded):
    """One run with something of everything."""
    work = tmp_path_factory.mktemp("full")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(work / "home"))
        patch.setenv("WANDB_MODE", "offline")
        (work / "cwd").mkdir()
        (work / "home").mkdir()
        patch.chdir(work / "cwd")
        patch.setenv("WANDB_DIR", str(work / "out"))
        logger = WandBLogger(project="p", name="n", tags=["a", "b"], notes="why", log_file="said.log")
        basic = BasicLogger(work / "local")
        with basic, logger:
            group = LoggerGroup([basic, logger])
            yield_of = _log_everything(group)
            state = logger.get_state()
        yield work, recorded(state["sync_dir"]), state, yield_of


def _log_everything(group):
    for step in (5, 3, 9, 0, 9):
        group.log_metrics({"order": step, "loss": 10.0 - step}, step=step)
    group.log_metrics(
        {"nan": math.nan, "inf": -math.inf, "text": "words", "yes": True, "list": [1, 2.5], "deep": {"er": 2**63}}
    )
    group.log_metrics({"weights": np.arange(100.0)})
    group.log_metrics([batch_loss(0.5), validation_accuracy(0.75)], step=100)
    group.log_metrics(validation_accuracy(0.5), step=101)
    figure = plt.figure(figsize=(1, 1))
    group.log_figure("a figure", figure)
    for name in EVIL:
        group.log_metrics({"evil/" + name: 1.0, name: 2.0}, step=200)
        group.log_figure(name, np.full((4, 4), 0.5))
    pixels = np.zeros((8, 6, 3), np.uint8)
    labels = np.arange(48).reshape(8, 6) + 170
    boxes = {"found": [{"corners": (1, 2, 3, 4), "label": 1, "name": "cat", "score": 0.25}]}
    group.log_image("photo", pixels, masks={"prediction": {"labels": labels, "names": {200: "dog"}}}, boxes=boxes)
    group.log_image("many", pixels, masks={"m": np.arange(48).reshape(8, 6) * 300})
    group.log_table("table", {"a": [1, None, 3], "b": ["x", "y", "<z>"]})
    group.log_histogram("spread", np.arange(2000.0), bins=1000)
    group.log_metrics({"single": torch.tensor([[0.25]]), "not a number": 1j}, step=300)
    group.log_histogram("diverged", [math.nan, math.nan, math.inf])
    group.log_table("pictures", {"n": [1], "image": [pixels]})
    group.log_text("sample", "a <script>alert(1)</script>\nb")
    group.log_hparams({"lr": 0.1, "model": {"width": 3, "layers": [64, (1, None)], "none": {}}}, {"final": 0.9})
    group.log_hparams(
        {"model": {"depth": np.eye(2), "kinds": {"b", "a"}}, "like a list": "[1]", "lr/decay": 0.5, "a//b": 1}
    )
    group.warning("careful with %s", "that")
    return figure


def test_every_step_is_kept_in_the_order_of_the_calls(full):
    rows = [row for row in full[1].rows if "order" in row]
    assert [row["step"] for row in rows] == [5, 3, 9, 0, 9]
    assert [row["order"] for row in rows] == [5, 3, 9, 0, 9]
    assert sorted({row["_step"] for row in full[1].rows}) == list(range(len(full[1].rows))), "the client merged rows"


def test_the_step_is_the_axis_of_all_metrics(full):
    axes = {metric.glob_name or metric.name: metric.step_metric for metric in full[1].of("metric")}
    assert axes["*"] == "step"


def test_values_of_every_kind_arrive(full):
    (row,) = [row for row in full[1].rows if "text" in row]
    assert (row["text"], row["yes"], row["list"], row["deep/er"]) == ("words", True, [1, 2.5], 2**63)
    assert math.isnan(float(row["nan"]))
    assert float(row["inf"]) == -math.inf
    (weights,) = full[1].column("weights")
    assert weights["_type"] == "histogram"
    assert sum(weights["values"]) == 100


def test_objects_arrive_as_numbers_text_and_images(full):
    assert full[1].column("single") == [0.25]
    assert full[1].column("not a number") == ["complex 1j"]
    assert (full[1].column("diverged/nan"), full[1].column("diverged/inf")) == ([2], [1])
    (logged,) = full[1].column("pictures")
    assert (logged["_type"], logged["ncols"], logged["nrows"]) == ("table-file", 2, 1)
    contents = [entry for artifact in full[1].of("artifact") for entry in artifact.manifest.contents]
    (table,) = [entry.local_path for entry in contents if entry.path == "pictures.table.json"]
    number, picture = json.loads(Path(table).read_text())["data"][0]
    assert (number, picture["_type"], picture["width"], picture["height"]) == (1, "image-file", 6, 8)
    assert picture["path"] in [entry.path for entry in contents]


def test_records_have_the_time_at_which_they_were_logged(full):
    times = [row["_timestamp"] for row in full[1].rows]
    assert times == sorted(times)
    assert abs(time.time() - times[0]) < 3600


def test_a_figure_has_the_bytes_of_the_local_record(full):
    work, found = full[0], full[1]
    lines = [json.loads(line) for line in (work / "local" / "media.jsonl").read_text().splitlines()]
    (line,) = [line for line in lines if line["name"] == "a figure"]
    (logged,) = found.column("a figure")
    assert logged["_type"] == "image-file"
    assert (found.path.parent / "files" / logged["path"]).read_bytes() == (work / "local" / line["file"]).read_bytes()


@pytest.mark.parametrize("name", EVIL)
def test_evil_names_lose_nothing_and_escape_nowhere(full, name):
    found = full[1]
    assert found.column("evil/" + name) == [1.0]
    plain = found.column(f"logged/{name}" if name in ("step", "_step") else name)
    assert 2.0 in plain, "the metric of that name"
    pictures = [value for row in found.rows for value in row.values() if isinstance(value, dict)
                and value.get("caption") == name]  # fmt: skip
    assert len(pictures) == 1, "the figure of that name"
    path = (found.path.parent / "files" / pictures[0]["path"]).resolve()
    assert path.is_file()
    assert found.path.parent in path.parents


def test_an_image_has_masks_and_boxes_of_its_own(full):
    found = full[1]
    files = found.path.parent / "files"
    (photo,) = found.column("photo")
    mask = np.asarray(Image.open(files / photo["masks"]["prediction"]["path"]))
    assert mask.tolist() == (np.arange(48).reshape(8, 6) + 170).tolist()
    names = found.config["_wandb"]["mask/class_labels"]["photo_wandb_delimeter_prediction"]["value"]
    assert (names["200"], names["201"]) == ("dog", "201")
    (box,) = json.loads((files / photo["boxes"]["found"]["path"]).read_text())["box_data"]
    assert box["position"] == {"minX": 1, "maxX": 3, "minY": 2, "maxY": 4}
    assert (box["class_id"], box["scores"], box["box_caption"]) == (1, {"score": 0.25}, "cat 0.25")


def test_classes_beyond_a_byte_are_numbered_anew(full):
    found = full[1]
    (many,) = found.column("many")
    mask = np.asarray(Image.open(found.path.parent / "files" / many["masks"]["m"]["path"]))
    assert len(np.unique(mask)) == 48
    names = found.config["_wandb"]["mask/class_labels"]["many_wandb_delimeter_m"]["value"]
    assert names[str(mask[7, 5])] == str(47 * 300)


def test_a_table_a_histogram_and_a_text(full):
    found = full[1]
    files = found.path.parent / "files"
    (table,) = found.column("table")
    content = json.loads((files / table["path"]).read_text())
    assert content["columns"] == ["a", "b"]
    assert content["data"] == [[1, "x"], [None, "y"], [3, "<z>"]]
    (spread,) = found.column("spread")
    assert sum(spread["values"]) == 2000
    assert len(spread["bins"]) == len(spread["values"]) + 1 <= 513
    assert (spread["bins"][0], spread["bins"][-1]) == (0, 1999)
    (text,) = found.column("sample")
    page = (files / text["path"]).read_text()
    assert "&lt;script&gt;" in page
    assert "<script>" not in page


def test_config_and_summary(full):
    found = full[1]
    assert found.summary["final"] == 0.9
    assert found.summary["best/validation/accuracy"] == 0.75
    assert found.summary["best/validation/accuracy/step"] == 100
    assert (found.summary["best/loss"], found.summary["best/loss/step"]) == (1.0, 9)


def test_hyperparameters_keep_their_lists_and_tables(full):
    wanted = {
        "lr": 0.1,
        "model": {"width": 3, "layers": [64, [1, None]], "none": {}, "depth": [[1, 0], [0, 1]], "kinds": ["a", "b"]},
        "like a list": "[1]",
        "lr/decay": 0.5,
        "a//b": 1,
    }
    assert {name: value for name, value in full[1].config.items() if name in wanted} == wanted
    params, _ = from_hparams((full[0] / "local" / "hparams.json").read_bytes())
    assert nested(params) == wanted, "an export has them, too"


def test_a_second_logger_of_a_run_adds_to_the_tables_of_its_config():
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"b": [3]}, "d": {}}) == {"a": {"b": [3], "c": 2}, "d": {}}
    assert merged(1, {"a": 2}) == {"a": 2}
    assert merged({"a": 2}, 1) == 1


def test_names_that_can_not_be_divided_stay_whole():
    deep = "/".join("a" * 3000)
    params = {"a": 1, "a/b": 2, "/c": 3, "d/": 4, deep: 5, "x/y": 6, "x/z/z": JsonText("[NaN")}
    assert nested(params) == {
        "a": 1, "a/b": 2, "/c": 3, "d/": 4, deep: 5, "x": {"y": 6, "z": {"z": "[NaN"}},
    }  # fmt: skip


def test_what_the_run_says_of_itself(full):
    (run,) = full[1].of("run")
    assert (run.project, run.display_name, list(run.tags), run.notes) == ("p", "n", ["a", "b"], "why")
    assert run.run_id == full[2]["id"]
    assert (full[2]["mode"], full[2]["dropped"]) == ("offline", 0)
    assert full[2]["sent"] == len(full[1].rows) + 2  # and the hyperparameters


def test_messages_go_to_the_logs_of_the_run_and_to_the_file(full):
    assert "WARNING careful with that" in full[1].messages
    assert "careful with that" in (full[0] / "out" / "wandb" / "said.log").read_text()


def test_nothing_is_written_elsewhere(full):
    assert list((full[0] / "home").rglob("*")) == []
    assert list((full[0] / "cwd").rglob("*")) == []


def test_the_terminal_is_left_alone(tmp_path, capfd):
    logger = WandBLogger(mode="offline", project="p")
    logger.log_metrics({"a": 1})
    logger.cleanup()
    out, err = capfd.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert f"wandb sync {logger.get_state()['sync_dir']}" in line
    assert str(tmp_path / "work" / "logs" / "wandb") in line
    with pytest.raises(LifecycleError, match="cleaned up"):
        logger.log_metrics({"a": 1})


def test_a_replay_keeps_the_times_of_the_records(recorded):
    with WandBLogger(mode="offline", project="p") as logger:
        logger.set_wall_time(1_700_000_000.5)
        logger.log_metrics({"a": 1})
        logger.set_wall_time(None)
        logger.log_metrics({"a": 2})
        directory = logger.get_state()["sync_dir"]
    old, new = (row["_timestamp"] for row in recorded(directory).rows)
    assert old == 1_700_000_000.5
    assert new > old


def test_flush_and_checkpoint_bring_everything_to_the_client(recorded):
    with WandBLogger(mode="offline", project="p") as logger:
        for i in range(500):
            logger.log_metrics({"a": i})
        logger.flush()
        assert logger._link.handled == logger._link.sent == 500
        logger.log_metrics({"a": 500})
        logger.checkpoint()
        assert logger._link.handled == 501
        directory = logger.get_state()["sync_dir"]
        writer = psutil.Process(logger._link._process.pid)
    assert not writer.is_running()
    assert recorded(directory).column("a") == list(range(501))


def test_disabled_starts_nothing_and_counts_steps(tmp_path, monkeypatch, children):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with WandBLogger() as logger:
        logger.log_metrics({"a": 1})
        logger.log_figure("f", np.zeros((2, 2)))
        with pytest.raises(ValueError, match="empty"):
            logger.log_metrics({"": 1})
        assert logger.global_step == 1
        assert logger.get_state()["dropped"] == 0
        assert children() == []
    assert list((tmp_path / "work").iterdir()) == []
