"""The colours of a report, which stay apart for colour-blind eyes: on the page and in the pictures."""

from __future__ import annotations

# Nine steps of viridis (Smith and van der Walt 2015, CC0), whose lightness rises all the way.
VIRIDIS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")

# The marks are from Okabe and Ito, "Color Universal Design" (2008). A ramp goes from bad, or early, to good, or late.
LIGHT = {
    "point": "#0072B2",
    "best": "#D55E00",
    "target": "#009E73",
    "failed": "#CC79A7",
    "ramp": VIRIDIS[7::-1],  # without the yellow, which hardly shows on white
}
DARK = LIGHT | {"point": "#56B4E9", "ramp": VIRIDIS[1:]}  # without what hardly shows on black
