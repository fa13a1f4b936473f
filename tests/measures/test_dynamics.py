"""When modes of deep linear nets are learned, and how many steps a loss takes at the best learning rate."""

from collections.abc import Callable
from dataclasses import replace
from math import inf, isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpexp.config import RunConfig
from bpexp.datasets import load
from bpexp.measures import MEASURED, PREDICTED, Cell
from bpexp.measures.dynamics import aligned, first_crossing, mode_strengths, steps_to
from bpexp.tracking.reader import Runs
from tests.report.studies import configs, runs_of

MODES = {
    "data__name": "linear",
    "data__samples": None,
    "data__classes": None,
    "data__test_fraction": 0.0,
    "data__inputs": 4,
    "width": 4,
    "activation": "linear",
    "output": "linear",
    "init__name": "identity",
    "batch_size": "full",
    "dtype": "float64",
}


def modes(**axes: object) -> Cell:
    return Cell.of(runs_of(configs(**(MODES | axes))))


def planted(runs: Runs, loss: Callable[[RunConfig, int], float]) -> Cell:
    """The same runs with other training losses: loss(config, step)."""
    config = {run.frame["run_id"].iloc[0]: run.config for run in Cell.of(runs).one_by_one()}
    curves = runs.curves
    values = [loss(config[run_id], int(step)) for run_id, step in zip(curves["run_id"], curves["step"], strict=True)]
    return Cell.of(replace(runs, curves=curves.assign(loss_train=values)))


def descended(depth: int, s: float, gain: float, lr: float, steps: int, x: np.ndarray) -> list[float]:
    """The mean diagonal of the product of full weight matrices, by gradient descent on the samples, written out."""
    weights = [gain * np.eye(x.shape[1]) for _ in range(depth)]
    found = []
    for _ in range(steps + 1):
        before, after = [np.eye(x.shape[1])], [np.eye(x.shape[1])]
        for k in range(depth):
            before.append(before[-1] @ weights[k])
            after.append(weights[depth - 1 - k] @ after[-1])
        found.append(float(np.trace(before[-1])) / x.shape[1])
        error = (x @ before[-1] - s * x) / len(x)
        weights = [w - lr * before[k].T @ x.T @ error @ after[depth - 1 - k].T for k, w in enumerate(weights)]
    return found


@pytest.mark.parametrize(("depth", "s"), [(1, 1.0), (2, 2.0), (3, 0.7), (5, 1.5)])
def test_a_mode_is_as_strong_as_the_product_of_the_weights(depth: int, s: float) -> None:
    cell = modes(depth=depth, steps=30, lr=0.05 / depth, init__gain=0.3 ** (1 / depth), data__strength=s)
    times, strengths = mode_strengths(cell)
    x = load(cell.config.data).split.x_train
    np.testing.assert_allclose(strengths, descended(depth, s, 0.3 ** (1 / depth), 0.05 / depth, 30, x), rtol=1e-9)
    np.testing.assert_allclose(times, np.arange(31) * 0.05 / depth, rtol=1e-12)


def euler(depth: int, s: float, u: float, until: float, dt: float) -> float:
    """The time at which du/dt = D u^(2-2/D) (s - u) gets there."""
    t = 0.0
    while u < until:
        u += dt * depth * u ** (2 - 2 / depth) * (s - u)
        t += dt
    return t


@pytest.mark.parametrize(("depth", "s"), [(2, 1.0), (4, 2.0)])
def test_learning_times_are_theorys_and_theirs_those_of_the_equation(depth: int, s: float) -> None:
    cell = modes(depth=depth, steps=800, lr=0.01 / depth, init__gain=0.3 ** (1 / depth), data__strength=s)
    theory = PREDICTED["learning_time"](cell, fraction=0.9)
    assert theory == pytest.approx(euler(depth, s, 0.3, 0.9 * s, 1e-5), rel=1e-3)
    ours = MEASURED["learning_time"](cell, fraction=0.9).value
    assert ours == pytest.approx(theory, rel=0.01)
    assert MEASURED["learning_time"](cell, fraction=0.9, per_layer=True).value == pytest.approx(depth * ours)
    assert MEASURED["learning_time_error"](cell, fraction=0.9).value == pytest.approx(abs(ours / theory - 1.0))
    assert 0.0 < MEASURED["strength_error"](cell).value < 0.01


def test_a_time_per_layer_goes_to_its_limit_with_the_depth() -> None:
    cells = [modes(depth=depth, steps=3, lr=0.1, init__gain=0.3 ** (1 / depth)) for depth in (4, 40)]
    off = [abs(PREDICTED["learning_time"](cell, per_layer=True) / PREDICTED["learning_time"](cell, limit=True) - 1.0) for cell in cells]
    assert 5.0 < off[0] / off[1] < 20.0  # it goes like 1/D


