"""Many runs in few trainings: runs of one shape train as a stack, stacks train in worker processes.

A worker that is gone leaves its runs open; whoever stops the workers closes those runs in the store.
"""

import signal
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil
from multiprocessing import current_process
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge
from pydantic import Strict

from bpexp.config import RunConfig, TrackingConfig, untracked
from bpexp.experiment import prepare, run_stack

if TYPE_CHECKING:
    from bpexp.tracking.store import Store

__all__ = ["Job", "Outcome", "Settings", "WorkerError", "stack_key", "stacks", "train"]


@dataclass
class Settings:
    """The launcher's keys."""

    max_runs: Annotated[int, Strict(), Ge(1)] = 16
    n_jobs: Annotated[int, Strict(), Ge(1)] | None = None


@dataclass(frozen=True)
class Job:
    """A run to be trained, with its number in the sweep."""

    number: int
    config: RunConfig


@dataclass(frozen=True)
class Outcome:
    """What became of a job: its run in MLflow (None: it never came to one), and why it failed where it did (`ConfigError: …`)."""

    number: int
    run_id: str | None
    failure: str = ""


class WorkerError(RuntimeError):
    """An error that another process had, by its name and words: not every exception survives the way."""


def stack_key(config: RunConfig) -> tuple[tuple[str, str], ...]:
    """What runs must share to train as one stack: all but learning rate, seed, initial weights and tracking."""
    own = ("lr", "seed")
    return tuple((key, repr(value)) for key, value in untracked(config).items() if key not in own and not key.startswith("init."))


def stacks(jobs: Sequence[Job], max_runs: int, workers: int) -> list[list[Job]]:
    """Jobs as stacks of about equal size, enough of them to give every worker one; what takes longest comes first, so that workers end together."""
    limit = min(max_runs, ceil(len(jobs) / workers))
    groups: dict[object, list[Job]] = defaultdict(list)
    for job in jobs:
        groups[stack_key(job.config)].append(job)
    found = []
    for group in groups.values():
        parts = ceil(len(group) / limit)
        found += [group[part::parts] for part in range(parts)]
    return sorted(found, key=_cost, reverse=True)


def _cost(stack: Sequence[Job]) -> int:
    """Multiplications of a sample, but for a factor that all stacks share."""
    config = stack[0].config
    return len(stack) * config.depth * config.width**2 * config.steps


def train(jobs: Sequence[Job], uri: str, settings: Settings, progress: Callable[[int], None]) -> list[Outcome]:
    """Train jobs into the store at a resolved `uri`; `progress` is told how many runs have just ended.

    An interruption, or the death of a worker, ends all workers at once and closes their runs in the store.
    """
    from joblib import Parallel, cpu_count, delayed

    workers = min(settings.n_jobs or cpu_count(), len(jobs))
    done: dict[int, Outcome] = {}
    try:
        with Parallel(workers, backend="loky", batch_size=1, return_as="generator_unordered") as parallel:
            for outcomes in parallel(delayed(train_stack)(stack, uri) for stack in stacks(jobs, settings.max_runs, workers)):
                done |= {outcome.number: outcome for outcome in outcomes}
                progress(len(outcomes))
    except BaseException as error:
        if not isinstance(error, Exception):
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would leave runs open
        _close_open_runs(uri, jobs[0].config.tracking, error)
        if not isinstance(error, Exception):
            raise
        done = {job.number: Outcome(job.number, None, _told(error)) for job in jobs} | done
    return [done[job.number] for job in jobs]


def train_stack(stack: Sequence[Job], uri: str) -> list[Outcome]:
    """One stack, in a worker process; in the main one, where that is the only one."""
    from bpexp.tracking.sink import MlflowSink
    from bpexp.tracking.writer import Writer

    if current_process().name != "MainProcess":
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to every process: the main one decides
    sinks: list[MlflowSink] = []
    failure = ""
    try:
        runs = [prepare(job.config) for job in stack]
        store = _store(uri, stack[0].config.tracking.experiment)
        sinks = [MlflowSink(store, job=job.number) for job in stack]
        with Writer(store.backend.together) as writer:
            run_stack(runs, [writer.wrap(sink) for sink in sinks])
    except Exception as error:  # the other stacks go on
        failure = _told(error)
    ids = [sink.run_id for sink in sinks] or [None] * len(stack)
    return [Outcome(job.number, run_id, failure) for job, run_id in zip(stack, ids, strict=True)]


@cache
def _store(uri: str, experiment: str) -> "Store":
    """A process's connection, made once."""
    from bpexp.tracking.store import connect

    return connect(uri, experiment)


def _close_open_runs(uri: str, tracking: TrackingConfig, error: BaseException) -> None:
    """End the runs that workers left open, as their sinks would have."""
    from bpexp.tracking.sink import MlflowSink
    from bpexp.tracking.store import search

    store = _store(uri, tracking.experiment)
    condition = f"tags.mlflow.parentRunId = '{tracking.parent}' and attributes.status = 'RUNNING'"
    for run in list(search(store.client, store.experiment_id, condition)):
        sink = MlflowSink(store)
        sink.run_id = run.info.run_id
        sink.abort(error)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
