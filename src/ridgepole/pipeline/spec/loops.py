"""Read the ticking loops of a process from its source, and the state that they keep."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgepole.errors import Place

_MUTATORS = frozenset(
    "add append appendleft clear discard extend extendleft insert pop popitem popleft remove".split()  # noqa: SIM905
) | {"reverse", "rotate", "setdefault", "sort", "update"}
_SAMPLERS = frozenset(
    "BatchSampler DistributedSampler RandomSampler SequentialSampler SubsetRandomSampler".split()  # noqa: SIM905
) | {"WeightedRandomSampler", "list", "range", "tuple"}
_CONTAINERS = frozenset("Counter OrderedDict defaultdict deque dict list set".split())  # noqa: SIM905


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """A loop whose items are steps: `for ... in track(..., tick=True)`.

    Attributes:
        place: Its line.
        over: The text of what it loops over.
        plain_loader: Whether that is certainly torch's own DataLoader.
        own_sampler: The text of its sampler, if that is not one of torch's.
        counts: Whether it is over a `range`, which has no position of its own.
        around: Whether there is another loop inside.
        carried: Variables that one item leaves to the next, and that no state holds.
        objects: Variables made before the loop whose methods it calls, such as an optimiser.
    """

    place: Place
    over: str
    plain_loader: bool
    own_sampler: str
    counts: bool
    around: bool
    carried: tuple[str, ...]
    objects: tuple[str, ...]

    @property
    def kept(self) -> tuple[str, ...]:
        """The variables that keep a loop over a `range` from being resumed between two items."""
        return tuple(dict.fromkeys((*self.carried, *self.objects))) if self.counts and self.around else ()

    @property
    def replays(self) -> bool:
        """True if it may be resumed between two items."""
        return self.counts and self.around and not self.kept


def ticking_loops(target: Any) -> list[Loop]:
    """Return the outermost ticking loops of a process; empty if its source can't be read."""
    body: Any = getattr(target, "execute", target) if isinstance(target, type) else target
    try:
        lines, first = inspect.getsourcelines(inspect.unwrap(body))
        file = inspect.getsourcefile(inspect.unwrap(body)) or "?"
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, ValueError, SyntaxError):
        return []
    function = tree.body[0] if tree.body else None
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        return []
    made = _containers_of(target) if isinstance(target, type) else frozenset()
    return [_loop(function, node, source, lines, first, file, made) for node, source in _outermost(function)]


def _loop(
    function: ast.FunctionDef | ast.AsyncFunctionDef,
    node: ast.For,
    source: ast.expr,
    lines: list[str],
    first: int,
    file: str,
    made: frozenset[str],
) -> Loop:
    text = lines[node.lineno - 1].rstrip("\n")
    indent = len(text) - len(text.lstrip())
    place = Place(_near(file), first + node.lineno - 1, indent + 1, text, max(1, len(text.strip())))
    before = _assigned_before(function, node)
    own = {name for name, values in before.items() if not all(_is_alias(value, function) for value in values)}
    carried = [*_carried(node, before.keys()), *_mutated(node, own, made)]
    over = before.get(source.id, [None])[-1] if isinstance(source, ast.Name) else source
    objects = [
        call.func.value.id
        for call in _inside(node)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id in own
        and not all(_is_plain(value) for value in before[call.func.value.id])
    ]
    return Loop(
        place=place,
        over=ast.unparse(source),
        plain_loader=_called(over) == "DataLoader",
        own_sampler=_own_sampler(over),
        counts=_called(over) == "range",
        around=any(isinstance(inner, ast.For | ast.While) for inner in _inside(node)),
        carried=tuple(dict.fromkeys(carried)),
        objects=tuple(dict.fromkeys(objects)),
    )


def _own_sampler(over: ast.expr | None) -> str:
    """Return the text of a DataLoader's sampler, if it calls a class that torch lacks."""
    for each in over.keywords if isinstance(over, ast.Call) else ():
        name = _called(each.value) if each.arg in ("sampler", "batch_sampler") else None
        if name is not None and name not in _SAMPLERS:
            return ast.unparse(each.value)
    return ""


def _near(file: str) -> str:
    try:
        return str(Path(file).relative_to(Path.cwd()))
    except (OSError, ValueError):
        return file


def _outermost(node: ast.AST) -> Iterator[tuple[ast.For, ast.expr]]:
    """Yield the ticking loops that are not inside another one, with what they loop over."""
    for child in ast.iter_child_nodes(node):
        source = _ticking_source(child.iter) if isinstance(child, ast.For) else None
        if isinstance(child, ast.For) and source is not None:
            yield child, source
        else:
            yield from _outermost(child)


