"""From a measured quantity and what was claimed of it to a verdict.

A tolerance says which values of the measured quantity agree with the claim: a band of them.  `holds`: the value lies in the band, and is known well
enough to say so, its 95 % interval being no wider than the band (past the one end of a band that has but one: within it).  `undecided`: it lies in
the band, but is not known as well.  `fails`: it lies outside, or is no number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

import numpy as np

from bpexp.measures import Measured

__all__ = ["CONFIDENCE", "TOLERANCES", "Tolerance", "Verdict", "judge"]

CONFIDENCE = 0.95  # of the intervals that are printed
Band = tuple[float, float]


@dataclass(frozen=True)
class Tolerance:
    """A kind of tolerance: what size it may have, whether it lies around a target, the band it makes, and its words."""

    allowed: str
    valid: Callable[[Any], bool]
    targeted: bool
    band: Callable[[Measured, float, Any], Band]
    words: Callable[[Any], str]
    of_the_data: bool = False  # the band's width comes from the spread of the data

    def refusal(self, size: object, target: str | None) -> str:
        """Why it can't be asked for; empty where it can."""
        if not self.valid(size):
            return f"must be {self.allowed}"
        if self.targeted and target is None:
            return "needs a target: theory or paper"
        return "" if self.targeted or target is None else "has no target"


def _number(size: object) -> bool:
    return isinstance(size, int | float) and not isinstance(size, bool) and isfinite(size)


def _share(size: object) -> bool:
    return _number(size) and 0 < size < 1  # type: ignore[operator]


def _positive(size: object) -> bool:
    return _number(size) and size > 0  # type: ignore[operator]


def _pair(size: object) -> bool:
    return isinstance(size, Sequence) and not isinstance(size, str) and len(size) == 2 and all(map(_number, size)) and size[0] < size[1]


def _around(target: float, reach: float) -> Band:
    return target - reach, target + reach


def _of_the_mean(measured: Measured, target: float, confidence: float) -> Band:
    low, high = measured.interval(confidence)
    return _around(target, (high - low) / 2.0)


def _of_one(measured: Measured, target: float, share: float) -> Band:
    """The target lies among the middle share of the values: so does, moved as far, their middle in this band around the target."""
    low, high = np.quantile(measured.values, [0.5 - share / 2.0, 0.5 + share / 2.0])
    return target - (float(high) - measured.value), target + (measured.value - float(low))


A_SHARE = "a number between 0 and 1"
TOLERANCES: dict[str, Tolerance] = {
    "relative": Tolerance("a number above 0", _positive, True, lambda _, x, size: _around(x, size * abs(x)), lambda size: f"± {100 * size:.10g} %"),
    "absolute": Tolerance("a number above 0", _positive, True, lambda _, x, size: _around(x, size), lambda size: f"± {size:.10g}"),
    "confidence": Tolerance(A_SHARE, _share, True, _of_the_mean, lambda size: f"{100 * size:.10g} % interval of the mean", of_the_data=True),
    "share": Tolerance(A_SHARE, _share, True, _of_one, lambda size: f"middle {100 * size:.10g} % of the values", of_the_data=True),
    "between": Tolerance("two numbers [low, high]", _pair, False, lambda _, __, size: tuple(size), lambda size: f"{size[0]:.10g} … {size[1]:.10g}"),
    "at_least": Tolerance("a number", _number, False, lambda _, __, size: (size, inf), lambda size: f"≥ {size:.10g}"),
    "at_most": Tolerance("a number", _number, False, lambda _, __, size: (-inf, size), lambda size: f"≤ {size:.10g}"),
}


@dataclass(frozen=True)
class Verdict:
    """A row of the table: what is claimed of which runs, the three numbers, and whether it holds."""

    claim: str
    about: str
    paper: float | None
    theory: float | None
    ours: Measured
    target: str | None
    tolerance: str
    because: str
    band: Band
    verdict: str


def judge(measured: Measured, target: float | None, kind: str, size: Any) -> tuple[str, Band]:
    """The verdict (`holds`, `undecided`, `fails`) and the band of values that agree with the claim."""
    tolerance = TOLERANCES[kind]
    low, high = band = tolerance.band(measured, float("nan") if target is None else target, size)
    if not low <= measured.value <= high:
        return "fails", band
    least, most = measured.interval(CONFIDENCE)
    if tolerance.of_the_data:
        known = len(measured.values) > 1  # of a single value nothing would contradict the claim
    elif isfinite(low) and isfinite(high):
        known = most - least <= high - low
    else:
        known = low <= least and most <= high
    return ("holds" if known else "undecided"), band
