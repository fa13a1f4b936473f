r"""The network: forward, backward, and the arrays that both work in.

Row vectors: a sample's activations at layer k are a row a_k, and W_k[i, j] leads from neuron i of layer k-1 to neuron j of layer k.

    z_k = a_{k-1} W_k + b_k        a_k = phi_k(z_k)        k = 1 … depth,   a_0 = x

Backpropagation, with delta_k = dL/dz_k.  A neuron i of layer k acts on the loss through every neuron j of layer k+1, so the chain
rule sums over j; a weight acts through its own neuron j alone:

    dL/da_k[i]    = sum_j delta_{k+1}[j] W_{k+1}[i, j]
    delta_k[i]    = dL/da_k[i] phi_k'(z_k[i])
    dL/dW_k[i, j] = a_{k-1}[i] delta_k[j]

Each delta_k is computed once, from delta_{k+1}, and used twice: for the weights of its layer and for the neurons before it.  That
is dynamic programming: the work grows linearly with depth, where the sum over all paths (`bpexp.core.paths`) grows exponentially.

Every array has a leading run axis R; layers are numbered 1 … depth, index 0 of a list is the input or stays empty.
Gradients are kept as x * 2**exponent, an exponent per run and layer, because after tens of sigmoid layers they leave the range of
float32 and after some hundreds that of float64.

How layers compose.  A net is a list of operations, each of which knows how to go forward and how to carry a gradient back:

    Affine      z_k = a_{k-1} W_k + b_k
    Activate    f_k = phi_k(v_k)

and between and after them whatever `Architecture.normalize` (`bpexp.core.normalization`: v_k from z_k) and `Architecture.connect`
(`bpexp.core.skips`: a_k from f_k and an earlier a) put there.  In a plain net v_k is z_k and a_k is f_k: the very same arrays.  The forward
pass goes through the list, the backward pass through its reverse: that is the chain rule.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bpexp.core.activations import ACTIVATIONS, Activation
from bpexp.core.arrays import Array, Ints, columns, flat, pull_into_range

__all__ = ["Architecture", "Arena", "Entry", "Gradients", "Neurons", "Operation", "Parameters", "backward", "forward", "nothing"]


@dataclass(frozen=True)
class Entry:
    """An array (R, *shape) of the net that lasts from step to step: what it starts from, and whether gradients reach it."""

    shape: tuple[int, int]
    start: float = 0.0
    trained: bool = True


@dataclass(frozen=True)
class Operation:
    """One operation of layer k.

    `forward` computes its output from its input; `backward` turns dL/d(output), which it finds in grad.delta[k], into dL/d(input), and
    leaves the gradients of its parameters in `grad`, with their exponents.  Two parts of the way back depend on no other layer's, so that
    all layers' can be computed at once: `slope`, which needs no delta and comes before, and `gradient`, which nobody waits for.
    `entries` names its parameters; `reserve` and `reserve_back` replace buffers of the plain net where it needs ones of its own,
    `buffers` arrays (R, B, n_k) in all.
    """

    buffers: ClassVar[int] = 0

    k: int

    def entries(self, net: "Architecture") -> Mapping[str, Entry]:  # noqa: ARG002 (for those that have some)
        return {}

    def reserve(self, neurons: "Neurons") -> None: ...

    def reserve_back(self, grad: "Gradients") -> None: ...

    def forward(self, p: "Parameters", n: "Neurons") -> None:
        raise NotImplementedError

    def slope(self, p: "Parameters", n: "Neurons", grad: "Gradients") -> None: ...

    def backward(self, p: "Parameters", n: "Neurons", grad: "Gradients") -> None:
        raise NotImplementedError

    def gradient(self, p: "Parameters", n: "Neurons", grad: "Gradients") -> None: ...


@dataclass(frozen=True)
class Affine(Operation):
    """z_k = a_{k-1} W_k + b_k."""

    bias: bool

    def entries(self, net: "Architecture") -> Mapping[str, Entry]:
        n_in, n_out = net.sizes[self.k - 1 : self.k + 1]
        weights = {"W": Entry((n_in, n_out))}
        return weights | {"b": Entry((1, n_out))} if self.bias else weights

    def forward(self, p: "Parameters", n: "Neurons") -> None:
        k = self.k
        np.matmul(n.a[k - 1], p.W[k], out=n.z[k])
        if self.bias:
            np.add(n.z[k], p.b[k], out=n.z[k])

    def backward(self, p: "Parameters", n: "Neurons", grad: "Gradients") -> None:  # noqa: ARG002
        k, delta = self.k, grad.delta
        if k > 1:
            np.matmul(delta[k], p.WT[k], out=delta[k - 1])  # dL/da_{k-1}[i] = sum_j delta_k[j] W_k[i, j]
            grad.exponent[:, k - 1] = grad.exponent[:, k]

    def gradient(self, p: "Parameters", n: "Neurons", grad: "Gradients") -> None:  # noqa: ARG002
        k, delta = self.k, grad.delta
        if "W" in grad.arrays:  # else `bpexp.core.layerwise` makes them one by one
            np.matmul(n.aT[k - 1], delta[k], out=grad.W[k])  # dL/dW_k[i, j] = sum over samples of a_{k-1}[i] delta_k[j]
        if self.bias:
            np.matmul(grad.ones, delta[k], out=grad.b[k])  # dL/db_k[j] = sum over samples of delta_k[j]


@dataclass(frozen=True)
class Activate(Operation):
    """f_k = phi_k(v_k)."""

    phi: Activation

    def forward(self, p: "Parameters", n: "Neurons") -> None:  # noqa: ARG002
        self.phi.function(n.v[self.k], n.f[self.k])

    def slope(self, p: "Parameters", n: "Neurons", grad: "Gradients") -> None:  # noqa: ARG002
        k = self.k
        self.phi.derivative(n.v[k], n.f[k], grad.slope[k])

    def backward(self, p: "Parameters", n: "Neurons", grad: "Gradients") -> None:  # noqa: ARG002
        k, delta = self.k, grad.delta[self.k]
        np.multiply(delta, grad.slope[k], out=delta)  # dL/dv_k = dL/df_k phi'(v_k)
        grad.settle(k)


def nothing(_net: "Architecture", _k: int) -> tuple[Operation, ...]:
    """What a plain net has between affine map and activation, and after it."""
    return ()


@dataclass(frozen=True)
class Architecture:
    """The shape of a net: `sizes` = (inputs, hidden widths …, outputs), one weight layer between neighbours.

    `normalize` and `connect` say which operations layer k has before and after its activation.
    """

    sizes: tuple[int, ...]
    activation: Activation = ACTIVATIONS["sigmoid"]
    output: Activation = ACTIVATIONS["sigmoid"]
    bias: bool = False
    dtype: DTypeLike = np.float32
    normalize: Callable[["Architecture", int], Iterable[Operation]] = nothing
    connect: Callable[["Architecture", int], Iterable[Operation]] = nothing

    @property
    def depth(self) -> int:
        return len(self.sizes) - 1

    @property
    def layers(self) -> range:
        """1 … depth."""
        return range(1, self.depth + 1)

    def phi(self, k: int) -> Activation:
        return self.output if k == self.depth else self.activation

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """The net, from input to output; the last one is the output's activation."""
        found: list[Operation] = []
        for k in self.layers:
            found += [Affine(k, self.bias), *self.normalize(self, k), Activate(k, self.phi(k)), *self.connect(self, k)]
        return tuple(found)

    @cached_property
    def operations_back(self) -> tuple[Operation, ...]:
        """From output to input, without the output's activation: its derivative is part of the loss's own."""
        return self.operations[-2::-1]


