"""Clusters that are there already, which may be those of other machines."""

import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from bpexp.tracking.owner import OWNER
from tests.engines import clusters
from tests.engines.sweep import SWEEP, Numbers, begun, caught, pid, whole
from tests.served import wait_until
from tests.sweeps import Sweeps

pytestmark = pytest.mark.engines

Cluster = Callable[[Path, int], AbstractContextManager[str]]
CLUSTERS: dict[str, Cluster] = {"dask": clusters.dask, "ray": clusters.ray}


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_cluster_that_loses_a_worker(tmp_path: Path, name: str, expected: Numbers) -> None:
    place, sweeps = tmp_path / "cluster", Sweeps(tmp_path / "sweeps")
    with (
        CLUSTERS[name](place, 2) as address,
        sweeps.start(*SWEEP, f"hydra.launcher.backend={name}", f"hydra.launcher.address={address}") as command,
    ):
        victim, cut_off = caught(sweeps, command)
        os.kill(pid(victim), signal.SIGKILL)
        done = command.done()
    whole(sweeps, done, expected)
    assert victim not in [sweeps.tag(net, OWNER) for net in cut_off]


def test_a_scheduler_that_is_gone(tmp_path: Path, expected: Numbers) -> None:
    """What was under way has failed, in a line each, and the same words go on without it."""
    place, sweeps = tmp_path / "cluster", Sweeps(tmp_path / "sweeps")
    with (
        clusters.dask(place, 2) as address,
        sweeps.start(*SWEEP, "hydra.launcher.backend=dask", f"hydra.launcher.address={address}") as command,
    ):
        begun(sweeps, command)
        clusters.killed(place, "scheduler")
        done = command.done()
    assert done.code == 1
    assert [line for line in done.err.splitlines() if not line.startswith("bpexp: failed: ")] == []
    wait_until(lambda: not sweeps.nets("RUNNING"))
    whole(sweeps, sweeps.run(*SWEEP), expected)
