"""Many runs in few trainings: runs of one shape train as a stack, stacks train in worker processes.

A worker that is gone leaves its runs open; whoever stops the workers closes those runs in the store.
"""

import os
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, as_completed, wait
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from annotated_types import Ge
from pydantic import Strict

from bpexp.config import ConfigError, Fault, RunConfig, TrackingConfig, untracked
from bpexp.experiment import Run, memory, prepare, run_stack
from bpexp.tracking.notes import Ended

if TYPE_CHECKING:
    from bpexp.tracking.store import Store

__all__ = ["Job", "Key", "Load", "Outcome", "Settings", "WorkerError", "Workers", "load_of", "processes", "stack_key", "stacks", "start", "train"]

START_SECONDS = 4.0  # a worker takes half as long to start, MLflow being large, and holds up those that work meanwhile
RUN_SECONDS = 0.05  # what a run takes besides its training, most of it in the store
LAYER_SECONDS, MULTIPLICATIONS = 5e-6, 2e10  # of a layer in a step: what it takes however small it is, and how many a second
CACHE = 2**20  # bytes of the processor's second cache, where the system does not tell


@dataclass
class Settings:
    """The launcher's keys."""

    memory: Annotated[int, Strict(), Ge(1)] = 1024
    max_runs: Annotated[int, Strict(), Ge(1)] = 64
    n_jobs: Annotated[int, Strict(), Ge(1)] | None = None


@dataclass(frozen=True)
class Job:
    """A run to be trained, with its number in the sweep."""

    number: int
    config: RunConfig


@dataclass(frozen=True)
class Load:
    """What a run asks of the machine: how many of its kind a stack may hold, and about how many seconds it takes."""

    most: int
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What became of a job: its run, or why it failed (`ConfigError: …`)."""

    number: int
    run: Ended | None
    failure: str = ""


class WorkerError(RuntimeError):
    """An error that another process had, by its name and words: not every exception survives the way."""


# ---------------------------------------------------------------------------------------------- who trains with whom

Key = tuple[tuple[str, str], ...]


def stack_key(config: RunConfig) -> Key:
    """What runs must share to train as one stack: all but learning rates, seed, initial weights and tracking."""
    own = ("lr", "output_lr", "seed")
    return tuple((key, repr(value)) for key, value in untracked(config).items() if key not in own and not key.startswith("init."))


def load_of(run: Run, settings: Settings) -> Load:
    """Raises `ConfigError` where the memory that a stack may take is too little for a run.

    A stack saves the calls of NumPy, a run's share of which is what a layer takes however small it is.  It costs where the arrays of one
    layer, of all its runs, no longer lie in the processor's second cache until the layer is done: larger nets train one by one.
    """
    config, dataset = run.config, run.dataset
    sizes = [dataset.inputs, *[config.width] * (config.depth - 1), dataset.outputs]
    weights = sum(a * b for a, b in pairwise(sizes))
    one, two = memory(config, dataset), memory(config, dataset, 2)
    room = settings.memory * 2**20
    if one > room:
        must = f"must be at least {ceil(one / 2**20):,}, the MiB that a run takes with depth={config.depth} and width={config.width}"
        raise ConfigError([Fault("hydra.launcher.memory", settings.memory, must)])
    layer = np.dtype(config.dtype).itemsize * (2 * weights + 4 * run.batch_size * sum(sizes[1:])) / config.depth
    most = min(settings.max_runs, 1 + (room - one) // (two - one), max(1, int(_cache() / layer)))
    step = LAYER_SECONDS * config.depth + 3 * run.batch_size * weights / MULTIPLICATIONS
    return Load(most, RUN_SECONDS + config.steps * step)


@cache
def _cache() -> int:
    """Bytes of the processor's second cache."""
    name = "SC_LEVEL2_CACHE_SIZE"
    told = os.sysconf(name) if name in os.sysconf_names else 0
    return told if told > 0 else CACHE


def processes(loads: Sequence[Load], settings: Settings) -> int:
    """How many to train in: as many as asked for, else one per core where each has work for longer than it takes to start."""
    from joblib import cpu_count

    worth = 1 + int(sum(load.seconds for load in loads) / START_SECONDS)
    return min(settings.n_jobs or min(cpu_count(), worth), len(loads))


