"""Every version that `constraints.txt` pins supports the oldest Python that Ridgepole supports."""

import importlib.metadata
import tomllib
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]


def test_the_pinned_packages_take_the_oldest_python():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = project["requires-python"].removeprefix(">=") + ".0"
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    refusing, seen = [], 0
    for found in importlib.metadata.distributions():
        if found.metadata["Name"].lower().replace("_", "-") in pinned:
            seen += 1
            needed = found.metadata.get("Requires-Python")
            if needed and oldest not in SpecifierSet(needed):
                refusing.append(f"{found.metadata['Name']} {found.version} needs Python {needed}")
    assert seen > len(pinned) / 2
    assert not refusing
