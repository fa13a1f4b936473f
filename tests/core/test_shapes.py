"""Properties of any net: shapes, linearity of the backward pass, and that a run's numbers do not depend on its neighbours."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import Array
from bpexp.core.network import Architecture, Arena, Entry, Neurons, Parameters, forward
from bpexp.core.normalization import NORMS
from bpexp.core.records import Records
from bpexp.core.skips import SKIPS
from bpexp.core.training import Task
from tests.core.nets import (
    DTYPES,
    HIDDEN,
    OUTPUTS,
    REPEATABLE,
    Pass,
    architecture,
    carry_back,
    differentiate,
    draw,
    evaluate,
    make_task,
    probabilities,
    samples,
    train,
)

SEEDS = st.integers(0, 2**32)


@st.composite
def architectures(draw: DrawFn, norms: Sequence[str] = tuple(NORMS)) -> Architecture:
    sizes = draw(st.lists(st.integers(1, 9), min_size=2, max_size=6))
    skip = draw(st.sampled_from(sorted(SKIPS)))
    if skip != "none":  # what is added must be of one width
        sizes[1:-1] = [sizes[1]] * (len(sizes) - 2)
    keys = {"every": draw(st.integers(1, 2))} if "every" in SKIPS[skip].keys else {}
    return architecture(
        sizes,
        draw(st.sampled_from(HIDDEN)),
        draw(st.sampled_from(HIDDEN)),
        bias=draw(st.booleans()),
        dtype=draw(st.sampled_from(DTYPES)),
        norm=draw(st.sampled_from(norms)),
        skip=skip,
        **keys,
    )


def inputs(net: Architecture, runs: int, batch: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((runs, batch, net.sizes[0])).astype(net.dtype)


def outputs(net: Architecture, runs: int, batch: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).standard_normal((runs, batch, net.sizes[-1])).astype(net.dtype)


@REPEATABLE
@given(net=architectures(), runs=st.integers(1, 3), batch=st.integers(1, 7))
def test_shapes_and_dtypes(net: Architecture, runs: int, batch: int) -> None:
    parameters = draw(net, range(runs))
    neurons = evaluate(net, parameters, inputs(net, runs, batch))
    gradients = carry_back(net, parameters, neurons, outputs(net, runs, batch)).gradients
    assert net.depth == len(net.sizes) - 1
    assert neurons.a[0].shape == (runs, batch, net.sizes[0])
    for k in net.layers:
        n_in, n_out = net.sizes[k - 1 : k + 1]
        assert parameters.W[k].shape == gradients.W[k].shape == (runs, n_in, n_out)
        assert neurons.z[k].shape == neurons.a[k].shape == gradients.delta[k].shape == (runs, batch, n_out)
        if net.bias:
            assert parameters.b[k].shape == gradients.b[k].shape == (runs, 1, n_out)
        for array in (gradients.W[k], gradients.delta[k], neurons.a[k]):
            assert array.dtype == net.dtype
            assert np.isfinite(array).all()


def gradients_of(done: Pass) -> list[Array]:
    """All of them, at their true size."""
    trained = [done.of(arena.kind, k) for arena in done.gradients.arenas for k in arena.layers]
    return [*trained, *(done.delta(k) for k in done.net.layers)]


@REPEATABLE
@given(net=architectures(), power=st.integers(-60, 60), batch=st.integers(1, 7))
def test_delta_times_a_power_of_two_gives_the_gradients_times_it_exactly(net: Architecture, power: int, batch: int) -> None:
    parameters, delta = draw(net, [3, 4]), outputs(net, 2, batch)
    neurons = evaluate(net, parameters, inputs(net, 2, batch))
    once = carry_back(net, parameters, neurons, delta)
    times = carry_back(net, parameters, neurons, np.ldexp(delta, power))
    for a, b in zip(gradients_of(once), gradients_of(times), strict=True):
        np.testing.assert_array_equal(np.ldexp(a, power), b)


@REPEATABLE
@given(net=architectures(norms=["none"]), batch=st.integers(1, 7))
def test_gradients_of_a_sum_of_deltas_are_the_sum_of_gradients(net: Architecture, batch: int) -> None:
    parameters, one, other = draw(net, [3]), outputs(net, 1, batch, 1), outputs(net, 1, batch, 2)
    neurons = evaluate(net, parameters, inputs(net, 1, batch))
    parts = [gradients_of(carry_back(net, parameters, neurons, delta)) for delta in (one, other, one + other)]
    epsilon = float(np.finfo(net.dtype).eps)
    for a, b, total in zip(*parts, strict=True):
        largest = max(np.abs(a).max(), np.abs(b).max())
        np.testing.assert_allclose(total, a + b, rtol=0, atol=100 * epsilon * largest)


@REPEATABLE
@given(net=architectures(), runs=st.integers(1, 3))
def test_views_alias_the_arenas(net: Architecture, runs: int) -> None:
    """Each layer's W, b and W transposed are windows on one array; no two layers share a number."""
    parameters = Parameters(net, runs)
    for layers in parameters.arrays.values():
        for k, array in layers.items():
            array[:] = k
    assert [k for arena in parameters.arenas if arena.kind == "W" for k in arena.layers] == list(net.layers)
    assert [k for arena in parameters.arenas if arena.kind == "b" for k in arena.layers] == (list(net.layers) if net.bias else [])
    for arena in parameters.arenas:
        for place, k in enumerate(arena.layers):
            assert (np.abs(arena.values[:, place]) == k).all()
        assert arena.values.flags.c_contiguous
        np.add(arena.values, 0.5, out=arena.values)
    for k in net.layers:
        assert (parameters.W[k] == k + 0.5).all()
        assert (parameters.WT[k] == k + 0.5).all()
        assert parameters.WT[k].shape == (runs, net.sizes[k], net.sizes[k - 1])
    entries = sum(n_in * n_out + n_out * net.bias for n_in, n_out in zip(net.sizes, net.sizes[1:], strict=False))
    assert sum(arena.values.size for arena in parameters.arenas if arena.kind in {"W", "b"}) == runs * entries


