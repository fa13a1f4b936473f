"""What probes see of a training step: after its update, and before it."""

from collections.abc import Sequence
from dataclasses import dataclass

from bpexp.core.arrays import Array, Float64s, Ints
from bpexp.core.jacobians import Jacobians
from bpexp.core.network import Architecture, Neurons

__all__ = ["Before", "Factors", "Moment"]


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


@dataclass(frozen=True)
class Factors:
    """What the gradients dL/dW_k = a_{k-1}^T delta_k of a step are made of, but for powers of two: each a_k and delta_k, (R, B, n_k)."""

    a: Sequence[Array]
    delta: Sequence[Array]


@dataclass(frozen=True)
class Before:
    """One training step, seen before the update: the batch's neurons, with dL/dz_k = delta[k] * 2**exponent[:, k] of the batch's mean loss.

    `previous` is what the step before it had; None where there was none, or nobody asks.
    """

    neurons: Neurons
    delta: Sequence[Array]
    exponent: Ints
    jacobians: Jacobians
    previous: Factors | None
