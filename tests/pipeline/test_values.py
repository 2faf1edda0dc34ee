"""Values from the command line and from files: what a parameter gets, and what each error says."""

import datetime as dt
import math
import sys
from pathlib import Path

import pytest
import values_project
from values_project import Kind

from ridgepole.config import from_text, parse_override
from ridgepole.errors import ConfigError
from ridgepole.pipeline.spec.compile import compile_plan
from ridgepole.pipeline.spec.export_toml import to_toml
from ridgepole.pipeline.spec.spec import from_document

HERE = Path(values_project.__file__).parent
HEAD = "[pipeline]\npackage = 'values_project'\n[processes.train]\n"


def plan(text, *overrides, **environ):
    document = from_text(text, "p.toml")
    return compile_plan(from_document(document, [parse_override(each) for each in overrides], environ, HERE))


def got(name, *overrides, text="", **environ):
    """Return the value that the process's parameter gets."""
    return plan(f"{HEAD}type = 'texts'\n{text}", *overrides, **environ).processes[0].arguments()[name]


def problems(*overrides, text="", kind="texts", **environ):
    """Return the errors, each with its place and hint."""
    with pytest.raises(ConfigError) as caught:
        plan(f"{HEAD}type = '{kind}'\n{text}", *overrides, **environ)
    errors = [each for each in caught.value.problems if each.severity == "error"]
    return [(f"{each.place.file}:{each.place.line}:{each.place.column}", each.message, each.hint) for each in errors]


AS_TYPED = [
    *("12e4567", "1.10", "1e5", "0x10", "1_000", "+5", "5", "007", "-0", "inf", "nan", "1.0"),
    *("2024-01-31", "12:30:00", "2024-01-31 12:30:00", "true", "True", "False", "false", "null", "None"),
    *("[a,b]", "{x:1}", "a,b", ".5", "5.", "#5", "/data/ü x", "1 # one"),
]


@pytest.mark.parametrize("text", AS_TYPED)
def test_a_text_parameter_gets_what_was_typed(text):
    assert got("rev", f"train.rev={text}") == text
    assert got("rev", f"rev={text}") == text
    assert got("bare", f"bare={text}") == text, "a default that is a text says that it takes text"
    assert got("rev", "rev=${processes.train.bare}", f"bare={text}") == text
    assert got("rev", "rev=v-${processes.train.bare}", f"bare={text}") == f"v-{text}"


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [
        ("maybe", "1.10", "1.10"),
        ("maybe", "null", None),
        ("maybe", "None", None),
        ("maybe", "'null'", "null"),
        ("either", "5", 5),
        ("either", "1.10", "1.10"),
        ("path", "2024", Path("2024")),
        ("word", "1.10", "1.10"),
        ("word", "1", "1"),
        ("names", "['1.10', 'x']", ["1.10", "x"]),
        ("anything", "1.5", 1.5),
        ("anything", "true", True),
        ("anything", "True", True),
        ("anything", "False", False),
        ("anything", "None", None),
        ("anything", ".5", 0.5),
        ("anything", "adam", "adam"),
        ("anything", "'False'", "False"),
        ("anything", "2024-01-31", dt.date(2024, 1, 31)),
        ("number", "0x10", 16),
        ("number", "-.5e1", -5.0),
        ("k", "null", None),
        ("size", "1_000", 1000),
        ("size", "1e3", 1000),
    ],
)
def test_the_annotation_decides(name, typed, value):
    found = got(name, f"{name}={typed}")
    assert (found, type(found)) == (value, type(value))


def test_an_infinite_number_stays_one_where_a_number_is_wanted():
    assert math.isinf(got("number", "number=inf"))


@pytest.mark.parametrize("word", ["False", "false", "FALSE", "no", "off", "0", "f", "n"])
def test_a_default_that_is_a_boolean_reads_words_for_false(word):
    assert not got("flag", f"flag={word}")
    assert not got("flag", text=f"flag = '{word}'")
    assert not got("flag", text="flag = '${env:FLAG}'", FLAG=word)


@pytest.mark.parametrize("word", ["True", "true", "yes", "on", "1", "t", "y"])
def test_a_default_that_is_a_boolean_reads_words_for_true(word):
    assert got("flag", f"flag={word}")
    assert got("flag", text=f"flag = '{word}'")


def test_another_text_is_refused_where_the_default_is_a_boolean():
    message = "train.flag should be a valid boolean, not 'Flase'"
    assert problems("flag=Flase") == [("-s:1:1", message, "")]
    assert problems(text="flag = 'Flase'") == [("p.toml:5:8", message, "")]


