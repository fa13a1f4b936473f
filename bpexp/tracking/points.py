"""Points of MLflow's metrics, made of records a column at a time: a deep net has thousands.

Every point's timestamp is the run's start in ms plus its step, so that a point sent twice is stored once.  Nothing that is NaN or infinite
is sent: the SQL store would make 1.8e308 of it.  The exact numbers are in the parquet files.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bpexp.config import RunConfig
from bpexp.core.arrays import Float64s, Ints
from bpexp.core.probes import PROBES
from bpexp.core.records import Records
from bpexp.core.schedule import log_spaced, spread

__all__ = ["LOSS_POINTS", "NONE", "Points", "Series", "profiles", "series", "single"]

LOSS_POINTS = 200  # of loss/train: the curve looks the same, the page opens faster
PROFILED, PROFILES = ("grad_norm", "delta_norm"), 5  # depth profiles of a run
SMALLEST, LARGEST = np.log10(np.finfo(np.float64).tiny), np.log10(np.finfo(np.float64).max)
CURVES = {"loss_test": "loss/test", "loss_train_full": "loss/train_full", "accuracy_train": "accuracy/train", "accuracy_test": "accuracy/test"}

Series = tuple[NDArray[Any], Ints, Float64s]  # metrics, steps, values


@dataclass(frozen=True)
class Points:
    """Points as MLflow has them, in columns of equal length; `names` are the metrics."""

    names: NDArray[Any]
    values: Float64s
    timestamps: Ints
    steps: Ints

    @classmethod
    def of(cls, found: Iterable[Series], start: int) -> "Points":
        """The finite points of all series of a run that started at `start` ms."""
        columns = list(zip(*found, strict=True))
        if not columns:
            return NONE
        names, steps, values = (np.concatenate(column) for column in columns)
        finite = np.isfinite(values)
        return cls(names[finite], values[finite], start + steps[finite], steps[finite])

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, part: slice) -> "Points":
        return Points(self.names[part], self.values[part], self.timestamps[part], self.steps[part])


NONE = Points(np.empty(0, object), np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))


def single(values: Mapping[str, float]) -> Series:
    """Metrics of one point each, at step 0."""
    return np.array(list(values), object), np.zeros(len(values), np.int64), np.array(list(values.values()), np.float64)


def series(records: Records, config: RunConfig, after: int) -> Iterator[Series]:
    """Curves and layers beyond step `after`."""
    curves = records.curves
    chosen = np.intersect1d(curves["step"], _loss_steps(config.steps))
    yield _curve("loss/train", chosen, curves["loss_train"][chosen], after)
    for column, name in CURVES.items():
        if column in curves:
            yield _curve(name, *records.probed(column), after)
    for name in config.tracking.layers:
        yield _layers(records, name, after)


@lru_cache(maxsize=8)
def _loss_steps(steps: int) -> Ints:
    return log_spaced(steps, LOSS_POINTS)


def _curve(name: str, steps: Ints, values: Float64s, after: int) -> Series:
    new = steps > after
    return np.full(int(new.sum()), name, object), steps[new], values[new]


def _layers(records: Records, name: str, after: int) -> Series:
    """`grad_norm/layer_001` …, metric by metric; a number beyond float64's range is left out here, and is in layers.parquet as log10."""
    probe = PROBES[name]
    steps, layers, values = records.layers["step"], records.layers["layer"], records.layers[probe.column]
    sent = steps > after
    if probe.log10:
        sent = sent & (np.isneginf(values) | (values >= SMALLEST) & (values < LARGEST))
    rows = np.flatnonzero(sent)
    rows = rows[np.argsort(layers[rows], kind="stable")]
    names = np.array([f"{name}/layer_{layer:03d}" for layer in range(1, records.depth + 1)], object)
    chosen = values[rows]
    if probe.log10:
        chosen = np.array([10.0**value for value in chosen.tolist()])  # the same on every machine, as NumPy's power is not
    return names[layers[rows] - 1], steps[rows], chosen


def profiles(records: Records, config: RunConfig) -> Iterator[Series]:
    """Of each tracked norm one curve per chosen step whose x axis is the layer: exponential decay is a straight line."""
    for name in (name for name in config.tracking.layers if name in PROFILED):
        for step in spread(np.unique(records.layers["step"]), PROFILES):
            values = records.profile(PROBES[name].column, step)
            yield _curve(f"profile/log10_{name}/step_{step:06d}", np.arange(1, len(values) + 1), values, 0)
