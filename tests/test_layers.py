"""The structure of the source: imports point down, without circles, and nothing happens at import.

The order of the rooms stands in the import contracts of `pyproject.toml`, which `make lint` checks
with `lint-imports`. Here is what these contracts miss.
"""

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

SOURCE = Path(__file__).parents[1] / "src" / "ridgepole"
MODULES = sorted(path for path in SOURCE.rglob("*.py") if "templates" not in path.parts)

PEERS = ("accelerate", "transformers")
"""Frameworks that the development environment may lack."""

PROBE = """
import importlib, sys
from pathlib import Path

source, names = sys.argv[1], sys.argv[2:]
effects = {"open", "socket.__new__", "subprocess.Popen", "os.mkdir", "os.rename", "os.remove", "os.rmdir",
           "os.putenv", "os.fork", "signal.signal", "_thread.start_new_thread", "os.system", "ctypes.dlopen"}

def hook(event, _):
    if event not in effects:
        return
    frame = sys._getframe(1)
    while frame is not None and "importlib" not in frame.f_code.co_filename:
        if frame.f_code.co_filename.startswith(source):
            print(f"{event} at {frame.f_code.co_filename}:{frame.f_lineno}")
            return
        frame = frame.f_back

sys.addaudithook(hook)
for name in names:
    importlib.import_module(name)
"""


def dotted(path: Path, root: Path = SOURCE.parent) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def effects_of_importing(source: Path, names: list[str]) -> list[str]:
    """Import modules in a fresh interpreter; return what they did beyond defining names."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(source), *names],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=source.parent,
        env=os.environ | {"KERAS_BACKEND": "torch"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_no_package_imports_a_child_that_imports_the_package():
    """A circle between a package's `__init__` and its own child, which a contract of layers misses."""
    graph = grimp.build_graph("ridgepole", exclude_type_checking_imports=True, cache_dir=None)
    packages = [dotted(path) for path in MODULES if path.name == "__init__.py"]
    circles = [
        (package, child)
        for package in packages
        for child in graph.find_modules_directly_imported_by(package)
        if child.startswith(f"{package}.") and package in graph.find_upstream_modules(child)
    ]
    assert not circles


def test_imports_are_written_in_full():
    relative = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not relative


def test_nothing_happens_at_import():
    absent = {f"ridgepole.integrations.{name}" for name in PEERS if importlib.util.find_spec(name) is None}
    names = [name for path in MODULES if path.name != "__main__.py" and (name := dotted(path)) not in absent]
    assert len(names) > 200
    assert effects_of_importing(SOURCE, names) == []


@pytest.mark.parametrize(
    ("text", "event"),
    [
        ("open(__file__).close()\n", "open"),
        ("def make():\n    import socket\n    return socket.socket()\nmake().close()\n", "socket.__new__"),
        ("import os\nVALUE = os.environ.setdefault('RIDGEPOLE_PROBE', '1')\n", "os.putenv"),
    ],
)
def test_the_check_sees_what_a_module_does(tmp_path, text, event):
    (tmp_path / "loud").mkdir()
    (tmp_path / "loud" / "__init__.py").write_text(text)
    (found,) = effects_of_importing(tmp_path / "loud", ["loud"])
    assert found.startswith(f"{event} at ")
