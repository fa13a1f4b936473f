"""Mean-field theory: the size of z and of the deltas, layer by layer, in a net whose layers are infinitely wide.

The maps from layer to layer stand in `variance` and `correlation`; here is what follows from where they settle: at which sigma_w2 a net is
critical, how fast the deltas vanish or explode otherwise, and over how many layers.  A net is critical where chi = 1 at the q that its
layers settle at: its deltas neither vanish nor explode.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import inf, isclose, log, log10

import numpy as np

from bpexp.core.activations import ACTIVATIONS, Activation
from bpexp.theory.correlation import correlation_fixed_point, correlation_map, correlation_slope, spread_factor
from bpexp.theory.gaussian import gaussian_mean, gaussian_mean_of_pair
from bpexp.theory.variance import LARGEST_Q, ROUNDING, NoFixedPointError, chi, fixed_point, kappa, mean_square, outputs, root, slopes, variance_map

__all__ = [
    "SOLVED",
    "CriticalPoint",
    "NoCriticalPointError",
    "NoFixedPointError",
    "Settled",
    "chi",
    "correlation_depth",
    "correlation_fixed_point",
    "correlation_map",
    "correlation_slope",
    "critical",
    "critical_line",
    "decades_per_layer",
    "fixed_point",
    "gaussian_mean",
    "gaussian_mean_of_pair",
    "gradient_depth",
    "kappa",
    "settled",
    "shifted_critical",
    "spread_factor",
    "tanh_of_sigmoid",
    "variance_map",
    "width_correction",
]

SMALL_Q = 1e-4  # near the limit q -> 0, but chi - 1, about q^2 there for an odd phi, is still more than roundings
CANDIDATES = 400  # q's among which a critical point is looked for
MARGIN = 1e-9  # slopes that exceed 1 by less count as 1


class NoCriticalPointError(ValueError):
    """No sigma_w2 makes chi = 1 at a variance of z that the layers keep."""


@dataclass(frozen=True)
class CriticalPoint:
    """The variance of the weights times the width, and the variance of z that it keeps."""

    sigma_w2: float
    q: float


@dataclass(frozen=True)
class Settled:
    """Where the layers of a net settle, and what follows.

    `q`, `chi` and `kappa` are those of the fixed point, `c` the correlation of two samples there and `slope` that of the correlation map at c.
    `gradient_depth` and `correlation_depth` are in layers, `decades_per_layer` is in powers of ten of ||delta||; vanishing is positive.
    """

    q: float
    chi: float
    kappa: float
    c: float
    slope: float
    gradient_depth: float
    correlation_depth: float
    decades_per_layer: float


@cache
def critical(phi: Activation, sigma_b2: float = 0.0) -> CriticalPoint:
    """The least sigma_w2 with an attracting fixed point q at which chi = 1 (Schoenholz et al. 2017, sec. 3); NoCriticalPointError if none has.

    Every q > sigma_b2 is a fixed point at sigma_w2 = (q - sigma_b2) / E[phi(z)^2], so chi - 1 at that sigma_w2 is a function of q whose
    zeros are looked for, up to 1e12.  They count where q near them goes there, i.e. where the slope of the variance map is below 1, or
    is 1 to nine digits: from one side, q then goes there too, if slowly.
    Without biases the limit q -> 0 of an activation with phi(0) = 0 counts as well: q = 0, and as q settles there the deltas are kept.
    Where phi(c z) = c phi(z) for all c > 0, every q is a fixed point without biases; q = 1 stands for them.
    """
    if _homogeneous(phi):
        if sigma_b2 > 0.0:
            raise _none(phi, sigma_b2, "where they neither vanish nor explode, the variance of z grows by sigma_b2 at every layer")
        return CriticalPoint(1.0 / chi(phi, 1.0, 1.0), q=1.0)
    points = _keeping_points(phi, sigma_b2)
    if not points:
        raise _none(phi, sigma_b2, "they vanish at every sigma_w2 at which the variance of z settles")
    attracting = [point for point in points if _attracts(phi, point, sigma_b2)]
    if not attracting:
        raise _none(phi, sigma_b2, "where they neither vanish nor explode, the variance of z does not settle")
    return min(attracting, key=lambda point: point.sigma_w2)


@cache
def shifted_critical(phi: Activation, sigma_b2: float = 0.0) -> CriticalPoint:
    """The critical point of a sigmoid net whose biases take the sigmoid's mean of 1/2 off again: b[j] = N(0, sigma_b2) - 1/2 sum_i W[i, j].

    sigmoid(z) = (1 + tanh(z/2))/2, so a layer with W = 4 W' and those biases has twice the z of a tanh layer with weights W' and biases
    N(0, sigma_b2/4): sigma_w2 = 16 sigma_w2' and q = 4 q' of tanh's critical point (derived).
    """
    if phi.name != "sigmoid":
        raise NoCriticalPointError(f"the shift makes up for the mean of activation=sigmoid alone, not of activation={phi.name}")
    tanh = critical(ACTIVATIONS["tanh"], sigma_b2 / 4.0)
    return CriticalPoint(16.0 * tanh.sigma_w2, 4.0 * tanh.q)


def critical_line(phi: Activation, sigma_b2: float) -> float | None:
    """The sigma_w2 of `critical`, or None where there is none: the border between the two phases in the plane of (sigma_w2, sigma_b2)."""
    try:
        return critical(phi, sigma_b2).sigma_w2
    except NoCriticalPointError:
        return None


def tanh_of_sigmoid(sigma_w2: float, sigma_b2: float) -> tuple[float, float]:
    """The sigma_w2 and sigma_b2 of the tanh net that a sigmoid net is: sigma_w2/16 and sigma_w2/16 + sigma_b2/4, with q/4 for its q (derived).

    With z = 2 z', sigmoid(z) = (1 + tanh z')/2, so z'[j] = sum_i W[i, j]/4 tanh z'[i] + (sum_i W[i, j]/4 + b[j]/2).
    """
    return sigma_w2 / 16.0, sigma_w2 / 16.0 + sigma_b2 / 4.0


def _none(phi: Activation, sigma_b2: float, reason: str) -> NoCriticalPointError:
    return NoCriticalPointError(f"no sigma_w2 keeps gradients with activation={phi.name} and sigma_b2={sigma_b2:g}: {reason}")


def _homogeneous(phi: Activation) -> bool:
    """Whether phi(c z) = c phi(z) for c > 0, so that E[phi(z)^2] is a multiple of q."""
    small, large = SMALL_Q, 1.0 / SMALL_Q
    return isclose(mean_square(phi, small) / small, mean_square(phi, large) / large, rel_tol=ROUNDING)


def _keeping_points(phi: Activation, sigma_b2: float) -> list[CriticalPoint]:
    """The fixed points, attracting or not, at which chi = 1."""

    def sigma_w2(q: float) -> float:
        return (q - sigma_b2) / mean_square(phi, q)

    def excess(q: float) -> float:
        return chi(phi, sigma_w2(q), q) - 1.0

    grid = [float(q) for q in np.geomspace(sigma_b2 or SMALL_Q, LARGEST_Q, CANDIDATES)]
    signs = [excess(q) > 0.0 for q in grid]
    roots = [root(excess, grid[i], grid[i + 1]) for i in range(len(grid) - 1) if signs[i] != signs[i + 1]]
    points = [CriticalPoint(sigma_w2(q), q) for q in roots]
    if sigma_b2 == 0.0 and mean_square(phi, 0.0) == 0.0:
        points.append(CriticalPoint(1.0 / chi(phi, 1.0, 0.0), q=0.0))
    return points


def _attracts(phi: Activation, point: CriticalPoint, sigma_b2: float) -> bool:
    """Whether q near the fixed point goes there: d variance_map/dq = sigma_w2 E[z phi phi']/q, which is positive, is 1 at most.

    As q -> 0 that slope nears 1 for every phi with phi(0) = 0, and what q does a little further out decides.
    """
    if point.q < SMALL_Q:
        return variance_map(phi, point.sigma_w2, sigma_b2, SMALL_Q) < SMALL_Q
    slope = point.sigma_w2 / point.q * gaussian_mean(lambda z: z * outputs(phi, z) * slopes(phi, z), point.q)
    return slope < 1.0 + MARGIN


def _depth(factor: float) -> float:
    """-1/ln factor: the layers in which a quantity that each multiplies by it falls to 1/e."""
    if abs(factor - 1.0) <= MARGIN:
        return inf
    return -1.0 / log(factor) if factor > 0.0 else 0.0


def gradient_depth(phi: Activation, sigma_w2: float, sigma_b2: float) -> float:
    """xi_grad = -1/ln chi at q*, in layers: ||delta||^2 falls to 1/e in so many (Schoenholz et al. 2017, sec. 4).

    inf at criticality; negative where chi > 1: there ||delta||^2 grows e-fold in -xi_grad layers.
    """
    return _depth(chi(phi, sigma_w2, fixed_point(phi, sigma_w2, sigma_b2)))


def correlation_depth(phi: Activation, sigma_w2: float, sigma_b2: float) -> float:
    """xi_c = -1/ln of `correlation_slope` at c*, in layers: the distance from c* falls to 1/e in so many (Schoenholz et al. 2017, sec. 3).

    c* attracts, so it is never negative; inf at criticality, and equal to xi_grad in the ordered phase, where c* = 1.
    """
    q, c = fixed_point(phi, sigma_w2, sigma_b2), correlation_fixed_point(phi, sigma_w2, sigma_b2)
    return _depth(correlation_slope(phi, sigma_w2, q, c))


def width_correction(kappa: float, width: float) -> float:
    """(3 kappa - 1)/(4 N ln 10): by how many more decades per layer the typical ||delta|| vanishes in layers of N neurons (derived).

    A layer multiplies ||delta||^2 by sigma_w2/N sum_i g_i^2 phi'(z_i)^2, g ~ N(0, 1).  That sum's variance over its squared mean is
    (3 kappa - 1)/N, so the mean of its logarithm lies half as much below the logarithm of its mean; to the first order in 1/N.
    """
    return (3.0 * kappa - 1.0) / (4.0 * width * log(10.0))


def _decades(chi_: float, kappa_: float, width: float | None) -> float:
    vanishing = -0.5 * log10(chi_) if chi_ > 0.0 else inf
    return vanishing if width is None else vanishing + width_correction(kappa_, width)


def decades_per_layer(phi: Activation, sigma_w2: float, sigma_b2: float, width: float | None = None) -> float:
    """-1/2 log10 chi at q*: the powers of ten by which ||delta|| vanishes per layer, with `width_correction` where a width is given.

    Negative where it explodes.  Raises NoFixedPointError where there is no q*.
    """
    q = fixed_point(phi, sigma_w2, sigma_b2)
    return _decades(chi(phi, sigma_w2, q), kappa(phi, q), width)


def settled(phi: Activation, sigma_w2: float, sigma_b2: float, width: float | None = None) -> Settled:
    """All of it for one net; NoFixedPointError where the variance of z grows without end."""
    q, c = fixed_point(phi, sigma_w2, sigma_b2), correlation_fixed_point(phi, sigma_w2, sigma_b2)
    chi_, kappa_, slope = chi(phi, sigma_w2, q), kappa(phi, q), correlation_slope(phi, sigma_w2, q, c)
    return Settled(q, chi_, kappa_, c, slope, _depth(chi_), _depth(slope), _decades(chi_, kappa_, width))


# What an initializer whose sigma_w2 is `solved` for asks: by its name, from the activation and sigma_b2.
SOLVED: dict[str, Callable[[Activation, float], CriticalPoint]] = {"critical": critical, "shifted_critical": shifted_critical}
