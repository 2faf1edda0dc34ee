"""Colours for bars that stay apart for colour-blind eyes."""

from __future__ import annotations

import colorsys
import functools
from collections.abc import Sequence

# Okabe and Ito, "Color Universal Design" (2008), the dark ones put late. Their black is a grey here, visible on dark
# and on light terminals; a lighter one could not be told from the pink without the cones for green.
OKABE_ITO = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2", "#686868")


def next_color(used: Sequence[str]) -> str:
    """The colour of the next bar: the palette's first free one, then the middle of the largest gap between hues.

    Args:
        used: Colours that are taken, as `#RRGGBB`.

    Returns:
        A colour as `#RRGGBB` that is not in `used`.
    """
    for color in OKABE_ITO:
        if color not in used:
            return color
    hues = sorted({_hue(color) for color in used})
    gaps = [(after - before, before) for before, after in zip(hues, [*hues[1:], hues[0] + 1.0], strict=True)]
    width, start = max(gaps)
    red, green, blue = colorsys.hls_to_rgb((start + width / 2) % 1.0, 0.6, 0.65)
    return f"#{round(red * 255):02X}{round(green * 255):02X}{round(blue * 255):02X}"


@functools.lru_cache(maxsize=4096)
def _hue(color: str) -> float:
    red, green, blue = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return colorsys.rgb_to_hls(red, green, blue)[0]
