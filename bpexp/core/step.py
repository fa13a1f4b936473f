"""One training step of a stack of runs: forward, loss, backward, update, and the norms of what came by.

The definition is `bpexp.core.network`'s.  Here it is written down once (`bpexp.core.tape`) and then repeated; the only thing that a repetition
does not do is to measure each layer's deltas on their way.  It takes the powers of two that the last measured pass found, for a run's deltas change little
from step to step, and looks at the norms of all layers afterwards: a run whose deltas have left the range in which nothing is lost goes
back through the definition, which measures.  Multiplying by a power of two is exact, so the numbers are those of the definition.
"""

from itertools import groupby
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bpexp.core.arrays import Array, Float64s, flat, log2_norm
from bpexp.core.losses import Loss
from bpexp.core.network import Activate, Architecture, Gradients, Neurons, Parameters, backward
from bpexp.core.tape import Plain, Tape, compiled, mapped, merged, spaced

__all__ = ["Norms", "Step"]

T = TypeVar("T")

MERGED = 8192  # numbers in a layer's activations up to which one call for all layers beats a layer's numbers staying in the cache
# Squares of norms far enough from the ends of the dtype's range for whatever is lost below or above not to show in the norm.
SAFE = {"f": (2.0**-80, 2.0**80), "d": (2.0**-800, 2.0**800)}


class Norms:
    """The norms ‖x_k‖ of one array (R, …) per layer, run by run, in as few calls as their places in memory allow."""

    def __init__(self, arrays: list[Array]) -> None:
        self.arrays = arrays
        self.squares: Array = np.empty((len(arrays), len(arrays[0])), arrays[0].dtype)
        self.low, self.high = SAFE[arrays[0].dtype.char]
        self.rows: list[tuple[Array, Array]] = []
        first = 0
        for _, group in groupby([flat(x) for x in arrays], key=lambda x: x.shape):
            same = list(group)
            whole = spaced(same)
            parts = [row[None] for row in same] if whole is None else [whole]
            for part in parts:
                self.rows.append((part, self.squares[first : first + len(part)]))
                first += len(part)

    def measure(self) -> None:
        """Fill `squares` (layers, R)."""
        for rows, out in self.rows:
            np.vecdot(rows, rows, out)

    def safe(self) -> bool:
        """Whether no square has lost anything to the dtype's range."""
        return bool(self.squares.min() >= self.low and self.squares.max() <= self.high)

    def log2(self) -> Float64s:
        """log2 of the norms, (layers, R): from the squares, or with care where these are too small or too large to be right."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Float64s = 0.5 * np.log2(self.squares, dtype=np.float64)
        if not self.safe():
            for layer in np.flatnonzero(~((self.squares >= self.low) & (self.squares <= self.high)).all(axis=1)):
                square = self.squares[layer]
                found[layer] = np.where((square >= self.low) & (square <= self.high), found[layer], log2_norm(self.arrays[layer]))
        return found


class Step:
    """One step of the runs of `parameters`, on the batch that is put into `neurons.a[0]` and `targets` (R, B, outputs)."""

    def __init__(self, net: Architecture, loss: Loss, batch: int, parameters: Parameters) -> None:
        runs = len(parameters.W[1])
        self.net, self.loss, self.parameters = net, loss, parameters
        self.neurons, self.gradients = Neurons(net, runs, batch), Gradients(net, runs, batch)
        self.targets: Array = np.empty((runs, batch, net.sizes[-1]), net.dtype)
        self.value: Array = np.empty(runs, net.dtype)
        self.deltas = Norms(self.gradients.delta[1:])
        self.weights = Norms(self.neurons.a[:-1]) if batch == 1 else Norms(self.gradients.W[1:])
        self.measured = np.zeros(runs, bool)  # which runs have powers of two to go on with
        self.zero = np.zeros((net.depth, runs), bool)  # and where their deltas were found to be 0
        self.settled = False  # whether the exponents are those of the step before
        with np.errstate(all="ignore"):
            self._forward, self._backward = self._written_down()

    def forward(self) -> None:
        """From the batch to `value` (R,), the mean loss, and dL/dz of the output layer."""
        for call in self._forward:
            call()

    def backward(self, alive: NDArray[np.bool]) -> None:
        """To the gradients of all parameters, for the runs that are alive."""
        for call in self._backward:
            call()
        self.deltas.measure()
        self.settled = bool(self.measured.all()) and self.deltas.safe()
        if not self.settled:
            self._measure(alive)

    def log2_delta(self) -> Float64s:
        """log2 ‖dL/dz_k‖, (depth, R)."""
        return np.asarray(self.deltas.log2() + self.gradients.exponent[:, 1:].T)

    def log2_grad(self) -> Float64s:
        """log2 ‖dL/dW_k‖, (depth, R); of one sample it is ‖a‖ ‖delta‖.  Not after the update, which uses the gradients up."""
        self.weights.measure()
        if self.targets.shape[1] == 1:
            return np.asarray(self.weights.log2() + self.log2_delta())
        return np.asarray(self.weights.log2() + self.gradients.exponent[:, 1:].T)

    # ------------------------------------------------------------------------------------------ repeated

    def _written_down(self) -> tuple[list[Plain], list[Plain]]:
        """The calls of a forward and of a backward pass that measures nothing."""
        tape = Tape()
        p, n, grad = tape.trace(self.parameters), tape.trace(self.neurons), tape.trace(self.gradients)
        grad.measures = False
        for operation in self.net.operations:
            operation.forward(p, n)
        self._seed(n, grad, tape.traced(self.targets), tape.traced(self.value))
        forward = tape.take()
        slopes, gradients, back = [], [], []
        np.multiply(grad.delta[-1], grad.factor[-1], out=grad.delta[-1])
        back += tape.take()
        for operation in self.net.operations_back:
            operation.slope(p, n, grad)
            if isinstance(operation, Activate):
                np.multiply(grad.slope[operation.k], grad.factor[operation.k], out=grad.slope[operation.k])
            slopes.append(tape.take())
            operation.backward(p, n, grad)
            own = tape.take()
            operation.gradient(p, n, grad)
            gradients.append(tape.take())
            back += own if self._small else [*slopes[-1], *own, *gradients[-1]]
        if self._small:
            back = [*merged(slopes), *back, *merged(gradients)]
        return compiled(forward), compiled(back)

    @property
    def _small(self) -> bool:
        runs, batch = self.neurons.shape
        return runs * batch * max(self.net.sizes[1:]) <= MERGED

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
        right = ((squares >= self.deltas.low) & (squares <= self.deltas.high)) | ((squares == 0) & self.zero)
        for run in np.flatnonzero(alive & ~(right.all(axis=0) & self.measured)):
            p, n, grad = (self._of_run(thing, run) for thing in (self.parameters, self.neurons, self.gradients))
            self._seed(n, grad, self.targets[run : run + 1], np.empty_like(self.value[:1]))
            backward(self.net, p, n, grad)
        self.measured |= alive
        self.deltas.measure()
        np.equal(self.deltas.squares, 0, out=self.zero)

    def _of_run(self, thing: T, run: int) -> T:
        runs = len(self.value)
        return mapped(thing, lambda x: x[run : run + 1] if len(x) == runs else x)


