"""Jobs of Slurm, a stack each, by way of submitit.  https://github.com/facebookincubator/submitit

`hydra.launcher.submitit` holds what Slurm is asked for, by the names that Hydra's own launcher has (`partition`, `timeout_min`, `mem_gb`, …), and
`cluster`: `slurm`, or `local` for processes of this machine; left out, Slurm where it is there.  `n_jobs` is how many are in the queue at once.
"""

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

from submitit import AutoExecutor
from submitit import Job as Submitted
from submitit.core.utils import DelayedSubmission, FailedJobError, UncompletedJobError

from bpexp.config import ConfigError, Fault, written
from bpexp.sweep.carry import Job, Outcome, Where
from bpexp.sweep.engines.task import Task
from bpexp.sweep.settings import Settings
from bpexp.sweep.workers import PATIENCE

__all__ = ["Engine"]

FOLDER = ".bpexp/submitit"  # of scripts, pickled tasks and what jobs print; the nodes must see it
SHARED = ("timeout_min", "mem_gb", "cpus_per_task", "name")  # keys that submitit has for all of its executors
USUAL = {"timeout_min": 24 * 60, "name": "bpexp"}


class Engine:
    """An executor of submitit's."""

    lost: ClassVar = (UncompletedJobError,)
    together: ClassVar = False
    poll_seconds: ClassVar = 60.0  # a look is a job

    def __init__(self, settings: Settings, processes: int, folder: Path) -> None:
        asked = USUAL | {key: value for key, value in asdict(settings.submitit).items() if value is not None}
        cluster = asked.pop("cluster", None)
        try:
            self.executor = AutoExecutor(folder / FOLDER, cluster)
            self.executor.update_parameters(**{key if key in SHARED else f"slurm_{key}": value for key, value in asked.items()})
        except Exception as error:  # submitit's checks end in errors of several kinds
            must = f"must be what submitit takes ({str(error).splitlines()[0]})"
            raise ConfigError([Fault("hydra.launcher.submitit", written(asked | {"cluster": cluster}), must)]) from None
        self.count = processes
        self.jobs: list[Submitted[Any]] = []

    def submit(self, task: Task, jobs: Sequence[Job], where: Where) -> "Future[list[Outcome]]":
        job, future = self.executor.submit(Resumable(task), jobs, where), Future[list[Outcome]]()
        self.jobs.append(job)
        Thread(target=_hear, args=(job, future), daemon=True).start()
        return future

    def stop(self) -> None:
        """Cancel what is in the queue or trains; Slurm may take longer about it than is waited here."""
        left = [job for job in self.jobs if not job.done()]
        for job in left:
            job.cancel(check=False)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and any(not job.done() for job in left):
            time.sleep(0.1)


class Resumable:
    """A task that goes on from its checkpoints where Slurm preempts its job or its time is up: submitit submits it again."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __call__(self, jobs: Sequence[Job], where: Where) -> list[Outcome]:
        return self.task(jobs, where)

    def checkpoint(self, jobs: Sequence[Job], where: Where) -> DelayedSubmission:
        """By this name submitit asks for what is to be called the next time."""
        return DelayedSubmission(self, jobs, where)


def _hear(job: "Submitted[Any]", future: "Future[list[Outcome]]") -> None:
    """Wait for what a job comes to, and pass it on."""
    try:
        outcomes = job.result()
    except FailedJobError as error:  # with the trace of what was raised there
        future.set_exception(RuntimeError(f"{_raised(str(error))} (see {job.paths.stderr})"))
    except Exception as error:
        future.set_exception(error)
    else:
        for file in job.paths.folder.glob(f"{job.job_id}_*"):
            file.unlink(missing_ok=True)
        future.set_result(outcomes)


def _raised(told: str) -> str:
    """The last line of the trace that submitit's words hold."""
    lines = told.partition("----\n")[2].partition("\n----")[0].strip().splitlines()
    return lines[-1] if lines else told.splitlines()[0]
