"""Sweeps that are interrupted: their processes, and what they leave in their store."""

import json
import multiprocessing
import os
import re
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from glob import glob
from itertools import count
from pathlib import Path
from typing import Self

from mlflow import MlflowClient

from bpexp.sweep import app
from bpexp.tracking import store as stores
from tests.cli import Query, environment, query

COST = "summary/step_seconds"  # a time, the one number that no run repeats
LIMIT = 240.0  # seconds after which whatever a test waits for has not come
FORKS = multiprocessing.get_context("forkserver")  # a process that has loaded what a command takes, and makes others of itself
FORKS.set_forkserver_preload([__name__, "bpexp.sweep.screen", "bpexp.tracking.standing", "bpexp.tracking.sweep", "bpexp.tracking.writer"])
NUMBERS = count()


@dataclass(frozen=True)
class Done:
    """What became of a command."""

    code: int | None  # minus the signal that killed it
    out: str
    err: str


class Command:
    """`python -m bpexp words…` in a session of its own, as a terminal starts it, but for the seconds that it takes to load."""

    def __init__(self, folder: Path, *words: str, room: int | None = None, **variables: str) -> None:
        """`room`: bytes of memory that it may take besides those that it has when it starts; `variables`: of its environment."""
        self.files = [folder.parent / f"{folder.name}-{name}-{next(NUMBERS)}" for name in ("stdout", "stderr")]
        for file in self.files:
            file.touch()  # it may be killed before it has written
        self.process = FORKS.Process(target=_main, args=(folder, words, self.files, room, variables))
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid

    @property
    def code(self) -> int | None:
        return self.process.exitcode

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Raises where it ends first."""
        deadline = time.monotonic() + LIMIT
        while not condition():
            assert time.monotonic() < deadline
            assert self.code is None, self.done()
            time.sleep(0.02)

    def done(self, limit: float = LIMIT) -> Done:
        """When it has ended."""
        self.process.join(limit)
        return Done(self.code, *(file.read_text() for file in self.files))

    def signalled(self, number: int, *, to_all: bool = False) -> tuple[Done, float]:
        """What a signal, perhaps to its workers as well, makes of it, and after how many seconds."""
        start = time.monotonic()
        (os.killpg if to_all else os.kill)(self.pid, number)
        return self.done(), time.monotonic() - start

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Whatever is left of it and of its workers."""
        if alive(self.pid):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.join()


def _main(folder: Path, words: tuple[str, ...], files: list[Path], room: int | None, variables: dict[str, str]) -> None:
    os.setsid()
    os.chdir(folder)
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    told = environment(**variables)
    os.environ.clear()
    os.environ.update(told)
    if room is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room,) * 2)
    sys.argv = ["bpexp", *words]
    app.main()


def alive(session: int) -> list[int]:
    """The processes of a session that still run (zombies of a lost parent aside)."""
    return list(_parents(session))


def workers(session: int) -> list[int]:
    """Those of them that train: their own children look like them until they are another program."""
    found = []
    for pid, parent in _parents(session).items():
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"bpexp.sweep.worker" in line and parent == session:
            found.append(pid)
    return found


def _parents(session: int) -> dict[int, int]:
    """The processes of a session that still run, with the parent of each."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, _, its_session = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(its_session) == session and state != "Z":
            found[int(path.parent.name)] = int(parent)
    return found


@cache
def empty_store() -> bytes:
    """A store without runs: MLflow takes seconds to make its tables."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "empty.db"
        stores._create(file)  # of which tests keep a copy
        return file.read_bytes()


