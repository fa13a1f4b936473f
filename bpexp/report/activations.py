"""Pictures of the hidden layers' activations: how they are distributed, and which share of them is saturated."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from bpexp.core.activations import ACTIVATIONS, Activation
from bpexp.core.arrays import Float64s
from bpexp.core.histograms import BINS
from bpexp.core.probes import SATURATED
from bpexp.report import words
from bpexp.report.colours import Colours
from bpexp.report.numbers import of_setting, rows, stacked
from bpexp.report.over_layers import MARKED_DEPTH, STEPS_SHOWN, at_step, extremes, probed_steps, with_layers
from bpexp.report.picture import WIDTH, Picture, band, count_axis, legend, over_runs, panels, seeds_note, shown, title, wrapped
from bpexp.report.selection import Setting, Study, spread

__all__ = ["activation_histograms", "hidden_saturated", "saturates", "saturation"]

MAP = "viridis"
MOST_ROWS = 4  # settings with histograms, two panels each
SHARE = "saturated"
BEYOND: dict[str, Any] = {"color": "#c0392b", "linestyle": (0, (4, 3)), "linewidth": 0.9}
FAR = np.linspace(-30.0, 30.0, 120_001)  # z at which slopes are looked at


# ---------------------------------------------------------------------------------------------- saturation


def _hidden(study: Study, setting: Setting) -> pd.DataFrame:
    frame = study.layers(setting)
    return frame[frame["layer"] < study.depth(setting)]


def hidden_saturated(study: Study, setting: Setting, step: int) -> float:
    """The share of saturated activations over all hidden layers at a step, mean over runs; NaN where there are none."""
    frame = _hidden(study, setting)
    return float(frame[frame["step"] == step][SHARE].mean())


def saturates(study: Study) -> bool:
    """Whether any hidden activation is saturated at any probed step."""
    return any((_hidden(study, setting)[SHARE] > 0).any() for setting in study.settings)


def saturation(study: Study) -> Picture:
    """The share of saturated activations over the layers at several steps, a panel per setting."""
    deep = [setting for setting in with_layers(study) if study.depth(setting) > 1]
    settings, notes = shown(deep)
    steps = {setting: spread(probed_steps(study, setting), STEPS_SHOWN) for setting in settings}
    colours = Colours(sorted({step for some in steps.values() for step in some}), "training step", lambda step: f"step {step:,}", scale="steps")
    figure, axes = panels(len(settings), sharey=True)
    numbers = []
    for ax, setting in zip(axes, settings, strict=True):
        frame = study.layers(setting)
        for step in steps[setting]:
            table = over_runs(frame[frame["step"] == step], "layer", SHARE)
            band(ax, table, colours[step], f"step {step:,}", markers=study.depth(setting) <= MARKED_DEPTH)
            numbers.append(rows(SHARE, table, of_setting(setting) | {"step": step}))
        ax.set_title(title(study, setting))
        count_axis(ax.xaxis)
    axes[0].set_ylim(-0.02, 1.02)
    axes[0].yaxis.set_major_formatter(_percent())
    colours.explain(figure, axes)
    figure.supxlabel("layer, from the input to the output")
    figure.supylabel("saturated activations")
    notes += (f"{_meaning()}; the last layer is the output.",)
    return Picture(figure, _saturation_sentence(study, deep), (*notes, *seeds_note(study)), numbers=stacked(numbers))


def _meaning() -> str:
    return f"Saturated: |φ'| is below {words.percent(SATURATED)} of its steepest, so that hardly any of the gradient passes (a relu that is off)"


def _saturation_sentence(study: Study, settings: Sequence[Setting]) -> str:
    """Of the settings with most and with fewest at the last probed step."""
    at_the_end = {setting: hidden_saturated(study, setting, probed_steps(study, setting)[-1]) for setting in settings}
    parts = []
    for setting in reversed(extremes(at_the_end)):
        steps, frame = probed_steps(study, setting), _hidden(study, setting)
        last = over_runs(frame[frame["step"] == steps[-1]], "layer", SHARE)["mean"]
        most = f" (most in layer {last.idxmax()}: {words.percent(last.max())})" if last.min() < last.max() else ""
        start = f"{words.percent(hidden_saturated(study, setting, steps[0]))} at step {steps[0]:,} and " if len(steps) > 1 else ""
        where = f" with {setting.text()}" if setting.keys else ""
        parts.append(f"{start}{words.percent(at_the_end[setting])} at step {steps[-1]:,}{where}{most}")
    return f"Of the hidden layers' activations are saturated: {'; '.join(parts)}." if parts else "No hidden layer's saturation is known."


# ---------------------------------------------------------------------------------------------- histograms


def activation_histograms(study: Study) -> Picture:
    """The distribution of each hidden layer's activations as a column of colours, at the first and the last step, a row per setting."""
    everyone = [setting for setting in study.settings if len(study.histograms(setting))]
    settings = spread(everyone, MOST_ROWS)
    frames = {setting: _ends(study, setting) for setting in settings}
    steps = {setting: sorted(set(frame["step"])) for setting, frame in frames.items()}
    images = {(setting, step): _image(study, setting, frames[setting].query("step == @step")) for setting in settings for step in steps[setting]}
    norm = PowerNorm(0.5, 0.0, max(float(np.nanmax(cells, initial=0.0)) for cells, _ in images.values()) or 1.0)
    figure = Figure(figsize=(WIDTH, 1.75 * len(settings) + 1.1))
    axes = figure.subplots(len(settings), 2, squeeze=False, sharex="row", sharey="row")
    marked = False
    for row, setting in zip(axes, settings, strict=True):
        for ax, step in zip(row, steps[setting], strict=False):
            marked |= _draw_image(ax, *images[setting, step], norm, _phi(study, setting))
            name = setting.math() or f"$L$ = {study.depth(setting)}"
            ax.set_title(f"{wrapped(name)}, step {step:,}:\n{words.percent(hidden_saturated(study, setting, step))} saturated")
        for empty in row[len(steps[setting]) :]:
            empty.remove()
    figure.supxlabel("hidden layer, from the input on")
    figure.supylabel("activation")
    drawn = [ax for ax in axes.ravel() if ax.figure is not None]
    bar = figure.colorbar(ScalarMappable(norm, MAP), ax=drawn, label="share of the layer's activations", pad=0.02, aspect=30, format=_percent())
    bar.ax.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))  # whole per cents
    legend(figure, [Line2D([], [], label="beyond: saturated", **BEYOND)] if marked else [])
    return Picture(figure, _spread_sentence(study, everyone), _histogram_notes(study, settings, everyone), numbers=_counts(frames))


