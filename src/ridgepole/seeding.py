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
    """Draw a seed from the operating system, for a run without a seed of its own."""
    return secrets.randbits(32)


@contextmanager
def seeded(seed: int, *, deterministic: bool = False) -> Iterator[None]:
    """Seed python, numpy and torch, the latter two when they are imported.

    Importing torch costs seconds that a pipeline without it should not pay, and a permanence may
    import it only in its constructor; so a package that is not loaded yet is seeded at the end of
    its own import.

    Args:
        seed: 0 to `MAX_SEED`.
        deterministic: Ask torch for deterministic algorithms, until the block ends.
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
    """Capture the states of the generators of all imported packages and initialised devices."""
    states: dict[str, Any] = {"python": random.getstate()}
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None:
        states["numpy"] = numpy.random.get_state()
    if torch is not None:
        states["torch"] = torch.get_rng_state()
        for name, module in _accelerators(torch):
            if hasattr(module, "get_rng_state_all"):
                states[name] = module.get_rng_state_all()
            elif hasattr(module, "get_rng_state"):
                states[name] = [module.get_rng_state()]
    return states


def reseed(seed: int) -> None:
    """Seed the generators of all imported packages."""
    random.seed(seed)
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None:
        numpy.random.seed(seed)
    if torch is not None:
        torch.manual_seed(seed)


def not_captured() -> list[str]:
    """Return the kinds of devices in use whose generators torch can't store."""
    torch = sys.modules.get("torch")
    devices = [] if torch is None else _accelerators(torch)
    return [name for name, module in devices if not hasattr(module, "get_rng_state")]


def _accelerators(torch: ModuleType) -> list[tuple[str, Any]]:
    """Return the kinds of accelerators that were initialised, with their modules."""
    names = ["cuda", "xpu", "mps"]
    # Without an accelerator, torch 2.6 raises an error and newer releases return None
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is not None and accelerator.type not in names:
        names.append(accelerator.type)
    found = []
    for name in names:
        module = getattr(torch, name, None)
        available = getattr(module, "is_available", None)
        if name == "mps" and available is None:
            available = torch.backends.mps.is_available
        if module is not None and available is not None and available():
            initialised = getattr(module, "is_initialized", None)
            if initialised is None or initialised():
                found.append((name, module))
    return found


def restore(states: Mapping[str, Any]) -> None:
    """Restore the states that `capture` returned; import the packages that were in use then.

    `{"seed": n}` seeds the generators of all imported packages instead.
    """
    if "seed" in states:
        reseed(states["seed"])
        return
    random.setstate(states["python"])
    if "numpy" in states:
        importlib.import_module("numpy").random.set_state(states["numpy"])
    if "torch" in states:
        torch = importlib.import_module("torch")
        torch.set_rng_state(states["torch"])
        for name in states.keys() - {"python", "numpy", "torch"}:
            module = getattr(torch, name, None)
            available = getattr(module, "is_available", None) or torch.backends.mps.is_available
            if module is None or not available():
                continue
            for index, state in enumerate(states[name][: module.device_count()]):
                if hasattr(module, "get_rng_state_all"):
                    module.set_rng_state(state, index)
                else:  # the kind has one device
                    module.set_rng_state(state)


def _make_deterministic(torch: ModuleType) -> Callable[[], None]:
    """Ask torch for deterministic algorithms; return a function that restores its settings."""
    # cuBLAS reads this for its first handle (cuBLAS documentation, "Results reproducibility").
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False

    def restore() -> None:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]

    return restore


class _AfterImport(importlib.abc.MetaPathFinder):
    """Call a function with a package right after its import."""

    def __init__(self, hooks: dict[str, Callable[[ModuleType], None]]) -> None:
        self.hooks = hooks

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - part of the import protocol
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        hook = self.hooks.pop(fullname, None)  # first: the search below must not find this finder
        if hook is None:
            return None
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        spec.loader = _Loader(spec.loader, hook)
        return spec


class _Loader(importlib.abc.Loader):
    """Load a module by its own loader, give it that loader back, then call the hook."""

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
