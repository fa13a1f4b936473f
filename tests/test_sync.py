"""A sweep's parent run while its store is there, away, and back; and the command that sends what waits."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from bpexp.config import ConfigError, RunConfig, TrackingConfig, check
from bpexp.experiment import Run, prepare, run_stack
from bpexp.sync import main as sync
from bpexp.tracking import database
from bpexp.tracking.account import SweepAccount
from bpexp.tracking.link import Link
from bpexp.tracking.notes import Ended
from bpexp.tracking.owner import owner
from bpexp.tracking.parent import Planned
from bpexp.tracking.place import Place, state_folder
from bpexp.tracking.spool import Spool
from bpexp.tracking.store import Store, connect
from bpexp.tracking.sweep import Sweep, catch_up
from bpexp.tracking.writer import Writer
from tests.cli import query
from tests.served import points_of

ALL = "select run_uuid, status, value from runs join tags using (run_uuid) where key = 'bpexp.kind' and lifecycle_stage = 'active' order by value"


@pytest.fixture(scope="module")
def empty(store: Store) -> bytes:
    return Path(store.uri.removeprefix("sqlite:///")).read_bytes()


@pytest.fixture
def file(tmp_path: Path, empty: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The database of a store of the test's own, in the folder in which commands are typed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(empty)
    query(tmp_path / "mlflow.db", "update experiments set artifact_location = ?", f"{tmp_path}/artifacts")
    return tmp_path / "mlflow.db"


@contextmanager
def held(file: Path) -> Iterator[None]:
    """Another connection is about to write."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("begin immediate")
    try:
        yield
    finally:
        connection.close()


def uri(file: Path) -> str:
    return f"sqlite:///{file}"


def link(file: Path, *, offline: bool = False) -> Link:
    return Link(None if offline else partial(connect, uri(file), "bpexp"))


def spool(file: Path) -> Spool:
    return Spool(Place(state_folder(uri(file), file.parent, None), uri(file)))


def prepared(parent: str | None = None) -> list[Run]:
    tracking = TrackingConfig(parent=parent)
    return [prepare(check(RunConfig(depth=3, width=4, steps=10, seed=seed, tracking=tracking))) for seed in range(2)]


def begun(way: Link, waiting: Spool) -> Sweep:
    planned = [Planned([f"seed={seed}"], it.fingerprint, f"seed={seed}") for seed, it in enumerate(prepared())]
    sweep = Sweep(way, waiting, SweepAccount("waiting", "bpexp", "seed=0,1", {"seed": "0,1"}, planned, owner()))
    sweep.plan(planned)
    return sweep


def trained(way: Link, sweep: Sweep) -> dict[str, Ended]:
    runs = prepared(sweep.id)
    with Writer(way, sweep.spool) as writer:
        sinks = [writer.sink(job) for job in range(len(runs))]
        records = run_stack(runs, sinks)
    return {it.fingerprint: Ended(sink.run_id or "", "", its.outcome, {}) for it, sink, its in zip(runs, sinks, records, strict=True)}


def whole(file: Path) -> int:
    """The points of a store that has one sweep with its two runs, all of them finished, and a manifest that names them."""
    (one, *_), (other, *_), (head, *_) = found = query(file, ALL)
    assert [(status, kind) for _, status, kind in found] == [("FINISHED", "run"), ("FINISHED", "run"), ("FINISHED", "sweep")]
    manifest = connect(uri(file), "bpexp").client.download_artifacts(head, "manifest.json")
    assert {job["run_id"] for job in json.loads(Path(manifest).read_text())["jobs"]} == {one, other}
    assert query(file, "select distinct value from tags where key = 'mlflow.parentRunId'") == [(head,)]
    for run_id in (one, other):
        points_of(file, run_id)
    return int(query(file, "select count(*) from metrics")[0][0])


def test_a_sweep_whose_store_is_there(file: Path) -> None:
    way, waiting = link(file), spool(file)
    sweep = begun(way, waiting)
    assert [row[-1] for row in sweep.close("FINISHED", trained(way, sweep))] == ["stuck"] * 2
    assert (whole(file) > 0, sweep.remarks, waiting.files()) == (True, [], [])


@pytest.mark.parametrize("times", [1, 2])
def test_an_offline_sweep_is_filed_once_however_often_it_was_run(file: Path, times: int, capsys: pytest.CaptureFixture[str]) -> None:
    waiting = spool(file)
    for number in range(times):
        sweep = begun(link(file, offline=True), waiting)
        sweep.account = replace(sweep.account, name=f"waiting {number}")
        if number == 0:
            trained(sweep.link, sweep)
        sweep.close("FINISHED", {})
        waiting.remove(replace(sweep.account, name="waiting"))
        assert sweep.id == f"waiting {number}"
    assert query(file, ALL) == []
    assert sync([]) == 0
    sent, errors = capsys.readouterr()
    *counts, end = sent.splitlines()
    assert (end, errors) == ("nothing waits", "")
    assert sum(int(line.split()[-3].replace(",", "")) for line in counts) == whole(file)
    assert sync([]) == 0
    assert capsys.readouterr() == ("nothing waits\n", "")
    assert whole(file) > 0


def test_a_sweep_whose_database_is_locked_for_longer_than_one_waits(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends all the same; the next start sends what waits."""
    monkeypatch.setattr(database, "PATIENCE", 0.05)
    way, waiting = link(file), spool(file)
    sweep = begun(way, waiting)
    with held(file):
        ended = trained(way, sweep)
        assert way.why == "database is locked"
        sweep.close("FINISHED", ended)
        assert waiting.waiting == 2
    remarks = catch_up(link(file), waiting)
    assert [remark.endswith(" points that waited are sent") for remark in remarks] == [True] * 2
    assert sum(int(remark.split(": ")[1].split()[0].replace(",", "")) for remark in remarks) == whole(file)
    assert catch_up(link(file), waiting) == []


def test_an_interrupted_attempt_at_a_server_is_the_last(file: Path) -> None:
    waiting = spool(file)
    sweep = begun(link(file), waiting)

    def hangs() -> Store:
        raise KeyboardInterrupt

    sweep.link = Link(hangs)
    with pytest.raises(KeyboardInterrupt), sweep.link.attempt():
        pass
    sweep.close("KILLED", {})
    assert sweep.link.why == "interrupted"
    assert [status for _, status, _ in query(file, ALL)] == ["RUNNING"]
    assert len(waiting.files()) == 1
    assert catch_up(link(file), waiting) == []
    assert [status for _, status, _ in query(file, ALL)] == ["KILLED"]


def test_a_file_is_asked_again_after_an_interrupted_attempt(file: Path) -> None:
    way, waiting = link(file), spool(file)
    sweep = begun(way, waiting)
    with pytest.raises(KeyboardInterrupt), way.attempt():
        raise KeyboardInterrupt
    sweep.close("KILLED", {})
    assert [status for _, status, _ in query(file, ALL)] == ["KILLED"]
    assert waiting.files() == []


def test_what_is_not_to_be_asked_is_not_caught_up_with(file: Path) -> None:
    waiting = spool(file)
    begun(link(file, offline=True), waiting).close("FINISHED", {})
    assert catch_up(link(file, offline=True), waiting) == []
    with pytest.raises(ConfigError, match=r"must be a store that can be opened"), Link(lambda: connect("nonsense://x", "bpexp")).attempt():
        pass
    assert len(waiting.files()) == 1
