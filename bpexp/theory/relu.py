"""The exact law of the deltas in a relu net without biases, at any width, and the gain that takes its drift away.

Backwards through layer k of n neurons, ||delta_k||² = ||delta_{k+1}||² sigma_w2/n sum_i g_i² 1[z_i > 0] with g_i ~ N(0, 1), for sigma_w2/n is the
variance of a weight of W_{k+1}.  Signs are fair coins that are independent of the g and of all other layers' (Hanin 2018; Hanin & Nica 2019), so
ln (||delta_k||²/||delta_{k+1}||²) is ln(sigma_w2/n chi²_K), K ~ Bin(n, 1/2): a random walk over depth.  ||J u||² follows the same law.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np

from bpexp.core.activations import Activation
from bpexp.theory.arguments import check, size

__all__ = ["LogNorm", "beta", "exact_gain", "log_norm_moments", "log_norm_of_net", "sussillo_gain", "textbook_variance"]


@dataclass(frozen=True)
class LogNorm:
    """Mean and variance of the natural logarithm of a squared norm."""

    mean: float
    variance: float


def log_norm_moments(width: int, sigma_w2: float = 2.0) -> LogNorm:
    """Mean and variance of ln(sigma_w2/n chi²_K), K ~ Bin(n, 1/2), given K >= 1: what one layer of n relu neurons adds to ln ||delta||².

    E ln chi²_K = digamma(K/2) + ln 2 and Var ln chi²_K = trigamma(K/2).  K = 0, of probability 2^-n, makes the norm 0: no logarithm has a
    mean with it, so it is left out, as a study leaves out nets whose deltas are 0.
    """
    check(width >= 1, "width", width, "a number of neurons, at least 1")
    check(size(sigma_w2) and sigma_w2 > 0.0, "sigma_w2", sigma_w2, "a variance above 0")
    from scipy.special import digamma, gammaln, polygamma

    k = np.arange(1.0, width + 1.0)
    weights = -gammaln(k + 1.0) - gammaln(width - k + 1.0)
    weights = np.exp(weights - weights.max())
    weights /= weights.sum()  # of the binomial, given K >= 1
    means = digamma(k / 2.0)
    mean = float(weights @ means)
    variance = float(weights @ (polygamma(1, k / 2.0) + (means - mean) ** 2))
    return LogNorm(mean + log(2.0 * sigma_w2 / width), variance)


def log_norm_of_net(widths: Iterable[int], sigma_w2: float = 2.0) -> LogNorm:
    """The same over hidden layers of these widths, given that none of them is off as a whole: the layers are independent, so both add up."""
    each = [log_norm_moments(n, sigma_w2) for n in widths]
    return LogNorm(sum(x.mean for x in each), sum(x.variance for x in each))


def beta(widths: Iterable[int]) -> float:
    """The sum of 1/n over the hidden layers, which sets how much the gradients of two He nets differ (Hanin 2018)."""
    return sum(1.0 / n for n in widths)


def textbook_variance(widths: Iterable[int]) -> float:
    """5 beta: the variance of ln ||delta||² to the first order in 1/n (Hanin & Nica 2019); a fifth too small at n = 20."""
    return 5.0 * beta(widths)


def _relu_gain(n: int) -> float:
    """The gain sqrt 2 exp(1.2/(max(n, 6) - 2.4))."""
    return sqrt(2.0) * exp(1.2 / (max(n, 6) - 2.4))


def _linear_gain(n: int) -> float:
    """exp(1/(2 n)), for E ln(chi²_n/n) is -1/n to the first order."""
    return exp(1.0 / (2.0 * n))


def _exact_relu_gain(n: int) -> float:
    return exp(-0.5 * log_norm_moments(n, 1.0).mean)


def _exact_linear_gain(n: int) -> float:
    from scipy.special import digamma

    return exp(0.5 * (log(n / 2.0) - float(digamma(n / 2.0))))


# activation: the fitted gain, and the one that the exact law gives.
GAINS: dict[str, tuple[Callable[[int], float], Callable[[int], float]]] = {
    "relu": (_relu_gain, _exact_relu_gain),
    "linear": (_linear_gain, _exact_linear_gain),
}


def _gains(width: int, phi: Activation) -> tuple[Callable[[int], float], Callable[[int], float]]:
    check(width >= 1, "width", width, "a number of neurons, at least 1")
    check(phi.name in GAINS, "activation", phi.name, " or ".join(GAINS))
    return GAINS[phi.name]


def sussillo_gain(width: int, phi: Activation) -> float:
    """The published g of W ~ N(0, g²/n) at which the mean of ln ||delta||² is kept: fitted for relu, to 1/n for linear (Sussillo & Abbott 2014)."""
    return _gains(width, phi)[0](width)


def exact_gain(width: int, phi: Activation) -> float:
    """The g at which E ln(g²/n chi²_K) = 0, K ~ Bin(n, 1/2) given K >= 1 for relu and K = n for linear: no drift at any width (derived)."""
    return _gains(width, phi)[1](width)
