"""`python -m bpexp.status`: how the newest sweep stands, job by job, from MLflow alone."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Strict

from bpexp.cli import REFUSED, arguments, tell
from bpexp.config import Help, StoreUri

__all__ = ["StatusConfig", "main"]

DESCRIPTION = """python -m bpexp.status [key=value …]: what became of a sweep's jobs, and the command that runs what is left.

Exit code 0 where all are finished, 1 where not."""


@dataclass
class StatusConfig:
    """Which runs, and from where."""

    sweep: Annotated[str, Strict(), Help("latest, a sweep's id or name, or a run's; null: all runs of the experiment")] | None = "latest"
    uri: StoreUri | None = None
    experiment: Annotated[str, Strict(), Help("MLflow experiment")] = "bpexp"


def main(argv: Sequence[str]) -> int:
    """Print how it stands; the exit code."""
    config = arguments(StatusConfig, argv, DESCRIPTION)
    from bpexp.sweep.screen import console, table  # after the arguments: --help and refusals need no MLflow
    from bpexp.tracking.reader import NoRunsError
    from bpexp.tracking.standing import standing

    try:
        found = standing(config.sweep, config.uri, config.experiment)
    except NoRunsError as error:
        tell([error])
        return REFUSED
    paper = console()
    paper.print(f"{found.name}: {found.state}" if found.state else found.name, markup=False, soft_wrap=True)
    paper.print(table(("run", "state"), found.jobs))
    states = Counter(state.partition(":")[0] for _, state in found.jobs)
    paper.print(f"\n{len(found.jobs):,} in all: {', '.join(f'{count:,} {state}' for state, count in states.items())}", soft_wrap=True)
    if found.resume:
        paper.print(f"resume:  {found.resume}", markup=False, soft_wrap=True)
    return 0 if found.finished else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
