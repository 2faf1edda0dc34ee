"""Which run a command means, and which file its pipeline is: never another one's, and never a silent fresh start."""

import json
import re
import shutil
import signal

import pytest
from steps_project import STEPS, TOML, WHOLE, Place, content, store, values, went_on

from ridgepole import Pipeline, process
from ridgepole.project import describe
from ridgepole.rundir import list_runs, read_run

MOVED = pytest.mark.fault("moved and copied projects, links, shared directories of runs: the run that was meant")


@pytest.fixture
def first(command_server, place, tmp_path):
    """A project in a directory of its own, whose run was killed after five steps."""
    made = Place(command_server, tmp_path / "first")
    shutil.copytree(place.path, made.path)
    record = made.run / "run.json"  # as if it had been started here
    described = describe(made.path / "steps.toml", made.path, made.path / "runs")
    record.write_text(json.dumps(json.loads(record.read_text()) | described))
    return made


# --- the same file


def by_a_link_to_the_directory(path):
    (path.parent / "link").symlink_to(path)
    return path.parent, "link/steps.toml"


def by_a_way_up(path):
    (path / "deep").mkdir()
    return path / "deep", "../../first/steps.toml"


def by_a_way_up_from_a_link(path):
    """The parent of a link is the parent of where it leads."""
    (path / "deep").mkdir()
    (path.parent / "link").symlink_to(path / "deep")
    return path.parent, "link/../steps.toml"


def by_a_link_to_the_file(path):
    (path / "same.toml").symlink_to("steps.toml")
    return path, "same.toml"


def by_its_new_name(path):
    (path / "steps.toml").rename(path / "renamed.toml")
    return path, "renamed.toml"


def in_a_moved_project(path):
    path.rename(path.parent / "moved")
    return path.parent / "moved", "steps.toml"


def in_a_moved_parent(path):
    (path.parent / "outer").mkdir()
    path.rename(path.parent / "outer" / "first")
    return path.parent, "outer/first/steps.toml"


def with_runs_behind_a_link(path):
    (path / "runs").rename(path.parent / "scratch")
    (path / "runs").symlink_to(path.parent / "scratch")
    return path, "steps.toml"


def saved_by_an_editor(path):
    """Written to a new file that takes the old one's name."""
    (path / "new").write_text((path / "steps.toml").read_text())
    (path / "new").rename(path / "steps.toml")
    return path, "steps.toml"


WAYS = [
    by_a_link_to_the_directory,
    by_a_way_up,
    by_a_way_up_from_a_link,
    by_a_link_to_the_file,
    by_its_new_name,
    in_a_moved_project,
    in_a_moved_parent,
    with_runs_behind_a_link,
    saved_by_an_editor,
]


@MOVED
@pytest.mark.parametrize("way", WAYS)
def test_run_resume_knows_the_file_whatever_leads_to_it(way, first):
    cwd, file = way(first.path)
    done = first.call("run", file, "--resume", cwd=cwd)
    assert done.returncode == 0, done.stderr
    (run,) = list_runs((cwd / file).parent / "runs")
    assert went_on(done, run.path)


@MOVED
@pytest.mark.parametrize("way", [in_a_moved_project, with_runs_behind_a_link, by_its_new_name])
def test_resume_finds_the_file_of_a_run_that_was_moved(way, first):
    cwd, file = way(first.path)
    done = first.call("resume", "latest", cwd=(cwd / file).parent)
    run = next(list_runs((cwd / file).parent / "runs"))
    assert went_on(done, run.path)


@MOVED
@pytest.mark.parametrize("command", [("resume", "latest"), ("run", "steps.toml", "--resume")], ids=" ".join)
def test_a_copied_project_runs_its_own_code_and_leaves_the_original_alone(command, first, tmp_path):
    copied = shutil.copytree(first.path, tmp_path / "copied")
    (copied / "steps.py").write_text(STEPS.replace('print("step",', 'print("copied",'))
    before = content(first.run)
    done = first.call(*command, cwd=copied)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:-1] == [f"copied {number}" for number in range(4, 8)]
    assert content(first.run) == before
    run = next(list_runs(copied / "runs"))
    assert values(run.path) == WHOLE
    assert run.fields["file"] == str(copied / "steps.toml")


@MOVED
def test_a_run_away_from_its_project_says_which_file_it_takes(first, tmp_path):
    away = shutil.copytree(first.run, tmp_path / "away" / first.run.name)
    done = first.call("resume", str(away), cwd=tmp_path)
    assert went_on(done, away)
    assert f"{first.path / 'steps.toml'} is used" in done.stderr


