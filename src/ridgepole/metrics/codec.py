"""The line format of `metrics.jsonl`: strict JSON, one line for each call and distinct step.

```
{"seq": 7, "time": 1764000000.123, "step": 7, "metrics": {"loss": 0.31, "val/acc": 0.9}}
```

`seq` counts records and is unique in a run; `time` is seconds since the epoch.
The maps `pattern`, `stage` and `split` follow `metrics` for the names that have one.
JSON has no NaN and no infinity: they are `null`, and `"special": {"loss": "nan"}` (`"inf"`,
`"-inf"`) names them.
Inside a short sequence, `"special": {"loss": {"1": "nan"}}` names the item at that index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson

from ridgepole.metrics.steps import StepRow
from ridgepole.metrics.values import Value

NEWLINE = orjson.OPT_APPEND_NEWLINE
dumps = orjson.dumps

Special = str | dict[str, str]


def encode(rows: Sequence[StepRow], seq: int, time: float) -> bytes:
    """Encode the rows of one call as whole lines; the first line gets `seq`."""
    return b"".join(
        [encode_line(number, time, row.step, row.metrics, row.words) for number, row in enumerate(rows, seq)]
    )


def encode_line(
    seq: int, time: float, step: int, metrics: dict[str, Value], words: Mapping[str, Any] | None = None
) -> bytes:
    """Encode one line of flat and plain metrics; `words` are the maps that follow them."""
    line: dict[str, Any] = {"seq": seq, "time": time, "step": step, "metrics": metrics}
    if words:
        line.update(words)
    text = dumps(line, None, NEWLINE)
    if b"null" not in text:  # orjson writes it for a number that is not finite
        return text
    line["metrics"], special = split_special(metrics)
    if special:
        line["special"] = special
    return dumps(line, None, NEWLINE)


def split_special(metrics: dict[str, Value]) -> tuple[dict[str, Any], dict[str, Special]]:
    """Replace numbers that are not finite by None, and return them apart."""
    special: dict[str, Special] = {}
    for name, value in metrics.items():
        if type(value) is float:
            if value - value != 0.0:  # only NaN and the infinities
                special[name] = repr(value)
        elif type(value) is list:
            inside = {str(i): repr(x) for i, x in enumerate(value) if type(x) is float and x - x != 0.0}
            if inside:
                special[name] = inside
    if not special:
        return metrics, special
    return {name: _without(value, special.get(name)) for name, value in metrics.items()}, special


def _without(value: Any, special: Special | None) -> Any:
    if isinstance(special, dict):
        return [None if str(i) in special else x for i, x in enumerate(value)]
    return value if special is None else None


def decode(text: bytes) -> dict[str, Any]:
    """Decode a line, and restore numbers that are not finite in `metrics`.

    Raises:
        ValueError: If it is not a line of a metrics file.
    """
    line = orjson.loads(text)
    if not (
        isinstance(line, dict)
        and type(line.get("seq")) is int
        and type(line.get("step")) is int
        and max(abs(line["seq"]), abs(line["step"])) < 2**63
        and type(line.get("time")) in (int, float)
        and isinstance(line.get("metrics"), dict)
        and all(isinstance(line.get(kind, {}), dict) for kind in ("pattern", "stage", "split", "special"))
    ):
        raise ValueError("not a line of a metrics file")
    metrics = line["metrics"]
    for name, word in line.get("special", {}).items():
        if name not in metrics:
            continue
        if isinstance(word, str):
            metrics[name] = float(word)
        elif isinstance(word, dict) and isinstance(metrics[name], list):
            for index, inside in word.items():
                metrics[name][int(index)] = float(inside)
    return cast("dict[str, Any]", line)
