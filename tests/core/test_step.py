"""A step that is written down and repeated against the definition called anew: bit for bit, and wherever the deltas go between two steps."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import log2
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from numpy.typing import NDArray

from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import HIGH, Array, Float64s, log2_norm
from bpexp.core.descent import Method
from bpexp.core.network import Architecture, Parameters
from bpexp.core.normalization import NORMS
from bpexp.core.optimizers import OPTIMIZERS
from bpexp.core.skips import SKIPS
from bpexp.core.step import MERGED, Step
from tests.core.nets import (
    DTYPES,
    HIDDEN,
    OUTPUTS,
    PLAIN,
    REPEATABLE,
    Definition,
    Pass,
    architecture,
    batches,
    begin,
    broken_runs,
    differentiate,
    draw,
    everyone,
    shake,
    take,
    twin,
)
from tests.core.test_norms import SAME_NORM, in_float64

Change = Callable[[Parameters, int], None]  # what happens to the weights before a step, by its number
SOME = settings(REPEATABLE, max_examples=12)


def nothing_happens(_parameters: Parameters, _step: int) -> None: ...


def assert_same_pass(found: Pass, expected: Pass) -> None:
    """Value, deltas and gradients, as true numbers: predicted and measured ones may be stored with different exponents."""
    np.testing.assert_array_equal(found.value, expected.value)
    for k in found.net.layers:
        np.testing.assert_array_equal(found.delta(k), expected.delta(k), err_msg=f"delta_{k}")
    for arena in found.gradients.arenas:
        for k in arena.layers:
            np.testing.assert_array_equal(found.of(arena.kind, k), expected.of(arena.kind, k), err_msg=f"{arena.kind}_{k}")


def assert_same_parameters(found: Parameters, expected: Parameters) -> None:
    for kind, layers in expected.arrays.items():
        for k, array in layers.items():
            np.testing.assert_array_equal(found.arrays[kind][k], array, err_msg=f"{kind}_{k}")


def follow(
    net: Architecture,
    parameters: Parameters,
    data: Iterable[tuple[Array, Array]],
    *,
    loss: str = "squared_error",
    method: Method = PLAIN,
    lr: float = 0.1,
    change: Change = nothing_happens,
) -> Step:
    """Both ways from the same weights on the same batches, compared at every step.

    Equality must hold: a power of two commutes with every rounding of a product or a sum, and neither the predicted nor the measured powers
    bring these nets near the ends of the dtype's range, where it would not.
    """
    other, rates = twin(net, parameters), [lr * 2**run for run in range(len(parameters.W[1]))]
    found: Step | None = None
    with np.errstate(all="ignore"):
        for number, (x, y) in enumerate(data):
            if found is None:
                found = begin(net, parameters, rates, x.shape[1], loss, method)
                expected = Definition(net, loss, method, x.shape[1], other, rates)
            for each in (parameters, other):
                change(each, number)
            assert_same_pass(take(found, x, y), expected.take(x, y))
            found.update(number, everyone(found))
            expected.update(number)
            assert_same_parameters(parameters, other)
    assert found is not None
    return found


# ------------------------------------------------------------------------------------------- the definition, bit for bit


@st.composite
def nets(draw: DrawFn, hidden: str, norms: Sequence[str] = tuple(NORMS)) -> Architecture:
    """Small ones, whose neighbouring layers are often of one shape, so that their calls become one."""
    widths = draw(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 3)), min_size=1, max_size=3))
    inner = [n for n, times in widths for _ in range(times)][: draw(st.integers(0, 6))]
    skip = draw(st.sampled_from(sorted(SKIPS)))
    if skip != "none":  # what is added must be of one width
        inner = inner[:1] * len(inner)
    keys: dict[str, Any] = {"every": draw(st.integers(1, 2))} if "every" in SKIPS[skip].keys else {}
    sizes = [draw(st.integers(1, 9)), *inner, draw(st.integers(1, 5))]
    norm, bias, dtype = draw(st.sampled_from(norms)), draw(st.booleans()), draw(st.sampled_from(DTYPES))
    return architecture(sizes, hidden, bias=bias, dtype=dtype, norm=norm, skip=skip, **keys)


METHODS: list[tuple[str, Mapping[str, Any]]] = [*((name, {}) for name in OPTIMIZERS), *((name, {"weight_decay": 0.1}) for name in OPTIMIZERS)]


@pytest.mark.parametrize("hidden", HIDDEN)
def test_steps_are_those_of_the_definition(hidden: str) -> None:
    @SOME
    @given(
        net=nets(hidden),
        pair=st.sampled_from(OUTPUTS),
        batch=st.sampled_from([1, 2, 5, 32]),
        runs=st.sampled_from([1, 3]),
        optimizer=st.sampled_from(METHODS),
        clip=st.sampled_from([None, None, 0.1]),
        moved=st.booleans(),
        seed=st.integers(0, 2**32),
    )
    def check(
        net: Architecture,
        pair: tuple[str, str],
        batch: int,
        runs: int,
        optimizer: tuple[str, Mapping[str, Any]],
        clip: float | None,
        moved: bool,
        seed: int,
    ) -> None:
        net = replace(net, output=ACTIVATIONS[pair[1]])
        parameters = draw(net, range(runs))
        name, keys = optimizer
        method = Method(OPTIMIZERS[name], keys, clip, factor=lambda step: 1.0 if step < 3 else 0.5)
        follow(net, shake(parameters) if moved else parameters, batches(net, runs, batch, 5, seed), loss=pair[0], method=method)

    check()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("skip", SKIPS)
@pytest.mark.parametrize("norm", NORMS)
def test_steps_are_those_of_the_definition_where_powers_of_two_come_in(norm: str, skip: str, dtype: type) -> None:
    """Weights that shrink or enlarge deltas by decades a layer, in one run of three, and drift: exponents of all sorts, and ways that meet."""
    net = architecture([4, *[6] * 7, 3], "tanh", bias=True, dtype=dtype, norm=norm, skip=skip)
    parameters = shake(draw(net, [1, 2, 3]))
    for k in net.layers:
        parameters.W[k][1] *= 1e-4
        parameters.W[k][2] *= 3.0

    def drift(parameters: Parameters, step: int) -> None:
        for W in parameters.W[1:] if step else []:
            W[1] *= W.dtype.type(0.8)
            W[2] *= W.dtype.type(1.1)

    step = follow(net, parameters, batches(net, 3, 5, 6), lr=1e-3, change=drift)
    if (norm, skip) == ("none", "none"):
        assert (step.gradients.exponent[1] != 0).any()


EDGE = [(4, 32, 64), (4, 33, 64), (1, 128, 64), (1, 129, 64), (3, 1, 100), (1, 1, 100), (2, 8, 300)]  # runs * batch * width around MERGED


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize(("runs", "batch", "width"), EDGE)
def test_usual_sizes_with_and_without_merging(runs: int, batch: int, width: int, bias: bool, dtype: type) -> None:
    """Layers share calls where they are small together; momentum keeps even the widest net on the way of all layers at once."""
    net = architecture([10, *[width] * 5, 10], "sigmoid", "sigmoid", bias=bias, dtype=dtype)
    step = follow(net, draw(net, range(runs)), batches(net, runs, batch, 3), method=Method(OPTIMIZERS["momentum"]))
    assert (len(step._backward) < 5 * net.depth) == (runs * batch * width <= MERGED)


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("batch", [1, 5])
def test_a_net_of_depth_100_is_the_definition(hidden: str, batch: int) -> None:
    """In float32, where the deltas of many activations leave its range on their way."""
    net = architecture([8, *[8] * 99, 3], hidden, "sigmoid", bias=True, dtype=np.float32)
    step = follow(net, draw(net, [1, 2], "standard"), batches(net, 2, batch, 3), lr=1e-3)
    if hidden == "sigmoid":
        assert step.gradients.exponent.min() < -126


# ------------------------------------------------------------------------------------------- wherever the deltas go


def true_norms(done: Pass, arrays: Sequence[Array]) -> Float64s:
    """log2 of the norms, (layers, R), of arrays that are stored with the deltas' exponents."""
    return np.array([log2_norm(array, done.gradients.exponent[:, k]) for k, array in enumerate(arrays, start=1)])


