"""Figures of papers on initial weights: what a layer's norm is over draws of them, and what becomes of a relu net that starts too small."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D

from bpexp.config import RunConfig
from bpexp.core.arrays import Float64s
from bpexp.datasets import load
from bpexp.measures.cell import Cell, Measured
from bpexp.measures.speeds import log_squares, predicted_log_norm_mean, predicted_log_norm_variance, scale_ratio, stretches, variance
from bpexp.prediction import predict
from bpexp.report import words
from bpexp.report.colours import Colours
from bpexp.report.intervals import TOLD
from bpexp.report.numbers import as_drawn
from bpexp.report.picture import Picture, band, count_axis, decade_axis, legend, over_runs, panels, plateau_handle
from bpexp.report.predicted import draw_theory, theory_handle
from bpexp.report.selection import Key, Setting, Study, spread
from bpexp.theory.relu import textbook_variance

__all__ = ["FIGURES", "he_and_xavier", "random_walk", "speeds"]

SPEED = "log10_mean_delta_norm"
# Nielsen 2015, chapter 5: by the number of hidden layers, those of his data file and, for 4, of the book's text
NIELSEN: Mapping[int, tuple[float, ...]] = {2: (0.065741, 0.309218), 3: (0.011838, 0.059965, 0.283142), 4: (0.003, 0.017, 0.070, 0.285)}
MIDDLE = 0.95  # share of the draws that the bars hold
LONGEST, WALKS = 50, 11  # layers of the longest walk that is drawn, and how many lengths are
DOTS: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 3.5, "zorder": 3}
TEXTBOOK: dict[str, Any] = {"color": "#888888", "linestyle": (0, (1, 1.5)), "linewidth": 1.4}
HIS: dict[str, Any] = {"linestyle": "", "marker": "D", "markersize": 5, "color": "C1", "zorder": 4}


# ---------------------------------------------------------------------------------------------- speeds of learning


def speeds(study: Study) -> Picture:
    """Each hidden layer's ||mean over samples of delta|| over draws of the weights, a panel per depth, with the numbers that Nielsen printed."""
    settings = list(study.settings)
    figure, axes = panels(len(settings), 2.8, sharey=True)
    for ax, setting in zip(axes, settings, strict=True):
        logs = _over_draws(study, setting)
        hidden = list(range(1, logs.shape[1]))
        _violins(ax, logs[:, :-1], hidden)
        prediction = predict(study.config(setting))
        if prediction is not None:
            line = prediction.log10_delta[:-1]
            draw_theory(ax, hidden, line - line[-1] + np.median(logs[:, -2]))
        his = NIELSEN.get(len(hidden), ())
        ax.plot(np.arange(1, len(his) + 1), np.log10(his), label="Nielsen", **HIS)
        ax.set_title(words.count(len(hidden), "hidden layer"))
        ax.set_xlim(0.4, len(hidden) + 0.6)
        ax.set_xticks(hidden)
        ax.grid(visible=False, axis="x")
    decade_axis(axes[0].yaxis)
    figure.supxlabel("hidden layer, from the input to the output")
    figure.supylabel(r"speed of learning $\|\langle\delta\rangle\|$")
    share = f"middle {100 * MIDDLE:.0f} %"
    bar = Line2D([], [], color="C0", linewidth=1.2, label=f"ours: {share}, median, density")
    legend(figure, [bar, Line2D([], [], label="Nielsen's net", **HIS), theory_handle()])
    notes = (
        f"{words.count(min(len(setting.runs) for setting in settings), 'draw')} of the weights per panel.",
        "Theory's line starts from the median of the last hidden layer; it is the mean-field theory of one sample's δ, its width counted.",
        "Nielsen's speeds of 4 hidden layers are the rounded ones of the book's text.",
    )
    return Picture(figure, _speeds_sentence(study), notes, numbers=as_drawn(figure))


def _over_draws(study: Study, setting: Setting, column: str = SPEED) -> Float64s:
    """A column at step 0 over layers 1 … L, a row per run."""
    frame = study.layers(setting)
    return frame.loc[frame["step"] == 0, column].to_numpy(np.float64).reshape(len(setting.runs), -1)


