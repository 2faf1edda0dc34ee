"""Every public error of Ridgepole, and helpers for error messages.

```
RidgepoleError
├── ConfigError              The pipeline's description is wrong; `.problems` lists every place.
├── LifecycleError           An illegal move, such as initialising twice.        (RuntimeError)
├── ValidationFailed         Several permanences failed `validate`.              (ExceptionGroup)
├── MissingExtraError        An optional package is not installed.               (ImportError)
├── PermanenceNotFoundError  No permanence has this name or type.                (LookupError)
├── RunDirError              A run directory can't be made, found or read.       (OSError)
├── LogWriteError            A record did not reach the operating system.        (OSError)
├── CheckpointError          A checkpoint can't be written, found or read.       (OSError)
├── StateError               A state holds a value that can't be stored.         (TypeError)
├── RankError                Another process of a distributed run failed.        (RuntimeError)
├── SweepError               A sweep can't start or resume, or stopped early.    (RuntimeError)
├── TrackerError             A tracking server or its client can't be used.      (ConnectionError)
├── ProgressNoMatch          No bar matches a decorated function's name.         (RuntimeError)
├── DeviceUnavailableError   A device exists but can't be used.                  (RuntimeError)
└── VRAMUsageError           Every device is too full; `.devices` has the table. (RuntimeError)
    └── DeviceWaitTimeout    No device became free within `wait`.                (TimeoutError)

KeyboardInterrupt
├── StopRequested            A signal asked the run to stop at a tick.
└── TrialPruned              A sweep's pruner asked the trial to stop at a tick.
```
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ridgepole.extras import install_command


class RidgepoleError(Exception):
    """Root of all errors of Ridgepole."""


OPTION = "-s"
"""The `file` of a `Place` in an override of the command line."""


@dataclass(frozen=True, slots=True)
class Place:
    """A location in a text that the user wrote.

    Attributes:
        file: The file's path, or a name such as `-s` for the command line.
        line: Line, counted from 1; 0 for the whole file.
        column: Column in characters, counted from 1.
        text: The whole line, without its line break.
        width: Number of characters that the caret line marks, at least 1.
    """

    file: str
    line: int = 0
    column: int = 1
    text: str = ""
    width: int = 1

    def __str__(self) -> str:
        if not self.line:
            return self.file
        return f"{OPTION} {self.text}" if self.file == OPTION else f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One error, warning or note about a pipeline's description.

    Attributes:
        message: What is wrong, in one sentence without a full stop.
        place: Its location, if known.
        hint: What to do about it, such as "did you mean 'width'?".
        detail: More lines to show below, such as the traceback of a user module.
        severity: An `"error"` stops the run; a `"warning"` is only shown.
            Only `ridgepole check` shows a `"note"`.
    """

    message: str
    place: Place | None = None
    hint: str = ""
    detail: str = ""
    severity: Literal["error", "warning", "note"] = "error"

    def render(self) -> str:
        """Format the problem as a compiler does: place, message, the line, a caret, the hint."""
        in_option = self.place is not None and self.place.file == OPTION
        head = f"{OPTION if in_option else self.place}: " if self.place else ""
        lines = [f"{head}{self.severity}: {self.message}"]
        if self.place and self.place.line:
            number = f"{OPTION if in_option else self.place.line:>5}"
            # A tab keeps its width only if the caret line has a tab, too.
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
        """Return the problem as plain JSON values, for `ridgepole check --json`."""
        where = {name: getattr(self.place, name, None) for name in ("file", "line", "column")}
        return {
            "severity": self.severity,
            "message": self.message,
            **where,
            "hint": self.hint,
            "detail": self.detail,
        }


