"""Gradient descent on wide layers, one layer at a time: W_k <- W_k - rate_k a_{k-1}^T delta_k.

Where a layer has more weights than the processor's cache holds, a gradient that is stored, looked at and subtracted travels through memory
four times.  Here it has room for one layer at a time.  Where the batch is small beside the layer it is not stored at all: BLAS adds the
product to the weights, and its norm comes from products of samples, of which there are B^2 instead of n_in n_out.  With m = the mean of
a_{k-1} over samples, A = a_{k-1} - m (B, n_in) and s = the sum of the deltas, the product is m^T s + A^T delta_k, and

    ||a_{k-1}^T delta_k||^2 = ||m||^2 ||s||^2 + 2 sum over b of (A m^T)[b] (delta_k s^T)[b] + sum over b, c of (A A^T)[b, c] (delta_k delta_k^T)[b, c]

The mean has to be taken out because at a plateau all a_{k-1} are nearly the same and the deltas nearly add up to 0: of a sum of squares that is
a small part of its terms only their roundings would be left.
"""

from math import log2

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas

from bpexp.core.arrays import Array, Float64s, flat, log2_norm, log2_norms
from bpexp.core.descent import Method
from bpexp.core.network import Architecture, Gradients, Neurons, Parameters
from bpexp.core.norms import Norms, safe

__all__ = ["Layerwise", "wide"]

WIDE = 256  # neurons in every hidden layer: below, all layers' gradients fit the cache and are worked on at once
CANCELLED = 16  # times the sum of squares may be its terms': as many times their roundings are the sum's
ADDED = 16  # times as many neurons as samples make the product worth adding without looking at it


def wide(net: Architecture, method: Method) -> bool:
    """Whether a net's weights descend layer by layer: a matter of the run's own configuration, for it decides on the last bits."""
    plain = method.optimizer.name == "sgd" and not method.keys.get("weight_decay") and method.clip is None
    return plain and net.depth > 1 and min(net.sizes[1:-1]) >= WIDE