def _violins(ax: Axes, logs: Float64s, places: Any) -> None:
    """Density, middle share and median of each column."""
    drawn = ax.violinplot([column[np.isfinite(column)] for column in logs.T], places, widths=0.75, showextrema=False)
    for body in cast("Sequence[PolyCollection]", drawn["bodies"]):
        body.set(facecolor="C0", alpha=0.25, linewidth=0)
    low, middle, high = np.quantile(logs, [0.5 - MIDDLE / 2.0, 0.5, 0.5 + MIDDLE / 2.0], axis=0)
    ax.vlines(places, low, high, color="C0", linewidth=1.2)
    ax.plot(places, middle, color="C0", label="median", **DOTS)


def _speeds_sentence(study: Study) -> str:
    """How many of his numbers lie in the middle share of ours, and by how much a layer learns more slowly than the next."""
    inside = total = 0
    ratios = []
    for setting in study.settings:
        logs = _over_draws(study, setting)
        hidden = logs.shape[1] - 1
        if hidden > 1:
            ratios.append(10.0 ** float(np.mean((logs[:, 0] - logs[:, hidden - 1]) / (hidden - 1))))
        low, high = np.quantile(logs, [0.5 - MIDDLE / 2.0, 0.5 + MIDDLE / 2.0], axis=0)
        for number, his in enumerate(NIELSEN.get(hidden, ())):
            total += 1
            inside += bool(low[number] <= np.log10(his) <= high[number])
    found = f"{inside} of the {total} speeds that Nielsen gives lie in the middle {100 * MIDDLE:.0f} % of ours"
    if not ratios:
        return f"{found}."
    ends = words.listing(dict.fromkeys(words.number(x) for x in (min(ratios), max(ratios))))
    return f"{found}; a layer's speed is {ends.replace(' and ', ' to ')} of the next one's."


# ---------------------------------------------------------------------------------------------- the random walk of narrow relu nets


def random_walk(study: Study) -> Picture:
    """Mean and variance over walks of ln ||delta||^2 against the layers walked back, with the exact law and the textbook's."""
    inits = list(dict.fromkeys(study.frame["init.name"]))
    everything = Cell.of(study.runs)
    cells = {init: everything.where({"init": init}) for init in inits}
    colours = Colours(inits, "", str, ordered=False)
    figure, (left, right) = panels(2, 2.6)
    for init, cell in cells.items():
        walks = log_squares(cell)
        lengths = np.array(spread(range(1, min(LONGEST, walks.shape[1] - 1) + 1), WALKS))
        for ax, measure in ((left, Measured.mean), (right, variance)):
            found = [measure(stretches(walks, int(length))) for length in lengths]
            values, errors = np.array([it.value for it in found]), np.array([it.error for it in found])
            ax.errorbar(lengths, values, 1.96 * errors, color=colours[init], label=init, elinewidth=1, **DOTS)
        draw_theory(left, lengths, [predicted_log_norm_mean(cell, int(length)) for length in lengths])
    widest = next(iter(cells.values()))
    draw_theory(right, lengths, [predicted_log_norm_variance(widest, int(length)) for length in lengths])
    right.plot(lengths, [textbook_variance([widest.config.width] * int(length)) for length in lengths], label="textbook", **TEXTBOOK)
    left.set_ylabel(r"mean of $\ln\|\delta\|^2$")
    right.set_ylabel(r"variance of $\ln\|\delta\|^2$")
    for ax in (left, right):
        count_axis(ax.xaxis)
        ax.set_xlim(0, lengths[-1] + 1)
    figure.supxlabel("layers walked back")
    law = theory_handle()
    law.set_label("exact law")
    colours.explain(figure, [left, right], [law, Line2D([], [], label=r"textbook: $5\,\Sigma\,1/n$", **TEXTBOOK)])
    notes = (
        f"Layers of {widest.config.width} relu neurons; a net's stretches of so many layers that don't overlap are walks of their own.",
        "Bars are 95 % intervals.",
    )
    return Picture(figure, _walk_sentence(cells, int(lengths[-1])), notes, numbers=as_drawn(figure))


def _walk_sentence(cells: Mapping[str, Cell], longest: int) -> str:
    """The variance over the longest walk beside both laws, and each gain's drift."""
    walks = {init: stretches(log_squares(cell), longest) for init, cell in cells.items()}
    init, first = next(iter(walks)), next(iter(cells.values()))
    found, exact = words.number(variance(walks[init]).value), words.number(predicted_log_norm_variance(first, longest))
    book = words.number(textbook_variance([first.config.width] * longest))
    drifts = words.listing(f"{words.number(float(changes.mean()))} with init={init}" for init, changes in walks.items())
    return f"Over {longest} layers the variance of ln‖δ‖² is {found} (exact law: {exact}; 5β: {book}), and its mean changes by {drifts}."


