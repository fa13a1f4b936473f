"""The jobs that a sweep's words ask for: for each variant, every combination of the listed values.

Of a key's words the last one counts: those of `params` come first, then a variant's, then those of the command line.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from bpexp.config import WHOLE, Fault, aside
from bpexp.sweep.compose import Words
from bpexp.sweep.names import STUDY, is_hydras, parse_word, sort_words

__all__ = ["Grid", "expand", "flat_list", "sweep_name", "typed_values"]

VARIANTS = "hydra.sweeper.variants"


@dataclass(frozen=True)
class Grid:
    """Jobs, each with its words; what is swept in all of them (key -> values as typed); and a name for the whole."""

    jobs: list[Words]
    swept: dict[str, str]
    name: str


def expand(
    params: Sequence[str], variants: Sequence[object], typed: Sequence[str], folders: Sequence[Path], parser: OverridesParser
) -> tuple[Grid, list[Fault]]:
    """The grid of all words that can be read, and the faults of the others; `typed` are sorted already."""
    good, faults = _listed(*sort_words(params, folders, sweep=True))
    typed, unlisted = _listed(typed, [])
    faults += unlisted
    jobs: list[Words] = []
    for variant in variants or [""]:
        words, wrong = _variant_words(variant, folders)
        faults.extend(wrong)
        overrides = parser.parse_overrides([*good, *words, *typed])
        jobs.extend(tuple(job) for batch in BasicSweeper.split_arguments(overrides, None) for job in batch)
    common = parser.parse_overrides([*good, *typed])
    swept = {key: typed_values(override) for key, override in {it.key_or_group: it for it in common}.items() if override.is_sweep_override()}
    return Grid(jobs, swept, sweep_name(swept, typed, len(variants))), faults


def flat_list(value: object) -> list[object]:
    """A list as one writes it, in which a list stands for its items; what is no list is its only item, and null is none."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [item for inner in value for item in flat_list(inner)]
    return [] if value is None else [value]


def _variant_words(variant: object, folders: Sequence[Path]) -> tuple[list[str], list[Fault]]:
    """A variant's words, split as a shell splits them, and the faults of those that are none."""
    if not isinstance(variant, str):
        return [], [Fault(VARIANTS, variant, "must be a text with the words of one variant, or a list of such texts")]
    try:
        words = shlex.split(variant)
    except ValueError as error:
        return [], [Fault(VARIANTS, variant, f"can't be read ({error})")]
    good, faults = _listed(*sort_words(words, folders, sweep=True))
    overrides = {word: parse_word(word) for word in good}
    general = {word: it for word, it in overrides.items() if it.key_or_group == STUDY or is_hydras(it.key_or_group) or it.key_or_group in WHOLE}
    faults += [Fault(it.key_or_group, typed_values(it), "is for the whole sweep, not for a variant") for it in general.values()]
    return [word for word in good if word not in general], faults


def _listed(words: Sequence[str], faults: list[Fault]) -> tuple[list[str], list[Fault]]:
    """The words that set a value or list several, and the faults there are with those of the others: a grid has no use for an interval."""
    overrides = {word: parse_word(word) for word in words}
    endless = {word: it for word, it in overrides.items() if it.is_sweep_override() and not it.is_discrete_sweep()}
    must = "must be a list of values, such as 1,2,5 or range(1,5); an interval is for hydra/sweeper=optuna"
    more = [Fault(it.key_or_group, typed_values(it), must) for it in endless.values()]
    return [word for word in words if word not in endless], [*faults, *more]


def typed_values(override: Override) -> str:
    """The values of a key as they were typed."""
    return str(override.input_line).partition("=")[2]


def sweep_name(swept: Mapping[str, str], typed: Sequence[str], variants: int) -> str:
    """`depth=10,50,100 steps=500`: the words typed, but for those that say how and where; then, but for a study, what else is swept."""
    words = {parse_word(word).key_or_group: word for word in typed}
    own = {key: word for key, word in words.items() if not (is_hydras(key) or aside(key))}
    if STUDY not in own:
        own |= {key: f"{key}={values}" for key, values in swept.items() if key not in words}
        own |= {VARIANTS: f"{variants} variants"} if variants else {}
    return " ".join(own.values()) or "defaults"
