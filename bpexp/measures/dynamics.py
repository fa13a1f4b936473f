"""Quantities of a net's course of learning: when a mode of a deep linear net is learned, and how many steps a loss takes at the best rate."""

from collections.abc import Callable, Mapping
from functools import partial
from math import inf, nan
from typing import Any

import numpy as np

from bpexp.config import RunConfig, full_key
from bpexp.core.arrays import Float64s
from bpexp.measures.cell import Cell, Measured
from bpexp.theory import linear

__all__ = ["MEASURED", "PREDICTED", "aligned", "first_crossing", "first_steps", "mode_strengths", "steps_to"]


# ---------------------------------------------------------------------------------------------- modes of deep linear nets


def aligned(config: RunConfig) -> tuple[float, float] | None:
    """The strength s of the modes to be learned and that of the untrained net's, u_0 = gain^depth: of data=linear and init=identity alone.

    There all W_k = gain I and the inputs are white, so the modes are alike, learn on their own, and L = n (s - u)²/2 with n of them.
    """
    linear_net = config.activation == config.output == "linear" and not config.bias
    if (config.data.name, config.init.name) != ("linear", "identity") or not linear_net:
        return None
    return _default(config.data.strength), _default(config.init.gain) ** config.depth


def _default(number: float | None) -> float:
    """Of the keys `data.strength` and `init.gain`, where they are not given."""
    return 1.0 if number is None else number


def mode_strengths(run: Cell) -> tuple[Float64s, Float64s]:
    """Times t = steps times learning rate, and the modes' strength u(t) = s - √(2 L/n) of a run that starts below s."""
    frame, (s, _) = run.curves, _modes(run)
    u = s - np.sqrt(2.0 * frame["loss_train"].to_numpy(np.float64) / run.config.width)
    return frame["step"].to_numpy(np.float64) * run.config.lr, u


def _modes(cell: Cell) -> tuple[float, float]:
    found = aligned(cell.config)
    if found is None:
        raise ValueError("these runs' modes are not alike: that takes data=linear, init=identity and linear neurons without biases")
    return found


def first_crossing(x: Float64s, y: Float64s, level: float) -> float:
    """The x at which a line through the points (x, y) first reaches a level from below; NaN where it never does."""
    above = np.flatnonzero(y >= level)
    if not len(above) or not above[0]:
        return float(x[0]) if len(above) else nan
    i = int(above[0])
    return float(x[i - 1] + (level - y[i - 1]) / (y[i] - y[i - 1]) * (x[i] - x[i - 1]))


def learning_time(cell: Cell, fraction: float = 0.95, per_layer: bool = False) -> Measured:
    """The t = steps times learning rate at which the modes have that fraction of their strength; `per_layer`: times the depth, t D."""

    def found(run: Cell) -> float:
        times, strengths = mode_strengths(run)
        return _scale(run, per_layer) * first_crossing(times, strengths, fraction * _modes(run)[0])

    return cell.repeated(found)


def predicted_learning_time(cell: Cell, fraction: float = 0.95, per_layer: bool = False, limit: bool = False) -> float:
    """The same by the modes' differential equation (`bpexp.theory.linear`); `limit`: t D of an infinitely deep net."""
    s, u0 = _modes(cell)
    if limit:
        return linear.limit_time(fraction, s, u0)
    return _scale(cell, per_layer) * linear.time_to(fraction, cell.config.depth, s, u0)


def _scale(cell: Cell, per_layer: bool) -> float:
    return float(cell.config.depth) if per_layer else 1.0


def learning_time_error(cell: Cell, fraction: float = 0.95) -> Measured:
    """How far, relative to theory's, that time is off in the run where it is farthest."""
    found = [abs(learning_time(run, fraction).value / predicted_learning_time(run, fraction) - 1.0) for run in cell.one_by_one()]
    return Measured.once(max(found, default=nan))