@dataclass(frozen=True)
class Arena:
    """Arrays of one kind and shape in equally spaced layers, as one array `values` (R, layers, n_in, n_out), so that one call updates them all."""

    kind: str
    layers: range
    values: Array

    @staticmethod
    def allocate(kind: str, entries: Mapping[int, Entry], runs: int, dtype: DTypeLike) -> "list[Arena]":
        """Arenas for the entries of one kind, by layer."""
        layers = list(entries)
        step = layers[1] - layers[0] if len(layers) > 1 else 1
        arenas, first = [], 0
        for entry, group in groupby(entries.values()):
            count = len(list(group))
            start = layers[first]
            values = np.full((runs, count, *entry.shape), entry.start, dtype)
            arenas.append(Arena(kind, range(start, start + count * step, step), values))
            first += count
        return arenas

    def views(self) -> Iterator[tuple[int, Array]]:
        """Each layer's (R, n_in, n_out), with its number."""
        return ((k, self.values[:, i]) for i, k in enumerate(self.layers))


class Parameters:
    """Weights W[k] (R, n_in, n_out) and biases b[k] (R, 1, n_out), and what else operations train; or their gradients: anything of that shape.

    `arrays[kind][k]` are all of them, but for kinds that it is to go `without`; `arenas` those that are trained.
    """

    def __init__(self, net: Architecture, runs: int, *, without: Container[str] = ()) -> None:
        named = [(kind, op.k, entry) for op in net.operations for kind, entry in op.entries(net).items() if kind not in without]
        kinds = dict.fromkeys(kind for kind, _, _ in named)
        entries = {kind: {k: entry for name, k, entry in named if name == kind} for kind in kinds}
        arenas = {kind: Arena.allocate(kind, found, runs, net.dtype) for kind, found in entries.items()}
        self.arrays: dict[str, dict[int, Array]] = {kind: dict(view for arena in found for view in arena.views()) for kind, found in arenas.items()}
        self.arenas: list[Arena] = [arena for kind, found in arenas.items() for arena in found if next(iter(entries[kind].values())).trained]
        empty: Array = np.empty(0, net.dtype)
        self.W: list[Array] = [empty, *self.arrays.get("W", {}).values()]
        self.b: list[Array] = [empty, *self.arrays.get("b", {}).values()]
        self.WT: list[Array] = [empty, *(W.swapaxes(1, 2) for W in self.W[1:])]

    def finite(self) -> NDArray[np.bool]:
        """Of which runs all trained numbers are finite."""
        return np.asarray(np.logical_and.reduce([np.isfinite(flat(arena.values)).all(axis=1) for arena in self.arenas]))


