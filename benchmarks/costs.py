"""What a run of a sweep costs, measured: the numbers of `benchmarks.model`.  As a program, those of some nets: `python -m benchmarks.costs`.

Seconds are the processor's, which other programs on the machine change little, and the median of the repeats: the least of each phase would add up to
a sweep that never was.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.commands import folder, seconds
from benchmarks.timing import ROOT, environment

__all__ = ["CHECKED", "FEW", "MANY", "NETS", "TINY", "measured"]

NETS: dict[str, dict[str, Any]] = {
    "tiny": {"depth": 2, "width": 2, "steps": 1, "data": {"name": "synthetic"}},
    "narrow": {"depth": 10, "width": 16, "steps": 300},
    "default": {},
    "deep": {"depth": 50, "width": 64},
    "wide": {"depth": 50, "width": 256, "steps": 200},
}
TINY = ("depth=2", "width=2", "steps=1", "data=synthetic")  # the first of them, as words
FEW, MANY = 200, 2000  # runs of the sweeps that the costs of a run are found by
PAGES = (200, 1000)  # runs of the sweeps that are drawn
CHECKED = (100, 1000, 10_000)  # runs of those that the model is checked by
REPEATS = {FEW: 3, MANY: 3, 100: 3, 1000: 3, 10_000: 1}
SIZED = 20  # runs of a stack that a database's size is found by
PAIRS = 3  # of such stacks, with their layers' points and without
WRITERS = 8
LONGEST = 4.0  # seconds of a stack, about


# ---------------------------------------------------------------------------------------------- nets


def nets() -> dict[str, dict[str, float]]:
    """Of each net seconds and layer-steps a second and core, alone and in the stack that the launcher makes; what a run leaves."""
    from bpexp.config import RunConfig, TrackingConfig, check, parse
    from bpexp.experiment import NullSink, Run, prepare, run_stack
    from bpexp.sweep.settings import Settings
    from bpexp.sweep.stacked import load_of
    from bpexp.tracking.sink import MlflowSink
    from bpexp.tracking.store import connect

    def least(runs: Sequence[Run]) -> float:
        """A run's seconds, all probes and evaluations among them."""
        times: list[float] = []
        while len(times) < 2 or sum(times) < 1.0:
            start = time.process_time()
            run_stack(runs, [NullSink() for _ in runs])
            times.append(time.process_time() - start)
        return min(times) / len(runs)

    found = {}
    with folder() as base:
        store = connect(f"sqlite:///{base}/mlflow.db", "nets")
        for name, values in NETS.items():
            config = check(parse(RunConfig, values))
            load = load_of(prepare(config), Settings())
            most = min(load.most, 16, max(2, int(LONGEST / load.seconds)))  # more make it no faster, and take minutes
            alone = least([prepare(config)])
            stacked = alone if most == 1 else least([prepare(replace(config, seed=seed)) for seed in range(most)])
            row = {"depth": config.depth, "width": config.width, "steps": config.steps, "stack": most, "alone": alone, "stacked": stacked}
            for what, layers in (("points", config.tracking.layers), ("bare points", [])):
                run, sink = prepare(replace(config, tracking=TrackingConfig(layers=layers))), MlflowSink(store)
                (records,) = run_stack([run], [sink])
                assert not isinstance(records, Exception)
                row[what] = sink.points
            files = [file for file in Path(store.client.download_artifacts(str(sink.run_id), "")).rglob("*") if file.is_file()]
            row |= {"bytes": sum(file.stat().st_size for file in files), "files": len(files)}
            row["checkpoint"] = sum(file.stat().st_size for file in files if file.suffix == ".npz")
            found[name] = row
            print(name, row, file=sys.stderr, flush=True)
    return found


def _nets() -> Any:
    line = [sys.executable, "-m", "benchmarks.costs"]
    return json.loads(subprocess.run(line, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True, check=True).stdout)


# ---------------------------------------------------------------------------------------------- sweeps


def _sweeps() -> dict[str, Any]:
    """Of a sweep of few and one of many tiny runs: what each phase took, and how large its files are."""
    found: dict[str, Any] = {}
    for runs in (FEW, MANY):
        repeats = []
        for _ in range(REPEATS[runs]):
            with folder() as cwd:
                told = cwd / "phases.json"
                seconds(["-m", "benchmarks.phases", str(told), "-m", *TINY, f"seed=range({runs})"], cwd)
                repeats.append(_flat(json.loads(told.read_text())))
                sizes = _sizes(cwd)
        found[str(runs)] = {key: median(each[key] for each in repeats) for key in repeats[0]} | sizes
        print(runs, found[str(runs)], flush=True)
    return found


def _flat(told: dict[str, Any]) -> dict[str, float]:
    phases = {f"{name} {what}": each[what] for name, each in told["phases"].items() for what in ("wall", "cpu")}
    return phases | {key: told[key] for key in ("wall", "cpu", "workers", "peak")}


