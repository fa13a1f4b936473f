r"""The network: forward, backward, and the arrays that both work in.

Row vectors: a sample's activations at layer k are a row a_k, and W_k[i, j] leads from neuron i of layer k-1 to neuron j of layer k.

    z_k = a_{k-1} W_k + b_k        a_k = phi_k(z_k)        k = 1 … depth,   a_0 = x

Backpropagation, with delta_k = dL/dz_k.  A neuron i of layer k acts on the loss through every neuron j of layer k+1, so the chain
rule sums over j; a weight acts through its own neuron j alone:

    dL/da_k[i]    = sum_j delta_{k+1}[j] W_{k+1}[i, j]
    delta_k[i]    = dL/da_k[i] phi_k'(z_k[i])
    dL/dW_k[i, j] = a_{k-1}[i] delta_k[j]

Each delta_k is computed once, from delta_{k+1}, and used twice: for the weights of its layer and for the neurons before it.  That
is dynamic programming: the work grows linearly with depth, where the sum over all paths (`bpexp.core.paths`) grows exponentially.

Every array has a leading run axis R; layers are numbered 1 … depth, index 0 of a list is the input or stays empty.
Gradients are kept as x * 2**exponent, an exponent per run and layer, because after tens of sigmoid layers they leave the range of
float32 and after some hundreds that of float64.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import DTypeLike

from bpexp.core.activations import ACTIVATIONS, Activation
from bpexp.core.arrays import Array, Ints, pull_into_range

__all__ = ["Architecture", "Arena", "Gradients", "Neurons", "Parameters", "backward", "forward"]


@dataclass(frozen=True)
class Architecture:
    """The shape of a net: `sizes` = (inputs, hidden widths …, outputs), one weight layer between neighbours."""

    sizes: tuple[int, ...]
    activation: Activation = ACTIVATIONS["sigmoid"]
    output: Activation = ACTIVATIONS["sigmoid"]
    bias: bool = False
    dtype: DTypeLike = np.float32

    @property
    def depth(self) -> int:
        return len(self.sizes) - 1

    @property
    def layers(self) -> range:
        """1 … depth."""
        return range(1, self.depth + 1)

    def phi(self, k: int) -> Activation:
        return self.output if k == self.depth else self.activation


@dataclass(frozen=True)
class Arena:
    """Neighbouring layers of equal shape in one array `values` (R, layers, n_in, n_out), so that one call updates them all."""

    layers: range
    values: Array

    @staticmethod
    def allocate(shapes: list[tuple[int, int]], runs: int, dtype: DTypeLike) -> "list[Arena]":
        arenas, first = [], 1
        for shape, group in groupby(shapes):
            count = len(list(group))
            arenas.append(Arena(range(first, first + count), np.zeros((runs, count, *shape), dtype)))
            first += count
        return arenas

    def views(self) -> Iterator[Array]:
        """Each layer's (R, n_in, n_out)."""
        return (self.values[:, i] for i in range(len(self.layers)))


class Parameters:
    """Weights W[k] (R, n_in, n_out) and biases b[k] (R, 1, n_out), or their gradients: anything of that shape."""

    def __init__(self, architecture: Architecture, runs: int) -> None:
        shapes = list(pairwise(architecture.sizes))
        empty = np.empty(0, architecture.dtype)
        weights = Arena.allocate(shapes, runs, architecture.dtype)
        biases = Arena.allocate([(1, n) for _, n in shapes], runs, architecture.dtype) if architecture.bias else []
        self.arenas = weights + biases
        self.W: list[Array] = [empty, *(view for arena in weights for view in arena.views())]
        self.b: list[Array] = [empty, *(view for arena in biases for view in arena.views())]
        self.WT: list[Array] = [empty, *(W.swapaxes(1, 2) for W in self.W[1:])]


class Neurons:
    """Pre-activations z[k] and activations a[k], (R, B, n_k), for B samples.

    With `keep=False` all layers share two buffers: enough to evaluate a net, not to differentiate it.
    """

    def __init__(self, architecture: Architecture, runs: int, batch: int, *, keep: bool = True) -> None:
        sizes, dtype = architecture.sizes, architecture.dtype

        def buffers() -> list[Array]:
            if keep:
                return [np.empty((runs, batch, n), dtype) for n in sizes[1:]]
            shared: Array = np.empty(runs * batch * max(sizes[1:]), dtype)
            return [shared[: runs * batch * n].reshape(runs, batch, n) for n in sizes[1:]]

        self.z: list[Array] = [np.empty(0, dtype), *buffers()]
        self.a: list[Array] = [np.empty((runs, batch, sizes[0]), dtype), *buffers()]
        self.aT: list[Array] = [a.swapaxes(1, 2) for a in self.a]


class Gradients(Parameters):
    """dL/dW and dL/db in the arenas of `Parameters`, and delta[k] (R, B, n_k); true value = stored * 2**exponent[:, k]."""

    def __init__(self, architecture: Architecture, runs: int, batch: int) -> None:
        super().__init__(architecture, runs)
        dtype = architecture.dtype
        self.delta: list[Array] = [np.empty(0, dtype), *(np.empty((runs, batch, n), dtype) for n in architecture.sizes[1:])]
        self.exponent: Ints = np.zeros((runs, architecture.depth + 1), np.int64)
        self.scratch: dict[int, Array] = {n: np.empty((runs, batch, n), dtype) for n in set(architecture.sizes[1:])}
        self.peak: Array = np.empty(runs, dtype)
        self.ones: Array = np.ones((1, batch), dtype)


def forward(net: Architecture, parameters: Parameters, neurons: Neurons) -> Array:
    """z_k = a_{k-1} W_k + b_k, a_k = phi_k(z_k), from the input in neurons.a[0] to the output, which is returned."""
    W, b, z, a = parameters.W, parameters.b, neurons.z, neurons.a
    for k in net.layers:
        np.matmul(a[k - 1], W[k], out=z[k])
        if net.bias:
            np.add(z[k], b[k], out=z[k])
        net.phi(k).function(z[k], a[k])
    return a[net.depth]


def backward(net: Architecture, parameters: Parameters, neurons: Neurons, grad: Gradients) -> None:
    """From delta_depth, which is in grad.delta already, to every delta_k and dL/dW_k: each once, each from the layer after it."""
    WT, z, a, aT, delta = parameters.WT, neurons.z, neurons.a, neurons.aT, grad.delta
    grad.exponent[:, net.depth] = 0
    for k in reversed(net.layers):
        grad.exponent[:, k] += pull_into_range(delta[k], grad.scratch[net.sizes[k]], grad.peak)
        np.matmul(aT[k - 1], delta[k], out=grad.W[k])  # dL/dW_k[i, j] = sum over samples of a_{k-1}[i] delta_k[j]
        if net.bias:
            np.matmul(grad.ones, delta[k], out=grad.b[k])  # dL/db_k[j] = sum over samples of delta_k[j]
        if k > 1:
            np.matmul(delta[k], WT[k], out=delta[k - 1])  # dL/da_{k-1}[i] = sum_j delta_k[j] W_k[i, j]
            slope = grad.scratch[net.sizes[k - 1]]
            net.phi(k - 1).derivative(z[k - 1], a[k - 1], slope)
            np.multiply(delta[k - 1], slope, out=delta[k - 1])  # delta_{k-1} = dL/da_{k-1} phi'(z_{k-1})
            grad.exponent[:, k - 1] = grad.exponent[:, k]
