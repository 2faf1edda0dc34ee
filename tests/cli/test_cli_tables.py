"""`runs ls` with filters and columns, `runs compare`, `runs metrics`."""

import json
import math
import os
import sys

import pexpect
import pytest

from ridgepole import Pipeline, process
from ridgepole import run as begin_run
from ridgepole.labels import LabelsChange, checked
from ridgepole.permanences import BaseLoggerManager


@process
def train(logger: BaseLoggerManager, lr: float = 0.1, text: str = ""):
    for step in range(3):
        logger.log_metrics({"loss": lr / (step + 1), "val": {"acc": 1 - lr, "worst": float("inf")}})


@pytest.fixture
def runs(tmp_path):
    for number, lr in enumerate((0.25, 0.5, 0.75)):
        pipeline = Pipeline("tables", progress=False, seed=1, checkpoint=False)
        pipeline.process("train", train, lr=lr, text="\x1b[31m\n" * number).run(tmp_path / "runs", name=f"run{number}")
    return sorted((tmp_path / "runs").iterdir())


def cells(done):
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


def test_ls_shows_what_differs_in_the_config(runs, ridgepole):
    head, *rows = cells(ridgepole("runs", "ls"))
    assert head[-3:] == ["NAME", "lr", "text"]
    assert [(row[-2] if row[-1].startswith("\\") else row[-1]) for row in rows] == ["0.75", "0.5", "0.25"]
    assert rows[0][-1] == r"\x1b[31m\n\x1b[31m\n", "a value can't write to the terminal"


def test_ls_filters_sorts_and_chooses_columns(runs, ridgepole):
    rows = cells(
        ridgepole(
            "runs",
            "ls",
            "--filter",
            'lr >= 0.5 and status == "finished"',
            "--sort",
            "lr",
            "--columns",
            "name,lr,val/acc",
        )
    )
    assert rows == [["name", "lr", "val/acc"], ["run1", "0.5", "0.5"], ["run2", "0.75", "0.25"]]
    rows = json.loads(ridgepole("runs", "ls", "--sort=-loss.max", "--columns", "id, loss.max", "--json").stdout)
    spaced = ridgepole("runs", "ls", "--sort", "-loss.max", "--columns", "id, loss.max", "--json")
    assert json.loads(spaced.stdout) == rows
    assert rows == [{"id": path.name, "loss.max": lr} for path, lr in zip(runs[::-1], (0.75, 0.5, 0.25), strict=True)]
    assert ridgepole("runs", "ls", "--filter", "lr > 9").stdout == "no run in runs passes the filter\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--filter", "lr >"), "--filter:1:5: error: expected a name or a value, not the end of the filter"),
        (("--filter", "rl > 3"), "--filter:1:1: error: no run has anything called 'rl'"),
        (("--filter", "name == run1"), "--filter:1:9: error: no run has anything called 'run1'"),
        (("--filter", 'tags == "x"'), "--filter:1:1: error: tags is a list"),
        (("--filter", '"x" != tags'), "--filter:1:1: error: tags is a list"),
        (("--filter", "status in [finished]"), "--filter:1:12: error: no run has anything called 'finished'"),
        (("--sort", "rl"), "--sort: error: no run has anything called 'rl'"),
        (("--columns", ","), "--columns: error: no column is named"),
    ],
)
def test_ls_with_a_wrong_expression(options, message, runs, ridgepole):
    done = ridgepole("runs", "ls", *options)
    assert done.returncode == 2
    assert done.stderr.startswith(message)


def column(done, head):
    """Return the cells below a head."""
    first, *lines = done.stdout.splitlines()
    assert f" {head} " in f" {first} ", done.stderr
    at = f" {first} ".index(f" {head} ")
    return [line[at:].split()[0] for line in lines]


def test_ls_shows_the_column_that_it_sorts_by(runs, ridgepole):
    listed = ridgepole("runs", "ls", "--sort", "val/acc")
    assert column(listed, "val/acc") == ["0.25", "0.5", "0.75"]
    assert column(listed, "lr") == ["0.75", "0.5", "0.25"]
    for names in ("-started,lr", "lr,-lr", "processes.train.params.lr"):
        head, *_ = cells(ridgepole("runs", "ls", "--sort", names))
        assert len([word for word in head if word.endswith("lr")]) == 1, names
        assert "started" not in head


def test_wide_characters_keep_the_columns_straight(runs, ridgepole):
    assert ridgepole("runs", "rename", "run1", "宽" * 5).returncode == 0
    first, *lines = ridgepole("runs", "ls").stdout.splitlines()
    at = first.index("lr")
    shown = {line[at:].split()[0] for line in lines if "宽" not in line}
    (wide,) = (line for line in lines if "宽" in line)
    assert shown == {"0.25", "0.75"}
    assert wide[at - 5 :].split()[0] == "0.5", "five characters take ten columns"


