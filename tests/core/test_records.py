"""What is read off a run's records: its outcome, the slope of its gradients, its summary; and the plateaus that outcomes refer to."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import Array, Float64s
from bpexp.core.losses import LOSSES
from bpexp.core.records import Records
from tests.core.nets import OUTPUTS, REPEATABLE, architecture, draw, make_task, probabilities, samples, train

PLATEAU = 0.45


def records(losses: list[float] | None = None, deltas: Float64s | None = None, diverged_at: int | None = None) -> Records:
    """With a full training loss per step, NaN where it is not probed, and log10 ||delta_k|| at step 0."""
    losses, deltas = losses or [PLATEAU], np.zeros(1) if deltas is None else deltas
    depth = len(deltas)
    layers = {"step": np.repeat([0, 9], depth), "layer": np.tile(np.arange(1, depth + 1), 2)}
    layers["log10_delta_norm"] = np.concatenate([deltas, 100.0 - 3.0 * deltas])
    curves = {"step": np.arange(len(losses)), "loss_train_full": np.array(losses), "loss_test": np.array(losses) + 1.0}
    return Records(curves, layers, PLATEAU, diverged_at, {f"W_{k:03d}": np.zeros((1, 1)) for k in range(1, depth + 1)})


@pytest.mark.parametrize(
    ("losses", "outcome"),
    [
        ([0.5, np.nan, 0.45, 0.4501], "stuck"),
        ([0.5, np.nan, 0.9901 * PLATEAU], "stuck"),
        ([0.5, np.nan, 0.99 * PLATEAU], "stuck"),
        ([0.5, np.nan, 0.9899 * PLATEAU], "trained"),
        ([0.5, 0.2, np.nan, 0.7], "trained"),  # it left the plateau, whatever came after
    ],
)
def test_stuck_is_within_one_percent_of_the_plateau(losses: list[float], outcome: str) -> None:
    assert records(losses).outcome == outcome
    assert records(losses, diverged_at=3).outcome == "diverged"


@pytest.mark.parametrize("loss", [PLATEAU / 2, PLATEAU, 2 * PLATEAU])
def test_a_net_without_an_update_is_neither_stuck_nor_trained(loss: float) -> None:
    assert records([loss]).outcome == "untrained"
    assert records([loss], diverged_at=0).outcome == "diverged"


def test_a_deep_sigmoid_net_is_stuck_and_a_shallow_one_is_trained() -> None:
    outcomes = []
    for depth in (2, 30):
        net = architecture([6, *[16] * (depth - 1), 3], "sigmoid", "sigmoid", bias=True)
        task = make_task(net, 400, 24, probes=[0, 100, 400])
        outcomes.append(train(task, draw(net, [1], "standard"), [2.0], [2])[0].outcome)
    assert outcomes == ["trained", "stuck"]


@pytest.mark.parametrize(("name", "output"), OUTPUTS)
def test_the_plateau_is_the_loss_of_the_best_constant(name: str, output: str) -> None:
    """Found by minimising the loss over one z for all samples; the targets are such that every output can reach their mean."""
    loss, phi = LOSSES[name], ACTIVATIONS[output]
    y = probabilities(np.random.default_rng(0), 40, 4)[None]

    def value(z: Float64s) -> float:
        rows, out = np.broadcast_to(z, y.shape).copy(), np.empty(1)
        a = np.empty_like(rows)
        phi.function(rows, a)
        loss.value(rows, a, y, np.empty_like(rows), out)
        return float(out[0] / y.shape[1])

    best = minimize(value, np.full(4, 0.1), method="BFGS", options={"gtol": 1e-9, "maxiter": 1000})
    assert loss.plateau(y[0]) == pytest.approx(best.fun, rel=1e-9)


def test_the_plateau_of_ten_balanced_classes() -> None:
    y = np.tile(np.eye(10), (7, 1))
    assert LOSSES["squared_error"].plateau(y) == pytest.approx(0.45, rel=1e-14)
    assert LOSSES["cross_entropy"].plateau(y) == pytest.approx(np.log(10), rel=1e-14)


@REPEATABLE
@given(deltas=st.lists(st.floats(-700, 10), min_size=5, max_size=40))
def test_delta_decades_per_layer_is_the_least_squares_slope(deltas: list[float]) -> None:
    """Of step 0, over layers 2 to depth - 1; positive where delta shrinks towards the input."""
    found = records(deltas=np.array(deltas)).delta_decades_per_layer
    inner = deltas[1:-1]
    assert found == pytest.approx(np.polyfit(np.arange(len(inner)), inner, 1)[0], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("level", [0.0, -3.5])
def test_gradients_that_neither_vanish_nor_explode_have_slope_zero(level: float) -> None:
    assert records(deltas=np.full(6, level)).delta_decades_per_layer == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_shallow_net_has_no_slope(depth: int) -> None:
    shallow = records(deltas=np.arange(float(depth)))
    assert shallow.delta_decades_per_layer is None
    assert "delta_decades_per_layer" not in shallow.summary


@pytest.mark.parametrize("value", [-np.inf, np.nan])
def test_a_norm_that_is_zero_or_not_finite_has_no_slope(value: float) -> None:
    deltas = np.arange(8.0)
    deltas[3] = value
    assert records(deltas=deltas).delta_decades_per_layer is None


def test_ends_do_not_count_for_the_slope() -> None:
    deltas = np.arange(8.0) / 4
    deltas[[0, -1]] = -np.inf, 1e3
    assert records(deltas=deltas).delta_decades_per_layer == pytest.approx(0.25, rel=1e-12)


def test_the_slope_of_a_real_net_is_positive_where_its_gradients_vanish() -> None:
    slopes = []
    for sigma_w2 in (0.3, 1.0, 3.0):  # linear layers scale delta by sigma_w each
        net = architecture([32] * 21, "linear", "linear")
        found = train(make_task(net, 0, probes=[0]), draw(net, [1], "orthogonal", sigma_w2=sigma_w2), [0.1], [2])[0]
        slopes.append(found.delta_decades_per_layer)
    np.testing.assert_allclose(np.array(slopes, float), -0.5 * np.log10([0.3, 1.0, 3.0]), rtol=0, atol=1e-12)


def test_the_summary_holds_finite_numbers_only() -> None:
    summary = records([0.5, np.nan, 0.2, 0.3, np.inf], deltas=np.arange(6.0)).summary
    assert summary == {
        "plateau_loss": PLATEAU,
        "initial_loss": 0.5,
        "final_loss": 0.3,
        "best_loss": 0.2,
        "final_test_loss": 1.3,
        "best_test_loss": 1.2,
        "delta_decades_per_layer": pytest.approx(1.0, rel=1e-12),
    }


def test_without_a_loss_before_the_first_update_the_summary_has_none() -> None:
    """The first one that is finite comes later."""
    assert "initial_loss" not in records([np.inf, 0.4, 0.3]).summary
    assert "initial_loss" not in records([np.nan, 0.4, 0.3]).summary


def test_the_summary_knows_accuracies() -> None:
    plain = records([0.5, 0.4, 0.3])
    accuracy: Array = np.array([0.1, 0.8, 0.7])
    summary = replace(plain, curves=plain.curves | {"accuracy_train": accuracy, "accuracy_test": accuracy / 2}).summary
    assert {name: value for name, value in summary.items() if "accuracy" in name} == {
        "final_accuracy_train": 0.7,
        "best_accuracy_train": 0.8,
        "final_accuracy_test": 0.35,
        "best_accuracy_test": 0.4,
    }


def test_the_summary_of_targets_that_are_no_classes_has_no_accuracies() -> None:
    net = architecture([6, 5, 4], "tanh", "sigmoid")
    found = train(make_task(net, 3, data=replace(samples(6, 4, dtype=np.float64), classes=False)), draw(net, [1]), [0.1], [2])[0]
    assert set(found.summary) == {"plateau_loss", "initial_loss", "final_loss", "best_loss", "final_test_loss", "best_test_loss"}


def test_a_run_that_diverges_at_once_has_a_summary() -> None:
    net = architecture([6, 5, 4], "linear", "linear", dtype=np.float32)
    parameters = draw(net, [1])
    parameters.W[2][:] = 1e38
    found = train(make_task(net, 3, data=samples(6, 4)), parameters, [0.1], [2])[0]
    assert found.diverged_at == 0
    assert found.summary == {"plateau_loss": found.plateau}
