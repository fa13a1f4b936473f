"""joblib's own engine: processes of this machine.  https://joblib.readthedocs.io, https://loky.readthedocs.io"""

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, ClassVar

from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from bpexp import stopping
from bpexp.sweep.carry import POLL_SECONDS, Job, Outcome, Where
from bpexp.sweep.engines.task import Task
from bpexp.sweep.settings import Settings
from bpexp.sweep.workers import ONE_THREAD

__all__ = ["Engine"]


class Engine:
    """A pool that breaks with any of its processes; a new one is made then."""

    lost: ClassVar = (TerminatedWorkerError,)
    together: ClassVar = True
    poll_seconds: ClassVar = POLL_SECONDS

    def __init__(self, _settings: Settings, processes: int, _folder: Path) -> None:
        self.count = processes
        self._pool()

    def _pool(self) -> Any:
        return get_reusable_executor(self.count, timeout=None, initializer=_begin, env=ONE_THREAD)

    def submit(self, task: Task, jobs: Sequence[Job], where: Where) -> "Future[list[Outcome]]":
        future: Future[list[Outcome]] = self._pool().submit(task, jobs, where)
        return future

    def stop(self) -> None:
        self._pool().shutdown(kill_workers=True)


def _begin() -> None:
    """Leave the terminal's signals to the main process."""
    stopping.install(worker=True)
