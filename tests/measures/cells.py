"""Cells of nets that are measured here and now, as tracked runs would be."""

from typing import Any

import pandas as pd

from bpexp.config import RunConfig
from bpexp.experiment import train
from bpexp.measures import Cell
from bpexp.tracking.reader import Runs
from tests.report.studies import configs, runs_of

UNTRAINED = {"steps": 0, "batch_size": "full", "data__test_fraction": 0.0}


def cell(**axes: Any) -> Cell:
    """Untrained nets, one per combination of the listed values."""
    return Cell.of(runs_of(configs(**UNTRAINED | axes)))


def made_up(config: RunConfig, **columns: list[list[float]]) -> Cell:
    """Runs of one configuration with these profiles at step 0: a list per run, a number per layer."""
    (many,) = {len(profiles) for profiles in columns.values()}
    runs = runs_of([config] * many)
    ids = [f"{number:032x}" for number in range(many)]
    frames = [
        pd.DataFrame(
            {"run_id": run_id, "step": 0, "layer": range(1, config.depth + 1)} | {name: profiles[place] for name, profiles in columns.items()}
        )
        for place, run_id in enumerate(ids)
    ]
    return Cell.of(Runs(runs.runs, runs.curves, pd.concat(frames, ignore_index=True), runs.sweep_id, runs.sweep_name, runs.experiment_id))


def weights(config: RunConfig) -> list[Any]:
    """The initial weights of an untrained net."""
    return [W.astype(float) for W in train(config).weights]
