"""Clusters that are there already, which may be those of other machines."""

import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.engines import clusters
from tests.engines.sweep import SWEEP, Numbers, begun, pid, whole
from tests.sweeps import Sweeps

pytestmark = pytest.mark.engines

Cluster = Callable[[Path, int], AbstractContextManager[str]]
CLUSTERS: dict[str, Cluster] = {"dask": clusters.dask, "ray": clusters.ray}


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_cluster_that_loses_a_worker(tmp_path: Path, name: str, expected: Numbers) -> None:
    place = tmp_path / "cluster"
    place.mkdir()
    sweeps = Sweeps(tmp_path / "sweeps")
    with CLUSTERS[name](place, 2) as address:
        command = sweeps.start(*SWEEP, f"hydra.launcher.backend={name}", f"hydra.launcher.address={address}")
        try:
            os.kill(pid(begun(sweeps, command)[0]), signal.SIGKILL)
            done = command.done()
        finally:
            command.end()
    whole(sweeps, done, expected)
