"""Commands run here, in this process: hundreds of refusals would take half an hour in processes of their own."""

import io
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from bpexp import status, sync, walkthrough
from bpexp.report import __main__ as report
from bpexp.report import theory
from bpexp.sweep import app
from bpexp.verify import __main__ as verify
from tests.hydra_state import kept

__all__ = ["COMMANDS", "HANGS", "Done", "attempt", "listing", "refused", "watchdog"]

HANGS = 60  # seconds after which a command counts as hanging: a refusal takes some 0.05

Main = Callable[[Sequence[str]], object]


def _bpexp(words: Sequence[str]) -> None:
    with kept(), patch.object(sys, "argv", ["bpexp", *words]):
        app.main()


COMMANDS: dict[str, Main] = {
    "bpexp": _bpexp,
    "bpexp.report": report.main,
    "bpexp.status": status.main,
    "bpexp.sync": sync.main,
    "bpexp.theory": theory.main,
    "bpexp.verify": verify.main,
    "bpexp.walkthrough": walkthrough.main,
}


@dataclass(frozen=True)
class Done:
    """What became of a command."""

    code: object
    out: str
    err: str


class HangingError(BaseException):
    """Not an `Exception`: nobody should take it for a fault of the input."""


@contextmanager
def watchdog(seconds: int = HANGS) -> Iterator[None]:
    """Raises what no command catches where something hangs."""

    def bark(_signal: int, _frame: object) -> None:
        raise HangingError(f"not done after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, bark)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def attempt(folder: Path, *words: str, command: str = "bpexp", seconds: int = HANGS) -> Done:
    """Run a command in a folder, for so many seconds at most; an exception that a user would see as a traceback is raised."""
    out, err = io.StringIO(), io.StringIO()
    with chdir(folder), redirect_stdout(out), redirect_stderr(err), watchdog(seconds):
        try:
            code = COMMANDS[command](words)
        except SystemExit as left:
            code = left.code
    return Done(code, out.getvalue(), err.getvalue())


def listing(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def refused(folder: Path, *words: str, command: str = "bpexp") -> list[str]:
    """The lines in which a command is refused; nothing else is said, nothing is made or changed."""
    before = listing(folder)
    done = attempt(folder, *words, command=command)
    assert (done.code, done.out) == (2, ""), done
    assert listing(folder) == before
    lines = done.err.removesuffix("\n").split("\n")
    assert all(line.startswith("bpexp: ") and line.isprintable() for line in lines), done.err
    return [line.removeprefix("bpexp: ") for line in lines]
