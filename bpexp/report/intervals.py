"""Means over runs, and how far chance can have moved them: intervals that hold the expected value in 95 of 100 such experiments."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from bpexp.core.arrays import Float64s

__all__ = ["FEWEST", "TOLD", "Interval", "over_runs"]

LEVEL = 0.95
FEWEST = 3  # runs that have an interval: Student's t of two is 12.7 standard errors, more than a figure can show or a reader learns from
TOLD = "95 % confidence intervals of the mean (Student's t)"


@dataclass(frozen=True)
class Interval:
    """mean ± t s/√n with the standard deviation s (n - 1) and Student's t of n - 1 degrees of freedom (Student 1908).

    Of fewer than `FEWEST` runs low and high are the lowest and the highest value.
    """

    mean: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: "Sequence[float] | pd.Series[float] | Float64s", log: bool = False) -> "Interval":
        """Of finite numbers; `log`: of positive ones, over their logarithms, so that the mean is the geometric one."""
        y = np.log(np.asarray(values, np.float64)) if log else np.asarray(values, np.float64)
        low, high = _ends(y.mean(), y.std(ddof=1) if len(y) > 1 else np.nan, y.min(), y.max(), len(y))
        mean, low, high = np.exp([y.mean(), low, high]) if log else (y.mean(), low, high)
        return cls(float(mean), float(low), float(high), len(y))

    @property
    def told(self) -> bool:
        """Whether there are runs enough for an interval."""
        return self.runs >= FEWEST

    def excludes(self, value: float) -> bool:
        """Whether the interval is one, and the value lies outside."""
        return self.told and not self.low <= value <= self.high


def over_runs(frame: pd.DataFrame, x: str | list[str], y: str, log: bool = False) -> pd.DataFrame:
    """`Interval.of` y over runs, by x: columns mean, low, high, runs.

    Where some y is -inf, the log of a norm of exactly zero, so is the mean, and low and high are not known.
    """
    known = frame[frame[y].notna()]
    if log:
        with np.errstate(divide="ignore"):
            known = known.assign(**{y: np.log(known[y].astype(float))})
    with np.errstate(invalid="ignore"):
        table = known.groupby(x)[y].agg(["mean", "std", "min", "max", "count"])
        low, high = _ends(*(table[name].to_numpy(np.float64) for name in table))
    found = pd.DataFrame({"mean": table["mean"].astype(float), "low": low, "high": high}, table.index)
    return (found.apply(np.exp) if log else found).assign(runs=table["count"])


def _ends(mean: Any, std: Any, least: Any, most: Any, runs: Any) -> tuple[Any, Any]:
    """Low and high; NaN where the mean is not finite."""
    half = stdtrit(np.maximum(runs, 2) - 1.0, 0.5 + LEVEL / 2) * std / np.sqrt(runs)
    known = np.where(np.isfinite(mean), 0.0, np.nan)
    return tuple(np.where(np.greater_equal(runs, FEWEST), mean + side * half, few) + known for side, few in ((-1, least), (1, most)))
