"""One training step of a stack of runs: forward, loss, backward, update, and the norms of what came by.

The definition is that of `bpexp.core.network`.  Here it is written down once (`bpexp.core.tape`) and then repeated.  The only thing that a
repetition does not do is to measure each layer's deltas on their way: it takes the powers of two that a run's last measured pass has found, for
deltas change little from step to step, and looks at the norms of all layers afterwards.  A run whose deltas have left the range in which
nothing is lost goes back through the definition, which measures.  Multiplying by a power of two is exact, so the numbers are the definition's.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bpexp.core.arrays import Array, Float64s, columns, flat, log2_norms
from bpexp.core.descent import Descent, Method
from bpexp.core.layerwise import Layerwise, wide
from bpexp.core.losses import Loss
from bpexp.core.network import Activate, Affine, Architecture, Gradients, Neurons, Operation, Parameters, backward
from bpexp.core.norms import Norms, safe
from bpexp.core.state import Windows
from bpexp.core.tape import Call, Plain, Tape, compiled, mapped, merged, spaced

__all__ = ["Step"]

T = TypeVar("T")

NEAR = 2.0**-32, 2.0**32  # squares of norms at which deltas stay as they are while they are measured on the way
MERGED = 8192  # numbers in a layer's activations up to which one call for all layers beats a layer's numbers staying in the cache


class Step:
    """A step of the runs of `parameters`, which it trains in place, on the batch that is put into `neurons.a[0]` and `targets` (R, B, outputs).

    `forward`, `backward` and `update` come in this order; `value` (R,) is the mean loss of the batch.  `lr` as in `Descent`.
    """

    def __init__(self, net: Architecture, loss: Loss, method: Method, batch: int, parameters: Parameters, lr: Float64s) -> None:
        runs = len(lr)
        self.net, self.loss, self.parameters = net, loss, parameters
        layerwise = wide(net, method)
        self.merges = runs * batch * max(net.sizes[1:]) <= MERGED
        self.neurons = Neurons(net, runs, batch)
        self.gradients = Gradients(net, runs, batch, without=("W",) if layerwise else (), shared=not self.merges)
        self.deltas = Norms(self.gradients.delta[1:])
        self.layerwise = Layerwise(net, parameters, self.neurons, self.gradients, self.deltas.squares) if layerwise else None
        self.descent = Descent(method, parameters, self.gradients, lr)
        self.targets: Array = columns((runs, batch, net.sizes[-1]), net.dtype)
        self.value: Array = np.empty(runs, net.dtype)
        self.weights = Norms(self.neurons.a[:-1] if batch == 1 or layerwise else self.gradients.W[1:])
        self.measured = np.zeros(runs, bool)  # which runs have powers of two to go on with
        self.zero = np.zeros((net.depth, runs), bool)  # and where their deltas were found to be 0
        self.known = False  # whether all of them have
        self.settled = False  # whether the exponents are those of the step before
        self._rows = [(flat(delta), squares) for delta, squares in zip(self.gradients.delta[1:], self.deltas.squares, strict=True)]
        with np.errstate(all="ignore"):
            self._forward, self._backward, self._layers = self._written_down()

    def forward(self) -> None:
        """From the batch to `value` (R,), the mean loss, and dL/dz of the output layer."""
        for call in self._forward:
            call()

    def backward(self, alive: NDArray[np.bool]) -> None:
        """To the gradients of all parameters, for the runs that are alive."""
        for call in self._backward:
            call()
        self.deltas.measure()
        self.settled = self.known and self.deltas.safe()
        if not self.settled:
            self._measure(alive)

    def log2_delta(self) -> Float64s:
        """log2 of ||dL/dz_k||, (depth, R)."""
        return np.asarray(self.deltas.log2() + self.gradients.exponent[:, 1:].T)

    def log2_grad(self) -> Float64s:
        """log2 of ||dL/dW_k||, (depth, R); of one sample it is ||a_{k-1}|| ||delta_k||.  Before the update, which uses the gradients up."""
        exponent = self.gradients.exponent[:, 1:].T
        if self.targets.shape[1] > 1 and self.layerwise is not None:
            return self.layerwise.log2_grad() + exponent
        self.weights.measure()
        found = self.weights.log2() + exponent
        return found + self.deltas.log2() if self.targets.shape[1] == 1 else found

    def update(self, step: int, alive: NDArray[np.bool], *, norms: bool = False) -> Float64s | None:
        """The update after `step` others; with `norms`, what `log2_grad` would have said before it."""
        layerwise = self.layerwise
        on_the_way = norms and layerwise is not None and self.targets.shape[1] > 1
        found = self.log2_grad() if norms and not on_the_way else None
        self.descent.step(step, settled=self.settled)
        if layerwise is not None:
            made = layerwise.update(self.descent.rate, alive, norms=on_the_way)
            found = found if made is None else made + self.gradients.exponent[:, 1:].T
        return found

    def descend(self, step: int, alive: NDArray[np.bool], *, norms: bool = False) -> Float64s | None:
        """`backward` and `update`: of wide layers each by itself, while its weights are still in the cache."""
        if self.layerwise is None:
            self.backward(alive)
            return self.update(step, alive, norms=norms)
        of_one = self.targets.shape[1] == 1
        found = np.full(self.deltas.squares.shape, np.nan) if norms and not of_one else None
        self._layer_by_layer(self.layerwise, step, alive, found)
        self.descent.step(step)
        if found is not None:
            found += self.gradients.exponent[:, 1:].T
        return self.log2_grad() if norms and of_one else found

    def watched_update(self, step: int, alive: NDArray[np.bool]) -> tuple[Float64s, Float64s]:
        """The same with `norms`, and log2 of the norms of what has been added to each layer's weights, (depth, R) each."""
        if self.layerwise is not None:
            self.descent.step(step, settled=self.settled)
            found, change = self.layerwise.watched_update(self.descent.rate, alive)
            return found + self.gradients.exponent[:, 1:].T, change
        found, before = self.log2_grad(), [W.copy() for W in self.parameters.W[1:]]
        self.update(step, alive)
        return found, log2_norms([np.subtract(W, old, out=old) for W, old in zip(self.parameters.W[1:], before, strict=True)])

    def reveal(self) -> None:
        """Fill in what of `neurons` a step goes without and a probe asks for: here nothing."""

    def windows(self, run: int) -> Windows:
        """On what lasts from a run's step to its next: moments, and powers of two, which decide on last bits where a norm becomes a logarithm."""
        grad, bound = self.gradients, {} if self.layerwise is None else {"bound": self.layerwise.bound[:, run]}
        moments = {f"moments/{i}/{j}": moment[run] for i, block in enumerate(self.descent.moments) for j, moment in enumerate(block)}
        exponents = {f"exponents/{kind}": exponent[run] for kind, exponent in grad.exponents.items() if kind != "b"}  # whose are those of W
        factors = {"factor": grad.factor, "through": grad.through, "around": grad.around}
        powers = {name: whole[:, run] for name, layers in factors.items() if (whole := spaced(layers)) is not None}
        return {"measured": self.measured[run : run + 1], "zero": self.zero[:, run], **powers, **exponents, **moments, **bound}

    def broken(self) -> NDArray[np.bool] | None:
        """Which runs have a weight that is not finite; None where none has."""
        found = self.descent.broken()
        wide = None if self.layerwise is None else self.layerwise.broken(self.descent.rate, self.weights, self.deltas)
        return found if wide is None else wide if found is None else found | wide

    def _layer_by_layer(self, layerwise: Layerwise, step: int, alive: NDArray[np.bool], log2_grad: Float64s | None) -> None:
        """Measured on the way, for what has been updated can't be done again."""
        grad, depth = self.gradients, self.net.depth
        self.descent.schedule(step)
        grad.exponent[:, depth] = 0
        self._settle(depth)
        for operation, calls in self._layers:
            for call in calls:
                call()
            k = operation.k
            if isinstance(operation, Affine):
                grad.exponent[:, k - 1] = grad.exponent[:, k]  # of layer 0 nobody asks
                rate = np.ldexp(self.descent.scheduled_of(k), grad.exponent[:, k])
                layerwise.descend(k, rate.astype(self.value.dtype), alive, log2_grad)
            elif isinstance(operation, Activate):
                self._settle(k)
        self.known = False
        self.measured[:] = False

    def _settle(self, k: int) -> None:
        """As `Gradients.settle`, where the norm says that there is something to do."""
        rows, squares = self._rows[k - 1]
        np.vecdot(rows, rows, squares)
        if not (np.minimum.reduce(squares) >= NEAR[0] and np.maximum.reduce(squares) <= NEAR[1]):
            self.gradients.settle(k)
            np.vecdot(rows, rows, squares)

    # ------------------------------------------------------------------------------------------ repeated

    def _written_down(self) -> tuple[list[Plain], list[Plain], list[tuple[Operation, list[Plain]]]]:
        """The calls of a forward pass, of a backward pass that measures nothing, and those of one that does, operation by operation."""
        tape = Tape()
        p, n, grad = tape.trace(self.parameters), tape.trace(self.neurons), tape.trace(self.gradients)
        grad.measures = False
        for operation in self.net.operations:
            operation.forward(p, n)
        self._seed(n, grad, tape.traced(self.targets), tape.traced(self.value))
        forward = tape.take()
        self._scale(grad.delta[-1], grad.factor[-1])
        seed = tape.take()
        slopes, chain, gradients, layers = [], [], [], []
        for operation in self.net.operations_back:
            k = operation.k
            operation.slope(p, n, grad)
            unscaled = list(tape.calls)
            if isinstance(operation, Activate):
                self._scale(grad.slope[k], grad.factor[k])
            slopes.append(tape.take())
            operation.backward(p, n, grad)
            chain.append(tape.take())
            operation.gradient(p, n, grad)
            gradients.append(tape.take())
            layers.append((operation, compiled([*unscaled, *chain[-1], *gradients[-1]]) if self.layerwise else []))
        return compiled(forward), compiled(seed + self._ordered(slopes, chain, gradients)), layers

    def _scale(self, x: Array, factor: Array) -> None:
        """By the power of two that keeps a layer's deltas in range."""
        np.multiply(x, factor, out=x)

    def _ordered(self, slopes: Sequence[list[Call]], chain: Sequence[list[Call]], gradients: Sequence[list[Call]]) -> list[Call]:
        """What waits for no other layer's is done for all layers at once, where they fit the cache together; else layer by layer."""
        if self.merges:
            return [*merged(slopes[::-1]), *(call for calls in chain for call in calls), *merged(gradients[::-1])]  # in the order of memory
        return [call for parts in zip(slopes, chain, gradients, strict=True) for calls in parts for call in calls]

    def _seed(self, n: Neurons, grad: Gradients, y: Array, value: Array) -> None:
        """The batch's mean loss, and its delta_depth = dL/dz_depth: the seed of the backward pass."""
        z, a, delta = n.z[-1], n.a[-1], grad.delta[-1]
        scratch = np.empty_like(z)
        self.loss.value(z, a, y, scratch, value)
        self.loss.delta(z, a, y, self.net.output, scratch, delta)
        np.divide(value, y.shape[1], out=value)
        np.divide(delta, y.shape[1], out=delta)

    # ------------------------------------------------------------------------------------------ measured

    def _measure(self, alive: NDArray[np.bool]) -> None:
        """Send those runs through the definition whose deltas lie where something may be lost."""
        squares = self.deltas.squares
        zero = (squares == 0) & self.zero
        for k in map(int, np.flatnonzero(zero.any(axis=1))):  # a square can be 0 where its number is not
            zero[k] &= ~flat(self.deltas.arrays[k]).any(axis=1)
        wrong = alive & ~((safe(squares) | zero).all(axis=0) & self.measured)
        for run in map(int, np.flatnonzero(wrong)):
            p, n, grad = self._of_run(self.parameters, run), self._of_run(self.neurons, run), self._of_run(self.gradients, run)
            self._seed(n, grad, self.targets[run : run + 1], np.empty_like(self.value[:1]))
            backward(self.net, p, n, grad)
        self.measured |= alive
        self.known = bool(self.measured.all())
        self.deltas.measure()
        np.equal(squares, 0, out=self.zero, where=wrong)  # each run's own, or it would matter when a neighbour is measured

    def _of_run(self, thing: T, run: int) -> T:
        """Windows on what belongs to one run."""
        runs = len(self.value)
        return mapped(thing, lambda x: x[run : run + 1] if len(x) == runs else x)
