"""The compiled parts of `bpexp.core.compiled`: forward, backward and update of a plain net, each run by itself, one after the other.

Arrays come as a table of addresses, (kind, R, depth + 1): of a_k (n_k, B) in memory, a_0 being (B, n_0), of delta_k (n_k, B), W_k (n_in, n_out)
and b_k (n_out), 0 where there is none.  So a call takes as long to enter for a hundred layers as for one.
"""

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from bpexp.core.engines import CODES
from bpexp.core.norms import SAFE

__all__ = ["backward", "forward", "update"]

OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract"}}  # a division by zero is infinite, and a x + b one instruction
SUMS: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract", "reassoc"}}  # in any order: several terms at a time
SOFTMAX = CODES.index("softmax")
LOWEST, HIGHEST = SAFE["f"]
LOWEST64, HIGHEST64 = SAFE["d"]
LEVELS = 13  # of the continued fraction: right to a rounding of float32 up to |x| = 9, where its tanh is 1
LOW, HIGH = 2.0**-32, 2.0**32  # of the sum of a layer's squared deltas; beyond, they are brought near 1


def lambert(levels: int) -> tuple[list[Fraction], list[Fraction]]:
    """Tanh x = x P(x^2) / Q(x^2): Lambert's continued fraction x / (1 + x^2 / (3 + x^2 / (5 + …))), cut off."""
    whole, part = [Fraction(2 * levels - 1)], [Fraction(1)]
    for odd in range(2 * levels - 3, 0, -2):
        terms = [odd * c for c in whole] + [Fraction(0)] * (len(part) + 1 - len(whole))
        for power, c in enumerate(part, start=1):
            terms[power] += c
        whole, part = terms, whole
    return part, whole


_P, _Q = ([np.float32(float(c / lambert(LEVELS)[1][0])) for c in terms] for terms in lambert(LEVELS))
P0, P1, P2, P3, P4, P5, P6 = _P
Q0, Q1, Q2, Q3, Q4, Q5, Q6 = _Q
ONE, END = np.float32(1.0), np.float32(9.0)


def tanh(x: Any) -> Any:
    """Of a number, in its own precision."""
    return math.tanh(x)


@overload(tanh, jit_options=OPTIONS)
def _tanh(x: Any) -> Any:
    def precise(x: Any) -> Any:
        return math.tanh(x)

    def ratio(x: Any) -> Any:
        x = min(x, END)  # with the constant in the second place: what is not a number in the first comes back
        x = max(x, -END)
        t = x * x
        p = P0 + t * (P1 + t * (P2 + t * (P3 + t * (P4 + t * (P5 + t * P6)))))
        q = Q0 + t * (Q1 + t * (Q2 + t * (Q3 + t * (Q4 + t * (Q5 + t * Q6)))))
        x = x * p / q
        x = min(x, ONE)
        return max(x, -ONE)

    return ratio if x == types.float32 else precise


