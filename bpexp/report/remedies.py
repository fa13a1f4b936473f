"""What to try next with nets that did not learn: the nearest run that did, or what theory recommends; each with the command to type."""

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import floor, inf

import numpy as np

from bpexp.config import TABLES, ConfigError, RunConfig, asked, check, flatten, full_key, nested, parse, untracked
from bpexp.core.initializers import INITIALIZERS
from bpexp.prediction import predict
from bpexp.report import words
from bpexp.report.picture import over_runs
from bpexp.report.recipes import typed_changes
from bpexp.report.selection import MEASURED, Setting, Study
from bpexp.report.updates import MADE
from bpexp.tracking.reader import configuration

__all__ = ["Remedy", "command", "remedy"]

KEPT = 2.0  # decades that a gradient may lose or gain over a whole net
GOOD_STEP = -2.0  # log10 of the first update over its weights' norm, in the layer that moves most
BETWEEN = (("norm", "batch"), ("norm", "layer"), ("skip", "residual"))  # what keeps a gradient whatever the weights, in this order
LESS, MORE = 0.1, 10.0
NO_PART = ("seed", *MEASURED)  # in what a net learns, or in a choice


@dataclass(frozen=True)
class Remedy:
    """What to try, why, and the command."""

    sentence: str
    command: str


def remedy(study: Study, setting: Setting, kinds: Collection[str]) -> Remedy | None:
    """For the kinds of causes (`bpexp.report.causes`) that a setting has; None where its configuration is not known any more."""
    try:
        config = study.config(setting)
    except ConfigError:
        return None
    found = _neighbour(study, config)
    if found is None and {"vanishing", "exploding", "lost input"} & set(kinds):
        found = _kept_by_theory(config) or _kept_by_design(config)
    return found or _another_rate(study, setting, config, kinds)


# ---------------------------------------------------------------------------------------------- commands


def command(config: RunConfig, sweep: Mapping[str, Sequence[object]] | None = None) -> str:
    """What one types for a configuration, the keys of its net first; `sweep` gives some keys several values."""
    changes = typed_changes(untracked(config), flatten(RunConfig()))
    named = {change.partition("=")[0]: change for change in changes}
    for key, values in (sweep or {}).items():
        named[key] = f"{key}={','.join(map(_typed, values))}"
    told = sorted(named.items(), key=lambda pair: pair[0].partition(".")[0] in TABLES)
    return shlex.join(["python", "-m", "bpexp", *(["-m"] if sweep else []), *(change for _, change in told)])


def _typed(value: object) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _changed(config: RunConfig, changes: Mapping[str, object], without: str = "") -> RunConfig | None:
    """The configuration with some keys changed by the names of the command line, those of the group `without` left to follow; None where refused."""
    kept = {key: value for key, value in untracked(config).items() if not (without and key.startswith(f"{without}."))}
    try:
        return check(parse(RunConfig, nested(kept | {full_key(key): value for key, value in changes.items()})))
    except ConfigError:
        return None


# ---------------------------------------------------------------------------------------------- runs that learned


def _neighbour(study: Study, config: RunConfig) -> Remedy | None:
    """The trained run of the same depth and data that differs in the fewest keys, the learning rate being one; of several the one that ended best."""
    here = {name: value for name, value in untracked(config).items() if name not in NO_PART}
    learned = study.frame[(study.frame["outcome"] == "trained") & (study.frame["depth"] == config.depth)]
    found = []
    for run_id, row in learned.iterrows():
        there = {name: words.plain(row.get(name)) for name in here}
        changes, score, loss = typed_changes(there, here), *(words.plain(row.get(name)) for name in ("final_accuracy_test", "final_loss"))
        if changes and all(there[name] == here[name] for name in here if name.startswith("data.")):
            found.append((len(changes), -(score or 0.0), inf if loss is None else loss, str(run_id), changes))
    if not found:
        return None
    count, score, _, run_id, changes = min(found)
    reached = f" and ended at {words.percent(-score)} of the test set" if score else ""
    differs = f"{words.count(count, 'key')}, {words.listing(changes)}," if count > 1 else f"{changes[0]} alone"
    sentence = f"The nearest run that learned differs in {differs}{reached}."
    return Remedy(sentence, command(configuration(study.frame.loc[run_id].to_dict())))


