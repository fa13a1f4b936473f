"""Each activation against its formula from the textbook, its derivative against differences, and what its row says of it."""

import tracemalloc
from collections.abc import Callable
from math import erf, erfc, exp, expm1, inf, isfinite, log, log1p, pi, sqrt, tanh

import numpy as np
import pytest

from bpexp.core.activations import ACTIVATIONS, BLOCK, Activation
from bpexp.core.arrays import Array, Float64s
from tests.core import formulas
from tests.core.nets import DTYPES, HIDDEN, epsilon

# Of one number, by the standard library; softmax mixes the neurons and has a test of its own.
FORMULAS: dict[str, Callable[[float], float]] = {
    "sigmoid": lambda z: 1 / (1 + exp(-z)),
    "tanh": tanh,
    "scaled_tanh": lambda z: 1.7159 * tanh(2 * z / 3),
    "relu": lambda z: max(0.0, z),
    "leaky_relu": lambda z: z if z > 0 else 0.01 * z,
    "elu": lambda z: z if z > 0 else exp(z) - 1,
    "selu": lambda z: 1.0507009873554805 * (z if z > 0 else 1.6732632423543772 * (exp(z) - 1)),
    "gelu": lambda z: z * (1 + erf(z / sqrt(2))) / 2,
    "silu": lambda z: z / (1 + exp(-z)),
    "softplus": lambda z: log(1 + exp(z)),
    "linear": lambda z: z,
    "erf": erf,
}
# Function and derivative where they are small, without the differences of numbers near 1 above; for rows that keep their digits there.
TAILS: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "elu": (expm1, exp),
    "selu": (lambda z: 1.7580993408473766 * expm1(z), lambda z: 1.7580993408473766 * exp(z)),
    "gelu": (lambda z: z * erfc(-z / sqrt(2)) / 2, lambda z: erfc(-z / sqrt(2)) / 2 + z * exp(-z * z / 2) / sqrt(2 * pi)),
    "silu": (lambda z: z * exp(z) / (1 + exp(z)), lambda z: exp(z) * (1 + z + exp(z)) / (1 + exp(z)) ** 2),
    "softplus": (lambda z: log1p(exp(z)), lambda z: exp(z) / (1 + exp(z))),
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


@pytest.mark.parametrize("name", TAILS)
def test_the_left_tail_is_right_to_a_relative_error(name: str) -> None:
    """Down to 1e-35, which a difference of numbers near 1 would lose; a rounding of z on either side changes exp(-z**2/2) by z**2 epsilon/2."""
    phi, z = ACTIVATIONS[name], np.linspace(-12.5, -3.0, 96).reshape(1, -1, 1)
    for found, formula in zip((formulas.applied(phi, z), derivative(phi, z)), TAILS[name], strict=True):
        expected = np.array([formula(float(x)) for x in z.flat]).reshape(z.shape)
        assert (np.abs(found / expected - 1) <= (z**2 + ROUNDINGS) * epsilon(np.float64)).all()


@pytest.mark.parametrize("name", [name for name in HIDDEN if not formulas.applied(ACTIVATIONS[name], np.zeros((1, 1, 1))).any()])
def test_a_tiny_output_is_right_to_a_relative_error(name: str) -> None:
    """Next to 0 a function is its slope times z; a deep net's signal may be that small."""
    phi, z = ACTIVATIONS[name], np.array([-1.3e-15, 1.3e-15]).reshape(1, 1, 2)
    np.testing.assert_allclose(formulas.applied(phi, z), derivative(phi, z) * z, rtol=1e-14)


@pytest.mark.parametrize("name", ["elu", "selu", "leaky_relu", "relu"])
def test_at_the_kink_the_derivative_is_that_of_the_left(name: str) -> None:
    """Of z = 0 and z = -0 alike; and no further: the smallest z above 0 has the slope of the right."""
    phi, below, above = ACTIVATIONS[name], np.full((1, 1, 1), -1e-300), np.full((1, 1, 1), 1e-300)
    for zero in (0.0, -0.0):
        assert derivative(phi, np.full((1, 1, 1), zero)) == derivative(phi, below)
    assert derivative(phi, above) == derivative(phi, np.ones((1, 1, 1)))


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
    """The row's bounds are the function's limits, no wider: it comes near them at z = ±1e5, or goes on where there are none."""
    phi = ACTIVATIONS[name]
    a = formulas.applied(phi, np.concatenate([points(), points(-1e5, 1e5)], axis=1))
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


@pytest.mark.parametrize("name", [name for name in HIDDEN if ACTIVATIONS[name].range[0] not in (-inf, 0.0, -1.0)])
def test_an_odd_infimum_is_exact(name: str) -> None:
    """Against the smallest of many outputs about it: a minimum is flat, so that 1e-5 beside it nothing shows in float64."""
    phi, z = ACTIVATIONS[name], points(-40.0, 0.0, 4001)
    lowest = z.flat[formulas.applied(phi, z).argmin()]
    near = formulas.applied(phi, np.linspace(lowest - 0.01, lowest + 0.01, 4001).reshape(1, -1, 1))
    assert near.min() == pytest.approx(phi.range[0], rel=1e-11)


@pytest.mark.parametrize("name", ["gelu", "silu"])
def test_an_odd_steepest_slope_is_exact(name: str) -> None:
    phi, z = ACTIVATIONS[name], points(0.0, 4.0, 4001)
    steepest = z.flat[derivative(phi, z).argmax()]
    near = derivative(phi, np.linspace(steepest - 0.001, steepest + 0.001, 4001).reshape(1, -1, 1))
    assert near.max() == pytest.approx(phi.steepest, rel=1e-12)


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
@pytest.mark.parametrize("name", HIDDEN)
def test_a_number_does_not_depend_on_its_place(name: str, dtype: type) -> None:
    """Bit for bit the same in a large array, which is worked on in blocks, and among few: a run's numbers are its own in any stack."""
    phi = ACTIVATIONS[name]
    z: Array = (3 * np.random.default_rng(0).standard_normal((1, 1, 3 * BLOCK + 7))).astype(dtype)
    whole, slope = formulas.applied(phi, z), derivative(phi, z)
    for start in (0, 1, BLOCK - 3, 2 * BLOCK + 5, 3 * BLOCK - 1):
        piece = np.s_[..., start : start + 13]
        np.testing.assert_array_equal(formulas.applied(phi, z[piece].copy()), whole[piece])
        np.testing.assert_array_equal(derivative(phi, z[piece].copy()), slope[piece])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_row_says_what_it_is_and_does(name: str) -> None:
    row = ACTIVATIONS[name]
    assert row.equation.startswith("φ(z)")
    assert "φ'(z) = " in row.equation or not row.elementwise
    assert row.effect.endswith(".")
    assert row.source


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
