"""What is printed when runs are over: their table, and the commands to type next."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bpexp.masks import masked
from bpexp.tracking.notes import HEAD, Row

if TYPE_CHECKING:
    from bpexp.tracking.store import Store

__all__ = ["COLOURS", "closing", "console", "table"]

MOST_ROWS = 100  # of a table on a screen
PIPED_WIDTH = 250  # a file has room: nothing is folded
COLOURS = {"stuck": "yellow", "interrupted": "yellow", "missing": "yellow", "diverged": "red", "failed": "red", "dead": "red"}


def closing(rows: Sequence[Row], store: "Store | None", experiment: str) -> None:
    """The table of runs, or on a screen that it would run over their number, and the commands to type next (None: of a store that is not asked)."""
    paper = console()
    paper.print(_counts(rows) if paper.is_terminal and len(rows) > MOST_ROWS else table(HEAD, rows))
    if store is None:
        return
    default = store.uri.endswith("/mlflow.db")
    served = store.uri.startswith("http")
    uri = masked(store.uri)
    page = f"{uri if served else 'http://127.0.0.1:5000'}/#/experiments/{store.experiment_id}/runs?workflowType=machine_learning"
    report = "python -m bpexp.report"
    report += "" if experiment == "bpexp" else f" experiment={experiment}"
    report += "" if default else f" uri={uri}"
    look = "open" if served else "python -m bpexp.ui, then open" if default else f"python -m bpexp.ui uri={uri}, then open"
    paper.print(f"\nnext:  {look} {page}\n       {report}", soft_wrap=True)


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
