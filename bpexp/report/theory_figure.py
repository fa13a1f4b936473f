"""The figure of `python -m bpexp.theory`: the predicted norms of deltas and gradients over the layers."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bpexp.report.picture import count_axis, decade_axis, legend, panels
from bpexp.report.theory_numbers import Net
from bpexp.theory.limits import floors

__all__ = ["predicted_profile"]

DASHES: dict[str, Any] = {"color": "C1", "linestyle": (0, (5, 3)), "linewidth": 1.1}
FLOOR: dict[str, Any] = {"color": "black", "linestyle": ":", "linewidth": 0.8}


def predicted_profile(net: Net) -> Figure:
    """Norms relative to the last layer's, a panel for each; dashed where the layers are as narrow as they are."""
    figure, axes = panels(2, 2.4, sharey=True)
    layers, wide, lost = np.arange(1, net.config.depth + 1), net.profile, net.lost
    lines = (
        (r"error $\|\delta\|$", wide.log10_delta, lost.delta if lost else None),
        (r"gradient $\|\nabla W\|$", wide.log10_grad, lost.grad if lost else None),
    )
    for ax, (name, line, taken) in zip(axes, lines, strict=True):
        ax.set_title(name)
        ax.plot(layers, line - line[-1], color="C0", label="wide")
        if taken is not None:
            ax.plot(layers, line - line[-1] - (taken - taken[-1]), label="narrow", **DASHES)
        count_axis(ax.xaxis)
        decade_axis(ax.yaxis)
    it = net.config
    handles = [
        Line2D(
            [],
            [],
            color="C0",
            label=f"{it.activation}, $\\sigma_w^2$ = {it.sigma_w2:g}, $\\sigma_b^2$ = {it.sigma_b2:g}{', wide layers' if lost else ''}",
        )
    ]
    if lost:
        handles.append(Line2D([], [], label=f"typical net, $N$ = {it.width:,}", **DASHES))
    floor = floors("float32").zero
    if axes[0].get_ylim()[0] < floor:
        for ax in axes:
            ax.axhline(floor, label="floor", **FLOOR)
        handles.append(Line2D([], [], label="0 in float32 from here on", **FLOOR))
    figure.supxlabel("layer, from the input to the output")
    figure.supylabel("norm over that of the last layer")
    legend(figure, handles)
    return figure
