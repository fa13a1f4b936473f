"""Ctrl-C, SIGTERM, a closed terminal: a command ends in seconds, keeps what it has, closes what it has opened, and tells what goes on from there."""

import os
import shlex
import signal
import time
from pathlib import Path

import pytest

from tests.sweeps import Done, Sweeps, alive, workers

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")

WITHIN = 10.0  # seconds; it is 5 on a machine that does nothing else
NET = ("width=16", "batch_size=8", "depth=4", "probe_points=5", "optimizer=momentum", "lr=0.1", "data=synthetic", "tracking.checkpoint_seconds=0.1")
FEW, MANY = ("steps=5000", *NET), ("steps=200000", *NET)
SEEDS = ("seed=0,1,2,3", "hydra.launcher.max_runs=2")
KINDS = {
    "workers": ("-m", *SEEDS, "hydra.launcher.n_jobs=2"),
    "one process": ("-m", *SEEDS, "hydra.launcher.n_jobs=1"),
    "a lone run": (),
}
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def interrupted(sweeps: Sweeps, number: signal.Signals, words: tuple[str, ...]) -> Done:
    """A command that gets a signal as soon as it has kept some state, and its workers with it, as from a terminal or at the end of a service."""
    before, command = sweeps.checkpoints(), sweeps.start(*words)
    try:
        command.wait_for(lambda: set(sweeps.checkpoints()) - set(before))
        done, seconds = command.signalled(number, to_all=True)
        print(f"ended {seconds:.1f} s after {number.name}")
        assert seconds < WITHIN
        assert alive(command.pid) == []
        return done
    finally:
        command.end()


def told(words: tuple[str, ...]) -> str:
    return f"bpexp: interrupted; {shlex.join(['python', '-m', 'bpexp', *words])} goes on from here\n"


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("kind", KINDS)
def test_ends_soon_and_closes_all(tmp_path: Path, kind: str, number: signal.Signals) -> None:
    sweeps = Sweeps(tmp_path)
    words = (*KINDS[kind], *MANY)
    done = interrupted(sweeps, number, words)
    assert (done.code, done.err) == (CODES[number], told((*words, sweeps.word)))
    nets, kept = sweeps.nets(), sweeps.checkpoints()
    assert len(nets) >= 1
    assert nets == sweeps.nets("KILLED")
    assert [sweeps.status(parent) for parent in sweeps.parents()] == ["KILLED"] * (kind != "a lone run")
    assert {path.parent.name for path in kept} == {sweeps.tag(net, "bpexp.fingerprint") for net in nets}


def test_the_command_that_is_told_goes_on(tmp_path: Path) -> None:
    alone, sweeps, words = Sweeps(tmp_path / "alone"), Sweeps(tmp_path / "interrupted"), (*KINDS["one process"], *FEW)
    assert alone.run(*words).code == 0
    for number in (signal.SIGINT, signal.SIGTERM):
        typed = shlex.split(interrupted(sweeps, number, words).err.splitlines()[-1].split("; ")[1].removesuffix(" goes on from here"))
        assert typed == ["python", "-m", "bpexp", *words, sweeps.word]
    before = sweeps.nets()
    done = sweeps.run(*words)
    assert (done.code, done.err) == (0, "")
    (parent,) = sweeps.parents()
    assert set(before) <= set(sweeps.nets("FINISHED"))
    assert sweeps.numbers(parent) == alone.numbers(alone.parents()[0])
    assert (sweeps.status(parent), sweeps.twice(), sweeps.checkpoints()) == ("FINISHED", [], [])


def test_while_its_workers_start(tmp_path: Path) -> None:
    sweeps, words = Sweeps(tmp_path), (*KINDS["workers"], *MANY)
    command = sweeps.start(*words)
    try:
        command.wait_for(lambda: len(workers(command.pid)) == 2)
        done, seconds = command.signalled(signal.SIGINT, to_all=True)
        assert seconds < WITHIN
        assert alive(command.pid) == []
    finally:
        command.end()
    assert (done.code, done.err) == (130, told((*words, sweeps.word)))
    assert sweeps.nets() == []
    assert {sweeps.status(parent) for parent in sweeps.parents()} <= {"KILLED"}


def test_a_second_one_leaves_at_once(tmp_path: Path) -> None:
    """In the midst of a step that takes long, for which the first one waits: not at its very end."""
    for attempt in range(5):
        sweeps = Sweeps(tmp_path / str(attempt))
        command = sweeps.start("depth=6", "width=1000", "data=synthetic", "data.samples=5000", "batch_size=full", "tracking.checkpoint_seconds=0")
        try:
            command.wait_for(sweeps.checkpoints)
            os.kill(command.pid, signal.SIGINT)
            time.sleep(0.3)
            if command.code is not None:
                continue
            done, seconds = command.signalled(signal.SIGINT)
            if done.err:  # the step had ended meanwhile
                continue
            assert seconds < 2.0
            assert done.code == 130
            return
        finally:
            command.end()
    pytest.fail("each step was over too soon")
