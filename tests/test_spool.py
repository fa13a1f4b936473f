"""What a store can't be told now waits in files, and is told later, once."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.exceptions import MlflowException, RestException
from requests import ConnectionError as NoConnection
from requests import HTTPError, ReadTimeout, Response
from sqlalchemy.exc import OperationalError

from bpexp.config import RunConfig, TrackingConfig, check, fingerprint, untracked
from bpexp.core.records import Records
from bpexp.core.training import Training
from bpexp.durable import DamagedError
from bpexp.experiment import NullSink, Run, prepare, run, run_stack
from bpexp.sync import main as sync
from bpexp.tracking import database, link
from bpexp.tracking.account import RunAccount, SweepAccount
from bpexp.tracking.link import Link
from bpexp.tracking.owner import owner
from bpexp.tracking.parent import Planned
from bpexp.tracking.place import Place, places, state_folder
from bpexp.tracking.sink import Ending, MlflowSink
from bpexp.tracking.spool import Spool
from bpexp.tracking.store import Store, connect
from bpexp.tracking.tracked import Tracked
from bpexp.tracking.trouble import AwayError, trouble
from bpexp.tracking.writer import Writer
from tests.cli import command, environment, query
from tests.served import Points, points_of, undisturbed, wait_until

DIVERGED: dict[str, Any] = {"activation": "relu", "output": "linear", "lr": 1e6}


def prepared(**changes: Any) -> Run:
    return prepare(check(RunConfig(**{"depth": 4, "width": 6, "steps": 20} | changes)))


@pytest.fixture(scope="module")
def empty(store: Store) -> bytes:
    return Path(path(store)).read_bytes()


@pytest.fixture
def made(tmp_path: Path, empty: bytes) -> Store:
    """A store of the test's own: making one takes seconds, a copy none."""
    (tmp_path / "mlflow.db").write_bytes(empty)
    query(tmp_path / "mlflow.db", "update experiments set artifact_location = ?", f"{tmp_path}/artifacts")
    return connect(f"sqlite:///{tmp_path}/mlflow.db", "bpexp")


def path(store: Store) -> str:
    return store.uri.removeprefix("sqlite:///")


def spool_of(store: Store, folder: Path) -> Spool:
    return Spool(Place(state_folder(store.uri, folder, None), store.uri))


def send(spool: Spool, store: Store) -> list[str]:
    return spool.send(partial(connect, store.uri)).remarks


def offline(spool: Spool, runs: list[Run], *, anew: bool = False, progress: Callable[[Training], None] = lambda _training: None) -> list[Tracked]:
    with Writer(Link(None), spool, anew=anew) as writer:
        sinks = [writer.sink(job) for job in range(len(runs))]
        run_stack(runs, sinks, progress)
    return sinks


def runs_of(store: Store) -> list[tuple[str, str]]:
    """Id and status of the runs, by their jobs."""
    return query(path(store), "select run_uuid, status from runs join tags using (run_uuid) where key = 'bpexp.job' order by tags.value, start_time")


def found(store: Store) -> list[Points]:
    rows = runs_of(store)
    assert [status for _, status in rows] == ["FINISHED"] * len(rows)
    return [points_of(path(store), run_id) for run_id, _ in rows]


# ---------------------------------------------------------------------------------------------- what is trouble


def wrapped(error: Exception) -> Exception:
    """As MLflow raises it: without a cause."""
    outer = MlflowException(f"API request failed with exception {error}")
    outer.__context__ = error
    return outer


def refused(code: str) -> Exception:
    return RestException({"error_code": code, "message": "no"})  # type: ignore[no-untyped-call]


def answer(status: int) -> HTTPError:
    response = Response()
    response.status_code = status
    return HTTPError("no", response=response)


def of_sqlite(words: str) -> Exception:
    return OperationalError("begin immediate", None, sqlite3.OperationalError(words))


PASSING = [
    ConnectionRefusedError(111, "Connection refused"),
    TimeoutError("timed out"),
    NoConnection("refused"),
    wrapped(NoConnection("refused")),
    wrapped(ReadTimeout("read timed out")),
    *map(refused, ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "INTERNAL_ERROR")),
    *map(answer, (429, 500, 503)),
    *map(of_sqlite, ("database is locked", "database table is locked")),
    OperationalError("select 1", None, Exception("could not connect to server")),
    AwayError("away"),
]
OWN = [
    OSError(28, "No space left on device"),
    PermissionError(13, "Permission denied"),
    NotADirectoryError(20, "Not a directory"),
    MlflowException("run 1 is in the bin"),
    *map(refused, ("RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED")),
    wrapped(ValueError("no URL")),
    *map(answer, (400, 403, 404)),
    *map(of_sqlite, ("database or disk is full", "attempt to write a readonly database", "disk I/O error")),
    ValueError("connection refused"),
]


