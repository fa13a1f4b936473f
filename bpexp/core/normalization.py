r"""Normalization: v_k has mean 0 and variance 1 along one axis of z_k, then a gain and a shift that are learned.

    zhat = (z - mean z) / sqrt(var z + EPSILON)        v = gain * zhat + shift

`batch` takes mean and variance of each neuron over the samples of the batch, `layer` of each sample over the neurons of the layer.

Backward.  zhat depends on z[i] directly, through the mean and through the variance.  With u = gain * dL/dv, and means taken along
the same axis as in the forward pass, the three add up to

    dL/dz = (u - mean u - zhat * mean(u * zhat)) / sqrt(var z + EPSILON)

    dL/dgain = sum over samples of zhat * dL/dv        dL/dshift = sum over samples of dL/dv

so what a layer hands back is orthogonal to a constant and to zhat, and is divided by the spread of z: where z has shrunk by a
factor from layer to layer, the gradient on its way back gains what it would have lost.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bpexp.core.arrays import Array
from bpexp.core.network import Architecture, Entry, Gradients, Neurons, Operation, Parameters, nothing
from bpexp.core.rows import Row

__all__ = ["NORMS", "Norm", "Normalize"]

EPSILON = 1e-5  # of the variance (Ioffe & Szegedy 2015, algorithm 1)
MOMENTUM = 0.1  # weight of the newest batch in the running statistics
SAMPLES, NEURONS = 1, 2  # axes of z


@dataclass(frozen=True)
class Normalize(Operation):
    """v_k = gain zhat_k + shift, with mean and variance of z_k along `axis`."""

    buffers: ClassVar[int] = 2

    axis: int

    def entries(self, net: Architecture) -> Mapping[str, Entry]:
        return {"gain": Entry((1, net.sizes[self.k]), start=1.0), "shift": Entry((1, net.sizes[self.k]))}

    def reserve(self, neurons: Neurons) -> None:
        neurons.v[self.k] = neurons.buffer("v", self.k)
        neurons.saved["zhat", self.k] = neurons.buffer("zhat", self.k)
        runs, batch, n = neurons.z[self.k].shape
        neurons.saved["inverse", self.k] = np.empty((runs, 1, n) if self.axis == SAMPLES else (runs, batch, 1), neurons.z[self.k].dtype)

    def forward(self, p: Parameters, n: Neurons) -> None:
        k, zhat, inverse, v = self.k, n.saved["zhat", self.k], n.saved["inverse", self.k], n.v[self.k]
        np.subtract(n.z[k], self._mean(p, n), out=zhat)
        np.sqrt(self._variance(p, n) + EPSILON, out=inverse)
        np.divide(1.0, inverse, out=inverse)
        np.multiply(zhat, inverse, out=zhat)
        np.multiply(zhat, p.arrays["gain"][k], out=v)
        np.add(v, p.arrays["shift"][k], out=v)

    def backward(self, p: Parameters, n: Neurons, grad: Gradients) -> None:
        k, u, zhat = self.k, grad.delta[self.k], n.saved["zhat", self.k]
        scratch = u * zhat
        np.matmul(grad.ones, scratch, out=grad.arrays["gain"][k])  # dL/dgain = sum over samples of zhat dL/dv
        np.matmul(grad.ones, u, out=grad.arrays["shift"][k])  # dL/dshift = sum over samples of dL/dv
        for kind in ("gain", "shift"):
            grad.exponents[kind][:, k] = grad.exponent[:, k]
        np.multiply(u, p.arrays["gain"][k], out=u)
        np.multiply(u, zhat, out=scratch)
        np.multiply(zhat, mean(scratch, self.axis), out=scratch)
        np.subtract(u, mean(u, self.axis), out=u)
        np.subtract(u, scratch, out=u)
        np.multiply(u, n.saved["inverse", k], out=u)  # (u - mean u - zhat mean(u zhat)) / sqrt(var z + EPSILON)

    def _mean(self, _p: Parameters, n: Neurons) -> Array:
        return mean(n.z[self.k], self.axis)

    def _variance(self, _p: Parameters, n: Neurons) -> Array:
        """The mean square of z - mean z, which stands in zhat (biased)."""
        distance, square = n.saved["zhat", self.k], n.v[self.k]
        np.multiply(distance, distance, out=square)
        return mean(square, self.axis)


def mean(x: Array, axis: int) -> Array:
    """As x.mean(axis, keepdims=True), in half the time on the small arrays of a layer."""
    total: Array = np.add.reduce(x, axis=axis, keepdims=True)
    np.divide(total, x.shape[axis], out=total)
    return total


@dataclass(frozen=True)
class BatchNormalize(Normalize):
    """Over samples; an evaluation takes averages over past batches, so that an output depends on its own sample alone.

    running <- (1 - MOMENTUM) running + MOMENTUM new, the variance's with the unbiased estimate.
    """

    def entries(self, net: Architecture) -> Mapping[str, Entry]:
        shape = (1, net.sizes[self.k])
        statistics = {"running_mean": Entry(shape, trained=False), "running_variance": Entry(shape, start=1.0, trained=False)}
        return {**super().entries(net), **statistics}

    def _mean(self, p: Parameters, n: Neurons) -> Array:
        running = p.arrays["running_mean"][self.k]
        return _track(running, super()._mean(p, n)) if n.training else running

    def _variance(self, p: Parameters, n: Neurons) -> Array:
        running, samples = p.arrays["running_variance"][self.k], n.shape[1]
        return _track(running, super()._variance(p, n), samples / max(samples - 1, 1)) if n.training else running


def _track(running: Array, new: Array, unbiased: float = 1.0) -> Array:
    """Average over batches, in place; returns the newest."""
    np.multiply(running, 1.0 - MOMENTUM, out=running)
    np.add(running, (MOMENTUM * unbiased) * new, out=running)
    return new


@dataclass(frozen=True)
class Norm(Row):
    """A row: the operations it puts before a layer's activation."""

    name: str
    normalize: Callable[[Architecture, int], tuple[Operation, ...]]
    over: str | None = None  # the configuration key that counts what mean and variance are taken over


def _batch(net: Architecture, k: int) -> tuple[Operation, ...]:
    return (BatchNormalize(k, SAMPLES),) if k < net.depth else ()


def _layer(net: Architecture, k: int) -> tuple[Operation, ...]:
    return (Normalize(k, NEURONS),) if k < net.depth else ()


NORMS: dict[str, Norm] = {
    row.name: row
    for row in (
        Norm("none", nothing, equation="v = z", effect="δ_k passes unchanged from φ to the affine map.", source="the plain net"),
        Norm(
            "batch",
            _batch,
            equation="v = γ ẑ + β, ẑ = (z − mean z) / √(var z + 1e-5), over the samples of the batch, neuron by neuron, in hidden layers",
            effect="δ_k is divided by the spread of z_k over the batch, and loses its mean and its part along ẑ: "
            "the more a layer shrinks its signals, the more its gradient gains.",
            source="Ioffe & Szegedy 2015, algorithm 1",
            over="batch_size",
        ),
        Norm(
            "layer",
            _layer,
            equation="v = γ ẑ + β, ẑ = (z − mean z) / √(var z + 1e-5), over the neurons of the layer, sample by sample, in hidden layers",
            effect="The same as batch norm's, with spread and mean over the neurons of a sample: no sample knows of another.",
            source="Ba, Kiros & Hinton 2016",
            over="width",
        ),
    )
}
