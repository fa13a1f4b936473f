"""Figures of isometry: the singular values of a net's Jacobian over the depth, and how fast nets learn with and without it."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.lines import Line2D

from bpexp.config import RunConfig
from bpexp.core.arrays import Float64s
from bpexp.measures.cell import Cell
from bpexp.measures.dynamics import first_steps
from bpexp.measures.jacobian import predicted_variances
from bpexp.prediction import orthogonal
from bpexp.report import words
from bpexp.report.colours import Colours
from bpexp.report.intervals import TOLD
from bpexp.report.numbers import as_drawn
from bpexp.report.over_steps import smoothed
from bpexp.report.picture import Picture, band, decade_axis, legend, over_runs, panels
from bpexp.report.predicted import draw_theory, theory_handle
from bpexp.report.selection import Study

__all__ = ["FIGURES", "isometric_learning", "singular_values", "singular_variances"]

NEAR = 3.0  # factor
VIEW = (-3.0, 1.5)  # decades of singular values
LEVEL, WINDOW = 0.3, 10  # of the loss, mean of so many batches: learned
HALF = 5  # a point that is drawn is the mean of 2 HALF + 1 losses
VARIANCE = "jacobian_variance"


def family(config: RunConfig) -> str:
    """Activation and ensemble of the weights: tanh, orthogonal."""
    return f"{config.activation}, {'orthogonal' if orthogonal(config) else 'Gaussian'}"


def _families(cell: Cell) -> dict[str, Cell]:
    """The runs of each, in the order of the sweep."""
    found: dict[str, list[str]] = {}
    for run in cell.one_by_one():
        found.setdefault(family(run.config), []).append(run.frame["run_id"].iloc[0])
    return {name: Cell(cell.study, cell.frame[cell.frame["run_id"].isin(runs)]) for name, runs in found.items()}


def singular_values(study: Study) -> Picture:
    """The distribution of the singular values of J to the last hidden layer at several depths: a panel per family of nets."""
    families = _families(Cell.of(study.runs))
    figure, axes = panels(len(families), 2.2, sharex=True, sharey=True)
    depths = sorted({run.config.depth - 1 for cell in families.values() for run in cell.one_by_one()})
    colours = Colours(depths, "hidden layers", lambda depth: f"{depth} layers", scale="log")
    told = []
    for ax, (name, cell) in zip(axes, families.items(), strict=True):
        found = {}
        for values, part in cell.each(["depth"]):
            hidden = int(values["depth"]) - 1
            found[hidden] = np.sort(_last_spectrum(part, hidden))
            ax.plot(found[hidden], np.arange(1, len(found[hidden]) + 1) / len(found[hidden]), color=colours[hidden], label=f"{hidden} layers")
        told.append(f"{words.percent(_near(found[depths[-1]]))} ({name})")
        ax.set_title(name)
    axes[0].set(xlim=VIEW, ylim=(0, 1))
    decade_axis(axes[0].xaxis)
    figure.supxlabel("singular value $s$ of the Jacobian from the input to the last hidden layer")
    figure.supylabel("share of singular values below $s$")
    colours.explain(figure, axes)
    sentence = (
        f"After {depths[-1]} layers the singular values within a factor of {NEAR:g} of their root mean square are {words.listing(told)} of all."
    )
    notes = (
        "Isometry would be a step from 0 to 1 in a single place; the singular values that a line starts above lie further to the left.",
        f"Of {words.count(len(families[next(iter(families))].where({'depth': depths[-1] + 1}).frame), 'net')} each, and their first samples.",
    )
    return Picture(figure, sentence, notes, numbers=as_drawn(figure))


def _near(log10_values: Float64s) -> float:
    """The share of values within the factor of their root mean square."""
    mean = 0.5 * np.log10(np.mean(10.0 ** (2.0 * log10_values)))
    return float(np.mean(np.abs(log10_values - mean) < np.log10(NEAR)))


def _last_spectrum(cell: Cell, layer: int) -> Float64s:
    frame = cell.spectra
    return frame.loc[frame["layer"] == layer, "log10_singular_value"].to_numpy(np.float64)


def singular_variances(study: Study) -> Picture:
    """The relative variance of the squared singular values of J over the layers of the deepest nets, with theory's sums: all families in a panel."""
    everything = Cell.of(study.runs)
    deepest = everything.where({"depth": int(everything.frame["depth"].max())})
    figure, (ax,) = panels(1)
    handles: list[Artist] = []
    told = []
    for number, (name, cell) in enumerate(_families(deepest).items()):
        frame = cell.layers
        hidden = cell.config.depth - 1
        table = over_runs(frame[(frame["layer"] <= hidden) & (frame["step"] == 0)], "layer", VARIANCE)
        band(ax, table, f"C{number}", name)
        theory = predicted_variances(cell)
        draw_theory(ax, np.arange(1.0, hidden + 1.0), theory)
        handles.append(Line2D([], [], color=f"C{number}", label=name))
        told.append(f"{words.number(float(table['mean'].iloc[-1]))} (theory {words.number(float(theory[-1]))}) with {name} weights")
    ax.set(xscale="log", yscale="log", xlabel="hidden layers $L$", ylabel="relative variance of $s^2$")
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    legend(figure, [*handles, theory_handle()])
    notes = (
        "Variance of the squared singular values of the Jacobian over their squared mean.",
        f"Lines are means over nets, bands {TOLD}.",
        "Theory: the sum over the layers of κ(q), less 1 with orthogonal weights, for layers much wider than there are of them.",
        f"The layers are {deepest.config.width} wide.",
    )
    return Picture(
        figure, f"After {deepest.config.depth - 1} layers the relative variance is {words.listing(told)}.", notes, numbers=as_drawn(figure)
    )


