"""Whatever befalls a server while runs train, they train to their end, and every point is stored once."""

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from bpexp.config import ConfigError, RunConfig, TrackingConfig, check
from bpexp.core.training import Training
from bpexp.experiment import Run, prepare, run_stack
from bpexp.sync import main as sync
from bpexp.tracking import backend, link, writer
from bpexp.tracking.account import RunAccount
from bpexp.tracking.backend import Client
from bpexp.tracking.link import Link
from bpexp.tracking.owner import HEARTBEAT
from bpexp.tracking.parent import SweepRun
from bpexp.tracking.place import Place, state_folder
from bpexp.tracking.spool import Spool
from bpexp.tracking.store import Store, connect
from bpexp.tracking.tracked import Tracked
from bpexp.tracking.writer import Writer
from tests.cli import query
from tests.proxy import Fault, Proxy
from tests.served import Points, Server, points_of, undisturbed, wait_until

STEPS, RUNS = 30, 2
experiments = (f"trouble {number}" for number in count())
RUNS_OF = """select run_uuid, status from runs join experiments using (experiment_id) join tags using (run_uuid)
    where experiments.name = ? and runs.lifecycle_stage = 'active' and tags.key = 'bpexp.job' order by tags.value"""


def prepared(experiment: str) -> list[Run]:
    tracking = TrackingConfig(experiment=experiment)
    return [prepare(check(RunConfig(depth=4, width=6, steps=STEPS, seed=seed, tracking=tracking))) for seed in range(RUNS)]