def stacks(jobs: Sequence[Job], loads: Mapping[Key, Load], workers: int) -> list[list[Job]]:
    """Jobs as stacks of about equal size, enough of them to give every worker one; what takes longest comes first, so that workers end together."""
    groups: dict[Key, list[Job]] = defaultdict(list)
    for job in jobs:
        groups[stack_key(job.config)].append(job)
    found: list[tuple[float, list[Job]]] = []
    for key, group in groups.items():
        load = loads[key]
        parts = ceil(len(group) / min(load.most, ceil(len(jobs) / workers)))
        found += [(load.seconds * len(stack), stack) for stack in (group[part::parts] for part in range(parts))]
    return [stack for _, stack in sorted(found, key=lambda it: it[0], reverse=True)]


# ---------------------------------------------------------------------------------------------- workers


@dataclass(frozen=True)
class Workers:
    """The processes in which to train.  One is the main process, which has no executor."""

    count: int = 1
    executor: Any = None

    def stop(self) -> None:
        """End them at once, whatever they do."""
        if self.executor is not None:
            self.executor.shutdown(wait=True, kill_workers=True)


def start(count: int) -> Workers:
    """Workers, which load what training takes while others do something else; those that are there already, where they are as many."""
    if count == 1:
        return Workers()
    from joblib.externals.loky import get_reusable_executor

    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # a run that asks for more gets them
    executor = get_reusable_executor(max_workers=count, initializer=_ready, env=one, timeout=None)
    executor.submit(int)
    return Workers(count, executor)


def _ready() -> None:
    """What a worker does first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to every process: the main one decides
    import bpexp.tracking.sink  # noqa: F401 (to have it loaded)


def train(plan: Sequence[Sequence[Job]], uri: str, workers: Workers, begin: Callable[[Job], None], progress: Callable[[int], None]) -> list[Outcome]:
    """Train stacks into the store at a resolved `uri`; `begin` is told each job that starts, `progress` how many runs have just ended.

    An interruption, or the death of a worker, ends all workers at once and closes their runs in the store.
    """
    done: dict[int, Outcome] = {}
    try:
        for outcomes in _trained(plan, uri, workers, begin):
            done |= {outcome.number: outcome for outcome in outcomes}
            progress(len(outcomes))
    except BaseException as error:
        if not isinstance(error, Exception):
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would leave runs open
        workers.stop()
        _close_open_runs(uri, plan[0][0].config.tracking, error)
        if not isinstance(error, Exception):
            raise
        done = {job.number: Outcome(job.number, None, _told(error)) for stack in plan for job in stack} | done
    return [done[number] for number in sorted(done)]


def _trained(plan: Sequence[Sequence[Job]], uri: str, workers: Workers, begin: Callable[[Job], None]) -> Iterator[list[Outcome]]:
    """The outcomes of each stack, as they come; no more are handed out than one for each worker to have and one to have next."""
    waiting: set[Any] = set()
    for stack in plan:
        for job in stack:
            begin(job)
        if workers.executor is None:
            yield train_stack(stack, uri)
            continue
        waiting.add(workers.executor.submit(train_stack, stack, uri))
        if len(waiting) == 2 * workers.count:
            ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in ended)
    for future in as_completed(waiting):
        yield future.result()


def train_stack(stack: Sequence[Job], uri: str) -> list[Outcome]:
    """One stack, in a worker process; in the main one, where that is the only one."""
    from bpexp.tracking.writer import Writer

    try:
        runs = [prepare(job.config) for job in stack]
        with Writer.to(uri, stack[0].config, Path.cwd()) as writer:
            sinks = [writer.sink(job.number) for job in stack]
            records = run_stack(runs, sinks)
    except Exception as error:  # the other stacks go on
        return [Outcome(job.number, None, _told(error)) for job in stack]
    return [
        Outcome(job.number, None, sink.failure)
        if sink.failure
        else Outcome(job.number, Ended(str(sink.run_id or ""), job.config.tracking.run_name or "", record.outcome, record.summary))
        for job, sink, record in zip(stack, sinks, records, strict=True)
    ]


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
