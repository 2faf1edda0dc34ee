"""`extends`: what merges, what replaces, where a value came from, and what goes wrong."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from ridgepole.config import from_text, read, thaw
from ridgepole.errors import ConfigError


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(path)
    prefix = f"{path.parent}{os.sep}"
    return [problem.render().replace(prefix, "") for problem in caught.value.problems]


def test_tables_merge_and_everything_else_replaces(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "base.toml": "x = 1\ny = 2\nlist = [1, 2, 3]\nswap = { a = 1 }\nback = 3\n[net]\nwidth = 8\n"
            "deep = { a = 1, b = 2 }\n[[steps]]\nn = 1\n[[steps]]\nn = 2\n",
            "main.toml": 'extends = "base.toml"\ny = 3\nlist = [9]\nswap = 1\nback = { b = 1 }\n'
            "[net]\ndeep.b = 3\nnew = true\n[[steps]]\nm = 7\n",
        },
    )
    document = read(tmp_path / "main.toml")
    assert thaw(document.values) == {
        "x": 1,
        "y": 3,
        "list": [9],
        "swap": 1,
        "back": {"b": 1},
        "net": {"width": 8, "deep": {"a": 1, "b": 3}, "new": True},
        "steps": [{"m": 7}],
    }
    assert document.source == (tmp_path / "main.toml").read_bytes()
    assert document.files == (tmp_path / "main.toml", tmp_path / "base.toml")
    assert not document.has(("extends",))
    where = {
        path: str(document.place(path)).removeprefix(f"{tmp_path}{os.sep}")
        for path in [
            ("x",),
            ("y",),
            ("list", 0),
            ("list", 1),
            ("swap", "a"),
            ("net",),
            ("net", "width"),
            ("net", "deep", "a"),
            ("net", "deep", "b"),
            ("net", "none"),
            ("steps", 0, "m"),
            ("steps", 0, "n"),
        ]
    }
    assert where == {
        ("x",): "base.toml:1:5",
        ("y",): "main.toml:2:5",
        ("list", 0): "main.toml:3:9",
        ("list", 1): "main.toml:3:8",
        ("swap", "a"): "main.toml:4:8",
        ("net",): "main.toml:6:1",
        ("net", "width"): "base.toml:7:9",
        ("net", "deep", "a"): "base.toml:8:14",
        ("net", "deep", "b"): "main.toml:7:10",
        ("net", "none"): "main.toml:6:1",
        ("steps", 0, "m"): "main.toml:10:5",
        ("steps", 0, "n"): "main.toml:9:1",
    }


def test_a_later_file_wins_and_the_naming_file_wins_over_all(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "a.toml": "x = 'a'\ny = 'a'\nz = 'a'\n",
            "b.toml": "x = 'b'\ny = 'b'\n",
            "main.toml": "extends = ['a.toml', 'b.toml']\nx = 'main'\n",
        },
    )
    document = read(tmp_path / "main.toml")
    assert dict(document.values) == {"x": "main", "y": "b", "z": "a"}
    assert [path.name for path in document.files] == ["main.toml", "b.toml", "a.toml"]


def test_a_file_reached_twice_counts_once_below_all_that_extend_it(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "base.toml": "width = 1\ndepth = 1\n",
            "wide.toml": "extends = 'base.toml'\nwidth = 9\n",
            "deep.toml": "extends = 'base.toml'\ndepth = 9\n",
            "main.toml": "extends = ['wide.toml', 'deep.toml', './base.toml']\n",
        },
    )
    document = read(tmp_path / "main.toml")
    assert dict(document.values) == {"width": 9, "depth": 9}
    assert [path.name for path in document.files] == ["main.toml", "deep.toml", "wide.toml", "base.toml"]


def test_names_are_relative_to_the_file_that_holds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        tmp_path,
        {
            "main.toml": "extends = 'conf/team.toml'\n",
            "conf/team.toml": "extends = ['../base.toml', 'more.toml']\nteam = 1\n",
            "conf/more.toml": "more = 1\n",
            "base.toml": "base = 1\n",
        },
    )
    assert set(read(tmp_path / "main.toml").values) == {"base", "more", "team"}
    monkeypatch.chdir(tmp_path / "conf")
    document = read("../main.toml")
    assert str(document.place(("base",))) == "../conf/../base.toml:1:8"
    assert dict(from_text("extends = 'more.toml'\nx = 1").values) == {"more": 1, "x": 1}
    assert from_text("extends = 'more.toml'").path is None


def test_a_circle_is_printed_with_its_lines(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "main.toml": "x = 1\nextends = 'a.toml'\n",
            "a.toml": "extends = ['b.toml']\n",
            "b.toml": "\n\nextends = ['fine.toml', 'a.toml']\n",
            "fine.toml": "",
            "self.toml": "extends = 'self.toml'",
        },
    )
    assert problems(tmp_path / "main.toml") == [
        (
            "b.toml:3:25: error: circular 'extends': 'a.toml' extends itself\n"
            "    3 | extends = ['fine.toml', 'a.toml']\n"
            "      |                         ^^^^^^^^ remove one of these\n"
            "      a.toml:1:12: extends = ['b.toml']\n"
            "      b.toml:3:25: extends = ['fine.toml', 'a.toml']"
        )
    ]
    assert problems(tmp_path / "self.toml")[0].startswith(
        "self.toml:1:11: error: circular 'extends': 'self.toml' extends itself"
    )


@pytest.mark.parametrize(
    ("value", "column", "kind"),
    [
        ("5", 11, "an integer"),
        ("true", 11, "a boolean"),
        ("''", 11, "an empty text"),
        ("{ a = 1 }", 11, "a table"),
        ("['base.toml', 1.5]", 25, "a float"),
        ("[['base.toml']]", 12, "an array"),
        ("2024-01-01", 11, "a date or time"),
    ],
)
def test_a_wrong_type(tmp_path: Path, value: str, column: int, kind: str) -> None:
    write(tmp_path, {"main.toml": f"extends = {value}\n", "base.toml": ""})
    (problem,) = problems(tmp_path / "main.toml")
    assert problem.startswith(
        f"main.toml:1:{column}: error: 'extends' takes the name of a file or an array of names, not {kind}\n"
    )
    assert problem.endswith('^ write extends = "base.toml"')


def test_problems_of_all_files_come_together(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "main.toml": "extends = ['base.tml', 'bad.toml', 'sub', '${env:HOME}/x.toml', 7]\n",
            "bad.toml": "extends = 'worse.toml'\na = 99999999999999999999\nb = [88888888888888888888]",
            "worse.toml": "a = \n",
            "base.toml": "",
            "sub/x.toml": "",
        },
    )
    heads = [problem.splitlines()[0] for problem in problems(tmp_path / "main.toml")]
    assert sorted(heads) == [
        "bad.toml:2:5: error: an integer that does not fit into 64 bits",
        "bad.toml:3:6: error: an integer that does not fit into 64 bits",
        "main.toml:1:12: error: file not found: 'base.tml'",
        "main.toml:1:36: error: 'sub' is a directory",
        "main.toml:1:43: error: file not found: '${env:HOME}/x.toml'",
        "main.toml:1:65: error: 'extends' takes the name of a file or an array of names, not an integer",
        "worse.toml:1:5: error: not valid TOML: invalid value",
    ]
    hints = [problem.splitlines()[-1] for problem in problems(tmp_path / "main.toml")]
    assert any("^^^^^^^^^^ did you mean 'base.toml'" in hint for hint in hints)
    assert any("'extends' does not resolve ${…}" in hint for hint in hints)


@pytest.mark.timeout(20)
def test_a_pipe_or_a_device_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    write(tmp_path, {"main.toml": "extends = ['pipe.toml', '/dev/zero']\n"})
    first, second = problems(tmp_path / "main.toml")
    assert "'pipe.toml' is not a regular file" in first
    assert "'/dev/zero' is not a regular file" in second


@pytest.mark.timeout(20)
def test_long_chains_and_wide_fans_end(tmp_path: Path) -> None:
    write(tmp_path, {f"{n}.toml": f"extends = ['{n + 1}.toml', '{n + 2}.toml']\nn{n} = 1\n" for n in range(30)})
    write(tmp_path, {"30.toml": "", "31.toml": ""})
    assert len(read(tmp_path / "0.toml").values) == 30  # by 1.3 million ways
    write(tmp_path, {f"{n}.toml": f"extends = '{n + 1}.toml'\n" for n in range(500)})
    assert "more than 64 files extend one another" in problems(tmp_path / "0.toml")[0]


def test_null_and_unset_replace_what_a_base_file_sets(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "base.toml": "a = { x = 1 }\nb = 2\nc = { d = 1, e = 2 }\nf = [1]\n",
            "main.toml": "extends = 'base.toml'\na = { null = true }\nb.null = true\nf = { unset = true }\n"
            "g = { unset = true }\n[c.d]\nunset = true\n",
        },
    )
    document = read(tmp_path / "main.toml")
    assert thaw(document.values) == {"a": None, "b": None, "c": {"e": 2}}
    assert str(document.place(("a",))).endswith("main.toml:2:5")
