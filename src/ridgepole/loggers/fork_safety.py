"""Fork hooks for the files of loggers."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class ForkAware(Protocol):
    """An object that follows forks of its process."""

    def before_fork(self) -> None:
        """Wait for writes in flight, so that the child inherits whole state."""
        ...

    def after_fork_in_parent(self) -> None:
        """Resume writing."""
        ...

    def after_fork_in_child(self) -> None:
        """Release what belongs to the parent."""
        ...


def watch_forks(aware: ForkAware) -> None:
    """Register an object's fork hooks for as long as the object lives."""
    reference = weakref.ref(aware)

    def call(method: str) -> None:
        alive = reference()
        if alive is not None:
            getattr(alive, method)()

    os.register_at_fork(
        before=lambda: call("before_fork"),
        after_in_parent=lambda: call("after_fork_in_parent"),
        after_in_child=lambda: call("after_fork_in_child"),
    )
