"""A sweep's file in TOML, YAML and JSON: the same sweep from each, and problems with their places."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from ridgepole.errors import ConfigError
from ridgepole.sweeps import SweepSpec, read_sweep
from ridgepole.sweeps.spec.reading import read

YAML = """\
# a sweep as W&B's users write it
program: train.py
method: bayes
metric:
  name: validation/loss
  goal: minimize
parameters:
  lr: &small
    distribution: log_uniform_values
    min: 1.0e-5
    max: 1.0e-1
  wd:
    <<: *small
    max: 0.5
  optimizer:
    parameters:
      kind: {values: [adam, sgd, null]}
      layers:
        value: [64, 32]
early_terminate:
  type: hyperband
  min_iter: 3
run_cap: 20
command:
  - ${env}
  - python
  - ${program}
  - ${args}
"""

TOML = """\
program = "train.py"
method = "bayes"
run_cap = 20
command = ["${env}", "python", "${program}", "${args}"]
metric = { name = "validation/loss", goal = "minimize" }
early_terminate = { type = "hyperband", min_iter = 3 }

[parameters]
lr = { distribution = "log_uniform_values", min = 1e-5, max = 1e-1 }
wd = { distribution = "log_uniform_values", min = 1e-5, max = 0.5 }

[parameters.optimizer.parameters]
kind = { values = ["adam", "sgd", { null = true }] }
layers = { value = [64, 32] }
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def report(path: Path) -> list[str]:
    """The problems as they are shown, one text each, without the folder."""
    with pytest.raises(ConfigError) as caught:
        read_sweep(path)
    return [problem.render().replace(f"{path.parent}/", "") for problem in caught.value.problems]


def test_the_same_sweep_from_every_format(tmp_path):
    from_yaml = read_sweep(write(tmp_path, "sweep.yaml", YAML))
    assert from_yaml.space.names == ("lr", "optimizer.kind", "optimizer.layers", "wd")
    assert not from_yaml.warnings
    assert from_yaml.program == "train.py"
    assert from_yaml.source == YAML.encode()
    assert from_yaml.file == tmp_path / "sweep.yaml"
    assert not from_yaml.in_pipeline
    from_json = read_sweep(write(tmp_path, "sweep.json", json.dumps(from_yaml.config, indent=2)))
    assert from_json == from_yaml
    from_toml = read_sweep(write(tmp_path, "sweep.toml", TOML))
    assert from_toml.config == from_yaml.config
    from_pipeline = read_sweep(write(tmp_path, "p.toml", '[pipeline]\nname = "p"\n' + in_a_table(TOML)))
    assert from_pipeline == from_toml
    assert from_pipeline.in_pipeline


def in_a_table(toml: str) -> str:
    return "[sweep]\n" + toml.replace("[parameters", "[sweep.parameters")


def test_problems_of_yaml_have_places(tmp_path):
    text = YAML.replace("min: 1.0e-5", "min: 1e-5").replace("min_iter: 3", "min_iter: three").replace("goal:", "gaol:")
    assert report(write(tmp_path, "sweep.yaml", text)) == [
        (
            "sweep.yaml:6:3: error: metric has no key 'gaol'\n"
            "    6 |   gaol: minimize\n"
            "      |   ^^^^ did you mean 'goal'?"
        ),
        (
            "sweep.yaml:10:10: error: parameters.lr.min must be a number, not the text '1e-5'\n"
            "   10 |     min: 1e-5\n"
            "      |          ^^^^ YAML reads 1e-5 as text, not as a number: write 1.0e-5"
        ),
        (
            "sweep.yaml:10:10: error: parameters.wd.min must be a number, not the text '1e-5'\n"
            "   10 |     min: 1e-5\n"
            "      |          ^^^^ YAML reads 1e-5 as text, not as a number: write 1.0e-5"
        ),
        (
            "sweep.yaml:22:13: error: early_terminate.min_iter must be an integer, not the text 'three'\n"
            "   22 |   min_iter: three\n"
            "      |             ^^^^^"
        ),
    ]


def test_problems_of_json_have_places(tmp_path):
    parameters = '{"x\\u0041": {"values": [1, {"a": 2}], "min": 3}}'
    text = '{\n "method": "grid",\r\n "parameters": ' + parameters + ',\n "run_cap": -15e-1}'
    assert report(write(tmp_path, "sweep.json", text)) == [
        (
            "sweep.json:3:54: error: parameters.xA, a categorical parameter, has no key 'min'\n"
            '    3 |  "parameters": {"x\\u0041": {"values": [1, {"a": 2}], "min": 3}},\n'
            "      |" + " " * 54 + "^^^^^ it takes values, probabilities, distribution"
        ),
        (
            "sweep.json:4:13: error: run_cap must be an integer, not -1.5\n"
            '    4 |  "run_cap": -15e-1}\n'
            "      |             ^^^^^^"
        ),
    ]


