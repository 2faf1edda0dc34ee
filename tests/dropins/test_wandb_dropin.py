"""`import ridgepole.wandb as wandb`, beside W&B's own client."""

import argparse
import math
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import orjson
import pytest

import ridgepole.wandb as wandb
from ridgepole import LifecycleError, TrackerError, read_metrics
from ridgepole.importers import import_runs
from ridgepole.loggers.wandb.run_file import RunFile
from ridgepole.rundir import list_runs
from ridgepole.sweeps import run_sweep

PROGRAM = Path(__file__).with_name("wandb_program.py")
LINES = "import wandb\n", "import ridgepole.wandb as wandb\n"


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    yield
    wandb.finish()


def newest(root="runs"):
    return next(iter(list_runs(Path(root))))


def media(run):
    return [orjson.loads(line) for line in (run.path / "media.jsonl").read_bytes().splitlines()]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The folder in which the program ran with either line."""
    folder = tmp_path_factory.mktemp("both")
    text = PROGRAM.read_text(encoding="utf-8")
    assert text.count(LINES[0]) == 1
    (folder / "theirs.py").write_text(text, encoding="utf-8")
    (folder / "ours.py").write_text(text.replace(*LINES), encoding="utf-8")
    environ = os.environ | {"WANDB_SILENT": "true", "WANDB_CONSOLE": "off", "WANDB_ERROR_REPORTING": "false"}
    for name in ("theirs", "ours"):
        (folder / name).mkdir()
        done = subprocess.run(
            [sys.executable, str(folder / f"{name}.py"), "--lr", "0.2"],
            cwd=folder / name,
            env=environ | {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=110,
        )
        assert done.returncode == 0, done.stderr
    return folder


def history(folder):
    """The numbers and texts of W&B's file by name and step; nested names joined as ours are."""
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    found = {}
    for row in RunFile(path).rows():
        step = row["_step"]
        of_media = tuple(name.removesuffix("_type") for name in row if name.endswith("._type"))
        for name, value in row.items():
            if not name.startswith(("_", *of_media)):
                found |= {(key, step): each for key, each in flat(name.replace(".", "/"), value)}
    return found


def flat(name, value):
    if isinstance(value, dict) and "_type" not in value:
        for key, inner in value.items():
            yield from flat(f"{name}/{key}", inner)
    elif isinstance(value, bool | int | float | str):
        yield name, value


def test_the_rows_are_those_of_wandb(both):
    theirs = history(both / "theirs")
    frame = read_metrics(newest(both / "ours" / "runs").path)
    ours = {(name, step): text if value is None else value
            for name, step, value, text in frame.select("name", "step", "value", "text").rows()}  # fmt: skip
    assert [ours.pop(key) for key in list(ours) if key[0] == "best"] == [0.9]  # which only the summary has at W&B
    assert ours == theirs
    assert len(theirs) >= 20


def test_an_import_of_wandb_s_file_is_exact(both, tmp_path):
    (done,) = import_runs("wandb", both / "theirs" / "wandb", tmp_path / "runs")
    assert done.notes == ()
    run, theirs = newest(), history(both / "theirs")
    frame = read_metrics(run.path)
    found = {(name, step): text if value is None else value
             for name, step, value, text in frame.select("name", "step", "value", "text").rows()}  # fmt: skip
    assert [found.pop(key) for key in list(found) if key[0] == "best"] == [0.9]
    assert found == theirs
    assert done.values == len(theirs) + 1
    assert run.fields["wandb"]["summary"] == {"verdict": "good"}
    params = {"lr": 0.2, "epochs": 3, "optimizer": "adam", "layers": [64, 32], "seed": 7}
    assert run.json("config.resolved.json")["params"] == params
    labels = run.labels
    assert (run.status, labels.name, labels.tags, labels.note) == ("finished", "first", ("baseline",), "a note")
    assert {key: run.fields["wandb"][key] for key in ("id", "group")} == {"id": "abc12345", "group": "fold-1"}
    (path,) = (both / "theirs").glob("wandb/offline-run-*/*.wandb")
    times = [row["_timestamp"] for row in RunFile(path).rows() if "train/loss" in row]
    assert frame.filter(frame["name"] == "train/loss")["time"].to_list() == times
    assert run.fields["started"] <= times[0] <= run.fields["ended"]
    kinds = [(line["kind"], line["name"]) for line in media(run)]
    for kind, name, count in (
        ("image", "image", 1), ("figure", "several", 2), ("table", "table", 1), ("histogram", "weights", 1),
        ("histogram", "given", 1), ("html", "page", 1),
    ):  # fmt: skip
        assert kinds.count((kind, name)) == count, (kind, name)
    given = next(line for line in media(run) if line["name"] == "given")
    assert (given["counts"], given["edges"]) == ([1, 2], [0.0, 1.0, 2.0])


