"""The bytes of an event file: records, checksums and scalars as TensorBoard's own code makes them."""

import io
import struct
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.summary.writer.record_writer import RecordWriter

from ridgepole.loggers.tensorboard import records
from ridgepole.loggers.tensorboard.records import scalars_event

FLOATS = st.floats(width=32) | st.integers(-(2**31), 2**31) | st.booleans()
STEPS = st.integers(0, 2**63 - 2)


@given(st.dictionaries(st.text(), FLOATS, min_size=1, max_size=5), STEPS, st.floats(0, 2**40))
def test_scalars_are_what_the_messages_would_be(metrics, step, now):
    values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
    wanted = Event(wall_time=now, step=step, summary=Summary(value=values))
    got = Event.FromString(scalars_event(metrics, step, now))
    assert got.SerializeToString() == wanted.SerializeToString()


@given(st.binary(max_size=2000))
def test_records_are_what_tensorboard_writes(data):
    buffer = io.BytesIO()
    RecordWriter(buffer).write(data)
    assert records.framed(data) == buffer.getvalue()
    assert records._slow_crc32c(data) == records._crc32c()(data)
    assert records.masked_crc(data) == masked_crc32c(data)


def test_without_google_crc32c_the_same_is_written(tmp_path):
    script = """if True:
        import sys
        sys.modules["google_crc32c"] = None
        from ridgepole.permanences import TensorBoardLogger
        from ridgepole.loggers.tensorboard.records import _crc32c, _slow_crc32c
        with TensorBoardLogger(sys.argv[1]) as logger:
            logger.log_metrics({"a": 1.0})
        assert _crc32c() is _slow_crc32c
    """
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=60)
    (path,) = tmp_path.iterdir()
    assert len(list(records.read_records(path))) == 3


WHOLE = [b"one", b"", b"three" * 100]


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_torn_end_is_passed_over(tmp_path, cut):
    path = tmp_path / "file"
    path.write_bytes(b"".join(map(records.framed, [*WHOLE, b"the last one, of 24 bytes"]))[:-cut])
    assert list(records.read_records(path)) == WHOLE


def test_damage_never_raises(tmp_path):
    path = tmp_path / "file"
    data = b"".join(map(records.framed, WHOLE))
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= 0xFF
        path.write_bytes(broken)
        assert [record for record in records.read_records(path) if record not in WHOLE] == []
    path.write_bytes(struct.pack("<Q", 2**63) + data)
    assert list(records.read_records(path)) == []
    assert list(records.read_records(tmp_path / "none")) == []


def test_importing_the_class_imports_no_tensorboard():
    script = """if True:
        import sys
        from ridgepole.permanences import TensorBoardLogger
        TensorBoardLogger("x")
        heavy = {"tensorboard", "google.protobuf", "numpy", "torch", "tensorflow", "matplotlib"} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_logging_imports_no_tensorflow_and_no_numpy(tmp_path):
    script = """if True:
        import sys
        from ridgepole.permanences import TensorBoardLogger
        with TensorBoardLogger(sys.argv[1]) as logger:
            logger.log_metrics({"a": 1.0, "b": "text"})
        heavy = {"numpy", "torch", "tensorflow", "tensorboard.compat.tensorflow_stub"} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=60)
