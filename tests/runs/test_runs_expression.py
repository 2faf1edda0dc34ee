"""The filter language: what it accepts, what it means, where it says that something is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepole import ConfigError
from ridgepole.runs.expression import Moment, UnknownNameError, compile_filter

ROW = {
    "lr": 0.01,
    "epochs": 10,
    "status": "finished",
    "name": "night shift",
    "tags": ["baseline", "paper"],
    "val/acc": 0.9,
    "loss.min": 0.25,
    "flag": True,
    "off": False,
    "nothing": None,
    "nan": float("nan"),
    "started": Moment(1_764_000_000.0),  # 2025-11-24 16:00 UTC
    "we ird": 1,
    "größe": 2,
}


def resolve(name):
    if name not in ROW:
        raise UnknownNameError(f"no run has anything called {name!r}", "did you mean 'lr'?")
    return lambda row: row[name]


def passes(text):
    return compile_filter(text, resolve)(ROW)


@pytest.mark.parametrize(
    "text",
    [
        'lr > 1e-3 and status == "finished"',
        "lr>=.01 and lr<=1.0e-2",
        "0.001 < lr < 0.1",
        "not lr > 1 and (epochs == 10 or epochs == 20)",
        "'paper' in tags",
        "'other' not in tags",
        'status in ["failed", "finished"]',
        'status ~ "fin*"',
        'name ~ "night s?ift"',
        '"night" in name',
        "val/acc > 0.5 and loss.min < 0.3",
        "flag and not off and flag == true",
        "nothing == none and lr != none",
        "`we ird` == 1 and größe == 2",
        'started > "2025-11-24" and started < "2025-11-24T17:00+00:00"',
        "status != 'it\\'s'",
        "epochs == 1e1",
        "lr != 'text'",
        "tags == ['baseline', 'paper']",
    ],
)
def test_what_passes(text):
    assert passes(text) is True


@pytest.mark.parametrize(
    "text",
    [
        "status > 3",
        "nothing < 1",
        "nothing > 1",
        "nan < 1 or nan > 1 or nan == nan",
        "flag == 1",
        "lr in epochs",
        "status ~ 3",
        'started > "no date"',
        "0.001 < lr < 0.005",
        "off",
        "nothing",
        "lr > 1 and flag or off",
    ],
)
def test_what_does_not_pass(text):
    assert passes(text) is False


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", 1, "the filter is empty"),
        ("   ", 1, "the filter is empty"),
        ("lr = 3", 4, "'=' is not an operator"),
        ("lr > 1 && flag", 8, "'&&' is not an operator"),
        ("lr >", 5, "expected a name or a value, not the end of the filter"),
        ("lr > 1 flag", 8, "expected 'and', 'or' or the end, not 'flag'"),
        ("(lr > 1", 8, "expected ')', not the end of the filter"),
        ("status == 'fin", 11, '"\'fin" is a text without its closing quote'),
        ("lr > 1e", 6, "'1e' is not understood"),
        ("lr ; 1", 4, "'; 1' is not understood"),
        ("status in ['a' 'b']", 16, "expected ',' or ']', not \"'b'\""),
        ("rl > 3", 1, "no run has anything called 'rl'"),
        (r"status == '\q'", 11, "this text has an unknown escape"),
        ("not " * 60 + "flag", 205, "the filter is nested more than 50 levels deep"),
        ("(" * 60 + "flag", 52, "the filter is nested more than 50 levels deep"),
        ("x" * 10_001, 1, "a filter has at most 10000 characters"),
    ],
)
def test_what_is_wrong_is_located(text, column, message):
    with pytest.raises(ConfigError) as caught:
        passes(text)
    (problem,) = caught.value.problems
    assert (problem.message, problem.place.column, str(problem.place)) == (message, column, f"--filter:1:{column}")


@given(st.text(alphabet=st.sampled_from("lr><=!~()[],'\"`.1e-+ andornotinflag \\\n"), max_size=40))
def test_any_text_is_a_filter_or_a_located_error(text):
    problems = []
    try:
        test = compile_filter(text, resolve)
    except ConfigError as error:
        problems, test = error.problems, lambda _row: False
    assert all(problem.place and problem.place.line == 1 for problem in problems)
    assert test(ROW) in (True, False)
