"""The variance of z from layer to layer in a net whose layers are infinitely wide, and what its slopes do to the deltas.

With W ~ N(0, sigma_w2/N), b ~ N(0, sigma_b2) and N -> infinity, the z of a layer are N(0, q), and from one layer to the next
q -> sigma_w2 E[phi(z)^2] + sigma_b2, while ||delta||^2 is multiplied by chi = sigma_w2 E[phi'(z)^2] (Poole et al. 2016, eq. 3;
Schoenholz et al. 2017, eq. 5).  q is the variance of one z, in the units of z squared.
"""

from collections.abc import Callable

import numpy as np

from bpexp.core.activations import Activation
from bpexp.core.arrays import Float64s
from bpexp.theory.gaussian import gaussian_mean

__all__ = ["NoFixedPointError", "chi", "fixed_point", "kappa", "mean_square", "outputs", "root", "slopes", "variance_map"]

LEAST_Q, LARGEST_Q = 1e-12, 1e12  # a fixed point beyond them counts as 0, and as none
STEP = 1.05  # from one q to the next where a fixed point is looked for
ROUNDING = 1e-12  # relative differences below it count as none


class NoFixedPointError(ValueError):
    """The variance of z grows from layer to layer without end."""


def outputs(phi: Activation, z: Float64s) -> Float64s:
    """phi(z)."""
    out = np.empty_like(z)
    phi.function(z, out)
    return out


def slopes(phi: Activation, z: Float64s) -> Float64s:
    """phi'(z)."""
    out = np.empty_like(z)
    phi.derivative(z, outputs(phi, z), out)
    return out


def mean_square(phi: Activation, q: float) -> float:
    """E[phi(z)^2]."""
    return gaussian_mean(lambda z: outputs(phi, z) ** 2, q)


def variance_map(phi: Activation, sigma_w2: float, sigma_b2: float, q: float) -> float:
    """sigma_w2 E[phi(z)^2] + sigma_b2: the q of the next layer (Poole et al. 2016, eq. 3)."""
    return sigma_w2 * mean_square(phi, q) + sigma_b2


def chi(phi: Activation, sigma_w2: float, q: float) -> float:
    """sigma_w2 E[phi'(z)^2], by which a layer multiplies ||delta||^2 (Schoenholz et al. 2017, eq. 5)."""
    return sigma_w2 * gaussian_mean(lambda z: slopes(phi, z) ** 2, q)


def kappa(phi: Activation, q: float) -> float:
    """E[phi'(z)^4] / E[phi'(z)^2]^2: 1 where all slopes are alike, more the fewer neurons pass the deltas on."""
    return gaussian_mean(lambda z: slopes(phi, z) ** 4, q) / chi(phi, 1.0, q) ** 2


def fixed_point(phi: Activation, sigma_w2: float, sigma_b2: float) -> float:
    """The q = variance_map(q) at which a net that starts with q = 1 settles; NoFixedPointError where q grows without end.

    E[phi(z)^2] increases with q for every activation here, so no layer passes a fixed point: q settles at the first one in the direction
    of its first step, which is looked for in steps of 5 %.  Below 1e-12 it counts as 0.
    """

    def growth(q: float) -> float:
        return variance_map(phi, sigma_w2, sigma_b2, q) - q

    if abs(growth(1.0)) < ROUNDING:
        return 1.0
    grows = growth(1.0) > 0.0
    step = STEP if grows else 1.0 / STEP
    q = 1.0
    while LEAST_Q < q < LARGEST_Q:
        if (growth(q * step) > 0.0) != grows:
            return root(growth, q, q * step)
        q *= step
    if grows:
        raise NoFixedPointError(f"the variance of z grows without end with activation={phi.name}, sigma_w2={sigma_w2:g} and sigma_b2={sigma_b2:g}")
    return 0.0


def root(f: Callable[[float], float], start: float, end: float) -> float:
    """The q between two of opposite signs of f where f(q) = 0, to 14 digits."""
    from scipy.optimize import brentq  # a seventh of a second, which only who solves pays for

    return float(brentq(f, start, end, xtol=1e-14 * min(start, end), rtol=1e-14))
