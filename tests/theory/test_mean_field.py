"""The theory of wide nets against quadrature by SciPy, closed forms, published numbers, plain iteration and a wide net itself."""

from itertools import pairwise
from math import atan, exp, inf, log, log10, pi, sqrt

import numpy as np
import pytest
from scipy.special import expit

from bpexp.core.activations import ACTIVATIONS
from bpexp.core.initializers import INITIALIZERS
from bpexp.theory import mean_field
from bpexp.theory.mean_field import (
    SOLVED,
    CriticalPoint,
    NoCriticalPointError,
    NoFixedPointError,
    chi,
    correlation_depth,
    correlation_fixed_point,
    correlation_slope,
    critical,
    critical_line,
    decades_per_layer,
    fixed_point,
    gaussian_mean,
    gradient_depth,
    kappa,
    settled,
    shifted_critical,
    tanh_of_sigmoid,
    variance_map,
    width_correction,
)
from tests.theory.formulas import FORMULAS, HIDDEN, LAMBDA, LAMBDA_ALPHA, mean_by_quad

QS = [1e-8, 1e-3, 0.3, 1.0, 45.6, 1e4]


@pytest.mark.parametrize("q", QS)
@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.filterwarnings("ignore::scipy.integrate.IntegrationWarning")  # a relative error is too much to ask of a tail of 1e-300
def test_means_agree_with_adaptive_quadrature(name: str, q: float) -> None:
    phi, (function, slope) = ACTIVATIONS[name], FORMULAS[name]
    square = mean_by_quad(lambda z: function(z) ** 2, q)
    slope_2, slope_4 = (mean_by_quad(lambda z, power=power: slope(z) ** power, q) for power in (2, 4))  # type: ignore[misc]
    assert variance_map(phi, 3.0, 0.25, q) == pytest.approx(3.0 * square + 0.25, rel=1e-9)
    assert variance_map(phi, 1.0, 0.0, q) == pytest.approx(square, rel=1e-9, abs=0.0)
    assert chi(phi, 3.0, q) == pytest.approx(3.0 * slope_2, rel=1e-9)
    assert kappa(phi, q) == pytest.approx(slope_4 / slope_2**2, rel=1e-9)


@pytest.mark.parametrize("q", [1e-12, *QS, 1e8, 1e12])
def test_means_with_closed_forms(q: float) -> None:
    relu, leaky, linear, erf_ = (ACTIVATIONS[name] for name in ("relu", "leaky_relu", "linear", "erf"))
    expected = [
        (variance_map(relu, 1.0, 0.0, q), q / 2),
        (chi(relu, 1.0, q), 1 / 2),
        (kappa(relu, q), 2.0),
        (variance_map(leaky, 1.0, 0.0, q), q * (1 + 1e-4) / 2),
        (variance_map(linear, 1.0, 0.0, q), q),
        (kappa(linear, q), 1.0),
        (variance_map(erf_, 1.0, 0.0, q), 2 / pi * atan(2 * q / sqrt(1 + 4 * q))),  # Williams 1997, with asin(x) as an atan
        (chi(erf_, 1.0, q), 4 / pi / sqrt(1 + 4 * q)),
        (kappa(erf_, q), (1 + 4 * q) / sqrt(1 + 8 * q)),
        (gaussian_mean(lambda z: z**4, q), 3 * q * q),
        (gaussian_mean(np.cos, min(q, 1.0)), exp(-min(q, 1.0) / 2)),
        (gaussian_mean(lambda z: z**3, 1.0), 0.0),
    ]
    for found, wanted in expected:
        assert found == pytest.approx(wanted, rel=1e-11, abs=1e-14 if wanted == 0.0 else 0.0)


@pytest.mark.parametrize("name", HIDDEN)
def test_at_q_0_stands_the_limit_from_above(name: str) -> None:
    phi, (function, slope) = ACTIVATIONS[name], FORMULAS[name]
    sides = [slope(sign * 1e-12) for sign in (-1, 1)]
    assert variance_map(phi, 2.0, 0.1, 0.0) == pytest.approx(2.0 * function(0.0) ** 2 + 0.1, rel=1e-14)
    assert chi(phi, 2.0, 0.0) == pytest.approx(sides[0] ** 2 + sides[1] ** 2, rel=1e-10)


