"""Signals come between steps; one that waits too long, and a second one, do not wait."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bpexp import stopping
from bpexp.config import RunConfig
from bpexp.core.records import Records
from bpexp.core.training import Training
from bpexp.experiment import NullSink, prepare, run
from bpexp.sweep.carry import Job, Where
from bpexp.sweep.launcher import StackedLauncher
from bpexp.sweep.workers import Processes
from tests.cli import environment

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    before = [signal.getsignal(number) for number in SIGNALS]
    stopping.install()
    yield
    stopping._pending.signal = None
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


ENDS = [(signal.SIGINT, KeyboardInterrupt, None), (signal.SIGTERM, SystemExit, 143)]


@pytest.mark.parametrize(("number", "error", "code"), ENDS)
def test_at_once_where_nothing_is_half_done(number: int, error: type[BaseException], code: int | None) -> None:
    with pytest.raises(error) as told:
        os.kill(os.getpid(), number)
    assert getattr(told.value, "code", None) == code


@pytest.mark.parametrize(("number", "error", "code"), ENDS)
def test_at_the_end_of_the_step_under_way(number: int, error: type[BaseException], code: int | None) -> None:
    seen: list[tuple[int, bool]] = []
    with pytest.raises(error):
        _steps(seen, number)
    assert seen == [(0, False), (1, False), (2, True), (3, True)]


def _steps(seen: list[tuple[int, bool]], number: int) -> None:
    with stopping.between_steps() as stopped:
        for step in range(3):
            seen.append((step, stopped()))
            if step == 1:
                os.kill(os.getpid(), number)
        seen.append((3, stopped()))


def test_a_step_that_takes_too_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "STEP_SECONDS", 0.05)
    with pytest.raises(KeyboardInterrupt):
        _long_step()


def _long_step() -> None:
    with stopping.between_steps():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
        pytest.fail("it was waited for")


def test_nor_is_what_comes_after_it_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "ALL_SECONDS", 0.2)
    with pytest.raises(SystemExit):
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit):
        time.sleep(60)


def test_one_that_came_before_is_not_forgotten() -> None:
    with pytest.raises(SystemExit):
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit), stopping.between_steps():
        pytest.fail("it went on")


class Told(NullSink):
    """Notes how a run ended."""

    error: BaseException | None = None

    def close(self, records: Records, step_seconds: float) -> None:
        pytest.fail("it came to its end")

    def abort(self, error: BaseException) -> None:
        self.error = error


def test_a_training_ends_at_the_step_in_which_it_came() -> None:
    seen, sink = [], Told()

    def progress(training: Training) -> None:
        step = training.last_step
        seen.append(step)
        if step == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit):
        run(prepare(RunConfig(depth=2, width=4, steps=50)), sink, progress)
    assert seen == list(range(6))
    assert isinstance(sink.error, SystemExit)


SECOND = """
import os, signal, time
from bpexp import stopping
stopping.install()
with stopping.between_steps():
    os.kill(os.getpid(), signal.SIGTERM)
    print("waits", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
"""


def test_a_second_one_leaves_at_once() -> None:
    ended = subprocess.run([sys.executable, "-c", SECOND], env=environment(), capture_output=True, text=True, timeout=50, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "waits\n", "")


class Starts:
    """The processes that a test starts, during the first of which a signal comes."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.started: list[subprocess.Popen[bytes]] = []

    def __call__(self, *words: Any, **how: Any) -> subprocess.Popen[bytes]:
        self.started.append(POPEN(*words, **how))
        if len(self.started) == 1:
            os.kill(os.getpid(), self.number)
        return self.started[-1]

    def left(self) -> int:
        """How many of them nobody has ended; none is left behind."""
        found = [process for process in self.started if process.returncode is None]
        for process in found:
            process.kill()
            process.wait()
        return len(found)


POPEN = subprocess.Popen


@pytest.mark.parametrize(("number", "error", "code"), ENDS)
def test_while_processes_are_started_it_waits_until_all_are_known(
    number: int, error: type[BaseException], code: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = StackedLauncher(memory=1024, max_runs=1, n_jobs=2)
    launcher.loads, launcher.workers = {}, None
    configs = [RunConfig(seed=seed) for seed in (0, 1)]
    for config in configs:
        launcher.admit(prepare(config))
    starts = Starts(number)
    monkeypatch.setattr(subprocess, "Popen", starts)
    with pytest.raises(error) as told:
        launcher.start(configs)
    launcher.stop()
    assert (len(starts.started), starts.left()) == (2, 0)
    assert getattr(told.value, "code", None) == code


def test_and_until_the_one_in_the_place_of_one_that_died_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workers, starts = Processes(1), Starts(signal.SIGTERM)
    workers.workers[0].process.kill()
    monkeypatch.setattr(subprocess, "Popen", starts)
    with pytest.raises(SystemExit):
        list(workers.run([[Job(0, RunConfig())]], Where("nowhere://", tmp_path), lambda _: None, lambda _: None))
    workers.stop(gently=True)
    assert (len(starts.started), starts.left()) == (1, 0)
