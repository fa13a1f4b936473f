"""Activation functions: one row each, the function beside its derivative.

A row holds `function(z, out)`, which writes phi(z) into `out`, and `derivative(z, a, out)`, which writes
phi'(z); it gets the output a = phi(z) as well, because most derivatives are cheaper from the output
(sigmoid: a (1 - a)).  All work elementwise, in place, on arrays of any shape in float32 and float64.
`softmax` is the one row that mixes the neurons of a layer: it serves as an output only, together with the
cross-entropy, whose gradient takes its derivative into account.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import e, erf, inf, pi, sqrt

import numpy as np
import scipy  # its parts load at their first use: `special` takes a sixth of a second

from bpexp.core.arrays import Array, storage, turned
from bpexp.core.rows import Row

__all__ = ["ACTIVATIONS", "Activation"]

Function = Callable[[Array, Array], None]
Derivative = Callable[[Array, Array, Array], None]

TANH_SCALE = 1.7159
LEAK = 0.01
# Klambauer et al. 2017: the pair under which N(0, 1) keeps its mean and variance through selu and weights of variance 1/n_in.
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
BLOCK = 4096  # numbers that the passes of a function find in the processor's cache


@dataclass(frozen=True)
class Activation(Row):
    """phi, phi' and what the rest of the code has to know of them.

    `range` holds the infimum and the supremum of the outputs (targets must lie inside), `steepest` is the largest |phi'|, or
    its supremum (a neuron below a twentieth of it counts as saturated).  `equation` is phi and phi', `effect` what phi' does to
    delta_{k-1} = (delta_k W_k^T) * phi'(z_{k-1}).
    """

    name: str
    function: Function
    derivative: Derivative
    range: tuple[float, float]
    steepest: float

    @property
    def elementwise(self) -> bool:
        """Whether a hidden layer can use it."""
        return self.derivative is not _no_derivative


def blocks(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Arrays of one shape and memory order piece by piece, as flat views, each time with a scratch of the piece's size.

    So a function that needs a second buffer has one that does not grow with the layer.
    """
    assert len({turned(x) for x in arrays}) == 1, "arrays in different memory orders have no pieces in common"
    views = [np.reshape(storage(x), -1, copy=False) for x in arrays]  # raises where it would have to copy
    for start in range(0, views[0].size, BLOCK):
        pieces = [view[start : start + BLOCK] for view in views]
        yield *pieces, np.empty_like(pieces[0])


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
    np.copyto(out, 1.0)


def _erf(z: Array, out: Array) -> None:
    scipy.special.erf(z, out=out)


def _erf_derivative(z: Array, _a: Array, out: Array) -> None:
    """2 / sqrt(pi) exp(-z^2): from the input, for the inverse of erf would cost more."""
    np.multiply(z, z, out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)
    np.multiply(out, 2.0 / sqrt(pi), out=out)


def _scaled_tanh(z: Array, out: Array) -> None:
    """A tanh(2 z / 3) with A = 1.7159, such that phi(±1) = ±1."""
    np.multiply(z, 2.0 / 3.0, out=out)
    np.tanh(out, out=out)
    np.multiply(out, TANH_SCALE, out=out)


def _scaled_tanh_derivative(z: Array, _a: Array, out: Array) -> None:
    """2/3 A (1 - tanh(2 z / 3)^2): from the input, for the roundings of a and of a/A would add up in a small slope."""
    np.multiply(z, 2.0 / 3.0, out=out)
    np.tanh(out, out=out)
    np.multiply(out, out, out=out)
    np.subtract(1.0, out, out=out)
    np.multiply(out, TANH_SCALE * 2.0 / 3.0, out=out)


def _leaky_relu(z: Array, out: Array) -> None:
    np.multiply(z, LEAK, out=out)
    np.maximum(z, out, out=out)


def _leaky_relu_derivative(z: Array, _a: Array, out: Array) -> None:
    """1 where z > 0, else the leak (also at the kink itself)."""
    np.maximum(z, 0.0, out=out)
    np.sign(out, out=out)
    np.maximum(out, LEAK, out=out)