@pytest.mark.parametrize(
    ("written", "value"),
    [("1.10", "1.10"), ("1e5", "1e5"), ("0x10", "0x10"), ("1_000", "1_000"), ("+5", "+5"), ("true", "true")],
)
def test_a_file_must_quote_what_loses_its_form(written, value):
    expected = f"expected text, not {written}"
    hint = f'write "{value}" in quotes'
    assert problems(text=f"rev = {written}") == [("p.toml:5:7", f"train.rev: {expected}", hint)]
    assert problems(text=f"params = {{ names = ['a', {written}] }}") == [
        ("p.toml:5:26", f"train.names.1: {expected}", hint)
    ]
    assert problems(text=f"opt = {{ name = {written} }}", kind="tables") == [
        ("p.toml:5:16", f"train.opt.name: {expected}", hint)
    ]


def test_an_integer_that_loses_nothing_is_text_too():
    assert got("rev", text="rev = 5") == "5"
    assert got("names", text="names = [1, '2']") == ["1", "2"]


def test_none_has_a_word_in_files_and_on_the_command_line():
    assert got("k", text="k = { null = true }") is None
    assert got("k", "k={ null = true }") is None
    assert got("many", text="many = [1, { null = true }]") == [1, None]
    assert problems(text="size = { null = true }") == [
        ("p.toml:5:8", "train.size should be a valid integer, not null", "")
    ]


# --- keys that nothing reads


UNKNOWN = [
    ("opt = { lrr = 5.0 }", "5:9", "train.opt has no key 'lrr'", "did you mean 'lr'?"),
    ("opt = { zzz = 5.0 }", "5:9", "train.opt has no key 'zzz'", "known keys: lr, name"),
    ("opt = { lrr = 5.0, name = [] }", "5:9", "train.opt has no key 'lrr'", "did you mean 'lr'?"),
    ("opts = [{ lr = 1 }, { lrr = 5.0 }]", "5:23", "train.opts.1 has no key 'lrr'", "did you mean 'lr'?"),
    ("either = { lrr = 5.0 }", "5:12", "train.either has no key 'lrr'", "did you mean 'lr'?"),
    ("typed = { lrr = 5.0 }", "5:11", "train.typed has no key 'lrr'", "did you mean 'lr'?"),
    ("model = { ratee = 5.0 }", "5:11", "train.model has no key 'ratee'", "did you mean 'rate'?"),
    ("model = { inner = { lrr = 5 } }", "5:21", "train.model.inner has no key 'lrr'", "did you mean 'lr'?"),
    ("model = { inners = [{ lrr = 5 }] }", "5:23", "train.model.inners.0 has no key 'lrr'", ""),
    (
        "models = [{ rate = 1 }, { x = 5.0 }]",
        "5:27",
        "train.models.1 has no key 'x'",
        "known keys: lr, inner, inners, rate",
    ),
    ("deep = { opt = { lrr = 5.0 } }", "5:18", "train.deep.opt has no key 'lrr'", "did you mean 'lr'?"),
    ("deep = { many = [{ lrr = 5.0 }] }", "5:20", "train.deep.many.0 has no key 'lrr'", "did you mean 'lr'?"),
    (
        "deep = { named = { a = { inner = { nmae = 'x' } } } }",
        "5:36",
        "train.deep.named.a.inner has no key 'nmae'",
        "did you mean 'name'?",
    ),
    ("[processes.train.deep.opt]\nlrr = 5.0", "6:1", "train.deep.opt has no key 'lrr'", "did you mean 'lr'?"),
    ("retries = { n = 1, backof = 2 }", "5:20", "train.retries has no key 'backof'", "did you mean 'backoff'?"),
]


@pytest.mark.parametrize(("text", "at", "message", "hint"), UNKNOWN)
def test_a_key_that_nothing_reads_is_an_error_at_any_depth(text, at, message, hint):
    assert (f"p.toml:{at}", message, hint) in problems(text=text, kind="tables")


def test_a_key_from_the_command_line_that_nothing_reads_is_an_error():
    message = "train.deep.opt has no key 'lrr'"
    assert problems("train.deep.opt.lrr=5", kind="tables") == [("-s:1:1", message, "did you mean 'lr'?")]


@pytest.mark.parametrize("text", ["renaming = { old_lr = 0.5 }", "lenient = { lr = 0.5, more = 1 }"])
def test_a_model_that_renames_or_ignores_keys_by_itself_may(text):
    given = plan(f"{HEAD}type = 'tables'\n{text}").processes[0].arguments()
    assert next(iter(given.values())).lr == 0.5


