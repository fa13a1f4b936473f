"""What all modules of the core agree on: array types, and numbers beyond the range of their dtype.

Every array has a leading run axis R; a lone run is R = 1.  A quantity that may leave the range of its dtype
is kept as x * 2**e with an integer exponent e per run: multiplying by a power of two is exact (but on subnormals), so
the exponent costs no accuracy.
"""

from collections.abc import Sequence
from math import log10
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = [
    "LOG10_OF_2",
    "Array",
    "Float64s",
    "Ints",
    "columns",
    "flat",
    "log2_norm",
    "log2_norms",
    "log2_rms",
    "pull_into_range",
    "square_sum",
    "storage",
    "turned",
]

Array = NDArray[np.floating[Any]]
Float64s = NDArray[np.float64]
Ints = NDArray[np.int64]

# Far from 1 on the scale of a sum of squares, near it on the scale of float32's exponents (-126 to 127).
LOW, HIGH = 2.0**-16, 2.0**16
LOG10_OF_2 = log10(2.0)


def columns(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """An empty array (…, B, n) whose samples are columns in memory: products with the weights and sums over samples are faster that way."""
    return np.empty((*shape[:-2], shape[-1], shape[-2]), dtype).swapaxes(-1, -2)


def turned(x: NDArray[Any]) -> bool:
    """Whether the last axis but one is the one along which neighbours in memory lie, as in `columns`."""
    return x.ndim > 1 and x.strides[-2] < x.strides[-1] and not x.flags.c_contiguous


def storage(x: NDArray[Any]) -> NDArray[Any]:
    """A view of `x` with its last two axes in the order of memory."""
    return x.swapaxes(-1, -2) if turned(x) else x


def flat(x: NDArray[Any]) -> NDArray[Any]:
    """A view of `x` with one row per run, (R, everything else), in the order of memory."""
    return np.reshape(storage(x), (x.shape[0], -1), copy=False)  # raises where it would have to copy


def pull_into_range(x: Array) -> Ints:
    """Multiply each run of `x` in place by the power of two that brings it near 1; return the exponents taken out, shape (R,).

    true x = x * 2**e before and after: the caller adds the result to its e.  A run whose largest |x| lies
    within 2**-16 … 2**16, is zero or is not finite stays as it is (exponent 0), whatever its neighbours in the stack do.
    """
    peak = np.maximum.reduce(np.abs(flat(x)), axis=1)
    _, exponents = np.frexp(peak)
    exponents[((peak >= LOW) & (peak <= HIGH)) | ~np.isfinite(peak)] = 0
    np.ldexp(x, -exponents.reshape(-1, *[1] * (x.ndim - 1)), out=x)
    return np.asarray(exponents, np.int64)


def log2_norm(x: Array, exponents: Ints | int = 0) -> Float64s:
    """log2 of the Euclidean norm of x * 2**exponents, run by run: shape (R,), -inf for a norm of exactly zero."""
    squares, scale = square_sum(x)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(0.5 * np.log2(squares) + scale + exponents, dtype=np.float64)


def log2_norms(layers: Sequence[Array]) -> Float64s:
    """The same of one array (R, …) per layer: (layers, R)."""
    return np.array([log2_norm(x) for x in layers])


def log2_rms(log2: Float64s) -> Float64s:
    """log2 of the root mean square, over the last axis, of numbers that are given by their log2."""
    top = log2.max(axis=-1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(0.5 * np.log2(np.exp2(2.0 * (log2 - top)).mean(axis=-1)) + top[..., 0])


def square_sum(x: Array) -> tuple[Float64s, Ints]:
    """The sum of the squares of x / 2**scale, run by run, and scale: shape (R,) each.

    The largest entry is scaled to about 1 before anything is squared, so the sum neither over- nor underflows in
    either dtype; what squaring still loses lies 2**-500 below the largest entry.
    """
    rows = flat(x).astype(np.float64)
    _, scale = np.frexp(np.abs(rows).max(axis=1))
    np.ldexp(rows, -scale[:, None], out=rows)
    with np.errstate(invalid="ignore"):
        return np.square(rows).sum(axis=1), scale
