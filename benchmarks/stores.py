"""What tracking costs at each kind of store, with one writer and with several: `python -m benchmarks.stores [rounds=3] [writers=8]`.

It starts what it needs, on loopback: PostgreSQL (`apt-get install postgresql`, `pip install .[postgres]`) and MLflow servers.  In a round every
writer, a process of its own, claims some runs, sends all their points and closes them, all writers at once.  Printed is a Markdown table: the median
of the rounds, its ratio to SQLite with as many writers, and what a run costs besides its points.  In the end each store is asked how many points it
has: all that were sent.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.commands import folder
from benchmarks.tables import table
from benchmarks.timing import Process
from benchmarks.tracking import CONFIG
from bpexp.tracking.store import connect
from tests.cli import query
from tests.postgres import PASSWORD, postgres
from tests.served import serving

EXPERIMENT = "benchmark"
STACK = 2  # runs that a writer has at once
COUNT = "select count(*) from metrics"
HEAD = ["store", "writers", "points a second, together", "over SQLite", "lowest–highest", "claim of a stack, s", "rest of a run, ms", "over SQLite"]


@dataclass(frozen=True)
class Place:
    """A store to write to, and how many points it has."""

    uri: str
    count: Callable[[], int]


@contextmanager
def sqlite(base: Path) -> Iterator[Place]:
    yield Place(f"sqlite:///{base}/direct.db", lambda: int(query(base / "direct.db", COUNT)[0][0]))


@contextmanager
def database(_base: Path) -> Iterator[Place]:
    with postgres() as it:
        yield Place(it.add("runs"), lambda: int(it.query("runs", COUNT)[0][0]))


@contextmanager
def served(base: Path, below: Callable[[Path], AbstractContextManager[Place]]) -> Iterator[Place]:
    with below(base) as store, serving(base / "server", store.uri) as server:
        yield Place(server.uri, store.count)


STORES: dict[str, Callable[[Path], AbstractContextManager[Place]]] = {
    "SQLite": sqlite,
    "PostgreSQL": database,
    "server on SQLite": partial(served, below=sqlite),
    "server on PostgreSQL": partial(served, below=database),
}


def worker(uri: str) -> None:
    """Answers each line `first seed` with the seconds that some runs took."""
    from bpexp.experiment import prepare, train
    from bpexp.tracking.sink import MlflowSink, new_run

    store, records = connect(uri, EXPERIMENT), train(CONFIG)
    for line in sys.stdin:
        runs = [prepare(replace(CONFIG, seed=int(line) + number)) for number in range(STACK)]
        sinks, start = [MlflowSink(store) for _ in runs], perf_counter()
        held = store.backend.claim([new_run(run, store.experiment_id, 0) for run in runs])
        assert [it.state for it in held] == ["new"] * STACK
        claimed = perf_counter()
        for sink, run, it in zip(sinks, runs, held, strict=True):
            sink.take(run.config, it)
            sink.update(records)
        sent = perf_counter()
        points = sum(sink.points for sink in sinks)
        for sink in sinks:
            sink.close(records, 0.0)
        every = sum(sink.points for sink in sinks)
        told = {"points": points, "all": every, "claim": claimed - start, "send": sent - claimed, "close": perf_counter() - sent}
        print(json.dumps(told), flush=True)


def measure(rounds: int, writers: int) -> dict[tuple[str, int], list[dict[str, float]]]:
    """A row per round, for each kind of store and number of writers; one kind after the other, so that no other's processes take memory."""
    os.environ["PGPASSWORD"] = PASSWORD  # of all processes that are started here
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    for name, start in STORES.items():
        with folder() as base, start(base) as place, ExitStack() as stack:
            connect(place.uri, EXPERIMENT)  # MLflow's tables are made once
            processes = [Process("benchmarks.stores", "worker", place.uri, cwd=base, one_thread=False) for _ in range(writers)]
            for process in processes:
                stack.callback(process.close)
            seeds, sent = iter(range(0, 10**9, STACK)), 0
            for turn in range(rounds + 1):  # the first one, in which all is made and loaded, does not count
                for count in dict.fromkeys((writers, 1)):
                    for process in processes[:count]:
                        process.send(next(seeds))
                    answers = [process.receive() for process in processes[:count]]
                    sent += sum(answer["all"] for answer in answers)
                    if turn:
                        found.setdefault((name, count), []).append(_row(answers))
            assert place.count() == sent, (name, place.count(), sent)
    return dict(sorted(found.items(), key=lambda item: ([*STORES].index(item[0][0]), item[0][1])))


def _row(answers: list[dict[str, Any]]) -> dict[str, float]:
    rate = sum(answer["points"] for answer in answers) / max(answer["send"] for answer in answers)
    return {"rate": rate, "claim": max(answer["claim"] for answer in answers), "rest": max(answer["close"] for answer in answers) / STACK}


def section(found: dict[tuple[str, int], list[dict[str, float]]]) -> str:
    lines = []
    for (name, count), rounds in found.items():
        plain, rates = found["SQLite", count], [row["rate"] for row in rounds]
        rate, claim, rest = (median(row[what] for row in rounds) for what in ("rate", "claim", "rest"))
        faster, slower = (each / median(row[what] for row in plain) for each, what in ((rate, "rate"), (rest, "rest")))
        cells = [f"{rate:,.0f}", f"{faster:.2f}", f"{min(rates):,.0f}–{max(rates):,.0f}", f"{claim:.2f}", f"{1000 * rest:.0f}", f"{slower:.1f}"]
        lines.append([name, count, *cells])
    return table(HEAD, lines)


def main(words: list[str]) -> None:
    options = {"rounds": 3, "writers": 8}
    for word in words:
        key, _, value = word.partition("=")
        if key not in options or not value.isdecimal() or not 1 <= int(value) <= 100:
            print(f"stores: {word}: must be rounds= or writers=, with a whole number from 1 to 100", file=sys.stderr)
            raise SystemExit(2)
        options[key] = int(value)
    print(section(measure(**options)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        worker(sys.argv[2])
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended
        main(sys.argv[1:])
