"""Profiles of a study of recipes: what each of them does to the gradient on its way back."""

from collections.abc import Sequence
from functools import lru_cache
from math import inf
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bpexp.report import words
from bpexp.report.intervals import TOLD
from bpexp.report.numbers import rows, stacked
from bpexp.report.picture import WIDTH, Picture, band, count_axis, decade_axis, legend, over_runs, panels, zero_handle, zero_marks
from bpexp.report.ranking import MOST_RECIPES, SMALL, fewer, in_lines, judged_by, net
from bpexp.report.recipes import PLAIN, Standing, at_the_deepest, plain_among, standings
from bpexp.report.selection import Study

__all__ = ["recipe_panel", "recipe_profiles"]

TITLE_LENGTH = 24  # characters of a line over a panel
COLUMNS = 5
GRAD = "log10_grad_norm"
GREY = "#8c8c8c"
LEVEL = 1.0  # decades between both ends of a net: less is no more than a factor of ten
ENDS: dict[str, dict[str, Any]] = {"start": {"linestyle": "-"}, "end": {"linestyle": (0, (3, 1.5))}}
COLOURS = {"start": "C0", "end": "C1"}


def recipe_profiles(study: Study) -> Picture:
    """log10 ||dL/dW|| over the layers at the start and at the end, a panel per recipe, the plain net's behind it."""
    deepest = [standing for standing in at_the_deepest(standings(study)) if len(study.layers(standing.runs))]
    recipes, notes = fewer([standing.recipe for standing in deepest])
    plain = plain_among(deepest)
    some = sorted((standing for standing in deepest if standing.recipe in recipes), key=lambda standing: standing.recipe != PLAIN)
    titles = [in_lines(standing.recipe, TITLE_LENGTH) for standing in some]
    columns = min(COLUMNS, len(some))
    rows = -(-len(some) // columns)
    figure = Figure(figsize=(WIDTH, rows * (0.95 + 0.1 * max(title.count("\n") for title in titles)) + 1.0))
    axes = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel())
    for empty in axes[len(some) :]:
        empty.remove()
    zeros = False
    for ax in axes:
        ax.set_autoscale_on(False)  # each line would fit the axes of all panels again
    for ax, standing, title in zip(axes, some, titles, strict=False):
        zeros |= _draw_profiles(ax, standing, plain)
        ax.set_title(title, fontsize=SMALL, pad=2, linespacing=1.05)
        ax.tick_params(labelsize=SMALL)
    for ax in axes[max(0, len(some) - columns) : len(some)]:
        ax.tick_params(labelbottom=True)  # nothing stands below it
    axes[0].autoscale(axis="x")
    if _fit(axes[0], some):
        notes.append("Lines that leave the axis go on: it ends half its span beyond what the nets have at the start.")
    _finish(figure, axes[: len(some)], plain, zeros)
    return Picture(figure, _profiles_sentence(deepest), (*notes, *_profile_notes(some)), numbers=_numbers(some))


def recipe_panel(study: Study, recipe: str) -> Picture:
    """The panel of one recipe as a figure of its own, at the greatest depth that the recipe was run at."""
    named = [standing for standing in standings(study) if standing.recipe in (recipe, PLAIN) and len(study.layers(standing.runs))]
    some = next((standing for standing in reversed(named) if standing.recipe == recipe), None)
    if some is None:
        raise LookupError(f"{recipe}: no such recipe with layers in this study")
    plain = plain_among([standing for standing in named if standing.depth == some.depth])
    figure, axes = panels(1)
    zeros = _draw_profiles(axes[0], some, plain)
    axes[0].set_title(recipe)
    _finish(figure, axes, plain, zeros)
    beside = [some] if plain in (None, some) else [plain, some]
    return Picture(figure, _panel_sentence(some, plain), tuple(_profile_notes([some])), numbers=_numbers(beside))


@lru_cache(maxsize=2 * MOST_RECIPES)
def _profile(some: Standing, end: str) -> pd.DataFrame:
    """Means of log10 norms over runs by layer: at step 0, or at each run's last probed step."""
    layers = some.study.layers(some.runs)
    step = 0 if end == "start" else layers.groupby("run_id")["step"].transform("max")
    return over_runs(layers[layers["step"] == step], "layer", GRAD)


def _numbers(some: Sequence[Standing]) -> pd.DataFrame:
    told = [({"recipe": standing.recipe, "depth": standing.depth, "lr": standing.lr, "end": end}, standing) for standing in some for end in ENDS]
    return stacked(rows(GRAD, _profile(standing, common["end"]), common) for common, standing in told)


