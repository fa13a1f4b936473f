"""The MLflow store: which one it is, and that it is made once.

MLflow creates a database's tables without a lock, so of several processes that start on no database most crash.  Here the first one in makes
them, under a file lock beside the database, or a lock of PostgreSQL's, and the others wait.
"""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a run with a server; ours says it once
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # of each file of a few KB, where tqdm is installed

import mlflow
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from sqlalchemy import Connection, NullPool, create_engine, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from bpexp.config import ConfigError, Fault
from bpexp.masks import masked
from bpexp.tracking.backend import Backend, Client
from bpexp.tracking.database import Database
from bpexp.tracking.trouble import reason, trouble

__all__ = ["HASTE", "Store", "connect", "exists", "hastily", "resolve", "search", "sqlite_file", "summary", "unfit"]

SQLITE = "sqlite:///"
PAGE = 1000  # runs that MLflow hands out at once
TABLES = {  # of MLflow's SQLite store since its first versions, and what we read or write of them
    "alembic_version": ("version_num",),
    "experiments": ("experiment_id", "name", "artifact_location", "lifecycle_stage"),
    "runs": ("run_uuid", "name", "user_id", "status", "start_time", "end_time", "lifecycle_stage", "artifact_uri", "experiment_id"),
    "params": ("key", "value", "run_uuid"),
    "tags": ("key", "value", "run_uuid"),
    "metrics": ("key", "value", "timestamp", "step", "is_nan", "run_uuid"),
    "datasets": ("dataset_uuid", "experiment_id", "name", "digest"),
    "inputs": ("input_uuid", "source_id", "destination_id"),
    "input_tags": ("input_uuid", "name", "value"),
    "latest_metrics": ("key", "value", "timestamp", "step", "is_nan", "run_uuid"),
}
CREATION_SECONDS = 120.0  # creating takes 2 to 6 s; a lock held longer means trouble
LOCK = int.from_bytes(b"bpexp")  # its number at PostgreSQL
# A call that is not answered in seconds is given up, not tried again: MLflow would take minutes.  To make a run twice would make two.
HASTE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


@dataclass(frozen=True)
class Store:
    """A store that exists, the experiment in it, and the way in for runs."""

    client: MlflowClient
    uri: str
    experiment_id: str
    backend: Backend

    @property
    def remark(self) -> str | None:
        """A line for users whose store takes points slowly."""
        if isinstance(self.backend, Database):
            return None
        return (
            f"tracking.uri={masked(self.uri)}: points go through MLflow's client, some thousands a second; "
            "straight into a SQLite file with the tables of MLflow 3.17 they would go ten times as fast"
        )


def resolve(uri: str | None, folder: Path | None = None) -> str:
    """The URI that `tracking.uri` means: itself, or MLflow's own choice (MLFLOW_TRACKING_URI, else sqlite:///mlflow.db in the working folder).

    A relative SQLite path is taken from `folder` (default: the working folder).
    """
    if uri is None and folder is not None and "MLFLOW_TRACKING_URI" not in os.environ:
        uri = f"{SQLITE}mlflow.db"
    uri = uri or str(mlflow.get_tracking_uri())
    path = sqlite_file(uri)
    return uri if path is None else f"{SQLITE}{(folder or Path.cwd()) / path}"


def exists(uri: str) -> bool:
    """Whether there is a store to read; looking creates none, nor does it add MLflow's tables to another's file."""
    path = sqlite_file(uri)
    return path is None or (path.exists() and not unfit(uri))


def unfit(uri: str) -> str:
    """Why what lies at the place of a SQLite store is none, or none any more; empty where nothing is wrong, or nothing is there.  Changes nothing."""
    path = sqlite_file(uri)
    try:
        if path is None or not path.exists():
            return ""
        if not path.is_file():
            return "it is no file"
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
            columns = {f"{table}.{name}" for table in tables & set(TABLES) for _, name, *_ in database.execute(f"pragma table_info({table})")}
    except (OSError, ValueError) as error:
        return str(error)
    except sqlite3.Error as error:
        return (
            str(error) if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")) else ""
        )  # what is only locked is whole
    if not tables & set(TABLES):
        return "it holds no tables of MLflow's"
    lost = [f"{table}.{name}" for table, names in TABLES.items() for name in names if f"{table}.{name}" not in columns]
    return f"its tables have lost {', '.join(lost[:3])}{' and more' if lost[3:] else ''}" if lost else ""


