"""The ranking of a study of recipes: a picture and tables of which of them learn."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bpexp.report import words
from bpexp.report.intervals import FEWEST, Interval
from bpexp.report.picture import MOST_PANELS, WIDTH, Picture, Table, end_handle, legend
from bpexp.report.recipes import GOOD, PLAIN, Standing, is_of_recipes, standings, table, the_best
from bpexp.report.selection import Study, spread

__all__ = ["MOST_RECIPES", "SMALL", "accuracy", "few_of", "fewer", "in_lines", "judged_by", "net", "of_the_best", "ranking"]

MOST_DEPTHS = 4  # panels of the ranking
MOST_RECIPES = 60  # rows, or panels
NAME_LENGTH = 36  # characters of a line beside a row
SMALL = 6.5  # points


def net(recipe: str) -> str:
    """What a sentence calls a recipe."""
    return "the plain net" if recipe == PLAIN else recipe


def in_lines(recipe: str, length: int) -> str:
    """A name in lines of so many characters, broken between its changes, and after the = of one that is longer."""
    parts = [change if len(change) <= length else change.replace("=", "= ") for change in recipe.split(" ")]
    return "\n".join(wrap(" ".join(parts), length, break_long_words=False, break_on_hyphens=False))


def fewer(recipes: Sequence[str]) -> tuple[list[str], list[str]]:
    """As many recipes as stay readable, the plain one among them, and a note where that leaves some out."""
    chosen = set(spread([recipe for recipe in recipes if recipe != PLAIN], MOST_RECIPES)) | {PLAIN}
    kept = [recipe for recipe in recipes if recipe in chosen]
    return kept, [f"{len(kept)} of {len(recipes)} recipes are shown, evenly spread over their ranks."] if len(kept) < len(recipes) else []


@lru_cache(maxsize=2)
def few_of(study: Study) -> Study:
    """What pictures with a panel per setting are of: in a study of recipes, the plain net and the best recipes alone."""
    return the_best(study, MOST_PANELS) if is_of_recipes(study) else study


def of_the_best(draw: Callable[[Study], Picture]) -> Callable[[Study], Picture]:
    """A picture of `few_of` a study."""

    def picture(study: Study) -> Picture:
        few = few_of(study)
        drawn = draw(few)
        if few is study:
            return drawn
        note = f"Of all recipes, the plain one and the best at depth {few.depth(few.settings[0])}, each with its best learning rate."
        return replace(drawn, notes=(note, *drawn.notes))

    return picture


# ---------------------------------------------------------------------------------------------- who learns


def ranking(study: Study) -> Picture:
    """Test accuracy of every recipe with its best learning rate, a panel per depth; the tables tell the other numbers."""
    some = standings(study)
    depths = sorted({standing.depth for standing in some})
    ranked = list(dict.fromkeys(standing.recipe for depth in reversed(depths) for standing in some if standing.depth == depth))
    recipes, notes = fewer(ranked)
    names = [in_lines(recipe, NAME_LENGTH) for recipe in recipes]
    heights = np.array([name.count("\n") + 1.5 for name in names])
    places = dict(zip(recipes, np.cumsum(heights) - heights / 2, strict=True))
    shown = spread(depths, MOST_DEPTHS)
    figure = Figure(figsize=(WIDTH, 0.11 * heights.sum() + 1.1))
    axes = list(figure.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False).ravel())
    for ax, depth in zip(axes, shown, strict=True):
        _draw_ranking(ax, [standing for standing in some if standing.depth == depth], places)
        ax.set_title(f"$L$ = {depth}")
    axes[0].set_yticks(list(places.values()), names, fontsize=SMALL, linespacing=1.05)
    axes[0].get_yticklabels()[recipes.index(PLAIN)].set_fontweight("bold")
    axes[0].set_ylim(heights.sum(), 0)
    axes[0].set_xlim(0, 1.02)
    figure.supxlabel("test accuracy after the last step")
    handles: list[Artist] = [
        Line2D([], [], color="C0", marker="o", linewidth=0.9, label=_mean_told(some)),
        Line2D([], [], color="black", linestyle=(0, (4, 3)), linewidth=0.9, label=PLAIN),
    ]
    legend(figure, [*handles, *([end_handle()] if any(standing.diverged for standing in some) else [])])
    if len(shown) < len(depths):
        notes.append(f"{len(shown)} of {len(depths)} depths are shown; the tables have all of them.")
    numbers = table(some)
    return Picture(figure, _ranking_sentence(numbers), (*notes, *judged_by(some)), tuple(_tables(numbers)), numbers=numbers)


def _draw_ranking(ax: Axes, some: Sequence[Standing], places: dict[str, float]) -> None:
    known = [standing for standing in some if standing.accuracy == standing.accuracy and standing.recipe in places]
    y, means = [places[standing.recipe] for standing in known], [standing.accuracy for standing in known]
    around = [Interval.of(standing.numbers("final_accuracy_test")) for standing in known]
    spans = np.array([[each.mean - each.low for each in around], [each.high - each.mean for each in around]])
    ax.errorbar(means, y, xerr=spans.clip(min=0.0), color="C0", linestyle="", marker="o", markersize=3.5, elinewidth=0.9, capsize=0, label="mean")
    ended = [(standing.accuracy, places[standing.recipe]) for standing in known if standing.diverged]
    ax.plot([x for x, _ in ended], [place for _, place in ended], "x", color="#444444", markersize=7, label="diverged", zorder=3)
    for standing in known:
        if standing.recipe == PLAIN:
            ax.axvline(standing.accuracy, color="black", linestyle=(0, (4, 3)), linewidth=0.9, label=PLAIN, zorder=1.5)


def _mean_told(some: Sequence[Standing]) -> str:
    """What the legend says of points and their bars."""
    most = max(len(standing.runs.runs) for standing in some)
    return "mean, 95 % confidence interval" if most >= FEWEST else "mean, lowest and highest" if most > 1 else "a run"


def accuracy(row: "pd.Series[Any]") -> str:
    """The test accuracy of a row of the table: 91.7 ± 0.3 %."""
    mean, std = row["accuracy_mean"], row["accuracy_std"]
    return "–" if np.isnan(mean) else words.percent(mean) if np.isnan(std) else f"{100 * mean:.1f} ± {100 * std:.1f} %"


def judged_by(some: Sequence[Standing]) -> list[str]:
    """How learning rates were chosen, and which runs count."""
    sizes = sorted({len(standing.runs.runs) for standing in some})
    runs = words.count(sizes[0], "run") if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]} runs"
    notes = [f"Each recipe has at each depth its best learning rate, and is judged by {runs} with it."]
    if sizes[-1] > 1:
        notes.append("±: one standard deviation of the runs.")
    if any(standing.tuned for standing in some):
        notes.append("A seed that chose between learning rates, by the final training loss, does not count.")
    if diverged := sum(standing.diverged for standing in some):
        notes.append(f"Of a run that diverged ({diverged} did) the last evaluation counts.")
    return notes


def _ranking_sentence(numbers: pd.DataFrame) -> str:
    frame = numbers[numbers["depth"] == numbers["depth"].max()]
    best, plain = frame.iloc[0], frame[frame["recipe"] == PLAIN]
    text = f"At depth {best['depth']}, {net(best['recipe'])} ends highest, at {accuracy(best)} of the test set"
    if len(plain) and best["recipe"] != PLAIN:
        text += f", the plain net at {accuracy(plain.iloc[0])}"
    in_some, in_every = int((frame["reached"] > 0).sum()), int((frame["reached"] == frame["runs"]).sum())
    goal = f"of {len(frame)} recipes {in_some or 'none'} {'reaches' if in_some < 2 else 'reach'} {words.percent(GOOD)}"
    often = f" in some run, {in_every or 'none'} in every run" if in_some else ""
    return f"{text}; {goal}{often}."


def _tables(numbers: pd.DataFrame) -> list[Table]:
    """A table per depth, the greatest first.  Columns that have nothing to tell are left out."""
    found = []
    for depth in sorted(numbers["depth"].unique(), reverse=True):
        rows = [row for _, row in numbers[numbers["depth"] == depth].iterrows()]
        columns = {head: [tell(row) for row in rows] for head, tell in COLUMNS_TOLD.items()}
        columns = {head: cells for head, cells in columns.items() if set(cells) != {"–"}}
        found.append(Table(f"depth {depth}", tuple(columns), tuple(zip(*columns.values(), strict=True))))
    return found


def _number(row: "pd.Series[Any]", name: str) -> str:
    """A mean with its standard deviation, to the thousandth."""
    mean, std = row[f"{name}_mean"], row[f"{name}_std"]
    if np.isnan(mean):
        return "–"
    return f"{mean:z.3f}{'' if np.isnan(std) else f' ± {std:.3f}'}".replace("-", words.MINUS)


def _reached(row: "pd.Series[Any]") -> str:
    reached = f"{row['reached']} of {row['runs']}"
    return f"{row['steps_median']:,.0f} ({reached})" if row["reached"] else "never"


def _cost(row: "pd.Series[Any]") -> str:
    return f"{row['cost']:.2f} ×" if row.get("cost", np.nan) > 0 else "–"


COLUMNS_TOLD: dict[str, Callable[["pd.Series[Any]"], str]] = {
    "recipe": lambda row: row["recipe"],
    "rank": lambda row: str(row["rank"]),
    "test accuracy": accuracy,
    f"steps to {100 * GOOD:.0f}\N{NO-BREAK SPACE}%": _reached,
    "learning rate η": lambda row: words.value(row["lr"]),
    "decades lost per layer, start": lambda row: _number(row, "decades_start"),
    "decades lost per layer, end": lambda row: _number(row, "decades_end"),
    "time of a step": _cost,
    "runs": lambda row: str(row["runs"]) + (f", {row['diverged']} diverged" if row["diverged"] else ""),
}