def _percent() -> PercentFormatter:
    return PercentFormatter(1.0, 0, symbol="\N{NO-BREAK SPACE}%")


def _phi(study: Study, setting: Setting) -> Activation:
    return ACTIVATIONS[str(study.frame["activation"].loc[setting.runs[0]])]


def _bounded(phi: Activation) -> bool:
    return bool(np.isfinite(phi.range).all())


def _ends(study: Study, setting: Setting) -> pd.DataFrame:
    """The histograms of a setting's first run at the first and the last step."""
    frame = study.histograms(setting)
    first: pd.DataFrame = frame[frame["run_id"] == frame["run_id"].iloc[0]]
    ends: pd.DataFrame = first[first["step"].isin([first["step"].min(), first["step"].max()])]
    return ends


def _image(study: Study, setting: Setting, frame: pd.DataFrame) -> tuple[Float64s, tuple[float, float]]:
    """The shares (bins, layers), and the range of the vertical axis: that of phi or, where it has none, from -1 or 0 to 1 times a layer's largest."""
    phi = _phi(study, setting)
    layers = [rows for _, rows in frame.sort_values(["layer", "bin"]).groupby("layer")]
    low, high = phi.range if _bounded(phi) else (-1.0 if (frame["left"] < 0).any() else 0.0, 1.0)
    grid = np.linspace(low, high, BINS + 1)
    return np.array([_shares(rows, grid, 1.0 if _bounded(phi) else _largest(rows)) for rows in layers]).T, (low, high)


def _largest(rows: pd.DataFrame) -> float:
    return float(np.abs(rows[["left", "right"]].to_numpy(np.float64)).max())


