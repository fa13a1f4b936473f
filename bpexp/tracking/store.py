"""The MLflow store: which one it is, and that it is made once.

MLflow creates a database's tables without a lock, so of several processes that start on no database most crash.  Here the first one in makes
them, under a file lock beside the database, and the others wait.
"""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a run with a server; ours says it once

import mlflow
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from bpexp.config import ConfigError, Fault
from bpexp.tracking.backend import Backend, Client
from bpexp.tracking.database import Database

__all__ = ["Store", "connect", "exists", "reason", "resolve", "search", "summary"]

SQLITE = "sqlite:///"
PAGE = 1000  # runs that MLflow hands out at once
CREATION_SECONDS = 120.0  # creating takes 2 to 6 s; a lock held longer means trouble


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
            f"tracking.uri={self.uri}: points go through MLflow's client, some 10,000 a second; "
            "straight into a SQLite file with the tables of MLflow 3.17 they would go ten times as fast"
        )


def resolve(uri: str | None, folder: Path | None = None) -> str:
    """The URI that `tracking.uri` means: itself, or MLflow's own choice (MLFLOW_TRACKING_URI, else sqlite:///mlflow.db in the working folder).

    A relative SQLite path is taken from `folder` (default: the working folder).
    """
    if uri is None and folder is not None and "MLFLOW_TRACKING_URI" not in os.environ:
        uri = f"{SQLITE}mlflow.db"
    uri = uri or str(mlflow.get_tracking_uri())
    path = _database(uri)
    return uri if path is None else f"{SQLITE}{(folder or Path.cwd()) / path}"


def exists(uri: str) -> bool:
    """Whether there is a store to read; looking creates none, nor does it add MLflow's tables to another's file."""
    path = _database(uri)
    if path is None:
        return True
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            return bool(database.execute("select 1 from sqlite_master where name = 'experiments'").fetchall())
    except sqlite3.Error:
        return False


def connect(uri: str, experiment: str) -> Store:
    """The store at a resolved URI with its experiment, both made if need be.  Raises `ConfigError` where that can't be."""
    path = _database(uri)
    _quiet()
    try:
        with _lock(path), _few_retries():
            if path is not None and not path.exists():
                _create(path)
            client = MlflowClient(uri)
            found = client.get_experiment_by_name(experiment)
            if found is not None and found.lifecycle_stage != "active":
                must = "this experiment is in the store's bin; `mlflow experiments restore` brings it back, or choose another name"
                raise ConfigError([Fault("tracking.experiment", experiment, must)])
            experiment_id = found.experiment_id if found else client.create_experiment(experiment)
            return Store(client, uri, experiment_id, Database.of(client) or Client(client))
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise ConfigError([Fault("tracking.uri", uri, f"must be a store that can be opened ({reason(error)})")]) from None


def reason(error: Exception) -> str:
    """Why a store can't be used, in a line: the database driver's own words where there are some."""
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0][:200]


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


def _database(uri: str) -> Path | None:
    """The file of a SQLite store; None for all others."""
    return Path(unquote(uri.removeprefix(SQLITE))) if uri.startswith(SQLITE) else None


def _create(database: Path) -> None:
    """MLflow makes a database in many steps, and can't open one that was left half-way: it gets its name when it is whole."""
    unfinished = database.with_name(f".{database.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    MlflowClient(f"{SQLITE}{unfinished}").search_experiments(max_results=1)
    unfinished.replace(database)


def _lock(database: Path | None) -> FileLock | nullcontext[None]:
    if database is None:
        return nullcontext()
    database.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(database.with_name(f".{database.name}.lock"), timeout=CREATION_SECONDS)


@contextmanager
def _few_retries() -> Iterator[None]:
    """A server that is not there should be told of in seconds, not after MLflow's minutes of trying."""
    name = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    before = os.environ.get(name)
    os.environ[name] = before or "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


def _quiet() -> None:
    """Creating a database is no news: MLflow and alembic would tell it in a hundred lines."""
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracking"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # "Retrying …"; what fails in the end is raised
