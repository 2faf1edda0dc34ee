"""`ridgepole import`: stores that the real tools wrote, against what the tools say is in them."""

import json
import math
import shutil
import sqlite3
import time
from pathlib import Path

import numpy as np
import orjson
import pytest

from ridgepole import RunDirError, read_metrics
from ridgepole.importers import SOURCES, import_runs, writing
from ridgepole.labels import Labels, LabelsChange
from ridgepole.loggers.tensorboard import TensorBoardLogger
from ridgepole.rundir import list_runs

MLFLOW = Path(__file__).with_name("mlflow")
LOSS = [(step, 1 / (step + 1)) for step in range(5)]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def runs():
    return {run.labels.name or run.fields["pipeline"]: run for run in list_runs(Path("runs"))}


def media(run):
    path = run.path / "media.jsonl"
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def rows(run, name):
    frame = read_metrics(run.path)
    return frame.filter(frame["name"] == name).select("step", "value").rows()


@pytest.fixture
def database(tmp_path):
    """The database that MLflow wrote, from its text."""
    path = tmp_path / "mlflow.db"
    with sqlite3.connect(path) as made:
        made.executescript((MLFLOW / "mlflow.sql").read_text(encoding="utf-8"))
    made.close()
    return path


@pytest.fixture
def files(tmp_path):
    return Path(shutil.copytree(MLFLOW / "mlruns", tmp_path / "mlruns"))


@pytest.mark.parametrize("store", ["files", "database"])
def test_mlflow_stores_of_both_kinds(store, request):
    path = request.getfixturevalue(store)
    done = list(import_runs("mlflow", path))
    found = runs()
    assert sorted(found) == ["bad", "first"]  # a deleted run stays where it is
    first = found["first"]
    assert (first.status, found["bad"].status, first.fields["pipeline"]) == ("finished", "failed", "digits")
    assert (first.labels.tags, first.labels.note) == (("team=vision",), "a note")
    assert first.json("config.resolved.json")["params"] == {"lr": "0.1", "net": "a"}
    assert rows(first, "loss") == LOSS
    assert rows(first, "val/acc") == [(step, step / 5) for step in range(5)]
    (_, odd), (_, endless) = rows(first, "odd")
    assert math.isnan(odd)
    assert endless == math.inf
    times = read_metrics(first.path)["time"]
    assert first.fields["started"] <= times.min() <= times.max() <= first.fields["ended"]
    assert first.id.startswith(time.strftime("%Y%m%d-%H%M%S", time.gmtime(first.fields["started"])))
    assert sum(each.values for each in done) == 13
    kinds = sorted((line["kind"], line["name"]) for line in media(first))
    assert kinds == ([("artifact", "notes/a.txt"), ("figure", "pic.png")] if store == "files" else [])


def test_a_run_is_imported_once_and_again_when_its_source_has_grown(files):
    first = list(import_runs("mlflow", files))
    assert [each.unchanged for each in list(import_runs("mlflow", files))] == [True, True]
    (metric,) = [path for path in files.rglob("metrics/loss") if len(path.read_text().splitlines()) == 5]
    with LabelsChange(runs()["first"].path) as change:
        change.labels = Labels(name="mine", tags=("kept",))
    with metric.open("a") as file:
        file.write("1796181080900 0.125 9\n")
    again = list(import_runs("mlflow", files))
    assert sorted(each.unchanged for each in again) == [False, True]
    assert {each.path for each in again} == {each.path for each in first}
    assert rows(runs()["mine"], "loss") == [*LOSS, (9, 0.125)]
    assert runs()["mine"].labels.tags == ("kept",)
    assert sorted(path.name for path in Path("runs").iterdir()) == sorted(each.path.name for each in first)


def test_what_a_killed_import_has_left_is_removed(files):
    Path("runs/.importing/left").mkdir(parents=True)
    Path("runs/.importing/left/metrics.jsonl").write_text("{}")
    list(import_runs("mlflow", files))
    assert not Path("runs/.importing").exists()
    assert len(list(Path("runs").iterdir())) == 2


def test_lines_that_cannot_be_read_are_counted(files):
    (metric,) = [path for path in files.rglob("metrics/loss") if len(path.read_text().splitlines()) == 5]
    with metric.open("a") as file:
        file.write("torn\n1796181080900 0.5 -1\n179618")
    notes = [note for each in import_runs("mlflow", files) for note in each.notes]
    assert notes == ["steps below 0 are at step 0", "loss: 2 lines can't be read"]
    assert rows(runs()["first"], "loss") == [*LOSS, (0, 0.5)]


def test_what_was_written_is_compared_with_what_was_read(files, monkeypatch):
    def lose(self, metrics, step, at):
        self.values += len(metrics)

    monkeypatch.setattr(writing.RunWriter, "row", lose)
    with pytest.raises(RunDirError, match="the import read 1 values and 0 of media, but wrote 0 and 0"):
        list(import_runs("mlflow", files))
    assert not any(Path("runs").iterdir())


# -- TensorBoard -----------------------------------------------------------------------------------


