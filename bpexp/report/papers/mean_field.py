"""Figures of untrained nets beside mean-field theory: slopes, gradients down to the limits of a dtype, samples that become alike."""

from collections.abc import Callable, Mapping
from math import isfinite, log10, nan
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from bpexp.config import RunConfig
from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import Float64s
from bpexp.core.records import decades_lost
from bpexp.measures import Measured
from bpexp.measures.over_layers import predicted_norm
from bpexp.measures.signal import entries, forward, half_as_fast
from bpexp.prediction import hidden_sigma_w2, predict
from bpexp.report import words
from bpexp.report.colours import Colours
from bpexp.report.numbers import as_drawn
from bpexp.report.picture import Picture, band, count_axis, decade_axis, legend, over_runs, panels, seeds_note, zero_handle, zero_marks
from bpexp.report.predicted import draw_theory, theory_handle
from bpexp.report.selection import SYMBOLS, Setting, Study, spread
from bpexp.theory.limits import floors, layers_until
from bpexp.theory.mean_field import decades_per_layer
from bpexp.theory.variance import mean_square

__all__ = ["FIGURES", "correlations", "deep_gradients", "forward_collapse", "slopes_over_variance"]

DELTA, GRAD, SPREAD = "log10_delta_norm", "log10_sample_grad_norm", "log10_spread"
EDGE = 5  # layers at either end, where the data and the loss are still felt
FINE = 60  # points of theory's curve
BESIDE = 1.09  # between points that would lie on each other
POINTS = 25  # layers with a marker
BEYOND = 1.6  # times the layers down to the floor are shown
BELOW = 2.0  # decades below the floor where theory's line ends
VARIANCE = SYMBOLS["init.sigma_w2"][1]
DOTS: dict[str, Any] = {"linestyle": "", "markersize": 4.5}
LEVEL: dict[str, Any] = {"linewidth": 0.8, "linestyle": (0, (1, 2))}


# ---------------------------------------------------------------------------------------------- slopes


def slopes_over_variance(study: Study) -> Picture:
    """Decades of ||delta|| lost per layer over the variance of the weights, and profiles that they come from: sigmoid nets without biases."""
    nets = {setting: config for setting, config in _nets(study).items() if config.activation == "sigmoid" and not config.bias}
    families: dict[tuple[bool, int], list[Setting]] = {}
    for setting, config in nets.items():
        families.setdefault((config.init.name != "gaussian", config.width), []).append(setting)
    figure, (left, middle, right) = panels(3, 2.8)
    variances = list({f"{_variance(config):.3g}": _variance(config) for config in nets.values()}.values())
    curve = np.geomspace(variances[0] / 1.2, variances[-1] * 1.2, FINE)
    draw_theory(left, curve, [_slope_of_wide_layers(float(x)) for x in curve])
    handles: list[Artist] = []
    for number, (uniform, width) in enumerate(sorted(families)):
        look = DOTS | {"color": f"C{number}", "marker": "os^v"[number % 4], "fillstyle": "none" if uniform else "full"}
        label = f"{'uniform' if uniform else 'Gaussian'}, $N$ = {width:,}"
        members = families[uniform, width]
        x = np.array([_variance(nets[net]) for net in members])
        theory, found = np.array([_slope_of_wide_layers(float(at)) for at in x]), [_slopes(study, net) for net in members]
        left.plot(x, [each.value for each in found], label=label, zorder=3, **look)
        off, error = (100.0 * np.array(numbers) / theory for numbers in ([each.value for each in found] - theory, [each.error for each in found]))
        middle.errorbar(x * BESIDE**number, off, error, label=label, capsize=2, **look)
        handles.append(Line2D([], [], label=label, **look))
    left.set(ylim=(0, None), xlabel=f"weight variance {VARIANCE}", ylabel=r"decades of $\|\delta\|$ lost per layer")
    middle.axhline(0.0, color="#222222", linewidth=0.9)
    middle.set(xlabel=f"weight variance {VARIANCE}", ylabel="more than theory, %")
    middle.set_ylim(*(np.array([-1.15, 1.15]) * max(1.0, np.abs(middle.get_ylim()).max() / 1.15)))
    for ax in (left, middle):
        ax.set_xscale("log")
        ax.set_xticks(variances, [f"{x:.2g}" for x in variances])
        ax.set_xticks([], minor=True)
    shown = families[min(families)]
    for number, net in enumerate(shown):
        table = _table(study, net, DELTA)
        band(right, table, _shade(number, len(shown)), f"profile {number}")
        _theory_from_the_output(right, nets[net], DELTA, table["mean"])
        _name_at_the_end(right, f"{_variance(nets[net]):.2g}", float(table["mean"].iloc[0]))
    right.margins(y=0.08)
    _layer_axes(right, r"error norm $\|\delta\|$ at step 0")
    right.set_xlabel(f"layer (beside the lines: {VARIANCE})")
    legend(figure, [*handles, theory_handle()])
    depth = max(config.depth for config in nets.values())
    notes = (
        f"Slopes are fitted over layers {EDGE} to {depth - EDGE} of {depth}, at step 0. Theory's curve is that of infinitely wide layers.",
        "Middle: how much more is lost than on that curve, with standard errors over the runs; points of one variance stand side by side.",
        "Right: the narrowest nets with Gaussian weights; theory's lines count their width and start from the norm measured in the output layer.",
    )
    return Picture(figure, _slopes_sentence(study, nets), (*notes, *seeds_note(study, "Points and lines")), numbers=as_drawn(figure))


