"""A training step of a small plain net in three compiled functions: `engine=numba`, for those who have installed `bpexp[fast]`.

The definition is that of `bpexp.core.network`, and NumPy is the reference.  In a net of narrow layers with a sample or a few, nearly all of
NumPy's time goes into reaching its functions; here the loops over runs, layers, samples and neurons are machine code.  Sums are taken in another
order and tanh is a ratio of polynomials, so the numbers differ in their last bits: `engine` is a key, and part of a run's fingerprint.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bpexp.core import kernels
from bpexp.core.arrays import Array, Float64s, Ints, flat, log2_norm
from bpexp.core.descent import Method
from bpexp.core.engines import CODES
from bpexp.core.losses import Loss
from bpexp.core.network import Architecture, Parameters
from bpexp.core.norms import safe
from bpexp.core.step import Step

__all__ = ["CompiledStep"]


class CompiledStep(Step):
    """`Step` with its three parts compiled, for a net and a method that `bpexp.core.engines` allows."""

    def __init__(self, net: Architecture, loss: Loss, method: Method, batch: int, parameters: Parameters, lr: Float64s) -> None:
        super().__init__(net, loss, method, batch, parameters, lr)
        runs = len(lr)
        self.lr, self.method = lr, method
        layers = [self.neurons.a, self.gradients.delta, parameters.W, parameters.b]
        self.table: Ints = np.zeros((len(layers), runs, net.depth + 1), np.int64)
        for addresses, arrays in zip(self.table, layers, strict=True):
            for k, array in enumerate(arrays):
                addresses[:, k] = [array[run].__array_interface__["data"][0] for run in range(len(array))] or 0
        sizes = np.array(net.sizes)
        self.shape = self.table, sizes, batch
        self.codes: Ints = np.array([CODES.index(phi.name) for phi in (net.activation, net.output)])
        self.wanted = self.targets.swapaxes(1, 2)  # (R, outputs, B), as all arrays of neurons lie in memory
        self.room: Array = np.empty(int((sizes[1:] * sizes[:-1]).max()), net.dtype)
        self.delta_squares, self.grad_squares, self.bound = np.empty((3, net.depth, runs))
        self.bound[:] = np.inf  # of the first update: nothing is known yet
        self.largest = np.inf
        self.limit = float(np.finfo(net.dtype).max) / 4
        self.still = np.zeros(runs, bool)

    def forward(self) -> None:
        kernels.forward(*self.shape, self.codes, self.wanted, self.value)

    def backward(self, alive: NDArray[np.bool]) -> None:  # noqa: ARG002 (a run that is not costs no more than one that is)
        kernels.backward(*self.shape, self.codes, self.room, self.gradients.exponent, self.delta_squares)

    def update(self, step: int, alive: NDArray[np.bool], *, norms: bool = False) -> Float64s | None:
        lr = self.lr * self.method.factor(step)
        arrays = self.gradients.exponent, alive, self.room, self.delta_squares, self.grad_squares, self.bound
        self.largest = kernels.update(*self.shape, lr, *arrays)
        return self._log2_grad() if norms else None

    def descend(self, step: int, alive: NDArray[np.bool], *, norms: bool = False) -> Float64s | None:
        self.backward(alive)
        return self.update(step, alive, norms=norms)

    def watched_update(self, step: int, alive: NDArray[np.bool]) -> tuple[Float64s, Float64s]:
        found, before = self.log2_grad(), [W.copy() for W in self.parameters.W[1:]]
        self.update(step, alive)
        return found, np.array([log2_norm(np.subtract(W, old, out=old)) for W, old in zip(self.parameters.W[1:], before, strict=True)])

    def log2_delta(self) -> Float64s:
        return self._log2(self.delta_squares, lambda k: self.gradients.delta[k]) + self.gradients.exponent[:, 1:].T

    def log2_grad(self) -> Float64s:
        self.update(0, self.still)
        return self._log2_grad()

    def _log2_grad(self) -> Float64s:
        if self.targets.shape[1] == 1:
            return self._log2(self.grad_squares, lambda k: self.neurons.a[k - 1]) + self.log2_delta()
        return self._log2(self.grad_squares, self._product) + self.gradients.exponent[:, 1:].T

    def _product(self, k: int) -> Array:
        return np.asarray(np.matmul(self.neurons.aT[k - 1], self.gradients.delta[k]))

    def _log2(self, squares: Float64s, explicit: Callable[[int], Array]) -> Float64s:
        """log2 of the norms whose squares these are, or with care where they lie too near the ends of the dtype's range."""
        right = safe(squares, self.room.dtype)
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Float64s = 0.5 * np.log2(squares)
        for layer in map(int, np.flatnonzero(~right.all(axis=1))):
            found[layer] = np.where(right[layer], found[layer], log2_norm(explicit(layer + 1)))
        return found

    def broken(self) -> NDArray[np.bool] | None:
        if self.largest < self.limit:
            return None
        found = np.zeros(len(self.lr), bool)
        for arena in self.parameters.arenas:
            found |= ~np.isfinite(flat(arena.values)).all(axis=1)
        self.bound[:] = np.exp2([log2_norm(W) for W in self.parameters.W[1:]])
        for k, b in enumerate(self.parameters.b[1:]):
            self.bound[k] += np.exp2(log2_norm(b))
        return found
