"""A pass through the net as a list of calls: written down once, by running the code that defines it, and then only repeated.

A step of a small net is hundreds of calls on a few numbers each, and most of its time goes into reaching them: loops over operations, lists,
keywords, temporary arrays.  All arrays of a training stay where they are, so the calls are the same at every step.  `Traced` arrays let
the definition run as it stands and note each call instead of making it:

    with the operations of a net as they are       operation.forward(p, n)
    and p, n with all their arrays traced          leaves on the tape  matmul(a_0, W_1, z_1), tanh(z_1, a_1), …

What is noted is made cheaper without changing a bit of its results: constants become arrays of the right dtype, temporaries get a place that
is kept, equal calls of neighbouring layers that wait for nothing become one (`merged`), a product of one run becomes one of two matrices, and
numbers that lie together in memory are handed over as one row.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.lib.stride_tricks import as_strided

from bpexp.core.arrays import Array, turned

__all__ = ["Call", "Plain", "Tape", "compiled", "mapped", "merged", "owner", "spaced"]

T = TypeVar("T")
Plain = Callable[[], object]


@dataclass(frozen=True)
class Call:
    """function(*inputs, out=out, **keys), to be made later."""

    function: Callable[..., Any]
    inputs: tuple[Any, ...]
    out: Array
    keys: dict[str, Any] = field(default_factory=dict)


class Traced(np.ndarray):
    """An array whose use in a ufunc, or in np.copyto, is noted on its tape and not made.  A view of one is one."""

    tape: "Tape"

    def __array_finalize__(self, source: object) -> None:
        if (tape := getattr(source, "tape", None)) is not None:
            self.tape = tape

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **keys: Any) -> Any:
        plain = tuple(map(untraced, inputs))
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        target = self.tape.place(function(*plain, **keys)) if out is None else untraced(out[0])
        self.tape.calls.append(Call(function, plain, target, {key: untraced(value) for key, value in keys.items()}))
        return self.tape.traced(target)

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
        if function is np.copyto:
            target, source = map(untraced, args)
            self.tape.calls.append(Call(np.copyto, (target, source), target, {key: untraced(value) for key, value in kwargs.items()}))
            return None
        if function is np.empty_like:
            return self.tape.traced(self.tape.place(np.empty_like(untraced(args[0]), **kwargs)))
        if function in (np.reshape, np.swapaxes, np.shape):
            return super().__array_function__(function, types, args, kwargs)
        raise TypeError(f"{function.__name__} can't be written down")

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError("an assignment can't be written down: use np.copyto")

    def __bool__(self) -> bool:
        raise TypeError("what depends on an array's numbers can't be written down")

    __float__ = __int__ = item = __bool__  # type: ignore[assignment]

    def fill(self, value: Any) -> None:
        self[...] = value


def untraced(x: Any) -> Any:
    return x.view(np.ndarray) if isinstance(x, Traced) else x


class Tape:
    """Calls in the order of their making."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def place(self, result: Any) -> Array:
        """Where a temporary array is kept: the array itself that was made when the call was noted."""
        return np.asarray(result)

    def traced(self, x: Array) -> Traced:
        view = x.view(Traced)
        view.tape = self
        return view

    def trace(self, thing: T) -> T:
        """A copy of a thing whose arrays of floating point numbers are traced; whole numbers are copied, so that noting changes none."""
        return mapped(thing, lambda x: self.traced(x) if np.issubdtype(x.dtype, np.floating) else x.copy())

    def take(self) -> list[Call]:
        """The calls so far; the tape is empty after it."""
        calls, self.calls = self.calls, []
        return calls


