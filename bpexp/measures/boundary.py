"""The boundary between hyperparameters that train and those that don't: which run converges, and the dimension of the border between the two.

The runs of a cell lie on a grid of two keys, `x` and `y`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from scipy.stats import linregress

from bpexp.config import full_key
from bpexp.core.arrays import Float64s
from bpexp.measures.cell import Cell, Measured

__all__ = ["MEASURED", "PREDICTED", "Piece", "box_counts", "box_sizes", "convergence", "dimension", "pieces"]

Phases = NDArray[np.bool]

AVERAGED = 20  # last steps, so that a loss that oscillates counts by its mean
LARGEST = 1e6  # times the initial loss: no loss counts for more
SIZES = sorted(factor * 2**k for k in range(12) for factor in (1, 3))  # 1, 2, 3, 4, 6, 8, 12, …
GAP = 5.0  # times the least, between neighbours on a logarithmic axis
FEWEST = 4  # boxes along a side of the picture, at least


def convergence(losses: Float64s) -> Float64s:
    """How a training went, by its losses (runs, steps) v over the initial one, at most 10⁶: -sum v where it converged, else sum 1/v.

    It converged if the mean of the last 20 is below 1.  The sum is less the faster it did: both are the measure of Sohl-Dickstein 2024 (his
    published code).  A loss that is not finite, or not there as the run had diverged before, counts for the most.
    """
    v = np.minimum(np.where(np.isfinite(losses), losses, np.inf) / losses[:, :1], LARGEST)
    converged = v[:, -AVERAGED:].mean(axis=1) < 1.0
    with np.errstate(divide="ignore"):  # of a loss that is 0, in a run that converged
        return np.asarray(np.where(converged, -v.sum(axis=1), (1.0 / v).sum(axis=1)))


@dataclass(frozen=True, eq=False)
class Piece:
    """A piece of the plane of two keys: their values, and `convergence` of the run of each pair (y, x), NaN where there is none."""

    x: Float64s
    y: Float64s
    values: Float64s

    @property
    def whole(self) -> bool:
        """Whether no run is missing."""
        return bool(np.isfinite(self.values).all())

    @property
    def phases(self) -> Phases:
        """Which runs converged."""
        return np.asarray(self.values < 0.0)


def pieces(cell: Cell, x: str = "lr", y: str = "output_lr") -> list[Piece]:
    """The grids that a cell's runs lie on, from left to right: a gap along x of more than 5 times the least ratio of neighbours parts two of them."""
    losses = cell.curves.pivot(index="run_id", columns="step", values="loss_train")
    losses = losses.reindex(index=cell.frame["run_id"], columns=range(cell.config.steps + 1))
    found = cell.frame[[full_key(x), full_key(y)]].assign(value=convergence(losses.to_numpy(np.float64)))
    places = np.unique(found[full_key(x)].to_numpy(np.float64))
    gaps = np.diff(np.log(places))
    parts = np.split(places, np.flatnonzero(gaps > GAP * gaps.min()) + 1) if len(gaps) else [places]
    tables = [found[found[full_key(x)].isin(part)].pivot(index=full_key(y), columns=full_key(x), values="value") for part in parts]
    return [Piece(*(axis.to_numpy(np.float64) for axis in (table.columns, table.index, table))) for table in tables]


def box_counts(phases: Phases, sizes: Sequence[int]) -> Float64s:
    """How many boxes of s x s squares, for each size s, hold both phases: the mean over all places of the cut into boxes.

    `phases` (n + 1, m + 1) are the corners of n x m squares, and neighbouring squares share two of them.  One place of the cut alone would miss or
    double what lies along its lines.  Each square is the middle of a box in one of the s² places: a straight line across has n/s boxes at any s.
    """
    corners = np.lib.stride_tricks.sliding_window_view(phases, (2, 2))
    both = corners.any(axis=(2, 3)) & ~corners.all(axis=(2, 3))
    return np.array([maximum_filter(both, size, mode="constant").sum() / size**2 for size in sizes])


def box_sizes(phases: Phases) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, … squares, up to a quarter of the picture's side."""
    return [size for size in SIZES if FEWEST * size <= min(phases.shape) - 1]


def box_dimension(cell: Cell, x: str = "lr", y: str = "output_lr") -> Measured:
    """The box-counting dimension of the border between runs that converge and those that don't: minus the slope of log N(s) over log s.

    Of the piece of the plane that the runs lie on, as `dimension` has it; of several pieces the median.  NaN where a piece has no border, or lacks a
    run.
    """
    found = pieces(cell, x, y)
    measured = [dimension(piece.phases) if piece.whole else Measured.once(nan) for piece in found]
    return measured[0] if len(measured) == 1 else Measured.median([each.value for each in measured])


def dimension(phases: Phases) -> Measured:
    """The box-counting dimension of the border in a picture of two phases.

    s = 1, 2, 3, 4, 6, 8, 12, … squares, up to a quarter of its side, by least squares, with that fit's standard error, which says how straight the
    line is and no more: all sizes look at one picture.  `values` are the slopes from one size to the next.  At some fifty squares a side smooth
    curves come out right, 1.00 to 1.05; a fractal's number is too low, by 0.05 to 0.12, as what is finer than a square is not seen.
    """
    sizes = box_sizes(phases)
    counts = box_counts(phases, sizes)
    if len(sizes) < 2 or not (counts > 0).all():
        return Measured.once(nan)
    places, heights = np.log2(sizes), np.log2(counts)
    slopes = -np.diff(heights) / np.diff(places)
    fit = linregress(places, heights)
    error = float(fit.stderr) if len(sizes) > 2 else nan
    return Measured(-float(fit.slope), error, tuple(map(float, slopes)))


MEASURED: dict[str, Callable[..., Measured]] = {"box_dimension": box_dimension}
PREDICTED: dict[str, Callable[..., float]] = {}