def width_of(text: str) -> int:
    """Return the terminal columns that a text takes."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def _cells(char: str) -> int:
    """Return the terminal columns that a character takes (Unicode Standard Annex 11)."""
    import unicodedata

    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _window(text: str, start: int, width: int = 160) -> tuple[str, int]:
    """Cut a very long line to the part around `start`."""
    if len(text) <= width:
        return text, min(start, len(text))
    begin = max(0, min(start - width // 3, len(text) - width))
    head, tail = ("…" if begin else ""), ("…" if begin + width < len(text) else "")
    return f"{head}{text[begin : begin + width]}{tail}", start - begin + len(head)


class ConfigError(RidgepoleError):
    """The description of a pipeline is wrong.

    Attributes:
        problems: All problems found, warnings included, in the order of their places.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(problem.render() for problem in self.problems))


class LifecycleError(RidgepoleError, RuntimeError):
    """The state of a permanence does not allow this call."""


class ValidationFailed(RidgepoleError, ExceptionGroup[Exception]):  # noqa: N818 - reads as what happened
    """Several permanences failed `validate`; a single failure is raised unchanged."""

    def derive(self, errors: Sequence[Exception]) -> ValidationFailed:  # type: ignore[override]
        """Return a group of some of the errors, as `split` and `except*` need it."""
        return ValidationFailed(self.message, errors)


class MissingExtraError(RidgepoleError, ImportError):
    """An optional package is not installed.

    Args:
        package: The package that could not be imported.
        extra: The extra of Ridgepole that installs it.
        wanted_by: The feature that needs it, such as `"TensorBoardLogger"`.
    """

    def __init__(self, package: str, extra: str, wanted_by: str) -> None:
        super().__init__(f"{wanted_by} needs {package}, which is not installed: {install_command(extra)}")
        self.package = package
        self.extra = extra


class PermanenceNotFoundError(RidgepoleError, LookupError):
    """This run has no permanence of the requested name or type."""


class RunDirError(RidgepoleError, OSError):
    """A run directory can't be made, found or read, or a newer Ridgepole wrote it."""


class LogWriteError(RidgepoleError, OSError):
    """A record did not reach the operating system; the logger's step is unchanged."""


class CheckpointError(RidgepoleError, OSError):
    """A checkpoint can't be written, found or read.

    `errno` is set where the operating system gave the reason. Earlier checkpoints are unchanged.
    """


class StateError(RidgepoleError, TypeError):
    """A state holds a value that a checkpoint can't store.

    Args:
        path: Where the value is, such as `permanences.network['optimiser']['state'][0]`.
        what: Its kind, such as `a torch.Generator`.
        advice: What to do about it, such as `store its .get_state()`.
    """

    def __init__(self, path: str, what: str, advice: str) -> None:
        super().__init__(f"{path} is {what}, which a checkpoint can't store: {advice}")
        self.path, self.what, self.advice = path, what, advice

    def __reduce__(self) -> tuple[type[StateError], tuple[str, str, str]]:
        return StateError, (self.path, self.what, self.advice)


class RankError(RidgepoleError, RuntimeError):
    """Another process of a distributed run failed, disappeared, or did not join.

    Args:
        message: What happened, and on which rank.
        rank: The failed rank, if known.
        exit_code: The exit code of this process.
    """

    def __init__(self, message: str, rank: int | None = None, exit_code: int = 1) -> None:
        super().__init__(message)
        self.rank = rank
        self.exit_code = exit_code


class TrackerError(RidgepoleError, ConnectionError):
    """The server of a tracker such as W&B, or its client, can't be used."""


class ProgressNoMatch(RidgepoleError, RuntimeError):  # noqa: N818 - the name is part of the public interface
    """No progress bar matches the name that a decorated function was given."""


class DeviceUnavailableError(RidgepoleError, RuntimeError):
    """A device can't be used, and waiting does not help.

    Causes: a wrong driver, a lost or hidden device, more memory requested than any device has.
    """


