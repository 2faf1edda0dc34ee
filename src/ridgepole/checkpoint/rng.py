"""The random number generators of a run: python's, numpy's and torch's."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

MAX_SEED = 2**32 - 1
"""Largest seed: numpy's legacy generator takes 32 bits."""


def draw_seed() -> int:
    """A seed from the operating system's randomness, for a run that was given none."""
    return secrets.randbits(32)


@contextmanager
def seeded(seed: int, *, deterministic: bool = False) -> Iterator[None]:
    """Seeds python, numpy and torch, the latter two when they are imported.

    Importing torch costs seconds that a pipeline without it should not pay, and a permanence may import it only in
    its constructor; so a package that is not loaded yet is seeded at the end of its own import.

    Args:
        seed: 0 to `MAX_SEED`.
        deterministic: Ask torch for deterministic algorithms too; the setting before is restored at the end.

    Yields:
        Nothing; late imports are watched for until the block ends.
    """
    random.seed(seed)
    undo: list[Callable[[], None]] = []

    def seed_numpy(numpy: ModuleType) -> None:
        numpy.random.seed(seed)

    def seed_torch(torch: ModuleType) -> None:
        torch.manual_seed(seed)
        if deterministic:
            undo.append(_make_deterministic(torch))

    hooks: dict[str, Callable[[ModuleType], None]] = {"numpy": seed_numpy, "torch": seed_torch}
    for name in list(hooks):
        if name in sys.modules:
            hooks.pop(name)(sys.modules[name])
    finder = _AfterImport(hooks)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for restore in undo:
            restore()


def capture() -> dict[str, Any]:
    """The states of all generators that are in use: of packages that are imported, and devices that are initialised."""
    states: dict[str, Any] = {"python": random.getstate()}
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None:
        states["numpy"] = numpy.random.get_state()
    if torch is not None:
        states["torch"] = torch.get_rng_state()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def restore(states: Mapping[str, Any]) -> None:
    """Puts all generators where `capture` found them; a package that was in use then is imported.

    Args:
        states: What `capture` gave.
    """
    random.setstate(states["python"])
    if "numpy" in states:
        importlib.import_module("numpy").random.set_state(states["numpy"])
    if "torch" in states:
        torch = importlib.import_module("torch")
        torch.set_rng_state(states["torch"])
        if "cuda" in states and torch.cuda.is_available():
            for index, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
                torch.cuda.set_rng_state(state, index)


def _make_deterministic(torch: ModuleType) -> Callable[[], None]:
    """Asks torch for deterministic algorithms and returns what restores its settings."""
    # cuBLAS reads this when its first handle is made (NVIDIA cuBLAS documentation, "Results reproducibility").
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False

    def restore() -> None:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]

    return restore


class _AfterImport(importlib.abc.MetaPathFinder):
    """Calls a function with a package right after its import."""

    def __init__(self, hooks: dict[str, Callable[[ModuleType], None]]) -> None:
        self.hooks = hooks

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - part of the import protocol
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        hook = self.hooks.pop(fullname, None)  # popped first: the search below must not find this finder again
        if hook is None:
            return None
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        spec.loader = _Loader(spec.loader, hook)
        return spec


class _Loader(importlib.abc.Loader):
    """Loads a module by its own loader, hands that loader back to it, then calls the hook."""

    def __init__(self, loader: importlib.abc.Loader, hook: Callable[[ModuleType], None]) -> None:
        self.loader, self.hook = loader, hook

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        self.hook(module)