# activation, sigma_w2, sigma_b2: q*, chi, and what a last digit is worth.
SETTLED = [
    ("sigmoid", 1 / 3, 0.0, 0.0850, 0.02001),
    ("sigmoid", 1.0, 0.0, 0.2647, 0.05572),
    ("sigmoid", 2.0, 0.0, 0.5553, 0.10098),
    ("tanh", 1.69, 0.09, 0.6070, None),
    ("tanh", 6.25, 0.09, 4.0791, None),
]


@pytest.mark.parametrize(("name", "sigma_w2", "sigma_b2", "q", "slope"), SETTLED)
def test_known_fixed_points(name: str, sigma_w2: float, sigma_b2: float, q: float, slope: float | None) -> None:
    phi = ACTIVATIONS[name]
    found = fixed_point(phi, sigma_w2, sigma_b2)
    assert round(found, 4) == q
    if slope is not None:
        assert round(chi(phi, sigma_w2, found), 5) == slope


@pytest.mark.parametrize("sigma_b2", [0.0, 0.3])
@pytest.mark.parametrize("sigma_w2", [0.2, 0.7, 1.3, 4.0])
@pytest.mark.parametrize("name", HIDDEN)
def test_a_fixed_point_is_where_layer_after_layer_leads(name: str, sigma_w2: float, sigma_b2: float) -> None:
    phi = ACTIVATIONS[name]
    q = 1.0
    for _ in range(2000):
        q = variance_map(phi, sigma_w2, sigma_b2, q)
        if q > 1e12:
            break
    if q > 1e12:
        with pytest.raises(NoFixedPointError, match=f"grows without end with activation={name}, sigma_w2="):
            fixed_point(phi, sigma_w2, sigma_b2)
    else:
        assert fixed_point(phi, sigma_w2, sigma_b2) == pytest.approx(q, rel=1e-11, abs=1e-12)


def test_fixed_points_at_the_edges() -> None:
    tanh, relu, linear, selu = (ACTIVATIONS[name] for name in ("tanh", "relu", "linear", "selu"))
    assert fixed_point(tanh, 0.0, 0.0) == 0.0
    assert fixed_point(tanh, 1.0, 0.0) == 0.0  # no more than an algebraic decay
    assert fixed_point(tanh, 1.0 + 1e-6, 0.0) == pytest.approx(0.5e-6, rel=1e-5)  # V = sigma_w2 (q - 2 q^2)
    assert fixed_point(tanh, 0.0, 0.2) == pytest.approx(0.2, rel=1e-13)
    assert fixed_point(relu, 2.0, 0.0) == 1.0  # each q is one
    assert fixed_point(linear, 0.999, 1.0) == pytest.approx(1000.0, rel=1e-11)
    assert fixed_point(selu, 1.0, 0.0) == pytest.approx(1.0, rel=1e-10)  # what its two constants are for
    with pytest.raises(NoFixedPointError):
        fixed_point(linear, 1.0, 1e-3)


# activation, sigma_b2, sigma_w2, q, and the digits that are known of either.
KNOWN = [
    ("sigmoid", 0.0, 103.008, 3, 45.62, 2),
    ("tanh", 0.05, 1.76095, 5, 0.570, 3),
    ("tanh", 0.0, 1.0, 14, 0.0, 14),
    ("erf", 0.0, pi / 4, 14, 0.0, 14),
    ("scaled_tanh", 0.0, (1.5 / 1.7159) ** 2, 14, 0.0, 14),
    ("relu", 0.0, 2.0, 14, 1.0, 14),
    ("leaky_relu", 0.0, 2 / 1.0001, 14, 1.0, 14),
    ("linear", 0.0, 1.0, 14, 1.0, 14),
    ("elu", 0.0, 1.0, 14, 0.0, 14),
    ("selu", 0.0, 2 / (LAMBDA**2 + LAMBDA_ALPHA**2), 14, 0.0, 14),
    # The smallest sigma_b2 that these two can do with, to its digits: the slope of the variance map is 1 as well there.
    ("gelu", 0.17292239, 1.98305826, 8, (3 + sqrt(17)) / 2, 6),
    ("silu", 0.55514317, 1.98800468, 8, 14.32017, 5),
]