class Layerwise:
    """The weights' share of an update by plain gradient descent."""

    def __init__(self, net: Architecture, parameters: Parameters, neurons: Neurons, gradients: Gradients, squares: Array) -> None:
        """`squares` (depth, R) are those of the deltas' norms, as they are when they are needed."""
        self.squares = squares
        self.net, self.parameters, self.neurons, self.gradients = net, parameters, neurons, gradients
        batch = neurons.shape[1]
        self.room: dict[tuple[int, ...], Array] = {W.shape: np.empty(W.shape[1:], net.dtype) for W in parameters.W[1:]}
        self.added = [ADDED * batch <= min(net.sizes[k - 1 : k + 1]) for k in net.layers]
        self.bound: Float64s = np.exp2(log2_norms(parameters.W[1:]))  # (depth, R): no weight is larger
        self.limit = float(np.finfo(net.dtype).max) / 2

    def log2_grad(self) -> Float64s:
        """log2 of ||a_{k-1}^T delta_k||, (depth, R)."""
        runs = range(len(self.parameters.W[1]))
        return np.array([self._by_samples(k) if self.added[k - 1] else [log2_of(self._product(k, run)) for run in runs] for k in self.net.layers])

    def update(self, rate: Array, alive: NDArray[np.bool], *, norms: bool = False) -> Float64s | None:
        """`rate` (R, depth): the learning rate times 2**exponent.  With `norms`, what `log2_grad` would have said; NaN where a run is not alive."""
        found = np.full(self.bound.shape, np.nan) if norms else None
        for k in self.net.layers:
            self.descend(k, rate[:, k - 1], alive, found)
        return found

    def watched_update(self, rate: Array, alive: NDArray[np.bool]) -> tuple[Float64s, Float64s]:
        """The same with `norms`, and with log2 of the norms of what has been added to each layer's weights, (depth, R) each."""
        found, change = np.full((2, *self.bound.shape), np.nan)
        for k, W in enumerate(self.parameters.W[1:], start=1):
            before = W.copy()
            self.descend(k, rate[:, k - 1], alive, found)
            change[k - 1] = log2_norm(np.subtract(W, before, out=before))
        return found, change

    def descend(self, k: int, rate: Array, alive: NDArray[np.bool], log2_grad: Float64s | None) -> None:
        """One layer's update, with `rate` (R,); its share of `log2_grad` (depth, R), where that is wanted."""
        added = self.added[k - 1]
        if log2_grad is not None:
            log2_grad[k - 1] = self._by_samples(k) if added else np.where(alive, -np.inf, np.nan)
        for run in map(int, np.flatnonzero(alive)):
            if self._idle(k, run):
                continue
            W = self.parameters.W[k][run]
            if added:
                add_product(-rate[run], self.neurons.a[k - 1][run], self.gradients.delta[k][run], W)
                continue
            product = self._product(k, run)
            if log2_grad is not None:
                log2_grad[k - 1, run] = log2_of(product)
            np.multiply(product, rate[run], out=product)
            np.subtract(W, product, out=W)

    def _idle(self, k: int, run: int) -> bool:
        """Whether all deltas are 0 and all activations finite: such a layer would take the longest, for numbers near 0 are measured with care."""
        if self.squares[k - 1, run] != 0 or self.gradients.delta[k][run].any():
            return False
        row = flat(self.neurons.a[k - 1][run : run + 1])
        return bool(np.isfinite(np.vecdot(row, row))[0])

    def _product(self, k: int, run: int) -> Array:
        """a_{k-1}^T delta_k of one run, in the layer's room."""
        out = self.room[self.parameters.W[k].shape]
        return np.matmul(self.neurons.aT[k - 1][run], self.gradients.delta[k][run], out=out)

    def _by_samples(self, k: int) -> Float64s:
        """log2 of the product's norm, (R,), without the product where nothing is lost that way."""
        a, delta, ones = self.neurons.a[k - 1], self.gradients.delta[k], self.gradients.ones
        m, s = np.matmul(ones / a.dtype.type(a.shape[1]), a), np.add.reduce(delta, axis=1, keepdims=True, dtype=np.float64)
        A = a - m
        pairs = np.matmul(A, A.swapaxes(1, 2)) * np.matmul(delta, delta.swapaxes(1, 2))
        single = np.matmul(A, m.swapaxes(1, 2)) * np.matmul(delta, s.swapaxes(1, 2).astype(delta.dtype))
        common = np.vecdot(m, m, dtype=np.float64) * np.vecdot(s, s)
        terms = np.concatenate([common, 2 * single[:, :, 0], flat(pairs)], axis=1)
        squares, largest = terms.sum(axis=1), np.abs(terms).sum(axis=1)
        right = safe(squares, delta.dtype) & (largest <= CANCELLED * squares)
        found = np.full(len(squares), -np.inf)
        for run in range(len(squares)):
            if right[run]:
                found[run] = 0.5 * log2(squares[run])
            elif not self._idle(k, run):
                found[run] = log2_of(self._product(k, run))
        return found

    def broken(self, rate: Array, inputs: Norms, deltas: Norms) -> NDArray[np.bool] | None:
        """Which runs have a weight that is not finite; None where none can have one.

        No weight can have passed the norm of the first ones plus those of all updates.
        """
        inputs.measure()
        self.bound += rate.T * np.sqrt(inputs.squares, dtype=np.float64) * np.sqrt(deltas.squares, dtype=np.float64)
        if self.bound.max() < self.limit:  # false for NaN too
            return None
        self.bound = np.exp2(log2_norms(self.parameters.W[1:]))
        return np.asarray(~np.isfinite(self.bound).all(axis=0))


def log2_of(x: Array) -> float:
    """log2 of the norm of one run's array."""
    row = x.reshape(-1)
    square = np.vecdot(row, row)
    return 0.5 * log2(square) if safe(square) else float(log2_norm(x[None])[0])


def add_product(scale: np.floating, a: Array, delta: Array, W: Array) -> None:
    """W <- W + scale a^T delta, in place; BLAS's matrices are ours transposed."""
    if len(a) == 1:
        blas.get_blas_funcs("ger", (W,))(scale, delta[0], a[0], a=W.T, overwrite_a=True)
        return
    (left, turn_left), (right, turn_right) = ((x, False) if x.flags.f_contiguous else (x.T, True) for x in (delta, a))
    blas.get_blas_funcs("gemm", (W,))(scale, left, right, 1.0, W.T, not turn_left, turn_right, overwrite_c=True)
