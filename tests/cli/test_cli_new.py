"""`ridgepole new`: a project that works as it is, or nothing at all."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def own_tests(project):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )


def files_of(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_project_works_as_it_is(ridgepole, tmp_path):
    made = ridgepole("new", "waves")
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines() == ["made waves", "  cd waves", "  ridgepole run waves.toml", "  python -m pytest"]
    project = tmp_path / "waves"
    assert files_of(project) == [".gitignore", "README.md", "tests/test_waves.py", "waves.toml", "waves/__init__.py"]

    checked = ridgepole("check", "waves.toml", cwd=project)
    assert (checked.returncode, checked.stderr) == (0, "")
    done = ridgepole("run", "waves.toml", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "slope 3" in done.stdout
    shown = ridgepole("runs", "show", cwd=project).stdout
    assert "pipeline  waves" in shown
    assert "loss" in shown

    tested = own_tests(project)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert len(list((project / "runs").iterdir())) == 1, "its test keeps its runs to itself"


def test_its_own_test_can_fail(ridgepole, tmp_path):
    assert ridgepole("new", "waves").returncode == 0
    code = tmp_path / "waves" / "waves" / "__init__.py"
    code.write_text(code.read_text().replace("loss.backward()", "(-loss).backward()"))
    assert own_tests(tmp_path / "waves").returncode == 1


def test_nothing_of_the_template_shows_through(ridgepole, tmp_path):
    assert ridgepole("new", "deep/down/my-first try").returncode == 0
    project = tmp_path / "deep" / "down" / "my-first try"
    assert (project / "my_first_try" / "__init__.py").is_file()
    for path in project.rglob("*"):
        assert "my_experiment" not in path.name
        assert path.is_dir() or "my_experiment" not in path.read_text(), path
    assert names_in(project.parent) == ["my-first try"], "no draft is left"


def test_the_digits_template_is_the_example(ridgepole, tmp_path):
    assert ridgepole("new", "mine", "--template", "digits").returncode == 0
    example = ROOT / "examples" / "digits"
    wanted = [name for name in files_of(example) if not name.startswith(("runs/", ".")) and "__pycache__" not in name]
    names = {name: re.sub(r"^digits|(?<=test_)digits", "mine", name) for name in wanted}
    assert files_of(tmp_path / "mine") == [".gitignore", *sorted(names.values())]
    changed = []
    for name in wanted:
        before, after = ((example / name).read_text(), (tmp_path / "mine" / names[name]).read_text())
        for old, new in zip(before.splitlines(), after.splitlines(), strict=True):
            if old.split() != new.split():
                changed.append(new.split("  ")[0])
                assert re.sub(r"\bmine(?=[./\"])", "digits", new).split() == old.split()
    assert 'package = "mine"' in changed
    assert "from mine.data import Data" in changed
    assert 'FILE = Path(__file__).parent.parent / "mine.toml"' in changed
    assert ridgepole("check", "mine.toml", cwd=tmp_path / "mine").returncode == 0


@pytest.mark.parametrize("template", ["minimal", "digits"])
@pytest.mark.parametrize("name", ["a", "a_name_that_is_much_longer"])
def test_the_comments_of_a_new_project_are_aligned(template, name, ridgepole, tmp_path):
    assert ridgepole("new", name, "--template", template).returncode == 0
    for file in (f"{name}.toml", "README.md"):
        lines = (tmp_path / name / file).read_text().splitlines()
        columns = {line.index("  # ") for line in lines if "  # " in line}
        assert len(columns) == 1, lines


def test_an_empty_directory_is_filled(ridgepole, tmp_path):
    folder = tmp_path / "waves"
    folder.mkdir()
    before = folder.stat().st_ino
    made = ridgepole("new", ".", cwd=folder)
    assert made.returncode == 0, made.stderr
    assert "cd" not in made.stdout.split()
    assert folder.stat().st_ino == before, "a shell that stands in the directory stays in it"
    assert (folder / "waves.toml").is_file()
    assert names_in(tmp_path) == ["waves"]


@pytest.mark.parametrize("in_the_way", ["a directory with a file", "a file", "a project"])
def test_what_is_there_already_is_left_alone(in_the_way, ridgepole, tmp_path):
    target = tmp_path / "waves"
    if in_the_way == "a file":
        target.write_text("mine")
    elif in_the_way == "a project":
        assert ridgepole("new", "waves").returncode == 0
    else:
        target.mkdir()
        (target / "notes.txt").write_text("mine")
    before = files_of(tmp_path)
    refused = ridgepole("new", "waves")
    assert refused.returncode == 2
    assert refused.stderr == "error: waves exists already; name a directory that does not\n"
    assert refused.stdout == ""
    assert files_of(tmp_path) == before
    assert names_in(tmp_path) == ["waves"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("1st", "is not a valid name of a Python package"),
        ("a.b", "is not a valid name of a Python package"),
        ("class", "is not a valid name of a Python package"),
        ("☃", "is not a valid name of a Python package"),
        ("", "exists already"),
        ("json", "there is a Python package 'json' already"),
        ("pydantic", "there is a Python package 'pydantic' already"),
        ("torch", "there is a Python package 'torch' already"),
        ("numpy", "there is a Python package 'numpy' already"),
        ("google", "there is a Python package 'google' already"),
        ("tests", "a project has a folder 'tests' of its own"),
        ("x" * 300, "name too long"),
    ],
)
def test_bad_names(name, why, ridgepole, tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "something").touch()
    refused = ridgepole("new", name, cwd=tmp_path / "here")
    assert refused.returncode == 2
    assert why.lower() in refused.stderr.lower()
    assert "Traceback" not in refused.stderr
    assert names_in(tmp_path / "here") == ["something"], "nothing was made"


def test_a_place_where_nothing_can_be_made(ridgepole, tmp_path):
    (tmp_path / "file").write_text("mine")
    refused = ridgepole("new", "file/waves")
    assert refused.returncode == 2
    assert "error: can't make file/waves" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert (tmp_path / "file").read_text() == "mine"


def test_a_disk_that_fills_up_leaves_nothing_half_done(ridgepole, tmp_path):
    command = f'ulimit -f 1; exec "{sys.executable}" -m ridgepole new waves'  # no file above 1 KiB
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "error: can't make waves" in done.stderr
    assert "Traceback" not in done.stderr
    assert names_in(tmp_path) == []


def test_an_unknown_template(ridgepole, tmp_path):
    refused = ridgepole("new", "waves", "--template", "huge")
    assert refused.returncode == 2
    assert "minimal" in refused.stderr
    assert names_in(tmp_path) == []


def test_a_package_is_installed_also_where_its_environment_is_in_the_working_directory(ridgepole, tmp_path):
    site = tmp_path / ".venv" / "site-packages"
    (site / "waves").mkdir(parents=True)
    (site / "waves" / "__init__.py").touch()
    refused = ridgepole("new", "waves", PYTHONPATH=str(site))
    assert (refused.returncode, names_in(tmp_path)) == (2, [".venv"]), refused.stdout
    (tmp_path / "tides.py").touch()
    assert ridgepole("new", "tides").returncode == 0, "a file beside it is not installed"
