"""bpexp as a contender: the one module here that knows the core's inner interfaces."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cells import Cell, Floats, Stepper
from bpexp.config import RunConfig, check, given, parse
from bpexp.core import training
from bpexp.core.arrays import Array
from bpexp.core.engines import ENGINES as CORE_ENGINES
from bpexp.core.initializers import INITIALIZERS, draw_layer
from bpexp.core.step import Step
from bpexp.core.training import Training
from bpexp.experiment import NullSink, _architecture, _initial, _stream, _task, prepare, run

__all__ = ["ENGINES", "batch", "configuration", "stepper", "weights"]

ENGINES = tuple(name for name in CORE_ENGINES if name != "numpy")  # compiled ones

LR = 0.01  # small enough for every cell: a net that saturates or diverges is another contest

Float32s = NDArray[np.float32]


def configuration(cell: Cell) -> RunConfig:
    """The configuration of a cell's first run; the others have the next seeds."""
    values: dict[str, Any] = {"depth": cell.depth, "width": cell.width, "batch_size": cell.batch, "lr": LR, "probe_points": 3}
    for key, value in cell.keys.items():
        group, _, rest = key.partition(".")
        values |= {group: {**values.get(group, {}), rest: value}} if rest else {group: value}
    return check(parse(RunConfig, values))


class _Ours(Stepper):
    def __init__(self, config: RunConfig, runs: int) -> None:
        prepared = [prepare(replace(config, seed=config.seed + index)) for index in range(runs)]
        self.training = Training(_task(prepared[0]), _initial(prepared), [config.lr] * runs, [_stream(it, 1) for it in prepared])
        data, now = self.training.task.data, self.training.step
        np.copyto(now.neurons.a[0], data.x_train[: prepared[0].batch_size])
        np.copyto(now.targets, data.y_train[: prepared[0].batch_size])
        self.alive = np.ones(runs, bool)
        self.log2_norms: Floats | None = None
        self.step = 0

    def __call__(self) -> None:
        now = self.training.step
        now.forward()
        self.log2_norms = now.descend(self.step, self.alive, norms=True)
        self.step += 1

    def norms(self) -> Floats:
        assert self.log2_norms is not None
        return np.asarray(np.log10(2.0) * self.log2_norms.T)

    def losses(self) -> Floats:
        return self.training.step.value.astype(np.float64)


class _Uncontrolled(Step):
    """A step whose deltas stay as they are, so that norms beyond the dtype's range are lost."""

    def _scale(self, x: Array, factor: Array) -> None: ...

    def backward(self, alive: NDArray[np.bool]) -> None:  # noqa: ARG002
        for call in self._backward:
            call()
        self.settled = self.descent.factor == self.descent.factor  # from the second step on
        if self.targets.shape[1] == 1:  # the norms of one sample are made of its deltas'
            self.deltas.measure()


def stepper(config: RunConfig, runs: int = 1, engine: str | None = None) -> Stepper:
    """The product's own training step, for runs with seeds from the configuration's on; `engine` is one of ENGINES."""
    return _Ours(replace(config, engine=engine or config.engine), runs)


def plain(cell: Cell) -> Stepper:
    return stepper(configuration(cell), cell.runs)


def alone(cell: Cell) -> Stepper:
    """One of a cell's runs."""
    return stepper(configuration(cell))


def compiled(cell: Cell, engine: str) -> Stepper:
    return stepper(configuration(cell), cell.runs, engine)


def reference(cell: Cell) -> Stepper:
    """In float64, from the weights as float32 has them: what is right."""
    found = stepper(replace(configuration(cell), dtype="float64"), cell.runs)
    assert isinstance(found, _Ours)
    for arena in found.training.parameters.arenas:
        np.copyto(arena.values, arena.values.astype(np.float32))
    return found


def uncontrolled(cell: Cell) -> Stepper:
    """The same step with deltas that stay as they are, so that norms beyond float32's range are lost: from here on, in this whole process."""
    vars(training)["step_class"] = lambda _engine: _Uncontrolled
    return plain(cell)


def whole_run(cell: Cell, steps: int) -> None:
    """A training with all its probes and evaluations, of the cell's first run."""
    run(prepare(replace(configuration(cell), steps=steps)), NullSink())


def batch(cell: Cell) -> tuple[Float32s, Float32s]:
    """The fixed batch, x (B, 64) and y (B, 10)."""
    data = prepare(configuration(cell)).dataset.split
    return data.x_train[: cell.batch].astype(np.float32), data.y_train[: cell.batch].astype(np.float32)


def weights(cell: Cell, run: int = 0) -> Iterator[Float32s]:
    """W (n_in, n_out) of each layer of one of the runs, layer by layer."""
    config = configuration(cell)
    prepared = prepare(replace(config, seed=config.seed + run))
    net, init, rng = _architecture(prepared.config, prepared.dataset), INITIALIZERS[config.init.name], _stream(prepared, 0)
    for k in net.layers:
        W, _ = draw_layer(rng, init, k, net.sizes[k - 1], net.sizes[k], bias=False, **given(prepared.config.init, init))
        yield W.astype(np.float32)
