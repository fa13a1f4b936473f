"""Hydra's side of stacked training: from jobs' words to their results."""

from collections.abc import Sequence
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from bpexp.cli import refuse
from bpexp.config import ConfigError, Fault, parse
from bpexp.sweep.compose import Composer
from bpexp.sweep.reading import settings
from bpexp.sweep.screen import advance_sweep
from bpexp.sweep.stacked import Job, Outcome, Settings, WorkerError, train

__all__ = ["StackedLauncher"]


class StackedLauncher(Launcher):
    """Trains the jobs of a sweep in stacks, in several processes.  Jobs have no folders of their own: MLflow holds what they would."""

    def __init__(self, max_runs: object, n_jobs: object) -> None:
        """`max_runs`: runs in a stack, at most; `n_jobs`: processes, None for one per core."""
        try:
            self.settings = parse(Settings, {"max_runs": max_runs, "n_jobs": n_jobs})
        except ConfigError as error:
            refuse(ConfigError(Fault(f"hydra.launcher.{fault.key}", fault.value, fault.must) for fault in error.faults))

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:  # noqa: ARG002 (Hydra calls it by names)
        self.compose, self.task_name = Composer(hydra_context.config_loader, config), config.hydra.job.name
        self.folder = Path(config.hydra.runtime.cwd)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Each job's result, in the order of the jobs: its run's id, or why it failed."""
        from bpexp.tracking.store import resolve

        jobs = [Job(number, settings(self.compose(words))) for number, words in enumerate(job_overrides, initial_job_idx)]
        uri = resolve(jobs[0].config.tracking.uri, self.folder)
        outcomes = train(jobs, uri, self.settings, advance_sweep)
        return [self._result(words, outcome) for words, outcome in zip(job_overrides, outcomes, strict=True)]

    def _result(self, words: Sequence[str], outcome: Outcome) -> JobReturn:
        status = JobStatus.FAILED if outcome.failure else JobStatus.COMPLETED
        value = WorkerError(outcome.failure) if outcome.failure else outcome.run_id
        return JobReturn(words, working_dir=str(self.folder), task_name=self.task_name, status=status, _return_value=value)
