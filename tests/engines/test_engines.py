"""Each engine trains the same sweep, once undisturbed and once with a worker killed: the same numbers, each once."""

import os
import shlex
import signal
import time
from pathlib import Path

import pytest

from bpexp.tracking.owner import OWNER, Owner
from bpexp.tracking.owner import alive as lives
from tests.served import wait_until
from tests.sweeps import Done, Sweeps, alive

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
WITHIN = 15.0  # seconds; it is 5 on a machine that does nothing else
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


def owners(sweeps: Sweeps, status: str) -> list[str]:
    """Who trains, or has trained, a store's runs of a status."""
    return sorted({sweeps.tag(net, OWNER) for net in sweeps.nets(status)} - {""})


def pid(told: str) -> int:
    owner = Owner.parse(told)
    assert owner is not None
    return owner.pid


def run(sweeps: Sweeps, *words: str) -> Done:
    """A command to its end, soon after which nothing of it is left."""
    command = sweeps.start(*words)
    try:
        done = command.done()
        wait_until(lambda: alive(command.pid) == [])
    finally:
        command.end()
    return done


def whole(sweeps: Sweeps, done: Done, expected: Numbers) -> None:
    assert (done.code, done.err) == (0, "")
    assert numbers(sweeps) == expected
    assert (sweeps.finished(), sweeps.twice(), sweeps.checkpoints()) == (64, [], [])


@pytest.mark.parametrize("engine", ENGINES)
def test_the_numbers_are_the_same(tmp_path: Path, engine: str, expected: Numbers) -> None:
    sweeps = Sweeps(tmp_path)
    start = time.monotonic()
    done = run(sweeps, *SWEEP, *ENGINES[engine])
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
        os.kill(pid(victim), signal.SIGSTOP)  # what it trains it trains when it dies
        cut_off = sweeps.nets("RUNNING")
        os.kill(pid(victim), signal.SIGKILL)
        done = command.done()
    finally:
        command.end()
    print(f"{engine}: {time.monotonic() - start:.1f} s")
    whole(sweeps, done, expected)
    assert cut_off
    assert victim not in [sweeps.tag(net, OWNER) for net in cut_off]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_interruption_ends_what_is_here_and_the_command_goes_on(tmp_path: Path, engine: str, expected: Numbers) -> None:
    sweeps = Sweeps(tmp_path)
    command = sweeps.start(*SWEEP, *ENGINES[engine])
    try:
        command.wait_for(lambda: sweeps.finished() >= 8 and sweeps.checkpoints() and owners(sweeps, "RUNNING"))
        training = owners(sweeps, "RUNNING")
        done, seconds = command.signalled(signal.SIGINT, to_all=True)
        print(f"{engine}: ended after {seconds:.1f} s")
        assert seconds < WITHIN
        wait_until(lambda: not any(lives(owner, None) for owner in training))  # submitit's jobs may end a little later
    finally:
        command.end()
    again = shlex.join(["python", "-m", "bpexp", *SWEEP, *ENGINES[engine], sweeps.word])
    assert (done.code, done.err) == (130, f"bpexp: interrupted; {again} goes on from here\n")
    assert set(sweeps.nets()) == {*sweeps.nets("KILLED"), *sweeps.nets("FINISHED")}
    before = sweeps.finished()
    assert before < 64
    done = run(sweeps, *SWEEP, *ENGINES[engine])
    assert (done.code, done.err) == (0, "")
    assert f"resumed: {before} of 64 runs" in done.out
    assert sweeps.numbers(sweeps.parents()[-1]) == expected
    assert (sweeps.finished(), sweeps.twice(), sweeps.checkpoints()) == (64, [], [])


def test_a_job_whose_time_is_up_is_submitted_again(tmp_path: Path, expected: Numbers) -> None:
    sweeps = Sweeps(tmp_path)
    command = sweeps.start(*SWEEP, *ENGINES["submitit"])
    try:
        command.wait_for(lambda: sweeps.checkpoints() and owners(sweeps, "RUNNING"))
        os.kill(pid(owners(sweeps, "RUNNING")[0]), signal.SIGUSR2)  # what submitit has Slurm send before it ends a job
        done = command.done()
    finally:
        command.end()
    whole(sweeps, done, expected)
