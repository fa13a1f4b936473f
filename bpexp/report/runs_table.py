"""The table of all runs on a report's page: a line per run, with its configuration, its numbers, and where MLflow's pages show it."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from bpexp.report import words
from bpexp.report.selection import SYMBOLS, Study, words_of
from bpexp.tracking.compared import tracked_id
from bpexp.tracking.pages import run_page
from bpexp.tracking.reader import Runs

__all__ = ["Cell", "Line", "heads", "lines", "link"]

ALWAYS_TOLD = ("depth", "width", "lr", "seed")  # of each run, besides what was swept
NUMBERS = {
    "final_loss": ("loss", words.number),
    "final_accuracy_train": ("training accuracy", words.percent),
    "final_accuracy_test": ("test accuracy", words.percent),
    "delta_decades_per_layer": ("decades per layer", words.number),
}


@dataclass(frozen=True)
class Cell:
    """What it says, and the number that it is sorted by where it is one."""

    text: str
    number: str = ""


@dataclass(frozen=True)
class Line:
    """A run: name, the id of its row and that in the store, address in MLflow's pages, cells, and what to call its end."""

    name: str
    id: str
    tracked: str
    link: str
    cells: tuple[Cell, ...]
    told: str
    kind: str


def heads(study: Study) -> list[str]:
    return ["run", *_columns(study).values(), *(head for head, _ in NUMBERS.values()), "outcome"]


def lines(study: Study) -> list[Line]:
    columns = _columns(study)
    return [_line(study.runs, row, columns) for _, row in study.frame.iterrows()]


def link(runs: Runs, run_id: str) -> str:
    """A run in MLflow's pages."""
    return run_page(runs.uri, runs.experiment_id, run_id)


def _columns(study: Study) -> dict[str, str]:
    """The configuration that the table tells of each run: heading by key."""
    keys = dict.fromkeys([*(key.name for key in study.swept), *(name for name in ALWAYS_TOLD if name in study.frame), *study.follows])
    return {name: f"{words_of(name)} {SYMBOLS[name][2]}" if name in SYMBOLS else words_of(name) for name in keys}


def _line(runs: Runs, row: "pd.Series[Any]", columns: dict[str, str]) -> Line:
    cells = [_cell(row.get(name), words.value) for name in columns]
    cells += [_cell(row.get(name), write) for name, (_, write) in NUMBERS.items()]
    outcome, end = words.plain(row["outcome"]), words.plain(row["diverged_at"])
    told = (
        str(row["status"]).lower() if outcome is None else f"diverged at step {int(end):,}" if outcome == "diverged" and end is not None else outcome
    )
    run_id = str(row["run_id"])
    tracked = tracked_id(run_id)
    return Line(str(row["name"]), run_id, tracked, link(runs, tracked), tuple(cells), told, outcome or "none")


def _cell(entry: Any, write: Any) -> Cell:
    value = words.plain(entry)
    if value is None:
        return Cell("–")
    return Cell(write(value), f"{value:.9g}" if isinstance(value, int | float) and not isinstance(value, bool) else "")
