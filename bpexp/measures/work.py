"""The work that a gradient takes: multiplications of the sum over all paths, and of backpropagation (`bpexp.core.paths`)."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from math import nan, prod

import numpy as np

from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import Float64s
from bpexp.core.network import Architecture, Parameters
from bpexp.core.paths import backprop_gradient, count_multiplications, path_gradient
from bpexp.datasets import load
from bpexp.measures.cell import Cell, Measured

__all__ = ["MEASURED", "PREDICTED", "by_formula", "counted"]

Count = Callable[[tuple[int, ...]], int]


@lru_cache
def _both(sizes: tuple[int, ...]) -> tuple[int, int]:
    return count_multiplications(sizes)


# Ways to the gradient of one sample in a net of sizes (n_0, …, n_L), counted multiplication by multiplication.
counted: Mapping[str, Count] = {"paths": lambda sizes: _both(sizes)[0], "backpropagation": lambda sizes: _both(sizes)[1]}


def _paths(sizes: Sequence[int]) -> int:
    """A weight of layer k starts n_{k+1} … n_L paths of 2 (L-k) + 2 factors, and multiplies their sum by its input."""
    last = len(sizes) - 1
    return sum(sizes[k - 1] * sizes[k] * (prod(sizes[k + 1 :]) * (2 * (last - k) + 1) + 1) for k in range(1, last + 1))


def _backpropagation(sizes: Sequence[int]) -> int:
    """One for each last delta, one per weight for its gradient, and for each delta of a layer k < L its n_{k+1} weights and its slope."""
    weights = [a * b for a, b in pairwise(sizes)]
    return sizes[-1] + sum(weights) + sum(weights[1:]) + sum(sizes[1:-1])


by_formula: Mapping[str, Count] = {"paths": _paths, "backpropagation": _backpropagation}


def sizes(cell: Cell) -> tuple[int, ...]:
    """n_0, …, n_L of the runs' net."""
    config, data = cell.config, load(cell.config.data)
    return (data.inputs, *[config.width] * (config.depth - 1), data.outputs)


def multiplications(cell: Cell, way: str) -> Measured:
    """Multiplications for one sample's gradient, counted as they happen; `way`: paths or backpropagation."""
    return Measured.once(counted[way](sizes(cell)))


def predicted_multiplications(cell: Cell, way: str) -> float:
    """The same by formula."""
    return float(by_formula[way](sizes(cell)))


def path_growth(cell: Cell) -> Measured:
    """By how much a layer more multiplies the number of paths through the whole net, from counts of nets with n neurons in every layer.

    A layer more at the input adds n² weights, each with n^(L-1) paths of 2L - 1 multiplications and one product with its input: the paths are the
    multiplications that a layer more adds, but for those n², over 2L - 1.
    """
    by_depth = _by_depth(cell, counted["paths"])
    width = cell.config.width
    added = {deep: (by_depth[deep] - by_depth[shallow] - width**2) / (2 * deep - 1) for shallow, deep in pairwise(by_depth) if deep == shallow + 1}
    return Measured.mean([added[deep] / added[shallow] for shallow, deep in pairwise(added) if deep == shallow + 1])


def predicted_path_growth(cell: Cell) -> float:
    """The width: every path goes on to each neuron of the layer more."""
    return float(cell.config.width)


def work_per_layer(cell: Cell, way: str) -> Measured:
    """Multiplications that each layer more adds, the mean over the depths; its error is 0 where every layer adds as many."""
    counts = _by_depth(cell, counted[way])
    return Measured.mean([(counts[deep] - counts[shallow]) / (deep - shallow) for shallow, deep in pairwise(counts)])


def predicted_work_per_layer(cell: Cell, way: str) -> float:
    """The mean by formula."""
    counts = _by_depth(cell, by_formula[way])
    return float(np.mean([(counts[deep] - counts[shallow]) / (deep - shallow) for shallow, deep in pairwise(counts)]))


def linear_share(cell: Cell, way: str) -> Measured:
    """R² of a straight line through the multiplications over the depth: 1 where every layer adds as many."""
    counts = _by_depth(cell, counted[way])
    depths, found = np.array(list(counts), float), np.array(list(counts.values()), float)
    if len(found) < 3:
        return Measured.once(nan)
    left = found - np.polyval(np.polyfit(depths, found, 1), depths)
    return Measured.once(1.0 - float(left @ left) / float(((found - found.mean()) ** 2).sum()))


def largest_difference(cell: Cell, way: str = "paths") -> Measured:
    """Largest difference between a way's dL/dW and backpropagation's, over the largest of all, in a net with random weights by the runs' seeds."""
    ways = {"paths": path_gradient, "backpropagation": backprop_gradient}
    return Measured.mean([_difference(sizes(run), run.config.activation, run.config.seed, ways[way]) for run in cell.one_by_one()])


def _difference(shape: tuple[int, ...], activation: str, seed: int, way: Callable[..., list[list[list[float]]]]) -> float:
    """W ~ N(0, 1/n_in), inputs ~ N(0, 1), targets ~ U(0, 1), all in float64."""
    rng = np.random.default_rng(seed)
    phi = ACTIVATIONS[activation]
    net = Architecture(shape, phi, phi, dtype=np.float64)
    parameters = Parameters(net, runs=1)
    for k in net.layers:
        parameters.W[k][0] = rng.normal(scale=shape[k - 1] ** -0.5, size=(shape[k - 1], shape[k]))
    x, y = rng.standard_normal(shape[0]).tolist(), rng.random(shape[-1]).tolist()
    one, other = (_flat(found(net, parameters, x, y)) for found in (way, backprop_gradient))
    return float(np.abs(one - other).max() / np.abs(other).max())


def _flat(gradient: Sequence[list[list[float]]]) -> Float64s:
    return np.concatenate([np.ravel(layer) for layer in gradient[1:]])


def _by_depth(cell: Cell, count: Count) -> dict[int, int]:
    """The count at each depth, the shallowest first."""
    return {int(values["depth"]): count(sizes(part)) for values, part in cell.each(["depth"])}


MEASURED: dict[str, Callable[..., Measured]] = {
    measure.__name__: measure for measure in (multiplications, path_growth, work_per_layer, linear_share, largest_difference)
}
PREDICTED: dict[str, Callable[..., float]] = {
    "multiplications": predicted_multiplications,
    "path_growth": predicted_path_growth,
    "work_per_layer": predicted_work_per_layer,
}
