"""Probes against plain NumPy: float64 gradients written out, norms by np.linalg.norm, differences of weights taken from outside."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import Array, Float64s
from bpexp.core.network import Architecture, Parameters
from bpexp.core.probes import PROBES
from bpexp.core.records import Records
from bpexp.core.training import Task
from tests.core import formulas
from tests.core.nets import HIDDEN, architecture, draw, evaluate, make_task, samples, start, train

LR = 0.3
PROBED = (0, 1, 4)
SATURATED_BEYOND = 2.18  # |z| of a tanh whose slope is a twentieth of its steepest


@dataclass(frozen=True)
class Layer:
    """What is true of a layer at one step, in float64."""

    W: Float64s
    W_after: Float64s
    z: Float64s
    a: Float64s
    delta: Float64s
    grad: Float64s


def norm(matrix: Float64s) -> float:
    return float(np.linalg.norm(matrix))


EXPECTED: dict[str, Callable[[Layer], float]] = {
    "grad_norm": lambda at: norm(at.grad),
    "delta_norm": lambda at: norm(at.delta),
    "weight_norm": lambda at: norm(at.W),
    "update_ratio": lambda at: LR * norm(at.grad) / norm(at.W),
    "update_made": lambda at: norm(at.W_after - at.W) / norm(at.W),
    "activation_mean": lambda at: float(np.sum(at.a)) / at.a.size,
    "activation_std": lambda at: float(np.sqrt(np.sum((at.a - at.a.mean()) ** 2) / at.a.size)),
    "saturated": lambda at: float(np.sum(np.abs(at.z) > SATURATED_BEYOND)) / at.z.size,
}


def setting() -> tuple[Architecture, Task, Parameters]:
    net = architecture([6, 5, 7, 4], "tanh", "tanh", bias=True)
    return net, make_task(net, 4, probes=PROBED), draw(net, [1], sigma_w2=4.0)


def plain_backprop(x: Float64s, y: Float64s, W: list[Float64s], b: list[Float64s], W_after: list[Float64s]) -> list[Layer]:
    """Tanh throughout, half the squared error."""
    z, a = [], [x]
    for weights, bias in zip(W, b, strict=True):
        z.append(a[-1] @ weights + bias)
        a.append(formulas.FORMULAS["tanh"](z[-1]))
    layers, upstream = [], (a[-1] - y) / len(x)
    for k in reversed(range(len(W))):
        delta = upstream / np.cosh(z[k]) ** 2
        upstream = delta @ W[k].T
        layers.append(Layer(W[k], W_after[k], z[k], a[k + 1], delta, a[k].T @ delta))
    return layers[::-1]


def views(parameters: list[Array]) -> list[Float64s]:
    return [view[0].astype(np.float64) for view in parameters[1:]]


@pytest.fixture(scope="module")
def run() -> tuple[Records, dict[int, list[Layer]]]:
    """One run's records, and for each probed step its layers computed from the weights before and after and from the batch."""
    _, task, parameters = setting()
    training = start(task, parameters, [LR], [2])
    advance, layers = training.advance(), {}
    for step in range(task.steps + 1):
        W, b = views(parameters.W), [bias[0] for bias in views(parameters.b)]
        next(advance)
        if step in PROBED:
            x, y = training.step.neurons.a[0][0].astype(np.float64), training.step.targets[0].astype(np.float64)
            layers[step] = plain_backprop(x, y, W, b, views(parameters.W))
    return training.records(0), layers


@pytest.mark.parametrize("name", [name for name in PROBES if name in EXPECTED])
def test_probe_is_its_formula(name: str, run: tuple[Records, dict[int, list[Layer]]]) -> None:
    records, layers = run
    probe, compared = PROBES[name], 0
    for step in PROBED:
        if name == "update_made" and step == PROBED[-1]:
            continue  # the last step makes none
        expected = np.array([EXPECTED[name](layer) for layer in layers[step]])
        found = records.profile(probe.column, step)
        np.testing.assert_allclose(found, np.log10(expected) if probe.log10 else expected, rtol=1e-11, atol=1e-11)
        compared += np.ptp(expected) > 0
    assert compared >= 2, "the layers do not differ"


def test_every_formula_has_a_probe() -> None:
    assert set(EXPECTED) <= set(PROBES)


