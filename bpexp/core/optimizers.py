"""Optimizers: one function each, from a gradient to a step, in place.

`gradient` (R, K, n_in, n_out) holds the K equal layers of an arena, `rate` (R, K, 1, 1) the learning rate times the power of two that the
stored gradient lacks: lr 2**exponent, per run and layer.
"""

from collections.abc import Callable

import numpy as np

from bpexp.core.arrays import Array

__all__ = ["OPTIMIZERS"]


def sgd(weights: Array, gradient: Array, rate: Array) -> None:
    """W <- W - lr dL/dW.  The gradient's buffer is used up: it holds the step afterwards."""
    np.multiply(gradient, rate, out=gradient)
    np.subtract(weights, gradient, out=weights)


OPTIMIZERS: dict[str, Callable[[Array, Array, Array], None]] = {"sgd": sgd}