class Tracked:
    """A folder in which sweeps run, and the store that they write to."""

    def __init__(self, folder: Path, uri: str, query: Query, word: str = "", **variables: str) -> None:
        """`query`: what a statement finds in the store's database; `word`: the store as it is typed; `variables`: of the sweeps' environment."""
        folder.mkdir(exist_ok=True)
        self.folder, self.uri, self.query, self.word, self.variables = folder, uri, query, word or f"tracking.uri={uri}", variables

    def start(self, *words: str, room: int | None = None) -> Command:
        return Command(self.folder, *words, self.word, room=room, **self.variables)

    def run(self, *words: str, room: int | None = None) -> Done:
        """A command to its end; nothing of it is left."""
        with self.start(*words, room=room) as command:
            done = command.done()
            assert alive(command.pid) == []
        assert "Traceback" not in done.out + done.err, done
        return done

    def parents(self) -> list[str]:
        return self._ids("join tags using (run_uuid) where key = 'bpexp.kind' and value = 'sweep'")

    def statuses(self, parent: str) -> Counter[str]:
        """What became of the runs that a parent launched."""
        children = "select run_uuid from tags where key = 'mlflow.parentRunId' and value = ?"
        return Counter(dict(self.query(f"select status, count(*) from runs where run_uuid in ({children}) group by status", parent)))

    def status(self, run_id: str) -> str:
        return str(self.query("select status from runs where run_uuid = ?", run_id)[0][0])

    def name(self, run_id: str) -> str:
        return str(self.query("select name from runs where run_uuid = ?", run_id)[0][0])

    def tag(self, run_id: str, key: str) -> str:
        found = self.query("select value from tags where run_uuid = ? and key = ?", run_id, key)
        return str(found[0][0]) if found else ""

    def nets(self, *statuses: str) -> list[str]:
        """Ids of the runs that train, or have trained, of these statuses."""
        known = " or ".join(f"status = '{status}'" for status in statuses) or "true"
        return self._ids(f"join tags using (run_uuid) where key = 'bpexp.kind' and value = 'run' and lifecycle_stage = 'active' and ({known})")

    def finished(self) -> int:
        return len(self.nets("FINISHED"))

    def checkpoints(self) -> list[Path]:
        found = glob(f"{self.folder}/.bpexp/*/checkpoints/*/*.ckpt")  # noqa: PTH207 (pathlib's raises where a folder is removed meanwhile)
        return sorted(map(Path, found))

    def jobs(self, parent: str) -> list[tuple[str, str]]:
        """A manifest: overrides and run ids."""
        path = MlflowClient(self.uri).download_artifacts(parent, "manifest.json")
        return [(" ".join(job["overrides"]), job["run_id"]) for job in json.loads(Path(path).read_text())["jobs"]]

    def table(self, parent: str) -> list[list[object]]:
        """The rows of what the pages show of a sweep."""
        return list(json.loads(Path(MlflowClient(self.uri).download_artifacts(parent, "runs.json")).read_text())["data"])

    def numbers(self, parent: str) -> dict[str, object]:
        """All that the runs of a sweep's jobs left, whatever the store: every point but their cost, and their files' bytes."""
        return {re.sub(r" tracking\.uri=\S+", "", words): self.left(run_id) for words, run_id in self.jobs(parent)}

    def left(self, run_id: str) -> tuple[object, object]:
        return self.points(run_id), self.files(run_id)

    def points(self, run_id: str) -> list[tuple[object, ...]]:
        return sorted(self.query("select key, step, value from metrics where run_uuid = ? and key != ?", run_id, COST))

    def files(self, run_id: str) -> dict[str, bytes]:
        """Without config.yaml, which names the parent."""
        folder = Path(MlflowClient(self.uri).download_artifacts(run_id, ""))
        found = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "config.yaml"}
        assert sorted(found) == ["checkpoint.npz", "curves.parquet", "layers.parquet"]
        return found

    def twice(self) -> list[tuple[object, ...]]:
        """Fingerprints of several runs, and points that are there more than once."""
        prints = "select value, count(*) from tags join runs using (run_uuid) where key = 'bpexp.fingerprint' and lifecycle_stage = 'active'"
        points = "select run_uuid, key, step, count(*) from metrics group by run_uuid, key, step having count(*) > 1"
        return self.query(f"{prints} group by value having count(*) > 1") + self.query(points)

    def _ids(self, condition: str) -> list[str]:
        return [run_id for (run_id,) in self.query(f"select run_uuid from runs {condition} order by start_time")]


class Sweeps(Tracked):
    """`tracking.uri=sqlite:///runs.db`."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "runs.db"
        super().__init__(folder, f"sqlite:///{self.file}", partial(query, self.file), "tracking.uri=sqlite:///runs.db")
        self.file.write_bytes(empty_store())