def test_neighbouring_layers_of_equal_shape_share_an_arena() -> None:
    shapes = [(5, 4), (4, 4), (4, 4), (4, 3), (4, 3), (4, 4)]
    arenas = Arena.allocate("W", {k: Entry(shape) for k, shape in enumerate(shapes, start=1)}, 2, np.float32)
    assert [arena.layers for arena in arenas] == [range(1, 2), range(2, 4), range(4, 6), range(6, 7)]
    assert [arena.values.shape for arena in arenas] == [(2, 1, 5, 4), (2, 2, 4, 4), (2, 2, 4, 3), (2, 1, 4, 4)]


@REPEATABLE
@given(net=architectures(norms=["none", "layer"]), runs=st.integers(1, 3), batch=st.integers(1, 7))
def test_shared_buffers_give_the_same_output(net: Architecture, runs: int, batch: int) -> None:
    parameters, x = draw(net, range(runs)), inputs(net, runs, batch)
    small = Neurons(net, runs, batch, training=False)
    small.a[0][:] = x
    kept = evaluate(net, parameters, x)
    np.testing.assert_array_equal(forward(net, parameters, small), kept.a[-1])
    np.testing.assert_array_equal(small.z[-1], kept.z[-1])


def alone(net: Architecture, parameters: Parameters, run: int) -> Parameters:
    single = Parameters(net, 1)
    for source, target in zip(parameters.arenas, single.arenas, strict=True):
        target.values[0] = source.values[run]
    return single


