"""The number types of JAX and TensorFlow, from the package that both take them from."""

import numpy as np
import pytest

from ridgepole.loggers.media.validate import binned, plain_params, plain_table
from ridgepole.loggers.media.validate_image import annotated_image
from ridgepole.metrics.values import MAX_INLINE, plain_value

ml_dtypes = pytest.importorskip("ml_dtypes")

FLOATS = ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float4_e2m1fn"]
INTEGERS = ["int4", "uint4", "int2"]


@pytest.mark.parametrize("name", FLOATS + INTEGERS)
def test_every_call_takes_them(name):
    kind = getattr(ml_dtypes, name)
    one, pair = np.ones(1, kind), np.array([0, 1], kind)
    number = float if name in FLOATS else int
    for value in (one, one[0], one.reshape(1, 1)):
        assert plain_value("m", value) == 1
        assert type(plain_value("m", value)) is number
    assert plain_value("m", pair) == [0, 1]
    assert plain_value("m", np.ones(MAX_INLINE + 1, kind))["mean"] == 1.0
    assert binned(pair, 2).counts == (1, 1)
    assert plain_table({"a": pair}).rows == ((0,), (1,))
    assert plain_params({"a": one, "b": pair}) == {"a": 1, "b": f"[{number(0)}, {number(1)}]"}
    assert annotated_image(np.stack([pair, pair]).astype(kind)).pixels[0, 1, 0] == (255 if name in FLOATS else 1)
