"""Why a net did not learn: what its records and theory say, a sentence per cause.  To add a cause: a function, and a place in `LOOKS`."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bpexp.config import ConfigError
from bpexp.core.activations import ACTIVATIONS
from bpexp.prediction import input_lost_at
from bpexp.report import words
from bpexp.report.over_layers import at_step, backward_change, probed_steps
from bpexp.report.picture import over_runs
from bpexp.report.predicted import predicted
from bpexp.report.selection import Setting, Study
from bpexp.report.updates import ASKED, MADE, roundoff

__all__ = ["Cause", "causes"]

TELLING = 2.0  # decades between both ends of a net, from which its gradient vanishes or explodes
ALL, MANY = 0.99, 0.5  # shares of a layer's, of a net's activations
HUGE = 1.0  # log10 of a step over its weights' norm
HARDLY = 0.1  # of its weights' norm: a layer that has not moved further in a whole training cannot have learned
SATURATED = "saturated"


@dataclass(frozen=True)
class Cause:
    """One of `LOOKS` by its name, and what is to be said of it."""

    kind: str
    sentence: str


def causes(study: Study, setting: Setting) -> list[Cause]:
    """All that can be seen to keep a setting's nets from learning; of those that diverged, what made them."""
    if not len(study.layers(setting)):
        return []
    kinds = DIVERGING if "diverged" in study.outcomes(setting) else LOOKS
    found = [(kind, LOOKS[kind](study, setting)) for kind in kinds]
    return [Cause(kind, sentence) for kind, sentence in found if sentence]


# ---------------------------------------------------------------------------------------------- before training


def _vanishing(study: Study, setting: Setting) -> str:
    change, depth = backward_change(study, setting, 0), study.depth(setting)
    if not change < -TELLING:
        return ""
    if np.isneginf(change):
        return f"Before training the gradient of layer 1 is exactly zero, that of layer {depth} is not."
    share = f"before training its norm in layer 1 is {words.ten_to(change)} of that in layer {depth}"
    return f"The gradient vanishes: {share}.{_rate(study, setting, vanishes=True)}"


def _exploding(study: Study, setting: Setting) -> str:
    change, depth = backward_change(study, setting, 0), study.depth(setting)
    if not change > TELLING:
        return ""
    share = f"before training its norm in layer 1 is {words.ten_to(change)} times that in layer {depth}"
    return f"The gradient explodes: {share}.{_rate(study, setting, vanishes=False)}"


def _rate(study: Study, setting: Setting, *, vanishes: bool) -> str:
    """Theory's reason, where it agrees, and what was measured."""
    measured = study.numbers(setting, "delta_decades_per_layer")
    prediction = predicted(study, setting)
    verb = "takes" if vanishes else "adds"
    told = f" (measured: {words.number(abs(float(measured.mean())))})" if len(measured) else ""
    settled = None if prediction is None else prediction.settled
    if prediction is None or settled is None or (settled.chi < 1.0) != vanishes:
        return f" Each layer {verb} {words.number(abs(float(measured.mean())))} decades." if len(measured) else ""
    theory = prediction.delta_decades_per_layer
    rate = settled.decades_per_layer if theory is None else theory
    chi = f"χ₁ = {words.number(settled.chi)} {'<' if vanishes else '>'} 1"
    return f" By theory {chi}: each layer {verb} {words.number(abs(rate))} decades{told}."


def _lost_input(study: Study, setting: Setting) -> str:
    try:
        config = study.config(setting)
        at = input_lost_at(config)
    except ConfigError:
        return ""
    if at is None:
        return ""
    return f"The input is lost: by theory, from layer {at} on the activations of different inputs differ by less than the rounding of {config.dtype}."


# ---------------------------------------------------------------------------------------------- during training


