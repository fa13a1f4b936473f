"""Sweeps beside each other: in what they differ, and where the runs of each end."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bpexp.report import words
from bpexp.report.intervals import FEWEST, Interval
from bpexp.report.paired import has_pairs
from bpexp.report.picture import WIDTH, Picture, Table, legend, log_axis
from bpexp.report.selection import Key, Study, escape, words_of
from bpexp.tracking.compared import SWEEP, tracked_id

__all__ = ["comparison", "differing_keys"]

APART = 0.3  # of a row, that its runs are spread over
MOST_LISTED = 8  # values of a cell
AXES = {"final_loss": "final training loss", "final_accuracy_test": "test accuracy after the last step"}
LOSSES = ("final_loss",)
DOT: dict[str, Any] = {"color": "C0", "marker": "o", "markersize": 3.5, "linestyle": "", "alpha": 0.5, "markeredgewidth": 0.0}
MEAN: dict[str, Any] = {"color": "#222222", "marker": "|", "markersize": 9, "linewidth": 1.0, "label": "mean, 95 % confidence interval"}
SPAN: dict[str, Any] = {"color": "#999999", "marker": "|", "markersize": 9, "linewidth": 1.0, "label": "median, lowest and highest"}
NOTES = {  # on how to read a line through dots
    MEAN[
        "label"
    ]: "The interval of runs that differ in their seed alone is their mean's (Student's t, n − 1 degrees of freedom; geometric of losses).",
    SPAN["label"]: "Over runs of different settings there is no such interval: the line goes from the lowest to the highest, its mark is the median.",
}


def differing_keys(study: Study) -> dict[str, tuple[str, ...]]:
    """The keys of the configuration that do not take the same values in all sweeps, with the values in each."""
    found = {}
    for name in (column for column in study.columns if column != SWEEP):
        key = next((key for key in study.varying if key.name == name), Key(name, (), ordered=False))
        values = [_values(study, origin.label, name) for origin in study.runs.sweeps]
        if len({frozenset(some) for some in values}) > 1:
            found[name] = tuple(words.listing([key.written(value) for value in some], most=MOST_LISTED) or "–" for some in values)
    return found


def _values(study: Study, label: str, name: str) -> list[Any]:
    """What a key takes in a sweep, numbers in their order."""
    some = list(dict.fromkeys(words.plain(entry) for entry in study.frame[study.frame[SWEEP] == label][name]))
    return sorted(some) if all(isinstance(value, int | float) and not isinstance(value, bool) for value in some) else some


def comparison(study: Study) -> Picture:
    """Where the runs of each sweep end, a dot per run, and a table of what differs between the sweeps."""
    labels = [origin.label for origin in study.runs.sweeps]
    columns = [name for name in AXES if name in study.frame and study.frame[name].notna().any()]
    figure = Figure(figsize=(WIDTH, 0.45 * len(labels) + 1.4))
    axes = list(figure.subplots(1, max(1, len(columns)), sharey=True, squeeze=False).ravel())
    numbers = []
    looks: dict[str, dict[str, Any]] = {}
    for ax, column in zip(axes, columns, strict=False):
        for row, label in enumerate(labels):
            ends = _ends(study, label, column)
            if look := _draw(ax, ends, row, column in LOSSES, _repeated(study, ends)):
                looks[look["label"]] = look
            numbers += [(label, column, value) for value in ends]
        ax.set_xlabel(AXES[column])
        ax.grid(visible=False, axis="y")
        if column in LOSSES:
            ax.set_xscale("log")
            log_axis(ax.xaxis)
    axes[0].set_yticks(range(len(labels)), [escape(label) for label in labels])
    axes[0].set_ylim(len(labels) - 0.4, -0.6)
    legend(figure, [Line2D([], [], label="a run", **DOT), *(Line2D([], [], **look) for look in looks.values())])
    notes = ["Runs that diverged are left out.", *(note for label, note in NOTES.items() if label in looks)]
    notes += ["For settings that several have, see the paired differences."] if has_pairs(study) else []
    return Picture(
        figure,
        _sentence(study),
        tuple(notes),
        (_table(study),),
        numbers=pd.DataFrame(numbers, columns=["sweep", "quantity", "value"]),
    )


def _ends(study: Study, label: str, column: str) -> "pd.Series[float]":
    rows = study.frame[(study.frame[SWEEP] == label) & (study.frame["outcome"] != "diverged")]
    values = pd.to_numeric(rows[column], errors="coerce").astype(float)
    return values[np.isfinite(values) & ((values > 0) | (column not in LOSSES))]


def _repeated(study: Study, ends: "pd.Series[float]") -> bool:
    """Whether these runs are of one setting: an interval is one over seeds."""
    return any(set(ends.index) <= set(setting.runs) for setting in study.settings)


def _draw(ax: Axes, values: "pd.Series[float]", row: int, log: bool, repeated: bool) -> dict[str, Any]:
    """Dots and, where they are many enough, a line through them; its look."""
    places = row + APART * np.linspace(-1.0, 1.0, len(values)) if len(values) > 1 else [row] * len(values)
    ax.plot(values, places, label="run", **DOT)
    if len(values) < FEWEST:
        return {}
    around = Interval.of(values, log)
    middle, low, high = (around.mean, around.low, around.high) if repeated else (values.median(), values.min(), values.max())
    look = MEAN if repeated else SPAN
    ax.errorbar([middle], [row], xerr=[[middle - low], [high - middle]], zorder=3 if repeated else 1.5, **look)
    return look


def _runs_in_several(study: Study) -> int:
    rows = study.frame["run_id"].map(tracked_id)
    return int((rows.value_counts() > 1).sum())


def _sentence(study: Study) -> str:
    labels = [origin.label for origin in study.runs.sweeps]
    sizes = [f"{words.count(int((study.frame[SWEEP] == label).sum()), 'run')} of {label}" for label in labels]
    differ = differing_keys(study)
    names = words.listing(map(words_of, differ))
    what = f"differ in the values of {names}; the rest of their configuration is the same" if differ else "have the same values of every key"
    shared = _runs_in_several(study)
    again = f"; {words.count(shared, 'run')} {'stands' if shared == 1 else 'stand'} in more than one of them" if shared else ""
    return f"The sweeps {what}. There are {words.listing(sizes)}{again}."


def _table(study: Study) -> Table:
    """A row per key that differs, and one each for runs, commits and numerics."""
    sweeps = study.runs.sweeps
    rows: list[tuple[str, ...]] = [(words_of(name), *values) for name, values in differing_keys(study).items()]
    rows.append(("runs", *(str(int((study.frame[SWEEP] == origin.label).sum())) for origin in sweeps)))
    rows.append(("id", *(origin.sweep_id for origin in sweeps)))
    for head, told in (("code (git commit)", [_short(o.commits) for o in sweeps]), ("computed with", [o.numerics for o in sweeps])):
        if len(set(told)) > 1:
            rows.append((head, *(words.listing(some) or "–" for some in told)))
    return Table("what differs", ("", *(origin.label for origin in sweeps)), tuple(rows))


def _short(commits: Sequence[str]) -> tuple[str, ...]:
    return tuple(commit[:10] for commit in commits)
