"""Studies of recipes: sweeps whose settings are no grid but variants, each with a few changes to a plain net (`activation=relu init=he`).

A recipe is what a run has of the varying keys other than depth, learning rate and seed.  At each depth it is judged with its best learning
rate, by the runs that had no part in choosing it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import inf, prod
from typing import Any

import pandas as pd

from bpexp.config import GROUPS, TABLES, RunConfig, flatten, written
from bpexp.core.initializers import INITIALIZERS
from bpexp.core.losses import LOSSES
from bpexp.core.records import decades_per_layer
from bpexp.report import words
from bpexp.report.selection import Setting, Study

__all__ = [
    "GOOD",
    "PLAIN",
    "Standing",
    "at_the_deepest",
    "is_of_recipes",
    "plain_among",
    "recipes",
    "standings",
    "table",
    "the_best",
    "typed_changes",
]

PLAIN = "plain"  # the base: the recipe that all others are changes of
GOOD = 0.9  # test accuracy: what a recipe is timed by
FEWEST = 3  # recipes that are worth a ranking
MOST_VALUES = 10  # of a number in recipes: more make an axis, as those that a search has tried
NO_PART = ("depth", "lr", "seed")  # of a recipe
ORDER = {key: place for place, key in enumerate(TABLES)}

Values = Mapping[str, Any]


# ---------------------------------------------------------------------------------------------- recipes and their names


def recipes(study: Study) -> dict[str, str]:
    """The recipe of every run by its id: the keys in which it differs from the base, as one types them.

    The base, `plain`, is the recipe with most of its values at their defaults.
    """
    names = [name for name in study.columns if name not in NO_PART]
    chosen = [name for name in ("depth", *names) if name == "depth" or name in TABLES or name.endswith(".name")]
    known = study.frame.dropna(subset=chosen) if "depth" in study.frame else study.frame.iloc[:0]  # a run that failed may lack some
    rows = zip(known.index, known[names].astype(object).to_numpy(), strict=True)
    values = {run_id: dict(zip(names, map(words.plain, row), strict=True)) for run_id, row in rows}
    if not values:
        return {}
    defaults = flatten(RunConfig())
    base = min(values.values(), key=lambda some: len(typed_changes(some, defaults)))
    return {run_id: " ".join(typed_changes(some, base)) or PLAIN for run_id, some in values.items()}


def typed_changes(values: Values, base: Values) -> list[str]:
    """A configuration's values but for those that it has from the base, and those that follow from another of its values, in the tables' order."""
    ordered = sorted(values.items(), key=lambda pair: ORDER.get(pair[0].partition(".")[0], len(ORDER)))
    return [f"{key.removesuffix('.name')}={_typed(value)}" for key, value in ordered if value != _expected(key, values, base)]


def _typed(value: Any) -> str:
    return written(value).removesuffix(".0") if isinstance(value, float) else written(value)


def _expected(key: str, values: Values, base: Values) -> Any:
    """The value that nobody had to ask for: where the name that fills a key in (optimizer.name, the loss) is not the base's, what it fills in."""
    if key == "init.sigma_w2" and INITIALIZERS[values["init.name"]].solved:
        return values[key]
    group, _, entry = key.partition(".")
    if key == "output" and values["loss"] != base["loss"]:
        return LOSSES[values["loss"]].default_output
    name = f"{group}.name"
    if group in GROUPS and key != name and values[name] != base[name]:
        now, before = (GROUPS[group][some[name]].keys for some in (values, base))
        return now[entry] if entry in now else None if entry in before else base[key]
    return base[key]


@lru_cache(maxsize=2)
def is_of_recipes(study: Study) -> bool:
    """Whether there are recipes to rank: enough of them, with accuracies, and no grid or search, which other pictures show better; sweeps that are
    compared mix what one of them had in common.
    """
    if study.runs.sweeps:
        return False
    found = set(recipes(study).values())
    if len(found) < FEWEST or not any(len(study.numbers(setting, "final_accuracy_test")) for setting in study.settings):
        return False
    named = {change.partition("=")[0] for name in found for change in name.split(" ")}
    keys = [key for key in study.varying if key.name.removesuffix(".name") in named]
    if any(key.ordered and len(key.levels) > MOST_VALUES for key in keys):
        return False
    return len(found) < prod(len(key.levels) for key in keys)


# ---------------------------------------------------------------------------------------------- how they do


@dataclass(frozen=True, eq=False)
class Standing:
    """A recipe at a depth with its best learning rate: the runs that it is judged by."""

    study: Study
    recipe: str
    depth: int
    lr: float
    runs: Setting
    tuned: bool

    def numbers(self, column: str) -> pd.Series:
        return self.study.numbers(self.runs, column)

    @cached_property
    def accuracy(self) -> float:
        """Mean test accuracy at the last evaluation."""
        return float(self.numbers("final_accuracy_test").mean())

    @cached_property
    def diverged(self) -> int:
        return self.study.outcomes(self.runs).count("diverged")

    @cached_property
    def steps_to_good(self) -> list[float]:
        """Of each run, the first evaluated step with a good test accuracy; infinite where there is none."""
        found = []
        for run_id in self.runs.runs:
            curve = self.study.curves(run_id)
            found.append(float(curve["step"][curve["accuracy_test"] >= GOOD].min()))
        return [inf if step != step else step for step in found]  # noqa: PLR0124 (NaN)

    @cached_property
    def decades_at_the_end(self) -> pd.Series:
        """Decades that the gradient loses per layer at the last probed step, of the runs where they are defined."""
        layers = self.study.layers(self.runs)
        last = layers[layers["step"] == layers.groupby("run_id")["step"].transform("max")].sort_values("layer")
        slopes = [decades_per_layer(rows["log10_delta_norm"].to_numpy(float)) for _, rows in last.groupby("run_id")]
        return pd.Series([slope for slope in slopes if slope is not None], dtype=float)


