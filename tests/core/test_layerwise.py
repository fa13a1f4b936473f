"""Wide nets, whose weights descend layer by layer: against the plain update of all weights at once, run by run, in place."""

import gc
import tracemalloc
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from math import log2

import numpy as np
import pytest
from numpy.typing import NDArray

from bpexp.core.arrays import Array, Float64s, log2_norm
from bpexp.core.descent import Method
from bpexp.core.layerwise import WIDE, Layerwise, wide
from bpexp.core.network import Architecture, Gradients, Neurons, Parameters
from bpexp.core.norms import Norms
from bpexp.core.optimizers import OPTIMIZERS
from bpexp.core.step import Step
from tests.core.nets import DTYPES, Definition, Pass, architecture, batches, begin, broken_runs, draw, epsilon, everyone, shake, take, twin
from tests.core.test_memory import blocks

BATCHES = [1, 8, 16, 17, 32, 40]
SIZES = [(256, 256, 256, 256), (7, 256, 256, 5), (300, 300, 300, 300), (20, 512, 256, 300), (1, 256, 300, 1)]


def net_of(sizes: Sequence[int], dtype: type = np.float32, hidden: str = "tanh", output: str = "linear") -> Architecture:
    return architecture(sizes, hidden, output, bias=True, dtype=dtype)


# ------------------------------------------------------------------------------------------- which nets


@pytest.mark.parametrize(
    ("sizes", "method", "expected"),
    [
        ((4, WIDE, 3), Method(), True),
        ((4, WIDE - 1, 3), Method(), False),
        ((4, WIDE, WIDE - 1, 3), Method(), False),
        ((WIDE, WIDE), Method(), False),
        ((4, WIDE, 3), Method(keys={"weight_decay": 0.0}), True),
        ((4, WIDE, 3), Method(keys={"weight_decay": 0.1}), False),
        ((4, WIDE, 3), Method(clip=1.0), False),
        ((4, WIDE, 3), Method(OPTIMIZERS["momentum"]), False),
    ],
)
def test_which_nets_are_wide(sizes: Sequence[int], method: Method, expected: bool) -> None:
    net = net_of(sizes)
    assert wide(net, method) == expected
    step = begin(net, draw(net, [1]), [0.1], 2, method=method)
    assert (step.layerwise is not None) == expected
    assert ("W" in step.gradients.arrays) != expected


# ------------------------------------------------------------------------------------------- the plain update


def allowed(before: Array, rate: Array, a: Array, delta: Array) -> Float64s:
    """How far two orders of W - rate sum_b a_b delta_b, with each product and sum rounded or not, can lie apart, (n_in, n_out) of one run.

    Each of the 2 (B + 3) roundings is of eps/2 of at most |W| + rate sum_b |a_b| |delta_b|, but |W| meets one of them in each.
    """
    terms = np.abs(a).astype(np.float64).T @ np.abs(delta).astype(np.float64) * abs(float(rate))
    return np.asarray(epsilon(before.dtype) * (np.abs(before) + (len(a) + 3) * terms))


