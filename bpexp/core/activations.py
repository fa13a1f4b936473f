"""Activation functions: one row each, the function beside its derivative.

A row holds `function(z, out)`, which writes phi(z) into `out`, and `derivative(z, a, out)`, which writes
phi'(z); it gets the output a = phi(z) as well, because most derivatives are cheaper from the output
(sigmoid: a (1 - a)).  All work elementwise, in place, on arrays of any shape in float32 and float64.
`softmax` is the one row that mixes the neurons of a layer: it serves as an output only, together with the
cross-entropy, whose gradient takes its derivative into account.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import inf, pi, sqrt

import numpy as np
from scipy import special

from bpexp.core.arrays import Array

__all__ = ["ACTIVATIONS", "Activation"]

Function = Callable[[Array, Array], None]
Derivative = Callable[[Array, Array, Array], None]


@dataclass(frozen=True)
class Activation:
    """phi, phi' and what the rest of the code has to know of them.

    `range` bounds the outputs (targets must lie inside), `steepest` is the largest value of phi'
    (a neuron below a twentieth of it counts as saturated), `source` says where the function comes from.
    """

    name: str
    function: Function
    derivative: Derivative
    range: tuple[float, float]
    steepest: float
    source: str

    @property
    def elementwise(self) -> bool:
        """Whether a hidden layer can use it."""
        return self.derivative is not _no_derivative


def _sigmoid(z: Array, out: Array) -> None:
    """1 / (1 + exp(-z)), as (1 + tanh(z / 2)) / 2: the same function, with no overflow and in four passes."""
    np.multiply(z, 0.5, out=out)
    np.tanh(out, out=out)
    np.multiply(out, 0.5, out=out)
    np.add(out, 0.5, out=out)


def _sigmoid_derivative(_z: Array, a: Array, out: Array) -> None:
    """A (1 - a)."""
    np.subtract(1.0, a, out=out)
    np.multiply(out, a, out=out)


def _tanh(z: Array, out: Array) -> None:
    np.tanh(z, out=out)


def _tanh_derivative(_z: Array, a: Array, out: Array) -> None:
    """1 - a^2."""
    np.multiply(a, a, out=out)
    np.subtract(1.0, out, out=out)


def _relu(z: Array, out: Array) -> None:
    np.maximum(z, 0.0, out=out)


def _relu_derivative(_z: Array, a: Array, out: Array) -> None:
    """1 where a > 0, else 0 (also at the kink itself)."""
    np.sign(a, out=out)


def _linear(z: Array, out: Array) -> None:
    np.copyto(out, z)


def _linear_derivative(_z: Array, _a: Array, out: Array) -> None:
    out.fill(1.0)


def _erf(z: Array, out: Array) -> None:
    special.erf(z, out=out)


def _erf_derivative(z: Array, _a: Array, out: Array) -> None:
    """2 / sqrt(pi) exp(-z^2): from the input, for the inverse of erf would cost more."""
    np.multiply(z, z, out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)
    np.multiply(out, 2.0 / sqrt(pi), out=out)


@lru_cache(maxsize=16)
def row_buffer(shape: tuple[int, ...], dtype: str, name: str = "") -> Array:  # noqa: ARG001 (part of the key)
    """One number per sample, kept between calls, so that a training step allocates nothing."""
    return np.empty((*shape[:-1], 1), dtype)


def _softmax(z: Array, out: Array) -> None:
    """exp(z_i) / sum_j exp(z_j) over the last axis, shifted by the largest z so that nothing overflows."""
    row = row_buffer(z.shape, z.dtype.char)
    np.maximum.reduce(z, axis=-1, keepdims=True, out=row)
    np.subtract(z, row, out=out)
    np.exp(out, out=out)
    np.add.reduce(out, axis=-1, keepdims=True, out=row)
    np.divide(out, row, out=out)


def _no_derivative(_z: Array, _a: Array, _out: Array) -> None:
    raise TypeError("softmax is not elementwise: its derivative is part of the cross-entropy's")


ACTIVATIONS: dict[str, Activation] = {
    row.name: row
    for row in (
        Activation("sigmoid", _sigmoid, _sigmoid_derivative, (0.0, 1.0), 0.25, "Verhulst 1845, the logistic function"),
        Activation("tanh", _tanh, _tanh_derivative, (-1.0, 1.0), 1.0, "LeCun et al. 1998, Efficient BackProp"),
        Activation("relu", _relu, _relu_derivative, (0.0, inf), 1.0, "Nair & Hinton 2010"),
        Activation("linear", _linear, _linear_derivative, (-inf, inf), 1.0, "the identity"),
        Activation("erf", _erf, _erf_derivative, (-1.0, 1.0), 2.0 / sqrt(pi), "Williams 1997, Infinite networks"),
        Activation("softmax", _softmax, _no_derivative, (0.0, 1.0), inf, "Bridle 1990; outputs only"),
    )
}