def test_a_damaged_run_does_not_keep_the_others_from_being_listed(runs, ridgepole):
    fields = json.loads((runs[0] / "run.json").read_text()) | {"attempt": "two"}
    (runs[0] / "run.json").write_text(json.dumps(fields))
    (runs[0] / "attempts.jsonl").write_text('{"attempt": 1, "changes": 7, "restored": "x"}\n')
    (runs[1] / "config.resolved.json").write_text('{"processes": null}')
    assert len(cells(ridgepole("runs", "ls"))) == 4
    assert ridgepole("checkpoints", "ls", "run1").returncode == 0


def test_tables_fit_a_terminal(runs, tmp_path):
    def terminal_of(*arguments, columns):
        environ = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
        child = pexpect.spawn(
            sys.executable,
            ["-m", "ridgepole", *arguments],
            cwd=str(tmp_path),
            env=environ | {"NO_COLOR": "1"},
            dimensions=(24, columns),
            timeout=60,
            encoding="utf-8",
        )
        shown = child.read()
        child.close()
        assert child.exitstatus == 0, shown
        return shown

    wide = terminal_of("runs", "ls", columns=200)
    assert "STARTED" in wide
    assert "left out" not in wide
    narrow = terminal_of("runs", "ls", columns=80)
    assert "STARTED" not in narrow
    assert all(len(line) <= 80 for line in narrow.splitlines())
    tiny = terminal_of("runs", "ls", columns=40)
    assert "5 columns left out: pipeline, started, seconds, lr, text; choose with --columns" in tiny
    assert " lr" in terminal_of("runs", "ls", "--sort", "lr", columns=40), "what it is sorted by stays"
    assert "STARTED" in terminal_of("runs", "ls", "--sort", "-started", columns=40)
    ranked = terminal_of("runs", "ls", "--sort", "loss.best", columns=70)
    assert " lr" in ranked, "what differs says more than another metric's best value"
    assert "BEST" not in ranked
    assert "* the best" not in ranked
    assert "RUN" in tiny
    compared = terminal_of("runs", "compare", "run0", "run1", "run2", columns=50)
    assert all(len(line) <= 50 for line in compared.splitlines())
    assert compared.count("KEY") > 1, "a table below the other, each with the names"
    for name in ("run0", "run1", "run2"):
        assert name in compared


def test_trials_of_a_sweep_are_told_apart(runs, ridgepole):
    for path, sweep, trial in zip(runs, ("a", "a", None), (0, 1, None), strict=True):
        fields = json.loads((path / "run.json").read_text())
        fields |= {"sweep": {"id": sweep, "trial": trial}} if sweep else {}
        (path / "run.json").write_text(json.dumps(fields))
    assert column(ridgepole("runs", "ls"), "TRIAL") == ["-", "1", "0"]
    fields |= {"sweep": {"id": "b", "trial": 4}}
    (runs[2] / "run.json").write_text(json.dumps(fields))
    assert column(ridgepole("runs", "ls"), "TRIAL") == ["b/4", "a/1", "a/0"]


def test_archived_runs_are_left_out_unless_asked_for(runs, ridgepole):
    assert ridgepole("runs", "archive", "run0").returncode == 0
    best = "* the best val/acc of any step; --sort=-val/acc.best ranks the runs by it\n"
    assert ridgepole("runs", "ls").stderr == f"{best}1 archived run left out; --all shows them\n"
    assert ridgepole("runs", "ls", "--all").stderr == best
    assert [row[0] for row in cells(ridgepole("runs", "ls", "--columns", "name"))] == ["name", "run2", "run1"]
    assert [row[0] for row in cells(ridgepole("runs", "ls", "--columns", "name", "--all"))][-1] == "run0"
    assert [row[0] for row in cells(ridgepole("runs", "ls", "--columns", "name", "--archived"))] == ["name", "run0"]


def test_ls_marks_the_best_run_and_says_which_have_diverged(ridgepole, tmp_path):
    """A run whose losses were never finite has no best value of another metric."""
    for name, losses in {
        "good": [2.0, 0.5],
        "better": [2.0, 0.25],
        "lost": [3.0, math.nan],
        "never": [math.inf],
    }.items():
        with begin_run(name, root=tmp_path / "runs") as run:
            for loss in losses:
                run.log({"accuracy": 0.1, "val/loss": loss})
    done = ridgepole("runs", "ls")
    lines = {row.split()[-1]: row for row in done.stdout.splitlines()[1:]}
    assert "val/loss 0.25 *" in lines["better"]
    assert "val/loss 0.5 " in lines["good"]
    assert "val/loss 3, then not finite " in lines["lost"]
    assert "val/loss not finite " in lines["never"]
    assert done.stdout.count("*") == 1
    assert done.stderr == "* the best val/loss of any step; --sort=val/loss.best ranks the runs by it\n"
    assert ridgepole("runs", "ls", "--sort=val/loss.best", "--columns", "name").stdout.split()[1] == "better"
    best = {row["name"]: row["best"] for row in json.loads(ridgepole("runs", "ls", "--json").stdout)}
    assert best["never"] is None
    compared = ridgepole("runs", "compare")
    (head, *_) = compared.stdout.splitlines()
    assert head.split() == ["KEY", "never", "lost", "better", "good"]
    assert ["metrics", "val/loss", "not", "finite", "not", "finite", "0.25", "*", "0.5"] in cells(compared)
    assert compared.stderr == "metrics are last values; * marks the best\n"


