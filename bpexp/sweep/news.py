"""What those who train tell of it while they do: how far they are, and a gradient's profile.  A few times a second at most."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bpexp.core.arrays import Float64s
from bpexp.core.training import Training

__all__ = ["CELLS", "News", "Reporter", "binned", "drawable"]

SECONDS = 0.2  # between two reports of a training
CELLS = 120  # of a profile, at most: a deeper net's layers are told in groups


@dataclass(frozen=True)
class Profile:
    """log10 ||dL/dW_k|| over the layers 1 … `depth` of one run at one step: the mean of each group of layers, and the values at both ends."""

    number: int  # of the job
    step: int
    depth: int
    cells: tuple[float, ...]
    first: float
    last: float


@dataclass(frozen=True)
class News:
    """Jobs that train together, by their numbers, have done `step` of `steps`."""

    numbers: tuple[int, ...]
    step: int
    steps: int
    profile: Profile | None


class Reporter:
    """What a training calls after each step: `tell` gets news of it now and then, and of its last step."""

    def __init__(self, numbers: Sequence[int], tell: Callable[[News], None]) -> None:
        self.numbers, self.tell, self.due = tuple(numbers), tell, 0.0

    def __call__(self, training: Training) -> None:
        step, steps = training.last_step, training.task.steps
        now = time.monotonic()
        if now >= self.due or step == steps:
            self.due = now + SECONDS
            self.tell(News(self.numbers, step, steps, self._profile(training)))

    def _profile(self, training: Training) -> Profile | None:
        """Of the first run that has not diverged, at the newest probed step."""
        at = int(np.searchsorted(training.task.probe_steps, training.last_step, "right")) - 1
        if at < 0 or not training.alive.any():
            return None
        run = int(training.alive.argmax())
        values = training.layers["log10_grad_norm"][run, at]
        cells = tuple(map(float, binned(values, CELLS)))
        return Profile(self.numbers[run], int(training.task.probe_steps[at]), len(values), cells, float(values[0]), float(values[-1]))


def binned(values: Float64s, most: int) -> Float64s:
    """Values as they are or, of more than `most`, the means of so many groups of neighbours, whose sizes differ by one at most."""
    if len(values) <= most:
        return values
    edges = np.arange(most) * len(values) // most
    with np.errstate(invalid="ignore"):  # of infinities
        return np.asarray(np.add.reduceat(values, edges) / np.diff([*edges, len(values)]))


def drawable() -> bool:
    """Whether there is a terminal to draw on."""
    written_in = (getattr(sys.stderr, "encoding", None) or "").lower().replace("-", "")
    return sys.stderr.isatty() and os.environ.get("TERM", "").lower() not in ("", "dumb", "unknown") and written_in == "utf8"
