"""`from ridgepole.tensorboard import SummaryWriter`, beside torch's own."""

import inspect
import math
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import orjson
import pytest
import torch
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter as TorchWriter

import ridgepole
from ridgepole import read_metrics
from ridgepole.rundir import list_runs, read_run
from ridgepole.tensorboard import SummaryWriter

PROGRAM = Path(__file__).with_name("summary_writer_program.py")
LAYOUT = {"Loss": {"loss": ["Multiline", ["loss/train", "loss/test"]]}}
PR_RAW = [np.arange(6.0).reshape(6, 1)[i].repeat(4) for i in range(6)]
REMADE = {"add_video", "add_onnx_graph"}
"""torch needs moviepy and onnx for them, which are not in the development environment."""


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])


def figure():
    made = Figure((1, 1))
    made.add_subplot().plot([3, 1, 2])
    return made


def calls():
    """Every `add_*`, with all of its arguments where it matters."""
    draw = np.random.default_rng(0)
    image = draw.random((3, 8, 9), np.float32)
    net = torch.nn.Linear(3, 1)
    sound = np.sin(np.arange(800) / 8).astype(np.float32)[None]
    yield "add_scalar", ("loss/train", 0.5, 1), {}
    yield "add_scalar", ("loss/train", np.float32(0.1), 2), {"walltime": 1700000000.25}
    yield "add_scalar", ("loss/train", torch.tensor([0.25]), 3), {}
    yield "add_scalar", ("loss/train", torch.tensor(0.3, dtype=torch.bfloat16, requires_grad=True), np.int64(4)), {}
    yield "add_scalar", ("loss/train", math.nan, 5), {}
    yield "add_scalar", ("loss/train", 1e300, 6), {}
    yield "add_scalar", ("loss/train", True, 7), {}
    yield "add_scalar", ("loss/train", 2**40 + 1, 7.9), {}
    yield "add_scalar", ("without/step", 7), {}
    yield "add_scalar", ("new", 0.5, 1), {"new_style": True}
    yield "add_scalar", ("new/double", 1 / 3, 1), {"new_style": True, "double_precision": True}
    yield "add_scalars", ("both/x", {"sin": 0.5, "cos": torch.tensor(0.25)}, 3), {"walltime": 1700000001.0}
    yield "add_scalars", ("both/x", {"sin": 0.75}, 4), {}
    yield "add_tensor", ("tensor", torch.arange(4.0), 2), {}
    yield "add_histogram", ("weights", draw.normal(size=1000), 2), {}
    yield "add_histogram", ("weights", torch.linspace(-1, 1, 50), 3), {"bins": "auto"}
    yield "add_histogram", ("weights", np.zeros(5), 4), {"bins": "fd", "max_bins": 3, "walltime": 1700000002.0}
    yield "add_histogram_raw", ("raw", 0.0, 3.0, 6, 9.0, 17.0, [1.0, 2.0, 3.0], [1, 2, 3], 1), {}
    yield "add_image", ("image", image, 1), {}
    yield "add_image", ("image", (image.transpose(1, 2, 0) * 255).astype(np.uint8), 2), {"dataformats": "HWC"}
    yield "add_image", ("grey", image[0], 1), {"dataformats": "HW"}
    yield "add_images", ("images", np.stack([image] * 3), 1), {}
    yield "add_image_with_boxes", ("boxes", image, np.array([[1.0, 1, 5, 5]]), 1), {"labels": ["cat"]}
    yield "add_figure", ("figure", figure(), 1), {"close": False}
    yield "add_figure", ("figures", [figure(), figure()], 1), {}
    yield "add_audio", ("sound", sound, 1), {"sample_rate": 8000}
    yield "add_text", ("text", "**bold**", 1), {}
    yield "add_graph", (net, torch.zeros(2, 3)), {}
    yield "add_embedding", (np.eye(3),), {"metadata": ["a", "b", "c"], "global_step": 5, "tag": "emb"}
    yield "add_pr_curve", ("pr", np.array([0, 1, 1]), np.array([0.1, 0.8, 0.4]), 1), {"num_thresholds": 7}
    yield "add_pr_curve_raw", ("pr/raw", *PR_RAW, 1), {"num_thresholds": 4}
    yield "add_custom_scalars_multilinechart", (["loss/train", "loss/test"],), {"category": "c", "title": "t"}
    yield "add_custom_scalars_marginchart", (["a", "b", "c"],), {}
    yield "add_custom_scalars", (LAYOUT,), {}
    yield "add_mesh", ("mesh", torch.rand(1, 4, 3, generator=torch.Generator().manual_seed(0))), {"global_step": 1}
    yield "add_hparams", ({"lr": 0.1, "net": "a", "deep": True}, {"hparam/accuracy": 0.9}), {"run_name": "hp"}


