"""A machine that is gone: that of a worker, which has another name than this one, or that of Ray's head; both take minutes to be noticed."""

import time
from pathlib import Path

import pytest

from bpexp.tracking.owner import OWNER, SILENCE, Owner, alive
from tests.engines import clusters
from tests.engines.sweep import RUNS, STACKS, SWEEP, Numbers, begun, caught, owners, whole
from tests.served import wait_until
from tests.sweeps import Sweeps

pytestmark = pytest.mark.soak


def test_what_a_worker_trained_is_taken_over_when_it_has_been_silent_for_long(tmp_path: Path, expected: Numbers) -> None:
    """The rest does not wait for that."""
    place, sweeps = tmp_path / "cluster", Sweeps(tmp_path / "sweeps")
    with (
        clusters.dask(place, 1) as address,
        clusters.dask_worker(place, address, 1, host="elsewhere"),
        sweeps.start(*SWEEP, "hydra.launcher.backend=dask", f"hydra.launcher.address={address}") as command,
    ):
        victim, cut_off = caught(sweeps, command, "elsewhere")
        clusters.killed(place, "elsewhere")
        start = time.monotonic()
        command.wait_for(lambda: sweeps.finished() == RUNS - len(cut_off))
        rest = time.monotonic() - start
        done = command.done(2 * SILENCE)
        seconds = time.monotonic() - start
    print(f"{len(cut_off)} runs of {RUNS} taken over after {seconds:.0f} s, the others done after {rest:.0f}")
    whole(sweeps, done, expected, f"bpexp: {len(cut_off)} of the runs are trained by other processes: waiting for them\n")
    trained = [Owner.parse(sweeps.tag(net, OWNER)) for net in cut_off]
    assert victim not in [str(it) for it in trained]
    assert "elsewhere" not in [it.host for it in trained if it]
    assert rest < SILENCE / 2 < SILENCE - 60 < seconds


def test_the_head_of_ray(tmp_path: Path, expected: Numbers) -> None:
    """After a minute Ray ends the process of the command, in its own words; the same words go on without it."""
    place, sweeps = tmp_path / "cluster", Sweeps(tmp_path / "sweeps")
    with (
        clusters.ray(place, 2) as address,
        sweeps.start(*SWEEP, "hydra.launcher.backend=ray", f"hydra.launcher.address={address}") as command,
    ):
        begun(sweeps, command)
        clusters.killed(place, "head")
        done = command.done()
    assert done.code == 1
    assert "Failed to connect to GCS" in done.err
    wait_until(lambda: not any(alive(owner, None) for owner in owners(sweeps, "RUNNING")))
    before = sweeps.finished()
    assert RUNS // STACKS <= before < RUNS
    done = sweeps.run(*SWEEP)
    assert f"resumed: {before} of {RUNS} runs" in done.out
    whole(sweeps, done, expected)
