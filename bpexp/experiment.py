"""One run, or one stack of runs: configuration -> arrays -> core -> records -> a `Sink`.

Knows nothing of Hydra or MLflow.  What watches a run is a `Sink`: `open` once, `update` with all records so far whenever some seconds
have passed, then `close`, with the cost of a step besides (NaN of an untrained net), or `abort`.  Sending the same records twice must be harmless.
"""

import platform
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from math import nan
from typing import Protocol

import numpy as np
from threadpoolctl import ThreadpoolController

from bpexp.checkpoints import Checkpoints
from bpexp.config import ConfigError, Fault, RunConfig, check, combinations, fingerprint, given, solved
from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import Float64s
from bpexp.core.descent import Method
from bpexp.core.histograms import BINS, HISTOGRAM, MOST_STEPS
from bpexp.core.initializers import INITIALIZERS, draw_layer
from bpexp.core.jacobians import SAMPLES, SPECTRUM, spectrum_shapes
from bpexp.core.layerwise import wide
from bpexp.core.losses import LOSSES
from bpexp.core.network import Architecture, Parameters
from bpexp.core.normalization import NORMS
from bpexp.core.optimizers import OPTIMIZERS
from bpexp.core.probes import PLAIN, PROBES
from bpexp.core.records import Records
from bpexp.core.schedule import log_spaced
from bpexp.core.schedules import SCHEDULES
from bpexp.core.skips import SKIPS
from bpexp.core.state import State
from bpexp.core.training import CHUNK, NUMERICS, Split, Task, Training
from bpexp.datasets import Dataset, installed_memory, load
from bpexp.stopping import between_steps

__all__ = ["Keep", "NullSink", "Run", "Sink", "memory", "prepare", "run", "run_stack", "train"]

UPDATE_SECONDS = 10.0
TIMED_STEPS = 1000
ROUNDING = 1e-9  # targets may miss an activation's range by this much

Progress = Callable[[Training], None]  # told of each step that is done


@dataclass(frozen=True)
class Run:
    """A run about to start: its checked configuration, its data, and what identifies its numbers."""

    config: RunConfig
    dataset: Dataset
    fingerprint: str
    batch_size: int
    probe_steps: tuple[int, ...]


class Sink(Protocol):
    """Where a run's records go."""

    def open(self, run: Run) -> None: ...
    def update(self, records: Records) -> None: ...
    def close(self, records: Records, step_seconds: float) -> None: ...
    def abort(self, error: BaseException) -> None: ...


@dataclass(frozen=True)
class Keep:
    """Where a stack's runs keep their checkpoints, how often, and the states, of one last step, that they go on from; none at the start."""

    places: Sequence[Checkpoints]
    states: Sequence[State]
    seconds: float

    def save(self, training: Training) -> None:
        """A run whose state can't be kept trains on all the same, and that is told."""
        for index, place in enumerate(self.places):
            try:
                place.save(training.state(index))
            except OSError as error:
                remark = f"no checkpoint could be written ({error.strerror or error})"
                place.remarks += [remark] if remark not in place.remarks else []


class NullSink:
    """Keeps nothing."""

    def open(self, run: Run) -> None: ...
    def update(self, records: Records) -> None: ...
    def close(self, records: Records, step_seconds: float) -> None: ...
    def abort(self, error: BaseException) -> None: ...


def train(config: RunConfig) -> Records:
    """Train one net and return its records; no Hydra, no MLflow.  Raises `ConfigError` for a configuration that makes no sense."""
    return run(prepare(check(config)), NullSink())


def prepare(config: RunConfig) -> Run:
    """Load the data of a checked configuration and check what depends on it.  Raises `ConfigError`."""
    faults = list(combinations(config))
    if faults:
        raise ConfigError(faults)
    config = solved(config)
    dataset = load(config.data)
    faults = list(_faults_with_data(config, dataset))
    if faults:
        raise ConfigError(faults)
    batch_size = len(dataset.split.x_train) if config.batch_size == "full" else int(config.batch_size)
    steps = tuple(int(step) for step in log_spaced(config.steps, config.probe_points))
    return Run(config, dataset, fingerprint(config, dataset.checksum), batch_size, steps)


def _faults_with_data(config: RunConfig, dataset: Dataset) -> Iterator[Fault]:
    samples = len(dataset.split.x_train)
    if config.batch_size == "full" and samples == 1 and NORMS[config.norm].over == "batch_size":
        yield Fault("norm", config.norm, f"needs batches of at least 2, and data={dataset.name} has 1 training sample")
    if config.batch_size != "full" and config.batch_size > samples:
        yield Fault("batch_size", config.batch_size, f"must be at most {samples:,}, the training samples of data={dataset.name}, or full")
    targets = np.concatenate([dataset.split.y_train, dataset.split.y_test])
    low, high = ACTIVATIONS[str(config.output)].range
    if targets.min() < low - ROUNDING or targets.max() > high + ROUNDING:
        found = f"{targets.min():.4g} … {targets.max():.4g}"
        yield Fault("output", config.output, f"reaches {low:g} … {high:g}, but the targets of data={dataset.name} lie in {found}")
    if config.loss == "cross_entropy" and not np.allclose(targets.sum(axis=1), 1.0, atol=1e-6):
        yield Fault("loss", config.loss, f"needs targets that sum to 1; those of data={dataset.name} do not")
    needed, installed = memory(config, dataset), installed_memory()
    if needed > installed:
        must = f"too large with depth={config.depth}: needs about {needed / 2**30:,.0f} GiB of memory, this machine has {installed / 2**30:,.0f}"
        yield Fault("width", config.width, must)


