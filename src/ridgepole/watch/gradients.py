"""Measure a model while it trains: norms and histograms of gradients, parameters and updates.

Between two measured steps nothing is computed and no device is waited for.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ridgepole.errors import MissingExtraError

if TYPE_CHECKING:
    import torch

BINS = 30

Histograms = Mapping[str, tuple[Sequence[int], Sequence[float]]]
"""Counts and edges by name."""
Measured = Callable[[Mapping[str, float], Histograms], object]
"""Takes norms and histograms by name."""


def watched_model(model: object, every: object, measured: Measured, *, histograms: bool = True) -> ModelWatch:
    """Begin to measure a model.

    Raises:
        TypeError: If the model is not a `torch.nn.Module`.
        ValueError: If `every` is not a whole number of at least 1.
        MissingExtraError: If torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("torch", "torch", "watch") from error
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"watch takes a torch.nn.Module, not {type(model).__name__}")
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ValueError(f"watch: every must be a number of steps of at least 1, not {every!r}")
    return ModelWatch(model, every, measured, histograms=histograms)


class ModelWatch:
    """Measures a model at some steps of its optimiser.

    Args:
        model: The model.
        every: Steps of the optimiser between two measured ones; the first one is measured.
        histograms: Whether to make histograms too.
        measured: Called with what was measured, right after the step.

    Attributes:
        steps: Steps that an optimiser of the model has made.
    """

    def __init__(self, model: torch.nn.Module, every: int, measured: Measured, *, histograms: bool = True) -> None:
        from torch.optim import optimizer

        self.steps = 0
        self._model, self._every = weakref.ref(model), every
        self._histograms, self._measured = histograms, measured
        self._before: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        self._hooks = [
            optimizer.register_optimizer_step_pre_hook(_weak(self, "_before_step")),
            optimizer.register_optimizer_step_post_hook(_weak(self, "_after_step")),
        ]

    def close(self) -> None:
        """End the measurements."""
        for hook in self._hooks:
            hook.remove()
        self._before = {}

    def _before_step(self, optimizer: torch.optim.Optimizer) -> None:
        self._before = {}
        parameters = self._parameters(optimizer)
        if not parameters:
            return
        self.steps += 1
        if (self.steps - 1) % self._every:
            return
        scale = getattr(optimizer, "grad_scale", None)  # of a fused optimiser under a GradScaler
        for name, parameter in parameters:
            if parameter.grad is None:
                continue
            gradient = _plain(parameter.grad).float()
            self._before[name] = (gradient if scale is None else gradient / scale, _plain(parameter).float().clone())

    def _after_step(self, optimizer: torch.optim.Optimizer) -> None:
        before, self._before = self._before, {}
        if not before:
            return
        tensors: dict[str, torch.Tensor] = {}
        for name, parameter in self._parameters(optimizer):
            if name in before:
                gradient, old = before[name]
                new = _plain(parameter).float()
                tensors |= {f"gradients/{name}": gradient, f"parameters/{name}": new, f"updates/{name}": new - old}
        self._measured(norms(tensors), histograms(tensors) if self._histograms else {})

    def _parameters(self, optimizer: torch.optim.Optimizer) -> list[tuple[str, torch.nn.Parameter]]:
        """Return the model's parameters that the optimiser updates, by name."""
        model = self._model()
        if model is None:
            return []
        mine = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        return [(name, parameter) for name, parameter in model.named_parameters() if id(parameter) in mine]


def _weak(watch: ModelWatch, method: str) -> Callable[..., None]:
    """Return a hook that does not keep the watch alive; torch keeps it for the whole process."""
    reference = weakref.ref(watch)

    def hook(optimizer: torch.optim.Optimizer, _arguments: object, _named: object) -> None:
        watch = reference()
        if watch is not None:
            getattr(watch, method)(optimizer)

    return hook


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """Return the values of a tensor that this rank has, as a dense one of real numbers."""
    import torch

    values: Any = tensor.detach()
    if hasattr(values, "to_local"):  # a DTensor: the shard of this rank
        values = values.to_local()
    if values.is_sparse:
        values = values.coalesce().values()
    return torch.view_as_real(values) if values.is_complex() else values


def norms(tensors: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return the 2-norm of each tensor and of each kind, with one wait for the device."""
    values = dict(zip(tensors, _numbers(tensor.norm() for tensor in tensors.values()), strict=True))
    kinds: dict[str, float] = {}
    for name, value in values.items():
        kind = name.partition("/")[0]
        kinds[kind] = kinds.get(kind, 0.0) + value**2
    whole = {f"model/{kind}_norm": square**0.5 for kind, square in kinds.items()}
    if whole.get("model/parameters_norm"):
        whole["model/update_ratio"] = whole["model/updates_norm"] / whole["model/parameters_norm"]
    return whole | {f"{name}/norm": value for name, value in values.items()}


def histograms(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[list[int], list[float]]]:
    """Return counts and edges of each tensor's finite values, with two waits for the device."""
    import torch

    named = {name: tensor.flatten() for name, tensor in tensors.items() if tensor.numel()}
    limits = _numbers(limit for tensor in named.values() for limit in tensor.nan_to_num(0.0, 0.0, 0.0).aminmax())
    counts: list[torch.Tensor] = []
    edges: list[list[float]] = []
    for place, tensor in enumerate(named.values()):
        low, high = limits[2 * place], limits[2 * place + 1]
        if high <= low:
            pad = abs(low) * 1e-3 or 1e-3
            low, high = low - pad, high + pad
        counts.append(torch.histc(tensor, BINS, low, high))  # which leaves out what is not finite
        edges.append([low + (high - low) * each / BINS for each in range(BINS + 1)])
    flat = _numbers(count for each in counts for count in each)
    return {
        name: ([int(count) for count in flat[place * BINS : (place + 1) * BINS]], edges[place])
        for place, name in enumerate(named)
    }


def _numbers(scalars: Iterable[torch.Tensor]) -> list[float]:
    """Fetch scalars, those of a device in one go."""
    import torch

    found = list(scalars)
    with contextlib.suppress(RuntimeError):  # of several devices
        return list(map(float, torch.stack(found).tolist())) if found else []
    return list(map(float, _each(found)))


def _each(scalars: Iterable[torch.Tensor]) -> Iterator[float]:
    for scalar in scalars:
        yield float(scalar)
