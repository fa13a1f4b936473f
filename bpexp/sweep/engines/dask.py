"""Dask's scheduler and workers, which may be those of other machines.  https://distributed.dask.org

`hydra.launcher.address` is a scheduler's, such as `tcp://head:8786`; without one a cluster of this machine is started for the sweep.
"""

import logging
import os
import signal
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import dask
from distributed import Client, KilledWorker, LocalCluster

from bpexp.config import ConfigError, Fault
from bpexp.sweep.carry import Job, Outcome, Where
from bpexp.sweep.engines.task import Task
from bpexp.sweep.settings import Settings

__all__ = ["Engine"]

SECONDS = 10.0  # for a scheduler to answer
CLOSING = 5.0  # seconds for it, and for what was started here, to end
OWN = {"distributed.scheduler.allowed-failures": 0}  # of the workers that take a stack: `bpexp.sweep.strikes` counts, with an eye on checkpoints
NO_PAGE = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}  # it serves something all the same: at a port that no other cluster has


class Engine:
    """A client of a scheduler."""

    lost: ClassVar = (KilledWorker,)
    together: ClassVar = False
    poll_seconds: ClassVar = 15.0  # a look is a task

    def __init__(self, settings: Settings, processes: int, _folder: Path) -> None:
        for name in [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]:
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what is lost is told by whoever hands it out again
        self.most, self.cluster = settings.n_jobs, None
        if settings.address is None:
            with dask.config.set(OWN):
                self.cluster = LocalCluster(
                    n_workers=processes,
                    threads_per_worker=1,
                    host="127.0.0.1",
                    memory_limit=0,
                    silence_logs=logging.CRITICAL,
                    scheduler_kwargs=NO_PAGE,
                )
        try:
            self.client = Client(self.cluster or settings.address, timeout=SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            must = f"must be the address of a Dask scheduler ({error})"
            raise ConfigError([Fault("hydra.launcher.address", settings.address, must)]) from None
        self.executor = self.client.get_executor(pure=False)

    @property
    def count(self) -> int:
        """As many as there are workers now; of a scheduler that is gone nothing is known."""
        workers = len(self.client.scheduler_info(n_workers=-1).get("workers", ()))
        return max(1, min(workers, self.most or workers))

    def submit(self, task: Task, jobs: Sequence[Job], where: Where) -> "Future[list[Outcome]]":
        future: Future[list[Outcome]] = self.executor.submit(task, jobs, where)
        return future

    def stop(self) -> None:
        """What workers of other machines have begun they end."""
        if self.cluster is not None:
            for nanny in self.cluster.workers.values():  # asked to close, a worker would wait for the end of its stack
                nanny.auto_restart = False
                if nanny.pid:
                    os.kill(nanny.pid, signal.SIGKILL)
        if self.client.status == "running":  # else the scheduler is gone
            self.executor.shutdown(wait=False)
        with suppress(TimeoutError):
            self.client.close(timeout=CLOSING)
            if self.cluster is not None:
                self.cluster.close(timeout=CLOSING)
