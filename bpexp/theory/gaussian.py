"""Means over Gaussian z, by quadrature: of one z, and of two correlated ones.

Every panel ends where an activation may have its kink, at 0, and panels are the smaller the nearer to it they lie: a feature of phi of
width 1 is met by panels of its own width however large the variance of z is.
"""

from collections.abc import Callable
from functools import cache
from math import atan2, ceil, log2, pi, sqrt

import numpy as np

from bpexp.core.arrays import Float64s
from bpexp.theory.arguments import check

__all__ = ["gaussian_mean", "gaussian_mean_of_pair", "gaussian_spread"]

# Each side of 0 is cut at 10, 5, 2.5, …: a kink at 0 falls between two panels, and a feature of z of any width from 1e-7 on is met by
# panels of its own width.  Beyond 10 lies 1e-20 of any mean of ours.
EDGES = [0.0, *(10.0 * 2.0**-k for k in range(27, -1, -1))]
NODES_PER_PANEL = 20
LEAST_SCALE = 1e-290  # of z: still a normal number, but its square is 0
HALVINGS = (4, 27)  # of the panels of a pair, least and most: for q up to 1, and for q = 1e12

Means = tuple[Float64s, Float64s]  # nodes and weights


def _panels(edges: list[float]) -> Means:
    """Gauss-Legendre on every panel between two edges."""
    x, w = np.polynomial.legendre.leggauss(NODES_PER_PANEL)
    left, right = np.array(edges[:-1])[:, None], np.array(edges[1:])[:, None]
    return ((left + right + (right - left) * x) / 2.0).ravel(), ((right - left) * w / 2.0).ravel()


def _quadrature() -> Means:
    """Nodes and weights of E[f(z)], z ~ N(0, 1)."""
    z, weights = _panels(EDGES)
    weights = weights * np.exp(-z * z / 2.0) / sqrt(2.0 * pi)
    return np.concatenate([-z, z]), np.concatenate([weights, weights])


Z, WEIGHTS = _quadrature()


def gaussian_mean(f: Callable[[Float64s], Float64s], q: float) -> float:
    """E[f(z)], z ~ N(0, q): to 1e-10 of E|f| for q <= 1e12 and an f that is smooth on either side of 0, on scales not far below 1.

    At q = 0 it is the limit q -> 0, where either side of a kink at 0 counts half.
    """
    return float(WEIGHTS @ f(max(sqrt(q), LEAST_SCALE) * Z))


def gaussian_mean_of_pair(f: Callable[[Float64s], Float64s], g: Callable[[Float64s], Float64s], q: float, c: float) -> float:
    """E[f(u1) g(u2)], u1 and u2 ~ N(0, q) with correlation c in [-1, 1]: to 1e-9 of E|f g| under the conditions of `gaussian_mean`."""
    check(-1.0 <= c <= 1.0, "c", c, "a correlation: from -1 to 1")
    return _mean_over_plane(lambda u1, u2: f(u1) * g(u2), q, 1.0 - c)


def gaussian_spread(f: Callable[[Float64s], Float64s], q: float, distance: float) -> float:
    """1/2 E[(f(u1) - f(u2))²], u1 and u2 ~ N(0, q) with correlation 1 - distance: E[f²] - E[f(u1) f(u2)], but as a mean of squares.

    So it keeps its digits where the two are nearly alike: the relative error is about that of f, 1e-16, times |f| over |f(u1) - f(u2)|.
    """
    check(0.0 <= distance <= 2.0, "distance", distance, "1 minus a correlation: from 0 to 2")
    return _mean_over_plane(lambda u1, u2: 0.5 * (f(u1) - f(u2)) ** 2, q, distance)


@cache
def _graded(end: float, halvings: int) -> Means:
    """Panels on (0, end) that halve towards 0."""
    return _panels([0.0, *(end * 2.0**-k for k in range(halvings, -1, -1))])


def _mean_over_plane(h: Callable[[Float64s, Float64s], Float64s], q: float, distance: float) -> float:
    """E[h(u1, u2)], u1 and u2 ~ N(0, q) with correlation cos(alpha) = 1 - distance, in polar coordinates of two independent z.

    u1 = sqrt(q) r sin(s), u2 = sqrt(q) r sin(t): both vanish on straight lines through the origin, however near to each other those lie, and
    the four sectors between the lines hold no kink.  s + t is pi - alpha where the signs are alike; with u2 = -sqrt(q) r sin(t) it is alpha
    in the other two.  A sector is cut in the middle, and each half is measured from its own edge, so no sine loses digits.
    """
    scale = max(sqrt(q), LEAST_SCALE)
    halvings = min(max(ceil(log2(10.0 * scale)), HALVINGS[0]), HALVINGS[1])
    r, radial = _graded(10.0, halvings)
    radial = radial * r * np.exp(-r * r / 2.0)
    unit, part = _graded(1.0, halvings)
    total = 0.0
    alike, opposite = sqrt(1.0 - distance / 2.0), sqrt(distance / 2.0)  # cos and sin of alpha/2
    for width, sign in ((2.0 * atan2(alike, opposite), 1.0), (2.0 * atan2(opposite, alike), -1.0)):
        angles, weights = width / 2.0 * unit, width / 2.0 * part
        near, far = (scale * np.multiply.outer(np.sin(x), r) for x in (angles, width - angles))
        for u1, u2 in ((near, sign * far), (far, sign * near)):
            total += float(weights @ (h(u1, u2) + h(-u1, -u2)) @ radial)
    return total / (2.0 * pi)
