"""Pairs of learning rates that train and pairs that don't, in the style of Sohl-Dickstein 2024, and boxes counted along the border."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from scipy.stats import rankdata

from bpexp.core.arrays import Float64s
from bpexp.measures.boundary import Piece, box_counts, box_sizes, dimension, pieces
from bpexp.measures.cell import Cell, Measured
from bpexp.report import words
from bpexp.report.numbers import as_drawn
from bpexp.report.picture import WIDTH, Picture, decade_axis
from bpexp.report.selection import Study

__all__ = ["FIGURES", "trainability_border"]

X, Y = "lr", "output_lr"
MOST_SHOWN = 3  # pictures; smaller pieces are told by their dimension
SMOOTH: dict[str, Any] = {"color": "#222222", "linestyle": (0, (1, 2)), "linewidth": 1.0}
SHADES = (0.15, 1.0)  # of a phase, from fast to slow
DARK_AND_LIGHT = (("Blues", 1), ("Oranges", -1))  # converges, diverges; both are told apart with every common colour blindness


@dataclass(frozen=True, eq=False)
class Plane(Piece):
    """Nets that differ in their two learning rates alone, x and y being log10 of them."""

    name: str

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top of the squares around the pairs."""
        halves = [(axis[-1] - axis[0]) / (len(axis) - 1) / 2.0 for axis in (self.x, self.y)]
        return self.x[0] - halves[0], self.x[-1] + halves[0], self.y[0] - halves[1], self.y[-1] + halves[1]

    @property
    def span(self) -> float:
        """Decades a side."""
        return float(self.x[-1] - self.x[0])

    @property
    def title(self) -> str:
        return f"{self.name}, {len(self.y)} × {len(self.x)} nets"

    @property
    def about(self) -> str:
        return f"{self.name}, {self.span:.2g} decades"

    def shades(self) -> Float64s:
        """From 0 (converges fast) to 1/2 (slowly), and on from 1/2 (diverges slowly) to 1 (fast), by rank within either phase."""
        found = np.empty(self.values.shape)
        for phase, mirror in ((self.phases, False), (~self.phases, True)):
            if phase.any():
                slowness = rankdata(np.abs(self.values[phase])) / phase.sum()
                found[phase] = 1.0 - slowness / 2.0 if mirror else slowness / 2.0 - 1e-6
        return found


def planes(study: Study) -> list[Plane]:
    """The study's grids, those of most nets first; grids with gaps are left out."""
    cell, others = Cell.of(study.runs), [key.name for key in study.varying if key.name not in (X, Y)]
    found = []
    for _, part in cell.each(others):
        name = str(part.config.activation)
        found += [Plane(np.log10(piece.x), np.log10(piece.y), piece.values, name) for piece in pieces(part, X, Y)]
    return sorted((plane for plane in found if plane.whole and min(plane.values.shape) > 1), key=lambda plane: -plane.values.size)


def trainability_border(study: Study) -> Picture:
    """Learning rates of the two layers, coloured by how fast the net converges or diverges; boxes over their size; dimensions along the border."""
    everything = planes(study)
    shown = sorted(everything[:MOST_SHOWN], key=lambda plane: (-plane.span, -plane.values.size))
    places = sorted(everything[MOST_SHOWN:], key=lambda plane: plane.x[0])
    count = len(shown) + 1 + bool(places)
    rows = -(-count // 2)
    figure = Figure(figsize=(WIDTH, 2.9 * rows + 0.4))
    axes = list(figure.subplots(rows, 2, squeeze=False).ravel())
    for empty in axes[count:]:
        empty.remove()
    for ax, plane in zip(axes, shown, strict=False):
        _draw(ax, plane)
        for other in shown:
            _frame(ax, plane, other)
    dimensions = [dimension(plane.phases) for plane in shown]
    _counts(axes[len(shown)], shown, dimensions)
    if places:
        _along(axes[count - 1], places, [plane.name for plane in shown])
    bar = figure.colorbar(ScalarMappable(cmap=_colours()), ax=axes[:count], aspect=40, pad=0.02)
    bar.set_ticks([0.02, 0.46, 0.54, 0.98], labels=["converges\nfast", "converges\nslowly", "diverges\nslowly", "diverges\nfast"])
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)
    notes = (
        "One net, from the same initial weights at every pair of learning rates.",
        "Converges: the mean of the last 20 losses is below the first. Shades are by rank, dark next to the border.",
        "A black frame is where another panel lies. N(s) is the mean number of boxes, s squares a side, that hold both phases.",
    )
    return Picture(figure, _sentence(shown, dimensions, places), notes, numbers=as_drawn(figure))