@pytest.fixture(scope="module")
def expected(store: Store) -> list[Points]:
    return undisturbed(store, prepared("bpexp"))


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step is an update; what waits by the clock waits for less."""
    monkeypatch.setattr("bpexp.experiment.UPDATE_SECONDS", -1.0)
    monkeypatch.setattr(link, "RETRY", 0.1)
    monkeypatch.setattr(backend, "SETTLE", 0.01)


class Trial:
    """Runs that train into a store, with something that happens at given steps."""

    def __init__(self, uri: str, folder: Path) -> None:
        self.uri, self.experiment = uri, next(experiments)
        self.spool = Spool(Place(state_folder(uri, folder, str(folder)), uri))
        self.link = Link(partial(connect, uri, self.experiment))
        self.sinks: list[Tracked] = []

    def train_without(self, proxy: Proxy) -> None:
        """All of it, while the server refuses."""
        proxy.refuse()
        self.train({})
        proxy.accept()

    def train(self, events: dict[int, Callable[[], object]]) -> None:
        steps = []

        def progress(training: Training) -> None:
            step = training.last_step
            steps.append(step)
            events.get(step, lambda: None)()

        with Writer(self.link, self.spool) as writer:
            self.sinks = [writer.sink(job) for job in range(RUNS)]
            run_stack(prepared(self.experiment), self.sinks, progress)
        assert steps == list(range(STEPS + 1))
        assert [sink.failure for sink in self.sinks] == [""] * RUNS

    def wait_for_points(self) -> None:
        wait_until(lambda: all(sink.sink is not None and sink.sink.sent >= 0 for sink in self.sinks))

    def send(self) -> None:
        """As often as it takes."""
        for _ in range(20):
            if self.spool.files():
                self.spool.send(partial(connect, self.uri))
        assert self.spool.files() == []

    def found(self, server: Server) -> list[Points]:
        """The points of all runs that there are, every one of them finished."""
        rows = query(server.database, RUNS_OF, self.experiment)
        assert [status for _, status in rows] == ["FINISHED"] * RUNS
        return [points_of(server.database, run_id) for run_id, _ in rows]


CUTS = {
    "as runs are made": (
        0,
        [
            Fault("/experiments/get-by-name", response=3),
            Fault("/runs/search", response=0),
            Fault("/runs/create", request=50),
            Fault("/runs/create", response=0),
            Fault("/runs/create", response=40),
            Fault("/runs/log-batch", times=2, response=0),
            Fault("/runs/log-inputs", response=0),
        ],
    ),
    "in a batch": (5, [Fault("/runs/log-batch", times=2, request=2000), Fault("/runs/log-batch", times=2, response=1)]),
    "as runs end": (
        STEPS,
        [
            Fault("/curves.parquet", request=100),
            Fault("/runs/log-batch", times=2, response=0),
            Fault("/runs/update", request=10),
            Fault("/runs/update", response=0),
        ],
    ),
}


@pytest.mark.parametrize("when", CUTS)
def test_connections_that_are_cut(server: Server, proxy: Proxy, tmp_path: Path, expected: list[Points], when: str) -> None:
    trial = Trial(proxy.uri, tmp_path)
    step, faults = CUTS[when]

    def cut() -> None:
        if step > 0:
            trial.wait_for_points()
        for fault in faults:
            proxy.add(fault)

    def met() -> None:
        if step < STEPS:
            proxy.wait_for_all()

    trial.train({step: cut, STEPS - 1: met})
    trial.send()
    proxy.wait_for_all()
    assert trial.found(server) == expected


def test_a_server_that_refuses_for_a_while_and_is_slow_then(server: Server, proxy: Proxy, tmp_path: Path, expected: list[Points]) -> None:
    trial = Trial(proxy.uri, tmp_path)
    proxy.refuse()

    def back() -> None:
        wait_until(lambda: "refused" in trial.link.why)
        proxy.accept()
        proxy.add(Fault(times=1000, delay=0.2))

    trial.train({20: back, 25: trial.wait_for_points})
    trial.send()
    assert trial.found(server) == expected


def test_a_server_that_does_not_answer(server: Server, proxy: Proxy, tmp_path: Path, expected: list[Points], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    trial = Trial(proxy.uri, tmp_path)

    def stall() -> None:
        trial.wait_for_points()
        proxy.add(Fault(times=1000, stall=True))

    trial.train({10: stall, STEPS: lambda: wait_until(lambda: "timed out" in trial.link.why)})
    assert [sink.waits for sink in trial.sinks] == [True] * RUNS
    assert len(trial.spool.files()) == RUNS
    proxy.heal()
    trial.send()
    assert trial.found(server) == expected


def test_a_server_that_stands_still(server: Server, store: Store, tmp_path: Path, expected: list[Points]) -> None:
    """What it is sent when it goes on is what a database is sent."""
    trial = Trial(server.uri, tmp_path)
    with trial.link.attempt() as served:
        assert isinstance(served.backend, Client)
        assert str(served.remark).startswith(f"tracking.uri={server.uri}: points go through MLflow's client")
    os.killpg(server.group, signal.SIGSTOP)
    trial.train({STEPS: lambda: os.killpg(server.group, signal.SIGCONT)})
    trial.send()
    assert trial.found(server) == expected
    runs = {run.data.tags["bpexp.job"]: run for run in served.client.search_runs([served.experiment_id])}
    others = {run.data.tags["bpexp.job"]: run for run in store.client.search_runs([store.experiment_id])}
    for job, run in runs.items():
        assert run.data.params == others[job].data.params
        assert {**run.data.tags, HEARTBEAT: ""} == {**others[job].data.tags, HEARTBEAT: ""}
        assert np.load(served.client.download_artifacts(run.info.run_id, "checkpoint.npz")).files


def test_a_server_that_is_killed_and_comes_back(server: Server, tmp_path: Path, expected: list[Points]) -> None:
    trial = Trial(server.uri, tmp_path)

    def kill() -> None:
        trial.wait_for_points()
        server.end(signal.SIGKILL)

    def back() -> None:
        wait_until(lambda: bool(trial.link.why))
        server.start()

    trial.train({10: kill, 20: back, 25: lambda: wait_until(lambda: all(sink.sink and sink.sink.sent > 10 for sink in trial.sinks))})
    assert not any(sink.waits for sink in trial.sinks)
    assert trial.found(server) == expected


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_answers_for_a_while_that_it_cannot(server: Server, proxy: Proxy, tmp_path: Path, expected: list[Points], status: int) -> None:
    """As one does whose database is away: 503, and 500 in the middle of a batch."""
    trial = Trial(proxy.uri, tmp_path)

    def away() -> None:
        trial.wait_for_points()
        proxy.add(Fault(times=1000, status=status))

    def back() -> None:
        wait_until(lambda: trial.link.why == f"the server answers with HTTP status {status}")
        proxy.heal()

    trial.train({10: away, 20: back})
    assert not any(sink.waits for sink in trial.sinks)
    assert trial.found(server) == expected


def test_trouble_with_its_manifest_fails_no_sweep(server: Server, proxy: Proxy) -> None:
    store = connect(proxy.uri, next(experiments))
    sweep = SweepRun(store, "a sweep", {}, [])
    proxy.add(Fault("/manifest.json", status=503))
    with pytest.raises(MlflowException, match="503"):
        sweep.close("FINISHED", {})
    sweep.close("FINISHED", {})
    assert store.client.get_run(sweep.run_id).info.status == "FINISHED"


def test_what_waits_is_sent_by_a_command(
    server: Server, proxy: Proxy, tmp_path: Path, expected: list[Points], capsys: pytest.CaptureFixture[str]
) -> None:
    """The runs have begun in the store, by a process that lives on and has given them up."""
    trial = Trial(proxy.uri, tmp_path)

    def refuse() -> None:
        trial.wait_for_points()
        proxy.refuse()

    trial.train({10: refuse})
    assert [sink.waits for sink in trial.sinks] == [True] * RUNS
    assert sync([f"folder={tmp_path}"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "Connection refused" in told.err.splitlines()[0]
    assert told.err.splitlines()[1:] == [f"bpexp: 2 wait in {trial.spool.place.folder} for {proxy.uri}"]
    proxy.accept()
    assert sync([f"folder={tmp_path}"]) == 0
    assert capsys.readouterr() == ("depth=4 width=6 lr=3: 454 points sent\n" * RUNS + "nothing waits\n", "")
    assert trial.found(server) == expected


def test_runs_that_wait_are_claimed_together(
    server: Server, proxy: Proxy, tmp_path: Path, expected: list[Points], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim at a server waits for those who are about to make the same run: once, not once for each run."""
    trial, waited = Trial(proxy.uri, tmp_path), list[float]()
    trial.train_without(proxy)
    monkeypatch.setattr(backend, "time", SimpleNamespace(sleep=waited.append))
    trial.send()
    assert waited == [backend.SETTLE]
    assert trial.found(server) == expected


