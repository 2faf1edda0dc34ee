"""my_experiment: fits a straight line to noisy points. Put your network in its place, and your data in theirs."""

import random

from pydantic import PositiveFloat, PositiveInt

from ridgepole import Permanence, process, track
from ridgepole.permanences import BaseLoggerManager


class Line(Permanence):
    """What outlives a step: here two numbers that are learnt, in your project a network.

    Args:
        rate: How far one point moves the line.
    """

    def __init__(self, rate: PositiveFloat = 0.1) -> None:
        self.rate = rate
        self.slope = 0.0
        self.offset = 0.0

    def learn(self, x: float, y: float) -> float:
        """Moves the line towards a point; returns the squared distance before."""
        error = self.slope * x + self.offset - y
        self.slope -= self.rate * error * x
        self.offset -= self.rate * error
        return error * error

    def state_dict(self) -> dict[str, float]:
        """What has been learnt."""
        return {"slope": self.slope, "offset": self.offset}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Takes over what `state_dict` gave."""
        self.slope = state["slope"]
        self.offset = state["offset"]

    def cleanup(self) -> None:
        """Gives back what the permanence holds, such as memory of a device; two numbers need nothing."""


@process
def fit(line: Line, logger: BaseLoggerManager, steps: PositiveInt = 2000) -> None:
    """Shows the line one point after another, all near y = 3x - 1."""
    bar = track(range(steps), "fit", tick=True)
    for _ in bar:
        x = random.uniform(-1, 1)
        loss = line.learn(x, 3 * x - 1 + random.gauss(0, 0.1))
        logger.log_metrics({"loss": loss})
        bar.set(loss=loss)
    logger.log_metrics({"slope": line.slope, "offset": line.offset})
