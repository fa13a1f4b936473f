"""Pictures of the updates: how much a step changes each layer's weights, at the start and during training."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from bpexp.report import words
from bpexp.report.colours import Colours
from bpexp.report.numbers import of_setting, rows, stacked
from bpexp.report.over_layers import comparable, extremes, with_layers
from bpexp.report.picture import (
    Picture,
    band,
    count_axis,
    decade_axis,
    legend,
    over_runs,
    panels,
    seeds_note,
    shown,
    title,
    zero_handle,
    zero_marks,
)
from bpexp.report.selection import Setting, Study

__all__ = ["first_update", "roundoff", "update_ratio", "updates"]

ASKED, MADE = "log10_update_ratio", "log10_update_made"
SMALL = -6.0  # log10
RULE = -3.0  # log10; Karpathy, notes of Stanford's CS231n, "Neural Networks Part 3"
PLACES = {0.0: "first layer", 0.25: "¼ up", 0.5: "halfway", 0.75: "¾ up", 1.0: "last layer"}  # of the layers that are drawn
GUIDES: dict[str, dict[str, Any]] = {
    "rule of thumb": {"color": "black", "linestyle": (0, (4, 3)), "linewidth": 1, "zorder": 1.5},
    "unit roundoff": {"color": "black", "linestyle": (0, (1, 1.5)), "linewidth": 1, "zorder": 1.5},
}


def first_update(study: Study) -> Picture:
    """How much the first update changes each layer's weights: the step that the equation asks for, and the one that the dtype makes of it."""
    settings, notes = shown(_updated(study))
    frames = {setting: study.layers(setting).query("step == 0") for setting in settings}
    share = comparable([frame[ASKED] for frame in frames.values()])
    figure, axes = panels(len(settings), sharey=share)
    dots: dict[str, Any] = {"color": "C1", "marker": "o", "markersize": 3, "linestyle": ""}
    zeros, numbers = False, []
    for ax, (setting, frame) in zip(axes, frames.items(), strict=True):
        asked_for, change = (over_runs(frame, "layer", column) for column in (ASKED, MADE))
        numbers += [rows(column, table, of_setting(setting)) for column, table in ((ASKED, asked_for), (MADE, change))]
        band(ax, asked_for, "C0", "asked for")
        made = change["mean"]
        ax.plot(made.index, made.where(np.isfinite(made)), label="made", **dots)
        still = made.index[np.isneginf(made)]
        zero_marks(ax, still, "C1")
        zeros |= len(still) > 0
        ax.set_title(title(study, setting))
        count_axis(ax.xaxis)
        decade_axis(ax.yaxis)
    asked = Line2D([], [], color="C0", label=r"asked for: $\eta\,\|\nabla W\|/\|W\|$")
    done = Line2D([], [], label=r"made of it by the dtype: $\|\Delta W\|/\|W\|$", **dots)
    legend(figure, [asked, done, *([zero_handle()] if zeros else [])])
    figure.supxlabel("layer, from the input to the output")
    figure.supylabel("relative change of the weights")
    if len(settings) > 1 and not share:
        notes += ("Each panel has its own vertical axis.",)
    return Picture(figure, _update_sentence(study), (*notes, *seeds_note(study, "Values", log=True)), numbers=stacked(numbers))


def _update_sentence(study: Study) -> str:
    """In how many layers no weight changes at all, in any run."""
    still = {}
    for setting in _updated(study):
        frame = study.layers(setting)
        still[setting] = int(np.isneginf(frame[frame["step"] == 0].groupby("layer")[MADE].max()).sum())
    if not any(still.values()):
        everywhere = f" in {words.every(len(still), 'setting')}" if len(still) > 1 else ""
        return f"The first update changes weights in every layer{everywhere}."
    ends = dict.fromkeys([max(still, key=still.__getitem__), min(still, key=still.__getitem__)])
    parts = [f"in {still[setting] or 'none'} of {words.count(study.depth(setting), 'layer')}{_named(setting)}" for setting in ends]
    return f"The first update leaves every weight as it was {words.listing(parts)}."


def _named(setting: Setting) -> str:
    return f" with {setting.text()}" if setting.keys else ""


# ---------------------------------------------------------------------------------------------- over the steps


def updates(study: Study) -> bool:
    """Whether any step has moved, or should have moved, weights that were looked at."""
    return bool(_updated(study))


def _updated(study: Study) -> list[Setting]:
    """The settings with such a step: of an untrained net there is none."""
    return [setting for setting in with_layers(study) if study.layers(setting)[MADE].notna().any()]


