"""Correlations of two samples from layer to layer against closed forms, plain iteration, published numbers and a wide net itself."""

from math import acos, asin, pi, sin, sqrt

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bpexp.core.activations import ACTIVATIONS
from bpexp.theory.correlation import correlation_fixed_point, correlation_map, correlation_slope, distance_fixed_point, spread_factor
from bpexp.theory.variance import NoFixedPointError, chi, fixed_point, variance_map
from tests.theory.formulas import FORMULAS, HIDDEN, mean_of_pair_by_quad

SIGMAS = st.tuples(st.floats(0.1, 6.0), st.floats(0.0, 0.5))
BOUNDED = ["sigmoid", "tanh", "scaled_tanh", "erf"]


@given(sigmas=SIGMAS, q=st.floats(0.01, 50), c=st.floats(-0.99, 1))
@settings(max_examples=40, deadline=None)
def test_maps_with_closed_forms(sigmas: tuple[float, float], q: float, c: float) -> None:
    """The arc-cosine kernels of relu (Cho & Saul 2009) and the arc-sine kernel of erf (Williams 1997)."""
    (w, b), angle = sigmas, acos(c)
    relu, erf = ACTIVATIONS["relu"], ACTIVATIONS["erf"]
    expected = (w * q * (sin(angle) + (pi - angle) * c) / (2 * pi) + b) / (w * q / 2 + b)
    assert correlation_map(relu, w, b, q, c) == pytest.approx(expected, rel=1e-9, abs=1e-13)
    assert correlation_slope(relu, w, q, c) == pytest.approx(w * (pi - angle) / (2 * pi), rel=1e-9, abs=1e-15)
    expected = (w * 2 / pi * asin(2 * q * c / (1 + 2 * q)) + b) / (w * 2 / pi * asin(2 * q / (1 + 2 * q)) + b)
    assert correlation_map(erf, w, b, q, c) == pytest.approx(expected, rel=1e-9, abs=1e-13)
    assert correlation_slope(erf, w, q, c) == pytest.approx(w * 4 / pi / sqrt((1 + 2 * q) ** 2 - (2 * q * c) ** 2), rel=1e-9)


@pytest.mark.parametrize("name", HIDDEN)
def test_the_map_by_nested_adaptive_quadrature(name: str) -> None:
    phi, (function, slope), q, c, w, b = ACTIVATIONS[name], FORMULAS[name], 0.8, 0.6, 1.4, 0.1
    together, alone = (mean_of_pair_by_quad(function, function, q, x) for x in (c, 1 - 1e-13))
    assert correlation_map(phi, w, b, q, c) == pytest.approx((w * together + b) / (w * alone + b), rel=1e-8)
    assert correlation_slope(phi, w, q, c) == pytest.approx(w * mean_of_pair_by_quad(slope, slope, q, c), rel=1e-8)


@pytest.mark.parametrize("name", HIDDEN)
@given(sigmas=SIGMAS, q=st.floats(-6, 4).map(lambda x: 10.0**x), distance=st.floats(-6, 0).map(lambda x: 10.0**x))
@settings(max_examples=10, deadline=None)
def test_map_spread_and_slope_say_the_same(name: str, sigmas: tuple[float, float], q: float, distance: float) -> None:
    """1 - C = (1 - c) `spread_factor` q/q', and by the mean value theorem the factor lies between the slopes at c and at 1, for c >= 0."""
    phi, (w, b) = ACTIVATIONS[name], sigmas
    following, factor = variance_map(phi, w, b, q), spread_factor(phi, w, q, distance)
    assert 1 - correlation_map(phi, w, b, q, 1 - distance) == pytest.approx(factor * distance * q / following, rel=1e-7, abs=1e-14)
    at_one, at_c = chi(phi, w, q), correlation_slope(phi, w, q, 1 - distance)
    assert at_c * (1 - 1e-9) <= factor <= at_one * (1 + 1e-9)


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("q", [1e-6, 0.3, 40.0])
def test_the_spread_of_near_samples_is_multiplied_by_chi(name: str, q: float) -> None:
    """At any distance however small, and with no jump where the one formula takes over from the other."""
    phi = ACTIVATIONS[name]
    slope = chi(phi, 1.0, q)
    for distance in (0.0, 1e-300, 1e-30, 1e-18, 1e-15, 1e-13):
        assert spread_factor(phi, 1.0, q, distance) == pytest.approx(slope, rel=2e-6 * max(1.0, sqrt(q)))
    # from one to the next decade the factor falls, or stays
    factors = [spread_factor(phi, 1.0, q, 10.0**x) for x in np.arange(-20, 0.1, 0.25)]
    assert np.all(np.diff(factors) <= 2e-8 * slope)  # each is right to 1e-8


@pytest.mark.parametrize(("sigma_w", "q", "c"), [(1.3, 0.6070, 1.0), (2.5, 4.0791, 0.1221)])
def test_the_published_fixed_points(sigma_w: float, q: float, c: float) -> None:
    """Tanh with sigma_b = 0.3, from the public code of Poole et al. 2016."""
    assert round(fixed_point(ACTIVATIONS["tanh"], sigma_w**2, 0.09), 4) == q
    assert round(correlation_fixed_point(ACTIVATIONS["tanh"], sigma_w**2, 0.09), 4) == c


