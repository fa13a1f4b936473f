"""What a report is about: runs, the keys that differ between them, and the settings that those keys make."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from math import log, prod
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from bpexp.config import RunConfig, keys
from bpexp.core import schedule
from bpexp.report import words
from bpexp.tracking.compared import SWEEP
from bpexp.tracking.reader import Runs, configuration

__all__ = ["MEASURED", "Key", "Setting", "Study", "colour_key", "escape", "facets", "idle", "one_of_each", "spread", "sub_grid", "words_of"]

T = TypeVar("T")

# the field's name and symbol of a key: in a figure (mathtext), and in plain text
SYMBOLS = {
    "depth": ("depth", r"$L$", "L"),
    "width": ("width", r"$N$", "N"),
    "lr": ("learning rate", r"$\eta$", "η"),
    "output_lr": ("output layer's learning rate", r"$\eta_L$", "η_L"),
    "steps": ("training steps", r"$T$", "T"),
    "batch_size": ("batch size", r"$B$", "B"),
    "init.sigma_w2": ("weight variance", r"$\sigma_w^2$", "σw²"),
    "init.sigma_b2": ("bias variance", r"$\sigma_b^2$", "σb²"),
}
SPEAK_FOR_THEMSELVES = (SWEEP, "activation", "output", "loss", "init.name", "data.name", "optimizer.name", "dtype")
REPETITION = "seed"
MEASURED = ("probes", "probe_points")  # of a run, and no setting of its net


@dataclass(frozen=True)
class Key:
    """A key of the configuration and the values, its levels, that it takes in a study: numbers (`ordered`), or names in the order they came in."""

    name: str
    levels: tuple[Any, ...]
    ordered: bool

    @property
    def words(self) -> str:
        """What it is called."""
        return words_of(self.name)

    @property
    def axis(self) -> str:
        """What an axis says."""
        return f"{self.words} {SYMBOLS[self.name][1]}" if self.name in SYMBOLS else self.words

    @property
    def log(self) -> bool:
        """Whether its values ask for a logarithmic axis: learning rates, and whatever is spaced more evenly in ratios than in differences."""
        if not self.ordered or self.levels[0] <= 0:
            return False
        return self.name in ("lr", "output_lr") or (len(self.levels) > 2 and _uneven([log(value) for value in self.levels]) < _uneven(self.levels))

    @cached_property
    def _digits(self) -> int:
        """Significant digits that tell all values apart, three at least."""
        return next(
            digits for digits in range(3, 18) if digits == 17 or len({f"{value:.{digits - 1}e}" for value in self.levels}) == len(self.levels)
        )

    def written(self, value: Any) -> str:
        """A value, a number as short as tells it from the others."""
        return words.value(float(f"{value:.{self._digits - 1}e}") if self.ordered and isinstance(value, float) else value)

    def text(self, value: Any) -> str:
        """A value in words: L = 50."""
        return self.written(value) if self.name in SPEAK_FOR_THEMSELVES else f"{self._symbol(2)} = {self.written(value)}"

    def math(self, value: Any) -> str:
        """The same for a figure."""
        return escape(self.written(value)) if self.name in SPEAK_FOR_THEMSELVES else f"{self._symbol(1)} = {escape(self.written(value))}"

    def _symbol(self, kind: int) -> str:
        return SYMBOLS[self.name][kind] if self.name in SYMBOLS else self.words


def words_of(name: str) -> str:
    """What a key is called."""
    return SYMBOLS[name][0] if name in SYMBOLS else name.removesuffix(".name").replace(".", " ").replace("_", " ")


def escape(text: str) -> str:
    """Text that matplotlib is to draw as it is."""
    return text.replace("\\", r"\\").replace("$", r"\$")


def _uneven(values: Sequence[float]) -> float:
    """How far the gaps between values are from equal: their standard deviation over their mean."""
    gaps = np.diff(np.asarray(values, float))
    return float(gaps.std() / gaps.mean())


@dataclass(frozen=True)
class Setting:
    """A level of each of a study's swept keys, in their order, and the runs that have them: more than one where seeds repeat them."""

    keys: tuple[Key, ...]
    levels: tuple[Any, ...]
    runs: tuple[str, ...]

    def __getitem__(self, key: Key | None) -> Any:
        return None if key is None else self.levels[self.keys.index(key)]

    def text(self, without: Iterable[Key] = ()) -> str:
        return ", ".join(key.text(self[key]) for key in self.keys if key not in without)

    def math(self, without: Iterable[Key] = ()) -> str:
        return ", ".join(key.math(self[key]) for key in self.keys if key not in without)


