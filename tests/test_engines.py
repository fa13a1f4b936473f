"""What all engines share: tasks that name what they need, the ends of futures, refusals.  Engines themselves: `tests/engines/`."""

import os
import pickle
import socket
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import islice
from pathlib import Path
from threading import Timer
from typing import ClassVar

import numpy as np
import pytest

import bpexp
from bpexp.config import ConfigError, DataConfig, RunConfig, check
from bpexp.experiment import prepare
from bpexp.sweep.carry import Job, Outcome, Where, carry_out
from bpexp.sweep.engines import opened
from bpexp.sweep.engines.futures import Elsewhere
from bpexp.sweep.engines.task import Task
from bpexp.sweep.settings import Settings
from bpexp.tracking.store import Store


class LostError(Exception):
    """A worker is gone."""


class Engine:
    """Carries out in this process, but loses what it is told to lose."""

    lost: ClassVar = (LostError,)
    poll_seconds: ClassVar = 0.01

    def __init__(self, loses: Sequence[frozenset[int]], *, together: bool, count: int = 2) -> None:
        self.loses, self.together, self.count = list(loses), together, count
        self.taken: list[list[int]] = []
        self.open: list[Future[list[Outcome]]] = []

    def submit(self, task: Task, jobs: Sequence[Job], where: Where) -> "Future[list[Outcome]]":
        numbers = [job.number for job in jobs]
        self.taken.append(numbers)
        future: Future[list[Outcome]] = Future()
        if self.loses and self.loses[0] <= set(numbers):
            self.loses.pop(0)
            for other in [*(self.open if self.together else []), future]:
                if not other.done():
                    other.set_exception(LostError())
        else:
            future.set_result(task(jobs, where))
        return future

    def stop(self) -> None: ...


def stacks_of(sizes: Sequence[int]) -> list[list[Job]]:
    numbers = iter(range(sum(sizes)))
    config = check(RunConfig(depth=2, width=4, steps=3, data=DataConfig("synthetic", samples=32), batch_size=8))
    return [[Job(number, replace(config, seed=number)) for number in islice(numbers, size)] for size in sizes]


def ended(engine: Engine, sizes: Sequence[int], where: Where) -> dict[int, Outcome]:
    begun: list[int] = []
    workers = Elsewhere(engine)
    found = workers.run(stacks_of(sizes), where, lambda job: begun.append(job.number), lambda _news: None)
    outcomes = {outcome.number: outcome for some in found for outcome in some}
    assert set(begun) == set(outcomes) == set(range(sum(sizes)))
    return outcomes


@pytest.fixture
def where(store: Store, tmp_path: Path) -> Where:
    return Where(store.uri, tmp_path)


def test_what_was_lost_is_handed_out_again(where: Where) -> None:
    engine = Engine([frozenset({1})], together=False)
    assert {outcome.failure for outcome in ended(engine, [2, 2, 2], where).values()} == {""}
    assert engine.taken == [[0, 1], [2, 3], [0, 1], [4, 5]]


def test_what_is_lost_twice_is_halved_and_a_lone_run_fails_in_the_end(where: Where) -> None:
    engine = Engine([frozenset({1})] * 3, together=False)
    outcomes = ended(engine, [2, 2], where)
    assert outcomes.pop(1).failure.startswith("ChildProcessError: its worker was lost (LostError) 3 times without a checkpoint")
    assert {outcome.failure for outcome in outcomes.values()} == {""}
    assert engine.taken == [[0, 1], [2, 3], [0, 1], [0], [1]]


def test_a_suspect_is_tried_alone_where_all_die_together(where: Where) -> None:
    engine = Engine([frozenset({1})] * 3, together=True, count=3)
    workers = Elsewhere(engine)
    alone: list[int] = []
    plain = engine.submit

    def watched(task: Task, jobs: Sequence[Job], where: Where) -> "Future[list[Outcome]]":
        if len(engine.taken) >= 3:
            alone.append(len(workers.under_way))
        return plain(task, jobs, where)

    engine.submit = watched  # type: ignore[method-assign]
    outcomes = {outcome.number: outcome for some in workers.run(stacks_of([2, 1]), where, lambda _job: None, lambda _news: None) for outcome in some}
    assert [number for number, outcome in outcomes.items() if outcome.failure] == [1]
    assert alone == [0] * len(alone)
    assert alone


def test_a_worker_that_comes_is_given_what_waits(where: Where) -> None:
    """While the others are still busy: here one that is done when the new one has begun."""

    class Growing(Engine):
        def submit(self, task: Task, jobs: Sequence[Job], where: Where) -> "Future[list[Outcome]]":
            future = super().submit(task, jobs, where)
            if len(self.taken) > 1:
                first.set_result(outcomes[0])
                return future
            outcomes.append(future.result())
            for timer in timers:
                timer.start()
            return first

    first: Future[list[Outcome]] = Future()
    outcomes: list[list[Outcome]] = []
    engine = Growing([], together=False, count=1)
    timers = [Timer(0.2, lambda: setattr(engine, "count", 2)), Timer(30, lambda: first.set_exception(TimeoutError()))]
    try:
        assert {outcome.failure for outcome in ended(engine, [1, 1], where).values()} == {""}
    finally:
        timers[1].cancel()


