"""SIGKILL at random moments: of a worker, of the main process, of both.  What is started again ends as if nothing had been."""

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.sweeps import Sweeps, workers

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")

WORDS = (
    "-m",
    "depth=3,6", "seed=range(0,12)", "width=16", "batch_size=8", "steps=2000", "probe_points=6", "optimizer=momentum", "lr=0.1", "data=synthetic",
    "tracking.checkpoint_seconds=0.1", "hydra.launcher.n_jobs=2", "hydra.launcher.max_runs=6",
)  # fmt: skip
COUNT = 24
WAIT = 0.2, 4.0  # seconds between two kills: some come while workers start


def to_its_end(sweeps: Sweeps, *words: str) -> float:
    """Seconds that it took."""
    start = time.monotonic()
    done = sweeps.run(*WORDS, *words)
    assert (done.code, done.err) == (0, "")
    return time.monotonic() - start


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    sweeps = Sweeps(tmp_path_factory.mktemp("undisturbed"))
    to_its_end(sweeps, "hydra.launcher.n_jobs=1")
    (parent,) = sweeps.parents()
    assert sweeps.statuses(parent) == {"FINISHED": COUNT}
    return sweeps.numbers(parent)


def disturb(sweeps: Sweeps, chance: random.Random, kills: int) -> int:
    """Kill what works at a sweep, as often as that at most, and start it again where nobody is left; how often that was."""
    killed, sweep = 0, sweeps.start(*WORDS)
    try:
        while killed < kills:
            time.sleep(chance.uniform(*WAIT))
            if sweep.code is not None:
                return killed  # it had come to its end
            victims = workers(sweep.pid)
            whole = chance.choice(["worker", "controller", "both"])
            targets = [sweep.pid] if whole == "controller" or not victims else chance.sample(victims, 1)
            targets += [sweep.pid] if whole == "both" else []
            for pid in dict.fromkeys(targets):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
            if sweep.pid in targets:  # its workers may still be at work: the next one does not wait for them
                sweep.done()
                sweep = sweeps.start(*WORDS)
        return killed
    finally:
        sweep.end()


def survived(folder: Path, undisturbed: dict[str, object], kills: int, seed: int) -> int:
    """Sweeps, one after the other, until so many kills were made; after each, all must be as if there had been none."""
    chance, made, seconds = random.Random(seed), 0, list[float]()
    while made < kills:
        sweeps = Sweeps(folder / str(len(seconds)))
        made += disturb(sweeps, chance, kills - made)
        seconds.append(to_its_end(sweeps))
        (parent,) = sweeps.parents()
        assert sweeps.statuses(parent) == {"FINISHED": COUNT}
        assert sweeps.status(parent) == "FINISHED"
        assert sweeps.twice() == []
        assert sweeps.numbers(parent) == undisturbed
        assert sweeps.checkpoints() == []
    print(f"{made} kills survived, in {len(seconds)} sweeps of {COUNT} runs; the last command took {min(seconds):.1f} … {max(seconds):.1f} s")
    return made


def test_a_few_kills(tmp_path: Path, undisturbed: dict[str, object]) -> None:
    assert survived(tmp_path, undisturbed, kills=5, seed=1) >= 5


@pytest.mark.soak
def test_many_kills(tmp_path: Path, undisturbed: dict[str, object]) -> None:
    assert survived(tmp_path, undisturbed, kills=60, seed=7) >= 60
