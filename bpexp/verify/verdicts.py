"""From a study's tracked runs to its rows of the table."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bpexp.config import full_key
from bpexp.measures import MEASURED, PREDICTED, Cell, Measured
from bpexp.report.selection import Study
from bpexp.sweep.names import is_hydras, parse_word
from bpexp.tracking.reader import NoRunsError, Runs, load_runs
from bpexp.verify.judge import TOLERANCES, Verdict, judge
from bpexp.verify.running import Launch, Place
from bpexp.verify.study import Check, StudyFile

__all__ = ["Judged", "of_launch", "verdicts"]


@dataclass(frozen=True)
class Judged:
    """A study with its verdicts, the runs that they rest on, the seconds that they took, and why there are none where it could not be run."""

    name: str
    file: StudyFile
    runs: Runs | None
    verdicts: tuple[Verdict, ...]
    seconds: float
    failure: str = ""

    @property
    def holds(self) -> bool:
        """Whether every claim holds."""
        return not self.failure and all(verdict.verdict == "holds" for verdict in self.verdicts)


def of_launch(ended: Launch, file: StudyFile, words: Sequence[str], place: Place, *, quick: bool) -> Judged:
    """The verdicts of a study whose sweep has ended; what goes wrong while one study is judged is no other's trouble."""
    start = time.monotonic()
    if ended.failed:
        return Judged(ended.name, file, None, (), ended.seconds, _reason(ended.told))
    try:
        told = [word for word in words if not is_hydras(parse_word(word).key_or_group)]  # as a sweep's name has them
        runs = load_runs(" ".join([f"study={ended.name}", *told]), place.uri, place.experiment, file.frames)
        rows = verdicts(file, runs, quick=quick)
    except NoRunsError as error:
        return Judged(ended.name, file, None, (), ended.seconds, str(error))
    return Judged(ended.name, file, runs, rows, ended.seconds + time.monotonic() - start)


def verdicts(file: StudyFile, runs: Runs, *, quick: bool) -> tuple[Verdict, ...]:
    """The rows of a study's claims.  In a `quick` one, claims about runs that are left out are left out."""
    everything, names = Cell.of(runs), Study(runs)
    return tuple(row for check in file.checks for row in _rows(check, everything, names, quick=quick))


def _rows(check: Check, everything: Cell, names: Study, *, quick: bool) -> Iterator[Verdict]:
    cell = everything.where(check.where)
    if cell.frame.empty:
        if not quick:
            yield _verdict(check, "no such runs", None, None, Measured.mean([]))
        return
    for values, part in cell.each(check.each):
        theory = None if check.theory is None else float(PREDICTED[check.measure](part, **check.theory))
        about = _about({full_key(name): value for name, value in check.where.items()} | values, names)
        yield _verdict(check, about, theory, check.papers_number(values), MEASURED[check.measure](part, **check.options))


def _about(values: Mapping[str, Any], names: Study) -> str:
    """Which runs a row is about, by the symbols of the keys."""
    known = {key.name: key for key in names.varying}
    return ", ".join(known[name].text(value) for name, value in values.items() if name in known)


def _verdict(check: Check, about: str, theory: float | None, paper: float | None, ours: Measured) -> Verdict:
    ((kind, size),) = check.tolerance.items()
    target = {"theory": theory, "paper": paper, None: None}[check.target]
    verdict, band = judge(ours, target, kind, size)
    return Verdict(check.claim, about, paper, theory, ours, check.target, TOLERANCES[kind].words(size), check.because, band, verdict)


def _reason(told: str) -> str:
    """The last line that a sweep said of itself."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if line.startswith("bpexp: ")), lines[-1] if lines else "it ended without a word")