def strength_error(cell: Cell) -> Measured:
    """The largest distance between a mode's measured strength and that of its differential equation, over s and over all steps of all runs."""

    def found(run: Cell) -> float:
        (times, strengths), (s, u0) = mode_strengths(run), _modes(run)
        return float(np.abs(strengths - linear.mode_strength(times, run.config.depth, s, u0)).max()) / s

    return Measured.once(max((found(run) for run in cell.one_by_one()), default=nan))


# ---------------------------------------------------------------------------------------------- steps to a loss


def steps_to(loss: Float64s, level: float, window: int = 1) -> float:
    """The first step at which the mean loss of the last `window` batches is below a level; inf where it never is."""
    if len(loss) < window:
        return inf
    known = np.where(np.isfinite(loss), loss, inf)
    means = known if window == 1 else np.convolve(known, np.full(window, 1.0 / window), "valid")
    below = np.flatnonzero(means < level)
    return float(below[0] + window - 1) if len(below) else inf


def first_steps(cell: Cell, level: float, window: int = 1, capped: bool = True) -> dict[int, float]:
    """By seed, the fewest steps to a loss over the runs of that seed: those at the best learning rate, where that differs between them.

    Where no run gets there inf, or, `capped`, the steps that they were given: it takes longer.
    """
    found: dict[int, float] = {}
    for run in cell.one_by_one():
        steps = steps_to(run.curves["loss_train"].to_numpy(np.float64), level, window)
        seed = run.config.seed
        found[seed] = min(min(steps, float(run.config.steps)) if capped else steps, found.get(seed, inf))
    return found


def best_steps(cell: Cell, level: float, window: int = 1) -> Measured:
    """The steps that it takes to get the mean loss of `window` batches below a level at the best learning rate, mean over seeds.

    A seed of which no run gets there counts with the steps that it was given.
    """
    return Measured.mean(list(first_steps(cell, level, window).values()))


def best_steps_ratio(cell: Cell, slow: Mapping[str, Any], fast: Mapping[str, Any], level: float, window: int = 1) -> Measured:
    """How many times as many steps the runs with the values `slow` take as those with the values `fast`, each at its best rate, mean over seeds.

    Slow ones that never get there count with the steps that they were given; with fast ones that don't it is no number.
    """
    ours, theirs = first_steps(cell.where(slow), level, window), first_steps(cell.where(fast), level, window, capped=False)
    return Measured.mean([ours[seed] / theirs[seed] if theirs[seed] < inf else nan for seed in sorted(ours.keys() & theirs.keys())])


def best_steps_exponent(cell: Cell, level: float, window: int = 1, over: str = "depth", capped: bool = False) -> Measured:
    """The exponent p of steps ∝ key^p, the steps to a loss at the best learning rate: by least squares of their logs, seed by seed.

    No number where a seed never gets there, or, `capped`, with the steps that it was given: then p is larger, if that is at the largest values.
    """
    return exponent(cell, over, partial(first_steps, level=level, window=window, capped=capped))


def exponent(cell: Cell, over: str, number: Callable[[Cell], Mapping[int, float]]) -> Measured:
    """The exponent p of number ∝ key^p, mean over seeds; NaN where a seed lacks a value of the key."""
    columns = {float(values[full_key(over)]): number(part) for values, part in cell.each([over])}
    seeds = sorted(set().union(*columns.values()))
    x = np.log(list(columns))
    return Measured.mean([_slope(x, np.log([column.get(seed, nan) for column in columns.values()])) for seed in seeds])


def _slope(x: Float64s, y: Float64s) -> float:
    return float(np.polyfit(x, y, 1)[0]) if np.isfinite(y).all() and len(x) > 1 else nan


MEASURED: dict[str, Callable[..., Measured]] = {
    "learning_time": learning_time,
    "learning_time_error": learning_time_error,
    "strength_error": strength_error,
    "best_steps": best_steps,
    "best_steps_ratio": best_steps_ratio,
    "best_steps_exponent": best_steps_exponent,
}
PREDICTED: dict[str, Callable[..., float]] = {"learning_time": predicted_learning_time}