def _sizes(cwd: Path) -> dict[str, float]:
    """Bytes and numbers of files of a sweep's folder."""
    made = [file for file in (cwd / "multirun").rglob("*") if file.is_file()]
    tables = [file for name in ("manifest.json", "runs.json") for file in (cwd / "mlruns").rglob(name)]
    return {
        "folder bytes": sum(file.stat().st_size for file in made),
        "folder files": len(made),
        "manifest bytes": sum(file.stat().st_size for file in tables),
    }


def _pages() -> dict[str, int]:
    """Bytes of a report's page, by the number of runs."""
    found = {}
    for runs in PAGES:
        with folder() as cwd:
            seconds(["-m", "bpexp", "-m", *TINY, f"seed=range({runs})"], cwd)
            seconds(["-m", "bpexp.report"], cwd)
            (page,) = (cwd / "reports").rglob("index.html")
            found[str(runs)] = page.stat().st_size
    return found


def _check() -> dict[str, Any]:
    """Wall and processor seconds of whole commands, each in an empty folder."""
    found = {}
    for runs in CHECKED:
        walls: list[float] = []
        works: list[float] = []
        for _ in range(REPEATS[runs]):
            with folder() as cwd, _processor(works):
                walls.append(seconds(["-m", "bpexp", "-m", *TINY, f"seed=range({runs})"], cwd))
        found[str(runs)] = {"wall": median(walls), "work": median(works)}
        print(runs, found[str(runs)], flush=True)
    return found


@contextmanager
def _processor(times: list[float]) -> Iterator[None]:
    """Note what processes that start and end in here take of the processor."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    yield
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


# ---------------------------------------------------------------------------------------------- stores


def _stores() -> dict[str, Any]:
    """The rounds of `benchmarks.stores`, by store and number of writers."""
    from benchmarks import stores

    return {f"{name}, {count}": rounds for (name, count), rounds in stores.measure(3, WRITERS).items()}


def _bytes() -> dict[str, Any]:
    """Of the databases: bytes and seconds of a run without its points, and bytes of a point."""
    from tests.postgres import PASSWORD, postgres

    with folder() as base, postgres() as server:
        os.environ["PGPASSWORD"] = PASSWORD
        return {"SQLite": _size(f"sqlite:///{base}/sizes.db"), "PostgreSQL": _size(server.add("sizes"))}


class Timed:
    """A backend whose calls are timed."""

    def __init__(self, backend: Any) -> None:
        self.backend, self.seconds = backend, 0.0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return getattr(self.backend, name)(*arguments, **named)
            finally:
                self.seconds += time.perf_counter() - start

        return call

    def taken(self) -> float:
        """Seconds since the last time this was asked."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


def _size(uri: str) -> dict[str, float]:
    """The lines through stacks that send all of their layers' points and stacks that send none: neither a run nor a point takes less than nothing."""
    from scipy.optimize import nnls

    from benchmarks.tracking import CONFIG
    from bpexp.config import TrackingConfig
    from bpexp.experiment import train
    from bpexp.tracking.backend import SETTLE
    from bpexp.tracking.store import connect

    store, records = connect(uri, "sizes"), train(CONFIG)
    timed: Any = Timed(store.backend)
    kinds = [replace(CONFIG, tracking=TrackingConfig(layers=[])), CONFIG] * PAIRS
    store, settle = replace(store, backend=timed), 0.0 if uri.startswith("sqlite") else SETTLE
    rows = []  # points, bytes and seconds of a run
    for number, config in enumerate(kinds):
        before = _database(uri)
        points = _stored(store, [replace(config, seed=number * SIZED + its) for its in range(SIZED)], records)
        rows.append((points / SIZED, (_database(uri) - before) / SIZED, (timed.taken() - settle) / SIZED))
    counts, *measured = zip(*rows, strict=True)
    (run, point), (least, _) = (nnls([[1.0, count] for count in counts], column)[0] for column in measured)
    return {"point": float(point), "run": float(run), "seconds": float(least)}


def _stored(store: Any, configs: Sequence[Any], records: Any) -> int:
    """Points of a stack that is claimed and stored as if each of its runs had left these records."""
    from bpexp.experiment import prepare
    from bpexp.tracking.sink import MlflowSink, new_run

    runs, points = [prepare(config) for config in configs], 0
    for run, held in zip(runs, store.backend.claim([new_run(run, store.experiment_id, 0) for run in runs]), strict=True):
        sink = MlflowSink(store)
        sink.take(run.config, held)
        sink.update(records)
        sink.close(records, 0.0)
        points += sink.points
    return points


def _database(uri: str) -> int:
    """Its bytes."""
    from sqlalchemy import create_engine, text

    if uri.startswith("sqlite"):
        return Path(uri.removeprefix("sqlite:///")).stat().st_size
    with create_engine(uri).connect() as connection:
        return int(connection.execute(text("select pg_database_size(current_database())")).scalar_one())


measured: dict[str, Callable[[], Any]] = {"nets": _nets, "sweeps": _sweeps, "pages": _pages, "check": _check, "stores": _stores, "bytes": _bytes}


if __name__ == "__main__":
    print(json.dumps(nets()))
