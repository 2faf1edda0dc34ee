"""Every error that Ridgepole raises on purpose.

```
RidgepoleError
├── ConfigError                  the pipeline's description is wrong; `.problems` lists every place
├── LifecycleError               an illegal move, such as initialising twice        (RuntimeError)
├── ValidationFailed             several permanences failed `validate`              (ExceptionGroup)
├── MissingExtraError            an optional package is not installed               (ImportError)
├── PermanenceNotFoundError      nothing of that name or type was declared          (LookupError)
├── RunDirError                  a run directory can't be made, found or read       (OSError)
├── LogWriteError                a record did not reach the operating system        (OSError)
├── CheckpointError              a checkpoint can't be written, found or read       (OSError)
├── StateError                   a state holds what a checkpoint can't store        (TypeError)
├── RankError                    another process of a distributed run failed        (RuntimeError)
├── TrackerError                 a tracking server, or its client, can't be used     (ConnectionError)
├── ProgressNoMatch              no bar fits a decorated function's name            (RuntimeError)
├── DeviceUnavailableError       a device is there, or was, but can't be used       (RuntimeError)
└── VRAMUsageError               every device is too full; `.devices` has the table (RuntimeError)
    └── DeviceWaitTimeout        ... and stayed so for as long as `wait` allowed    (TimeoutError)

KeyboardInterrupt
└── StopRequested                a signal asked the run to stop at a tick
```
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal


class RidgepoleError(Exception):
    """Root of all errors that Ridgepole raises on purpose."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a text that the user wrote.

    Attributes:
        file: The file's path as the user would type it, or a name such as `-s` for the command line.
        line: Line, counted from 1; 0 where the place is the file as a whole.
        column: Column in characters, counted from 1.
        text: The whole line, without its line break.
        width: How many characters the caret line marks, at least 1.
    """

    file: str
    line: int = 0
    column: int = 1
    text: str = ""
    width: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or doubtful, in a pipeline's description.

    Attributes:
        message: What is wrong, in one sentence without a full stop.
        place: Where it stands; None where no place can be named.
        hint: What to do about it, such as "did you mean 'width'?".
        detail: More lines to show below, such as the traceback of a user module that failed to import.
        severity: An `"error"` stops the run; a `"warning"` is only shown; a `"note"` is no problem, and shown by
            `ridgepole check` alone.
    """

    message: str
    place: Place | None = None
    hint: str = ""
    detail: str = ""
    severity: Literal["error", "warning", "note"] = "error"

    def render(self) -> str:
        """The problem as a compiler would print it: place, message, the line, a caret, the hint."""
        head = f"{self.place}: " if self.place else ""
        lines = [f"{head}{self.severity}: {self.message}"]
        if self.place and self.place.line:
            number = f"{self.place.line:>5}"
            # A tab keeps its width in the caret line only if it stands there as a tab too.
            shown, start = _window(self.place.text, self.place.column - 1)
            pad = "".join("\t" if char == "\t" else " " * _cells(char) for char in shown[:start])
            caret = "^" * max(1, sum(map(_cells, shown[start : start + self.place.width])))
            lines.append(f"{number} | {shown}")
            lines.append(f"      | {pad}{caret}{' ' + self.hint if self.hint else ''}")
        elif self.hint:
            lines.append(f"      = {self.hint}")
        lines.extend(f"      {line}" for line in self.detail.splitlines())
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """The problem as plain JSON values, for `ridgepole check --json`."""
        place = self.place
        return {
            "severity": self.severity,
            "message": self.message,
            "file": place.file if place else None,
            "line": place.line if place else None,
            "column": place.column if place else None,
            "hint": self.hint,
            "detail": self.detail,
        }


