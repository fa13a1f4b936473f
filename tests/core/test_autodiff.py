"""The whole net against automatic differentiation of a second implementation (HIPS autograd), layer by layer, at depths 2 to 100."""

from dataclasses import dataclass
from itertools import product
from typing import Any

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import Array, Float64s, log2_norm
from bpexp.core.losses import LOSSES
from bpexp.core.network import Architecture, Parameters
from tests.core import formulas
from tests.core.nets import HIDDEN, OUTPUTS, architecture, differentiate, draw, evaluate, probabilities

WIDTH, BATCH = 8, 4
# how the output begins is seen in ten layers; a hundred are for what the hidden ones make of it
DEPTHS = [*product(OUTPUTS, [2, 10]), *product([("squared_error", "sigmoid"), ("cross_entropy", "softmax")], [100])]
CONDITION = 100  # how many times its relative size a small change of the input may have at the output: as often, the roundings of the two passes


@dataclass(frozen=True)
class Reference:
    """What autograd says: the loss, and index 0 being layer 1, dL/dW_k, dL/db_k and dL/dz_k."""

    value: float
    W: list[Float64s]
    b: list[Float64s]
    delta: list[Float64s]


def reference(net: Architecture, parameters: Parameters, x: Array, y: Float64s, loss: str) -> Reference:
    """Of the first run.  Zeros added to z_k have dL/dz_k as their gradient."""
    hidden, output = formulas.activation(net.activation.name), formulas.activation(net.output.name)
    mean_loss = formulas.loss(loss, net.output.name)
    weights = [W[0] for W in parameters.W[1:]]
    biases = [b[0] for b in parameters.b[1:]] or [np.zeros((1, n)) for n in net.sizes[1:]]
    shifts = [np.zeros((len(x), n)) for n in net.sizes[1:]]

    def value(weights: list[Any], biases: list[Any], shifts: list[Any]) -> Any:
        a: Any = x
        for k in net.layers:
            z = anp.dot(a, weights[k - 1]) + biases[k - 1] + shifts[k - 1]
            a = output(z) if k == net.depth else hidden(z)
        return mean_loss(z, a, y)

    found, gradients = autograd.value_and_grad(value, argnum=(0, 1, 2))(weights, biases, shifts)
    return Reference(float(found), *gradients)


def relative_error(found: Array, expected: Float64s) -> float:
    """||found - expected|| / ||expected||, both scaled by the same power of two first, for their squares would underflow."""
    scale = -int(log2_norm(expected[None])[0])
    return float(np.linalg.norm(np.ldexp(found - expected, scale)) / np.linalg.norm(np.ldexp(expected, scale)))


def lively(net: Architecture, x: Array) -> Parameters:
    """Weights under which every layer has a gradient and no z lies on a kink: an orthogonal net on a scale that keeps z from vanishing.

    Without biases silu and gelu have no such scale in a deep net (near 0 their gain is 1/2, far above 1).  A sample's z may vanish there, as long
    as none is on the kink by the sample's own measure: a formula has no step that could cross it.
    """
    written = net.activation.name in formulas.FORMULAS
    for seed, sigma_w2 in product(range(100), (1.0, 2.0)):
        parameters = draw(net, [seed], "orthogonal", sigma_w2=sigma_w2)
        z = evaluate(net, parameters, x).z[1:]
        sizes = [np.minimum(1.0, np.abs(layer).max(axis=2, keepdims=True)) if written else 1.0 for layer in z]
        if all((np.abs(layer) > formulas.KINK * size).all() and (layer > 0).any(axis=2).all() for layer, size in zip(z, sizes, strict=True)):
            moved = evaluate(net, parameters, x * (1 + 1e-8)).z[-1]
            if np.linalg.norm(moved - z[-1]) < 1e-8 * CONDITION * np.linalg.norm(z[-1]):
                return parameters
    raise AssertionError("no lively net found")


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize(("loss_output", "depth"), DEPTHS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_every_layer(hidden: str, loss_output: tuple[str, str], depth: int, bias: bool) -> None:
    loss, output = loss_output
    rng = np.random.default_rng(depth)
    net = architecture([5, *[WIDTH] * (depth - 1), 3], hidden, output, bias=bias)
    x, y = rng.standard_normal((BATCH, 5)), probabilities(rng, BATCH, 3)
    parameters = lively(net, x)
    written = {hidden, output} <= formulas.FORMULAS.keys() and loss in formulas.LOSS_FORMULAS
    tolerance = 1e-11 if written else 1e-7
    expected, found = reference(net, parameters, x, y, loss), differentiate(net, parameters, x, y, loss)
    assert abs(found.value[0] / expected.value - 1) < 1e-12
    for k in net.layers:
        assert np.any(expected.delta[k - 1]), "a gradient of zero would compare nothing"
        assert relative_error(found.W(k)[0], expected.W[k - 1]) < tolerance
        assert relative_error(found.delta(k)[0], expected.delta[k - 1]) < tolerance
        if bias:
            assert relative_error(found.b(k)[0], expected.b[k - 1]) < tolerance


@pytest.mark.parametrize("name", [name for name in HIDDEN if name in formulas.FORMULAS])
def test_a_row_without_a_formula_can_be_measured(name: str) -> None:
    z = np.random.default_rng(0).standard_normal((BATCH, WIDTH))
    measured, written = (autograd.elementwise_grad(f)(z) for f in (formulas.measured_activation(ACTIVATIONS[name]), formulas.FORMULAS[name]))
    assert relative_error(measured, written) < 1e-9


@pytest.mark.parametrize(("loss", "output"), [pair for pair in OUTPUTS if pair[0] in formulas.LOSS_FORMULAS and pair[1] in formulas.FORMULAS])
def test_a_loss_without_a_formula_can_be_measured(loss: str, output: str) -> None:
    rng = np.random.default_rng(0)
    z, y = rng.standard_normal((BATCH, 3)), probabilities(rng, BATCH, 3)
    losses = formulas.measured_loss(LOSSES[loss], ACTIVATIONS[output]), formulas.LOSS_FORMULAS[loss]
    measured, written = (autograd.grad(lambda z, f=f: f(z, formulas.FORMULAS[output](z), y))(z) for f in losses)
    assert relative_error(measured, written) < 1e-9
