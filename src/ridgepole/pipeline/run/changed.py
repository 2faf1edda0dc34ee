"""Parameters that a resume has changed, and what the restored states made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ridgepole.errors import add_note_once
from ridgepole.pipeline.run.comparison import MISSING, change
from ridgepole.pipeline.spec.plan import Stateful


class ChangedParameters:
    """The changes that were allowed for this attempt.

    A component is constructed with the new value of a parameter, and then its `load_state_dict` may
    bring the old one back, as an optimiser's does with its learning rate.

    Args:
        changes: The stored and the new value by the key of the resolved description.
        warn: Warns the user.
        note: Records the values that a state brought back, by key.
    """

    def __init__(
        self,
        changes: Mapping[str, tuple[Any, Any]],
        warn: Callable[[str], None],
        note: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._changes, self._warn, self._note = changes, warn, note

    def restore(self, key: str, component: Stateful, state: Any) -> None:
        """Restore a component; tell it what has changed; and check which values are in use then.

        A component with `on_change(old, new)` is called with the values of the parameters that
        changed, by name.

        Args:
            key: The component in the resolved description, such as `permanences.net`.
            component: The component, as it was constructed.
            state: Its stored state.
        """
        prefix = f"{key}.params."
        pairs = {name.removeprefix(prefix): pair for name, pair in self._changes.items() if name.startswith(prefix)}
        if not pairs:
            component.load_state_dict(state)
            return
        fresh = dict(_leaves(component.state_dict()))
        try:
            component.load_state_dict(state)
        except Exception as error:
            told = ", ".join(f"{name}: {change(*pair)}" for name, pair in pairs.items())
            add_note_once(error, f"the state was stored with other parameters ({told})")
            raise
        hook = getattr(component, "on_change", None)
        if callable(hook):
            old, new = ({name: pair[i] for name, pair in pairs.items() if pair[i] is not MISSING} for i in (0, 1))
            hook(old, new)
        after = dict(_leaves(component.state_dict()))
        used: dict[str, Any] = {}
        for name, (before, now) in pairs.items():
            for path, value in fresh.items():
                left = after.get(path, MISSING)
                if _equal(value, now) and not _equal(left, now) and (_equal(left, before) or path[-1] == name):
                    used[prefix + name] = left
                    self._warn(
                        f"the state restored {key}.{name}: {left!r} is in use, not {now!r}; define on_change(old, new) "
                        f"in {type(component).__name__} to apply the change"
                    )
                    break
        if used:
            self._note(used)


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield the numbers and texts of a state with their paths; larger arrays are left out."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    elif isinstance(value, bool | int | float | str):
        yield path or ("",), value
    elif getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        yield path or ("",), value.item()


def _equal(value: Any, other: Any) -> bool:
    return type(value) is type(other) and bool(value == other)