class VRAMUsageError(RidgepoleError, RuntimeError):
    """Every device uses more than the permitted share of its memory.

    Attributes:
        devices: The state of every device, as in `Device.get_state()`.
    """

    def __init__(self, message: str, devices: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(message)
        self.devices: list[dict[str, Any]] = list(devices)


class DeviceWaitTimeout(VRAMUsageError, TimeoutError):  # noqa: N818 - the name is part of the public interface
    """No device became free within the time that `wait` allowed."""


class StopRequested(KeyboardInterrupt):
    """A signal other than Ctrl-C asked the run to stop; Ctrl-C raises a plain KeyboardInterrupt.

    Attributes:
        signal_name: The signal, such as `"SIGTERM"`.
        exit_code: 143 for SIGTERM, 129 for SIGHUP, 75 for SIGUSR1.
    """

    def __init__(self, signal_name: str, exit_code: int) -> None:
        super().__init__(f"stopped by {signal_name}")
        self.signal_name = signal_name
        self.exit_code = exit_code


class StopInFramework(SystemExit):
    """Carries a stop through a framework that itself exits on a KeyboardInterrupt.

    A run that sees it ends as if the stop had come alone.

    Attributes:
        stop: The stop.
    """

    def __init__(self, stop: KeyboardInterrupt) -> None:
        super().__init__(stop.exit_code if isinstance(stop, StopRequested) else 130)
        self.stop = stop


def stop_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """Return the stop that a framework has turned into the exit of the process, else None."""
    if isinstance(error, StopInFramework):
        return error.stop
    context = error.__context__ if isinstance(error, SystemExit) else None
    return context if isinstance(context, KeyboardInterrupt) else None


class TrialPruned(KeyboardInterrupt):
    """A sweep's pruner asked this trial to stop; a tick raises it, and the run ends as `pruned`."""


class GuardError(RidgepoleError):
    """A fault for which `[pipeline.guard]` stops the run, such as a loss that is NaN."""


class SweepError(RidgepoleError, RuntimeError):
    """A sweep can't be started, found or resumed, or it stopped before its end.

    Attributes:
        result: The partial `SweepResult`; None if the sweep never started.
    """

    def __init__(self, message: str, result: object = None) -> None:
        super().__init__(message)
        self.result = result


class ClusterError(RidgepoleError, RuntimeError):
    """A cluster can't be used or refuses a job; nothing was submitted."""


def join_errors(errors: Sequence[BaseException], message: str) -> BaseException:
    """Return the only error unchanged, or a group of several in their order."""
    if len(errors) == 1:
        return errors[0]
    return BaseExceptionGroup(message, list(errors))


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Return a hint that names the most similar candidates, or an empty text."""
    import difflib

    names = sorted(set(candidates))
    near = difflib.get_close_matches(word, names, n=3, cutoff=0.6)
    if not near:
        folded = {name.casefold(): name for name in names}
        near = [folded[word.casefold()]] if word.casefold() in folded else []
    return f"did you mean {' or '.join(repr(name) for name in near)}?" if near else ""


def add_note_once(error: BaseException, note: str) -> None:
    """Add a note to an error, unless it already has the same note."""
    try:
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
    except Exception:  # noqa: BLE001 - a frozen exception takes no notes, and must be raised all the same
        return


def text_of(value: object) -> str:
    """Return `str(value)`, or the name of its type where that raises."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - whatever a user's `__str__` raises
        return f"<{type(value).__name__}>"


def user_traceback(error: BaseException) -> str:
    """Format a user's error without the frames of Ridgepole and of the import system.

    Causes, contexts and members of groups are treated alike.
    An error of Ridgepole that wraps one of the standard library is shown without it,
    because its message says what that was.
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

    # compact=True keeps a cycle of contexts from being followed for ever.
    summary = traceback.TracebackException.from_exception(error, compact=True)
    strip(summary, error)
    return "".join(summary.format()).rstrip()


def redact(text: str, secrets: Iterable[str]) -> str:
    """Replace every secret by `***`; a secret of under four characters only as the whole text."""
    secrets = set(secrets)
    if text in secrets:
        return "***"
    for secret in sorted(secrets, key=len, reverse=True):  # a secret may be part of another
        if len(secret) >= 4:
            text = text.replace(secret, "***")
    return text
