"""The statements that backpropagation is derived from, one by one, as statements that run.

1. W[i, j] leads from neuron i to neuron j.
2. A weight acts on its own neuron alone: dz_k[j] / dW_k[i, j'] = a_{k-1}[i] where j = j', else 0.
3. A neuron acts on the loss through every neuron of the next layer: delta_k = (delta_{k+1} W_{k+1}^T) * phi'(z_k).
4. So dL/dW_k[i, j] = a_{k-1}[i] delta_k[j], summed over samples.
5. Each delta_k is computed once, from delta_{k+1}: all that a layer has to know of the layers after it is their delta.
6. A small step against the gradient lowers the loss by lr ||gradient||^2.
"""

from dataclasses import replace

import numpy as np
import pytest

from bpexp.core.arrays import Array, Float64s
from bpexp.core.descent import Descent, Method
from bpexp.core.network import Architecture, Parameters
from bpexp.core.optimizers import OPTIMIZERS
from tests.core.nets import HIDDEN, OUTPUTS, Pass, architecture, carry_back, differentiate, draw, evaluate, probabilities

STEP = 1e-6


def derivative(net: Architecture, z: Array, a: Array, k: int) -> Array:
    slope = np.empty_like(z)
    net.phi(k).derivative(z, a, slope)
    return slope


def jacobian(net: Architecture, parameters: Parameters, x: Float64s, k: int, of: int) -> Float64s:
    """dz_of[j] / dW_k[i, j'] of one sample by differences, shape (n_of, n_in, n_out)."""
    W = parameters.W[k]
    columns = np.empty((net.sizes[of], *W.shape[1:]))
    for i, j in np.ndindex(W.shape[1:]):
        kept, ends = W[0, i, j], []
        for shift in (STEP, -STEP):
            W[0, i, j] = kept + shift
            ends.append(evaluate(net, parameters, x).z[of][0, 0])
        W[0, i, j] = kept
        columns[:, i, j] = (ends[0] - ends[1]) / (2 * STEP)
    return columns


def jacobian_by_the_core(net: Architecture, parameters: Parameters, x: Float64s, k: int) -> Float64s:
    """The same for the output layer's z: a backward pass from each unit vector as delta."""
    neurons = evaluate(net, parameters, x)
    return np.array([carry_back(net, parameters, neurons, unit).W(k)[0] for unit in np.eye(net.sizes[-1])])


def test_w_ij_leads_from_i_to_j() -> None:
    net = architecture([3, 4])
    parameters = Parameters(net, 1)
    parameters.W[1][0, 1, 2] = 7.0
    z = evaluate(net, parameters, np.eye(3)).z[1][0]
    expected = np.zeros((3, 4))
    expected[1, 2] = 7.0  # the sample in which neuron 1 alone is on, and neuron 2 alone hears it
    np.testing.assert_array_equal(z, expected)


@pytest.mark.parametrize("hidden", HIDDEN)
def test_a_weight_acts_on_its_own_neuron_alone(hidden: str) -> None:
    """Of the 4 x 3 x 4 entries of dz_2 / dW_2 only the 3 x 4 into the neuron itself are not zero, and they are the inputs."""
    net, x = architecture([5, 3, 4], hidden), np.full((1, 5), 0.7)
    parameters = draw(net, [1])
    full, by_the_core = jacobian(net, parameters, x, 2, of=2), jacobian_by_the_core(net, parameters, x, 2)
    a = evaluate(net, parameters, x).a[1][0, 0]
    own = np.eye(4, dtype=bool)[:, None, :] & (a != 0)[:, None]
    assert np.count_nonzero(a) > 0
    for found in (full, by_the_core):
        np.testing.assert_array_equal(found != 0, own)  # zero exactly, for the other neurons' z do not change in a single bit
    expected = np.einsum("i,jm->jim", a, np.eye(4))
    np.testing.assert_array_equal(by_the_core, expected)
    np.testing.assert_allclose(full, expected, atol=1e-9)


@pytest.mark.parametrize("hidden", HIDDEN)
def test_a_neuron_acts_on_every_neuron_of_the_next_layer(hidden: str) -> None:
    """dz_2[m] / dW_1[i, j] = a_0[i] phi'(z_1[j]) W_2[j, m]: here the sum over paths has one path, through neuron j."""
    net, x = architecture([3, 4, 5], hidden), np.array([[0.7, -1.2, 0.4]])
    parameters = draw(net, [0])
    neurons = evaluate(net, parameters, x)
    slope = derivative(net, neurons.z[1], neurons.a[1], 1)[0, 0]
    expected = np.einsum("i,j,jm->mij", x[0], slope, parameters.W[2][0])
    assert (slope != 0).any()
    np.testing.assert_array_equal(expected != 0, np.broadcast_to(slope != 0, expected.shape))
    np.testing.assert_allclose(jacobian_by_the_core(net, parameters, x, 1), expected, rtol=1e-14)
    np.testing.assert_allclose(jacobian(net, parameters, x, 1, of=2), expected, atol=1e-8)


