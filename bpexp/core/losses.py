"""Losses: one row each, the value beside its gradient.

`value(z, a, y, scratch, out)` writes the loss summed over samples and outputs, one number per run, into `out` (R,).
`delta(z, a, y, phi, scratch, out)` writes dL/dz at the output layer, of the same sum, into `out` (R, B, N).
`plateau(y)` is the mean loss per sample of the best constant output: where a net ends that ignores its input.
A row's `equation` is the loss of one sample with its gradient, its `effect` what that gradient starts the recursion of the deltas with.
z, a: (R, B, N) of the output layer, y: the targets, phi: the output's activation.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy

from bpexp.core.activations import Activation, blocks
from bpexp.core.arrays import Array, flat
from bpexp.core.rows import Row

__all__ = ["LOSSES", "Loss"]


@dataclass(frozen=True)
class Loss(Row):
    """A loss, the output activations it goes with (None: any elementwise one) and the one it takes by default."""

    name: str
    value: Callable[[Array, Array, Array, Array, Array], None]
    delta: Callable[[Array, Array, Array, Activation, Array, Array], None]
    plateau: Callable[[Array], float]
    outputs: tuple[str, ...] | None
    default_output: str


def _squared_error(_z: Array, a: Array, y: Array, scratch: Array, out: Array) -> None:
    """1/2 sum ||a - y||^2."""
    np.subtract(a, y, out=scratch)
    np.vecdot(flat(scratch), flat(scratch), out=out)
    np.multiply(out, 0.5, out=out)


def _squared_error_delta(z: Array, a: Array, y: Array, phi: Activation, scratch: Array, out: Array) -> None:
    """dL/da = a - y, and through the neuron: dL/dz = (a - y) phi'(z)."""
    np.subtract(a, y, out=out)
    phi.derivative(z, a, scratch)
    np.multiply(out, scratch, out=out)


def _squared_error_plateau(y: Array) -> float:
    """The best constant is the mean target: half the targets' variance, summed over outputs."""
    return float(0.5 * np.asarray(y, np.float64).var(axis=0).sum())


def _cross_entropy(z: Array, _a: Array, y: Array, scratch: Array, out: Array) -> None:
    """-sum y_i log softmax(z)_i = sum y_i (log sum_j exp z_j - z_i): from z, where log a would be log 0."""
    top = np.maximum.reduce(z, axis=-1, keepdims=True)
    np.subtract(z, top, out=scratch)
    np.exp(scratch, out=scratch)
    total = np.add.reduce(scratch, axis=-1, keepdims=True)
    np.log(total, out=total)
    np.add(total, top, out=total)
    np.subtract(total, z, out=scratch)
    np.multiply(scratch, y, out=scratch)
    np.add.reduce(flat(scratch), axis=1, out=out)


def _cross_entropy_delta(_z: Array, a: Array, y: Array, _phi: Activation, _scratch: Array, out: Array) -> None:
    """Softmax's Jacobian cancels against the logarithm: dL/dz = a - y, for targets that sum to 1."""
    np.subtract(a, y, out=out)


def _cross_entropy_plateau(y: Array) -> float:
    """The best constant is the mean target: its entropy."""
    return float(scipy.special.entr(np.asarray(y, np.float64).mean(axis=0)).sum())


def _binary_cross_entropy(z: Array, _a: Array, y: Array, scratch: Array, out: Array) -> None:
    """-sum y log a + (1 - y) log(1 - a) = sum log(exp(-y z) + exp((1 - y) z)): from z, where a log of a or 1 - a would be log 0.

    Both exponents in that form, rather than log(1 + exp z) - y z, so that a small loss is not a difference of large numbers.
    """
    np.multiply(y, z, out=scratch)
    for z_, found, rest in blocks(z, scratch):
        np.subtract(z_, found, out=rest)
        np.negative(found, out=found)
        np.logaddexp(found, rest, out=found)
    np.add.reduce(flat(scratch), axis=1, out=out)


def _binary_cross_entropy_delta(_z: Array, a: Array, y: Array, _phi: Activation, _scratch: Array, out: Array) -> None:
    """dL/da = (a - y) / (a (1 - a)), and a (1 - a) is the sigmoid's phi': dL/dz = a - y."""
    np.subtract(a, y, out=out)


def _binary_cross_entropy_plateau(y: Array) -> float:
    """The best constant is the mean target p of each output: the entropy of a coin that shows it, summed over outputs."""
    p = np.asarray(y, np.float64).mean(axis=0)
    return float((scipy.special.entr(p) + scipy.special.entr(1.0 - p)).sum())


LOSSES: dict[str, Loss] = {
    row.name: row
    for row in (
        Loss(
            "squared_error",
            _squared_error,
            _squared_error_delta,
            _squared_error_plateau,
            outputs=None,
            default_output="sigmoid",
            equation="L = 1/2 Σ_i (a_i - y_i)², δ = (a - y) ∘ φ'(z)",
            effect="The recursion starts with a factor φ' of the output layer: an output that is saturated at the wrong value has a delta near 0.",
            source="Rumelhart, Hinton & Williams 1986, eq. 3",
        ),
        Loss(
            "cross_entropy",
            _cross_entropy,
            _cross_entropy_delta,
            _cross_entropy_plateau,
            outputs=("softmax",),
            default_output="softmax",
            equation="L = -Σ_i y_i log a_i, a = softmax(z), δ = a - y",
            effect="The output layer's derivative cancels against the logarithm's: an output that is saturated at the wrong value still has the full "
            "delta a - y, and only the hidden layers' φ' can make it vanish on its way.",
            source="Bridle 1990",
        ),
        Loss(
            "binary_cross_entropy",
            _binary_cross_entropy,
            _binary_cross_entropy_delta,
            _binary_cross_entropy_plateau,
            outputs=("sigmoid",),
            default_output="sigmoid",
            equation="L = -Σ_i (y_i log a_i + (1 - y_i) log(1 - a_i)), a = sigmoid(z), δ = a - y",
            effect="The output layer's φ' = a (1 - a) cancels against the logarithms' derivatives: a sigmoid output that is saturated at the wrong "
            "value still has the full delta a - y, where the squared error gives it almost none.",
            source="Bishop 1995, Neural Networks for Pattern Recognition, chapter 6",
        ),
    )
}
