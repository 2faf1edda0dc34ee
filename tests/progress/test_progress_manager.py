"""The surface of the progress managers: bars, tasks, matching, errors, decorated functions."""

from __future__ import annotations

import copy
import inspect
import io
import json
import pickle
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from rich.console import Console
from rich.live import Live
from rich.progress import Progress

from ridgepole.errors import ProgressNoMatch
from ridgepole.permanence import Permanence
from ridgepole.progress import NullProgressManager, ProgressManager


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def manager(clock: Clock) -> Iterator[ProgressManager]:
    class Timed(ProgressManager):
        _clock = staticmethod(clock)

    made = Timed(Console(file=io.StringIO()))
    yield made
    made.cleanup()


def test_the_constructor_is_that_of_the_reference(manager: ProgressManager) -> None:
    parameters = inspect.signature(ProgressManager).parameters
    assert {name: parameter.default for name, parameter in parameters.items()} == {"console": None, "direct": False}
    assert isinstance(manager, Permanence)
    assert list(manager.progress_dict) == ["overall", "cleanup", "result"]
    assert all(isinstance(bar, Progress) for bar in manager.progress_dict.values())
    assert isinstance(manager.live, Live)
    assert isinstance(ProgressManager(manager.console, direct=True).live, Live)
    assert isinstance(manager._create_progress("#123456"), Progress)
    with pytest.raises(TypeError, match="Console"):
        ProgressManager("stderr")  # type: ignore[arg-type]


def test_the_null_manager_has_the_identical_surface() -> None:
    def surface(cls: type) -> dict[str, object]:
        members = dict(inspect.getmembers(cls))
        names = [name for name in members if not name.startswith("_") or name in ("_create_progress", "_init_live")]
        return {
            name: [(p.name, p.kind, p.default) for p in inspect.signature(members[name]).parameters.values()]
            if callable(members[name])
            else "value"
            for name in names
        }

    shown, null = surface(ProgressManager), surface(NullProgressManager)
    assert shown == null
    for made in (ProgressManager(Console(file=io.StringIO())), NullProgressManager()):
        assert all(hasattr(made, name) for name in ("progress_dict", "live", "console"))
    constructor = inspect.signature(NullProgressManager).parameters
    assert list(constructor) == list(inspect.signature(ProgressManager).parameters)


def test_the_null_manager_takes_every_call() -> None:
    null = NullProgressManager()
    with null as manager, manager.live, manager.paused():
        manager.add_progresses([{"name": "train", "with_status": True}])
        task = manager.add_task_to_progress("train", 5)
        manager.advance("train", task, 2, status="x")
        manager.update("nowhere", task, "x", advance=True)
        manager.reset("train")
        manager.init_live()
        assert list(manager.track(range(3), "train")) == [0, 1, 2]

        @manager.progress_task("anything")
        def work(total: int, task_id: int, progress: Any) -> int:
            for _ in range(total):
                progress.advance(task_id)
            return total

        assert work(4) == 4
    takes_all = set(dir(null.progress_dict["overall"]))
    public = {name for name, value in inspect.getmembers(Progress, inspect.isfunction) if not name.startswith("_")}
    assert public - takes_all <= {"get_renderable", "get_renderables", "make_tasks_table", "wrap_file", "open"}


