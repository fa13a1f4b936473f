"""Normalization and skip connections: alone and in nets against central differences, and layer by layer against autograd."""

from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from typing import Any

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

from bpexp.core.arrays import Array, Float64s
from bpexp.core.network import Architecture, Neurons, Parameters, forward
from bpexp.core.normalization import EPSILON, MOMENTUM, NORMS
from bpexp.core.skips import SKIPS, blocks
from tests.core import formulas
from tests.core.nets import DTYPES, architecture, carry_back, differentiate, draw, evaluate, probabilities, shake
from tests.core.test_autodiff import CONDITION
from tests.core.test_autodiff import relative_error as layer_error
from tests.core.test_gradients import central_differences, relative_error

PAIRS = [(norm, skip) for norm in NORMS for skip in SKIPS if (norm, skip) != ("none", "none")]
WRITTEN = [  # where autograd has a formula; a hundred positive activations added up saturate a sigmoid, and 1 - a has few digits left there
    (hidden, norm, skip)
    for hidden in ("tanh", "sigmoid")
    for norm, skip in PAIRS
    if norm in formulas.NORM_FORMULAS and skip in formulas.SKIP_FORMULAS and (hidden, skip) != ("sigmoid", "residual")
]
RUNS, BATCH, WIDTH = 2, 5, 4


def keys(skip: str, every: int) -> dict[str, Any]:
    return {"every": every} if "every" in SKIPS[skip].keys else {}


def check_all_gradients(net: Architecture, parameters: Parameters, x: Float64s) -> None:
    """dL/d(every trained parameter) of L = sum of c * z_depth, for any c, and dL/da of the layer that the data enter."""
    c = np.random.default_rng(1).standard_normal((RUNS, BATCH, net.sizes[-1]))

    def value() -> Float64s:
        return np.asarray((c * evaluate(net, parameters, x).z[-1]).sum(axis=(1, 2)))

    found = carry_back(net, parameters, evaluate(net, parameters, x), c)
    for arena in parameters.arenas:
        for k, array in arena.views():
            expected = central_differences(value, array)
            assert np.any(expected) or arena.kind == "b", f"a gradient of zero would compare nothing: {arena.kind}_{k}"
            if np.abs(expected).max() > 1e-6:
                assert relative_error(found.of(arena.kind, k), expected) < 1e-7, f"{arena.kind}_{k}"
            else:  # a bias before batch norm: what it adds is taken off again
                assert np.abs(found.of(arena.kind, k)).max() < 1e-9


@pytest.mark.parametrize(("norm", "skip"), [pair for pair in PAIRS if "none" in pair])
def test_operation_alone(norm: str, skip: str) -> None:
    """Every affine map is the identity and every activation linear, so that the operation is all there is to differentiate."""
    layers = 2 if skip == "none" else 3
    net = architecture([WIDTH] * (layers + 1), "linear", "linear", norm=norm, skip=skip, **keys(skip, 1))
    parameters = shake(draw(net, [1, 2]))
    for k in net.layers:
        parameters.W[k][:] = np.eye(WIDTH)
    check_all_gradients(net, parameters, np.random.default_rng(0).standard_normal((RUNS, BATCH, WIDTH)))


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize(("norm", "skip"), PAIRS)
def test_operations_in_a_net(norm: str, skip: str, every: int, bias: bool) -> None:
    net = architecture([3, *[WIDTH] * 5, 2], "tanh", "linear", bias=bias, norm=norm, skip=skip, **keys(skip, every))
    check_all_gradients(net, shake(draw(net, [1, 2])), np.random.default_rng(0).standard_normal((RUNS, BATCH, 3)))


MOVE = 1e-10  # of each weight, relative: far above rounding, far below a change that would show curvature


@dataclass(frozen=True)
class Reference:
    """What autograd says: the loss, the gradients of all parameters by kind and layer, and index 0 being layer 1, dL/dz_k."""

    value: float
    parameters: dict[str, dict[int, Float64s]]
    delta: list[Float64s]


