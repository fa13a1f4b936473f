"""The figure of `python -m bpexp.theory`: the predicted norms of deltas and gradients over the layers."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bpexp.report.picture import count_axis, decade_axis, legend, panels
from bpexp.report.theory_numbers import Net
from bpexp.theory.limits import floors

__all__ = ["predicted_profile"]


def predicted_profile(net: Net) -> Figure:
    """Norms relative to the last layer's; dashed where the layers are as narrow as they are."""
    figure, (ax,) = panels(1)
    layers, wide, lost = np.arange(1, net.config.depth + 1), net.profile, net.lost
    handles = []
    for colour, label, line, taken in (
        ("C0", r"error $\|\delta\|$", wide.log10_delta, lost and lost.delta),
        ("C1", r"gradient $\|\nabla W\|$", wide.log10_grad, lost and lost.grad),
    ):
        ax.plot(layers, line - line[-1], color=colour, label="wide" + label)
        if taken is not None:
            ax.plot(layers, line - line[-1] - (taken - taken[-1]), color=colour, linestyle=(0, (4, 2)), linewidth=1.0, label="narrow" + label)
        handles.append(Line2D([], [], color=colour, label=label))
    if lost is not None:
        handles.append(Line2D([], [], color="#444444", linestyle=(0, (4, 2)), linewidth=1.0, label=f"typical net, $N$ = {net.config.width:,}"))
    smallest = floors("float32").zero
    if ax.get_ylim()[0] < smallest:
        ax.axhline(smallest, color="black", linewidth=0.8, linestyle=":", label="float32")
        handles.append(Line2D([], [], color="black", linewidth=0.8, linestyle=":", label="0 in float32 from here on"))
    count_axis(ax.xaxis)
    decade_axis(ax.yaxis)
    ax.set_xlabel("layer, from the input to the output")
    ax.set_ylabel("norm over that of the last layer")
    it = net.config
    ax.set_title(rf"{it.activation}, $\sigma_w^2$ = {it.sigma_w2:g}, $\sigma_b^2$ = {it.sigma_b2:g}")
    legend(figure, handles)
    return figure
