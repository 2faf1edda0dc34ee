"""How problems are shown, and what is left of a traceback."""

import pytest

from ridgepole import ConfigError, RidgepoleError
from ridgepole.errors import Place, Problem, add_note_once, did_you_mean, join_errors, user_traceback


def caret_column(text: str) -> int:
    """The terminal column, from 0, under which the caret starts in the rendered problem."""
    return text.splitlines()[2].index("^")


def test_a_problem_reads_like_a_compilers():
    place = Place("digits.toml", 14, 12, "params = { widht = 32 }", 5)
    assert Problem("Network has no parameter 'widht'", place, "did you mean 'width'?").render() == (
        "digits.toml:14:12: error: Network has no parameter 'widht'\n"
        "   14 | params = { widht = 32 }\n"
        "      |            ^^^^^ did you mean 'width'?"
    )


@pytest.mark.parametrize(
    ("text", "column", "cells"),
    [("a = 1", 5, 4), ('k = { "日本" = 1 }', 14, 15), ("é = 1", 5, 4), ("e\N{COMBINING ACUTE ACCENT} = 1", 6, 4)],
)
def test_the_caret_stands_under_what_it_means(text, column, cells):
    shown = Problem("wrong", Place("f", 1, column, text)).render()
    assert caret_column(shown) == len("    1 | ") + cells


def test_a_tab_stays_a_tab():
    lines = Problem("wrong", Place("f", 1, 2, "\ta = 1")).render().splitlines()
    assert lines[2].partition("| ")[2] == "\t^"


def test_a_very_long_line_is_cut_around_the_place():
    text = "x" * 5000 + "HERE" + "y" * 5000
    lines = Problem("wrong", Place("f", 1, 5001, text, 4)).render().splitlines()
    assert len(lines[1]) < 200
    assert lines[1][lines[2].index("^") :].startswith("HERE")


def test_a_problem_without_a_line():
    assert (
        Problem("no such file", Place("gone.toml"), "make one").render()
        == "gone.toml: error: no such file\n      = make one"
    )
    assert Problem("bad").as_dict()["file"] is None


def test_config_error_holds_all_problems():
    error = ConfigError([Problem("one"), Problem("two", severity="warning")])
    assert [p.message for p in error.problems] == ["one", "two"]
    assert str(error) == "error: one\nwarning: two"
    assert isinstance(error, RidgepoleError)


def test_did_you_mean():
    assert did_you_mean("widht", ["width", "depth"]) == "did you mean 'width'?"
    assert did_you_mean("LR", ["lr", "x"]) == "did you mean 'lr'?"
    assert did_you_mean("zzz", ["width"]) == ""


def test_join_errors():
    one = ValueError("x")
    assert join_errors([one], "several") is one
    both = join_errors([one, KeyError("y")], "several")
    assert isinstance(both, ExceptionGroup)
    assert not isinstance(join_errors([one, KeyboardInterrupt()], "several"), ExceptionGroup)


def test_a_note_is_added_once():
    error = ValueError("x")
    add_note_once(error, "here")
    add_note_once(error, "here")
    assert error.__notes__ == ["here"]


def test_the_traceback_keeps_causes_and_groups_and_drops_our_frames():
    from ridgepole.permanence import construct

    def inner():
        raise KeyError("cause")

    def outer():
        try:
            inner()
        except KeyError as error:
            raise ExceptionGroup("both", [ValueError("effect")]) from error

    with pytest.raises(ExceptionGroup) as caught:
        construct(outer)
    text = user_traceback(caught.value)
    assert "in inner" in text
    assert "in outer" in text
    assert "ValueError: effect" in text
    assert "direct cause" in text
    assert "permanence.py" not in text


def test_our_own_error_stands_without_the_standard_librarys_traceback(project, ridgepole):
    """Its message says what the system said; the frames of `pathlib` would help nobody."""
    project(
        blocked__py="from ridgepole import Permanence, process\nfrom ridgepole.permanence import run_of\n"
        "class Block(Permanence):\n    def initialize(self):\n        (run_of(self).run_dir / 'wandb').touch()\n"
        "    def cleanup(self): pass\n@process\ndef nothing(block: Block): pass\n",
        blocked__toml='[pipeline]\npackage = "blocked"\n[permanences.block]\ntype = "Block"\n[permanences.tracker]\n'
        'type = "WandBLogger"\nmode = "offline"\n[processes.nothing]\ntype = "nothing"\n',
    )
    done = ridgepole("run", "blocked.toml")
    assert done.returncode == 1
    assert "RunDirError: can't log to" in done.stderr
    assert "Not a directory" in done.stderr
    assert "Traceback" not in done.stderr
    assert "pathlib" not in done.stderr