def test_a_wandb_file_of_a_killed_run_is_imported_as_far_as_it_goes(both, tmp_path):
    (path,) = (both / "theirs").glob("wandb/offline-run-*/*.wandb")
    reader = RunFile(path)
    histories = (record for record in reader.records() if record.WhichOneof("record_type") == "history")
    for _ in range(5):
        next(histories)
    Path("run-x.wandb").write_bytes(path.read_bytes()[: reader.bytes_read + 20])
    (done,) = import_runs("wandb", "run-x.wandb")
    assert newest().status == "crashed"
    assert any("are not whole records" in note for note in done.notes)
    assert "run-x.wandb: the run never ended, as one that was killed" in done.notes
    assert 0 < done.values < len(history(both / "theirs"))
    assert [each.unchanged for each in import_runs("wandb", "run-x.wandb")] == [True]


def test_the_run_has_what_the_script_said(both):
    run = newest(both / "ours" / "runs")
    assert (run.status, run.labels.name, run.labels.tags, run.labels.note) == (
        "finished",
        "first",
        ("baseline",),
        "a note",
    )
    params = {"lr": 0.2, "epochs": 3, "optimizer": "adam", "layers": [64, 32], "seed": 7}
    assert run.json("config.resolved.json")["params"] == params
    told = run.fields["wandb"]
    assert (told["id"], told["project"], told["group"], told["job_type"]) == ("abc12345", "moving", "fold-1", "train")
    assert told["metrics"][1] == {"name": "val/*", "step_metric": "epoch", "summary": "max"}
    assert told["summary"] == {"verdict": "good"}
    assert run.json("hparams.json")["metrics"] == {"best": 0.9}
    assert run.json("summary.json")["metrics"]["best"]["last"] == 0.9
    assert (run.path / "files" / "notes.txt").read_text() == "kept"
    assert (run.path / "files" / "direct.txt").read_text() == "direct"
    (alert,) = [orjson.loads(line) for line in (run.path / "alerts.jsonl").read_bytes().splitlines()]
    assert (alert["title"], alert["level"]) == ("done", "warning")


def test_the_run_has_the_media(both):
    run = newest(both / "ours" / "runs")
    lines = media(run)
    names = [(line["kind"], line["name"]) for line in lines]
    for kind, name, count in (
        ("image", "image", 1), ("image", "several", 2), ("text", "image/caption", 1), ("table", "table", 1),
        ("histogram", "weights", 1), ("histogram", "given", 1), ("html", "page", 1), ("table", "matrix_table", 1),
        ("figure", "matrix", 1), ("figure", "line", 1), ("table", "line_table", 1),
        ("artifact", "model:v0/notes.txt", 1), ("artifact", "model:v0/more.txt", 1),
        ("artifact", "model:v0/manifest.json", 1),
    ):  # fmt: skip
        assert names.count((kind, name)) == count, (kind, name)
    image = next(line for line in lines if line["name"] == "image")
    assert image["boxes"] == {"truth": [{"corners": [6.0, 4.0, 12.0, 8.0], "label": 1, "name": "cat", "score": 0.9}]}
    assert image["masks"]["prediction"]["names"] == {"0": "none", "1": "cat"}
    given = next(line for line in lines if line["name"] == "given")
    assert (given["counts"], given["edges"]) == ([1, 2], [0.0, 1.0, 2.0])
    matrix = next(line for line in lines if line["name"] == "matrix_table")
    assert (run.path / matrix["file"]).read_text().splitlines()[1:] == [
        '"cat","cat",1', '"cat","dog",0', '"dog","cat",1', '"dog","dog",1',
    ]  # fmt: skip