# ---------------------------------------------------------------------------------------------- a gradient that is kept


def _kept_by_theory(config: RunConfig) -> Remedy | None:
    """The initial weights of theory's choice, with the learning rate as it is and a tenth of it."""
    now = _decades(config)
    if now is None:
        return None
    found = []
    for name in [name for name, row in INITIALIZERS.items() if row.solved]:
        changes = asked("init", name)
        other = _changed(config, changes, without="init")
        if other is None or other.activation != config.activation or (decades := _decades(other)) is None:
            continue
        found.append((abs(decades), decades, " ".join(typed_changes(untracked(other), untracked(config))), other))
    if not found:
        return None
    _, decades, told, other = min(found, key=lambda some: some[0])
    if abs(decades) > min(KEPT, abs(now) / 2.0):
        return None
    loses = f"{'loses' if decades > 0 else 'gains'} {words.decades(decades)}"
    now_told = words.decades(now) if now * decades > 0 else f"the {words.decades(now)} that it {'loses' if now > 0 else 'gains'} now"
    sentence = (
        f"With {told} the gradient {loses} from layer {config.depth} back to layer 1 by theory, in place of {now_told}. "
        f"A gradient that arrives asks for smaller steps: the command tries the learning rate as it is and a tenth of it."
    )
    return Remedy(sentence, command(other, {"lr": [config.lr, _round(LESS * config.lr)]}))


def _decades(config: RunConfig) -> float | None:
    """Powers of ten that theory sees ||delta|| lose over the whole net."""
    try:
        found = predict(config)
    except ConfigError:
        return None
    return None if found is None else float(found.log10_delta[-1] - found.log10_delta[0])


def _kept_by_design(config: RunConfig) -> Remedy | None:
    """What comes between the layers."""
    for key, name in BETWEEN:
        taken = config.norm if key == "norm" else config.skip.name
        other = _changed(config, {key: name}) if taken == "none" else None
        if other is not None:
            return Remedy(f"With {key}={name}: {_lowered(TABLES[key][name].effect)}", command(other))
    return None


def _lowered(text: str) -> str:
    return f"{text[0].lower()}{text[1:]}"


# ---------------------------------------------------------------------------------------------- another learning rate


def _another_rate(study: Study, setting: Setting, config: RunConfig, kinds: Collection[str]) -> Remedy | None:
    """The learning rate that makes the first step a hundredth of its weights, or a tenth of the rate for nets that steps have driven astray."""
    largest = _first_step(study, setting)
    astray = bool({"too large", "saturated", "exploding"} & set(kinds)) or "diverged" in study.outcomes(setting)
    if largest is None or not (astray or "slow" in kinds):
        longer = _changed(config, {"steps": max(1, round(MORE * config.steps))})
        head = "More" if kinds else "None of the usual causes is to be seen: more"
        told = f"{head} steps would tell whether the net is slow or stuck."
        return None if longer is None else Remedy(told, command(longer))
    wanted = _round(config.lr * 10.0 ** (GOOD_STEP - largest))
    lr = min(wanted, _round(LESS * config.lr)) if astray else max(wanted, _round(MORE * config.lr))
    other = _changed(config, {"lr": lr})
    size = f"the first step was {words.ten_to(largest)} of the weights' norm in the layer that moves most"
    told = f"a smaller one, lr={lr:g}, leads less far astray" if astray else f"with lr={lr:g} it is about a hundredth, a size to start from"
    return None if other is None else Remedy(f"What is left to change is the learning rate: {size}; {told}.", command(other))


def _first_step(study: Study, setting: Setting) -> float | None:
    """log10 of the first update over its weights' norm, in the layer where it is largest, mean over runs."""
    frame = study.layers(setting)
    made = over_runs(frame[(frame["step"] == 0) & np.isfinite(frame[MADE])], "layer", MADE)["mean"]
    return float(made.max()) if len(made) else None


def _round(x: float) -> float:
    """To one significant digit."""
    digits = -floor(np.log10(x))
    return round(x, int(digits))
