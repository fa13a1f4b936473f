"""Each activation against its formula from the textbook, its derivative against differences, and what its row says of it."""

import tracemalloc
from collections.abc import Callable
from math import erf, exp, isfinite, tanh

import numpy as np
import pytest

from bpexp.core.activations import ACTIVATIONS, Activation
from bpexp.core.arrays import Array, Float64s
from tests.core import formulas
from tests.core.nets import DTYPES, HIDDEN, epsilon

# Of one number, by the standard library; softmax mixes the neurons and has a test of its own.
FORMULAS: dict[str, Callable[[float], float]] = {
    "sigmoid": lambda z: 1 / (1 + exp(-z)),
    "tanh": tanh,
    "relu": lambda z: max(0.0, z),
    "linear": lambda z: z,
    "erf": erf,
}
EXTREME = [-1e4, -700.0, -100.0, -20.0, -1e-30, -0.0, 0.0, 1e-30, 20.0, 100.0, 700.0, 1e4]
ROUNDINGS = 4  # of a number of the size of the largest output or of 1


def points(low: float = -6.0, high: float = 6.0, count: int = 481) -> Float64s:
    """Off the kink at 0 by half a step of 1/40."""
    z = np.linspace(low, high, count) + (high - low) / (count - 1) / 2
    return z.reshape(1, -1, 1)


def derivative(phi: Activation, z: Array) -> Array:
    out = np.empty_like(z)
    phi.derivative(z, formulas.applied(phi, z), out)
    return out


def strict() -> np.errstate:
    """Every floating-point warning is an error; underflow to zero is what exp(-1e8) is."""
    return np.errstate(all="raise", under="ignore")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name in FORMULAS])
def test_function_is_its_formula(name: str, dtype: type) -> None:
    z: Array = points().astype(dtype)
    expected = np.array([FORMULAS[name](float(x)) for x in z.flat]).reshape(z.shape)
    found = formulas.applied(ACTIVATIONS[name], z)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=ROUNDINGS * epsilon(dtype), atol=ROUNDINGS * epsilon(dtype))


@pytest.mark.parametrize("name", HIDDEN)
def test_derivative_is_the_slope_of_the_function(name: str) -> None:
    """By differences of the eighth order, from z and a alike."""
    phi, z = ACTIVATIONS[name], points()
    smooth = np.abs(z) > 4.5 * formulas.STEP
    expected = formulas.slope(lambda at: formulas.applied(phi, at), z)
    np.testing.assert_allclose(derivative(phi, z)[smooth], expected[smooth], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", HIDDEN)
def test_derivatives_of_both_dtypes_agree(name: str) -> None:
    phi, z = ACTIVATIONS[name], points()
    narrow = derivative(phi, z.astype(np.float32))
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(narrow, derivative(phi, z.astype(np.float32).astype(np.float64)), rtol=1e-6, atol=2e-7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_extreme_inputs_warn_of_nothing_and_give_numbers_in_range(name: str, dtype: type) -> None:
    phi = ACTIVATIONS[name]
    z: Array = np.array(EXTREME, dtype).reshape(1, 3, 4)
    with strict():
        a = formulas.applied(phi, z)
        assert np.isfinite(a).all()
        assert (a >= phi.range[0]).all()
        assert (a <= phi.range[1]).all()
        if phi.elementwise:
            slope = derivative(phi, z)
            assert np.isfinite(slope).all()
            assert (np.abs(slope) <= phi.steepest).all()


@pytest.mark.parametrize("name", HIDDEN)
def test_range_is_reached_and_not_left(name: str) -> None:
    """The row's bounds are the function's limits, no wider: it comes near them at z = ±1e4, or goes on where there are none."""
    phi = ACTIVATIONS[name]
    a = formulas.applied(phi, np.concatenate([points(), points(-1e4, 1e4)], axis=1))
    for bound, end in ((phi.range[0], a.min()), (phi.range[1], a.max())):
        if isfinite(bound):
            assert end == pytest.approx(bound, abs=1e-4)  # it may be reached between two points
        else:
            assert np.sign(end) == np.sign(bound)
            assert abs(end) > 1e2


@pytest.mark.parametrize("name", HIDDEN)
def test_steepest_is_the_largest_slope(name: str) -> None:
    phi = ACTIVATIONS[name]
    slopes = np.abs(derivative(phi, np.linspace(-40.0, 40.0, 16_001).reshape(1, -1, 1)))
    assert slopes.max() == pytest.approx(phi.steepest, rel=1e-5)
    assert slopes.max() <= phi.steepest


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name not in HIDDEN])
def test_what_is_not_elementwise_has_no_derivative(name: str) -> None:
    phi, z = ACTIVATIONS[name], np.zeros((1, 2, 3))
    with pytest.raises(TypeError, match="cross-entropy"):
        phi.derivative(z, z, np.empty_like(z))


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_is_its_formula(dtype: type) -> None:
    z: Array = (3 * np.random.default_rng(0).standard_normal((2, 5, 4))).astype(dtype)
    a = formulas.applied(ACTIVATIONS["softmax"], z)
    exact = z.astype(np.float64)
    np.testing.assert_allclose(a, np.exp(exact) / np.exp(exact).sum(axis=2, keepdims=True), rtol=8 * epsilon(dtype))
    np.testing.assert_allclose(a.sum(axis=2), 1.0, rtol=ROUNDINGS * epsilon(dtype))
    shifted = formulas.applied(ACTIVATIONS["softmax"], z + np.array(64.0, dtype))
    np.testing.assert_allclose(shifted, a, rtol=200 * epsilon(dtype))  # z + 64 has lost that much


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nothing_is_allocated(name: str, dtype: type) -> None:
    """Function and derivative write into what they are given: no second array of the layer's size, not even for a moment."""
    phi = ACTIVATIONS[name]
    z: Array = np.full((1, 100, 500), 1.0, dtype)
    a, slope = np.empty_like(z), np.empty_like(z)
    tracemalloc.start()
    for _ in range(2):
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        phi.function(z, a)
        if phi.elementwise:
            phi.derivative(z, a, slope)
        peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peak < z.nbytes / 2