def test_problems_of_toml_have_places(tmp_path):
    text = (
        '[processes.train]\ntype = "Train"\n[sweep]\nmethod = "random"\n[sweep.parameters]\nx = { min = 2, max = 1 }\n'
    )
    assert report(write(tmp_path, "p.toml", text)) == [
        (
            "p.toml:6:13: error: parameters.x.min is 2, which is above max, 1\n"
            "    6 | x = { min = 2, max = 1 }\n"
            "      |             ^ swap them"
        )
    ]
    text = '[sweep]\nmethod = "random"\n[sweep.parameters]\ntrain.lr = { min = 0.1, max = 0.2 }\n'
    (only,) = report(write(tmp_path, "p.toml", text))
    assert only.startswith("p.toml:4:1: error: parameters.train gives no value")
    assert 'parameters between: train.parameters.lr; or quote the name: "train.lr"' in only.replace("'", "")


def test_the_count_that_is_missing_is_asked_for_at_the_method(tmp_path):
    spec = read_sweep(write(tmp_path, "s.yaml", "parameters: {x: {min: 1, max: 2}}\nmethod: random\n"))
    with pytest.raises(ConfigError) as caught:
        spec.limit()
    assert str(caught.value).startswith(f"{tmp_path}/s.yaml:2:9: error: a random sweep never ends by itself")


ODD = {
    "1e-3": ("1e-3", "YAML reads 1e-3 as text, not as a number: write 1.0e-3"),
    "1.5e3": ("1.5e3", "YAML reads 1.5e3 as text, not as a number: write 1.5e+3"),
    "on": (True, "YAML reads on as true: write that, or the word between quotes"),
    "No": (False, "YAML reads No as false: write that, or the word between quotes"),
    "012": (10, "YAML reads 012 as 10: write that, or the text between quotes"),
    "1:30": (90, "YAML reads 1:30 as 90: write that, or the text between quotes"),
}


@pytest.mark.parametrize("written", ODD)
def test_what_yaml_reads_in_a_way_of_its_own(written, tmp_path):
    value, hint = ODD[written]
    head = "method: grid\nparameters:\n  x:\n    values: [a, "
    spec = read_sweep(write(tmp_path, "s.yml", f"{head}{written}]\n"))
    assert spec.grid().point(1) == {"x": value}
    (warning,) = spec.warnings
    assert (warning.hint, str(warning.place)) == (hint, f"{tmp_path}/s.yml:4:17")
    assert read_sweep(write(tmp_path, "s.yml", f"{head}'{written}x']\n")).warnings == ()