class Neurons:
    """What flows forward through layer k, (R, B, n_k) for B samples: z[k], v[k], f[k], a[k]; in a plain net v[k] is z[k] and f[k] is a[k].

    With `training=False` the layers share buffers, enough to evaluate a net, not to differentiate it, and batch norm takes its running statistics.
    """

    def __init__(self, net: Architecture, runs: int, batch: int, *, training: bool = True) -> None:
        self.net, self.training = net, training
        self.shape = runs, batch
        self._kept: dict[str, list[Array]] = {}
        self._shared: dict[str, Array] = {}
        empty: Array = np.empty(0, net.dtype)
        self.z: list[Array] = [empty, *(self.buffer("z", k) for k in net.layers)]
        self.a: list[Array] = [np.empty((runs, batch, net.sizes[0]), net.dtype), *(self.buffer("a", k) for k in net.layers)]
        self.aT: list[Array] = [a.swapaxes(1, 2) for a in self.a]
        self.v, self.f = list(self.z), list(self.a)
        self.saved: dict[tuple[str, int], Array] = {}  # what an operation keeps for its way back
        for operation in net.operations:
            operation.reserve(self)

    def buffer(self, name: str, k: int) -> Array:
        """An array (R, B, n_k): its own while training, else one that all layers share under that name."""
        (runs, batch), sizes = self.shape, self.net.sizes
        if self.training:
            if name not in self._kept:
                self._kept[name] = layered(self.net, runs, batch)
            return self._kept[name][k]
        shared = self._shared.setdefault(name, np.empty(runs * batch * max(sizes[1:]), self.net.dtype))
        return shared[: runs * batch * sizes[k]].reshape(runs, sizes[k], batch).swapaxes(1, 2)


class Gradients(Parameters):
    """The gradients of all parameters, in arenas like theirs, and delta[k] (R, B, n_k); true value = stored * 2**exponent[:, k].

    delta[k] holds dL/da_k first, at the end dL/dz_k.  `exponents[kind]` are those of the parameters' gradients: of W and b the deltas' own.
    `factor[k]`, `through[k]` and `around[k]` (R, 1, 1) are the powers of two that the last pass has multiplied by, where it measured: at
    layer k, and where two ways meet there (`bpexp.core.skips`).
    """

    def __init__(self, net: Architecture, runs: int, batch: int, *, without: Container[str] = (), shared: bool = False) -> None:
        super().__init__(net, runs, without=without)
        dtype = net.dtype
        self.delta: list[Array] = layered(net, runs, batch)
        self.slope: list[Array] = layered(net, runs, batch, shared=shared)
        self.exponent: Ints = np.zeros((runs, net.depth + 1), np.int64)
        self.exponents: dict[str, Ints] = {kind: np.zeros_like(self.exponent) for kind in self.arrays} | {"W": self.exponent, "b": self.exponent}
        self.past: Array = np.empty(0, dtype)  # what goes past a block of layers (`bpexp.core.skips`)
        self.past_exponent: Ints = np.zeros(runs, np.int64)
        self.factor, self.through, self.around = (list(np.ones((net.depth + 1, runs, 1, 1), dtype)) for _ in range(3))
        self.measures = True  # else the factors of an earlier pass are taken
        self.ones: Array = np.ones((1, 1, batch), dtype)
        for operation in net.operations:
            operation.reserve_back(self)

    def settle(self, k: int) -> None:
        """Bring delta_k near 1 by a power of two per run, and note which."""
        if self.measures:
            taken = pull_into_range(self.delta[k])
            self.exponent[:, k] += taken
            np.ldexp(self.factor[k].dtype.type(1.0), -taken[:, None, None], out=self.factor[k])


def layered(net: Architecture, runs: int, batch: int, *, shared: bool = False) -> list[Array]:
    """An array (R, B, n_k) for each layer k, those of equal neighbours equally spaced in memory, or one and the same; index 0 is empty."""
    found: list[Array] = [np.empty(0, net.dtype)]
    for n, group in groupby(net.sizes[1:]):
        layers = len(list(group))
        found += [columns((runs, batch, n), net.dtype)] * layers if shared else list(columns((layers, runs, batch, n), net.dtype))
    return found


def forward(net: Architecture, parameters: Parameters, neurons: Neurons) -> Array:
    """From the input in neurons.a[0] to the output, which is returned."""
    for operation in net.operations:
        operation.forward(parameters, neurons)
    return neurons.a[net.depth]


def backward(net: Architecture, parameters: Parameters, neurons: Neurons, grad: Gradients) -> None:
    """From dL/dz_depth, which the loss has put into grad.delta, to every delta_k and every parameter's gradient: each once."""
    grad.exponent[:, net.depth] = 0
    grad.settle(net.depth)
    for operation in net.operations_back:
        operation.slope(parameters, neurons, grad)
        operation.backward(parameters, neurons, grad)
        operation.gradient(parameters, neurons, grad)
