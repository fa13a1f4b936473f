"""Quantities of a profile over the layers."""

from collections.abc import Callable
from math import nan

from bpexp.core.arrays import Float64s
from bpexp.core.records import decades_lost
from bpexp.measures.cell import Cell, Measured, place
from bpexp.prediction import Prediction, predict

__all__ = ["MEASURED", "PREDICTED", "predicted_norm"]


def decades_per_layer(cell: Cell, first: int = 2, last: int | None = None, column: str = "log10_delta_norm") -> Measured:
    """How many powers of ten a norm loses per layer on its way back, at step 0, by least squares over layers `first` … `last` (the last but one)."""
    return cell.repeated(lambda run: decades_lost(run.profile(column), first, last or run.config.depth - 1))


def log10_ratio(cell: Cell, layer: int, other: int, column: str = "log10_grad_norm") -> Measured:
    """log10 of a norm at one layer over that at another, at step 0; negative numbers count from the output, -1 being the output layer."""
    return cell.repeated(lambda run: _ratio(run.profile(column), layer, other))


def predicted_decades_per_layer(
    cell: Cell, first: int = 2, last: int | None = None, column: str = "log10_delta_norm", settled: bool = False
) -> float:
    """The same slope of theory's profile for the same net, its width counted; `settled`: -1/2 log10 chi at the fixed point, of wide layers."""
    found = predict(cell.config)
    if found is None or (settled and found.settled is None):
        return nan
    if settled and found.settled is not None:
        return found.settled.decades_per_layer
    return decades_lost(predicted_norm(found, column), first, last or cell.config.depth - 1)


def predicted_log10_ratio(cell: Cell, layer: int, other: int, column: str = "log10_grad_norm", settled: bool = False) -> float:
    """The same of theory's profile, its width counted; `settled`: so many steps of the fixed point's slope, of wide layers."""
    found = predict(cell.config)
    if found is None or (settled and found.settled is None):
        return nan
    if settled and found.settled is not None:
        at, against = (place(number, cell.config.depth) for number in (layer, other))
        return (at - against) * found.settled.decades_per_layer
    return _ratio(predicted_norm(found, column), layer, other)


def predicted_norm(found: Prediction, column: str) -> Float64s:
    """Theory's log10 of a norm over the layers, its width counted, up to a constant; a sample's own for `sample_…` columns."""
    return found.log10_norm(column.replace("_sample_", "_"))


def _ratio(profile: Float64s, layer: int, other: int) -> float:
    at, against = (place(number, len(profile)) for number in (layer, other))
    return float(profile[at] - profile[against])


MEASURED: dict[str, Callable[..., Measured]] = {"decades_per_layer": decades_per_layer, "log10_ratio": log10_ratio}
PREDICTED: dict[str, Callable[..., float]] = {"decades_per_layer": predicted_decades_per_layer, "log10_ratio": predicted_log10_ratio}
