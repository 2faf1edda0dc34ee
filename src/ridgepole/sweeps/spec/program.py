"""The program of a sweep's trials: W&B's `program` and `command`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ridgepole.errors import did_you_mean
from ridgepole.sweeps.spec.checker import Checker

DEFAULT_COMMAND = ("${env}", "${interpreter}", "${program}", "${args}")
_ARGUMENTS = (
    "args",
    "args_no_equals",
    "args_no_hyphens",
    "args_no_boolean_flags",
    "args_json",
    "args_json_file",
    "args_append_hydra",
    "args_override_hydra",
)
MACROS = ("env", "interpreter", "program", *_ARGUMENTS)
"""The macros of W&B's agent; `${envvar:NAME}` may also be a part of a word."""
_ENVVAR = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")
_MACRO = re.compile(r"\$\{([^}]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The command line of each trial.

    Attributes:
        program: The script, relative to the directory that the sweep is started in.
        command: The words of the command line, with macros.
        parameters: The parameters as the file nests them: each table is one argument, as at W&B.
        prints_metric: Whether the metric comes from lines of JSON on standard output.
    """

    program: str | None = None
    command: tuple[str, ...] = DEFAULT_COMMAND
    parameters: Mapping[str, Any]
    prints_metric: bool = False

    def words(self, values: Mapping[str, Any], *, interpreter: str, json_file: str) -> list[str]:
        """Return the command line of a trial.

        Args:
            values: The trial's parameters by flat name.
            interpreter: The interpreter of Python.
            json_file: The file for `${args_json_file}`.
        """
        given = nested(self.parameters, values)
        replaced = _arguments(given) | {
            "env": ["/usr/bin/env"],
            "interpreter": [interpreter],
            "program": [] if self.program is None else [self.program],
            "args_json_file": [json_file],
        }
        words: list[str] = []
        for word in self.command:
            text = _ENVVAR.sub(lambda match: os.environ.get(match[1], match[1]), word)
            whole = _MACRO.fullmatch(text)
            words += replaced.get(whole[1], []) if whole else [text]
        return words

    @property
    def uses_json_file(self) -> bool:
        """Return whether the command names the file of its arguments."""
        return "${args_json_file}" in self.command


def nested(parameters: Mapping[str, Any], values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a trial's parameters as the sweep's file nests them, in its order."""
    found: dict[str, Any] = {}
    for key, entry in parameters.items():
        name = f"{prefix}{key}"
        if isinstance(entry, Mapping) and isinstance(entry.get("parameters"), Mapping):
            found[key] = nested(entry["parameters"], values, f"{name}.")
        elif name in values:
            found[key] = values[name]
    return found


def _arguments(values: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the words of each macro of arguments, in the forms of W&B's agent."""
    pairs = [f"{name}={value}" for name, value in values.items()]
    return {
        "args": [f"--{pair}" for pair in pairs],
        "args_no_equals": [word for name, value in values.items() for word in (f"--{name}", str(value))],
        "args_no_hyphens": pairs,
        "args_no_boolean_flags": [
            f"--{name}" if value is True else f"--{name}={value}"
            for name, value in values.items()
            if value is not False
        ],
        "args_json": [json.dumps(dict(values))],
        "args_append_hydra": [f"+{pair}" for pair in pairs],
        "args_override_hydra": [f"++{pair}" for pair in pairs],
    }


def check_program(
    check: Checker, values: Mapping[str, Any], command: Sequence[str] | None, *, has_pipeline: bool
) -> None:
    """Check the macros of a command, and where the metric is to come from."""
    metric = values.get("metric")
    source = metric.get("from") if isinstance(metric, Mapping) else None
    if source is not None:
        check.word(("stdout",), source, ("metric", "from"))
        if has_pipeline:
            check.warn(("metric", "from"), "has no effect: it is for sweeps of a program")
    if command is not None and "program" not in values and "${program}" in command:
        check.error(("command",), "the command has ${program}, and the sweep has no 'program'", "add program: train.py")
    for index, word in enumerate(command or ()):
        for macro in _MACRO.findall(word):
            if macro not in MACROS and not macro.startswith("envvar:"):
                hint = did_you_mean(macro, MACROS) or f"known are {', '.join(MACROS)}"
                check.warn(("command", index), f"has the unknown macro ${{{macro}}}, which W&B leaves out", hint)
