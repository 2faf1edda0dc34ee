"""Sweep files of every key and distribution, judged as W&B's own schema and controller judge them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import wandb_oracle
import yaml

from ridgepole.sweeps import check_sweep

_FILES: dict[str, list[Any]] = yaml.safe_load(Path(__file__).with_name("wandb_sweep_files.yaml").read_text())
KINDS = {"accepted": set(), "noted": {"warning"}, "warned": {"warning"}, "refused": {"error"}, "ours": {"error"}}
"""How Ridgepole judges the sweeps of each kind: by the severities of its problems."""


def sweeps(kind: str) -> list[Any]:
    tables = [{"method": "random", "parameters": {"x": table}} for table in _FILES[f"{kind}_parameters"]]
    return [*_FILES[kind], *tables]


@pytest.mark.parametrize("kind", KINDS)
def test_ridgepole_judges_sweeps(kind):
    for sweep in sweeps(kind):
        problems = check_sweep(sweep)
        severities = {problem.severity for problem in problems}
        assert KINDS[kind] == (severities - {"warning"} or severities), f"{sweep}: {problems}"


@wandb_oracle.NEEDED
@pytest.mark.parametrize("kind", KINDS)
def test_wandb_judges_sweeps(kind):
    for sweep in sweeps(kind):
        why = wandb_oracle.refusal(sweep)
        assert bool(why) == (kind in ("warned", "refused")), f"{sweep}: {why}"


@wandb_oracle.NEEDED
def test_the_sweeps_are_many_and_have_every_key_and_word_of_the_schema():
    wandb_oracle.controller()
    from sweeps.config.schema import sweep_config_jsonschema as schema

    assert sum(len(sweeps(kind)) for kind in KINDS) > 140
    text = yaml.safe_dump(_FILES)
    tables = [schema, *schema["definitions"].values()]
    for table in tables:
        for key, entry in table.get("properties", {}).items():
            assert f"{key}:" in text, f"no sweep has the key {key}"
            assert all(word in text for word in entry.get("enum", ())), f"a word is missing of {entry['enum']}"