@dataclass(frozen=True, eq=False)  # itself alone: frames have no hash
class Study:
    """Runs as the pictures see them: settings, each with its runs' curves and layers.  Runs without records are in `frame` alone."""

    runs: Runs

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row per run, by run id."""
        return self.runs.runs.drop_duplicates("run_id").set_index("run_id", drop=False)

    @cached_property
    def swept(self) -> tuple[Key, ...]:
        """The keys with more than one value, but for the seed and for keys that follow another."""
        return tuple(key for key in self.varying if key.name not in self.follows)

    @cached_property
    def fixed(self) -> dict[str, Any]:
        """The configuration that all runs share."""
        varying = {key.name for key in self.varying}
        shared = {name: words.plain(self.frame[name].iloc[0]) for name in self.columns if name not in varying and len(self.frame)}
        return {name: entry for name, entry in shared.items() if entry is not None and (name != REPETITION or len(self.seeds) == 1)}

    @cached_property
    def follows(self) -> dict[str, str]:
        """Keys whose value a name fixes (output by loss, a critical variance by the activation), and the key that holds the name."""
        names = [key for key in self.varying if not key.ordered]
        names.sort(key=lambda key: key.name == "output")  # the loss chooses the output, not the output the loss; the sweep, in front, all
        found: dict[str, str] = {}
        for leader in names:
            for key in self.varying:
                alone = self._known[[leader.name, key.name]].astype(object).map(words.plain).drop_duplicates()
                if key != leader and leader.name not in found and key.name not in found and len(alone) == len(leader.levels):
                    found[key.name] = leader.name
        return found

    @cached_property
    def seeds(self) -> list[int]:
        """The seeds of all runs."""
        return sorted(int(seed) for seed in self.frame[REPETITION].dropna().unique()) if REPETITION in self.frame else []

    @cached_property
    def settings(self) -> tuple[Setting, ...]:
        """Each combination of swept values that has a run with records, in the values' order."""
        found: dict[tuple[Any, ...], list[str]] = {}
        for run_id in self.frame.index[self.frame.index.isin(self._curves) & ~self.frame.index.isin(self.measured_again)]:
            values = tuple(words.plain(self.frame[key.name].loc[run_id]) for key in self.swept)
            found.setdefault(values, []).append(run_id)
        order = sorted(found, key=lambda values: [key.levels.index(value) for key, value in zip(self.swept, values, strict=True)])
        return tuple(Setting(self.swept, values, tuple(found[values])) for values in order)

    def curves(self, run_id: str) -> pd.DataFrame:
        return self._curves[run_id]

    def layers(self, setting: Setting) -> pd.DataFrame:
        """The layers of all runs of a setting, one below the other."""
        return self._below_each_other("layers", setting)

    def histograms(self, setting: Setting) -> pd.DataFrame:
        """The same of the histograms, which runs have that chose them."""
        return self._below_each_other("histograms", setting)

    def _below_each_other(self, kind: str, setting: Setting) -> pd.DataFrame:
        frames = self.runs.by_run(kind)
        found = [frames[run_id] for run_id in setting.runs if run_id in frames]
        return pd.concat(found) if found else getattr(self.runs, kind).iloc[:0]

    def numbers(self, setting: Setting, column: str) -> pd.Series:
        """A column of `frame` over the runs of a setting, where it is a finite number."""
        if column not in self.frame:
            return pd.Series(dtype=float)
        entries = pd.to_numeric(self.frame.loc[list(setting.runs), column], errors="coerce").astype(float)
        return entries[np.isfinite(entries)]

    def outcomes(self, setting: Setting) -> list[str]:
        """The outcomes of a setting's runs, unknown ones left out."""
        return [str(outcome) for outcome in self.frame.loc[list(setting.runs), "outcome"].dropna()]

    def config(self, setting: Setting, changes: Mapping[str, Any] | None = None) -> RunConfig:
        """The configuration of a setting's first run, some keys `changes` of it changed.  Raises `ConfigError` where there is none such."""
        return configuration(self.frame.loc[setting.runs[0]].to_dict() | dict(changes or {}))

    def depth(self, setting: Setting) -> int:
        return int(words.plain(self.frame["depth"].loc[setting.runs[0]]))

    @cached_property
    def columns(self) -> list[str]:
        """The keys of the net and of its training that the runs tell of; before them, where sweeps are compared, the sweep."""
        return [name for name in (SWEEP, *keys(RunConfig)) if not name.startswith("tracking.") and name not in MEASURED and name in self.frame]

    @cached_property
    def measured_again(self) -> frozenset[str]:
        """The runs with records that another one repeats with more probes, or the same and more points: they would count for two."""
        known = [name for name in MEASURED if name in self._known]
        if not known:
            return frozenset()
        rows = self._known[[*self.columns, *known]].astype(object).map(words.plain)
        most = rows.assign(probes_told=rows[known[0]].astype(str).str.len()).sort_values(["probes_told", *known[1:]], kind="stable")
        groups = most.groupby(self.columns, dropna=False, sort=False)
        differ = groups[known].transform("nunique").gt(1).any(axis=1)
        return frozenset(most.index[differ & most.duplicated(self.columns, keep="last")])

    @cached_property
    def _known(self) -> pd.DataFrame:
        """The rows of runs with records, or all where none has any: a run that failed early may lack part of its configuration."""
        known = self.frame[self.frame.index.isin(self._curves)]
        return known if len(known) else self.frame

    @cached_property
    def varying(self) -> tuple[Key, ...]:
        return tuple(key for name in self.columns if name != REPETITION and len((key := self._key(name)).levels) > 1)

    def _key(self, name: str) -> Key:
        known, everywhere = ([words.plain(entry) for entry in frame[name]] for frame in (self._known, self.frame))
        values: list[Hashable] = [entry for entry in dict.fromkeys(everywhere) if entry is not None or None in known]
        ordered = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        return Key(name, tuple(sorted(values)) if ordered else tuple(values), ordered)

    @cached_property
    def _curves(self) -> dict[str, pd.DataFrame]:
        return self.runs.by_run("curves")


