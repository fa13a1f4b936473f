"""Depths at which accuracies fall through a level: made-up accuracies, and theory's lengths by quadrature."""

from collections.abc import Callable
from math import inf, isnan, log, nan, sqrt
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import dblquad
from scipy.optimize import brentq

from bpexp.measures import MEASURED, PREDICTED, Cell
from bpexp.measures.trainability import crossing
from bpexp.tracking.reader import Runs
from tests.report.studies import configs, row

NAMES: dict[str, Any] = {"over": "depth", "name": "final_accuracy_train", "level": 0.5}
TANH = {"activation": "tanh", "bias": True, "init__name": "gaussian", "init__sigma_b2": 0.05}


def cell(accuracies: dict[float, list[list[float]]], depths: list[int]) -> Cell:
    """Made-up runs: for each variance of the weights a list per seed, an accuracy per depth."""
    rows: list[dict[str, Any]] = []
    for variance, seeds in accuracies.items():
        for seed, line in enumerate(seeds):
            for config, accuracy in zip(configs(**TANH, depth=depths, init__sigma_w2=variance, seed=seed), line, strict=True):
                rows.append(row(len(rows), config) | {"status": "FINISHED", "final_accuracy_train": accuracy})
    empty = pd.DataFrame(columns=["run_id", "step"])
    return Cell.of(Runs(pd.DataFrame(rows), empty, empty, None, "made up", "1"))


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([0.9, 0.7, 0.3, 0.1], 25.0),
        ([0.9, 0.5, 0.1, 0.1], 20.0),
        ([0.9, 0.6, 0.1, 0.8], 22.0),  # the first fall
        ([0.9, 0.8, 0.7, 0.6], inf),
        ([0.4, 0.3, 0.2, 0.1], nan),
        ([0.9, 0.8, nan, 0.1], 20.0),  # diverged: below, by an unknown way
    ],
)
def test_a_level_is_crossed_between_two_points(y: list[float], expected: float) -> None:
    found = crossing(np.array([10.0, 20.0, 30.0, 40.0]), np.array(y), 0.5)
    assert found == pytest.approx(expected, nan_ok=True)


def test_the_crossing_is_a_mean_over_seeds() -> None:
    found = MEASURED["crosses_at"](cell({1.0: [[0.9, 0.7, 0.3], [0.9, 0.6, 0.4]]}, [10, 20, 30]), **NAMES)
    assert list(found.values) == pytest.approx([25.0, 25.0])
    assert found.value == pytest.approx(25.0)
    two = MEASURED["crosses_at"](cell({1.0: [[0.9, 0.6, 0.1], [0.9, 0.1, 0.1]]}, [10, 20, 30]), **NAMES)
    assert [two.value, two.error] == pytest.approx([(22.0 + 15.0) / 2, 3.5])


def test_a_seed_that_never_falls_makes_the_crossing_endless() -> None:
    some = cell({1.0: [[0.9, 0.8, 0.7], [0.9, 0.6, 0.1]]}, [10, 20, 30])
    assert MEASURED["crosses_at"](some, **NAMES).value == inf
    assert isnan(MEASURED["crossing_in_lengths"](some, **NAMES, each="init.sigma_w2").value)


def slope_at_fixed_point(variance: float, bias: float) -> float:
    """sigma_w2 E[phi'(u) phi'(v)] of tanh at the correlation that nets settle at, by adaptive quadrature and root finding."""

    def mean(f: Callable[[float], float], q: float, c: float) -> float:
        def weighted(b: float, a: float) -> float:
            u, v = sqrt(q) * a, sqrt(q) * (c * a + sqrt(1.0 - c * c) * b)
            return float(f(u) * f(v) * np.exp(-(a * a + b * b) / 2.0) / (2.0 * np.pi))

        return float(dblquad(weighted, -8, 8, -8, 8, epsabs=1e-8)[0])

    def square(q: float) -> float:
        a = np.linspace(-9, 9, 4001)
        return float(np.sum(np.tanh(sqrt(q) * a) ** 2 * np.exp(-a * a / 2)) * (a[1] - a[0]) / sqrt(2 * np.pi))

    q: float = brentq(lambda q: variance * square(q) + bias - q, 1e-3, 10.0)
    c: float = brentq(lambda c: (variance * mean(np.tanh, q, c) + bias) / q - c, 0.0, 0.95)
    return float(variance * mean(lambda z: 1.0 - np.tanh(z) ** 2, q, c))


def test_lengths_are_those_of_the_correlation() -> None:
    """In the chaotic phase, against plain quadrature."""
    some = cell({3.0: [[0.9, 0.1]]}, [10, 20])
    length = -1.0 / log(slope_at_fixed_point(3.0, 0.05))
    assert PREDICTED["crosses_at"](some, lengths=6.0) == pytest.approx(6.0 * length, rel=1e-5)
    assert MEASURED["crossing_in_lengths"](some, **NAMES, each="init.sigma_w2").value == pytest.approx(15.0 / length, rel=1e-5)
    assert PREDICTED["crossing_in_lengths"](some, lengths=6.0) == 6.0


def test_the_median_over_variances_leaves_out_where_the_length_is_endless() -> None:
    accuracies = {1.0: [[0.9, 0.7, 0.3]], 1.761: [[0.9, 0.9, 0.9]], 3.0: [[0.9, 0.6, 0.1]], 4.0: [[0.9, 0.4, 0.1]]}
    some = cell(accuracies, [10, 20, 30])
    ratios = [place / (PREDICTED["crosses_at"](part, lengths=1.0)) for place, part in zip([25.0, nan, 22.0, 18.0], parts(some), strict=True)]
    found = MEASURED["crossing_in_lengths"](some, **NAMES, each="init.sigma_w2", longest=100)
    assert list(found.values) == pytest.approx([ratios[0], ratios[2], ratios[3]])
    assert found.value == pytest.approx(sorted(found.values)[1])


def parts(some: Cell) -> list[Cell]:
    return [part for _, part in some.each(["init.sigma_w2"])]


def test_the_farthest_crossing_is_found_and_theory_puts_it_on_the_critical_line() -> None:
    accuracies = {1.0: [[0.9, 0.7, 0.3]], 1.76: [[0.9, 0.8, 0.7]], 3.0: [[0.9, 0.6, 0.1]], 4.0: [[0.4, 0.3, 0.1]]}
    some = cell(accuracies, [10, 20, 30])
    assert MEASURED["farthest_crossing"](some, **NAMES, each="init.sigma_w2").value == 1.76
    assert PREDICTED["farthest_crossing"](some) == pytest.approx(1.76095, abs=5e-6)


def test_two_that_are_equally_far_decide_nothing() -> None:
    some = cell({1.0: [[0.9, 0.8]], 2.0: [[0.9, 0.8]]}, [10, 20])
    assert isnan(MEASURED["farthest_crossing"](some, **NAMES, each="init.sigma_w2").value)
