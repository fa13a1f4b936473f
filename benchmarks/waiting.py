"""A cluster at one store, in two ways that know nothing of each other: by events, and by formula.  The model's bounds are checked with both.

Workers train a run, which takes `train` seconds, then wait their turn at the store, which serves one of them at a time and takes `serve` seconds.
"""

import heapq
from collections.abc import Callable

import numpy as np

__all__ = ["bound", "exponential", "simulate", "steady"]

Draw = Callable[[], float]


def bound(workers: int, train: float, serve: float) -> float:
    """Runs a second, at most: that of `benchmarks.model`, whose `cycle` is the sum of the two times."""
    return min(workers / (train + serve), 1 / serve)


def steady(workers: int, train: float, serve: float) -> float:
    """Runs a second where both times are exponentially distributed: exact mean value analysis (Reiser and Lavenberg 1980).

    With n workers a run stays at the store for s(n) = serve (1 + q(n−1)); x(n) = n / (train + s(n)); q(n) = x(n) s(n).
    """
    rate = queue = 0.0
    for n in range(1, workers + 1):
        stay = serve * (1 + queue)
        rate = n / (train + stay)
        queue = rate * stay
    return rate


def simulate(workers: int, train: Draw, serve: Draw, runs: int, skip: int = 0) -> float:
    """Runs a second of a discrete-event simulation, from the end of run number `skip` to that of `runs` more; the store takes who came first."""
    arrivals = [(train(), worker) for worker in range(workers)]
    heapq.heapify(arrivals)
    free = begun = 0.0
    for number in range(skip + runs):
        now, worker = heapq.heappop(arrivals)
        free = max(now, free) + serve()
        heapq.heappush(arrivals, (free + train(), worker))
        if number == skip - 1:
            begun = free
    return runs / (free - begun)


def exponential(mean: float, seed: int) -> Draw:
    """Times of this mean, the next at each call."""
    rng = np.random.default_rng(seed)
    return lambda: float(rng.exponential(mean))
