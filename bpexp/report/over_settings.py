"""Pictures whose axes are the swept keys: a number per run (decades per layer, accuracy, loss) over what was varied."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from bpexp.core.arrays import Float64s
from bpexp.report import words
from bpexp.report.colours import Colours, ink
from bpexp.report.intervals import Interval
from bpexp.report.numbers import of_setting, stacked
from bpexp.report.picture import WIDTH, Picture, end_handle, key_axis, legend, named_axis, panels, seeds_note, shown_facets, wrapped
from bpexp.report.selection import Key, Setting, Study

__all__ = [
    "TEST_ACCURACY",
    "TRAIN_LOSS",
    "Measure",
    "Point",
    "Series",
    "accuracy",
    "bar_place",
    "bar_thickness",
    "cells_of",
    "draw_series",
    "drawn_keys",
    "final_loss",
    "fit_bars",
    "panel_points",
    "point_rows",
    "points",
    "value_axis",
]

MOST_WRITTEN = 80  # cells of a grid that carry their number
MOST_ROWS = 30


@dataclass(frozen=True)
class Measure:
    """A summary number of runs, how an axis and a sentence call it and how it is written."""

    column: str
    axis: str
    label: str
    write: Callable[[float], str]
    top: float | None = None

    @property
    def noun(self) -> str:
        return self.axis.split(" ")[0]


TEST_ACCURACY = Measure("final_accuracy_test", "accuracy after the last step", "test set", words.percent, 1.0)
TRAIN_ACCURACY = Measure("final_accuracy_train", "accuracy after the last step", "training set", words.percent, 1.0)
TEST_LOSS = Measure("final_test_loss", "loss after the last step", "test set", words.number)
TRAIN_LOSS = Measure("final_loss", "loss after the last step", "training set", words.number)


@dataclass(frozen=True)
class Point:
    """A measure over the runs of a setting: its `Interval`, and whether one of them diverged."""

    setting: Setting
    mean: float
    low: float
    high: float
    diverged: bool


def points(study: Study, measure: Measure) -> list[Point]:
    """One per setting whose runs have the number."""
    found = []
    for setting in study.settings:
        values = study.numbers(setting, measure.column)
        if len(values):
            ended = "diverged" in study.outcomes(setting)
            around = Interval.of(values)
            found.append(Point(setting, around.mean, around.low, around.high, ended))
    return found


def point_rows(study: Study, some: Sequence[Point], column: str, ignored: Sequence[Key] = ()) -> pd.DataFrame:
    """The points of a column as numbers behind a picture (`bpexp.report.numbers`)."""
    told = []
    for point in some:
        runs = len(study.numbers(point.setting, column))
        told.append(of_setting(point.setting, ignored) | {"quantity": column, "mean": point.mean, "low": point.low, "high": point.high, "runs": runs})
    return pd.DataFrame(told)


def drawn_keys(study: Study, some: Sequence[Point]) -> list[Key]:
    """The swept keys that differ between points, those with most values first."""
    varied = [key for key in study.swept if len({point.setting[key] for point in some}) > 1]
    return sorted(varied, key=lambda key: -len(key.levels))


def panel_points(some: Sequence[Point], inside: Sequence[Key | None]) -> tuple[list[tuple[str, list[Point]]], list[str]]:
    """The points of each panel, and a note where some panels are left out."""
    by_setting = {point.setting: point for point in some}
    chosen, notes = shown_facets(by_setting, inside)
    return [(name, [by_setting[setting] for setting in group]) for name, group in chosen], list(notes)


# ---------------------------------------------------------------------------------------------- lines and bars

Series = tuple[str, Any, Sequence[Point]]  # label, colour, points


def draw_series(ax: Axes, key: Key, series: Sequence[Series]) -> None:
    """Lines over a key of numbers, horizontal bars over a key of names; error bars where runs are repeated, crosses where they diverged."""
    (draw_lines if key.ordered else draw_bars)(ax, key, series)


def draw_lines(ax: Axes, key: Key, series: Sequence[Series]) -> None:
    key_axis(ax.xaxis, key)
    ax.set_xlabel(key.axis)
    for label, colour, some in series:
        x, y = [point.setting[key] for point in some], [point.mean for point in some]
        ax.errorbar(x, y, yerr=_errors(some), color=colour, marker="o", markersize=4 if len(x) <= 40 else 2, elinewidth=0.9, label=label)
        ended = [point for point in some if point.diverged]
        ax.plot([p.setting[key] for p in ended], [p.mean for p in ended], "x", color="#444444", markersize=8, label="diverged", zorder=3)


def draw_bars(ax: Axes, key: Key, series: Sequence[Series]) -> None:
    thick = bar_thickness(series)
    named_axis(ax.yaxis, [words.value(value) for value in key.levels], most=MOST_ROWS)
    ax.set_ylim(len(key.levels) - 0.4, -0.6)  # the first name on top
    ax.grid(visible=False, axis="y")
    for index, (label, colour, some) in enumerate(series):
        y = [bar_place(key, point, index, series) for point in some]
        ax.barh(y, [point.mean for point in some], 0.9 * thick, xerr=_errors(some), color=colour, ecolor="#222222", label=label)
        ended = [(point.mean, place) for point, place in zip(some, y, strict=True) if point.diverged]
        ax.plot([x for x, _ in ended], [place for _, place in ended], "x", color="#444444", markersize=8, label="diverged", zorder=3)


def bar_thickness(series: Sequence[Series]) -> float:
    """Of the bars of one name, and the gaps between them: 0.8 of what there is."""
    return 0.8 / len(series)


def bar_place(key: Key, point: Point, index: int, series: Sequence[Series]) -> float:
    """The middle of the bar of a point of the series of that index."""
    return float(key.levels.index(point.setting[key]) + bar_thickness(series) * (index - (len(series) - 1) / 2))


def fit_bars(figure: Figure, axes: Sequence[Axes], key: Key) -> None:
    """A lone panel of bars is as high as they need."""
    if len(axes) == 1 and not key.ordered:
        figure.set_size_inches(WIDTH, max(2.2, 0.45 * min(len(key.levels), MOST_ROWS) + 1.2))


def _errors(some: Sequence[Point]) -> Any:
    """How far the ends of the intervals lie from the mean; None where no setting has two runs."""
    spans = np.array([[point.mean - point.low for point in some], [point.high - point.mean for point in some]])
    return spans.clip(min=0.0) if spans.any() else None


def value_axis(axes: Sequence[Axes], key: Key, measure: Measure) -> None:
    """The axis across the key's: its label, and 0 in view."""
    for ax in axes:
        axis = "y" if key.ordered else "x"
        low, high = getattr(ax.dataLim, f"interval{axis}")
        margin = 0.05 * (max(high, 0.0) - min(low, 0.0)) or 1.0
        getattr(ax, f"set_{axis}lim")(low - margin if low < 0 else 0.0, 1.02 * measure.top if measure.top else max(high, 0.0) + margin)
        ax.set(**{f"{axis}label": measure.axis})
        (ax.axhline if key.ordered else ax.axvline)(0.0, color="#444444", linewidth=0.8, zorder=1.5)
        ax.label_outer()


