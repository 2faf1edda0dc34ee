"""The colours of bars, as eyes with one kind of cone missing see them."""

from __future__ import annotations

import itertools

import pytest

from ridgepole.progress.bars import next_color

# As in the model of Machado, Oliveira and Fernandes for simulating colour vision deficiency (IEEE TVCG 15, 2009),
# with a severity of 1 on linear RGB.
DEUTERANOPIA = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))
PROTANOPIA = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))
NORMAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def times(matrix: tuple[tuple[float, ...], ...], vector: list[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def oklab(color: str, seen_by: tuple[tuple[float, ...], ...]) -> list[float]:
    """Ottosson's OKLab (2020) of a colour as somebody sees it."""
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    linear = [min(1.0, max(0.0, c)) for c in times(seen_by, linear)]
    to_lms = (
        (0.4122214708, 0.5363325363, 0.0514459929),
        (0.2119034982, 0.6806995451, 0.1073969566),
        (0.0883024619, 0.2817188376, 0.6299787005),
    )
    to_lab = (
        (0.2104542553, 0.7936177850, -0.0040720468),
        (1.9779984951, -2.4285922050, 0.4505937099),
        (0.0259040371, 0.7827717662, -0.8086757660),
    )
    return times(to_lab, [value ** (1 / 3) for value in times(to_lms, linear)])


def colors(count: int) -> list[str]:
    used: list[str] = []
    for _ in range(count):
        used.append(next_color(used))
    return used


@pytest.mark.parametrize("seen_by", [NORMAL, DEUTERANOPIA, PROTANOPIA], ids=["normal", "deuteranopia", "protanopia"])
def test_the_first_eight_colours_stay_apart(seen_by: tuple[tuple[float, ...], ...]) -> None:
    distances = {
        (a, b): sum((x - y) ** 2 for x, y in zip(oklab(a, seen_by), oklab(b, seen_by), strict=True)) ** 0.5
        for a, b in itertools.combinations(colors(8), 2)
    }
    closest = min(distances, key=lambda pair: distances[pair])
    # 0.02 is about what is just told apart side by side.
    assert distances[closest] > 0.04, (closest, distances[closest])


def test_more_colours_than_the_palette_has_are_all_different() -> None:
    assert len(set(colors(60))) == 60
