"""What a document holds: bytes, values, and that nothing of it can be changed."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path

import pytest

from ridgepole.config import from_text, read, thaw

TEXT = '[net]\nsizes = [1, [2, 3], { k = "v" }]\nwhen = 2024-02-29T10:00:00Z\nrate = 1e-3\n[[net.layers]]\nn = 1\n'


def test_read_keeps_path_bytes_and_values(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.toml"
    data = b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode()
    path.write_bytes(data)
    for given in (path, str(path)):
        document = read(given)
        assert document.path == path
        assert document.files == (path,)
        assert document.source == data
        assert document.secrets == frozenset()
        assert document.values["net"]["rate"] == 1e-3
        assert document.values["net"]["when"] == dt.datetime(2024, 2, 29, 10, tzinfo=dt.UTC)
        assert str(document.place(("net", "rate"))) == f"{path}:4:8"


def test_an_empty_text_is_an_empty_document() -> None:
    document = from_text("")
    assert document.path is None
    assert document.files == ()
    assert dict(document.values) == {}


def test_nothing_can_be_changed() -> None:
    document = from_text(TEXT)
    with pytest.raises(TypeError):
        document.values["x"] = 1  # type: ignore[index]
    with pytest.raises(TypeError):
        document.values["net"]["rate"] = 2
    with pytest.raises(TypeError):
        document.values["net"]["sizes"][2]["k"] = 2
    assert document.values["net"]["sizes"] == (1, (2, 3), {"k": "v"})
    assert isinstance(document.values["net"]["layers"], tuple)
    with pytest.raises(dataclasses.FrozenInstanceError):
        document.path = None  # type: ignore[misc]


def test_thaw_gives_a_copy_of_ones_own() -> None:
    document = from_text(TEXT)
    first, second = thaw(document.values), thaw(document.values)
    first["net"]["sizes"][2]["k"] = "changed"
    first["net"]["layers"].append({})
    assert type(first) is dict
    assert type(first["net"]["sizes"][1]) is list
    assert second["net"]["sizes"][2]["k"] == document.values["net"]["sizes"][2]["k"] == "v"
    assert second["net"]["layers"] == [{"n": 1}]
