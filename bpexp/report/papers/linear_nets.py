"""Figures of deep linear nets: how their modes learn, and which learning rates and how many steps they take over the depth."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bpexp.core.arrays import Float64s
from bpexp.measures.cell import Cell
from bpexp.measures.dynamics import aligned, first_steps, learning_time, mode_strengths
from bpexp.measures.learning_rates import best_lrs, largest_lrs, reached, sharpness
from bpexp.report import words
from bpexp.report.colours import Colours
from bpexp.report.numbers import as_drawn
from bpexp.report.picture import Picture, decade_axis, legend, panels
from bpexp.report.predicted import draw_theory, theory_handle
from bpexp.report.selection import Study
from bpexp.theory import linear

__all__ = ["FIGURES", "modes", "rates_over_depth", "steps_over_depth"]

FRACTION = 0.95  # of a mode's strength: learned
LEVEL, WINDOW = 0.3, 5  # of the loss, mean of so many batches: learned
AFTER = 12  # steps, the best learning rate: later on several rates have left nothing but roundings
LEARNED = {"late": 0.01, "highest": 1.0}  # of the first loss, at most
FINE = 80  # points of theory's curves
FLOOR = -3.0  # log10 of the lowest loss that has a colour of its own
LEVEL_LINE: dict[str, Any] = {"color": "#888888", "linewidth": 0.8, "linestyle": (0, (1, 2))}


# ---------------------------------------------------------------------------------------------- modes


def modes(study: Study) -> Picture:
    """Left: a mode's strength over depth times t, for nets of several depths.  Right: when it is learned, over the depth, for several strengths."""
    everything = Cell.of(study.runs)
    by_strength = {float(values["data.strength"]): cell for values, cell in everything.each(["data.strength"])}
    figure, (left, right) = panels(2, 2.6)
    shown = max(by_strength)
    nets = {run.config.depth: run for run in by_strength[shown].one_by_one()}
    colours = Colours(sorted(nets), "depth $D$", lambda depth: f"$D$ = {depth}", scale="log")
    ends = []
    for depth, run in sorted(nets.items()):
        ends.append(1.6 * depth * learning_time(run, FRACTION).value)
        _draw_mode(left, run, colours[depth])
    left.set(
        xlim=(0, max(ends)), ylim=(0, 1.05 * shown), xlabel="depth × steps × learning rate, $D\\,t$", ylabel=f"strength $u$, to become {shown:g}"
    )
    for number, (strength, cell) in enumerate(sorted(by_strength.items())):
        _draw_learning_times(right, cell, strength, "os^vD"[number % 5])
    _depth_axis(right, sorted(nets))
    right.set(yscale="log", xlabel="depth $D$", ylabel=f"$D\\,t$ at which $u$ = {FRACTION:g} $s$")
    right.margins(y=0.15)
    right.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    right.yaxis.set_minor_formatter(FuncFormatter(lambda y, _: f"{y:g}" if round(y) in (1, 2, 3, 5, 8) else ""))
    limit = Line2D([], [], label=r"$D \to \infty$", **LEVEL_LINE)
    colours.explain(figure, [left, right], [theory_handle(), limit])
    notes = (
        "u is told by the loss, n (s − u)²/2 with n inputs.",
        "Theory: du/dt = D u^(2 − 2/D) (s − u), t being steps times learning rate; both panels show D t, for the learning rates fall like 1/D.",
    )
    return Picture(figure, _modes_sentence(everything), notes, numbers=as_drawn(figure))


def _draw_mode(ax: Axes, run: Cell, colour: Any) -> None:
    times, strengths = mode_strengths(run)
    found = aligned(run.config)
    assert found is not None
    depth, (s, u0) = run.config.depth, found
    ax.plot(depth * times, strengths, color=colour, linewidth=2.2, label=f"D = {depth}")
    end = float(times[-1])
    fine = np.linspace(0.0, end, 8 * FINE)
    draw_theory(ax, depth * fine, linear.mode_strength(fine, depth, s, u0))


def _draw_learning_times(ax: Axes, cell: Cell, strength: float, marker: str) -> None:
    found = {run.config.depth: run.config.depth * learning_time(run, FRACTION).value for run in cell.one_by_one()}
    depths = sorted(found)
    known = aligned(cell.config)
    assert known is not None
    u0 = known[1]
    fine = np.geomspace(depths[0], depths[-1], FINE)
    draw_theory(ax, fine, [depth * linear.time_to(FRACTION, depth, strength, u0) for depth in fine])
    limit = linear.limit_time(FRACTION, strength, u0)
    ax.plot(depths, [found[depth] for depth in depths], color="C0", marker=marker, linestyle="", label=f"s = {strength:g}")
    ax.axhline(limit, **LEVEL_LINE)
    ax.text(0.99, limit, f"$s$ = {strength:g}", transform=ax.get_yaxis_transform(), ha="right", va="bottom", fontsize=8)


