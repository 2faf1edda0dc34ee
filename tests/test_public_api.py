"""Every name, argument and default of the reference page exists where it says."""

import inspect

import pytest

import ridgepole
import ridgepole.permanences as permanences
from ridgepole import Permanence, PipelineProcess

HOOKS = ["checkpoint", "get_state", "initialize", "validate", "cleanup", "is_initialized"]

SURFACE = {
    "BaseLoggerManager": [*HOOKS, "log_figure", "log_metrics", "log_seaborn_graph", "run_sweep", "supports_sweep"],
    "BasicLogger": [
        *HOOKS,
        "log_figure",
        "log_metrics",
        "log_seaborn_graph",
        "run_sweep",
        "supports_sweep",
        "debug",
        "warning",
        "error",
    ],
    "TensorBoardLogger": [
        *HOOKS,
        "log_figure",
        "log_metrics",
        "log_seaborn_graph",
        "run_sweep",
        "supports_sweep",
    ],
    "WandBLogger": [*HOOKS, "log_figure", "log_metrics", "log_seaborn_graph", "run_sweep", "supports_sweep"],
    "Device": [*HOOKS, "_calculate_best_device"],
    "NullProgressManager": [*HOOKS],
    "ProgressManager": [
        *HOOKS,
        "_create_progress",
        "_init_live",
        "add_progress",
        "add_progresses",
        "add_task_to_progress",
        "advance",
        "init_live",
        "progress_task",
        "update",
    ],
}

SIGNATURES = {
    ("BaseLoggerManager", "log_figure"): {"name": ..., "figure": ...},
    ("BaseLoggerManager", "log_metrics"): {"metrics": ...},
    ("BaseLoggerManager", "log_seaborn_graph"): {"name": ..., "data": ..., "x": None, "y": None, "kind": "line"},
    ("BasicLogger", "log_seaborn_graph"): {"name": ..., "data": ..., "x": None, "y": None, "kind": "line"},
    ("TensorBoardLogger", "log_seaborn_graph"): {"name": ..., "data": ..., "x": None, "y": None, "kind": "line"},
    ("WandBLogger", "log_seaborn_graph"): {"name": ..., "data": ..., "x": None, "y": None, "kind": "line"},
    ("BaseLoggerManager", "run_sweep"): {"run_once": ..., "sweep_config": ...},
    ("ProgressManager", "__init__"): {"console": None, "direct": False},
    ("ProgressManager", "add_progress"): {"name": ..., "with_status": False},
    ("ProgressManager", "add_progresses"): {"progresses": ...},
    ("ProgressManager", "add_task_to_progress"): {
        "task_description": ...,
        "total": ...,
        "visible": False,
        "progress_name": None,
    },
    ("ProgressManager", "progress_task"): {"task_name": ..., "visible": True},
    ("ProgressManager", "update"): {"progress_name": ..., "task_id": ..., "status": "", "advance": False},
    ("Device", "__init__"): {},
}

ABSTRACT = {"BaseLoggerManager": {"log_figure", "log_metrics"}}


@pytest.mark.parametrize(
    ("name", "member"), [(name, member) for name, members in SURFACE.items() for member in members]
)
def test_member_exists(name, member):
    assert callable(getattr(getattr(permanences, name), member)), f"{name}.{member} is missing"


@pytest.mark.parametrize(("name", "member"), SIGNATURES)
def test_arguments_and_defaults(name, member):
    """The page's arguments come first, by its names and with its defaults; what we add is optional."""
    listed = list(inspect.signature(getattr(getattr(permanences, name), member)).parameters.values())[1:]
    wanted = SIGNATURES[name, member]
    first = [p for p in listed if p.kind in (p.POSITIONAL_OR_KEYWORD, p.POSITIONAL_ONLY)][: len(wanted)]
    assert [p.name for p in first] == list(wanted)
    for parameter in first:
        default = ... if parameter.default is parameter.empty else parameter.default
        assert default == wanted[parameter.name], f"{name}.{member}({parameter.name}=...)"
    extra = [p for p in listed if p not in first and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    assert all(p.default is not p.empty for p in extra), f"{name}.{member} demands more than the page says"


@pytest.mark.parametrize("name", SURFACE)
def test_bases(name):
    cls = getattr(permanences, name)
    assert issubclass(cls, Permanence)
    if "Logger" in name:
        assert issubclass(cls, permanences.BaseLoggerManager)


@pytest.mark.parametrize("name", ABSTRACT)
def test_what_is_abstract(name):
    assert ABSTRACT[name] <= getattr(permanences, name).__abstractmethods__


def test_permanence_demands_cleanup_alone():
    assert Permanence.__abstractmethods__ == {"cleanup"}
    assert PipelineProcess.__abstractmethods__ == {"execute"}


@pytest.mark.parametrize("module", [ridgepole, permanences], ids=["ridgepole", "ridgepole.permanences"])
def test_all_names_resolve(module):
    missing = [name for name in module.__all__ if getattr(module, name, None) is None]
    assert not missing
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = module.no_such_name


@pytest.mark.parametrize("name", [*ridgepole.__all__, *(f"permanences.{name}" for name in permanences.__all__)])
def test_public_names_have_docstrings(name):
    value = ridgepole
    for part in name.split("."):
        value = getattr(value, part)
    assert inspect.getdoc(value)
