"""Finds the tests that start processes or servers, so that `make check` can leave them out.

A test counts where it, a fixture that it asks for, or a helper of the tests that one of them calls names a module or a
function that starts something. What the product starts on its own can't be seen that way: such a test is marked.
"""

import types
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MODULES = {"subprocess", "multiprocessing", "pexpect", "pty", "socketserver", "http.server"}
FUNCTIONS = {"fork", "forkpty", "posix_spawn", "Popen"}
PRODUCTS = {"WandBLogger"}  # has a writer in a process of its own, and W&B's service beside it


class Starters:
    """Looks at each function once."""

    def __init__(self) -> None:
        self._known: dict[object, bool] = {}

    def in_test(self, item: pytest.Function) -> bool:
        fixtures = item._fixtureinfo.name2fixturedefs
        functions = [item.function, *(found.func for name in item.fixturenames for found in fixtures.get(name, ()))]
        return any(self.in_value(part) for part in (*functions, item.cls))

    def in_value(self, value: object) -> bool:
        """Tells whether a function or class of the tests starts something; what is not theirs does not."""
        if isinstance(value, types.ModuleType):
            return value.__name__ in MODULES
        value = getattr(value, "__wrapped__", getattr(value, "__func__", value))
        if not isinstance(value, types.FunctionType | type):
            return False
        if value not in self._known:
            self._known[value] = False  # while it is looked at: it may call itself
            self._known[value] = self._in_new(value)
        return self._known[value]

    def _in_new(self, value: types.FunctionType | type) -> bool:
        if isinstance(value, type):
            parts = [*vars(value).values(), *value.__bases__]
            return not is_foreign(value) and any(self.in_value(part) for part in parts)
        if TESTS not in Path(value.__code__.co_filename).parents:
            return False
        names = set(names_in(value.__code__))
        if names & (MODULES | FUNCTIONS | PRODUCTS):
            return True
        used = [value.__globals__[name] for name in names if name in value.__globals__]
        helpers = [module for module in used if isinstance(module, types.ModuleType) and is_ours(module)]
        used += [getattr(module, name, None) for module in helpers for name in names]
        return any(self.in_value(part) for part in used)


def is_ours(module: types.ModuleType) -> bool:
    """Tells whether a module is a helper of the tests."""
    return TESTS in Path(getattr(module, "__file__", None) or "/").parents


def is_foreign(cls: type) -> bool:
    """Tells whether a class comes from a package: what it starts is not the test's doing."""
    return cls.__module__.partition(".")[0] in {"ridgepole", "builtins", "torch", "threading", "unittest", "enum"}


def names_in(code: types.CodeType) -> Iterator[str]:
    """The names that a function uses, with those of the functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from names_in(constant)