def _cells(char: str) -> int:
    """How many columns of a terminal a character takes (Unicode Standard Annex 11)."""
    import unicodedata

    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _window(text: str, start: int, width: int = 160) -> tuple[str, int]:
    """Cuts a very long line to the part around `start`, so that an error never floods the terminal."""
    if len(text) <= width:
        return text, min(start, len(text))
    begin = max(0, min(start - width // 3, len(text) - width))
    head, tail = ("…" if begin else ""), ("…" if begin + width < len(text) else "")
    return f"{head}{text[begin : begin + width]}{tail}", start - begin + len(head)


class ConfigError(RidgepoleError):
    """The description of a pipeline is wrong. Holds every problem found, not only the first.

    Attributes:
        problems: All problems, warnings included, in the order of their places.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(problem.render() for problem in self.problems))


class LifecycleError(RidgepoleError, RuntimeError):
    """A permanence was asked for a move that its state does not allow."""


class ValidationFailed(RidgepoleError, ExceptionGroup[Exception]):  # noqa: N818 - reads as what happened
    """Several permanences failed `validate`; one failure alone is raised as it is."""

    def derive(self, errors: Sequence[Exception]) -> ValidationFailed:  # type: ignore[override]
        """A part of the group, as `split` and `except*` make it."""
        return ValidationFailed(self.message, errors)


class MissingExtraError(RidgepoleError, ImportError):
    """An optional package is not installed.

    Args:
        package: What could not be imported.
        extra: The extra of Ridgepole that brings it.
        wanted_by: What needs it, such as `"TensorBoardLogger"`.
    """

    def __init__(self, package: str, extra: str, wanted_by: str) -> None:
        super().__init__(f"{wanted_by} needs {package}, which is not installed: pip install 'ridgepole[{extra}]'")
        self.package = package
        self.extra = extra


class PermanenceNotFoundError(RidgepoleError, LookupError):
    """A process or permanence asked for a permanence that this run does not have."""


class RunDirError(RidgepoleError, OSError):
    """A run directory can't be made, found, read, or is written by a newer Ridgepole."""


class LogWriteError(RidgepoleError, OSError):
    """A record did not reach the operating system; the logger's step has not moved."""


class CheckpointError(RidgepoleError, OSError):
    """A checkpoint can't be written, found or read: a full disk, damage, a newer format, an unknown name.

    `errno` is set where the operating system gave the reason. The checkpoints that were there before are untouched.
    """


class StateError(RidgepoleError, TypeError):
    """A state holds a value that a checkpoint can't store.

    Args:
        path: Where the value stands, such as `permanences.network['optimiser']['state'][0]`.
        what: What stands there, such as `a torch.Generator`.
        advice: What to do about it, such as `store its .get_state()`.
    """

    def __init__(self, path: str, what: str, advice: str) -> None:
        super().__init__(f"{path} is {what}, which a checkpoint can't store: {advice}")
        self.path, self.what, self.advice = path, what, advice

    def __reduce__(self) -> tuple[type[StateError], tuple[str, str, str]]:
        return StateError, (self.path, self.what, self.advice)


class RankError(RidgepoleError, RuntimeError):
    """Another process of a distributed run failed, ended without a word, or did not come.

    Args:
        message: What happened, and on which rank.
        rank: That rank; None where it is not known.
        exit_code: What this process exits with.
    """

    def __init__(self, message: str, rank: int | None = None, exit_code: int = 1) -> None:
        super().__init__(message)
        self.rank = rank
        self.exit_code = exit_code


class TrackerError(RidgepoleError, ConnectionError):
    """The server of a tracker such as W&B, or the client that talks to it, can't be used."""


class ProgressNoMatch(RidgepoleError, RuntimeError):  # noqa: N818 - the name is part of the public interface
    """No progress bar fits the name that a decorated function was given."""


class DeviceUnavailableError(RidgepoleError, RuntimeError):
    """A device is there, or was, and can't be used, and waiting will not help.

    Such as: a driver that doesn't match, a card that was lost, hidden or left out, memory that no card has.
    """


class VRAMUsageError(RidgepoleError, RuntimeError):
    """Every device is used by more than the permitted share of its memory.

    Attributes:
        devices: What was seen of every device, one mapping each, as in `Device.get_state()`.
    """

    def __init__(self, message: str, devices: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(message)
        self.devices: list[dict[str, Any]] = list(devices)


class DeviceWaitTimeout(VRAMUsageError, TimeoutError):  # noqa: N818 - the name is part of the public interface
    """No device became free within the time that `wait` allowed."""


class StopRequested(KeyboardInterrupt):
    """A signal other than Ctrl-C asked the run to stop; Ctrl-C itself comes out as a plain KeyboardInterrupt.

    Attributes:
        signal_name: Such as `"SIGTERM"`.
        exit_code: 143 for SIGTERM, 129 for SIGHUP, 75 for SIGUSR1.
    """

    def __init__(self, signal_name: str, exit_code: int) -> None:
        super().__init__(f"stopped by {signal_name}")
        self.signal_name = signal_name
        self.exit_code = exit_code


class TrialPruned(KeyboardInterrupt):
    """A sweep's pruner asked this trial to stop; it comes out of a tick, and the run ends as `pruned`."""


class SweepError(RidgepoleError, RuntimeError):
    """A sweep can't be started, found or go on, or stopped before its end.

    Attributes:
        result: What there is of it, a `SweepResult`; None where it never began.
    """

    def __init__(self, message: str, result: object = None) -> None:
        super().__init__(message)
        self.result = result


def join_errors(errors: Sequence[BaseException], message: str) -> BaseException:
    """One error for several: itself where it is alone, else a group with the first cause first.

    Args:
        errors: At least one error, in the order in which they happened.
        message: What the group says of itself.

    Returns:
        The only error unchanged, an `ExceptionGroup` where every member is an `Exception`,
        else a `BaseExceptionGroup`.
    """
    if len(errors) == 1:
        return errors[0]
    return BaseExceptionGroup(message, list(errors))


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """A hint that names the nearest candidates, or an empty text where none is near."""
    import difflib

    names = sorted(set(candidates))
    near = difflib.get_close_matches(word, names, n=3, cutoff=0.6)
    if not near:
        folded = {name.casefold(): name for name in names}
        near = [folded[word.casefold()]] if word.casefold() in folded else []
    return f"did you mean {' or '.join(repr(name) for name in near)}?" if near else ""


def add_note_once(error: BaseException, note: str) -> None:
    """Adds a note that says where an error happened, unless the same note is there already."""
    try:
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
    except Exception:  # noqa: BLE001 - a frozen exception takes no notes, and must come out all the same
        return


def text_of(value: object) -> str:
    """`str(value)`, or the name of its type where that raises."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - whatever a user's `__str__` raises
        return f"<{type(value).__name__}>"


def user_traceback(error: BaseException) -> str:
    """The traceback of a user's error without Ridgepole's own frames and those of the import system.

    Args:
        error: What was raised; causes, contexts and members of groups are treated alike.

    Returns:
        The text that Python would print. Where nothing but Ridgepole's frames is left, only the last lines; of an error
        of Ridgepole's own that came of one in the standard library only its own message, which says what that was.
    """
    import importlib
    import os
    import traceback
    from pathlib import Path

    own = (f"{Path(__file__).parent}{os.sep}", f"{Path(importlib.__file__).parent}{os.sep}", "<frozen importlib")

    library = f"{Path(os.__file__).parent}{os.sep}"

    def strip(summary: traceback.TracebackException | None, error: BaseException | None) -> None:
        if summary is None or error is None:
            return
        kept = [f for f in summary.stack if not f.filename.startswith(own)]
        summary.stack = traceback.StackSummary.from_list(kept)
        strip(summary.__cause__, error.__cause__)
        strip(summary.__context__, error.__context__)
        for member, one in zip(summary.exceptions or (), getattr(error, "exceptions", ()), strict=False):
            strip(member, one)
        cause = summary.__cause__
        if isinstance(error, RidgepoleError) and not kept and cause is not None and is_library(cause):
            summary.__cause__ = None

    def is_library(summary: traceback.TracebackException) -> bool:
        inner = summary.__cause__ or summary.__context__
        frames = (f.filename for f in summary.stack)
        mine = all(name.startswith(library) and "site-packages" not in name for name in frames)
        return mine and (inner is None or is_library(inner))

    # compact=True keeps a cycle of contexts from being followed for ever
    summary = traceback.TracebackException.from_exception(error, compact=True)
    strip(summary, error)
    return "".join(summary.format()).rstrip()


def redact(text: str, secrets: Iterable[str]) -> str:
    """The text with every secret replaced by `***`; one of under four characters only where it is the whole text."""
    secrets = set(secrets)
    if text in secrets:
        return "***"
    for secret in sorted(secrets, key=len, reverse=True):  # a secret may be part of another
        if len(secret) >= 4:
            text = text.replace(secret, "***")
    return text
