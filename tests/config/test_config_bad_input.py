"""Bad input: each kind is a `ConfigError` with its place, its caret and what to do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from re import _constants as constants
from re import _parser as parser
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ridgepole.config import Document, from_text, limits, parse_override, read, scan, secrets
from ridgepole.errors import ConfigError

pytestmark = pytest.mark.fault("bad TOML: only ConfigError, quickly")

T = TypeVar("T")


def rendered(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        from_text(text, "x.toml")
    return str(caught.value)


INVALID = "not valid TOML: "
AFTER = "not valid TOML: expected newline or end of document after a statement"
ONE_LINE = "an inline table { … } stands on one line, without a comma at its end; for more write a [table]"
OPEN_TEXT = 'the text that begins here is not closed; one of several lines goes between """ and """'
RETURN = "not valid TOML: a carriage return inside a line"
IS_MISSING = "is a ] missing?"
BACKSLASH = "double the backslash, or write the text between single quotes, which take it as it is"
HEX = "\\u takes four hexadecimal digits and \\U eight; for a backslash itself, "
ESCAPE = "write \\u001b for an escape character; for a backslash itself, "


CASES = [
    ("a = 1\nb = adam # x", "2:5", INVALID + "invalid value", 4, 'text needs quotes: "adam"'),
    ("a = two words", "1:5", INVALID + "invalid value", 9, 'text needs quotes: "two words"'),
    ("\ta = True", "1:6", INVALID + "invalid value", 4, "write true, in small letters"),
    ("a = none", "1:5", INVALID + "invalid value", 4, "write { null = true }, or leave the key out"),
    ("a = .5", "1:5", INVALID + "invalid value", 2, "a number has digits on both sides of its point"),
    ("a = 5.", "1:5", AFTER, 2, "a number has digits on both sides of its point"),
    ("a = 007", "1:5", AFTER, 3, "a number does not begin with 0"),
    ("a = 2024-13-45", "1:5", AFTER, 10, "this date does not exist"),
    ("a = 3x3", "1:5", AFTER, 3, 'text needs quotes: "3x3"'),
    ("a = 1 b = 2", "1:7", AFTER, 1, "write one key = value a line"),
    ("a =\nb = 1", "1:4", INVALID + "invalid value", 1, "a value is missing"),
    ("'größe' = 'ü\n", "1:11", INVALID + 'expected "\'"', 2, OPEN_TEXT),
    ('a = "x # y\nb = 1', "1:5", INVALID + "illegal character '\\n'", 6, OPEN_TEXT),
    ('a = "x # y', "1:5", INVALID + "unterminated string", 6, OPEN_TEXT),
    ('a = """x\n\n\n', "1:5", INVALID + "unterminated string", 4, OPEN_TEXT),
    ("a: 5", "1:2", INVALID + "expected '=' after a key in a key/value pair", 1, "write key = value"),
    ("[net", "1:5", INVALID + "expected ']' at the end of a table declaration", 1, IS_MISSING),
    ("[[net]", "1:6", INVALID + "expected ']]' at the end of an array declaration", 1, IS_MISSING),
    ("a = [1,\n 2\n\n", "1:5", INVALID + "unclosed array", 1, "the bracket that begins here is not closed"),
    ("a = [1 2]", "1:8", INVALID + "unclosed array", 1, "is a comma or a ] missing?"),
    ("a = { x = 1,\n  y = 2 }", "1:13", INVALID + "invalid initial character for a key part", 1, ONE_LINE),
    (
        "= 3",
        "1:1",
        INVALID + "invalid statement",
        1,
        "write key = value, or [table]; keys other than A-Z a-z 0-9 _ - go between quotes",
    ),
    (
        'a = "C:\\data"',
        "1:8",
        INVALID + "unescaped '\\' in a string",
        2,
        BACKSLASH,
    ),
    ("a = 1\rb = 2\r", "1:6", RETURN, 1, "lines end with \\n or \\r\\n, not with \\r alone"),
    ("a = 1\n\r\r\n", "2:1", RETURN, 1, "lines end with \\n or \\r\\n, not with \\r alone"),
    (
        'a = "\x1b[2J"',
        "1:6",
        INVALID + "illegal character '\\x1b'",
        1,
        "leave it out, or write it as an escape such as \\u001b between double quotes",
    ),
    (
        "[a]\nb = 1\nc = 2\nb = 3\nd = 4\n[e]",
        "4:1",
        "duplicate key 'a.b'",
        1,
        "it is already defined at line 2, column 1",
    ),
    ("[a]\n[b]\n[ a ] # again", "3:3", "duplicate key 'a'", 1, "it is already defined at line 1, column 2"),
    (
        "[[a]]\n[a.b]\n[[a]]\n[a.b]\n[a.b]\n",
        "5:2",
        "duplicate key 'a.b'",
        3,
        "it is already defined at line 4, column 4",
    ),
    ("a = { x = 1 }\na.y = 2", "2:1", "duplicate key 'a'", 3, "it is already defined at line 1, column 1"),
    ("a = { x = 1, x = 2 }", "1:14", "duplicate key 'a.x'", 1, "it is already defined at line 1, column 7"),
    ("a = { x = 1, x.y = 2, junk junk", "1:14", "duplicate key 'a.x'", 3, "it is already defined at line 1, column 7"),
    ("a = { b.c = 1, b = 2 }", "1:16", "duplicate key 'a.b'", 1, "it is already defined at line 1, column 7"),
    ("a = { b = { c = 1 }, b.d = 2 }", "1:22", "duplicate key 'a.b'", 3, "it is already defined at line 1, column 7"),
    (
        "a = { b.c = 1, b.d = 2, b.c = 3 }",
        "1:25",
        "duplicate key 'a.b.c'",
        3,
        "it is already defined at line 1, column 9",
    ),
    (
        "[t]\na = [1, { x = 1, 'x' = 2 }]",
        "2:18",
        "duplicate key 't.a.x'",
        3,
        "it is already defined at line 2, column 11",
    ),
    ('p = "C:\\Users"', "1:8", INVALID + "invalid hex value", 2, HEX + BACKSLASH),
    ('p = "\\u12"', "1:6", INVALID + "invalid hex value", 2, HEX + BACKSLASH),
    ('p = "\\e[0m"', "1:6", INVALID + "unescaped '\\' in a string", 2, ESCAPE + BACKSLASH),
    ("t = 07:32", "1:5", AFTER, 5, "a time has hours, minutes and seconds: 07:32:00"),
    ("t = 7:32", "1:5", AFTER, 4, "a time has hours, minutes and seconds: 07:32:00"),
    ("t = 2024-01-31 07:32", "1:16", AFTER, 5, "a time has seconds: 07:32:00"),
]


