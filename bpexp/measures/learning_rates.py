"""Quantities over learning rates: the largest that is stable, the best, and how both depend on the depth.

Of the squared error of a linear net y = x W_1 … W_D the Hessian is, but for terms that are 0 where the error is, J Jᵀ with J the Jacobian of all
outputs by all weights.  With A_k and B_k the products of the weights before and after layer k its eigenvalues are those of

    Σ_k (X A_k A_kᵀ Xᵀ / samples) ⊗ (B_kᵀ B_k)

Each layer of an isometric net (A_k A_kᵀ and B_kᵀ B_k multiples a_k and b_k of 1) adds the same a_k b_k, so that the largest eigenvalue is
D a b times that of the inputs' mean xᵀx.  Gradient descent is stable below 2 over it, and fastest along that direction at 1 over it: both fall
like 1/D (Saxe, McClelland & Ganguli 2014, whose optimal rates do, sec. 3 and fig. 6; the constants derived).
"""

from collections.abc import Callable, Mapping
from functools import partial
from math import inf, nan, sqrt
from typing import Literal

import numpy as np

from bpexp.config import RunConfig
from bpexp.datasets import load
from bpexp.measures.cell import Cell, Measured
from bpexp.measures.dynamics import aligned, exponent

__all__ = ["MEASURED", "PREDICTED", "best_lrs", "largest_lrs", "reached", "sharpness"]

Of = Literal["final", "late", "highest"]
LATE = 0.75  # of the steps: what comes after them is late


def sharpness(config: RunConfig) -> float:
    """The largest eigenvalue of the Hessian (module's docstring), NaN where the net is not isometric.

    Aligned weights s^(1/D) I, at the solution: D s^(2-2/D), for the inputs are white.  Orthogonal ones with sigma_w2 = 1 between layers
    as wide as the inputs, at the start: D times the largest eigenvalue of the inputs' mean xᵀx.
    """
    modes, data = aligned(config), load(config.data)
    if modes is not None:
        return float(config.depth * modes[0] ** (2.0 - 2.0 / config.depth))
    linear_net = config.activation == config.output == "linear" and config.loss == "squared_error" and not config.bias
    isometric = config.init.name == "orthogonal" and config.init.sigma_w2 in (None, 1.0) and config.width == data.inputs >= data.outputs
    if not (linear_net and isometric and config.norm == "none" and config.skip.name == "none"):
        return nan
    x = data.split.x_train
    return config.depth * float(np.linalg.eigvalsh(x.T @ x / len(x))[-1])


def reached(run: Cell, of: Of) -> float:
    """A run's full-batch loss over that of its untrained net; inf where it diverged.

    The loss after the last update, the highest one in the last quarter of the steps (beyond the edge of stability the loss goes up and down), or
    the highest one of all.
    """
    row = run.frame.iloc[0]
    if row["outcome"] == "diverged":
        return inf
    loss = run.curves["loss_train"].to_numpy(np.float64)
    start = {"final": len(loss) - 1, "late": round(LATE * (len(loss) - 1)), "highest": 0}[of]
    return float(loss[start:].max() / loss[0])


def best_lrs(cell: Cell, after: int | None = None) -> dict[int, float]:
    """By seed, the learning rate of the lowest loss after so many steps, or after the last."""
    found = {}
    for seed, part in cell.by_seed().items():
        losses = {run.config.lr: _loss_after(run, after) for run in part.one_by_one()}
        found[seed] = min(losses, key=losses.__getitem__)
    return found


def _loss_after(run: Cell, steps: int | None) -> float:
    loss = run.curves["loss_train"].to_numpy(np.float64)
    place = run.config.steps if steps is None else steps
    return float(loss[place]) if place < len(loss) and np.isfinite(loss[place]) else inf


def largest_lrs(cell: Cell, share: float, of: Of = "late") -> dict[int, float]:
    """By seed, where learning ends, above the best rate of those that `reached` at most that share of the first loss.

    The geometric mean of the last rate before that and the first one after it; NaN where either is not among the runs.
    """
    return {seed: _edge({run.config.lr: reached(run, of) for run in part.one_by_one()}, share) for seed, part in cell.by_seed().items()}


def _edge(ratios: Mapping[float, float], share: float) -> float:
    rates = sorted(ratios)
    good = [ratios[rate] <= share for rate in rates]
    if not any(good):
        return nan
    start = min((index for index, ok in enumerate(good) if ok), key=lambda index: ratios[rates[index]])
    end = next((index for index in range(start, len(rates)) if not good[index]), None)
    return nan if end is None else sqrt(rates[end - 1] * rates[end])


def best_lr(cell: Cell, after: int | None = None) -> Measured:
    """The learning rate of the lowest loss after so many steps, or after the last, mean over seeds."""
    return Measured.mean(list(best_lrs(cell, after).values()))


def predicted_best_lr(cell: Cell) -> float:
    """1 over the largest eigenvalue of the Hessian: what is left of an error along its direction is then quadratically small at every step."""
    return 1.0 / sharpness(cell.config)


def largest_lr(cell: Cell, share: float, of: Of = "late") -> Measured:
    """The largest learning rate with which the loss comes to at most that share of its first value, or never exceeds it (`of`: highest)."""
    return Measured.mean(list(largest_lrs(cell, share, of).values()))


def predicted_largest_lr(cell: Cell) -> float:
    """2 over the largest eigenvalue of the Hessian."""
    return 2.0 / sharpness(cell.config)


def best_lr_exponent(cell: Cell, over: str = "depth", after: int | None = None) -> Measured:
    """The exponent p of best rate ∝ key^p, mean over seeds."""
    return exponent(cell, over, partial(best_lrs, after=after))


def largest_lr_exponent(cell: Cell, share: float, of: Of = "late", over: str = "depth") -> Measured:
    """The exponent p of largest rate ∝ key^p, mean over seeds."""
    return exponent(cell, over, partial(largest_lrs, share=share, of=of))


def predicted_exponent(cell: Cell, over: str = "depth") -> float:
    """The same of 1 over the largest eigenvalue of the Hessian, which both are multiples of."""
    by_seed: Callable[[Cell], dict[int, float]] = lambda part: {0: 1.0 / sharpness(part.config)}  # noqa: E731
    return exponent(cell, over, by_seed).value


MEASURED: dict[str, Callable[..., Measured]] = {
    "best_lr": best_lr,
    "largest_lr": largest_lr,
    "best_lr_exponent": best_lr_exponent,
    "largest_lr_exponent": largest_lr_exponent,
}
PREDICTED: dict[str, Callable[..., float]] = {
    "best_lr": predicted_best_lr,
    "largest_lr": predicted_largest_lr,
    "best_lr_exponent": predicted_exponent,
    "largest_lr_exponent": predicted_exponent,
}