def memory(config: RunConfig, dataset: Dataset, runs: int = 1) -> int:
    """Bytes of a stack, roughly: the data, what the training keeps of each run, and the float64 copies that the norm of the largest layer takes."""
    net, item = _architecture(config, dataset), np.dtype(config.dtype).itemsize
    sizes = net.sizes
    layers = [a * b for a, b in pairwise(sizes)]
    parts = len(dataset.split.x_train), len(dataset.split.x_test)
    evaluated = sum(min(CHUNK, part) for part in parts)
    batch = len(dataset.split.x_train) if config.batch_size == "full" else config.batch_size
    assert isinstance(batch, int)
    own = sum(operation.buffers * sizes[operation.k] for operation in net.operations)
    moments = OPTIMIZERS[config.optimizer.name].moments
    gradients = 0 if wide(net, _method(config)) else 2  # they and, at probed steps, the weights before
    kept = (1 + gradients + moments) * sum(layers) + batch * (4 * sum(sizes) + own) + 3 * evaluated * max(sizes)
    probes = min(config.probe_points, config.steps + 1)
    always = sum(probe.always for probe in PROBES.values())
    records = 8 * (3 * max(layers) + 5 * config.steps + always * probes * config.depth)
    chosen, once = _chosen_memory(config, net, batch, probes)
    return item * sum(parts) * (sizes[0] + sizes[-1]) + once + runs * (item * kept + records + chosen)


def _chosen_memory(config: RunConfig, net: Architecture, batch: int, points: int) -> tuple[int, int]:
    """Bytes that the chosen probes take of each run, and those that they take of one run after the other."""
    sizes, probes = net.sizes, [PROBES[name] for name in config.probes if name in PROBES]
    spectra = sum(samples * values for samples, values in spectrum_shapes(net, batch).values()) if SPECTRUM in config.probes else 0
    own = 8 * points * (len(probes) * net.depth + spectra)
    if HISTOGRAM in config.probes:
        own += 8 * 16 * BINS * min(points, MOST_STEPS) * (net.depth - 1)  # columns, and what they are made of
    if config.probes:
        own += 8 * 2 * batch * max(sizes)  # a layer in float64
    if any(probe.pairs for probe in probes):
        own += 2 * np.dtype(config.dtype).itemsize * batch * sum(sizes)  # the step before; its gradients take no more room than a norm's copies
    jacobians = 8 * min(SAMPLES, batch) * (3 * sizes[0] * max(sizes) + 2 * min(sizes[0], max(sizes)) ** 2)
    return own, jacobians if any(name in PLAIN for name in config.probes) else 0


def run(prepared: Run, sink: Sink, progress: Progress = lambda _training: None) -> Records:
    """Train one prepared run into its sink."""
    return run_stack([prepared], [sink], progress)[0]


def run_stack(runs: Sequence[Run], sinks: Sequence[Sink], progress: Progress = lambda _training: None, keep: Keep | None = None) -> list[Records]:
    """Train runs of one shape in lockstep, each into its own sink; what fails, or is interrupted, aborts every sink.

    With `keep`, the runs go on from where they were, and an interruption (`bpexp.stopping`) keeps where they are.
    """
    config = runs[0].config
    try:
        for prepared, sink in zip(runs, sinks, strict=True):
            sink.open(prepared)
        with ThreadpoolController().limit(limits=config.blas_threads, user_api="blas"):
            training = Training(_task(runs[0]), _initial(runs), _rates(runs), [_stream(run, 1) for run in runs])
            if keep is not None and keep.states:
                training.restore(keep.states)
            watch = Stopwatch(runs[0].probe_steps)
            for _ in _watched(watch.timed(training.advance()), training, sinks, keep):
                progress(training)
        records = [training.records(index) for index in range(len(runs))]
        step_seconds = watch.step_seconds / len(runs) if config.steps else nan  # an untrained net has no training step
        for sink, record in zip(sinks, records, strict=True):
            sink.close(record, step_seconds)
    except BaseException as error:
        for sink in sinks:
            sink.abort(error)
        raise
    return records


