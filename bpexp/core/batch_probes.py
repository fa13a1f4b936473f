"""Probes that are chosen by name: what the samples of a batch do to a layer, each by itself and together, before the update.

A sample's own loss is L_s, the batch's is their mean over the B samples; the step's delta_k = dL/dz_k has a row dL_s/dz_k / B per sample.  (Under
batch norm, which ties the samples together, it is dL/dz_{k,s}: how all losses depend on what that one sample has there.)  All sums are
taken in float64, run by run, of the numbers that the step had in its own dtype.
"""

from math import log2

import numpy as np

from bpexp.core.arrays import LOG10_OF_2, Array, Float64s, log2_norm, log2_rms
from bpexp.core.moments import Before

__all__ = ["c", "grad_cosine", "jacobian_mean", "jacobian_variance", "mean_delta_norm", "q", "sample_delta_norm", "sample_grad_norm", "spread"]


def sample_delta_norm(now: Before, k: int) -> Float64s:
    """Root mean square over samples of ||dL_s/dz_k||, L_s the sample's own loss: sqrt(B) times `delta_norm`."""
    return LOG10_OF_2 * (log2_norm(now.delta[k], now.exponent[:, k]) + 0.5 * log2(_batch(now)))


def sample_grad_norm(now: Before, k: int) -> Float64s:
    """Root mean square over samples of ||dL_s/dW_k|| = ||a_{k-1}|| ||dL_s/dz_k||: no sample's gradient cancels another's."""
    samples = _log2_rows(now.neurons.a[k - 1]) + _log2_rows(now.delta[k])
    return LOG10_OF_2 * (log2_rms(samples) + now.exponent[:, k] + log2(_batch(now)))


def mean_delta_norm(now: Before, k: int) -> Float64s:
    """||mean over samples of dL_s/dz_k||, the gradient of the biases: the speed of learning of Nielsen 2015, chapter 5."""
    return LOG10_OF_2 * log2_norm(_widened(now.delta[k]).sum(axis=1), now.exponent[:, k])


def q(now: Before, k: int) -> Float64s:
    """Mean of z_k^2 over samples and neurons (Poole et al. 2016, eq. 2)."""
    z = now.neurons.z[k]
    return np.asarray(np.exp2(2.0 * log2_norm(z) - log2(z[0].size)))


def c(now: Before, k: int) -> Float64s:
    """Mean over pairs of different samples of (z . z') / n_k, over q: the correlation that the c-map iterates (Poole et al. 2016, eq. 5).

    That map is of one q for all samples, as deep layers have it; where they differ, this is the pairs' mean with the weight sqrt(q q') of each.
    With D and S the sums of ||z_s - mean z||^2 and of ||z_s||^2 it is 1 - D / S B / (B - 1), where nothing cancels as c nears 1.
    NaN for one sample, and where all z are 0.
    """
    z, batch = now.neurons.z[k], _batch(now)
    if batch == 1:
        return np.full(len(z), np.nan)
    with np.errstate(invalid="ignore"):
        return np.asarray(1.0 - batch / (batch - 1) * np.exp2(2.0 * (log2_norm(_deviations(z)) - log2_norm(z))))


def spread(now: Before, k: int) -> Float64s:
    """Root mean square over samples of ||a_k - mean over samples of a_k|| / sqrt(n_k): how far the net tells its inputs apart.

    log10 -inf where all samples have the very same activations; NaN for one sample.
    """
    a = now.neurons.a[k]
    if _batch(now) == 1:
        return np.full(len(a), np.nan)
    return LOG10_OF_2 * (log2_norm(_deviations(a)) - 0.5 * log2(a[0].size))


def jacobian_mean(now: Before, k: int) -> Float64s:
    """Mean of the squared singular values of J_k = da_k/dx, over the min(n_0, n_k) of them and the first samples (`bpexp.core.jacobians`)."""
    return np.asarray(LOG10_OF_2 * now.jacobians.squares[0][k - 1])


def jacobian_variance(now: Before, k: int) -> Float64s:
    """Variance of the squared singular values of J_k over their squared mean, averaged over the first samples; NaN where a J_k is 0.

    Pennington, Schoenholz & Ganguli 2017, eq. 14.
    """
    return np.asarray(now.jacobians.squares[1][k - 1])


def grad_cosine(now: Before, k: int) -> Float64s:
    """Cosine between dL/dW_k of this step and of the one before it, each with its own batch and weights; NaN at step 0, or where one is 0."""
    found: Float64s = np.full(len(now.delta[k]), np.nan)
    if now.previous is None:
        return found
    for run in range(len(found)):
        here = _direction(now.neurons.a[k - 1][run], now.delta[k][run])
        there = _direction(now.previous.a[k - 1][run], now.previous.delta[k][run])
        found[run] = np.clip(np.dot(here, there), -1.0, 1.0)
    return found


def _batch(now: Before) -> int:
    return now.neurons.shape[1]


def _widened(x: Array) -> Float64s:
    """A copy in float64, sample by sample in memory."""
    return np.array(x, np.float64, order="C")


def _log2_rows(x: Array) -> Float64s:
    """log2 of the norm of each sample's row, (R, B), each scaled by itself."""
    rows = _widened(x)
    return log2_norm(rows.reshape(-1, rows.shape[-1])).reshape(rows.shape[:2])


def _deviations(x: Array) -> Float64s:
    """Each sample's row minus their mean; exactly 0 where they are equal, because the first one is taken off before."""
    rows = _widened(x)
    rows -= rows[:, :1].copy()
    rows -= rows.mean(axis=1, keepdims=True)
    return rows


def _direction(a: Array, delta: Array) -> Float64s:
    """a^T delta of one run, as a row of norm 1; NaN where it is 0."""
    row = _near_one(np.matmul(_near_one(a).T, _near_one(delta))).reshape(-1)
    with np.errstate(invalid="ignore"):
        return np.divide(row, np.sqrt(np.dot(row, row)), out=row)


def _near_one(x: Array) -> Float64s:
    """In float64, the largest entry brought near 1 by a power of two."""
    rows = _widened(x)
    _, exponent = np.frexp(np.abs(rows).max())
    return np.asarray(np.ldexp(rows, -exponent, out=rows))