def _saturated(study: Study, setting: Setting) -> str:
    steps, depth = probed_steps(study, setting), study.depth(setting)
    last = at_step(study, setting, steps[-1], SATURATED)
    full = [int(layer) for layer in last.index[last >= ALL]]
    if full:
        apart = [step for step in steps if not (at_step(study, setting, step, SATURATED).reindex(full) >= ALL).all()]
        since = next(step for step in steps if step > max(apart, default=-1))
        which = "the output layer" if full == [depth] else f"layer {full[0]}" if len(full) == 1 else f"{len(full)} of {depth} layers"
        start = "before training already" if since == 0 else f"from step {since:,} on, of those that were probed"
        share = "all" if (last[full] == 1.0).all() else "nearly all"
        return f"Hardly any gradient passes {which}: {share} activations there are saturated, {start}."
    hidden = last[last.index < depth]
    bounded = np.isfinite(ACTIVATIONS[study.config(setting).activation].range).all()
    if not bounded or not hidden.mean() > MANY:
        return ""
    start_share = at_step(study, setting, 0, SATURATED)
    before = float(start_share[start_share.index < depth].mean())
    return f"Of the hidden activations {words.percent(float(hidden.mean()))} are saturated at step {steps[-1]:,} ({words.percent(before)} at step 0)."


def _unmoved(study: Study, setting: Setting) -> str:
    """Layers whose weights the dtype never let change, though a change was asked for."""
    frame, depth, dtype = study.layers(setting), study.depth(setting), str(study.frame["dtype"].loc[setting.runs[0]])
    known = frame[frame[MADE].notna() & np.isfinite(frame[ASKED])]
    largest = known.groupby("layer")[[MADE, ASKED]].max()
    still = largest[np.isneginf(largest[MADE])]
    if still.empty:
        return ""
    first, last = still.index.min(), still.index.max()
    layers = f"layer {first}" if first == last else f"layers {first} {'and' if last == first + 1 else 'to'} {last}"
    if last - first + 1 > len(still):  # others between them have changed
        layers = f"{len(still)} layers"
    asked = f"at most {words.ten_to(float(still[ASKED].max()))} of their norm"
    unit = f"the unit roundoff of {dtype} is {words.ten_to(roundoff(dtype))}"
    return f"In {layers} of {depth} no weight changed at any probed step: the steps asked for were {asked}, and {unit}."


def _slow(study: Study, setting: Setting) -> str:
    """Layers that could not have come far had all steps pointed one way."""
    frame = study.layers(setting).dropna(subset=[MADE])
    if frame.empty:
        return ""
    table = over_runs(frame.assign(made=10.0 ** frame[MADE]), ["layer", "step"], "made")["mean"].unstack()  # noqa: PD010 (a series')
    ways = pd.Series(np.trapezoid(table.to_numpy(np.float64), table.columns.to_numpy(np.float64)), table.index)
    if not 0.0 < ways.max() < HARDLY:
        return ""
    steps = int(frame["step"].max())
    moved = f"layer {ways.idxmax()}, which moves most, would be {words.number(float(ways.max()), 2)} of its weights' norm away after {steps:,} steps"
    return f"The steps are too small: even if all of them pointed one way, {moved}."


def _too_large(study: Study, setting: Setting) -> str:
    """A step that leaves nothing of the weights as they were."""
    frame = study.layers(setting)
    known = frame[np.isfinite(frame[MADE])]
    if known.empty or known[MADE].max() < HUGE:
        return ""
    largest = known.loc[known[MADE] == known[MADE].max()].iloc[0]
    size = words.ten_to(float(largest[MADE]))
    return f"The steps are too large: that of step {int(largest['step']):,} is {size} times the norm of the weights in layer {int(largest['layer'])}."


LOOKS: dict[str, Callable[[Study, Setting], str]] = {
    "vanishing": _vanishing,
    "exploding": _exploding,
    "lost input": _lost_input,
    "saturated": _saturated,
    "too large": _too_large,
    "unmoved": _unmoved,
    "slow": _slow,
}
DIVERGING = ("exploding", "too large", "saturated")
