"""At which steps things are measured."""

from functools import lru_cache

import numpy as np

from bpexp.core.arrays import Ints

__all__ = ["log_spaced", "spread"]


@lru_cache(maxsize=256)  # a sweep's runs ask for the same ones, and to find them takes milliseconds
def log_spaced(last: int, points: int) -> Ints:
    """At most `points` (three or more) whole numbers from 0 to `last`, both ends included: 0, then evenly spaced on a log axis.

    Near the start, where several points round to one, the numbers are consecutive; what that saves is spent further on.
    """
    if points > last:
        return _fixed(np.arange(last + 1))
    wanted = points - 1  # besides 0
    low, high = wanted, 4 * points + 64
    while np.unique(np.geomspace(1, last, high).round()).size <= wanted:
        low, high = high, 2 * high
    while high - low > 1:  # the largest density whose distinct numbers still fit
        middle = (low + high) // 2
        fits = np.unique(np.geomspace(1, last, middle).round()).size <= wanted
        low, high = (middle, high) if fits else (low, middle)
    return _fixed(np.concatenate(([0], np.unique(np.geomspace(1, last, low).round()).astype(np.int64))))


def _fixed(steps: Ints) -> Ints:
    """What several share, none may write to."""
    steps.setflags(write=False)
    return steps


def spread(values: Ints, count: int) -> Ints:
    """At most `count` of `values`, evenly spread by position, the first and the last among them."""
    return np.asarray(values[np.unique(np.linspace(0, len(values) - 1, min(count, len(values))).round().astype(int))])
