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
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy import Connection, Engine

from bpexp.tracking.backend import ERROR, FINGERPRINT, NOTE, Held, Known, NewRun, judged
from bpexp.tracking.notes import ABORTED
from bpexp.tracking.owner import HEARTBEAT, OWNER, alive
from bpexp.tracking.points import Points

__all__ = ["REVISIONS", "Database"]

REVISIONS = ("dc11669786a5",)  # of MLflow 3.17
OLDEST_SQLITE = (3, 32)  # takes 32,766 values in a statement
ROWS = 1000  # in a statement.  Each statement lets other threads of the process run: with a row in each, a training thread would let few pass
TRANSACTION = 20_000  # points; then other processes have their turn
IDLE = 0.05  # of a transaction's time, in which nothing is written
PATIENCE = 30.0  # seconds that a writer that does not queue may hold the database
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
BY_FINGERPRINT = f"create index if not exists bpexp_fingerprints on tags (value) where key = '{FINGERPRINT}'"  # else a claim reads those of all runs
ACTIVE = f"""select mark.value, runs.run_uuid, artifact_uri, start_time, status, coalesce(owner.value, ''), heartbeat.value
    from tags mark indexed by bpexp_fingerprints join runs on runs.run_uuid = mark.run_uuid
    left join tags owner on owner.run_uuid = runs.run_uuid and owner.key = '{OWNER}'
    left join tags heartbeat on heartbeat.run_uuid = runs.run_uuid and heartbeat.key = '{HEARTBEAT}'
    where mark.key = '{FINGERPRINT}' and experiment_id = ? and lifecycle_stage = 'active' and mark.value in ({{}})
    order by start_time, runs.run_uuid"""  # noqa: S608 (nothing of a user's)
OPEN_AGAIN = "update runs set status = 'RUNNING', end_time = null where run_uuid = ?"
FORGIVE = f"delete from tags where run_uuid = ? and (key = '{ERROR}' or key = '{NOTE}' and value like '{ABORTED}%')"  # noqa: S608
UNSUMMED = [f"delete from {table} where run_uuid = ? and key glob 'summary/*'" for table in ("metrics", "latest_metrics")]  # noqa: S608
RETIRE = f"""update runs set lifecycle_stage = 'deleted', deleted_time = ?
    where experiment_id = ? and run_uuid != ? and status = 'FINISHED' and lifecycle_stage = 'active'
    and run_uuid in (select run_uuid from tags where key = '{FINGERPRINT}' and value = ?)"""  # noqa: S608
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


class Made(NamedTuple):
    """A run to be inserted."""

    run: NewRun
    run_id: str
    artifacts: str  # their URI


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
        made = self._made(run)
        self._write(Work(partial(_make, [made])))
        return made.run_id, made.artifacts

    def claim(self, runs: Sequence[NewRun], *, anew: bool = False) -> list[Held]:
        """In one transaction: of all processes that claim a run, one gets it."""
        lives = cache(alive)
        held, made, again = [], [], []
        with self._transaction() as connection:
            known = _known(connection, runs)
            for run in runs:
                it = judged(known[run.fingerprint], run.tags[OWNER], lives, anew=anew)
                if it is None:
                    made.append(self._made(run))
                    it = Held("new", made[-1].run_id, made[-1].artifacts, run.start)
                    known[run.fingerprint].append(Known(it.run_id, it.artifacts, it.start, "RUNNING", run.tags[OWNER], run.tags[HEARTBEAT]))
                elif it.state == "continued":
                    again.append((it.run_id, run.marks))
                held.append(it)
            if made:
                _make(made, connection)
            for run_id, marks in again:
                _open_again(run_id, marks, connection)
        return held

    def reopen(self, run_id: str, tags: Mapping[str, str]) -> None:
        self._write(Work(partial(_open_again, run_id, tags)))

    def retire(self, experiment_id: str, fingerprint: str, keep: str) -> None:
        def write(connection: Connection) -> None:
            connection.exec_driver_sql(RETIRE, (_now(), int(experiment_id), keep, fingerprint))

        self._write(Work(write))

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to which the tables stay as they are."""
        with self.engine.connect() as connection:
            connection.exec_driver_sql(f"pragma busy_timeout = {round(1000 * PATIENCE)}")
            connection.exec_driver_sql("begin")
            yield connection

    def _made(self, run: NewRun) -> Made:
        run_id = uuid4().hex
        return Made(run, run_id, f"{self._folder(run.experiment_id)}/{run_id}/artifacts")

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
            connection.exec_driver_sql(f"pragma busy_timeout = {round(1000 * PATIENCE)}")  # MLflow sets its own again
            connection.exec_driver_sql("pragma foreign_keys = on")
            connection.exec_driver_sql("begin immediate")
            yield connection
            connection.commit()


def _check(connection: Connection, lookup: str, key: object) -> None:
    """Refuse to write into the store's bin."""
    stage = connection.exec_driver_sql(lookup, (key,)).scalar_one_or_none()
    if stage != "active":
        raise MlflowException(f"{lookup.split()[3].removesuffix('s')} {key} {'is not there' if stage is None else 'is in the bin'}")


