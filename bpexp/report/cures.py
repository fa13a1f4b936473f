"""`python -m bpexp.report.cures`: the page of the cures, from the tables of the core and the newest run of `study=cures`.

Everything said of a cure stands in its row; what it did is measured.  Beside the page go `ranking.csv`, from which its numbers are read, and a
figure of each cure: the gradient norm over the layers of the deepest nets, with the plain net's behind it.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import Strict

from bpexp.cli import REFUSED, arguments, refuse, tell
from bpexp.config import TABLES, ConfigError, Fault, Help, RunConfig, StoreUri, asked, flatten, full_key, written
from bpexp.core.rows import Row
from bpexp.report import words
from bpexp.report.intervals import FEWEST, TOLD
from bpexp.report.page import save_text, told
from bpexp.report.picture import Picture, style
from bpexp.report.ranking import accuracy, ranking
from bpexp.report.recipe_profiles import recipe_panel
from bpexp.report.recipes import GOOD, PLAIN, is_of_recipes, recipes, standings, table
from bpexp.report.selection import Study

__all__ = ["CuresConfig", "main", "page", "recipe_words", "write"]

DESCRIPTION = """python -m bpexp.report.cures [key=value …]: OUT/cures.md and OUT/cures/, from what MLflow holds of a run of study=cures."""
PAGE, FOLDER, RANKING, PICTURE = "cures.md", "cures", "ranking.csv", "ranking.png"

ENDS = {"start": "at the start", "end": "at the end"}
DPI = 90  # of the small figures

HEADS = {
    "activation": ("Activations", "What a hidden neuron makes of its input: δ is multiplied by the slope φ′ at every neuron that it passes."),
    "init": (
        "Initial weights",
        "Between two layers δ is multiplied by W: how large it is, and in which directions, is decided beforehand.",
    ),
    "norm": ("Normalization", "What a hidden neuron's input is measured in: v = z, or z without its mean and in units of its spread."),
    "skip": ("Skip connections", "A second way past some layers, for the activations forwards and for the gradient backwards."),
    "loss": ("Losses", "What the recursion starts from: δ of the output layer."),
    "optimizer": ("Optimizers", "What a layer makes of the gradient that has reached it.  The recursion itself stays as it is."),
    "schedule": ("Schedules", "The learning rate over the steps.  The recursion stays here too."),
}
INTRODUCTION = """\
# The cures

A deep net of sigmoid neurons does not learn: on its way back every layer costs the gradient the same factor. This page has what people do
about it, an option at a time: its equation, what it changes in the recursion of the deltas

    δ_{k-1} = (δ_k W_kᵀ) ∘ φ′(z_{k-1})

where it comes from, and what happened when it was tried. Each option alone is put into the plain net (sigmoid, xavier, squared error, sgd, no
normalization, no skips) with the best of a few learning rates; a seed that chose the rate is not counted. The grey lines in the figures are the
plain net's. All of it is made by two commands, and is made anew when an option is added to a table of `bpexp/core/`:

```
python -m bpexp study=cures
python -m bpexp.report.cures
```