def test_what_a_worker_can_t_do_fails_and_is_not_tried_again(where: Where) -> None:
    class Other(Engine):
        def submit(self, task: Task, jobs: Sequence[Job], where: Where) -> "Future[list[Outcome]]":
            self.taken.append([job.number for job in jobs])
            future: Future[list[Outcome]] = Future()
            try:
                future.set_result(replace(task, version="0.0")(jobs, where))
            except RuntimeError as error:
                future.set_exception(error)
            return future

    engine = Other([], together=False)
    told = f"RuntimeError: the worker has bpexp {bpexp.__version__}, the command 0.0"
    assert {outcome.failure for outcome in ended(engine, [2], where).values()} == {told}
    assert engine.taken == [[0, 1]]


def test_a_task_names_its_data_and_does_not_hold_them(tmp_path: Path, where: Where) -> None:
    rng = np.random.default_rng(0)
    file = tmp_path / "large.npz"
    np.savez(file, x=rng.normal(size=(20_000, 50)), y=np.eye(2)[rng.integers(0, 2, 20_000)])
    config = check(RunConfig(depth=2, width=4, steps=2, data=DataConfig("npz", path=str(file))))
    jobs = [Job(seed, replace(config, seed=seed), prepare(config).dataset.checksum) for seed in range(64)]
    assert file.stat().st_size > 8_000_000
    assert len(pickle.dumps((Task.here(), jobs, where))) < 100_000
    (outcome,) = carry_out(jobs[:1], where)
    assert outcome.failure == ""
    np.savez(file, x=rng.normal(size=(200, 50)), y=np.eye(2)[rng.integers(0, 2, 200)])
    (outcome,) = carry_out(jobs[1:2], where)
    assert outcome.failure.startswith(f"ValueError: data={file}: {socket.gethostname()} has other data under this name")


@pytest.mark.parametrize(
    ("address", "must"),
    [
        ("head", "must be host:port, perhaps with tcp:// or the like before it"),
        ("127.0.0.1:1", "must be where a scheduler listens ("),
        ("127.0.0.1:99999", "must be where a scheduler listens ("),
    ],
)
def test_an_address_is_tried_before_anything_else(address: str, must: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        opened(Settings(backend="dask", address=address), 2, tmp_path)
    (fault,) = caught.value.faults
    assert (fault.key, fault.value) == ("hydra.launcher.address", address)
    assert fault.must.startswith(must)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"backend": "spark"}, "hydra.launcher.backend=spark: must be processes or loky or dask or ray or submitit"),
        ({"address": "head:1"}, "hydra.launcher.address=head:1: must be left out with backend=processes: it is for dask and ray"),
        ({"submitit": {"partition": "x"}}, "hydra.launcher.submitit.partition=x: must be left out with backend=processes: it is for submitit"),
        (
            {"backend": "submitit", "submitit": {"timeout_min": 0}},
            "hydra.launcher.submitit.timeout_min=0: must be a whole number, at least 1; or null",
        ),
        ({"backend": "submitit", "submitit": {"setup": "x"}}, "hydra.launcher.submitit.setup=x: "),
        ({"backend": "submitit", "submitit": {"partition": "a\ntouch b"}}, "hydra.launcher.submitit.partition=a\\ntouch b: must be "),
        ({"backend": "submitit", "submitit": {"mem_gb": -1}}, "hydra.launcher.submitit.mem_gb=-1: must be "),
    ],
)
def test_wrong_keys(keys: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.of(keys)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(told)


def test_an_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    monkeypatch.delitem(__import__("sys").modules, "bpexp.sweep.engines.ray", raising=False)
    with pytest.raises(ConfigError, match=r"needs ray, which is not installed: pip install 'bpexp\[ray\]'"):
        opened(Settings(backend="ray"), 1, tmp_path)


def test_a_worker_imports_what_each_command_names(tmp_path: Path, where: Where, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have served others before."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("first_rows", "second_rows"):
        (tmp_path / f"{name}.py").write_text(f"import os\nos.environ['SEEN_{name}'] = 'yes'\n")
        monkeypatch.setenv(f"SEEN_{name}", "no")
        monkeypatch.setenv("BPEXP_PLUGINS", name)
        task = Task.here()
        monkeypatch.delenv("BPEXP_PLUGINS")
        (outcome,) = task(stacks_of([1])[0], where)
        assert (outcome.failure, os.environ[f"SEEN_{name}"]) == ("", "yes")
    with pytest.raises(RuntimeError, match=r"the worker: BPEXP_PLUGINS=not_there: can't be imported"):
        replace(task, plugins="not_there")(stacks_of([1])[0], where)
