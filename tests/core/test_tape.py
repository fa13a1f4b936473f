"""What is written down, what is refused, and that what is made of it computes the same bits."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from bpexp.core import step
from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import Array, columns
from bpexp.core.normalization import NORMS
from bpexp.core.skips import SKIPS
from bpexp.core.tape import Call, Tape, compiled, mapped, merged, spaced
from tests.core.nets import DTYPES, HIDDEN, architecture, batches, begin, draw, everyone, shake, take

Code = Callable[..., object]  # of arrays, the last of which is written to


def numbers(*shape: int, dtype: type = np.float64, seed: int = 0, turned: bool = False) -> Array:
    made: Array = columns(shape, dtype) if turned else np.empty(shape, dtype)
    made[...] = np.random.default_rng(seed).standard_normal(shape)
    return made


def written(code: Code, *arrays: Array) -> list[Call]:
    tape = Tape()
    with np.errstate(all="ignore"):  # temporaries are made from whatever the arrays hold
        code(*map(tape.traced, arrays))
    return tape.take()


def repeat(calls: Sequence[Call]) -> None:
    for call in compiled(calls):
        call()


def assert_repeats(code: Code, *arrays: Array) -> None:
    """Writing it down changes nothing; repeating it does, bit for bit, what the code does, each time with the numbers of that time."""
    before = [x.copy() for x in arrays]
    calls = compiled(written(code, *arrays))
    for x, was in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(x, was)
    for time in range(3):
        for x in arrays[:-1]:
            np.add(x, 0.25 * time, out=x)
        expected = [x.copy(order="K") for x in arrays]
        code(*expected)
        for call in calls:
            call()
        for found, wanted in zip(arrays, expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert not np.array_equal(arrays[-1], before[-1]), "code that writes nothing would compare nothing"


# ------------------------------------------------------------------------------------------- written down or refused


def truth(x: Array) -> None:
    if x[0, 0:1] > 0:
        np.negative(x, out=x)


def assign(x: Array) -> None:
    x[0] = 1.0


def assign_slice(x: Array) -> None:
    x[:, 1:][...] = 1.0


REFUSED: dict[str, Code] = {
    "assignment": assign,
    "assignment to a part": assign_slice,
    "fill": lambda x: x.fill(1.0),
    "truth": truth,
    "bool": bool,
    "float": lambda x: float(x[0, 0:1]),
    "int": lambda x: int(x[0, 0:1]),
    "item": lambda x: x[0, 0:1].item(),
    "float of a sum": lambda x: float(np.add.reduce(x, axis=None, keepdims=True)),
    "np.sum": np.sum,
    "np.where": lambda x: np.where(x > 0, x, 0.0),
    "np.linalg.norm": np.linalg.norm,
    "np.dot": lambda x: np.dot(x, x.T),
    "np.concatenate": lambda x: np.concatenate([x, x]),
    "np.clip": lambda x: np.clip(x, 0.0, 1.0),
    "np.zeros_like": np.zeros_like,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_written_down_is_refused(name: str) -> None:
    x, tape = numbers(3, 4), Tape()
    before = x.copy()
    with pytest.raises(TypeError, match="can't be written down"):
        REFUSED[name](tape.traced(x))
    np.testing.assert_array_equal(x, before)


def test_the_calls_are_taken_once_and_in_their_order() -> None:
    x, y, tape = numbers(3, 4), numbers(3, 4, seed=1), Tape()
    a, b = tape.traced(x), tape.traced(y)
    np.tanh(a, out=b)
    np.copyto(a, b)
    b += a
    calls = tape.take()
    assert [call.function for call in calls] == [np.tanh, np.copyto, np.add]
    assert tape.take() == []
    arrays = [array for call in calls for array in (*call.inputs, call.out) if isinstance(array, np.ndarray)]
    assert all(type(array) is np.ndarray for array in arrays)
    assert all(np.shares_memory(array, x) or np.shares_memory(array, y) for array in arrays)


def test_views_of_a_traced_array_are_traced() -> None:
    def code(x: Array, y: Array) -> None:
        np.exp(np.reshape(x, -1, copy=False)[2:6], out=np.swapaxes(y, 0, 1)[1:, 0])
        np.multiply(y.T[0], 3.0, out=y.T[0])
        np.greater(x, 0.0, out=y.view(np.bool)[:, :4])

    assert_repeats(code, numbers(3, 4), numbers(3, 5, seed=1))


def test_a_thing_with_arrays_is_traced_as_a_copy() -> None:
    """Whole numbers are copied, so that what is only being written down changes no exponents."""

    class Thing:
        def __init__(self) -> None:
            self.x, self.many, self.named = numbers(2), [numbers(2), np.arange(3)], {"a": {1: numbers(2)}}
            self.name = "thing"

    thing, tape = Thing(), Tape()
    twin = tape.trace(thing)
    np.negative(twin.x, out=twin.x)
    np.negative(twin.many[0], out=twin.named["a"][1])
    twin.many[1][:] = 7
    assert len(tape.take()) == 2
    assert twin.name == "thing"
    assert np.shares_memory(np.asarray(twin.x), thing.x)
    np.testing.assert_array_equal(thing.x, numbers(2))
    np.testing.assert_array_equal(thing.many[1], np.arange(3))
    halves = mapped(thing, lambda x: x[:1])
    assert [len(halves.x), len(halves.many[1]), len(halves.named["a"][1]), len(thing.x)] == [1, 1, 1, 2]


# ------------------------------------------------------------------------------------------- repeated


def temporaries(x: Array, y: Array) -> None:
    shifted = x - np.add.reduce(x, axis=1, keepdims=True)
    scratch = np.empty_like(x)
    np.multiply(shifted, shifted, out=scratch)
    np.add(scratch * 0.5, 2.0 * shifted, out=y)


def masked(x: Array, y: Array) -> None:
    above = np.greater(x, 0.0)
    np.copyto(y, 7.5, where=above)
    np.multiply(x, 3.0, out=y, where=x < 0.0)


CODE: dict[str, Code] = {
    "temporaries": temporaries,
    "masked": masked,
    "a constant on the left": lambda x, y: np.subtract(1.0, x, out=y),
    "a constant that float32 rounds": lambda x, y: np.multiply(x, 0.1, out=y),
    "a constant of the dtype": lambda x, y: np.multiply(x, x.dtype.type(0.1), out=y),
    "a whole number": lambda x, y: np.divide(x, 3, out=y),
    "maximum": lambda x, y: np.maximum(x, 0.1, out=y),
    "minimum": lambda x, y: np.minimum(0.1, x, out=y),
    "a sum": lambda x, y: np.copyto(y, np.add.reduce(x, axis=-1, keepdims=True)),
    "in place": lambda x, y: np.add(y, x, out=y),
    "of SciPy": lambda x, y: special.erf(x, out=y),
    "a scalar beside the array": lambda x, y: np.logaddexp(x, 0.0, out=y),
    "broadcast": lambda x, y: np.add(x[:1], x[..., :1], out=y),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("turned", [(False, False), (True, True), (True, False)], ids=["rows", "columns", "one of each"])
@pytest.mark.parametrize("name", CODE)
def test_a_call_repeated_is_the_call(name: str, turned: tuple[bool, bool], dtype: type) -> None:
    assert_repeats(CODE[name], *(numbers(2, 3, 5, dtype=dtype, seed=seed, turned=at) for seed, at in enumerate(turned)))


def test_a_temporary_has_a_place_of_its_own_that_is_kept() -> None:
    """Also when the code that made it is long gone."""
    x, y = numbers(50, 4), numbers(50, 4)
    calls = written(lambda x, y: np.add(np.exp(x), np.exp(-x), out=y), x, y)
    assert [np.shares_memory(a.out, b.out) for a, b in pairwise(calls)] == [False] * 3
    assert all(any(np.shares_memory(call.out, i) for i in calls[-1].inputs) for call in (calls[0], calls[2]))
    steps = compiled(calls)
    del calls
    rubbish = [np.full((50, 4), np.nan) for _ in range(20)]
    for call in steps:
        call()
    np.testing.assert_array_equal(y, np.exp(x) + np.exp(-x))
    assert np.isnan(rubbish).all()


SHAPES = [(n, batch, n_in, n_out) for n in (1, 3) for batch in (1, 2, 5) for n_in, n_out in ((1, 1), (1, 4), (4, 1), (3, 6), (40, 24))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("turned", [False, True], ids=["rows", "columns"])
@pytest.mark.parametrize(("runs", "batch", "n_in", "n_out"), SHAPES)
def test_products_are_those_of_matmul(runs: int, batch: int, n_in: int, n_out: int, turned: bool, dtype: type) -> None:
    """Forward, back, of weights and of sums over samples, as a net has them; of one run, of one sample, with one term."""

    def code(a: Array, W: Array, ones: Array, z: Array) -> None:
        delta, grad, total = np.empty_like(a), np.empty_like(W), np.empty_like(W[:, :1])
        np.matmul(a, W, out=z)
        np.matmul(z, W.swapaxes(1, 2), out=delta)
        np.matmul(a.swapaxes(1, 2), z, out=grad)
        np.matmul(ones, z, out=total)
        np.add(z, total, out=z)
        np.add(z, np.add.reduce(grad, axis=1, keepdims=True), out=z)
        np.add(z, delta[..., :1], out=z)

    arrays = [numbers(runs, batch, n_in, dtype=dtype, turned=turned), numbers(runs, n_in, n_out, dtype=dtype, seed=1)]
    assert_repeats(code, *arrays, np.ones((1, 1, batch), dtype), numbers(runs, batch, n_out, dtype=dtype, turned=turned))


# ------------------------------------------------------------------------------------------- merged


def test_arrays_of_different_blocks_of_memory_are_not_one() -> None:
    """Two of them are always at some distance; what held only the first would read and write where the second has been freed."""
    assert spaced([np.zeros(4), np.zeros(4)]) is None


def test_spaced_arrays_are_one() -> None:
    block = numbers(7, 3, 4)
    for at in ([0, 1, 2], [0, 2, 4], [5, 3, 1], [4], [2, 2, 2]):
        found = spaced([block[i] for i in at])
        assert found is not None
        np.testing.assert_array_equal(found, block[at])
        assert np.shares_memory(found, block)
    turned = spaced([block[1].T, block[4].T])
    assert turned is not None
    np.testing.assert_array_equal(turned, block[[1, 4]].swapaxes(1, 2))


@pytest.mark.parametrize("at", [[0, 1, 3], [0, 1, 0], [1, 1, 2]])
def test_arrays_at_unequal_distances_are_not_one(at: list[int]) -> None:
    block = numbers(7, 3, 4)
    assert spaced([block[i] for i in at]) is None


def layers(code: Code, *parts: Sequence[Array]) -> list[list[Call]]:
    return [written(code, *arrays) for arrays in zip(*parts, strict=True)]


def assert_merges(calls: Sequence[list[Call]], x: Array, y: Array, count: int) -> None:
    """To so many calls, which leave in x and y what all of them did."""
    starts = x.copy(), y.copy()
    repeat([call for layer in calls for call in layer])
    expected = x.copy(), y.copy()
    x[...], y[...] = starts
    found = merged(calls)
    assert len(found) == count
    repeat(found)
    for array, wanted in zip((x, y), expected, strict=True):
        np.testing.assert_array_equal(array, wanted)


def two_calls(x: Array, y: Array, factor: float = 0.3) -> None:
    np.multiply(x, factor, out=y)
    np.add(y, x, out=y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("turned", [False, True], ids=["rows", "columns"])
def test_equal_calls_of_equal_neighbours_become_one(turned: bool, dtype: type) -> None:
    x, y = numbers(4, 2, 3, 5, dtype=dtype, turned=turned), numbers(4, 2, 3, 5, dtype=dtype, seed=1, turned=turned)
    assert_merges(layers(two_calls, list(x), list(y)), x, y, 2)


def test_products_of_neighbours_become_one() -> None:
    a, W, z = numbers(4, 2, 3, 5), numbers(4, 2, 5, 6), numbers(4, 2, 3, 6)
    calls = layers(lambda a, W, z: np.matmul(a, W, out=z), list(a), list(W), list(z))
    assert_merges(calls, W, z, 1)
    one = numbers(1, 1, 3)
    sums = layers(lambda a, z: np.matmul(one, a, out=z[:, :1]), list(a), [part[..., :5] for part in z])
    assert_merges(sums, a, z, 1)


def test_a_layer_without_calls_or_with_other_ones_stands_alone() -> None:
    x, y = numbers(6, 3, 5), numbers(6, 3, 5, seed=1)
    calls = layers(two_calls, list(x), list(y))
    calls[2] = []
    calls[4] = written(lambda x, y: two_calls(x, y, 0.4), x[4], y[4])
    assert_merges(calls, x, y, 5 * 2)  # 3 is at another distance from 1 than 1 from 0
    assert_merges([calls[0], calls[1], [], calls[4], calls[5]], x, y, 3 * 2)


APART: dict[str, Code] = {
    "a keyword": lambda x, y, mask: np.multiply(x, 2.0, out=y, where=mask),
    "no ufunc": lambda x, y, _mask: np.add.reduce(x, axis=0, out=y[0]),
    "a copy": lambda x, y, _mask: np.copyto(y, x),
}


@pytest.mark.parametrize("name", APART)
def test_what_is_no_plain_call_stays_apart(name: str) -> None:
    x, y = numbers(4, 3, 5), numbers(4, 3, 5, seed=1)
    mask: Any = x > 0
    assert_merges(layers(APART[name], list(x), list(y), list(mask)), x, y, 4)


def test_calls_that_write_to_one_place_stay_apart() -> None:
    x, y = numbers(4, 3, 5), numbers(1, 3, 5, seed=1)
    assert_merges(layers(lambda x, y: np.add(y, x, out=y), list(x), [y[0]] * 4), x, y, 4)


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("skip", SKIPS)
def test_a_net_with_merged_calls_is_the_net_without(skip: str, norm: str, runs: int, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[list[NDArray[Any]]] = []
    for limit in (0, 10**9):
        monkeypatch.setattr(step, "MERGED", limit)
        net = architecture([4, *[6] * 6, 3], "tanh", bias=True, dtype=np.float32, norm=norm, skip=skip)
        parameters = shake(draw(net, range(runs)))
        one = begin(net, parameters, [0.1] * runs, batch)
        for number, (x, y) in enumerate(batches(net, runs, batch, 3)):
            take(one, x, y)
            one.update(number, everyone(one))
        found.append([*(arena.values for arena in parameters.arenas), *one.gradients.delta[1:], np.array(len(one._backward))])
    apart, together = found
    assert together.pop() < apart.pop()
    for a, b in zip(apart, together, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_activation_in_pieces_is_the_activation(hidden: str, dtype: type) -> None:
    """Of more numbers than a piece has, each piece with its own scratch."""
    row = ACTIVATIONS[hidden]

    def code(z: Array, a: Array) -> None:
        slope = np.empty_like(z)
        row.function(z, a)
        row.derivative(z, a, slope)
        np.add(a, slope, out=a)

    assert_repeats(code, numbers(3, 40, 70, dtype=dtype, turned=True), numbers(3, 40, 70, dtype=dtype, seed=1, turned=True))
