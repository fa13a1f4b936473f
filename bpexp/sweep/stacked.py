"""Many runs in few trainings: runs of one shape train as a stack, stacks train side by side (`bpexp.sweep.workers`)."""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import ceil

import numpy as np

from bpexp.cli import tell
from bpexp.config import ConfigError, Fault, RunConfig, untracked
from bpexp.experiment import Run, memory
from bpexp.sweep.carry import Job, Outcome, Tell, Where, close_open_runs
from bpexp.sweep.settings import Settings
from bpexp.sweep.strikes import Begin
from bpexp.sweep.workers import Workers

__all__ = ["Key", "Load", "load_of", "processes", "seconds", "stack_key", "stacks", "train"]

START_SECONDS = 4.0  # a worker takes half as long to start, MLflow being large, and holds up those that work meanwhile
RUN_SECONDS = 0.05  # what a run takes besides its training, most of it in the store
LAYER_SECONDS, MULTIPLICATIONS = 5e-6, 2e10  # of a layer in a step: what it takes however small it is, and how many a second
CACHE = 2**20  # bytes of the processor's second cache, where the system does not tell


@dataclass(frozen=True)
class Load:
    """What a run asks of the machine: how many of its kind a stack may hold, about how many seconds it takes, and its data, by their checksum."""

    most: int
    seconds: float
    data: str


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
    one, two = memory(config, dataset), memory(config, dataset, 2)
    room = settings.memory * 2**20
    if one > room:
        must = f"must be at least {ceil(one / 2**20):,}, the MiB that a run takes with depth={config.depth} and width={config.width}"
        raise ConfigError([Fault("hydra.launcher.memory", settings.memory, must)])
    layer = np.dtype(config.dtype).itemsize * (2 * _weights(run) + 4 * run.batch_size * sum(_sizes(run)[1:])) / config.depth
    most = min(settings.max_runs, 1 + (room - one) // (two - one), max(1, int(_cache() / layer)))
    return Load(most, seconds(run), dataset.checksum)


def seconds(run: Run) -> float:
    """About how long a run takes by itself."""
    config = run.config
    step = LAYER_SECONDS * config.depth + 3 * run.batch_size * _weights(run) / MULTIPLICATIONS
    return RUN_SECONDS + config.steps * step


def _weights(run: Run) -> int:
    return sum(a * b for a, b in pairwise(_sizes(run)))


def _sizes(run: Run) -> list[int]:
    return [run.dataset.inputs, *[run.config.width] * (run.config.depth - 1), run.dataset.outputs]


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


# ---------------------------------------------------------------------------------------------- training

End = Callable[[Sequence[Outcome]], None]


def train(plan: Sequence[Sequence[Job]], where: Where, workers: Workers, begin: Begin, news: Tell, end: End) -> list[Outcome]:
    """Train stacks; `begin` is told each job that starts, `news` what there is to tell of those that train, `end` what has become of some.

    An interruption has the workers keep their states; what they could not close is closed in the store.
    """
    done: dict[int, Outcome] = {}
    try:
        for outcomes in _ended(plan, where, workers, begin, news):
            done |= {outcome.number: outcome for outcome in outcomes}
            end(outcomes)
    except BaseException as error:
        workers.stop(gently=True)
        close_open_runs(plan[0][0], where, error)
        raise
    return [done[number] for number in sorted(done)]


def _ended(plan: Sequence[Sequence[Job]], where: Where, workers: Workers, begin: Begin, news: Tell) -> Iterator[list[Outcome]]:
    """The outcomes of all jobs: those that other processes train are asked for again, when the rest is done."""
    jobs, rest, waited = {job.number: job for stack in plan for job in stack}, plan, False
    while rest:
        again = []
        for outcomes in workers.run(rest, where, begin, news):
            yield [outcome for outcome in outcomes if not outcome.busy]
            again.append([jobs[outcome.number] for outcome in outcomes if outcome.busy])
        rest = [stack for stack in again if stack]
        if rest and not waited:
            tell([f"{sum(map(len, rest)):,} of the runs are trained by other processes: waiting for them"])
            waited = True
        if rest:
            time.sleep(workers.poll_seconds)