@intrinsic
def pointer(context: Any, address: Any) -> Any:  # noqa: ARG001 (numba's protocol)
    """An address as numba's `carray` takes it."""

    def code(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(address), code


@njit(**SUMS)
def dot(x: Any, y: Any) -> Any:
    total = x[0] * y[0]
    for i in range(1, x.size):
        total += x[i] * y[i]
    return total


@njit(**OPTIONS)
def activate(x: Any, code: int) -> None:
    """phi(x) in place: 0 sigmoid, 1 tanh, 2 relu, 3 linear."""
    one = type(x[0])(1)
    half = one / type(x[0])(2)
    if code == 0:
        for i in range(x.size):
            x[i] = half + half * tanh(half * x[i])
    elif code == 1:
        for i in range(x.size):
            x[i] = tanh(x[i])
    elif code == 2:
        for i in range(x.size):
            x[i] = max(x[i], type(x[0])(0))


@njit(**OPTIONS)
def times_slope(delta: Any, a: Any, code: int) -> None:
    """Delta <- delta phi'(z), from a = phi(z)."""
    one = type(a[0])(1)
    if code == 0:
        for i in range(a.size):
            delta[i] *= a[i] * (one - a[i])
    elif code == 1:
        for i in range(a.size):
            delta[i] *= one - a[i] * a[i]
    elif code == 2:
        for i in range(a.size):
            delta[i] = delta[i] if a[i] > type(a[0])(0) else type(a[0])(0)


@njit(**OPTIONS)
def square_loss(a: Any, delta: Any, y: Any) -> Any:
    """Half the squared error and a - y, means over samples."""
    n, batch = a.shape
    total, share = 0.0, type(a[0, 0])(1) / type(a[0, 0])(batch)
    for j in range(n):
        for s in range(batch):
            e = a[j, s] - y[j, s]
            total += e * e
            delta[j, s] = e * share
    return 0.5 * total / batch


@njit(**OPTIONS)
def softmax_loss(a: Any, delta: Any, y: Any) -> Any:
    """Softmax of a in place, the cross-entropy and its dL/dz, means over samples."""
    n, batch = a.shape
    total, share = 0.0, type(a[0, 0])(1) / type(a[0, 0])(batch)
    for s in range(batch):
        top = a[0, s]
        for j in range(1, n):
            top = max(top, a[j, s])
        weight = type(top)(0)
        for j in range(n):
            weight += math.exp(a[j, s] - top)
        for j in range(n):
            total += (math.log(weight) + top - a[j, s]) * y[j, s]
            a[j, s] = math.exp(a[j, s] - top) / weight
            delta[j, s] = (a[j, s] - y[j, s]) * share
    return total / batch


@njit(**OPTIONS)
def affine(table: Any, sizes: Any, batch: int, r: int, k: int, like: Any) -> Any:
    """z_k = a_{k-1} W_k + b_k, into the place of a_k."""
    n_in, n_out = sizes[k - 1], sizes[k]
    W = carray(pointer(table[2, r, k]), (n_in, n_out), like.dtype)
    z = carray(pointer(table[0, r, k]), (n_out, batch), like.dtype)
    if batch == 1:
        a, row = carray(pointer(table[0, r, k - 1]), n_in, like.dtype), z.reshape(n_out)
        row[:] = 0
        for i in range(n_in):
            for j in range(n_out):
                row[j] += a[i] * W[i, j]
    elif k == 1:
        np.dot(W.T, carray(pointer(table[0, r, 0]), (batch, n_in), like.dtype).T, z)
    else:
        np.dot(W.T, carray(pointer(table[0, r, k - 1]), (n_in, batch), like.dtype), z)
    if table[3, r, k]:
        b = carray(pointer(table[3, r, k]), n_out, like.dtype)
        for j in range(n_out):
            for s in range(batch):
                z[j, s] += b[j]
    return z.reshape(z.size)


@njit(cache=True, **OPTIONS)
def forward(table: Any, sizes: Any, batch: int, codes: Any, y: Any, value: Any) -> None:
    """Activations of all layers, the mean loss `value` (R,), and delta of the output layer."""
    depth = sizes.size - 1
    for r in range(value.size):
        for k in range(1, depth):
            activate(affine(table, sizes, batch, r, k, y), codes[0])
        row = affine(table, sizes, batch, r, depth, y)
        a = row.reshape(sizes[depth], batch)
        delta = carray(pointer(table[1, r, depth]), (sizes[depth], batch), y.dtype)
        if codes[1] == SOFTMAX:
            value[r] = softmax_loss(a, delta, y[r])
        else:
            activate(row, codes[1])
            value[r] = square_loss(a, delta, y[r])
            times_slope(delta.reshape(delta.size), row, codes[1])


@njit(**OPTIONS)
def settle(delta: Any, exponent: Any, k: int) -> Any:
    """Bring a layer's deltas near 1 by a power of two, and note it; the sum of their squares after it."""
    square = dot(delta, delta)
    if LOW <= square <= HIGH or math.isnan(square):
        return square
    peak = type(delta[0])(0)
    for i in range(delta.size):
        peak = max(peak, abs(delta[i]))
    if peak == 0 or math.isinf(peak):
        return square
    taken = math.frexp(peak)[1]
    for i in range(delta.size):
        delta[i] = math.ldexp(delta[i], -taken)
    exponent[k] += taken
    return dot(delta, delta)


@njit(cache=True, **OPTIONS)
def backward(table: Any, sizes: Any, batch: int, codes: Any, like: Any, exponent: Any, squares: Any) -> None:
    """Deltas of all layers with their exponents (R, depth + 1), and the sums of their squares."""
    depth = sizes.size - 1
    for r in range(exponent.shape[0]):
        exponent[r, depth] = 0
        for k in range(depth, 0, -1):
            n_in, n_out = sizes[k - 1], sizes[k]
            delta = carray(pointer(table[1, r, k]), (n_out, batch), like.dtype)
            squares[k - 1, r] = settle(delta.reshape(delta.size), exponent[r], k)
            if k == 1:
                break
            W = carray(pointer(table[2, r, k]), (n_in, n_out), like.dtype)
            before = carray(pointer(table[1, r, k - 1]), (n_in, batch), like.dtype)
            row = before.reshape(before.size)
            if batch == 1:
                column = delta.reshape(n_out)
                for i in range(n_in):
                    row[i] = dot(W[i], column)
            else:
                np.dot(W, delta, before)
            times_slope(row, carray(pointer(table[0, r, k - 1]), n_in * batch, like.dtype), codes[0])
            exponent[r, k - 1] = exponent[r, k]


@njit(**OPTIONS)
def product(table: Any, sizes: Any, batch: int, r: int, k: int, room: Any) -> Any:
    """a_{k-1}^T delta_k, in the room for one layer."""
    n_in, n_out = sizes[k - 1], sizes[k]
    out = room[: n_in * n_out]
    delta = carray(pointer(table[1, r, k]), (n_out, batch), room.dtype)
    if k == 1:
        np.dot(carray(pointer(table[0, r, 0]), (batch, n_in), room.dtype).T, delta.T, out.reshape(n_in, n_out))
    else:
        np.dot(carray(pointer(table[0, r, k - 1]), (n_in, batch), room.dtype), delta.T, out.reshape(n_in, n_out))
    return out


@njit(**OPTIONS)
def descend(table: Any, sizes: Any, batch: int, r: int, k: int, rate: Any, room: Any) -> Any:
    """W_k <- W_k - rate a^T delta; the sum of the squares of a^T delta, or for one sample of a."""
    n_in, n_out = sizes[k - 1], sizes[k]
    W = carray(pointer(table[2, r, k]), (n_in, n_out), room.dtype)
    if batch > 1:
        found, flat = product(table, sizes, batch, r, k, room), W.reshape(W.size)
        if rate != 0:
            for i in range(flat.size):
                flat[i] -= rate * found[i]
        return dot(found, found)
    a, delta = carray(pointer(table[0, r, k - 1]), n_in, room.dtype), carray(pointer(table[1, r, k]), n_out, room.dtype)
    if rate != 0:
        for i in range(n_in):
            scaled = rate * a[i]
            for j in range(n_out):
                W[i, j] -= scaled * delta[j]
    return dot(a, a)


@njit(**OPTIONS)
def descend_bias(table: Any, sizes: Any, batch: int, r: int, k: int, rate: Any, room: Any) -> None:
    """b_k <- b_k - rate (delta summed over samples)."""
    b, delta = carray(pointer(table[3, r, k]), sizes[k], room.dtype), carray(pointer(table[1, r, k]), (sizes[k], batch), room.dtype)
    for j in range(b.size):
        total = type(rate)(0)
        for s in range(batch):
            total += delta[j, s]
        b[j] -= rate * total


@njit(cache=True, **OPTIONS)
def update(table: Any, sizes: Any, batch: int, lr: Any, exponent: Any, moves: Any, room: Any, deltas: Any, log2_grad: Any, bound: Any) -> Any:
    """W <- W - lr a^T delta and b <- b - lr (sum of delta) for the runs that move; log2 of the gradients' norms, (depth, R).

    `lr` (R, depth + 1) are the layers' learning rates, column 0 nobody's.
    `bound` (depth, R) grows by the norm of what is added: no parameter is larger.  Their sum is returned, NaN where one of them is (the largest
    would not be); and whether all norms are right, those that are not being NaN.
    """
    total, right = 0.0, True
    low, high = (LOWEST, HIGHEST) if room.itemsize == 4 else (LOWEST64, HIGHEST64)
    for r in range(lr.shape[0]):
        for k in range(1, sizes.size):
            rate = type(room[0])(math.ldexp(lr[r, k], exponent[r, k])) if moves[r] else type(room[0])(0)
            square = float(descend(table, sizes, batch, r, k, rate, room))
            if low <= square <= high and (batch > 1 or low <= deltas[k - 1, r] <= high):
                of_one = 0.5 * math.log2(deltas[k - 1, r]) if batch == 1 else 0.0
                log2_grad[k - 1, r] = 0.5 * math.log2(square) + of_one + exponent[r, k]
            else:
                log2_grad[k - 1, r], right = math.nan, False
            added = math.sqrt(square * deltas[k - 1, r]) if batch == 1 else math.sqrt(square)
            if moves[r] and table[3, r, k]:
                descend_bias(table, sizes, batch, r, k, rate, room)
                added += math.sqrt(batch * deltas[k - 1, r])
            if moves[r]:
                bound[k - 1, r] += rate * added
                total += bound[k - 1, r]
    return total, right
