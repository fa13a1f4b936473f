"""Never two runs of one fingerprint, however many processes claim it, and nothing lost that they write."""

import json
import multiprocessing
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from multiprocessing import connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as Tracked
from sqlalchemy import event

from bpexp.config import RunConfig
from bpexp.experiment import NullSink, Run, prepare, run
from bpexp.tracking import backend
from bpexp.tracking.backend import FINGERPRINT, Client, Held, NewRun
from bpexp.tracking.database import Database
from bpexp.tracking.owner import HEARTBEAT, OWNER, Owner, marks, owner
from bpexp.tracking.points import Points
from bpexp.tracking.sink import MlflowSink, new_run
from bpexp.tracking.store import Store, connect
from tests.cli import Query, query
from tests.served import serving

NOTE = "mlflow.note.content"
FINGERPRINTS = "select value, run_uuid from tags join runs using (run_uuid) where key = 'bpexp.fingerprint' and lifecycle_stage = 'active'"


@pytest.fixture(params=["rows", "client"])
def way(request: pytest.FixtureRequest, store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Both ways into one store; nobody else claims, so there is nobody to wait for."""
    monkeypatch.setattr(backend, "SETTLE", 0.0)
    assert isinstance(store.backend, Database)
    return store if request.param == "rows" else replace(store, backend=Client(store.client))


@pytest.fixture
def another() -> Iterator[str]:
    """The owner that a living process of this machine is."""
    process = subprocess.Popen(["sleep", "600"])
    here = Owner.parse(owner())
    assert here is not None
    started = Path(f"/proc/{process.pid}/stat").read_text().split()[21] if here.started else ""
    yield str(replace(here, pid=process.pid, started=started))
    process.kill()
    process.wait()


SEEDS = iter(range(10**6))


def fresh() -> Run:
    """A run that no test has had before."""
    return prepare(RunConfig(depth=2, width=3, steps=3, seed=next(SEEDS)))


def shown(store: Store, run_id: str) -> Tracked:
    return store.client.get_run(run_id)


def claimed(store: Store, *runs: Run, anew: bool = False) -> list[Held]:
    return store.backend.claim([new_run(it, store.experiment_id, 0) for it in runs], anew=anew)


def finished(store: Store, prepared: Run) -> str:
    sink = MlflowSink(store)
    run(prepared, sink)
    return str(sink.run_id)


def begun(store: Store, prepared: Run, error: BaseException | None = None, told: str | None = None) -> str:
    """A run that has begun to train, that of an owner of whom is `told`; ended with an error, where there is one."""
    sink = MlflowSink(store)
    sink.open(prepared)
    if told is not None:
        store.client.set_tag(str(sink.run_id), OWNER, told)
    if error is not None:
        sink.abort(error)
    return str(sink.run_id)


GONE = str(Owner("elsewhere", "", "", 1, "1"))

# what there is of a run -> what a claim comes to, and one anew; the same run, or a new one
CASES: dict[str, tuple[Callable[[Store, Run, str], str | None], str, str]] = {
    "nothing": (lambda store, it, other: None, "new", "new"),
    "finished": (lambda store, it, other: finished(store, it), "finished", "new"),
    "failed": (lambda store, it, other: begun(store, it, ValueError("no")), "continued", "continued"),
    "killed": (lambda store, it, other: begun(store, it, KeyboardInterrupt()), "continued", "continued"),
    "ours": (lambda store, it, other: begun(store, it), "continued", "continued"),
    "another's": (lambda store, it, other: begun(store, it, told=other), "busy", "busy"),
    "a dead one's": (lambda store, it, other: silent(store, begun(store, it, told=GONE)), "continued", "continued"),
    "nobody's": (lambda store, it, other: silent(store, begun(store, it, told="")), "continued", "continued"),
    "elsewhere and heard of": (lambda store, it, other: begun(store, it, told=GONE), "busy", "busy"),
    "in the bin": (lambda store, it, other: binned(store, finished(store, it)), "new", "new"),
}


def silent(store: Store, run_id: str) -> str:
    store.client.set_tag(run_id, HEARTBEAT, "2026-01-01T00:00:00+00:00")
    return run_id


def binned(store: Store, run_id: str) -> str:
    store.client.delete_run(run_id)
    return run_id


@pytest.mark.parametrize("anew", [False, True])
def test_what_a_claim_comes_to(way: Store, another: str, anew: bool) -> None:
    """All cases in one call, in order."""
    runs = [fresh() for _ in CASES]
    before = [make(way, it, another) for it, (make, *_) in zip(runs, CASES.values(), strict=True)]
    held = claimed(way, *runs, anew=anew)
    assert dict(zip(CASES, (it.state for it in held), strict=True)) == {name: states[anew] for name, (_, *states) in CASES.items()}
    for prepared, it, old in zip(runs, held, before, strict=True):
        assert (it.run_id == old) == (it.state != "new")
        found = shown(way, it.run_id)
        assert (it.artifacts, it.start) == (found.info.artifact_uri, found.info.start_time)
        assert found.data.tags["bpexp.fingerprint"] == prepared.fingerprint
        if it.state in ("new", "continued"):
            assert (found.info.status, found.data.tags[OWNER], it.owner) == ("RUNNING", owner(), "")
        if it.state == "busy":
            assert it.owner == found.data.tags[OWNER] in (another, GONE)
    second = claimed(way, *runs, anew=anew)
    assert [it.run_id for it in second] == [it.run_id for it in held]
    assert [it.state for it in second] == [{"new": "continued"}.get(it.state, it.state) for it in held]


def test_a_run_that_is_opened_again(way: Store) -> None:
    """It has lost its error, not its place, its settings or what somebody wrote about it."""
    failed, noted = fresh(), fresh()
    ids = [begun(way, it, ValueError("no")) for it in (failed, noted)]
    way.client.set_tag(ids[1], NOTE, "This run was odd.")
    before = [shown(way, run_id) for run_id in ids]
    for prepared in (failed, noted):
        prepared.config.tracking.parent = "another"
    assert [it.run_id for it in claimed(way, failed, noted)] == ids
    for old, run_id in zip(before, ids, strict=True):
        found = shown(way, run_id)
        assert found.data.params == old.data.params
        lost = {"bpexp.error", *([NOTE] if run_id == ids[0] else [])}
        assert {key: value for key, value in old.data.tags.items() if key not in {HEARTBEAT, *lost}} == {
            key: value for key, value in found.data.tags.items() if key != HEARTBEAT
        }
        assert found.info.start_time == old.info.start_time
        assert found.info.end_time == (None if isinstance(way.backend, Database) else old.info.end_time)


def test_two_claims_of_one_run_in_a_call(way: Store) -> None:
    prepared = fresh()
    first, second = claimed(way, prepared, prepared)
    assert (first.state, second.state) == ("new", "continued")
    assert first.run_id == second.run_id
    assert claimed(way) == []


def test_claims_are_stored_at_once(store: Store) -> None:
    with store.backend.together():
        (it,) = claimed(store, fresh())
        assert shown(store, it.run_id).info.status == "RUNNING"


def test_a_sink_is_opened_by_a_claim(way: Store) -> None:
    """That of a run that is ours to train, and what is trained is a run like any other."""
    wanted, done = fresh(), fresh()
    finished(way, done)
    old = begun(way, wanted, KeyboardInterrupt())
    sinks = [MlflowSink(way), MlflowSink(way)]
    held = claimed(way, wanted, done)
    assert [it.state for it in held] == ["continued", "finished"]
    sinks[0].take(wanted.config, held[0])
    assert [sink.run_id for sink in sinks] == [old, None]
    way.client.set_tag(old, HEARTBEAT, "2026-01-01T00:00:00+00:00")
    records = run(wanted, NullSink())
    sinks[0].open(wanted)
    sinks[0].update(records)
    assert shown(way, old).data.tags[HEARTBEAT] > "2026-01-02"
    sinks[0].close(records, 0.001)
    found = shown(way, old)
    assert (found.info.status, found.data.tags["bpexp.outcome"], found.data.tags[OWNER]) == ("FINISHED", records.outcome, owner())
    assert [it.run_id for it in claimed(way, wanted)] == [old]


def test_a_run_whose_making_was_cut_off_is_made_whole(way: Store) -> None:
    """A server had made it, and its answer was lost: settings and data set were never sent."""
    prepared = fresh()
    new = new_run(prepared, way.experiment_id, 0)
    info = way.client.create_run(new.experiment_id, new.start, dict(new.tags), new.name).info
    (it,) = Client(way.client).claim([new])
    assert (it.state, it.run_id) == ("continued", info.run_id)
    found = shown(way, it.run_id)
    assert found.data.params == new.parameters
    assert found.inputs is not None
    assert [each.dataset.digest for each in found.inputs.dataset_inputs] == [new.data.dataset.digest]


def test_of_a_run_that_was_made_twice_the_older_stays(way: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow sends a request again whose answer was lost."""
    create = way.client.create_run
    monkeypatch.setattr(way.client, "create_run", lambda *told: [create(*told), create(*told)][1])
    prepared = fresh()
    (it,) = Client(way.client).claim([new_run(prepared, way.experiment_id, 0)])
    monkeypatch.undo()
    assert it.state == "new"
    kept, binned = (way.client.search_runs([way.experiment_id], f"tags.bpexp.fingerprint = '{prepared.fingerprint}'", kind) for kind in (1, 2))
    assert [run.info.run_id for run in kept] == [it.run_id]
    assert [run.info.run_id > it.run_id for run in binned] == [True]


def test_who_is_late_withdraws(way: Store, another: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process makes the run, or takes it over, between our look and our writing."""
    made, taken = fresh(), fresh()
    other = replace(way, backend=Client(way.client))
    news = {it.fingerprint: new_run(it, way.experiment_id, 0) for it in (made, taken)}
    old = silent(way, begun(way, taken, told=GONE))
    theirs: list[str] = []

    def meanwhile(seconds: float) -> None:
        early = news[made.fingerprint]
        early = replace(early, start=early.start - 1, tags={**early.tags, OWNER: another})
        theirs.append(way.client.create_run(early.experiment_id, early.start, dict(early.tags), early.name).info.run_id)
        way.client.set_tag(old, OWNER, another)

    monkeypatch.setattr("bpexp.tracking.backend.time.sleep", meanwhile)
    held = other.backend.claim(list(news.values()))
    assert [(it.state, it.run_id, it.owner) for it in held] == [("busy", theirs[0], another), ("busy", old, another)]
    assert [it.run_id for it in claimed(way, made, taken)] == [theirs[0], old]  # ours is in the bin


def test_the_runs_that_a_new_one_replaces_go_to_the_bin(way: Store) -> None:
    prepared, other = fresh(), fresh()
    old, untouched = finished(way, prepared), finished(way, other)
    (it,) = claimed(way, prepared, anew=True)
    way.backend.retire(way.experiment_id, prepared.fingerprint, it.run_id)  # too early: what is kept need not be finished
    assert [shown(way, run_id).info.lifecycle_stage for run_id in (old, it.run_id, untouched)] == ["deleted", "active", "active"]
    way.client.restore_run(old)
    newer = begun(way, prepared, ValueError("no"))
    way.backend.retire(way.experiment_id, prepared.fingerprint, it.run_id)
    assert [shown(way, run_id).info.lifecycle_stage for run_id in (old, newer, it.run_id)] == ["deleted", "active", "active"]


# ---------------------------------------------------------------------------------------------- many processes

PROCESSES = multiprocessing.get_context("forkserver")  # processes that start at the same moment, what they need being loaded
PROCESSES.set_forkserver_preload(["bpexp.tracking.sink"])


def runs(store: Store, count: int) -> list[NewRun]:
    prepared = prepare(RunConfig(depth=2, width=3, steps=3))
    base = new_run(prepared, store.experiment_id, 0)
    return [replace(base, tags={**base.tags, "bpexp.fingerprint": f"run {index}"}) for index in range(count)]


def claimer(uri: str, folder: Path, index: int, count: int, points: int, barrier: Any, variables: dict[str, str]) -> None:
    """Connect, claim, write the points of what is ours, and tell; each step when all others are there."""
    os.chdir(folder)  # where MLflow puts the artifacts
    os.environ.update(variables)
    barrier.wait()
    store = connect(uri, "bpexp")
    barrier.wait()
    held = store.backend.claim(runs(store, count))
    steps = np.arange(points)
    for it in held:
        if it.state == "new":
            store.backend.log(it.run_id, Points.of([(np.full(points, "x", object), steps, np.sqrt(steps))], it.start), marks())
    (folder / f"{index}.json").write_text(json.dumps([(it.state, it.run_id, it.owner) for it in held]))
    barrier.wait()  # whose owner has ended could be taken over


def compete(
    uri: str, folder: Path, processes: int, count: int, points: int, *, at_once: bool = True, ask: Query | None = None, **variables: str
) -> None:
    """Real processes that claim the same runs at the same moment: each run is made once; `at_once`: all know which and whose.

    `ask`: what a statement finds in the store's database, where that is no SQLite file in the folder; `variables`: of the processes' environment.
    """
    barrier = PROCESSES.Barrier(processes, timeout=240)
    started = [PROCESSES.Process(target=claimer, args=(uri, folder, index, count, points, barrier, variables)) for index in range(processes)]
    for process in started:
        process.start()
    while any(process.exitcode is None for process in started):
        connection.wait([process.sentinel for process in started if process.exitcode is None], 240)
        if any(process.exitcode for process in started):
            barrier.abort()  # nobody waits for who has failed
    assert [process.exitcode for process in started] == [0] * processes
    told = [json.loads((folder / f"{index}.json").read_text()) for index in range(processes)]
    ask = ask or partial(query, next(folder.glob("*.db")))
    found = ask(FINGERPRINTS)
    made: dict[str, str] = dict(found)
    assert len(found) == len(made) == count
    for number in range(count):
        states, ids, owners = zip(*(each[number] for each in told), strict=True)
        assert Counter(states) == {"new": 1, "busy": processes - 1}
        winner = started[states.index("new")]
        assert ids[states.index("new")] == made[f"run {number}"]
        if not at_once:
            continue
        assert set(ids) == {made[f"run {number}"]}
        assert {Owner.parse(it).pid for it in owners if it} == {winner.pid}  # type: ignore[union-attr]
    stored = ask("select run_uuid, count(*), min(step), max(step), sum(value) from metrics group by run_uuid")
    total = pytest.approx(float(np.sqrt(np.arange(points)).sum()), rel=1e-12)
    assert sorted(stored) == sorted((run_id, points, 0, points - 1, total) for run_id in made.values())


def test_sixteen_processes_that_start_together_on_no_database(tmp_path: Path) -> None:
    compete(f"sqlite:///{tmp_path}/mlflow.db", tmp_path, 16, 40, 1500)
    assert {path.name for path in tmp_path.iterdir()} <= {f"{index}.json" for index in range(16)} | {
        "mlflow.db",
        ".mlflow.db.lock",
        ".mlflow.db.queue",
        "mlruns",
    }


@pytest.mark.soak
@pytest.mark.parametrize("repetition", range(5))
def test_sixteen_processes_with_all_that_a_sweep_writes(tmp_path: Path, repetition: int) -> None:
    compete(f"sqlite:///{tmp_path}/mlflow.db", tmp_path, 16, 400, 5000)


def test_claimers_at_a_server(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        compete(server.uri, tmp_path, 4, 6, 10, at_once=False)


@pytest.mark.soak
def test_sixteen_claimers_at_a_server(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        compete(server.uri, tmp_path, 16, 40, 2000, at_once=False)


def test_a_run_that_is_opened_again_has_one_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its artifacts could not be written when it came to its end, say."""
    monkeypatch.chdir(tmp_path)  # where MLflow puts the artifacts
    store, it = connect(f"sqlite:///{tmp_path}/mlflow.db", "bpexp"), fresh()
    run_id = finished(store, it)
    query(tmp_path / "mlflow.db", "update runs set status = 'FAILED' where run_uuid = ?", run_id)
    (held,) = claimed(store, it)
    assert (held.state, held.run_id) == ("continued", run_id)
    sink = MlflowSink(store)
    sink.take(it.config, held)
    run(it, sink)
    assert shown(store, run_id).info.status == "FINISHED"
    for table in ("metrics", "latest_metrics"):
        points = query(tmp_path / "mlflow.db", f"select key, step, count(*) from {table} where run_uuid = ? group by key, step", run_id)
        assert ("summary/step_seconds", 0, 1) in points
        assert {count for *_, count in points} == {1}


def holder(uri: str, ready: Any) -> None:
    store = connect(uri, "bpexp")
    held = store.backend.claim(runs(store, 3))
    steps = np.arange(100)
    store.backend.log(held[0].run_id, Points.of([(np.full(100, "x", object), steps, np.sqrt(steps))], held[0].start), marks())
    ready.set()
    signal.pause()


def test_what_a_killed_process_held_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before it is killed, and with the points that it has stored."""
    monkeypatch.chdir(tmp_path)
    store = connect(f"sqlite:///{tmp_path}/mlflow.db", "bpexp")
    ready = PROCESSES.Event()
    process = PROCESSES.Process(target=holder, args=(store.uri, ready))
    process.start()
    try:
        assert ready.wait(60)
        before = store.backend.claim(runs(store, 3))
        assert [it.state for it in before] == ["busy"] * 3
    finally:
        process.kill()
        process.join()
    ways = [store.backend, Client(MlflowClient(store.uri)), store.backend]
    after = [it for way, new in zip(ways, runs(store, 3), strict=True) for it in way.claim([new])]
    assert [(it.state, it.run_id, it.start) for it in after] == [("continued", it.run_id, it.start) for it in before]
    assert query(tmp_path / "mlflow.db", "select run_uuid, count(*) from metrics group by run_uuid") == [(before[0].run_id, 100)]


def test_a_claim_takes_as_much_work_in_a_large_store_as_in_a_small_one(store: Store) -> None:
    like, steps = new_run(fresh(), store.experiment_id, 0), 0

    def claim(count: int) -> None:
        """Other fingerprints than any before."""
        others = [replace(like, tags={**like.tags, FINGERPRINT: f"{next(SEEDS):016x}"}) for _ in range(count)]
        assert {it.state for it in store.backend.claim(others)} == {"new"}

    def work() -> int:
        """Some hundreds of SQLite's instructions each, of a claim of one run."""
        nonlocal steps
        steps = 0
        claim(1)
        return steps

    def step() -> None:
        nonlocal steps
        steps += 1

    assert isinstance(store.backend, Database)
    claim(1)
    event.listen(store.backend.engine, "checkout", lambda it, *_: it.set_progress_handler(step, 100))
    before = work()
    claim(1000)
    assert work() <= before + 5  # to read each of the thousand takes 10 instructions and more
