"""Norms of all layers at once, right wherever they lie."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bpexp.core.arrays import Array, Float64s, flat, log2_norm
from bpexp.core.tape import owner, spaced

__all__ = ["SAFE", "Norms", "safe"]

# Squares of norms far enough from the ends of the dtype's range for whatever is lost below or above not to show in the norm.
SAFE = {"f": (2.0**-80, 2.0**80), "d": (2.0**-800, 2.0**800)}


def safe(squares: Array, dtype: np.dtype[Any] | None = None) -> NDArray[np.bool]:
    """Which squares of norms, computed in a dtype (their own by default), have lost nothing to its range; none that is NaN, or 0."""
    low, high = SAFE[(dtype or squares.dtype).char]
    return np.asarray((squares >= low) & (squares <= high))


class Norms:
    """The norms ||x_k|| of one array (R, …) per layer, run by run, in as few calls as their places in memory allow."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        self.arrays = arrays
        self.squares: Array = np.empty((len(arrays), len(arrays[0])), arrays[0].dtype)
        self.low, self.high = SAFE[arrays[0].dtype.char]
        self.rows: list[tuple[Array, Array]] = []
        first = 0
        for _, group in groupby([flat(x) for x in arrays], key=lambda x: (x.shape, id(owner(x)))):
            same = list(group)
            whole = spaced(same)
            for part in [row[None] for row in same] if whole is None else [whole]:
                self.rows.append((part, self.squares[first : first + len(part)]))
                first += len(part)

    def measure(self) -> None:
        """Fill `squares` (layers, R)."""
        for rows, out in self.rows:
            np.vecdot(rows, rows, out)

    def safe(self) -> bool:
        """Whether all squares are."""
        return bool(np.minimum.reduce(self.squares, None) >= self.low and np.maximum.reduce(self.squares, None) <= self.high)

    def log2(self) -> Float64s:
        """log2 of the norms, (layers, R): from the squares, or with care where these are too small or too large to be right."""
        if self.safe():
            return np.multiply(np.log2(self.squares.astype(np.float64)), 0.5)
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Float64s = 0.5 * np.log2(self.squares.astype(np.float64))
        right = safe(self.squares)
        for layer in map(int, np.flatnonzero(~right.all(axis=1))):
            found[layer] = np.where(right[layer], found[layer], log2_norm(self.arrays[layer]))
        return found
