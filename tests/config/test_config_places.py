"""Every key and value has its place: the scanner against tomllib, and the corners of lines and columns."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from ridgepole.config import Document, from_text
from ridgepole.errors import Place

BARE = st.text("ab1_-", min_size=1, max_size=3)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=6)
SPACE = st.sampled_from(["", " ", "\t ", "  "])
GAP = st.sampled_from(["", " ", "\n", " # c ]}\n", "\n\n  ", "\r\n"])
END = st.sampled_from(["\n", " # c = [\n", "\r\n", "\n\n", "  \n"])


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


BASIC = TEXT.map(quoted)
LITERAL = TEXT.map(lambda text: "'" + text.replace("'", "") + "'")
MULTI_BASIC = st.lists(
    st.sampled_from(["a", "\n", '""', '" ', '\\"', "\\\\", "#", "[", "=", "]", "\\n", "\\\n  x", "\r\n", "'"]),
    max_size=6,
).map(lambda parts: '"""' + "".join(parts) + ' "" """')
MULTI_LITERAL = st.lists(st.sampled_from(["a", "\n", "''", "' ", "\\", "#", "[x]", "=", '"']), max_size=6).map(
    lambda parts: "'''" + "".join(parts) + " '''"
)
CORNERS = st.sampled_from(
    ['"""a"""""', '"""a""""', "'''b'''''", '""""q"""', "''''z'''", '""', "''", '""""""', "''''''", '"""\\""""']
)
NUMBERS = st.one_of(
    st.integers(-99, 99).map(str),
    st.floats(allow_nan=False).map(lambda number: "inf" if math.isinf(number) else repr(number)),
    st.sampled_from(
        ["true", "nan", "1979-05-27T07:32:00Z", "1979-05-27 07:32:00", "07:32:00", "0xff", "1_000", "+1e3"]
    ),
)
SCALAR = st.one_of(NUMBERS, BASIC, LITERAL, MULTI_BASIC, MULTI_LITERAL, CORNERS)
KEY_PART = st.one_of(BARE, BARE, BASIC, LITERAL)
KEY = st.tuples(st.lists(KEY_PART, min_size=1, max_size=3), SPACE).map(lambda key: f"{key[1]}.{key[1]}".join(key[0]))


def array(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    items = st.lists(st.tuples(GAP, values, GAP).map("".join), max_size=4)
    return st.tuples(items, st.booleans(), GAP).map(
        lambda made: "[" + ",".join(made[0]) + ("," if made[0] and made[1] else "") + made[2] + "]"
    )


def inline_table(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(SPACE, KEY, SPACE, st.just("="), SPACE, values, SPACE).map("".join)
    return st.lists(pair, max_size=3).map(lambda pairs: "{" + ",".join(pairs) + "}")


VALUE = st.recursive(SCALAR, lambda inner: st.one_of(array(inner), inline_table(inner)), max_leaves=6)
PAIR = st.tuples(SPACE, KEY, SPACE, st.just("="), SPACE, VALUE, END).map("".join)
HEADER = st.tuples(SPACE, st.just("["), SPACE, KEY, SPACE, st.just("]"), END).map("".join)
ARRAY_HEADER = st.tuples(SPACE, st.just("[["), SPACE, KEY, SPACE, st.just("]]"), END).map("".join)
STATEMENTS = st.lists(st.one_of(PAIR, PAIR, HEADER, ARRAY_HEADER), max_size=9)


def valid_toml(statements: list[str]) -> str:
    """The statements that can stand one after the other."""
    text = ""
    for statement in statements:
        try:
            tomllib.loads(text + statement)
        except tomllib.TOMLDecodeError:
            continue
        text += statement
    return text


def paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if path:
        yield path, value
    items: Any = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, tuple) else ()
    for key, item in items:
        yield from paths(item, (*path, key))


def plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def same(left: Any, right: Any) -> bool:
    return repr(left) == repr(right)  # nan, 1 against 1.0 and True, and -0.0 all count


def text_from(text: str, place: Place) -> str:
    lines = text.split("\n")
    return "\n".join([lines[place.line - 1][place.column - 1 :], *lines[place.line :]])


def parses_to(text: str, width: int, value: Any) -> bool:
    """Whether a text begins with a value; `width` is where it ends unless it goes on beyond its first line."""
    first_line = text.split("\n", 1)[0]
    ends = [width] if width < len(first_line.rstrip("\r")) else range(width, len(text) + 1)
    for end in ends:
        try:
            if same(tomllib.loads(f"v={text[:end]}\n")["v"], value):
                return True
        except tomllib.TOMLDecodeError:
            continue
    return False


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(STATEMENTS)
def test_every_value_and_key_is_found_where_it_stands(statements: list[str]) -> None:
    text = valid_toml(statements)
    document = from_text(text)
    assert same(plain(document.values), tomllib.loads(text))
    text = text.replace("\r\n", "\n")
    event(f"array of tables: {'[[' in text}")
    for path, value in paths(document.values):
        key_place, place = document.place(path, key=True), document.place(path)
        assert place.line, (text, path)
        if isinstance(path[-1], str):
            written = text_from(text, key_place)[: key_place.width]
            assert tomllib.loads(f"{written}=1") == {path[-1]: 1}, (text, path, key_place)
        rest = text_from(text, place)
        is_header = rest.startswith("[") and place.text[: place.column - 1].strip() == "" and place != key_place
        implied = place == key_place and isinstance(path[-1], str)
        if isinstance(value, Mapping | tuple) and (is_header or implied or rest.startswith("[[")):
            continue  # a table or an array of tables: its header or its dotted key, checked in the examples below
        assert parses_to(rest, place.width, plain(value)), (text, path, place)


EXAMPLE = """\
top = 1
[ permanences . "the net" ]  # comment
params = { width = 8, deep.er = [1, [2, "drei"]] }