def assert_descends(net: Architecture, runs: int, batch: int, steps: int = 3, lr: float = 0.1, grown: float = 1.0, loud: float = 1.0) -> None:
    """Step by step, each from the very same weights: passes and biases are the definition's, weights to rounding.

    `grown` are the first run's weights, `loud` the targets of the second step, so that deltas start from, and jump to, anywhere.
    """
    parameters = shake(draw(net, range(runs)))
    for W in parameters.W[1:]:
        W[0] *= W.dtype.type(grown)
    other, rates = twin(net, parameters), [lr * 2**run for run in range(runs)]
    step, plain = begin(net, parameters, rates, batch), Definition(net, "squared_error", Method(), batch, other, rates)
    for number, (x, y) in enumerate(batches(net, runs, batch, steps)):
        np.multiply(y, loud if number == 1 else 1.0, out=y)
        found, expected = take(step, x, y), plain.take(x, y)
        np.testing.assert_array_equal(found.value, expected.value)
        before = twin(net, parameters)
        if number % 2:
            step.watched_update(number, everyone(step))
        else:
            step.update(number, everyone(step))
        plain.update(number)
        for k in net.layers:
            np.testing.assert_array_equal(found.delta(k), expected.delta(k))
            np.testing.assert_array_equal(parameters.b[k], other.b[k])
            for run in range(runs):
                rate, delta = step.descent.rate[run, k - 1], found.gradients.delta[k][run]
                bound = allowed(before.W[k][run], rate, found.neurons.a[k - 1][run], delta)
                moved = np.abs(parameters.W[k][run] - before.W[k][run])
                assert moved.max() > 10 * bound.max() or grown != 1.0, "a step within its own rounding would compare nothing"
                assert (np.abs(parameters.W[k][run].astype(np.float64) - other.W[k][run]) <= bound).all(), f"W_{k}, run {run}"
            other.W[k][:] = parameters.W[k]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_wide_layers_descend_as_plain_ones(sizes: Sequence[int], batch: int, runs: int, dtype: type) -> None:
    assert_descends(net_of(sizes, dtype), runs, batch)


@pytest.mark.parametrize("batch", [1, 8, 32])
def test_wide_layers_descend_as_plain_ones_where_powers_of_two_come_in(batch: int) -> None:
    assert_descends(net_of((7, 256, 256, 256, 5)), 2, batch, grown=1e-6, loud=1e15, lr=1e-3)


@pytest.mark.parametrize("skip", ["none", "residual", "rezero"])
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_wide_layers_descend_as_plain_ones_with_anything_between_them(norm: str, skip: str) -> None:
    assert_descends(architecture((7, 256, 256, 256, 5), "relu", bias=True, dtype=np.float32, norm=norm, skip=skip), 2, 8, lr=0.01)


# ------------------------------------------------------------------------------------------- run by run, in place


def train(step: Step, data: Sequence[tuple[Array, Array]], change: Callable[[int], None], alive: Callable[[int], NDArray[np.bool]]) -> list[Array]:
    """Weights and norms after every step, with a leading run axis each; norms come from all three ways in turn."""
    found: list[Array] = []
    for number, (x, y) in enumerate(data):
        change(number)
        living = alive(number)
        take(step, x, y, living)
        with np.errstate(all="ignore"):
            found.append(step.log2_delta().T)
            if number % 3 == 0:
                found.append(step.log2_grad().T)
                step.update(number, living)
            elif number % 3 == 1:
                norms = step.update(number, living, norms=True)
                assert norms is not None
                found.append(norms.T)
            else:
                found += [norms.T for norms in step.watched_update(number, living)]
        found += [array.copy() for arrays in step.parameters.arrays.values() for array in arrays.values()]
    return found


NEIGHBOURS = ["well", "buried", "not finite", "huge", "tiny"]


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
@pytest.mark.parametrize("batch", [1, 8, 17, 40])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_wide_run_in_a_stack_is_bitwise_the_run_alone(dtype: type, batch: int, neighbour: str) -> None:
    """Whatever becomes of its neighbour: ended, not finite, or with numbers whose squares the dtype does not have."""
    net = net_of((7, 256, 256, 5), dtype, "relu")
    parameters, data, lr = draw(net, [1, 2, 3], "he"), list(batches(net, 3, batch, 5)), [0.01, 0.02, 0.04]
    singles = [twin(net, parameters, slice(run, run + 1)) for run in range(3)]
    size = {"huge": 1e24, "tiny": 1e-24}.get(neighbour, 1.0) ** (8 if dtype is np.float64 else 1)
    for x, _ in data:
        x[1] *= dtype(size)

    def breaks(step: int) -> None:
        if step == 2 and neighbour in {"buried", "not finite"}:
            parameters.W[2][1, 3, 4] = np.nan

    def alive(step: int) -> NDArray[np.bool]:
        return np.array([True, step < 2 or neighbour != "buried", True])

    stack = train(begin(net, parameters, lr, batch), data, breaks, alive)
    for run in [0, 1, 2] if neighbour == "well" else [0, 2]:
        single = begin(net, singles[run], lr[run : run + 1], batch)
        alone = train(single, [(x[[run]], y[[run]]) for x, y in data], lambda _step: None, lambda _step: np.array([True]))
        for found, expected in zip(stack, alone, strict=True):
            np.testing.assert_array_equal(found[run], expected[0])


