"""Processes whose parameters take values of many kinds, for `test_values.py`."""

import dataclasses
import enum
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typing_extensions
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ridgepole import process

if TYPE_CHECKING:
    from decimal import Decimal


class Kind(enum.Enum):
    ADAM = "adam"
    SGD = "sgd"
    LION = "lion"


class Activation:
    """A class that no text can be converted to."""


@dataclasses.dataclass
class Opt:
    lr: float = 0.1
    name: str = "adam"


class OptDict(typing_extensions.TypedDict, total=False):
    lr: float


class OptModel(BaseModel):
    lr: float = Field(0.1, alias="rate")
    inner: Opt = Field(default_factory=Opt)
    inners: list[OptDict] = Field(default_factory=list)


class Renaming(BaseModel):
    lr: float = 0.1

    @model_validator(mode="before")
    @classmethod
    def rename(cls, values: Any) -> Any:
        return {"lr": values["old_lr"]} if "old_lr" in values else values


class Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore")
    lr: float = 0.1


@dataclasses.dataclass
class Deep:
    opt: Opt = dataclasses.field(default_factory=Opt)
    many: list[Opt] = dataclasses.field(default_factory=list)
    named: dict[str, OptModel] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Holder:
    act: Activation | None = None
    lr: float = 0.1


@dataclasses.dataclass
class Hidden:
    price: "Decimal"


class OldDict(typing.TypedDict):
    lr: float


@process
def texts(
    rev: str = "",
    maybe: str | None = "x",
    either: int | str = 0,
    names: list[str] = [],  # noqa: B006
    path: Path = Path("p"),
    word: Literal["1", "1.10", "x"] = "x",
    anything: Any = None,
    bare="main",
    flag=False,
    number=1,
    k: int | None = 3,
    many: list[int | None] = [],  # noqa: B006
    size: int = 1,
    items: list[str] = [],  # noqa: B006
    table: dict[str, int] = {},  # noqa: B006
) -> None:
    pass


@process
def tables(
    opt: Opt = Opt(),  # noqa: B008
    opts: list[Opt] = [],  # noqa: B006
    model: OptModel = OptModel(),  # noqa: B008
    models: list[OptModel] = [],  # noqa: B006
    typed: OptDict = {},  # noqa: B006
    deep: Deep = Deep(),  # noqa: B008
    renaming: Renaming = Renaming(),  # noqa: B008
    lenient: Lenient = Lenient(),  # noqa: B008
    either: Opt | None = None,
    holder: Holder = Holder(),  # noqa: B008
    hidden: Hidden | None = None,
    old: OldDict | None = None,
    kind: Kind = Kind.ADAM,
    mode: Literal["train", "validate", "test"] = "train",
) -> None:
    pass


@process
def open_ended(**anything: Any) -> None:
    pass