@pytest.mark.parametrize(("text", "at", "message", "width", "hint"), CASES)
def test_syntax_errors_point_at_the_cause(text: str, at: str, message: str, width: int, hint: str) -> None:
    line, column = map(int, at.split(":"))
    shown = text.replace("\r\n", "\n").split("\n")[line - 1].translate({13: "␍", 27: "␛"})
    caret = "\t" * text.startswith("\t") + " " * (column - 1 - text.startswith("\t")) + "^" * width
    assert rendered(text).splitlines() == [
        f"x.toml:{at}: error: {message}",
        f"{line:>5} | {shown}",
        f"      | {caret}{' ' + hint if hint else ''}",
    ]


BIG = 99999999999999999999


def test_all_unfit_values_are_reported_at_once() -> None:
    text = f"a = {BIG}\nb = [1, -{BIG}]\n[c]\n{'k' * 300} = 1\nfine = {2**64 - 1}\nlow = {-(2**63)}\n"
    with pytest.raises(ConfigError) as caught:
        from_text(text, "x.toml")
    found = sorted((str(problem.place), problem.message) for problem in caught.value.problems)
    too_big = "an integer that does not fit into 64 bits"
    assert found == [
        ("x.toml:1:5", too_big),
        ("x.toml:2:9", too_big),
        ("x.toml:4:1", "a key of more than 256 characters"),
    ]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("a = " + "[" * 1_000_000, "x.toml:1:37: error: brackets nested more than 32 deep"),
        ("a = '['\n" + "{x=" * 300_000, "x.toml:2:97: error: brackets nested more than 32 deep"),
        ("a." * 20_000 + "a = 1", "x.toml:1:2: error: a key of more than 32 parts"),
        ('"a" . ' * 7_000 + "a = 1", "x.toml:1:5: error: a key of more than 32 parts"),
        ("[" + "a." * 20_000 + "a]", "x.toml:1:3: error: a key of more than 32 parts"),
        ("n = " + "9" * 5_000, "x.toml:1:5: error: a number of more than 400 digits"),
        ("n = 0." + "1" * 1_000_000, "x.toml:1:7: error: a number of more than 400 digits"),
        ("n = 0x" + "f" * 1_000_000, "x.toml:1:5: error: an integer that does not fit into 64 bits"),
        ("#" * (1 << 20) + "#", "x.toml: error: larger than 1024 KiB, which no configuration needs"),
        ("a = [" + f"{BIG}," * 40_000 + "]", "x.toml:1:6: error: an integer that does not fit into 64 bits"),
        ('"""\\' * 250_000, "x.toml:1:3: error: not valid TOML: expected '=' after a key"),
    ],
    ids=lambda value: value[:12],
)
def test_what_would_choke_the_parser_is_refused_first(text: str, start: str) -> None:
    message = rendered(text)
    assert message.startswith(start)
    assert len(message) < 100_000