@pytest.mark.parametrize(("name", "sigma_b2", "sigma_w2", "places", "q", "q_places"), KNOWN)
def test_known_critical_points(name: str, sigma_b2: float, sigma_w2: float, places: int, q: float, q_places: int) -> None:
    point = critical(ACTIVATIONS[name], sigma_b2)
    assert round(point.sigma_w2, places) == pytest.approx(round(sigma_w2, places), rel=1e-14)
    assert round(point.q, q_places) == pytest.approx(round(q, q_places), rel=1e-14)


def test_kappa_of_the_critical_sigmoid() -> None:
    phi = ACTIVATIONS["sigmoid"]
    assert round(kappa(phi, critical(phi).q), 2) == 4.45


HAVE_ONE = [
    *((name, 0.0) for name in HIDDEN if name not in {"gelu", "silu", "softplus"}),
    *((name, sigma_b2) for name in ("sigmoid", "tanh", "scaled_tanh", "elu", "selu", "erf") for sigma_b2 in (1e-12, 1e-6, 0.05, 1.0, 100.0)),
    *((name, sigma_b2) for name in ("gelu", "silu") for sigma_b2 in (0.6, 1.0, 100.0)),
    ("gelu", 0.18),
]


@pytest.mark.parametrize(("name", "sigma_b2"), HAVE_ONE)
def test_at_a_critical_point_z_and_the_deltas_keep_their_size(name: str, sigma_b2: float) -> None:
    phi, point = ACTIVATIONS[name], critical(ACTIVATIONS[name], sigma_b2)
    assert chi(phi, point.sigma_w2, point.q) == pytest.approx(1.0, rel=1e-11)
    assert variance_map(phi, point.sigma_w2, sigma_b2, point.q) == pytest.approx(point.q, rel=1e-11)
    assert fixed_point(phi, point.sigma_w2, sigma_b2) == pytest.approx(point.q, rel=1e-6)


@pytest.mark.parametrize(("name", "sigma_b2"), HAVE_ONE)
def test_a_critical_point_draws_q_towards_itself(name: str, sigma_b2: float) -> None:
    phi, point = ACTIVATIONS[name], critical(ACTIVATIONS[name], sigma_b2)
    above, below = 1.01 * max(point.q, 1e-6), 0.99 * point.q
    assert variance_map(phi, point.sigma_w2, sigma_b2, above) <= above * (1 + 1e-14)
    assert variance_map(phi, point.sigma_w2, sigma_b2, below) >= below * (1 - 1e-14)


GROWS = "where they neither vanish nor explode, the variance of z grows by sigma_b2 at every layer"
LEAVES = "where they neither vanish nor explode, the variance of z does not settle"
VANISH = "they vanish at every sigma_w2 at which the variance of z settles"
HAVE_NONE = [
    *((name, 0.05, GROWS) for name in ("relu", "leaky_relu", "linear")),
    *(("gelu", sigma_b2, LEAVES) for sigma_b2 in (0.0, 1e-30, 1e-6, 0.05, 0.17)),
    *(("silu", sigma_b2, LEAVES) for sigma_b2 in (0.0, 1e-6, 0.05, 0.55)),
    *(("softplus", sigma_b2, VANISH) for sigma_b2 in (0.0, 0.05, 10.0)),
]


@pytest.mark.parametrize(("name", "sigma_b2", "reason"), HAVE_NONE)
def test_no_critical_point_and_why(name: str, sigma_b2: float, reason: str) -> None:
    with pytest.raises(NoCriticalPointError) as caught:
        critical(ACTIVATIONS[name], sigma_b2)
    assert str(caught.value) == f"no sigma_w2 keeps gradients with activation={name} and sigma_b2={sigma_b2:g}: {reason}"


@pytest.mark.parametrize("name", ["gelu", "silu"])
def test_the_points_left_out_would_push_q_away(name: str) -> None:
    phi, sigma_w2 = ACTIVATIONS[name], 4.0  # 1/phi'(0)^2
    assert chi(phi, sigma_w2, 0.0) == pytest.approx(1.0)
    assert variance_map(phi, sigma_w2, 0.0, 1e-3) > 1.0001e-3


