"""Run studies, each as the sweep that `python -m bpexp study=NAME` is, several side by side; what was finished before is not run again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

__all__ = ["Launch", "Place", "launch"]

PATIENCE = 15.0  # seconds that an interrupted sweep gets to close its runs


@dataclass(frozen=True)
class Place:
    """Where runs are tracked, where a user's own studies lie, and in how many processes to train."""

    uri: str
    experiment: str
    folder: Path | None
    jobs: int


@dataclass(frozen=True)
class Launch:
    """A study's sweep that has come to its end: seconds that it took, whether it could be run, and what it said."""

    name: str
    seconds: float
    failed: bool
    told: str


def launch(studies: Mapping[str, Sequence[str]], place: Place) -> Iterator[Launch]:
    """Run the sweeps of these studies (words by name), yielding each as it ends.  Whatever interrupts this ends them too."""
    running = Running(place.uri)
    with ThreadPoolExecutor(max_workers=place.jobs) as pool:
        try:
            waiting = [pool.submit(running.run, name, _command(name, words, place)) for name, words in studies.items()]
            for done in as_completed(waiting):
                yield done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            running.stop()
            raise


def _command(name: str, words: Sequence[str], place: Place) -> list[str]:
    own = ["--config-dir", str(place.folder)] if place.folder else []
    filing = ["tracking.uri=null", f"tracking.experiment={_quoted(place.experiment)}"]
    alone = ["hydra.launcher.n_jobs=1", f"hydra.sweep.dir=multirun/verify/{name}"]  # one process each: studies run side by side
    return [sys.executable, "-m", "bpexp", *own, f"study={name}", *words, *filing, *alone]


def _quoted(text: str) -> str:
    """A text as a value of Hydra's grammar."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


@dataclass
class Running:
    """The sweeps that are under way."""

    uri: str  # in the environment: it may hold a password, and the words of a command can be seen by all
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)
    stopped: bool = False

    def run(self, name: str, command: Sequence[str]) -> Launch:
        """One sweep, from start to end."""
        start = time.monotonic()
        with self.lock:
            if self.stopped:
                return Launch(name, 0.0, failed=True, told="interrupted")
            threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
            environment = os.environ | threads | {"MLFLOW_TRACKING_URI": self.uri}
            process = subprocess.Popen(  # noqa: S603
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0
            )  # a group of its own: Ctrl-C is for this process, which tells it
            self.processes.append(process)
        told, _ = process.communicate()
        return Launch(name, time.monotonic() - start, process.returncode != 0, told)

    def stop(self) -> None:
        """Have all sweeps close their runs and end."""
        with self.lock:
            self.stopped = True
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        end = time.monotonic() + PATIENCE
        for process in self.processes:
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
