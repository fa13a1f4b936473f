"""Each engine trains the same sweep, once undisturbed and once with a worker killed: the same numbers, each once."""

import os
import signal
import time
from pathlib import Path

import pytest

from bpexp.tracking.owner import OWNER, Owner
from tests.sweeps import Command, Done, Sweeps, alive

pytestmark = pytest.mark.engines

NET = ("width=8", "batch_size=8", "steps=400", "probe_points=4", "optimizer=momentum", "lr=0.1", "data=synthetic", "tracking.checkpoint_seconds=0.05")
SWEEP = ("-m", "depth=3,4", "seed=range(0,32)", *NET, "hydra.launcher.max_runs=8", "hydra.launcher.n_jobs=2")  # 64 runs in 8 stacks
ENGINES = {
    "processes": (),
    "loky": ("hydra.launcher.backend=loky",),
    "dask": ("hydra.launcher.backend=dask",),
    "ray": ("hydra.launcher.backend=ray",),
    "submitit": ("hydra.launcher.backend=submitit", "hydra.launcher.submitit.cluster=local"),
}
Numbers = dict[str, object]


def numbers(sweeps: Sweeps) -> Numbers:
    (parent,) = sweeps.parents()
    return sweeps.numbers(parent)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Numbers:
    """Of one process, without stacks."""
    sweeps = Sweeps(tmp_path_factory.mktemp("expected"))
    assert sweeps.run(*SWEEP, "hydra.launcher.max_runs=1", "hydra.launcher.n_jobs=1").code == 0
    return numbers(sweeps)


def owners(sweeps: Sweeps, status: str) -> list[int]:
    """The processes that train, or have trained, a store's runs of a status."""
    told = {sweeps.tag(net, OWNER) for net in sweeps.nets(status)}
    return [owner.pid for value in sorted(told) if (owner := Owner.parse(value))]


def whole(sweeps: Sweeps, done: Done, expected: Numbers) -> None:
    assert (done.code, done.err) == (0, "")
    assert numbers(sweeps) == expected
    assert (sweeps.finished(), sweeps.twice(), sweeps.checkpoints()) == (64, [], [])


@pytest.mark.parametrize("engine", ENGINES)
def test_the_numbers_are_the_same(tmp_path: Path, engine: str, expected: Numbers) -> None:
    sweeps = Sweeps(tmp_path)
    start = time.monotonic()
    done = sweeps.run(*SWEEP, *ENGINES[engine])
    print(f"{engine}: {time.monotonic() - start:.1f} s")
    whole(sweeps, done, expected)
    assert len(owners(sweeps, "FINISHED")) >= 2


@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_worker_s_stack_is_trained_by_another(tmp_path: Path, engine: str, expected: Numbers) -> None:
    sweeps = Sweeps(tmp_path)
    start = time.monotonic()
    command = sweeps.start(*SWEEP, *ENGINES[engine])
    try:
        command.wait_for(lambda: sweeps.finished() >= 8 and sweeps.checkpoints() and owners(sweeps, "RUNNING"))
        victim = owners(sweeps, "RUNNING")[0]
        os.kill(victim, signal.SIGKILL)
        done = command.done()
    finally:
        command.end()
    print(f"{engine}: {time.monotonic() - start:.1f} s")
    whole(sweeps, done, expected)
    assert victim not in alive(command.pid)
