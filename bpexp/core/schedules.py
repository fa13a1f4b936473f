"""Schedules: what the learning rate is multiplied by at each step.

A rule answers with the factor of the update after `step` others, of `steps` in all.  Its other arguments are the keys that it takes from
the configuration (`schedule.warmup=50`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from math import cos, pi

__all__ = ["SCHEDULES", "Schedule"]


def constant(_step: int, _steps: int) -> float:
    """1."""
    return 1.0


def step(step: int, _steps: int, every: int = 300, factor: float = 0.1) -> float:
    """factor^⌊step / every⌋."""
    return float(factor ** (step // every))


def warmup(step: int, _steps: int, warmup: int = 100) -> float:
    """(step + 1) / warmup in the first steps, then 1."""
    return min(1.0, (step + 1) / max(warmup, 1))


def cosine(step: int, steps: int, floor: float = 0.0, warmup: int = 0) -> float:
    """Warm-up, then half a cosine from 1 to `floor`, which would be reached at the update after the last."""
    if step < warmup:
        return (step + 1) / warmup
    part = (step - warmup) / max(steps - warmup, 1)
    return floor + (1.0 - floor) * 0.5 * (1.0 + cos(pi * part))


@dataclass(frozen=True)
class Schedule:
    """A row: the rule and what there is to say of it."""

    rule: Callable[..., float]
    equation: str
    effect: str
    source: str

    @property
    def name(self) -> str:
        return self.rule.__name__

    @property
    def keys(self) -> dict[str, float]:
        """The keys it takes from the configuration, with their defaults."""
        return {key: found.default for key, found in list(signature(self.rule).parameters.items())[2:]}


SCHEDULES: dict[str, Schedule] = {
    row.name: row
    for row in (
        Schedule(constant, "η_t = η", "Every step is as long as its gradient asks.", "Robbins & Monro 1951 let it fall; most keep it to compare"),
        Schedule(
            step,
            "η_t = η · factor^⌊t / every⌋",
            "The deltas' recursion stays; late steps are shorter, so that the noise of the batches is averaged out.",
            "Krizhevsky, Sutskever & Hinton 2012",
        ),
        Schedule(
            warmup,
            "η_t = η · min(1, (t + 1) / warmup)",
            "The first gradients, which explode in some deep nets before the weights have settled, make short steps.",
            "Goyal et al. 2017",
        ),
        Schedule(
            cosine,
            "η_t = η · (floor + (1 − floor) (1 + cos(π t / T)) / 2), after linear warm-up",
            "As step, without jumps: long steps while the deltas still find their scale, ever shorter ones later.",
            "Loshchilov & Hutter 2017, eq. 5",
        ),
    )
}