def assert_norms(step: Step, done: Pass, digits: float) -> None:
    """Those of deltas and gradients, against float64 sums over the arrays themselves."""
    a, delta = done.neurons.a, done.gradients.delta[1:]
    products = [np.matmul(a[k - 1].swapaxes(1, 2).astype(np.float64), delta[k - 1].astype(np.float64)) for k in done.net.layers]
    with np.errstate(over="ignore"):  # of squares, which are then not used
        found = step.log2_delta(), step.log2_grad()
    for norms, arrays in zip(found, (delta, products), strict=True):
        np.testing.assert_allclose(norms, true_norms(done, arrays), rtol=2**-50, atol=log2(1 + digits))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 16])
def test_norms_stay_right_while_the_deltas_drift_by_tens_of_decades(batch: int, dtype: type) -> None:
    """Down and up again from layer to layer in one run, up and down in another, two decades more at every step."""
    net = architecture([16, *[16] * 99, 4], "linear", dtype=dtype)
    step = begin(net, parameters := draw(net, [1, 2, 3], "orthogonal"), [1e-6, 1e-6, 1e-3], batch)
    rates: Array = np.array([1.1, 0.9, 1.0], dtype)[:, None, None]
    middle: list[Float64s] = []
    for number, (x, y) in enumerate(batches(net, 3, batch, 14)):
        for k in net.layers if number > 1 else []:
            parameters.W[k][:] *= rates if k <= 50 else 1 / rates
        assert_norms(step, take(step, x, y), 1e-6 if dtype is np.float32 else 1e-12)
        wide = differentiate(*in_float64(net, parameters), x.astype(np.float64), y.astype(np.float64), "squared_error")
        expected = true_norms(wide, wide.gradients.delta[1:])
        np.testing.assert_allclose(step.log2_delta(), expected, rtol=0, atol=SAME_NORM / np.log10(2))
        middle.append(np.log10(2) * step.log2_delta()[50])
        step.update(number, everyone(step))
    moved = middle[-1] - middle[0]
    assert moved[0] < -20
    assert moved[1] > 20
    assert abs(moved[2]) < 1


