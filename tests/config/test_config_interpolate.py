"""`${…}`: what it stands for, and everything that can be wrong with it."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from ridgepole.config import Document, from_text, parse_override, thaw
from ridgepole.errors import ConfigError


def resolved(text: str, **environ: str) -> Any:
    return thaw(from_text(text).interpolate(environ).values)


def errors(text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        from_text(text, "x.toml").interpolate(environ)
    return [problem.render() for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${env:A}", "5"),
        ("${ env:A }", "5"),
        ("<${env:A}>", "<5>"),
        ("${env:NO:-7}", "7"),
        ("${env:NO:-}", ""),
        ("${env:NO:-a:-b $x}", "a:-b $x"),
        ("${env:EMPTY:-d}", "d"),
        ("${env:EMPTY}", ""),
        ("${env:A:-d}", "5"),
        ("${env:ODD}", "${env:A} $${x}"),
        ("$${env:A}", "${env:A}"),
        ("$$${env:A}", "$${env:A}"),
        ("$ $$ {} $A }", "$ $$ {} $A }"),
        ("a${env:A}b$${c}${env:A}", "a5b${c}5"),
    ],
)
def test_environment_and_escape(text: str, value: str) -> None:
    found = resolved(f"x = '{text}'", A="5", EMPTY="", ODD="${env:A} $${x}")
    assert found == {"x": value}


TREE = """\
n = 3
f = 1.5
yes = true
day = 2024-02-29
text = "t"
list = [1, [2, "${n}"]]
[net]
width = "${n}"
"odd key" = { deep = "${net.width}" }
"""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${n}", 3),
        ("${f}", 1.5),
        ("${yes}", True),
        ("${day}", dt.date(2024, 2, 29)),
        ("${text}", "t"),
        ("${list}", [1, [2, 3]]),
        ("${list.0}", 1),
        ("${list.1.1}", 3),
        ("${net}", {"width": 3, "odd key": {"deep": 3}}),
        ('${ net . "odd key" . deep }', 3),
        ("${net.'odd key'}", {"deep": 3}),
        ("${n}-${f}-${yes}-${day}-${text}-${list.0}", "3-1.5-true-2024-02-29-t-1"),
        (" ${n}", " 3"),
    ],
)
def test_references_take_values_with_their_types(text: str, value: Any) -> None:
    found = resolved(f"{TREE}[test]\nx = '''{text}'''\n")["test"]["x"]
    assert found == value
    assert type(found) is type(value)


def test_references_go_on_through_references_forwards_and_backwards() -> None:
    found = resolved(
        "a = '${b}'\nb = '${c.d}'\nx = '${c.e.f}'\ny='<${x}>'\nc = { d = '${z}', e = '${g}' }\nz = 1\ng.f = '${z}'"
    )
    assert found == {"a": 1, "b": 1, "x": 1, "y": "<1>", "c": {"d": 1, "e": {"f": 1}}, "z": 1, "g": {"f": 1}}


def test_what_a_reference_brings_is_not_read_again() -> None:
    assert resolved("a = '$${n}'\nb = '${a}'\nc = { d = '$${n}' }\ne = '${c}'\nf = '${e.d}'\nn = 1") == {
        "a": "${n}", "b": "${n}", "c": {"d": "${n}"}, "e": {"d": "${n}"}, "f": "${n}", "n": 1
    }  # fmt: skip


def test_twice_is_as_once_and_the_written_values_stay() -> None:
    written = from_text("a = '$${n}'\nb = '${env:B}'\nc = '${b}'")
    once = written.interpolate({"B": "1"})
    assert thaw(once.values) == {"a": "${n}", "b": "1", "c": "1"}
    assert thaw(once.interpolate({"B": "2"}).values) == {"a": "${n}", "b": "2", "c": "2"}
    assert written.values["b"] == "${env:B}"
    later = once.override([parse_override("b=9")])
    assert thaw(later.values) == {"a": "$${n}", "b": 9, "c": "${b}"}
    assert thaw(later.interpolate({}).values) == {"a": "${n}", "b": 9, "c": 9}


def test_overrides_may_refer_too() -> None:
    document = from_text("n = 1").override([parse_override("a=${n}"), parse_override("b=[${n}]")]).interpolate({})
    assert thaw(document.values) == {"n": 1, "a": 1, "b": "[1]"}


def test_places_below_a_reference_are_those_of_the_reference() -> None:
    document = from_text("a = '${b}'\n[b]\nx = 1\n", "x.toml").interpolate({})
    assert document.has(("a", "x"))
    assert str(document.place(("a", "x"))) == str(document.place(("a",))) == "x.toml:1:5"
    assert str(document.place(("b", "x"))) == "x.toml:3:5"


def test_exempt_tables_stay_as_they_are() -> None:
    text = "n = 1\na = '${sweep.command.0}'\nb = '${sweep}'\n[sweep]\ncommand = ['${program}', '${n}']\n"
    document = from_text(text).interpolate({}, skip=[("sweep",)])
    command = ("${program}", "${n}")
    assert document.values["sweep"]["command"] == command
    assert document.values["b"] == {"command": command}
    assert document.values["a"] == "${program}"
    with pytest.raises(ConfigError, match="program"):
        from_text(text).interpolate({})


def test_the_environment_enters_only_through_the_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "1")
    assert "the environment variable CANARY is not set" in errors("a = '${env:CANARY}'")[0]


def test_all_problems_are_reported_together_each_in_its_place() -> None:
    text = """\