def _colours() -> ListedColormap:
    """A hue for either phase, dark where they meet."""
    steps = np.linspace(*SHADES, 128)
    return ListedColormap(np.concatenate([colormaps[name](steps[::way]) for name, way in DARK_AND_LIGHT]))


def _draw(ax: Axes, plane: Plane) -> None:
    ax.imshow(plane.shades(), extent=plane.box, vmin=0.0, vmax=1.0, cmap=_colours())
    ax.set_box_aspect(1.0)
    ax.grid(visible=False)
    ax.set(title=plane.title, xlabel=r"learning rate $\eta$, hidden layer", ylabel="output layer")
    decade_axis(ax.xaxis)
    decade_axis(ax.yaxis)


def _frame(ax: Axes, plane: Plane, other: Plane) -> None:
    """Where another, smaller panel of the same nets lies."""
    left, right, bottom, top = other.box
    inside = plane.box[0] <= left and right <= plane.box[1] and plane.box[2] <= bottom and top <= plane.box[3]
    if other is not plane and other.name == plane.name and inside and other.span < plane.span:
        ax.add_patch(Rectangle((left, bottom), right - left, top - bottom, fill=False, edgecolor="black", linewidth=1.2, label="frame"))


def _counts(ax: Axes, found: list[Plane], dimensions: list[Measured]) -> None:
    """N(s), log-log, with the dimension that its slope is."""
    largest = 1
    for number, (plane, measured) in enumerate(zip(found, dimensions, strict=True)):
        sizes = box_sizes(plane.phases)
        counts = box_counts(plane.phases, sizes)
        largest = max([largest, *sizes])
        ax.plot(sizes, counts, marker="os^D"[number % 4], color=f"C{number}", label=f"{plane.about}: {_told(measured)}")
    ax.set(xscale="log", yscale="log", title="boxes that hold both", xlabel="box side $s$, squares", ylabel="$N(s)$")
    ax.set_box_aspect(1.0)
    ax.xaxis.set_major_locator(FixedLocator([2.0**k for k in range(12) if 2**k <= largest]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    low, high = ax.get_ylim()
    ax.set_ylim(low, high * (high / low) ** 0.45)  # room for the legend
    if found:
        ax.legend(loc="upper right", title="dimension", alignment="left", fontsize=7, title_fontsize=7)


def _along(ax: Axes, places: list[Plane], shown: list[str]) -> None:
    """The dimension of small pieces over where they lie along the border; colours are those of the counts of the same nets, where there are some."""
    last = {name: number for number, name in enumerate(shown)}
    for name in dict.fromkeys(plane.name for plane in places):
        number = last.setdefault(name, len(shown) + len(last))
        own = [plane for plane in places if plane.name == name]
        measured = [dimension(plane.phases) for plane in own]
        x, y = [float(plane.x.mean()) for plane in own], [each.value for each in measured]
        ax.plot(x, y, marker="os^D"[number % 4], color=f"C{number}", linewidth=0.8, label=name)
    ax.axhline(1.0, label="smooth", **SMOOTH)
    ax.set(title="dimension along the border", xlabel=r"learning rate $\eta$, hidden layer", ylabel="box-counting dimension")
    ax.set_box_aspect(1.0)
    decade_axis(ax.xaxis)
    ax.legend(loc="upper left", fontsize=7)


def _told(measured: Measured) -> str:
    around = f" ± {measured.error:.2f}" if measured.error > 0 else ""
    return f"{measured.value:.2f}{around}" if measured.value == measured.value else "no border"


def _sentence(shown: list[Plane], dimensions: list[Measured], places: list[Plane]) -> str:
    if not shown:
        return "No pairs of learning rates form a grid."
    parts = [f"{_told(measured)} ({plane.about} a side)" for plane, measured in zip(shown, dimensions, strict=True)]
    text = f"The border between learning rates that train and those that don't has a box-counting dimension of {words.listing(parts)}."
    names = dict.fromkeys(plane.name for plane in places)
    medians = [Measured.median([dimension(plane.phases).value for plane in places if plane.name == name]).value for name in names]
    told = words.listing(f"{median:.2f} ({name})" for name, median in zip(names, medians, strict=True))
    return f"{text} Its median over places along the border: {told}." if names else text


FIGURES: dict[str, Callable[[Study], Picture]] = {"trainability_border": trainability_border}