def roundoff(dtype: str) -> float:
    """log10 of the unit roundoff, half the distance from 1 to the next number: a weight that is to change by less, relatively, stays as it is."""
    return float(np.log10(np.finfo(dtype).eps / 2.0))


def update_ratio(study: Study) -> Picture:
    """||change of W_k|| / ||W_k|| over the steps, for layers spread over the net, a panel per setting."""
    settings, notes = shown(_updated(study))
    tables = {setting: {at: _of_layer(study, setting, at[1]) for at in _layers(study.depth(setting))} for setting in settings}
    share = comparable([pd.concat([table["mean"] for table in some.values()]) for some in tables.values()])
    figure, axes = panels(len(settings), sharex=True, sharey=share)
    colours = Colours(PLACES, "", PLACES.__getitem__)
    zeros, small, numbers = False, False, []
    for ax, (setting, some) in zip(axes, tables.items(), strict=True):
        for (place, layer), table in some.items():
            band(ax, table, colours[place], PLACES[place])
            still = table.index[np.isneginf(table["mean"])]
            zero_marks(ax, still, colours[place])
            zeros |= len(still) > 0
            numbers.append(rows(MADE, table, of_setting(setting) | {"layer": layer}))
        ax.axhline(RULE, label="rule of thumb", **GUIDES["rule of thumb"])
        if _reaches_down(some.values()):
            ax.axhline(roundoff(_dtype(study, setting)), label="unit roundoff", **GUIDES["unit roundoff"])
            small = True
        ax.set_title(title(study, setting))
        ax.set_xscale("symlog", linthresh=1, linscale=0.4)
        ax.set_xlim(left=0)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
        decade_axis(ax.yaxis)
    lines = [Line2D([], [], label=name, **GUIDES[name]) for name in GUIDES if small or name == "rule of thumb"]
    colours.explain(figure, axes, [*lines, *([zero_handle()] if zeros else [])])
    figure.supxlabel("training step (logarithmic from 1)")
    figure.supylabel(r"relative step $\|\Delta W\|/\|W\|$")
    if len(settings) > 1 and not share:
        notes += ("Each panel has its own vertical axis.",)
    return Picture(figure, _ratio_sentence(study, settings), (*notes, *_guide_notes(small), *seeds_note(study, log=True)), numbers=stacked(numbers))


def _layers(depth: int) -> list[tuple[float, int]]:
    """The layers that are drawn of a net, each with its place between the first layer and the last."""
    found = {round(1 + place * (depth - 1)): place for place in (0.5, 0.25, 0.75, 1.0, 0.0)}
    return sorted((place, layer) for layer, place in found.items())


def _of_layer(study: Study, setting: Setting, layer: int) -> pd.DataFrame:
    frame = study.layers(setting)
    return over_runs(frame[frame["layer"] == layer], "step", MADE)


def _dtype(study: Study, setting: Setting) -> str:
    return str(study.frame["dtype"].loc[setting.runs[0]])


def _reaches_down(tables: Iterable[pd.DataFrame]) -> bool:
    """Whether some update is so small, or none at all, that the dtype's roundoff is worth a line."""
    return any((table["mean"] < SMALL).any() for table in tables)


def _guide_notes(small: bool) -> tuple[str, ...]:
    rule = "Rule of thumb: an update of a thousandth of the weights (Karpathy, notes of Stanford's CS231n, Neural Networks Part 3)."
    below = "A weight that is to change by less than the unit roundoff (2⁻²⁴ of it in float32, 2⁻⁵³ in float64) stays as it is."
    return (rule, below) if small else (rule,)


def _ratio_sentence(study: Study, settings: Sequence[Setting]) -> str:
    """The median step of the first layer and of the last, where the first one's is smallest and largest."""
    parts = []
    for setting in extremes({setting: _median(study, setting, 1) for setting in settings}):
        first, last = (_share(_median(study, setting, layer)) for layer in (1, study.depth(setting)))
        where = f" with {setting.text()}" if setting.keys else ""
        parts.append(f"{first}{where}" + (f" (of layer {study.depth(setting)}: {last})" if study.depth(setting) > 1 else ""))
    return f"Over the weights' norm, the update of layer 1 is, as the median of the probed steps, {words.listing(parts)}."


def _median(study: Study, setting: Setting, layer: int) -> float:
    """Over the probed steps of all runs."""
    frame = study.layers(setting)
    return float(frame[frame["layer"] == layer][MADE].median())


def _share(log10_ratio: float) -> str:
    return "exactly zero" if np.isneginf(log10_ratio) else words.number(10.0**log10_ratio)