def reference(net: Architecture, parameters: Parameters, x: Array, y: Float64s, loss: str, norm: str, skip: str, every: int) -> Reference:
    """Of the first run.  Zeros added to z_k have dL/dz_k as their gradient."""
    hidden, output = formulas.activation(net.activation.name), formulas.activation(net.output.name)
    normalized, scale, mean_loss = formulas.NORM_FORMULAS[norm], formulas.SKIP_FORMULAS[skip], formulas.loss(loss, net.output.name)
    given = {kind: {k: array[0] for k, array in layers.items()} for kind, layers in parameters.arrays.items()}
    shifts = [np.zeros((len(x), n)) for n in net.sizes[1:]]

    def value(p: dict[str, dict[int, Any]], shifts: list[Any]) -> Any:
        def get(kind: str, k: int) -> Any:
            return p.get(kind, {}).get(k, 0.0)

        a: Any = x
        past: Any = None
        for k in net.layers:
            z = anp.dot(a, p["W"][k]) + get("b", k) + shifts[k - 1]
            a = output(z) if k == net.depth else hidden(normalized(z, get("gain", k), get("shift", k)))
            if skip != "none" and past is not None and (k - 1) % every == 0 and k < net.depth:
                a = past + scale(net.depth, get("scale", k)) * a
            if (k - 1) % every == 0:
                past = a
        return mean_loss(z, a, y)

    found, gradients = autograd.value_and_grad(value, argnum=(0, 1))(given, shifts)
    return Reference(float(found), *gradients)


def nudged(parameters: Parameters) -> Parameters:
    """Every weight moved a little, as roundings would move it."""
    moved, rng = deepcopy(parameters), np.random.default_rng(0)
    for k, array in moved.arrays["W"].items():
        moved.W[k][:] = array * (1.0 + MOVE * rng.choice([-1.0, 1.0], array.shape))
    return moved


SHALLOW = product([(2, 1), (10, 3)], [("squared_error", "sigmoid"), ("cross_entropy", "softmax")], [False, True])
SHAPES = [*SHALLOW, ((100, 1), ("cross_entropy", "softmax"), True)]  # loss and biases make no other difference in a hundred layers than in ten


@pytest.mark.parametrize(("depth_every", "loss_output", "bias"), SHAPES)
@pytest.mark.parametrize(("hidden", "norm", "skip"), WRITTEN)
def test_every_layer(hidden: str, norm: str, skip: str, depth_every: tuple[int, int], loss_output: tuple[str, str], bias: bool) -> None:
    """To 1e-11, or to as many digits less as autograd's own gradient loses when the weights move by a rounding."""
    (depth, every), (loss, output) = depth_every, loss_output
    rng = np.random.default_rng(depth)
    net = architecture([5, *[8] * (depth - 1), 3], hidden, output, bias=bias, norm=norm, skip=skip, **keys(skip, every))
    x, y = rng.standard_normal((6, 5)), probabilities(rng, 6, 3)
    parameters = shake(draw(net, [1], "orthogonal"))
    expected, found = reference(net, parameters, x, y, loss, norm, skip, every), differentiate(net, parameters, x, y, loss)
    moved = reference(net, nudged(parameters), x, y, loss, norm, skip, every)
    assert abs(found.value[0] / expected.value - 1) < 1e-11 * max(1.0, abs(moved.value / expected.value - 1) / MOVE / CONDITION)
    tolerance = 1e-11 * max(1.0, max(map(layer_error, moved.delta, expected.delta)) / MOVE / CONDITION)
    for k in net.layers:
        assert np.any(expected.delta[k - 1]), "a gradient of zero would compare nothing"
        assert layer_error(found.delta(k)[0], expected.delta[k - 1]) < tolerance
    for kind, k in [(arena.kind, k) for arena in parameters.arenas for k in arena.layers]:
        gradient, ours = expected.parameters[kind][k], found.of(kind, k)[0]
        if kind == "b" and norm == "batch" and k < depth:  # batch norm takes a bias off again: its gradient is 0, but for rounding
            assert np.linalg.norm([gradient, ours]) < tolerance * np.linalg.norm(expected.parameters["W"][k])
        else:
            assert layer_error(ours, gradient) < tolerance


