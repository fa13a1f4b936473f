"""Optimizers: one rule each, from a gradient to a step, in place.

g is dL/dW and t = 1, 2, … the number of the update.  No optimizer changes the recursion of the deltas: it decides what a layer makes of
the gradient that has reached it.

Gradients are stored as g / unit, unit being a power of two (`bpexp.core.network`) times the factor of clipping, so g itself is
`gradient * unit`, or 0 where that lies below the range of the net's dtype.  Rules that average g² keep the root of the average, r = √s, which
has the range of g: squares of gradients of 1e-30 would be lost in float32, and with them all that such a rule could do for a deep layer.

The keyword arguments of a rule are the keys that it takes from the configuration (`optimizer.momentum=0.9`).  Rules and defaults are those
of PyTorch's optimizers of the same names, so that runs can be compared.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from bpexp.core.arrays import Array, Float64s, Ints
from bpexp.core.rows import RuleRow

__all__ = ["OPTIMIZERS", "Block", "Optimizer", "clip_factor"]


@dataclass(frozen=True)
class Block:
    """Equal layers as their optimizer sees them: weights and all that belongs to them, updated in place.

    `weights`, `gradient` and each of `moments` (0 at the start) have the shape (R, K, n_in n_out); `unit` and `rate` = lr * unit, rounded
    once, (R, K, 1); `lr` that or, one for all layers, (R, 1, 1); all without leading axes of size 1.  A rule may use up the gradient's buffer.
    """

    weights: Array
    gradient: Array
    moments: tuple[Array, ...]
    unit: Array
    rate: Array
    lr: Array


def sgd(block: Block, _t: int, weight_decay: float = 0.0) -> None:
    """W <- W - lr (g + weight_decay W)."""
    if weight_decay:
        _descend(block, _decayed(block, weight_decay))
    else:
        np.multiply(block.gradient, block.rate, out=block.gradient)
        np.subtract(block.weights, block.gradient, out=block.weights)


def momentum(block: Block, _t: int, momentum: float = 0.9, weight_decay: float = 0.0) -> None:
    """W <- W - lr v, where v <- momentum v + g."""
    g, v = _decayed(block, weight_decay), block.moments[0]
    np.multiply(v, momentum, out=v)
    np.add(v, g, out=v)
    np.multiply(v, block.lr, out=g)
    np.subtract(block.weights, g, out=block.weights)


def nesterov(block: Block, _t: int, momentum: float = 0.9, weight_decay: float = 0.0) -> None:
    """W <- W - lr (g + momentum v), where v <- momentum v + g."""
    g, v = _decayed(block, weight_decay), block.moments[0]
    np.multiply(v, momentum, out=v)
    np.add(v, g, out=v)
    np.add(g, momentum * v, out=g)
    _descend(block, g)


def rmsprop(block: Block, _t: int, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0.0) -> None:
    """W <- W - lr g / (r + eps), where r² <- alpha r² + (1 - alpha) g²."""
    g, r = _decayed(block, weight_decay), block.moments[0]
    _root_mean_square(r, g, alpha)
    np.divide(g, r + eps, out=g)
    _descend(block, g)


def adam(block: Block, t: int, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.0) -> None:
    """W <- W - lr (m / (1 - beta1^t)) / (r / √(1 - beta2^t) + eps), where m <- beta1 m + (1 - beta1) g and r² <- beta2 r² + (1 - beta2) g²."""
    g, (m, r) = _decayed(block, weight_decay), block.moments
    np.multiply(m, beta1, out=m)
    np.add(m, (1.0 - beta1) * g, out=m)
    _root_mean_square(r, g, beta2)
    np.divide(r, sqrt(1.0 - beta2**t), out=g)
    np.add(g, eps, out=g)
    np.divide(m, g, out=g)
    np.divide(g, 1.0 - beta1**t, out=g)
    _descend(block, g)


def adamw(block: Block, t: int, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.01) -> None:
    """W <- W - lr weight_decay W, and then Adam's step without it: the decay is not divided by r."""
    np.multiply(block.weights, 1.0 - block.lr * weight_decay, out=block.weights)
    adam(block, t, beta1, beta2, eps)


