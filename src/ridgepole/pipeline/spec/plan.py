"""The checked and frozen plan of a run: `compile_plan` makes it, `run` executes it."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeGuard

from annotated_types import Ge, Le

from ridgepole.checkpoint.policy import CheckpointPolicy
from ridgepole.config import looks_secret
from ridgepole.errors import Place, Problem, redact, text_of
from ridgepole.labels import NO_LABELS, Labels
from ridgepole.mirror.settings import MirrorPolicy
from ridgepole.pipeline.spec.convert import ConversionErrors, convert, fresh
from ridgepole.pipeline.spec.injection import EMPTY, RESERVED, Signature
from ridgepole.pipeline.trial_hook import LISTENER
from ridgepole.seeding import MAX_SEED
from ridgepole.watch.policy import GuardPolicy, NotifyPolicy
from ridgepole.watch.settings import SystemSettings

LOGGER = "logger"
"""The name under which all loggers of a run are found as one."""
PROGRESS = "progress_manager"
"""The name under which the progress display is always found."""

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+(?=[ >])")
"""The memory address in an object's `repr`, which differs from one process to the next."""


class View(enum.Enum):
    """A parameter's binding that is not a single permanence."""

    ALL_LOGGERS = "all loggers of the run as one"


class Stateful(Protocol):
    """PyTorch's own protocol of an object with a state to store."""

    def state_dict(self) -> Any:
        """Return the state to store."""
        ...

    def load_state_dict(self, state: Any) -> Any:
        """Continue from a stored state."""
        ...


def is_stateful(value: object) -> TypeGuard[Stateful]:
    """Return whether a checkpoint can store an object's state, and a resume can restore it."""
    return callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The `[pipeline]` table."""

    name: str = "pipeline"
    """Shown in lists of runs; by default the stem of the pipeline's file."""
    package: str | None = None
    """The user's own package beside the file: where its classes are looked up."""
    seed: Annotated[int, Ge(0), Le(MAX_SEED)] | None = None
    """For python, numpy and torch; drawn and recorded where it is not given."""
    deterministic: bool = False
    """Ask torch for deterministic algorithms too."""
    logger: bool = True
    """False gives every process a logger that drops everything."""
    progress: bool = True
    """False gives every process a progress manager that shows nothing."""
    checkpoint: CheckpointPolicy | bool = True
    """When checkpoints are taken; false turns them off."""
    system: SystemSettings | bool = True
    """Samples of the host, the run's processes and its cards; false turns them off."""
    console: bool = True
    """Keep what `ridgepole run` prints in `console/`; false leaves the streams alone."""
    guard: GuardPolicy | bool = True
    """The faults that are watched for; false turns that off."""
    grace_seconds: Annotated[float, Ge(0)] = 25.0
    """Seconds that a SIGTERM leaves before the scheduler kills."""
    mirror: MirrorPolicy | str | None = None
    """The URL of an object store that keeps a copy of each run."""
    tags: tuple[str, ...] = ()
    """Words by which its runs are found; `ridgepole runs tag` changes those of a run."""