# ---------------------------------------------------------------------------------------------- two keys as a grid


def cells_of(x: Key, y: Key, some: Iterable[Point], value: Callable[[Point], float]) -> Float64s:
    """A row per value of y, a column per value of x; NaN where there is no point."""
    cells = np.full((len(y.levels), len(x.levels)), np.nan)
    for point in some:
        cells[y.levels.index(point.setting[y]), x.levels.index(point.setting[x])] = value(point)
    return cells


def draw_grid(ax: Axes, x: Key, y: Key, some: Sequence[Point], norm: Normalize, write: Callable[[float], str]) -> None:
    """A cell per pair of values: its colour, and where there is room its number.  A pair that nobody ran stays white."""
    cells = cells_of(x, y, some, lambda point: point.mean)
    image = ax.imshow(np.ma.masked_invalid(cells), norm=norm)
    ax.grid(visible=False)
    for point in some:
        row, column = y.levels.index(point.setting[y]), x.levels.index(point.setting[x])
        colour = ink(image.cmap(norm(point.mean)))
        if cells.size <= MOST_WRITTEN:
            ax.text(column, row, write(point.mean).removesuffix(" %"), ha="center", va="center", color=colour, fontsize=7)
        if point.diverged:
            ax.plot(column + 0.36, row + 0.32, "x", color=colour, markersize=4, label="diverged")
    for axis, key in ((ax.xaxis, x), (ax.yaxis, y)):
        named_axis(axis, [words.value(value) for value in key.levels], most=10 if axis is ax.xaxis else 14)


def draw_cloud(ax: Axes, x: Key, y: Key, some: Sequence[Point], norm: Normalize) -> None:
    """A dot per setting, for pairs that do not fill a grid."""
    key_axis(ax.xaxis, x)
    key_axis(ax.yaxis, y)
    places = [(float(point.setting[x]), float(point.setting[y])) for point in some]
    ax.scatter([a for a, _ in places], [b for _, b in places], c=[point.mean for point in some], norm=norm, s=22, edgecolor="#444444", linewidth=0.4)
    ended = [place for place, point in zip(places, some, strict=True) if point.diverged]
    ax.plot([a for a, _ in ended], [b for _, b in ended], "x", color="#444444", markersize=7, label="diverged")


