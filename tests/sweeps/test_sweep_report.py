"""What a sweep's report says: the data of its view, the file, the pictures, the command line."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ridgepole.errors import MissingExtraError, SweepError
from ridgepole.extras import install_command
from ridgepole.sweeps import Metric, SweepResult, TrialResult, load_sweep, run_sweep, sweep_pipeline
from ridgepole.sweeps.report.answers import importances_of, page_data_of
from ridgepole.sweeps.stored import StoredSweeps
from ridgepole.view import report as view_report
from ridgepole.view.wire import key_of

EVIL = "</script><img onerror=alert(1) src=x>"
BUILT = Path(view_report.__file__).parent / "_page" / "build.json"
built = pytest.mark.skipif(not BUILT.exists(), reason="the page is not built: make frontend")
PICTURES = ("history.png", "parallel.png", "importances.png", "slices.png")


def uniform(count: int) -> dict:
    return {f"x{index}": {"distribution": "uniform", "min": 0.0, "max": 1.0} for index in range(count)}


def config(parameters: dict, count: int = 8, **more) -> dict:
    base = {"method": "random", "run_cap": count, "metric": {"name": "loss"}, "parameters": parameters}
    return base | {"ridgepole": {"seed": 3}} | more


def sweep(run_once, parameters: dict, tmp_path: Path, count: int = 8, **more) -> SweepResult:
    return run_sweep(run_once, config(parameters, count, **more), root=tmp_path / "runs", progress=False)


def made(values: list, goal: str = "minimize", target: float | None = None, /, **params) -> SweepResult:
    """A result with these objectives, not run by anybody; `None` is a failed trial."""
    trials = [
        TrialResult(number, "failed" if value is None else "finished", value, {k: v[number] for k, v in params.items()})
        for number, value in enumerate(values)
    ]
    return SweepResult("id", Path("/nowhere/.sweeps/id"), metric=Metric("loss", goal, target=target), trials=trials)


def data_of(result: SweepResult) -> dict:
    """What the page draws."""
    view = result.report_view()
    data = page_data_of(result, view)
    assert data["importances"] is None, "they are asked for apart"
    return json.loads(json.dumps(data | {"importances": importances_of(view)}, allow_nan=False))


# --- the data


def test_the_page_holds_every_trial_and_the_best_so_far(tmp_path):
    def run_once(trial):
        if trial.number == 2:
            raise ValueError("as asked")
        return [5.0, 3.0, None, 4.0, 1.0, 1.0, 2.0, 0.5][trial.number]

    result = sweep(run_once, uniform(1), tmp_path)
    data = data_of(result)
    trials = data["trials"]
    assert trials["value"] == [5.0, 3.0, None, 4.0, 1.0, 1.0, 2.0, 0.5]
    assert result.report_view().best == (5.0, 3.0, 3.0, 3.0, 1.0, 1.0, 1.0, 0.5)
    assert trials["best"][:4] == [1.0, *[trials["place"][1]] * 3]
    assert trials["status"][2] == "failed"
    assert trials["error"][2] == "ValueError: as asked"
    assert data["best"] == 7
    assert data["counts"] == {"finished": 7, "failed": 1}
    assert data["axes"][0]["values"] == [trial.params["x0"] for trial in result.trials]
    assert json.loads(data["command"]) == result.best.params, "a function has no command, so its parameters stand there"


@pytest.mark.parametrize(("goal", "best"), [("minimize", (3, 3, 1, 1)), ("maximize", (3, 4, 4, 5))], ids=["min", "max"])
def test_best_so_far_follows_the_goal(goal, best):
    assert made([3, 4, 1, 5], goal).report_view().best == best


def test_only_finished_trials_count_as_the_best(tmp_path):
    trials = [TrialResult(0, "pruned", 0.1), TrialResult(1, "finished", 2.0), TrialResult(2, "stopped", 0.5)]
    result = SweepResult("id", Path("/nowhere/.sweeps/id"), metric=Metric("loss"), trials=trials)
    data = data_of(result)
    assert result.report_view().best == (None, 2.0, 2.0)
    assert data["trials"]["best"][0] is None
    assert data["trials"]["value"] == [0.1, 2.0, 0.5]


def test_axes_follow_the_distributions(tmp_path):
    parameters = {
        "lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1},
        "depth": {"min": 1, "max": 5},
        "width": {"distribution": "q_uniform", "min": 32, "max": 128, "q": 32},
        "kind": {"values": ["b", "a", None, True, [1, 2], {"k": 1}]},
        "size": {"values": [64, 16, 32]},
        "noise": {"distribution": "log_normal", "mu": 0, "sigma": 1},
        "fixed": {"value": [1, 2]},
    }
    result = sweep(lambda trial: trial.params["lr"], parameters, tmp_path, 30)
    data = data_of(result)
    axes = {axis["name"]: axis for axis in data["axes"]}
    assert {name: axis["kind"] for name, axis in axes.items()} == {
        "depth": "linear",
        "kind": "choice",
        "lr": "log",
        "noise": "log",
        "size": "choice",
        "width": "linear",
    }
    assert axes["lr"]["ticks"] == [[0.0, "0.0001"], [0.3333, "0.001"], [0.6667, "0.01"], [1.0, "0.1"]]
    assert [label for _, label in axes["depth"]["ticks"]] == ["1", "2", "3", "4", "5"]
    assert [label for _, label in axes["size"]["ticks"]] == ["16", "32", "64"], "numbers stand in their order"
    assert [label for _, label in axes["kind"]["ticks"]] == ["b", "a", "null", "true", "[1, 2]", '{"k": 1}']
    labels = axes["kind"]["ticks"]
    shown = [labels[index][1] for index in axes["kind"]["values"]]
    plain = [
        value if isinstance(value, str) else json.dumps(value) for value in (t.params["kind"] for t in result.trials)
    ]
    assert shown == plain
    for trial, place in zip(result.trials, axes["lr"]["places"], strict=True):
        assert place == pytest.approx((math.log10(trial.params["lr"]) + 4) / 3, abs=1e-4)
    assert data["constants"] == [["fixed", "[1, 2]"]]


def test_values_that_look_alike_are_told_apart(tmp_path):
    result = sweep(lambda trial: 1.0, {"kind": {"values": ["1", 1, 1.0, True]}}, tmp_path, 4)
    (axis,) = data_of(result)["axes"]
    assert [label for _, label in axis["ticks"]] == ['"1"', "1", "1.0", "true"]


def test_long_labels_keep_what_tells_them_apart(tmp_path):
    values = [f"a rather long name of the variant number {index} of this network" for index in range(3)]
    result = sweep(lambda trial: 1.0, {"kind": {"values": values}}, tmp_path, 4)
    (axis,) = data_of(result)["axes"]
    assert axis["labels"] == ["…0…", "…1…", "…2…"]
    assert [label for _, label in axis["ticks"]] == values, "in full where there is room"


def test_a_huge_outlier_leaves_the_others_apart(tmp_path):
    values = [-0.1 * (index % 7) for index in range(30)] + [1e12]
    data = data_of(made(values))
    places = data["trials"]["place"]
    assert data["scale"]["high"] < 1, "the outlier is not on the axis"
    assert places[-1] == 1.0, "and is drawn at its end"
    assert len(set(places[:7])) == 7
    data = data_of(made([value * -1 for value in values], "maximize"))
    assert data["scale"]["low"] > -1
    assert data["trials"]["place"][-1] == 0.0


def test_values_over_decades_stand_on_a_logarithmic_axis(tmp_path):
    data = data_of(made([10.0**power for power in range(-6, 4)]))
    assert data["scale"]["log"]
    gaps = [b - a for a, b in zip(data["trials"]["place"], data["trials"]["place"][1:], strict=False)]
    assert max(gaps) - min(gaps) < 1e-3


def test_a_target_is_marked_where_it_is_on_the_axis(tmp_path):
    near = data_of(made([0.8, 0.9], "maximize", 0.95))
    assert near["scale"]["target"] == 1.0
    far = data_of(made([0.8, 0.9], "maximize", 1e6))
    assert far["scale"]["target"] is None
    assert far["metric"]["target"] == 1e6


def test_secrets_are_not_shown(tmp_path):
    inside = {"values": [[{"password": "hunter2-c"}], [{"password": "hunter2-d"}]]}
    parameters = {"api_key": {"values": ["hunter2-a", "hunter2-b"]}, "x": {"value": 1}, "y": inside}
    result = sweep(lambda trial: 1.0, parameters, tmp_path)
    assert "hunter2" not in json.dumps(data_of(result))
    assert data_of(result)["axes"][0]["ticks"][0][1] == "***"


def test_what_is_not_finite_is_no_value(tmp_path):
    data = data_of(made([math.nan, math.inf, 1.0, -math.inf], x=[math.inf, 1.0, 2.0, math.nan]))
    assert data["trials"]["value"] == [None, None, 1.0, None]


NUMBERS = st.floats() | st.integers(-(10**400), 10**400) | st.floats(-1, 1)
VALUES = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(), st.lists(st.integers(), max_size=2))


@given(
    values=st.lists(st.none() | st.floats(), max_size=12),
    params=st.data(),
    goal=st.sampled_from(["minimize", "maximize"]),
    target=st.none() | st.floats(allow_nan=False, allow_infinity=False),
)
def test_a_page_can_be_made_of_anything(values, params, goal, target):
    column = st.lists(VALUES, min_size=len(values), max_size=len(values))
    columns = params.draw(st.dictionaries(st.text(), column, max_size=3))
    data = data_of(made(values, goal, target, **columns))
    assert len(data["trials"]["value"]) == len(values)
    for axis in data["axes"]:
        assert all(place is None or 0 <= place <= 1 for place in axis["places"]), axis
        assert all(0 <= place <= 1 for place, _ in axis["ticks"]), axis
        assert len(axis["ticks"]) < 30


# --- how much a parameter matters


def shares_of(result: SweepResult) -> tuple[dict, str]:
    told = data_of(result)["importances"]
    return dict(told["shares"]), told["note"]


def test_the_parameter_that_matters_comes_first(tmp_path):
    parameters = uniform(3) | {"kind": {"values": ["a", "b", "c"]}, "same": {"values": [1]}, "fixed": {"value": 1}}
    result = sweep(lambda trial: (trial.params["x1"] - 0.3) ** 2, parameters, tmp_path, 80)
    shares, note = shares_of(result)
    assert next(iter(shares)) == "x1"
    assert shares["x1"] > 0.7
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["same"] == 0, "a parameter with one value makes no difference"
    assert set(shares) == {"x0", "x1", "x2", "kind", "same"}
    assert "PED-ANOVA" in note
    assert "80 finished" in note
    assert shares_of(result) == (shares, note), "nothing about it is random"


def test_the_server_tells_importances_apart_and_a_report_holds_them(tmp_path):
    result = sweep(lambda trial: trial.params["x0"], uniform(2), tmp_path, 20)
    sweeps, key = StoredSweeps([tmp_path / "runs"]), key_of(result.path.resolve())
    assert sweeps.data(key)["importances"] is None
    assert next(iter(dict(sweeps.importances(key)["shares"]))) == "x0"
    assert sweeps.importances("none") is None
    held = view_report.report_data([], sweeps)["sweep"][key]["importances"]
    assert held == sweeps.importances(key)


def test_importances_follow_the_goal(tmp_path):
    """Here the smallest values depend on x0 alone and the largest on x1 alone."""

    def run_once(trial):
        x0, x1 = trial.params["x0"], trial.params["x1"]
        return -1 + x0 if x0 < 0.15 else 1 + x1 if x1 > 0.85 else 0.5 * math.sin(100 * x0 * x1)

    for goal, name in (("minimize", "x0"), ("maximize", "x1")):
        result = sweep(run_once, uniform(2), tmp_path, 200, metric={"name": "loss", "goal": goal})
        assert next(iter(shares_of(result)[0])) == name


@pytest.mark.parametrize(
    ("values", "params", "why"),
    [
        ([1.0, 2.0], {"x": [1, 2]}, "It takes 10 finished trials to tell, not 2."),
        ([None] * 12, {"x": list(range(12))}, "It takes 10 finished trials to tell, not 0."),
        ([1.0] * 12, {"x": list(range(12))}, "All finished trials have the same value"),
        (list(range(12)), {"x": [1] * 12}, "No parameter has more than one value"),
        (list(range(12)), {}, "No parameter has more than one value"),
    ],
)
def test_why_importances_can_not_be_told(values, params, why, tmp_path):
    shares, note = shares_of(made(values, **params))
    assert shares == {}
    assert note.startswith(why)


# --- the file

INDEX = (
    b'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>x</title>'
    b'<link rel="stylesheet" href="assets/app.css"><script src="assets/app.js" defer></script></head>'
    b'<body><div id="app"></div></body></html>'
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def page(monkeypatch):
    """A page that needs no build."""
    files = {"index.html": INDEX, "assets/app.css": b"", "assets/app.js": b"1;"}
    monkeypatch.setattr(view_report, "page_file", files.get)


def held_by(file: Path) -> dict:
    """What the file of a page holds."""
    text = file.read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="ridgepole-report">(.*?)</script>', text, re.DOTALL)
    return json.loads(data)


def test_the_file_opens_on_its_sweep_and_holds_its_runs(page, toy, grid, ridgepole):
    root = toy(grid)
    result = sweep_pipeline("sweep.json", count=2, progress=False)
    (file,) = result.report(pictures=False)
    assert file == result.path / "report" / "report.html", "where it is written by default"
    data = held_by(file)
    key = key_of(result.path.resolve())
    assert (data["opens"], data["info"]["sweeps"]) == ("sweep", 1)
    assert [each["key"] for each in data["sweeps"]["sweeps"]] == [key]
    assert data["sweep"] == {key: data_of(result)}
    assert sorted(data["runs"]["keys"]) == sorted(data["sweep"][key]["runs"])
    assert data["charts"]
    runs = [root / "runs" / trial.run for trial in result.trials]
    render = view_report.report_data(runs[:1], StoredSweeps([root / "runs"], [result.id]))
    assert json.loads(json.dumps(render["sweep"])) == data["sweep"], "a report of its runs has the sweep, too"
    assert (render["opens"], len(render["runs"]["keys"])) == ("runs", 1)


def test_names_in_a_sweep_end_nothing(page, tmp_path):
    parameters = {EVIL: {"min": 0.0, "max": 1.0}, "y": {"values": [EVIL, "\u2028\u2029&<!--"]}}

    def run_once(trial):
        if trial.number == 1:
            raise ValueError(EVIL)
        return 1.0

    result = sweep(run_once, parameters, tmp_path, name=EVIL, metric={"name": EVIL})
    (file,) = result.report(tmp_path / "there", pictures=False)
    text = file.read_text(encoding="utf-8")
    assert "<img" not in text
    assert "\u2028" not in text
    (data,) = held_by(file)["sweep"].values()
    assert data["title"] == data["axes"][0]["name"] == EVIL
    assert data["trials"]["error"][1] == f"ValueError: {EVIL}"


def test_stored_sweeps_are_read_again_when_they_change(tmp_path):
    first = sweep(lambda trial: trial.number, uniform(1), tmp_path, 3)
    sweeps = StoredSweeps([tmp_path / "runs"])
    (line,) = sweeps.listed()
    assert (line["id"], line["trials"], line["best"]) == (first.id, 3, 0.0)
    before = sweeps.data(line["key"])
    assert sweeps.data(line["key"]) is before, "kept while nothing changes"
    run_sweep(
        lambda trial: -trial.number,
        config(uniform(1), 5),
        root=tmp_path / "runs",
        resume=first.id,
        count=5,
        progress=False,
    )
    assert len(sweeps.data(line["key"])["trials"]["value"]) == 5
    assert sweeps.data("000000000000") is None
    second = sweep(lambda trial: 1.0, uniform(1), tmp_path, 1)
    assert [each["id"] for each in sweeps.listed()] == [second.id, first.id]
    (second.path / "spec.json").unlink()
    assert "spec.json is missing" in StoredSweeps([tmp_path / "runs"]).listed()[0]["error"]
    assert StoredSweeps([tmp_path / "runs"], [first.id, None]).count() == 1


# --- the pictures

SHAPES = {
    "few": made([3.0, 1.0, 2.0], x=[0.1, 0.2, 0.3]),
    "none": made([]),
    "one": made([1.0], x=[1]),
    "all failed": made([None] * 5, x=list(range(5))),
    "constants": made([3.0, 1.0, 2.0], x=[1, 1, 1]),
    "outlier": made([*range(20), 1e300], x=list(range(21))),
    "kinds": made([*range(12)], x=[True, None, "a", [1], {"b": 2}, 3] * 2, y=[1e-4, 1.0] * 6),
    "maximise": made([*range(12)], "maximize", 30.0, x=[*range(12)]),
    "strange names": made(
        [1.0, None], **{"$x^$": [1, 2], "\n\x00\u202e": [1, 2], "日本": ["\ud800", "語"], "n" * 500: [1, 2]}
    ),
    "forty parameters": made([*range(12)], **{f"p{index}": [*range(12)] for index in range(40)}),
}


@pytest.mark.parametrize("name", SHAPES)
def test_pictures_are_drawn(name, page, tmp_path):
    files = SHAPES[name].report(tmp_path, pictures=True)
    assert [path.name for path in files] == ["report.html", *PICTURES]
    for path in files[1:]:
        with Image.open(path) as image:
            width, height = image.size
            assert 1000 <= width <= 5000, path.name
            assert 300 <= height <= 2600, path.name
            counts = {colour: number for number, colour in image.convert("RGB").getcolors(1 << 22)}
        white = counts[255, 255, 255] / (width * height)
        assert 0.3 < white < 0.998, f"{path.name} is {white:.2%} white"


def test_the_history_shows_as_many_marks_as_there_are_trials(page, tmp_path):
    """Its dots, crosses and line are there in their colours."""
    made([3.0, None, 1.0, 2.0], "minimize", 0.5, x=[1, 2, 3, 4]).report(tmp_path, pictures=True)
    with Image.open(tmp_path / "history.png") as image:
        seen = {colour for count, colour in image.convert("RGB").getcolors(1 << 22) if count > 20}
    wanted = {"finished": (0, 114, 178), "best": (213, 94, 0), "failed": (204, 121, 167), "target": (0, 158, 115)}
    assert {name for name, colour in wanted.items() if colour in seen} == set(wanted)


def test_drawing_leaves_the_users_settings_alone(page, tmp_path):
    import matplotlib as mpl

    def windows():
        pyplot = sys.modules.get("matplotlib.pyplot")
        return pyplot.get_fignums() if pyplot else []

    before, shown = dict(mpl.rcParams), windows()
    mpl.rcParams["axes.titlesize"] = 33
    try:
        made([1.0, 2.0], x=[1, 2]).report(tmp_path, pictures=True)
        assert mpl.rcParams["axes.titlesize"] == 33
    finally:
        mpl.rcParams["axes.titlesize"] = before["axes.titlesize"]
    assert dict(mpl.rcParams) == before
    assert windows() == shown


WITHOUT = """
import sys
sys.modules["matplotlib"] = None
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "matplotlib" else find(name, *more)
from ridgepole.cli import main
sys.exit(main(sys.argv[1:]))
"""


@built
def test_without_matplotlib_there_is_the_page(tmp_path, monkeypatch):
    result = sweep(lambda trial: 1.0, uniform(1), tmp_path)
    command = [sys.executable, "-c", WITHOUT, "sweep", "report", "--runs-dir", "runs"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"runs/.sweeps/{result.id}/report/report.html"]
    assert install_command("plots") in done.stderr
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    with pytest.raises(MissingExtraError, match="matplotlib"):
        result.report(tmp_path / "other", pictures=True)
    assert not (tmp_path / "other").exists()


def test_a_place_that_can_not_be_written_is_named(page, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(SweepError, match=r"can't write the report of sweep id to .*taken"):
        made([1.0]).report(tmp_path / "taken", pictures=False)


# --- the command line


@built
def test_start_writes_the_page_and_status_names_it(toy, grid, ridgepole):
    root = toy(grid)
    done = ridgepole("sweep", "start", "sweep.json", "--max-trials", "2")
    assert done.returncode == 0, done.stderr
    page = load_sweep().path / "report" / "report.html"
    assert f"report: {page.relative_to(root)}" in done.stdout.splitlines()
    assert sorted(path.name for path in page.parent.iterdir()) == ["report.html"], "pictures are for those who ask"
    assert f"report    {page.relative_to(root)}" in ridgepole("sweep", "status").stdout.splitlines()
    assert json.loads(ridgepole("sweep", "status", "--json").stdout)["report"] == str(page)
    before = page.read_text(encoding="utf-8")
    assert ridgepole("sweep", "resume", "--max-trials", "4").returncode == 0
    assert page.read_text(encoding="utf-8") != before, "a resume writes it again"
    data = data_of(load_sweep())
    assert data["command"] == load_sweep().command()
    assert data["command"].startswith("ridgepole run ")


def test_no_report_where_none_is_wanted(toy, grid, ridgepole):
    toy(grid)
    done = ridgepole("sweep", "start", "sweep.json", "--max-trials", "1", "--no-report", "--json")
    assert json.loads(done.stdout)["report"] is None
    assert not (load_sweep().path / "report").exists()
    assert "report  " not in ridgepole("sweep", "status").stdout


@built
def test_report_writes_where_it_is_asked_to(toy, grid, ridgepole):
    root = toy(grid)
    assert ridgepole("sweep", "start", "sweep.json", "--max-trials", "2").returncode == 0
    told = json.loads(ridgepole("sweep", "report", load_sweep().id, "--output", "there", "--json").stdout)
    assert told["sweep"] == load_sweep().id
    assert told["files"] == [str(root / "there" / name) for name in ("report.html", *PICTURES)]
    assert all(Path(name).stat().st_size > 5000 for name in told["files"])
    done = ridgepole("sweep", "report", "--runs-dir", "nowhere")
    assert (done.returncode, "no sweeps in nowhere" in done.stderr) == (2, True)


@built
def test_a_sweep_whose_report_fails_ends_well(toy, grid, ridgepole):
    root = toy(grid)
    assert ridgepole("sweep", "start", "sweep.json", "--max-trials", "1", "--no-report").returncode == 0
    (load_sweep().path / "report").write_text("in the way")
    done = ridgepole("sweep", "resume", "--max-trials", "2")
    assert done.returncode == 0
    (warning,) = [line for line in done.stderr.splitlines() if line.startswith("warning")]
    assert warning.startswith("warning: no report was written: can't write the report of sweep")
    assert str(root) in warning


@built
def test_a_failing_sweep_has_a_report_too(toy, grid, ridgepole):
    grid["parameters"] = {"lr": {"values": [0.5]}, "train.fail_at": {"value": 1}}
    toy(grid | {"ridgepole": {"on_trial_error": "stop"}})
    done = ridgepole("sweep", "start", "sweep.json")
    assert done.returncode == 1
    assert "report: " in done.stderr
    assert (load_sweep().path / "report" / "report.html").is_file()
