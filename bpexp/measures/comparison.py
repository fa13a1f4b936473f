"""One setting's number against another's."""

from collections.abc import Callable, Mapping
from math import hypot
from typing import Any

from bpexp.measures import over_layers, over_runs, signal
from bpexp.measures.cell import Cell, Measured

__all__ = ["MEASURED", "PREDICTED"]

MEASURES = over_layers.MEASURED | over_runs.MEASURED | signal.MEASURED
PREDICTIONS = over_layers.PREDICTED | signal.PREDICTED


def difference(cell: Cell, measure: str, one: Mapping[str, Any], other: Mapping[str, Any], options: Mapping[str, Any] | None = None) -> Measured:
    """A measure of the runs that have the values `one`, less that of the runs that have the values `other`; their errors add in quadrature."""
    first, second = (MEASURES[measure](cell.where(values), **options or {}) for values in (one, other))
    values = tuple(a - b for a, b in zip(first.values, second.values, strict=False))
    return Measured(first.value - second.value, hypot(first.error, second.error), values)


def predicted_difference(
    cell: Cell, measure: str, one: Mapping[str, Any], other: Mapping[str, Any], options: Mapping[str, Any] | None = None
) -> float:
    """The same of theory's numbers."""
    first, second = (PREDICTIONS[measure](cell.where(values), **options or {}) for values in (one, other))
    return first - second


MEASURED: dict[str, Callable[..., Measured]] = {"difference": difference}
PREDICTED: dict[str, Callable[..., float]] = {"difference": predicted_difference}
