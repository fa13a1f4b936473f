"""Hydra's side of stacked training: from jobs' words to their results."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from bpexp.cli import refuse, tell
from bpexp.config import ConfigError, RunConfig, parse
from bpexp.experiment import Run, prepare
from bpexp.stopping import held
from bpexp.sweep.carry import Job, JobError, Outcome, Where
from bpexp.sweep.compose import Composed, Composer
from bpexp.sweep.engines import opened
from bpexp.sweep.folders import Folders
from bpexp.sweep.settings import Settings
from bpexp.sweep.stacked import Key, Load, load_of, processes, stack_key, stacks, train
from bpexp.sweep.workers import Workers, start

__all__ = ["StackedLauncher"]

log = logging.getLogger(__name__)


class StackedLauncher(Launcher):
    """Trains the jobs of a sweep in stacks, in several processes."""

    def __init__(self, **keys: object) -> None:
        """`keys`: those of `Settings`."""
        try:
            self.settings = Settings.of({key: OmegaConf.to_object(it) if isinstance(it, DictConfig) else it for key, it in keys.items()})
        except ConfigError as error:
            refuse(error)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:  # noqa: ARG002 (Hydra calls it by names)
        self.compose, self.folders = Composer(hydra_context.config_loader, config), Folders(config)
        self.task_name, self.cwd = config.hydra.job.name, Path(config.hydra.runtime.cwd)
        self.loads: dict[Key, Load] = {}
        self.workers: Workers | None = None

    def admit(self, run: Run) -> None:
        """Note what a run asks of the machine.  Raises `ConfigError` where that is more than it may have."""
        key = stack_key(run.config)
        if key not in self.loads:
            self.loads[key] = load_of(run, self.settings)

    def start(self, configs: Iterable[RunConfig]) -> None:
        """Have the processes start in which admitted runs are to train.  Raises `ConfigError` where an engine can't be had."""
        count = processes([self.loads[stack_key(config)] for config in configs], self.settings)
        if self.settings.backend != "processes":
            self.workers = self.workers or opened(self.settings, count, self.cwd)
            return
        with held():  # whatever comes meanwhile, `stop` knows all that have started
            self.workers = start(max(count, self.workers.count if self.workers else 1), self.workers)

    def stop(self) -> None:
        """End the processes."""
        if self.workers:
            self.workers.stop(gently=False)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Each job's result, in the order of the jobs: what became of its run, or why it failed."""
        from bpexp.sweep import live
        from bpexp.tracking.store import resolve

        composed = {number: self.compose(words) for number, words in enumerate(job_overrides, initial_job_idx)}
        jobs = [Job(number, parse(RunConfig, job.values)) for number, job in composed.items()]
        for job in jobs:
            if stack_key(job.config) not in self.loads:  # of a sweeper that is not ours
                self.admit(prepare(job.config))
        self.start(job.config for job in jobs)
        assert self.workers is not None
        jobs = [replace(job, data=self.loads[stack_key(job.config)].data) for job in jobs]
        plan = stacks(jobs, self.loads, self.workers.count)
        log.info("runs to train: %s, stacks: %s, processes: %s", f"{len(jobs):,}", f"{len(plan):,}", self.workers.count)
        outcomes = train(
            plan,
            Where(resolve(jobs[0].config.tracking.uri, self.cwd), self.cwd),
            self.workers,
            lambda job: self.folders(job.number, composed[job.number]).write(),
            live.news,
            live.ends,
        )
        tell(remark for outcome in outcomes for remark in outcome.remarks)
        return [self._result(composed[outcome.number], outcome) for outcome in outcomes]

    def _result(self, job: Composed, outcome: Outcome) -> JobReturn:
        folder = self.folders(outcome.number, job).path if job.base.hydra["job"]["chdir"] else self.cwd
        status = JobStatus.FAILED if outcome.failure else JobStatus.COMPLETED
        value = JobError(outcome.failure) if outcome.failure else outcome.run
        return JobReturn(job.task, working_dir=str(folder), task_name=self.task_name, status=status, _return_value=value)
