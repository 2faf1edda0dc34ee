"""`run` and `check` as a user calls them: exit codes, streams, messages."""

import importlib.util
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from programs import needs
from ridgepole.cli import main

PACKAGE = """
from ridgepole import Permanence, PipelineProcess, process
from ridgepole.permanences import BaseLoggerManager


class Net(Permanence):
    def __init__(self, width: int = 8, token: str = ""):
        self.width = width

    def cleanup(self):
        print("cleaned up")


@process
def train(net: Net, logger: BaseLoggerManager, steps: int = 3):
    for step in range(steps):
        logger.log_metrics({"loss": 1 / (step + 1)})
    logger.log_metrics({"accuracy": 0.5})


@process
def fail(net: Net):
    raise ZeroDivisionError("my own mistake")


@process
def leave(net: Net, code: int = 3):
    raise SystemExit(code)


@process
def where(net: Net):
    import os
    print("cwd", os.getcwd())
"""

GOOD = """[pipeline]
package = "shapes"
seed = 3

[permanences.net]
type = "Net"
params = { width = 16 }

[processes.train]
type = "train"
"""


@pytest.fixture
def shapes(tmp_path):
    (tmp_path / "shapes").mkdir()
    (tmp_path / "shapes" / "__init__.py").write_text(PACKAGE)

    def write(text=GOOD, name="shapes.toml"):
        (tmp_path / name).write_text(text)
        return tmp_path

    write()
    return write


def only_run(folder):
    (path,) = [path for path in (folder / "runs").iterdir() if not path.name.startswith(".")]
    return path


def test_a_run_that_works(shapes, fresh_ridgepole):
    folder = shapes()
    done = fresh_ridgepole("run", "shapes.toml", "-s", "width=32")
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"finished in [\d.:]+(?: s)? · loss 0\.3333 · accuracy 0\.5 · runs/[\w-]+", last)
    path = only_run(folder)
    assert last.endswith(path.name)
    assert (path / "config.toml").read_bytes() == GOOD.encode()
    resolved = json.loads((path / "config.resolved.json").read_text())
    assert resolved["pipeline"]["seed"] == 3
    assert resolved["permanences"]["net"]["params"]["width"] == 32
    assert resolved["processes"]["train"]["params"]["steps"] == 3, "defaults are resolved too"
    record = json.loads((path / "run.json").read_text())
    assert record["status"] == "finished"
    assert [item["name"] for item in record["processes"]] == ["train"]
    provenance = json.loads((path / "provenance.json").read_text())
    assert provenance["overrides"] == ["width=32"]
    assert provenance["packages"]["pydantic"]
    assert len((path / "metrics.jsonl").read_text().splitlines()) == 4


@needs("git")
def test_git_state_is_recorded(shapes, ridgepole):
    folder = shapes()
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "start"]):
        subprocess.run([*git, *command], check=True, timeout=30)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    (folder / "shapes" / "__init__.py").write_text(PACKAGE + "\n# changed\n")
    assert ridgepole("run", "shapes.toml").returncode == 0
    path = only_run(folder)
    state = json.loads((path / "provenance.json").read_text())["git"]
    assert state["commit"] == commit
    assert state["changed"] is True
    assert "+# changed" in (path / "code.diff").read_text()


def test_the_seed_that_was_drawn_is_recorded(shapes, ridgepole):
    folder = shapes(GOOD.replace("seed = 3\n", ""))
    assert ridgepole("run", "shapes.toml").returncode == 0
    path = only_run(folder)
    seed = json.loads((path / "config.resolved.json").read_text())["pipeline"]["seed"]
    assert isinstance(seed, int)
    assert json.loads((path / "run.json").read_text())["seed"] == seed


@pytest.mark.parametrize(("last", "code", "said"), [("train", 0, "finished in"), ("fail", 1, "failed after")])
def test_the_last_line_counts_the_processes_that_are_done(shapes, ridgepole, last, code, said):
    more = "".join(f'[processes.{name}]\ntype = "{kind}"\n' for name, kind in (("again", "train"), ("third", last)))
    shapes(GOOD + more)
    done = ridgepole("run", "shapes.toml")
    assert done.returncode == code, done.stderr
    count = "2/3" if code else "3/3"
    assert re.search(rf"^{said} [\d.:]+(?: s)? · {count} · .*runs/", done.stdout + done.stderr, re.MULTILINE)


