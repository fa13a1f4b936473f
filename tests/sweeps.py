"""Sweeps that are interrupted: their processes, and what they leave in their store."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from mlflow import MlflowClient

from tests.cli import environment, query

COST = "summary/step_seconds"  # a time, the one number that no run repeats


def started(folder: Path, *words: str) -> subprocess.Popen[str]:
    """A sweep in a process group of its own, as a terminal starts it."""
    line = [sys.executable, "-m", "bpexp", "-m", *words]
    return subprocess.Popen(line, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    """Raises where the process ends first."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def end(process: subprocess.Popen[str]) -> None:
    """Whatever is left of it and of its workers."""
    if alive(process.pid):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def alive(session: int) -> list[int]:
    """The processes of a session that still run (zombies of a lost parent aside)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(its_session) == session and state != "Z":
            found.append(int(path.parent.name))
    return found


def workers(session: int) -> list[int]:
    """Those of them that train."""
    found = []
    for pid in alive(session):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"bpexp.sweep.worker" in line:
            found.append(pid)
    return found


class Sweeps:
    """The store of a folder in which sweeps run, `tracking.uri=sqlite:///runs.db`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "runs.db"
        self.uri = f"sqlite:///{self.file}"

    def parents(self) -> list[str]:
        return self._ids("join tags using (run_uuid) where key = 'bpexp.kind' and value = 'sweep'")

    def statuses(self, parent: str) -> Counter[str]:
        """What became of the runs that a parent launched."""
        children = "select run_uuid from tags where key = 'mlflow.parentRunId' and value = ?"
        return Counter(dict(query(self.file, f"select status, count(*) from runs where run_uuid in ({children}) group by status", parent)))

    def status(self, run_id: str) -> str:
        return str(query(self.file, "select status from runs where run_uuid = ?", run_id)[0][0])

    def finished(self) -> int:
        return len(self._ids("join tags using (run_uuid) where key = 'bpexp.kind' and value = 'run' and status = 'FINISHED'"))

    def jobs(self, parent: str) -> list[tuple[str, str]]:
        """A manifest: overrides and run ids."""
        path = MlflowClient(self.uri).download_artifacts(parent, "manifest.json")
        return [(" ".join(job["overrides"]), job["run_id"]) for job in json.loads(Path(path).read_text())["jobs"]]

    def numbers(self, parent: str) -> dict[str, object]:
        """All that the runs of a sweep's jobs left: every point but their cost, and their files' bytes."""
        return {words: (self.points(run_id), self.files(run_id)) for words, run_id in self.jobs(parent)}

    def points(self, run_id: str) -> list[tuple[object, ...]]:
        return query(self.file, "select key, step, value from metrics where run_uuid = ? and key != ? order by key, step, value", run_id, COST)

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
        return query(self.file, f"{prints} group by value having count(*) > 1") + query(self.file, points)

    def _ids(self, condition: str) -> list[str]:
        if not self.file.exists():
            return []
        return [run_id for (run_id,) in query(self.file, f"select run_uuid from runs {condition} order by start_time")]
