"""Figures after Glorot & Bengio 2010: how the top hidden layer of a sigmoid net saturates, and what standard weights do to the two gradients."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from bpexp.measures.cell import Cell
from bpexp.measures.over_steps import first_passage
from bpexp.measures.speeds import profiles
from bpexp.prediction import predict
from bpexp.report import words
from bpexp.report.colours import Colours
from bpexp.report.numbers import as_drawn
from bpexp.report.picture import Picture, count_axis, decade_axis, legend, panels
from bpexp.report.predicted import draw_theory, theory_handle
from bpexp.report.selection import Study

__all__ = ["FIGURES", "delta_and_gradient", "saturation"]

DOTS: dict[str, Any] = {"linestyle": "", "marker": "o", "zorder": 3}
ESCAPED = 0.5  # of the test samples right: the net has left the plateau
NORMS = {"log10_delta_norm": (r"$\|\delta\|$", "C0"), "log10_grad_norm": (r"$\|\nabla W\|$", "C1")}


def saturation(study: Study) -> Picture:
    """Mean and standard deviation of each hidden layer's activations over the steps, and the test accuracy, a panel per depth (their figure 2)."""
    runs = [run for run in _sigmoid_nets(study) if run.config.depth > 2]
    figure, axes = panels(len(runs), 2.4, sharey=True)
    deepest = max(run.config.depth for run in runs)
    colours = Colours(range(1, deepest), "hidden layer", lambda layer: f"hidden layer {layer}")
    for ax, run in zip(axes, runs, strict=True):
        for layer in range(1, run.config.depth):
            frame = run.layers[run.layers["layer"] == layer]
            steps, mean, std = (frame[name].to_numpy(np.float64) for name in ("step", "activation_mean", "activation_std"))
            ax.plot(steps, mean, color=colours[layer], label=f"layer {layer}")
            ax.fill_between(steps, mean - std, mean + std, color=colours[layer], alpha=0.15, linewidth=0)
        probed = run.curves.dropna(subset=["accuracy_test"])
        ax.plot(probed["step"], probed["accuracy_test"], color="black", linewidth=1, linestyle=(0, (1, 1.5)), label="accuracy")
        ax.set_xscale("symlog", linthresh=10, linscale=0.3)
        ax.set_xlim(0, run.config.steps)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
        ax.set_title(words.count(run.config.depth - 1, "hidden layer"))
    axes[0].set_ylim(0.0, 1.0)
    figure.supxlabel("training step (logarithmic from 10)")
    figure.supylabel("activation")
    accuracy = Line2D([], [], color="black", linewidth=1, linestyle=(0, (1, 1.5)), label="test accuracy")
    colours.explain(figure, axes, [accuracy])
    notes = ("Lines are means over samples and neurons, bands reach one standard deviation to either side.",)
    return Picture(figure, _saturation_sentence(runs), notes, numbers=as_drawn(figure))


def _sigmoid_nets(study: Study) -> list[Cell]:
    """The first trained run of each depth."""
    trained = [run for run in Cell.of(study.runs).where({"activation": "sigmoid"}).one_by_one() if run.config.steps > 0]
    by_depth: dict[int, Cell] = {}
    for run in trained:
        by_depth.setdefault(run.config.depth, run)
    return [by_depth[depth] for depth in sorted(by_depth)]


def _saturation_sentence(runs: Sequence[Cell]) -> str:
    """When each leaves the plateau."""
    parts = []
    for run in runs:
        left = first_passage(run.curves, "accuracy_test", above=ESCAPED)
        hidden = words.count(run.config.depth - 1, "hidden layer")
        parts.append(f"{hidden} after {left:,.0f} updates" if np.isfinite(left) else f"{hidden} not within {run.config.steps:,}")
    return f"Half of the test samples are right with {words.listing(parts)}."


def delta_and_gradient(study: Study) -> Picture:
    """One sample's ||delta|| and ||dL/dW|| by layer in untrained tanh nets, over those of the last hidden layer (their figures 7 and 8)."""
    cell = Cell.of(study.runs).where({"activation": "tanh", "steps": 0})
    figure, (ax,) = panels(1)
    prediction, hidden = predict(cell.config), list(range(1, cell.config.depth))
    changes = {}
    for column, (label, colour) in NORMS.items():
        found = profiles(cell, column)[:, :-1]
        found = found - found[:, -1:]
        mean, std = found.mean(axis=0), found.std(axis=0)
        ax.plot(hidden, mean, color=colour, label=label, **DOTS)
        ax.fill_between(hidden, mean - std, mean + std, color=colour, alpha=0.2, linewidth=0)
        changes[label] = float(mean[1])
        if prediction is not None:
            line = prediction.log10_norm(column)[:-1]
            draw_theory(ax, hidden, line - line[-1])
    ax.set(xlabel="hidden layer, from the input to the output", ylabel="norm over that of the last hidden layer")
    count_axis(ax.xaxis)
    decade_axis(ax.yaxis)
    handles = [Line2D([], [], color=colour, label=label, **DOTS) for label, colour in NORMS.values()]
    legend(figure, [*handles, theory_handle()])
    told = words.listing(f"{words.change(change)} ({name})" for name, change in zip(("δ", "∇W"), changes.values(), strict=True))
    sentence = f"From the last hidden layer back to the second, the norm of one sample's gradient {told}."
    draws = words.count(len(cell.frame), "draw")
    notes = (f"Means of logarithms over {draws} of the weights; bands reach one standard deviation to either side.",)
    return Picture(figure, sentence, notes, numbers=as_drawn(figure))


FIGURES: dict[str, Callable[[Study], Picture]] = {"saturation": saturation, "delta_and_gradient": delta_and_gradient}
