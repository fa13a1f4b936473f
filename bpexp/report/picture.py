"""What all pictures are made of: panels, legends, axes in decades."""

import re
from collections.abc import Hashable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from math import ceil, floor
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from bpexp.core.arrays import Float64s
from bpexp.report import words
from bpexp.report.intervals import FEWEST, over_runs
from bpexp.report.selection import Key, Setting, Study, facets, spread, sub_grid

__all__ = [
    "MOST_NAMED",
    "MOST_PANELS",
    "WIDTH",
    "Picture",
    "Table",
    "band",
    "cell_edges",
    "count_axis",
    "decade_axis",
    "end_handle",
    "key_axis",
    "legend",
    "log_axis",
    "named_axis",
    "over_runs",
    "panels",
    "plateau_handle",
    "seeds_note",
    "shown",
    "shown_facets",
    "style",
    "title",
    "wrapped",
    "zero_handle",
    "zero_marks",
]

WIDTH = 7.0  # inches
MOST_PANELS = 9
MOST_NAMED = 8  # more values than that are told by a scale
LINE_LENGTH = 105  # characters of a legend that fit in a row
TITLE_LENGTH = 24  # of a panel, where three stand in a row


@dataclass(frozen=True)
class Table:
    """Rows of text under their headings; the first of each is what the row is about."""

    name: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A figure, a sentence that says what its numbers show, notes on how to read it; tables to go with it, and the numbers that are drawn."""

    figure: Figure
    sentence: str
    notes: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    numbers: pd.DataFrame = field(kw_only=True)


def style() -> AbstractContextManager[None]:
    """The look of a report, whatever the user's own settings are."""
    return matplotlib.style.context([Path(__file__).with_name("bpexp.mplstyle")], after_reset=True)


# ---------------------------------------------------------------------------------------------- panels


def panels(count: int, height: float = 2.0, **shared: Any) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels, three in a row at most; a lone one gets more height."""
    columns = 1 if count == 1 else 2 if count in (2, 4) else 3
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH, 3.4 if count == 1 else rows * height + 0.9))
    axes = figure.subplots(rows, columns, squeeze=False, **shared).ravel()
    for empty in axes[count:]:
        empty.remove()
    return figure, list(axes[:count])


def shown(settings: Sequence[Setting]) -> tuple[list[Setting], tuple[str, ...]]:
    """As many settings as panels stay readable, and a note where that leaves some out."""
    chosen = sub_grid(settings, MOST_PANELS)
    if len(chosen) == len(settings):
        return chosen, ()
    return chosen, (f"{len(chosen)} of {len(settings)} settings are shown, evenly spread: {'; '.join(s.text() for s in chosen)}.",)


def shown_facets(settings: Iterable[Setting], inside: Sequence[Key | None]) -> tuple[list[tuple[str, list[Setting]]], tuple[str, ...]]:
    """The same for panels that hold several settings each."""
    found = facets(settings, inside)
    chosen = spread(found, MOST_PANELS)
    return chosen, () if len(chosen) == len(found) else (f"{len(chosen)} of {len(found)} panels are shown, evenly spread.",)


def title(study: Study, setting: Setting) -> str:
    """What stands over a setting's panel."""
    ends = study.frame.loc[list(setting.runs)].query("outcome == 'diverged'")["diverged_at"].dropna()
    name = wrapped(setting.math() or f"$L$ = {study.depth(setting)}")
    return f"{name}\ndiverged at step {int(ends.min()):,}" if len(ends) else name


def wrapped(name: str) -> str:
    """A panel's name in lines short enough for three panels in a row, broken after commas."""
    lines = [""]
    for part in name.split(", "):
        if lines[-1] and _length(lines[-1] + part) > TITLE_LENGTH:
            lines.append("")
        lines[-1] += f", {part}" if lines[-1] else part
    return ",\n".join(lines)


# ---------------------------------------------------------------------------------------------- numbers over seeds


def band(axes: Axes, table: pd.DataFrame, colour: Any, label: str = "_", markers: bool = False, **line: Any) -> None:
    """A line of means and, where there are several runs, a band over their intervals."""
    table = table.where(np.isfinite(table))  # what is not finite leaves a gap
    x = table.index.to_numpy(float)
    lone = table["mean"].notna().sum() == 1
    axes.plot(x, table["mean"].to_numpy(), color=colour, label=label, marker="o" if markers or lone else "", **line)
    if (table["runs"] > 1).any():
        axes.fill_between(x, table["low"].to_numpy(), table["high"].to_numpy(), color=colour, alpha=0.2, linewidth=0)


def seeds_note(study: Study, kind: str = "Lines", spread_shown: bool = True, log: bool = False) -> tuple[str, ...]:
    """What mean and spread are taken over; `log`: over logarithms."""
    sizes = sorted({len(setting.runs) for setting in study.settings})
    if not sizes or sizes[-1] == 1:
        return ()
    runs = f"{sizes[0]} to {sizes[-1]} runs" if len(sizes) > 1 else words.count(sizes[0], "run")
    what = "seed" if all(study.frame.loc[list(s.runs), "seed"].nunique() == len(s.runs) for s in study.settings) else "repetition"
    n = f"n = {sizes[-1]}" if len(sizes) == 1 else "n of them"
    ends = "from the lowest to the highest"
    around = f"the spread around them goes {ends}"
    if sizes[-1] >= FEWEST:
        around = f"the spread around them is the mean's 95 % confidence interval (Student's t, {n}{', over logarithms' if log else ''})"
        around += f"; of fewer than {FEWEST} runs it goes {ends}" if sizes[0] < FEWEST else ""
    mean = "geometric means" if log else "means"
    return (f"{kind} are {mean} over {runs} per setting, one per {what}; {around if spread_shown else 'their spread is not shown'}.",)


