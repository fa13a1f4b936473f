"""MLflow's SQLite database, written without its object-relational mapper, which spends 80 µs on a point that takes SQLite 5.

The rows are those that MLflow's client leaves.  That holds for the revisions of the tables named here; all others go through the client.
"""

import fcntl
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy import Connection, Engine

from bpexp.tracking.backend import NewRun
from bpexp.tracking.points import Points

__all__ = ["REVISIONS", "Database"]

REVISIONS = ("dc11669786a5",)  # of MLflow 3.17
OLDEST_SQLITE = (3, 32)  # takes 32,766 values in a statement
ROWS = 1000  # in a statement.  Each statement lets other threads of the process run: with a row in each, a training thread would let few pass
TRANSACTION = 20_000  # points; then other processes have their turn
IDLE = 0.05  # of a transaction's time, in which nothing is written
PATIENCE = 120  # seconds that a writer that does not queue may hold the database
LARGEST = np.finfo(np.float64).max

RUN = """insert into runs
    (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time, source_version, lifecycle_stage, artifact_uri,
     experiment_id)"""
DATASET = "insert into datasets (dataset_uuid, experiment_id, name, digest, dataset_source_type, dataset_source, dataset_schema, dataset_profile)"
INPUT = "insert into inputs (input_uuid, source_type, source_id, destination_type, destination_id)"
INPUT_TAG = "insert into input_tags (input_uuid, name, value)"
PARAMETER = "insert into params (key, value, run_uuid)"
TAG = "insert into tags (key, value, run_uuid)"
METRIC = "insert into metrics (key, value, timestamp, step, is_nan, run_uuid)"
LATEST = "insert into latest_metrics (key, value, timestamp, step, is_nan, run_uuid)"
EXPERIMENT = "select lifecycle_stage from experiments where experiment_id = ?"
THIS_RUN = "select lifecycle_stage from runs where run_uuid = ?"
THIS_DATASET = "select dataset_uuid from datasets where experiment_id = ? and name = ? and digest = ?"

KEEP = "on conflict do nothing"
REPLACE = "on conflict (key, run_uuid) do update set value = excluded.value"
ADVANCE = """on conflict (key, run_uuid) do update
    set value = excluded.value, timestamp = excluded.timestamp, step = excluded.step, is_nan = excluded.is_nan
    where (excluded.step, excluded.timestamp, excluded.value) > (latest_metrics.step, latest_metrics.timestamp, latest_metrics.value)"""


@dataclass(frozen=True)
class Work:
    """Some rows to be written, and how many points are among them."""

    write: Callable[[Connection], None]
    points: int = 0


class Waiting(threading.local):
    """What a thread has put off until the end of `together`."""

    works: deque[Work] | None = None


class Database:
    """A `Backend`: a SQLite database of a known revision, through the engine that MLflow has opened."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.waiting = engine, Waiting()
        self.folders: dict[str, str] = {}  # of an experiment's artifacts

    @classmethod
    def of(cls, client: MlflowClient) -> "Database | None":
        """The database that a client writes to; None where it is none of SQLite's, or its tables are of a revision that is not known."""
        service = getattr(client, "_tracking_client", None)
        engine = getattr(getattr(service, "store", None), "engine", None)
        if not isinstance(engine, Engine) or engine.dialect.name != "sqlite" or sqlite3.sqlite_version_info < OLDEST_SQLITE:
            return None
        with engine.connect() as connection:
            revisions = connection.exec_driver_sql("select version_num from alembic_version").scalars().all()
        return cls(engine) if len(revisions) == 1 and revisions[0] in REVISIONS else None

    def create(self, run: NewRun) -> tuple[str, str]:
        run_id, folder = uuid4().hex, self._folder(run.experiment_id)
        artifacts = f"{folder}/{run_id}/artifacts"

        def write(connection: Connection) -> None:
            _check(connection, EXPERIMENT, int(run.experiment_id))
            user = run.tags.get("mlflow.user", "unknown")
            row = (run_id, run.name, "UNKNOWN", "", "", user, "RUNNING", run.start, "", "active", artifacts, int(run.experiment_id))
            _insert(connection, RUN, [row])
            _insert(connection, TAG, [(key, value, run_id) for key, value in run.tags.items()])
            _insert(connection, PARAMETER, [(key, value, run_id) for key, value in run.parameters.items()])
            _insert_input(connection, run, run_id)

        self._write(Work(write))
        return run_id, artifacts

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to which the tables stay as they are."""
        with self.engine.connect() as connection:
            connection.exec_driver_sql(f"pragma busy_timeout = {1000 * PATIENCE}")
            connection.exec_driver_sql("begin")
            yield connection

    def _folder(self, experiment_id: str) -> str:
        if experiment_id not in self.folders:
            with self.engine.connect() as connection:
                location = connection.exec_driver_sql("select artifact_location from experiments where experiment_id = ?", (int(experiment_id),))
                self.folders[experiment_id] = str(location.scalar_one()).rstrip("/")
        return self.folders[experiment_id]

    def log(self, run_id: str, points: Points, tags: Mapping[str, str], status: str | None = None) -> None:
        """Points come before tags and status: a run that is cut off is never marked as whole."""

        def points_of(part: Points, connection: Connection) -> None:
            _check(connection, THIS_RUN, run_id)
            _insert_points(connection, run_id, part)

        def end(connection: Connection) -> None:
            _check(connection, THIS_RUN, run_id)
            _set(connection, run_id, tags, status)

        parts = (points[first : first + TRANSACTION] for first in range(0, len(points), TRANSACTION))
        self._write(*[Work(partial(points_of, part), len(part)) for part in parts], Work(end))

    def end(self, run_id: str, tags: Mapping[str, str], status: str) -> None:
        def write(connection: Connection) -> None:
            state = connection.exec_driver_sql("select status from runs where run_uuid = ?", (run_id,)).scalar_one_or_none()
            if state == "RUNNING":  # None: its creation did not come to be stored
                _set(connection, run_id, tags, status)

        self._write(Work(write))

    @contextmanager
    def together(self) -> Iterator[None]:
        """One transaction for as many calls as fit: what a commit takes depends on the disk far more than on the rows."""
        works = self.waiting.works = deque[Work]()
        try:
            yield
        finally:
            self.waiting.works = None
            self._write(*works)

    def _write(self, *works: Work) -> None:
        if self.waiting.works is not None:
            self.waiting.works.extend(works)
            return
        rest = deque(works)
        while rest:
            with self._transaction() as connection:
                points = 0
                while rest and points < TRANSACTION:
                    rest[0].write(connection)
                    points += rest.popleft().points

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Writers of ours queue up for the database.  SQLite lets whoever waits look again now and then: some wait long, and nobody writes
        between.  MLflow's own writers do just that, so a part of the time is left to them.
        """
        database = Path(str(self.engine.url.database))
        with database.with_name(f".{database.name}.queue").open("w") as queue:
            with suppress(OSError):  # a file system without such locks
                fcntl.flock(queue, fcntl.LOCK_EX)
            start = time.monotonic()
            yield
            time.sleep(IDLE * (time.monotonic() - start))

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """A transaction that has the database to itself from its start: one that began by reading might have to give up half-way."""
        with self._turn(), self.engine.connect() as connection:
            connection.exec_driver_sql(f"pragma busy_timeout = {1000 * PATIENCE}")  # MLflow sets its own again
            connection.exec_driver_sql("pragma foreign_keys = on")
            connection.exec_driver_sql("begin immediate")
            yield connection
            connection.commit()