def draw_two_keys(some: Sequence[Point], measure: Measure, keys: Sequence[Key]) -> tuple[Figure, list[str]]:
    """Two keys along the axes of a panel, the colour is the measure; the other keys make panels."""
    x, y = sorted(keys[:2], key=lambda key: -len(key.levels))
    chosen, notes = panel_points(some, [x, y])
    filled = len({(point.setting[x], point.setting[y]) for point in some}) / (len(x.levels) * len(y.levels))
    cloud = filled < 0.5 and x.ordered and y.ordered
    figure, axes = panels(len(chosen), 2.3, sharex=True, sharey=True)
    if len(axes) == 1 and not cloud:
        figure.set_size_inches(WIDTH, min(8.0, max(2.6, 0.34 * len(y.levels) + 1.3)))
    values = [point.mean for point in some]
    norm = Normalize(0.0 if measure.top else min(values), measure.top or max(values))
    for ax, (name, group) in zip(axes, chosen, strict=True):
        ax.set_title(wrapped(name))
        if cloud:
            draw_cloud(ax, x, y, group, norm)
        else:
            draw_grid(ax, x, y, group, norm, measure.write)
    figure.supxlabel(x.axis)
    figure.supylabel(y.axis)
    figure.colorbar(ScalarMappable(norm), ax=axes, label=f"{measure.noun}, {measure.label}", pad=0.02, aspect=25)
    if measure.top and not cloud and len(x.levels) * len(y.levels) <= MOST_WRITTEN:
        notes.append("Numbers in the cells are per cent.")
    return figure, notes


# ---------------------------------------------------------------------------------------------- the pictures


def accuracy(study: Study) -> Picture:
    """Accuracy after the last step over the swept keys."""
    return _score(study, TEST_ACCURACY, TRAIN_ACCURACY)


def final_loss(study: Study) -> Picture:
    """Loss after the last step over the swept keys: for data whose targets are no classes."""
    return _score(study, TEST_LOSS, TRAIN_LOSS)


def _score(study: Study, measure: Measure, companion: Measure) -> Picture:
    some = points(study, measure)
    keys = drawn_keys(study, some)
    if len(keys) > 1:
        figure, notes = draw_two_keys(some, measure, keys)
        ends = [end_handle()] if any(point.diverged for point in some) else []
        legend(figure, ends)
    else:
        figure, notes = _draw_one_key(study, keys[0], measure, companion)
    if any(point.diverged for point in some):
        notes.append("Of a run that diverged, the last value before that is shown.")
    told = [measure] if len(keys) > 1 else [companion, measure]
    numbers = stacked(point_rows(study, points(study, each), each.column) for each in told)
    return Picture(figure, _score_sentence(some, measure, keys), (*notes, *seeds_note(study, "Values", spread_shown=len(keys) == 1)), numbers=numbers)


def _draw_one_key(study: Study, key: Key, measure: Measure, companion: Measure) -> tuple[Figure, list[str]]:
    figure, (ax,) = panels(1)
    fit_bars(figure, [ax], key)
    colours = Colours([companion.label, measure.label], "", str, ordered=False)
    both = [(each.label, colours[each.label], points(study, each)) for each in (companion, measure)]
    draw_series(ax, key, both)
    value_axis([ax], key, measure)
    ended = any(point.diverged for _, _, some in both for point in some)
    colours.explain(figure, [ax], [end_handle()] if ended else [])
    return figure, []


def _score_sentence(some: Sequence[Point], measure: Measure, keys: Sequence[Key]) -> str:
    """The highest, the lowest, and along a lone key of numbers the way from its first to its last value."""
    high, low = max(some, key=lambda p: p.mean), min(some, key=lambda p: p.mean)
    text = f"The {measure.label}'s {measure.noun} is highest, {measure.write(high.mean)}, with {high.setting.text()}"
    if measure.write(high.mean) == measure.write(low.mean):
        return f"The {measure.label}'s {measure.noun} is {measure.write(high.mean)} in {words.every(len(some), 'setting')}."
    text += f" and lowest, {measure.write(low.mean)}, with {low.setting.text()}"
    if len(keys) == 1 and keys[0].ordered:
        first, last = some[0], some[-1]
        if measure.write(first.mean) == measure.write(last.mean):
            return f"{text}; it is {measure.write(first.mean)} both with {first.setting.text()} and with {last.setting.text()}."
        way = "rises" if last.mean > first.mean else "falls"
        text += f"; it {way} from {measure.write(first.mean)} to {measure.write(last.mean)} between {first.setting.text()} and {last.setting.text()}"
    return f"{text}."