def test_a_run_that_the_server_refuses_keeps_back_no_other(server: Server, proxy: Proxy, tmp_path: Path, expected: list[Points]) -> None:
    trial = Trial(proxy.uri, tmp_path)
    trial.train_without(proxy)
    _, last = trial.spool.entries()
    assert isinstance(last, RunAccount)
    trial.spool.put(replace(last, new=replace(last.new, parameters={"*": "no name for a parameter"})))
    sent = trial.spool.send(partial(connect, trial.uri))
    assert (len(sent.counts), len(sent.remarks), len(trial.spool.files())) == (1, 1, 1)
    assert "Invalid value" in sent.remarks[0]
    trial.spool.put(last)
    trial.send()
    assert trial.found(server) == expected


def test_two_senders_at_once_send_once(server: Server, proxy: Proxy, tmp_path: Path, expected: list[Points]) -> None:
    trial = Trial(proxy.uri, tmp_path)
    trial.train_without(proxy)
    proxy.add(Fault(times=1000, delay=0.05))
    told: list[list[str]] = []
    threads = [threading.Thread(target=lambda: told.append(trial.spool.send(partial(connect, proxy.uri)).remarks)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == [[], ["another process is sending them"]]
    assert trial.spool.files() == []
    assert trial.found(server) == expected


def test_an_interruption_leaves_a_server_that_does_not_answer_alone(
    server: Server, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "GRACE", 0.1)
    trial = Trial(proxy.uri, tmp_path)

    def stall() -> None:
        trial.wait_for_points()
        proxy.add(Fault(times=1000, stall=True))

    def interrupt() -> None:
        wait_until(lambda: bool(proxy.met))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trial.train({10: stall, 12: interrupt})
    assert [sink.waits for sink in trial.sinks] == [True] * RUNS
    proxy.heal()
    trial.send()
    rows = query(server.database, RUNS_OF, trial.experiment)
    assert [status for _, status in rows] == ["KILLED"] * RUNS
    for run_id, _ in rows:
        assert {step for key, step, *_ in points_of(server.database, run_id) if key == "loss/train"} == set(range(12))


def test_a_server_that_is_not_there_is_told_of_at_the_start(proxy: Proxy) -> None:
    proxy.refuse()
    with pytest.raises(ConfigError, match=r"must be a store that can be opened \(.*refused; offline=true trains without it\)"):
        connect(proxy.uri, "nowhere")
