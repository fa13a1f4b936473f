"""What tracking a run costs.  As a program, a process that tracks runs into one store: `python -m benchmarks.tracking sqlite:////tmp/x.db ours`."""

import json
import sqlite3
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from time import perf_counter, time_ns
from typing import Any

from benchmarks.commands import folder
from benchmarks.tables import table
from benchmarks.timing import Options, Process, spread
from bpexp.config import RunConfig, TrackingConfig, untracked, written
from bpexp.experiment import prepare, train

__all__ = ["measure", "section"]

TITLE = "Tracking"
WHO = {"ours": "ours", "batch": "MLflow's log_batch, 1,000 points a call", "fluent": "mlflow.log_metrics, a call a step"}
CONFIG = RunConfig(depth=50, width=16, steps=300)
PROCESSES = 4
WAYS = (("ours", 1), ("batch", 1), ("fluent", 1), ("ours", PROCESSES), ("batch", PROCESSES))
BATCH = 1000


class Tracker:
    """One run at a time into a store, in one way or another; every method answers seconds."""

    def __init__(self, uri: str) -> None:
        from bpexp.tracking.store import connect

        self.uri, self.store = uri, connect(uri, "benchmark")
        self.run, self.bare = prepare(CONFIG), prepare(replace(CONFIG, tracking=TrackingConfig(layers=[])))
        self.records = train(CONFIG)
        self._ours(self.run)
        self.points = self._stored()  # what the others are to send
        self.artifacts = self.store.client.download_artifacts(self.run_id, "")

    def _ours(self, run: Any) -> tuple[float, float, float]:
        """Seconds that it takes to open a run, to send its points, to close it."""
        from bpexp.tracking.sink import MlflowSink

        sink = MlflowSink(self.store)
        times = [perf_counter()]
        for call in (partial(sink.open, run), partial(sink.update, self.records), partial(sink.close, self.records, 0.0)):
            call()
            times.append(perf_counter())
        self.run_id = str(sink.run_id)
        opened, sent, closed = (b - a for a, b in pairwise(times))
        return opened, sent, closed

    def _stored(self) -> list[tuple[str, float, int, int]]:
        with closing(sqlite3.connect(self.uri.removeprefix("sqlite:///"))) as database:
            query = "select key, value, timestamp, step from metrics where run_uuid = ? and key not like 'summary/%' and key not like 'profile/%'"
            return database.execute(query, [self.run_id]).fetchall()

    def ours(self) -> dict[str, Any]:
        opened, sent, closed = self._ours(self.run)
        points = len(self._stored())
        opened, _, closed = self._ours(self.bare)
        return {"points": points, "seconds": sent, "overhead": opened + closed}

    def batch(self) -> dict[str, Any]:
        from mlflow.entities import Metric

        def send() -> None:
            metrics = [Metric(key, value, timestamp, step) for key, value, timestamp, step in self.points]
            for first in range(0, len(metrics), BATCH):
                self.store.client.log_batch(self.run_id, metrics[first : first + BATCH])

        return self._theirs(send)

    def fluent(self) -> dict[str, Any]:
        import mlflow

        steps: dict[int, dict[str, float]] = {}
        for key, value, _, step in self.points:
            steps.setdefault(step, {})[key] = value

        def send() -> None:
            for step, metrics in steps.items():
                mlflow.log_metrics(metrics, step=step, run_id=self.run_id)

        mlflow.set_tracking_uri(self.uri)
        return self._theirs(send)

    def _theirs(self, send: Callable[[], None]) -> dict[str, Any]:
        """The client's calls that make what ours makes: run, parameters, tags, data set, artifacts, end."""
        from mlflow.data.numpy_dataset import from_numpy
        from mlflow.entities import DatasetInput, InputTag, Param
        from mlflow.entities.dataset import Dataset

        client, start = self.store.client, perf_counter()
        self.run_id = client.create_run(self.store.experiment_id, time_ns() // 1_000_000, {"mlflow.note.content": "x" * 500}, "a run").info.run_id
        client.log_batch(self.run_id, params=[Param(key, written(value)) for key, value in untracked(CONFIG).items()])
        split = self.run.dataset.split
        told = from_numpy(split.x_train, targets=split.y_train, name="digits", digest="0").to_dict()
        entity = Dataset(told["name"], told["digest"], told["source_type"], told["source"], told["schema"], told["profile"])
        client.log_inputs(self.run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])])
        overhead, start = perf_counter() - start, perf_counter()
        send()
        sent, start = perf_counter() - start, perf_counter()
        client.log_artifacts(self.run_id, self.artifacts)
        client.set_terminated(self.run_id, "FINISHED")
        return {"points": len(self.points), "seconds": sent, "overhead": overhead + perf_counter() - start}


def main(uri: str, who: str) -> None:
    """Answers each line of standard input with a run."""
    tracker = Tracker(uri)
    for _ in sys.stdin:
        try:
            answer = getattr(tracker, who)()
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        print(json.dumps(answer), flush=True)


def measure(options: Options) -> dict[str, Any]:
    """Per way and number of processes: points a second and seconds of overhead in each round."""
    found: dict[str, Any] = {f"{who} {count}": {"rate": [], "overhead": []} for who, count in WAYS}
    with folder() as cwd, ExitStack() as stack:
        groups = {(who, count): [_started(cwd, who, count, stack) for _ in range(count)] for who, count in WAYS}
        for _ in range(options.rounds):
            for (who, count), processes in groups.items():
                for process in processes:
                    process.send("run")
                answers = [process.receive() for process in processes]
                each = found[f"{who} {count}"]
                each["rate"].append(round(sum(answer["points"] for answer in answers) / max(answer["seconds"] for answer in answers)))
                each["overhead"].append(round(max(answer["overhead"] for answer in answers), 4))
    return found


def _started(cwd: Path, who: str, count: int, stack: ExitStack) -> Process:
    """A process that has done a run: one after the other, for MLflow fails where two are the first to name a data set."""
    process = Process("benchmarks.tracking", f"sqlite:///{cwd}/{who}{count}.db", who, cwd=cwd, one_thread=False)
    stack.callback(process.close)
    process.ask("run")
    return process


def section(found: dict[str, Any]) -> str:
    lines = []
    for who, count in WAYS:
        each = found[f"{who} {count}"]
        rate, low, high = spread(each["rate"])
        lines.append([WHO[who], count, f"{rate:,.0f}", f"{low:,.0f}–{high:,.0f}", f"{1000 * spread(each['overhead'])[0]:.0f}"])
    told = []
    for count in (1, PROCESSES):
        mine, theirs = found[f"ours {count}"], found[f"batch {count}"]
        rate, overhead = (spread(mine[what])[0] / spread(theirs[what])[0] for what in ("rate", "overhead"))
        processes = f"{count} process{'es' if count > 1 else ''}"
        told.append(f"with {processes} {rate:.2f} times the points a second of log_batch, and {overhead:.2f} times the overhead")
    head = ["way", "processes", "points a second, together", "lowest–highest", "a run's overhead, ms"]
    return f"""The points of a run of {CONFIG.depth} layers and {CONFIG.steps} steps into one SQLite file, by one process and by {PROCESSES} together;
and the overhead of a run: all of it but the points (parameters, tags, data set, artifacts, its end). All send the same points.

Ours: {"; ".join(told)}.

{table(head, lines)}"""


if __name__ == "__main__":
    main(*sys.argv[1:])
