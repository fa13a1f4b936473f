"""What a study's numbers say, in words: which runs learned, why others did not, where gradients underflow, and what to try next.

Every number in these sentences is computed from the runs' records or by theory.  Frames in, paragraphs out: nothing here knows of pages.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bpexp.config import ConfigError
from bpexp.datasets import load
from bpexp.report import words
from bpexp.report.causes import causes
from bpexp.report.over_layers import GRAD, at_step, backward_change, with_layers
from bpexp.report.remedies import remedy
from bpexp.report.selection import Setting, Study, spread
from bpexp.theory.limits import floors

__all__ = ["Finding", "findings"]

MOST_TOLD = 3  # settings of a kind that get a paragraph each
FAILED = {"stuck": ("is stuck", "are stuck"), "diverged": ("diverged", "diverged")}  # of one setting, of several
DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class Finding:
    """A paragraph: what it is about, its sentences, and the command to try next where there is one."""

    about: str
    sentences: tuple[str, ...]
    command: str | None = None

    @property
    def text(self) -> str:
        return " ".join(self.sentences)


def findings(study: Study) -> list[Finding]:
    """In the order in which one asks: what became of the runs, why, what a dtype could not hold."""
    kinds = {setting: _kind(study, setting) for setting in study.settings}
    stuck, diverged = ([setting for setting, kind in kinds.items() if kind == name] for name in ("stuck", "diverged"))
    found = [_learned(study, kinds), *_failed(study, stuck, "stuck"), *_failed(study, diverged, "diverged"), _underflow(study)]
    return [finding for finding in found if finding is not None and finding.sentences]


def _kind(study: Study, setting: Setting) -> str:
    """What became of most of a setting's runs; of as many, the better."""
    outcomes = study.outcomes(setting)
    return max(("trained", "stuck", "diverged", "untrained"), key=outcomes.count) if outcomes else "unknown"


def _name(setting: Setting) -> str:
    return setting.text() or "the run"


# ---------------------------------------------------------------------------------------------- what became of them


def _learned(study: Study, kinds: dict[Setting, str]) -> Finding | None:
    outcomes = [outcome for setting in study.settings for outcome in study.outcomes(setting)]
    if not outcomes:
        return None
    counts = {outcome: outcomes.count(outcome) for outcome in ("trained", "stuck", "diverged", "untrained")}
    ways = {"trained": "learned", "stuck": "stayed stuck at the plateau of a constant output", "diverged": "diverged", "untrained": "had no update"}
    told = words.listing(f"{count:,} {ways[outcome]}" for outcome, count in counts.items() if count)
    everyone = words.every(len(outcomes), "run")
    alike = len(set(outcomes)) == 1
    head = f"{everyone[0].upper()}{everyone[1:]} {ways[outcomes[0]]}." if alike else f"Of {words.count(len(outcomes), 'run')} {told}."
    trained = [setting for setting, kind in kinds.items() if kind == "trained"]
    return Finding("What became of the runs", (head, *_best(study, trained), *_depths(study)))


def _best(study: Study, trained: Sequence[Setting]) -> list[str]:
    scores = {setting: float(study.numbers(setting, "final_accuracy_test").mean()) for setting in trained}
    scores = {setting: score for setting, score in scores.items() if not np.isnan(score)}
    if not scores:
        return []
    best = max(scores, key=scores.__getitem__)
    end = f"{words.percent(scores[best])} of the test set"
    if len(study.settings) > 1:
        return [f"The best ends at {end}, with {best.text()}."]
    return [f"It ends at {end}." if len(best.runs) == 1 else f"On average they end at {end}."]


def _depths(study: Study) -> list[str]:
    """Where learning ends along the depth, if it does; of depths at which some run was trained."""
    by_depth: dict[int, set[str]] = {}
    for setting in study.settings:
        by_depth.setdefault(study.depth(setting), set()).update(study.outcomes(setting))
    by_depth = {depth: found for depth, found in by_depth.items() if found - {"untrained"}}
    learned = [depth for depth, found in by_depth.items() if "trained" in found]
    beyond = [depth for depth in by_depth if depth > max(learned, default=0)]
    if not learned or not beyond:
        return []
    return [f"The deepest nets that learned have {words.count(max(learned), 'layer')}; none with {min(beyond)} or more did."]


