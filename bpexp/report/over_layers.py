"""Pictures whose axis is the layer: gradient norms from the input (layer 1) to the output (layer L)."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from bpexp.report import words
from bpexp.report.colours import Colours
from bpexp.report.numbers import of_setting, rows, stacked
from bpexp.report.picture import (
    MOST_NAMED,
    Picture,
    band,
    count_axis,
    decade_axis,
    named_axis,
    over_runs,
    panels,
    seeds_note,
    shown,
    shown_facets,
    title,
    wrapped,
    zero_handle,
    zero_marks,
)
from bpexp.report.predicted import NOTE, anchored, draw_theory, predicted, slope, slopes_sentence, theory_handle
from bpexp.report.selection import Key, Setting, Study, colour_key, idle, one_of_each, spread

__all__ = [
    "at_step",
    "at_the_start",
    "backward_change",
    "comparable",
    "extremes",
    "gradient_heatmap",
    "gradient_profiles",
    "probed_steps",
    "with_layers",
]

GRAD, DELTA = "log10_grad_norm", "log10_delta_norm"
STEPS_SHOWN = 5
COMPARABLE = 4.0  # panels share an axis or a colour scale if none spans this many times the decades of another,
FEW_DECADES = 8.0  # or if none spans more than so many
OF_ONE_SAMPLE = "a single sample at step 0 (a batch's norm depends, besides, on how alike its samples' gradients are)"
MARKED_DEPTH = 12  # up to this depth each layer has a marker


def probed_steps(study: Study, setting: Setting) -> list[int]:
    return [int(step) for step in np.unique(study.layers(setting)["step"])]


def with_layers(study: Study) -> list[Setting]:
    return [setting for setting in study.settings if len(study.layers(setting))]


def _spans(tables: Sequence[pd.Series]) -> list[float]:
    """How many decades each panel spans."""
    finite = [table[np.isfinite(table)] for table in tables]
    return [float(values.max() - values.min()) if len(values) else 0.0 for values in finite]


def comparable(tables: Sequence[pd.Series]) -> bool:
    spans = _spans(tables)
    return max(spans) <= max(FEW_DECADES, COMPARABLE * min(spans))


def gradient_profiles(study: Study) -> Picture:
    """log10 ||dL/dW|| over the layers at several steps, a panel per setting."""
    settings, notes = shown(with_layers(study))
    steps = {setting: spread(probed_steps(study, setting), STEPS_SHOWN) for setting in settings}
    colours = Colours(sorted({step for some in steps.values() for step in some}), "training step", lambda step: f"step {step:,}", scale="steps")
    frames: dict[Setting, pd.DataFrame] = {s: (layers := study.layers(s))[layers["step"].isin(steps[s])] for s in settings}
    share = comparable([frame[GRAD] for frame in frames.values()])
    figure, axes = panels(len(settings), sharey=share)
    zeros, theory, numbers = False, set(), []
    for ax, (setting, frame) in zip(axes, frames.items(), strict=True):
        depth = study.depth(setting)
        numbers.append(rows(GRAD, over_runs(frame, ["step", "layer"], GRAD), of_setting(setting)))
        for step in steps[setting]:
            zeros |= _draw_profile(ax, frame[frame["step"] == step], GRAD, colours[step], f"step {step:,}", depth)
        line = anchored(predicted(study, setting), GRAD, at_step(study, setting, 0, GRAD))
        if line is not None and draw_theory(ax, line.index.to_numpy(np.float64), line["mean"].to_numpy()):
            theory.add(setting)
            numbers.append(rows(f"theory_{GRAD}", line, of_setting(setting) | {"step": 0}))
        ax.set_title(title(study, setting))
        count_axis(ax.xaxis)
        decade_axis(ax.yaxis)
    colours.explain(figure, axes, _marks(zeros, theory))
    figure.supxlabel("layer, from the input to the output")
    figure.supylabel(r"gradient norm $\|\nabla W\|$")
    if len(settings) > 1 and not share:
        notes += ("Each panel has its own vertical axis.",)
    notes += (*_theory_note(OF_ONE_SAMPLE, theory), *seeds_note(study, log=True))
    return Picture(figure, _profile_sentence(study), notes, numbers=stacked(numbers))


def _marks(zeros: bool, theory: Collection[Setting]) -> list[Artist]:
    """What a legend says besides the colours."""
    return [*([theory_handle()] if theory else []), *([zero_handle()] if zeros else [])]


def _theory_note(where: str, theory: Collection[Setting]) -> tuple[str, ...]:
    return (f"{NOTE}; its line is that of {where}, from the norm measured in the output layer back.",) if theory else ()


def _draw_profile(ax: Axes, frame: pd.DataFrame, column: str, colour: object, label: str, depth: int) -> bool:
    """A line over the layers; whether some norm is exactly zero."""
    table = over_runs(frame, "layer", column)
    band(ax, table, colour, label, markers=depth <= MARKED_DEPTH)
    zero = table.index[np.isneginf(table["mean"])]
    zero_marks(ax, zero, colour)
    return len(zero) > 0


def at_step(study: Study, setting: Setting, step: int, column: str) -> pd.Series:
    """Means over runs by layer, at a step."""
    frame = study.layers(setting)
    return over_runs(frame[frame["step"] == step], "layer", column)["mean"]


def backward_change(study: Study, setting: Setting, step: int, column: str = GRAD) -> float:
    """log10 of the first layer's norm over the last one's at a step, mean over runs; -inf if the first one's is zero, NaN if the last one's is."""
    table, depth = at_step(study, setting, step, column), study.depth(setting)
    if depth < 2 or not {1, depth} <= set(table.index) or not np.isfinite(table[depth]):
        return float("nan")
    return float(table[1] - table[depth])


def extremes(changes: Mapping[Setting, float]) -> list[Setting]:
    """The settings in which something falls most and least, one where that is the same; none where nothing is known."""
    known = {setting: change for setting, change in changes.items() if change == change}  # noqa: PLR0124 (NaN)
    if not known:
        return []
    least, most = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
    return [most] if known[most] == known[least] else [most, least]


def _profile_sentence(study: Study) -> str:
    parts, told = [], []
    deep = [setting for setting in with_layers(study) if study.depth(setting) > 1]
    for setting in extremes({setting: backward_change(study, setting, 0) for setting in deep}):
        steps = probed_steps(study, setting)
        first, last = (words.change(backward_change(study, setting, step)) for step in (steps[0], steps[-1]))
        later = f" (at step {steps[-1]:,}: {last})" if len(steps) > 1 else ""
        parts.append(f"{first}{_with(study, setting)}{later}")
        told.append(setting)
    if not parts:
        return "No setting has gradient norms of two layers at step 0 to compare."
    slopes = slopes_sentence({setting: slope(study, setting, GRAD) for setting in told})
    return f"From the output layer back to layer 1 the gradient norm at step 0 {words.listing(parts)}.{slopes}"


def _with(study: Study, setting: Setting, ignored: Sequence[Key] = ()) -> str:
    text = setting.text(without=ignored)
    return f" with {text}" if text else f" over {words.count(study.depth(setting), 'layer')}"


def at_the_start(study: Study) -> Picture:
    """log10 ||delta|| of the untrained nets against the distance from the output, all settings in one panel."""
    settings = [setting for setting in with_layers(study) if study.depth(setting) > 1]
    ignored = idle(study.swept, {setting: tuple(at_step(study, setting, 0, DELTA)) for setting in settings})
    settings = one_of_each(settings, ignored)
    keys = [key for key in study.swept if key not in ignored]
    key = colour_key(keys)
    colours = Colours.of(key)
    chosen, notes = shown_facets(settings, [key])
    figure, axes = panels(len(chosen), 2.4, sharex=True, sharey=True)
    zeros, theory, numbers, deepest = False, set(), [], max(study.depth(setting) for setting in settings)
    for ax, (name, group) in zip(axes, chosen, strict=True):
        ax.set_title(wrapped(name))
        compared = spread(group, MOST_NAMED)  # as many as a legend would name: more dashes are clutter
        for setting in group:
            frame, depth, told = study.layers(setting), study.depth(setting), of_setting(setting, ignored)
            start = frame[frame["step"] == 0].assign(layer=depth - frame["layer"])
            zeros |= _draw_profile(ax, start, DELTA, colours[setting[key]], setting.text() or "run", deepest)
            numbers.append(rows(DELTA, over_runs(frame[frame["step"] == 0], "layer", DELTA), told))
            line = anchored(predicted(study, setting), DELTA, at_step(study, setting, 0, DELTA)) if setting in compared else None
            if line is not None and draw_theory(ax, depth - line.index.to_numpy(np.float64), line["mean"].to_numpy()):
                theory.add(setting)
                numbers.append(rows(f"theory_{DELTA}", line, told))
    count_axis(axes[0].xaxis)
    decade_axis(axes[0].yaxis)
    figure.supxlabel("layers between here and the output")
    figure.supylabel(r"error norm $\|\delta\|$ at step 0")
    colours.explain(figure, axes, _marks(zeros, theory))
    notes += _theory_note("each net" if len(settings) > 1 else "the net", theory)
    notes += tuple(f"The same for every {key.words}: it acts after step 0." for key in ignored)
    return Picture(figure, _start_sentence(study, settings, ignored), (*notes, *seeds_note(study, log=True)), numbers=stacked(numbers))


def _start_sentence(study: Study, settings: list[Setting], ignored: Sequence[Key]) -> str:
    changes = {setting: backward_change(study, setting, 0, DELTA) for setting in settings}
    parts = [f"{words.change(changes[setting])}{_with(study, setting, ignored)}" for setting in extremes(changes)]
    if not parts:
        return "No untrained net has an error norm at both ends that could be compared."
    slopes = slopes_sentence({setting: slope(study, setting, DELTA) for setting in extremes(changes)}, ignored)
    return f"On its way back from the output to layer 1 the error of the untrained net {words.listing(parts)}.{slopes}"


def gradient_heatmap(study: Study) -> Picture:
    """log10 ||dL/dW|| as a colour over probed step (horizontal) and layer (vertical), a panel per setting."""
    everyone = [setting for setting in with_layers(study) if study.depth(setting) > 1]
    settings, notes = shown(everyone)
    found = {setting: over_runs(study.layers(setting), ["step", "layer"], GRAD) for setting in settings}
    numbers = stacked(rows(GRAD, table, of_setting(setting)) for setting, table in found.items())
    tables = {setting: table.reset_index() for setting, table in found.items()}
    images = {
        setting: table.pivot_table(index="layer", columns="step", values="mean").reindex(range(1, study.depth(setting) + 1))
        for setting, table in tables.items()
    }
    share = comparable([table["mean"] for table in tables.values()])
    figure, axes = panels(len(settings), 2.2)
    everything = np.concatenate([image.to_numpy().ravel() for image in images.values()])
    missing = False
    colour_map = colormaps["viridis"].with_extremes(bad="#bbbbbb")
    for ax, (setting, image) in zip(axes, images.items(), strict=True):
        values = image.to_numpy()
        finite = np.isfinite(everything if share else values)
        low, high = ((everything if share else values)[finite].min(), (everything if share else values)[finite].max()) if finite.any() else (0, 1)
        missing |= not np.isfinite(values).all()
        shape = (-0.5, len(image.columns) - 0.5, image.index[0] - 0.5, image.index[-1] + 0.5)
        drawn = ax.imshow(np.ma.masked_invalid(values), extent=shape, vmin=low, vmax=high, cmap=colour_map)
        ax.grid(visible=False)
        ax.set_title(title(study, setting))
        _step_ticks(ax, [int(step) for step in image.columns])
        count_axis(ax.yaxis)
        if not share:
            decade_axis(figure.colorbar(drawn, ax=ax, pad=0.03, aspect=18).ax.yaxis)
    if share:
        bar = figure.colorbar(drawn, ax=axes, label=r"gradient norm $\|\nabla W\|$", pad=0.02, aspect=30)
        decade_axis(bar.ax.yaxis)
    figure.supxlabel("training step (one column per probed step)")
    figure.supylabel("layer, from the input up")
    if not share:
        notes += ("Each panel has its own colour scale: gradient norm.",)
    if missing:
        notes += ("Grey: the norm is exactly zero, or not a finite number.",)
    return Picture(figure, _heat_sentence(study, everyone), (*notes, *seeds_note(study, "Colours", spread_shown=False, log=True)), numbers=numbers)


def _step_ticks(ax: Axes, steps: list[int]) -> None:
    """A tick under some of the columns, with the step that it stands for."""
    named_axis(ax.xaxis, [f"{step:,}" for step in steps], most=4)


def _heat_sentence(study: Study, settings: list[Setting]) -> str:
    """How the first layer's gradient changes between the first probed step and the last."""
    changes = {}
    for setting in settings:
        frame = study.layers(setting)
        norm = over_runs(frame[frame["layer"] == 1], "step", GRAD)["mean"]
        known = len(norm) > 1 and np.isfinite(norm.iloc[0]) and not np.isposinf(norm.iloc[-1])
        changes[setting] = float(norm.iloc[-1] - norm.iloc[0]) if known else float("nan")
    parts = [f"{words.change(changes[setting])}{_with(study, setting)}" for setting in extremes(changes)]
    if not parts:
        return "No setting has two probed steps at which the gradient norm of layer 1 could be compared."
    return f"Between the first and the last probed step the gradient norm of layer 1 {words.listing(parts)}."
