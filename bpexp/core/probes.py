"""Probes: numbers per layer, one function each, taken at log-spaced steps.

A probe sees a `Moment` and a layer k and answers with one float64 per run, shape (R,).  Norms answer with their log10, because at
depth 100 they leave the range of any dtype; `Probe.log10` says which.  Those that are not `always` measured are chosen by name
(`probes=[q,c]`); they see the step `Before` its update, and cost nothing where they are not chosen (`bpexp.core.batch_probes`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from bpexp.core import batch_probes as batch
from bpexp.core.arrays import LOG10_OF_2, Array, Float64s, flat
from bpexp.core.histograms import HISTOGRAM
from bpexp.core.jacobians import SPECTRUM
from bpexp.core.moments import Before, Moment
from bpexp.core.rows import Names, Part

__all__ = ["CHOSEN", "PLAIN", "PROBES", "Probe"]

M = TypeVar("M", Moment, Before)

SATURATED = 0.05  # of the activation's steepest slope: a sigmoid beyond |z| = 4.36, a tanh beyond 2.18


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
class Probe(Generic[M]):
    """A number per layer.  `log10`: it is measured, and stored, as its logarithm.

    `always`: it is measured without being chosen.  `plain`: it is defined for nets without normalization and skip connections alone.
    `pairs`: it compares a step with the one before it, which has to be remembered.
    """

    measure: Callable[[M, int], Float64s]
    log10: bool
    always: bool = False
    plain: bool = False
    pairs: bool = False

    @property
    def name(self) -> str:
        return self.measure.__name__

    @property
    def column(self) -> str:
        """Its name in `Records.layers` and in layers.parquet."""
        return f"log10_{self.name}" if self.log10 else self.name


PROBES: dict[str, Probe[Any]] = {
    probe.name: probe
    for probe in (
        Probe(grad_norm, log10=True, always=True),
        Probe(delta_norm, log10=True, always=True),
        Probe(weight_norm, log10=False, always=True),
        Probe(update_ratio, log10=True, always=True),
        Probe(update_made, log10=True, always=True),
        Probe(activation_mean, log10=False, always=True),
        Probe(activation_std, log10=False, always=True),
        Probe(saturated, log10=False, always=True),
        Probe(batch.sample_delta_norm, log10=True),
        Probe(batch.sample_grad_norm, log10=True),
        Probe(batch.mean_delta_norm, log10=True),
        Probe(batch.q, log10=False),
        Probe(batch.c, log10=False),
        Probe(batch.spread, log10=True),
        Probe(batch.jacobian_mean, log10=True, plain=True),
        Probe(batch.jacobian_variance, log10=False, plain=True),
        Probe(batch.grad_cosine, log10=False, pairs=True),
    )
}

CHOSEN = Names(lambda: (*Part(PROBES, lambda probe: not probe.always), SPECTRUM, HISTOGRAM))  # what the key `probes` may name
PLAIN = Names(lambda: (*Part(PROBES, lambda probe: probe.plain), SPECTRUM))  # of these, what is defined for plain nets alone
