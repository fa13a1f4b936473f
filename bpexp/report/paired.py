"""Settings against a reference, paired by seed: runs of one seed start from one draw, so that their difference is surer than their means."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bpexp.report import words
from bpexp.report.intervals import FEWEST, Interval
from bpexp.report.picture import WIDTH, Picture, Table, legend, log_axis, wrapped
from bpexp.report.recipes import PLAIN, is_of_recipes, standings
from bpexp.report.selection import Key, Setting, Study, spread, words_of
from bpexp.tracking.compared import SWEEP, tracked_id

__all__ = ["Difference", "differences", "has_pairs", "paired_differences"]

MOST_ROWS = 24
MOST_TOLD = 300  # rows of a table
BY_CHANCE = 20  # of so many intervals about one does not hold what it is an interval of
AXES = {"loss": "final training loss,\nratio to the reference", "accuracy": "test accuracy minus the\nreference's, percentage points"}
LOSS, ACCURACY = "final_loss", "final_accuracy_test"


@dataclass(frozen=True)
class Difference:
    """A setting against its reference: `loss`, the ratio of final training losses (geometric mean), `accuracy`, what it has more on the test set.

    `what` is compared with `reference`, where the rest is `where`; `math` names the row in a figure.  None: no seed has the number in both.
    """

    key: str
    what: str
    reference: str
    where: str
    math: str
    loss: Interval | None
    accuracy: Interval | None

    @property
    def seeds(self) -> int:
        return max((each.runs for each in (self.loss, self.accuracy) if each), default=0)


def differences(study: Study) -> list[Difference]:
    """Of each key, every other value against the first one with the rest alike; of recipes, each against the plain one, at every depth."""
    return _of_recipes(study) if is_of_recipes(study) else [found for key in _in_order(study) for found in _over(study, key)]


def _in_order(study: Study) -> list[Key]:
    """The sweep, then names, then numbers, those with fewest values first."""
    return sorted(study.swept, key=lambda key: (key.name != SWEEP, key.ordered, len(key.levels)))


def _over(study: Study, key: Key) -> Iterable[Difference]:
    first = {_rest(setting, key): setting for setting in study.settings if setting[key] == key.levels[0]}
    for level in key.levels[1:]:
        for setting in study.settings:
            reference = first.get(_rest(setting, key))
            if setting[key] == level and reference is not None:
                loss, accuracy = _pairs(study, setting.runs, reference.runs)
                if loss or accuracy:
                    where = setting.text(without=[key])
                    yield Difference(key.name, key.text(level), key.text(key.levels[0]), where, setting.math(), loss, accuracy)


def _rest(setting: Setting, key: Key) -> tuple[Any, ...]:
    return tuple(setting[other] for other in setting.keys if other != key)


def _of_recipes(study: Study) -> list[Difference]:
    some = standings(study)
    plain = {each.depth: each for each in some if each.recipe == PLAIN}
    found = []
    for each in sorted(some, key=lambda each: -each.depth):
        if each.recipe != PLAIN and each.depth in plain:
            loss, accuracy = _pairs(study, each.runs.runs, plain[each.depth].runs.runs)
            if loss or accuracy:
                where = f"L = {each.depth}"
                found.append(Difference("recipe", each.recipe, PLAIN, where, f"{each.recipe}, $L$ = {each.depth}", loss, accuracy))
    return found


def _pairs(study: Study, runs: Sequence[str], references: Sequence[str]) -> tuple[Interval | None, Interval | None]:
    """Intervals over the seeds of both, without runs that diverged, and without a run that would be compared with itself."""
    mine, theirs = _by_seed(study, runs), _by_seed(study, references)
    pairs = [(mine[seed], theirs[seed]) for seed in mine if seed in theirs and tracked_id(mine[seed]) != tracked_id(theirs[seed])]
    found: list[Interval | None] = []
    for column, log in ((LOSS, True), (ACCURACY, False)):
        values = pd.to_numeric(study.frame[column], errors="coerce").astype(float) if column in study.frame else pd.Series(nan, study.frame.index)
        some = np.array([(values[a], values[b]) for a, b in pairs]).reshape(-1, 2)
        some = some[np.isfinite(some).all(axis=1) & ((some > 0).all(axis=1) | (not log))]
        change = some[:, 0] / some[:, 1] if log else some[:, 0] - some[:, 1]
        found.append(Interval.of(change, log) if len(change) else None)
    return found[0], found[1]


def _by_seed(study: Study, runs: Sequence[str]) -> Mapping[Any, str]:
    """The newest run of each seed; one that diverged has no final numbers."""
    frame = study.frame.loc[list(runs)]
    return {seed: str(run_id) for run_id, seed, outcome in zip(frame.index, frame["seed"], frame["outcome"], strict=True) if outcome != "diverged"}


def has_pairs(study: Study) -> bool:
    """Whether some pair has seeds enough for an interval; of sweeps that are compared one will do."""
    fewest = 1 if study.runs.sweeps else FEWEST
    if len(study.seeds) < fewest or "loss" in {key.name for key in study.swept}:
        return False
    return any(found.seeds >= fewest for found in differences(study) if found.key == SWEEP or not study.runs.sweeps)


# ---------------------------------------------------------------------------------------------- the picture


def paired_differences(study: Study) -> Picture:
    """Final losses and accuracies against the reference's, a row per setting, with confidence intervals of the mean difference over seeds."""
    everything = differences(study)
    first = everything[0].key
    some = [found for found in everything if found.key == first]
    shown = spread(some, MOST_ROWS)
    columns = [name for name in ("loss", "accuracy") if any(getattr(found, name) for found in shown)]
    figure = Figure(figsize=(WIDTH, 0.24 * sum(1 + wrapped(found.math).count("\n") / 2 for found in shown) + 1.3))
    axes = list(figure.subplots(1, len(columns), sharey=True, squeeze=False).ravel())
    reference = some[0].reference
    for ax, column in zip(axes, columns, strict=True):
        _draw(ax, shown, column)
    axes[0].set_yticks(range(len(shown)), [wrapped(found.math) for found in shown], fontsize=7)
    axes[0].set_ylim(len(shown) - 0.4, -0.6)
    for ax, column in zip(axes, columns, strict=True):
        ax.set_xlabel(AXES[column])
    look: dict[str, Any] = {"color": "C0", "marker": "o", "markersize": 4.5, "linewidth": 0.9}
    apart = Line2D([], [], label="differs: the interval leaves out equality", **look)
    alike = Line2D([], [], label="may be equal", markerfacecolor="white", **look)
    legend(figure, [apart, alike, Line2D([], [], color="#222222", linewidth=0.9, label=f"reference: {reference}")])
    notes = [_note(some)]
    if len(shown) < len(some):
        notes.append(f"{len(shown)} of {len(some)} rows are shown, evenly spread; the table has more of them.")
    if len(some) >= BY_CHANCE:
        notes.append(f"Of {BY_CHANCE} such intervals about one leaves out equality by chance alone.")
    return Picture(figure, _sentence(some), tuple(notes), tuple(_tables(everything)), numbers=_numbers(everything))


