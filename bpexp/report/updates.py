"""Pictures of the updates: how much a step changes each layer's weights, at the start and during training."""

from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from bpexp.report import words
from bpexp.report.numbers import of_setting, rows, stacked
from bpexp.report.over_layers import comparable, with_layers
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

__all__ = ["first_update"]

ASKED, MADE = "log10_update_ratio", "log10_update_made"


def first_update(study: Study) -> Picture:
    """How much the first update changes each layer's weights: the step that the equation asks for, and the one that the dtype makes of it."""
    settings, notes = shown(with_layers(study))
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
    return Picture(figure, _update_sentence(study), (*notes, *seeds_note(study, "Values")), numbers=stacked(numbers))


def _update_sentence(study: Study) -> str:
    """In how many layers no weight changes at all, in any run."""
    still = {}
    for setting in with_layers(study):
        frame = study.layers(setting)
        still[setting] = int(np.isneginf(over_runs(frame[frame["step"] == 0], "layer", MADE)["high"]).sum())
    if not any(still.values()):
        everywhere = f" in {words.every(len(still), 'setting')}" if len(still) > 1 else ""
        return f"The first update changes weights in every layer{everywhere}."
    ends = dict.fromkeys([max(still, key=still.__getitem__), min(still, key=still.__getitem__)])
    parts = [f"in {still[setting] or 'none'} of {words.count(study.depth(setting), 'layer')}{_named(setting)}" for setting in ends]
    return f"The first update leaves every weight as it was {words.listing(parts)}."


def _named(setting: Setting) -> str:
    return f" with {setting.text()}" if setting.keys else ""
