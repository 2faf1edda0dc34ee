"""Runs that can't go on, or only with a word from the user: what is said, and that nothing is overwritten."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from steps_project import STEPS, TOML, WHOLE, content, refused, store, values, went_on

from ridgepole.rundir import RUN, read_run

TORTURE = pytest.mark.skipif(not os.environ.get("RIDGEPOLE_TORTURE"), reason="needs RIDGEPOLE_TORTURE=1")

# --- it goes on


def test_a_killed_run_goes_on(killed, place):
    assert read_run(killed).status == "crashed"
    done = place.call("resume")
    assert went_on(done, killed)
    assert "attempt 2 resumes from 000004-step-4, step 4" in done.stderr
    assert read_run(killed).fields["attempt"] == 2
    lines = [json.loads(line) for line in (killed / "attempts.jsonl").read_text().splitlines()]
    assert [line["attempt"] for line in lines] == [1, 2, 2]
    assert lines[2]["resumed_from_seq"] == 4
    assert lines[2]["first_seq"] == 5
    assert [line["pid"] for line in lines][1] == read_run(killed).fields["pid"]


@pytest.mark.parametrize("how", ["path", "id", "prefix", "latest", "run --resume", "elsewhere"])
def test_every_way_to_name_it(how, killed, place):
    name = {"path": str(killed), "id": killed.name, "prefix": killed.name[:-3], "latest": "latest"}.get(how)
    if how == "run --resume":
        done = place.call("run", "steps.toml", "--resume")
    elif how == "elsewhere":
        (place.path / "other").mkdir()
        done = place.call("resume", "latest", "--runs-dir", str(place.path / "runs"), cwd=place.path / "other")
    else:
        done = place.call("resume", name)
    assert went_on(done, killed)


def test_run_resume_without_anything_to_resume_starts_anew(killed, place):
    told = place.call("run", "steps.toml", "--resume", "--dry-run")
    assert (told.returncode, told.stderr) == (0, f"would resume runs/{killed.name}\n")
    assert place.call("resume").returncode == 0
    told = place.call("run", "steps.toml", "--resume", "--dry-run")
    assert told.stderr == f"nothing is unfinished: runs/{killed.name} has finished\na new run starts\n"
    done = place.call("run", "steps.toml", "--resume")
    assert done.returncode == 0
    assert len(list((place.path / "runs").iterdir())) == 2


def test_values_given_with_s_are_given_again(here):
    run = here.kill("-s", "train.rate=0.25", "-s", "weights.size=7")
    done = here.call("resume")
    assert done.returncode == 0, done.stderr
    assert values(run) == [0.25 * step for step in range(1, 9)]


def test_a_seed_that_was_drawn_is_used_again(here):
    run = here.kill(steps__toml=TOML.replace("seed = 3\n", ""))
    seed = read_run(run).fields["seed"]
    assert went_on(here.call("resume"), run)
    assert read_run(run).fields["seed"] == seed


def test_the_command_that_is_offered_works(here):
    here.write(steps__toml=TOML, steps__py=STEPS)
    done = here.call("run", "steps.toml", FAIL_AT="5")
    assert done.returncode == 1
    command = re.search(r"resume with: ridgepole (.*)", done.stderr)[1].split()
    run = here.run
    assert went_on(here.call(*command), run)


def test_a_file_that_is_gone(killed, place):
    (place.path / "steps.toml").unlink()
    assert went_on(place.call("resume"), killed)


def test_a_file_that_is_gone_and_code_below_another_directory(here):
    """The stored copy still finds the package beside where the file was."""
    run = here.kill()
    (here.path / "steps.toml").unlink()
    (here.path / "elsewhere").mkdir()
    assert went_on(here.call("resume", str(run), cwd=here.path / "elsewhere"), run)


def test_nothing_was_stored_yet(here):
    """Killed before the first checkpoint: from the beginning, and what was logged is hidden."""
    here.write(steps__toml=TOML.replace("every_steps = 2", "after_process = false"), steps__py=STEPS)
    assert here.call("run", "steps.toml", KILL_AT="5").returncode == -signal.SIGKILL
    run = here.run
    assert values(run) == WHOLE[:5]
    done = here.call("resume")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:-1] == ["prepare", *(f"step {number}" for number in range(8))]
    assert "attempt 2 resumes from the beginning" in done.stderr
    assert values(run) == WHOLE
    shown = here.call("runs", "show", "--json")
    assert json.loads(shown.stdout)["summary"]["metrics"]["value"]["count"] == 8


def test_a_crashed_run_is_listed_without_what_was_abandoned(killed, place):
    assert place.call("resume", KILL_AT="7").returncode == -signal.SIGKILL
    shown = json.loads(place.call("runs", "show", "--json").stdout)
    assert shown["status"] == "crashed"
    assert shown["summary"]["metrics"]["value"]["count"] == 7


# --- damage


def damage(run, name, file="state.json"):
    path = run / "checkpoints" / name / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("file", ["state.json", "manifest.json"])
def test_a_damaged_newest_is_passed_over_loudly(file, killed, place):
    damage(killed, "000004-step-4", file)
    done = place.call("resume")
    assert went_on(done, killed, step=2)
    assert done.stderr.count("can't be used") == 1
    assert "000004-step-4" in done.stderr
    assert file.removesuffix(".json") in done.stderr


def test_all_damaged(killed, place):
    """Nothing is left to go on from: it begins again, and says of each what is wrong with it."""
    names = [info.name for info in store(killed).list()]
    for name in names:
        damage(killed, name)
    done = place.call("resume")
    assert done.returncode == 0, done.stderr
    for name in names:
        assert name in done.stderr
    assert "from the beginning" in done.stderr
    assert values(killed) == WHOLE


def test_a_checkpoint_of_a_newer_ridgepole(killed, place):
    path = killed / "checkpoints" / "000004-step-4" / "manifest.json"
    fields = json.loads(path.read_bytes()) | {"format": 99}
    del fields["sha256"]
    body = json.dumps(fields).encode()
    path.write_bytes(body[:-1] + b',"sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'"}\n')
    before = content(killed)
    assert refused(place.call("resume"), killed, before, "newer Ridgepole", "000004-step-4", code=1)


def test_a_run_of_a_newer_ridgepole(killed, place):
    path = killed / RUN
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"format": 99}))
    before = content(killed)
    assert refused(place.call("resume", killed.name), killed, before, "newer Ridgepole")


def test_a_state_whose_shape_does_not_fit(killed, place):
    place.change(("size = 4", "size = 5"))
    done = place.call("resume", "--allow-change", "permanences.weights.params.size")
    assert done.returncode == 1
    assert "values of shape (4,) do not fit (5,)" in done.stderr
    assert "in load_state_dict of permanence 'weights'" in done.stderr
    place.change()
    assert went_on(place.call("resume"), killed), "put right again, it goes on"


def test_a_state_that_cannot_be_stored(here):
    here.write(steps__toml=TOML, steps__py=STEPS.replace('{"values": self.values}', '{"values": [1, {"f": print}]}'))
    done = here.call("run", "steps.toml")
    assert done.returncode == 1
    assert "permanences.weights['values'][1]['f'] is a builtin_function_or_method" in done.stderr


# --- what has changed


def test_a_changed_config_is_refused_with_what_differs(killed, place):
    place.change(("rate = 0.5", "rate = 0.1"), ("steps = 8", "steps = 9"))
    before = content(killed)
    assert refused(
        place.call("resume"),
        killed,
        before,
        f"the pipeline is not what run {killed.name} was",
        "processes.train.params.rate: 0.5 -> 0.1",
        "processes.train.params.steps: 8 -> 9",
        "--allow-change processes.train.params.",
    )
    some = place.call("resume", "--allow-change", "processes.train.params.rate")
    assert refused(some, killed, before, "steps: 8 -> 9")
    assert "rate: 0.5" not in some.stderr
    unknown = place.call("resume", "--allow-change", "processes.train", "--allow-change", "train.rat")
    assert refused(unknown, killed, before, "train.rat", "no such key")
    done = place.call("resume", "--allow-change", "processes.train.params")
    assert done.returncode == 0, done.stderr
    assert values(killed) == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.1, 2.2, 2.3, 2.4, 2.5])


def test_short_names_of_changes_are_taken_where_they_are_unambiguous(killed, place):
    place.change(("steps = 8", "steps = 9"))
    before = content(killed)
    ambiguous = place.call("resume", "--allow-change", "type")
    assert refused(ambiguous, killed, before, "--allow-change type: could be", "write more of it: ")
    wrong = place.call("resume", "--allow-change", "rate")
    assert refused(wrong, killed, before, "steps: 8 -> 9")
    done = place.call("resume", "--allow-change", "steps", "--allow-change", "train.rate", KILL_AT="7")
    assert done.returncode == -signal.SIGKILL
    assert "--allow-change train.rate: nothing has changed there; give it a value in the file or by -s" in done.stderr
    assert "--allow-change steps" not in done.stderr
    policy = place.call("resume", "--allow-change", "pipeline.checkpoint", "pipeline.checkpoint.every_steps=3")
    assert policy.returncode == 0, policy.stderr
    assert "nothing has changed there" not in policy.stderr, "it may always change, and has"


def test_a_change_that_was_allowed_is_known_from_then_on(killed, place):
    place.change(("steps = 8", "steps = 9"))
    allowed = place.call("resume", "--allow-change", "processes.train.params.steps", KILL_AT="7")
    assert allowed.returncode == -signal.SIGKILL
    done = place.call("resume")
    assert done.returncode == 0, done.stderr
    assert len(values(killed)) == 9


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("every_steps = 2", "every_steps = 1"),
        ("progress = false", "progress = true"),
        ("progress = false", "progress = false\ngrace_seconds = 5"),
        ("progress = false", 'progress = false\ntags = ["new"]'),
    ],
    ids=["policy", "progress", "grace", "tags"],
)
def test_what_changes_no_result_may_always_change(old, new, killed, place):
    place.change((old, new))
    assert went_on(place.call("resume"), killed)


def test_changed_code_is_a_warning(killed, place):
    with (place.path / "steps.py").open("a") as file:
        file.write("\n# a comment\n")
    done = place.call("resume")
    assert went_on(done, killed)
    assert f"steps.py has changed since run {killed.name} was started" in done.stderr


def test_a_process_that_is_gone_or_new_is_refused(killed, place):
    before = content(killed)
    gone, new = (
        ('[processes.prepare]\ntype = "prepare"\n', ""),
        ("rate = 0.5", 'rate = 0.5\n[processes.more]\ntype="prepare"'),
    )
    place.change(gone)
    assert refused(place.call("resume"), killed, before, "processes.prepare.type: 'prepare' -> (not there)")
    allowed = place.call("resume", "--allow-change", "processes.prepare")
    assert refused(allowed, killed, before, "'prepare' was done and 'train' was running", "today they are: train")
    place.change(new)
    assert refused(place.call("resume"), killed, before, "processes.more.type: (not there) -> 'prepare'")
    done = place.call("resume", "--allow-change", "processes.more")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:-1] == [*(f"step {number}" for number in range(4, 8)), "prepare"]


def test_processes_in_another_order_are_refused(killed, place):
    """The place in the order is what a checkpoint knows a process by."""
    head, prepare, train = re.split(r"(?=\[processes)", TOML)
    (place.path / "steps.toml").write_text(head + train + "\n" + prepare)
    before = content(killed)
    wanted = "'prepare' was done and 'train' was running", "today they are: train, prepare"
    assert refused(place.call("resume"), killed, before, *wanted)


def test_a_secret_value_must_be_given_again(here):
    run = here.kill("-s", "train.api_token=canary-5f2")
    before = content(run)
    assert refused(here.call("resume"), run, before, "-s train.api_token=..., a secret that is not stored")
    assert went_on(here.call("resume", "-s", "train.api_token=canary-5f2"), run)
    for name, data in content(run).items():
        assert b"canary-5f2" not in data, name


# --- whose run it is


def test_a_run_that_is_finished(killed, place):
    assert place.call("resume").returncode == 0
    before = content(killed)
    done = place.call("resume", killed.name)
    assert refused(done, killed, before, f"run {killed.name} has finished", f"ridgepole fork {killed.name}")


@pytest.mark.parametrize("missing", ["run.json", "config.resolved.json", "provenance.json"])
def test_a_run_that_had_not_begun(missing, killed, place):
    """Without what it wrote at its start nobody knows what it was to do: values given with -s would be lost."""
    (killed / missing).unlink()
    before = content(killed)
    assert refused(place.call("resume", killed.name), killed, before, "stopped before it had begun", "ridgepole run")
    assert place.call("run", "steps.toml", "--resume").returncode == 0, "a new one"
    assert content(killed) == before


def test_a_run_that_is_nowhere_or_not_the_only_one(killed, place):
    before = content(killed)
    assert refused(place.call("resume", "nosuch"), killed, before, "no run 'nosuch'", killed.name)
    assert refused(place.call("resume", "--runs-dir", "none"), killed, before, "no runs in none")
    assert refused(place.call("resume", str(place.path)), killed, before, str(place.path))
    shutil.copytree(killed, killed.with_name(killed.name[:-1] + "zz"))
    assert refused(place.call("resume", killed.name[:-1]), killed, before, "matches 2 runs", killed.name)


def test_a_run_that_is_running(killed, place):
    owner = place.start("resume", WAIT_AT="6").until("waiting")
    before = content(killed)
    done = place.call("resume", killed.name)
    assert refused(done, killed, before, "is running already", f"process {owner.pid} on ")
    assert place.call("run", "steps.toml", "--resume", KILL_AT="0").returncode == -signal.SIGKILL, "a run of its own"
    assert len(list(killed.parent.iterdir())) == 2
    owner.send(signal.SIGKILL).wait()
    assert went_on(place.call("resume", killed.name), killed, step=6)


@pytest.mark.fault("two resumers of one run: one owner, which the other names")
@pytest.mark.parametrize(
    "delay", [0.0, 0.01, 0.1, *(pytest.param(i / 200, marks=[pytest.mark.torture, TORTURE]) for i in range(1, 28, 2))]
)
def test_two_resumers_at_once(killed, place, delay):
    """Exactly one owns the run; the other leaves and names it."""
    both = [place.start("resume", killed.name)]
    time.sleep(delay)
    both.append(place.start("resume", killed.name))
    winner, loser = sorted(both, key=lambda child: child.wait())
    assert (winner.returncode, loser.returncode) == (0, 2), [child.stderr for child in both]
    assert f"process {winner.pid} on " in loser.stderr or "has finished" in loser.stderr
    assert values(killed) == WHOLE
    assert read_run(killed).fields["attempt"] == 2


# --- built in Python

IN_PYTHON = """
import sys
from ridgepole import Pipeline
from steps import Train, Weights, prepare

