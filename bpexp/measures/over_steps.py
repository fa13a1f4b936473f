"""Quantities of a training run's course: the step at which something first happens, and what layers do until then."""

from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np
import pandas as pd

from bpexp.datasets import load
from bpexp.measures.cell import Cell, Measured, place
from bpexp.measures.speeds import paired
from bpexp.theory.limits import plateau

__all__ = ["MEASURED", "PREDICTED", "first_passage"]


def first_passage(frame: pd.DataFrame, column: str, above: float | None = None, below: float | None = None) -> float:
    """The first step at which a column exceeds one bound, or is less than the other; inf where it never is."""
    values = frame[column].to_numpy(np.float64)
    passed = np.zeros(len(values), bool)
    if above is not None:
        passed |= values > above
    if below is not None:
        passed |= values < below
    return float(frame["step"].to_numpy(np.float64)[passed].min(initial=inf))


def steps_until(cell: Cell, column: str = "accuracy_test", above: float | None = None, below: float | None = None) -> Measured:
    """The first probed step at which a column of the curves is beyond a bound, on average over runs; inf where it never is."""
    return cell.repeated(lambda run: first_passage(run.curves, column, above, below))


def delay(
    cell: Cell, key: str, over: Any, under: Any, column: str = "accuracy_test", above: float | None = None, below: float | None = None
) -> Measured:
    """How many times as many steps it takes with `key` = `over` as with `under` and the same seed; a run that never gets there counts as having taken
    all its steps and got there after the last: it takes longer.
    """
    return paired(cell, key, over, under, lambda run: min(first_passage(run.curves, column, above, below), float(run.config.steps)))


def lowest_until(
    cell: Cell, layer: int, column: str = "activation_mean", curve: str = "accuracy_test", above: float | None = None, below: float | None = None
) -> Measured:
    """The lowest value of a layer's probe before the curve is beyond a bound, on average over runs; -2 is the last hidden layer."""
    return cell.repeated(lambda run: _lowest(run, layer, column, first_passage(run.curves, curve, above, below)))


def _lowest(run: Cell, layer: int, column: str, end: float) -> float:
    frame, number = run.layers, 1 + place(layer, run.config.depth)
    before = frame[(frame["layer"] == number) & (frame["step"] < end)]
    return float(before[column].min())


def final_loss(cell: Cell) -> Measured:
    """The full training loss after the last update, on average over runs."""
    return Measured.mean(cell.frame["final_loss"].to_numpy(np.float64))


def predicted_final_loss(cell: Cell) -> float:
    """That of a net whose output ignores its input, at its best: classes as frequent as each other."""
    return plateau(load(cell.config.data).outputs, cell.config.loss)


MEASURED: dict[str, Callable[..., Measured]] = {
    "steps_until": steps_until,
    "delay": delay,
    "lowest_until": lowest_until,
    "final_loss": final_loss,
}
PREDICTED: dict[str, Callable[..., float]] = {"final_loss": predicted_final_loss}