@REPEATABLE
@given(net=architectures(), pair=st.sampled_from(OUTPUTS), runs=st.integers(2, 4), batch=st.integers(1, 9), seed=SEEDS)
def test_a_pass_in_a_stack_is_bitwise_the_pass_alone(net: Architecture, pair: tuple[str, str], runs: int, batch: int, seed: int) -> None:
    net = replace(net, output=ACTIVATIONS[pair[1]])
    parameters, x = draw(net, range(seed, seed + runs)), inputs(net, runs, batch, seed)
    for k in net.layers:  # one run's gradients leave the range of the dtype, its neighbours' do not
        parameters.W[k][0] *= 1e-9
    y = probabilities(np.random.default_rng(seed), runs, batch, net.sizes[-1]).astype(net.dtype)
    stack = differentiate(net, parameters, x, y, pair[0])
    for run in range(runs):
        single = differentiate(net, alone(net, parameters, run), x[[run]], y[[run]], pair[0])
        assert single.value[0] == stack.value[run]
        np.testing.assert_array_equal(single.gradients.exponent[0], stack.gradients.exponent[run])
        for a, b in zip(gradients_of(single), gradients_of(stack), strict=True):
            np.testing.assert_array_equal(a[0], b[run])


def assert_same(found: Records, expected: Records) -> None:
    """Bit for bit, NaN equal to NaN."""
    assert found.diverged_at == expected.diverged_at
    assert found.outcome == expected.outcome
    assert found.summary == expected.summary
    for columns, wanted in ((found.curves, expected.curves), (found.layers, expected.layers)):
        assert list(columns) == list(wanted)
        for name, column in wanted.items():
            np.testing.assert_array_equal(columns[name], column, err_msg=name)
    assert list(found.parameters) == list(expected.parameters)
    for name, array in expected.parameters.items():
        np.testing.assert_array_equal(found.parameters[name], array, err_msg=name)


def assert_stack_is_its_runs(task: Task, lr: Sequence[float], seeds: Sequence[int], scale: Sequence[float]) -> list[Records]:
    """Train a stack, then each of its runs alone; `scale` multiplies the initial weights of a run."""

    def initial(runs: Sequence[int]) -> Parameters:
        parameters = draw(task.net, [seeds[run] for run in runs])
        for arena in parameters.arenas:
            for place, run in enumerate(runs):
                arena.values[place] *= scale[run]
        return parameters

    everyone = range(len(lr))
    stack = train(task, initial(everyone), lr, seeds)
    for run in everyone:
        assert_same(stack[run], train(task, initial([run]), [lr[run]], [seeds[run]])[0])
    return stack


@REPEATABLE
@given(
    net=architectures(),
    pair=st.sampled_from(OUTPUTS),
    batch=st.sampled_from([1, 5, 24]),
    seeds=st.lists(SEEDS, min_size=3, max_size=3),
)
def test_training_in_a_stack_is_bitwise_training_alone(net: Architecture, pair: tuple[str, str], batch: int, seeds: list[int]) -> None:
    net = replace(net, output=ACTIVATIONS[pair[1]])
    task = make_task(net, 6, batch, pair[0], probes=[0, 2, 5, 6])
    assert_stack_is_its_runs(task, [1e-3, 0.3, 1e-20], seeds, [1.0, 0.5, 1.0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 32])
def test_training_in_a_stack_at_a_usual_size(dtype: type, batch: int) -> None:
    net = architecture([64, *[64] * 9, 10], "sigmoid", "sigmoid", bias=True, dtype=dtype)
    task = make_task(net, 8, batch, probes=[0, 3, 8], data=samples(64, 10, 48, dtype=dtype))
    assert_stack_is_its_runs(task, [1e-2, 1.0], [1, 2], [1.0, 2.0])


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize(("lr", "scale"), [(1e3, 1.0), (1e37, 1e2)], ids=["the loss breaks", "the weights break"])
def test_a_neighbour_that_diverges_changes_nothing(lr: float, scale: float, bias: bool) -> None:
    """Nor do the others change where it ends, whether they go on after it or not."""
    net = architecture([6, 5, 5, 4], "linear", "linear", bias=bias, dtype=np.float32)
    stack = assert_stack_is_its_runs(make_task(net, 12, probes=range(13)), [1e-2, lr, 3e-2], [1, 2, 3], [1.0, scale, 1.0])
    assert [records.outcome == "diverged" for records in stack] == [False, True, False]