def test_tables_nested_by_headers_and_dotted_keys_together_are_counted() -> None:
    key = ".".join("abcdefghijklmnopqrstuvwxyz")
    assert "nested more than 32 deep" in rendered(f"[{key}]\n{key} = 1\n")


def test_depth_counts_neither_strings_nor_comments_nor_closed_brackets() -> None:
    brackets = "[" * 100
    text = f"a = '{brackets}' # {brackets}\nb = \"{{\\\"{brackets}\"\nc = '''\n{brackets}'''\nd = [{'[],' * 100}]\n"
    text += "e = " + "[" * 31 + "]" * 31 + "\n" + ".".join(["k"] * 30) + " = 1.5\n"
    assert len(from_text(text).values) == 6


@pytest.mark.parametrize(
    ("data", "start"),
    [
        (b"a = 1\nb = '\xc3\xa9\xff'\n", "x.toml:2:7: error: not valid TOML: byte 0xff is not UTF-8"),
        (b"\xef\xbb\xbfa = 1\r\nb\xe9 = 1", "x.toml:2:2: error: not valid TOML: byte 0xe9 is not UTF-8"),
        ("a = 1".encode("utf-16"), "x.toml:1:1: error: not valid TOML: the file looks like UTF-16"),
    ],
)
def test_bytes_that_are_no_utf8(tmp_path: Path, data: bytes, start: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        read(path)
    message = str(caught.value).replace(f"{tmp_path}{os.sep}", "")
    assert message.startswith(start)
    assert message.endswith("^ save the file as UTF-8")


def failure(path: Path | str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(path)
    return str(caught.value)


def test_a_missing_file_names_the_near_ones(tmp_path: Path) -> None:
    (tmp_path / "pipeline.toml").touch()
    (tmp_path / "other.toml").touch()
    path = tmp_path / "pipelin.toml"
    assert failure(path) == f"{path}: error: file not found: '{path}'\n      = did you mean 'pipeline.toml'?"
    assert failure(tmp_path / "zzz").endswith("= TOML files there: other.toml, pipeline.toml")
    assert "file not found" in failure(tmp_path / "nowhere" / "x.toml")
    assert "file not found" in failure(tmp_path / "other.toml" / "x.toml")


def test_a_directory_and_other_unreadable_things(tmp_path: Path) -> None:
    (tmp_path / "a.toml").touch()
    assert failure(tmp_path) == f"{tmp_path}: error: '{tmp_path}' is a directory\n      = TOML files there: a.toml"
    loop = tmp_path / "loop.toml"
    loop.symlink_to(loop)
    assert "can't be read: " in failure(loop)
    assert "can't be read: " in failure("a\0b.toml")
    assert "can't be read: " in failure("n" * 5000)
    with (tmp_path / "big.toml").open("wb") as file:
        file.truncate(1 << 34)
    assert failure(tmp_path / "big.toml").startswith(f"{tmp_path / 'big.toml'}: error: larger than 1024 KiB")


@pytest.mark.skipif(os.name != "posix", reason="needs permissions of POSIX")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.touch()
    path.chmod(0)
    tmp_path.chmod(0o755)
    program = """if True:
        import os
        from ridgepole.config import read
        from ridgepole.errors import ConfigError
        if os.getuid() == 0:  # root may read everything, so it gives its rights up first
            os.setgid(65534)
            os.setuid(65534)
        try:
            read("x.toml")
        except ConfigError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.stdout == "x.toml: error: 'x.toml' can't be read: Permission denied\n", done.stderr


def test_surrogates_in_a_text_are_refused() -> None:
    assert "surrogates not allowed" in rendered("a = '\ud800'")


SIGNS = ["=", " = ", ".", ",", "[", "]", "[[", "]]", "{", "}", '"', "'", '"""', "'''", "\\", "#", "-", "+", "_"]
WORDS = ["a", "b.c", "extends", "é", "1", "0x", "1e", "true", "inf", "nan", "2024-01-01", "T10:00:00", "Z", "9" * 30]
LINES = ["k = 1\n", "k = [1]\n", "[k]\n", "\n", "\r\n", "\r", "\ufeff", "\0", "\u2028", " ", "\t", "[" * 40]
PIECES = st.sampled_from([*SIGNS, *WORDS, *LINES, "${a}", "${env:A}", "$${", "${"])
FUZZ = settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))


