"""Many tracked runs at once.

MLflow's search takes 2 to 5 ms a run, nearly all of it to make objects of rows.  From its SQLite tables, where their revision is known, the rows are
read as they are, in a tenth of the time; all other stores are asked through MLflow's client.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunData, RunInfo, RunTag
from sqlalchemy import Connection

from bpexp.tracking.database import Database
from bpexp.tracking.notes import Ended
from bpexp.tracking.store import Store, search, summary

__all__ = ["Done", "ended", "everything", "left", "newest"]

IDS = 1000  # in a statement
SUMMARY = "and key glob 'summary/*'"  # of the metrics, those that are no curves
OLDEST_FIRST = "order by start_time, run_uuid"
ALL = f"select run_uuid from runs where experiment_id = ? and lifecycle_stage = 'active' {OLDEST_FIRST}"  # noqa: S608 (nothing of a user's)
MARKED = f"""select value, run_uuid from tags join runs using (run_uuid)
    where key = 'bpexp.fingerprint' and experiment_id = ? and ? in (status, '') and lifecycle_stage = 'active' {OLDEST_FIRST}"""  # noqa: S608


@dataclass(frozen=True)
class Done:
    """A run that has come to its end before, or failed, and what its numbers were computed with (`bpexp.experiment.numerics`)."""

    run: Ended
    failed: bool
    error: str
    numerics: str

    def named(self, name: str) -> "Done":
        return replace(self, run=replace(self.run, name=name))


def left(store: Store, fingerprints: Collection[str], *, resume: bool, rerun: str | None) -> dict[str, Done]:
    """Of each fingerprint that the store's experiment has a FINISHED run of, trained, stuck, untrained or diverged, the newest such run, else the
    newest that FAILED: those that are left as they are (`resume`, `rerun`: the keys of the configuration).
    """
    if not resume or rerun == "all":
        return {}
    found = newest(store, fingerprints, "FAILED") | newest(store, fingerprints, "FINISHED")
    known = {key: _done(run) for key, run in found.items()}
    return {key: it for key, it in known.items() if rerun != ("failed" if it.failed else it.run.outcome)}


def newest(store: Store, fingerprints: Collection[str], status: str = "") -> dict[str, Run]:
    """Of each fingerprint that belongs to an active run of the store's experiment, one of this status where one is given: the newest such run."""
    database, fingerprints = Database.of(store.client), set(fingerprints)  # a list would be searched for each run of the store
    if database is None:
        condition = "tags.bpexp.kind = 'run'" + (f" and attributes.status = '{status}'" if status else "")
        runs = [run for run in search(store.client, store.experiment_id, condition) if run.data.tags.get("bpexp.fingerprint") in fingerprints]
    else:
        with database.reading() as connection:
            rows = connection.exec_driver_sql(MARKED, (int(store.experiment_id), status))
            found = {fingerprint: run_id for fingerprint, run_id in rows if fingerprint in fingerprints}
            runs = _runs(connection, store.experiment_id, list(found.values()))
    return {run.data.tags["bpexp.fingerprint"]: run for run in runs}


def _done(run: Run) -> Done:
    tags = run.data.tags
    return Done(ended(run), run.info.status == "FAILED", tags.get("bpexp.error", ""), tags.get("bpexp.numerics", ""))


def everything(client: MlflowClient, experiment_id: str) -> list[Run]:
    """All runs of an experiment, the oldest first, with their parameters, tags and, of their metrics, the summary at least."""
    database = Database.of(client)
    if database is None:
        return list(search(client, experiment_id))
    with database.reading() as connection:
        ids = connection.exec_driver_sql(ALL, (int(experiment_id),)).scalars().all()
        return _runs(connection, experiment_id, ids)


def ended(run: Run) -> Ended:
    """A run by what it left in MLflow."""
    outcome = run.data.tags.get("bpexp.outcome", run.info.status.lower())
    return Ended(run.info.run_id, str(run.info.run_name), outcome, summary(run))


def _runs(connection: Connection, experiment_id: str, ids: Sequence[str]) -> list[Run]:
    """Runs by their ids, in that order."""
    found: list[Run] = []
    for first in range(0, len(ids), IDS):
        part = ids[first : first + IDS]
        tags = _by_run(connection, "key, value from tags", part)
        parameters = _by_run(connection, "key, value from params", part)
        metrics = _by_run(connection, "key, value, timestamp, step from latest_metrics", part, SUMMARY)
        for run_id, told in _by_run(connection, "user_id, status, start_time, end_time, lifecycle_stage, artifact_uri, name from runs", part).items():
            points, settings = list(starmap(Metric, metrics[run_id])), list(starmap(Param, parameters[run_id]))
            data = RunData(points, settings, list(starmap(RunTag, tags[run_id])))
            found.append(Run(RunInfo(run_id, experiment_id, *told[0]), data))
    order = {run_id: place for place, run_id in enumerate(ids)}
    return sorted(found, key=lambda run: order[run.info.run_id])


def _by_run(connection: Connection, what: str, ids: Sequence[str], condition: str = "") -> dict[str, list[tuple[Any, ...]]]:
    """Rows of a table that belong to runs."""
    statement = f"select run_uuid, {what} where run_uuid in ({', '.join('?' * len(ids))}) {condition}"
    rows = defaultdict(list)
    for run_id, *row in connection.exec_driver_sql(statement, tuple(ids)):
        rows[run_id].append(tuple(row))
    return rows
