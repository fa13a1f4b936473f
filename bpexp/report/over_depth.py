"""The picture of the work: summing over all paths against backpropagation."""

from functools import lru_cache
from math import log10

import pandas as pd
from matplotlib.lines import Line2D

from bpexp.core.paths import count_multiplications
from bpexp.report import words
from bpexp.report.picture import Picture, count_axis, decade_axis, legend, panels
from bpexp.report.selection import Study, spread

__all__ = ["multiplications", "paths_against_backprop"]

NEURONS = 3  # in every layer, input and output included
DEEPEST_COUNTED = 8  # a path at a time: one layer more takes four times as long
SHALLOWEST_END = 20


@lru_cache
def counted(depth: int) -> tuple[int, int]:
    """Multiplications of the sum over all paths and of backpropagation, counted as they happen."""
    return count_multiplications((NEURONS,) * (depth + 1))


def multiplications(depth: int, n: int = NEURONS) -> tuple[int, int]:
    """The same by formula, for n neurons in each layer.

    Paths: each of the n² weights of layer k starts n^(L-k) paths of 2 (L-k) + 2 factors, and takes one more product with its input.
    Backpropagation: n for the last delta, n² per layer for the weights, n² + n per layer for handing delta back.
    """
    paths = sum(n * n * (n**after * (2 * after + 1) + 1) for after in range(depth))
    return paths, n + depth * n * n + (depth - 1) * (n * n + n)


def paths_against_backprop(study: Study) -> Picture:
    """Number of multiplications over the depth, on a logarithmic axis: counted where that is feasible, by formula beyond."""
    depths = [int(depth) for depth in study.frame["depth"].dropna()]
    deepest = max([*depths, SHALLOWEST_END])
    line = spread(range(1, deepest + 1), 100)
    dots = range(1, DEEPEST_COUNTED + 1)
    figure, (ax,) = panels(1)
    colours = ("C1", "C0")
    for way, colour in enumerate(colours):
        ax.plot(line, [log10(multiplications(depth)[way]) for depth in line], color=colour, label=f"formula {way}")
        ax.plot(dots, [log10(counted(depth)[way]) for depth in dots], "o", color=colour, label=f"counted {way}")
    count_axis(ax.xaxis)
    decade_axis(ax.yaxis)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("depth $L$")
    ax.set_ylabel("multiplications for one gradient")
    names = ("every path by itself", "backpropagation")
    handles = [Line2D([], [], color=colour, marker="o", label=name) for colour, name in zip(colours, names, strict=True)]
    legend(figure, handles)
    notes = (f"{NEURONS} neurons in every layer, one sample. Dots were counted, multiplication by multiplication; lines continue them by formula.",)
    drawn = [
        {"depth": depth, "way": name, "told_by": how, "log10_multiplications": log10(count(depth)[way])}
        for how, places, count in (("formula", line, multiplications), ("count", dots, counted))
        for way, name in enumerate(names)
        for depth in places
    ]
    return Picture(figure, _sentence(max(depths, default=deepest)), notes, numbers=pd.DataFrame(drawn))


def _sentence(depth: int) -> str:
    """What both ways cost at the study's greatest depth."""
    paths, backprop = multiplications(depth)
    ratio = log10(paths) - log10(backprop)
    how = "counted" if depth <= DEEPEST_COUNTED else "by formula"
    work = f"{paths:,}" if paths < 10**9 else _large(log10(paths))
    more = "as many" if ratio == 0 else f"{_large(ratio)} times as many"
    both = f"the sum over all paths takes {work} multiplications and backpropagation {backprop:,} ({how})"
    return f"At depth {depth} {both}, {more} for the same gradient."


def _large(exponent: float) -> str:
    """10**exponent, also where that is beyond a float."""
    if exponent < 6:
        return words.number(10.0**exponent)
    return f"{10 ** (exponent % 1):.2g} × {words.power(int(exponent // 1))}"
