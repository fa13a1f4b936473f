"""What a terminal shows of studies under way, and the table at the end."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from bpexp.report import words
from bpexp.verify.judge import Verdict
from bpexp.verify.verdicts import Judged

__all__ = ["HEADS", "Shown", "cells", "screen"]

PIPED_WIDTH = 220
COUNTED = 10**9
COLOURS = {"holds": "green", "undecided": "yellow", "fails": "red"}
HEADS = ("claim", "runs", "paper", "theory", "ours", "tolerance", "verdict")


@dataclass
class Shown:
    """The display, while studies run."""

    console: Console
    progress: Progress
    bar: TaskID

    def ended(self, judged: Judged) -> None:
        """A line for a study."""
        held = sum(verdict.verdict == "holds" for verdict in judged.verdicts)
        told = judged.failure or f"{held} of {words.count(len(judged.verdicts), 'claim')} {'holds' if held == 1 else 'hold'}"
        mark = ("✓", "green") if judged.holds else ("✗", "red")
        self.progress.advance(self.bar)
        self.console.print(Text.assemble(mark, f" {judged.name:<24} {judged.seconds:6.0f} s  {told}"))

    def table(self, studies: Sequence[Judged]) -> None:
        """All verdicts."""
        for judged in studies:
            self.console.print(f"\n[bold]{escape(judged.file.title)}[/]  [dim]{judged.name}, {judged.seconds:.0f} s[/]")
            self.console.print(judged.file.source, style="dim", markup=False)
            if judged.failure:
                self.console.print(judged.failure, style="red", markup=False)
            if judged.verdicts:
                self.console.print(_table(judged.verdicts))


@contextmanager
def screen(names: Sequence[str]) -> Iterator[Shown]:
    """A bar over the studies; quiet where there is no terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Shown(console, progress, progress.add_task("studies", total=len(names)))


def _table(verdicts: Sequence[Verdict]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for head in HEADS:
        table.add_column(head, justify="right" if head in ("paper", "theory") else "left", overflow="fold", ratio=2 if head == "claim" else None)
    last = ""
    for verdict in verdicts:
        claim, *rest = cells(verdict)
        table.add_row(*map(escape, ("" if claim == last else claim, *rest)), style=None if verdict.verdict == "holds" else COLOURS[verdict.verdict])
        last = claim
    return table


def cells(verdict: Verdict) -> tuple[str, ...]:
    """A row's text, under `HEADS`."""
    around = f" of {verdict.target}" if verdict.target and verdict.tolerance.startswith("±") else ""
    paper = "–" if verdict.paper is None else words.value(verdict.paper)  # with no digit that it does not print
    theory = "–" if verdict.theory is None else _number(verdict.theory)
    return (verdict.claim, verdict.about, paper, theory, ours(verdict), verdict.tolerance + around, verdict.verdict)


def ours(verdict: Verdict) -> str:
    """The measured number with its standard error, and how many repetitions it comes from."""
    measured = verdict.ours
    if not measured.values:
        return "no runs"
    text = _number(measured.value)
    return f"{text} ± {words.number(measured.error, 2)} (n = {len(measured.values):,})" if measured.error == measured.error else text


def _number(x: float) -> str:
    """Four digits of a number, all of a count."""
    return f"{x:,.0f}".replace("-", words.MINUS) if abs(x) < COUNTED and x == round(x) and abs(x) >= 1000 else words.number(x, 4)