# ---------------------------------------------------------------------------------------------- he and xavier


def he_and_xavier(study: Study) -> Picture:
    """Training losses by epoch, and how large z is in each layer of the untrained nets."""
    trained = [setting for setting in study.settings if "untrained" not in study.outcomes(setting)]
    key = next((key for key in study.swept if key.name == "init.name"), None)
    colours = Colours([setting[key] for setting in trained], "", lambda name: f"init={name}", ordered=False)
    figure, (left, right) = panels(2, 2.8)
    for setting in trained:
        colour = colours[setting[key]]
        band(left, over_runs(pd.concat([_by_epoch(study, setting, run) for run in setting.runs]), "epoch", "loss"), colour, str(setting[key]))
        start = study.layers(setting)[lambda frame: frame["step"] == 0]
        band(right, over_runs(start.assign(scale=0.5 * np.log10(start["q"])), "layer", "scale"), colour, str(setting[key]))
        prediction = predict(study.config(setting))
        if prediction is not None:
            depth = study.depth(setting)
            draw_theory(right, range(1, depth + 1), 0.5 * prediction.profile.log10_q)
    level = float(study.numbers(trained[0], "plateau_loss").iloc[0])
    left.axhline(level, color="black", linestyle=(0, (4, 3)), linewidth=1, label="plateau")
    left.set(xlabel="epoch", ylabel="training loss", ylim=(0.0, None))
    right.set(xlabel="layer, from the input to the output", ylabel=r"root mean square of $z$ at step 0")
    count_axis(left.xaxis)
    count_axis(right.xaxis)
    decade_axis(right.yaxis)
    colours.explain(figure, [left, right], [plateau_handle(), theory_handle()])
    return Picture(
        figure, _he_sentence(study, trained, key), ("Losses are means over an epoch's batches.", *_several(trained, key)), numbers=as_drawn(figure)
    )


def _by_epoch(study: Study, setting: Setting, run_id: str) -> pd.DataFrame:
    """The batch's loss, averaged over each epoch; of an epoch that training ended in nothing is told."""
    frame, length = study.curves(run_id), _steps_per_epoch(study.config(setting))
    losses = frame["loss_train"].to_numpy(np.float64)
    epochs = len(losses) // length
    return pd.DataFrame({"epoch": np.arange(1, epochs + 1), "loss": losses[: epochs * length].reshape(epochs, length).mean(axis=1)})


def _steps_per_epoch(config: RunConfig) -> int:
    samples = len(load(config.data).split.x_train)
    return 1 if config.batch_size == "full" else samples // config.batch_size  # what does not fill a batch waits


def _several(settings: Sequence[Setting], key: Key | None) -> tuple[str, ...]:
    """Over how many seeds the lines are means."""
    told = [f"{words.count(len(setting.runs), 'run')} with init={setting[key]}" for setting in settings]
    return (f"Lines are means over {words.listing(told)}, bands {TOLD}.",)


def _he_sentence(study: Study, trained: Sequence[Setting], key: Key | None) -> str:
    """Where each ends, and how small the outputs of the second are at the start beside those of the first."""
    ends = [f"{words.percent(float(study.numbers(setting, 'final_accuracy_train').mean()))} with init={setting[key]}" for setting in trained]
    told = f"Training accuracy ends at {words.listing(ends)}"
    if key is None or len(trained) == 1:
        return f"{told}."
    cell = Cell.of(study.runs)
    runs = [run for setting in trained for run in setting.runs]
    start = replace(cell, frame=cell.frame[cell.frame["run_id"].isin(runs)])
    first, second = trained[0][key], trained[1][key]
    ratio = words.number(scale_ratio(start, -1, key.name, second, first).value)
    return f"{told}; at the start z in the output layer is {ratio} times as large with init={second} as with init={first}."


FIGURES: dict[str, Callable[[Study], Picture]] = {"speeds": speeds, "random_walk": random_walk, "he_and_xavier": he_and_xavier}
