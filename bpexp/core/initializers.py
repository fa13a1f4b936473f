"""Initial weights: one function each, from a seeded generator to a matrix W of shape (n_in, n_out).

The keyword arguments of a function are the keys it takes from the configuration (`init.sigma_w2=4`).  All draw in float64 and
independently per layer; what the network trains in is rounded from that, so float32 and float64 start from the same weights.
"""

from collections.abc import Callable
from math import sqrt

import numpy as np
from numpy.random import Generator

from bpexp.core.arrays import Float64s

__all__ = ["INITIALIZERS"]


def _uniform(rng: Generator, n_in: int, n_out: int, variance: float) -> Float64s:
    """Uniform on ±sqrt(3 variance), which has that variance."""
    bound = sqrt(3.0 * variance)
    return rng.uniform(-bound, bound, (n_in, n_out))


def standard(rng: Generator, n_in: int, n_out: int) -> Float64s:
    """U(±1/sqrt(n_in)), variance 1/(3 n_in): the usual heuristic before 2010 (Glorot & Bengio 2010, eq. 1)."""
    return _uniform(rng, n_in, n_out, 1.0 / (3.0 * n_in))


def lecun(rng: Generator, n_in: int, n_out: int) -> Float64s:
    """N(0, 1/n_in): keeps the variance of z for a linear neuron (LeCun et al. 1998, eq. 16)."""
    return gaussian(rng, n_in, n_out, sigma_w2=1.0)


def xavier(rng: Generator, n_in: int, n_out: int) -> Float64s:
    """U(±sqrt(6/(n_in + n_out))), variance 2/(n_in + n_out) (Glorot & Bengio 2010, eq. 16)."""
    return _uniform(rng, n_in, n_out, 2.0 / (n_in + n_out))


def he(rng: Generator, n_in: int, n_out: int) -> Float64s:
    """N(0, 2/n_in): keeps the mean square of z through relu (He et al. 2015, eq. 10)."""
    return gaussian(rng, n_in, n_out, sigma_w2=2.0)


def gaussian(rng: Generator, n_in: int, n_out: int, sigma_w2: float = 1.0) -> Float64s:
    """N(0, sigma_w2/n_in), the ensemble of mean-field theory (Poole et al. 2016)."""
    return sqrt(sigma_w2 / n_in) * rng.standard_normal((n_in, n_out))


def orthogonal(rng: Generator, n_in: int, n_out: int, sigma_w2: float = 1.0) -> Float64s:
    """A random matrix with orthonormal rows or columns, uniform over all such (Saxe et al. 2014), on the scale of `gaussian`.

    The mean square of an entry is sigma_w2/n_in, so z has the same variance as under `gaussian`: Wᵀ W = sigma_w2 I where n_out <= n_in, else
    W Wᵀ = sigma_w2 n_out/n_in I.  The signs of R's diagonal make the QR factor uniformly distributed (Mezzadri 2007).
    """
    q, r = np.linalg.qr(rng.standard_normal((max(n_in, n_out), min(n_in, n_out))))
    q *= np.sign(np.diagonal(r))
    scale = sqrt(sigma_w2 * max(1.0, n_out / n_in))
    return np.asarray(scale * (q.T if n_in < n_out else q), dtype=np.float64)


INITIALIZERS: dict[str, Callable[..., Float64s]] = {function.__name__: function for function in (standard, lecun, xavier, he, gaussian, orthogonal)}