def test_a_failing_process_shows_the_users_own_frames(shapes, ridgepole):
    folder = shapes(GOOD.replace('type = "train"', 'type = "fail"'))
    done = ridgepole("run", "shapes.toml")
    assert done.returncode == 1
    assert "ZeroDivisionError: my own mistake" in done.stderr
    assert "in process 'train' (fail, shapes.toml:9:1)" in done.stderr
    frames = re.findall(r'File "([^"]+)"', done.stderr)
    assert frames, "the user's own frames are shown"
    assert all(frame.endswith("shapes/__init__.py") for frame in frames), frames
    assert re.search(r"^failed after [\d.:]+(?: s)? · runs/", done.stderr, re.MULTILINE)
    assert "cleaned up" in done.stdout
    record = json.loads((only_run(folder) / "run.json").read_text())
    assert record["status"] == "failed"
    assert record["error"]["type"] == "ZeroDivisionError"
    assert record["processes"][0]["status"] == "failed"


def test_debug_shows_all_frames(shapes, ridgepole):
    shapes(GOOD.replace('type = "train"', 'type = "fail"'))
    done = ridgepole("run", "shapes.toml", "--debug")
    assert done.returncode == 1
    assert "ridgepole/pipeline/" in done.stderr


def test_a_users_exit_code_is_kept(shapes, ridgepole):
    shapes(GOOD.replace('type = "train"', 'type = "leave"'))
    assert ridgepole("run", "shapes.toml").returncode == 3


def test_an_exit_says_where_it_came_from(shapes, ridgepole):
    shapes(GOOD.replace('type = "train"', 'type = "leave"'))
    done = ridgepole("run", "shapes.toml")
    assert "sys.exit(3)\nin process 'train'" in done.stderr
    folder = shapes(GOOD.replace('type = "train"', 'type = "leave"\ncode = 0'))
    done = ridgepole("run", "shapes.toml", "--runs-dir", "other")
    assert done.returncode == 0
    (path,) = (folder / "other").iterdir()
    assert json.loads((path / "run.json").read_text())["status"] == "interrupted"


def test_the_traceback_of_a_failed_run_is_kept(shapes, ridgepole):
    folder = shapes(GOOD.replace('type = "train"', 'type = "fail"'))
    ridgepole("run", "shapes.toml")
    error = json.loads((only_run(folder) / "run.json").read_text())["error"]
    assert 'shapes/__init__.py", line' in error["traceback"]
    assert "ZeroDivisionError" in error["traceback"]


def test_a_full_stderr_keeps_the_exit_code(shapes, ridgepole):
    folder = shapes(GOOD.replace('type = "train"', 'type = "fail"'))
    for command in ("run shapes.toml", "check shapes.toml -s nothing=1"):
        shell = f"{shlex.quote(sys.executable)} -m ridgepole {command} 2>/dev/full; echo code $?"
        done = subprocess.run(shell, shell=True, cwd=folder, capture_output=True, text=True, timeout=60)
        assert done.stdout.split()[-2:] in (["code", "1"], ["code", "2"])