@pytest.mark.parametrize(("error", "passes"), [*[(it, True) for it in PASSING], *[(it, False) for it in OWN]], ids=repr)
def test_trouble_is_what_passes(error: Exception, passes: bool) -> None:
    assert trouble(error) is passes


# ---------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    "changes",
    [{}, {"probes": ["spectrum", "histogram"], "bias": True}, DIVERGED, {"steps": 0}],
    ids=["plain", "with spectra, histograms and biases", "diverged", "untrained"],
)
def test_an_account_is_read_as_it_was_put(made: Store, tmp_path: Path, changes: dict[str, Any]) -> None:
    mine, spool = prepared(**changes), spool_of(made, tmp_path)
    records = run(mine, NullSink())
    account = RunAccount.of(mine, 3, anew=True)
    versions = [
        account,
        replace(account, ending=Ending("KILLED", "KeyboardInterrupt: ")),
        replace(account, run_id="4711", records=records, step_seconds=np.pi),
    ]
    for version in versions:
        spool.put(version)
        (read,) = spool.entries()
        assert isinstance(read, RunAccount)
        assert replace(read, records=None, new=account.new) == replace(version, records=None)
        assert vars(read.new) | {"data": dict(read.new.data)} == vars(account.new) | {"data": dict(read.new.data)}
        assert (dict(read.new.data.dataset), read.new.data.tags[0].key) == (dict(account.new.data.dataset), "mlflow.data.context")
        assert (read.records is None) is (version.records is None)
    assert isinstance(read, RunAccount)
    assert_same(read.records, records)
    assert len(spool.files()) == 1
    spool.remove(account)
    assert spool.files() == []


def assert_same(read: Records | None, records: Records) -> None:
    assert read is not None
    assert (read.plateau, read.diverged_at, read.outcome) == (records.plateau, records.diverged_at, records.outcome)
    for part in ("curves", "layers", "spectra", "histograms", "parameters"):
        mine, others = getattr(read, part), getattr(records, part)
        assert list(mine) == list(others)
        for name in others:
            assert mine[name].dtype == others[name].dtype
            assert mine[name].tobytes() == others[name].tobytes()


def test_what_is_damaged_or_of_another_version_is_told_and_stays(made: Store, tmp_path: Path) -> None:
    spool = spool_of(made, tmp_path)
    offline(spool, [prepared(seed=seed) for seed in range(3)])
    torn, other, _ = spool.files()
    torn.write_bytes(torn.read_bytes()[:-1])
    account = next(it for it in spool.entries() if isinstance(it, RunAccount) and it.name == other.stem)
    spool.put(replace(account, config=replace(account.config, depth="ten")))  # type: ignore[arg-type]
    assert [type(it) for it in spool.entries()] == [DamagedError, DamagedError, RunAccount]
    remarks = send(spool, made)
    assert [remark.partition(":")[0] for remark in remarks] == [str(torn), str(other)]
    assert "depth=ten" in remarks[1]
    assert spool.files() == [torn, other]
    assert len(found(made)) == 1


# ---------------------------------------------------------------------------------------------- sending


