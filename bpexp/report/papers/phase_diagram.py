"""Which depths can be trained at which variance of the weights: the phase diagram of Schoenholz et al. 2017."""

from collections.abc import Callable
from math import isfinite, isnan
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import Float64s
from bpexp.measures.cell import Cell
from bpexp.measures.trainability import correlation_length, crosses_at
from bpexp.report import words
from bpexp.report.numbers import as_drawn
from bpexp.report.picture import WIDTH, Picture, cell_edges, count_axis, legend, seeds_note
from bpexp.report.predicted import draw_theory, theory_handle
from bpexp.report.selection import SYMBOLS, Study
from bpexp.theory.mean_field import correlation_depth, critical_line

__all__ = ["FIGURES", "phase_diagram"]

VARIANCE, DEPTH, ACCURACY = "init.sigma_w2", "depth", "final_accuracy_train"
LEVEL = 0.5  # of the accuracy, up to which a net counts as trained
LONGEST = 20.0  # layers of a correlation length that may decide: with longer ones it is the steps that are too few
LENGTHS = 6.0  # xi_c that the paper's nets could be deep
FILLED = 0.94  # of a column's place
FINE = 200  # points of theory's curve
CRITICAL: dict[str, Any] = {"color": "#222222", "linestyle": (0, (1, 2)), "linewidth": 1.0}
CROSSING: dict[str, Any] = {"marker": "o", "markersize": 5, "markerfacecolor": "white", "markeredgecolor": "#222222", "linestyle": ""}


def phase_diagram(study: Study) -> Picture:
    """The accuracy reached, as colour, over the variance of the weights and the depth, with six correlation lengths and the critical line."""
    cell = Cell.of(study.runs)
    columns = {float(values[VARIANCE]): part for values, part in cell.each([VARIANCE])}
    figure = Figure(figsize=(WIDTH, 4.2))
    ax = figure.subplots()
    scale = Normalize(0.0, 1.0)
    edges = _edges(np.array(sorted(columns)))
    drawn = None
    for number, (variance, part) in enumerate(sorted(columns.items())):
        low, high = edges[number], edges[number + 1]
        drawn = _column(ax, part, (variance - FILLED * (variance - low), variance + FILLED * (high - variance)), scale)
    reached = {variance: crosses_at(part, DEPTH, ACCURACY, LEVEL).value for variance, part in columns.items()}
    known = {variance: depth for variance, depth in reached.items() if isfinite(depth)}
    ax.plot(list(known), list(known.values()), label="crossing", **CROSSING)
    phi, sigma_b2 = ACTIVATIONS[cell.config.activation], cell.config.init.sigma_b2
    top = 1.06 * float(cell.frame[DEPTH].max())
    grid = np.linspace(edges[0], edges[-1], FINE)
    line = np.array([LENGTHS * correlation_depth(phi, float(x), sigma_b2) for x in grid])
    draw_theory(ax, grid, np.where(line < 2.0 * top, line, np.nan))
    border = critical_line(phi, sigma_b2)
    handles = [theory_handle(), Line2D([], [], label=f"depth at which the accuracy falls through {LEVEL:g}", **CROSSING)]
    handles[0].set_label(rf"${LENGTHS:g}\,\xi_c$, theory")
    if border is not None:
        ax.axvline(border, label="critical", **CRITICAL)
        handles.insert(1, Line2D([], [], label=rf"critical: {SYMBOLS[VARIANCE][1]} = {border:.3f}", **CRITICAL))
    ax.set(xlabel=f"weight variance {SYMBOLS[VARIANCE][1]}", ylabel=r"depth $L$", xlim=(edges[0], edges[-1]), ylim=(0, top))
    ax.grid(visible=False)
    count_axis(ax.yaxis)
    if drawn is not None:
        figure.colorbar(drawn, ax=ax, label=f"train accuracy after {cell.config.steps:,} steps", aspect=30, pad=0.02)
    legend(figure, handles)
    notes = ("White: depths that were not trained.",)
    return Picture(figure, _sentence(columns, reached, border), (*notes, *seeds_note(study, "Colours", spread_shown=False)), numbers=as_drawn(figure))


def _edges(places: Float64s) -> Float64s:
    """A lone place's lie a fifth beside it."""
    return cell_edges(places) if len(places) > 1 else np.array([places[0] * 0.8, places[0] * 1.2])


def _column(ax: Axes, part: Cell, span: tuple[float, float], scale: Normalize) -> ScalarMappable:
    """A column of depths, each with the mean accuracy over runs as its colour."""
    table: pd.Series[float] = part.frame.groupby(DEPTH)[ACCURACY].mean()
    edges = _edges(table.index.to_numpy(np.float64))
    return ax.pcolormesh(np.array(span), edges, table.to_numpy()[:, None], norm=scale, cmap="cividis", shading="flat")


def _sentence(columns: dict[float, Cell], reached: dict[float, float], border: float | None) -> str:
    lengths = {variance: correlation_length(part) for variance, part in columns.items()}
    ratios = [reached[variance] / length for variance, length in lengths.items() if isfinite(reached[variance]) and length < LONGEST]
    crossed = {variance: depth for variance, depth in reached.items() if not isnan(depth)}
    if not crossed or not ratios:
        return "No variance has depths on both sides of what can be trained."
    deepest = max(crossed, key=crossed.__getitem__)
    depth = f"to {crossed[deepest]:.0f} layers" if isfinite(crossed[deepest]) else "deeper than any that was trained"
    line = f" (theory's critical point: {border:.2f})" if border is not None else ""
    lowest, highest = words.number(min(ratios), 2), words.number(max(ratios), 2)
    told = f"{lowest} to {highest}" if lowest != highest else lowest
    return f"Nets learn down to {told} correlation lengths where those are below {LONGEST:g} layers; deepest, {depth}, at σw² = {deepest:g}{line}."


FIGURES: dict[str, Callable[[Study], Picture]] = {"phase_diagram": phase_diagram}
