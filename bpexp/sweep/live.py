"""The one display that a terminal has room for, while there is one: what trains tells it, and nothing where there is none."""

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live

from bpexp.sweep.carry import Outcome
from bpexp.sweep.news import News, drawable
from bpexp.sweep.view import Expected, View
from bpexp.tracking.notes import table_row

__all__ = ["Expected", "ends", "news", "watching"]

REFRESHES = 4  # a second

log = logging.getLogger(__name__)


@dataclass
class Display:
    """What is watched, if anything is."""

    view: View | None = None


_display = Display()


@contextmanager
def watching(runs: Mapping[int, Expected], *, lone: bool = False) -> Iterator[None]:
    """Show how far these runs are, by the numbers of their jobs.  Lines that are printed meanwhile stand above."""
    view = _display.view = View(runs, lone=lone)
    try:
        if drawable():
            console = Console(stderr=True, highlight=False)
            live = Live(view, console=console, transient=True, refresh_per_second=REFRESHES, redirect_stdout=sys.stdout.isatty())
            with live, _logging_above():
                yield
        else:
            yield
    finally:
        _display.view = None


@contextmanager
def _logging_above() -> Iterator[None]:
    """Have the handlers of the root logger, Hydra's, write to what stands for the terminal now: what they hold goes straight into what is drawn."""
    now = {sys.__stdout__: sys.stdout, sys.__stderr__: sys.stderr}
    handlers = [(it, it.stream) for it in logging.root.handlers if isinstance(it, logging.StreamHandler) and it.stream in now]
    for handler, stream in handlers:
        handler.setStream(now[stream])
    try:
        yield
    finally:
        for handler, stream in handlers:
            handler.setStream(stream)


def news(it: News) -> None:
    """How far some runs are."""
    view = _display.view
    if view is None:
        return
    if it.step > 0 and (resumed := [number for number in it.numbers if number not in view.shares]):
        log.info("from step %s on: %s", f"{it.step:,}", ", ".join(view.runs[number].name for number in resumed))
    view.news(it)


def ends(outcomes: Sequence[Outcome]) -> None:
    """What has become of some runs."""
    view = _display.view
    if view is None:
        return
    for outcome in outcomes:
        view.ends([outcome])
        log.info("%s", _line(outcome, view))


def _line(outcome: Outcome, view: View) -> str:
    """3 of 12: depth=10 width=64 lr=3: loss 0.4498, accuracy 10.0%, 0.612 decades lost per layer: stuck"""
    run, place = outcome.run, f"{view.ended:,} of {len(view.runs):,}: {view.runs[outcome.number].name}"
    if run is None:
        return f"{place}: failed: {outcome.failure}"
    _, loss, accuracy, decades, became = table_row("", run.summary, run.outcome)
    return f"{place}: loss {loss}, accuracy {accuracy}, {decades} decades lost per layer: {became}{' before' if outcome.found else ''}"
