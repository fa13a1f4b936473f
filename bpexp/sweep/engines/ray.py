"""Ray's scheduler and workers, which may be those of other machines.  https://docs.ray.io

`hydra.launcher.address` is a cluster's, such as `head:6379` or `ray://head:10001`; without one Ray is started on this machine for the sweep.
"""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, ClassVar

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray starts: it would tell its makers
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as will be usual; else it warns
if (Path.home() / ".ray/auth_token").exists() or {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # as `ray start` has it

import ray
from ray.exceptions import NodeDiedError, OutOfMemoryError, WorkerCrashedError

from bpexp.config import ConfigError, Fault
from bpexp.sweep.carry import Job, Outcome, Where
from bpexp.sweep.engines.task import Task
from bpexp.sweep.settings import Settings

__all__ = ["Engine"]


class Engine:
    """A driver of a Ray cluster."""

    lost: ClassVar = (WorkerCrashedError, NodeDiedError, OutOfMemoryError)
    together: ClassVar = False
    poll_seconds: ClassVar = 15.0  # a look is a task

    def __init__(self, settings: Settings, processes: int, _folder: Path) -> None:
        self.most = settings.n_jobs
        own: dict[str, Any] = {"num_cpus": processes, "include_dashboard": False} if settings.address is None else {}
        try:
            ray.init(settings.address or "local", log_to_driver=False, logging_level=logging.CRITICAL, **own)
        except (OSError, ValueError, RuntimeError) as error:
            must = f"must be the address of a Ray cluster ({str(error).splitlines()[0]})"
            raise ConfigError([Fault("hydra.launcher.address", settings.address, must)]) from None
        self.remote = ray.remote(num_cpus=1, max_retries=0)(_carry)  # `bpexp.sweep.strikes` counts, with an eye on checkpoints

    @property
    def count(self) -> int:
        """As many as the cluster has cores."""
        cores = int(ray.cluster_resources().get("CPU", 1))
        return max(1, min(cores, self.most or cores))

    def submit(self, task: Task, jobs: Sequence[Job], where: Where) -> "Future[list[Outcome]]":
        future: Future[list[Outcome]] = self.remote.remote(task, jobs, where).future()
        return future

    def stop(self) -> None:
        """Ray ends what its driver had begun."""
        ray.shutdown()


def _carry(task: Task, jobs: Sequence[Job], where: Where) -> list[Outcome]:
    return task(jobs, where)