def outcome(make: Callable[[], T]) -> T | None:
    """What a call gives, or None where it raises a `ConfigError` that says something; other errors go on."""
    try:
        return make()
    except ConfigError as error:
        shown = [problem.render() for problem in error.problems if problem.as_dict()]
    assert shown
    assert all(shown)
    return None


def survives(text: str) -> None:
    document = outcome(lambda: from_text(text).interpolate({"A": "1"}))
    if document is None:
        return
    assert isinstance(document, Document)
    for key in document.values:
        assert document.place((key,), key=True).line
        assert document.place((key,)).text


@FUZZ
@given(st.lists(PIECES, max_size=30).map("".join))
def test_any_text_that_resembles_toml_is_a_document_or_an_error(text: str) -> None:
    survives(text)


@FUZZ
@given(st.binary(max_size=200))
def test_any_bytes_in_a_file_are_a_document_or_an_error(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.toml")
        path.write_bytes(data)
        document = outcome(lambda: read(path))
        assert document is None or document.source == data


@FUZZ
@given(st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=12).map("".join)))
def test_any_argument_is_an_override_or_an_error(text: str) -> None:
    override = outcome(lambda: parse_override(text))
    if override is None:
        return
    assert override.path
    assert all(isinstance(part, str) for part in override.path)
    assert override.place.file == "-s"


@pytest.mark.parametrize("module", [limits, scan, secrets])
def test_no_pattern_repeats_alternatives_possessively(module):
    """Python 3.11.2 ends such a repeat too early, and takes valid TOML for invalid."""

    def alternatives(tree, inside=False):
        for code, argument in tree:
            inner = inside or code is constants.POSSESSIVE_REPEAT
            yield from [inside] if code is constants.BRANCH else []
            stack = [argument]
            while stack:
                one = stack.pop()
                if isinstance(one, parser.SubPattern):
                    yield from alternatives(one, inner)
                elif isinstance(one, tuple | list):
                    stack += one

    found = [one for one in vars(module).values() if isinstance(one, re.Pattern)]
    assert found
    for pattern in found:
        assert not any(alternatives(parser.parse(pattern.pattern, pattern.flags))), pattern.pattern
    assert any(alternatives(parser.parse("(?:a|bc)*+"))), "it is seen where there is one"
