"""`-s key=value`: how it is read, what it changes, and where errors point."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from ridgepole.config import Override, from_text, parse_override, thaw
from ridgepole.errors import ConfigError, Place

WRITE_KEY = 'write table.key=value; other characters go between quotes: "a b"=1'


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("epochs=3", ("epochs",), 3),
        ("a.b.c=1e-3", ("a", "b", "c"), 1e-3),
        (" a . b = true ", ("a", "b"), True),
        ('a."b c".\'d.e\'="x"', ("a", "b c", "d.e"), "x"),
        (r'"\u00fc"=1', ("ü",), 1),
        ("0=1", ("0",), 1),
        ("a=adam", ("a",), "adam"),
        ("a=True", ("a",), True),
        ("a=FALSE", ("a",), "FALSE"),
        ("a=null", ("a",), None),
        ("a='null'", ("a",), "null"),
        ("a={ null = true }", ("a",), None),
        ("a=.5", ("a",), 0.5),
        ("a=-5.e2", ("a",), -500.0),
        ("a=", ("a",), ""),
        ("a=x=y", ("a",), "x=y"),
        ("a=1,2", ("a",), "1,2"),
        ("a= two words ", ("a",), "two words"),
        ("a=#5", ("a",), "#5"),
        ("a=1 # one", ("a",), "1 # one"),
        ("a=1\nb = 2", ("a",), "1\nb = 2"),
        ("a=1\n[b]", ("a",), "1\n[b]"),
        ("a='# no comment'", ("a",), "# no comment"),
        ("a=[1, [2]]", ("a",), [1, [2]]),
        ("a={ b = 1, c.d = 'x' }", ("a",), {"b": 1, "c": {"d": "x"}}),
        ("a=2024-02-29", ("a",), dt.date(2024, 2, 29)),
        ("a=1979-05-27 07:32:00", ("a",), dt.datetime(1979, 5, 27, 7, 32)),
        ("a=/data/ü x", ("a",), "/data/ü x"),
        ("a=${env:HOME}", ("a",), "${env:HOME}"),
        ("a=0x1F", ("a",), 31),
    ],
)
def test_reading(text: str, path: tuple[str, ...], value: Any) -> None:
    override = parse_override(text)
    assert override.path == path
    assert override.value == value
    assert type(override.value) is type(value)


def test_the_place_is_the_key() -> None:
    assert parse_override(" net.width = 3").place == Place("-s", 1, 2, " net.width = 3", 9)


@pytest.mark.parametrize(
    ("text", "message", "caret", "hint"),
    [
        ("epochs", "error: the override has no '='", "^^^^^^", "write key=value"),
        ("", "error: the override has no '='", "^", "write key=value"),
        ("=3", "error: the override has no key before '='", "^", "write key=value"),
        ("  =3", "error: the override has no key before '='", "  ^", "write key=value"),
        (
            "a..b=3",
            "error: not a valid key",
            " ^",
            WRITE_KEY,
        ),
        (
            "a b=3",
            "error: not a valid key",
            "  ^",
            WRITE_KEY,
        ),
        (
            "aü=3",
            "error: not a valid key",
            " ^",
            WRITE_KEY,
        ),
        ("+a=1", "error: not a valid key", "^", "write a=…, also for a key that the file does not have"),
        ("++a.b=1", "error: not a valid key", "^", "write a.b=…, also for a key that the file does not have"),
        ("a/b=c", "error: not a valid key", " ^", "write a.b=…"),
        ("a:b=c", "error: not a valid key", " ^", "write a.b=…"),
        ("+db/x=c", "error: not a valid key", "^", "write db.x=…"),
        ("a[0]=c", "error: not a valid key", " ^", "write the whole array: a=[…]"),
        ("a.b[0].c=1", "error: not a valid key", "   ^", "write the whole array: a.b=[…]"),
        ("~a=1", "error: not a valid key", "  ^", "to remove a value, write ~table.key"),
        ("~", "error: not a valid key", "^", "to remove a value, write ~table.key"),
        ("a.b=[" + "[" * 40, "error: brackets nested more than 32 deep", "^^^", "nest less deeply"),
        ("a=" + "9" * 500, "error: a number of more than 400 digits", "^", "write it as text, between quotes"),
        ("a=99999999999999999999", "error: an integer that does not fit into 64 bits", "^", ""),
        ("a." * 40 + "a=1", "error: a key of more than 32 parts", "^" * 81, "nest less deeply"),
    ],
    ids=lambda value: value[:20],
)
def test_what_is_no_override(text: str, message: str, caret: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_override(text)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"-s: {message}"
    assert lines[2] == f"      | {caret}{' ' + hint if hint else ''}"


def test_other_refusals() -> None:
    for text, message in [
        ("a=" + "x" * 100_000, "larger than 1024 KiB"),
        ("a=\udcff", "not UTF-8"),
        (r'"\q"=1', "not a valid key"),
        ("k" * 300 + "=1", "256"),
    ]:
        with pytest.raises(ConfigError, match=message):
            parse_override(text)


TEXT = "x = 1\nlist = [{ a = 1 }]\n[net]\nwidth = 8\nparams = { lr = 1, name = 'n' }\n"


def test_values_are_set_and_tables_made() -> None:
    before = from_text(TEXT)
    document = before.override(
        [
            parse_override(text)
            for text in ("x=2", "net.params.lr=5", "new.table.deep=[1]", "net.width=9", "net.width=10")
        ]
    )
    assert thaw(document.values) == {
        "x": 2,
        "list": [{"a": 1}],
        "net": {"width": 10, "params": {"lr": 5, "name": "n"}},
        "new": {"table": {"deep": [1]}},
    }
    assert before.values["x"] == 1
    assert before.values["net"]["width"] == 8
    assert document.source == before.source
    with pytest.raises(TypeError):
        document.values["new"]["table"]["deep2"] = 1


def test_a_table_as_a_value_replaces() -> None:
    document = from_text(TEXT).override([parse_override("net.params={ a = 1 }"), parse_override("net.params.b=2")])
    assert thaw(document.values["net"]["params"]) == {"a": 1, "b": 2}
    columns = {key: document.place(("net", "params", key)).text for key in ("a", "b", "lr")}
    assert columns == {"a": "net.params={ a = 1 }", "b": "net.params.b=2", "lr": "net.params={ a = 1 }"}


def test_places_after_overrides() -> None:
    document = from_text(TEXT, "x.toml").override([parse_override("net.width=9"), parse_override("new.a.b=1")])
    for path in [("net", "width"), ("new",), ("new", "a"), ("new", "a", "b"), ("new", "other")]:
        for key in (False, True):
            assert document.place(path, key=key).file == "-s", path
    assert str(document.place(("net",))) == "x.toml:3:1"
    assert str(document.place(("net", "params", "lr"))) == "x.toml:5:17"
    again = document.override([parse_override("net.width=10")])
    assert again.place(("net", "width")).text == "net.width=10"


def test_values_from_python_are_frozen_too() -> None:
    mine = {"sizes": [1]}
    place = Place("<sweep>", 1, 1, "net.params", 10)
    document = from_text(TEXT).override([Override(("net", "params"), mine, place)])
    mine["sizes"].append(2)
    assert document.values["net"]["params"]["sizes"] == (1,)
    assert document.place(("net", "params", "sizes", 0)) == place


def test_all_paths_that_lead_through_a_value_are_reported() -> None:
    with pytest.raises(ConfigError) as caught:
        from_text(TEXT, "x.toml").override(
            [
                parse_override("x.y.z=1"),
                parse_override("net.width=1"),
                parse_override("list.a=1"),
                parse_override("net.width.w=2"),
                parse_override("extends=b.toml"),
            ]
        )
    assert str(caught.value).splitlines() == [
        "-s: error: 'x.y.z' can't be set, because 'x' is a single value, not a table",
        "   -s | x.y.z=1",
        "      | ^^^^^ it is defined at x.toml:1:5",
        "-s: error: 'list.a' can't be set, because 'list' is an array, not a table",
        "   -s | list.a=1",
        "      | ^^^^^^ write the whole array: list=[…]",
        "-s: error: 'net.width.w' can't be set, because 'net.width' is a single value, not a table",
        "   -s | net.width.w=2",
        "      | ^^^^^^^^^^^ it is defined at -s net.width=1",
        "-s: error: 'extends' can't be overridden",
        "   -s | extends=b.toml",
        "      | ^^^^^^^ write it in the file",
    ]


def test_an_override_without_a_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a key"):
        from_text("").override([Override((), 1, Place("here"))])


def test_a_value_is_removed() -> None:
    document = from_text(TEXT).override([parse_override("~net.params.lr"), parse_override("~x")])
    assert thaw(document.values) == {"list": [{"a": 1}], "net": {"width": 8, "params": {"name": "n"}}}
    again = document.override([parse_override("x=3"), parse_override("~net")])
    assert thaw(again.values) == {"x": 3, "list": [{"a": 1}]}


def test_what_is_not_there_is_not_removed() -> None:
    with pytest.raises(ConfigError) as caught:
        from_text(TEXT, "x.toml").override([parse_override("~net.widht"), parse_override("~nothing.at.all")])
    assert str(caught.value).splitlines() == [
        "-s: error: 'net.widht' can't be removed, because it is not there",
        "   -s | ~net.widht",
        "      |  ^^^^^^^^^ did you mean 'width'?",
        "-s: error: 'nothing.at.all' can't be removed, because it is not there",
        "   -s | ~nothing.at.all",
        "      |  ^^^^^^^^^^^^^^",
    ]
