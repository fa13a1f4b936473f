"""The largest and the best learning rate, and the curvature that they are held against."""

from dataclasses import replace
from itertools import pairwise
from math import isnan, sqrt

import numpy as np
import pytest

from bpexp.config import RunConfig
from bpexp.core.initializers import orthogonal
from bpexp.datasets import load
from bpexp.measures import MEASURED, PREDICTED, Cell
from bpexp.measures.learning_rates import sharpness
from tests.measures.test_dynamics import MODES, modes, planted
from tests.report.studies import configs, runs_of

ORTHOGONAL = {
    "width": 4,
    "data__inputs": 4,
    "data__classes": 3,
    "data__samples": 40,
    "activation": "linear",
    "output": "linear",
    "init__name": "orthogonal",
    "batch_size": "full",
    "steps": 3,
    "dtype": "float64",
}


def curvature(weights: list[np.ndarray], x: np.ndarray) -> float:
    """The largest eigenvalue of JᵀJ/samples, J the derivatives of all outputs by all weights, by central differences."""

    def outputs() -> np.ndarray:
        a = x
        for w in weights:
            a = a @ w
        return a.ravel()

    columns = []
    for w in weights:
        for place in np.ndindex(*w.shape):
            kept = w[place]
            w[place] = kept + 1e-6
            high = outputs()
            w[place] = kept - 1e-6
            columns.append((high - outputs()) / 2e-6)
            w[place] = kept
    J = np.array(columns).T
    return float(np.linalg.eigvalsh(J.T @ J / len(x))[-1])


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_the_sharpness_of_an_orthogonal_net_is_that_of_its_derivatives(depth: int) -> None:
    (config,) = configs(**ORTHOGONAL, depth=depth)
    x, rng = load(config.data).split.x_train, np.random.default_rng(0)
    sizes = [4] * depth + [3]
    weights = [orthogonal(rng, a, b) for a, b in pairwise(sizes)]
    assert sharpness(config) == pytest.approx(curvature(weights, x), rel=1e-6)


@pytest.mark.parametrize(("depth", "s"), [(1, 3.0), (2, 2.0), (4, 0.5)])
def test_the_sharpness_of_aligned_modes_is_that_of_the_learned_net(depth: int, s: float) -> None:
    (config,) = configs(**MODES, depth=depth, data__strength=s)
    weights = [s ** (1 / depth) * np.eye(4) for _ in range(depth)]
    assert sharpness(config) == pytest.approx(curvature(weights, load(config.data).split.x_train), rel=1e-6)


def test_nets_that_are_not_isometric_have_no_sharpness() -> None:
    (config,) = configs(**ORTHOGONAL, depth=2)
    others = [replace(config, width=5), replace(config, activation="tanh"), replace(config, init=replace(config.init, name="xavier"))]
    assert all(isnan(sharpness(other)) for other in [*others, replace(config, init=replace(config.init, sigma_w2=2.0))])


def test_gradient_descent_is_stable_up_to_two_over_the_sharpness() -> None:
    """Just below it ends low, just above it does not: aligned modes, in real runs."""
    cell = modes(depth=4, steps=60, lr=[0.3, 0.45, 0.55, 0.7], init__gain=0.3**0.25, data__strength=1.0)
    found, theory = MEASURED["largest_lr"](cell, share=0.01).value, PREDICTED["largest_lr"](cell)
    assert theory == pytest.approx(0.5)
    assert found == pytest.approx(sqrt(0.45 * 0.55))
    assert PREDICTED["best_lr"](cell) == pytest.approx(0.25)
    assert MEASURED["best_lr"](modes(depth=4, steps=8, lr=[0.1, 0.25, 0.4], init__gain=0.3**0.25)).value == 0.25


RATES = [0.01, 0.02, 0.04, 0.08]


def ends(table: dict[float, float], late: float | None = None) -> Cell:
    """Runs whose loss starts at 1 and comes, by learning rate, to a value, with another one in its last quarter."""

    def loss(config: RunConfig, step: int) -> float:
        if step == 0:
            return 1.0
        return late if late is not None and config.lr == 0.04 and step == 11 else table[config.lr]

    return planted(runs_of(configs(lr=RATES, seed=[0, 1], steps=12)), loss)


def test_the_edge_lies_between_the_last_rate_that_learns_and_the_first_above_it_that_does_not() -> None:
    cell = ends({0.01: 0.5, 0.02: 0.001, 0.04: 0.005, 0.08: 2.0})
    assert MEASURED["largest_lr"](cell, share=0.01).values == pytest.approx([sqrt(0.04 * 0.08)] * 2)
    assert MEASURED["best_lr"](cell).value == 0.02
    assert MEASURED["largest_lr"](cell, share=1.0, of="highest").value == pytest.approx(sqrt(0.04 * 0.08))


def test_a_loss_that_is_low_in_passing_is_not_learned() -> None:
    cell = ends({0.01: 0.5, 0.02: 0.001, 0.04: 0.005, 0.08: 2.0}, late=0.5)
    assert MEASURED["largest_lr"](cell, share=0.01).value == pytest.approx(sqrt(0.02 * 0.04))
    assert MEASURED["largest_lr"](cell, share=0.01, of="final").value == pytest.approx(sqrt(0.04 * 0.08))


def test_the_best_rate_after_some_steps_is_that_of_those_steps() -> None:
    cell = planted(runs_of(configs(lr=RATES, steps=12)), lambda config, step: abs(config.lr - (0.04 if step == 5 else 0.01)) + 0.1)
    assert MEASURED["best_lr"](cell, after=5).value == 0.04
    assert MEASURED["best_lr"](cell).value == 0.01


def test_an_edge_outside_of_the_rates_is_no_number() -> None:
    assert isnan(MEASURED["largest_lr"](ends(dict.fromkeys(RATES, 0.001)), share=0.01).value)
    assert isnan(MEASURED["largest_lr"](ends(dict.fromkeys(RATES, 0.5)), share=0.01).value)


def test_exponents_are_those_of_planted_powers() -> None:
    """The best rate and the edge fall like 1/depth, in grids a factor of 2 apart."""

    def loss(config: RunConfig, step: int) -> float:
        scaled = round(config.lr * config.depth, 9)
        return 1.0 if step == 0 else {0.16: 0.001, 0.08: 0.005, 0.32: 3.0}.get(scaled, 0.5 if scaled < 0.08 else 9.0)

    cell = planted(runs_of(configs(depth=[2, 4, 8], lr=[0.01, 0.02, 0.04, 0.08, 0.16], seed=[0, 1], steps=12)), loss)
    for name, options in (("best_lr_exponent", {}), ("largest_lr_exponent", {"share": 0.01})):
        np.testing.assert_allclose(MEASURED[name](cell, **options).values, [-1.0, -1.0])


def test_theorys_exponent_of_orthogonal_nets_is_minus_one_and_of_strong_modes_less() -> None:
    assert PREDICTED["best_lr_exponent"](Cell.of(runs_of(configs(**ORTHOGONAL, depth=[2, 4, 8])))) == pytest.approx(-1.0)
    strong = modes(depth=[2, 4], steps=1, lr=1e-3, data__strength=3.0)
    assert PREDICTED["largest_lr_exponent"](strong) == pytest.approx(np.log2(3.0 / (2 * 3.0**1.5)))