def scaled_layer(k: int, factor: float, at: int, run: int) -> Change:
    """A run's weights of layer k, multiplied once."""

    def change(parameters: Parameters, step: int) -> None:
        if step == at and run < len(parameters.W[k]):
            parameters.W[k][run] *= parameters.W[k].dtype.type(factor)

    return change


def snapshots(
    net: Architecture,
    parameters: Parameters,
    data: Sequence[tuple[Array, Array]],
    lr: Sequence[float],
    change: Change = nothing_happens,
    alive: Callable[[int], NDArray[np.bool]] | None = None,
) -> list[list[NDArray[Any]]]:
    """What each step leaves, all arrays with a leading run axis: deltas, exponents, norms, weights."""
    step = begin(net, parameters, lr, data[0][0].shape[1])
    found: list[list[NDArray[Any]]] = []
    with np.errstate(all="ignore"):
        for number, (x, y) in enumerate(data):
            change(parameters, number)
            living = everyone(step) if alive is None else alive(number)
            done = take(step, x, y, living)
            left = [*(delta.copy() for delta in done.gradients.delta[1:]), done.gradients.exponent.copy(), step.log2_delta().T]
            if number % 2:
                left += [norms.T for norms in step.watched_update(number, living)]
            else:
                left += [step.log2_grad().T]
                step.update(number, living)
            found.append([*left, *(array.copy() for layers in parameters.arrays.values() for array in layers.values())])
    return found


