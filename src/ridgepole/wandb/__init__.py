"""A drop-in for W&B's client: `import ridgepole.wandb as wandb`.

What a script logs with it is in the local record of its run. Nothing is sent: `ridgepole export RUN
--to wandb` does that. What Ridgepole can't keep warns once, and raises where leaving it out would
falsify the run.
"""

from __future__ import annotations

from typing import Any

from ridgepole.lazy import exports

_lazy, _names, _exported = exports(
    __name__,
    {
        "ridgepole.errors": ("TrackerError",),
        "ridgepole.wandb.api": (
            *("Api", "agent", "alert", "controller", "define_metric", "finish", "init", "join", "log"),
            *("link_artifact", "link_model", "log_artifact", "log_code", "log_model", "login", "mark_preempting"),
            *("restore", "save", "setup", "sweep", "teardown", "termlog", "termwarn", "termerror", "unwatch"),
            *("use_artifact", "use_model", "watch", "AlertLevel", "Error", "UsageError", "CommError"),
        ),
        "ridgepole.wandb.artifact": ("Artifact", "ArtifactTTL"),
        "ridgepole.wandb.media": (
            *("Audio", "EvalTable", "Graph", "Histogram", "Html", "Image", "Molecule", "Object3D", "Plotly"),
            *("Table", "Video", "box3d"),
        ),
        "ridgepole.wandb.plot": ("plot_table",),
        "ridgepole.wandb.logged_run": ("Run", "Settings"),
    },
)
__version__ = "0.31.0"
"""The version of W&B's client whose calls are known here; scripts compare it."""

__all__ = [*_exported, "config", "plot", "run", "summary"]  # noqa: PLE0604 - names of `exports`


def __getattr__(name: str) -> Any:
    """Return a name of W&B's client; `run`, `config` and `summary` are those of the open run."""
    if name in ("run", "config", "summary"):
        from ridgepole.wandb import api

        return getattr(api, f"open_{name}")()
    if name == "plot":
        import importlib

        return importlib.import_module("ridgepole.wandb.plot")
    return _lazy(name)


def __dir__() -> list[str]:
    return sorted({*_names(), "config", "plot", "run", "summary"})
