"""`python -m bpexp.report`: the newest sweep's figures and page, from MLflow alone."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Strict

from bpexp.cli import REFUSED, arguments, tell
from bpexp.config import Help, StoreUri
from bpexp.stopping import INTERRUPTED

if TYPE_CHECKING:
    from bpexp.tracking.reader import Runs

__all__ = ["ReportConfig", "main"]

DESCRIPTION = """python -m bpexp.report [key=value …]: figures and a page from what MLflow holds of a sweep, into OUT/NAME-ID/."""
PAGE = "index.html"


@dataclass
class ReportConfig:
    """Which runs, from where, and where the report goes."""

    sweep: (
        Annotated[str, Strict(), Help("latest, a sweep's id or name, or a run's; several, as a,b, are compared; null: all runs of the experiment")]
        | None
    ) = "latest"
    uri: StoreUri | None = None
    experiment: Annotated[str, Strict(), Help("MLflow experiment")] = "bpexp"
    out: Annotated[str, Strict(), Help("folder that the report's own folder is made in")] = "reports"
    log: Annotated[bool, Strict(), Help("whether MLflow keeps the report as well, in the sweep's artifacts under report/")] = True
    watch: Annotated[bool, Strict(), Help("whether to draw again whenever runs end, until the sweep has ended; Ctrl-C ends it too")] = False


def main(argv: Sequence[str]) -> int:
    """Write the report; the exit code."""
    config = arguments(ReportConfig, argv, DESCRIPTION)
    try:
        return _report(config)
    except KeyboardInterrupt:
        return INTERRUPTED


def _report(config: ReportConfig) -> int:
    from bpexp.report.page import folder_name, told, write  # after the arguments: --help and refusals need no MLflow
    from bpexp.report.watching import REFRESH, settle, watch
    from bpexp.tracking import compared
    from bpexp.tracking.reader import FRAMES, NoRunsError

    pages: set[Path] = set()

    def load(sweep: str | None, whole: bool) -> "Runs":
        return compared.load(sweep, config.uri, config.experiment, tuple(FRAMES) if whole else ())

    def draw(runs: "Runs") -> None:
        folder, more = Path(config.out) / folder_name(runs), config.watch and runs.at_work
        pages.add(folder / PAGE)
        files = write(runs, folder, REFRESH if more else None)
        told(_progress(files, runs) if more else _kept(files, runs, config), config.out)

    try:
        if config.watch:
            watch(load, config.sweep, draw)
        else:
            draw(load(config.sweep, True))
    except NoRunsError as error:
        tell([error])
        return REFUSED
    finally:
        for page in pages if config.watch else ():
            settle(page)
    return 0


def _progress(files: Iterable[Path], runs: "Runs") -> Iterable[str]:
    """Of a page that will be drawn again, one line."""
    *_, page = files
    running = int((runs.runs["status"] == "RUNNING").sum())
    yield f"{page}: {len(runs.runs) - running:,} runs have ended, {running:,} are running"


def _kept(files: Iterable[Path], runs: "Runs", config: ReportConfig) -> Iterable[Path]:
    """The files, which MLflow keeps from then on too; where it can't, that is told."""
    from bpexp.tracking.kept import keep

    made = []
    for path in files:
        made.append(path)
        yield path
    if config.log and runs.sweep_id is not None and (problem := keep(runs.uri, runs.sweep_id, made)):
        tell([problem])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