def _decayed(block: Block, weight_decay: float) -> Array:
    """The gradient with its decay, g + weight_decay W, in the gradient's buffer."""
    np.multiply(block.gradient, block.unit, out=block.gradient)
    if weight_decay:
        np.add(block.gradient, weight_decay * block.weights, out=block.gradient)
    return block.gradient


def _root_mean_square(r: Array, g: Array, memory: float) -> None:
    """The average r² <- memory r² + (1 - memory) g², without squaring what has no square in the dtype."""
    np.multiply(r, sqrt(memory), out=r)
    np.hypot(r, sqrt(1.0 - memory) * g, out=r)


def _descend(block: Block, direction: Array) -> None:
    """W <- W - lr direction."""
    np.multiply(direction, block.lr, out=direction)
    np.subtract(block.weights, direction, out=block.weights)


def clip_factor(squares: Float64s, exponents: Ints, limit: float) -> tuple[Float64s, Ints]:
    """min(1, limit / ‖g‖) of each run as mantissa * 2**exponent, (R,) each, ‖g‖ being the norm of all gradients together.

    ‖g‖² is the sum of `squares` * 4**`exponents`, (R, arrays) each: it may lie beyond the range of float64, and the factor below it
    (Pascanu, Mikolov & Bengio 2013, algorithm 1).
    """
    counted = np.where(squares > 0.0, exponents, np.iinfo(np.int32).min)  # what is 0 is no measure of the others
    largest = counted.max(axis=1)
    norm = np.sqrt(np.ldexp(squares, 2 * (counted - largest[:, None])).sum(axis=1))
    with np.errstate(over="ignore", divide="ignore"):
        clips = np.ldexp(norm, largest) > limit
        return np.where(clips, limit / norm, 1.0), np.where(clips, -largest, 0)


@dataclass(frozen=True)
class Optimizer(RuleRow):
    """A row: the rule, and how many moments it keeps of each weight."""

    moments: int


OPTIMIZERS: dict[str, Optimizer] = {
    row.name: row
    for row in (
        Optimizer(
            sgd,
            moments=0,
            lr=(0.01, 0.1, 1.0),
            equation="W ← W − η g",
            effect="A layer moves as far as its gradient is large: where the deltas have shrunk by 10⁻⁶, so have the steps.",
            source="Robbins & Monro 1951",
        ),
        Optimizer(
            momentum,
            moments=1,
            lr=(0.003, 0.03, 0.3),
            equation="v ← μ v + g, W ← W − η v",
            effect="Gradients that agree from step to step add up to 1/(1 − μ) times as much; every layer gains the same, so their ratios stay.",
            source="Polyak 1964",
        ),
        Optimizer(
            nesterov,
            moments=1,
            lr=(0.003, 0.03, 0.3),
            equation="v ← μ v + g, W ← W − η (g + μ v)",
            effect="As momentum, looking one step ahead; the ratios between layers stay.",
            source="Nesterov 1983; in this form Sutskever et al. 2013",
        ),
        Optimizer(
            rmsprop,
            moments=1,
            lr=(0.0003, 0.003, 0.03),
            equation="r² ← α r² + (1 − α) g², W ← W − η g / (r + ε)",
            effect="Each weight's gradient is divided by its own usual size: a layer moves as far as any other however small its deltas, down to ε.",
            source="Tieleman & Hinton 2012, lecture 6.5",
        ),
        Optimizer(
            adam,
            moments=2,
            lr=(0.0003, 0.003, 0.03),
            equation="m ← β₁ m + (1 − β₁) g, r² ← β₂ r² + (1 − β₂) g², W ← W − η m̂ / (r̂ + ε), with m̂ = m/(1 − β₁ᵗ), r̂² = r²/(1 − β₂ᵗ)",
            effect="As rmsprop with momentum: steps of about η in every layer whose deltas are above ε, however much they have shrunk on their way.",
            source="Kingma & Ba 2015, algorithm 1",
        ),
        Optimizer(
            adamw,
            moments=2,
            lr=(0.0003, 0.003, 0.03),
            equation="W ← (1 − η λ) W, then Adam's step",
            effect="As adam; the pull of the weights towards 0 is the same in all layers instead of being divided by r̂.",
            source="Loshchilov & Hutter 2019, algorithm 2",
        ),
    )
}
