"""Where the time of steps goes, on a clock that the test moves, and what is said about it."""

import json
import threading

import pytest

from ridgepole import Pipeline, process, rundir, steptimes, track
from ridgepole.loggers.composite import LoggerGroup, NullLogger
from ridgepole.loggers.slot import slot_of
from ridgepole.permanences import BaseLoggerManager
from ridgepole.progress import tracked
from ridgepole.progress.tracked import SilentHost, TrackedIterable
from ridgepole.steptimes import StepTimes
from ridgepole.ticks import Ticks
from ridgepole.watch import steptime
from ridgepole.watch.steptime import StepTime


class Run:
    """As much of a run as a loop needs, with a clock of its own."""

    def __init__(self):
        self.now = 1000.0
        self.ticks = Ticks()

    def track(self, source, tick=1, **options):
        return TrackedIterable(SilentHost(), source, name="loop", run=self, window=tick, **options)

    def loads(self, seconds):
        """A source that takes so long for each item."""
        for number, took in enumerate(seconds):
            self.now += took
            yield number

    def parts(self):
        spent = self.ticks.spent()
        return round(spent.seconds, 6), {part: round(took, 6) for part, took in spent.parts.items() if took}


@pytest.fixture
def run(monkeypatch):
    run = Run()
    for module in (tracked.time, steptimes):
        monkeypatch.setattr(module, "perf_counter", lambda: run.now)
    return run