def _draw(ax: Axes, shown: Sequence[Difference], column: str) -> None:
    log, scale = column == "loss", 1.0 if column == "loss" else 100.0
    ax.axvline(1.0 if log else 0.0, color="#222222", linewidth=0.9, label="reference", zorder=1.5)
    for row, found in enumerate(shown):
        around: Interval | None = getattr(found, column)
        if around is None:
            continue
        apart = around.excludes(1.0 if log else 0.0)
        span = scale * np.array([[around.mean - around.low], [around.high - around.mean]]).clip(min=0.0)
        face = "C0" if apart else "white"
        look: dict[str, Any] = {"color": "C0", "marker": "o", "markersize": 4.5, "markerfacecolor": face, "elinewidth": 0.9}
        ax.errorbar([scale * around.mean], [row], xerr=span if around.runs > 1 else None, label="apart" if apart else "alike", **look)
    ax.grid(visible=False, axis="y")
    if log:
        ax.set_xscale("log")
        log_axis(ax.xaxis)


def _note(some: Sequence[Difference]) -> str:
    sizes = sorted({found.seeds for found in some})
    n = f"n = {sizes[0]}" if len(sizes) == 1 else f"n = {sizes[0]} to {sizes[-1]}"
    around = f"means over pairs of runs of one seed ({n}; without runs that diverged), of losses geometric"
    few = "" if sizes[0] >= FEWEST else f" from {FEWEST} pairs on"
    return f"Points are {around}; bars are 95 % confidence intervals of those means (Student's t, n − 1 degrees of freedom){few}."