@MOVED
def test_a_moved_project_whose_runs_stay_is_found_from_inside(command_server, tmp_path):
    """The directory of runs says where the project was; the file in the working directory is the very same."""
    (tmp_path / "project").mkdir()
    made = Place(command_server, tmp_path / "project")
    made.write(steps__toml=TOML, steps__py=STEPS)
    runs = ("--runs-dir", str(tmp_path / "scratch"))
    assert made.call("run", "steps.toml", *runs, KILL_AT="5").returncode == -signal.SIGKILL
    moved = made.path.rename(tmp_path / "deeper")
    (run,) = list_runs(tmp_path / "scratch")
    assert made.call("resume", run.id, *runs, cwd=moved, KILL_AT="5").returncode == -signal.SIGKILL
    assert went_on(made.call("run", "steps.toml", "--resume", *runs, cwd=moved), run.path)


# --- the same configuration


def test_run_resume_takes_only_a_run_of_the_same_configuration(first):
    before = content(first.run)
    done = first.call("run", "steps.toml", "-s", "rate=0.25", "--resume", KILL_AT="3")
    assert done.returncode == -signal.SIGKILL, done.stderr
    new, old = list_runs(first.path / "runs")
    assert f"runs/{old.id} is not resumed: its configuration differs (processes.train.params.rate: 0.5 -> 0.25)" in (
        done.stderr
    )
    assert f"to resume it as it was: ridgepole resume runs/{old.id}\na new run starts" in done.stderr
    assert content(old.path) == before
    done = first.call("run", "steps.toml", "-s", "rate=0.25", "--resume")
    assert done.returncode == 0, done.stderr
    assert values(new.path) == [0.25 * step for step in range(1, 9)]
    assert went_on(first.call("run", "steps.toml", "--resume"), old.path), "the older one, without a word about it"


def test_a_changed_file_is_another_configuration_and_a_changed_policy_is_not(first):
    first.change(("every_steps = 2", "every_steps = 1"), ("progress = false", "progress = true"))
    assert first.call("run", "steps.toml", "--resume", KILL_AT="6").returncode == -signal.SIGKILL
    first.change(("size = 4", "size = 5"), ("seed = 3", "seed = 4"), ("steps = 8", "steps = 9"), ("0.5", "0.25"))
    done = first.call("run", "steps.toml", "--resume")
    assert done.returncode == 0, done.stderr
    assert "(pipeline.seed: 3 -> 4, permanences.weights.params.size: 4 -> 5, " in done.stderr
    assert "and 1 more)" in done.stderr
    assert len(list(list_runs(first.path / "runs"))) == 2


def test_a_drawn_seed_is_no_difference(command_server, tmp_path):
    made = Place(command_server, tmp_path)
    run = made.kill(steps__toml=TOML.replace("seed = 3\n", ""))
    assert went_on(made.call("run", "steps.toml", "--resume"), run)


def test_a_secret_given_again_resumes(command_server, tmp_path):
    made = Place(command_server, tmp_path)
    run = made.kill("-s", "train.api_token=canary-5f2")
    assert went_on(made.call("run", "steps.toml", "--resume", "-s", "train.api_token=canary-5f2"), run)


def test_run_resume_changes_no_configuration(first):
    before = content(first.run)
    done = first.call("run", "steps.toml", "--resume", "--allow-change", "processes.train.params.rate")
    assert done.returncode == 2
    assert "ridgepole resume RUN --allow-change processes.train.params.rate" in done.stderr
    assert content(first.run) == before


def test_run_resume_without_anything_unfinished_says_so(first):
    assert first.call("resume").returncode == 0
    (run,) = list_runs(first.path / "runs")
    done = first.call("run", "steps.toml", "--resume")
    assert done.returncode == 0
    assert f"nothing is unfinished: runs/{run.id} has finished\na new run starts\n" in done.stderr
    assert len(list(list_runs(first.path / "runs"))) == 2


def test_the_first_run_resume_of_a_file_says_nothing_about_others(command_server, tmp_path):
    made = Place(command_server, tmp_path)
    made.write(steps__toml=TOML, steps__py=STEPS)
    done = made.call("run", "steps.toml", "--resume")
    assert done.returncode == 0
    assert "a new run starts" not in done.stderr


def test_run_resume_beside_a_running_one_says_so(first):
    owner = first.start("resume", WAIT_AT="6").until("waiting")
    done = first.call("run", "steps.toml", "--resume", KILL_AT="0")
    assert done.returncode == -signal.SIGKILL
    (_, old) = list_runs(first.path / "runs")
    assert f"runs/{old.id} is not resumed: it is running (process {owner.pid} on " in done.stderr
    owner.send(signal.SIGKILL).wait()


# --- a directory of runs that projects share


@pytest.fixture
def shared(command_server, tmp_path):
    """Two projects, each with a killed run in the same directory of runs; the second one's is newer."""
    places = []
    for name, rate in (("one", "0.5"), ("two", "0.25")):
        (tmp_path / name).mkdir()
        made = Place(command_server, tmp_path / name)
        made.write(steps__toml=TOML.replace("0.5", rate), steps__py=STEPS)
        assert made.call("run", "steps.toml", "--runs-dir", "../shared", KILL_AT="5").returncode == -signal.SIGKILL
        places.append(made)
    return places, list(list_runs(tmp_path / "shared"))[::-1]


