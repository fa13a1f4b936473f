"""The numbers that a page's script draws: each run's curves and gradient profiles, and theory's line; as JSON, and few enough for a page.

`runs` has for each run its `id`, its `name`, `curves` (by column of `Runs.curves`: `[grid, values]`, where `grid` is the place of its steps in
`grids`), `plateau` (the best constant output's loss), `steps`, at which `profiles` hold log10 ||dL/dW_k|| for k = 1 … L, and `theory`, the place of its line in `theory` (log10, 0 at layer L), or
null.  What is not finite is null.  `chosen` are the places of the runs that are shown first.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from bpexp.core.arrays import Float64s, Ints
from bpexp.core.schedule import log_spaced, spread
from bpexp.report.over_layers import GRAD
from bpexp.report.predicted import predicted
from bpexp.report.selection import Setting, Study
from bpexp.report.selection import spread as some_of

__all__ = ["CURVES", "interactive"]

CURVES = {  # what can be drawn over the steps, by column
    "loss_train": "training loss of the batch",
    "loss_train_full": "loss on the whole training set",
    "loss_test": "test loss",
    "accuracy_train": "training accuracy",
    "accuracy_test": "test accuracy",
}
POINTS, FEWEST_POINTS = 200, 40  # of a curve
NUMBERS = 250_000  # of all curves, and of all profiles: 2 MB each
FEWEST_STEPS = 5  # of a run's profiles
MOST_RUNS = 2000
SHOWN = 6  # lines that are shown first
ESCAPED = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}  # so that no text in a script element can end it


@dataclass
class Listed:
    """Lists of numbers, each once, by their places."""

    lists: list[Any] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)

    def place(self, numbers: Sequence[Any]) -> int:
        key = repr(numbers)
        if key not in self.places:
            self.places[key] = len(self.lists)
            self.lists.append(numbers)
        return self.places[key]


def interactive(study: Study) -> Markup | None:
    """The data of a study whose runs have records, as JSON that can stand in a script element; None where there are none."""
    pairs = [(setting, run_id) for setting in study.settings for run_id in setting.runs]
    if not pairs:
        return None
    pairs = some_of(pairs, MOST_RUNS)
    points = max(FEWEST_POINTS, min(POINTS, NUMBERS // len(pairs)))
    steps = max(FEWEST_STEPS, NUMBERS // sum(study.depth(setting) for setting, _ in pairs))
    grids, lines = Listed(), Listed()
    runs = [_run(study, setting, run_id, points, grids) | _profiles(study, setting, run_id, steps) for setting, run_id in pairs]
    for run, (setting, _) in zip(runs, pairs, strict=True):
        line = _theory(study, setting)
        run["theory"] = None if line is None else lines.place(line)
    first = {setting: place for place, (setting, _) in reversed(list(enumerate(pairs)))}
    told = {
        "labels": {column: CURVES[column] for column in CURVES if any(column in run["curves"] for run in runs)},
        "runs": runs,
        "grids": grids.lists,
        "theory": lines.lists,
        "chosen": some_of(sorted(first.values()), SHOWN),
    }
    text = json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(ESCAPED))  # noqa: S704


def _run(study: Study, setting: Setting, run_id: str, points: int, grids: Listed) -> dict[str, Any]:
    """A run's name and curves."""
    frame = study.curves(run_id)
    curves = {column: [grids.place(steps.tolist()), _short(values, 4)] for column, steps, values in _thinned(frame, points) if len(steps)}
    row = study.frame.loc[run_id]
    (plateau,) = _short(np.array([row.get("plateau_loss", np.nan)], np.float64), 6)
    return {"id": run_id, "name": str(row["name"]), "curves": curves, "plateau": plateau}


def _thinned(frame: pd.DataFrame, points: int) -> Iterable[tuple[str, Ints, Float64s]]:
    """Each curve at so many of its steps, evenly spaced on a log axis."""
    for column in CURVES:
        if column in frame:
            known = frame[frame[column].notna()]
            steps, values = known["step"].to_numpy(np.int64), known[column].to_numpy(np.float64)
            at = log_spaced(len(steps) - 1, points) if len(steps) else []
            yield column, steps[at], values[at]


def _profiles(study: Study, setting: Setting, run_id: str, most: int) -> dict[str, Any]:
    """A run's profiles, at so many of its probed steps."""
    frame = study.layers(setting)
    table = frame[frame["run_id"] == run_id].pivot_table(index="step", columns="layer", values=GRAD, dropna=False, aggfunc="first")
    table = table.reindex(columns=range(1, study.depth(setting) + 1))
    table = table.loc[spread(table.index.to_numpy(np.int64), most)] if len(table) else table
    return {"steps": table.index.astype(int).tolist(), "profiles": [_short(row, 5) for row in table.to_numpy(np.float64)]}


def _theory(study: Study, setting: Setting) -> list[float | None] | None:
    """Theory's log10 ||dL/dW_k|| of the untrained net, less that of the output layer."""
    prediction = predicted(study, setting)
    if prediction is None:
        return None
    line = prediction.log10_norm(GRAD)
    return _short(line - line[-1], 5) if np.isfinite(line[-1]) else None


def _short(values: Float64s, digits: int) -> list[float | None]:
    """Numbers with so many digits; None where they are not finite."""
    return [float(f"{value:.{digits}g}") + 0.0 if np.isfinite(value) else None for value in values.tolist()]