# ---------------------------------------------------------------------------------------------- why they did not


def _failed(study: Study, settings: Sequence[Setting], kind: str) -> list[Finding]:
    """A paragraph for a few of the settings, evenly spread."""
    told = spread(settings, MOST_TOLD)
    found = []
    for number, setting in enumerate(told):
        seen = causes(study, setting)
        advice = remedy(study, setting, [cause.kind for cause in seen])
        sentences = [_end(study, setting, kind), *(cause.sentence for cause in seen), *([advice.sentence] if advice else [])]
        others = len(settings) - len(told)
        if others and number == len(told) - 1:
            sentences.append(f"{words.count(others, 'more setting')} {FAILED[kind][others > 1]} too.")
        verb = FAILED[kind][0]
        found.append(Finding(f"Why {_name(setting)} {verb}", tuple(sentences), advice.command if advice else None))
    return found


def _end(study: Study, setting: Setting, kind: str) -> str:
    """How it ended."""
    if kind == "diverged":
        ends = study.frame.loc[list(setting.runs), "diverged_at"].dropna()
        when = f" after {words.count(int(ends.min()), 'update')}{' at the earliest' if len(ends) > 1 else ''}" if len(ends) else ""
        return f"Loss or weights stopped being finite{when}."
    loss, plateau = (study.numbers(setting, name) for name in ("final_loss", "plateau_loss"))
    if not len(loss) or not len(plateau):
        return "The loss never left the plateau of a constant output."
    return f"The full training loss ends at {words.number(float(loss.mean()))}; the best constant output has {words.number(float(plateau.mean()))}."


# ---------------------------------------------------------------------------------------------- what a dtype can't hold


def _underflow(study: Study) -> Finding | None:
    """From which layer on gradients would be subnormal, or 0, in plain numbers of a dtype: of the net whose gradient vanishes most."""
    deep = {setting: backward_change(study, setting, 0) for setting in with_layers(study)}
    known = {setting: change for setting, change in deep.items() if np.isfinite(change)}
    if not known:
        return None
    worst = min(known, key=known.__getitem__)
    entries = _entries(study, worst)
    if entries is None or min(entries.values()) >= floors(DTYPES[0]).normal:
        return None
    sentences = [_held(entries, dtype) for dtype in DTYPES]
    with_ = f"With {worst.text()}" if worst.keys else "In this net"
    last = "bpexp keeps an exponent beside each layer's gradient, so what is shown here is right all the same."
    return Finding("What plain numbers could not hold", (f"{with_}, before training, {'; '.join(sentences)}.", last))


def _entries(study: Study, setting: Setting) -> dict[int, float] | None:
    """log10 of the root mean square of a layer's gradient, by layer; None where the data can't be loaded any more."""
    try:
        config = study.config(setting)
        data = load(config.data)
    except ConfigError:
        return None
    sizes = [data.inputs, *[config.width] * (config.depth - 1), data.outputs]
    norms = at_step(study, setting, 0, GRAD)
    return {int(k): float(norm - 0.5 * np.log10(sizes[int(k) - 1] * sizes[int(k)])) for k, norm in zip(norms.index, norms, strict=True)}


def _held(entries: dict[int, float], dtype: str) -> str:
    """The layers, counted from the output back, at which entries first fall below what a dtype can hold."""
    floor = floors(dtype)
    subnormal, zero = (max((k for k, entry in entries.items() if entry < least), default=None) for least in (floor.normal, floor.zero))
    if subnormal is None:
        return f"{dtype} would hold the gradient of every layer"
    text = f"the entries of the gradient (root mean square) would be subnormal in {dtype} from layer {subnormal} back"
    return f"{text} and 0 from layer {zero} back" if zero is not None else text
