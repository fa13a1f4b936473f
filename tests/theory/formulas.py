"""What the theory is compared with: every activation written again, one number at a time, and means by SciPy's adaptive quadrature."""

from collections.abc import Callable
from itertools import pairwise
from math import exp, expm1, log1p, pi, sqrt

from scipy.integrate import quad
from scipy.special import erf, expit, ndtr

from bpexp.core.activations import ACTIVATIONS

Scalar = Callable[[float], float]

HIDDEN = [name for name, row in ACTIVATIONS.items() if row.elementwise]
LAMBDA, LAMBDA_ALPHA = 1.0507009873554805, 1.0507009873554805 * 1.6732632423543772


def logistic_slope(z: float) -> float:
    return float(expit(z) * expit(-z))


# phi and phi' of one number, in forms that no tail overflows.
FORMULAS: dict[str, tuple[Scalar, Scalar]] = {
    "sigmoid": (expit, logistic_slope),
    "tanh": (lambda z: 2 * expit(2 * z) - 1, lambda z: 4 * logistic_slope(2 * z)),
    "scaled_tanh": (lambda z: 1.7159 * (2 * expit(4 * z / 3) - 1), lambda z: 1.7159 * 8 / 3 * logistic_slope(4 * z / 3)),
    "relu": (lambda z: max(z, 0.0), lambda z: float(z > 0)),
    "leaky_relu": (lambda z: max(z, 0.01 * z), lambda z: 1.0 if z > 0 else 0.01),
    "elu": (lambda z: z if z > 0 else expm1(z), lambda z: 1.0 if z > 0 else exp(z)),
    "selu": (lambda z: LAMBDA * z if z > 0 else LAMBDA_ALPHA * expm1(z), lambda z: LAMBDA if z > 0 else LAMBDA_ALPHA * exp(z)),
    "gelu": (lambda z: z * ndtr(z), lambda z: ndtr(z) + z * exp(-z * z / 2) / sqrt(2 * pi)),
    "silu": (lambda z: z * expit(z), lambda z: expit(z) + z * logistic_slope(z)),
    "softplus": (lambda z: max(z, 0.0) + log1p(exp(-abs(z))), expit),
    "linear": (lambda z: z, lambda _z: 1.0),
    "erf": (erf, lambda z: 2 / sqrt(pi) * exp(-z * z)),
}


def mean_by_quad(f: Scalar, q: float) -> float:
    """E[f(z)], z ~ N(0, q), over intervals that end at 0 and about where an activation changes."""
    sigma = sqrt(q)
    edges = [0.0, *(x for x in (0.3, 1.0, 3.0, 10.0, 40.0) if x < 3 * sigma), 3 * sigma, 6 * sigma, 12 * sigma]

    def integrand(z: float) -> float:
        return f(z) * exp(-z * z / (2 * q)) / (sigma * sqrt(2 * pi))

    pieces = [(sign * a, sign * b) for a, b in pairwise(edges) for sign in (-1, 1)]
    return float(sum(abs(quad(integrand, a, b, epsabs=0.0, epsrel=1e-10, limit=200)[0]) for a, b in pieces))


def mean_of_pair_by_quad(f: Scalar, g: Scalar, q: float, c: float) -> float:
    """E[f(u1) g(u2)], as an integral over u1 of f times the mean of g(u2) given u1: N(c u1, (1 - c²) q), cut at 0 as well."""
    sigma, rest = sqrt(q), sqrt(q * (1 - c) * (1 + c))

    def given(u1: float) -> float:
        edges = sorted({c * u1 + x * rest for x in (-9, -3, 0, 3, 9)} | {x for x in (-3.0, -1.0, 0.0, 1.0, 3.0) if abs(x - c * u1) < 9 * rest})
        return sum(
            quad(lambda u2: g(u2) * exp(-(((u2 - c * u1) / rest) ** 2) / 2), a, b, epsabs=1e-11 * rest, epsrel=1e-10)[0] for a, b in pairwise(edges)
        ) / (rest * sqrt(2 * pi))

    edges = sorted({x * sigma for x in (-8, -3, 3, 8)} | {x * rest for x in (-3, 3)} | {0.0, *(x for x in (-1.0, 1.0) if sigma > 1)})
    total = sum(quad(lambda u1: f(u1) * given(u1) * exp(-u1 * u1 / (2 * q)), a, b, epsabs=1e-11 * sigma, epsrel=1e-9)[0] for a, b in pairwise(edges))
    return float(total / (sigma * sqrt(2 * pi)))
