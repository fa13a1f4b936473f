"""What tracking costs at each kind of store, with one writer and with several: `python -m benchmarks.stores [rounds=3] [writers=8]`.

It starts what it needs, on loopback: PostgreSQL (`apt-get install postgresql`, `pip install .[postgres]`) and MLflow servers.  In a round every
writer, a process of its own, claims some runs, sends all their points and closes them, all writers at once; the stores take turns.  Printed is a
Markdown table: the median of the rounds, its ratio to SQLite with as many writers, and what a run costs besides its points.  At the end each store
is asked how many points it has: all that were sent.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
def places(base: Path) -> Iterator[dict[str, Place]]:
    """All kinds of stores; those of one name share nothing with the others."""
    with ExitStack() as stack:
        database = stack.enter_context(postgres())
        os.environ["PGPASSWORD"] = PASSWORD  # of all processes that are started from here

        def counted(name: str) -> int:
            return int(database.query(name, COUNT)[0][0])

        def served(name: str, store: str | None = None) -> str:
            (base / name).mkdir()
            return stack.enter_context(serving(base / name, store)).uri

        file = base / "direct.db"
        yield {
            "SQLite": Place(f"sqlite:///{file}", lambda: int(query(file, COUNT)[0][0])),
            "PostgreSQL": Place(database.add("direct"), partial(counted, "direct")),
            "server on SQLite": Place(served("on-sqlite"), lambda: int(query(base / "on-sqlite" / "served.db", COUNT)[0][0])),
            "server on PostgreSQL": Place(served("on-postgres", database.add("served")), partial(counted, "served")),
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
    """A row per round, for each kind of store and number of writers."""
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    with folder() as base, places(base) as stores, ExitStack() as stack:
        for place in stores.values():
            connect(place.uri, EXPERIMENT)  # MLflow's tables are made once
        sent, seeds, groups = dict.fromkeys(stores, 0), iter(range(0, 10**9, STACK)), {}
        for name, place in stores.items():
            for count in dict.fromkeys((1, writers)):
                groups[name, count] = [_started(place.uri, base, stack) for _ in range(count)]
        for turn in range(rounds + 1):  # the first one, in which all is made and loaded, does not count
            for (name, count), processes in groups.items():
                for process in processes:
                    process.send(next(seeds))
                answers = [process.receive() for process in processes]
                sent[name] += sum(answer["all"] for answer in answers)
                if turn:
                    found.setdefault((name, count), []).append(_row(answers))
        for name, place in stores.items():
            assert place.count() == sent[name], (name, place.count(), sent[name])
    return found


def _started(uri: str, cwd: Path, stack: ExitStack) -> Process:
    process = Process("benchmarks.stores", "worker", uri, cwd=cwd, one_thread=False)
    stack.callback(process.close)
    return process


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
        main(sys.argv[1:])