@MOVED
@pytest.mark.parametrize("command", [("resume", "latest"), ("run", "steps.toml", "--resume")], ids=" ".join)
@pytest.mark.parametrize("which", [0, 1])
def test_projects_that_share_a_directory_of_runs_resume_their_own(which, command, shared):
    places, runs = shared
    before = content(runs[1 - which].path)
    done = places[which].call(*command, "--runs-dir", "../shared")
    assert done.returncode == 0, done.stderr
    assert values(runs[which].path) == [(0.5, 0.25)[which] * step for step in range(1, 9)]
    assert content(runs[1 - which].path) == before


@MOVED
def test_latest_is_refused_where_it_could_be_either_project(shared, tmp_path):
    places, runs = shared
    before = [content(run.path) for run in runs]
    (tmp_path / "one" / "deep").mkdir()
    for verb in (("resume",), ("runs", "show"), ("checkpoints", "ls")):
        done = places[0].call(*verb, "latest", "--runs-dir", "shared", cwd=tmp_path)
        assert done.returncode == 2, done.stdout
        assert "has runs of 2 projects, so 'latest' is not clear" in done.stderr
        for run, name in zip(runs, ("one", "two"), strict=True):
            assert f"{run.id} of {tmp_path / name}" in done.stderr
    assert [content(run.path) for run in runs] == before
    shown = places[0].call("runs", "show", "latest", "--runs-dir", "../../shared", cwd=tmp_path / "one" / "deep")
    assert runs[0].id in shown.stdout, "the project around the working directory"


@process
def nothing() -> None:
    pass


def test_latest_in_python_is_of_the_pipelines_own_project(tmp_path):
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        pipeline = Pipeline("same", directory=tmp_path / name, progress=False, seed=1).process("nothing", nothing)
        made.append((pipeline, pipeline.run(tmp_path / "shared").id))
    for pipeline, run in made:
        with pytest.raises(Exception, match=f"run {run} has finished"):
            pipeline.resume(root=tmp_path / "shared")


# --- directories that change meanwhile

WANDERS = STEPS.replace(
    "        kill_at =",
    "        import shutil\n"
    "        os.makedirs('elsewhere', exist_ok=True)\n"
    "        os.chdir('elsewhere')\n"
    "        if 'REMOVE' in os.environ:\n"
    "            shutil.rmtree(os.environ['REMOVE'])\n"
    "        kill_at =",
)


@pytest.mark.parametrize("fails", [False, True], ids=["finishes", "fails"])
def test_paths_are_those_of_where_the_command_was_given(fails, command_server, tmp_path):
    made = Place(command_server, tmp_path)
    made.write(steps__toml=TOML, steps__py=WANDERS)
    done = made.call("run", "steps.toml", **({"FAIL_AT": "5"} if fails else {}))
    assert done.returncode == int(fails), done.stderr
    said = done.stderr if fails else done.stdout
    assert re.search(rf"· runs/{made.run.name}$", said, re.MULTILINE)
    if fails:
        assert f"resume with: ridgepole resume runs/{made.run.name}\n" in said


@pytest.mark.parametrize("fails", [False, True], ids=["finishes", "fails"])
def test_a_working_directory_that_is_removed_changes_no_outcome(fails, command_server, tmp_path):
    made = Place(command_server, tmp_path)
    made.write(steps__toml=TOML, steps__py=WANDERS)
    (tmp_path / "gone").mkdir()
    done = made.call(
        "run",
        "../steps.toml",
        cwd=tmp_path / "gone",
        REMOVE=str(tmp_path / "gone"),
        **({"FAIL_AT": "5"} if fails else {}),
    )
    assert done.returncode == int(fails), done.stderr
    assert read_run(made.run).status == ("failed" if fails else "finished")
    assert f"· {made.run}\n" in (done.stderr if fails else done.stdout)
    if fails:
        assert went_on(made.call("resume", str(made.run)), made.run)


def test_a_package_that_changes_the_directory_when_it_is_imported(command_server, tmp_path):
    made = Place(command_server, tmp_path)
    (tmp_path / "elsewhere").mkdir()
    made.write(steps__toml=TOML, steps__py="import os\nos.chdir('elsewhere')\n" + STEPS)
    done = made.call("run", "steps.toml", "-s", "rate=0.25", "--runs-dir", "mine", KILL_AT="5")
    assert done.returncode == -signal.SIGKILL, done.stderr
    (run,) = list_runs(tmp_path / "mine")
    assert run.fields["file"] == str(tmp_path / "steps.toml")
    done = made.call("resume", "latest", "--runs-dir", "mine")
    assert done.returncode == 0, done.stderr
    assert f"· mine/{run.id}\n" in done.stdout
    assert store(run.path).latest().step == 8