[[steps]]
name = 'one'
[[steps]]
  [steps.sub]
a.b.c = true
"""


def marked(place: Place) -> str:
    return place.text[place.column - 1 : place.column - 1 + place.width]


@pytest.mark.parametrize(
    ("path", "at", "key", "value"),
    [
        (("top",), "1:7", "top", "1"),
        (("permanences",), "2:1", "permanences", '[ permanences . "the net" ]'),
        (("permanences", "the net"), "2:1", '"the net"', '[ permanences . "the net" ]'),
        (("permanences", "the net", "params"), "3:10", "params", '{ width = 8, deep.er = [1, [2, "drei"]] }'),
        (("permanences", "the net", "params", "width"), "3:20", "width", "8"),
        (("permanences", "the net", "params", "deep"), "3:23", "deep", "deep"),
        (("permanences", "the net", "params", "deep", "er"), "3:33", "er", '[1, [2, "drei"]]'),
        (("permanences", "the net", "params", "deep", "er", 1, 1), "3:41", '"drei"', '"drei"'),
        (("steps",), "5:1", "steps", "[[steps]]"),
        (("steps", 0), "5:1", "steps", "[[steps]]"),
        (("steps", 1), "7:1", "steps", "[[steps]]"),
        (("steps", 0, "name"), "6:8", "name", "'one'"),
        (("steps", 1, "sub"), "8:3", "sub", "[steps.sub]"),
        (("steps", 1, "sub", "a", "b"), "9:3", "b", "b"),
        (("steps", 1, "sub", "a", "b", "c"), "9:9", "c", "true"),
    ],
)
def test_place_of_value_and_key(path: tuple[str | int, ...], at: str, key: str, value: str) -> None:
    document = from_text(EXAMPLE, "x.toml")
    place = document.place(path)
    assert str(place) == f"x.toml:{at}"
    assert marked(place) == value
    assert marked(document.place(path, key=True)) == key
    assert document.has(path)


@pytest.mark.parametrize(
    ("path", "marks"),
    [
        (("permanences", "the net", "width"), '[ permanences . "the net" ]'),
        (("permanences", "the net", "params", "depth"), '{ width = 8, deep.er = [1, [2, "drei"]] }'),
        (("permanences", "other", "x"), '[ permanences . "the net" ]'),
        (("steps", 2), "[[steps]]"),
        (("steps", -1), "[[steps]]"),
        (("steps", "name"), "[[steps]]"),
        (("steps", 1, "sub", "x"), "[steps.sub]"),
        (("top", "below"), "1"),
        (("permanences", "the net", "params", "deep", "er", 5), '[1, [2, "drei"]]'),
    ],
)
def test_place_of_what_is_missing_is_the_nearest_thing_above(path: tuple[str | int, ...], marks: str) -> None:
    document = from_text(EXAMPLE)
    assert not document.has(path)
    assert marked(document.place(path)) == marks
    assert document.place(path, key=True) == document.place(path)


def test_place_of_the_top_and_of_missing_tables_is_the_file_as_a_whole() -> None:
    document = from_text(EXAMPLE, "x.toml")
    assert document.place(()) == document.place(("pipeline", "seed")) == Place("x.toml")


def test_a_table_declared_after_its_child_has_its_own_header() -> None:
    document = from_text("[a.b]\nx = 1\n[a]\ny = 2\n")
    assert document.place(("a",)).line == 3
    assert document.place(("a", "b")).line == 1


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["no BOM", "BOM"])
def test_columns_count_characters_whatever_the_line_breaks(newline: str, mark: str) -> None:
    lines = ['"größe" = "日本語" # ü', "\t'x' = \"😀\"", 'many = """', "ü", '""" # end', "last = [1,", "  'é', 2]"]
    document = from_text(mark + newline.join(lines), "x.toml")
    assert document.values["größe"] == "日本語"
    where = {path: document.place(path) for path in [("größe",), ("x",), ("many",), ("last", 1), ("last", 2)]}
    assert {path: str(place) for path, place in where.items()} == {
        ("größe",): "x.toml:1:11",
        ("x",): "x.toml:2:8",
        ("many",): "x.toml:3:8",
        ("last", 1): "x.toml:7:3",
        ("last", 2): "x.toml:7:8",
    }
    assert [marked(place) for place in where.values()] == ['"日本語"', '"😀"', '"""', "'é'", "2"]
    assert where["x",].text == "\t'x' = \"😀\""
    assert where["last", 2].text == "  'é', 2]"


def test_lines_break_only_where_toml_breaks_them() -> None:
    document = from_text("a = 'x\u2028y\u0085z'\nb = 2\n", "x.toml")
    assert str(document.place(("b",))) == "x.toml:2:5"


def test_a_document_does_not_show_its_values_in_its_repr() -> None:
    document: Document = from_text("password = 'canary'", "x.toml")
    assert "canary" not in repr(document)
    assert "x.toml" in repr(document)