def isometric_learning(study: Study) -> Picture:
    """The training loss of each family of nets at its best learning rate."""
    figure, (ax,) = panels(1)
    handles, told = [], []
    for number, (name, cell) in enumerate(_families(Cell.of(study.runs)).items()):
        lr, runs = _at_the_best(cell)
        colour = f"C{number}"
        curves = pd.concat([_smooth(run) for run in runs.one_by_one()])
        band(ax, over_runs(curves, "step", "loss"), colour, name)
        steps = first_steps(runs, LEVEL, WINDOW)
        reached = all(value < runs.config.steps for value in steps.values())
        mean = float(np.mean(list(steps.values())))
        told.append(f"{mean:,.0f} steps with {name} weights" if reached else f"more than {mean:,.0f} with {name} weights")
        handles.append(Line2D([], [], color=colour, label=f"{name}, $\\eta$ = {lr:g}"))
    ax.axhline(LEVEL, color="#888888", linewidth=0.8, linestyle=(0, (1, 2)))
    ax.set(xlabel="training step", ylabel="training loss", ylim=(0, None), xlim=(0, None))
    legend(figure, handles)
    notes = (f"Of each family the learning rate with the fewest steps to the dotted line. A curve is smoothed over {2 * HALF + 1} steps; {BAND}",)
    return Picture(figure, f"A loss of {LEVEL:g}, mean of {WINDOW} batches, takes {words.listing(told)}.", notes, numbers=as_drawn(figure))


BAND = f"where a rate was run with several seeds it is their mean, and the band shows {TOLD}."


def _at_the_best(cell: Cell) -> tuple[float, Cell]:
    """The learning rate that gets to the level first, or where none does ends lowest, and the runs that have it."""
    found: dict[float, tuple[float, float]] = {}
    for values, part in cell.each(["lr"]):
        steps = float(np.mean(list(first_steps(part, LEVEL, WINDOW).values())))
        found[float(values["lr"])] = (steps, float(part.frame["final_loss"].mean()))
    best = min(found, key=found.__getitem__)
    return best, cell.where({"lr": best})


def _smooth(run: Cell) -> pd.DataFrame:
    frame = run.curves
    loss = frame["loss_train"].to_numpy(np.float64)
    steps = frame["step"].to_numpy(np.int64)
    return pd.DataFrame({"step": steps, "loss": smoothed(loss, np.arange(len(loss)), HALF)})


FIGURES: Mapping[str, Callable[[Study], Picture]] = {
    "singular_values": singular_values,
    "singular_variances": singular_variances,
    "isometric_learning": isometric_learning,
}