@dataclass(frozen=True, slots=True)
class Retries:
    """`retries = { n = 2, backoff = 1.0, on = ["OSError"] }` of a process."""

    n: Annotated[int, Ge(0)]
    """The number of retries."""
    backoff: Annotated[float, Ge(0)] = 0.0
    """Seconds before the first retry; doubled before each next one."""
    on: tuple[str, ...] = ("Exception",)
    """Names of the exceptions that are worth a retry, base classes included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentPlan:
    """One permanence or process of a plan.

    Attributes:
        target: Its class or function.
        values: The values as they were given.
        bindings: Parameter to the name of the permanence that fills it, or a `View`; None for an
            optional one that is absent.
        place: Where it is declared.
        depends_on: Names of the permanences that must come before it.
        ranks: `"zero"` where only rank 0 constructs it.
        default: Whether the framework added it.
        force: Whether a process ignores its `skip`.
        cache: When the result of another run's process is used instead of running it.
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
        """Return the name of the class or function."""
        return str(getattr(self.target, "__name__", self.target))

    @property
    def described(self) -> str:
        """Return name, type and place, as messages show them."""
        return f"{self.name!r} ({self.type_name}{f', {self.place}' if self.place else ''})"

    def arguments(self) -> dict[str, Any]:
        """Convert the given values, anew at each call, so that runs share no mutable values.

        Raises:
            ConversionErrors: If a value does not fit, which `check` has reported before.
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
        """Return the component's table as it will be constructed, defaults included."""
        try:
            given = self.arguments()
        except ConversionErrors:  # only a plan with problems, which is shown but never run
            given = dict(self.values)
        params: dict[str, Any] = {}
        for name, parameter in self.signature.parameters.items():
            if name in self.bindings:
                bound = self.bindings[name]
                params[name] = None if bound is None else {"ref": LOGGER if isinstance(bound, View) else bound}
            elif name in given:
                params[name] = given[name]
            elif parameter.stated_default is not EMPTY:
                params[name] = parameter.default
        params |= {name: value for name, value in given.items() if name not in params and name not in RESERVED}
        hidden = {name: "***" for name, value in params.items() if looks_secret(name) and value not in (None, "")}
        table: dict[str, Any] = {"type": self.type_name, "params": params | hidden}
        if self.force:
            table["force"] = True
        return table


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A checked pipeline.

    Attributes:
        settings: Its `[pipeline]` table.
        policy: When checkpoints are taken.
        guard: Which faults are watched for.
        notify: Where alerts are sent; None sends none.
        permanences: In the order of construction.
        processes: In the order of execution.
        loggers: Names of the permanences that are loggers.
        progress: Name of the progress display.
        file: The pipeline's file; None for one that was built in Python.
        directory: Where the pipeline's file is.
        source: The main file byte for byte.
        secrets: Values that must not be written anywhere but into the config file.
        overrides: The `-s` values as typed.
        environ: Keys of the resolved values that came from the environment and may differ in a
            resumed run.
        trial: The description in `run.json` of the sweep's trial; None for an ordinary run.
        labels: Labels that this attempt adds to those of the run.
    """

    settings: Settings
    policy: CheckpointPolicy
    guard: GuardPolicy
    permanences: tuple[ComponentPlan, ...]
    processes: tuple[ComponentPlan, ...]
    loggers: tuple[str, ...]
    progress: str
    file: Path | None
    directory: Path
    source: bytes
    warnings: tuple[Problem, ...] = ()
    secrets: frozenset[str] = frozenset()
    overrides: tuple[str, ...] = ()
    environ: frozenset[str] = frozenset()
    trial: Mapping[str, Any] | None = None
    labels: Labels = NO_LABELS
    notify: NotifyPolicy | None = None

    def resolved(self, seed: int | None = None) -> dict[str, Any]:
        """Return plain JSON values, as in `config.resolved.json`; `seed` was drawn."""
        settings = {item.name: getattr(self.settings, item.name) for item in fields(self.settings)}
        settings["seed"] = self.settings.seed if seed is None else seed
        settings["checkpoint"], settings["guard"] = self.policy, self.guard
        plain = {
            "pipeline": settings,
            "permanences": {held.name: held.resolved() for held in self.permanences if held.name != LISTENER},
            "processes": {process.name: process.resolved() for process in self.processes},
        }
        result: dict[str, Any] = plain_json(plain, self.secrets)
        return result


def plain_json(value: Any, secrets: frozenset[str] = frozenset(), depth: int = 0) -> Any:
    """Convert any value to JSON values; other objects become text, as does all below 64 levels.

    Args:
        value: Anything.
        secrets: Texts to replace by `***`.
        depth: The level of this call.
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
