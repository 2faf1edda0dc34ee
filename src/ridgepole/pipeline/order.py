"""A stable topological order."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter


def in_order(edges: Mapping[str, Sequence[str]]) -> tuple[list[str], list[str]]:
    """Sorts names so that each comes after what it needs; among equals the given order is kept.

    Args:
        edges: Name to the names that it needs; its own order is the order to keep.

    Returns:
        The order and an empty list, or an empty order and a cycle whose first and last names are the same, each
        needing the next.
    """
    position = {name: index for index, name in enumerate(edges)}
    names = list(edges)
    sorter = TopologicalSorter({name: [n for n in needs if n in position] for name, needs in edges.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        return [], list(reversed(error.args[1]))  # graphlib lists each before what needs it
    ready = [position[name] for name in sorter.get_ready()]
    heapq.heapify(ready)
    order: list[str] = []
    while ready:
        name = names[heapq.heappop(ready)]
        order.append(name)
        sorter.done(name)
        for following in sorter.get_ready():
            heapq.heappush(ready, position[following])
    return order, []
