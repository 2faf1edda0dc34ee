"""Log histograms of a network's gradients and parameters, as `watch` of W&B does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


class Watch:
    """Hooks on the parameters of networks.

    Args:
        models: The networks.
        log: `"gradients"`, `"parameters"` or `"all"`.
        every: Log at each of so many batches.
        emit: Takes the values by name.
        first: The number of the first network, which tells several apart.
    """

    def __init__(
        self, models: Sequence[Any], log: str, every: int, emit: Callable[[str, Any], object], first: int = 0
    ) -> None:
        self._every, self._emit = max(every, 1), emit
        self._hooks: list[Any] = []
        for at, model in enumerate(models, first):
            prefix = f"graph_{at}" if at else ""
            for name, parameter in model.named_parameters():
                if log in ("gradients", "all") and parameter.requires_grad:
                    self._hooks.append(parameter.register_hook(self._gradient(f"gradients/{prefix}{name}")))
            if log in ("parameters", "all"):
                self._hooks.append(model.register_forward_hook(self._parameters(prefix)))

    def _gradient(self, name: str) -> Callable[[Any], None]:
        count = 0

        def hook(gradient: Any) -> None:
            nonlocal count
            count += 1
            if (count - 1) % self._every == 0:
                self._emit(name, gradient.detach())

        return hook

    def _parameters(self, prefix: str) -> Callable[[Any, Any, Any], None]:
        count = 0

        def hook(model: Any, _: Any, __: Any) -> None:
            nonlocal count
            count += 1
            if (count - 1) % self._every == 0:
                for name, parameter in model.named_parameters():
                    self._emit(f"parameters/{prefix}{name}", parameter.detach())

        return hook

    def close(self) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