def _shares(rows: pd.DataFrame, grid: Float64s, scale: float) -> Float64s:
    """A layer's counts over `scale` in the cells of a grid, each bin spread evenly over its width; NaN where nothing was counted."""
    counts = rows["count"].to_numpy(np.float64)
    edges = np.append(rows["left"].to_numpy(), rows["right"].iloc[-1]) / (scale or 1.0)
    if not counts.any():
        return np.full(len(grid) - 1, np.nan)
    if edges[0] == edges[-1]:
        return np.histogram(edges[:1], grid)[0].astype(np.float64)
    below = np.append(0.0, np.cumsum(counts)) / counts.sum()
    return np.asarray(np.diff(np.interp(grid, edges, below)))


def _draw_image(ax: Axes, cells: Float64s, ends: tuple[float, float], norm: PowerNorm, phi: Activation) -> bool:
    """A column per layer; whether lines show from where on an activation is saturated."""
    ax.imshow(np.ma.masked_invalid(cells), extent=(0.5, cells.shape[1] + 0.5, *ends), norm=norm, cmap=MAP)
    ax.grid(visible=False)
    count_axis(ax.xaxis)
    ax.yaxis.set_major_locator(MaxNLocator(4))
    limits = saturated_from(phi) if _bounded(phi) else []
    for limit in limits:
        ax.axhline(limit, label="saturated", **BEYOND)
    return bool(limits)


@cache
def saturated_from(phi: Activation) -> tuple[float, ...]:
    """The activations at which |phi'| crosses the slope from which on the probe `saturated` counts."""
    a, slope = np.empty_like(FAR), np.empty_like(FAR)
    phi.function(FAR, a)
    phi.derivative(FAR, a, slope)
    flat = np.abs(slope) < SATURATED * phi.steepest
    return tuple(float(value) for value in a[:-1][flat[:-1] != flat[1:]])


def _spread_sentence(study: Study, settings: Sequence[Setting]) -> str:
    """What becomes of the activations' standard deviation from the first hidden layer to the last, before training, and which share is saturated."""
    changes = {setting: _std_change(study, setting, 0) for setting in settings}
    ways: dict[str, list[str]] = {}
    for setting in extremes(changes):
        ways.setdefault(words.change(changes[setting]), []).append(f"with {setting.text()}" if setting.keys else "")
    saturated = _saturation_sentence(study, settings)
    if not ways:
        return saturated
    parts = [f"{way} {words.listing(where)}".strip() for way, where in ways.items()]
    return f"From the first hidden layer to the last the standard deviation of the activations at step 0 {words.listing(parts)}. {saturated}"


def _std_change(study: Study, setting: Setting, step: int) -> float:
    """log10 of the last hidden layer's over the first one's, mean over runs; NaN where there are no two, or one is 0."""
    table, depth = at_step(study, setting, step, "activation_std"), study.depth(setting)
    if depth < 3 or not {1, depth - 1} <= set(table.index) or not (table[1] > 0 and table[depth - 1] > 0):
        return float("nan")
    return float(np.log10(table[depth - 1] / table[1]))


def _histogram_notes(study: Study, settings: Sequence[Setting], everyone: Sequence[Setting]) -> tuple[str, ...]:
    notes = [f"Of the batch at that step, all neurons of a layer together, in {BINS} bins. {_meaning()}."]
    if not all(_bounded(_phi(study, setting)) for setting in settings):
        notes.append("Activations without bounds are shown over the largest of their layer.")
    if len(settings) < len(everyone):
        notes.append(f"{len(settings)} of {len(everyone)} settings are shown, evenly spread.")
    if any(len(setting.runs) > 1 for setting in settings):
        notes.append("Of several runs of a setting the first is shown.")
    return tuple(notes)


def _counts(frames: Mapping[Setting, pd.DataFrame]) -> pd.DataFrame:
    """The bins that are shown, as they were counted."""
    return pd.concat([frame[["step", "layer", "bin", "left", "right", "count"]].assign(**of_setting(setting)) for setting, frame in frames.items()])[
        [*of_setting(next(iter(frames))), "step", "layer", "bin", "left", "right", "count"]
    ]
