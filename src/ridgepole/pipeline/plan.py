"""What a run will do, checked and frozen: the outcome of the builder, the input of the runner."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge

from ridgepole.checkpoint.policy import CheckpointPolicy
from ridgepole.config import looks_secret
from ridgepole.errors import Place, Problem, redact, text_of
from ridgepole.pipeline.convert import Misfits, convert, fresh
from ridgepole.pipeline.injection import EMPTY, RESERVED, Signature
from ridgepole.pipeline.overlay import LISTENER
from ridgepole.pipeline.settings import Settings

LOGGER = "logger"
"""The name under which all loggers of a run are found as one."""
PROGRESS = "progress_manager"
"""The name under which the progress display is always found."""

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+(?=[ >])")
"""Where an object lies, which differs from one process to the next and says nothing of what it is."""


class View(enum.Enum):
    """What a parameter can be bound to that is no single permanence."""

    ALL_LOGGERS = "all loggers of the run as one"


@dataclass(frozen=True, slots=True)
class Retries:
    """`retries = { n = 2, backoff = 1.0, on = ["OSError"] }` of a process."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic, never changed

    n: Annotated[int, Ge(0)]
    """How often the process is tried again."""
    backoff: Annotated[float, Ge(0)] = 0.0
    """Seconds before the first retry; doubled before each next one."""
    on: tuple[str, ...] = ("Exception",)
    """Names of the exceptions that are worth a retry, base classes included."""


@dataclass(frozen=True, slots=True)
class Part:
    """One permanence or process of a plan.

    Attributes:
        name: Its name in the pipeline.
        target: Its class or function.
        signature: What the target asks for.
        values: The values that were given, as given.
        bindings: Parameter to the name of the permanence that fills it, or a `View`; None for an optional one that
            is absent.
        place: Where it is declared.
        depends_on: Names of the permanences that must come before it.
        ranks: `"zero"` where only rank 0 constructs it.
        default: Whether the framework added it.
        force: Whether a process ignores its `skip`.
        retries: How a failing process is tried again.
        cache: When a process that another run has done is not done again.
    """

    name: str
    target: Any
    signature: Signature
    values: Mapping[str, Any] = field(default_factory=dict)
    bindings: Mapping[str, str | View | None] = field(default_factory=dict)
    place: Place | None = None
    depends_on: tuple[str, ...] = ()
    ranks: Literal["all", "zero"] = "all"
    default: bool = False
    force: bool = False
    retries: Retries | None = None
    cache: Literal["off", "exists", "fingerprint"] = "off"

    @property
    def type_name(self) -> str:
        """The name of the class or function."""
        return str(getattr(self.target, "__name__", self.target))

    def arguments(self) -> dict[str, Any]:
        """The given values converted, afresh at each call: a run never sees what another did to them.

        Raises:
            Misfits: If a value does not fit, which `check` has seen before.
        """
        given = {}
        for name, value in self.values.items():
            parameter = self.signature.parameters.get(name)
            plain = fresh(value)
            given[name] = (
                plain if parameter is None or parameter.annotation is EMPTY else convert(parameter.annotation, plain)
            )
        return given

    def resolved(self) -> dict[str, Any]:
        """The part as it will be constructed, defaults included, in the shape of its table."""
        params: dict[str, Any] = {}
        try:
            given = self.arguments()
        except Misfits:  # only a plan with problems, which is shown but never run
            given = dict(self.values)
        for name, parameter in self.signature.parameters.items():
            if name in self.bindings:
                target = self.bindings[name]
                params[name] = None if target is None else {"ref": LOGGER if target is View.ALL_LOGGERS else target}
            elif name in given:
                params[name] = given[name]
            elif not parameter.required and type(parameter.default).__name__ != "_HAS_DEFAULT_FACTORY_CLASS":
                params[name] = parameter.default
        params |= {name: value for name, value in given.items() if name not in params and name not in RESERVED}
        hidden = {name: "***" for name, value in params.items() if looks_secret(name) and value not in (None, "")}
        table: dict[str, Any] = {"type": self.type_name, "params": params | hidden}
        if self.force:
            table["force"] = True
        return table


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked pipeline.

    Attributes:
        settings: Its `[pipeline]` table.
        policy: When checkpoints are taken.
        permanences: In the order of construction.
        processes: In the order of execution.
        loggers: Names of the permanences that are loggers; empty where `logger = false`.
        progress: Name of the progress display.
        file: The pipeline's file; None for one that was built in Python.
        directory: Where the pipeline's file lies.
        source: The main file byte for byte.
        warnings: What is doubtful but does not stop the run.
        secrets: Values that must not be written anywhere but into the config file.
        overrides: The `-s` values as typed.
        trial: What `run.json` says of the sweep's trial that this is; None for an ordinary run.
    """

    settings: Settings
    policy: CheckpointPolicy
    permanences: tuple[Part, ...]
    processes: tuple[Part, ...]
    loggers: tuple[str, ...]
    progress: str
    file: Path | None
    directory: Path
    source: bytes
    warnings: tuple[Problem, ...] = ()
    secrets: frozenset[str] = frozenset()
    overrides: tuple[str, ...] = ()
    trial: Mapping[str, Any] | None = None

    def resolved(self, seed: int | None = None) -> dict[str, Any]:
        """The plan as plain JSON values: what `config.resolved.json` holds.

        Args:
            seed: The seed of the run, where one was drawn.
        """
        settings = {item.name: getattr(self.settings, item.name) for item in fields(self.settings)}
        settings["seed"] = self.settings.seed if seed is None else seed
        settings["checkpoint"] = self.policy
        plain = {
            "pipeline": settings,
            "permanences": {part.name: part.resolved() for part in self.permanences if part.name != LISTENER},
            "processes": {part.name: part.resolved() for part in self.processes},
        }
        result: dict[str, Any] = plain_json(plain, self.secrets)
        return result


def plain_json(value: Any, secrets: frozenset[str] = frozenset(), depth: int = 0) -> Any:
    """Any value as JSON values: what JSON has no word for becomes text, and secrets become `***`.

    Args:
        value: Anything.
        secrets: Texts that must not appear.
        depth: How deep this call stands; below 64 the rest is shown as text.
    """

    def inner(item: Any) -> Any:
        return plain_json(item, secrets, depth + 1)

    if isinstance(value, float):
        return value if value - value == 0.0 else str(value)  # strict JSON has no nan or inf
    if value is None or isinstance(value, bool | int):
        return value
    if depth < 64:
        if isinstance(value, Mapping):
            return {str(key): inner(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [inner(item) for item in value]
        if isinstance(value, set | frozenset):  # whose order differs from one process to the next
            return sorted((inner(item) for item in value), key=text_of)
        if is_dataclass(value) and not isinstance(value, type):
            return {item.name: inner(getattr(value, item.name)) for item in fields(value)}
    return redact(_ADDRESS.sub("", text_of(value)), secrets)
