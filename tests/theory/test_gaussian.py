"""Gaussian means of one z and of two against closed forms, SciPy's adaptive quadrature, Price's theorem and each other."""

from math import acos, asin, atan2, cos, exp, pi, sin, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf

from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import Float64s
from bpexp.theory.gaussian import gaussian_mean, gaussian_mean_of_pair, gaussian_spread
from bpexp.theory.variance import outputs, slopes
from tests.theory.formulas import FORMULAS, HIDDEN, mean_of_pair_by_quad

QS = st.floats(-8, 12).map(lambda x: 10.0**x)
DISTANCES = st.one_of(st.floats(0, 2), st.floats(-16, 0).map(lambda x: 10.0**x))


def step(z: Float64s) -> Float64s:
    return (z > 0).astype(np.float64)


def relu(z: Float64s) -> Float64s:
    return np.maximum(z, 0.0)


def erf_slope(z: Float64s) -> Float64s:
    return 2 / sqrt(pi) * np.exp(-z * z)


@given(q=QS, distance=DISTANCES)
@settings(max_examples=25, deadline=None)
def test_pairs_with_closed_forms(q: float, distance: float) -> None:
    """Cho & Saul 2009 and Williams 1997, with the angle from 1 - c, so that the expected values keep their digits as well."""
    c = 1.0 - distance
    distance = 1.0 - c  # as it is known from c
    angle, rest = 2 * atan2(sqrt(distance), sqrt(2 - distance)), 2 * atan2(sqrt(2 - distance), sqrt(distance))
    from_above, from_below = 1 + 2 * q * distance, 1 + 2 * q * (2 - distance)
    expected = [
        (gaussian_mean_of_pair(step, step, q, c), rest / (2 * pi), 0.0),
        (gaussian_mean_of_pair(step, lambda z: step(-z), q, c), angle / (2 * pi), 0.0),
        (gaussian_mean_of_pair(relu, relu, q, c), q * (sin(angle) + rest * cos(angle)) / (2 * pi), 1e-15 * q),
        (gaussian_mean_of_pair(erf, erf, q, c), 2 / pi * atan2(2 * q * c, sqrt(from_above * from_below)), 0.0),
        (gaussian_mean_of_pair(erf_slope, erf_slope, q, c), 4 / pi / sqrt(from_above * from_below), 0.0),
        (gaussian_mean_of_pair(lambda z: z, lambda z: z, q, c), q * c, 1e-14 * q),
        (gaussian_mean_of_pair(lambda z: z**2, lambda z: z**2, q, c), q * q * (1 + 2 * c * c), 0.0),
        (gaussian_mean_of_pair(lambda z: z**3, lambda z: z, q, c), 3 * q * q * c, 1e-13 * q * q),
    ]
    for found, wanted, absolute in expected:
        assert found == pytest.approx(wanted, rel=1e-9, abs=absolute)


def test_pairs_to_the_last_digits() -> None:
    """Where nothing is steep they are right to roundings, not to the promised 1e-9 alone."""
    for q, c in [(0.3, 0.4), (1.0, -0.7), (2.0, 0.999)]:
        angle = acos(c)
        assert gaussian_mean_of_pair(relu, relu, q, c) == pytest.approx(q * (sin(angle) + (pi - angle) * c) / (2 * pi), rel=3e-14)
        assert gaussian_mean_of_pair(erf, erf, q, c) == pytest.approx(2 / pi * asin(2 * q * c / (1 + 2 * q)), rel=3e-14)
        assert gaussian_mean_of_pair(np.exp, np.exp, q, c) == pytest.approx(exp(q * (1 + c)), rel=1e-12)


@pytest.mark.parametrize(("q", "c"), [(0.05, -0.6), (1.3, 0.35), (30.0, 0.995)])
@pytest.mark.parametrize("name", HIDDEN)
def test_pairs_agree_with_nested_adaptive_quadrature(name: str, q: float, c: float) -> None:
    """Also of two different functions: phi of the one and phi' of the other."""
    phi, (function, slope) = ACTIVATIONS[name], FORMULAS[name]
    found = gaussian_mean_of_pair(lambda u: outputs(phi, u), lambda u: 1.0 + slopes(phi, u), q, c)
    size = gaussian_mean_of_pair(lambda u: np.abs(outputs(phi, u)), lambda u: 1.0 + np.abs(slopes(phi, u)), q, c)
    assert found == pytest.approx(mean_of_pair_by_quad(function, lambda u: 1.0 + slope(u), q, c), rel=0.0, abs=1e-8 * size)