def assert_alone(
    net: Architecture, parameters: Parameters, data: Sequence[tuple[Array, Array]], change: Change, compared: Sequence[int], **keys: Any
) -> list[list[NDArray[Any]]]:
    """Those runs of a stack are bit for bit what they are alone, exponents and norms and all; `change` is the others'."""
    runs = len(parameters.W[1])
    lr = [1e-9 * 2.0**run for run in range(runs)]
    singles = [twin(net, parameters, slice(run, run + 1)) for run in range(runs)]
    stack = snapshots(net, parameters, data, lr, change, **keys)
    for run in compared:
        alone = snapshots(net, singles[run], [(x[[run]], y[[run]]) for x, y in data], lr[run : run + 1])
        for number, (found, expected) in enumerate(zip(stack, alone, strict=True)):
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_array_equal(a[run], b[0], err_msg=f"step {number}, run {run}")
    return stack


JUMPS = [*((dtype, factor) for dtype in DTYPES for factor in (1e-15, 1e-12, 1e12, 1e15)), (np.float64, 1e-157)]  # squares of the last are subnormal


def assert_norms_of_steps(
    net: Architecture, parameters: Parameters, data: Iterable[tuple[Array, Array]], change: Callable[[Parameters, int], None]
) -> None:
    """Of every step, with the parameters changed before it."""
    step = None
    for number, (x, y) in enumerate(data):
        step = step or begin(net, parameters, [1e-30] * len(x), x.shape[1])
        change(parameters, number)
        assert_norms(step, take(step, x, y), 1e-5 if net.dtype == np.float32 else 1e-12)
        step.update(number, everyone(step))


@pytest.mark.parametrize(("dtype", "factor"), JUMPS)
@pytest.mark.parametrize("batch", [1, 6])
def test_a_jump_is_caught_in_its_own_step(batch: int, dtype: type, factor: float) -> None:
    """Twelve decades and more from one step to the next are the definition's at once."""
    net = architecture([6, *[6] * 30, 3], "leaky_relu", dtype=dtype)
    parameters = draw(net, [1, 2, 3], "orthogonal")
    change = scaled_layer(12, factor, at=3, run=1)
    before = twin(net, parameters)
    follow(net, parameters, batches(net, 3, batch, 6), change=change, lr=1e-30)
    assert_norms_of_steps(net, before, batches(net, 3, batch, 6), change)


@pytest.mark.parametrize("factor", [1e-15, 1e15])
def test_a_jump_is_its_own_runs_affair(factor: float) -> None:
    """The neighbours go on with the powers of two that they have, though a look at their deltas would find others by now."""
    net = architecture([6, *[6] * 30, 3], "linear", dtype=np.float32)
    data = louder(batches(net, 3, 6, 6), [0, 2])
    stack = assert_alone(net, draw(net, [1, 2, 3], "orthogonal"), data, scaled_layer(12, factor, at=3, run=1), [0, 2])
    exponents = np.array([left[net.depth] for left in stack])
    assert (exponents[:3, 1] == exponents[0, 1]).all()
    assert (exponents[3, 1] != exponents[2, 1]).any()
    assert (exponents[:, [0, 2]] == exponents[0, [0, 2]]).all()
    assert all(np.abs(stack[3][net.depth - 1][run]).max() > HIGH for run in (0, 2))


def louder(data: Iterable[tuple[Array, Array]], runs: Sequence[int], factor: float = 2.0**20) -> list[tuple[Array, Array]]:
    """From the second step on some runs have targets, and so deltas, beyond HIGH and still far from where anything would be lost."""
    found = list(data)
    for _, y in found[1:]:
        y[runs] *= factor
    return found