def deep(hidden: str, loss: str, output: str) -> tuple[Architecture, Parameters, Pass]:
    net, rng = architecture([5, 4, 6, 6, 3], hidden, output, bias=True), np.random.default_rng(0)
    parameters = draw(net, [1, 2])
    return net, parameters, differentiate(net, parameters, rng.standard_normal((7, 5)), probabilities(rng, 7, 3), loss)


@pytest.mark.parametrize(("loss", "output"), OUTPUTS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_the_delta_rule(hidden: str, loss: str, output: str) -> None:
    """Each delta from the one after it, each gradient from its layer's delta; sums written out, neuron by neuron."""
    net, parameters, done = deep(hidden, loss, output)
    z, a = done.neurons.z, done.neurons.a
    for k in net.layers:
        n_in, n_out = net.sizes[k - 1 : k + 1]
        delta = done.delta(k)
        for i, j in np.ndindex(n_in, n_out):
            np.testing.assert_allclose(done.W(k)[:, i, j], (a[k - 1][:, :, i] * delta[:, :, j]).sum(axis=1), rtol=1e-12, atol=1e-16)
        np.testing.assert_allclose(done.b(k)[:, 0], delta.sum(axis=1), rtol=1e-12, atol=1e-16)
        if k < net.depth:
            slope = derivative(net, z[k], a[k], k)
            for i in range(n_out):
                through = [done.delta(k + 1)[:, :, j] * parameters.W[k + 1][:, None, i, j] for j in range(net.sizes[k + 1])]
                np.testing.assert_allclose(delta[:, :, i], sum(through) * slope[:, :, i], rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("hidden", HIDDEN)
def test_a_layer_knows_of_the_layers_after_it_their_delta_alone(hidden: str) -> None:
    """Cut the net off after layer k and start from delta_k: every gradient below is the same, bit for bit."""
    net, parameters, whole = deep(hidden, "squared_error", "linear")
    for k in range(1, net.depth):
        lower = replace(net, sizes=net.sizes[: k + 1])
        part = Parameters(lower, 2)
        for layer in lower.layers:
            part.W[layer][:], part.b[layer][:] = parameters.W[layer], parameters.b[layer]
        cut = carry_back(lower, part, evaluate(lower, part, whole.neurons.a[0]), whole.gradients.delta[k])
        cut.gradients.exponent += whole.gradients.exponent[:, [k]]
        for layer in lower.layers:
            np.testing.assert_array_equal(cut.W(layer), whole.W(layer))
            np.testing.assert_array_equal(cut.delta(layer), whole.delta(layer))


@pytest.mark.parametrize("depth", [2, 5, 40])
def test_each_delta_is_computed_once(depth: int) -> None:
    """One derivative per hidden layer: the work grows linearly with depth, though 3**(depth - 1) paths lead to each output."""
    calls: list[int] = []
    tanh = architecture([1, 1]).activation

    def counted(z: Array, a: Array, out: Array) -> None:
        calls.append(id(z))
        tanh.derivative(z, a, out)

    net = replace(architecture([3] * (depth + 1)), activation=replace(tanh, derivative=counted))
    parameters = draw(net, [0])
    neurons = evaluate(net, parameters, np.ones((2, 3)))
    carry_back(net, parameters, neurons, np.ones((2, 3)))
    assert calls == [id(neurons.z[k]) for k in range(depth - 1, 0, -1)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("loss", "output"), OUTPUTS)
def test_a_small_step_lowers_the_loss(loss: str, output: str, optimizer: str) -> None:
    net, rng, lr = architecture([5, 6, 6, 3], "tanh", output, bias=True), np.random.default_rng(3), 1e-4
    parameters, x, y = draw(net, [1, 2]), rng.standard_normal((7, 5)), probabilities(rng, 7, 3)
    before = differentiate(net, parameters, x, y, loss)
    gradients = before.gradients
    squares = sum(np.square(before.W(k)).sum(axis=(1, 2)) + np.square(before.b(k)).sum(axis=(1, 2)) for k in net.layers)
    row = OPTIMIZERS[optimizer]
    Descent(Method(row, row.keys), parameters, gradients, np.full(2, lr)).step(0)
    after = differentiate(net, parameters, x, y, loss)
    assert (after.value < before.value).all()
    if optimizer == "sgd":
        np.testing.assert_allclose((before.value - after.value) / lr, squares, rtol=1e-2)