@pytest.mark.parametrize("batch", [1, 8, 40])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_run_that_has_ended_keeps_its_weights(dtype: type, batch: int) -> None:
    net = net_of((7, 256, 256, 5), dtype)
    parameters = draw(net, [1, 2])
    step, before = begin(net, parameters, [0.1, 0.1], batch), twin(net, parameters)
    alive = np.array([True, False])
    for number, (x, y) in enumerate(batches(net, 2, batch, 2)):
        take(step, x, y)
        if number:
            found, change = step.watched_update(number, alive)
            assert np.isfinite([found[:, 0], change[:, 0]]).all()
            assert (change[:, 1] == -np.inf).all()
        else:
            step.update(number, alive)
    for k in net.layers:
        assert (parameters.W[k][0] != before.W[k][0]).any()
        np.testing.assert_array_equal(parameters.W[k][1], before.W[k][1])


@pytest.mark.parametrize("batch", [1, 8, 40])
@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_stay_where_they_are_and_no_gradients_are_kept(dtype: type, batch: int) -> None:
    """All that a step has beside its weights: z, a, delta and slope of each layer, the batch, and one layer's room for each shape."""
    net, runs, number = net_of((64, *[256] * 12, 64), dtype), 2, np.dtype(dtype).itemsize
    parameters = draw(net, [1, 2])
    places = [W.__array_interface__["data"][0] for W in parameters.W[1:]]
    data = list(batches(net, runs, batch, 4))
    gc.collect()
    tracemalloc.start()
    step = begin(net, parameters, [0.1, 0.1], batch)
    slopes = sum(net.sizes[1:]) if step.merges else 256 + 64  # of a large layer they last as long as they are needed
    per_layer = runs * batch * (3 * sum(net.sizes[1:]) + slopes + 3 * 64)
    room = (2 * 64 * 256 + 256 * 256) + runs * sum(net.sizes[1:])  # and the biases' gradients
    small = 64 * 1024
    assert number * (per_layer + room) * 0.9 < blocks()[1] < number * (per_layer + room) + small
    weights = runs * 256 * 256
    for at, (x, y) in enumerate(data):
        took = take(step, x, y)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        if at < 3:
            step.update(at, everyone(step), norms=at > 0)
        else:
            step.watched_update(at, everyone(step))
        step.broken()
        made = tracemalloc.get_traced_memory()[1] - before
        products = 4 * runs * batch**2 + 2 * runs * batch * 256 + (weights if at == 3 else 0)  # a watched layer is compared with itself, in float64
        assert made < number * products + (3 * 8 * weights if at == 3 else 0) + small
    tracemalloc.stop()
    assert len(took.gradients.W) == 1  # the empty array of no layer
    assert [W.__array_interface__["data"][0] for W in step.parameters.W[1:]] == places


# ------------------------------------------------------------------------------------------- the end of a run


@pytest.mark.parametrize("batch", [1, 8, 40])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_wide_run_is_broken_where_plain_numpy_says_so(dtype: type, batch: int) -> None:
    """In the very step, and with no look at the weights in the steps before."""
    net = replace(net_of((7, 256, 256, 5), dtype, "linear"), bias=False)
    parameters, lr = draw(net, [1, 2]), [1e-3, 3.0]
    other = twin(net, parameters)
    step, plain, ends = begin(net, parameters, lr, batch), Definition(net, "squared_error", Method(), batch, other, lr), []
    with np.errstate(all="ignore"):
        for number, (x, y) in enumerate(batches(net, 2, batch, 12)):
            take(step, x, y)
            plain.take(x, y)
            step.update(number, everyone(step))
            plain.update(number)
            broken = [any(not np.isfinite(W[run]).all() for W in parameters.W[1:]) for run in range(2)]
            assert broken_runs(step) == broken
            assert broken == [any(not np.isfinite(W[run]).all() for W in other.W[1:]) for run in range(2)]
            ends.append(broken)
    assert [False, False] in ends
    assert ends[-1] == [False, True]