def _draw_profiles(ax: Axes, some: Standing, plain: Standing | None) -> bool:
    """The plain net's lines in grey, the recipe's over them; whether some norm of the recipe is exactly zero."""
    zeros = False
    for end, line in ENDS.items():
        if plain is not None:
            grey = _profile(plain, end)["mean"]
            ax.plot(grey.index, grey.where(np.isfinite(grey)), color=GREY, linewidth=1.1, label=f"{PLAIN}, {end}", **line)
    for end, line in ENDS.items():
        profile = _profile(some, end)
        band(ax, profile, COLOURS[end], end, **line)
        zero = profile.index[np.isneginf(profile["mean"])]
        zero_marks(ax, zero, COLOURS[end])
        zeros |= len(zero) > 0
    return zeros


def _fit(ax: Axes, some: Sequence[Standing]) -> bool:
    """Fit the vertical axis to the profiles, few of which may leave it: what some net does at the end should not flatten all others.

    Whether one leaves it.
    """
    low, high = _extent([_profile(standing, "start")["mean"] for standing in some])
    lowest, highest = _extent([_profile(standing, end)["mean"] for standing in some for end in ENDS])
    beyond = max(1.0, (high - low) / 2)
    bottom, top = max(lowest, low - beyond), min(highest, high + beyond)
    ax.set_ylim(bottom - 0.05 * (top - bottom) - 0.1, top + 0.05 * (top - bottom) + 0.1)
    return bool(lowest < bottom or highest > top)


def _extent(profiles: Sequence[pd.Series]) -> tuple[float, float]:
    values = pd.concat(profiles)
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)


def _finish(figure: Figure, axes: Sequence[Axes], plain: Standing | None, zeros: bool) -> None:
    count_axis(axes[0].xaxis)
    decade_axis(axes[0].yaxis)
    told = {"start": "at the start", "end": "at the end"}
    handles: list[Artist] = [Line2D([], [], color=COLOURS[end], label=told[end], **line) for end, line in ENDS.items()]
    if plain is not None:
        handles += [Line2D([], [], color=GREY, label=f"{PLAIN}, {told[end]}", **line) for end, line in ENDS.items()]
    legend(figure, [*handles, *([zero_handle()] if zeros else [])])
    figure.supxlabel("layer, from the input to the output")
    figure.supylabel(r"gradient norm $\|\nabla W\|$")


def _profile_notes(some: Sequence[Standing]) -> list[str]:
    notes = judged_by(some)
    return (
        [*notes, f"Lines are geometric means, the bands around them {TOLD}, over logarithms."] if max(len(s.runs.runs) for s in some) > 1 else notes
    )


def backward_change(some: Standing, end: str) -> float:
    """log10 of the first layer's gradient norm over the last one's; NaN where there is nothing to compare."""
    means = _profile(some, end)["mean"]
    first, last = means.get(1, np.nan), means.get(some.depth, np.nan)
    return float(first - last) if np.isfinite(last) and first < inf else float("nan")


def _profiles_sentence(some: Sequence[Standing]) -> str:
    changes = {standing.recipe: change for standing in some if (change := backward_change(standing, "start")) == change}
    if not changes:
        return "No untrained net has gradient norms of two layers to compare."
    level = sum(abs(change) < LEVEL for change in changes.values())
    most, least = min(changes, key=changes.__getitem__), max(changes, key=changes.__getitem__)
    parts = [f"{words.change(changes[recipe])} with {net(recipe)}" for recipe in dict.fromkeys([PLAIN, most, least]) if recipe in changes]
    start = f"At depth {some[0].depth}, before training, the gradient norm between the output layer and layer 1 {words.listing(parts)}"
    return f"{start}; it changes by less than a factor of ten with {level or 'none'} of {len(changes)} recipes."


def _panel_sentence(some: Standing, plain: Standing | None) -> str:
    """What the recipe does to the gradient at both ends of the training, and what the plain net does."""
    parts = []
    for end, told in (("start", "before training"), ("end", "at the end")):
        change = words.change(backward_change(some, end))
        beside = "" if plain is None or plain.recipe == some.recipe else f" (plain: {words.change(backward_change(plain, end))})"
        parts.append(f"{change} {told}{beside}")
    return f"At depth {some.depth} the gradient norm, from the output layer back to layer 1, {words.listing(parts)} with {net(some.recipe)}."
