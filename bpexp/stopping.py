"""Ctrl-C and SIGTERM, taken where nothing is half done.

A signal ends a command as `KeyboardInterrupt` or `SystemExit(143)`.  While a net trains, the signal waits for the end of the step, so that there is
a state to keep; a step that takes too long is not waited for.  A second signal leaves at once.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

__all__ = ["INTERRUPTED", "TERMINATED", "between_steps", "install"]

INTERRUPTED, TERMINATED = 130, 143  # exit codes of a command that Ctrl-C or `kill` ended, as the shell has them
STEP_SECONDS = 2.5  # that a step under way gets
CURSOR = "\x1b[?25h"  # shown again: a progress bar hides it


@dataclass
class Pending:
    """The signal that has come, and whether there is somebody to look at it."""

    signal: int | None = None
    watched: bool = False


_pending = Pending()


def install(*, interrupts: bool = True) -> None:
    """Take both signals as this module says; a worker, whose terminal sends Ctrl-C to it as well, leaves that one to the main process."""
    signal.signal(signal.SIGTERM, _come)
    signal.signal(signal.SIGINT, _come if interrupts else signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda _signal, _frame: _leave())


@contextmanager
def between_steps() -> Iterator[Callable[[], bool]]:
    """In this context a signal waits; call what it yields to learn whether one has come, and leave by the end of the context, which raises it."""
    if _pending.signal is not None:
        _leave()
    _pending.watched = True
    try:
        yield lambda: _pending.signal is not None
    finally:
        _pending.watched = False
        signal.setitimer(signal.ITIMER_REAL, 0) if _pending.signal is not None else None
    if _pending.signal is not None:
        _leave()


def _come(number: int, _frame: object) -> None:
    if _pending.signal is not None:
        if sys.stderr.isatty():
            os.write(2, CURSOR.encode())
        os._exit(128 + number)
    _pending.signal = number
    if _pending.watched:
        signal.setitimer(signal.ITIMER_REAL, STEP_SECONDS)
    else:
        _leave()


def _leave() -> NoReturn:
    _pending.watched = False
    raise KeyboardInterrupt if _pending.signal == signal.SIGINT else SystemExit(TERMINATED)