@pytest.mark.parametrize("name", HIDDEN)
@given(q=st.floats(-3, 3).map(lambda x: 10.0**x), c=st.floats(-0.95, 0.95))
@settings(max_examples=10, deadline=None)
def test_price_the_derivative_by_the_correlation(name: str, q: float, c: float) -> None:
    """d/dc E[phi(u1) phi(u2)] = q E[phi'(u1) phi'(u2)] (Price 1958), the left side by differences of fourth order."""
    phi, h = ACTIVATIONS[name], 1e-3 * (1 - abs(c))
    at = [gaussian_mean_of_pair(lambda u: outputs(phi, u), lambda u: outputs(phi, u), q, c + k * h) for k in (-2, -1, 1, 2)]
    derivative = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * h)
    expected = q * gaussian_mean_of_pair(lambda u: slopes(phi, u), lambda u: slopes(phi, u), q, c)
    rounding = 1e-14 * max(map(abs, at)) / h
    assert derivative == pytest.approx(expected, rel=1e-8, abs=rounding)


@pytest.mark.parametrize("name", HIDDEN)
@given(q=QS, distance=DISTANCES)
@settings(max_examples=10, deadline=None)
def test_a_pair_at_the_ends_is_one_z(name: str, q: float, distance: float) -> None:
    phi = ACTIVATIONS[name]

    def f(z: Float64s) -> Float64s:
        return outputs(phi, z)

    square = gaussian_mean(lambda z: f(z) ** 2, q)
    assert gaussian_mean_of_pair(f, f, q, 1.0) == pytest.approx(square, rel=1e-9)
    assert gaussian_mean_of_pair(f, f, q, -1.0) == pytest.approx(gaussian_mean(lambda z: f(z) * f(-z), q), rel=1e-9, abs=1e-14 * square)
    assert gaussian_mean_of_pair(f, f, q, 0.0) == pytest.approx(gaussian_mean(f, q) ** 2, rel=1e-9, abs=1e-14 * square)
    assert gaussian_mean_of_pair(f, np.ones_like, q, 1 - distance) == pytest.approx(gaussian_mean(f, q), rel=1e-9, abs=1e-14 * sqrt(square))
    distance = 1.0 - (1.0 - distance)
    assert gaussian_spread(f, q, distance) == pytest.approx(square - gaussian_mean_of_pair(f, f, q, 1 - distance), rel=1e-8, abs=1e-13 * square)


@given(q=QS, distance=st.floats(-20, -1).map(lambda x: 10.0**x))
@settings(max_examples=60, deadline=None)
def test_a_small_spread_keeps_its_digits(q: float, distance: float) -> None:
    """E[relu²] - E[relu relu] = q (angle (1 - angle²/6 …) …): with angle -> 0 it is q distance/2 (1 - 4 angle/(3 pi) + …)."""
    angle = 2 * atan2(sqrt(distance), sqrt(2 - distance))
    # sin - angle cos = the integral of t sin t: no difference of near numbers
    t, w = np.polynomial.legendre.leggauss(12)
    t, w = (t + 1) / 2 * angle, w / 2 * angle
    assert gaussian_spread(relu, q, distance) == pytest.approx(q * (pi * distance - float(w @ (t * np.sin(t)))) / (2 * pi), rel=1e-7)
    assert gaussian_spread(lambda z: z, q, distance) == pytest.approx(q * distance, rel=1e-6)


@pytest.mark.parametrize("c", [-0.5, 0.0, 0.8, 1.0])
def test_at_q_0_stands_the_limit_from_above(c: float) -> None:
    assert gaussian_mean_of_pair(step, step, 0.0, c) == pytest.approx((pi - acos(c)) / (2 * pi), rel=1e-13)
    assert gaussian_mean_of_pair(np.cos, np.exp, 0.0, c) == pytest.approx(1.0, rel=1e-13)


def test_what_is_no_correlation_is_refused() -> None:
    for c in (-1.1, 1.0000001, float("nan")):
        with pytest.raises(ValueError, match=r"^c=.*: must be a correlation: from -1 to 1$"):
            gaussian_mean_of_pair(relu, relu, 1.0, c)
    with pytest.raises(ValueError, match=r"^distance=-1: must be 1 minus a correlation: from 0 to 2$"):
        gaussian_spread(relu, 1.0, -1)
