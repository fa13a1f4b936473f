"""The numbers that a page's script draws: each run's curves and gradient profiles, and theory's line; as JSON, and few enough for a page.

`runs` has for each run: `id`, `name`; `curves`, by column of `Runs.curves`: `[grid, values]`, where `grid` is the place of its steps in `grids`;
`plateau`, the best constant output's loss; `steps`, at which `profiles` hold log10 ||dL/dW_k|| for k = 1 … L; `theory`, the place of its line in
`theory` (log10, 0 at layer L), or null.  What is not finite is null.  `chosen` are the places of the runs that are shown first.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from bpexp.core.arrays import Float64s
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
NUMBERS = 150_000  # of all runs' losses at all steps, and of all profiles: 1 MB each
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
    depths, layers = {setting: study.depth(setting) for setting, _ in pairs}, study.runs.by_run("layers")
    theories = {setting: _theory(study, setting) for setting in depths}
    points = max(FEWEST_POINTS, min(POINTS, NUMBERS // len(pairs)))
    steps = max(FEWEST_STEPS, NUMBERS // sum(depths[setting] for setting, _ in pairs))
    grids, lines, runs = Listed(), Listed(), []
    for setting, run_id in pairs:
        line = theories[setting]
        runs.append(_run(study, run_id, points, grids) | _profiles(layers.get(run_id), depths[setting], steps))
        runs[-1]["theory"] = None if line is None else lines.place(line)
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


def _run(study: Study, run_id: str, points: int, grids: Listed) -> dict[str, Any]:
    """A run's name and curves, each at so many of its steps, evenly spaced on a log axis."""
    frame, row, curves = study.curves(run_id), study.frame.loc[run_id], {}
    steps = frame["step"].to_numpy(np.int64)
    for column in CURVES:
        values = frame[column].to_numpy(np.float64) if column in frame else np.empty(0)
        known = np.flatnonzero(~np.isnan(values))
        if len(known):
            at = known[log_spaced(len(known) - 1, points)]
            curves[column] = [grids.place(steps[at].tolist()), _short(values[at], 4)]
    (plateau,) = _short(np.array([row.get("plateau_loss", np.nan)], np.float64), 6)
    return {"id": run_id, "name": str(row["name"]), "curves": curves, "plateau": plateau}


def _profiles(frame: pd.DataFrame | None, depth: int, most: int) -> dict[str, Any]:
    """A run's profiles, at so many of its probed steps."""
    if frame is None:
        return {"steps": [], "profiles": []}
    steps, rows = np.unique(frame["step"].to_numpy(np.int64), return_inverse=True)
    norms = np.full((len(steps), depth), np.nan)
    norms[rows, frame["layer"].to_numpy(np.int64) - 1] = frame[GRAD].to_numpy(np.float64)
    places = spread(np.arange(len(steps)), most)
    return {"steps": steps[places].tolist(), "profiles": [_decades(row) for row in norms[places]]}


def _theory(study: Study, setting: Setting) -> list[float | None] | None:
    """Theory's log10 ||dL/dW_k|| of the untrained net, less that of the output layer."""
    prediction = predicted(study, setting)
    if prediction is None:
        return None
    line = prediction.log10_norm(GRAD)
    return _decades(line - line[-1]) if np.isfinite(line[-1]) else None


def _short(values: Float64s, digits: int) -> list[float | None]:
    """Numbers with so many significant digits; None where they are not finite."""
    return [float(f"{value:.{digits}g}") if isfinite(value) else None for value in values.tolist()]


def _decades(values: Float64s) -> list[float | None]:
    """The same for logarithms, which are known to a thousandth of a decade."""
    return [round(value, 3) + 0.0 if isfinite(value) else None for value in values.tolist()]
