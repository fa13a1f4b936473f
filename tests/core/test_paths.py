"""The sum over all paths, the scalar backpropagation beside it and the core's are one gradient; what each costs is what is counted."""

from collections.abc import Callable
from itertools import pairwise, product
from math import prod

import numpy as np
import pytest

from bpexp.core.arrays import Float64s
from bpexp.core.network import Architecture, Parameters
from bpexp.core.paths import backprop_gradient, count_multiplications, path_gradient
from tests.core.nets import HIDDEN, architecture, differentiate, draw

SIZES = [(1, 1), (2, 1), (2, 3, 1), (1, 4, 2, 3), (3, 2, 2, 2, 2)]
Way = Callable[..., list[list[list[float]]]]
WAYS: list[Way] = [path_gradient, backprop_gradient]


def setting(sizes: tuple[int, ...], hidden: str, output: str, *, bias: bool) -> tuple[Architecture, Parameters, list[float], list[float]]:
    net = architecture(sizes, hidden, output, bias=bias)
    rng = np.random.default_rng(7)
    return net, draw(net, [3]), rng.standard_normal(sizes[0]).tolist(), rng.uniform(0.0, 1.0, sizes[-1]).tolist()


def assert_close(found: list[list[list[float]]], expected: list[Float64s]) -> None:
    """Equal to 13 digits of the layer's largest entry, layer by layer: each is a sum of at most some dozens of products."""
    assert len(found) == len(expected) + 1
    assert found[0] == []
    for matrix, layer in zip(found[1:], expected, strict=True):
        np.testing.assert_allclose(np.array(matrix), layer, rtol=0, atol=1e-13 * np.abs(layer).max())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("hidden", "output"), [(name, name) for name in HIDDEN] + [("tanh", "sigmoid"), ("erf", "linear")])
def test_both_ways_are_the_gradient_of_the_core(way: Way, sizes: tuple[int, ...], bias: bool, hidden: str, output: str) -> None:
    net, parameters, x, y = setting(sizes, hidden, output, bias=bias)
    core = differentiate(net, parameters, np.array([x]), np.array([y]), "squared_error")
    assert_close(way(net, parameters, x, y), [core.W(k)[0] for k in net.layers])


@pytest.mark.parametrize("way", WAYS)
def test_a_gradient_written_out_by_hand(way: Way) -> None:
    """A linear 1-2-1 net has two paths, and every number can be checked in the head."""
    net = architecture((1, 2, 1), "linear", "linear")
    parameters = Parameters(net, 1)
    parameters.W[1][0] = [[2.0, 3.0]]
    parameters.W[2][0] = [[5.0], [7.0]]
    # a_1 = (2, 3), a_2 = 2 * 5 + 3 * 7 = 31, a_2 - y = 1
    assert way(net, parameters, [1.0], [30.0]) == [[], [[5.0, 7.0]], [[2.0], [3.0]]]


@pytest.mark.parametrize("way", WAYS)
def test_softmax_has_no_paths_of_its_own(way: Way) -> None:
    net, parameters, x, y = setting((2, 3, 2), "tanh", "softmax", bias=False)
    with pytest.raises(TypeError, match="not elementwise"):
        way(net, parameters, x, y)


def paths_by_formula(sizes: tuple[int, ...]) -> int:
    """Per weight of layer k one product with a_{k-1}[i], and n_{k+1} … n_L paths of 2 (L - k) + 2 factors each."""
    depth = len(sizes) - 1
    return sum(sizes[k - 1] * sizes[k] * (1 + prod(sizes[k + 1 :]) * (2 * (depth - k) + 1)) for k in range(1, depth + 1))


def backprop_by_formula(sizes: tuple[int, ...]) -> int:
    """Two products per weight, for dL/dW and for dL/da, but for the first layer's one; one slope per neuron."""
    weights = [a * b for a, b in pairwise(sizes)]
    return 2 * sum(weights) - weights[0] + sum(sizes[1:])


@pytest.mark.parametrize("sizes", [*SIZES, *((n_in, w, w, n_out) for n_in, w, n_out in product((1, 4), (1, 2, 3), (1, 5)))])
def test_counts_are_those_of_the_formulas(sizes: tuple[int, ...]) -> None:
    assert count_multiplications(sizes) == (paths_by_formula(sizes), backprop_by_formula(sizes))


def test_a_layer_more_costs_paths_a_factor_and_backpropagation_a_constant() -> None:
    paths, backprop = np.array([count_multiplications((3,) * (depth + 1)) for depth in range(1, 8)]).T
    assert (paths[1:] > 3 * paths[:-1]).all()
    assert len(set(np.diff(backprop))) == 1


def test_counting_counts_what_multiply_is_given() -> None:
    """A multiplication that went past `multiply` would be missing from the count: with one that answers 0, nothing is left."""
    net, parameters, x, y = setting((2, 3, 2), "sigmoid", "sigmoid", bias=True)
    for way in WAYS:
        assert way(net, parameters, x, y, lambda _a, _b: 0.0) == [[], [[0.0] * 3] * 2, [[0.0] * 2] * 3]