def test_a_jump_that_leaves_nothing_is_caught() -> None:
    """Small deltas by tiny weights are 0 in float32, where the definition, which brings deltas near 1 first, still has them."""
    net = architecture([6, *[6] * 30, 3], "linear", dtype=np.float32)
    parameters = draw(net, [1, 2], "orthogonal")
    parameters.W[1][0] *= 1e-15  # outputs of about 0 leave the deltas to the targets
    data = louder(batches(net, 2, 6, 4), [0], 2.0**-30)
    step = follow(net, parameters, data, change=scaled_layer(21, 1e-37, at=2, run=0), lr=1e-30)
    assert np.any(step.gradients.delta[20][0])


def test_a_run_that_has_ended_is_not_measured() -> None:
    net = architecture([6, *[6] * 30, 3], "linear", dtype=np.float32)
    data = list(batches(net, 2, 6, 4))
    change = scaled_layer(12, 1e-15, at=2, run=1)

    def exponents(alive: Callable[[int], NDArray[np.bool]]) -> NDArray[Any]:
        stack = snapshots(net, draw(net, [1, 2], "orthogonal"), data, [1e-9] * 2, change, alive)
        return np.array([left[net.depth][1] for left in stack])

    living, ended = exponents(lambda _step: np.array([True, True])), exponents(lambda step: np.array([True, step < 2]))
    assert (living[-1] != living[0]).any()
    assert (ended == ended[0]).all()


def biased(k: int, values: Mapping[int, float], run: int = 0) -> Change:
    """All biases of a run's layer k set before those steps: relu's neurons die of a negative one and live again by a positive one."""

    def change(parameters: Parameters, step: int) -> None:
        if step in values:
            parameters.b[k][run] = values[step]

    return change


LIVES = {"dies and revives": {2: -50.0, 4: 1.0}, "starts dead": {0: -50.0, 2: 1.0}, "again and again": {0: -50.0, 1: 1.0, 2: -50.0, 3: 1.0, 5: -50.0}}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1.0, 1e-13, 1e-26])
@pytest.mark.parametrize("life", LIVES)
@pytest.mark.parametrize("batch", [1, 5])
def test_dead_layers_and_their_revival(batch: int, life: str, size: float, dtype: type) -> None:
    """Deltas of exactly 0, and of any size in the very step in which there are some again."""
    net = architecture([4, 6, 6, 6, 6, 3], "relu", bias=True, dtype=dtype)
    parameters = draw(net, [1, 2], "he")
    for k in (3, 4):
        parameters.W[k][0] = np.abs(parameters.W[k][0]) * size
    change = biased(3, LIVES[life])
    other = twin(net, parameters)
    follow(net, parameters, batches(net, 2, batch, 7), change=change, lr=1e-3)
    assert_norms_of_steps(net, other, batches(net, 2, batch, 7), change)


def test_a_run_that_stays_dead_is_measured_once() -> None:
    net = architecture([4, 6, 6, 6, 6, 3], "relu", bias=True, dtype=np.float32)
    stack = snapshots(net, draw(net, [1], "he"), louder(batches(net, 1, 5, 5), [0]), [1e-30], biased(3, {0: -50.0}))
    assert not stack[-1][2].any()
    assert np.abs(stack[-1][net.depth - 1]).max() > HIGH
    assert all((left[net.depth] == stack[0][net.depth]).all() for left in stack)


def test_a_run_that_dies_and_revives_beside_a_jump_is_what_it_is_alone() -> None:
    net = architecture([4, 6, 6, 6, 6, 3], "relu", bias=True, dtype=np.float32)
    data = louder(batches(net, 2, 5, 8), [0])
    lives, jumps = biased(3, LIVES["again and again"]), scaled_layer(2, 1e-12, at=4, run=1)
    parameters = draw(net, [1, 2], "he")
    single = twin(net, parameters, slice(0, 1))

    def both(parameters: Parameters, step: int) -> None:
        lives(parameters, step)
        jumps(parameters, step)

    stack = snapshots(net, parameters, data, [1e-9, 1e-9], both)
    alone = snapshots(net, single, [(x[:1], y[:1]) for x, y in data], [1e-9], lives)
    for found, expected in zip(stack, alone, strict=True):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a[0], b[0])


