r"""Skip connections: every m layers the activations are added to those of m layers before.

    a_k = a_{k-m} + s f_k        k = 1+m, 1+2m, …, depth-1 at most

f_k = phi(v_k) is what the block of layers k-m+1 … k makes of a_{k-m}.  Only hidden layers are joined: the first one maps the inputs to
the width, the last one the width to the outputs.

Backward.  a_{k-m} is used twice, so its gradient is a sum: what comes back through the block, and what comes back past it,

    dL/da_{k-m} = dL/da_k + s (dL/df_k through the block)

an identity that no layer can shrink.  Where s is learned, dL/ds = sum over samples and neurons of f_k dL/da_k.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any, ClassVar

import numpy as np

from bpexp.core.arrays import Array, flat
from bpexp.core.network import Architecture, Entry, Gradients, Neurons, Operation, Parameters, nothing
from bpexp.core.rows import Row, parameters

__all__ = ["SKIPS", "Fork", "Join", "Skip"]


@dataclass(frozen=True)
class Fork(Operation):
    """a_k goes two ways: into the next layer, and past the block.  On the way back the two gradients are added."""

    def reserve(self, neurons: Neurons) -> None:
        k = self.k
        neurons.saved["past", k] = neurons.a[k] if neurons.training else neurons.buffer("past", k)  # a shared a[k] is soon written over

    def forward(self, p: Parameters, n: Neurons) -> None:  # noqa: ARG002
        if not n.training:
            np.copyto(n.saved["past", self.k], n.a[self.k])

    def backward(self, p: Parameters, n: Neurons, grad: Gradients) -> None:  # noqa: ARG002
        delta, past, k = grad.delta[self.k], grad.past, self.k
        if grad.measures:
            through, around = grad.exponent[:, k], grad.past_exponent
            common = np.maximum(through, around)  # what the smaller loses in being scaled to the larger lies below its rounding
            for factor, exponent in ((grad.through[k], through - common), (grad.around[k], around - common)):
                np.ldexp(factor.dtype.type(1.0), exponent[:, None, None], out=factor)
            grad.exponent[:, k] = common
        np.multiply(delta, grad.through[k], out=delta)
        np.multiply(past, grad.around[k], out=past)
        np.add(delta, past, out=delta)


@dataclass(frozen=True)
class Join(Operation):
    """a_k = a_start + scale f_k."""

    buffers: ClassVar[int] = 1

    start: int
    scale: float

    def reserve(self, neurons: Neurons) -> None:
        neurons.f[self.k] = neurons.buffer("f", self.k)

    def reserve_back(self, grad: Gradients) -> None:
        grad.past = np.empty_like(grad.delta[self.k])  # one for all: blocks take turns

    def forward(self, p: Parameters, n: Neurons) -> None:
        k = self.k
        np.multiply(n.f[k], self._scale(p, n.f[k]), out=n.a[k])
        np.add(n.a[k], n.saved["past", self.start], out=n.a[k])

    def backward(self, p: Parameters, n: Neurons, grad: Gradients) -> None:
        k, delta = self.k, grad.delta[self.k]
        np.copyto(grad.past, delta)
        grad.past_exponent[:] = grad.exponent[:, k]
        np.multiply(delta, self._scale(p, n.f[k]), out=delta)  # dL/df_k = scale dL/da_k

    def _scale(self, _p: Parameters, f: Array) -> Array | np.floating:
        return f.dtype.type(self.scale)


@dataclass(frozen=True)
class LearnedJoin(Join):
    """The same with a scale that is learned, one number per block, `scale` at the start."""

    def entries(self, net: Architecture) -> Mapping[str, Entry]:  # noqa: ARG002
        return {"scale": Entry((1, 1), start=self.scale)}

    def backward(self, p: Parameters, n: Neurons, grad: Gradients) -> None:
        k = self.k
        np.add.reduce(flat(grad.delta[k] * n.f[k]), axis=1, out=grad.arrays["scale"][k][:, 0, 0])  # dL/ds = sum of f_k dL/da_k
        grad.exponents["scale"][:, k] = grad.exponent[:, k]
        super().backward(p, n, grad)

    def _scale(self, p: Parameters, _f: Array) -> Array:
        return p.arrays["scale"][self.k]


@dataclass(frozen=True)
class Skip(Row):
    """A row: how a block of layers joins.  `connect` takes the keys of the configuration after net and layer."""

    name: str
    connect: Callable[..., tuple[Operation, ...]]

    @property
    def keys(self) -> Mapping[str, Any]:
        return parameters(self.connect, after=2)


def blocks(depth: int, every: int) -> list[tuple[int, int]]:
    """(start, end) of each block: a_end = a_start + …; none where a block of that length does not fit between layer 1 and layer depth-1."""
    return [(start, start + every) for start in range(1, depth - every, every)]


def _connect(net: Architecture, k: int, every: int, join: Callable[[int, int], Join]) -> tuple[Operation, ...]:
    found = blocks(net.depth, every)
    joins = [join(end, start) for start, end in found if end == k]
    return (*joins, *(Fork(k) for start, _ in found if start == k))


def _residual(net: Architecture, k: int, every: int = 1) -> tuple[Operation, ...]:
    return _connect(net, k, every, lambda end, start: Join(end, start, 1.0))


def _scaled(net: Architecture, k: int, every: int = 1) -> tuple[Operation, ...]:
    return _connect(net, k, every, lambda end, start: Join(end, start, 1.0 / sqrt(net.depth)))


def _rezero(net: Architecture, k: int, every: int = 1) -> tuple[Operation, ...]:
    return _connect(net, k, every, lambda end, start: LearnedJoin(end, start, 0.0))


SKIPS: dict[str, Skip] = {
    row.name: row
    for row in (
        Skip("none", nothing, equation="a_k = f_k", effect="All of δ goes through the layers.", source="the plain net"),
        Skip(
            "residual",
            _residual,
            equation="a_k = a_{k−m} + f_k every m layers",
            effect="dL/da_{k−m} = dL/da_k + (what comes through the block): the identity term carries the gradient past layers that would shrink it.",
            source="He, Zhang, Ren & Sun 2016, Identity mappings in deep residual networks, eq. 5",
        ),
        Skip(
            "scaled",
            _scaled,
            equation="a_k = a_{k−m} + f_k / √depth every m layers",
            effect="As with residual, and what the blocks add to the gradient's square stays bounded however deep the net.",
            source="Hayou et al. 2021, Stable ResNet",
        ),
        Skip(
            "rezero",
            _rezero,
            equation="a_k = a_{k−m} + s_k f_k every m layers, s_k learned from 0",
            effect="At the start every block is the identity and dL/da is the same in all joined layers; inside a block δ = 0 until s_k has moved.",
            source="Bachlechner et al. 2021, ReZero, eq. 1",
        ),
    )
}
