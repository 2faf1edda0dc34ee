"""W&B's own public controller of sweeps, as the judge of ours: the package `sweeps`."""

from __future__ import annotations

import importlib.util
import warnings
from types import ModuleType
from typing import Any

import pytest

NEEDED = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("sweeps", "jsonref")),
    reason="needs W&B's controller: pip install --no-deps sweeps==0.3.0 jsonref",
)
"""It asks for numpy 1, and works with numpy 2."""


def controller() -> ModuleType:
    """Import the package; its pydantic models warn of their age."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import sweeps
    return sweeps


def refusal(config: Any) -> str:
    """Return why W&B refuses a sweep: by its schema, or when it draws a trial, or judges one; empty if it does not."""
    theirs = controller()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if found := theirs.schema_violations_from_proposed_config(config):
                return "; ".join(found)
            if config["method"] == "custom":
                return ""
            theirs.next_run(config, [])
            if "early_terminate" in config:
                theirs.stop_runs(config, [])
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return ""