def test_the_null_manager_needs_no_rich() -> None:
    program = (
        "import sys; from ridgepole.progress import NullProgressManager as N; "
        "list(N().track(range(3), tick=True)); print([m for m in sys.modules if m.split('.')[0] == 'rich'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- bars -----------------------------------------------------------------------------------------------------------


def test_bars_have_colours_of_their_own(manager: ProgressManager) -> None:
    for number in range(40):
        manager.add_progress(f"bar{number}")
    colours = [bar.color for bar in manager.progress_dict.values()]
    assert len(set(colours)) == len(colours) == 43


def test_adding_a_bar_again_gives_the_one_that_is_there(manager: ProgressManager) -> None:
    first = manager.add_progress("train")
    assert manager.add_progress("train", with_status=True) is first


@pytest.mark.parametrize(
    "wrong", [[{"name": "a"}, {"title": "b"}], [{"name": "a"}, "b"], [{"name": "a", "colour": 1}], [{"name": 3}]]
)
def test_several_bars_are_added_all_or_none(manager: ProgressManager, wrong: list[Any]) -> None:
    with pytest.raises(TypeError):
        manager.add_progresses(wrong)
    assert "a" not in manager.progress_dict


# -- tasks ----------------------------------------------------------------------------------------------------------


def shown(manager: ProgressManager, name: str) -> list[bool]:
    manager.live.refresh()
    return [task.visible for task in manager.progress_dict[name].tasks]


def test_a_task_shows_at_its_first_advance_and_hides_at_its_end(manager: ProgressManager) -> None:
    task = manager.add_task_to_progress("overall", 2)
    assert shown(manager, "overall") == [False]
    manager.advance("overall", task)
    assert shown(manager, "overall") == [True]
    manager.advance("overall", task)
    assert shown(manager, "overall") == [False]
    assert manager.progress_dict["overall"].finished
    manager.reset("overall")
    assert shown(manager, "overall") == [True]
    assert manager.progress_dict["overall"].tasks[0].completed == 0


def test_a_visible_task_shows_from_the_start_and_stays(manager: ProgressManager) -> None:
    task = manager.add_task_to_progress("overall", 2, visible=True)
    assert shown(manager, "overall") == [True]
    manager.advance("overall", task, 2)
    assert shown(manager, "overall") == [True]


def test_steps_may_be_fractions_and_go_beyond_the_end(manager: ProgressManager) -> None:
    task = manager.add_task_to_progress("overall", 1)
    for _ in range(4):
        manager.advance("overall", task, 0.5)
    manager.update("overall", task, advance=True)
    assert manager.progress_dict["overall"].tasks[0].completed == 3


def test_the_bar_is_found_by_name_then_by_part(manager: ProgressManager) -> None:
    manager.add_progress("train-val-test")
    manager.add_progress("val")
    for name in ("val", "test", "train-val-test"):
        manager.add_task_to_progress(name, 1)
    manager.add_task_to_progress("anything at all", 1, progress_name="val")
    by_bar = {name: [task.description for task in bar.tasks] for name, bar in manager.progress_dict.items()}
    assert by_bar["val"] == ["val", "anything at all"]
    assert by_bar["train-val-test"] == ["test", "train-val-test"]


def test_what_does_not_fit_is_refused_by_name(manager: ProgressManager) -> None:
    manager.add_progress("training")
    with pytest.raises(RuntimeError, match=r"no progress bar fits the task 'train'.*training"):
        manager.add_task_to_progress("train", 1)  # only the decorator takes a part of a word
    with pytest.raises(ValueError, match=r"unknown progress bar 'trainin'.*did you mean 'training'"):
        manager.add_task_to_progress("x", 1, progress_name="trainin")
    task = manager.add_task_to_progress("training", 1)
    for call in (
        lambda: manager.advance("trainin", task),
        lambda: manager.update("trainin", task),
        lambda: manager.reset("trainin"),
    ):
        with pytest.raises(ValueError, match="unknown progress bar 'trainin'"):
            call()
    for call in (lambda: manager.advance("overall", 0), lambda: manager.update("training", 99)):
        with pytest.raises(ValueError, match="has no task"):
            call()


def test_a_task_of_another_bar_is_told_even_where_both_count_from_zero(manager: ProgressManager) -> None:
    train = manager.add_task_to_progress("overall", 10)
    other = manager.add_task_to_progress("cleanup", 10)
    assert (train, other) == (0, 0)
    bar = manager.progress_dict["overall"]
    for call in (
        lambda: manager.advance("overall", other),
        lambda: manager.update("overall", other, advance=True),
        lambda: bar.advance(other),
        lambda: bar.update(other, advance=1),
        lambda: bar.reset(other),
    ):
        with pytest.raises(ValueError, match="bar 'overall' was given task 0 of bar 'cleanup'"):
            call()
    manager.advance("overall", 0)  # a plain number is taken as it is
    assert pickle.loads(pickle.dumps(train)) == copy.copy(train) == json.loads(json.dumps(train)) == 0
    assert [task.completed for task in (*bar.tasks, *manager.progress_dict["cleanup"].tasks)] == [1, 0]


@pytest.mark.parametrize(("total", "error"), [(-1, ValueError), ("ten", TypeError), (float("nan"), ValueError)])
def test_a_total_that_is_none_is_refused(manager: ProgressManager, total: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="overall"):
        manager.add_task_to_progress("overall", total)
    assert not manager.progress_dict["overall"].tasks


def test_a_missing_total_is_unknown(manager: ProgressManager) -> None:
    task = manager.add_task_to_progress("overall", None)
    manager.advance("overall", task, 5)
    assert shown(manager, "overall") == [True]
    assert not manager.progress_dict["overall"].finished


def test_threads_lose_no_step(manager: ProgressManager) -> None:
    task = manager.add_task_to_progress("overall", 10**6)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:

        def work() -> None:
            for _ in range(5000):
                manager.advance("overall", task)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert manager.progress_dict["overall"].tasks[0].completed == 40_000


def test_the_bars_work_with_rich_s_own_calls(manager: ProgressManager) -> None:
    bar = manager.add_progress("train")
    task = bar.add_task("rich", total=10)
    bar.advance(task)
    bar.update(task, advance=2, description="still rich")
    bar.update(task, completed=7)
    assert (bar.tasks[0].completed, bar.tasks[0].description) == (7, "still rich")
    bar.update(task, completed=10)
    assert bar.finished
    bar.update(task, total=20)
    assert not bar.finished
    bar.reset(task)
    assert bar.tasks[0].completed == 0
    assert list(bar.track([1, 2, 3], task_id=task)) == [1, 2, 3]
    assert bar.tasks[0].completed == 3
    with pytest.raises(ValueError, match="'train' has no task 5"):
        bar.advance(5)  # type: ignore[arg-type]
    bar.remove_task(task)
    assert bar.task_ids == []


def test_the_state_tells_every_count(manager: ProgressManager) -> None:
    list(manager.track(range(3), "train"))
    state = manager.get_state()
    assert state["bars"]["train"] == [{"task": "train", "completed": 3, "total": 3}]
    assert state["type"] == "Timed"


def test_after_the_clean_up_loops_go_on_counting_in_silence(manager: ProgressManager) -> None:
    manager.cleanup()
    assert list(manager.track(range(3), "train")) == [0, 1, 2]
    assert manager.progress_dict["train"].tasks[0].completed == 3
    assert manager.console.file.getvalue() == ""  # type: ignore[attr-defined]


# -- decorated functions --------------------------------------------------------------------------------------------


def test_a_function_gets_what_its_signature_asks_for(manager: ProgressManager) -> None:
    manager.add_progress("train")

    @manager.progress_task("train")
    def everything(total: int, task_id: int, progress: Progress, rate: float = 1.0, *more: int, mode: str = "a") -> Any:
        """Says so."""
        for _ in range(total):
            progress.advance(task_id)
        return total, rate, more, mode

    @manager.progress_task("train")
    def nothing(items: list[int]) -> int:
        return len(items)

    assert everything(3) == (3, 1.0, (), "a")
    assert everything(3, 0.5, 7, 8, mode="b") == (3, 0.5, (7, 8), "b")
    assert everything(total=2) == (2, 1.0, (), "a")
    assert nothing(9, [1, 2]) == 2
    assert (everything.__name__, everything.__doc__) == ("everything", "Says so.")
    with pytest.raises(TypeError, match="first argument is the total"):
        everything()
    with pytest.raises(TypeError, match="speed"):
        everything(3, speed=1)


def test_a_method_gets_its_object_first(manager: ProgressManager) -> None:
    manager.add_progress("train")

    class Trainer:
        @manager.progress_task("train")
        def fit(self, total: int, progress: Progress, task_id: int) -> Any:
            progress.advance(task_id, total)
            return self, total

    trainer = Trainer()
    assert trainer.fit(4) == (trainer, 4)
    assert manager.progress_dict["train"].finished


def test_calls_share_a_row_and_an_error_closes_it(manager: ProgressManager, clock: Clock) -> None:
    manager.add_progress("train")

    @manager.progress_task("train", visible=False)
    def work(total: int, task_id: int, progress: Progress, fail: bool = False) -> None:
        progress.advance(task_id)
        clock.seconds += 5
        assert progress.tasks[0].visible, "it shows while it runs"
        if fail:
            raise OSError("disk")

    for _ in range(3):
        work(1)
    with pytest.raises(OSError, match="disk"):
        work(2, fail=True)
    (task,) = manager.progress_dict["train"].tasks
    assert (task.completed, task.finished, task.visible) == (1, False, False)
    clock.seconds += 100
    assert task.elapsed == 5


def test_recursion_has_a_row_for_every_call_that_is_going_on(manager: ProgressManager) -> None:
    manager.add_progress("train")

    @manager.progress_task("train")
    def nest(total: int, depth: int) -> int:
        running = sum(task.active for task in manager.progress_dict["train"].tasks)
        return max(running, nest(total, depth - 1)) if depth else running

    assert nest(1, 2) == 3
    assert len(manager.progress_dict["train"].tasks) == 3


def test_a_decorator_without_a_bar_says_so_when_called(manager: ProgressManager) -> None:
    @manager.progress_task("pro")
    def work(total: int) -> int:
        return total

    with pytest.raises(ProgressNoMatch, match=r"'pro'.*overall"):
        work(1)
    manager.add_progress("preprocessing")
    assert work(1) == 1  # a part of a word will do


def test_functions_that_run_later_are_refused(manager: ProgressManager) -> None:
    async def later(total: int) -> None: ...

    async def stepwise(total: int) -> AsyncIterator[int]:
        yield total

    for function in (later, stepwise, 3):
        with pytest.raises(TypeError, match="progress_task"):
            manager.progress_task("train")(function)  # type: ignore[arg-type]