def idle(study_keys: Sequence[Key], results: Mapping[Setting, Hashable]) -> list[Key]:
    """Keys that make no difference: wherever settings differ in such a key alone, their results are equal.

    The learning rate is one for everything measured before the first update.
    """

    def alone(key: Key) -> bool:
        groups: dict[tuple[Any, ...], set[Hashable]] = {}
        for setting, result in results.items():
            groups.setdefault(tuple(setting[other] for other in study_keys if other != key), set()).add(result)
        return len(groups) < len(results) and all(len(group) == 1 for group in groups.values())

    return [key for key in study_keys if alone(key)]


def one_of_each(settings: Iterable[Setting], ignored: Sequence[Key]) -> list[Setting]:
    """The first of the settings that differ in ignored keys alone."""
    found: dict[tuple[Any, ...], Setting] = {}
    for setting in settings:
        found.setdefault(tuple(setting[key] for key in setting.keys if key not in ignored), setting)
    return list(found.values())


def colour_key(candidates: Sequence[Key]) -> Key | None:
    """The key that lines are coloured by: numbers before names, then the one with most values."""
    return max(candidates, key=lambda key: (key.ordered, len(key.levels)), default=None)


def facets(settings: Iterable[Setting], inside: Sequence[Key | None]) -> list[tuple[str, list[Setting]]]:
    """Settings grouped by the keys that are not drawn inside a panel, each group with the name of its panel (for a figure)."""
    everyone = list(settings)
    outside = [key for key in (everyone[0].keys if everyone else ()) if key not in inside and len({setting[key] for setting in everyone}) > 1]

    def place(setting: Setting) -> tuple[int, ...]:
        return tuple(key.levels.index(setting[key]) for key in outside)

    groups = [list(group) for _, group in groupby(sorted(everyone, key=place), place)]
    return [(", ".join(key.math(group[0][key]) for key in outside), group) for group in groups]


def sub_grid(settings: Sequence[Setting], most: int) -> list[Setting]:
    """At most so many settings, evenly spread along each key, first and last values among them; by position where they form no grid."""
    if len(settings) <= most:
        return list(settings)
    swept = settings[0].keys
    values = [[value for value in key.levels if any(setting[key] == value for setting in settings)] for key in swept]
    counts = [len(some) for some in values]
    while prod(counts) > most:
        counts[counts.index(max(counts))] -= 1
    kept = [spread(some, count) for some, count in zip(values, counts, strict=True)]
    chosen = [setting for setting in settings if all(value in some for value, some in zip(setting.levels, kept, strict=True))]
    return chosen if 2 * len(chosen) > most else spread(settings, most)


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many of the items, evenly spread by position, the first and the last among them."""
    return [items[index] for index in schedule.spread(np.arange(len(items)), most)]
