"""Probes: numbers per layer, one function each, taken at log-spaced steps.

A probe sees a `Moment` and a layer k and answers with one float64 per run, shape (R,).  Norms answer with their log10, because at
depth 100 they leave the range of any dtype; `Probe.log10` says which.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log10

import numpy as np
from numpy.typing import NDArray

from bpexp.core.arrays import Array, Float64s, flat
from bpexp.core.network import Architecture, Neurons

__all__ = ["PROBES", "Moment", "Probe"]

LOG10_OF_2 = log10(2.0)
SATURATED = 0.05  # of the activation's steepest slope: a sigmoid beyond |z| = 4.36, a tanh beyond 2.18


@dataclass(frozen=True)
class Moment:
    """One training step, seen after the update: the batch's neurons, and what update and optimizer use up as the log2 of its norms.

    `lr` (R, depth) are the layers' learning rates.  `log2_grad`, `log2_delta` (depth, R) are those of each dL/dW_k and dL/dz_k, `log2_weight`
    those of W_k before the update, `log2_change` those of what the update added, or None at the last step, which measures and does not update.
    """

    net: Architecture
    neurons: Neurons
    lr: Float64s
    log2_grad: Float64s
    log2_delta: Float64s
    log2_weight: Float64s
    log2_change: Float64s | None


def grad_norm(now: Moment, k: int) -> Float64s:
    """||dL/dW_k||, the L2 norm over all weights of the layer."""
    return np.asarray(LOG10_OF_2 * now.log2_grad[k - 1])


def delta_norm(now: Moment, k: int) -> Float64s:
    """||dL/dz_k|| of the batch's mean loss, over the whole (B, n_k) array."""
    return np.asarray(LOG10_OF_2 * now.log2_delta[k - 1])


def weight_norm(now: Moment, k: int) -> Float64s:
    """||W_k||, before the update."""
    return np.asarray(np.exp2(now.log2_weight[k - 1]))


def update_ratio(now: Moment, k: int) -> Float64s:
    """The step that the equation asks for: lr ||dL/dW_k|| / ||W_k||, with the layer's own lr."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(LOG10_OF_2 * (np.log2(now.lr[:, k - 1]) + now.log2_grad[k - 1] - now.log2_weight[k - 1]))


def update_made(now: Moment, k: int) -> Float64s:
    """||W_k after - W_k before|| / ||W_k||: the step that the dtype made of it, log10 -inf where no weight changed."""
    if now.log2_change is None:
        return np.full(len(now.lr), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(LOG10_OF_2 * (now.log2_change[k - 1] - now.log2_weight[k - 1]))


def activation_mean(now: Moment, k: int) -> Float64s:
    """Mean of a_k over samples and neurons."""
    return np.asarray(_rows(now.neurons.a[k]).mean(axis=1))


def activation_std(now: Moment, k: int) -> Float64s:
    """Standard deviation of a_k over samples and neurons."""
    return np.asarray(_rows(now.neurons.a[k]).std(axis=1))


def saturated(now: Moment, k: int) -> Float64s:
    """Fraction of the neurons' |phi'| below a twentieth of the steepest slope; not defined (NaN) for softmax."""
    phi = now.net.phi(k)
    if not phi.elementwise:
        return np.full(len(now.lr), np.nan)
    slope = np.empty_like(now.neurons.v[k])
    phi.derivative(now.neurons.v[k], now.neurons.f[k], slope)
    return np.asarray(_rows(np.abs(slope) < SATURATED * phi.steepest).mean(axis=1))


def _rows(x: Array | NDArray[np.bool]) -> Float64s:
    return np.asarray(flat(x), np.float64)


@dataclass(frozen=True)
class Probe:
    """A number per layer.  `log10`: it is measured, and stored, as its logarithm."""

    name: str
    measure: Callable[[Moment, int], Float64s]
    log10: bool

    @property
    def column(self) -> str:
        """Its name in `Records.layers` and in layers.parquet."""
        return f"log10_{self.name}" if self.log10 else self.name


PROBES: dict[str, Probe] = {
    measure.__name__: Probe(measure.__name__, measure, log10)
    for measure, log10 in (
        (grad_norm, True),
        (delta_norm, True),
        (weight_norm, False),
        (update_ratio, True),
        (update_made, True),
        (activation_mean, False),
        (activation_std, False),
        (saturated, False),
    )
}