def test_a_closed_stdout_is_no_failure(shapes):
    folder = shapes()
    shell = f"{shlex.quote(sys.executable)} -m ridgepole run shapes.toml >&-; echo code $? >&2"
    done = subprocess.run(shell, shell=True, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.stderr.split()[-2:] == ["code", "0"]


def test_a_package_behind_a_link(shapes, ridgepole):
    folder = shapes(GOOD.replace('"shapes"', '"linked"'))
    (folder / "real").mkdir()
    (folder / "shapes").rename(folder / "real" / "linked")
    (folder / "linked").symlink_to(folder / "real" / "linked")
    assert ridgepole("run", "shapes.toml").returncode == 0


def test_prints_at_import_are_no_part_of_the_json(shapes, ridgepole):
    folder = shapes()
    (folder / "shapes" / "loud.py").write_text("print('hello')")
    assert all(item["severity"] == "note" for item in json.loads(ridgepole("check", "shapes.toml", "--json").stdout))


def test_why_a_class_does_not_count(shapes, ridgepole):
    folder = shapes(GOOD.replace('type = "Net"', 'type = "Half"'))
    (folder / "shapes" / "half.py").write_text(
        "from ridgepole import Permanence\nclass Half(Permanence): pass\nclass Plain: pass\n"
    )
    assert "Half still lacks cleanup" in ridgepole("check", "shapes.toml").stderr
    shapes(GOOD.replace('type = "Net"', 'type = "Plain"'))
    assert "Plain is neither a Permanence nor a PipelineProcess" in ridgepole("check", "shapes.toml").stderr


def test_settings_by_their_short_names(shapes, ridgepole):
    shapes()
    done = ridgepole("run", "shapes.toml", "--dry-run", "-s", "checkpoint.every_steps=3", "-s", "seed=4")
    pipeline = tomllib.loads(done.stdout)["pipeline"]
    assert (pipeline["checkpoint"]["every_steps"], pipeline["seed"]) == (3, 4)


def test_secrets_of_every_kind(shapes, ridgepole):
    """Numbers, nested ones, ones inside a longer text, defaults in a signature, and in the user's own error."""
    folder = shapes(
        GOOD.replace("width = 16", 'width = 16, token = "https://u:${env:MY_API_TOKEN}@h"').replace('"train"', '"leak"')
        + 'api_key = 99988877\ncredentials = { value = "nested-4711" }\n'
    )
    (folder / "shapes" / "leak.py").write_text(
        "from ridgepole import process\nimport os\n@process\n"
        "def leak(net: 'shapes.Net', api_key: int, credentials: dict, my_token: str = 'default-4711'):\n"
        "    raise ValueError(f'{api_key} {credentials} {os.environ[\"MY_API_TOKEN\"]}')\n"
        "import shapes\n"
    )
    done = ridgepole("run", "shapes.toml", MY_API_TOKEN="canary-4711")
    assert done.returncode == 1, done.stderr
    texts = {path.name: path.read_text(errors="replace") for path in only_run(folder).rglob("*") if path.is_file()}
    for secret in ("canary-4711", "99988877", "nested-4711", "default-4711"):
        assert secret not in done.stderr, secret
        holding = [name for name, text in texts.items() if secret in text]
        assert set(holding) <= {"config.toml"}, (secret, holding)


def test_run_dir_and_the_working_directory(shapes, ridgepole, tmp_path_factory):
    folder = shapes(GOOD.replace('type = "train"', 'type = "where"'))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = ridgepole("run", str(folder / "shapes.toml"), "--runs-dir", "my runs", cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    assert f"cwd {elsewhere}" in done.stdout, "a run never changes the working directory"
    assert len(list((elsewhere / "my runs").iterdir())) == 1
    assert not (folder / "runs").exists()


def test_a_run_directory_that_cannot_be_made(shapes, ridgepole):
    folder = shapes()
    (folder / "runs").write_text("in the way")
    done = ridgepole("run", "shapes.toml")
    assert done.returncode == 2
    assert "can't make a run directory in" in done.stderr
    assert "--runs-dir" in done.stderr
    assert "Traceback" not in done.stderr
    assert (folder / "runs").read_text() == "in the way"


def test_dry_run_starts_nothing(shapes, ridgepole):
    folder = shapes()
    done = ridgepole("run", "shapes.toml", "--dry-run", "-s", "width=5")
    assert done.returncode == 0
    assert tomllib.loads(done.stdout)["permanences"]["net"]["params"]["width"] == 5
    assert not (folder / "runs").exists()


BAD = {
    "an unknown key": (
        GOOD.replace("width = 16", "widht = 16"),
        "shapes.toml:7:12: error: Net has no parameter 'widht'",
        "did you mean 'width'?",
    ),
    "an unknown type": (
        GOOD.replace('"Net"', '"Nett"'),
        "shapes.toml:6:8: error: no permanence type is called 'Nett'",
        "did you mean 'Net'?",
    ),
    "a dotted path": (
        GOOD.replace('"Net"', '"os.system"'),
        "shapes.toml:6:8: error: no permanence type is called 'os.system'",
        "not a dotted path",
    ),
    "a wrong type of a value": (
        GOOD.replace("16", '"wide"'),
        "shapes.toml:7:20: error: net.width should be a valid integer, not 'wide'",
        "",
    ),
    "nobody declared it": (
        "\n".join(GOOD.splitlines()[:4] + GOOD.splitlines()[8:]),
        "shapes.toml:5:1: error: 'train' asks for a Net as 'net', and no permanence is one",
        'declare one: [permanences.net] type = "Net"',
    ),
    "a syntax error": (GOOD.replace("{ width = 16 }", "{ width = 16"), "shapes.toml:7:", ""),
    "no such package": (
        GOOD.replace('"shapes"', '"shape"'),
        "shapes.toml:2:11: error: no package 'shape' beside the pipeline's file",
        "did you mean 'shapes'?",
    ),
    "no type": (GOOD.replace('type = "Net"\n', ""), "shapes.toml:5:1: error: the permanence 'net' has no type", ""),
    "an unknown table": (GOOD + "\n[proceses.x]\n", "error: unknown table or key 'proceses'", "'processes'"),
    "nested brackets": ("x = " + "[" * (1 << 20), "shapes.toml", ""),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("verb", ["check", "run"])
def test_bad_input(case, verb, shapes, ridgepole):
    text, message, hint = BAD[case]
    folder = shapes(text)
    done = ridgepole(verb, "shapes.toml")
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert hint in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 5000, "a message is for reading"
    assert not (folder / "runs").exists(), "nothing was started"


def test_a_missing_file(ridgepole, tmp_path):
    done = ridgepole("run", "nowhere.toml")
    assert done.returncode == 2
    assert "nowhere.toml" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_module_that_fails_at_import(shapes, ridgepole):
    folder = shapes()
    (folder / "shapes" / "deep.py").write_text("def f():\n    raise RuntimeError('broken module')\n\nf()\n")
    done = ridgepole("run", "shapes.toml")
    assert done.returncode == 2
    assert "shapes.toml:2:11: error: package 'shapes' failed to import: RuntimeError: broken module" in done.stderr
    frames = re.findall(r'File "([^"]+)"', done.stderr)
    assert [Path(frame).name for frame in frames] == ["deep.py", "deep.py"]
    assert not (folder / "runs").exists()


def test_all_problems_in_one_report(shapes, ridgepole):
    shapes(GOOD.replace("width = 16", "widht = 16").replace("seed = 3", 'seed = "x"') + "stepz = 3\n")
    done = ridgepole("check", "shapes.toml")
    places = re.findall(r"^shapes\.toml:(\d+):\d+: error", done.stderr, re.MULTILINE)
    assert places == ["3", "7", "11"], "in the order of the file"
    assert done.stderr.splitlines()[-1] == "3 errors"


def test_check_json(shapes, ridgepole):
    shapes(GOOD.replace("width = 16", "widht = 16"))
    done = ridgepole("check", "shapes.toml", "--json")
    assert done.returncode == 2
    (problem,) = json.loads(done.stdout)
    assert (problem["file"], problem["line"], problem["column"]) == ("shapes.toml", 7, 12)
    assert problem["severity"] == "error"
    shapes()
    done = ridgepole("check", "shapes.toml", "--json")
    assert (done.returncode, {item["severity"] for item in json.loads(done.stdout)}) == (0, {"note"})


def test_check_says_that_all_is_well(shapes, ridgepole):
    shapes()
    done = ridgepole("check", "shapes.toml")
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "shapes.toml: ok, 1 permanence, 1 process"


def test_warnings_do_not_stop(shapes, ridgepole):
    shapes(GOOD + '\n[permanences.spare]\ntype = "Device"\n')
    done = ridgepole("check", "shapes.toml")
    assert done.returncode == 0
    assert "warning: nothing in the pipeline uses the permanence 'spare'" in done.stderr


def holding_canary(folder):
    return [path.name for path in folder.rglob("*") if path.is_file() and b"canary-4711" in path.read_bytes()]


def test_secrets_stay_where_they_are(shapes, ridgepole):
    text = GOOD.replace("width = 16", 'width = 16, token = "${env:MY_API_TOKEN}"')
    folder = shapes(text)
    done = ridgepole("run", "shapes.toml", MY_API_TOKEN="canary-4711")
    assert done.returncode == 0, done.stderr
    assert holding_canary(only_run(folder)) == []
    shapes(GOOD.replace("width = 16", 'width = 16, token = "canary-4711"'))
    done = ridgepole("check", "shapes.toml")
    assert "net.params.token looks like a secret written out" in done.stderr
    assert ridgepole("run", "shapes.toml", "--runs-dir", "other").returncode == 0
    (path,) = (folder / "other").iterdir()
    assert holding_canary(path) == ["config.toml"]


def test_overrides_that_lead_nowhere(shapes, ridgepole):
    shapes()
    done = ridgepole("run", "shapes.toml", "-s", "nett.width=3", "-s", "widht=3", "-s", "novalue")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    done = ridgepole("run", "shapes.toml", "-s", "nett.width=3", "-s", "widht=3")
    assert "nothing is called 'nett'" in done.stderr
    assert "no parameter is called 'widht'" in done.stderr
    assert "did you mean 'width'?" in done.stderr


@pytest.mark.parametrize(
    "override", ["width=3", "net.width=3", "permanences.net.width=3", "permanences.net.params.width=3"]
)
def test_every_way_to_name_a_parameter(override, shapes, ridgepole):
    for text in (
        GOOD,
        GOOD.replace("params = { width = 16 }", "width = 16"),
        GOOD.replace("params = { width = 16 }", ""),
    ):
        shapes(text)
        done = ridgepole("run", "shapes.toml", "--dry-run", "-s", override)
        assert done.returncode == 0, done.stderr
        assert tomllib.loads(done.stdout)["permanences"]["net"]["params"]["width"] == 3


@pytest.mark.parametrize("arguments", [[], ["rum"], ["run"], ["runs"], ["runs", "lst"], ["run", "x.toml", "--nope"]])
def test_a_wrong_call(arguments, ridgepole):
    done = ridgepole(*arguments)
    assert done.returncode == 2
    assert "usage: ridgepole" in done.stderr


def test_version_and_help(fresh_ridgepole):
    assert fresh_ridgepole("--version").stdout.startswith("ridgepole 0.")
    text = fresh_ridgepole("--help").stdout
    assert all(verb in text for verb in ("run", "check", "new", "runs", "doctor"))


RESUMABLE = """
from ridgepole import Permanence, PipelineProcess, process


class Net(Permanence):
    def __init__(self):
        raise SystemExit("check constructs nothing")

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass

    def cleanup(self):
        pass


class Half(Permanence):
    def state_dict(self):
        return {}

    def cleanup(self):
        pass


class Data(Permanence):
    def cleanup(self):
        pass


class Own(PipelineProcess):
    def __init__(self, net: Net):
        pass

    def execute(self):
        pass

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


@process
def train(net: Net, data: Data = None, half: Half = None):
    pass
"""


def test_check_says_what_a_resume_could_not_restore(tmp_path, ridgepole):
    def check(tables, checkpoint="true"):
        (tmp_path / "shapes").mkdir(exist_ok=True)
        (tmp_path / "shapes" / "__init__.py").write_text(RESUMABLE)
        lines = [f'[pipeline]\npackage = "shapes"\ncheckpoint = {checkpoint}']
        lines += [f'[{section}.{name}]\ntype = "{kind}"' for section, name, kind in tables]
        (tmp_path / "p.toml").write_text("\n".join(lines) + "\n")
        done = ridgepole("check", "p.toml")
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[1:], done.stderr

    net, own = ("permanences", "net", "Net"), ("processes", "own", "Own")
    data, half = ("permanences", "data", "Data"), ("permanences", "half", "Half")
    train = ("processes", "train", "train")
    assert check([net, own]) == ([], ""), "everything can be restored, and there is nothing to say"
    lines, errors = check([net, data, own, train])
    assert errors == ""
    assert lines[0] == "resume: data has no state_dict/load_state_dict; a resumed run starts it from scratch"
    assert len(lines) == 1, "a process without a ticking loop has nothing to resume inside"
    lines, errors = check([net, half, train])
    assert "p.toml:6:1: warning: Half has state_dict but no load_state_dict" in errors
    assert lines[0].startswith("resume: half has no state_dict/load_state_dict")
    lines, errors = check([net, half, train], "false")
    assert (lines, errors) == (
        ["resume: no checkpoints are taken, so an interrupted run can only start from scratch"],
        "",
    )
    check([net, data, train])
    notes = json.loads(ridgepole("check", "p.toml", "--json").stdout)
    assert [note["severity"] for note in notes] == ["note"]
    assert "data has no state_dict" in notes[0]["message"]


def test_values_need_no_option(shapes, ridgepole):
    shapes(GOOD)
    done = ridgepole("run", "shapes.toml", "width=1", "--dry-run", "-s", "width=2", "train.steps=7", "net.width=32")
    assert done.returncode == 0, done.stderr
    plan = tomllib.loads(done.stdout)
    assert plan["permanences"]["net"]["params"]["width"] == 32, "the last one wins"
    assert plan["processes"]["train"]["params"]["steps"] == 7
    removed = ridgepole("run", "shapes.toml", "--dry-run", "~width")
    assert tomllib.loads(removed.stdout)["permanences"]["net"]["params"]["width"] == 8
    assert ridgepole("check", "shapes.toml", "steps=2").returncode == 0


def test_arguments_in_the_form_of_other_tools_say_what_to_write(shapes, ridgepole):
    shapes(GOOD)
    for arguments, message in [
        (("run", "width=1", "shapes.toml"), "FILE comes first, then width=1"),
        (("run", "shapes.toml", "-m", "width=1,2"), "a sweep tries several values: ridgepole sweep start"),
        (("run", "shapes.toml", "+width=1"), "write width=…, also for a key that the file does not have"),
        (("run", "shapes.toml", "net/width=1"), "write net.width=…"),
        (("run", "shapes.toml", "--width=1"), "unrecognized arguments: --width=1; values are given as width=VALUE"),
        (("run", "shapes.toml", "--width", "1"), "usage: ridgepole run FILE.toml"),
        (("run", "shapes.toml", "--dry-rum"), "did you mean '--dry-run'"),
        (("resume", "latest", "--form", "3"), "did you mean '--from'"),
        (("runs", "show", "latest", "--all"), "usage: ridgepole runs show"),
        ((), "usage: ridgepole [-h] [--version] VERB ..."),
        (("run", "shapes.toml", "--token=canary"), "unrecognized arguments: --token=******"),
        (("runs", "show", "latest", "a=1"), "unrecognized arguments: a=1"),
    ]:
        done = ridgepole(*arguments)
        assert (done.returncode, message in done.stderr) == (2, True), (arguments, done.stderr)


def test_secrets_in_arguments_are_stored_nowhere(shapes, ridgepole):
    root = shapes(GOOD)
    done = ridgepole("run", "shapes.toml", "net.token=canary-4711", "width=8")
    assert done.returncode == 0, done.stderr
    for path in (root / "runs").rglob("*"):
        assert path.is_dir() or b"canary" not in path.read_bytes(), path
    assert "canary" not in done.stdout + done.stderr
    provenance = json.loads(next((root / "runs").glob("*/provenance.json")).read_text())
    assert provenance["overrides"] == ["net.token=***********", "width=8"]


def test_values_without_option_are_found_beside_a_run_that_is_left_out():
    from ridgepole.cli import _parse, build_parser

    for arguments, run, values in [
        (["resume", "a=1", "--runs-dir", "x", "b=2"], "latest", ["a=1", "b=2"]),
        (["resume", "2026", "~a", "-s", "b=2", "c=3"], "2026", ["~a", "b=2", "c=3"]),
        (["resume"], "latest", []),
    ]:
        parsed = _parse(build_parser(), arguments)
        assert (parsed.run, parsed.overrides) == (run, values)
    assert _parse(build_parser(), ["sweep", "resume", "lr=1"]).overrides == ["lr=1"]


def test_ctrl_c_while_a_verb_is_imported_shows_nothing(monkeypatch, capfd):
    def stop(name):
        raise KeyboardInterrupt(name)

    monkeypatch.setattr("ridgepole.cli.importlib.import_module", stop)
    assert main(["run", "exp.toml"]) == 130
    assert capfd.readouterr() == ("", "")


def test_check_of_a_sweep_without_optuna_names_the_extra(tmp_path, monkeypatch, capsys):
    (tmp_path / "lone.py").write_text("from ridgepole import process\n\n\n@process\ndef fit(lr: float = 0.1): ...\n")
    (tmp_path / "lone.toml").write_text(
        '[pipeline]\nname = "lone"\npackage = "lone"\n\n[processes.fit]\ntype = "fit"\n\n'
        '[sweep]\nmethod = "random"\nrun_cap = 2\nmetric = { name = "loss" }\n'
        'parameters = { "fit.lr" = { min = 0.1, max = 0.2 } }\n'
    )
    find_spec = importlib.util.find_spec
    hidden = {"optuna": None}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: hidden.get(name, ...) and find_spec(name, *more)
    )
    assert main(["check", str(tmp_path / "lone.toml")]) != 0
    assert "a sweep needs optuna, which is not installed" in capsys.readouterr().err