def test_offline_runs_are_sent_as_runs_are_that_were_never_offline(made: Store, store: Store, tmp_path: Path) -> None:
    runs = [prepared(seed=0), prepared(seed=1, probes=["spectrum"]), prepared(**DIVERGED)]
    spool = spool_of(made, tmp_path)
    for job, mine in enumerate(runs):
        with Writer(Link(None), spool) as writer:
            sink = writer.sink(job)
            assert writer.claim([sink], [mine]) is None
            run(mine, sink)
        assert (sink.waits, sink.run_id, sink.failure) == (True, None, "")
    assert runs_of(made) == []
    assert send(spool, made) == []
    expected = [undisturbed(store, [mine])[0] for mine in runs]
    assert found(made) == expected
    assert send(spool, made) == []
    assert found(made) == expected
    tags = [made.client.get_run(run_id).data.tags for run_id, _ in runs_of(made)]
    assert [it["bpexp.outcome"] for it in tags][2] == "diverged"
    files = {item.path for item in made.client.list_artifacts(runs_of(made)[1][0])}
    assert files == {"config.yaml", "curves.parquet", "layers.parquet", "spectra.parquet", "checkpoint.npz"}


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), "KILLED"), (ValueError("no such thing"), "FAILED")])
def test_offline_runs_that_do_not_come_to_their_end_are_continued_by_those_that_do(
    made: Store, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: str
) -> None:
    """Also where both wait: under the run's first start, its points are those of a run that was never cut off."""
    monkeypatch.setattr("bpexp.experiment.UPDATE_SECONDS", -1.0)
    spool, mine = spool_of(made, tmp_path), prepared()

    def stop(training: Training) -> None:
        step = training.last_step
        if step == 12:
            raise error

    with pytest.raises(type(error)):
        offline(spool, [mine], progress=stop)
    first = spool.files()
    kept = first[0].read_bytes()
    assert send(spool, made) == []
    ((run_id, ended),) = runs_of(made)
    assert ended == status
    assert made.client.get_run(run_id).data.tags["bpexp.error"].startswith(type(error).__name__)
    assert {step for key, step, *_ in points_of(path(made), run_id) if key == "loss/train"} == set(range(12))
    first[0].write_bytes(kept)  # as if nothing had been sent
    offline(spool, [mine])
    assert len(spool.files()) == 2
    assert send(spool, made) == []
    assert [found_id for found_id, _ in runs_of(made)] == [run_id]
    assert found(made) == undisturbed(store, [mine])
    first[0].write_bytes(kept)
    assert send(spool, made) == ["depth=4 width=6 lr=3: is finished in the store already"]
    assert spool.files() == []


def test_a_run_that_another_process_trains_stays(made: Store, tmp_path: Path) -> None:
    spool, mine = spool_of(made, tmp_path), prepared()
    offline(spool, [mine])
    code = f"""if True:
        import sys
        from bpexp.config import RunConfig, check
        from bpexp.experiment import NullSink, prepare, run
        from bpexp.tracking.sink import MlflowSink
        from bpexp.tracking.store import connect
        sink = MlflowSink(connect({made.uri!r}, "bpexp"))
        mine = prepare(check(RunConfig(depth=4, width=6, steps=20)))
        sink.open(mine)
        print("open", flush=True)
        sys.stdin.readline()
        sink.close(run(mine, NullSink()), 0.001)
    """
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], env=environment(), stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        (remark,) = send(spool, made)
        assert remark.startswith("depth=4 width=6 lr=3: a process trains this run (")
        assert len(spool.files()) == 1
        other.communicate("\n", timeout=60)
    assert send(spool, made) == ["depth=4 width=6 lr=3: is finished in the store already"]
    assert (spool.files(), len(found(made))) == ([], 1)


