"""Disks that are full or may not be written to: file systems of a few MiB, in memory."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sweeps import Sweeps

NET = ("-m", "depth=5", "batch_size=8", "steps=20", "probe_points=3", "data=synthetic", "hydra.launcher.n_jobs=1", "hydra.launcher.max_runs=2")


SIZE = 5 * 2**20  # bytes


def mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mount(folder, f"size={SIZE}")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_fills(disk: Path) -> None:
    """Weights of 1.3 MB a run: it is full after some of them.  Each that failed tells why; with room, all are completed."""
    sweeps, words = Sweeps(disk), (*NET, "width=288,4", "seed=range(0,6)", f"hydra.sweep.dir={disk.parent}/multirun")
    done = sweeps.run(*words)
    (parent,) = sweeps.parents()
    failed = [row.split("  ")[0] for row in done.out.splitlines() if row.split()[-1:] == ["failed"]]
    assert done.code == 1
    assert 0 < len(failed) < 12
    lines = [line for line in done.err.splitlines() if line.startswith("bpexp: failed: ")]
    assert len(lines) == len(failed)
    assert all("No space left on device" in line or "database or disk is full" in line for line in lines)

    mount(disk, "remount,size=64m")
    again = sweeps.run(*words, "rerun=failed")
    assert (again.code, again.err) == (0, "")
    assert (sweeps.statuses(parent), sweeps.twice()) == ({"FINISHED": 12}, [])
    assert len(sweeps.numbers(parent)) == 12


def test_no_room_for_checkpoints(disk: Path, tmp_path: Path) -> None:
    """They are a help, not a must."""
    (disk / "filler").write_bytes(b"0" * (SIZE - 2**14))
    sweeps = Sweeps(tmp_path / "store")
    done = sweeps.run(*NET, "width=64", "seed=0,1", "tracking.checkpoint_seconds=0", f"tracking.state={disk}")
    assert done.code == 0
    assert done.err.splitlines() == [
        f"bpexp: depth=5 width=64 lr=3 seed={seed}: no checkpoint could be written (No space left on device)" for seed in (0, 1)
    ]
    assert (sweeps.finished(), sweeps.nets("RUNNING")) == (2, [])
    assert list(disk.glob("**/*.ckpt*")) == []


def test_a_disk_that_may_not_be_written_to(disk: Path) -> None:
    sweeps = Sweeps(disk)
    mount(disk, "remount,ro")
    done = sweeps.run(*NET, "seed=0,1")
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[-1].endswith(f"{disk} can't be written to")
