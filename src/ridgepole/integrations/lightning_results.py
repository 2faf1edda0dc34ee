"""The running means that Lightning logs at the end of an epoch, which its checkpoints lack.

Without them, the epoch in which a run was stopped would be logged with the mean of its rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning.trainer.connectors.logger_connector.result import _Metadata, _ResultMetric, _Sync
from torchmetrics import Metric

_OPTIONS = (
    "fx", "name", "prog_bar", "logger", "on_step", "on_epoch", "enable_graph", "add_dataloader_idx", "dataloader_idx",
    "metric_attribute",
)  # fmt: skip
_TOTALS = ("value", "cumulated_batch_size")


def capture(results: Mapping[str, Any], model: torch.nn.Module) -> dict[str, Any]:
    """Return the totals of `self.log` in this epoch, and the states of the module's metrics."""
    logged = {}
    for key, result in results.items():
        if result.is_tensor and not result.has_reset:
            options = {name: getattr(result.meta, name) for name in _OPTIONS}
            totals = {name: getattr(result, name).clone() for name in _TOTALS if hasattr(result, name)}
            should, once = result.meta.sync.should, result.meta.sync.rank_zero_only
            logged[key] = {
                "options": options, "reduce": result.meta.reduce_fx.__name__, "totals": totals,
                "sync": [should, once],
            }  # fmt: skip
    metrics = {
        name: {"count": module._update_count, "state": _copied(module.metric_state)}  # noqa: SLF001
        for name, module in model.named_modules()
        if isinstance(module, Metric) and module.update_called
    }
    return {"logged": logged, "metrics": metrics}


def restore(results: dict[str, Any], model: torch.nn.Module, state: Mapping[str, Any], sync: Any) -> None:
    """Restore what `capture` has returned.

    Args:
        results: Lightning's collection of the training epoch.
        model: The module.
        state: The state.
        sync: The strategy's function that reduces values over ranks.
    """
    for key, stored in state["logged"].items():
        meta = _Metadata(**stored["options"], reduce_fx=getattr(torch, stored["reduce"]))
        should, once = stored["sync"]
        meta.sync = _Sync(_should=should, fn=sync, rank_zero_only=once)
        results[key] = result = _ResultMetric(meta, is_tensor=True)
        for name, value in stored["totals"].items():
            setattr(result, name, value)
        result._update_count = 1  # noqa: SLF001 - else torchmetrics warns that there is nothing to compute
    modules = dict(model.named_modules())
    for name, stored in state["metrics"].items():
        metric: Any = modules.get(name)
        if isinstance(metric, Metric):
            for part, value in stored["state"].items():
                setattr(metric, part, value)
            metric._update_count = stored["count"]  # noqa: SLF001


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: [each.clone() for each in value] if isinstance(value, list) else value.clone()
        for name, value in state.items()
    }
