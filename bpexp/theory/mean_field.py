"""Mean-field theory: the size of z and of the deltas, layer by layer, in a net whose layers are infinitely wide.

With W ~ N(0, sigma_w2/N), b ~ N(0, sigma_b2) and N -> infinity, the z of a layer are N(0, q), and from one layer to the next
q -> sigma_w2 E[phi(z)^2] + sigma_b2, while ||delta||^2 is multiplied by chi = sigma_w2 E[phi'(z)^2] (Poole et al. 2016, eq. 3;
Schoenholz et al. 2017, eq. 5).  q is the variance of one z, in the units of z squared.  A net is critical where chi = 1 at the q that
its layers settle at: its deltas neither vanish nor explode.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import isclose, pi, sqrt

import numpy as np

from bpexp.core.activations import ACTIVATIONS, Activation
from bpexp.core.arrays import Float64s

__all__ = [
    "SOLVED",
    "CriticalPoint",
    "NoCriticalPointError",
    "NoFixedPointError",
    "chi",
    "critical",
    "fixed_point",
    "gaussian_mean",
    "kappa",
    "shifted_critical",
    "variance_map",
]

# Each side of 0 is cut at 10, 5, 2.5, …: a kink at 0 falls between two panels, and a feature of z of any width from 1e-7 on is met by
# panels of its own width.  Beyond 10 lies 1e-20 of any mean of ours.
EDGES = [0.0, *(10.0 * 2.0**-k for k in range(27, -1, -1))]
NODES_PER_PANEL = 20
LEAST_SCALE = 1e-290  # of z: still a normal number, but its square is 0

LEAST_Q, LARGEST_Q = 1e-12, 1e12  # a fixed point beyond them counts as 0, and as none
STEP = 1.05  # from one q to the next where a fixed point is looked for
SMALL_Q = 1e-4  # near the limit q -> 0, but chi - 1, about q^2 there for an odd phi, is still more than roundings
CANDIDATES = 400  # q's among which a critical point is looked for
ROUNDING = 1e-12  # relative differences below it count as none
MARGIN = 1e-9  # slopes that exceed 1 by less count as 1


class NoFixedPointError(ValueError):
    """The variance of z grows from layer to layer without end."""


class NoCriticalPointError(ValueError):
    """No sigma_w2 makes chi = 1 at a variance of z that the layers keep."""


@dataclass(frozen=True)
class CriticalPoint:
    """The variance of the weights times the width, and the variance of z that it keeps."""

    sigma_w2: float
    q: float


def _quadrature() -> tuple[Float64s, Float64s]:
    """Nodes and weights of E[f(z)], z ~ N(0, 1): Gauss-Legendre on every panel."""
    x, w = np.polynomial.legendre.leggauss(NODES_PER_PANEL)
    left, right = np.array(EDGES[:-1])[:, None], np.array(EDGES[1:])[:, None]
    z = ((left + right + (right - left) * x) / 2.0).ravel()
    weights = ((right - left) * w / 2.0).ravel() * np.exp(-z * z / 2.0) / sqrt(2.0 * pi)
    return np.concatenate([-z, z]), np.concatenate([weights, weights])


Z, WEIGHTS = _quadrature()


def gaussian_mean(f: Callable[[Float64s], Float64s], q: float) -> float:
    """E[f(z)], z ~ N(0, q): to 1e-10 of E|f| for q <= 1e12 and an f that is smooth on either side of 0, on scales not far below 1.

    At q = 0 it is the limit q -> 0, where either side of a kink at 0 counts half.
    """
    return float(WEIGHTS @ f(max(sqrt(q), LEAST_SCALE) * Z))


def _outputs(phi: Activation, z: Float64s) -> Float64s:
    out = np.empty_like(z)
    phi.function(z, out)
    return out


def _slopes(phi: Activation, z: Float64s) -> Float64s:
    out = np.empty_like(z)
    phi.derivative(z, _outputs(phi, z), out)
    return out


def _mean_square(phi: Activation, q: float) -> float:
    """E[phi(z)^2]."""
    return gaussian_mean(lambda z: _outputs(phi, z) ** 2, q)


def variance_map(phi: Activation, sigma_w2: float, sigma_b2: float, q: float) -> float:
    """sigma_w2 E[phi(z)^2] + sigma_b2: the q of the next layer (Poole et al. 2016, eq. 3)."""
    return sigma_w2 * _mean_square(phi, q) + sigma_b2


def chi(phi: Activation, sigma_w2: float, q: float) -> float:
    """sigma_w2 E[phi'(z)^2], by which a layer multiplies ||delta||^2 (Schoenholz et al. 2017, eq. 5)."""
    return sigma_w2 * gaussian_mean(lambda z: _slopes(phi, z) ** 2, q)


def kappa(phi: Activation, q: float) -> float:
    """E[phi'(z)^4] / E[phi'(z)^2]^2: 1 where all slopes are alike, more the fewer neurons pass the deltas on."""
    return gaussian_mean(lambda z: _slopes(phi, z) ** 4, q) / chi(phi, 1.0, q) ** 2


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
            return _root(growth, q, q * step)
        q *= step
    if grows:
        raise NoFixedPointError(f"the variance of z grows without end with activation={phi.name}, sigma_w2={sigma_w2:g} and sigma_b2={sigma_b2:g}")
    return 0.0


def _root(f: Callable[[float], float], start: float, end: float) -> float:
    """The q between two of opposite signs of f where f(q) = 0, to 14 digits."""
    from scipy.optimize import brentq  # a seventh of a second, which only who solves pays for

    return float(brentq(f, start, end, xtol=1e-14 * min(start, end), rtol=1e-14))


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


def _none(phi: Activation, sigma_b2: float, reason: str) -> NoCriticalPointError:
    return NoCriticalPointError(f"no sigma_w2 keeps gradients with activation={phi.name} and sigma_b2={sigma_b2:g}: {reason}")


def _homogeneous(phi: Activation) -> bool:
    """Whether phi(c z) = c phi(z) for c > 0, so that E[phi(z)^2] is a multiple of q."""
    small, large = SMALL_Q, 1.0 / SMALL_Q
    return isclose(_mean_square(phi, small) / small, _mean_square(phi, large) / large, rel_tol=ROUNDING)


def _keeping_points(phi: Activation, sigma_b2: float) -> list[CriticalPoint]:
    """The fixed points, attracting or not, at which chi = 1."""

    def sigma_w2(q: float) -> float:
        return (q - sigma_b2) / _mean_square(phi, q)

    def excess(q: float) -> float:
        return chi(phi, sigma_w2(q), q) - 1.0

    grid = [float(q) for q in np.geomspace(sigma_b2 or SMALL_Q, LARGEST_Q, CANDIDATES)]
    signs = [excess(q) > 0.0 for q in grid]
    roots = [_root(excess, grid[i], grid[i + 1]) for i in range(len(grid) - 1) if signs[i] != signs[i + 1]]
    points = [CriticalPoint(sigma_w2(q), q) for q in roots]
    if sigma_b2 == 0.0 and _mean_square(phi, 0.0) == 0.0:
        points.append(CriticalPoint(1.0 / chi(phi, 1.0, 0.0), q=0.0))
    return points


def _attracts(phi: Activation, point: CriticalPoint, sigma_b2: float) -> bool:
    """Whether q near the fixed point goes there: d variance_map/dq = sigma_w2 E[z phi phi']/q, which is positive, is 1 at most.

    As q -> 0 that slope nears 1 for every phi with phi(0) = 0, and what q does a little further out decides.
    """
    if point.q < SMALL_Q:
        return variance_map(phi, point.sigma_w2, sigma_b2, SMALL_Q) < SMALL_Q
    slope = point.sigma_w2 / point.q * gaussian_mean(lambda z: z * _outputs(phi, z) * _slopes(phi, z), point.q)
    return slope < 1.0 + MARGIN


# What an initializer whose sigma_w2 is `solved` for asks: by its name, from the activation and sigma_b2.
SOLVED: dict[str, Callable[[Activation, float], CriticalPoint]] = {"critical": critical, "shifted_critical": shifted_critical}