@pytest.mark.parametrize("sigma_w2", [0.5, 1.0, 1.5, 1.9])
def test_with_softplus_the_deltas_vanish_wherever_z_settles(sigma_w2: float) -> None:
    phi = ACTIVATIONS["softplus"]
    assert chi(phi, sigma_w2, fixed_point(phi, sigma_w2, 0.05)) < 1.0


def test_of_several_attracting_points_the_one_of_the_least_weights_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No activation has several, so they are made up."""
    points = [CriticalPoint(3.0, 1.0), CriticalPoint(1.0, 2.0), CriticalPoint(2.0, 3.0), CriticalPoint(4.0, 4.0)]
    monkeypatch.setattr(mean_field, "_keeping_points", lambda _phi, _sigma_b2: points)
    monkeypatch.setattr(mean_field, "_attracts", lambda _phi, point, _sigma_b2: point.q != 2.0)
    assert critical(ACTIVATIONS["tanh"], 0.123) == CriticalPoint(2.0, 3.0)
    critical.cache_clear()


def test_the_shifted_sigmoid_is_a_tanh_net() -> None:
    sigmoid, tanh = ACTIVATIONS["sigmoid"], ACTIVATIONS["tanh"]
    assert shifted_critical(sigmoid).sigma_w2 == pytest.approx(16.0, rel=1e-14)
    assert shifted_critical(sigmoid, 0.2) == CriticalPoint(16 * critical(tanh, 0.05).sigma_w2, 4 * critical(tanh, 0.05).q)
    with pytest.raises(NoCriticalPointError, match="not of activation=relu"):
        shifted_critical(ACTIVATIONS["relu"])


@pytest.mark.parametrize("sigma_b2", [0.0, 0.2, 3.0])
def test_the_shifted_sigmoid_is_critical_itself(sigma_b2: float) -> None:
    """The mean-field equations with a - 1/2 in the place of a, for z[j] = sum_i W[i, j] (a[i] - 1/2) + N(0, sigma_b2)."""
    sigmoid = ACTIVATIONS["sigmoid"]
    point = shifted_critical(sigmoid, sigma_b2)
    spread = gaussian_mean(lambda z: (expit(z) - 0.5) ** 2, point.q)
    assert point.sigma_w2 * spread + sigma_b2 == pytest.approx(point.q, rel=1e-11)
    assert chi(sigmoid, point.sigma_w2, point.q) == pytest.approx(1.0, rel=1e-11)


def test_every_solved_initializer_is_asked_about() -> None:
    assert set(SOLVED) == {name for name, row in INITIALIZERS.items() if row.solved}
    for name, solve in SOLVED.items():
        activation = INITIALIZERS[name].needs.get("activation", ("tanh",))[0]
        assert solve(ACTIVATIONS[str(activation)], 0.2).sigma_w2 > 1.0


def test_a_critical_point_is_looked_for_once() -> None:
    assert critical(ACTIVATIONS["erf"], 0.07) is critical(ACTIVATIONS["erf"], 0.07)


def delta_ratios(sigma_w2: float, sigma_b2: float, q: float, seed: int, width: int = 1000, depth: int = 20) -> list[float]:
    """||delta_{k-1}||^2 / ||delta_k||^2 of each hidden layer of a tanh net whose first z is N(0, q); the weights are drawn in both passes."""
    rng = np.random.default_rng(seed)
    layers = [sqrt(sigma_w2 / width) * rng.standard_normal((width, width), dtype=np.float32) for _ in range(depth)]
    zs = [sqrt(q) * rng.standard_normal((1, width))]
    for W in layers:
        zs.append(np.tanh(zs[-1]) @ W + sqrt(sigma_b2) * rng.standard_normal((1, width)))
    delta = rng.standard_normal((1, width))
    norms = [float((delta**2).sum())]
    for W, z in zip(reversed(layers), reversed(zs[:-1]), strict=True):
        delta = delta @ W.T * (1 - np.tanh(z) ** 2)
        norms.append(float((delta**2).sum()))
    return [back / front for front, back in pairwise(norms)]


def test_a_wide_critical_net_keeps_its_deltas() -> None:
    point = critical(ACTIVATIONS["tanh"], 0.05)
    ratios = np.array([delta_ratios(point.sigma_w2, 0.05, point.q, seed) for seed in range(4)])
    error = ratios.std(ddof=1) / sqrt(ratios.size)
    assert error < 0.01
    assert abs(ratios.mean() - 1.0) < 4 * error


# The decades of ||delta|| that plain sigmoid layers without biases take, to the last digit.
@pytest.mark.parametrize(("sigma_w2", "decades"), [(1 / 3, 0.8494), (1.0, 0.6270), (2.0, 0.4979)])
def test_known_decades_per_layer(sigma_w2: float, decades: float) -> None:
    assert round(decades_per_layer(ACTIVATIONS["sigmoid"], sigma_w2, 0.0), 4) == decades


@pytest.mark.parametrize("width", [10, 64, 1000.0])
def test_width_adds_to_the_vanishing(width: float) -> None:
    phi = ACTIVATIONS["sigmoid"]
    k = kappa(phi, fixed_point(phi, 1.0, 0.1))
    added = decades_per_layer(phi, 1.0, 0.1, width) - decades_per_layer(phi, 1.0, 0.1)
    assert added == pytest.approx(width_correction(k, width), rel=1e-9)
    assert width_correction(k, width) == pytest.approx((3 * k - 1) / (4 * width * log(10)), rel=1e-14)


@pytest.mark.parametrize("width", [20, 100])
@pytest.mark.parametrize("name", ["linear", "tanh", "relu"])
def test_the_width_correction_is_the_gap_of_a_mean_of_logarithms(name: str, width: int) -> None:
    """One layer's factor 1/N sum g² phi'(z)², drawn 60,000 times: log10 of its mean over the mean of its log10, halved for the norm."""
    phi, rng = ACTIVATIONS[name], np.random.default_rng(width)
    g, z = rng.standard_normal((2, 60_000, width), dtype=np.float32)
    slope = np.empty_like(z)
    phi.function(z, slope)
    phi.derivative(z, slope.copy(), slope)
    factors = np.square(g * slope).mean(axis=1, dtype=np.float64)
    factors = factors[factors > 0]
    gap = 0.5 * (log10(chi(phi, 1.0, 1.0)) - np.log10(factors).mean())
    error = 0.5 * np.log10(factors).std() / sqrt(factors.size)
    correction = width_correction(kappa(phi, 1.0), width)
    assert correction > 8 * error
    assert gap == pytest.approx(correction, rel=0.0, abs=4 * error + correction * 5 / width)


PHASES = [(name, w, b) for name in ("sigmoid", "tanh", "scaled_tanh", "erf") for w in (0.6, 1.7, 8.0, 200.0) for b in (0.01, 0.3)]


@pytest.mark.parametrize(("name", "sigma_w2", "sigma_b2"), PHASES)
def test_depths_are_rates_of_decay(name: str, sigma_w2: float, sigma_b2: float) -> None:
    phi = ACTIVATIONS[name]
    q, c = fixed_point(phi, sigma_w2, sigma_b2), correlation_fixed_point(phi, sigma_w2, sigma_b2)
    gradient, correlation = gradient_depth(phi, sigma_w2, sigma_b2), correlation_depth(phi, sigma_w2, sigma_b2)
    assert exp(-1 / gradient) == pytest.approx(chi(phi, sigma_w2, q), rel=1e-12)
    assert exp(-1 / correlation) == pytest.approx(correlation_slope(phi, sigma_w2, q, c), rel=1e-12)
    assert correlation > 0.0
    if c == 1.0:
        assert gradient == pytest.approx(correlation, rel=1e-9)
    else:
        assert gradient < 0.0  # explodes
    assert decades_per_layer(phi, sigma_w2, sigma_b2) == pytest.approx(1 / (2 * log(10) * gradient), rel=1e-9)


@pytest.mark.parametrize(("name", "sigma_w2"), [("relu", 2.0), ("linear", 1.0), ("tanh", 1.0)])
def test_at_criticality_depths_are_infinite(name: str, sigma_w2: float) -> None:
    assert gradient_depth(ACTIVATIONS[name], sigma_w2, 0.0) == correlation_depth(ACTIVATIONS[name], sigma_w2, 0.0) == inf


def test_nothing_passes_where_the_weights_are_0() -> None:
    tanh = ACTIVATIONS["tanh"]
    assert gradient_depth(tanh, 0.0, 0.1) == correlation_depth(tanh, 0.0, 0.1) == 0.0
    assert decades_per_layer(tanh, 0.0, 0.1) == decades_per_layer(tanh, 0.0, 0.1, 10) == inf


@pytest.mark.parametrize(("name", "sigma_w2", "sigma_b2", "width"), [("tanh", 6.25, 0.09, None), ("sigmoid", 1.0, 0.0, 256), ("selu", 0.7, 0.1, 64)])
def test_all_that_is_settled_at_once(name: str, sigma_w2: float, sigma_b2: float, width: int | None) -> None:
    phi = ACTIVATIONS[name]
    found = settled(phi, sigma_w2, sigma_b2, width)
    assert found.q == fixed_point(phi, sigma_w2, sigma_b2)
    assert (found.chi, found.kappa) == (chi(phi, sigma_w2, found.q), kappa(phi, found.q))
    assert found.c == correlation_fixed_point(phi, sigma_w2, sigma_b2)
    assert found.slope == correlation_slope(phi, sigma_w2, found.q, found.c)
    assert (found.gradient_depth, found.correlation_depth) == (gradient_depth(phi, sigma_w2, sigma_b2), correlation_depth(phi, sigma_w2, sigma_b2))
    assert found.decades_per_layer == decades_per_layer(phi, sigma_w2, sigma_b2, width)


def test_what_does_not_settle_is_said() -> None:
    for call in (settled, decades_per_layer, gradient_depth, correlation_depth):
        with pytest.raises(NoFixedPointError, match="grows without end with activation=relu"):
            call(ACTIVATIONS["relu"], 3.0, 0.0)


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("sigma_b2", [0.0, 0.05])
def test_the_critical_line_is_the_critical_point_or_none(name: str, sigma_b2: float) -> None:
    found = critical_line(ACTIVATIONS[name], sigma_b2)
    if (name, sigma_b2) in HAVE_ONE:
        assert found == critical(ACTIVATIONS[name], sigma_b2).sigma_w2
        assert chi(ACTIVATIONS[name], found, critical(ACTIVATIONS[name], sigma_b2).q) == pytest.approx(1.0, rel=1e-11)
    else:
        assert found is None


@pytest.mark.parametrize("sigma_b2", [0.0, 0.4])
@pytest.mark.parametrize("sigma_w2", [1 / 3, 1.0, 16.0, 140.0])
def test_a_sigmoid_net_is_a_tanh_net(sigma_w2: float, sigma_b2: float) -> None:
    """Settled alike in all that has no units of z, both found by their own quadratures; then one net of each, neuron by neuron."""
    sigmoid, tanh = ACTIVATIONS["sigmoid"], ACTIVATIONS["tanh"]
    w, b = tanh_of_sigmoid(sigma_w2, sigma_b2)
    one, other = settled(sigmoid, sigma_w2, sigma_b2), settled(tanh, w, b)
    assert one.q == pytest.approx(4 * other.q, rel=1e-10)
    assert (one.chi, one.kappa, one.c, one.slope) == pytest.approx((other.chi, other.kappa, other.c, other.slope), rel=1e-8)
    rng, n = np.random.default_rng(0), 40
    z = rng.standard_normal((3, n))
    z_tanh = z / 2
    variances = []
    for _ in range(5):
        W, bias = sqrt(sigma_w2 / n) * rng.standard_normal((n, n)), sqrt(sigma_b2) * rng.standard_normal(n)
        z, z_tanh = expit(z) @ W + bias, np.tanh(z_tanh) @ (W / 4) + W.sum(axis=0) / 4 + bias / 2
        variances.append((n * (W / 4).var(), (W.sum(axis=0) / 4 + bias / 2).var()))
    assert z / 2 == pytest.approx(z_tanh, rel=1e-10, abs=1e-12)
    assert np.mean(variances, axis=0) == pytest.approx([w, b], rel=0.5)