def write(writer):
    for name, args, kwargs in calls():
        if hasattr(writer, name):  # an older torch has fewer
            getattr(writer, name)(*args, **kwargs)
    writer.close()


def contents(folder):
    """What TensorBoard's own reader finds in a folder and those below: by folder and tag, step and content."""
    found = {}
    everything = dict.fromkeys(("scalars", "histograms", "images", "audio", "tensors"), 0)
    for path in sorted({file.parent for file in Path(folder).rglob("*tfevents*")}):
        reader = EventAccumulator(str(path), size_guidance=everything)
        reader.Reload()
        where, tags = str(path.relative_to(folder)), reader.Tags()
        for tag in tags["scalars"]:
            found[where, tag] = [(e.step, repr(e.value), fixed(e.wall_time)) for e in reader.Scalars(tag)]
        for tag in tags["histograms"]:
            found[where, tag] = [(e.step, e.histogram_value, fixed(e.wall_time)) for e in reader.Histograms(tag)]
        for tag in tags["images"]:
            found[where, tag] = [(e.step, e.encoded_image_string, e.width, e.height) for e in reader.Images(tag)]
        for tag in tags["audio"]:
            found[where, tag] = [(e.step, e.encoded_audio_string, e.sample_rate) for e in reader.Audio(tag)]
        for tag in tags["tensors"]:
            metadata = reader.SummaryMetadata(tag).plugin_data
            content = b"" if metadata.plugin_name == "hparams" else metadata.content  # which has the time in it
            found[where, tag] = [
                (e.step, str(e.tensor_proto), metadata.plugin_name, content) for e in reader.Tensors(tag)
            ]
        if tags["graph"]:
            found[where, "graph"] = reader.Graph().SerializeToString()
    return found


def fixed(wall_time):
    return wall_time if wall_time < 1.75e9 else None


def media(run):
    return [orjson.loads(line) for line in (run.path / "media.jsonl").read_bytes().splitlines()]


