"""The estimate of the time left, against a clock that the test moves."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

import pytest

from ridgepole.progress import text
from ridgepole.progress.task import RateEstimator


def mean_error(seconds: Iterable[float], initial: int = 0) -> tuple[float, int]:
    """Mean factor by which the estimate is off over a whole task, and how often there was none after a first step."""
    steps = list(seconds)
    now, count = 1000.0, float(initial)
    pace = RateEstimator(now, count)
    end = now + sum(steps)
    errors, blanks, looked = [], 0, now
    for number, step in enumerate(steps):
        now, count = now + step, count + 1
        if now - looked >= 0.1:  # as often as a display looks
            pace.see(now, count)
            looked = now
        true = end - now
        if number and true > 0.05 * (end - 1000.0):
            left = pace.remaining(now, initial + len(steps) - count)
            if left is None:
                blanks += looked > 1000.0
            elif left > 0:
                errors.append(abs(math.log2(left / true)))
    return 2 ** (sum(errors) / len(errors)), blanks


_random = random.Random(0)


@pytest.mark.parametrize(
    ("seconds", "initial", "factor"),
    [
        pytest.param([0.02] * 5000, 0, 1.02, id="steady"),
        pytest.param([0.02 * _random.lognormvariate(0, 0.7) for _ in range(5000)], 0, 1.1, id="jitter"),
        pytest.param([60.0] + [0.02] * 5000, 0, 1.2, id="warm-up of a minute"),
        pytest.param([45.0] * 60, 0, 1.1, id="45 s a step"),
        pytest.param([0.2] * 1000, 9000, 1.05, id="resumed at 9000 of 10000"),
        pytest.param([30.0 if n % 500 == 499 else 0.1 for n in range(5000)], 0, 1.5, id="pauses for validation"),
        pytest.param([0.02] * 2500 + [0.06] * 2500, 0, 2.0, id="slows down"),
        pytest.param([2.0 if n % 100 == 99 else 0.001 for n in range(5000)], 0, 1.3, id="bursts"),
    ],
)
def test_the_estimate_is_close(seconds: list[float], initial: int, factor: float) -> None:
    off, blanks = mean_error(seconds, initial)
    assert off < factor
    assert blanks == 0


def test_nothing_is_known_before_the_first_step() -> None:
    pace = RateEstimator(0.0, 5)
    pace.see(100.0, 5)
    assert pace.rate is None
    assert pace.remaining(100.0, 10) is None


def test_waiting_counts_for_one_step_at_most() -> None:
    pace = RateEstimator(0.0, 0)
    for step in range(1, 5):
        pace.see(step * 10.0, step)
    assert pace.remaining(40.0, 6) == pytest.approx(60)
    assert pace.remaining(47.0, 6) == pytest.approx(53)
    assert pace.remaining(500.0, 6) == pytest.approx(50), "a stall never counts down to nothing"


def test_a_pause_on_purpose_is_left_out() -> None:
    pace = RateEstimator(0.0, 0)
    for step in range(1, 5):
        pace.see(step * 10.0, step)
    pace.skip(3600.0)
    pace.see(3650.0, 5)
    assert pace.rate == pytest.approx(0.1)


def test_steps_that_end_in_bursts_have_the_average_since_the_start() -> None:
    """Two workers of 10 s a trial: a second trial right behind the first one is not a rate of 4 a second."""
    pace = RateEstimator(0.0, 3, overall=True)
    assert pace.rate is None
    pace.see(10.0, 4)
    pace.see(10.25, 5)
    assert pace.rate == pytest.approx(2 / 10.25)
    assert pace.remaining(10.25, 4) == pytest.approx(4 * 10.25 / 2)
    pace.skip(3600.0)
    pace.see(3620.5, 7)
    assert pace.rate == pytest.approx(4 / 20.5)
    pace.see(3621.0, 0)
    pace.see(3625.0, 1)
    assert pace.rate == pytest.approx(1 / 4)


def test_a_count_that_goes_back_starts_anew() -> None:
    pace = RateEstimator(0.0, 0)
    pace.see(1.0, 100)
    pace.see(2.0, 200)
    pace.see(3.0, 0)
    assert pace.rate is None


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-:--:--"),
        (0.0, "0:00:00"),
        (0.3, "0:00:01"),
        (59.5, "0:01:00"),
        (3661, "1:01:01"),
        (90000, "25:00:00"),
        (4e6, "46 d"),
        (math.inf, "-:--:--"),
        (math.nan, "-:--:--"),
    ],
)
def test_durations(seconds: float | None, shown: str) -> None:
    assert text.duration(seconds) == shown


@pytest.mark.parametrize(
    ("rate", "shown"),
    [
        (None, ""),
        (0.02, "50.0 s/it"),
        (0.5, "2.00 s/it"),
        (3.14, "3.1 it/s"),
        (312.2, "312 it/s"),
        (37.4e6, "37.4 Mit/s"),
    ],
)
def test_rates(rate: float | None, shown: str) -> None:
    assert text.pace(rate, "it") == shown


def test_foreign_text_is_harmless() -> None:
    assert text.clean("a\tb\x1b[31mc\nd\x00\u202e\u200f") == "a b?[31mc d?"
    assert text.clean("训练 ünd é") == "训练 ünd é"


def test_seconds_of_another_time_weight_the_steps() -> None:
    pace = RateEstimator(0.0, 0)
    took = [10.0, 1.0, 89.0]
    assert pace.remaining_of(0.0, took, 0) == pytest.approx(100), "known before the first step"
    assert pace.remaining_of(4.0, took, 0) == pytest.approx(96)
    assert pace.remaining_of(15.0, took, 0) == pytest.approx(90), "a step that is late counts for nothing"
    pace.see(10.0, 1)
    assert pace.remaining_of(10.0, took, 1) == pytest.approx(90), "a third of the steps, a tenth of the work"
    pace.see(21.0, 2)
    assert pace.remaining_of(21.0, took, 2) == pytest.approx(97.9), "it is slower than last time"
    pace.see(110.0, 3)
    assert pace.remaining_of(110.0, took, 3) == 0
    assert RateEstimator(0.0, 0).remaining_of(0.0, [0.0, 0.0], 0) == 0
