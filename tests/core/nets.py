"""Small nets and data for the tests of the core, and one pass through a net as `Training` does it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from hypothesis import settings
from numpy.random import Generator
from numpy.typing import DTypeLike, NDArray

from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import Array, Float64s, Ints
from bpexp.core.descent import Descent, Method
from bpexp.core.initializers import INITIALIZERS
from bpexp.core.losses import LOSSES
from bpexp.core.network import Architecture, Gradients, Neurons, Parameters, backward, forward
from bpexp.core.normalization import NORMS
from bpexp.core.records import Records
from bpexp.core.skips import SKIPS
from bpexp.core.step import Step
from bpexp.core.training import Split, Task, Training

HIDDEN = [name for name, row in ACTIVATIONS.items() if row.elementwise]
OUTPUTS = [(loss.name, output) for loss in LOSSES.values() for output in loss.outputs or HIDDEN]  # every pair that goes together
DTYPES = [np.float32, np.float64]
PLAIN = Method()  # gradient descent

REPEATABLE = settings(derandomize=True, database=None, deadline=None, max_examples=50)


def architecture(
    sizes: Sequence[int],
    activation: str = "tanh",
    output: str = "linear",
    *,
    bias: bool = False,
    dtype: DTypeLike = np.float64,
    norm: str = "none",
    skip: str = "none",
    **keys: int,
) -> Architecture:
    connect = partial(SKIPS[skip].connect, **keys)
    return Architecture(tuple(sizes), ACTIVATIONS[activation], ACTIVATIONS[output], bias, np.dtype(dtype), NORMS[norm].normalize, connect)


def draw(net: Architecture, seeds: Sequence[int], init: str = "gaussian", **scale: float) -> Parameters:
    """Weights by an initializer and biases from N(0, 1/4), a run per seed; what a run gets depends on its own seed alone."""
    parameters = Parameters(net, len(seeds))
    for run, seed in enumerate(seeds):
        rng = np.random.default_rng(seed)
        for k in net.layers:
            parameters.W[k][run] = INITIALIZERS[init].draw(rng, net.sizes[k - 1], net.sizes[k], **scale)
            if net.bias:
                parameters.b[k][run] = 0.5 * rng.standard_normal((1, net.sizes[k]))
    return parameters


def shake(parameters: Parameters, seed: int = 0) -> Parameters:
    """Gains, shifts, scales moved off their starts of 0 and 1, at which a wrong factor might not show."""
    rng = np.random.default_rng(seed)
    for arena in parameters.arenas:
        if arena.kind not in {"W", "b"}:
            np.add(arena.values, 0.3 * rng.standard_normal(arena.values.shape), out=arena.values, casting="same_kind")
    return parameters


def twin(net: Architecture, parameters: Parameters, runs: slice = slice(None)) -> Parameters:
    """A copy, of those runs alone."""
    copy = Parameters(net, len(parameters.W[1][runs]))
    for kind, layers in parameters.arrays.items():
        for k, array in layers.items():
            copy.arrays[kind][k][:] = array[runs]
    return copy


def epsilon(dtype: DTypeLike) -> float:
    """The distance from 1 to the next number."""
    return float(np.finfo(np.dtype(dtype)).eps)


def probabilities(rng: Generator, *shape: int) -> Float64s:
    """Rows that sum to 1: targets for any loss and output."""
    return rng.dirichlet(np.ones(shape[-1]), shape[:-1])


def scaled(x: Array, exponent: Ints) -> Float64s:
    """The true value x * 2**exponent in float64, an exponent per run."""
    return np.ldexp(x.astype(np.float64), exponent.reshape(-1, *[1] * (x.ndim - 1)))


@dataclass(frozen=True)
class Pass:
    """One forward and backward pass, with the gradients of the batch's mean loss."""

    net: Architecture
    neurons: Neurons
    gradients: Gradients
    value: Array

    def W(self, k: int) -> Float64s:
        return scaled(self.gradients.W[k], self.gradients.exponent[:, k])

    def b(self, k: int) -> Float64s:
        return scaled(self.gradients.b[k], self.gradients.exponent[:, k])

    def of(self, kind: str, k: int) -> Float64s:
        """The gradient of any trained parameter."""
        return scaled(self.gradients.arrays[kind][k], self.gradients.exponents[kind][:, k])

    def delta(self, k: int) -> Float64s:
        return scaled(self.gradients.delta[k], self.gradients.exponent[:, k])


def evaluate(net: Architecture, parameters: Parameters, x: Array) -> Neurons:
    """A forward pass from x (B, n), the same for every run, or (R, B, n)."""
    runs = len(parameters.W[1])
    neurons = Neurons(net, runs, x.shape[-2])
    neurons.a[0][:] = x
    forward(net, parameters, neurons)
    return neurons


