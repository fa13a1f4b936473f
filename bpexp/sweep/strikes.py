"""What is done with a stack whose process has died.

It is handed out again, and goes on from its checkpoints.  Where that happens twice without a checkpoint in between, there may be too little memory
for it: it is handed out by halves; a lone run that dies a third time has failed.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bpexp.experiment import prepare
from bpexp.sweep.carry import Job, Outcome, Where, give_up

__all__ = ["Begin", "Stack", "struck"]

STRIKES, LAST_STRIKE = 2, 3  # deaths in a row without a checkpoint, after which a stack is halved and a run has failed

Begin = Callable[[Job], None]

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Stack:
    """Jobs to hand out, how often their process has died in a row, and what they had kept when it last did."""

    jobs: Sequence[Job]
    strikes: int = 0
    kept: frozenset[str] | None = None

    @property
    def suspect(self) -> bool:
        """Whether it may be what its process died of."""
        return self.strikes >= STRIKES


def struck(stack: Stack, where: Where, death: str) -> tuple[list[Outcome], list[Stack]]:
    """What has failed with a process that died, told in words, and what is to be handed out again."""
    strikes = stack.strikes + 1 if _kept(stack.jobs, where) == stack.kept else 1
    if len(stack.jobs) == 1 and strikes == LAST_STRIKE:
        return [give_up(stack.jobs[0], where, ChildProcessError(f"{death} {LAST_STRIKE} times without a checkpoint in between"))], []
    log.info("%s; tried again: %s", death.rstrip(","), ", ".join(str(job.config.tracking.run_name) for job in stack.jobs))
    parts = [stack.jobs]
    if strikes >= STRIKES and len(stack.jobs) > 1:
        half = len(stack.jobs) // 2
        parts = [stack.jobs[:half], stack.jobs[half:]]
    return [], [Stack(part, strikes, _kept(part, where)) for part in parts]


def _kept(jobs: Sequence[Job], where: Where) -> frozenset[str]:
    """What jobs have kept of their trainings: when this changes, they have come further."""
    folders = (where.checkpoints(job.config, prepare(job.config).fingerprint).folder for job in jobs)
    return frozenset(str(file) for folder in folders if folder.is_dir() for file in folder.iterdir())
