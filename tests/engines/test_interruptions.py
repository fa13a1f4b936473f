"""Ctrl-C, and a job whose time is up: the same sweep goes on under each engine, and its numbers are the same, each once."""

import os
import shlex
import signal
from pathlib import Path

import pytest

from bpexp.tracking.owner import alive as lives
from tests.engines.sweep import ENGINES, RUNS, SWEEP, Numbers, begun, pid, run, whole
from tests.served import wait_until
from tests.sweeps import Sweeps

pytestmark = pytest.mark.engines

WITHIN = 15.0  # seconds; it is 5 on a machine that does nothing else


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "processes"])  # of ours: tests/reliability/test_signals.py
def test_an_interruption_ends_what_is_here_and_the_command_goes_on(tmp_path: Path, engine: str, expected: Numbers) -> None:
    sweeps = Sweeps(tmp_path)
    with sweeps.start(*SWEEP, *ENGINES[engine]) as command:
        training = begun(sweeps, command)
        done, seconds = command.signalled(signal.SIGINT, to_all=True)
        print(f"{engine}: ended after {seconds:.1f} s")
        assert seconds < WITHIN
        wait_until(lambda: not any(lives(owner, None) for owner in training))  # submitit's jobs may end a little later
    again = shlex.join(["python", "-m", "bpexp", *SWEEP, *ENGINES[engine], sweeps.word])
    assert (done.code, done.err.splitlines()[-1]) == (130, f"bpexp: interrupted; {again} goes on from here")
    assert len(done.err.splitlines()) == 1 or engine == "submitit"  # whose local executor tells of it in its own words
    assert set(sweeps.nets()) == {*sweeps.nets("KILLED"), *sweeps.nets("FINISHED")}
    before = sweeps.finished()
    assert before < RUNS
    done = run(sweeps, *SWEEP, *ENGINES[engine])
    whole(sweeps, done, expected)
    assert f"resumed: {before} of {RUNS} runs" in done.out


def test_a_job_whose_time_is_up_is_submitted_again(tmp_path: Path, expected: Numbers) -> None:
    sweeps = Sweeps(tmp_path)
    with sweeps.start(*SWEEP, *ENGINES["submitit"]) as command:
        os.kill(pid(begun(sweeps, command)[0]), signal.SIGUSR2)  # what submitit has Slurm send before it ends a job
        done = command.done()
    whole(sweeps, done, expected)