def _modes_sentence(cell: Cell) -> str:
    offs: dict[int, float] = {}
    for run in cell.one_by_one():
        found = aligned(run.config)
        assert found is not None
        theory = linear.time_to(FRACTION, run.config.depth, *found)
        offs[run.config.depth] = max(offs.get(run.config.depth, 0.0), abs(learning_time(run, FRACTION).value / theory - 1.0))
    return (
        f"Nets of {words.listing(map(str, sorted(offs)))} layers have learned {words.percent(FRACTION)} of a mode at the time that theory says; "
        f"the farthest of them is {100 * max(offs.values()):.2g} % off."
    )


# ---------------------------------------------------------------------------------------------- steps over depth


def steps_over_depth(study: Study) -> Picture:
    """Steps to a loss at the best learning rate, and that rate, over the depth: orthogonal and Gaussian weights."""
    everything = Cell.of(study.runs)
    figure, (left, right) = panels(2, 2.6)
    depths = sorted({int(values["depth"]) for values, _ in everything.each(["depth"])})
    handles, given, means = [], everything.config.steps, {}
    for number, (values, cell) in enumerate(everything.each(["init"])):
        name, colour = NAMES.get(str(values["init.name"]), str(values["init.name"])), f"C{number}"
        by_depth = {int(inner["depth"]): first_steps(part, LEVEL, WINDOW) for inner, part in cell.each(["depth"])}
        fastest = {int(inner["depth"]): _fastest(part) for inner, part in cell.each(["depth"])}
        means[name] = _draw_seeds(left, by_depth, colour, name)
        _draw_seeds(right, fastest, colour, name)
        handles.append(Line2D([], [], color=colour, marker="o", label=name))
    left.axhline(given, **LEVEL_LINE)
    left.text(0.01, given, "not within so many", transform=left.get_yaxis_transform(), va="bottom", fontsize=7, color="#666666")
    for ax, label in ((left, f"steps to a loss of {LEVEL:g}"), (right, "learning rate that took fewest")):
        _depth_axis(ax, depths)
        ax.set(yscale="log", xlabel="depth $D$", ylabel=label)
        ax.margins(y=0.12)
    rates = sorted({run.config.lr for run in everything.one_by_one()})
    right.yaxis.set_major_locator(FixedLocator(rates))
    right.yaxis.set_minor_locator(NullLocator())
    right.yaxis.set_major_formatter(FuncFormatter(lambda lr, _: f"{lr:g}"))
    legend(figure, handles)
    notes = (
        f"A loss is the mean of {WINDOW} batches. Dots: seeds; lines: their geometric means.",
        "A seed that gets there at no learning rate counts with all its steps, on the dotted line, and has no dot on the right.",
    )
    ends = [f"{found[depths[0]]:,.0f} to {found[depths[-1]]:,.0f} with {name} weights" for name, found in means.items()]
    sentence = f"Between {depths[0]} and {depths[-1]} layers the steps to a loss of {LEVEL:g} go from {words.listing(ends)}."
    return Picture(figure, sentence, notes, numbers=as_drawn(figure))


NAMES = {"gaussian": "Gaussian"}


def _fastest(cell: Cell) -> dict[int, float]:
    """By seed, the learning rate that took fewest steps; without those seeds that never got there."""
    found: dict[int, tuple[float, float]] = {}
    for run in cell.one_by_one():
        ((seed, steps),) = first_steps(run, LEVEL, WINDOW).items()
        if steps < min(run.config.steps, found.get(seed, (np.inf, 0.0))[0]):
            found[seed] = (steps, run.config.lr)
    return {seed: lr for seed, (_, lr) in found.items()}


def _draw_seeds(ax: Axes, by_depth: Mapping[int, Mapping[int, float]], colour: str, name: str) -> dict[int, float]:
    """A dot per seed, a line through the geometric means, which are returned."""
    means = {depth: float(np.exp(np.mean(np.log(list(found.values()))))) for depth, found in by_depth.items() if found}
    for depth, found in by_depth.items():
        ax.plot([depth] * len(found), list(found.values()), color=colour, marker="o", markersize=3, alpha=0.5, linestyle="", label="_seeds")
    ax.plot(list(means), list(means.values()), color=colour, label=name)
    return means


# ---------------------------------------------------------------------------------------------- rates over depth


def rates_over_depth(study: Study) -> Picture:
    """The loss after the last step as a colour over depth and learning rate, with the edge of learning and theory's laws: a panel per data set."""
    parts = sorted(((str(values["data.name"]), cell) for values, cell in Cell.of(study.runs).each(["data"])), key=lambda part: part[0] != "linear")
    figure, axes = panels(len(parts), 3.0)
    drawn: list[str] = []
    for ax, (name, cell) in zip(axes, parts, strict=True):
        images = {int(values["depth"]): _final_losses(part) for values, part in cell.each(["depth"])}
        _draw_losses(figure, ax, images)
        drawn.append(_draw_edges(ax, cell, name))
        ax.set(xlabel="depth $D$", ylabel=r"learning rate $\eta$", title=TITLES.get(name, name))
    handles: list[Artist] = [
        Line2D([], [], color="black", label="theory: largest rate, 2/λ"),
        Line2D([], [], color="black", linestyle=(0, (5, 3)), label="best in the end, 1/λ"),
        Line2D([], [], color="#D55E00", marker="o", markeredgecolor="white", linestyle="", label="measured: edge"),
        Line2D([], [], color="white", marker="*", markersize=8, markeredgecolor="black", linestyle="", label=f"best after {AFTER} steps"),
    ]
    legend(figure, handles)
    notes = (
        "λ: the largest eigenvalue of the Hessian: of aligned modes, at their end; of orthogonal nets, at their start.",
        "Edge: of aligned modes, the loss comes to a hundredth of the first one; on digits, it never rises above the first one.",
        "Grey: diverged, or no such run. Colours and marks are geometric means over seeds.",
    )
    return Picture(figure, " ".join(drawn), notes, numbers=as_drawn(figure))