def newest(root="runs"):
    return next(iter(list_runs(Path(root))))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same calls with both classes, in one directory."""
    folder = tmp_path_factory.mktemp("both")
    before, arguments = Path.cwd(), sys.argv[:]
    os.chdir(folder)
    sys.argv[:] = ["train.py"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, about the tracing of graphs and a histogram of NaN
            for writer in (TorchWriter("torch"), SummaryWriter("ours/exp1")):
                torch.manual_seed(0)
                write(writer)
    finally:
        os.chdir(before)
        sys.argv[:] = arguments
    return folder


def test_the_calls_are_all_there_are():
    known = {name for name in dir(TorchWriter) if name.startswith("add_")}
    assert known - {name for name, _, _ in calls()} == REMADE


@pytest.mark.parametrize("name", ["__init__", *(name for name in dir(TorchWriter) if not name.startswith("_"))])
def test_arguments_and_defaults_are_those_of_torch(name):
    def described(owner):
        return [(p.name, p.default, p.kind) for p in inspect.signature(getattr(owner, name)).parameters.values()]

    if callable(getattr(TorchWriter, name)):
        assert described(SummaryWriter) == described(TorchWriter)


def test_event_files_hold_what_those_of_torch_hold(both):
    theirs, ours = contents(both / "torch"), contents(both / "ours" / "exp1")
    assert len(theirs) > 20
    assert ours.keys() == theirs.keys()
    for key, values in theirs.items():
        assert ours[key] == values, key


def test_the_run_has_the_numbers_with_all_digits(both):
    run = newest(both / "runs")
    assert (run.status, run.labels.name, run.fields["pipeline"]) == ("finished", "exp1", "train")
    frame = read_metrics(run.path)
    loss = frame.filter(frame["name"] == "loss/train")
    assert loss["step"].to_list() == [1, 2, 3, 4, 5, 6, 7, 7]
    values = loss["value"].to_list()
    assert [*values[:2], *values[2:4], *values[5:]] == [
        0.5, float(np.float32(0.1)), 0.25, float(torch.tensor(0.3, dtype=torch.bfloat16)), 1e300, 1.0, 2.0**40 + 1,
    ]  # fmt: skip
    assert math.isnan(values[4])
    assert loss["time"][1] == 1700000000.25
    rows = {(name, step): value for name, step, value in frame.select("name", "step", "value").iter_rows()}
    assert rows["both/x/sin", 3] == 0.5
    assert rows["both/x/cos", 3] == 0.25
    assert rows["both/x/sin", 4] == 0.75
    assert rows["without/step", 0] == 7.0
    assert rows["new", 1] == 0.5
    assert rows["new/double", 1] == 1 / 3
    assert frame.filter(frame["name"] == "tensor")["text"].to_list() == ["[0.0, 1.0, 2.0, 3.0]"]


def test_the_run_has_the_media_and_hyperparameters(both):
    run = newest(both / "runs")
    lines = media(run)
    kinds = {}
    for line in lines:
        kinds.setdefault(line["kind"], []).append((line["name"], line["step"]))
    assert kinds["figure"] == [
        ("image", 1), ("image", 2), ("grey", 1), ("images", 1), ("boxes", 1), ("figure", 1), ("figures", 1),
    ]  # fmt: skip
    assert kinds["histogram"] == [("weights", 2), ("weights", 3), ("weights", 4), ("raw", 1)]
    assert kinds["text"] == [("text", 1)]
    assert kinds["audio"] == [("sound", 1)]
    assert kinds["table"] == [("pr", 1), ("pr/raw", 1)]
    assert ("emb/tensors.tsv", 5) in kinds["artifact"]
    assert ("graph", 0) in kinds["artifact"]
    reader = EventAccumulator(str(both / "torch"), size_guidance={"images": 0})
    reader.Reload()
    first = next(line for line in lines if line["name"] == "image")
    assert (run.path / first["file"]).read_bytes() == reader.Images("image")[0].encoded_image_string
    histogram = next(line for line in lines if line["name"] == "weights")
    assert sum(histogram["counts"]) == 1000
    assert len(histogram["edges"]) == len(histogram["counts"]) + 1
    assert histogram["edges"] == sorted(histogram["edges"])
    assert run.json("config.resolved.json")["params"] == {"lr": 0.1, "net": "a", "deep": True}
    assert run.json("hparams.json")["metrics"] == {"hparam/accuracy": 0.9}


def test_an_event_is_in_its_file_when_the_call_returns():
    writer = SummaryWriter("tb", filename_suffix=".mine")
    writer.add_scalar("loss", 0.5, 3)
    (file,) = Path("tb").iterdir()
    assert file.name.endswith(".mine")
    assert contents("tb") == {(".", "loss"): [(3, "0.5", None)]}
    assert read_metrics(newest().path)["value"].to_list() == [0.5]
    assert newest().status == "running"
    writer.close()


def test_a_video_needs_pillow_alone():
    with SummaryWriter("tb") as writer:
        writer.add_video("video", np.random.default_rng(0).random((2, 4, 3, 6, 5)), 7, fps=2)
    ((step, data, width, height),) = contents("tb")[".", "video"]
    assert (step, data[:6], width, height) == (7, b"GIF89a", 10, 6)
    (line,) = media(newest())
    assert (line["kind"], line["step"]) == ("video", 7)


def test_a_default_directory_is_as_in_torch():
    writer = SummaryWriter(comment="-lr")
    assert Path(writer.log_dir).parent == Path("runs")
    assert writer.log_dir.endswith("-lr")
    writer.close()
    assert len(list(list_runs(Path("runs")))) == 1  # the directory of event files is not a run
    assert newest().labels.name == ""


def test_writers_at_the_same_time_share_a_run_and_others_do_not():
    train, test = SummaryWriter("tb/train"), SummaryWriter("tb/test")
    train.add_scalar("loss", 1.0, 0)
    test.add_scalar("loss", 2.0, 0)
    again = SummaryWriter("tb/train")
    again.add_scalar("loss", 3.0, 1)
    for each in (train, test, again):
        each.close()
    assert read_metrics(newest().path).select("name", "value").rows() == [
        ("loss", 1.0),
        ("test/loss", 2.0),
        ("loss", 3.0),
    ]
    with SummaryWriter("tb/other") as other:
        other.add_scalar("loss", 4.0, 0)
    assert len(list(list_runs(Path("runs")))) == 2
    assert read_metrics(newest().path).select("name", "value").rows() == [("loss", 4.0)]


def test_a_closed_writer_opens_its_files_and_its_run_again():
    writer = SummaryWriter("tb")
    writer.add_scalar("loss", 1.0, 0)
    writer.close()
    writer.close()
    assert newest().status == "finished"
    writer.add_scalar("loss", 2.0, 1)
    assert newest().status == "running"
    writer.close()
    assert len(list(list_runs(Path("runs")))) == 1
    assert read_metrics(newest().path)["value"].to_list() == [1.0, 2.0]
    assert (newest().status, newest().fields["attempt"]) == ("finished", 2)
    assert [value for _, value, _ in contents("tb")[".", "loss"]] == ["1.0", "2.0"]


def test_it_logs_into_the_run_that_surrounds_it():
    with ridgepole.run("outer", config={"a": 1}) as run:
        run.log({"mine": 1.0})
        with SummaryWriter("tb") as writer:
            writer.add_scalar("loss", 0.5, 7)
            writer.add_hparams({"lr": 0.1}, {"acc": 1.0})
        run.log({"mine": 2.0})
        assert read_run(run.dir).status == "running"
    assert len(list(list_runs(Path("runs")))) == 1
    assert newest().labels.name == "outer"
    assert newest().json("config.resolved.json")["params"] == {"a": 1, "lr": 0.1}
    assert read_metrics(newest().path)["name"].to_list() == ["mine", "loss", "acc", "mine"]


def test_a_step_below_zero_is_at_zero_in_the_record():
    with SummaryWriter("tb") as writer:
        writer.add_scalar("loss", 0.5, -1)
    assert contents("tb")[".", "loss"] == [(-1, "0.5", None)]
    assert read_metrics(newest().path)["step"].to_list() == [0]


@pytest.mark.parametrize(("value", "error"), [([1, 2], NotImplementedError), (torch.zeros(2), AssertionError)])
def test_what_torch_refuses_is_refused_and_not_logged(value, error):
    with SummaryWriter("tb") as writer, pytest.raises(error):
        writer.add_scalar("loss", value, 1)
    assert contents("tb") == {}
    assert not (newest().path / "metrics.jsonl").read_bytes()


def test_all_writers_of_a_script_share_its_run(tmp_path, torch_server):
    done = torch_server.call("run", str(PROGRAM), cwd=tmp_path, timeout=100, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    (run,) = list_runs(tmp_path / "runs")
    assert (run.status, run.labels.name) == ("finished", "train")
    assert read_metrics(run.path).select("name", "value").rows() == [("loss", 1.0), ("loss", 0.5), ("test/loss", 0.25)]
