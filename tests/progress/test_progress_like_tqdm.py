"""What users of tqdm expect of `track`: bars by hand, descriptions, switches, and odd sources."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from ridgepole.progress import NullProgressManager, ProgressManager, progress_task, track, trange
from ridgepole.progress.task import LazyTask


@pytest.fixture
def manager() -> Iterator[ProgressManager]:
    made = ProgressManager(Console(file=io.StringIO()))
    yield made
    made.cleanup()


def row(manager: ProgressManager, name: str = "train") -> LazyTask:
    (task,) = manager.progress_dict[name].cells.values()
    return task


def printed(manager: ProgressManager) -> str:
    text: str = manager.console.file.getvalue()  # type: ignore[attr-defined]
    return text


# --- a tracked iterable in the place of the iterable


def test_it_is_true_unless_it_is_empty(manager: ProgressManager) -> None:
    assert track(iter([1]))
    assert track(n for n in ())
    assert manager.track([1])
    assert not manager.track([])
    assert manager.track(total=0), "a bar by hand"


def test_it_can_be_reversed_and_searched(manager: ProgressManager) -> None:
    bar = manager.track(range(3), "train")
    assert list(reversed(bar)) == [2, 1, 0]
    assert (row(manager).completed, row(manager).finished) == (3, True)
    assert 2 in bar
    assert 3 not in bar
    assert row(manager).passes == 1, "a search is not a loop"
    with pytest.raises(TypeError, match="not reversible"):
        reversed(manager.track(iter([1])))


class Failing:
    """An iterator, not a generator, that raises after so many items."""

    def __init__(self, items: int) -> None:
        self.left = items

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        if self.left == 0:
            raise OSError("the disk is gone")
        self.left -= 1
        return self.left


def failing(items: int) -> Iterator[int]:
    yield from range(items)
    raise OSError("the disk is gone")


@pytest.mark.parametrize("source", [failing, Failing, lambda n: map(lambda x: 1 // (n - x), range(9))])  # noqa: C417
def test_a_source_that_raises_leaves_the_items_that_were_done(source: Any, manager: ProgressManager) -> None:
    with pytest.raises((OSError, ZeroDivisionError)):
        for _ in manager.track(source(2), "train"):
            pass
    assert (row(manager).completed, row(manager).finished) == (2, False)
    manager.cleanup()
    assert "train: stopped at 2/? after" in printed(manager)


def test_a_body_that_raises_leaves_the_item_out_whatever_the_source(manager: ProgressManager) -> None:
    for source in (range(5), iter(range(5)), (n for n in range(5)), map(int, range(5))):

        def loop(source: Any = source) -> None:
            for item in manager.track(source, "train"):
                assert row(manager).completed == item
                1 / (item - 2)

        with pytest.raises(ZeroDivisionError):
            loop()
        assert row(manager).completed == 2


# --- by hand


def test_a_bar_by_hand(manager: ProgressManager) -> None:
    with manager.track(total=10, name="train") as bar:
        assert row(manager).active, "it shows before the first step"
        bar.update()
        bar.update(4)
        bar.set(loss=0.5)
        assert row(manager).completed == 5
        bar.update(5)
    assert row(manager).finished
    assert row(manager).note_text == "loss=0.5"


def test_a_bar_by_hand_that_ends_early_or_fails_has_stopped(manager: ProgressManager) -> None:
    bar = manager.track(total=10, name="train", initial=2)
    bar.update(3)
    bar.close()
    bar.close()
    assert (row(manager).completed, row(manager).ended, row(manager).finished) == (5, True, False)

    def fail() -> None:
        with manager.track(name="train") as again:
            again.update(7)
            raise OSError

    with pytest.raises(OSError, match=r"^$"):
        fail()
    assert (row(manager).completed, row(manager).finished, row(manager).passes) == (7, False, 2)


def test_a_bar_by_hand_says_what_it_can_not_do(manager: ProgressManager) -> None:
    with pytest.raises(TypeError, match=r"has no iterable to loop over; advance it with update"):
        iter(manager.track(total=3))
    with pytest.raises(ValueError, match="total of 'train'"):
        manager.track(total=-1, name="train")


def test_trange_counts_as_range_does() -> None:
    assert list(trange(2, 8, 3)) == [2, 5]
    assert len(trange(4, name="steps", disable=True)) == 4


# --- how it looks


def test_a_description_changes_and_the_row_stays_the_same(manager: ProgressManager) -> None:
    for epoch in range(2):
        bar = manager.track(range(2), "train")
        bar.set_description(f"epoch {epoch}")
        for _ in bar:
            assert row(manager).description == f"epoch {epoch}"
        bar.set_description("done\nat last")
        assert row(manager).description == "done at last"
    assert list(manager.track(range(2), "train")) == [0, 1]
    assert (row(manager).description, row(manager).passes) == ("train", 3)


def test_a_row_that_does_not_stay(manager: ProgressManager) -> None:
    for leave in (False, True):
        for _ in manager.track(range(2), "train", leave=leave):
            pass
        assert row(manager).visible == leave


def test_a_disabled_bar_has_no_row_and_counts(manager: ProgressManager) -> None:
    bar = manager.track(range(3), "train", disable=True)
    bar.set_description("hidden")
    assert list(bar) == [0, 1, 2]
    with manager.track(total=3, name="train", disable=True) as by_hand:
        by_hand.update(2)
    assert "train" not in manager.progress_dict


@pytest.mark.parametrize("word", ["0", "false", "OFF"])
def test_the_environment_hides_all_rows(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, shows in [(word, False), ("1", True)]:
        monkeypatch.setenv("RIDGEPOLE_PROGRESS", value)
        made = ProgressManager(Console(file=io.StringIO()))
        assert list(made.track(range(3), "train")) == [0, 1, 2]
        made.cleanup()
        assert bool(printed(made)) == shows
        assert row(made).completed == 3


def test_bytes_are_scaled(manager: ProgressManager) -> None:
    with manager.track(total=3_000_000, name="train", unit="B", unit_scale=True) as bar:
        for steps, text in [(0, "0/3M"), (999, "999/3M"), (501, "1.5k/3M"), (2_000_000, "2M/3M"), (998_500, "3M/3M")]:
            bar.update(steps)
            assert row(manager).count_text() == text
    manager.cleanup()
    assert "train: 3M/3M done" in printed(manager)
    assert "B/s" in printed(manager)


# --- decorated functions


def test_a_task_is_called_as_its_function(manager: ProgressManager) -> None:
    manager.add_progress("fit")

    @manager.progress_task("fit")
    def fit(loader: list[int], task_id: int, progress: Any) -> int:
        for _ in loader:
            progress.advance(task_id)
        return len(loader)

    assert fit([1, 2, 3]) == 3
    assert fit(loader=[1, 2]) == 2
    assert (row(manager, "fit").completed, row(manager, "fit").total, row(manager, "fit").finished) == (2, 2, True)


def test_what_a_generator_yields_advances(manager: ProgressManager) -> None:
    @manager.progress_task("train")
    def squares(numbers: list[int], total: int) -> Iterator[int]:
        for number in numbers:
            yield number * total

    found = squares([1, 2, 3])
    assert next(found) == 3
    assert next(found) == 6
    assert row(manager).completed == 1
    assert list(found) == [9]
    assert (row(manager).completed, row(manager).total, row(manager).finished) == (3, 3, True)


def test_a_task_without_a_name_has_that_of_its_function(
    manager: ProgressManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ridgepole.progress.script._manager", lambda: manager)

    @progress_task()
    def fit(loader: list[int], task_id: int, progress: Any) -> None:
        for _ in loader:
            progress.advance(task_id)

    fit([1, 2])
    assert (row(manager, "fit").description, row(manager, "fit").finished) == ("fit", True)


@pytest.mark.parametrize("made", [NullProgressManager, None])
def test_the_same_without_a_display(made: Any) -> None:
    decorate = progress_task() if made is None else made().progress_task("pairs")

    @decorate
    def pairs(total: int | None) -> Iterator[int | None]:
        yield total

    assert list(pairs(5)) == [5]
    assert list(pairs()) == [None]


def test_functions_that_can_not_be_followed_name_track(manager: ProgressManager) -> None:
    async def later(total: int) -> None: ...

    def stepwise(total: int, progress: Any) -> Iterator[int]:
        yield total

    for function, message in [(later, "write track"), (stepwise, "can't pass progress: use track"), (3, "functions")]:
        with pytest.raises(TypeError, match=message):
            manager.progress_task("train")(function)  # type: ignore[arg-type]

    @progress_task()
    def nothing(name: str) -> None: ...

    with pytest.raises(TypeError, match=r"nothing.*first argument is the total number of steps.*write track"):
        nothing("x")
