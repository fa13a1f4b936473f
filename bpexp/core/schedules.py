"""Schedules: what the learning rate is multiplied by at each step.

A rule answers with the factor of the update after `step` others, of `steps` in all.  Its other arguments are the keys that it takes from
the configuration (`schedule.warmup=50`).
"""

from math import ceil, cos, pi

from bpexp.core.rows import RuleRow

__all__ = ["SCHEDULES"]


def constant(_step: int, _steps: int) -> float:
    """1."""
    return 1.0


def step(step: int, steps: int, every: int | None = None, factor: float = 0.1) -> float:
    """factor^⌊step / every⌋; without `every`, a third of the training."""
    return float(factor ** (step // (every or max(1, ceil(steps / 3)))))


def warmup(step: int, steps: int, warmup: int | None = None) -> float:
    """(step + 1) / warmup in the first steps, then 1; without `warmup`, a tenth of the training."""
    length = ceil(steps / 10) if warmup is None else warmup
    return min(1.0, (step + 1) / max(length, 1))


def cosine(step: int, steps: int, floor: float = 0.0, warmup: int = 0) -> float:
    """Warm-up, then half a cosine from 1 to `floor`, which would be reached at the update after the last."""
    if step < warmup:
        return (step + 1) / warmup
    part = (step - warmup) / max(steps - warmup, 1)
    return floor + (1.0 - floor) * 0.5 * (1.0 + cos(pi * part))


SCHEDULES: dict[str, RuleRow] = {
    row.name: row
    for row in (
        RuleRow(
            constant,
            equation="η_t = η",
            effect="Every step is as long as its gradient asks.",
            source="the plain net",
        ),
        RuleRow(
            step,
            equation="η_t = η · factor^⌊t / every⌋, where every is a third of the training if it is not set",
            effect="The deltas' recursion stays; late steps are shorter, so that the noise of the batches is averaged out.",
            source="Krizhevsky, Sutskever & Hinton 2012",
        ),
        RuleRow(
            warmup,
            equation="η_t = η · min(1, (t + 1) / warmup), where warmup is a tenth of the training if it is not set",
            effect="The first gradients, which explode in some deep nets before the weights have settled, make short steps.",
            source="Goyal et al. 2017",
        ),
        RuleRow(
            cosine,
            equation="η_t = η · (floor + (1 − floor) (1 + cos(π t / T)) / 2), after linear warm-up",
            effect="As step, without jumps: long steps while the deltas still find their scale, ever shorter ones later.",
            source="Loshchilov & Hutter 2017, eq. 5",
        ),
    )
}