![Test accuracy of every recipe at each depth, ranked](cures/ranking.png)
"""


@dataclass
class CuresConfig:
    """Which run of the study, from where, and where the page goes."""

    sweep: Annotated[str, Strict(), Help("latest, or a sweep's id or name")] = "latest"
    uri: StoreUri | None = None
    experiment: Annotated[str, Strict(), Help("MLflow experiment")] = "bpexp"
    out: Annotated[str, Strict(), Help("folder of the page")] = "docs"


def recipe_words(key: str, name: str) -> frozenset[str]:
    """The changes that an option makes to the plain net, as one types them: its own and those that it needs."""
    defaults = flatten(RunConfig())
    return frozenset(f"{it}={written(value)}" for it, value in asked(key, name).items() if value != defaults[full_key(it)])


# ---------------------------------------------------------------------------------------------- the page


def page(ranking: pd.DataFrame) -> str:
    """The page, from the tables and the numbers of a ranking."""
    return "\n".join([INTRODUCTION, _caption(ranking), "", *(line for key in TABLES for line in _section(key, ranking)), *_combined(ranking), ""])


def _caption(ranking: pd.DataFrame) -> str:
    """How to read the figure and the numbers."""
    fewest, most = int(ranking["runs"].min()), int(ranking["runs"].max())
    runs = words.count(most, "run") if fewest == most else f"{fewest} to {most} runs"
    bars = f"bars are {TOLD}" if fewest >= FEWEST else f"bars are {TOLD}, of fewer than {FEWEST} runs from the lowest to the highest"
    numbers = f"[`{FOLDER}/{RANKING}`]({FOLDER}/{RANKING})"
    return f"Points are means over {runs}; {bars}. Below, ± is one standard deviation of the runs. All numbers: {numbers}."


def _section(key: str, ranking: pd.DataFrame) -> Iterator[str]:
    title, text = HEADS[key]
    yield from (f"## {title}", "", f"`{key}=…` {text}", "")
    for name, row in TABLES[key].items():
        yield from _entry(key, name, row, ranking)


def _entry(key: str, name: str, row: Row, ranking: pd.DataFrame) -> Iterator[str]:
    """Five lines of one cure."""
    changes = recipe_words(key, name)
    needed = " ".join(sorted(changes - {f"{key}={name}"}))
    yield from (f"### {key}={name}", "")
    yield f"- **Equation**: {row.equation}"
    yield f"- **In the recursion**: {row.effect}"
    yield f"- **Source**: {row.source}" + (f" (needs {needed})" if needed else "")
    yield f"- **Measured**: {_measured(ranking[ranking['recipe'].map(_changes) == changes])}"
    yield from ("", f"![Gradient norm over the layers with {key}={name}]({FOLDER}/{figure_name(key, name)})", "")


def _combined(ranking: pd.DataFrame) -> Iterator[str]:
    """A table of the recipes that are more than one option and what it needs, the best at the greatest depth first."""
    alone = {recipe_words(key, name) for key, rows in TABLES.items() for name in rows}
    more = ranking[~ranking["recipe"].map(_changes).isin(alone)].sort_values(["depth", "rank"])
    depths = sorted(more["depth"].unique())
    yield from ("## Combined", "", "Test accuracy of recipes with several changes, and of changes of a single key that no table holds.", "")
    yield "| recipe |" + "".join(f" depth {depth} |" for depth in depths)
    yield "| --- |" + " ---: |" * len(depths)
    for recipe in more.loc[more["depth"] == max(depths, default=0), "recipe"]:
        rows = more[more["recipe"] == recipe].set_index("depth")
        yield f"| `{recipe}` |" + "".join(f" {accuracy(rows.loc[depth])} |" if depth in rows.index else " – |" for depth in depths)


def _changes(recipe: str) -> frozenset[str]:
    return frozenset() if recipe == PLAIN else frozenset(recipe.split(" "))


def figure_name(key: str, name: str) -> str:
    """The file of a cure's figure; an option that is there by default shows the plain net."""
    return f"{key}-{name}.png" if recipe_words(key, name) else "plain.png"


def _measured(found: pd.DataFrame) -> str:
    """What came of it, depth by depth."""
    if found.empty:
        return "not run"
    rows = [row for _, row in found.sort_values("depth").iterrows()]
    accuracies = words.listing([f"{accuracy(row)} at depth {row['depth']}" for row in rows])
    deepest = rows[-1]
    known = {told: mean for end, told in ENDS.items() if pd.notna(mean := deepest[f"decades_{end}_mean"])}
    decades = [f"{words.number(mean)} {told}" for told, mean in known.items()]
    parts = [f"test accuracy {accuracies}", f"steps to {words.percent(GOOD)}: {words.listing([_steps(row) for row in rows])}"]
    if decades:
        parts.append(f"decades lost per layer at depth {deepest['depth']}: {words.listing(decades)}")
    if pd.notna(deepest.get("cost")):
        parts.append(f"a step takes {deepest['cost']:.2f} times as long as the plain net's")
    return "; ".join(parts) + "."


def _steps(row: "pd.Series[Any]") -> str:
    return words.number(row["steps_median"]) if row["reached"] else "never"


# ---------------------------------------------------------------------------------------------- the folder


def write(study: Study, out: Path) -> Iterator[Path]:
    """Write page, numbers and figures, yielding each file as it is done."""
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    yield save_text(folder / RANKING, table(standings(study)).to_csv(index=False))
    yield _draw(partial(ranking, study), folder / PICTURE, 2 * DPI)
    names = {_changes(recipe): recipe for recipe in recipes(study).values()}
    figures = {figure_name(key, name): recipe_words(key, name) for key, rows in TABLES.items() for name in rows}
    for name, changes in figures.items():
        if changes in names:
            yield _draw(partial(recipe_panel, study, names[changes]), folder / name, DPI)
    yield save_text(out / PAGE, page(pd.read_csv(folder / RANKING)))


def _draw(function: Callable[[], Picture], path: Path, dpi: int) -> Path:
    with style():
        function().figure.savefig(path, dpi=dpi)
    return path


def main(argv: Sequence[str]) -> int:
    """Write the page; the exit code."""
    config = arguments(CuresConfig, argv, DESCRIPTION)
    from bpexp.tracking.reader import NoRunsError, load_runs

    try:
        study = Study(load_runs(config.sweep, config.uri, config.experiment))
    except NoRunsError as error:
        tell([error])
        return REFUSED
    if not is_of_recipes(study):
        must = f"{study.runs.sweep_name} has no recipes to compare; `python -m bpexp study=cures` runs some"
        refuse(ConfigError([Fault("sweep", config.sweep, must)]))
    return told(write(study, Path(config.out)), config.out)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