def _make(made: Sequence[Made], connection: Connection) -> None:
    """Runs of one experiment."""
    experiment = int(made[0].run.experiment_id)
    _check(connection, EXPERIMENT, experiment)
    _insert(connection, RUN, [_row(it, experiment) for it in made])
    _insert(connection, TAG, [(key, value, it.run_id) for it in made for key, value in it.run.tags.items()])
    _insert(connection, PARAMETER, [(key, value, it.run_id) for it in made for key, value in it.run.parameters.items()])
    _insert_inputs(connection, made, experiment)


def _row(it: Made, experiment: int) -> tuple[Any, ...]:
    run, user = it.run, it.run.tags.get("mlflow.user", "unknown")
    return it.run_id, run.name, "UNKNOWN", "", "", user, "RUNNING", run.start, "", "active", it.artifacts, experiment


def _known(connection: Connection, runs: Sequence[NewRun]) -> dict[str, list[Known]]:
    """Of each fingerprint the active runs, the oldest first."""
    connection.exec_driver_sql(BY_FINGERPRINT)
    found: dict[str, list[Known]] = {run.fingerprint: [] for run in runs}
    fingerprints = list(found)
    for first in range(0, len(fingerprints), ROWS):
        part = fingerprints[first : first + ROWS]
        statement = ACTIVE.format(", ".join("?" * len(part)))
        for fingerprint, *row in connection.exec_driver_sql(statement, (int(runs[0].experiment_id), *part)):
            found[fingerprint].append(Known(*row))
    return found


def _open_again(run_id: str, tags: Mapping[str, str], connection: Connection) -> None:
    _check(connection, THIS_RUN, run_id)
    connection.exec_driver_sql(FORGIVE, (run_id,))
    connection.exec_driver_sql(OPEN_AGAIN, (run_id,))
    for statement in UNSUMMED:  # of an end that was none: what a step costs would be there twice
        connection.exec_driver_sql(statement, (run_id,))
    _set(connection, run_id, tags, None)


def _now() -> int:
    """Ms since 1970."""
    return time.time_ns() // 1_000_000


def _set(connection: Connection, run_id: str, tags: Mapping[str, str], status: str | None) -> None:
    _insert(connection, TAG, [(key, value, run_id) for key, value in tags.items()], REPLACE)
    if status is not None:
        connection.exec_driver_sql("update runs set status = ?, end_time = ? where run_uuid = ?", (status, _now(), run_id))


def _insert_inputs(connection: Connection, made: Sequence[Made], experiment: int) -> None:
    """The runs' data sets, which many runs of an experiment share."""
    datasets = {(it.name, it.digest): it for it in (each.run.data.dataset for each in made)}
    told = [(uuid4().hex, experiment, it.name, it.digest, it.source_type, it.source, it.schema, it.profile) for it in datasets.values()]
    _insert(connection, DATASET, told, KEEP)
    ids = {key: connection.exec_driver_sql(THIS_DATASET, (experiment, *key)).scalar_one() for key in datasets}
    inputs = [(uuid4().hex, it.run_id, it.run.data) for it in made]
    _insert(connection, INPUT, [(key, "DATASET", ids[data.dataset.name, data.dataset.digest], "RUN", run_id) for key, run_id, data in inputs])
    _insert(connection, INPUT_TAG, [(key, tag.key, tag.value) for key, _, data in inputs for tag in data.tags])


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