def _watched(steps: Iterator[int], training: Training, sinks: Sequence[Sink], keep: Keep | None) -> Iterator[int]:
    """The same steps, with the sinks told, and the states kept, now and then; a signal ends them when the states are kept."""
    told = kept = time.monotonic()
    with between_steps() as stopping:
        for step in steps:
            yield step
            now = time.monotonic()
            if now - told > UPDATE_SECONDS:
                for index, sink in enumerate(sinks):
                    sink.update(training.records(index, parameters=False))
                told = time.monotonic()
            if keep is not None and (now - kept > keep.seconds or stopping()):
                keep.save(training)
                kept = time.monotonic()
            if stopping():
                return


class Stopwatch:
    """What a step of a training costs: the median over its last steps that did nothing but train, so that a pause of the machine is none."""

    def __init__(self, probe_steps: Sequence[int]) -> None:
        self.probed = set(probe_steps)
        self.plain: deque[float] = deque(maxlen=TIMED_STEPS)
        self.all: deque[float] = deque(maxlen=TIMED_STEPS)

    def timed(self, steps: Iterator[int]) -> Iterator[int]:
        """The same steps, with the time that each of them took noted."""
        start = time.perf_counter()
        for step in steps:
            self.all.append(time.perf_counter() - start)
            if step not in self.probed:
                self.plain.append(self.all[-1])
            yield step
            start = time.perf_counter()

    @property
    def step_seconds(self) -> float:
        return float(np.median(self.plain or self.all)) if self.all else nan  # none where a run went on from its last step


def _task(prepared: Run) -> Task:
    config, dtype = prepared.config, np.dtype(prepared.config.dtype)
    data = prepared.dataset.split
    x_train, y_train, x_test, y_test = (np.ascontiguousarray(array, dtype) for array in (data.x_train, data.y_train, data.x_test, data.y_test))
    return Task(
        net=_architecture(config, prepared.dataset),
        loss=LOSSES[config.loss],
        method=_method(config),
        data=Split(x_train, y_train, x_test, y_test, data.classes),
        batch_size=prepared.batch_size,
        steps=config.steps,
        probe_steps=np.asarray(prepared.probe_steps),
        engine=config.engine,
        probes=tuple(config.probes),
    )


def _architecture(config: RunConfig, dataset: Dataset) -> Architecture:
    skip = SKIPS[config.skip.name]
    return Architecture(
        sizes=(dataset.inputs, *[config.width] * (config.depth - 1), dataset.outputs),
        activation=ACTIVATIONS[config.activation],
        output=ACTIVATIONS[str(config.output)],
        bias=config.bias,
        dtype=np.dtype(config.dtype),
        normalize=NORMS[config.norm].normalize,
        connect=partial(skip.connect, **given(config.skip, skip)),
    )


def _method(config: RunConfig) -> Method:
    optimizer, schedule = OPTIMIZERS[config.optimizer.name], SCHEDULES[config.schedule.name]
    keys = given(config.schedule, schedule)

    def factor(step: int) -> float:
        return float(schedule.rule(step, config.steps, **keys))

    return Method(optimizer, given(config.optimizer, optimizer), config.optimizer.clip, factor)


def _initial(runs: Sequence[Run]) -> Parameters:
    """Each run's weights and biases, drawn layer by layer from its own stream."""
    net = _architecture(runs[0].config, runs[0].dataset)
    parameters = Parameters(net, len(runs))
    for index, prepared in enumerate(runs):
        part, rng = prepared.config.init, _stream(prepared, 0)
        init = INITIALIZERS[part.name]
        for k in net.layers:
            sizes = net.sizes[k - 1], net.sizes[k]
            parameters.W[k][index], bias = draw_layer(rng, init, k, *sizes, bias=net.bias, sigma_b2=part.sigma_b2, **given(part, init))
            if bias is not None:
                parameters.b[k][index] = bias
    return parameters


def _rates(runs: Sequence[Run]) -> Float64s:
    """Learning rates (R,), or (R, depth) where an output layer has one of its own."""
    lr = np.array([run.config.lr for run in runs])
    if all(run.config.output_lr is None for run in runs):
        return lr
    rates = np.repeat(lr[:, None], runs[0].config.depth, axis=1)
    rates[:, -1] = [run.config.lr if run.config.output_lr is None else run.config.output_lr for run in runs]
    return rates


def _stream(prepared: Run, purpose: int) -> np.random.Generator:
    """A run's random numbers for one purpose (0: weights, 1: order of the samples); the data have a seed of their own."""
    return np.random.default_rng(np.random.SeedSequence(prepared.config.seed, spawn_key=(purpose,)))


@cache
def numerics() -> str:
    """What a run's bits depend on besides its configuration: core, NumPy, BLAS and its kernel, processor family."""
    blas = [f"{pool['internal_api']} {pool['version']} {pool.get('architecture', '')}".strip() for pool in ThreadpoolController().info()]
    return "; ".join([f"core {NUMERICS}", f"numpy {np.__version__}", *sorted(set(blas)), platform.machine()])