def test_a_mode_that_is_not_learned_has_no_time() -> None:
    assert isnan(MEASURED["learning_time"](modes(depth=2, steps=3, lr=0.01, init__gain=0.5)).value)


def test_only_aligned_linear_nets_have_modes_that_are_alike() -> None:
    (config,) = configs(**MODES, depth=2, init__gain=0.5, data__strength=3.0)
    assert aligned(config) == (3.0, 0.25)
    assert aligned(replace(config, activation="tanh")) is None
    assert aligned(replace(config, bias=True)) is None
    (other,) = configs()
    assert aligned(other) is None
    with pytest.raises(ValueError, match="data=linear"):
        MEASURED["learning_time"](Cell.of(runs_of([other])))


def test_a_crossing_lies_on_the_line_between_two_points() -> None:
    x, y = np.array([0.0, 1.0, 3.0, 4.0]), np.array([0.0, 0.5, 1.5, 1.0])
    for level in (0.1, 0.5, 0.9, 1.5):
        assert first_crossing(x, y, level) == pytest.approx(np.interp(level, y[:3], x[:3]))
    assert isnan(first_crossing(x, y, 2.0))
    assert first_crossing(x, y, -1.0) == 0.0


@given(st.lists(st.floats(0.0, 2.0) | st.just(float("nan")), min_size=1, max_size=30), st.floats(0.1, 1.9), st.integers(1, 5))
def test_steps_to_a_loss_are_those_of_a_loop(losses: list[float], level: float, window: int) -> None:
    expected = inf
    for step in range(window - 1, len(losses)):
        some = losses[step - window + 1 : step + 1]
        mean = sum(some) / window
        if abs(mean - level) < 1e-9:
            return  # roundings decide
        if mean < level:
            expected = float(step)
            break
    assert steps_to(np.array(losses), level, window) == expected


def falls_at(step: Callable[[RunConfig], float]) -> Callable[[RunConfig, int], float]:
    return lambda config, at: 0.0 if at >= step(config) else 1.0


def test_the_best_of_all_learning_rates_counts_seed_by_seed() -> None:
    runs = runs_of(configs(lr=[0.1, 0.2, 0.4], seed=[0, 1], steps=12))
    cell = planted(runs, falls_at(lambda c: 4 + c.seed if c.lr == 0.2 else 9))
    measured = MEASURED["best_steps"](cell, level=0.5)
    assert (measured.value, measured.values) == (4.5, (4.0, 5.0))
    never = planted(runs, falls_at(lambda _: inf))
    assert MEASURED["best_steps"](never, level=0.5).value == 12.0  # all that there were


def test_a_ratio_is_that_of_a_seed_to_itself() -> None:
    runs = runs_of(configs(depth=[2, 4], lr=[0.1, 0.2], seed=[0, 1], steps=12))
    cell = planted(runs, falls_at(lambda c: (2 if c.depth == 2 else 6) + 2 * c.seed))
    found = MEASURED["best_steps_ratio"](cell, slow={"depth": 4}, fast={"depth": 2}, level=0.5)
    assert found.values == (3.0, 2.0)
    stuck = planted(runs, falls_at(lambda c: inf if c.depth == 2 else 3))
    assert isnan(MEASURED["best_steps_ratio"](stuck, slow={"depth": 4}, fast={"depth": 2}, level=0.5).value)  # nothing is slower than never
    assert MEASURED["best_steps_ratio"](stuck, slow={"depth": 2}, fast={"depth": 4}, level=0.5).value == 4.0


def test_an_exponent_is_that_of_a_planted_power() -> None:
    runs = runs_of(configs(depth=[2, 4, 8], lr=[0.1, 0.2], seed=[0, 1], steps=70))
    cell = planted(runs, falls_at(lambda c: c.depth ** (1 + c.seed)))
    found = MEASURED["best_steps_exponent"](cell, level=0.5)
    np.testing.assert_allclose(found.values, [1.0, 2.0])


def test_nets_that_never_get_there_have_no_exponent_unless_they_are_counted_with_all_their_steps() -> None:
    runs = runs_of(configs(depth=[2, 4], lr=[0.1, 0.2], seed=[0, 1], steps=16))
    cell = planted(runs, falls_at(lambda c: inf if c.depth == 4 else 2))
    assert isnan(MEASURED["best_steps_exponent"](cell, level=0.5).value)
    assert MEASURED["best_steps_exponent"](cell, level=0.5, capped=True).value == pytest.approx(3.0)


def test_runs_that_no_one_has_are_no_runs() -> None:
    cell = Cell.of(runs_of(configs(depth=[2, 4]))).where({"depth": 3})
    assert len(cell.where({"lr": 0.5}).where({"seed": 0}).frame) == 0
    assert isnan(MEASURED["best_steps"](cell, level=0.5).value)