def _elu(z: Array, out: Array) -> None:
    """The larger of z and exp(min(z, 0)) - 1: that is z itself above 0, and never below z elsewhere."""
    np.minimum(z, 0.0, out=out)
    np.expm1(out, out=out)
    np.maximum(z, out, out=out)


def _elu_derivative(z: Array, _a: Array, out: Array) -> None:
    """exp(min(z, 0)): from the input, for a + 1 has lost the digits of a small slope."""
    np.minimum(z, 0.0, out=out)
    np.exp(out, out=out)


def _selu(z: Array, out: Array) -> None:
    """Scale z above 0, scale alpha (exp(z) - 1) below: one of the two terms is always 0."""
    for z_, out_, scratch in blocks(z, out):
        np.minimum(z_, 0.0, out=scratch)
        np.expm1(scratch, out=scratch)
        np.multiply(scratch, SELU_SCALE * SELU_ALPHA, out=scratch)
        np.maximum(z_, 0.0, out=out_)
        np.multiply(out_, SELU_SCALE, out=out_)
        np.add(out_, scratch, out=out_)


def _selu_derivative(z: Array, _a: Array, out: Array) -> None:
    """Scale above 0, scale alpha exp(z) below, and at the kink itself."""
    for z_, out_, scratch in blocks(z, out):
        above = scratch.view(np.bool)[: z_.size]
        np.greater(z_, 0.0, out=above)
        np.minimum(z_, 0.0, out=out_)
        np.exp(out_, out=out_)
        np.multiply(out_, SELU_SCALE * SELU_ALPHA, out=out_)
        np.copyto(out_, SELU_SCALE, where=above)


def _gelu(z: Array, out: Array) -> None:
    """The input times Phi(z), Phi the distribution function of N(0, 1)."""
    scipy.special.ndtr(z, out=out)
    np.multiply(out, z, out=out)


def _gelu_derivative(z: Array, _a: Array, out: Array) -> None:
    """Phi(z) + z exp(-z^2 / 2) / sqrt(2 pi)."""
    for z_, out_, scratch in blocks(z, out):
        np.multiply(z_, z_, out=scratch)
        np.multiply(scratch, -0.5, out=scratch)
        np.exp(scratch, out=scratch)
        np.multiply(scratch, 1.0 / sqrt(2.0 * pi), out=scratch)
        np.multiply(scratch, z_, out=scratch)
        scipy.special.ndtr(z_, out=out_)
        np.add(out_, scratch, out=out_)


def _silu(z: Array, out: Array) -> None:
    """The input times sigma(z).  Not by `_sigmoid`, which is right to a rounding of 1: a small sigma(z) is to be right to one of its own."""
    scipy.special.expit(z, out=out)
    np.multiply(out, z, out=out)


def _silu_derivative(z: Array, _a: Array, out: Array) -> None:
    """sigma(z) (1 + z sigma(-z)): a/z would be 0/0 at 0, and 1 - sigma(z) has lost the digits that a large z asks for."""
    for z_, out_, scratch in blocks(z, out):
        np.negative(z_, out=scratch)
        scipy.special.expit(scratch, out=scratch)
        np.multiply(scratch, z_, out=scratch)
        np.add(scratch, 1.0, out=scratch)
        scipy.special.expit(z_, out=out_)
        np.multiply(out_, scratch, out=out_)


def _softplus(z: Array, out: Array) -> None:
    """log(exp(z) + exp(0)), of which logaddexp takes the larger exponent out."""
    np.logaddexp(z, 0.0, out=out)


def _softplus_derivative(_z: Array, a: Array, out: Array) -> None:
    """sigma(z) = 1 - exp(-a), to a rounding however small it is."""
    np.negative(a, out=out)
    np.expm1(out, out=out)
    np.negative(out, out=out)


def _softmax(z: Array, out: Array) -> None:
    """exp(z_i) / sum_j exp(z_j) over the last axis, shifted by the largest z so that nothing overflows."""
    np.subtract(z, np.maximum.reduce(z, axis=-1, keepdims=True), out=out)
    np.exp(out, out=out)
    np.divide(out, np.add.reduce(out, axis=-1, keepdims=True), out=out)