def _slopes(study: Study, setting: Setting) -> Measured:
    """Over runs, over the layers that are neither near the data nor near the loss."""
    frame = study.layers(setting)
    profiles = [part.sort_values("layer")[DELTA].to_numpy(np.float64) for _, part in frame[frame["step"] == 0].groupby("run_id")]
    return Measured.mean([decades_lost(profile, EDGE, len(profile) - EDGE) for profile in profiles])


def _slope_of_wide_layers(variance: float) -> float:
    return decades_per_layer(ACTIVATIONS["sigmoid"], variance, 0.0)


def _slopes_sentence(study: Study, nets: Mapping[Setting, RunConfig]) -> str:
    """The slopes at both ends, and how far the farthest one is from theory's."""
    found = {net: (_slopes(study, net).value, _slope_of_wide_layers(_variance(config))) for net, config in nets.items()}
    off = max(abs(ours / theory - 1.0) for ours, theory in found.values())
    ends = dict.fromkeys(choose(nets, key=lambda net: _variance(nets[net])) for choose in (min, max))
    told = words.listing(f"{found[net][0]:.4f} at σw² = {_variance(nets[net]):.3g} (theory {found[net][1]:.4f})" for net in ends)
    return (
        f"A layer takes {told} decades from the error's norm; the farthest of {words.count(len(nets), 'setting')} is {words.percent(off)} off theory."
    )


# ---------------------------------------------------------------------------------------------- gradients that leave a dtype


def deep_gradients(study: Study) -> Picture:
    """The typical entry of dL/dW over the layers with theory's line, and the sizes below which float32 has no normal number, or none at all."""
    nets = {setting: config for setting, config in _nets(study).items() if len(_table(study, setting, GRAD))}
    figure, (ax,) = panels(1)
    for number, (net, config) in enumerate(nets.items()):
        table = _entries(study, net, config)
        band(ax, table, _shade(number, len(nets)), f"entries {number}")
        _theory_from_the_output(ax, config, GRAD, table["mean"], entries)
        _name_at_the_end(ax, f"{VARIANCE} = {_variance(config):.3g}", float(table["mean"].iloc[0]))
    ax.margins(y=0.07)
    _layer_axes(ax, r"typical entry of $\nabla W$ at step 0")
    limits = floors("float32")
    for level, text in ((limits.square, "its square is 0"), (limits.normal, "subnormal"), (limits.zero, "0")):
        ax.axhline(level, color="#b03030", **LEVEL)
        ax.text(0.995, level, f"float32: {text}", transform=ax.get_yaxis_transform(), ha="right", va="bottom", fontsize=7, color="#b03030")
    legend(figure, [theory_handle()])
    notes = (
        "A layer's typical entry is the norm of its gradient for one sample over the root of its number of weights.",
        "Theory's lines count the width and start from the norm measured in the output layer.",
        "Below a dotted line a float32 entry has a square that is rounded to 0, is subnormal, or is rounded to 0 itself.",
    )
    return Picture(figure, _depths_sentence(study, nets), (*notes, *seeds_note(study)), numbers=as_drawn(figure))


def _entries(study: Study, setting: Setting, config: RunConfig) -> pd.DataFrame:
    """The table of the norms, each over the root of the number of weights."""
    table = _table(study, setting, GRAD)
    return table.assign(**{name: entries(table[name].to_numpy(np.float64), config) for name in ("mean", "low", "high")})


