"""What `track` counts, and when it ticks."""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import signal
import time
import weakref
from collections.abc import Callable, Iterator
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from ridgepole.permanence import current_run
from ridgepole.progress import NullProgressManager, ProgressManager
from ridgepole.ticks import Ticks


@pytest.fixture
def manager() -> Iterator[ProgressManager]:
    made = ProgressManager(Console(file=io.StringIO()))
    yield made
    made.cleanup()


def completed(manager: ProgressManager, name: str = "train") -> float:
    (task,) = manager.progress_dict[name].tasks
    return task.completed


def finished(manager: ProgressManager, name: str = "train") -> bool:
    (task,) = manager.progress_dict[name].tasks
    return task.finished


def test_in_the_body_the_current_item_is_not_done_yet(manager: ProgressManager) -> None:
    seen = [completed(manager) for _ in manager.track(range(4), "train")]
    assert seen == [0, 1, 2, 3]
    assert completed(manager) == 4
    assert finished(manager)


def test_a_break_leaves_out_the_item_that_was_not_finished(manager: ProgressManager) -> None:
    for item in manager.track(range(10), "train"):
        if item == 4:
            break
    assert completed(manager) == 4
    assert not finished(manager)


def test_an_exception_in_the_body_ends_the_pass(manager: ProgressManager) -> None:
    def loop() -> None:
        for item in manager.track(range(10), "train"):
            1 / (item - 7)

    with pytest.raises(ZeroDivisionError):
        loop()
    gc.collect()
    (task,) = manager.progress_dict["train"].tasks
    assert task.completed == 7
    assert task.ended
    assert not task.finished


def test_an_exception_of_the_source_comes_through(manager: ProgressManager) -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(manager.track(source(), "train"))
    gc.collect()
    assert not manager.progress_dict["train"].tasks[0].active


def test_a_source_that_refuses_to_start_leaves_nothing_running(manager: ProgressManager) -> None:
    class Broken:
        def __iter__(self) -> Iterator[int]:
            raise RuntimeError("no workers")

    with pytest.raises(RuntimeError, match="no workers"):
        iter(manager.track(Broken(), "train"))
    assert "train" not in manager.progress_dict


@pytest.mark.parametrize(
    ("source", "total"),
    [
        (lambda: range(5), 5),
        (lambda: [1, 2, 3], 3),
        (lambda: iter([1, 2]), 2),
        (lambda: (item for item in range(3)), None),
        (list, 0),
    ],
)
def test_the_total_is_the_length_where_there_is_one(
    manager: ProgressManager, source: Callable[[], Any], total: int | None
) -> None:
    tracked = manager.track(source(), "train")
    expected = len(list(source()))
    assert tracked.total == total
    assert len(list(tracked)) == expected
    assert completed(manager) == expected
    assert finished(manager)


def test_a_loader_whose_length_raises_has_no_total(manager: ProgressManager) -> None:
    class Endless:
        def __len__(self) -> int:
            raise TypeError("an IterableDataset has no length")

        def __iter__(self) -> Iterator[int]:
            return iter(range(2))

    tracked = manager.track(Endless(), "train")
    assert tracked.total is None
    assert list(tracked) == [0, 1]
    with pytest.raises(TypeError):
        len(tracked)


def test_a_resumed_loop_starts_at_its_initial_count(manager: ProgressManager) -> None:
    tracked = manager.track(range(9000, 10000), "train", initial=9000)
    assert tracked.total == 10000
    assert len(tracked) == 1000
    iterator = iter(tracked)
    next(iterator)
    assert completed(manager) == 9000
    next(iterator)
    assert completed(manager) == 9001
    for _ in iterator:
        pass
    assert completed(manager) == 10000


def test_looping_again_uses_the_same_row_from_the_start(manager: ProgressManager) -> None:
    bar = manager.track(range(3), "train")
    for _ in range(5):
        assert list(bar) == [0, 1, 2]
        assert completed(manager) == 3
    for _ in manager.track(range(7), "train"):
        pass
    assert completed(manager) == 7


def test_two_loops_of_one_name_at_once_have_a_row_each(manager: ProgressManager) -> None:
    bar = manager.track(range(3), "train")
    pairs = [(a, b) for a in bar for b in bar]
    assert len(pairs) == 9
    assert [task.completed for task in manager.progress_dict["train"].tasks] == [3, 3]


