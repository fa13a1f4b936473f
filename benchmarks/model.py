"""What a sweep of many runs would take, of what a few cost: the arithmetic alone, no measurement.

A sweep has three parts that work at the same time: `cores` train, one main process hands out runs and hears of them, one store takes what they tell.
Each run asks each part for some seconds, so that runs end at the rate of the part that is busiest,

    rate = min(cores / cycle, 1 / store, 1 / main),    cycle = training + upkeep + sending + waiting for claims,

and before the first run and after the last one the main process works alone.  These are the asymptotic bounds of a closed queueing network (Denning
and Buzen 1978), which a system of equal runs reaches; how far one of unequal runs stays below is told by `benchmarks.waiting`.
"""

from dataclasses import dataclass
from math import ceil

__all__ = ["Costs", "Net", "Prediction", "Store", "cycle", "parts_needed", "predict", "work"]


@dataclass(frozen=True)
class Net:
    """What a run of some net asks for."""

    seconds: float  # of a core, to train it
    points: float  # that go to the store
    bytes: float  # of its artifacts
    files: float
    stack: int = 1  # runs that train, and are claimed, together


@dataclass(frozen=True)
class Store:
    """What a store takes, all its writers together."""

    points: float  # a second
    seconds: float  # of the store, that a run takes besides its points: claim, parameters, its end
    run_bytes: float  # of the database, of a run without its points
    point_bytes: float
    settle: float = 0.0  # s that a claim of a stack waits, while the store does nothing

    def service(self, net: Net) -> float:
        """Seconds of the store that a run takes."""
        return self.seconds + net.points / self.points


@dataclass(frozen=True)
class Costs:
    """What a sweep costs besides training and the store."""

    start: float  # s, however few runs
    start_work: float  # s of cores, of all processes together, however few runs
    before: float  # s of the main process a job, when nothing trains yet: compose, check, compose again
    during: float  # s of the main process a run, while others train: folders, news, the screen
    after: float  # s of the main process a run, when all have ended: manifest, table, note
    upkeep: float  # s of a core a run, in the processes that train: files, claim, its end
    memory: float  # bytes of the main process, however few runs
    run_memory: float  # bytes of the main process a run
    folder_bytes: float  # of a run's folder under multirun/
    folder_files: float
    manifest_bytes: float  # of manifest.json and runs.json, a job


@dataclass(frozen=True)
class Prediction:
    """What all of a sweep comes to; with several `sweeps` the figures of the main process are those of each of them."""

    wall: float  # s
    busiest: str  # the part that sets the pace: cores, store, main process
    saturation: float  # cores, from which on the store is that part
    alone: float  # s in which the main process works and nothing trains
    memory: float  # bytes of the main process
    database: float  # bytes
    manifest: float  # bytes
    files: float
    bytes: float  # of all files


def cycle(net: Net, store: Store, costs: Costs) -> float:
    """Seconds from the start of a run to that of the next, on a core that waits for nobody else."""
    return net.seconds + costs.upkeep + net.points / store.points + store.settle / net.stack


def predict(runs: float, cores: float, net: Net, store: Store, costs: Costs, sweeps: int = 1) -> Prediction:
    """Of `runs` runs on so many cores; `sweeps`: started side by side, each with a part of the runs and a main process of its own, into one store.

    A main process takes its share of the cores: that counts on a machine of few, not on a cluster.
    """
    each = ceil(runs / sweeps)
    busy, service = cycle(net, store, costs) + costs.during, store.service(net)
    rates = {"cores": cores / busy, "store": 1 / service, "main process": sweeps / costs.during}
    busiest = min(rates, key=lambda part: rates[part])
    alone = each * (costs.before + costs.after)
    files = runs * (net.files + costs.folder_files)
    return Prediction(
        wall=costs.start + alone + runs / rates[busiest],
        busiest=busiest,
        saturation=busy / service,
        alone=alone,
        memory=costs.memory + each * costs.run_memory,
        database=runs * (store.run_bytes + net.points * store.point_bytes),
        manifest=each * costs.manifest_bytes,
        files=files,
        bytes=runs * (net.bytes + costs.folder_bytes + costs.manifest_bytes),
    )


def work(runs: float, net: Net, costs: Costs) -> float:
    """Seconds of cores, of all processes of a sweep together: what its wall time is made of, and what other programs on the machine change little."""
    return costs.start_work + runs * (net.seconds + costs.upkeep + costs.before + costs.during + costs.after)


def parts_needed(runs: float, costs: Costs, memory: float, alone: float) -> int:
    """How many sweeps to make of one, so that no main process takes more bytes than `memory` nor works alone for longer than `alone` seconds."""
    room = min((memory - costs.memory) / costs.run_memory, alone / (costs.before + costs.after))
    return max(1, ceil(runs / int(room)))