# ---------------------------------------------------------------------------------------------- words and numbers


def _sentence(some: Sequence[Difference]) -> str:
    """How many settings differ for certain, which way, and the one that does most."""
    told = [found for found in some if found.loss and found.loss.told]
    start = f"Against {some[0].reference}, paired by seed, the final training loss"
    if not told:
        pairs = [found for found in some if found.loss]
        lower = sum(found.loss.mean < 1.0 for found in pairs if found.loss)
        return f"{start} is lower in {lower} of {words.count(len(pairs), 'setting')}; there are too few seeds for confidence intervals."
    lower, higher = (sum(found.loss.excludes(1.0) and (found.loss.mean < 1.0) is less for found in told if found.loss) for less in (True, False))
    text = f"{start} is lower in {lower} of {words.count(len(told), 'setting')} and higher in {higher}, as far as 95 % confidence intervals tell"
    sure = [(found, found.loss) for found in told if found.loss and found.loss.excludes(1.0)]
    if not sure:
        return f"{text}."
    most, loss = max(sure, key=lambda pair: abs(np.log(pair[1].mean)))
    return f"{text}; most with {_name(most)}: {words.number(loss.mean)} times ({words.number(loss.low)} to {words.number(loss.high)})."


def _name(found: Difference) -> str:
    return f"{found.what}, {found.where}" if found.where else found.what


def _tables(everything: Sequence[Difference]) -> Iterable[Table]:
    for key in dict.fromkeys(found.key for found in everything):
        rows = [found for found in everything if found.key == key][:MOST_TOLD]
        heads = (words_of(key), "elsewhere", "pairs", "final loss, ratio", "test accuracy, points", "differs for certain")
        yield Table(f"{heads[0]}: against {rows[0].reference}", heads, tuple(map(_row, rows)))


def _row(found: Difference) -> tuple[str, ...]:
    sure = [name for name, around, same in (("loss", found.loss, 1.0), ("accuracy", found.accuracy, 0.0)) if around and around.excludes(same)]
    ratio = _told(found.loss, words.number)
    points = _told(found.accuracy, lambda x: f"{100 * x:+.1f}".replace("-", words.MINUS))
    return found.what, found.where or "–", str(found.seeds), ratio, points, words.listing(sure) or ("no" if found.seeds >= FEWEST else "–")


def _told(around: Interval | None, write: Any) -> str:
    if around is None:
        return "–"
    return f"{write(around.mean)} ({write(around.low)} to {write(around.high)})" if around.told else str(write(around.mean))


def _numbers(everything: Sequence[Difference]) -> pd.DataFrame:
    """A row per difference."""
    rows = []
    for found in everything:
        row: dict[str, Any] = {"key": found.key, "value": found.what, "reference": found.reference, "where": found.where}
        for name, around, same in (("loss_ratio", found.loss, 1.0), ("accuracy_difference", found.accuracy, 0.0)):
            each = around or Interval(nan, nan, nan, 0)
            row |= {f"{name}_pairs": each.runs, name: each.mean}
            row |= {f"{name}_low": each.low, f"{name}_high": each.high} if each.told else {f"{name}_low": nan, f"{name}_high": nan}
            row[f"{name}_differs"] = each.excludes(same)
        rows.append(row)
    return pd.DataFrame(rows)
