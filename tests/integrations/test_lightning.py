"""Trainings under PyTorch Lightning: recorded, stopped, killed, resumed."""

import csv

import pytest
from integration_helpers import HERE, newest, values

from ridgepole import load_checkpoint
from ridgepole.integrations.lightning import RidgepoleCallback
from ridgepole.scripts.record import Script, ScriptRecord

pytestmark = pytest.mark.timeout(240)
TRAINING = HERE / "lightning_training.py"


@pytest.fixture(scope="session")
def train(framework_server):
    def call(folder, *words, code=0, resume=False, **environment):
        environment |= {"RIDGEPOLE_RESUME": "1"} if resume else {}
        done = framework_server.call(*words, cwd=folder, script=TRAINING, timeout=120, **environment)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return call


@pytest.fixture(scope="session")
def whole(train, tmp_path_factory):
    """Trainings that nothing has interrupted, by their words."""
    made = {}

    def of(*words):
        if words not in made:
            folder = tmp_path_factory.mktemp("whole")
            train(folder, *words)
            made[words] = folder
        return made[words]

    return of


def from_csv(folder):
    """What Lightning's own logger has written beside ours, in the form of `values`."""
    for path in sorted(folder.glob("csv/**/metrics.csv")):
        for row in csv.DictReader(path.read_text().splitlines()):
            step = int(row.pop("step"))
            yield from ((step, name, float(value)) for name, value in row.items() if value and name != "epoch")


def test_the_record_is_what_lightning_s_own_logger_writes(whole):
    folder = whole()
    run = newest(folder)
    assert run.status == "finished"
    ours = [row for row in values(run.path) if row[1] != "epoch"]
    assert sorted(ours) == sorted(from_csv(folder))
    assert {name for _, name, _ in ours} == {"loss_step", "loss_epoch", "val"}
    assert run.json("config.resolved.json")["params"]["lr"] == 0.01
    assert list((run.path / "lightning").rglob("*.ckpt")), "ModelCheckpoint writes below the run's directory"
    assert load_checkpoint(run.path, "latest")["state"]["trainer"]["global_step"] == 30


@pytest.mark.parametrize(
    ("words", "code", "step"),
    [
        (["stop=train:13"], 143, 14),
        (["stop=train:3", "every=0.5"], 143, 4),
        (["stop=train:4", "every=0.5"], 143, 5),
        (["stop=val:1:1", "every=0.5"], 143, 15),
        (["stop=train:9"], 143, 10),
        (["stop=val:1:2"], 143, 20),
        (["stop=val:1:2", "loader=plain"], 143, 20),
        (["stop=train:29"], 143, 30),
        (["kill=train:17"], -9, 10),
        (["kill=train:17", "loader=plain"], -9, 10),
        (["stop=train:13", "loader=plain"], 143, 10),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_resumed_training_ends_as_one_without_the_interruption(train, whole, tmp_path, words, code, step):
    train(tmp_path, *words, code=code)
    if code > 0:
        assert newest(tmp_path).status == "interrupted"
    train(tmp_path, *words, resume=True)
    run = newest(tmp_path)
    assert (run.status, run.fields["attempt"]) == ("finished", 2)
    alone = whole(*(word for word in words if word.startswith(("every", "loader"))))
    assert values(run.path) == values(newest(alone).path)
    assert (tmp_path / "weights-end.txt").read_text() == (alone / "weights-end.txt").read_text()
    log = (run.path / "run.log").read_text()
    assert f"continuing from Ridgepole's checkpoint, step {step};" in log
    if "stop=train:13" in words and "loader=plain" in words:
        assert "a resume goes back to the beginning of the epoch: the training loader (DataLoader) has no" in log


def test_a_file_that_is_given_to_fit_is_used_and_said(train, whole, tmp_path):
    train(tmp_path, "stop=train:13", code=143)
    file = next(iter((newest(tmp_path).path / "lightning").rglob("*.ckpt")))
    train(tmp_path, "stop=train:13", resume=True, CKPT=str(file))
    log = (newest(tmp_path).path / "run.log").read_text()
    assert f"continuing from Lightning's checkpoint {file}, as ckpt_path says; Ridgepole's is not used" in log


def test_an_error_of_the_user_s_own_code_is_the_run_s(train, tmp_path):
    done = train(tmp_path, "raise=train:3", code=1)
    assert "ValueError: mine" in done.stderr
    run = newest(tmp_path)
    assert run.status == "failed"
    assert run.fields["error"]["message"] == "mine"
    assert len([row for row in values(run.path) if row[1] == "loss_step"]) == 3


def test_under_ridgepole_run_the_script_s_run_is_used(train, whole, tmp_path):
    script = Script(name="mine", command=("mine",), directory=str(tmp_path))
    record = ScriptRecord.create(script, tmp_path / "runs")  # as `ridgepole run` does
    train(tmp_path, RIDGEPOLE_RUN_DIR=str(record.path))
    record.end("finished")
    assert values(newest(tmp_path).path) == values(newest(whole()).path)
    assert len(list((tmp_path / "runs").iterdir())) == 1


@pytest.mark.parametrize(("how", "code"), [("block", 143), ("pipeline", 130)])  # of an uncaught StopRequested
def test_inside_a_run_of_the_user_s_own_it_stops_and_resumes_too(train, whole, tmp_path, how, code):
    words = [f"how={how}", "stop=train:13"]
    train(tmp_path, *words, code=code)
    assert newest(tmp_path).status == "interrupted"
    train(tmp_path, *words, resume=True)
    run = newest(tmp_path)
    assert (run.status, run.fields["attempt"]) == ("finished", 2)
    alone = whole()
    assert [row for row in values(run.path) if row[1] != "before"] == values(newest(alone).path)
    assert (tmp_path / "weights-end.txt").read_text() == (alone / "weights-end.txt").read_text()


def test_a_stop_before_the_first_batch_interrupts_the_run(train, tmp_path):
    train(tmp_path, "how=block", "stop=val:0:0", code=143)  # in Lightning's check of the validation
    assert newest(tmp_path).status == "interrupted"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every_n_epochs": 0}, "every_n_epochs must be a whole number of at least 1, or None, not 0"),
        ({"every_minutes": -1}, "every_minutes must be a positive number"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RidgepoleCallback(**arguments)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("two", "two RidgepoleLoggers, which would log everything twice"),
        ("other version", "RidgepoleCallback does not know pytorch-lightning"),
    ],
)
def test_what_cannot_be_done_right_is_refused(train, tmp_path, how, message):
    assert message in train(tmp_path, f"how={how}", code=1).stderr


def test_checkpoints_of_the_script_s_own_are_not_mistaken_for_a_training_s(train, tmp_path):
    train(tmp_path, "how=own checkpoints", code=1)
    done = train(tmp_path, "how=own checkpoints", code=1, resume=True)
    assert "was taken by the script itself, not by the callback for PyTorch Lightning" in done.stderr