def _check(connection: Connection, lookup: str, key: object) -> None:
    """Refuse to write into the store's bin."""
    stage = connection.exec_driver_sql(lookup, (key,)).scalar_one_or_none()
    if stage != "active":
        raise MlflowException(f"{lookup.split()[3].removesuffix('s')} {key} {'is not there' if stage is None else 'is in the bin'}")


def _set(connection: Connection, run_id: str, tags: Mapping[str, str], status: str | None) -> None:
    _insert(connection, TAG, [(key, value, run_id) for key, value in tags.items()], REPLACE)
    if status is not None:
        now = time.time_ns() // 1_000_000
        connection.exec_driver_sql("update runs set status = ?, end_time = ? where run_uuid = ?", (status, now, run_id))


def _insert_input(connection: Connection, run: NewRun, run_id: str) -> None:
    """The run's data set, which many runs of an experiment share."""
    data, experiment, input_id = run.data.dataset, int(run.experiment_id), uuid4().hex
    told = (data.name, data.digest, data.source_type, data.source, data.schema, data.profile)
    _insert(connection, DATASET, [(uuid4().hex, experiment, *told)], KEEP)
    dataset = connection.exec_driver_sql(THIS_DATASET, (experiment, data.name, data.digest)).scalar_one()
    _insert(connection, INPUT, [(input_id, "DATASET", dataset, "RUN", run_id)])
    _insert(connection, INPUT_TAG, [(input_id, tag.key, tag.value) for tag in run.data.tags])


def _insert_points(connection: Connection, run_id: str, points: Points) -> None:
    nan = np.isnan(points.values)
    values = np.where(nan, 0.0, np.clip(points.values, -LARGEST, LARGEST))
    columns = (points.names.tolist(), values.tolist(), points.timestamps.tolist(), points.steps.tolist(), nan.astype(int).tolist())
    rows = [(*row, run_id) for row in zip(*columns, strict=True)]
    _insert(connection, METRIC, rows, KEEP)
    # MLflow's latest point of a metric is the greatest by step, time, value; the first one where these are equal.
    order = np.lexsort((-np.arange(len(rows)), values, points.timestamps, points.steps)).tolist()
    latest = {rows[index][0]: rows[index] for index in order}
    _insert(connection, LATEST, list(latest.values()), ADVANCE)


def _insert(connection: Connection, into: str, rows: Sequence[tuple[Any, ...]], on_conflict: str = "") -> None:
    """Many rows in few statements."""
    for first in range(0, len(rows), ROWS):
        part = rows[first : first + ROWS]
        row = f"({', '.join('?' * len(part[0]))})"
        connection.exec_driver_sql(f"{into} values {', '.join([row] * len(part))} {on_conflict}", tuple(chain.from_iterable(part)))
