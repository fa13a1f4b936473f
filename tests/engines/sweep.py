"""A sweep of 64 runs, who trains it, and what has to come of it."""

import os
import signal
from contextlib import suppress

from bpexp.tracking.owner import OWNER, Owner
from tests.served import wait_until
from tests.sweeps import Command, Done, Sweeps, alive

__all__ = ["ENGINES", "RUNS", "SWEEP", "Numbers", "begun", "caught", "numbers", "owners", "pid", "run", "whole"]

NET = (
    "width=8", "batch_size=8", "steps=5000", "probe_points=4", "optimizer=momentum", "lr=0.1", "data=synthetic", "tracking.checkpoint_seconds=0.05",
)  # fmt: skip
SWEEP = ("-m", "depth=3,4", "seed=range(0,32)", *NET, "hydra.launcher.max_runs=16", "hydra.launcher.n_jobs=2")
RUNS, STACKS = 64, 4
ENGINES = {
    "processes": (),
    "loky": ("hydra.launcher.backend=loky",),
    "dask": ("hydra.launcher.backend=dask",),
    "ray": ("hydra.launcher.backend=ray",),
    "submitit": ("hydra.launcher.backend=submitit", "hydra.launcher.submitit.cluster=local"),
}
Numbers = dict[str, object]


def numbers(sweeps: Sweeps) -> Numbers:
    """All that the only sweep of a store has left."""
    (parent,) = sweeps.parents()
    return sweeps.numbers(parent)


def owners(sweeps: Sweeps, status: str) -> list[str]:
    """Who trains, or has trained, a store's runs of a status."""
    return sorted({sweeps.tag(net, OWNER) for net in sweeps.nets(status)} - {""})


def pid(told: str) -> int:
    owner = Owner.parse(told)
    assert owner is not None
    return owner.pid


def begun(sweeps: Sweeps, command: Command) -> list[str]:
    """Who trains, as soon as one stack has ended and others have kept some state."""
    training: list[str] = []

    def under_way() -> bool:
        training[:] = owners(sweeps, "RUNNING")
        return sweeps.finished() >= RUNS // STACKS and bool(sweeps.checkpoints() and training)

    command.wait_for(under_way)
    return training


def caught(sweeps: Sweeps, command: Command, host: str = "") -> tuple[str, list[str]]:
    """A worker, of a machine of this name, that has been stopped in the midst of a stack, and its runs: it still trains them when it is killed."""
    found: tuple[str, list[str]] = ("", [])

    def stopped() -> bool:
        nonlocal found
        for victim in [it for it in owners(sweeps, "RUNNING") if f"host={host}" in it]:
            with suppress(ProcessLookupError):  # one of submitit's ends with its stack
                os.kill(pid(victim), signal.SIGSTOP)
                runs = [net for net in sweeps.nets("RUNNING") if sweeps.tag(net, OWNER) == victim]
                if runs:
                    found = victim, runs
                    return True
                os.kill(pid(victim), signal.SIGCONT)  # it had come to the end of its stack meanwhile
        return False

    command.wait_for(lambda: sweeps.checkpoints() and stopped())
    return found


def run(sweeps: Sweeps, *words: str) -> Done:
    """A command to its end, soon after which nothing of it is left."""
    with sweeps.start(*words) as command:
        done = command.done()
        wait_until(lambda: alive(command.pid) == [])
    return done


def whole(sweeps: Sweeps, done: Done, expected: Numbers, told: str = "") -> None:
    """The sweep has the numbers that it ought to have, each once, and left nothing else; `told`: on standard error."""
    assert (done.code, done.err) == (0, told)
    assert sweeps.numbers(sweeps.parents()[-1]) == expected
    assert (sweeps.finished(), sweeps.twice(), sweeps.checkpoints()) == (RUNS, [], [])