def test_a_row_is_on_the_disk_when_log_returns():
    assert wandb.login(key="none")
    wandb.init()
    wandb.log({"loss": 0.5}, step=3)
    assert read_metrics(newest().path).select("step", "value").rows() == [(3, 0.5)]
    wandb.log({"late": 1.0}, step=1)  # W&B drops it
    assert read_metrics(newest().path)["step"].to_list() == [3, 1]
    assert wandb.run.step == 3


def test_a_run_is_resumed_by_its_id_and_continues_behind_its_steps():
    for attempt in range(2):
        run = wandb.init(id="mine", resume="allow")
        assert run.resumed is bool(attempt)
        wandb.log({"loss": 1.0})
        wandb.log({"loss": 0.5})
        wandb.finish()
    assert len(list(list_runs(Path("runs")))) == 1
    assert read_metrics(newest().path)["step"].to_list() == [0, 1, 2, 3]
    with pytest.raises(TrackerError, match="resume='never'"):
        wandb.init(id="mine", resume="never")
    with pytest.raises(TrackerError, match="no run in runs has the id 'other'"):
        wandb.init(id="other", resume="must")
    wandb.init(id="mine")  # without resume it is a run of its own
    assert len(list(list_runs(Path("runs")))) == 2


def test_a_script_that_starts_over_hides_what_it_had_logged_and_one_that_resumes_continues(monkeypatch):
    monkeypatch.setenv("RIDGEPOLE_RESUME", "1")
    for resume, steps in ((None, [0, 1]), (None, [0, 1]), (True, [0, 1, 2, 3])):
        run = wandb.init(resume=resume)
        assert run.resumed is (resume is True)
        run.log({"loss": 1.0})
        run.log({"loss": 0.5})
        run.finish(exit_code=1)
        assert read_metrics(newest().path)["step"].to_list() == steps
    assert len(list(list_runs(Path("runs")))) == 1
    assert (newest().status, newest().fields["attempt"]) == ("failed", 3)


def test_a_second_init_returns_the_open_run_unless_told_otherwise():
    first = wandb.init(project="a")
    assert wandb.init(project="b") is first
    second = wandb.init(project="c", reinit=True)
    assert second is not first
    third = wandb.init(project="d", reinit="create_new")
    second.log({"loss": 2.0})
    third.log({"loss": 3.0})
    third.finish()
    second.finish()
    assert len(list(list_runs(Path("runs")))) == 3
    values = sorted(
        read_metrics(run.path)["value"].to_list()
        for run in list_runs(Path("runs"))
        if run.json("summary.json")["metrics"]
    )
    assert values == [[2.0], [3.0]]


def test_a_script_may_ask_where_its_run_is():
    assert re.fullmatch(r"\d+\.\d+\.\d+", wandb.__version__)
    with wandb.init() as run:
        assert (run.offline, run.disabled) == (True, False)
        assert (run.get_url(), run.get_project_url(), run.get_sweep_url()) == (run.url, None, None)


def test_a_disabled_run_keeps_nothing(tmp_path):
    with wandb.init(mode="disabled", config={"lr": 0.1}) as run:
        assert run.disabled
        run.log({"loss": 1.0, "image": wandb.Image(np.zeros((4, 4)))})
        wandb.summary["best"] = 1
        assert run.config.lr == 0.1
        assert run.step == 1
    assert not (tmp_path / "runs").exists()


def test_variables_and_settings_count_where_nothing_is_given(monkeypatch):
    monkeypatch.setenv("WANDB_NAME", "from outside")
    monkeypatch.setenv("WANDB_TAGS", "a,b")
    monkeypatch.setenv("WANDB_PROJECT", "outer")
    run = wandb.init(settings=wandb.Settings(run_group="g"), project="inner")
    assert (run.name, run.tags, run.project, run.group) == ("from outside", ("a", "b"), "inner", "g")
    assert (newest().labels.name, newest().labels.tags) == ("from outside", ("a", "b"))


def test_a_config_is_a_mapping_with_attributes():
    wandb.init(config=argparse.Namespace(lr=0.1, secret_token="t"), config_exclude_keys=["none"])
    config = wandb.config
    config.setdefaults({"lr": 0.5, "depth": 3})
    config.update({"lr": 0.2}, allow_val_change=True)
    assert dict(config) == {"lr": 0.2, "secret_token": "t", "depth": 3}
    assert (config.get("none"), "lr" in config, config.as_dict()["depth"]) == (None, True, 3)
    with pytest.raises(AttributeError, match="Config has no 'none'"):
        _ = config.none
    assert newest().json("config.resolved.json")["params"] == {"lr": 0.2, "secret_token": "***", "depth": 3}


