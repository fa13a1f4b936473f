"""The correlation of two samples from layer to layer in a net whose layers are infinitely wide.

Two inputs give every neuron two z, (u1, u2), jointly Gaussian with variance q and correlation c.  The next layer's correlation is that of
sigma_w2 E[phi(u1) phi(u2)] + sigma_b2 (Poole et al. 2016, eq. 5).  Where chi <= 1 all inputs become alike on their way (the ordered phase),
where chi > 1 even near ones are drawn apart (the chaotic phase).  Near c = 1 what counts is 1 - c, so it is handed on as it is: `distance`.
"""

from bpexp.core.activations import Activation
from bpexp.theory.gaussian import gaussian_mean_of_pair, gaussian_spread
from bpexp.theory.variance import ROUNDING, chi, fixed_point, mean_square, outputs, root, slopes, variance_map

__all__ = ["correlation_fixed_point", "correlation_map", "correlation_slope", "distance_fixed_point", "spread_factor"]

LEAST_Q = 1e-24  # phi is a straight line on either side of 0 there, to 12 digits, and its square still a normal number
NEAR = 1e-16  # a distance up to which two samples see the same slopes, to the square root of it
ALIKE = 1e-12  # of (u1 - u2)^2, over phi(0)^2: phi(u1) - phi(u2) has too few digits left below it
MARGIN = 1e-9  # a chi that exceeds 1 by less counts as 1


def correlation_map(phi: Activation, sigma_w2: float, sigma_b2: float, q: float, c: float) -> float:
    """(sigma_w2 E[phi(u1) phi(u2)] + sigma_b2) / variance_map(q): the next layer's correlation (Poole et al. 2016, eq. 5), at q* or any other q.

    At q = 0 it is the limit q -> 0.
    """
    q = max(q, LEAST_Q)
    together = gaussian_mean_of_pair(lambda u: outputs(phi, u), lambda u: outputs(phi, u), q, c)
    return (sigma_w2 * together + sigma_b2) / variance_map(phi, sigma_w2, sigma_b2, q)


def correlation_slope(phi: Activation, sigma_w2: float, q: float, c: float) -> float:
    """sigma_w2 E[phi'(u1) phi'(u2)]: the derivative of `correlation_map` at a q that the layers keep; chi at c = 1 (Schoenholz et al. 2017)."""
    return sigma_w2 * gaussian_mean_of_pair(lambda u: slopes(phi, u), lambda u: slopes(phi, u), q, c)


def spread_factor(phi: Activation, sigma_w2: float, q: float, distance: float) -> float:
    """sigma_w2 E[(phi(u1) - phi(u2))²] / E[(u1 - u2)²], by which a layer multiplies the mean square distance of two samples' z; chi as distance -> 0.

    To 1e-8, for the smallest distances too: below 1e-16, and where phi(0) hides the difference, it is chi.
    """
    if distance < NEAR or q * distance < ALIKE * mean_square(phi, 0.0):
        return chi(phi, sigma_w2, q)
    q = max(q, LEAST_Q)
    return sigma_w2 * gaussian_spread(lambda u: outputs(phi, u), q, distance) / (q * distance)


def distance_fixed_point(phi: Activation, sigma_w2: float, sigma_b2: float) -> float:
    """1 - c*, with the digits that c* has lost near 1.

    C = correlation_map at q* is a power series in c without negative terms, so convex for c >= 0, with C(1) = 1 and slope chi there.  Where
    chi <= 1 no c below 1 stays; else exactly one does, where (1 - C)/(1 - c) = `spread_factor` = 1, and it attracts.
    """
    q = fixed_point(phi, sigma_w2, sigma_b2)
    if chi(phi, sigma_w2, q) <= 1.0 + MARGIN:
        return 0.0

    def growth(distance: float) -> float:
        return spread_factor(phi, sigma_w2, q, distance) - 1.0

    if growth(1.0) > -ROUNDING:  # C(0) = 0, for phi is odd and there are no biases: samples end up uncorrelated
        return 1.0
    return root(growth, NEAR / 2.0, 1.0)


def correlation_fixed_point(phi: Activation, sigma_w2: float, sigma_b2: float) -> float:
    """The c = correlation_map(c) at q* that attracts: 1 in the ordered phase and at criticality, below 1 in the chaotic phase.

    Raises NoFixedPointError where there is no q*.  Where every c keeps itself (linear neurons without biases) 1 stands for them; the same
    where q* = 0 without biases: there phi is a straight line, and a correlation is kept on the way to 0.
    """
    return 1.0 - distance_fixed_point(phi, sigma_w2, sigma_b2)
