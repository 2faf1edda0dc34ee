"""A declared TensorBoardLogger in a real run, beside the record that every run has."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import STORE_EVERYTHING_SIZE_GUIDANCE, EventAccumulator
from tensorboard.plugins.hparams.api_pb2 import Status
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from ridgepole import Pipeline, process
from ridgepole.errors import LogWriteError, RunDirError
from ridgepole.metrics import batch_loss, load_metrics, validation_accuracy
from ridgepole.permanences import BaseLoggerManager, Device, TensorBoardLogger


@process
def train(logger: BaseLoggerManager, epochs: int = 3, optimizer: dict | None = None):
    import numpy as np

    for _ in range(epochs):
        logger.log_metrics(batch_loss(0.5))
        logger.log_metrics([validation_accuracy(0.75)])
    logger.log_figure("noise", np.zeros((4, 4)))
    logger.log_hparams({"own": 1}, {"final": 0.75})


@process
def break_the_board(board: TensorBoardLogger, logger: BaseLoggerManager):
    fd = os.open("/dev/full", os.O_WRONLY)
    os.dup2(fd, board._writer._file.fd)
    os.close(fd)
    logger.log_metrics({"a": 1.0})
    logger.log_metrics({"a": 1.0})


@process
def replace_the_directory(board: TensorBoardLogger):
    shutil.rmtree(board.log_dir)
    board.log_dir.write_text("a file in its place")


def pipeline(**keys):
    return Pipeline("board", seed=7, progress=False).permanence("board", TensorBoardLogger, **keys)


def read(directory):
    found = EventAccumulator(str(directory), STORE_EVERYTHING_SIZE_GUIDANCE)
    found.Reload()
    return found


def test_beside_the_record_of_the_run(tmp_path):
    result = pipeline().process("train", train, epochs=4, optimizer={"name": "adam"}).run(tmp_path)
    found = read(result.path)
    assert [(e.step, e.value) for e in found.Scalars("train/batch_loss")] == [(i, 0.5) for i in range(4)]
    assert [(e.step, e.value) for e in found.Scalars("validation/accuracy")] == [(i, 0.75) for i in range(4)]
    assert [image.step for image in found.Images("noise")] == [3]
    plugin = found.PluginTagToContent("hparams")
    start = HParamsPluginData.FromString(plugin["_hparams_/session_start_info"]).session_start_info
    end = HParamsPluginData.FromString(plugin["_hparams_/session_end_info"]).session_end_info
    got = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
    assert got == {"seed": 7, "train/epochs": 4, "train/optimizer/name": "adam", "own": 1}
    assert Status.Name(end.status) == "STATUS_SUCCESS"
    frame = load_metrics(result.path).frame
    assert frame.filter(frame["name"] == "train/batch_loss")["step"].to_list() == [0, 1, 2, 3]


def test_the_defaults_of_a_device_fill_no_column(tmp_path):
    made = pipeline().permanence("device", Device, cpu="force", wait=5.0)
    result = made.process("train", train).run(tmp_path)
    plugin = read(result.path).PluginTagToContent("hparams")
    start = HParamsPluginData.FromString(plugin["_hparams_/session_start_info"]).session_start_info
    assert sorted(start.hparams) == ["device/cpu", "device/wait", "own", "seed", "train/epochs"]


def test_an_integer_that_no_float_holds_is_text(tmp_path):
    with TensorBoardLogger(tmp_path) as logger:
        logger.log_hparams({"large": 2**53 + 1, "small": 2**53})
    plugin = read(tmp_path).PluginTagToContent("hparams")
    start = HParamsPluginData.FromString(plugin["_hparams_/session_start_info"]).session_start_info
    assert start.hparams["large"].string_value == "9007199254740993"
    assert start.hparams["small"].number_value == 2**53


def test_a_run_that_fails_is_marked_so(tmp_path):
    @process
    def fail(logger: BaseLoggerManager):
        logger.log_hparams({"own": 1})
        raise ValueError("no good")

    with pytest.raises(ValueError, match="no good"):
        pipeline().process("fail", fail).run(tmp_path)
    (run,) = tmp_path.iterdir()
    plugin = read(run).PluginTagToContent("hparams")
    end = HParamsPluginData.FromString(plugin["_hparams_/session_end_info"]).session_end_info
    assert Status.Name(end.status) == "STATUS_FAILURE"


@pytest.mark.isolated
def test_a_board_that_fails_does_not_stop_the_run(tmp_path, capfd):
    result = pipeline().process("break", break_the_board).run(tmp_path)
    assert result.status == "finished"
    assert load_metrics(result.path).records == 2
    assert capfd.readouterr().err.count("TensorBoardLogger failed and is switched off") == 1
    assert json.loads((result.path / "summary.json").read_text())["dropped"] >= 2


def test_a_checkpoint_that_fails_stops_only_a_run_whose_board_is_strict(tmp_path, capfd):
    board = tmp_path / "board"
    result = pipeline(log_dir=str(board)).process("replace", replace_the_directory).run(tmp_path / "runs")
    assert result.status == "finished"
    assert "no new file can be created" in capfd.readouterr().err
    board.unlink()
    with pytest.raises((LogWriteError, BaseExceptionGroup)) as raised:
        pipeline(log_dir=str(board), strict=True).process("replace", replace_the_directory).run(tmp_path / "runs")
    assert "no new file can be created" in "".join(map(str, getattr(raised.value, "exceptions", [raised.value])))


def test_a_directory_of_another_run_is_refused_before_training(tmp_path):
    board = pipeline(log_dir=str(tmp_path / "board")).process("train", train)
    first = board.run(tmp_path / "runs")
    with pytest.raises(RunDirError, match=f"holds event files of Ridgepole run {first.id}"):
        board.run(tmp_path / "runs")
    with TensorBoardLogger(tmp_path / "script") as logger:
        logger.log_metrics({"a": 1.0})
    with pytest.raises(RunDirError, match="holds event files of Ridgepole, and"):
        pipeline(log_dir=str(tmp_path / "script")).process("train", train).run(tmp_path / "runs")


def test_declared_in_a_file(tmp_path):
    (tmp_path / "demo.toml").write_text("""
[pipeline]
name = "demo"
package = "demo_board"

[permanences.board]
type = "TensorBoardLogger"
layout = [{ name = "dice", metrics = ["*dice"] }]

[processes.train]
type = "train"
""")
    (tmp_path / "demo_board.py").write_text("""
from ridgepole import process
from ridgepole.permanences import BaseLoggerManager

@process
def train(logger: BaseLoggerManager):
    logger.log_metrics({"dice": 0.5})
""")
    done = subprocess.run(
        [sys.executable, "-m", "ridgepole", "run", "demo.toml", "--runs-dir", "runs"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    found = read(run)
    assert found.Tags()["scalars"] == ["dice"]
    (layout,) = found.Tensors("custom_scalars__config__")
    assert b"dice" in layout.tensor_proto.string_val[0]
