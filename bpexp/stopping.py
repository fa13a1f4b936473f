"""Ctrl-C, SIGTERM and a terminal that is closed, taken where nothing is half done.

A signal ends a command as `KeyboardInterrupt` or, with 128 and its number, `SystemExit`.  While a net trains, the signal waits for the end of the
step, so that there is a state to keep; a step that takes too long is not waited for, nor is a store when the command ought to have ended.  While a
process is being started, the signal waits until that is known, so that it can be ended.  A second signal leaves at once.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

__all__ = ["INTERRUPTED", "TERMINATED", "between_steps", "held", "install", "stopped"]

INTERRUPTED, TERMINATED = 130, 143  # exit codes of a command that Ctrl-C or `kill` ended, as the shell has them
STEP_SECONDS = 2.0  # that a step under way gets
ALL_SECONDS = 4.2  # that a command gets in all, before what it still does is interrupted as well
CURSOR = "\x1b[?25h"  # shown again: a progress bar hides it


@dataclass
class Pending:
    """The signal that has come, and whether there is somebody to look at it."""

    signal: int | None = None
    due: float = 0.0  # time.monotonic() when the command ought to have ended
    watched: bool = False
    held: bool = False
    worker: bool = False

    def came(self) -> bool:
        return self.signal is not None


_pending = Pending()


def install(*, worker: bool = False) -> None:
    """Take signals as this module says.  A worker leaves those that its terminal sends to all processes to the main one, and takes one SIGTERM."""
    _pending.worker = worker
    signal.signal(signal.SIGTERM, _come)
    signal.signal(signal.SIGINT, signal.SIG_IGN if worker else _come)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # which `nohup` asks for
        signal.signal(signal.SIGHUP, signal.SIG_IGN if worker else _come)
    signal.signal(signal.SIGALRM, lambda _signal, _frame: _leave())


def stopped() -> bool:
    """Whether a signal has come."""
    return _pending.came()


@contextmanager
def between_steps() -> Iterator[Callable[[], bool]]:
    """In this context a signal waits; call what it yields to learn whether one has come, and leave by the end of the context, which raises it."""
    if _pending.came():
        _leave()
    _pending.watched = True
    try:
        yield _pending.came
    finally:
        _pending.watched = False
        if _pending.came():
            signal.setitimer(signal.ITIMER_REAL, 0)
    if _pending.came():
        _leave()


@contextmanager
def held() -> Iterator[None]:
    """In this context a signal waits for the context's end, however long that is, which raises it: what the context makes is known by then."""
    if _pending.came():
        _leave()
    _pending.held = True
    try:
        yield
    finally:
        _pending.held = False
    if _pending.came():
        _leave()


def _come(number: int, _frame: object) -> None:
    if _pending.came():
        if _pending.worker:
            return
        if sys.stderr.isatty():
            os.write(2, CURSOR.encode())
        os._exit(128 + number)
    _pending.signal, _pending.due = number, time.monotonic() + ALL_SECONDS
    if _pending.watched:
        signal.setitimer(signal.ITIMER_REAL, STEP_SECONDS)
    elif not _pending.held:
        _leave()


def _leave() -> NoReturn:
    _pending.watched = False
    signal.setitimer(signal.ITIMER_REAL, max(0.0, _pending.due - time.monotonic()))
    raise KeyboardInterrupt if _pending.signal == signal.SIGINT else SystemExit(128 + (_pending.signal or 0))
