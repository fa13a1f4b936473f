"""A training step of a small plain net in three compiled functions: `engine=numba`, for those who have installed `bpexp[fast]`.

The definition is that of `bpexp.core.network`, and NumPy is the reference.  In a net of narrow layers with a sample or a few, nearly all of
NumPy's time goes into reaching its functions; here the loops over runs, layers, samples and neurons are machine code.  Sums are taken in another
order and tanh is a ratio of polynomials, so the numbers differ in their last bits: `engine` is a key, and part of a run's fingerprint.
"""

import numpy as np
from numpy.typing import NDArray

from bpexp.core import kernels
from bpexp.core.arrays import Array, Float64s, Ints, log2_norm, log2_norms
from bpexp.core.descent import Method
from bpexp.core.engines import CODES
from bpexp.core.losses import Loss
from bpexp.core.network import Architecture, Operation, Parameters
from bpexp.core.step import Step
from bpexp.core.tape import Plain

__all__ = ["CompiledStep"]


class CompiledStep(Step):
    """`Step` with its three parts compiled, for a net and a method that `bpexp.core.engines` allows."""

    def __init__(self, net: Architecture, loss: Loss, method: Method, batch: int, parameters: Parameters, lr: Float64s) -> None:
        super().__init__(net, loss, method, batch, parameters, lr)
        self.layerwise = None
        runs = len(lr)
        self.method = method
        self.lr: Float64s = np.ascontiguousarray(np.broadcast_to(self.descent.lr64, self.gradients.exponent.shape))
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
        self.found, self.bound = np.empty((2, net.depth, runs))
        self.bound[:] = np.inf  # of the first update: nothing is known yet
        self.bounds = np.inf  # their sum
        self.limit = float(np.finfo(net.dtype).max) / 4
        self.still = np.zeros(runs, bool)

    def _written_down(self) -> tuple[list[Plain], list[Plain], list[tuple[Operation, list[Plain]]]]:
        """There is nothing to repeat."""
        return [], [], []

    def forward(self) -> None:
        kernels.forward(*self.shape, self.codes, self.wanted, self.value)

    def backward(self, alive: NDArray[np.bool]) -> None:  # noqa: ARG002 (a run that is not costs no more than one that is)
        kernels.backward(*self.shape, self.codes, self.room, self.gradients.exponent, self.deltas.squares)

    def update(self, step: int, alive: NDArray[np.bool], *, norms: bool = False) -> Float64s | None:
        factor = self.method.factor(step)
        lr = self.lr if factor == 1.0 else self.lr * factor
        arrays = self.gradients.exponent, alive, self.room, self.deltas.squares, self.found, self.bound
        self.bounds, right = kernels.update(*self.shape, lr, *arrays)
        if norms and not right:
            self._measure_with_care()
        return self.found.copy() if norms else None

    def log2_grad(self) -> Float64s:
        found = self.update(0, self.still, norms=True)
        assert found is not None
        return found

    def reveal(self) -> None:
        """The pre-activations, over which the activations have been written."""
        p, n = self.parameters, self.neurons
        for k in self.net.layers:
            np.matmul(n.a[k - 1], p.W[k], out=n.z[k])
            if self.net.bias:
                np.add(n.z[k], p.b[k], out=n.z[k])

    def _measure_with_care(self) -> None:
        """Fill in the norms of gradients that lie too near the ends of the dtype's range to be squared."""
        for k in map(int, np.flatnonzero(np.isnan(self.found).any(axis=1)) + 1):
            a, delta, exponent = self.neurons.a[k - 1], self.gradients.delta[k], self.gradients.exponent[:, k]
            of_one = len(a[0]) == 1
            careful = log2_norm(a) + log2_norm(delta) if of_one else log2_norm(np.matmul(a.swapaxes(1, 2), delta))
            self.found[k - 1] = np.where(np.isnan(self.found[k - 1]), careful + exponent, self.found[k - 1])

    def broken(self) -> NDArray[np.bool] | None:
        if self.bounds < self.limit:
            return None
        self.bound[:] = np.exp2(log2_norms(self.parameters.W[1:]))
        if self.net.bias:
            self.bound += np.exp2(log2_norms(self.parameters.b[1:]))
        return ~self.parameters.finite()