def _depths_sentence(study: Study, nets: Mapping[Setting, RunConfig]) -> str:
    """How far back the gradient of each setting falls, and where float32 would lose it."""
    told, limits = [], floors("float32")
    for net, config in nets.items():
        typical = _entries(study, net, config)["mean"].to_numpy(np.float64)
        subnormal, zero = layers_until(limits.normal, typical), layers_until(limits.zero, typical)
        lost = f", in float32 subnormal from {subnormal} layers before the output on and 0 from {zero}" if zero is not None else ""
        told.append(f"{words.change(float(typical[0] - typical[-2]))} with σw² = {_variance(config):.3g}{lost}")
    return f"From the last hidden layer to the first the typical entry of the gradient {words.listing(told)}."


# ---------------------------------------------------------------------------------------------- samples that become alike


def forward_collapse(study: Study) -> Picture:
    """The spread of the activations between samples over the layers, in each dtype, with theory's line and the floors that rounding sets."""
    nets = {setting: config for setting, config in _nets(study).items() if len(_table(study, setting, SPREAD))}
    figure, (ax,) = panels(1)
    handles: list[Artist] = []
    zeros, last = False, max((half_as_fast(_spread_of(study, net)) for net in nets), default=nan)
    for number, (net, config) in enumerate(sorted(nets.items(), key=lambda item: item[1].dtype)):
        colour, table, found = f"C{number}", _table(study, net, SPREAD).iloc[:-1], forward(config)
        table = table[table.index <= BEYOND * last] if isfinite(last) else table
        band(ax, table, colour, config.dtype)
        alike = table.index[np.isneginf(table["mean"])]
        zero_marks(ax, alike, colour)
        zeros |= len(alike) > 0
        handles.append(Line2D([], [], color=colour, label=config.dtype))
        if found is None:
            continue
        size = mean_square(ACTIVATIONS[config.activation], float(found.q[len(table) - 1]))
        floor = log10(float(np.finfo(config.dtype).eps) / 2.0) + 0.5 * log10(size)
        ax.axhline(floor, color=colour, **LEVEL)
        seen = found.log10_spread[: len(table)]
        draw_theory(ax, table.index.to_numpy(float), np.where(seen > floor - BELOW, seen, np.nan))
    _layer_axes(ax, "spread of $a$ between samples")
    dotted = Line2D([], [], color="#444444", label="rounding of $a$", **LEVEL)
    legend(figure, [*handles, theory_handle(), dotted, *([zero_handle()] if zeros else [])])
    notes = (
        "The spread is the root mean square of a hidden layer's activations about their mean over the samples, at step 0.",
        "Theory's line starts from the data. Where it crosses a dtype's dotted line, rounding takes over: what follows does not depend on the input.",
    )
    return Picture(figure, _collapse_sentence(study, nets), (*notes, *seeds_note(study)), numbers=as_drawn(figure))


def _spread_of(study: Study, setting: Setting) -> Float64s:
    """Of the hidden layers, mean over runs."""
    return _table(study, setting, SPREAD)["mean"].to_numpy(np.float64)[:-1]


def _collapse_sentence(study: Study, nets: Mapping[Setting, RunConfig]) -> str:
    """From which layer on rounding is most of the spread."""
    told = []
    for net, config in nets.items():
        place = half_as_fast(_spread_of(study, net))
        told.append(f"layer {place:.0f} in {config.dtype}" if place == place else f"no layer in {config.dtype}")  # noqa: PLR0124 (NaN)
    return f"Rounding is most of the difference between two samples from {words.listing(told)} on."


# ---------------------------------------------------------------------------------------------- correlations


