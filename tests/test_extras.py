"""The commands that messages name for optional packages."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from ridgepole.extras import install_command, pip_install, requirements

OPTIONAL = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.mark.parametrize("extra", sorted(OPTIONAL))
def test_an_extra_is_installed_by_its_packages_and_never_by_ridgepoles_own_name(extra):
    words = shlex.split(install_command(extra))
    assert words[:2] == ["pip", "install"]
    named = {Requirement(word).name: str(Requirement(word).specifier) for word in words[2:]}
    own = {Requirement(line).name.lower(): str(Requirement(line).specifier) for line in OPTIONAL[extra]}
    own.pop("ridgepole", None)
    assert named.items() >= own.items()
    assert "ridgepole" not in named


def test_requirements_are_by_the_packages_name():
    assert requirements("wandb") == {"wandb": OPTIONAL["wandb"][0]}
    assert requirements("no such extra") == {}


def test_a_command_is_quoted_for_a_shell():
    assert pip_install(["a>=1", "b"]) == "pip install 'a>=1' b"
