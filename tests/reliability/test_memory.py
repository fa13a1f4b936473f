"""Memory that runs out: a stack is halved, a run that has no room by itself fails, and so does one whose process is killed time and again."""

import os
import signal
from pathlib import Path

import pytest

from bpexp.config import RunConfig
from bpexp.experiment import memory, prepare
from bpexp.tracking.owner import OWNER, Owner
from tests.sweeps import Sweeps, workers

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs the processes in /proc")

MIB = 2**20
QUICK = (
    "batch_size=8",
    "steps=2",
    "probe_points=3",
    "data=synthetic",
    "tracking.checkpoint=false",
    "tracking.layers=[]",
    "hydra.launcher.memory=8192",
)


def test_a_stack_that_is_too_large_is_halved(tmp_path: Path) -> None:
    sweeps, room, depth = Sweeps(tmp_path), 260 * MIB, 700
    run = prepare(RunConfig(depth=depth, width=64, batch_size=8, steps=2, probe_points=3))
    assert 2 * memory(run.config, run.dataset) < room < memory(run.config, run.dataset, 8)
    done = sweeps.run("-m", *QUICK, f"depth={depth}", "width=64", "seed=range(0,8)", "hydra.launcher.n_jobs=1", room=room)
    assert (done.code, done.err) == (0, "")
    (parent,) = sweeps.parents()
    assert (sweeps.statuses(parent), sweeps.twice()) == ({"FINISHED": 8}, [])


def test_a_run_that_has_no_room(tmp_path: Path) -> None:
    """It fails, and the others do not; typed again, it is left as it is until it is asked for."""
    sweeps, words = Sweeps(tmp_path), ("-m", *QUICK, "depth=4", "width=2500,8", "seed=0", "hydra.launcher.n_jobs=1")
    done = sweeps.run(*words, room=250 * MIB)
    (parent,) = sweeps.parents()
    (failed,) = sweeps.nets("FAILED")
    error = sweeps.tag(failed, "bpexp.error")
    assert error.startswith("MemoryError: Unable to allocate ")
    assert (done.code, done.err.startswith("bpexp: failed: "), done.err.endswith(f" width=2500 seed=0: {error}\n")) == (1, True, True)
    assert [line.split()[-1] for line in done.out.splitlines()[1:3]] == ["failed", "stuck"]
    assert (sweeps.statuses(parent), sweeps.status(parent)) == ({"FINISHED": 1, "FAILED": 1}, "FAILED")

    again = sweeps.run(*words)
    assert again.code == 1
    assert again.out.startswith("resumed: 1 of 2 runs were finished already, 1 failed (rerun=failed runs it again)\n")
    assert again.err == f"bpexp: failed before: depth=4 width=2500 lr=3: {error}\n"
    assert sweeps.nets("FAILED") == [failed]

    last = sweeps.run(*words, "rerun=failed")
    assert (last.code, last.err) == (0, "")
    assert (sweeps.parents(), sweeps.status(parent), sweeps.finished(), sweeps.twice()) == ([parent], "FINISHED", 2, [])


def test_a_run_whose_process_is_killed_time_and_again(tmp_path: Path) -> None:
    sweeps, killed = Sweeps(tmp_path), set[int]()

    def kill() -> bool:
        """Whoever trains the long run."""
        for run in sweeps.nets("RUNNING"):
            owner = Owner.parse(sweeps.tag(run, OWNER))
            if owner is not None and owner.pid in set(workers(command.pid)) - killed and sweeps.name(run).endswith("steps=1000000"):
                os.kill(owner.pid, signal.SIGKILL)
                killed.add(owner.pid)
        return command.code is not None

    command = sweeps.start("-m", "steps=20,1000000", "width=4", "depth=2", "data=synthetic", "hydra.launcher.n_jobs=2")
    try:
        while not kill():
            pass
        done = command.done()
    finally:
        command.end()
    error = "ChildProcessError: its process was killed by SIGKILL, as the system does when memory runs out, 3 times without a checkpoint in between"
    assert (done.code, len(killed)) == (1, 3)
    assert done.err.startswith("bpexp: failed: ")
    assert done.err.endswith(f": {error}\n")
    assert [sweeps.tag(run, "bpexp.error") for run in sweeps.nets("FAILED")] == [error]
    assert sweeps.finished() == 1