def test_classes_with_fields_that_pydantic_does_not_know():
    made = plan(f"{HEAD}type = 'tables'\nholder = {{ lr = 0.5 }}").processes[0].arguments()["holder"]
    assert (made.lr, made.act) == (0.5, None)
    message = "train.holder.act should be an instance of Activation, not 'relu'"
    assert problems(text="holder = { act = 'relu' }", kind="tables") == [("p.toml:5:18", message, "")]


def test_annotations_that_cannot_be_evaluated_are_located():
    assert problems(text="hidden = { price = 1 }", kind="tables") == [
        (
            "p.toml:5:10",
            "train.hidden: can't evaluate the annotations of Hidden: import 'Decimal' outside `if TYPE_CHECKING`",
            "",
        )
    ]


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="pydantic reads this class from Python 3.12 on")
def test_a_class_that_pydantic_refuses_is_located():
    (found,) = problems(text="old = { lr = 1 }", kind="tables")
    assert found[0] == "p.toml:5:7"
    assert "import TypedDict from typing_extensions" in found[1]


# --- what to write instead


def test_every_option_is_named():
    assert problems("mode=trian", kind="tables") == [
        ("-s:1:1", "train.mode should be 'train', 'validate' or 'test', not 'trian'", "did you mean 'train'?")
    ]
    assert problems(text="kind = 'adma'", kind="tables") == [
        ("p.toml:5:8", "train.kind should be 'adam', 'sgd' or 'lion', not 'adma'", "did you mean 'adam'?")
    ]
    assert plan(f"{HEAD}type = 'tables'\nkind = 'lion'").processes[0].arguments() == {"kind": Kind.LION}


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        (
            "anything=[a,b]",
            "train.anything should be valid TOML, not '[a,b]'",
            """texts go between quotes: '["a","b"]'""",
        ),
        (
            "items=[a, b]",
            "train.items should be a valid list, not '[a, b]'",
            """texts go between quotes: '["a", "b"]'""",
        ),
        ("anything={x:1}", "train.anything should be valid TOML, not '{x:1}'", "a table is written so: '{x = 1}'"),
        ("table={x:1}", "train.table should be a valid dictionary, not '{x:1}'", "a table is written so: '{x = 1}'"),
        (
            "size=1,2",
            "train.size should be a valid integer, not '1,2'",
            "one run takes one value; several values make a sweep",
        ),
    ],
)
def test_a_value_in_the_form_of_another_tool_says_what_to_write(override, message, hint):
    assert problems(override) == [("-s:1:1", message, hint)]


def test_the_item_of_an_array_is_not_set_alone():
    hint = "write the whole array: train.items=[…]"
    assert problems("train.items.0=5", text="items = ['a']")[0][2] == hint.replace("train", "processes.train")
    assert problems("train.items.0=5")[0][2] == hint


# --- names


def test_a_path_may_begin_with_a_parameter_that_is_unique():
    made = plan(f"{HEAD}type = 'tables'", "deep.opt.lr=7", "holder.lr=3").processes[0].arguments()
    assert (made["deep"].opt.lr, made["holder"].lr) == (7.0, 3.0)
    with pytest.raises(ConfigError, match=r"nothing is called 'dep'.*\n.*\n.*did you mean 'deep'"):
        plan(f"{HEAD}type = 'tables'", "dep.opt.lr=7")


def test_the_last_of_two_names_for_one_value_wins():
    for first, last in [("size", "train.size"), ("train.size", "size"), ("train.params.size", "size")]:
        assert got("size", f"{first}=1", f"{last}=2") == 2


def test_a_key_is_removed_by_any_of_its_names():
    for name in ("size", "train.size", "processes.train.size"):
        made = plan(f"{HEAD}type = 'texts'\nsize = 5", f"~{name}").processes[0]
        assert "size" not in made.arguments()


def test_a_round_trip_through_toml_keeps_none_and_texts(tmp_path):
    source = f"{HEAD}type = 'texts'\nrev = '1.10'\nk = {{ null = true }}\nmany = [{{ null = true }}, 1]\n"
    spec = from_document(from_text(source), [], {}, HERE)
    again = from_document(from_text(to_toml(spec)), [], {}, HERE)
    assert compile_plan(again).resolved() == compile_plan(spec).resolved()
    assert compile_plan(again).processes[0].arguments() == {"rev": "1.10", "k": None, "many": [None, 1]}


def test_an_error_hides_a_secret_value():
    message = "train.size should be a valid integer, not ***"
    assert problems("size=${env:MY_TOKEN}", MY_TOKEN="canary-4711") == [("-s:1:1", message, "")]
    (found,) = problems("opt.token={ a = 'canary' }", kind="tables")
    assert "canary" not in str(found)