def test_runs_of_one_name_have_the_ends_of_their_ids_as_heads(ridgepole, tmp_path):
    ids = []
    for loss in (1.0, 2.0, 3.0):
        with begin_run("same", root=tmp_path / "runs") as run:
            run.log({"loss": loss})
        ids.append(run.run_id)
    assert cells(ridgepole("runs", "compare"))[0] == ["KEY", *(each.rpartition("-")[2] for each in reversed(ids))]
    assert cells(ridgepole("runs", "compare", *ids[:2]))[0] == ["KEY", *ids[:2]]


def test_show_names_the_labels(runs, ridgepole):
    with LabelsChange(runs[0]) as change:
        change.labels = checked(name="first", tags=["a", "b"], note="one\ntwo")
    lines = ridgepole("runs", "show", "first").stdout.splitlines()
    assert lines[1:5] == ["name      first", "tags      a, b", "note      one", "note      two"]


def test_compare(runs, ridgepole):
    rows = cells(ridgepole("runs", "compare", "run0", "run1", "run2", "run0", "--baseline", "run1"))
    assert rows[0] == ["KEY", "run0", "run1", "run2"]
    assert ["config", "lr", "0.25", "0.5", "0.75"] in rows
    assert ["metrics", "loss", "0.08333", "(-50%)", "*", "0.1667", "0.25", "(+50%)"] in rows
    found = json.loads(ridgepole("runs", "compare", "run0", "run1", "--baseline", "run2", "--json").stdout)
    assert found["runs"] == [runs[2].name, runs[0].name, runs[1].name], "the baseline comes first if it is not named"
    assert found["baseline"] == runs[2].name
    accuracy = next(row for row in found["metrics"] if row["key"] == "val/acc")
    assert (accuracy["values"], accuracy["percent"]) == ([0.25, 0.75, 0.5], [0.0, 200.0, 100.0])
    assert ridgepole("runs", "compare", "run0", "latest", "--all").stdout.count("\n") > 30
    every = json.loads(ridgepole("runs", "compare", "--json").stdout)
    assert every["runs"] == [path.name for path in reversed(runs)], "all of them, the newest first"
    filtered = json.loads(ridgepole("runs", "compare", "run0", "--filter", "lr < 0.7", "--json").stdout)
    assert filtered["runs"] == [runs[0].name, runs[1].name], "the named one first, and each once"
    none = ridgepole("runs", "compare", "--filter", "lr > 9")
    assert (none.returncode, "no run passes the filter" in none.stderr) == (2, True)
    assert ridgepole("report", "--filter", "lr < 0.7", "-o", "some.html").stdout.startswith("wrote 2 runs to some.html")
    assert "passes the filter" in ridgepole("report", "--filter", "lr > 9").stderr
    alone = ridgepole("runs", "compare", "run0", runs[0].name)
    hint = "or choose them with --filter 'status == \"finished\"'"
    assert alone.returncode == 2
    assert alone.stderr == f"error: only one run is named: name two or more to compare, {hint}\n"


def test_metrics(runs, ridgepole):
    rows = cells(ridgepole("runs", "metrics", "run1", "--name", "loss"))
    assert [(row[0], row[1], row[-1]) for row in rows[1:]] == [
        ("0", "0", "0.5"),
        ("1", "1", "0.25"),
        ("2", "2", "0.1667"),
    ]
    found = json.loads(ridgepole("runs", "metrics", "run1", "--since", "1", "--json").stdout)
    assert (found["run"], found["status"], found["next"], found["hidden"]) == (runs[1].name, "finished", "2", [])
    assert [line["metrics"] for line in found["records"]] == [{"loss": 0.5 / 3, "val/acc": 0.5, "val/worst": "inf"}]
    assert ridgepole("runs", "metrics", "run1", "--since", found["next"]).stdout == "no values after 2\n"
    wrong = ridgepole("runs", "metrics", "run1", "--since", "x")
    assert (wrong.returncode, wrong.stderr.startswith("error: --since: 'x' is not a cursor")) == (2, True)
