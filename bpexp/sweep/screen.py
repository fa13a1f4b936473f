"""What is printed when runs are over: their table, and the commands to type next."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.cells import set_cell_size
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bpexp.masks import masked
from bpexp.tracking.notes import HEAD, Row, own_words
from bpexp.tracking.pages import runs_page

if TYPE_CHECKING:
    from bpexp.tracking.store import Store

__all__ = ["closing", "console", "fitted", "narrow_table", "short_names", "table"]

MOST_ROWS = 100  # of a table on a screen
PIPED_WIDTH = 250  # a file has room: nothing is folded
SHORT_HEAD: Row = ("run", "loss", "accuracy", "decades", "outcome")
NUMBERS = (8, 8, 7)  # cells of the columns between a name and an outcome, where there is little room
FOLDED = 72  # cells of a screen below which a table with folded names can't be read
ROOMY, NARROW = 70, 50  # cells from which on there is room for all of them, and for one
COLOURS = {"stuck": "yellow", "interrupted": "yellow", "missing": "yellow", "diverged": "red", "failed": "red", "dead": "red"}


def closing(rows: Sequence[Row], store: "Store | None", experiment: str) -> None:
    """The table of runs, or on a screen that it would run over their number, and the commands to type next (None: of a store that is not asked)."""
    paper = console()
    if paper.is_terminal and len(rows) > MOST_ROWS:
        paper.print(_counts(rows))
    elif paper.width >= FOLDED:
        paper.print(table(HEAD, rows))
    else:
        names = short_names([row[0] for row in rows])
        paper.print(*narrow_table([(name, *row[1:]) for name, row in zip(names, rows, strict=True)], paper.width), sep="\n")
    if store is None:
        return
    default = store.uri.endswith("/mlflow.db")
    served = store.uri.startswith("http")
    uri = masked(store.uri)
    report = "python -m bpexp.report"
    report += "" if experiment == "bpexp" else f" experiment={experiment}"
    report += "" if default else f" uri={uri}"
    look = "open" if served else "python -m bpexp.ui, then open" if default else f"python -m bpexp.ui uri={uri}, then open"
    paper.print(f"\nnext:  {look} {runs_page(store.uri, store.experiment_id)}\n       {report}", soft_wrap=True)


def console() -> Console:
    """What tables are printed on; a file has room: nothing is folded."""
    paper = Console(highlight=False)
    if not paper.is_terminal:
        paper.width = PIPED_WIDTH
    return paper


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Rows in the colours of their last cells: an outcome and, after a colon, more about it."""
    found = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index, title in enumerate(head):
        found.add_column(title, justify="right" if 0 < index < len(head) - 1 else "left", overflow="fold")
    for row in rows:
        outcome = row[-1].partition(":")[0]
        found.add_row(*map(escape, row), style=COLOURS.get(outcome))
    return found


def _counts(rows: Sequence[Row]) -> str:
    """1,248 runs: 306 trained, 928 stuck, 14 diverged."""
    outcomes = Counter(row[-1] for row in rows)
    return f"{len(rows):,} runs: {', '.join(f'{count:,} {outcome}' for outcome, count in outcomes.items())}.  The report has a table of them."


def narrow_table(rows: Sequence[Row], width: int) -> Iterator[Text]:
    """Runs in lines of so many cells: the columns for which there is room, names cut off where they are too long."""
    columns = (1, 2, 3) if width >= ROOMY else (1,) if width >= NARROW else ()
    taken = sum(NUMBERS[column - 1] + 2 for column in columns) + 2 + max(len(SHORT_HEAD[-1]), *(len(row[-1]) for row in rows))
    longest = max(len(SHORT_HEAD[0]), *(len(row[0]) for row in rows))
    name = max(1, min(longest, width - taken))

    def line(row: Sequence[str]) -> str:
        return "  ".join([fitted(row[0], name), *(row[column].rjust(NUMBERS[column - 1]) for column in columns), row[-1]])

    yield Text(line(SHORT_HEAD), style="bold")
    for row in rows:
        yield Text(line(row), style=COLOURS.get(row[-1], ""))


def short_names(names: Sequence[str]) -> list[str]:
    """Of each name its own words; a name as it is where it has none."""
    return [" ".join(own) or name for name, own in zip(names, own_words([name.split() for name in names]), strict=True)]


def fitted(text: str, cells: int) -> str:
    """A text of so many cells; what it is too long for, ends in a sign of that."""
    return set_cell_size(text, cells) if len(text) <= cells else set_cell_size(text, max(0, cells - 1)) + "…"
