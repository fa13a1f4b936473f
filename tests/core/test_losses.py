"""Each loss against its formula from the textbook, also where an output is saturated, and what its row says of it."""

import tracemalloc
from math import exp, log, log1p

import numpy as np
import pytest

from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import Array, Float64s
from bpexp.core.losses import LOSSES
from tests.core import formulas
from tests.core.nets import DTYPES, OUTPUTS, epsilon, probabilities


def value(loss: str, z: Array, y: Array, output: str) -> Array:
    """Summed over samples and outputs, (R,)."""
    out = np.empty(len(z), z.dtype)
    LOSSES[loss].value(z, formulas.applied(ACTIVATIONS[output], z), y, np.empty_like(z), out)
    return out


def delta(loss: str, z: Array, y: Array, output: str) -> Array:
    phi, out = ACTIVATIONS[output], np.empty_like(z)
    LOSSES[loss].delta(z, formulas.applied(phi, z), y, phi, np.empty_like(z), out)
    return out


def each(numbers: list[float], dtype: type = np.float64) -> Array:
    """A run per number, of one sample and one output."""
    return np.array(numbers, dtype).reshape(-1, 1, 1)


def binary(z: float, y: float) -> float:
    """-(y log sigmoid(z) + (1 - y) log(1 - sigmoid(z))), by the standard library and with both logarithms' small arguments kept."""
    return y * (log1p(exp(-z)) if z > 0 else log1p(exp(z)) - z) + (1 - y) * (log1p(exp(z)) if z < 0 else log1p(exp(-z)) + z)


@pytest.mark.parametrize(("loss", "output"), OUTPUTS)
def test_value_is_its_formula(loss: str, output: str) -> None:
    rng = np.random.default_rng(0)
    z, y = rng.standard_normal((3, 5, 4)), probabilities(rng, 3, 5, 4)
    found = value(loss, z, y, output)
    a = formulas.activation(output)(z)
    for run in range(3):
        assert found[run] == pytest.approx(5 * formulas.loss(loss, output)(z[run], a[run], y[run]), rel=1e-13)


def test_binary_cross_entropy_by_hand() -> None:
    """At a = 3/4: -log 3/4 where the target is 1, -log 1/4 where it is 0."""
    z = each([log(3)] * 3)
    expected = [-log(3 / 4), -log(1 / 4), -0.5 * log(3 / 16)]
    np.testing.assert_allclose(value("binary_cross_entropy", z, each([1.0, 0.0, 0.5]), "sigmoid"), expected, rtol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("y", [0.0, 0.25, 1.0])
def test_binary_cross_entropy_to_a_relative_error(y: float, dtype: type) -> None:
    """Of 1e-9 as of 20: also of a loss that is all but 0, which log(1 + exp z) - y z would make noise."""
    z = each([*np.linspace(-20.0, 20.0, 41)], dtype)
    expected = [binary(float(x), y) for x in z.flat]
    np.testing.assert_allclose(value("binary_cross_entropy", z, np.full_like(z, y), "sigmoid"), expected, rtol=4 * epsilon(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_saturated_output_has_a_finite_loss_and_the_full_delta(dtype: type) -> None:
    """Where a is 0 or 1 exactly, at the wrong end and at the right one; no warning but of exp's underflow to 0."""
    z, y = each([1e4, 1e4, -1e4, -1e4, 700, -700], dtype), each([0, 1, 0, 1, 0, 1], dtype)
    assert set(formulas.applied(ACTIVATIONS["sigmoid"], z).flat) == {0.0, 1.0}
    with np.errstate(all="raise", under="ignore"):
        losses, deltas = (f("binary_cross_entropy", z, y, "sigmoid") for f in (value, delta))
    np.testing.assert_array_equal(losses, [1e4, 0, 0, 1e4, 700, 700])
    np.testing.assert_array_equal(deltas.ravel(), [1, 0, 0, -1, 1, -1])
    assert losses.dtype == deltas.dtype == dtype
    assert not delta("squared_error", z, y, "sigmoid").any()  # which is what the binary cross-entropy is for


def test_binary_cross_entropy_of_one_output_is_the_cross_entropy_of_two() -> None:
    """softmax(z, 0) = (sigmoid(z), 1 - sigmoid(z))."""
    rng = np.random.default_rng(0)
    z, y = rng.standard_normal((2, 5, 1)), rng.random((2, 5, 1))
    pair, targets = np.concatenate([z, np.zeros_like(z)], axis=2), np.concatenate([y, 1 - y], axis=2)
    np.testing.assert_allclose(value("binary_cross_entropy", z, y, "sigmoid"), value("cross_entropy", pair, targets, "softmax"), rtol=1e-14)
    both = delta("cross_entropy", pair, targets, "softmax")
    np.testing.assert_allclose(delta("binary_cross_entropy", z, y, "sigmoid"), both[..., :1], rtol=0, atol=1e-15)


def test_the_plateau_of_the_binary_cross_entropy() -> None:
    """Entropies of each output's mean target, summed: half ones, none, a quarter of ones."""
    y: Float64s = np.array([[1, 0, 1], [0, 0, 0], [1, 0, 0], [0, 0, 0]], float)
    quarter = -0.25 * log(0.25) - 0.75 * log(0.75)
    assert LOSSES["binary_cross_entropy"].plateau(y) == pytest.approx(log(2) + quarter, rel=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("loss", "output"), OUTPUTS)
def test_nothing_is_allocated(loss: str, output: str, dtype: type) -> None:
    """Value and delta write into what they are given: no further array of the layer's size, not even for a moment."""
    phi = ACTIVATIONS[output]
    z: Array = np.full((1, 100, 500), 1.0, dtype)
    out: Array = np.empty(1, dtype)
    a, y, scratch, gradient = formulas.applied(phi, z), np.full_like(z, 1 / 500), np.empty_like(z), np.empty_like(z)
    tracemalloc.start()
    for _ in range(2):
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        LOSSES[loss].value(z, a, y, scratch, out)
        LOSSES[loss].delta(z, a, y, phi, scratch, gradient)
        peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peak < z.nbytes / 2


@pytest.mark.parametrize("name", LOSSES)
def test_a_row_says_what_it_is_and_does(name: str) -> None:
    row = LOSSES[name]
    assert row.equation.startswith("L = ")
    assert "δ = " in row.equation
    assert row.effect.endswith(".")
    assert row.source