def _ticking_source(call: ast.expr) -> ast.expr | None:
    """Return what `track(..., tick=...)` is called with, also inside of `enumerate`."""
    if not isinstance(call, ast.Call):
        return None
    if _called(call) in ("enumerate", "zip"):
        return next(filter(None, map(_ticking_source, call.args)), None)
    if _called(call) != "track" or not call.args:
        return None
    tick = next((each.value for each in call.keywords if each.arg == "tick"), None)
    if tick is None or (isinstance(tick, ast.Constant) and not tick.value):
        return None
    return call.args[0]


def _called(node: ast.AST | None) -> str | None:
    """Return the last name of a called function."""
    if not isinstance(node, ast.Call):
        return None
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)


def _assigned_before(
    function: ast.FunctionDef | ast.AsyncFunctionDef, loop: ast.For
) -> dict[str, list[ast.expr | None]]:
    """Return the variables that are assigned above a loop, with their values."""
    found: dict[str, list[ast.expr | None]] = {}
    for node in ast.walk(function):
        if getattr(node, "lineno", loop.lineno) < loop.lineno and isinstance(node, ast.Assign | ast.AnnAssign):
            for target, value in _pairs(node):
                for name in ast.walk(target):
                    if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                        found.setdefault(name.id, []).append(value if name is target else None)
    return found


def _pairs(node: ast.Assign | ast.AnnAssign) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    """Yield the targets of an assignment with their values, also of `a, b = c, d`."""
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            yield from zip(target.elts, node.value.elts, strict=False)
        else:
            yield target, node.value


def _is_alias(value: ast.expr | None, function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a value is part of `self` or of a parameter, which permanences hold."""
    depth = 0
    while isinstance(value, ast.Attribute):
        value, depth = value.value, depth + 1
    parameters = {each.arg for each in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)}
    return isinstance(value, ast.Name) and value.id in parameters and depth > 0


def _is_plain(value: ast.expr | None) -> bool:
    """Return whether methods of a value change nothing, but those that `_mutated` looks for."""
    plain = ast.Constant | ast.JoinedStr | ast.List | ast.Dict | ast.Set | ast.Tuple | ast.ListComp | ast.DictComp
    return isinstance(value, plain | ast.SetComp) or _called(value) in _CONTAINERS | {"Path", "str", "tuple"}


def _carried(loop: ast.For, before: Any) -> Iterator[str]:
    """Yield the variables and attributes that an item reads and an earlier item has written."""
    events = [event for statement in loop.body for event in _events(statement, certain=True)]
    written = {name for kind, name in events if kind != "read"}
    for name in dict.fromkeys(name for _, name in events):
        first = next((kind for kind, each in events if each == name and kind != "perhaps"), "")
        if name in written and first == "read" and (name in before or name.startswith("self.")):
            yield name


def _events(node: ast.AST, *, certain: bool) -> Iterator[tuple[str, str]]:
    """Yield what is read and written, in the order of execution; a branch may not be taken."""
    if isinstance(node, ast.Name | ast.Attribute):
        name = node.id if isinstance(node, ast.Name) else None
        if isinstance(node, ast.Attribute):
            name = f"self.{node.attr}" if isinstance(node.value, ast.Name) and node.value.id == "self" else None
        if name is not None:
            yield ("read" if isinstance(node.ctx, ast.Load) else "write" if certain else "perhaps"), name
            return
    if isinstance(node, ast.AugAssign):
        yield from ((("read", name)) for _, name in _events(node.target, certain=certain))
    children: list[ast.AST] = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) and node.value is not None:
        children = [node.value, *(child for child in children if child is not node.value)]
    branches = isinstance(node, ast.If | ast.For | ast.While | ast.Try | ast.IfExp | ast.BoolOp)
    for child in children:
        yield from _events(child, certain=certain and not (branches and isinstance(child, ast.stmt)))


def _mutated(loop: ast.For, own: set[str], made: frozenset[str]) -> Iterator[str]:
    """Yield the containers of the process that a loop changes in place."""
    for node in _inside(loop):
        target: ast.AST | None = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _MUTATORS:
            target = node.func.value
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            target = node.value
        if isinstance(target, ast.Name) and target.id in own:
            yield target.id
        elif isinstance(target, ast.Attribute) and ast.unparse(target) in made:
            yield ast.unparse(target)


def _inside(loop: ast.For) -> Iterator[ast.AST]:
    for statement in loop.body:
        yield from ast.walk(statement)


def _containers_of(target: type) -> frozenset[str]:
    """Return the attributes that a class's constructor sets to a new container."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(target.__init__)))  # type: ignore[misc]
    except (OSError, TypeError, ValueError, SyntaxError):
        return frozenset()
    displays = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    return frozenset(
        ast.unparse(target)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target, value in _pairs(node)
        if isinstance(target, ast.Attribute) and (isinstance(value, displays) or _called(value) in _CONTAINERS)
    )
