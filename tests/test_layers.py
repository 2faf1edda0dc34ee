"""The direction of imports: a module imports only from layers above it."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "ridgepole"

LAYERS = [
    "errors",
    "files",
    "lazy",
    "launch",
    "threads",
    "ticks",
    "permanence",
    "loading",
    "processes",
    "rundir",
    "metrics",
    "registry",
    "config",
    "permanences",
    "export",
    "checkpoint",
    "pipeline",
    "sweeps",
    "cli",
]
FREE = {"__init__", "__main__", "testing"}  # the public names, the entry, and what is made for tests

MODULES = sorted(path for path in SOURCE.rglob("*.py") if "templates" not in path.parts)


def layer_of(dotted: str) -> str:
    """`ridgepole.config.reader` belongs to `config`."""
    return dotted.split(".")[1] if "." in dotted else "__init__"


def imported_layers(path: Path) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names if alias.name.split(".")[0] == "ridgepole"]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write imports in full, not relative"
            if node.module == "ridgepole":
                found += [(node.lineno, f"ridgepole.{alias.name}") for alias in node.names]
            elif node.module and node.module.startswith("ridgepole."):
                found.append((node.lineno, node.module))
    return [(line, layer_of(name)) for line, name in found]


def test_every_module_stands_in_a_layer():
    homes = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in MODULES}
    assert homes <= {*LAYERS, *FREE}, f"not in the list of layers: {homes - {*LAYERS, *FREE}}"
    assert len(MODULES) > 20


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_up(path):
    here = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if here in FREE:
        return
    for line, layer in imported_layers(path):
        if layer in {"__version__", "__init__"}:
            continue
        if layer in LAYERS:
            assert LAYERS.index(layer) <= LAYERS.index(here), (
                f"{path.relative_to(SOURCE)}:{line}: {here} imports {layer}, which stands below it"
            )


def test_the_check_sees_a_wrong_direction(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text("def f():\n    from ridgepole.cli import main\n")
    assert imported_layers(wrong) == [(2, "cli")]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_happens_at_import(path):
    """Module level holds definitions; a call there may only build a constant."""
    allowed = (
        ast.Import,
        ast.ImportFrom,
        ast.FunctionDef,
        ast.ClassDef,
        ast.Assign,
        ast.AnnAssign,
        ast.AugAssign,
        ast.If,
    )
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_entry = path.name == "__main__.py" and isinstance(node, ast.Expr)
        assert is_docstring or is_entry or isinstance(node, allowed), (
            f"{path.relative_to(SOURCE)}:{node.lineno}: {type(node).__name__} at module level"
        )
