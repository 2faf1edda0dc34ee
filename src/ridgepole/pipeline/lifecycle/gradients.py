"""Notice gradients that a training keeps from one step to the next, which no checkpoint holds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

STEPS = 16
"""The number of steps that are watched at the beginning of a process."""


class GradientWatch:
    """Compares the gradient of one parameter of each module at the end of each step.

    If exactly one thing happens to a gradient within the next step, it is added to: it was neither
    dropped nor set to zero in between. Nothing is computed on a device except for a single
    comparison with zero.

    Args:
        owners: The permanences and the process, by name; their attributes are looked at.
        warn: Warns the user.
    """

    def __init__(self, owners: Mapping[str, object], warn: Callable[[str], None]) -> None:
        self._owners, self._warn = owners, warn
        self._before: list[tuple[str, Any, int]] = []

    def look(self) -> bool:
        """Look at the end of a step; return whether it is worth to look again."""
        torch = sys.modules.get("torch")
        if torch is None or not hasattr(torch, "nn"):
            return True
        for name, gradient, version in self._before:
            if gradient._version == version + 1 and bool(gradient.count_nonzero()):  # noqa: SLF001 - no public name
                self._warn(
                    f"{name} keeps gradients from one step to the next, and no checkpoint holds them: a resume "
                    "within such a window trains otherwise; tick at its end, as track(..., tick=4) does"
                )
                return False
        found = ((name, parameter.grad) for name, parameter in self._parameters(torch))
        self._before = [(name, gradient, int(gradient._version)) for name, gradient in found]  # noqa: SLF001
        return True

    def _parameters(self, torch: Any) -> Iterator[tuple[str, Any]]:
        """Yield the smallest trained parameter of each module and optimiser."""
        for name, owner in self._owners.items():
            for value in list(getattr(owner, "__dict__", {}).values()):
                found: Iterable[Any] = ()
                if isinstance(value, torch.nn.Module):
                    found = value.parameters()
                elif isinstance(value, torch.optim.Optimizer):
                    found = (each for group in value.param_groups for each in group["params"])
                with_gradient = [each for each in found if each.grad is not None]
                if with_gradient:
                    yield name, min(with_gradient, key=lambda each: int(each.numel()))
