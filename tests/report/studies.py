"""Studies of small nets, trained here and now, in the frames that `load_runs` would make of them."""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from bpexp.config import RunConfig, check, nested, parse, untracked, written
from bpexp.core.records import Records
from bpexp.experiment import NullSink, prepare, run_stack
from bpexp.report.selection import Setting, Study
from bpexp.sweep.stacked import stack_key
from bpexp.tracking.reader import FRAMES, Runs

DEFAULTS = {
    "depth": 3,
    "width": 6,
    "steps": 12,
    "batch_size": 8,
    "lr": 0.5,
    "data.name": "synthetic",
    "data.samples": 60,
    "data.inputs": 5,
    "data.classes": 3,
}


def configs(**axes: Any) -> list[RunConfig]:
    """One per combination; a key's dot is written __, a lone value stands for a list of one."""
    named = {key.replace("__", "."): value if isinstance(value, list) else [value] for key, value in axes.items()}
    return [parse(RunConfig, nested(DEFAULTS | dict(zip(named, values, strict=True)))) for values in product(*named.values())]


_memory: dict[str, Records] = {}


def records(config: RunConfig) -> Records:
    """What a configuration's run leaves behind; trained once."""
    train_all([config])
    return _memory[repr(config)]


def train_all(wanted: Sequence[RunConfig]) -> None:
    """Train what has not been trained, in stacks of runs that can be stacked."""
    stacks: dict[Hashable, list[RunConfig]] = {}
    for config in wanted:
        if repr(config) not in _memory:
            stacks.setdefault(stack_key(config), []).append(config)
    for configs in stacks.values():
        found = run_stack([prepare(check(config)) for config in configs], [NullSink()] * len(configs))
        _memory.update(zip(map(repr, configs), found, strict=True))


def row(index: int, config: RunConfig) -> dict[str, Any]:
    """What MLflow knows of a run that has just begun."""
    return {
        "run_id": f"{index:032x}",
        "name": f"run {index}",
        "status": "RUNNING",
        "outcome": None,
        "diverged_at": None,
        "fingerprint": f"{index:016x}",
        "start_time": pd.Timestamp("2026-01-01", tz="UTC") + pd.Timedelta(index, "s"),
        "seconds": 1.0,
    } | {key: written(value) if isinstance(value, list) else value for key, value in untracked(config).items()}


def runs_of(wanted: list[RunConfig], failed: tuple[int, ...] = (), name: str = "a sweep") -> Runs:
    """Train the configurations and frame them; runs at the indices `failed` left no records."""
    train_all([config for index, config in enumerate(wanted) if index not in failed])
    rows: list[dict[str, Any]] = []
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in FRAMES}
    for index, config in enumerate(wanted):
        found = row(index, config)
        if index in failed:
            found["status"] = "FAILED"
        else:
            left = records(config)
            found |= {"status": "FINISHED", "outcome": left.outcome, "diverged_at": left.diverged_at} | left.summary
            for part, kept in parts.items():
                if columns := getattr(left, part):
                    kept.append(pd.DataFrame(columns).assign(run_id=found["run_id"]))
        rows.append(found)
    empty = pd.DataFrame(columns=["run_id", "step", "layer"])
    frames = {part: pd.concat(found, ignore_index=True) if found else empty for part, found in parts.items()}
    return Runs(
        runs=pd.DataFrame(rows).astype({"diverged_at": "Int64"}),
        sweep_id="0123456789abcdef" * 2,
        sweep_name=name,
        experiment_id="1",
        curves=frames["curves"],
        layers=frames["layers"],
        spectra=frames["spectra"],
        histograms=frames["histograms"],
    )


def study(failed: tuple[int, ...] = (), **axes: Any) -> Study:
    return Study(runs_of(configs(**axes), failed))


def with_layers(original: Study, column: str, values: Any) -> Study:
    """The same study with other numbers in a column of `layers`: values(step, layer, depth)."""
    runs = original.runs
    depth = runs.layers["run_id"].map(runs.runs.set_index("run_id")["depth"])
    changed = [values(int(s), int(k), int(d)) for s, k, d in zip(runs.layers["step"], runs.layers["layer"], depth, strict=True)]
    return Study(replace(runs, layers=runs.layers.assign(**{column: np.asarray(changed, float)})))


def with_runs(original: Study, column: str, values: list[Any]) -> Study:
    """The same study with other numbers in a column of `runs`."""
    return Study(replace(original.runs, runs=original.runs.runs.assign(**{column: values})))


def only(some: Study, **values: Any) -> Setting:
    """The one setting with these values."""
    (found,) = [s for s in some.settings if all(s.levels[[key.name for key in s.keys].index(name)] == v for name, v in values.items())]
    return found
