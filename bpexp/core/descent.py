"""From gradients to a step: the learning rates and their schedule, clipping, and one call of the optimizer per arena.

Gradients are stored as g * 2**exponent (`bpexp.core.network`).  An optimizer gets g with its unit, 2**exponent times the clipping factor, and
with its rate, the learning rate times that unit: computed in float64, so that it is the product that is rounded to the net's dtype.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from math import isfinite, nan

import numpy as np
from numpy.typing import NDArray

from bpexp.core.arrays import Array, Float64s, Ints, square_sum
from bpexp.core.network import Arena, Gradients, Parameters
from bpexp.core.optimizers import OPTIMIZERS, Block, Optimizer, clip_factor

__all__ = ["Descent", "Method"]


Clip = tuple[Float64s, Ints]


def constant(_step: int) -> float:
    return 1.0


@dataclass(frozen=True)
class Method:
    """How all runs of a stack descend: the optimizer with its keys, the norm to clip at (None: no clipping), the schedule's factor on lr by step."""

    optimizer: Optimizer = OPTIMIZERS["sgd"]
    keys: Mapping[str, float] = field(default_factory=dict)
    clip: float | None = None
    factor: Callable[[int], float] = constant


class Scale:
    """What belongs to one array of exponents (R, layers): unit and rate in the net's dtype, the unit in float64 too."""

    def __init__(self, exponent: Ints, dtype: np.dtype) -> None:
        self.exponent = exponent
        self.unit64: Float64s = np.empty(exponent.shape)
        self.unit: Array = np.empty(exponent.shape, dtype)
        self.rate: Array = np.empty(exponent.shape, dtype)

    def update(self, lr: Float64s, clip: Clip | None) -> None:
        """`clip` = (mantissa, exponent) is the factor of clipping, which alone may lie below the range of float64."""
        mantissa, exponent = (1.0, self.exponent) if clip is None else (clip[0], self.exponent + clip[1])
        np.ldexp(mantissa, exponent, out=self.unit64)
        np.multiply(self.unit64, lr, out=self.rate, casting="same_kind")
        np.copyto(self.unit, self.unit64, casting="same_kind")


class Descent:
    """Updates `parameters` in place from `gradients`, whose buffers it uses up.

    `lr` (R,) are the runs' learning rates; or (R, depth) those of their layers, for all that a layer trains.
    """

    def __init__(self, method: Method, parameters: Parameters, gradients: Gradients, lr: Float64s) -> None:
        self.method, self.parameters, self.gradients = method, parameters, gradients
        self.lr64: Float64s = lr[:, None] if lr.ndim == 1 else np.concatenate([lr[:, :1], lr], axis=1)  # (R, 1), or with a column for layer 0
        self.lr: Array = np.empty((*self.lr64.shape, 1, 1), gradients.ones.dtype)
        self.factor, self.scheduled = nan, self.lr64  # the schedule's last factor, the learning rates times it
        arenas = [arena for arena in parameters.arenas if arena.kind in gradients.arrays]
        self.moments = [tuple(np.zeros_like(arena.values) for _ in range(method.optimizer.moments)) for arena in arenas]
        scales = {id(exponent): Scale(exponent, self.lr.dtype) for exponent in gradients.exponents.values()}
        self.scales = list(scales.values())
        self.rate: Array = scales[id(gradients.exponent)].rate[:, 1:]  # (R, depth), of the weights
        pairs = zip(arenas, gradients.arenas, self.moments, strict=True)
        self.blocks = [self._block(weights, gradient, moments, scales[id(gradients.exponents[weights.kind])]) for weights, gradient, moments in pairs]
        ends = np.cumsum([0, *(len(arena.layers) for arena in arenas)])
        self.squares: Array = np.zeros((len(lr), ends[-1]), self.lr.dtype)  # of all layers' weights, of all kinds
        parts = [self.squares[:, start:end] for start, end in pairwise(ends)]
        self.rows = [(arena.values.reshape(*arena.values.shape[:2], -1), part) for arena, part in zip(arenas, parts, strict=True)]
        self.rule = partial(method.optimizer.rule, **method.keys)

    def _block(self, weights: Arena, gradient: Arena, moments: tuple[Array, ...], scale: Scale) -> Block:
        at = slice(weights.layers.start, weights.layers.stop, weights.layers.step)
        lr = self.lr if self.lr.shape[1] == 1 else self.lr[:, at]
        whole = (weights.values, gradient.values, *moments, scale.unit[:, at, None, None], scale.rate[:, at, None, None], lr)
        W, g, *rest, unit, rate, lr = (_fewer_axes(x) for x in whole)
        return Block(W, g, tuple(rest), unit, rate, lr)

    def schedule(self, step: int) -> bool:
        """Set the learning rates of the update after `step` others; whether they are those of the one before."""
        factor = self.method.factor(step)
        if factor == self.factor:
            return True
        self.factor, self.scheduled = factor, self.lr64 * factor
        np.copyto(self.lr[:, :, 0, 0], self.scheduled, casting="same_kind")
        return False

    def scheduled_of(self, k: int) -> Float64s:
        """Layer k's learning rates (R,) in this update."""
        return self.scheduled[:, 0 if self.scheduled.shape[1] == 1 else k]

    def step(self, step: int, *, settled: bool = False) -> None:
        """The update after `step` others.  `settled`: the exponents are those of the one before."""
        settled = self.schedule(step) and settled
        clip = None if self.method.clip is None else self._clip(self.method.clip)
        if clip is not None or not settled:
            for scale in self.scales:
                scale.update(self.scheduled, clip)
        for block in self.blocks:
            self.rule(block, step + 1)  # the first update is number 1

    def _clip(self, limit: float) -> Clip:
        """The factor of clipping as mantissa * 2**exponent, (R, 1) each."""
        grad = self.gradients
        parts = [(*square_sum(view), grad.exponents[arena.kind][:, k]) for arena in grad.arenas for k, view in arena.views()]
        squares, scales, exponents = (np.stack(numbers, axis=1) for numbers in zip(*parts, strict=True))
        mantissa, exponent = clip_factor(squares, scales + exponents, limit)
        return mantissa[:, None], exponent[:, None]

    def broken(self) -> NDArray[np.bool] | None:
        """Which runs have a parameter that is not finite; None where none of those updated here has, a sum of squares being finite."""
        for rows, squares in self.rows:
            np.vecdot(rows, rows, squares)
        if isfinite(np.add.reduce(self.squares, None)):
            return None
        return ~self.parameters.finite()

    def clear(self, runs: NDArray[np.bool]) -> None:
        """Forget the moments of runs that have diverged."""
        for moments in self.moments:
            for moment in moments:
                moment[runs] = 0.0


def _fewer_axes(x: Array) -> Array:
    """(R, K, n_in, n_out) as (R, K, n_in n_out), without leading axes of one run or layer: an optimizer's calls are sooner made."""
    flat_layers = np.reshape(x, (*x.shape[:2], -1), copy=False)
    while flat_layers.ndim > 1 and len(flat_layers) == 1:
        flat_layers = flat_layers[0]
    return flat_layers if flat_layers.size > 1 else flat_layers.reshape(())