@pytest.mark.parametrize("name", ["config", "summary"])
def test_nothing_works_before_init(name):
    with pytest.raises(LifecycleError, match=r"call wandb\.init\(\) before"):
        getattr(wandb, name)
    with pytest.raises(LifecycleError, match=r"call wandb\.init\(\) before wandb\.log"):
        wandb.log({"loss": 1.0})
    assert wandb.run is None


def test_what_would_falsify_a_run_is_refused_and_the_rest_warns_once():
    with pytest.raises(TrackerError, match="would lack the old one's rows"):
        wandb.init(fork_from="a?_step=1")
    with pytest.raises(TrackerError, match="from wandb itself"):
        wandb.Api()
    with pytest.raises(TrackerError, match="ridgepole sweep start"):
        wandb.agent("user/project/abc", print)
    with pytest.raises(TypeError, match="takes a mapping"):
        wandb.init().log([1.0])
    with pytest.warns(UserWarning, match="ridgepole export RUN --to wandb"):
        wandb.init(mode="online", reinit=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wandb.init(mode="online", reinit=True)


def test_an_artifact_is_found_by_its_name_and_version():
    for number in range(2):
        with wandb.init() as run:
            Path("weights.bin").write_bytes(bytes([number]))
            run.log_model("weights.bin", name="net")
    with wandb.init() as run:
        assert Path(run.use_artifact("net:v0").download()).joinpath("weights.bin").read_bytes() == b"\0"
        assert Path(run.use_model("net:latest")).read_bytes() == b"\1"
        with pytest.raises(TrackerError, match="has the artifact 'other:v0'"):
            run.use_artifact("other:v0")
    assert newest().fields["wandb"]["used"] == ["net:v0", "net:v1"]


def test_media_of_every_kind(tmp_path):
    draw = np.random.default_rng(0)
    (tmp_path / "points.txt").write_text("0 0 0")
    from matplotlib import pyplot as plt

    plt.plot([1, 2])
    with wandb.init() as run:
        run.log({
            "video": wandb.Video(draw.integers(0, 255, (4, 3, 6, 6), dtype=np.uint8), fps=2),
            "videos": wandb.Video(draw.integers(0, 255, (2, 4, 3, 6, 6), dtype=np.uint8)),
            "sound": wandb.Audio(np.zeros(100, np.float32), sample_rate=8000, caption="silence"),
            "cloud": wandb.Object3D(draw.random((5, 3))), "molecule": wandb.Molecule(str(tmp_path / "points.txt")),
            "chart": plt, "nested": {"image": wandb.Image(draw.random((4, 5, 3)) * 2 - 1), "loss": 0.5},
            "roc": wandb.plot.roc_curve([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]),
            "series": wandb.plot.line_series([0, 1], [[1, 2], [3, 4]], keys=["a", "b"], title="t"),
            "bars": wandb.plot.bar(wandb.Table(["l", "v"], [["a", 1]]), "l", "v"),
            "pictures": wandb.Table(["image", "n"], [[wandb.Image(np.zeros((3, 3), np.uint8)), math.nan]]),
        })  # fmt: skip
    kinds = {(line["kind"], line["name"]) for line in media(newest())}
    assert kinds == {
        ("video", "video"), ("video", "videos"), ("audio", "sound"), ("text", "sound/caption"), ("artifact", "cloud"),
        ("artifact", "molecule"), ("figure", "chart"), ("image", "nested/image"), ("table", "roc_table"),
        ("figure", "roc"), ("table", "series_table"), ("figure", "series"), ("table", "bars_table"), ("figure", "bars"),
        ("table", "pictures"),
    }  # fmt: skip
    assert read_metrics(newest().path).select("name", "value").rows() == [("nested/loss", 0.5)]


def test_presets_of_charts_are_drawn_and_other_charts_keep_their_table():
    run = wandb.init()
    table = wandb.Table(columns=["a", "b", "kind"], data=[[0, 1.0, "x"], [1, 2.0, "x"], [0, 3.0, "y"]])
    presets = {
        "line": {"x": "a", "y": "b", "stroke": "kind"},
        "lineseries": {"step": "a", "lineVal": "b", "lineKey": "kind"},
        "area-under-curve": {"x": "a", "y": "b", "class": "kind"},
        "scatter": {"x": "a", "y": "b"},
        "bar": {"label": "kind", "value": "b"},
        "histogram": {"value": "b"},
    }
    for name, fields in presets.items():
        run.log({name: wandb.plot_table(f"wandb/{name}/v0", table, fields, {"title": name})})
    with pytest.warns(UserWarning, match="'me/own' is described at W&B's server: its table is kept"):
        run.log({"own": wandb.plot.plot_table("me/own", table, {"x": "a"})})
    with pytest.warns(UserWarning, match="not drawn"):
        run.log({"old": wandb.plot.visualize("me/old", table)})
    wandb.finish()
    kinds = {(line["name"], line["kind"]) for line in media(newest())}
    assert kinds == {
        *((name, "figure") for name in presets),
        *((f"{name}_table", "table") for name in presets),
        *((name, "table") for name in ("own", "old")),
    }


@pytest.mark.parametrize("turn", [(1, 0, 0, 0), (0.5, 0.5, 0.5, 0.5), (2, 0.1, 0, 1)])
def test_a_box_has_the_corners_of_wandb_s(turn):  # whose client drops the signs of a quaternion
    theirs = pytest.importorskip("wandb").box3d
    given = {"center": (1, 2, 3), "size": (2, 3, 4), "orientation": turn, "color": (255, 0, 0)}

    def corners(box):
        return np.array(sorted(np.round(np.array(box["corners"], float), 6).tolist()))

    ours = wandb.box3d(**given, label="car", score=0.5)
    assert np.allclose(corners(ours), corners(theirs(**given)))
    assert (ours["label"], ours["score"], ours["color"]) == ("car", 0.5, [255, 0, 0])
    with pytest.raises(ValueError, match="not all zero"):
        wandb.box3d(**given | {"orientation": (0, 0, 0, 0)})


def test_a_box_is_turned_by_the_signs_of_its_quaternion():
    """A third of a turn about (1, -1, 1) takes x to z, y to -x and z to -y."""
    box = wandb.box3d(center=(0, 0, 0), size=(2, 4, 6), orientation=(0.5, 0.5, -0.5, 0.5), color=(0, 0, 0))
    assert np.allclose(box["corners"][0], [2, 3, -1])  # of (-1, -2, -3)
    assert np.allclose(box["corners"][-1], [-2, -3, 1])


def test_scenes_and_graphs_are_kept_as_json():
    run = wandb.init()
    box = wandb.box3d(center=(0, 0, 0), size=(1, 1, 1), orientation=(1, 0, 0, 0), color=(0, 255, 0))
    graph = wandb.Graph()
    graph.add_edge(graph.add_node(name="in", class_name="Input"), graph.add_node({"name": "out"}))
    run.log({"scene": wandb.Object3D.from_point_cloud(np.zeros((2, 3)), [box]), "graph": graph})
    run.log({"points": wandb.Object3D.from_numpy(np.ones((4, 3))), "rows": wandb.EvalTable(["a"], [[1]])})
    wandb.finish()
    kept = {line["name"]: newest().path / line["file"] for line in media(newest()) if "file" in line}
    scene = orjson.loads(kept["scene"].read_bytes())
    assert (scene["type"], scene["points"], len(scene["boxes"][0]["corners"])) == ("lidar/beta", [[0.0] * 3] * 2, 8)
    assert orjson.loads(kept["graph"].read_bytes())["edges"] == [["in", "out"]]
    assert np.load(kept["points"]).shape == (4, 3)


def test_an_artifact_says_what_it_has(tmp_path):
    run = wandb.init()
    made = wandb.Artifact("data", "dataset")
    made.ttl = wandb.ArtifactTTL.INHERIT
    for name in ("a/1.txt", "a/2.txt", "b.txt"):
        with made.new_file(name) as file:
            file.write("12345")
    made.add(wandb.Table(["x"], [[1], [2]]), "rows")
    made.remove("a/2.txt")
    with pytest.raises(FileNotFoundError, match="'none'"):
        made.remove("none")
    assert made.is_draft()
    assert (made.state, made.qualified_name, made.file_count) == ("PENDING", "data", 3)
    run.log_artifact(made, aliases=["best"]).wait()
    wandb.finish()
    wandb.init()
    used = wandb.use_artifact("data:best")
    assert (used.state, used.qualified_name, used.aliases) == ("COMMITTED", "data:v0", ["best"])
    assert sorted(entry.name for entry in used.files()) == ["a/1.txt", "b.txt", "rows.table.json"]
    assert used.size == sum(entry.size for entry in used.files())
    assert Path(used.get_entry("b.txt").download(tmp_path / "one")).read_text() == "12345"
    assert sorted(path.name for path in (tmp_path / "one").rglob("*")) == ["b.txt"]
    with pytest.raises(KeyError, match="no file 'c'"):
        used.get_path("c")
    assert used.get("rows").data == [[1], [2]]
    assert used.get("none") is None


def test_a_run_answers_with_its_settings_and_what_waits():
    run = wandb.init(project="p", name="n")
    assert (run.settings.project, run.settings.run_name, run.settings.unknown) == ("p", "n", None)
    assert run.status().sync_items_pending == 0
    assert run.sync_dir == str(newest().path.resolve()) or run.sync_dir == str(newest().path)
    run.pin_config_keys(["lr"])


def test_watch_logs_histograms_of_gradients_and_parameters():
    torch = pytest.importorskip("torch")
    net = torch.nn.Linear(3, 1)
    with wandb.init() as run:
        run.watch(net, log="all", log_freq=2)
        for _ in range(3):
            net(torch.ones(2, 3)).sum().backward()
            run.log({"loss": 1.0})
        run.unwatch()
        net(torch.ones(2, 3)).sum().backward()
    lines = [(line["kind"], line["name"], line["step"]) for line in media(newest())]
    names = ("gradients/weight", "gradients/bias", "parameters/weight", "parameters/bias")
    assert sorted(lines) == sorted(("histogram", name, step) for name in names for step in (0, 2))


def train():
    with wandb.init(config={"lr": 5.0, "depth": 2}) as run:
        for step in range(3):
            run.log({"loss": (1 - run.config.lr) ** step + run.config["depth"]})


def test_a_sweep_gives_its_parameters_and_hears_the_metric():
    config = {"method": "grid", "metric": {"name": "loss"}, "parameters": {"lr": {"values": [0.1, 0.3]}}}
    result = run_sweep(train, config, progress=False)
    assert [round(trial.value, 2) for trial in result.trials] == [2.81, 2.49]
    params = [run.json("config.resolved.json")["params"] for run in list_runs(Path("runs")) if run.fields.get("sweep")]
    assert sorted(each["lr"] for each in params) == [0.1, 0.3]
    found = wandb.agent(wandb.sweep(config, project="p"), function=train, count=1)
    assert len(found.trials) == 1


ENDS = """
import os, signal, sys
import ridgepole.wandb as wandb
from pathlib import Path
for how in sys.argv[1:]:
    if os.fork() == 0:
        Path(how).mkdir()
        os.chdir(how)
        wandb.init()
        wandb.log({"loss": 1.0})
        wandb.summary["best"] = 2.0
        if how == "raise":
            raise ValueError("mine")
        if how == "exit":
            sys.exit(3)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "block":
            with wandb.run:
                raise ValueError("inside")
        break
    os.wait()
"""


def test_a_script_ends_its_run_however_it_ends(tmp_path):
    """By falling off the end, an error, `sys.exit`, SIGKILL, and an error in a `with` block."""
    ends = {"fall": "finished", "raise": "failed", "exit": "failed", "kill": "crashed", "block": "failed"}
    (tmp_path / "ends.py").write_text(ENDS)
    done = subprocess.run([sys.executable, "ends.py", *ends], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    runs = {name: newest(tmp_path / name / "runs") for name in ends}
    assert {name: run.status for name, run in runs.items()} == ends
    for name, run in runs.items():
        wanted = [1.0] if name == "kill" else [1.0, 2.0]
        assert read_metrics(run.path)["value"].to_list() == wanted, name
    assert runs["exit"].fields["exit_code"] == 3
    assert runs["raise"].fields["error"]["message"] == "mine"
    assert runs["block"].fields["error"]["message"] == "inside"