def carry_back(net: Architecture, parameters: Parameters, neurons: Neurons, delta: Array) -> Pass:
    """A backward pass from a given dL/dz of the output layer."""
    runs, batch, _ = neurons.a[0].shape
    gradients = Gradients(net, runs, batch)
    gradients.delta[-1][:] = delta
    backward(net, parameters, neurons, gradients)
    return Pass(net, neurons, gradients, np.full(runs, np.nan))


def differentiate(net: Architecture, parameters: Parameters, x: Array, y: Array, loss: str) -> Pass:
    """Forward and backward, of the loss summed over outputs and averaged over samples."""
    neurons = evaluate(net, parameters, x)
    z, a = neurons.z[-1], neurons.a[-1]
    y = np.broadcast_to(np.asarray(y, z.dtype), z.shape)
    value, delta, scratch = np.empty(len(z), z.dtype), np.empty_like(z), np.empty_like(z)
    LOSSES[loss].value(z, a, y, scratch, value)
    LOSSES[loss].delta(z, a, y, net.output, scratch, delta)
    done = carry_back(net, parameters, neurons, delta / z.shape[1])
    return Pass(net, neurons, done.gradients, value / z.shape[1])


class Definition:
    """Training steps as plain code: the definition in new arrays and with a look at every layer, then one update of all weights."""

    def __init__(self, net: Architecture, loss: str, method: Method, batch: int, parameters: Parameters, lr: Sequence[float]) -> None:
        self.net, self.loss, self.parameters = net, loss, parameters
        self.gradients = Gradients(net, len(lr), batch)
        self.descent = Descent(method, parameters, self.gradients, np.asarray(lr, np.float64))

    def take(self, x: Array, y: Array) -> Pass:
        """The way there and back, whose gradients are kept for the update."""
        done = differentiate(self.net, self.parameters, x, y, self.loss)
        for ours, theirs in zip(self.gradients.arenas, done.gradients.arenas, strict=True):
            ours.values[:] = theirs.values
        for kind, exponent in done.gradients.exponents.items():
            self.gradients.exponents[kind][:] = exponent
        return done

    def update(self, step: int) -> None:
        self.descent.step(step)


def begin(net: Architecture, parameters: Parameters, lr: Sequence[float], batch: int, loss: str = "squared_error", method: Method = PLAIN) -> Step:
    return Step(net, LOSSES[loss], method, batch, parameters, np.asarray(lr, np.float64))


def take(step: Step, x: Array, y: Array, alive: NDArray[np.bool] | None = None) -> Pass:
    """A step's way there and back; its norms and its update are still to come."""
    step.neurons.a[0][:], step.targets[:] = x, y
    with np.errstate(all="ignore"):  # as in training
        step.forward()
        step.backward(everyone(step) if alive is None else alive)
    return Pass(step.net, step.neurons, step.gradients, step.value)


def everyone(step: Step) -> NDArray[np.bool]:
    return np.ones(len(step.value), np.bool)


def batches(net: Architecture, runs: int, batch: int, steps: int, seed: int = 0) -> Iterator[tuple[Array, Array]]:
    """Inputs (R, B, n) and targets (R, B, outputs) for any loss, new ones for every step."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        yield rng.standard_normal((runs, batch, net.sizes[0])).astype(net.dtype), probabilities(rng, runs, batch, net.sizes[-1]).astype(net.dtype)


def samples(inputs: int, classes: int, count: int = 24, *, dtype: DTypeLike = np.float32, seed: int = 0) -> Split:
    """Gaussian inputs with one-hot targets that depend on them; a third as many for testing."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count + count // 3, inputs))
    y = np.eye(classes)[(x @ rng.standard_normal((inputs, classes))).argmax(axis=1)]
    x, y = x.astype(dtype), y.astype(dtype)
    return Split(x[:count], y[:count], x[count:], y[count:], classes=True)


def make_task(
    net: Architecture, steps: int, batch_size: int = 8, loss: str = "squared_error", probes: Sequence[int] | None = None, data: Split | None = None
) -> Task:
    data = data or samples(net.sizes[0], net.sizes[-1], dtype=net.dtype)
    probe_steps = np.asarray([0, steps] if probes is None else probes)
    return Task(net, LOSSES[loss], Method(), data, batch_size, steps, np.unique(probe_steps))


def start(task: Task, parameters: Parameters, lr: Sequence[float], seeds: Sequence[int]) -> Training:
    return Training(task, parameters, lr, [np.random.default_rng(seed) for seed in seeds])


def train(task: Task, parameters: Parameters, lr: Sequence[float], seeds: Sequence[int]) -> list[Records]:
    """Train to the end; a run's records each."""
    training = start(task, parameters, lr, seeds)
    for _ in training.advance():
        pass
    return [training.records(run) for run in range(len(lr))]


def broken_runs(step: Step) -> list[bool]:
    """Which of its runs a step says have a weight that is not finite."""
    found = step.broken()
    return [False] * len(step.value) if found is None else found.tolist()
