"""Every layer alone, and every loss alone, against central differences."""

from collections.abc import Callable

import numpy as np
import pytest

from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import Array, Float64s
from bpexp.core.losses import LOSSES
from bpexp.core.network import Architecture, Parameters
from tests.core.nets import HIDDEN, OUTPUTS, architecture, carry_back, draw, evaluate, probabilities

RUNS, BATCH, N_IN, N_OUT = 2, 3, 5, 4
STEP = 1e-5  # the error of a central difference is about STEP**2 + 1e-16 / STEP
KINK = 1e-2  # every z keeps this distance from 0, where relu has no derivative
PLACES = ["hidden", "output"]


def central_differences(f: Callable[[], Float64s], x: Array) -> Float64s:
    """df/dx for f (R,) and x (R, …), entry by entry; the same entry of every run at once, for no run acts on another."""
    gradient = np.empty(x.shape)
    for index in np.ndindex(x.shape[1:]):
        entry = (slice(None), *index)
        kept = x[entry].copy()
        x[entry] = kept + STEP
        above = f()
        x[entry] = kept - STEP
        below = f()
        x[entry] = kept
        gradient[entry] = (above - below) / (2 * STEP)
    return gradient


def relative_error(found: Float64s, expected: Float64s) -> float:
    """The largest of all runs' ||found - expected|| / ||expected||."""
    axes = tuple(range(1, expected.ndim))
    return float(np.max(np.sqrt(np.square(found - expected).sum(axes) / np.square(expected).sum(axes))))


def layer_alone(name: str, place: str, *, bias: bool) -> tuple[Architecture, Parameters, Float64s, int]:
    """A net in which layer k has the activation and every other layer passes its input on as it is; inputs that keep off the kink."""
    sizes = (N_IN, N_OUT, N_OUT) if place == "hidden" else (N_IN, N_IN, N_OUT)
    net = architecture(sizes, *((name, "linear") if place == "hidden" else ("linear", name)), bias=bias)
    k, other = (1, 2) if place == "hidden" else (2, 1)
    for seed in range(100):
        parameters = draw(net, [seed, seed + 1000])
        parameters.W[other][:] = np.eye(*parameters.W[other].shape[1:])
        if bias:
            parameters.b[other][:] = 0.0
        x = np.random.default_rng(seed).standard_normal((RUNS, BATCH, N_IN))
        if np.abs(evaluate(net, parameters, x).z[k]).min() > KINK:
            return net, parameters, x, k
    raise AssertionError("no inputs found away from z = 0")


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", HIDDEN)
def test_layer_alone(name: str, place: str, bias: bool) -> None:
    """The gradients dL/dW, dL/db and dL/da_in of L = sum of c * a_out, for any c."""
    net, parameters, x, k = layer_alone(name, place, bias=bias)
    c = np.random.default_rng(1).standard_normal((RUNS, BATCH, N_OUT))

    def value() -> Float64s:
        return np.asarray((c * evaluate(net, parameters, x).a[-1]).sum(axis=(1, 2)))

    neurons = evaluate(net, parameters, x)
    slope = np.empty_like(neurons.z[-1])
    net.output.derivative(neurons.z[-1], neurons.a[-1], slope)
    found = carry_back(net, parameters, neurons, c * slope)
    assert relative_error(found.W(k), central_differences(value, parameters.W[k])) < 1e-7
    if bias:
        assert relative_error(found.b(k), central_differences(value, parameters.b[k])) < 1e-7
    if place == "output":  # the layer before is the identity: its delta is dL/da_in
        assert relative_error(found.delta(1), central_differences(value, x)) < 1e-7


@pytest.mark.parametrize(("name", "output"), OUTPUTS)
def test_loss_alone(name: str, output: str) -> None:
    """The gradient dL/dz at the output layer, of the loss as a function of z."""
    loss, phi, rng = LOSSES[name], ACTIVATIONS[output], np.random.default_rng(0)
    z = rng.standard_normal((RUNS, BATCH, N_OUT))
    z += np.copysign(KINK, z)
    y = probabilities(rng, RUNS, BATCH, N_OUT)
    a, scratch, delta = np.empty_like(z), np.empty_like(z), np.empty_like(z)

    def value() -> Float64s:
        out = np.empty(RUNS)
        phi.function(z, a)
        loss.value(z, a, y, scratch, out)
        return out

    expected = central_differences(value, z)
    value()  # a of the z that is not moved
    loss.delta(z, a, y, phi, scratch, delta)
    assert relative_error(delta, expected) < 1e-7


def test_central_differences_see_an_error_of_a_millionth() -> None:
    x = np.random.default_rng(0).standard_normal((RUNS, 4))
    expected = central_differences(lambda: np.asarray(np.sin(x).sum(axis=1)), x)
    assert relative_error(np.cos(x), expected) < 1e-9
    assert relative_error(np.cos(x) * (1 + 1e-6), expected) > 1e-7