@pytest.mark.parametrize("dtype", DTYPES)
def test_batch_norm_evaluates_with_running_statistics(dtype: type) -> None:
    """Averages of the batches' means and unbiased variances, the newest with weight MOMENTUM; they are what an evaluation uses."""
    net = architecture([3, WIDTH, 2], "linear", dtype=dtype, norm="batch")
    parameters, rng = shake(draw(net, [1, 2])), np.random.default_rng(0)
    mean, variance = np.zeros((RUNS, 1, WIDTH)), np.ones((RUNS, 1, WIDTH))
    batches: Array = rng.standard_normal((4, RUNS, BATCH, 3)).astype(dtype)
    for x in batches:
        evaluate(net, parameters, x)
        z = x.astype(np.float64) @ parameters.W[1]
        mean = (1 - MOMENTUM) * mean + MOMENTUM * z.mean(axis=1, keepdims=True)
        variance = (1 - MOMENTUM) * variance + MOMENTUM * z.var(axis=1, ddof=1, keepdims=True)
    before = {kind: parameters.arrays[kind][1].copy() for kind in ("running_mean", "running_variance")}
    np.testing.assert_allclose(before["running_mean"], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(before["running_variance"], variance, rtol=1e-5)
    neurons = Neurons(net, RUNS, BATCH, training=False)
    neurons.a[0][:] = x
    found = forward(net, parameters, neurons)
    z, p = x.astype(np.float64) @ parameters.W[1], parameters.arrays
    v = p["gain"][1] * (z - mean) / np.sqrt(variance + EPSILON) + p["shift"][1]
    np.testing.assert_allclose(found, v @ parameters.W[2], rtol=1e-4, atol=1e-5)
    for kind, array in before.items():
        np.testing.assert_array_equal(parameters.arrays[kind][1], array)


@pytest.mark.parametrize(("depth", "every"), [(1, 1), (2, 1), (3, 1), (6, 2), (7, 2), (7, 5), (7, 6)])
def test_blocks_join_hidden_layers_only(depth: int, every: int) -> None:
    found = blocks(depth, every)
    assert all(end - start == every and start >= 1 and end <= depth - 1 for start, end in found)
    assert [start for start, _ in found[1:]] == [end for _, end in found[:-1]]
    assert len(found) == max(0, depth - 2) // every


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_skip_adds_what_it_passes(dtype: type) -> None:
    """a_k = a_start + scale f_k, with weights of zero that leave nothing of a block but phi(0)."""
    for skip, scale in (("residual", 1.0), ("scaled", 5**-0.5), ("rezero", 0.0)):
        net = architecture([3, *[WIDTH] * 4, 2], "sigmoid", dtype=dtype, skip=skip, every=1)
        parameters = draw(net, [1])
        for k in (2, 3, 4):
            parameters.W[k][:] = 0.0
        neurons = evaluate(net, parameters, np.ones((BATCH, 3), dtype))
        for k in (2, 3, 4):
            np.testing.assert_allclose(neurons.a[k], neurons.a[1] + (k - 1) * scale * 0.5, rtol=1e-6)


@pytest.mark.parametrize("after", [1.0, 1e-30])
@pytest.mark.parametrize("block", [1.0, 1e-30, 1e15])
def test_gradients_beyond_float32_come_together_at_a_fork(block: float, after: float) -> None:
    """Where a block shrinks the gradient by 1e60, what goes past it counts; where it grows by 1e30, what went through it does."""
    found = []
    for dtype in DTYPES:
        net = architecture([3, *[WIDTH] * 3, 2], "linear", dtype=dtype, skip="residual", every=2)
        parameters = draw(net, [1])
        for k, scale in ((2, block), (3, block), (4, after)):
            parameters.W[k][:] *= scale
        neurons = evaluate(net, parameters, np.ones((BATCH, 3), dtype))
        found.append(carry_back(net, parameters, neurons, np.full((BATCH, 2), 1e-20, dtype)).delta(1))
    assert 0 < np.abs(found[1]).max() < 1e-18 * after * max(1.0, block**2)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)
