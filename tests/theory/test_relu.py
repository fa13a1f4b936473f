"""The exact law of relu nets against sums in many digits, nets that are drawn, and the published gains."""

from itertools import pairwise
from math import comb, exp, log, sqrt

import mpmath
import numpy as np
import pytest

from bpexp.core.activations import ACTIVATIONS
from bpexp.theory.relu import beta, exact_gain, log_norm_moments, log_norm_of_net, sussillo_gain, textbook_variance

RELU, LINEAR = ACTIVATIONS["relu"], ACTIVATIONS["linear"]


@pytest.mark.parametrize("sigma_w2", [2.0, 0.7])
@pytest.mark.parametrize("width", [1, 2, 3, 7, 20, 101, 400])
def test_the_binomial_sum_in_forty_digits(width: int, sigma_w2: float) -> None:
    with mpmath.workdps(40):
        total = mpmath.mpf(2) ** width - 1
        weights = [mpmath.mpf(comb(width, k)) / total for k in range(1, width + 1)]
        logs = [mpmath.log(2 * mpmath.mpf(sigma_w2) / width) + mpmath.digamma(mpmath.mpf(k) / 2) for k in range(1, width + 1)]
        mean = mpmath.fsum(p * x for p, x in zip(weights, logs, strict=True))
        squares = (p * (mpmath.psi(1, mpmath.mpf(k) / 2) + (x - mean) ** 2) for k, (p, x) in enumerate(zip(weights, logs, strict=True), 1))
        found = log_norm_moments(width, sigma_w2)
        assert found.mean == pytest.approx(float(mean), rel=1e-11, abs=1e-12)
        assert found.variance == pytest.approx(float(mpmath.fsum(squares)), rel=1e-11)


@pytest.mark.parametrize("width", [10**4, 10**6])
def test_in_wide_layers_the_textbooks_hold(width: int) -> None:
    found = log_norm_moments(width)
    assert found.mean == pytest.approx(-2.5 / width, rel=20 / width)
    assert found.variance == pytest.approx(5.0 / width, rel=20 / width)
    assert textbook_variance([width] * 3) == pytest.approx(3 * found.variance, rel=20 / width)


def test_the_textbook_variance_of_narrow_nets() -> None:
    assert beta([20, 40, 40]) == pytest.approx(0.1, rel=1e-15)
    assert textbook_variance([20, 40, 40]) == pytest.approx(0.5, rel=1e-15)
    assert log_norm_moments(20).variance / textbook_variance([20]) == pytest.approx(1.25, abs=0.005)


def jacobian_norms(widths: list[int], sigma_w2: float, count: int, seed: int) -> np.ndarray:
    """ln(||delta_1||²/||delta_{L+1}||²) of relu nets that go forward and backward with the same weights; nets with no delta left out."""
    rng = np.random.default_rng(seed)
    sizes = [6, *widths, 4]
    a, Ws, on = np.broadcast_to(rng.standard_normal(6), (count, 1, 6)), [], []
    for n_in, n_out in pairwise(sizes):
        Ws.append(sqrt(sigma_w2 / n_in) * rng.standard_normal((count, n_in, n_out)))
        z = a @ Ws[-1]
        on.append(z > 0)
        a = np.maximum(z, 0.0)
    delta = np.broadcast_to(np.array([0.5, -0.5, 0.5, 0.5]), (count, 1, 4))
    for W, active in zip(reversed(Ws[1:]), reversed(on[:-1]), strict=True):
        delta = (delta @ W.swapaxes(1, 2)) * active
    squares = (delta**2).sum(axis=(1, 2))
    return np.asarray(np.log(squares[squares > 0]))


@pytest.mark.parametrize(("widths", "sigma_w2"), [([20] * 8, 2.0), ([30, 10, 50, 16], 2.0), ([12] * 3, 1.1)])
def test_nets_drawn_at_random(widths: list[int], sigma_w2: float) -> None:
    logs = jacobian_norms(widths, sigma_w2, 6000, 11)
    expected = log_norm_of_net(widths, sigma_w2)
    assert logs.mean() == pytest.approx(expected.mean, rel=0.0, abs=4 * sqrt(expected.variance / len(logs)))
    spread = (logs - logs.mean()) ** 2
    assert logs.var(ddof=1) == pytest.approx(expected.variance, rel=0.0, abs=4 * spread.std() / sqrt(len(logs)))
    assert abs(textbook_variance(widths) - expected.variance) > 4 * spread.std() / sqrt(len(logs))  # which can tell it from the textbook's


@pytest.mark.parametrize("width", [1, 2, 5, 17, 64, 1000])
def test_the_exact_gain_takes_the_drift_away(width: int) -> None:
    assert log_norm_moments(width, exact_gain(width, RELU) ** 2).mean == pytest.approx(0.0, abs=1e-12)
    drift = log(exact_gain(width, LINEAR) ** 2 / width) + float(mpmath.digamma(width / 2)) + log(2)
    assert drift == pytest.approx(0.0, abs=1e-12)


def test_with_the_gain_of_a_linear_net_drawn_norms_stay() -> None:
    rng, n = np.random.default_rng(4), 10
    logs = np.log(exact_gain(n, LINEAR) ** 2 / n * rng.chisquare(n, 400_000))
    assert abs(logs.mean()) < 4 * logs.std() / sqrt(logs.size)


def test_the_published_gains_are_near_the_exact_ones() -> None:
    assert sussillo_gain(10, RELU) == pytest.approx(sqrt(2) * exp(1.2 / 7.6), rel=1e-14)
    assert sussillo_gain(3, RELU) == sussillo_gain(6, RELU) == pytest.approx(sqrt(2) * exp(1.2 / 3.6), rel=1e-14)
    assert sussillo_gain(10, LINEAR) == pytest.approx(exp(0.05), rel=1e-14)
    for width in (20, 50, 200, 1000):
        assert sussillo_gain(width, RELU) == pytest.approx(exact_gain(width, RELU), rel=0.1 / width)
        assert sussillo_gain(width, LINEAR) == pytest.approx(exact_gain(width, LINEAR), rel=1 / width**2)
        he = abs(log_norm_moments(width, 2.0).mean)
        assert abs(log_norm_moments(width, sussillo_gain(width, RELU) ** 2).mean) < he / 10


def test_what_has_no_such_law_is_refused_in_a_line() -> None:
    for call in (sussillo_gain, exact_gain):
        with pytest.raises(ValueError, match=r"^activation=tanh: must be relu or linear$"):
            call(10, ACTIVATIONS["tanh"])
        with pytest.raises(ValueError, match=r"^width=0: must be"):
            call(0, RELU)
    with pytest.raises(ValueError, match=r"^sigma_w2=0.0: must be a variance above 0$"):
        log_norm_moments(3, 0.0)
    with pytest.raises(ValueError, match=r"^width=0: must be"):
        log_norm_moments(0)
