"""Norms of what leaves the range of its dtype: of plain numbers against exact fractions, of gradients against float64 and closed forms."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from math import log2, log10
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from bpexp.core.arrays import HIGH, LOW, Array, Float64s, log2_norm, pull_into_range
from bpexp.core.network import Architecture, Parameters
from bpexp.core.training import Task
from tests.core.nets import (
    DTYPES,
    HIDDEN,
    REPEATABLE,
    Pass,
    architecture,
    carry_back,
    differentiate,
    draw,
    epsilon,
    evaluate,
    make_task,
    samples,
    start,
    train,
)

SAME_NORM = log10(1 + 1e-4)  # of the logarithms, where the norms themselves agree to 1e-4


def numbers(dtype: type, runs: int = 2, entries: int = 3, *, finite: bool = True) -> st.SearchStrategy[NDArray[Any]]:
    """Any numbers of a dtype: huge, tiny, subnormal, zero, and if wanted infinite and NaN."""
    width = 32 if dtype is np.float32 else 64
    kinds = {"allow_nan": not finite, "allow_infinity": not finite}
    return arrays(dtype, (runs, entries), elements=st.floats(width=width, **kinds), fill=st.nothing())  # type: ignore[arg-type]


@st.composite
def any_numbers(draw: st.DrawFn, *, finite: bool = True) -> NDArray[Any]:
    return draw(numbers(draw(st.sampled_from(DTYPES)), finite=finite))


def exact_log2_norm(row: Array, exponent: int) -> float:
    """From the exact sum of squares, a fraction of whole numbers of any size."""
    total = sum(Fraction(float(x)) ** 2 for x in row)
    return 0.5 * (log2(total.numerator) - log2(total.denominator)) + exponent if total else -np.inf


@REPEATABLE
@given(x=any_numbers(), exponents=st.lists(st.integers(-5000, 5000), min_size=2, max_size=2))
@example(x=np.array([[5e-324, 0.0, -5e-324], [0.0, 0.0, -0.0]]), exponents=[0, 7])
@example(x=np.array([[1.7e308, -1.7e308, 1.7e308], [1e-200, 1e-201, 0.0]]), exponents=[4000, -4000])
@example(x=np.array([[1e-45, 3e-45, 0.0], [3.4e38, 3.4e38, 1.0]], np.float32), exponents=[-200, 200])
def test_log2_norm_is_that_of_exact_fractions(x: Array, exponents: list[int]) -> None:
    found = log2_norm(x, np.array(exponents))
    expected = [exact_log2_norm(row, exponent) for row, exponent in zip(x, exponents, strict=True)]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-15, atol=1e-12)


def test_log2_norm_is_not_finite_where_the_numbers_are_not() -> None:
    found = log2_norm(np.array([[1.0, np.inf], [np.nan, 1.0], [3.0, 4.0]]))
    assert found[0] == np.inf
    assert np.isnan(found[1])
    assert found[2] == pytest.approx(log2(5.0), rel=1e-15)


@REPEATABLE
@given(x=any_numbers(finite=False))
@example(x=np.array([[5e-324, 0.0, -5e-324], [1.7e308, 1.0, 0.0]]))
@example(x=np.array([[1e-45, 0.0, 0.0], [3.4e38, 1.0, 1e-3]], np.float32))
@example(x=np.array([[LOW, 0.0, 0.0], [HIGH, 1.0, 0.0]]))
@example(x=np.array([[0.99 * LOW, 0.0, 0.0], [1.01 * HIGH, 1.0, 0.0]]))
def test_pull_into_range_is_exact_and_reaches_the_range(x: NDArray[Any]) -> None:
    """True x = x * 2**e before and after, but for entries that become subnormal; a run in range, zero or not finite is left alone."""
    before, smallest = x.copy(), float(np.finfo(x.dtype).smallest_normal)
    exponents = pull_into_range(x)
    for row, was, exponent in zip(x, before, np.broadcast_to(exponents, len(x)), strict=True):
        peak = np.abs(was).max()
        if not np.isfinite(peak) or peak == 0 or LOW <= peak <= HIGH:
            assert exponent == 0
            np.testing.assert_array_equal(row, was)
            continue
        assert 0.5 <= np.abs(row).max() < 1
        for new, old in zip(row.tolist(), was.tolist(), strict=True):
            lost = Fraction(smallest) if abs(new) < smallest else 0
            assert abs(Fraction(new) - Fraction(old) / Fraction(2) ** int(exponent)) <= lost


@REPEATABLE
@given(x=any_numbers(finite=False))
def test_pull_into_range_treats_each_run_as_if_it_were_alone(x: NDArray[Any]) -> None:
    rows = [x[[run]].copy() for run in range(len(x))]
    together = np.broadcast_to(pull_into_range(x), len(x))
    for run, row in enumerate(rows):
        exponent = pull_into_range(row)
        assert np.broadcast_to(exponent, 1)[0] == together[run]
        np.testing.assert_array_equal(row[0], x[run])


# ------------------------------------------------------------------------------------------- nets of depth 100


def hundred(hidden: str = "sigmoid", dtype: type = np.float32) -> tuple[Architecture, Task]:
    net = architecture([16, *[16] * 99, 4], hidden, "sigmoid", dtype=dtype)
    return net, make_task(net, 40, 24, probes=[0, 3, 40], data=samples(16, 4, dtype=dtype))


def in_float64(net: Architecture, parameters: Parameters) -> tuple[Architecture, Parameters]:
    wide = replace(net, dtype=np.dtype(np.float64))
    copy = Parameters(wide, len(parameters.W[1]))
    for source, target in zip(parameters.arenas, copy.arenas, strict=True):
        target.values[:] = source.values
    return wide, copy


def probed_moments(task: Task, parameters: Parameters) -> Iterator[tuple[int, Pass]]:
    """Train in float32; before each probed step, that step's gradients in float64, from the same weights and the same (full) batch."""
    x, y = task.data.x_train.astype(np.float64), task.data.y_train.astype(np.float64)
    steps = set(task.probe_steps.tolist())
    training = start(task, parameters, [0.5], [0])
    advance = training.advance()
    for step in range(task.steps + 1):
        if step in steps:
            yield step, differentiate(*in_float64(task.net, training.parameters), x, y, task.loss.name)
        next(advance)


