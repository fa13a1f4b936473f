"""A long sweep takes no more memory, open files and threads at its end than after its start."""

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.sweeps import Sweeps, workers

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc")

WORDS = (
    "-m",
    "depth=2,3",
    "width=4",
    "batch_size=8",
    "steps=20",
    "probe_points=3",
    "data=synthetic",
    "hydra.launcher.n_jobs=2",
    "hydra.launcher.max_runs=8",
)
SETTLED = 0.3  # of the runs, after which nothing is loaded for the first time any more


@dataclass(frozen=True)
class Sample:
    """What a process holds when so many runs of the sweep are finished."""

    finished: int
    mebibytes: float
    files: int
    threads: int


def sample(pid: int, finished: int) -> Sample:
    told = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return Sample(finished, int(told["VmRSS"].split()[0]) / 1024, len(list(Path(f"/proc/{pid}/fd").iterdir())), int(told["Threads"]))


def watched(folder: Path, seeds: int) -> dict[str, list[Sample]]:
    """A sweep of twice as many runs; what its processes held all along."""
    sweeps, found = Sweeps(folder), dict[str, list[Sample]]()
    sweep = sweeps.start(*WORDS, f"seed=range(0,{seeds})")
    try:
        while sweep.code is None:
            finished = sweeps.finished()
            processes = {"controller": sweep.pid} | {f"worker {pid}": pid for pid in workers(sweep.pid)}
            for name, pid in processes.items():
                with suppress(OSError, KeyError):  # it has just ended
                    found.setdefault(name, []).append(sample(pid, finished))
            time.sleep(0.05)
        done = sweep.done()
        assert (done.code, done.err) == (0, "")
        assert sweeps.finished() == 2 * seeds
    finally:
        sweep.end()
    return found


def check(found: dict[str, list[Sample]], runs: int, mebibytes: float = np.inf) -> None:
    """`mebibytes`: by which a process may grow over 1,000 runs."""
    assert len(found) == 3
    for name, samples in found.items():
        late = [it for it in samples if it.finished >= SETTLED * runs]
        slope = float(np.polyfit([it.finished / 1000 for it in late], [it.mebibytes for it in late], 1)[0])
        files, threads = {it.files for it in late}, {it.threads for it in late}
        held = f"{min(files)}…{max(files)} files, {min(threads)}…{max(threads)} threads"
        print(f"{name}: {late[-1].mebibytes:.0f} MiB, {slope:+.1f} MiB in 1,000 runs; {held}")
        assert slope < mebibytes
        assert max(files) - min(files) <= 12  # what a commit opens and closes
        assert max(threads) - min(threads) <= 2  # the writer of a stack comes and goes


def test_a_hundred_and_fifty_runs(tmp_path: Path) -> None:
    check(watched(tmp_path, 75), 150)


@pytest.mark.soak
def test_two_thousand_runs(tmp_path: Path) -> None:
    check(watched(tmp_path, 1000), 2000, mebibytes=8.0)