@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize("buried", [False, True], ids=["alive", "buried"])
@pytest.mark.parametrize("batch", [1, 5])
def test_a_neighbour_that_is_not_finite_costs_nothing(batch: int, buried: bool, broken: float) -> None:
    net = architecture([4, 6, 6, 6, 3], "tanh", bias=True, dtype=np.float32)
    parameters = draw(net, [1, 2, 3])

    def breaks(parameters: Parameters, step: int) -> None:
        if step == 2:
            parameters.W[2][1, 0, 0] = broken

    def alive(step: int) -> NDArray[np.bool]:
        return np.array([True, step < 2 or not buried, True])

    assert_alone(net, parameters, list(batches(net, 3, batch, 6)), breaks, [0, 2], alive=alive)


def test_a_step_tells_which_runs_are_broken() -> None:
    net = architecture([4, 6, 3], bias=True, dtype=np.float32)
    parameters = draw(net, [1, 2, 3])
    step = begin(net, parameters, [0.1] * 3, 5)
    assert step.broken() is None
    parameters.W[1][0] = 3e38  # finite, its square is not
    parameters.W[2][1, 0, 0] = np.inf
    parameters.b[1][2, 0, 0] = np.nan
    with np.errstate(all="ignore"):
        assert broken_runs(step) == [False, True, True]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 5])
def test_an_update_with_norms_is_the_update_and_the_norms(batch: int, dtype: type) -> None:
    """And a watched one says what has become of the weights."""
    net = architecture([4, 6, 6, 3], "sigmoid", bias=True, dtype=dtype)
    starts = [draw(net, [1, 2]) for _ in range(3)]
    plain, normed, watched = (begin(net, parameters, [0.5, 2.0], batch) for parameters in starts)
    for number, (x, y) in enumerate(batches(net, 2, batch, 4)):
        for step in (plain, normed, watched):
            take(step, x, y)
        before, expected = [W.copy() for W in starts[0].W[1:]], plain.log2_grad()
        assert plain.update(number, everyone(plain)) is None
        np.testing.assert_array_equal(normed.update(number, everyone(normed), norms=True), expected)
        found, change = watched.watched_update(number, everyone(watched))
        np.testing.assert_array_equal(found, expected)
        moved = [log2_norm(W - old) for W, old in zip(starts[0].W[1:], before, strict=True)]
        np.testing.assert_array_equal(change, moved)
        for other in starts[1:]:
            assert_same_parameters(other, starts[0])


# ------------------------------------------------------------------------------------------- norms


ACTIVITIES = [1.0, 1e-25, 1e25]  # of all hidden neurons


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", ACTIVITIES)
@pytest.mark.parametrize("batch", [1, 8])
def test_norms_at_depth_100_wherever_the_activations_lie(batch: int, size: float, dtype: type) -> None:
    """One sample's is ||a|| ||delta||.  The last layer brings activations of any size back to about 1, or the targets would not count."""
    net = architecture([16, *[16] * 99, 4], "relu", dtype=dtype)
    parameters = draw(net, [1, 2], "orthogonal", sigma_w2=2.0)
    parameters.W[net.depth] *= dtype(1.0 if size < 1 else 1 / size)
    step = begin(net, parameters, [0.0, 0.0], batch)  # gradients of the size of these activations would break the weights
    for number, (x, y) in enumerate(batches(net, 2, batch, 3)):
        assert_norms(step, take(step, x * dtype(size), y), 1e-5 if dtype is np.float32 else 1e-12)
        step.update(number, everyone(step))