BAD_FILES = {
    "empty": ("s.yaml", "", "is not a sweep: it has no table", ""),
    "a list": ("s.yaml", "- 1\n", "is not a sweep: it has no table", ""),
    "a text": ("s.json", '"x"', "is not a sweep: it has no table", ""),
    "another YAML": ("s.yaml", "services:\n  web: {image: x}\n", "this is not a sweep", ""),
    "no YAML": ("s.yaml", "method: [grid\n", "s.yaml:2:1: error: not valid YAML: expected ',' or ']'", ""),
    "a tab": (
        "s.yaml",
        "method: grid\nparameters:\n\tx: 1\n",
        "s.yaml:3:1: error: not valid YAML: found char",
        "spaces",
    ),
    "two documents": ("s.yaml", "method: grid\n---\nmethod: grid\n", "s.yaml:2:1: error: not valid YAML", ""),
    "a tag": ("s.yaml", "method: !!python/name:os.system x\n", "could not determine a constructor", ""),
    "a key twice": (
        "s.yaml",
        "method: grid\nmethod: grid\n",
        "s.yaml:2:1: error: the key 'method' is written twice",
        "",
    ),
    "a key of a boolean": ("s.yaml", "on: 1\n", "s.yaml:1:1: error: the key 'on' is not text", "between quotes"),
    "a date": ("s.yaml", "method: 2024-01-02\n", "'2024-01-02' is not a value that JSON has", "write it as text"),
    "no date": ("s.yaml", "method: 2024-99-99\n", "'2024-99-99' is not a value that JSON has", "write it as text"),
    "an alias into itself": ("s.yaml", "method: &a [*a]\n", "nested more than 32 deep", ""),
    "aliases that double": (
        "s.yaml",
        "a0: &a0 [1, 1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 25)),
        "more than 100000 values",
        "",
    ),
    "deep YAML": ("s.yaml", "a: " + "[" * 5000, "nested more than", ""),
    "no UTF-8": ("s.yaml", "\udcff", "is not UTF-8", "UTF-8"),
    "a control character": ("s.yaml", "method: \x01\n", "s.yaml:1:9: error: not valid YAML: unacceptable char", ""),
    "no JSON": ("s.json", '{"method": grid}', "s.json:1:12: error: not valid JSON: expecting value", ""),
    "JSON with NaN": ("s.json", '{"method": NaN}', "NaN is not a number in JSON", ""),
    "JSON's key twice": (
        "s.json",
        '{"method": 1,\n "method": 2}',
        "s.json:2:2: error: the key 'method' is written",
        "",
    ),
    "deep JSON": ("s.json", '{"a":' + "[" * 40 + "]" * 40 + "}", "nested more than 32 deep", ""),
    "very deep JSON": ("s.json", "[" * 100_000, "nested more than 32 deep", ""),
    "huge int": ("s.json", '{"method": "grid", "run_cap": ' + "9" * 30 + "}", "does not fit into 64 bits", ""),
    "another suffix": ("s.ini", "method = grid", "is not a sweep's file", ".toml, .yaml, .yml, .json"),
    "no TOML": ("s.toml", "method = grid\n", "s.toml:1:10: error: not valid TOML", 'text needs quotes: "grid"'),
    "a pipeline without": ("s.toml", '[pipeline]\nname = "x"\n', "this pipeline's file has no [sweep] table", ""),
    "a sweep of text": ("s.toml", 'sweep = "x"\n', "s.toml:1:9: error: 'sweep' must be a table", ""),
    "TOML with a date": (
        "s.toml",
        'method = "grid"\nparameters.x = { values = [2024-01-02] }\n',
        "s.toml:2:28: error: parameters.x.values[0] is a date",
        "write it as text",
    ),
}


@pytest.mark.parametrize(("name", "text", "message", "hint"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_is_wrong(name, text, message, hint, tmp_path):
    path = tmp_path / name
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    shown = report(path)
    assert len(shown) == 1, shown
    assert message in shown[0]
    assert hint in shown[0]


def test_a_file_that_can_t_be_read(tmp_path):
    for name in ("s.yaml", "s.json", "s.toml"):
        (only,) = report(tmp_path / name)
        assert name in only
    (tmp_path / "d.yaml").mkdir()
    (only,) = report(tmp_path / "d.yaml")
    assert "is not a regular file" in only
    big = write(tmp_path, "big.json", " " * (1 << 21))
    (only,) = report(big)
    assert "larger than 1024 KiB" in only


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(
    values=st.lists(JSON, min_size=1, max_size=4), seed=st.integers(0, 2**32), style=st.sampled_from(["json", "yaml"])
)
def test_any_json_comes_through_every_format_with_places_for_all(values, seed, style, tmp_path_factory):
    """Whatever the values and the white space: what is read is what was written, and each value has a place."""
    sweep = {"method": "grid", "parameters": {"x": {"values": values}}}
    rng = random.Random(seed)
    if style == "json":
        text = json.dumps(sweep, indent=rng.choice([None, 0, 3]), ensure_ascii=rng.choice([True, False]))
    else:
        flow = rng.choice([True, False, None])
        text = yaml.safe_dump(sweep, allow_unicode=rng.choice([True, False]), default_flow_style=flow, sort_keys=False)
        assume(yaml.safe_load(text) == sweep)  # PyYAML itself loses a line separator (U+0085) that it wrote unquoted
    path = tmp_path_factory.getbasetemp() / f"any.{style}"
    path.write_text(text, encoding="utf-8", newline="")
    written = read(path)
    assert json.dumps(written.values) == json.dumps(sweep)

    def visit(value: Any, where: tuple[str | int, ...]) -> None:
        place = written.place(where, False)
        assert place is not None
        assert place.line, f"no place for {where}"
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, item in items:
            visit(item, (*where, key))

    visit(sweep["parameters"], ("parameters",))


def test_a_spec_says_where_it_came_from(tmp_path):
    base = write(tmp_path, "base.toml", 'method = "grid"\n')
    path = write(tmp_path, "s.toml", 'extends = ["base.toml"]\n[parameters.x]\nvalues = [1, 2]\n')
    spec = read_sweep(str(path))
    assert isinstance(spec, SweepSpec)
    assert (spec.method, spec.file, spec.source) == ("grid", path, path.read_bytes())
    assert base.read_bytes() not in spec.source
    assert read_sweep(spec.to_dict()) == spec, "what a file extends is in to_dict"