def mapped(thing: T, change: Callable[[Any], Any]) -> T:
    """A copy of an object whose arrays, also those in its lists and dictionaries, are changed ones."""

    def walk(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return change(value)
        if isinstance(value, list):
            return [walk(item) for item in value]
        if isinstance(value, dict):
            return {key: walk(item) for key, item in value.items()}
        return value

    twin = copy.copy(thing)
    vars(twin).update({name: walk(value) for name, value in vars(thing).items()})
    return twin


# ------------------------------------------------------------------------------------------- cheaper


def merged(layers: Sequence[list[Call]]) -> list[Call]:
    """The calls of several layers, none of which waits for another layer's: those of equal neighbours become one call each."""
    found: list[Call] = []
    for _, group in groupby(filter(None, layers), key=lambda calls: [_kind(call) for call in calls]):
        same = list(group)
        stacks = [_stacked(calls) for calls in zip(*same, strict=True)]
        if len(same) > 1 and all(stack is not None for stack in stacks):
            found += [stack for stack in stacks if stack is not None]
        else:
            found += [call for calls in same for call in calls]
    return found


def _kind(call: Call) -> object:
    return call.function, sorted(call.keys), [(x.shape, x.strides, x.dtype) if isinstance(x, np.ndarray) else x for x in (*call.inputs, call.out)]


def _stacked(calls: Sequence[Call]) -> Call | None:
    """One call for all, or None where their arrays are not equally spaced."""
    first = calls[0]
    if not isinstance(first.function, np.ufunc) or first.keys:
        return None
    out = spaced([call.out for call in calls])
    inputs = [spaced(list(column)) if isinstance(column[0], np.ndarray) else column[0] for column in zip(*(c.inputs for c in calls), strict=True)]
    distinct = out is not None and (len(calls) == 1 or out.strides[0] != 0)
    if out is None or not distinct or any(x is None for x in inputs):
        return None
    return Call(first.function, tuple(inputs), out)


def spaced(arrays: Sequence[Array]) -> Array | None:
    """Arrays of one shape at equal distances in one block of memory, as one with a leading axis; the same array each time has distance 0."""
    if len({id(owner(array)) for array in arrays}) > 1:  # any two blocks have a distance, but only the first would be kept
        return None
    places = [array.__array_interface__["data"][0] for array in arrays]
    distances = {int(b - a) for a, b in pairwise(places)} or {0}
    if len(distances) > 1:
        return None
    return as_strided(arrays[0], (len(arrays), *arrays[0].shape), (distances.pop(), *arrays[0].strides))


def owner(x: Array) -> object:
    """What keeps the array's memory."""
    owner: Any = x
    while (base := getattr(owner, "base", None)) is not None:
        owner = base
    return owner


def compiled(calls: Sequence[Call]) -> list[Plain]:
    """The calls, each as a function without arguments."""
    return [_bound(call) for call in calls]


def _bound(call: Call) -> Plain:
    function, inputs, out, keys = call.function, call.inputs, call.out, call.keys
    if function is np.copyto:
        return partial(np.copyto, *inputs, **keys)
    if function is np.matmul:
        return _product(inputs[0], inputs[1], out)
    if keys or not isinstance(function, np.ufunc):
        return partial(function, *inputs, out=out, **keys)
    *rows, out = _rows([*(_constant(x, inputs) for x in inputs), out])
    return partial(function, *rows, out=out) if function in (np.maximum, np.minimum) else partial(function, *rows, out)  # as NumPy wants it


def _constant(x: Any, inputs: Sequence[Any]) -> Any:
    """A number as an array without axes, which a ufunc takes three times as fast; of the dtype that it would get."""
    if isinstance(x, np.ndarray):
        return x
    return np.asarray(x, np.result_type(*(y for y in inputs if isinstance(y, np.ndarray))))


def _rows(arrays: list[Any]) -> list[Any]:
    """The same numbers with as few axes as their places in memory allow: a ufunc takes a row three times as fast as a stack of matrices."""
    whole = arrays[-1]
    if whole.ndim < 1 or any(x.ndim not in (0, whole.ndim) for x in arrays):
        return arrays
    if all(turned(x) for x in arrays if x.shape == whole.shape):
        arrays = [x.swapaxes(-1, -2) if x.ndim else x for x in arrays]
    shape, first = arrays[-1].shape, whole.ndim
    while first > 0 and all(_joins(x, shape, first - 1) for x in arrays):
        first -= 1
    kept = [axis for axis in range(first) if shape[axis] > 1]
    return [_row(x, kept, first) for x in arrays]


def _joins(x: Array, shape: tuple[int, ...], first: int) -> bool:
    """Whether the axes from one on can be one axis: all of them there, without gaps, or none of them there."""
    part = x[(0,) * first] if x.ndim else x
    return part.size == 1 or (part.shape == shape[first:] and part.flags.c_contiguous)


def _row(x: Array, kept: Sequence[int], first: int) -> Array:
    """The array with its axes from `first` on as one, and of those before it the ones that are kept; without axes where it is one number."""
    if x.size == 1:
        return x.reshape(())
    last = [] if first == x.ndim else [-1]
    return np.reshape(x, [*(x.shape[axis] for axis in kept), *last], copy=False)


def _product(a: Array, b: Array, out: Array) -> Plain:
    """A matrix product by the cheapest call that computes it."""
    if a.shape[-1] == 1:  # column times row: no sums, and a product for BLAS only in name
        return partial(np.multiply, a, b, out)
    single = tuple(axis for axis, size in enumerate(out.shape[:-2]) if size == 1)
    a, b, out = (x.squeeze(single) for x in (a, b, out))
    if out.ndim > 2:
        return partial(np.matmul, a, b, out)
    if out.flags.c_contiguous:
        return partial(a.dot, b, out)
    return partial(b.T.dot, a.T, out.T)