class Option:
    pass

pipeline = Pipeline("made", seed=3, progress=False, checkpoint={"every_steps": 2, "keep_last": 3})
pipeline.permanence("weights", Weights, size=4)
pipeline.process("prepare", prepare)
pipeline.process("train", Train, steps=int(sys.argv[2]), rate=0.5)
pipeline.run("runs") if sys.argv[1] == "run" else pipeline.resume(root="runs", allow_change=sys.argv[3:])
"""


def python(here, *arguments, **environment):
    child = here.server.start(*arguments, cwd=here.path, script=here.path / "made.py", **environment)
    child.wait()
    return child


def test_a_pipeline_that_was_built_in_python(here):
    here.write(steps__py=STEPS, made__py=IN_PYTHON)
    assert python(here, "run", "8", KILL_AT="5").returncode == -signal.SIGKILL
    run = here.run
    before = content(run)
    assert refused(here.call("resume"), run, before, "was started from Python", ".resume(")
    changed = python(here, "resume", "9")
    assert "processes.train.params.steps: 8 -> 9" in changed.stderr
    assert content(run) == before
    done = python(here, "resume", "8")
    assert done.returncode == 0, done.stderr
    assert values(run) == WHOLE
    assert done.stdout.splitlines() == [f"step {number}" for number in range(4, 8)]


def test_objects_without_a_repr_are_the_same_in_the_next_process(here):
    """An address, or the order of a set, is no change of the pipeline."""
    text = IN_PYTHON.replace("size=4)", "size=4)\npipeline.process('more', more, option=Option(), names={*'abcdefgh'})")
    text = text.replace("class Option:\n    pass", "class Option:\n    pass\n\n@process\ndef more(option, names): ...")
    here.write(steps__py=STEPS, made__py="from ridgepole import process\n" + text)
    for hash_seed, what, code in (("1", "run", -signal.SIGKILL), ("2", "resume", 0)):
        done = subprocess.run(
            [sys.executable, "made.py", what, "8"],
            cwd=here.path,
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | {"PYTHONHASHSEED": hash_seed, "KILL_AT": "5" if what == "run" else "-1"},
        )
        assert done.returncode == code, done.stderr