@pytest.mark.parametrize("hidden", HIDDEN)
def test_float32_norms_at_depth_100_are_those_of_float64(hidden: str) -> None:
    """Layer by layer, to 1e-4 of the norm itself, before training and during it.

    dL/dW_k is compared as far as float32 holds the activations that it is made of: relu's are about 1e-39 at the output of this net,
    and those of gelu and silu, whose slope at 0 is 1/2, in its 62nd layer.
    """
    net, task = hundred(hidden)
    wide = list(probed_moments(task, draw(net, [1], "standard")))
    records = train(task, draw(net, [1], "standard"), [0.5], [0])[0]
    assert [step for step, _ in wide] == [0, 3, 40]
    for step, done in wide:
        held = np.array([np.abs(done.neurons.a[k - 1]).max() > np.finfo(np.float32).smallest_normal / LOW for k in net.layers])
        assert held[: 60 if hidden in {"gelu", "silu"} else 80].all()
        assert held.all() or hidden in {"relu", "leaky_relu", "gelu", "silu"}
        for column, norm, layers in (("log10_grad_norm", done.W, held), ("log10_delta_norm", done.delta, np.ones_like(held))):
            expected = np.array([log10(2) * log2_norm(norm(k))[0] for k in net.layers])
            np.testing.assert_allclose(records.profile(column, step)[layers], expected[layers], rtol=0, atol=SAME_NORM)


def test_at_depth_100_a_norm_of_plain_float32_squares_is_zero() -> None:
    """Why all this: in a sigmoid net the sum of squares is zero some 30 layers from the output, and the gradient itself some 60."""
    net, task = hundred()
    parameters = draw(net, [1], "standard")
    neurons = evaluate(net, parameters, task.data.x_train)
    a, delta, plain = neurons.a, (neurons.a[-1] - task.data.y_train) / np.float32(24) * neurons.a[-1] * (1 - neurons.a[-1]), []
    for k in reversed(net.layers):
        plain.append((float(np.square(delta).sum(dtype=np.float32)), float(np.abs(delta).max())))
        delta = delta @ parameters.WT[k] * a[k - 1] * (1 - a[k - 1])
    assert delta.dtype == np.float32
    squares, largest = np.array(plain).T
    layers_back = int(np.flatnonzero(squares == 0)[0])
    assert 20 < layers_back < 40
    assert largest[layers_back] > 0
    assert largest[-1] == 0
    norms = train(task, parameters, [0.5], [0])[0].profile("log10_delta_norm", 0)
    assert np.isfinite(norms).all()
    assert norms[0] < -50


# ------------------------------------------------------------------------------------------- and of depth 1000


@pytest.mark.parametrize("dtype", DTYPES)
def test_at_depth_1000_the_slope_goes_on(dtype: type) -> None:
    """1e-700 of a gradient: far below float64's range, and each layer still takes its share off."""
    net = architecture([8, *[16] * 999, 4], "sigmoid", "sigmoid", dtype=dtype)
    data = samples(8, 4, dtype=dtype)
    done = differentiate(net, draw(net, [1], "standard"), data.x_train, data.y_train, "squared_error")
    decades = np.array([log10(2) * log2_norm(done.gradients.delta[k], done.gradients.exponent[:, k])[0] for k in net.layers])
    assert decades[0] < log10(np.finfo(np.float64).smallest_normal) - 100
    slopes = [(decades[end - 1] - decades[end - 248]) / 247 for end in (250, 500, 750, 999)]
    assert np.ptp(slopes) < 0.05 * np.mean(slopes)
    assert 0 < np.mean(slopes) < 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gain", [0.1, 0.5, 1.0, 2.0, 10.0])
def test_at_depth_1000_the_norm_is_its_closed_form(gain: float, dtype: type) -> None:
    """Without input tanh has slope 1 everywhere: gain * orthogonal weights make ||delta_k|| = ||delta_depth|| gain**(depth - k)."""
    net = architecture([6] * 1001, "tanh", "linear", dtype=dtype)
    parameters = draw(net, [1], "orthogonal", sigma_w2=gain**2)
    delta: Array = np.random.default_rng(0).standard_normal((1, 3, 6)).astype(dtype)
    done = carry_back(net, parameters, evaluate(net, parameters, np.zeros((3, 6))), delta).gradients
    found = np.array([log2_norm(done.delta[k], done.exponent[:, k])[0] for k in net.layers])
    steps_back = net.depth - np.array(net.layers)
    expected: Float64s = log2_norm(delta)[0] + steps_back * log2(gain)
    np.testing.assert_allclose(found, expected, rtol=2**-51, atol=log2(1 + 1000 * epsilon(dtype)))