def test_a_run_made_anew_is_made_once(made: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the last thing that a sender did was to store its end."""
    spool, mine = spool_of(made, tmp_path), prepared()
    run(mine, MlflowSink(made))
    offline(spool, [mine], anew=True)
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "remove", lambda _spool, _account: None)
        assert send(spool, made) == []
    assert send(spool, made) == ["depth=4 width=6 lr=3: is finished in the store already"]
    assert len(found(made)) == 2


def test_an_offline_sweep_is_filed_under_its_parent_when_it_is_sent(made: Store, tmp_path: Path) -> None:
    spool = spool_of(made, tmp_path)
    runs = [prepared(seed=seed, tracking=TrackingConfig(parent="waiting")) for seed in range(2)]
    planned = [Planned([f"seed={seed}"], mine.fingerprint, f"run {seed}") for seed, mine in enumerate(runs)]
    sweep = SweepAccount("waiting", "bpexp", "seed=0,1", {"seed": "0,1"}, planned, owner())
    spool.put(sweep)
    offline(spool, runs)
    torn = spool.files()[0]
    whole = torn.read_bytes()
    torn.write_bytes(b"")
    assert [remark.rpartition(": ")[2] for remark in send(spool, made)] == ["it is empty", "this sweep goes on"]
    (put,) = [it for it in spool.entries() if isinstance(it, SweepAccount)]
    spool.put(replace(put, status="FINISHED"))
    torn.write_bytes(whole)
    assert send(spool, made) == []
    assert spool.files() == []
    found = {run.data.tags["bpexp.kind"]: run for run in made.client.search_runs([made.experiment_id])}
    head = found["sweep"]
    assert head.info.status == "FINISHED"
    nets = made.client.search_runs([made.experiment_id], f"tags.mlflow.parentRunId = '{head.info.run_id}'")
    assert {run.info.status for run in nets} == {"FINISHED"}
    manifest = json.loads(Path(made.client.download_artifacts(head.info.run_id, "manifest.json")).read_text())
    assert {job["run_id"] for job in manifest["jobs"]} == {run.info.run_id for run in nets}
    assert len(nets) == 2
    listed = json.loads(Path(made.client.download_artifacts(head.info.run_id, "runs.json")).read_text())
    assert {row[-1] for row in listed["data"]} == {run.info.run_id for run in nets}
    config = Path(made.client.download_artifacts(nets[0].info.run_id, "config.yaml")).read_text()
    assert f"parent: {head.info.run_id}\n" in config


# ---------------------------------------------------------------------------------------------- a database, a disk


@contextmanager
def held(store: Store) -> Iterator[Callable[[], None]]:
    """Another process has the database to itself, until what is yielded is called."""
    code = f"""if True:
        import sqlite3, sys
        connection = sqlite3.connect({path(store)!r}, isolation_level=None)
        connection.execute("begin exclusive")
        print("held", flush=True)
        sys.stdin.readline()
    """

    def release() -> None:
        process.communicate("\n", timeout=60)

    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield release
        process.kill()


@pytest.mark.parametrize("again", [True, False])
def test_a_database_that_is_locked_for_longer_than_one_waits(
    made: Store, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """Where it is free again while the run trains, it is told of it; else the run waits."""
    monkeypatch.setattr(database, "PATIENCE", 0.05)
    monkeypatch.setattr(link, "RETRY", 0.05)
    monkeypatch.setattr("bpexp.experiment.UPDATE_SECONDS", -1.0)
    runs, spool = [prepared(seed=seed) for seed in range(2)], spool_of(made, tmp_path)
    way = Link(lambda: made)
    with held(made) as release, Writer(way, spool) as writer:
        sinks = [writer.sink(job) for job in range(2)]

        def progress(training: Training) -> None:
            step, last = training.last_step, training.task.steps
            if step == 10:
                wait_until(lambda: way.why == "database is locked")
            if again and step == last:
                release()
                wait_until(lambda: all(sink.run_id for sink in sinks))

        run_stack(runs, sinks, progress)
    assert [sink.waits for sink in sinks] == [not again] * 2
    assert send(spool, made) == []
    assert found(made) == undisturbed(store, runs)


def folder_of(store: Store, sink: Tracked) -> Path:
    return Path(store.client.get_experiment(store.experiment_id).artifact_location, str(sink.run_id), "artifacts")


def spoilt(made: Store, tmp_path: Path, spoil: Callable[[Path], object]) -> tuple[list[Run], list[Tracked]]:
    """Three runs; something happens to where the second one's artifacts go, when all have trained."""
    runs, spool = [prepared(seed=seed) for seed in range(3)], spool_of(made, tmp_path)

    def progress(training: Training) -> None:
        step, last = training.last_step, training.task.steps
        if step == last:
            wait_until(lambda: sinks[1].run_id is not None)
            spoil(folder_of(made, sinks[1]))

    with Writer(Link(lambda: made), spool) as writer:
        sinks = [writer.sink(job) for job in range(3)]
        run_stack(runs, sinks, progress)
    return runs, sinks


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux alone has a file on a full disk")
@pytest.mark.parametrize("file", ["config.yaml", "checkpoint.npz"])
def test_a_full_disk_fails_the_run_that_meets_it(made: Store, store: Store, tmp_path: Path, file: str) -> None:
    def spoil(folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / file).symlink_to("/dev/full")

    assert_one_failed(made, store, *spoilt(made, tmp_path, spoil), "No space left on device")


@pytest.mark.soak
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root may mount")
@pytest.mark.parametrize("options", ["size=16k", "ro"])
def test_a_file_system_that_is_full_or_read_only_fails_the_run_that_meets_it(made: Store, store: Store, tmp_path: Path, options: str) -> None:
    mounted = []

    def spoil(folder: Path) -> None:
        folder.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
        mounted.append(folder)

    try:
        runs, sinks = spoilt(made, tmp_path, spoil)
    finally:
        for folder in mounted:
            subprocess.run(["umount", "-l", folder], check=True)
    assert_one_failed(made, store, runs, sinks, "No space left on device|Read-only file system")


@pytest.mark.skipif(sys.platform != "linux", reason="where nobody may write, root neither")
def test_a_folder_that_is_read_only_fails_the_run_that_meets_it(made: Store, store: Store, tmp_path: Path) -> None:
    def spoil(folder: Path) -> None:
        folder.parent.parent.mkdir(parents=True, exist_ok=True)
        folder.parent.symlink_to("/sys")

    assert_one_failed(made, store, *spoilt(made, tmp_path, spoil), "'/sys|artifacts'|not permitted|denied")


def assert_one_failed(made: Store, store: Store, runs: list[Run], sinks: list[Tracked], why: str) -> None:
    """The second of three: with its reason in MLflow, and with its points all the same."""
    assert [bool(sink.failure) for sink in sinks] == [False, True, False]
    assert not any(sink.waits for sink in sinks)
    assert [status for _, status in runs_of(made)] == ["FINISHED", "FAILED", "FINISHED"]
    told = made.client.get_run(str(sinks[1].run_id)).data.tags["bpexp.error"]
    assert any(part in told for part in why.split("|"))
    assert [points_of(path(made), sink.run_id) for sink in sinks] == undisturbed(store, runs)


# ---------------------------------------------------------------------------------------------- where it lies, and the command


def test_state_lies_beside_the_database_or_here(tmp_path: Path) -> None:
    server, file = "http://127.0.0.1:5000", f"sqlite:///{tmp_path}/data/mlflow.db"
    key = state_folder(server, tmp_path, None).name
    assert len(key) == 16
    assert state_folder(server, tmp_path, None) == tmp_path / ".bpexp" / key
    assert state_folder(file, tmp_path, None).parent == tmp_path / "data" / ".bpexp"
    assert state_folder(file, tmp_path, "elsewhere").parent == tmp_path / "elsewhere"
    assert state_folder(server, tmp_path, "/elsewhere") == Path("/elsewhere") / key


def test_a_secret_is_not_written_down(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who holds it has to say it again."""
    monkeypatch.chdir(tmp_path)
    uri = "http://me:verysecret@127.0.0.1:9"
    spool = Spool(Place(state_folder(uri, tmp_path, None), uri))
    offline(spool, [prepared()])
    assert not any(b"verysecret" in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    (place,) = places(tmp_path / ".bpexp")
    assert place.uri == "http://***@127.0.0.1:9"
    assert place.reached("http://127.0.0.1:9") is None
    assert place.reached(uri) == uri
    assert sync([]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"bpexp: 1 wait in {place.folder} for {place.uri}; its URI holds a secret: say uri=…, or set MLFLOW_TRACKING_URI\n"
    assert sync([f"uri={uri}"]) == 1
    assert "Connection refused" in capsys.readouterr().err


def test_offline_changes_no_fingerprint() -> None:
    config = RunConfig()
    assert fingerprint(replace(config, offline=True), "x") == fingerprint(config, "x")
    assert "offline" not in untracked(config)


def test_a_run_typed_offline_and_sent_by_the_command(tmp_path: Path) -> None:
    """No store is made before there is something to tell it."""
    typed = command(tmp_path, "depth=3", "width=4", "steps=5", "offline=true")
    assert typed.returncode == 0, typed.stderr
    assert not (tmp_path / "mlflow.db").exists()
    assert typed.stderr.startswith("bpexp: 1 run waits in ")
    assert typed.stderr.endswith(" (offline=true); python -m bpexp.sync sends what waits\n")
    sent = command(tmp_path, module="bpexp.sync")
    assert (sent.returncode, sent.stderr) == (0, "")
    assert sent.stdout.splitlines()[0].startswith("depth=3 width=4 lr=3: ")
    assert query(tmp_path / "mlflow.db", "select status from runs") == [("FINISHED",)]
    wrong = command(tmp_path, "folder", module="bpexp.sync")
    assert (wrong.returncode, wrong.stderr) == (2, "bpexp: folder: must be written key=value\n")
