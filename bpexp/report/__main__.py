"""`python -m bpexp.report`: the newest sweep's figures and page, from MLflow alone."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Strict

from bpexp.cli import REFUSED, arguments, tell
from bpexp.config import Help, StoreUri

__all__ = ["ReportConfig", "main"]

DESCRIPTION = """python -m bpexp.report [key=value …]: figures and a page from what MLflow holds of a sweep, into OUT/NAME-ID/."""


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


def main(argv: Sequence[str]) -> int:
    """Write the report; the exit code."""
    config = arguments(ReportConfig, argv, DESCRIPTION)
    from bpexp.report.page import folder_name, told, write  # after the arguments: --help and refusals need no MLflow
    from bpexp.tracking.compared import load
    from bpexp.tracking.reader import NoRunsError

    try:
        runs = load(config.sweep, config.uri, config.experiment)
    except NoRunsError as error:
        tell([error])
        return REFUSED
    return told(write(runs, Path(config.out) / folder_name(runs)), config.out)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
