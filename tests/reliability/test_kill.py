"""SIGKILL at random moments: of a worker, of the main process, of both.  What is started again ends as if nothing had been."""

import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.sweeps import Sweeps, alive, end, started, workers

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")

WORDS = (
    "depth=3,6", "seed=range(0,12)", "width=16", "batch_size=8", "steps=3000", "probe_points=6", "optimizer=momentum", "lr=0.1", "data=synthetic",
    "tracking.uri=sqlite:///runs.db", "tracking.checkpoint_seconds=0.3", "hydra.launcher.n_jobs=2", "hydra.launcher.max_runs=6",
)  # fmt: skip
COUNT = 24
WAIT = 0.2, 4.0  # seconds between two kills


def start(sweeps: Sweeps) -> subprocess.Popen[str]:
    return started(sweeps.folder, *WORDS)


def to_its_end(sweeps: Sweeps) -> None:
    process = start(sweeps)
    _, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, "")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    sweeps = Sweeps(tmp_path_factory.mktemp("undisturbed"))
    to_its_end(sweeps)
    (parent,) = sweeps.parents()
    assert sweeps.statuses(parent) == {"FINISHED": COUNT}
    return sweeps.numbers(parent)


def disturb(sweeps: Sweeps, chance: random.Random, kills: int) -> int:
    """Kill what works at a sweep, as often as that at most, and start it again where nobody is left; how often that was."""
    killed, process = 0, start(sweeps)
    try:
        while killed < kills:
            time.sleep(chance.uniform(*WAIT))
            if process.poll() is not None:
                return killed  # it had come to its end
            victims = workers(process.pid)
            whole = chance.choice(["worker", "controller", "both"])
            targets = [process.pid] if whole == "controller" or not victims else chance.sample(victims, 1)
            targets += [process.pid] if whole == "both" else []
            for pid in dict.fromkeys(targets):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
            if process.pid in targets:  # its workers may still be at work: the next one does not wait for them
                _, out, errors = process.wait(), process.stdout, process.stderr
                for pipe in (out, errors):
                    assert pipe is not None
                    pipe.close()
                process = start(sweeps)
        return killed
    finally:
        end(process)


def survived(folder: Path, undisturbed: dict[str, object], kills: int, seed: int) -> int:
    """Sweeps, one after the other, until so many kills were made; after each, all must be as if there had been none."""
    chance, made, rounds = random.Random(seed), 0, 0
    while made < kills:
        sweeps = Sweeps(folder / str(rounds))
        sweeps.folder.mkdir()
        made += disturb(sweeps, chance, kills - made)
        to_its_end(sweeps)
        (parent,) = sweeps.parents()
        assert sweeps.statuses(parent) == {"FINISHED": COUNT}
        assert sweeps.status(parent) == "FINISHED"
        assert sweeps.twice() == []
        assert sweeps.numbers(parent) == undisturbed
        assert not list(sweeps.folder.glob(".bpexp/**/*.ckpt"))
        rounds += 1
    print(f"{made} kills survived, in {rounds} sweeps of {COUNT} runs")
    return made


def test_a_few_kills(tmp_path: Path, undisturbed: dict[str, object]) -> None:
    assert survived(tmp_path, undisturbed, kills=6, seed=int(os.environ.get("BPEXP_SEED", "1"))) >= 6


@pytest.mark.soak
def test_many_kills(tmp_path: Path, undisturbed: dict[str, object]) -> None:
    assert survived(tmp_path, undisturbed, kills=60, seed=7) >= 60
