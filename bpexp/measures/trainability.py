"""How deep a net may be and still learn: where a number of the runs' summary falls through a level, and theory's length for it.

`over` is the key along which nets follow each other (the depth), `name` the number, `level` what it falls through.  A key's values are numbers.
"""

from collections.abc import Callable, Iterator
from math import inf, isfinite, isnan, nan

import numpy as np

from bpexp.config import full_key
from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import Float64s
from bpexp.measures.cell import Cell, Measured
from bpexp.theory.mean_field import correlation_depth, critical_line

__all__ = ["MEASURED", "PREDICTED", "correlation_length", "crossing"]


def crossing(x: Float64s, y: Float64s, level: float) -> float:
    """The least x at which y falls through a level, linear between the points; inf where it never does, NaN where it lies below from the start."""
    below = np.flatnonzero(~(y >= level))  # a run that diverged is below
    if not len(below):
        return inf
    first = int(below[0])
    if first == 0:
        return nan
    high, low = float(y[first - 1]), float(y[first])
    if not isfinite(low):
        return float(x[first - 1])
    return float(x[first - 1] + (high - level) / (high - low) * (x[first] - x[first - 1]))


def _crossings(cell: Cell, over: str, name: str, level: float) -> Iterator[float]:
    """One of each seed."""
    column = full_key(over)
    for part in cell.by_seed().values():
        line = part.frame.groupby(column)[name].mean()
        yield crossing(line.index.to_numpy(np.float64), line.to_numpy(np.float64), level)


def crosses_at(cell: Cell, over: str, name: str, level: float) -> Measured:
    """Where along `over` the number falls through the level, the mean over seeds; inf or NaN where that of any seed is."""
    found = list(_crossings(cell, over, name, level))
    return Measured.mean(found) if np.isfinite(found).all() else Measured.once(sum(found))


def correlation_length(cell: Cell) -> float:
    """xi_c, in layers, of wide nets with the cell's init.sigma_w2 and init.sigma_b2 (Schoenholz et al. 2017, sec. 3)."""
    init = cell.config.init
    if init.sigma_w2 is None:
        return nan
    return correlation_depth(ACTIVATIONS[cell.config.activation], init.sigma_w2, init.sigma_b2)


def crossing_in_lengths(cell: Cell, over: str, name: str, level: float, each: str, longest: float = inf) -> Measured:
    """The median over the values of a key `each` of: where the number falls through the level (mean over seeds), over xi_c.

    Values whose xi_c is longer than `longest` layers are left out: at criticality no net is as deep as a multiple of it.  NaN where one of the others
    does not fall through the level.
    """
    found = []
    for _, part in cell.each([each]):
        length = correlation_length(part)
        if not length > longest:
            found.append(crosses_at(part, over, name, level).value / length)
    return Measured.median(found) if np.isfinite(found).all() else Measured.once(nan)


def farthest_crossing(cell: Cell, over: str, name: str, level: float, each: str) -> Measured:
    """The value of a key `each` at which the number falls through the level (mean over seeds) farthest along `over`.

    One number of all runs together: it is one of the key's values.  NaN where two are equally far, or where none falls through the level.
    """
    found = {values[full_key(each)]: crosses_at(part, over, name, level).value for values, part in cell.each([each])}
    known = {value: place for value, place in found.items() if not isnan(place)}
    farthest = [float(value) for value, place in known.items() if place == max(known.values())]
    return Measured.once(farthest[0] if len(farthest) == 1 else nan)


def predicted_crosses_at(cell: Cell, lengths: float) -> float:
    """So many correlation lengths xi_c: 6 is how deep a net can be trained (Schoenholz et al. 2017, sec. 5)."""
    return lengths * correlation_length(cell)


def predicted_crossing_in_lengths(_cell: Cell, lengths: float) -> float:
    """The same in lengths."""
    return lengths


def predicted_farthest_crossing(cell: Cell) -> float:
    """sigma_w2 on the critical line, where xi_c is endless."""
    found = critical_line(ACTIVATIONS[cell.config.activation], cell.config.init.sigma_b2)
    return nan if found is None else found


MEASURED: dict[str, Callable[..., Measured]] = {
    "crosses_at": crosses_at,
    "crossing_in_lengths": crossing_in_lengths,
    "farthest_crossing": farthest_crossing,
}
PREDICTED: dict[str, Callable[..., float]] = {
    "crosses_at": predicted_crosses_at,
    "crossing_in_lengths": predicted_crossing_in_lengths,
    "farthest_crossing": predicted_farthest_crossing,
}
