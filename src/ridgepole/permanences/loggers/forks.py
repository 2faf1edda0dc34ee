"""What a logger's files must know of forks."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class ForkAware(Protocol):
    """What is told of forks."""

    def before_fork(self) -> None:
        """Waits for what is half-done, so that the child gets whole state."""
        ...

    def after_fork_in_parent(self) -> None:
        """Goes on."""
        ...

    def after_fork_in_child(self) -> None:
        """Lets go of what belongs to the parent."""
        ...


def watch_forks(aware: ForkAware) -> None:
    """Has an object told of forks. The hooks can't be taken back, so they hold it weakly."""
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
