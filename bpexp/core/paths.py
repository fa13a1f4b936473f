r"""The gradient without backpropagation: the sum over all paths from a weight to the loss.

A weight W_k[i, j] moves neuron j of layer k, that moves every neuron of layer k+1, and so on to the outputs.  Each way through the net, one
neuron per layer, carries its own product of slopes and weights, and the chain rule adds them up:

    dL/dW_k[i, j] = a_{k-1}[i] * sum over paths j = j_k -> j_{k+1} -> … -> j_L of
                    phi'(z_k[j_k]) W_{k+1}[j_k, j_{k+1}] phi'(z_{k+1}[j_{k+1}]) … W_L[j_{L-1}, j_L] phi'(z_L[j_L]) (a_L[j_L] - y[j_L])

for one sample and the squared error 1/2 ||a_L - y||^2; the L of an index is the last layer.  There are n_{k+1} n_{k+2} … n_L paths from
one neuron of layer k: with w neurons per layer w^(L-k), exponentially many in the depth.

Backpropagation computes the same number.  Where paths share their end, it factors the end out: delta_{k+1}[j] is the sum over all paths that
start at neuron j of layer k+1, and

    delta_k[i] = phi'(z_k[i]) sum_j W_{k+1}[i, j] delta_{k+1}[j]

reuses it for every i.  Storing the answers of smaller problems that come up again and again is dynamic programming; the work falls to a
constant per weight.  `count_multiplications` runs both ways and counts.

All is written for one sample in plain Python numbers, to be read: `bpexp.core.network` is what trains.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise, product
from operator import mul

import numpy as np

from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import Float64s
from bpexp.core.network import Architecture, Parameters

__all__ = ["backprop_gradient", "count_multiplications", "path_gradient"]

Matrix = list[list[float]]
Multiply = Callable[[float, float], float]


@dataclass(frozen=True)
class ForwardPass:
    """What both ways start from: weights W[k][i][j], activations a[k][i], slopes phi'(z_k[j]) in slope[k][j], and a_L - y in error[j].

    Layers are numbered 1 … depth; index 0 is the input in `a` and stays empty in `W` and `slope`.
    """

    W: list[Matrix]
    a: Matrix
    slope: Matrix
    error: list[float]

    @property
    def depth(self) -> int:
        return len(self.a) - 1


def path_gradient(net: Architecture, parameters: Parameters, x: Sequence[float], y: Sequence[float], multiply: Multiply = mul) -> list[Matrix]:
    """dL/dW[k][i][j] as the sum over all paths: every path of every weight is multiplied out from its start to its end, nothing is kept.

    `parameters` are those of a lone run (R = 1); layers are numbered 1 … depth, index 0 stays empty.  `multiply` does every multiplication
    that comes after the forward pass, which both ways share.
    """
    sample = _forward(net, parameters, x, y)

    def sum_over_paths(k: int, j: int) -> float:
        ends = product(*(range(n) for n in net.sizes[k + 1 :]))  # every choice of j_{k+1}, …, j_L
        return sum(reduce(multiply, _factors(sample, k, (j, *end))) for end in ends)

    return [[], *([[multiply(a, sum_over_paths(k, j)) for j in range(net.sizes[k])] for a in sample.a[k - 1]] for k in net.layers)]


def _factors(sample: ForwardPass, k: int, path: tuple[int, ...]) -> Iterator[float]:
    """What a path j_k -> … -> j_L multiplies: slope, weight, slope, …, weight, slope, error."""
    yield sample.slope[k][path[0]]
    for layer, (i, j) in enumerate(pairwise(path), start=k + 1):
        yield sample.W[layer][i][j]
        yield sample.slope[layer][j]
    yield sample.error[path[-1]]


def backprop_gradient(net: Architecture, parameters: Parameters, x: Sequence[float], y: Sequence[float], multiply: Multiply = mul) -> list[Matrix]:
    """The same dL/dW[k][i][j] by backpropagation: one delta per neuron, computed once, from the deltas of the layer after it."""
    sample = _forward(net, parameters, x, y)
    gradient: list[Matrix] = [[] for _ in sample.a]
    delta = [multiply(slope, error) for slope, error in zip(sample.slope[-1], sample.error, strict=True)]
    for k in reversed(net.layers):
        gradient[k] = [[multiply(a, d) for d in delta] for a in sample.a[k - 1]]
        if k > 1:
            back = [sum(multiply(w, d) for w, d in zip(row, delta, strict=True)) for row in sample.W[k]]
            delta = [multiply(slope, total) for slope, total in zip(sample.slope[k - 1], back, strict=True)]
    return gradient


def count_multiplications(sizes: tuple[int, ...]) -> tuple[int, int]:
    """How often `path_gradient` and `backprop_gradient` multiply in a net of these sizes (inputs, hidden widths …, outputs).

    Both are run on a net of linear neurons, and the multiplications counted as they happen; the forward pass before them is not.
    """
    net = Architecture(sizes, ACTIVATIONS["linear"], ACTIVATIONS["linear"], dtype=np.float64)
    parameters = Parameters(net, runs=1)  # weights of zero will do: no product is skipped for its value
    x, y = [1.0] * sizes[0], [1.0] * sizes[-1]

    def count(way: Callable[[Architecture, Parameters, Sequence[float], Sequence[float], Multiply], list[Matrix]]) -> int:
        done = 0

        def multiply(a: float, b: float) -> float:
            nonlocal done
            done += 1
            return a * b

        way(net, parameters, x, y, multiply)
        return done

    return count(path_gradient), count(backprop_gradient)


def _forward(net: Architecture, parameters: Parameters, x: Sequence[float], y: Sequence[float]) -> ForwardPass:
    """z_k[j] = sum_i a_{k-1}[i] W_k[i, j] + b_k[j], a_k = phi(z_k), and the slopes phi'(z_k)."""
    W: list[Matrix] = [[], *(weights[0].tolist() for weights in parameters.W[1:])]
    a: Matrix = [[float(value) for value in x]]
    slope: Matrix = [[]]
    for k in net.layers:
        columns = zip(*W[k], strict=True)
        z = np.array([sum(value * w for value, w in zip(a[-1], column, strict=True)) for column in columns])
        if net.bias:
            z += parameters.b[k][0, 0]
        phi, derivative = _apply(net, k, z)
        a.append(phi.tolist())
        slope.append(derivative.tolist())
    return ForwardPass(W, a, slope, [output - target for output, target in zip(a[-1], y, strict=True)])


def _apply(net: Architecture, k: int, z: Float64s) -> tuple[Float64s, Float64s]:
    """phi(z) and phi'(z) of layer k."""
    a, slope = np.empty_like(z), np.empty_like(z)
    net.phi(k).function(z, a)
    net.phi(k).derivative(z, a, slope)
    return a, slope