@pytest.mark.parametrize("tick", [1, 4])
@pytest.mark.parametrize("body", [0.5, 0.0])
def test_a_loop_knows_how_long_it_waited_for_items(run, tick, body):
    """Also for quick items, several of which are counted at once, and where one of them stalls."""
    waits = [0.25, 0.0, 0.0, 0.0] * 10 + [2.0] + [0.0] * 100 + [3.0]
    for _ in run.track(run.loads(waits), tick):
        run.now += body
    assert run.parts() == (sum(waits) + body * len(waits), {"data": sum(waits)})
    spent = run.ticks.spent()
    assert (spent.steps, spent.items) == (-(-len(waits) // tick), len(waits))


def test_a_body_that_ticks_itself_is_measured_too(run):
    for _ in run.track(run.loads([0.5] * 9)):
        run.ticks.tick()
        run.now += 0.25
        run.ticks.tick()
    assert run.parts() == (9 * 0.75, {"data": 4.5})
    spent = run.ticks.spent()
    assert (spent.steps, spent.items) == (18, 9)


def test_the_loop_inside_has_the_items(run):
    class Loader:
        batch_size, num_workers = 32, 3

        def __iter__(self):
            return run.loads([0.5] * 4)

    for _ in run.track(range(2)):
        for _ in run.track(Loader(), units={"tokens": 10}, flops_per_item=1e9):
            run.now += 1.0
        run.now += 0.125  # validation
    assert run.parts() == (2 * (4 * 1.5 + 0.125), {"data": 4.0})
    spent = run.ticks.spent()
    assert (spent.steps, spent.items) == (8, 2 * 4 * 32)
    times = steptime.measured(spent, run.ticks.times.source, card="NVIDIA A100-SXM4-40GB")
    assert (times.source, times.num_workers, times.code) == ("Loader", 3, 8.25)
    rates = times.rates()
    assert rates["items_per_second"] == pytest.approx(256 / 12.25)
    assert rates["tokens_per_second"] == pytest.approx(2560 / 12.25)
    assert rates["mfu"] == pytest.approx(256 / 12.25 * 1e9 / 312e12)


def test_a_range_is_all_code_and_time_between_loops_does_not_count(run):
    for _ in range(2):
        for _ in run.track(range(10)):
            run.now += 0.5
        run.now += 100.0
    assert run.parts() == (10.0, {})


def test_a_loop_that_is_left_early_keeps_its_waits(run):
    for number in run.track(run.loads([1.0] * 10)):
        run.now += 1.0
        if number == 2:
            break
    assert run.parts() == (6.0, {"data": 3.0})


def test_steps_by_hand_are_timed_from_the_first_on(run):
    for _ in range(5):
        run.now += 2.0
        run.ticks.tick()
        run.ticks.times.waited(0.5)  # as ResumableLoader does
    assert run.parts() == (8.0, {"data": 2.5})
    run.ticks.times.pause()
    run.now += 50.0
    run.ticks.tick()
    assert run.parts()[0] == 8.0


def test_a_part_inside_another_counts_once_and_only_in_steps(run):
    times = run.ticks.times

    def log(seconds):
        with times.spent("logging"):
            run.now += seconds

    log(7.0)
    for number in run.track(range(3)):
        log(0.25)
        with times.spent("checkpoints"):
            log(1.0)
        if number == 2:
            other = threading.Thread(target=log, args=(4.0,))  # another thread's time is none of the step's
            other.start()
            other.join()
    assert run.parts() == (3 * 1.25 + 4.0, {"logging": 0.75, "checkpoints": 3.0})


def test_a_group_of_loggers_times_its_calls(run):
    class Slow(NullLogger):
        strict = True

        def log_metrics(self, metrics, *, step=None):
            self.resolve(metrics, step)
            run.now += 0.5

    def group(*members):
        for member in members:
            slot_of(member).steps.ticks = run.ticks
        return LoggerGroup(members)

    both, alone = group(Slow(), NullLogger()), group(Slow())
    for _ in run.track(range(32)):
        both.log_metrics({"loss": 1.0})
        alone.log_metrics({"loss": 1.0})
    seconds, parts = run.parts()
    assert (seconds, parts) == (32.0, {"logging": 32.0})  # one call in 16 stands for the others


# --- the verdict


def times(seconds=100.0, steps=1000, items=64_000, **more):
    return StepTime(
        **{"seconds": seconds, "steps": steps, "items": items, "cores": 16.0, "source": "DataLoader"} | more
    )


@pytest.mark.parametrize(
    ("ranks", "said"),
    [
        ([], ""),
        ([times(data=3.0, num_workers=4)], "97 % of the time ran your code, 3 % waited for data"),
        ([times(data=64.0, num_workers=2)], "64 % of the time waited for data: num_workers = 2 → try 6"),
        ([times(data=64.0, num_workers=0)], "64 % of the time waited for data: num_workers = 0 → try 2"),
        ([times(data=99.9, num_workers=4, cores=8.0)], "100 % of the time waited for data: num_workers = 4 → try 8"),
        (
            [times(data=50.0, num_workers=8, cores=8.0)],
            (
                "50 % of the time waited for data: num_workers = 8 on 8 cores can't load faster: "
                "make an item cheaper to load"
            ),
        ),
        (
            [times(data=50.0, source="generator")],
            (
                "50 % of the time waited for data: generator loads in the training process; "
                "a loader with num_workers loads ahead"
            ),
        ),
        (
            [times(checkpoints=30.0, logging=12.0, num_workers=1)],
            (
                "30 % of the time took checkpoints; 12 % of the time was spent logging: "
                "take them less often (every_steps, every_seconds)"
            ),
        ),
        (
            [times(data=1.0), times(rank=1, data=40.0, num_workers=1)],
            "40 % of the time waited for data on rank 1: num_workers = 1 → try 2",
        ),
        ([times(seconds=0.0, steps=0, items=0)], "0 % of the time ran your code, 0 % waited for data"),
    ],
)
def test_the_verdict_names_the_wait_and_what_to_try(ranks, said):
    assert steptime.verdict(ranks) == said


@pytest.mark.parametrize(
    ("card", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA A10G", 70),
        ("NVIDIA L40S", 362),
        ("Tesla T4", 65),
        ("NVIDIA T400 4GB", None),
        ("AMD Instinct MI300X", 1307.4),
        ("", None),
    ],
)
def test_the_peak_of_a_card_is_known_by_its_name(card, teraflops):
    peak = steptime.peak_flops(card)
    assert peak == (None if teraflops is None else pytest.approx(teraflops * 1e12))


def test_a_record_is_read_again_and_a_damaged_one_or_an_old_attempt_is_left_out(tmp_path):
    mine = times(attempt=2, units={"tokens": 8.0}, num_workers=2)
    steptime.write(tmp_path, mine)
    steptime.write(tmp_path, times(rank=1, attempt=1))
    steptime.write(tmp_path, times(rank=2, attempt=2))
    (tmp_path / "steptime-rank-3.json").write_text('{"seconds": "many"}')
    assert steptime.read(tmp_path) == [mine, times(rank=2, attempt=2)]
    assert steptime.read(tmp_path / "nowhere") == []


def test_units_must_be_numbers():
    with pytest.raises(TypeError, match=r"units\['tokens'\] must be a number"):
        TrackedIterable(SilentHost(), [1], name="a", units={"tokens": "many"})
    with pytest.raises(TypeError, match="flops_per_item must be a number of at least 0, not -1"):
        TrackedIterable(SilentHost(), [1], name="a", flops_per_item=-1)


# --- in runs


@process
def train(controller, logger: BaseLoggerManager):
    for _ in track(iter(range(4)), "train", tick=True):
        logger.log_metrics({"loss": 1.0})
        controller.checkpoint()


def test_runs_show_has_the_step_times(tmp_path, monkeypatch, ridgepole):
    monkeypatch.setattr(steptime, "LEAST_SECONDS", 0.0)
    run = Pipeline("steps", progress=False, seed=1).process("train", train).run(tmp_path / "runs").path
    (found,) = steptime.read(run)
    assert (found.steps, found.items, found.source) == (4, 4, "range_iterator")
    assert found.checkpoints > 0
    steptime.write(run, times(data=64.0, num_workers=2, units={"tokens": 16.0}))
    shown = ridgepole("runs", "show", "latest").stdout.splitlines()
    assert "steps     100 ms a step, 640 items/s, 1.024e+04 tokens/s: code 36 %, data 64 %" in shown
    assert "verdict   64 % of the time waited for data: num_workers = 2 → try 6" in shown
    answer = json.loads(ridgepole("runs", "show", "latest", "--json").stdout)
    assert answer["verdict"].startswith("64 % of the time waited for data")
    assert answer["step_time"][0]["rates"]["steps_per_second"] == 10.0


def test_a_short_run_leaves_no_record(tmp_path):
    run = Pipeline("steps", progress=False, seed=1).process("train", train).run(tmp_path / "runs").path
    assert {rundir.STEPTIME, rundir.SYSTEM}.isdisjoint(path.name for path in run.iterdir())


def test_a_loader_in_a_loop_of_its_own_notes_its_waits(run, monkeypatch):
    pytest.importorskip("torch")
    from ridgepole.data import ResumableLoader, loader
    from ridgepole.permanence import current_run

    class Slow(list):
        def __getitem__(self, index):
            run.now += 0.25
            return super().__getitem__(index)

    monkeypatch.setattr(loader, "perf_counter", lambda: run.now)
    batches = ResumableLoader(Slow(range(12)), batch_size=4)
    token = current_run.set(run)
    try:
        run.ticks.tick()
        for _ in batches:
            run.now += 1.0
            run.ticks.tick()
        assert run.parts() == (6.0, {"data": 3.0})
        assert run.ticks.spent().items == 12
        for _ in run.track(batches):
            run.now += 1.0
        assert run.parts() == (12.0, {"data": 6.0}), "counted once where the loop measures it"
    finally:
        current_run.reset(token)


def test_a_thread_may_take_a_snapshot_of_a_running_step():
    measured = StepTimes()
    measured.begin()
    before = measured.snapshot(2)
    after = measured.snapshot(3)
    assert after.steps - before.steps == 1
    assert after.since(before).seconds >= 0