def write_events(folder, count=20):
    with TensorBoardLogger(folder, layout=()) as logger:
        for step in range(count):
            logger.set_wall_time(1.7e9 + step)
            logger.log_metrics({"loss": 1 / (step + 1), "lr": 0.5}, step=step)
        logger.log_image("picture", np.zeros((4, 5, 3)), step=3)
        logger.log_text("note", "hello", step=4)
        logger.log_histogram("weights", np.arange(100.0), bins=4, step=5)
        logger.log_hparams({"width": 64, "net": "a"})
        logger.log_audio("sound", np.zeros(100), sample_rate=8000, step=6)


def test_event_files_of_several_directories():
    write_events("logs/train")
    write_events("logs/test", count=3)
    done = list(import_runs("tensorboard", "logs"))
    assert sorted(each.values for each in done) == [6, 40]
    train = runs()["train"]
    assert train.fields["pipeline"] == "logs"
    assert rows(train, "loss") == [(step, pytest.approx(1 / (step + 1), rel=1e-7)) for step in range(20)]
    assert read_metrics(train.path)["time"].to_list()[::2] == [1.7e9 + step for step in range(20)]
    assert [(line["kind"], line["name"], line["step"]) for line in media(train)] == [
        ("figure", "picture", 3), ("text", "note", 4), ("histogram", "weights", 5), ("audio", "sound", 6),
    ]  # fmt: skip
    assert media(train)[2]["counts"] == [25, 25, 25, 25]
    assert train.json("config.resolved.json")["params"] == {"width": 64, "net": "a"}
    assert (train.fields["started"], train.status) == (1.7e9, "finished")


def test_event_files_that_were_torn_or_damaged_are_imported_as_far_as_they_go():
    write_events("logs")
    (file,) = Path("logs").glob("*.0")
    whole = file.read_bytes()
    data = bytearray(whole[:-7])
    data[whole.index(b"loss") + 6] ^= 1  # in the first record of a metric
    file.write_bytes(data)
    (done,) = import_runs("tensorboard", "logs")
    assert done.values == 38
    assert done.notes[0].endswith("1 damaged records were skipped")
    assert "bytes are not whole records" in done.notes[1]
    assert len(media(next(iter(runs().values())))) == 3


def test_what_tensorboard_hides_is_hidden():
    write_events("logs", count=10)
    with TensorBoardLogger("logs", purge_step=5) as logger:
        logger.log_metrics({"loss": 9.0}, step=5)
    list(import_runs("tensorboard", "logs"))
    assert [step for step, _ in rows(runs()["logs"], "loss")] == [0, 1, 2, 3, 4, 5]


def test_events_of_tensorflow_have_tensors():
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.util.tensor_util import make_tensor_proto

    from ridgepole.loggers.tensorboard.records import framed

    png = (MLFLOW.parent / "mlflow/mlruns").rglob("pic.png")
    picture = next(png).read_bytes()
    kinds = {
        "scalars": np.float32(0.5),
        "histograms": np.array([[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]]),
        "images": np.array([b"1", b"1", picture], object),
        "text": np.array([b"hello"], object),
    }
    Path("logs").mkdir()
    with Path("logs", "events.out.tfevents.1.host").open("wb") as file:
        for step in range(2):
            for plugin, value in kinds.items():
                plugged = SummaryMetadata(
                    plugin_data=SummaryMetadata.PluginData(plugin_name=plugin if step == 0 else "")
                )
                made = Summary.Value(tag=plugin, tensor=make_tensor_proto(value), metadata=plugged)
                file.write(framed(Event(wall_time=5.0, step=step, summary=Summary(value=[made])).SerializeToString()))
    (done,) = import_runs("tensorboard", "logs")
    (run,) = runs().values()
    assert (done.values, rows(run, "scalars")) == (2, [(0, 0.5), (1, 0.5)])
    assert [line["kind"] for line in media(run)] == ["histogram", "figure", "text"] * 2
    assert media(run)[0]["counts"] == [2, 3]


