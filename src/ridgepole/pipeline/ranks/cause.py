"""Why all ranks of a run have to stop."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ridgepole.errors import RankError, StopRequested, text_of
from ridgepole.pipeline.signals import EXIT_CODES

LOST = "ended without a word, as by kill -9, a crash or os._exit"
"""What is said of a rank whose connection has closed."""

_LONGEST = 2000


@dataclass(frozen=True, slots=True)
class Cause:
    """The first thing that went wrong, or a stop that can't wait for a step.

    Attributes:
        rank: Where.
        text: What happened there.
        code: What the other ranks exit with.
        signal: The signal that stops the run at once; empty for a failure.
        lost: Whether the rank is gone and has said nothing.
    """

    rank: int
    text: str
    code: int = 1
    signal: str = ""
    lost: bool = False

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    def error(self) -> BaseException:
        """What the run fails with on the other ranks."""
        if self.signal:
            return stop_of(self.signal)
        return RankError(f"rank {self.rank} {'' if self.lost else 'failed: '}{self.text}", self.rank, self.code)


class RankStop(KeyboardInterrupt):
    """Gets a rank out of what it does when another one has failed; no user code takes it for an error of its own.

    Attributes:
        cause: Why.
    """

    def __init__(self, cause: Cause) -> None:
        super().__init__(f"rank {cause.rank} {cause.text}")
        self.cause = cause


def cause_of(error: BaseException, rank: int) -> Cause:
    """The cause that an error of one rank is for the others."""
    if isinstance(error, KeyboardInterrupt):
        return Cause(rank, "was stopped", signal=signal_of(error))
    return Cause(rank, f"{type(error).__name__}: {text_of(error)}"[:_LONGEST])


def signal_of(stop: BaseException) -> str:
    """The signal behind a stop."""
    return stop.signal_name if isinstance(stop, StopRequested) else "SIGINT"


def stop_of(signal: str) -> KeyboardInterrupt:
    """The stop that a signal asks for."""
    return KeyboardInterrupt() if signal == "SIGINT" else StopRequested(signal, EXIT_CODES[signal])
