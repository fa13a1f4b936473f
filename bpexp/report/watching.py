"""A report that is drawn again as long as its runs run."""

import re
import time
from collections.abc import Callable
from pathlib import Path

from bpexp.report.page import save_text
from bpexp.tracking.reader import NoRunsYetError, Runs

__all__ = ["REFRESH", "settle", "watch"]

SECONDS = 2.0  # between two looks, and at least as long as it took to draw: others need the machine as well
REFRESH = 5  # seconds after which a browser reads the page again
TAG = re.compile(r'<meta http-equiv="refresh".*\n')


def watch(load: Callable[[str | None, bool], Runs], sweep: str | None, draw: Callable[[Runs], None]) -> None:
    """Draw what there is of a sweep, and again whenever its runs have come further, until nobody works at it.

    `load` gives the runs of a sweep, by its id or name, with all their frames or with none.
    """
    state = ""
    while True:
        runs, begun = _patient(load, sweep), time.monotonic()
        sweep = runs.sweep_id or sweep  # the latest stays the one that it was at first
        if _state(runs) != state:
            runs = load(sweep, True)
            state = _state(runs)
            draw(runs)
        if not runs.at_work:
            return
        time.sleep(max(SECONDS, time.monotonic() - begun))


def settle(page: Path) -> None:
    """Let a page that nobody draws again not be read again."""
    if page.exists():
        save_text(page, TAG.sub("", page.read_text(encoding="utf-8"), count=1))


def _patient(load: Callable[[str | None, bool], Runs], sweep: str | None) -> Runs:
    """A sweep's runs, as soon as it has some."""
    while True:
        try:
            return load(sweep, False)
        except NoRunsYetError:
            time.sleep(SECONDS)


def _state(runs: Runs) -> str:
    """All that changes a page."""
    return f"{runs.at_work} {runs.runs.to_csv()}"