@pytest.mark.parametrize("sigma_b2", [0.0, 0.05, 0.7])
@pytest.mark.parametrize("sigma_w2", [0.5, 1.3, 3.0, 12.0, 150.0])
@pytest.mark.parametrize("name", BOUNDED)
def test_a_fixed_point_is_where_layer_after_layer_leads(name: str, sigma_w2: float, sigma_b2: float) -> None:
    phi = ACTIVATIONS[name]
    q, found = fixed_point(phi, sigma_w2, sigma_b2), distance_fixed_point(phi, sigma_w2, sigma_b2)
    if q == 0.0:
        assert found == 0.0
        return
    slope = correlation_slope(phi, sigma_w2, q, 1 - found)
    assert slope < 1.0  # it attracts
    c = 0.3
    steps = min(600, int(24 / (1 - slope)))
    for _ in range(steps):
        c = correlation_map(phi, sigma_w2, sigma_b2, q, min(c, 1.0))
        if abs(c - 1 + found) < 1e-11:
            break
    assert c == pytest.approx(1 - found, abs=1e-9 + slope**steps)  # c starts nearer than 1 to it, and nears it by slope or faster
    assert correlation_fixed_point(phi, sigma_w2, sigma_b2) == 1 - found
    assert (found > 0.0) == (chi(phi, sigma_w2, q) > 1.0)


def test_close_to_criticality_the_distance_keeps_its_digits() -> None:
    """At erf without biases and sigma_w2 = pi/4 (1 + x): against the root of the closed form in 40 digits."""
    erf = ACTIVATIONS["erf"]
    with mpmath.workdps(40):
        for w, b in [(2.0, 0.1), (1.6, 0.1), (1.55, 0.1)]:
            q = mpmath.findroot(lambda q: w * 2 / mpmath.pi * mpmath.asin(2 * q / (1 + 2 * q)) + b - q, fixed_point(erf, w, b))  # noqa: B023
            chi_ = w * 4 / mpmath.pi / mpmath.sqrt(1 + 4 * q)
            if chi_ <= 1:
                assert distance_fixed_point(erf, w, b) == 0.0
                continue
            start = distance_fixed_point(erf, w, b)
            exact = mpmath.findroot(lambda d: (w * 2 / mpmath.pi * mpmath.asin(2 * q * (1 - d) / (1 + 2 * q)) + b) / q - 1 + d, start)  # noqa: B023
            assert start == pytest.approx(float(exact), rel=1e-8)
            assert exact > 1e-6


def test_odd_neurons_without_biases_forget_all_correlation_in_the_chaotic_phase() -> None:
    for name in ("tanh", "erf", "scaled_tanh"):
        assert correlation_fixed_point(ACTIVATIONS[name], 3.0, 0.0) == 0.0
        assert correlation_slope(ACTIVATIONS[name], 3.0, fixed_point(ACTIVATIONS[name], 3.0, 0.0), 0.0) < 1.0


def test_where_no_q_or_no_one_c_stays() -> None:
    with pytest.raises(NoFixedPointError):
        correlation_fixed_point(ACTIVATIONS["relu"], 2.5, 0.0)
    assert correlation_fixed_point(ACTIVATIONS["relu"], 2.0, 0.0) == 1.0
    assert correlation_fixed_point(ACTIVATIONS["linear"], 1.0, 0.0) == 1.0
    assert correlation_fixed_point(ACTIVATIONS["tanh"], 0.5, 0.0) == 1.0


@pytest.mark.parametrize("name", HIDDEN)
def test_at_q_0_stands_the_limit_from_above(name: str) -> None:
    at_zero, near = (correlation_map(ACTIVATIONS[name], 1.3, 0.0, q, 0.4) for q in (0.0, 1e-12))
    assert at_zero == pytest.approx(near, rel=2e-6)


def test_two_samples_in_a_wide_net() -> None:
    """Ten layers of 1500 tanh neurons, with the correlation after each within five standard errors of the map's, q and all."""
    rng, n, w, b = np.random.default_rng(3), 1500, 2.2, 0.1
    q, c = 0.9, 0.2
    z = sqrt(q) * np.linalg.cholesky([[1, c], [c, 1]]) @ rng.standard_normal((2, n))
    for _ in range(10):
        c = correlation_map(ACTIVATIONS["tanh"], w, b, q, c)
        q = variance_map(ACTIVATIONS["tanh"], w, b, q)
        z = np.tanh(z) @ (sqrt(w / n) * rng.standard_normal((n, n))) + sqrt(b) * rng.standard_normal(n)
        found = z[0] @ z[1] / sqrt(z[0] @ z[0] * (z[1] @ z[1]))
        assert found == pytest.approx(c, abs=5 * 3 / sqrt(n))