def zero_marks(axes: Axes, x: Iterable[float], colour: Any) -> None:
    """Triangles on the lower edge, where the value is -inf: the norm is exactly zero."""
    places = list(x)
    axes.plot(places, [0.02] * len(places), "v", color=colour, markersize=3, transform=axes.get_xaxis_transform(), label="_zero")


# ---------------------------------------------------------------------------------------------- legends


def legend(figure: Figure, handles: Sequence[Artist]) -> None:
    """Above all panels, in as many columns as the labels leave room for."""
    if handles:
        lengths = [_length(str(handle.get_label())) + 7 for handle in handles]
        one_row = sum(lengths) <= LINE_LENGTH
        figure.legend(handles=list(handles), loc="outside upper left", ncols=len(handles) if one_row else max(1, LINE_LENGTH // max(lengths)))


def _length(text: str) -> int:
    """Characters that a text with mathtext takes, about."""
    return len(re.sub(r"[$_^{}]|\\,", "", re.sub(r"\\[A-Za-z]+|\\\|", "x", text)))


def plateau_handle() -> Artist:
    return Line2D([], [], color="black", linestyle=(0, (4, 3)), linewidth=1, label="best constant output")


def end_handle() -> Artist:
    return Line2D([], [], color="#444444", linestyle="", marker="x", label="diverged")


def zero_handle() -> Artist:
    return Line2D([], [], color="#444444", linestyle="", marker="v", markersize=3, label="exactly zero")


# ---------------------------------------------------------------------------------------------- axes


class DecadeLocator(MaxNLocator):
    """Whole exponents; where fewer than two decades are in view, 1, 2 and 5 times powers of ten, or more digits for two ticks, else one tick."""

    def __init__(self) -> None:
        super().__init__(nbins=6, integer=True, steps=[1, 2, 5, 10])

    def tick_values(self, vmin: float, vmax: float) -> Any:
        if vmax - vmin >= 2:
            return super().tick_values(vmin, vmax)
        for mantissas in ([1, 2, 5], range(1, 10), np.arange(1, 10, 0.2)):
            ticks = np.add.outer(np.arange(floor(vmin), ceil(vmax) + 1), np.log10(mantissas)).ravel()
            inside = ticks[(ticks >= vmin) & (ticks <= vmax)]
            if len(inside) >= 2:
                return inside
        return np.array([(vmin + vmax) / 2.0])  # so near each other that they have the same digits


def decade_axis(axis: Any) -> None:
    """Ticks of an axis whose values are log10 of what it shows: 10^-20 at -20, 0.02 at -1.7."""
    axis.set_major_locator(DecadeLocator())
    axis.set_major_formatter(FuncFormatter(lambda x, _: _power(x, plain=abs(np.subtract(*axis.get_view_interval())) < 2)))


def _power(x: float, plain: bool) -> str:
    """10**x for an axis: 10^-7, 2·10^-7; `plain` where whole decades are few: 0.2, 1, 5."""
    if plain and -3 < x < 4:
        return f"{10**x:.2g}" if x < 2 else f"{10**x:,.0f}"
    if abs(x - round(x)) < 1e-6:
        return f"$10^{{{x:.0f}}}$"
    return f"${10 ** (x % 1):.2g}{{\\cdot}}10^{{{floor(x)}}}$"


def log_axis(axis: Any) -> None:
    """Ticks of a logarithmic axis: powers of ten, multiples of them where less than two decades are in view, and round numbers where less than two
    of those are.
    """
    low, high = axis.get_view_interval()
    near = high < 100.0 * low
    within = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if high < 10.0 * low else (1.0, 2.0, 5.0) if near else (1.0,)
    axis.set_major_locator(LogLocator(subs=within))
    axis.set_major_formatter(FuncFormatter(lambda x, _: _power(float(np.log10(x)), plain=near or abs(np.log10(x)) <= 2) if x > 0 else ""))
    axis.set_minor_formatter(NullFormatter())
    powers = 10.0 ** np.arange(floor(np.log10(low)), ceil(np.log10(high)) + 1)
    if np.count_nonzero((np.outer(powers, within) >= low) & (np.outer(powers, within) <= high)) < 2:  # nearly equal values
        axis.set_major_locator(MaxNLocator(4))
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.6g}"))
        axis.set_minor_locator(NullLocator())


def count_axis(axis: Any) -> None:
    """Ticks of an axis that counts."""
    axis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def cell_edges(places: Float64s, log: bool = False) -> Float64s:
    """Borders midway between neighbours, on the axis that shows them; the outer ones as far beyond."""
    at = np.log(places) if log else places
    middle = (at[1:] + at[:-1]) / 2.0
    edges = np.concatenate([[2.0 * at[0] - middle[0]], middle, [2.0 * at[-1] - middle[-1]]])
    return np.exp(edges) if log else edges


def named_axis(axis: Any, names: Sequence[Hashable], most: int = 12) -> None:
    """Ticks at 0, 1, 2, … that carry names, thinned where there are many."""
    places = spread(range(len(names)), most)
    axis.set_major_locator(FixedLocator(places))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda place, _: str(names[round(place)]) if 0 <= round(place) < len(names) else ""))


def key_axis(axis: Any, key: Key) -> None:
    """An axis for a key of numbers, with a tick at each value where that leaves room."""
    if key.log:
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    if len(key.levels) <= MOST_NAMED:
        axis.set_major_locator(FixedLocator([float(value) for value in key.levels]))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: key.written(min(key.levels, key=lambda known: abs(known - value)))))
