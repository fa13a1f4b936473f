"""The training loop: forward, backward, update, and a look at every layer now and then.

A stack of R runs of one shape trains in lockstep; nothing that one run computes depends on its neighbours.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from bpexp.core.arrays import Array, Float64s, Ints, log2_norms
from bpexp.core.chosen import Chosen
from bpexp.core.descent import Method
from bpexp.core.engines import step_class
from bpexp.core.losses import Loss
from bpexp.core.moments import Moment
from bpexp.core.network import Architecture, Neurons, Parameters, forward
from bpexp.core.probes import PROBES
from bpexp.core.records import Columns, Records
from bpexp.core.state import State, Windows, fill, pack, unpack

__all__ = ["NUMERICS", "Split", "Task", "Training"]

NUMERICS = 2  # raised whenever a change of the core changes a run's numbers: part of every fingerprint
CHUNK = 512  # samples evaluated at once; a constant, so that no sum depends on the stack


@dataclass(frozen=True)
class Split:
    """Inputs x (n, inputs), targets y (n, outputs), for training and for testing; `classes`: y is one-hot, accuracy means something."""

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array
    classes: bool


@dataclass(frozen=True)
class Task:
    """What all runs of a stack share."""

    net: Architecture
    loss: Loss
    method: Method
    data: Split
    batch_size: int
    steps: int
    probe_steps: Ints
    engine: str = "numpy"
    probes: Sequence[str] = ()  # those measured beside the ones that always are


class Training:
    """One stack of runs: state, one method that advances it, one that reads it.

    `parameters` hold the initial weights of the R runs and are trained in place; `lr` (R,) are their learning rates, or (R, depth) those of
    their layers; `batches` their R generators, which decide on the order of the samples and on nothing else.
    """

    def __init__(self, task: Task, parameters: Parameters, lr: Sequence[float] | Float64s, batches: Sequence[Generator]) -> None:
        runs, net, data = len(lr), task.net, task.data
        self.task, self.parameters = task, parameters
        rates: Float64s = np.asarray(lr, np.float64)
        self.lr: Float64s = np.broadcast_to(rates.reshape(runs, -1), (runs, net.depth))
        self.sampler = Sampler(data, task.batch_size, batches)
        self.step = step_class(task.engine)(net, task.loss, task.method, task.batch_size, parameters, rates)
        self.evaluators = {
            "train": Evaluator(task, runs, data.x_train, data.y_train),
            "test": Evaluator(task, runs, data.x_test, data.y_test),
        }
        self.alive, self.whole = np.ones(runs, bool), True  # whether all are
        self.diverged_at: list[int | None] = [None] * runs
        self.ended_at: dict[int, int] = {}  # the last step of runs that have diverged
        self.last_step = -1
        self.loss_train: Float64s = np.full((runs, task.steps + 1), np.nan)
        self.evaluated: dict[str, Float64s] = {
            f"{kind}_{part}": np.full((runs, len(task.probe_steps)), np.nan)
            for kind, part in (("loss", "train_full"), ("loss", "test"), ("accuracy", "train"), ("accuracy", "test"))
            if kind == "loss" or data.classes
        }
        self.always = [probe for probe in PROBES.values() if probe.always]
        self.layers: dict[str, Float64s] = {probe.column: np.full((runs, len(task.probe_steps), net.depth), np.nan) for probe in self.always}
        self.chosen = Chosen(task.probes, net, runs, task.batch_size, len(task.probe_steps))
        self.buried: dict[int, dict[str, Array]] = {}  # parameters of runs that have diverged

    def advance(self) -> Iterator[int]:
        """Train on to the end, yielding the number of each step that is done; stop early when every run has diverged."""
        probes = {int(step): index for index, step in enumerate(self.task.probe_steps)}
        with np.errstate(all="ignore"):  # overflow is an outcome here, and told as such
            for step in range(self.last_step + 1, self.task.steps + 1):
                if not self.whole and not self.alive.any():
                    return
                self._step(step, probes.get(step))
                self.last_step = step
                yield step

    def _step(self, step: int, probe: int | None) -> None:
        now, last = self.step, step == self.task.steps
        if probe is not None and step > 0:
            self.chosen.remember(now)
        self.sampler.next(now.neurons.a[0], now.targets)
        now.forward()
        if self.whole:
            self.loss_train[:, step] = now.value
        else:
            self.loss_train[self.alive, step] = now.value[self.alive]
        if not isfinite(np.add.reduce(now.value)):
            self._bury(~np.isfinite(now.value), step)
        if probe is not None:
            now.backward(self.alive)
            self._evaluate(probe)
            self._probe(probe, step, update=not last)
        else:
            now.descend(step, self.alive)
        if not last:
            if (broken := now.broken()) is not None:
                self._bury(broken, step + 1)
            self._clear()

    def _bury(self, broken: NDArray[np.bool], step: int) -> None:
        """End runs at `step` and put their weights aside."""
        for run in np.flatnonzero(broken & self.alive):
            self.alive[run] = self.whole = False
            self.diverged_at[run] = step
            self.ended_at[int(run)] = self.last_step + 1  # the step under way
            self._lay_aside(int(run))

    def _lay_aside(self, run: int) -> None:
        self.buried[run] = {name: array.copy() for name, array in self._parameters(run).items()}

    def _clear(self) -> None:
        """Zero the weights and moments of runs that have diverged: what a NaN costs in time, the neighbours would pay."""
        if not self.whole:
            for arena in self.parameters.arenas:
                arena.values[~self.alive] = 0.0
            self.step.descent.clear(~self.alive)

    def _parameters(self, run: int) -> dict[str, Array]:
        return {f"{kind}_{k:03d}": array[run] for kind, layers in self.parameters.arrays.items() for k, array in layers.items()}

    def _evaluate(self, index: int) -> None:
        for part, column in (("train", "loss_train_full"), ("test", "loss_test")):
            loss, accuracy = self.evaluators[part](self.parameters)
            self.evaluated[column][self.alive, index] = loss[self.alive]
            if self.task.data.classes:
                self.evaluated[f"accuracy_{part}"][self.alive, index] = accuracy[self.alive]

    def _probe(self, index: int, step: int, *, update: bool) -> None:
        """Look at every layer, before the update and after it."""
        task, now = self.task, self.step
        self.chosen.look(now, index, self.alive)
        delta, weight = now.log2_delta(), log2_norms(self.parameters.W[1:])
        grad, change = now.watched_update(step, self.alive) if update else (now.log2_grad(), None)
        moment = Moment(task.net, now.neurons, self.lr, grad, delta, weight, change)
        for probe in self.always:
            for k in self.task.net.layers:
                self.layers[probe.column][self.alive, index, k - 1] = probe.measure(moment, k)[self.alive]

    def records(self, run: int, *, parameters: bool = True) -> Records:
        """What has been recorded of one run so far; without its parameters, which are copied while they train on, where they are not asked for."""
        end = self.diverged_at[run]
        last = min(self.last_step, self.ended_at.get(run, self.last_step))
        steps = np.arange(last + 1)
        probed = self.task.probe_steps[self.task.probe_steps <= last]
        if end is not None and len(probed) and probed[-1] == end:
            probed = probed[:-1]  # the step at which it diverged has a loss at most, no layers
        curves: Columns = {"step": steps, "loss_train": self.loss_train[run, : last + 1]}
        for column, values in self.evaluated.items():
            curves[column] = np.full(last + 1, np.nan)
            curves[column][probed] = values[run, : len(probed)]
        depth = self.task.net.depth
        layers: Columns = {"step": np.repeat(probed, depth), "layer": np.tile(np.arange(1, depth + 1), len(probed))}
        layers |= {column: values[run, : len(probed)].reshape(-1) for column, values in (self.layers | self.chosen.layers).items()}
        found = self.buried.get(run) or self._parameters(run) if parameters else {}
        if self.last_step < self.task.steps and self.alive[run]:
            found = {name: array.copy() for name, array in found.items()}
        plateau = self.task.loss.plateau(self.task.data.y_train)
        spectra, histograms = self.chosen.spectra_of(run, probed), self.chosen.histograms.columns(run, probed)
        return Records(curves, layers, plateau, end, found, spectra, histograms)

    # ------------------------------------------------------------------------------------------ interrupted

    def state(self, run: int) -> State:
        """All that one run has come to, between two steps, as copies: what `restore` takes."""
        end = self.diverged_at[run]
        numbers = {"last_step": self.last_step, "diverged_at": -1 if end is None else end, "ended_at": self.ended_at.get(run, -1)}
        generator = {"generator": pack(self.sampler.generators[run])}
        return generator | {name: np.array(value) for name, value in (numbers | self._windows(run)).items()}

    def restore(self, states: Sequence[State]) -> None:
        """Let a training that has not begun go on from where its runs were, whatever their stacks; its parameters are overwritten.

        A state per run, all of the same step and of the same task: else ValueError.
        """
        steps = {int(state["last_step"]) for state in states}
        if len(states) != len(self.lr) or len(steps) != 1:
            raise ValueError(f"{len(self.lr)} runs need a state each, all of one step: {len(states)} of the steps {sorted(steps)}")
        self.last_step = steps.pop()
        self.sampler.skip_to(self.last_step)
        for run, state in enumerate(states):
            end = int(state["diverged_at"])
            if end >= 0:
                self.alive[run] = self.whole = False
                self.diverged_at[run], self.ended_at[run] = end, int(state["ended_at"])
            fill(self._windows(run), state)
            unpack(state["generator"], self.sampler.generators[run])
            if end >= 0:
                self._lay_aside(run)
        self.step.known = bool(self.step.measured.all())
        self._clear()

    def _windows(self, run: int) -> Windows:
        """On all that a run has recorded and, where it trains on, on all that decides how."""
        points = int(np.searchsorted(self.task.probe_steps, self.last_step, "right"))
        found = {f"parameters/{name}": array for name, array in (self.buried.get(run) or self._parameters(run)).items()}
        found["loss_train"] = self.loss_train[run, : self.last_step + 1]
        found |= {column: values[run, :points] for column, values in (self.evaluated | self.layers).items()}
        found |= self.chosen.windows(run, points)
        if self.alive[run]:
            found |= {"order": self.sampler.order[run], **self.step.windows(run)}
            if self.last_step + 1 in self.task.probe_steps:
                found |= self.chosen.windows_on_step(self.step, run)
        return found


class Sampler:
    """Mini-batches without replacement: each run shuffles the samples with its own generator, once per epoch.

    What does not fill a batch at an epoch's end waits for the next shuffle.  A batch of all samples needs no order and is not shuffled.
    """

    def __init__(self, data: Split, batch_size: int, generators: Sequence[Generator]) -> None:
        self.x, self.y, self.size, self.generators = data.x_train, data.y_train, batch_size, generators
        self.order = np.tile(np.arange(len(self.x)), (len(generators), 1))
        self.rows: Array = np.empty((len(generators), batch_size, self.y.shape[1]), self.y.dtype)  # targets as they come, a row per sample
        self.at = len(self.x)  # as if an epoch had just ended

    def skip_to(self, step: int) -> None:
        """As if batches had been drawn at all steps up to this one, but for their order."""
        self.at = (step % (len(self.x) // self.size) + 1) * self.size

    def next(self, inputs: Array, targets: Array) -> None:
        """Fill `inputs` (R, B, n) and `targets` (R, B, outputs) with the next batch."""
        if self.at + self.size > len(self.x):
            self.at = 0
            if self.size < len(self.x):
                for generator, order in zip(self.generators, self.order, strict=True):
                    generator.shuffle(order)
        batch = self.order[:, self.at : self.at + self.size]
        np.take(self.x, batch, axis=0, out=inputs, mode="clip")  # "raise" would copy `out`
        np.take(self.y, batch, axis=0, out=self.rows, mode="clip")
        np.copyto(targets, self.rows)
        self.at += self.size


class Evaluator:
    """Mean loss and accuracy of the current weights over a whole set, in chunks, with two buffers for all layers."""

    def __init__(self, task: Task, runs: int, x: Array, y: Array) -> None:
        self.task, self.x, self.y = task, x, y
        edges = [*range(0, len(x), CHUNK), len(x)]
        self.chunks = [slice(low, high) for low, high in pairwise(edges)]
        sizes = {chunk.stop - chunk.start for chunk in self.chunks}
        self.neurons = {size: Neurons(task.net, runs, size, training=False) for size in sizes}

    def __call__(self, parameters: Parameters) -> tuple[Float64s, Float64s]:
        runs = len(parameters.W[1])
        total, right, value = np.zeros(runs), np.zeros(runs), np.empty(runs, self.x.dtype)
        for chunk in self.chunks:
            x, y = self.x[chunk], self.y[chunk]
            neurons = self.neurons[len(x)]
            neurons.a[0] = np.broadcast_to(x, (runs, *x.shape))
            a = forward(self.task.net, parameters, neurons)
            self.task.loss.value(neurons.z[-1], a, y, np.empty_like(a), value)
            total += value
            right += (a.argmax(axis=2) == y.argmax(axis=1)).sum(axis=1)
        return total / len(self.x), right / len(self.x)