# -- Trackio ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["run_id", "run_name"])
def test_a_database_of_trackio(key):
    """The tables as Trackio 0.43 makes them, and as it made them when a name was all it knew of a run."""
    Path("media/digits/first/0").mkdir(parents=True)
    shutil.copyfile(next(MLFLOW.rglob("pic.png")), "media/digits/first/0/a.png")
    own = "run_id TEXT NOT NULL," if key == "run_id" else ""
    with sqlite3.connect("digits.db") as made:
        made.executescript(f"""
            CREATE TABLE metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, {own} timestamp TEXT NOT NULL,
                run_name TEXT NOT NULL, step INTEGER NOT NULL, metrics TEXT NOT NULL);
            CREATE TABLE configs (id INTEGER PRIMARY KEY AUTOINCREMENT, {own} run_name TEXT NOT NULL,
                config TEXT NOT NULL, created_at TEXT NOT NULL);
        """)
        mine = {"run_id": "1"} if key == "run_id" else {}
        for step in range(3):
            row = {"loss": 1 / (step + 1), "nested": {"a": step}, "odd": "Infinity", "word": "text"}
            if step == 2:
                row["picture"] = {"_type": "trackio.image", "file_path": "digits/first/0/a.png", "caption": None}
                row["table"] = {"_type": "trackio.table", "_value": [{"a": 1, "b": "x"}]}
                row["spread"] = {"_type": "trackio.histogram", "bins": [0, 1, 2], "values": [3, 4]}
            values = {**mine, "timestamp": f"2026-01-02T00:00:0{step}+00:00", "run_name": "first", "step": step}
            values |= {"metrics": json.dumps(row).encode()}  # as it writes them, too
            made.execute(
                f"INSERT INTO metrics ({','.join(values)}) VALUES ({','.join('?' * len(values))})", [*values.values()]
            )
        config = {**mine, "run_name": "first", "config": json.dumps({"lr": 0.1, "_Username": "me"}), "created_at": "x"}
        made.execute(
            f"INSERT INTO configs ({','.join(config)}) VALUES ({','.join('?' * len(config))})", [*config.values()]
        )
    made.close()
    (done,) = import_runs("trackio", "digits.db")
    run = runs()["first"]
    assert (done.values, done.media, done.notes) == (12, 3, ())
    assert rows(run, "loss") == LOSS[:3]
    assert rows(run, "odd")[0][1] == math.inf
    assert read_metrics(run.path)["time"][0] == 1767312000.0
    assert run.json("config.resolved.json")["params"] == {"lr": 0.1}
    assert [line["kind"] for line in media(run)] == ["figure", "table", "histogram"]
    assert run.fields["trackio"] == {"username": "me"}


# -- CSV -------------------------------------------------------------------------------------------


def test_a_csv_file_with_several_runs():
    Path("log.csv").write_text(
        "trial,epoch,when,loss,flag,word\n"
        "a,0,2026-01-02T00:00:00Z,0.5,true,x\nb,0,2026-01-02,0.25,,\na,1,5.5,nan,false,99999999999999999999\n",
        encoding="utf-8",
    )
    done = list(import_runs("csv", "log.csv", columns={"run": "trial", "time": "when"}))
    assert [each.values for each in done] == [6, 1]
    first = runs()["a"]
    assert rows(first, "flag") == [(0, 1.0), (1, 0.0)]
    assert math.isnan(rows(first, "loss")[1][1])
    assert read_metrics(first.path)["time"].to_list()[::3] == [1767312000.0, 5.5]
    assert rows(runs()["b"], "loss") == [(0, 0.25)]


def test_a_csv_file_without_a_step_counts_its_rows_and_says_what_is_odd():
    Path("log.csv").write_text("loss,step\n0.5,\n0.25,x\n0.125\n", encoding="utf-8")
    (done,) = import_runs("csv", "log.csv")
    assert rows(runs()["log"], "loss") == [(0, 0.5), (1, 0.25), (2, 0.125)]
    assert done.notes == (
        "log.csv:3: the step 'x' is not a whole number, and the row follows the one before",
        "log.csv:4: the row has not as many cells as the header",
    )


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SOURCES)
def test_a_path_without_a_store_is_refused(kind):
    Path("empty").mkdir()
    with pytest.raises(RunDirError, match=f"found no run of {kind} in empty"):
        list(import_runs(kind, "empty"))
    with pytest.raises(RunDirError, match="there is no missing to import from"):
        list(import_runs(kind, "missing"))
    assert not Path("runs").exists()


def test_other_files_and_columns_are_refused():
    Path("log.csv").write_text("loss,epoch\n0.5,1\n", encoding="utf-8")
    with pytest.raises(RunDirError, match=r"there is no column 'epoc' for step; did you mean 'epoch'\?"):
        list(import_runs("csv", "log.csv", columns={"step": "epoc"}))
    for kind in ("mlflow", "trackio"):
        with pytest.raises(RunDirError, match=r"log\.csv"):
            list(import_runs(kind, "log.csv"))
    with pytest.raises(ValueError, match="can't import from 'aim'"):
        list(import_runs("aim", "log.csv"))
    sqlite3.connect("other.db").close()
    with sqlite3.connect("other.db") as made:
        made.execute("CREATE TABLE a (b)")
    made.close()
    for kind in ("mlflow", "trackio"):
        with pytest.raises(RunDirError, match=r"other\.db can't be read as a database of"):
            list(import_runs(kind, "other.db"))


def test_the_command_line_counts(ridgepole, tmp_path):
    shutil.copytree(MLFLOW / "mlruns", tmp_path / "mlruns")
    done = ridgepole("import", "--from", "mlflow", "mlruns")
    assert (done.returncode, done.stdout) == (0, "imported 2 runs with 13 values and 2 of media to runs\n")
    done = ridgepole("import", "--from", "mlflow", "mlruns")
    assert done.stdout == "imported 0 runs with 0 values to runs; 2 runs had been imported before\n"
    done = ridgepole("import", "--from", "csv", "mlruns", "--column", "lr=0.1")
    assert done.returncode == 2
    assert "expected step=, time= or run= and a column" in done.stderr