def connect(uri: str, experiment: str) -> Store:
    """The store at a resolved URI with its experiment, both made if need be.  Raises `ConfigError` where that can't be."""
    path = sqlite_file(uri)
    _quiet()
    if damage := unfit(uri):
        raise _unopened(uri, damage)
    try:
        with _lock(uri, path), hastily():
            if path is not None and not path.exists():
                _clear(path)
                _create(path)
            client = MlflowClient(uri)
            return Store(client, uri, _experiment(client, experiment), Database.of(client) or Client(client))
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:  # the last: a database's driver is not installed
        raise _unopened(uri, reason(error) + ("; offline=true trains without it" if trouble(error) else "")) from error


def _unopened(uri: str, why: str) -> ConfigError:
    return ConfigError([Fault("tracking.uri", uri, f"must be a store that can be opened ({why})")])


def search(client: MlflowClient, experiment_id: str, condition: str = "") -> Iterator[Run]:
    """All runs of an experiment that meet a condition, the oldest first."""
    token: Any = None
    while True:
        page = client.search_runs([experiment_id], condition, order_by=["attributes.start_time ASC"], max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def summary(run: Run) -> dict[str, float]:
    """The numbers that `Records.summary` had, as they were tracked."""
    prefix = "summary/"
    return {key.removeprefix(prefix): value for key, value in run.data.metrics.items() if key.startswith(prefix)}


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite store; None for all others."""
    return Path(unquote(uri.removeprefix(SQLITE))) if uri.startswith(SQLITE) else None


def _unfinished(database: Path) -> Path:
    return database.with_name(f".{database.name}.unfinished")


def _clear(database: Path) -> None:
    """What is left of a database whose making was cut off: a journal beside another file of its name would be taken for that one's."""
    unfinished = _unfinished(database)
    for left in (unfinished, *(unfinished.with_name(f"{unfinished.name}-{kind}") for kind in ("journal", "wal", "shm"))):
        left.unlink(missing_ok=True)


def _create(database: Path) -> None:
    """MLflow makes a database in many steps, and can't open one that was left half-way: it gets its name when it is whole."""
    unfinished = _unfinished(database)
    MlflowClient(f"{SQLITE}{unfinished}").search_experiments(max_results=1)
    unfinished.replace(database)


def _experiment(client: MlflowClient, name: str) -> str:
    """The id of an experiment, made if need be: of several processes that make it at a server, all but one are told that it is there."""
    if client.get_experiment_by_name(name) is None:
        try:
            client.create_experiment(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        must = "this experiment is in the store's bin; `mlflow experiments restore` brings it back, or choose another name"
        raise ConfigError([Fault("tracking.experiment", name, must)])
    return str(found.experiment_id)


def _lock(uri: str, database: Path | None) -> AbstractContextManager[Any]:
    """At a server it is the server that makes the tables."""
    if database is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(database.with_name(f".{database.name}.lock"), timeout=CREATION_SECONDS)
    return _advisory_lock(uri) if uri.startswith("postgresql") else nullcontext()


@contextmanager
def _advisory_lock(uri: str) -> Iterator[None]:
    """One of the whole database, which its server takes back from whoever is gone: alone for who finds no tables; the others wait for nobody else."""
    with create_engine(uri, poolclass=NullPool).connect() as connection:
        with connection.begin():
            _wait(connection, "pg_advisory_xact_lock_shared")
            there = inspect(connection).has_table("alembic_version")
        with nullcontext() if there else connection.begin():
            if not there:
                _wait(connection, "pg_advisory_xact_lock")
            yield


def _wait(connection: Connection, lock: str) -> None:
    connection.execute(text(f"set local lock_timeout = {1000 * CREATION_SECONDS:.0f}"))
    connection.execute(text(f"select {lock}({LOCK})"))


@contextmanager
def hastily() -> Iterator[None]:
    """A server that is not there should be told of in seconds, not after MLflow's minutes of trying."""
    mine = {name: value for name, value in HASTE.items() if not os.environ.get(name)}
    os.environ.update(mine)
    try:
        yield
    finally:
        for name in mine:
            del os.environ[name]


def _quiet() -> None:
    """Creating a database is no news: MLflow and alembic would tell it in a hundred lines."""
    more = logging.getLogger("bpexp").isEnabledFor(logging.INFO)
    for name in ("alembic", *(() if more else ("mlflow.tracking",))):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # a database's error with its traceback; it is raised as well
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # "Retrying …"; what fails in the end is raised