def test_a_bias_of_a_wide_net_that_is_not_finite_breaks_its_run() -> None:
    net = net_of((7, 256, 256, 5))
    step = begin(net, parameters := draw(net, [1, 2]), [0.1, 0.1], 8)
    take(step, *next(batches(net, 2, 8, 1)))
    step.update(0, everyone(step))
    assert step.broken() is None
    parameters.b[2][1, 0, 3] = np.inf
    assert broken_runs(step) == [False, True]


PATHS = {
    "grows": [0.6, 0.6, 0.3, 0.3, -0.5, 0.8],
    "swings": [0.9, -0.9, 0.9, -0.9, -0.9, 0.9, 0.9, 0.05, 0.2],
    "at once": [0.1, np.inf],
    "not a number": [0.1, -0.1, np.nan],
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("batch", [1, 8, 40])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_weight_may_go_anywhere_below_infinity(dtype: type, batch: int, path: str) -> None:
    """One weight of one run moves by those parts of the largest number; the run is broken from when it is not finite."""
    net = architecture((256, 256, 256), "linear", "linear", dtype=dtype)
    parameters, neurons, gradients = Parameters(net, 2), Neurons(net, 2, batch), Gradients(net, 2, batch, without=("W",))
    inputs, deltas, alive = Norms(neurons.a[:-1]), Norms(gradients.delta[1:]), np.array([True, True])
    layers = Layerwise(net, parameters, neurons, gradients, deltas.squares)
    for array in (*neurons.a, *gradients.delta[1:]):
        array[:] = 0.0
    neurons.a[1][:, 0, 3] = 2.0**10
    broken = False
    with np.errstate(all="ignore"):
        for move in PATHS[path]:
            gradients.delta[2][1, 0, 5] = -move * 2.0**10
            rate: Array = np.array([[0.0, 0.0], [0.0, np.finfo(dtype).max * 2.0**-20]], dtype)
            deltas.measure()
            layers.update(rate, alive)
            broken = broken or not np.isfinite(parameters.W[2][1]).all()
            found = layers.broken(rate, inputs, deltas)
            assert ([False, False] if found is None else found.tolist()) == [False, broken]
    assert broken


# ------------------------------------------------------------------------------------------- norms


def products(done: Pass, dtype: type = np.float64) -> list[Float64s]:
    """a^T delta of each layer's arrays as they are, with sums in float64."""
    a, delta = done.neurons.a, done.gradients.delta
    return [np.matmul(a[k - 1].swapaxes(1, 2).astype(dtype), delta[k].astype(dtype)) for k in done.net.layers]


def assert_norms(step: Step, done: Pass, digits: float, number: int) -> Float64s:
    """Of all three ways, before the update, on the way of it and watched; returns what they are to be."""
    exponent = done.gradients.exponent
    expected = np.array([log2_norm(product, exponent[:, k]) for k, product in enumerate(products(done), start=1)])
    with np.errstate(all="ignore"):
        early = step.log2_grad()
        found = step.update(number, everyone(step), norms=True) if number % 2 == 0 else step.watched_update(number, everyone(step))[0]
    assert found is not None
    for norms in (early, found):
        np.testing.assert_allclose(norms, expected, rtol=2**-50, atol=log2(1 + digits))
    return expected


DIGITS: dict[type, float] = {np.float32: 1e-5, np.float64: 1e-12}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 16, 17])
def test_norms_of_wide_layers_at_depth_100(batch: int, dtype: type) -> None:
    """One sample's; by products of samples; of the explicit product."""
    net = net_of((32, *[256] * 99, 16), dtype, "sigmoid")
    step = begin(net, draw(net, [1]), [0.1], batch)
    for number, (x, y) in enumerate(batches(net, 1, batch, 2)):
        expected = assert_norms(step, take(step, x, y), DIGITS[dtype], number)
    assert expected[0, 0] < -50


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e-25, 1e25])
@pytest.mark.parametrize("batch", [1, 8, 40])
def test_norms_of_wide_layers_wherever_the_activations_lie(batch: int, size: float, dtype: type) -> None:
    """In one run of two; in float64 their squares' ends are as far away."""
    size = size ** (8 if dtype is np.float64 else 1)
    net = replace(net_of((32, *[256] * 6, 300), dtype, "relu"), bias=False)
    parameters = draw(net, [1, 2], "he")
    parameters.W[net.depth][1] *= dtype(min(1.0, 1 / size))
    step = begin(net, parameters, [0.0, 0.0], batch)
    for number, (x, y) in enumerate(batches(net, 2, batch, 2)):
        x[1] *= dtype(size)
        assert_norms(step, take(step, x, y), DIGITS[dtype], number)