@pytest.mark.parametrize("name", [name for name, probe in PROBES.items() if probe.always])
def test_a_probe_is_one_number_per_run_and_does_not_disturb(name: str) -> None:
    """Its column has a number for each probed step and layer, and the same ones whichever other steps are probed."""
    _, task, parameters = setting()
    records = train(task, parameters, [LR], [2])[0]
    net, _, fresh = setting()
    every = train(make_task(net, 4, probes=range(5)), fresh, [LR], [2])[0]
    column = PROBES[name].column
    assert records.layers[column].dtype == np.float64
    for step in PROBED[:-1]:
        assert np.isfinite(records.profile(column, step)).all()
        np.testing.assert_array_equal(records.profile(column, step), every.profile(column, step))
    assert column.startswith("log10_") == PROBES[name].log10
    assert column.removeprefix("log10_") == name


def test_the_last_step_makes_no_update() -> None:
    _, task, parameters = setting()
    records = train(task, parameters, [LR], [2])[0]
    assert np.isnan(records.profile("log10_update_made", 4)).all()
    assert np.isfinite(records.profile("log10_update_ratio", 4)).all()


def test_a_step_below_the_resolution_of_float32_is_not_made() -> None:
    """The equation asks for 1e-20 of the weights; float32 has 7 digits, so not one weight changes: exactly zero, log10 -inf."""
    net = architecture([6, 5, 5, 4], "tanh", "sigmoid", dtype=np.float32)
    parameters = draw(net, [1])
    before = [W.copy() for W in parameters.W[1:]]
    records = train(make_task(net, 2, probes=[0, 1, 2]), parameters, [1e-20], [2])[0]
    for step in (0, 1):
        asked, made = (records.profile(f"log10_update_{kind}", step) for kind in ("ratio", "made"))
        assert ((asked > -25) & (asked < -19)).all()
        assert (made == -np.inf).all()
    for W, was in zip(records.weights, before, strict=True):
        np.testing.assert_array_equal(W, was[0])


def test_asked_and_made_agree_where_the_dtype_resolves_them() -> None:
    _, task, parameters = setting()
    records = train(task, parameters, [LR], [2])[0]
    for step in PROBED[:-1]:
        np.testing.assert_allclose(records.profile("log10_update_made", step), records.profile("log10_update_ratio", step), rtol=0, atol=1e-11)


def test_a_gradient_of_zero_has_the_logarithm_minus_infinity() -> None:
    """A relu net whose neurons are all off, and nothing worse: no warning, no NaN in its norms."""
    net = architecture([6, 5, 4], "relu", "linear", bias=True)
    parameters = draw(net, [1])
    parameters.b[1][:] = -100.0
    records = train(make_task(net, 1, probes=[0, 1]), parameters, [0.1], [2])[0]
    for column in ("log10_grad_norm", "log10_delta_norm"):
        assert records.profile(column, 0)[0] == -np.inf
    assert records.profile("saturated", 0)[0] == 1.0
    assert np.isfinite(records.profile("log10_delta_norm", 0)[1])


@pytest.mark.parametrize("hidden", HIDDEN)
def test_saturated_is_the_share_of_slopes_below_a_twentieth_of_the_steepest(hidden: str) -> None:
    """The steepest slope found by trying, the slopes of the net by differences."""
    phi = ACTIVATIONS[hidden]

    def slope(z: Array) -> Float64s:
        return formulas.slope(lambda at: formulas.applied(phi, at), z, formulas.SHORT_STEP)

    net = architecture([6, 40, 4], hidden, "linear")
    parameters = draw(net, [1], sigma_w2=9.0)
    z = evaluate(net, parameters, samples(6, 4, dtype=np.float64).x_train).z[1]
    records = train(make_task(net, 0, 24, probes=[0]), parameters, [0.1], [2])[0]
    steepest = slope(np.append(np.linspace(-8.0, 8.0, 1001), -formulas.KINK)).max()  # selu's is on the left of its kink
    expected = np.mean(np.abs(slope(z)) < steepest / 20)
    assert records.profile("saturated", 0)[0] == pytest.approx(expected, abs=1e-12)
    assert records.profile("saturated", 0)[1] == 0.0
    if hidden in {"sigmoid", "tanh", "relu", "erf"}:
        assert 0.1 < expected < 0.9


def test_saturation_is_not_defined_for_softmax() -> None:
    net = architecture([6, 5, 4], "tanh", "softmax")
    records = train(make_task(net, 1, loss="cross_entropy"), draw(net, [1]), [0.1], [2])[0]
    assert np.isnan(records.profile("saturated", 0)[1])
    assert np.isfinite(records.profile("saturated", 0)[0])