def correlations(study: Study) -> Picture:
    """Mean square q and correlation c over the layers, from the data's own to theory's fixed points (Poole et al. 2016, figs. 1 and 2)."""
    nets = {setting: config for setting, config in _nets(study).items() if len(_table(study, setting, "q"))}
    variances, sources = (sorted({choose(config) for config in nets.values()}) for choose in (_variance, lambda config: config.data.name))
    figure, axes = panels(2, 2.6)
    for net, config in nets.items():
        found, colour = forward(config), f"C{variances.index(_variance(config))}"
        for ax, column in zip(axes, ("q", "c"), strict=True):
            table = _table(study, net, column).iloc[:-1]
            band(ax, table, colour, f"{column} {config.data.name}", linestyle="")
            some = table.loc[spread(list(table.index), POINTS), "mean"]
            ax.plot(some.index, some, color=colour, label=config.data.name, **DOTS | {"marker": "o^s"[sources.index(config.data.name) % 3]})
            if found is not None:
                draw_theory(ax, table.index.to_numpy(float), getattr(found, column)[: len(table)])
        prediction = predict(config)
        if prediction is not None and prediction.settled is not None:
            axes[0].axhline(prediction.settled.q, color=colour, **LEVEL)
            axes[1].axhline(prediction.settled.c, color=colour, **LEVEL)
    for ax, text in zip(axes, ("mean square of $z$: $q$", "correlation of two samples' $z$: $c$"), strict=True):
        _layer_axes(ax, text, decades=False)
    axes[0].set_ylim(bottom=0)
    handles: list[Artist] = [Line2D([], [], color=f"C{n}", label=f"{VARIANCE} = {x:.3g}") for n, x in enumerate(variances)]
    handles += [Line2D([], [], color="#444444", label=f"data: {name}", **DOTS | {"marker": "o^s"[n % 3]}) for n, name in enumerate(sources)]
    fixed = Line2D([], [], color="#444444", label="fixed point", **LEVEL)
    legend(figure, [*handles, theory_handle(), fixed])
    notes = ("Theory's lines start from the data's own mean square and correlation, and nothing is fitted. The output layer is left out.",)
    return Picture(figure, _correlations_sentence(study, nets), (*notes, *seeds_note(study, "Points")), numbers=as_drawn(figure))


def _correlations_sentence(study: Study, nets: Mapping[Setting, RunConfig]) -> str:
    """Where the deeper half of the hidden layers is, and theory's fixed points."""
    told: dict[float, str] = {}
    for net, config in nets.items():
        found = predict(config)
        q, c = (float(_table(study, net, column)["mean"].iloc[config.depth // 2 : -1].mean()) for column in ("q", "c"))
        theory = f" (theory {found.settled.q:.4f} and {found.settled.c:.4f})" if found and found.settled else ""
        told.setdefault(_variance(config), f"q = {q:.4f} and c = {c:.4f} with σw² = {_variance(config):.3g}{theory}")
    return f"The layers settle at {words.listing(told[variance] for variance in sorted(told))}."


# ---------------------------------------------------------------------------------------------- what they share


def _nets(study: Study) -> dict[Setting, RunConfig]:
    """The settings that have records of their layers, with their configurations, by the variance of their weights."""
    found = {setting: study.config(setting) for setting in study.settings if len(study.layers(setting))}
    return dict(sorted(found.items(), key=lambda item: _variance(item[1])))


def _variance(config: RunConfig) -> float:
    """n_in times the mean square of a weight between two hidden layers; 0 where the weights are not random."""
    return hidden_sigma_w2(config) or 0.0


def _table(study: Study, setting: Setting, column: str) -> pd.DataFrame:
    """Mean, low and high over runs by layer, at step 0; empty where it was not measured."""
    frame = study.layers(setting)
    if column not in frame:
        return over_runs(frame.iloc[:0].assign(**{column: []}), "layer", column)
    return over_runs(frame[frame["step"] == 0], "layer", column)


def _theory_from_the_output(
    ax: Axes, config: RunConfig, column: str, measured: "pd.Series[float]", of: Callable[[Float64s, RunConfig], Float64s] = lambda norm, _: norm
) -> None:
    """Theory's profile of a net of this width, or what is made `of` its norms, laid through what was measured in the output layer."""
    found = predict(config)
    if found is not None:
        line = of(predicted_norm(found, column), config)
        draw_theory(ax, measured.index.to_numpy(float), line - line[-1] + float(measured.iloc[-1]))


def _shade(number: int, of: int) -> Any:
    return Colours(range(of), "", str)[number]


def _name_at_the_end(ax: Axes, text: str, value: float) -> None:
    """The name of a line beside its end at layer 1."""
    ax.annotate(text, (1, value), (5, -1), textcoords="offset points", va="top", fontsize=7)


def _layer_axes(ax: Axes, text: str, decades: bool = True) -> None:
    count_axis(ax.xaxis)
    if decades:
        decade_axis(ax.yaxis)
    ax.set(xlabel="layer, from the input to the output", ylabel=text)


FIGURES: dict[str, Callable[[Study], Picture]] = {
    figure.__name__: figure for figure in (slopes_over_variance, deep_gradients, forward_collapse, correlations)
}
