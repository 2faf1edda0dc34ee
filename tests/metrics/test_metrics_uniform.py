"""Lines of a kind are read in one go: the very same values, or none at all."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepole.metrics import MetricPattern, load_metrics
from ridgepole.metrics.codec import encode
from ridgepole.metrics.steps import StepCounter, plan
from ridgepole.metrics.uniform import WORDS, UniformReader

LINE = b'{"seq":1,"time":1.5,"step":2,"metrics":{"a":0.25,"b":3}}\n'


def reader(names=("a", "b"), words=()):
    made = UniformReader()
    made.learn(set(names), set(words))
    return made


def rows_of(chunk):
    """What a chunk holds, by the standard library."""
    rows = []
    for line in map(json.loads, chunk.splitlines()):
        for name, value in line["metrics"].items():
            words = [line.get(kind, {}).get(name) for kind in WORDS]
            rows.append((line["seq"], line["time"], line["step"], name, float(value), None, *words))
    return sorted(rows, key=str)


@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        (LINE * 3, ()),
        (LINE + b'{"seq":2,"time":2,"step":0,"metrics":{"b":-1e10}}\n', ()),
        (LINE + b'{"seq":2,"time":2,"step":0,"metrics":{"b":1,"a":2}}\n', ()),
        (LINE + b'{"seq":2,"time":2,"step":0,"metrics":{}}\n', ()),
        (b'{"seq":1,"time":1.5,"step":2,"metrics":{"a":1},"stage":{"a":"train"}}\n' + LINE, ("stage", "pattern")),
        (b'{"seq":1,"time":1.5,"step":2,"metrics":{"a":1,"b":2},"stage":{"b":"x"},"split":{"a":"y"}}\n', WORDS),
    ],
)
def test_lines_of_a_kind(chunk, words):
    frame, lines = reader(words=words).read(chunk)
    assert sorted(frame.rows(), key=str) == rows_of(chunk)
    assert frame["seq"].is_sorted()
    assert lines == chunk.count(b"\n")


def test_one_metric():
    chunk = b"".join(b'{"seq":%d,"time":1.5,"step":2,"metrics":{"a":%d}}\n' % (i, i) for i in range(9))
    frame, _ = reader(["a"]).read(chunk)
    assert sorted(frame.rows(), key=str) == rows_of(chunk)


@pytest.mark.parametrize(
    "line",
    [
        b'{"seq":2,"time":1,"step":1,"metrics":{"c":1}}',
        b'{"seq":2,"time":1,"step":1,"metrics":{"a":null},"special":{"a":"nan"}}',
        b'{"seq":2,"time":1,"step":1,"metrics":{"a":1},"stage":{"a":"x"}}',
        b'{"seq":2,"time":1,"step":1,"metrics":{"a":true}}',
        b'{"seq":2,"time":1,"step":1,"metrics":{"a":"1"}}',
        b'{"seq":2,"time":1,"step":1,"metrics":{"a":[1]}}',
        b'{"seq":2,"time":1,"step":1,"metrics":{"a":{"x":1}}}',
        b'{"seq":2,"time":1,"step":1,"metrics":{"a":9007199254740993}}',
        b'{"seq":2,"time":1,"step":1,"metrics":{"a":1,"a":2}}',
        b'{"seq":2,"time":1,"step":1,"metrics":{"a":1},"metrics":{"a":1}}',
        b'{"seq":2,"time":1,"step":1,"metrics":{"\\":\\"":1}}',
        b'{"seq":2,"time":1,"step":1,"metrics":3}',
        b'{"seq":2,"time":1,"step":1,"metrics":null}',
        b'{"seq":2,"time":1,"step":1}',
        b'{"seq":2.5,"time":1,"step":1,"metrics":{"a":1}}',
        b'{"seq":true,"time":1,"step":1,"metrics":{"a":1}}',
        b'{"seq":-9223372036854775808,"time":1,"step":1,"metrics":{"a":1}}',
        b'{"seq":9223372036854775808,"time":1,"step":1,"metrics":{"a":1}}',
        b'{"seq":2,"time":"1","step":1,"metrics":{"a":1}}',
        b'{"seq":2,"time":1,"step":null,"metrics":{"a":1}}',
        b'{"seq":2,"time":1,"step":1,"metrics":{"a":1}}garbage',
        b'{"seq":2,"time":1,"step":1,"metrics":{"a":1}',
        b'{"seq":2,"time":1,"st{"seq":3,"time":1,"step":1,"metrics":{"a":1}}',
        b"", b"[]", b"3", b"\xff", b'{"seq":2,"time":1,"step":1,"metrics":{"a":1}}\x00',
    ],
)  # fmt: skip
def test_whatever_else_is_left_to_another_look(line):
    assert reader().read(LINE * 2 + line + b"\n" + LINE) is None


names = st.sampled_from(["a", "b", 'c"', "d\n", "é", "a/b"])
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-5, 5) | st.integers(-(2**60), 2**60)
anything = numbers | st.booleans() | st.text(max_size=3) | st.lists(st.integers(0, 3), max_size=2)


@given(st.lists(st.dictionaries(names, numbers | anything, max_size=4), min_size=1, max_size=6), st.sets(names))
def test_the_same_values_or_none(calls, known):
    counter = StepCounter()
    chunk = b"".join(encode(plan(metrics, None, counter).rows, seq, seq / 7) for seq, metrics in enumerate(calls))
    read = reader(known).read(chunk)
    if read is not None:
        assert sorted(read[0].rows(), key=str) == rows_of(chunk)


@pytest.mark.slow
def test_a_large_file_is_read_in_one_go_and_whole(tmp_path, monkeypatch):
    pattern = MetricPattern("p", "train/acc", "train", "train")
    counter, lines = StepCounter(), []
    for seq in range(30_000):
        metrics = [pattern(seq / 7), {"loss": 1 / (seq + 1), "epoch": seq // 100}] if seq % 3 else {"loss": float(seq)}
        made = plan(metrics, None, counter)
        counter.adopt(made)
        lines.append(encode(made.rows, seq, seq / 7))
    lines[20_000] = b"torn by a crash\n"
    (tmp_path / "metrics.jsonl").write_bytes(b"".join(lines))
    taken = []
    original = UniformReader.read
    monkeypatch.setattr(UniformReader, "read", lambda self, chunk: (r := original(self, chunk), taken.append(r))[0])
    table = load_metrics(tmp_path)
    assert sum(read is not None for read in taken) >= 2, "every chunk was parsed line by line"
    assert (table.records, table.bad) == (29_999, 1)
    expected = rows_of(b"".join(line for line in lines if line[:1] == b"{"))
    assert sorted(table.frame.rows(), key=str) == expected
    assert table.frame["seq"].is_sorted()
