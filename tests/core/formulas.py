"""The functions of the core written a second time, in autograd.numpy, from the textbook; what has no formula here is measured.

`FORMULAS` and `LOSS_FORMULAS` share nothing with the core.  A row that is new there and not yet written here is differentiated
numerically, from its function alone, so that its derivative is still held against something that does not know it, if to fewer digits.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd.extend import defvjp, primitive
from autograd.scipy.special import erf, logsumexp

from bpexp.core.activations import ACTIVATIONS, Activation
from bpexp.core.arrays import Array, Float64s
from bpexp.core.losses import LOSSES, Loss

Formula = Callable[..., Any]

FORMULAS: dict[str, Formula] = {
    "sigmoid": lambda z: 1.0 / (1.0 + anp.exp(-z)),
    "tanh": lambda z: 1.0 - 2.0 / (anp.exp(2.0 * z) + 1.0),
    "scaled_tanh": lambda z: 1.7159 * (1.0 - 2.0 / (anp.exp(4.0 * z / 3.0) + 1.0)),
    "relu": lambda z: anp.where(z > 0.0, z, 0.0),
    "leaky_relu": lambda z: anp.where(z > 0.0, z, 0.01 * z),
    "elu": lambda z: anp.where(z > 0.0, z, anp.expm1(z)),
    "selu": lambda z: 1.0507009873554805 * anp.where(z > 0.0, z, 1.6732632423543772 * anp.expm1(z)),
    "gelu": lambda z: 0.5 * z * (1.0 + erf(z / anp.sqrt(2.0))),
    "silu": lambda z: z / (1.0 + anp.exp(-z)),
    "softplus": lambda z: anp.logaddexp(0.0, z),
    "linear": lambda z: 1.0 * z,
    "erf": erf,
    "softmax": lambda z: anp.exp(z) / anp.sum(anp.exp(z), axis=-1, keepdims=True),
}

LOSS_FORMULAS: dict[str, Formula] = {
    "squared_error": lambda _z, a, y: anp.sum(0.5 * (a - y) ** 2) / len(y),
    "cross_entropy": lambda z, _a, y: -anp.sum(y * (z - logsumexp(z, axis=-1, keepdims=True))) / len(y),
    "binary_cross_entropy": lambda z, _a, y: anp.sum(y * anp.logaddexp(0.0, -z) + (1.0 - y) * anp.logaddexp(0.0, z)) / len(y),
}


def _normalized(axis: int) -> Formula:
    def formula(z: Any, gain: Any, shift: Any) -> Any:
        spread = anp.sqrt(anp.mean((z - anp.mean(z, axis=axis, keepdims=True)) ** 2, axis=axis, keepdims=True) + 1e-5)
        return gain * (z - anp.mean(z, axis=axis, keepdims=True)) / spread + shift

    return formula


NORM_FORMULAS: dict[str, Formula] = {"none": lambda z, _gain, _shift: z, "batch": _normalized(0), "layer": _normalized(1)}  # z (samples, neurons)
SKIP_FORMULAS: dict[str, Formula] = {  # the scale of a block, of the net's depth and the learned scale
    "none": lambda _depth, _learned: None,
    "residual": lambda _depth, _learned: 1.0,
    "scaled": lambda depth, _learned: depth**-0.5,
    "rezero": lambda _depth, learned: learned,
}

# f'(0) from f at ±1, ±2, ±3, ±4 steps; the error is of the order of STEP**8 (Fornberg 1988, table 1).
STENCIL = {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}
STEP, SHORT_STEP = 2.0**-6, 2.0**-19  # good to 12 digits where f is smooth, and to 10 also near a kink
KINK = 1e-5  # no kink lies within four short steps of a z that keeps this distance


def slope(f: Callable[[Array], Array], z: Array, step: float = STEP) -> Float64s:
    """The derivative of an elementwise function that is smooth within 4 steps."""
    weighted = [weight * (f(z + shift * step) - f(z - shift * step)) for shift, weight in STENCIL.items()]
    return np.asarray(sum(weighted) / step)


def applied(phi: Activation, z: Array) -> Array:
    out = np.empty_like(z)
    phi.function(z, out)
    return out


def activation(name: str) -> Formula:
    """A function that autograd can differentiate."""
    return FORMULAS[name] if name in FORMULAS else measured_activation(ACTIVATIONS[name])


def loss(name: str, output: str) -> Formula:
    """The batch's mean loss as a function of (z, a, y) that autograd can differentiate."""
    return LOSS_FORMULAS[name] if name in LOSS_FORMULAS else measured_loss(LOSSES[name], ACTIVATIONS[output])


def measured_activation(phi: Activation) -> Formula:
    f: Formula = primitive(lambda z: applied(phi, z))
    defvjp(f, lambda _a, z: lambda g: g * slope(lambda at: applied(phi, at), z, SHORT_STEP))
    return f


def measured_loss(row: Loss, phi: Activation) -> Formula:
    """As a function of z alone, a = phi(z) inside."""

    def value(z: Float64s, y: Float64s) -> float:
        stack, total = z[None], np.empty(1)
        row.value(stack, applied(phi, stack), y[None], np.empty_like(stack), total)
        return float(total[0] / len(y))

    def gradient(z: Float64s, y: Float64s) -> Float64s:
        """Sample by sample: the rounding of the others' losses would be noise in the differences."""
        out = np.empty_like(z)
        for sample, neuron in np.ndindex(z.shape):
            out[sample, neuron] = slope(partial(moved, z[[sample]], y[[sample]], neuron), z[sample, neuron], SHORT_STEP) / len(y)
        return out

    def moved(z: Float64s, y: Float64s, neuron: int, to: Array) -> Float64s:
        z[0, neuron] = to
        return np.asarray(value(z, y))

    f: Formula = primitive(value)
    defvjp(f, lambda _value, z, y: lambda g: g * gradient(z, y), argnums=(0,))
    return lambda z, _a, y: f(z, y)