@lru_cache(maxsize=2)
def standings(study: Study) -> tuple[Standing, ...]:
    """Every recipe at every depth, the depths in order, the recipes of a depth from the highest test accuracy to the lowest."""
    names, frame = recipes(study), study.frame
    drawn = [run_id for setting in study.settings for run_id in setting.runs if run_id in names]
    groups: dict[tuple[int, str], list[str]] = {}
    for run_id in drawn:
        groups.setdefault((int(frame["depth"].loc[run_id]), names[run_id]), []).append(run_id)
    found = [Standing(study, recipe, depth, *_judged(frame.loc[runs])) for (depth, recipe), runs in groups.items()]
    return tuple(sorted(found, key=lambda some: (some.depth, _last_if_nan(-some.accuracy), some.recipe != PLAIN, some.recipe)))


def _last_if_nan(value: float) -> float:
    return inf if value != value else value  # noqa: PLR0124 (NaN)


def _judged(runs: pd.DataFrame) -> tuple[float, Setting, bool]:
    """The best learning rate, the runs with it that count, and whether some were left out.

    A tuned sweep runs the first seed with every learning rate and the other seeds with the winner: the best is the one with most seeds, among
    equals the one of the lowest mean final training loss (a run that diverged lost), then the smallest.  A seed that ran with others too chose
    it, and is left out where there are seeds that did not.
    """
    loss = runs["final_loss"].where(runs["outcome"] != "diverged").fillna(inf) if "final_loss" in runs else pd.Series(inf, runs.index)
    by_lr = runs.assign(loss=loss).groupby("lr").agg(seeds=("seed", "nunique"), loss=("loss", "mean")).reset_index()
    best = by_lr.sort_values(["seeds", "loss", "lr"], ascending=[False, True, True])["lr"].iloc[0]
    chosen = runs[runs["lr"] == best]
    fresh = chosen[~chosen["seed"].isin(runs["seed"][runs["lr"] != best])]
    judged = fresh if len(fresh) else chosen
    return float(best), Setting((), (), tuple(map(str, judged.index))), len(judged) < len(chosen)


def at_the_deepest(some: Sequence[Standing]) -> list[Standing]:
    """The standings of the greatest depth, in their order."""
    deepest = max(standing.depth for standing in some)
    return [standing for standing in some if standing.depth == deepest]


def plain_among(some: Sequence[Standing]) -> Standing | None:
    """The plain net's standing, if it was run."""
    return next((standing for standing in some if standing.recipe == PLAIN), None)


@lru_cache(maxsize=2)
def the_best(study: Study, most: int) -> Study:
    """The runs of the plain net and of the recipes of highest test accuracy, at the greatest depth and with their best learning rates."""
    some = at_the_deepest(standings(study))
    plain = plain_among(some)
    chosen = [plain, *[standing for standing in some if standing != plain][: most - 1]] if plain else some[:most]
    ids = [run_id for standing in chosen for run_id in standing.runs.runs]
    frames = {name: frame[frame["run_id"].isin(ids)] for name in ("runs", "curves", "layers") if len(frame := getattr(study.runs, name))}
    return Study(replace(study.runs, **frames))


# ---------------------------------------------------------------------------------------------- as a table


def table(some: Sequence[Standing]) -> pd.DataFrame:
    """All numbers: a row per recipe and depth, what is not defined left empty.

    `cost` is the time of a step over the plain net's at the same depth; without such times there is no such column.
    """
    frame = pd.DataFrame([_row(standing) for standing in some])
    frame.insert(1, "rank", frame.groupby("depth")["accuracy_mean"].rank(ascending=False, method="min", na_option="bottom").astype(int))
    if frame["step_seconds"].isna().all():
        return frame.drop(columns="step_seconds")
    plain = frame[frame["recipe"] == PLAIN].set_index("depth")["step_seconds"]
    return frame.assign(cost=frame["step_seconds"] / frame["depth"].map(plain))


def _row(some: Standing) -> dict[str, Any]:
    reached = pd.Series([step for step in some.steps_to_good if step < inf], dtype=float)
    row = {"depth": some.depth, "recipe": some.recipe, "lr": some.lr, "runs": len(some.runs.runs), "diverged": some.diverged}
    row |= _mean_std("accuracy", some.numbers("final_accuracy_test"))
    row |= {"reached": len(reached), "steps_median": reached.median(), **_mean_std("steps", reached)}
    row |= _mean_std("decades_start", some.numbers("delta_decades_per_layer"))
    row |= _mean_std("decades_end", some.decades_at_the_end)
    return row | {"step_seconds": some.numbers("step_seconds").mean()}


def _mean_std(name: str, numbers: pd.Series) -> dict[str, float]:
    return {f"{name}_mean": float(numbers.mean()), f"{name}_std": float(numbers.std(ddof=1))}
