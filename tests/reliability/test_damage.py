"""Checkpoints that are torn, or changed, while a sweep is interrupted: it tells so, and goes on from those before them."""

import signal
from pathlib import Path

from tests.sweeps import Sweeps

WORDS = (
    "-m", "seed=0,1,2", "width=16", "depth=4", "batch_size=8", "steps=5000", "probe_points=5", "optimizer=momentum", "lr=0.1", "data=synthetic",
    "tracking.checkpoint_seconds=0.05", "hydra.launcher.n_jobs=1",
)  # fmt: skip


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_one_before_is_used(tmp_path: Path) -> None:
    alone, sweeps = Sweeps(tmp_path / "alone"), Sweeps(tmp_path / "interrupted")
    assert alone.run(*WORDS).code == 0
    command = sweeps.start(*WORDS)
    try:
        command.wait_for(lambda: len(sweeps.checkpoints()) == 6)
        assert command.signalled(signal.SIGINT)[0].code == 130
    finally:
        command.end()
    kept = sweeps.checkpoints()
    assert len(kept) == 6  # two of each run, in the order of their steps
    tear(kept[1])
    change(kept[3])
    done = sweeps.run(*WORDS)
    assert done.code == 0
    assert sorted(line.partition(": ")[2].partition(": ")[2] for line in done.err.splitlines()) == [
        f"{path}: not used: its checksum is another's" for path in (kept[1], kept[3])
    ]
    (parent,) = sweeps.parents()
    assert sweeps.numbers(parent) == alone.numbers(alone.parents()[0])
    assert (sweeps.statuses(parent), sweeps.twice(), sweeps.checkpoints()) == ({"FINISHED": 3}, [], [])