def test_a_name_that_is_a_part_of_a_bar_uses_that_bar(manager: ProgressManager) -> None:
    manager.add_progress("train-val-test")
    list(manager.track(range(2), "val"))
    assert completed(manager, "train-val-test") == 2
    assert "val" not in manager.progress_dict


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((5, "train"), TypeError, "train"),
        (([], "train", -1), ValueError, "train"),
        (([], "train", "ten"), TypeError, "ten"),
        (([], "train", float("nan")), ValueError, "train"),
        (([], "train", True), TypeError, "True"),
        (([], "train", 5, -2), ValueError, "train"),
        (([], 7), TypeError, "7"),
        (([], ""), ValueError, "empty"),
    ],
)
def test_bad_arguments_are_refused_before_the_loop(
    manager: ProgressManager, arguments: tuple[Any, ...], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        manager.track(*arguments)


# -- live values ----------------------------------------------------------------------------------------------------


class Scalar:
    """Something like a tensor, which counts how often it was read."""

    def __init__(self, value: float, reads: list[float]) -> None:
        self.value, self.reads = value, reads

    def item(self) -> float:
        self.reads.append(self.value)
        return self.value


def note(manager: ProgressManager) -> str:
    return manager.progress_dict["train"].tasks[0].note_text  # type: ignore[attr-defined, no-any-return]


def test_values_are_merged_and_the_last_ones_stay(manager: ProgressManager) -> None:
    bar = manager.track(range(100), "train")
    bar.set(lr=0.5)
    for item in bar:
        bar.set(loss=1 / (item + 1))
        bar.set(name="a\nb")
    assert note(manager) == "lr=0.5 loss=0.01 name=a b"


def test_values_on_a_device_are_read_seldom_and_not_kept(manager: ProgressManager) -> None:
    reads: list[float] = []
    bar = manager.track(range(10_000), "train")
    alive: weakref.WeakSet[Scalar] = weakref.WeakSet()
    for item in bar:
        value = Scalar(item, reads)
        alive.add(value)
        bar.set(loss=value)
    del value
    assert len(reads) < 100, "each read waits for the device"
    assert reads[-1] == 9999, "the last value is the one that stays"
    gc.collect()
    assert not list(alive)


def test_a_value_that_cannot_be_shown_does_not_stop_the_loop(manager: ProgressManager) -> None:
    class Wild:
        def __str__(self) -> str:
            raise RuntimeError("not for showing")

    bar = manager.track(range(3), "train")
    for _ in bar:
        bar.set(wild=Wild())
    assert note(manager) == "wild=?"


# -- ticks ----------------------------------------------------------------------------------------------------------


class Boundaries(Ticks):
    """Writes every count down; something is due after each `due` boundaries."""

    def __init__(self, log: list[str], due: int, stop_at: int | None) -> None:
        super().__init__()
        self.log, self.due, self.stop_at = log, due, stop_at

    def steps_ahead(self) -> int:
        return self.due - self.count % self.due

    def on_step(self) -> None:
        self.log.append(f"tick {self.step}")
        if self.step == self.stop_at:
            raise KeyboardInterrupt


class Run:
    """As much of a run as a loop needs."""

    def __init__(self, due: int = 1, stop_at: int | None = None) -> None:
        self.log: list[str] = []
        self.ticks = Boundaries(self.log, due, stop_at)

    @property
    def step(self) -> int:
        return self.ticks.step

    def tick(self, step: int | None = None) -> None:
        self.ticks.tick(step)


@pytest.fixture(params=[ProgressManager, NullProgressManager], ids=["shown", "null"])
def in_run(request: pytest.FixtureRequest) -> Iterator[Callable[..., SimpleNamespace]]:
    """Makes a run and its manager, of both kinds: they tick and count alike."""
    managers = []

    def make(**options: Any) -> SimpleNamespace:
        run = Run(**options)
        token = current_run.set(run)  # type: ignore[arg-type]
        try:
            manager = request.param(Console(file=io.StringIO()))
        finally:
            current_run.reset(token)
        managers.append(manager)
        return SimpleNamespace(run=run, manager=manager)

    yield make
    for manager in managers:
        manager.cleanup()


def test_a_tick_follows_the_body_of_every_item(in_run: Callable[..., SimpleNamespace]) -> None:
    it = in_run()
    for item in it.manager.track(range(3), "train", tick=True):
        it.run.log.append(f"body {item}")
    assert it.run.log == ["body 0", "tick 1", "body 1", "tick 2", "body 2", "tick 3"]


def test_without_tick_nothing_ticks(in_run: Callable[..., SimpleNamespace]) -> None:
    it = in_run()
    assert list(it.manager.track(range(3), "train")) == [0, 1, 2]
    assert it.run.log == []


def test_an_item_that_was_left_by_break_does_not_tick(in_run: Callable[..., SimpleNamespace]) -> None:
    it = in_run()
    for item in it.manager.track(range(5), "train", tick=True):
        if item == 2:
            break
    assert it.run.log == ["tick 1", "tick 2"]


def test_only_the_innermost_loop_ticks(in_run: Callable[..., SimpleNamespace]) -> None:
    it = in_run()
    for epoch in it.manager.track(range(3), "epoch", tick=True):
        if epoch == 1:
            continue  # nothing inside: here the epoch itself is the innermost
        for _ in it.manager.track(range(2), "train", tick=True):
            pass
    assert it.run.step == 2 + 1 + 2


def test_a_process_that_ticks_itself_is_left_to_it(in_run: Callable[..., SimpleNamespace]) -> None:
    it = in_run()
    for item in it.manager.track(range(6), "train", tick=True):
        if item % 2 == 0:
            it.run.tick()
    assert it.run.step == 3


def test_a_stop_at_a_tick_counts_the_item_that_is_done(in_run: Callable[..., SimpleNamespace]) -> None:
    it = in_run(stop_at=3)
    handed_out: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        handed_out.extend(it.manager.track(range(10), "train", tick=True))
    gc.collect()
    assert handed_out == [0, 1, 2]
    if isinstance(it.manager, ProgressManager):
        assert completed(it.manager) == 3


def test_a_fast_loop_is_counted_in_chunks_up_to_what_is_due(in_run: Callable[..., SimpleNamespace]) -> None:
    it = in_run(due=100)
    steps = [it.run.step for _ in it.manager.track(range(1000), "train", tick=True)]
    assert steps == list(range(1000)), "inside a chunk, too, the step is that of the item"
    assert it.run.step == it.run.ticks.count == 1000
    counted = [int(line.removeprefix("tick ")) for line in it.run.log]
    assert len(counted) < 500, "a fast loop is counted in chunks"
    assert set(range(100, 1001, 100)) <= set(counted), "no chunk goes across what is due"


def test_a_slow_loop_is_counted_item_by_item(in_run: Callable[..., SimpleNamespace]) -> None:
    it = in_run(due=100)
    for _ in it.manager.track(range(20), "train", tick=True):
        time.sleep(0.002)
    assert it.run.log == [f"tick {step}" for step in range(1, 21)]


@pytest.mark.isolated
def test_an_interrupted_chunk_ends_with_the_current_item(in_run: Callable[..., SimpleNamespace]) -> None:
    it = in_run(due=1000)
    before = signal.signal(signal.SIGALRM, lambda *_: it.run.ticks.interrupt())
    handed_out = []
    for item in it.manager.track(range(200), "train", tick=True):
        handed_out.append(item)
        if item == 100:
            signal.raise_signal(signal.SIGALRM)
            log = len(it.run.log)
        if item == 101:
            assert it.run.log[log:] == ["tick 101"], "counted right behind the item that was interrupted"
    signal.signal(signal.SIGALRM, before)
    assert handed_out == list(range(200)), "no item is lost where a chunk is cut"
    assert it.run.step == 200


@pytest.mark.parametrize("left_at", [0, 1, 50, 99])
def test_a_chunk_that_was_left_counts_what_was_done(in_run: Callable[..., SimpleNamespace], left_at: int) -> None:
    it = in_run(due=1000)
    for item in it.manager.track(range(100), "train", tick=True):
        if item == left_at:
            break
    gc.collect()
    assert it.run.step == left_at
    with pytest.raises(ZeroDivisionError):
        [1 / (left_at - item) for item in it.manager.track(range(100), "train", tick=True)]
    gc.collect()
    assert it.run.step == 2 * left_at


def test_a_loop_inside_takes_over_in_the_middle_of_a_chunk(in_run: Callable[..., SimpleNamespace]) -> None:
    it = in_run(due=1000)
    seen = []
    for item in it.manager.track(range(100), "outer", tick=True):
        if item in (70, 71):
            seen += [it.run.step for _ in it.manager.track(range(3), "inner", tick=True)]
    assert seen == [70, 71, 72, 73, 74, 75]
    assert it.run.step == 98 + 2 * 3


def test_ticks_of_the_body_take_over_in_the_middle_of_a_chunk(in_run: Callable[..., SimpleNamespace]) -> None:
    it = in_run(due=1000)
    for item in it.manager.track(range(100), "train", tick=True):
        if item >= 60 and item % 10 == 0:
            it.run.tick()
    assert it.run.step == 60 + 4


def test_loops_that_alternate_are_counted_once(in_run: Callable[..., SimpleNamespace]) -> None:
    it = in_run()
    inner = iter(it.manager.track(range(100), "inner", tick=True))
    for _ in it.manager.track(range(5), "outer", tick=True):
        next(inner)
    del inner
    gc.collect()
    assert it.run.step == 4, "four items of the inner loop are done, the fifth was left"


def test_a_source_that_ends_early_or_fails_counts_what_was_done(in_run: Callable[..., SimpleNamespace]) -> None:
    def source(fail: bool) -> Iterator[int]:
        yield from range(90)
        if fail:
            raise OSError("the disk is gone")

    it = in_run(due=1000)
    assert list(it.manager.track(source(fail=False), "train", tick=True)) == list(range(90))
    assert it.run.step == 90
    with pytest.raises(OSError, match="the disk is gone"):
        list(it.manager.track(source(fail=True), "train", tick=True))
    gc.collect()
    assert it.run.step == 90 + 90


class OneByOne:
    """Counts as documented, in the simplest way: an item that is done counts, unless its body ticked itself."""

    def __init__(self) -> None:
        self.step = 0
        self.stack: list[SimpleNamespace] = []

    def tick(self) -> None:
        if self.stack:
            self.stack[-1].for_good = self.stack[-1].aside = True
        self.step += 1

    def loop(self, items: range) -> Iterator[int]:
        if self.stack:
            self.stack[-1].aside = True
        me = SimpleNamespace(aside=False, for_good=False)
        self.stack.append(me)
        try:
            for item in items:
                me.aside = me.for_good
                yield item
                self.step += not me.aside
        finally:
            self.stack[:] = [other for other in self.stack if other is not me]


def random_program(
    random: Random,
    loop: Callable[[range], Iterator[int]],
    tick: Callable[[], None],
    interrupt: Callable[[], None],
    step: Callable[[], int],
    depth: int = 0,
) -> list[int]:
    """Nested loops that are left by break and by exceptions, tick, and are interrupted; the step in every body."""
    steps = []
    length = random.choice([0, 1, 2, 3, 20, 150]) if depth < 3 else random.choice([0, 1, 5])
    left_at, fails_at = random.choice([None, None, length // 2, 0]), random.choice([None, None, None, length // 3])
    with contextlib.suppress(KeyError):
        for item in loop(range(length)):
            steps.append(step())
            if random.random() < 0.05:
                random.choice([tick, interrupt])()
            if depth < 3 and random.random() < 0.03:
                steps += random_program(random, loop, tick, interrupt, step, depth + 1)
            if item == left_at:
                break
            if item == fails_at:
                raise KeyError
    return [*steps, step()]


def test_random_programs_have_the_same_step_in_every_body_as_if_counted_one_by_one(
    in_run: Callable[..., SimpleNamespace],
) -> None:
    for seed in range(200):
        it, naive = in_run(due=1 + seed % 97), OneByOne()
        track = functools.partial(it.manager.track, name="train", tick=True)
        ticks = it.run.ticks
        found = random_program(Random(seed), track, it.run.tick, ticks.interrupt, lambda ticks=ticks: ticks.step)
        wanted = random_program(Random(seed), naive.loop, naive.tick, lambda: None, lambda naive=naive: naive.step)
        assert found == wanted, f"program {seed}"


def test_ticking_outside_of_a_run_is_just_a_loop(manager: ProgressManager) -> None:
    assert list(manager.track(range(3), "train", tick=True)) == [0, 1, 2]
    assert completed(manager) == 3