net.width = 8
net.size = [1, 2]
a = "${env:WIDHT}"
b = ['x', 'ü ${net.widht} ${net.size} ${env:ALSO_NOT}']
c = "${net.size.2}"
d = "${HOME}"
e = "${net.width.x} ${}"
f = "${oops"
g = "${env:1A}"
h = "${file:x}"
i = "${a}"
j = "${zzz}"
k = "${env:A:-${env:B}}"
"""
    forms = "write ${env:NAME}, ${env:NAME:-default} or ${table.key}; $${ stands for ${ itself"
    assert errors(text, WIDTH="1", OTHER="2") == [
        (
            "x.toml:3:6: error: the environment variable WIDHT is not set\n"
            "    3 | a = \"${env:WIDHT}\"\n      |      ^^^^^^^^^^^^ did you mean 'WIDTH'?"
        ),
        (
            "x.toml:4:14: error: '${net.widht}' not found: there is no 'widht' in 'net'\n"
            "    4 | b = ['x', 'ü ${net.widht} ${net.size} ${env:ALSO_NOT}']\n"
            "      |              ^^^^^^^^^^^^ did you mean 'width'?"
        ),
        (
            "x.toml:4:27: error: '${net.size}' is an array and can't be put inside a text\n"
            "    4 | b = ['x', 'ü ${net.widht} ${net.size} ${env:ALSO_NOT}']\n"
            "      |                           ^^^^^^^^^^^ write it alone"
        ),
        (
            "x.toml:4:39: error: the environment variable ALSO_NOT is not set\n"
            "    4 | b = ['x', 'ü ${net.widht} ${net.size} ${env:ALSO_NOT}']\n"
            "      |                                       ^^^^^^^^^^^^^^^ set it, or write ${env:ALSO_NOT:-default}"
        ),
        (
            "x.toml:5:6: error: '${net.size.2}' not found: there is no '2' in 'net.size'\n"
            '    5 | c = "${net.size.2}"\n      |      ^^^^^^^^^^^^^ an array of 2; count from 0'
        ),
        (
            "x.toml:6:6: error: '${HOME}' not found: there is no 'HOME'\n"
            '    6 | d = "${HOME}"\n      |      ^^^^^^^ for an environment variable write ${env:HOME}'
        ),
        (
            "x.toml:7:6: error: '${net.width.x}' not found: there is no 'x' in 'net.width'\n"
            '    7 | e = "${net.width.x} ${}"\n      |      ^^^^^^^^^^^^^^'
        ),
        (
            f"x.toml:7:21: error: '${{}}' is not a valid reference\n"
            f'    7 | e = "${{net.width.x}} ${{}}"\n      |                     ^^^ {forms}'
        ),
        (
            "x.toml:8:6: error: '${' without its '}', or one reference inside another\n"
            f'    8 | f = "${{oops"\n      |      ^^ {forms}'
        ),
        (
            "x.toml:9:6: error: '${env:1A}' is not a valid name of an environment variable\n"
            f'    9 | g = "${{env:1A}}"\n      |      ^^^^^^^^^ {forms}'
        ),
        (
            f"x.toml:10:6: error: '${{file:x}}' is not a valid reference\n"
            f'   10 | h = "${{file:x}}"\n      |      ^^^^^^^^^ {forms}'
        ),
        (
            "x.toml:12:6: error: '${zzz}' not found: there is no 'zzz'\n"
            '   12 | j = "${zzz}"\n      |      ^^^^^^ there are: net, a, b, c, d, e, f, g, …'
        ),
        (
            "x.toml:13:6: error: '${' without its '}', or one reference inside another\n"
            f'   13 | k = "${{env:A:-${{env:B}}}}"\n      |      ^^ {forms}'
        ),
    ]


def test_a_circle_is_printed_with_its_lines() -> None:
    text = "x = '${a}'\na = '${t.b}'\n[t]\nb = '1 ${c.0}'\n[[c]]\n"
    assert errors(text.replace("[[c]]", "").replace("[t]", "c = ['${a}']\n[t]")) == [
        (
            "x.toml:3:7: error: circular reference: a -> t.b -> c.0 -> a\n"
            "    3 | c = ['${a}']\n"
            "      |       ^^^^ give one of them a value\n"
            "      x.toml:2:6: a = '${t.b}'\n"
            "      x.toml:5:8: t.b = '${c.0}'\n"
            "      x.toml:3:7: c.0 = '${a}'"
        )
    ]
    assert "a -> a" in errors("a = '${a}'")[0]
    assert "a.b -> a.b" in errors("a = { b = '${a}' }")[0]
    assert len(errors("a = '${b}'\nb = '${a}'\nc = '${d}'\nd = '${c}'")) == 2


def test_a_reference_to_a_missing_neighbour_is_no_circle() -> None:
    (error,) = errors("[net]\nwidht = 1\nhidden = '${net.width}'\n")
    assert error.splitlines()[0] == "x.toml:3:11: error: '${net.width}' not found: there is no 'width' in 'net'"
    assert error.endswith("did you mean 'widht'?")


def test_a_variable_that_is_no_utf8_is_refused() -> None:
    assert "the environment variable A is not UTF-8" in errors("a = '${env:A}'", A="x\udcff")[0]


@pytest.mark.slow
@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a0 = 'xxxxxxxxxx'", *(f"a{n} = '${{a{n - 1}}}${{a{n - 1}}}'" for n in range(1, 31))], "characters"),
        (["a0 = [1, 1]", *(f"a{n} = ['${{a{n - 1}}}', '${{a{n - 1}}}']" for n in range(1, 31))], "values"),
        (["a0 = 1", *(f"a{n} = '${{a{n - 1}}}'" for n in range(1, 2000))], "a chain of more than 32 references"),
        ([*(f"a{n} = '${{a{n + 1}}}'" for n in range(2000)), "a2000 = 1"], "a chain of more than 32 references"),
        (["a0 = 1", *(f"a{n} = {{ x = '${{a{n - 1}}}' }}" for n in range(1, 2000))], "more than 32"),
        ([*(f"a{n} = {'[' * 30}'${{a{n + 1}}}'{']' * 30}" for n in range(2000)), "a2000 = 1"], "more than 32"),
        ([f"a{n} = '${{zzz{n}}}'" for n in range(5000)], "4900 more references can't be resolved"),
        (["t = [" + "'$${', " * 4000 + "]", *(f"a{n} = '${{t}}'" for n in range(4000))], "more than 100000 values"),
        (["t = [" + "'$${', " * 4000 + "]", *(f"a{n} = '-${{t}}'" for n in range(4000))], "is an array"),
        ([f"a{n} = '${{b.{n * '9'}}}'" for n in range(300)] + ["b = [1]"], "not found"),
    ],
    ids=[
        "doubled text",
        "doubled arrays",
        "chain up",
        "chain down",
        "nested up",
        "nested down",
        "many",
        "table",
        "array",
        "indexes",
    ],
)
def test_what_grows_out_of_bounds_is_refused(lines: list[str], message: str) -> None:
    assert any(message in error for error in errors("\n".join(lines)))


def test_a_document_without_references_stays_equal() -> None:
    document: Document = from_text(TREE.replace("${", "")).interpolate({})
    assert document.values == from_text(TREE.replace("${", "")).values


def test_values_from_the_environment_are_known_also_through_references() -> None:
    text = (
        "a = '${env:A}'\nb = 'x-${env:A}'\nc = '${a}'\nd = { e = '${c}' }\nf = '${d}'\n"
        "fixed = '${env!:A}'\nboth = '${env!:A}${env:A}'\ng = '${fixed}'\nh = 1\n"
    )
    document = from_text(text).interpolate({"A": "1"})
    assert document.environ == {("a",), ("b",), ("c",), ("d", "e"), ("f", "e")}
    assert document.values["both"] == "11"
    assert document.override([parse_override("a=2")]).environ == frozenset()
