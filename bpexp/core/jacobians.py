r"""The Jacobian J_k = da_k/dx of a plain net, of single samples: its squared singular values and their spectrum.

Row vectors: J_k[i, j] = da_k[j]/dx[i], shape (n_0, n_k), so

    J_k = J_{k-1} W_k diag(phi_k'(z_k))        J_0 = 1

and where phi_k is softmax, diag(phi') is diag(a) - a^T a.  Everything is float64, at the z_k and W_k that the step had in its own dtype.  After each
layer J is brought near 1 by a power of two per sample, which is noted: a hundred layers of sigmoids leave the range of any dtype.

With m = min(n_0, n_k) singular values s_i, G the smaller of J J^T and J^T J (m, m), and mu = ||J||^2 / m their mean square,

    mean of s_i^2 = mu        variance of s_i^2 over mu^2 = ||G - mu||^2 / (m mu^2)

which subtracts before it squares, so that the variance of equal singular values is 0 to rounding.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bpexp.core.activations import Activation
from bpexp.core.arrays import LOG10_OF_2, Array, Float64s, Ints, log2_norm, log2_rms, pull_into_range
from bpexp.core.network import Architecture, Neurons, Parameters

__all__ = ["SAMPLES", "SPECTRUM", "Jacobians", "spectrum_shapes"]

SPECTRUM = "spectrum"  # among the probes that are chosen by name, one that is not a number per layer
SAMPLES = 4  # the first ones of the batch, of which Jacobians are looked at


@dataclass(frozen=True)
class Jacobians:
    """Those of the batch's first samples at one step, run by run: made when they are asked for."""

    net: Architecture
    parameters: Parameters
    neurons: Neurons

    def of(self, run: int) -> Iterator[tuple[int, Float64s, Ints]]:
        """Layer by layer k, J (samples, n_0, n_k) and exponent (samples,): J_k = J * 2**exponent."""
        count = min(SAMPLES, self.neurons.shape[1])
        J: Float64s = np.eye(self.net.sizes[0])[None]
        exponent: Ints = np.zeros(count, np.int64)
        for k in self.net.layers:
            z: Float64s = np.array(self.neurons.z[k][run, :count], np.float64, order="C")
            J = _activated(self.net.phi(k), z, np.matmul(J, self.parameters.W[k][run].astype(np.float64)))
            exponent = exponent + pull_into_range(J)
            yield k, J, exponent

    @cached_property
    def squares(self) -> tuple[Float64s, Float64s]:
        """log2 of the mean of the squared singular values, and their relative variance, (depth, R) each, averaged over samples."""
        runs = self.neurons.shape[0]
        mean, variance = np.empty((2, self.net.depth, runs))
        for run in range(runs):
            for k, J, exponent in self.of(run):
                m = min(J.shape[1:])
                mean[k - 1, run] = 2.0 * log2_rms(log2_norm(J, exponent) - 0.5 * np.log2(m))
                variance[k - 1, run] = _relative_variance(J, m).mean()
        return mean, variance

    def spectra(self, run: int) -> dict[int, Float64s]:
        """log10 of the singular values of J to the last hidden layer and to the output layer, (samples, min(n_0, n_k)), the largest first.

        The errors are those of an SVD in float64: about 1e-16 of the largest one, so what is smaller than that is only known to be.
        """
        found = {}
        for k, J, exponent in self.of(run):
            if k in _last(self.net):
                finite = bool(np.isfinite(J).all())
                values = np.linalg.svd(J, compute_uv=False) if finite else np.full((len(J), min(J.shape[1:])), np.nan)
                with np.errstate(divide="ignore"):
                    found[k] = np.log10(values) + LOG10_OF_2 * exponent[:, None]
        return found


def spectrum_shapes(net: Architecture, batch: int) -> dict[int, tuple[int, int]]:
    """By layer, how many samples have a spectrum, and of how many singular values."""
    return {k: (min(SAMPLES, batch), min(net.sizes[0], net.sizes[k])) for k in _last(net)}


def _last(net: Architecture) -> range:
    """The last hidden layer, where there is one, and the output layer."""
    return net.layers[-2:]


def _activated(phi: Activation, z: Float64s, J: Float64s) -> Float64s:
    """J times the derivative of phi at z (samples, n)."""
    a = np.empty_like(z)
    phi.function(z, a)
    if not phi.elementwise:  # softmax: da_j/dz_i = a_j (1 if i is j else 0) - a_i a_j
        return np.asarray((J - np.matmul(J, a[:, :, None])) * a[:, None, :])
    slope = np.empty_like(z)
    phi.derivative(z, a, slope)
    return np.asarray(J * slope[:, None, :])


def _relative_variance(J: Array, m: int) -> Float64s:
    """Of the squared singular values of each sample's J, (samples,); NaN where it is 0."""
    turned = J.swapaxes(1, 2)
    gram = np.matmul(J, turned) if J.shape[1] == m else np.matmul(turned, J)
    mu = gram.trace(axis1=1, axis2=2) / m
    gram -= mu[:, None, None] * np.eye(m)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.square(gram).reshape(len(J), -1).sum(axis=1) / (m * np.square(mu)))