def _no_derivative(_z: Array, _a: Array, _out: Array) -> None:
    raise TypeError("softmax is not elementwise: its derivative is part of the cross-entropy's")


ACTIVATIONS: dict[str, Activation] = {
    row.name: row
    for row in (
        Activation(
            "sigmoid",
            _sigmoid,
            _sigmoid_derivative,
            range=(0.0, 1.0),
            steepest=0.25,
            equation="φ(z) = 1 / (1 + exp(-z)), φ'(z) = φ(z) (1 - φ(z))",
            effect="Every layer multiplies the deltas by at most 1/4, so they vanish unless the weights are large; and where large weights push "
            "z far from 0, φ' vanishes instead. Outputs average about 1/2, not 0, which shifts the next layer's z.",
            source="Verhulst 1845, the logistic function",
        ),
        Activation(
            "tanh",
            _tanh,
            _tanh_derivative,
            range=(-1.0, 1.0),
            steepest=1.0,
            equation="φ(z) = tanh(z), φ'(z) = 1 - φ(z)²",
            effect="Near z = 0 the deltas pass unchanged; away from it every layer shrinks them, the more the larger |z|.",
            source="LeCun et al. 1998, Efficient BackProp",
        ),
        Activation(
            "scaled_tanh",
            _scaled_tanh,
            _scaled_tanh_derivative,
            range=(-TANH_SCALE, TANH_SCALE),
            steepest=TANH_SCALE * 2.0 / 3.0,
            equation="φ(z) = 1.7159 tanh(2z/3), φ'(z) = 1.7159 · 2/3 · (1 - tanh(2z/3)²)",
            effect="φ' is 1.14 at z = 0 and falls to 1 at |z| = 0.56: near 0 a layer enlarges the deltas a little, which makes up for "
            "those that it shrinks further out. φ(±1) = ±1, so outputs keep about the scale of their inputs.",
            source="LeCun et al. 1998, Efficient BackProp",
        ),
        Activation(
            "relu",
            _relu,
            _relu_derivative,
            range=(0.0, inf),
            steepest=1.0,
            equation="φ(z) = max(0, z), φ'(z) = 1 where z > 0, else 0",
            effect="A neuron passes its delta on whole where z > 0 and not at all elsewhere. Half of them are off where z is symmetric about 0, "
            "which halves the mean square of the deltas at every layer unless the weights make up for it.",
            source="Nair & Hinton 2010",
        ),
        Activation(
            "leaky_relu",
            _leaky_relu,
            _leaky_relu_derivative,
            range=(-inf, inf),
            steepest=1.0,
            equation="φ(z) = max(0.01z, z), φ'(z) = 1 where z > 0, else 0.01",
            effect="As relu, but where z ≤ 0 a hundredth of the delta gets through: no neuron is cut off for good.",
            source="Maas, Hannun & Ng 2013",
        ),
        Activation(
            "elu",
            _elu,
            _elu_derivative,
            range=(-1.0, inf),
            steepest=1.0,
            equation="φ(z) = z where z > 0, else exp(z) - 1; φ'(z) = 1 where z > 0, else exp(z)",
            effect="Deltas pass whole where z > 0 and are damped smoothly, by exp(z), below. "
            "Negative outputs bring the mean of a layer nearer to 0 than relu's.",
            source="Clevert, Unterthiner & Hochreiter 2016, with α = 1",
        ),
        Activation(
            "selu",
            _selu,
            _selu_derivative,
            range=(-SELU_SCALE * SELU_ALPHA, inf),
            steepest=SELU_SCALE * SELU_ALPHA,
            equation="φ(z) = λz where z > 0, else λα (exp(z) - 1); φ'(z) = λ where z > 0, else λα exp(z); λ = 1.0507…, α = 1.6733…",
            effect="φ' exceeds 1 for every z > -0.56 (1.05 above 0, up to 1.76 just below) and vanishes for very negative z. With z ~ N(0, 1), which "
            "init=lecun keeps, the mean of φ'² is 1.07: the deltas grow slowly towards the input.",
            source="Klambauer et al. 2017, Self-normalizing neural networks",
        ),
        Activation(
            "gelu",
            _gelu,
            _gelu_derivative,
            # The infimum lies where phi' = 0, at z = -0.75179152469356446 (Newton's method with 40 digits).  The steepest slope lies
            # where phi'' = exp(-z²/2) (2 - z²) / sqrt(2 pi) = 0, at z = sqrt 2, where Phi(z) = (1 + erf 1) / 2.
            range=(-0.16997120747990367, inf),
            steepest=(1.0 + erf(1.0)) / 2.0 + 1.0 / (e * sqrt(pi)),
            equation="φ(z) = zΦ(z), φ'(z) = Φ(z) + z exp(-z²/2) / √(2π), Φ the distribution function of N(0, 1)",
            effect="φ' is 1/2 at z = 0, up to 1.13 above it, and negative (down to -0.13) for z < -0.75: there a delta has its sign reversed. "
            "Where z stays near 0 every layer halves the deltas.",
            source="Hendrycks & Gimpel 2016",
        ),
        Activation(
            "silu",
            _silu,
            _silu_derivative,
            # phi' = 0 at z = -1 - W(1/e), W being Lambert's function: sigma(z) = 1 + 1/z there, so phi = z + 1 = -W(1/e).  phi'' = 0 where
            # z tanh(z/2) = 2: sigma(z) = 1/2 + 1/z there, so phi' = 1/2 + z/4, with z = 2 · 1.1996786402577339 (Newton's method with 40 digits).
            range=(-0.2784645427610738, inf),
            steepest=(1.0 + 1.1996786402577339) / 2.0,
            equation="φ(z) = zσ(z), φ'(z) = σ(z) (1 + zσ(-z)), σ(z) = 1 / (1 + exp(-z))",
            effect="φ' is 1/2 at z = 0, up to 1.10 above it, and negative (down to -0.10) for z < -1.28: there a delta has its sign reversed. "
            "Where z stays near 0 every layer halves the deltas.",
            source="Elfwing, Uchibe & Doya 2018",
        ),
        Activation(
            "softplus",
            _softplus,
            _softplus_derivative,
            range=(0.0, inf),
            steepest=1.0,
            equation="φ(z) = log(1 + exp(z)), φ'(z) = 1 / (1 + exp(-z))",
            effect="φ' is the sigmoid: below 1 everywhere, 1/2 at z = 0, so every layer shrinks the deltas, as relu does on average but smoothly. "
            "All outputs are positive, which shifts the next layer's z.",
            source="Dugas et al. 2001",
        ),
        Activation(
            "linear",
            _linear,
            _linear_derivative,
            range=(-inf, inf),
            steepest=1.0,
            equation="φ(z) = z, φ'(z) = 1",
            effect="φ' takes no part: the deltas are what the product of the weight matrices makes of them.",
            source="the identity",
        ),
        Activation(
            "erf",
            _erf,
            _erf_derivative,
            range=(-1.0, 1.0),
            steepest=2.0 / sqrt(pi),
            equation="φ(z) = erf(z), φ'(z) = 2/√π · exp(-z²)",
            effect="As tanh, but φ' is 1.13 at z = 0 and falls faster away from it, as exp(-z²) in place of exp(-2|z|). "
            "Its averages over Gaussian z have closed forms.",
            source="Williams 1997, Infinite networks",
        ),
        Activation(
            "softmax",
            _softmax,
            _no_derivative,
            range=(0.0, 1.0),
            steepest=inf,
            equation="φ(z)_i = exp(z_i) / Σ_j exp(z_j), ∂φ_i/∂z_j = φ_i (1 where i = j, else 0) - φ_i φ_j",
            effect="Outputs only. Its neurons are coupled, so it has no φ' of its own: the cross-entropy's delta = a - y has its Jacobian in it.",
            source="Bridle 1990; outputs only",
        ),
    )
}
