"""A real MLflow server, and what a store holds of a run."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bpexp.experiment import Run, run_stack
from bpexp.tracking.sink import MlflowSink
from bpexp.tracking.store import Store
from bpexp.ui import OURS
from tests.cli import environment, query

__all__ = ["Points", "Server", "free_port", "points_of", "serving", "undisturbed", "wait_until"]

Points = list[tuple[str, int, int, str]]
POINTS = "select key, step, timestamp - start_time, value from metrics join runs using (run_uuid) where run_uuid = ? order by key, step"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Server:
    """`mlflow server` in a folder: started, stopped and killed, always on the same store and port."""

    def __init__(self, folder: Path, store: str | None = None, **variables: str) -> None:
        """`store`: another one than a SQLite file in the folder; `variables`: of its environment."""
        self.folder, self.database, self.port = folder, folder / "served.db", free_port()
        self.store, self.variables = store or f"sqlite:///{self.database}", variables
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def words(self) -> list[str]:
        """Of its command, besides its place."""
        return ["--backend-store-uri", self.store, "--artifacts-destination", "artifacts", "--serve-artifacts"]

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def group(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        line = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        line += self.words
        quiet, told = subprocess.DEVNULL, environment(**OURS, **self.variables)
        self.process = subprocess.Popen(line, cwd=self.folder, env=told, start_new_session=True, stdout=quiet, stderr=quiet)
        wait_until(self.answers)

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None
        with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    def end(self, how: signal.Signals) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.group, signal.SIGCONT)
                os.killpg(self.group, how)
            self.process.wait(30)
            self.process = None


@contextmanager
def serving(folder: Path, store: str | None = None, **variables: str) -> Iterator[Server]:
    folder.mkdir(exist_ok=True)
    server = Server(folder, store, **variables)
    server.start()
    try:
        yield server
    finally:
        server.end(signal.SIGKILL)


def points_of(database: Path | str, run_id: str | None) -> Points:
    """A run's points, values to the last bit, times from its start; each metric has one at a step, and the cost of a step is left out."""
    found = query(database, POINTS, run_id)
    assert len({(key, step) for key, step, *_ in found}) == len(found)
    costs = [row for row in found if row[0] == "summary/step_seconds"]
    assert len(costs) <= 1
    return [(key, step, time, float(value).hex()) for key, step, time, value in found if key != "summary/step_seconds"]


def undisturbed(store: Store, runs: list[Run]) -> list[Points]:
    """The points of runs that nothing happened to, in a SQLite store."""
    sinks = [MlflowSink(store, job=job) for job in range(len(runs))]
    run_stack(runs, sinks)
    return [points_of(store.uri.removeprefix("sqlite:///"), sink.run_id) for sink in sinks]