def at_the_plateau(net: Architecture, x: Array, y: Array, off: float) -> Parameters:
    """Output biases such that the mean output is the mean target, but for `off`: where training a deep sigmoid net soon ends."""
    parameters = draw(net, [1], "standard")
    for _ in range(3):
        step = begin(net, parameters, [0.0], x.shape[1])
        found = take(step, x, y).neurons.a[-1]
        parameters.b[net.depth][:] += (y.astype(np.float64) - found).mean(axis=1, keepdims=True) + off
    return parameters


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("off", [1e-1, 1e-2, 3e-3, 1e-3, 1e-5])
@pytest.mark.parametrize("batch", [8, 16, 17])
def test_norms_at_a_plateau_where_samples_cancel(batch: int, off: float, dtype: type) -> None:
    """The output ignores the input, all samples' activations are the same, and their deltas add up to a small part of each."""
    net = net_of((32, *[256] * 20, 256), dtype, "sigmoid")
    x, _ = next(batches(net, 1, batch, 1))
    y: Array = np.eye(net.sizes[-1], dtype=dtype)[None, np.arange(batch) % 2]
    step = begin(net, at_the_plateau(net, x, y, off), [1e-3], batch)
    done = take(step, x, y)
    sizes = [np.linalg.norm(done.neurons.a[k - 1]) * np.linalg.norm(done.gradients.delta[k]) for k in net.layers]
    left = np.array([np.linalg.norm(product) / size for product, size in zip(products(done), sizes, strict=True)])
    assert np.median(left) < 30 * off
    assert_norms(step, done, DIGITS[dtype], 0)


@pytest.mark.parametrize("batch", [1, 8, 40])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_layer_without_deltas_stays_as_it_is(dtype: type, batch: int) -> None:
    """Unless an activation is not finite: infinity times 0 is not a number, and the plain update would say so."""
    net = architecture((256, 256, 256), "linear", "linear", dtype=dtype)
    parameters, neurons, gradients = draw(net, [1, 2]), Neurons(net, 2, batch), Gradients(net, 2, batch, without=("W",))
    deltas, before = Norms(gradients.delta[1:]), deepcopy(parameters)
    layers = Layerwise(net, parameters, neurons, gradients, deltas.squares)
    for array in (*neurons.a, *gradients.delta[1:]):
        array[:] = 1.0
    gradients.delta[1][:] = gradients.delta[2][:] = 0.0
    neurons.a[1][1, 0, 3] = np.inf
    deltas.measure()
    with np.errstate(all="ignore"):
        found = layers.update(np.ones((2, 2), dtype), np.array([True, True]), norms=True)
    assert found is not None
    np.testing.assert_array_equal(found[:, 0], [-np.inf, -np.inf])
    np.testing.assert_array_equal(parameters.W[1], before.W[1])
    np.testing.assert_array_equal(parameters.W[2][0], before.W[2][0])
    assert np.isnan(parameters.W[2][1]).any()
