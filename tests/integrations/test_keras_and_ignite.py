"""Trainings under Keras and under Ignite: recorded, stopped, killed, resumed."""

import csv
import json

import pytest
from integration_helpers import HERE, newest, values

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="session")
def train(framework_server):
    def call(framework, folder, *words, code=0, resume=False):
        environment = {"RIDGEPOLE_RESUME": "1"} if resume else {}
        script = HERE / f"{framework}_training.py"
        done = framework_server.call(*words, cwd=folder, script=script, timeout=120, **environment)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return call


@pytest.fixture(scope="session")
def whole(train, tmp_path_factory):
    """Trainings that nothing has interrupted, by framework and words."""
    made = {}

    def of(framework, *words):
        if (framework, words) not in made:
            folder = made[framework, words] = tmp_path_factory.mktemp("whole")
            train(framework, folder, *words)
        return made[framework, words]

    return of


def test_the_record_is_what_keras_s_own_logger_writes(whole):
    folder = whole("keras")
    rows = list(csv.DictReader((folder / "log.csv").read_text().splitlines()))
    theirs = sorted((int(row["epoch"]), name, float(row[name])) for row in rows for name in ("loss", "val_loss"))
    assert newest(folder).status == "finished"
    assert sorted(values(newest(folder).path)) == theirs
    assert len(theirs) == 8


def test_the_record_is_what_ignite_computes(whole):
    folder = whole("ignite")
    ours = values(newest(folder).path)
    assert [[step, value] for step, name, value in ours if name == "validation/loss"] == json.loads(
        (folder / "seen.json").read_text()
    )
    assert len([row for row in ours if row[1] == "loss"]) == 30


@pytest.mark.parametrize(
    ("framework", "words", "code", "says"),
    [
        ("keras", ["signal=SIGTERM", "at=2:3"], 143, "behind epoch 1"),
        ("keras", ["signal=SIGTERM", "at=1:7"], 143, "behind epoch 0"),
        ("keras", ["signal=SIGKILL", "at=2:3"], -9, "behind epoch 1"),
        ("ignite", ["signal=SIGTERM", "at=13"], 143, "iteration 13"),
        ("ignite", ["signal=SIGTERM", "at=20"], 143, "iteration 20"),
        ("ignite", ["signal=SIGKILL", "at=17"], -9, "iteration 10"),
        ("ignite", ["signal=SIGTERM", "at=13", "loader=plain"], 143, "iteration 10"),
        ("ignite", ["signal=SIGTERM", "at=30"], 143, "iteration 20"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_resumed_training_ends_as_one_without_the_interruption(train, whole, tmp_path, framework, words, code, says):
    train(framework, tmp_path, *words, code=code)
    if code > 0:
        assert newest(tmp_path).status == "interrupted"
    train(framework, tmp_path, *words, resume=True)
    run = newest(tmp_path)
    assert (run.status, run.fields["attempt"]) == ("finished", 2)
    alone = whole(framework, *(word for word in words if word.startswith("loader")))
    assert values(run.path) == values(newest(alone).path)
    assert (tmp_path / "weights-end.txt").read_text() == (alone / "weights-end.txt").read_text()
    log = (run.path / "run.log").read_text()
    assert f"continuing from Ridgepole's checkpoint, {says}" in log
    assert ("has no position to store" in log) == ("loader=plain" in words)