TITLES = {"linear": "white inputs, aligned weights", "digits": "digits, orthogonal weights"}


def _final_losses(cell: Cell) -> dict[float, float]:
    """log10 of the last loss over the first one by learning rate, mean over seeds; inf where one diverged."""
    found: dict[float, list[float]] = {}
    for run in cell.one_by_one():
        found.setdefault(run.config.lr, []).append(float(np.log10(max(reached(run, "final"), 1e-300))))
    return {lr: float(np.mean(values)) for lr, values in sorted(found.items())}


def _draw_losses(figure: Figure, ax: Axes, images: Mapping[int, Mapping[float, float]]) -> None:
    depths, rates = sorted(images), sorted({lr for image in images.values() for lr in image})
    values = np.array([[images[depth].get(lr, np.nan) for depth in depths] for lr in rates])
    known = values[np.isfinite(values)]
    low = max(FLOOR, float(known.min())) if known.size else FLOOR
    colour_map = ListedColormap(np.asarray(_viridis()(np.linspace(0.0, 1.0, 256)))).with_extremes(bad="#bbbbbb")
    mesh = ax.pcolormesh(
        _edges(depths), _edges(rates), np.ma.masked_invalid(values), cmap=colour_map, vmin=low, vmax=min(0.5, float(known.max(initial=0.1)))
    )
    _depth_axis(ax, depths)
    ax.set_yscale("log")
    ax.grid(visible=False)
    bar = figure.colorbar(mesh, ax=ax, pad=0.02, aspect=25, extend="min" if known.size and known.min() < low else "neither")
    bar.ax.set_ylabel("last loss over the first", fontsize=8)
    decade_axis(bar.ax.yaxis)


def _viridis() -> Callable[..., Any]:
    from matplotlib import colormaps

    return colormaps["viridis_r"]


def _edges(values: list[int] | list[float]) -> Float64s:
    """Borders of cells around values that are spaced by a factor."""
    logs = np.log(np.asarray(values, np.float64))
    gaps = np.diff(logs) if len(logs) > 1 else np.array([1.0])
    borders = np.concatenate([[logs[0] - gaps[0] / 2], logs[:-1] + gaps / 2 if len(logs) > 1 else [], [logs[-1] + gaps[-1] / 2]])
    return np.asarray(np.exp(borders), np.float64)


def _draw_edges(ax: Axes, cell: Cell, name: str) -> str:
    """The law's lines and the measured edges, and what they say."""
    of = "late" if name == "linear" else "highest"
    depths, edges, bests, laws = [], [], [], []
    for values, part in cell.each(["depth"]):
        depths.append(int(values["depth"]))
        edges.append(_geometric_mean(largest_lrs(part, LEARNED[of], of)))  # type: ignore[arg-type]
        bests.append(_geometric_mean(best_lrs(part, AFTER)))
        laws.append(2.0 / sharpness(part.config))
    ax.plot(depths, laws, color="black", linewidth=1.2, label="2/λ")
    ax.plot(depths, [law / 2.0 for law in laws], color="black", linewidth=1.0, linestyle=(0, (5, 3)), label="1/λ")
    ax.plot(depths, edges, "o", color="#D55E00", markeredgecolor="white", markersize=6, label="edge")
    ax.plot(depths, bests, "*", color="white", markeredgecolor="black", markersize=8, label="best")
    edge, best = (float(np.exp(np.mean(np.log(np.divide(found, laws))))) for found in (edges, bests))
    return (
        f"With {TITLES.get(name, name)} the edge goes from {words.number(edges[0])} at {depths[0]} layers to {words.number(edges[-1])} at "
        f"{depths[-1]}, {words.number(edge)} times theory's on average, and the best rate is {words.number(best)} times that of theory's edge."
    )


def _geometric_mean(found: Mapping[int, float]) -> float:
    return float(np.exp(np.mean(np.log(list(found.values())))))


def _depth_axis(ax: Axes, depths: list[int]) -> None:
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator([float(depth) for depth in depths]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda depth, _: f"{depth:g}"))


FIGURES: dict[str, Callable[[Study], Picture]] = {"modes": modes, "steps_over_depth": steps_over_depth, "rates_over_depth": rates_over_depth}
