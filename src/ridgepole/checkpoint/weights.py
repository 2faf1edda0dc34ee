"""Take the weights out of a checkpoint, and write them in the formats of other tools."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ridgepole.checkpoint.codec.tensor_storage import Blob
from ridgepole.checkpoint.codec.tensors import write_tensors
from ridgepole.checkpoint.codec.torch_values import WORDS, tensor_bytes
from ridgepole.checkpoint.loading import Loaded
from ridgepole.checkpoint.safe_open import write_new
from ridgepole.errors import CheckpointError
from ridgepole.files import fsync_directory

Format = Literal["safetensors", "torch", "hf"]

FILES: Mapping[Format, str] = {"safetensors": "model.safetensors", "torch": "model.pt", "hf": "model.safetensors"}
"""The file that each format writes."""

CONFIG = "config.json"


@dataclass(frozen=True, slots=True)
class Weights:
    """The tensors of one model.

    Attributes:
        permanence: The permanence whose state holds them.
        key: Where they are in that state; "" for its top.
        tensors: By name.
        left_out: Names of what stands beside them and is not a tensor.
        config: The `config` of the state; None without one.
    """

    permanence: str
    key: str
    tensors: Mapping[str, Any]
    left_out: tuple[str, ...]
    config: Any


def find_weights(loaded: Loaded, permanence: str | None = None, key: str | None = None) -> Weights:
    """Find the weights of one model in a checkpoint.

    Args:
        loaded: The checkpoint of a run.
        permanence: The permanence that holds them; None where only one holds tensors.
        key: Their key in its state, with dots between nested ones, all tensors below it; None for
            the mapping of tensors that is least nested.

    Raises:
        CheckpointError: If there are none, or more than one model; it lists the choices.
    """
    states = loaded.state.get("permanences")
    states = states if isinstance(states, dict) else {}
    found = {name: list(_models(state)) for name, state in states.items()}
    holders = [name for name, models in found.items() if models]
    where = f"checkpoint {loaded.info.path}"
    if permanence is not None and permanence not in states:
        raise CheckpointError(f"{where} has no permanence {permanence!r}; it has {_words(states)}")
    if not holders or (permanence is not None and permanence not in holders):
        raise CheckpointError(f"{where} has no tensors {f'in {permanence!r}' if permanence else 'in its permanences'}")
    if permanence is None and len(holders) > 1:
        raise CheckpointError(f"{where} has tensors in {_words(holders)}: choose one with --permanence")
    name = permanence or holders[0]
    if key is None:
        depth = min(len(path) for path in found[name])
        paths = [path for path in found[name] if len(path) == depth]
        if len(paths) > 1:
            keys = _words(".".join(path) for path in paths)
            raise CheckpointError(f"{where} has tensors under {keys} of {name!r}: choose one with --key")
        chosen, key = _at(states[name], paths[0]), ".".join(paths[0])
        tensors = {each: value for each, value in chosen.items() if _is_tensor(each, value)}
        left_out = tuple(str(each) for each in chosen if each not in tensors)
    else:
        chosen = _at(states[name], key.split("."))
        tensors = dict(_below(chosen, ""))
        left_out = ()
        if not tensors:
            keys = _words(".".join(path) for path in found[name] if path)
            raise CheckpointError(f"{where} has no tensors under {key!r} of {name!r}; it has some under {keys}")
    state = states[name]
    config = next((part["config"] for part in (chosen, state) if isinstance(part, dict) and "config" in part), None)
    return Weights(name, key, tensors, tuple(each for each in left_out if each != "config"), config)


def write_weights(weights: Weights, to: Format, directory: Path) -> tuple[Path, ...]:
    """Write weights into a directory, which is made if it is missing.

    Args:
        weights: What to write.
        to: `safetensors`; `torch` for a pickle, which Ridgepole never reads; `hf` for
            `model.safetensors` and the `config.json` that the state carries.
        directory: Where.

    Returns:
        The files.

    Raises:
        CheckpointError: If a file is there already, can't be written, or can't hold a value.
    """
    writers: dict[str, Callable[[Path], object]] = {}
    if to == "torch":
        writers[FILES[to]] = partial(_write_pickle, weights.tensors)
    else:
        blobs = {name: _blob(name, tensor) for name, tensor in weights.tensors.items()}
        writers[FILES[to]] = lambda path: write_new(path, lambda sink: write_tensors(sink, blobs))
    if to == "hf" and weights.config is not None:
        text = memoryview(_config_text(weights))
        writers[CONFIG] = lambda path: write_new(path, lambda sink: sink.write(text))
    for name in writers:
        if (directory / name).exists():
            raise CheckpointError(f"{directory / name} exists already: remove it, or choose another directory with -o")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, write in writers.items():
            part = directory / f".{name}.{os.getpid()}.part"
            try:
                write(part)
                part.rename(directory / name)
            finally:
                part.unlink(missing_ok=True)
        fsync_directory(directory)
    except OSError as error:
        raise CheckpointError(error.errno, f"can't be written: {error.strerror or error}", str(directory)) from error
    return tuple(directory / name for name in writers)


# --- finding


def _models(state: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield where the mappings are that hold tensors, below text keys alone."""
    if not isinstance(state, dict):
        return
    if any(_is_tensor(key, value) for key, value in state.items()):
        yield path
    for key, value in state.items():
        if isinstance(key, str):
            yield from _models(value, (*path, key))


def _is_tensor(key: Any, value: Any) -> bool:
    # numpy's arrays have no such method
    return isinstance(key, str) and hasattr(value, "untyped_storage")


def _at(state: Any, path: Any) -> Any:
    for key in path:
        state = state.get(key) if isinstance(state, dict) else None
    return state


def _below(state: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in state.items() if isinstance(state, dict) else ():
        if _is_tensor(key, value):
            yield prefix + key, value
        elif isinstance(key, str):
            yield from _below(value, f"{prefix}{key}.")


def _words(names: Any) -> str:
    return ", ".join(repr(name) for name in names) or "none"


# --- writing


def _blob(name: str, tensor: Any) -> Blob:
    word = str(tensor.dtype).removeprefix("torch.")
    if word not in WORDS:
        raise CheckpointError(f"{name} is {word}, which the format can't hold: export with --to torch")
    return Blob(WORDS[word], tuple(tensor.shape), "torch", lambda: tensor_bytes(tensor.contiguous()))


def _write_pickle(tensors: Mapping[str, Any], path: Path) -> None:
    import torch

    with path.open("xb") as file:
        torch.save(dict(tensors), file)
        file.flush()
        os.fsync(file.fileno())


def _config_text(weights: Weights) -> bytes:
    config = weights.config
    try:
        config = json.loads(config) if isinstance(config, str | bytes) else config
        if not isinstance(config, dict):
            raise TypeError(f"it is {type(config).__name__}, not a mapping")
        return json.dumps(config, indent=2, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"the 'config' in the state of {weights.permanence!r} can't be {CONFIG}: {error}; "
            "export with --to safetensors, or store what the model's config.to_dict() returns"
        ) from None
