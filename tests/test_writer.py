"""Training goes on while a store is slow, and nothing is lost."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from bpexp.config import RunConfig, TrackingConfig, check
from bpexp.core.records import Records
from bpexp.core.training import Training
from bpexp.experiment import NullSink, Run, prepare, run, run_stack
from bpexp.tracking.link import Link
from bpexp.tracking.place import Place, state_folder
from bpexp.tracking.sink import MlflowSink
from bpexp.tracking.spool import Spool
from bpexp.tracking.store import Store, connect
from bpexp.tracking.tracked import Tracked
from bpexp.tracking.writer import Writer
from tests.cli import environment, query
from tests.served import wait_until

METRICS = "select key, step, value from metrics where run_uuid = ? and key <> 'summary/step_seconds' order by key, step, value"


def prepared(count: int = 1) -> list[Run]:
    return [prepare(check(RunConfig(depth=4, width=6, steps=30, seed=seed))) for seed in range(count)]


def path(store: Store) -> str:
    return store.uri.removeprefix("sqlite:///")


def writer_to(store: Store, folder: Path) -> Writer:
    return Writer(Link(lambda: store), Spool(Place(folder, store.uri)), anew=True)


def points(store: Store, sink: MlflowSink | Tracked) -> list[tuple[object, ...]]:
    return query(path(store), METRICS, sink.run_id)


def status(store: Store, sink: MlflowSink | Tracked) -> str:
    return str(store.client.get_run(str(sink.run_id)).info.status)


@contextmanager
def locked(store: Store) -> Iterator[Callable[[], None]]:
    """Nobody else reads or writes the database, until what is yielded is called."""
    connection = sqlite3.connect(path(store), isolation_level=None, timeout=60, check_same_thread=False)
    connection.execute("begin exclusive")
    try:
        yield connection.rollback
    finally:
        connection.close()


def test_a_stack_trains_to_its_end_while_the_database_is_locked(store: Store, tmp_path: Path) -> None:
    runs = prepared(5)
    plain = [MlflowSink(store, job=job) for job in range(5)]
    steps = []

    def progress(training: Training) -> None:
        step, last = training.last_step, training.task.steps
        steps.append(step)
        if step == last:
            release()

    with writer_to(store, tmp_path) as writer, locked(store) as release:
        sinks = [writer.sink(job) for job in range(5)]
        run_stack(runs, sinks, progress)
    assert steps == list(range(31))
    run_stack(runs, plain)
    for sink, other in zip(sinks, plain, strict=True):
        assert status(store, sink) == "FINISHED"
        assert points(store, sink) == points(store, other) != []
        files = {Path(item.path).name for item in store.client.list_artifacts(str(sink.run_id))}
        assert files == {"config.yaml", "curves.parquet", "layers.parquet", "checkpoint.npz"}


def test_weights_are_kept_unless_one_asks_for_less(store: Store) -> None:
    for checkpoint in (True, False):
        mine = prepare(check(RunConfig(depth=2, width=3, steps=2, tracking=TrackingConfig(checkpoint=checkpoint))))
        sink = MlflowSink(store)
        run(mine, sink)
        files = {Path(item.path).name for item in store.client.list_artifacts(str(sink.run_id))}
        assert files == {"config.yaml", "curves.parquet", "layers.parquet"} | ({"checkpoint.npz"} if checkpoint else set())


def cut(records: Records, last: int) -> Records:
    """Records up to a step, as views into the whole."""
    layers = {name: column[records.layers["step"] <= last] for name, column in records.layers.items()}
    return replace(records, curves={name: column[: last + 1] for name, column in records.curves.items()}, layers=layers)


def test_of_updates_that_wait_the_newest_is_told(store: Store, tmp_path: Path) -> None:
    runs = prepared(2)
    records = run(runs[0], NullSink())
    with writer_to(store, tmp_path) as writer:
        sinks = [writer.sink() for _ in range(2)]
        with locked(store) as release:
            for sink, mine in zip(sinks, runs, strict=True):
                sink.open(mine)
            for last in range(30):
                sinks[0].update(cut(records, last))
            sinks[1].update(cut(records, 3))
            release()
    assert {step for _, step, _ in points(store, sinks[0])} == set(range(30))
    assert {step for _, step, _ in points(store, sinks[1])} == set(range(4))


def test_what_waits_can_not_be_changed_any_more(store: Store, tmp_path: Path) -> None:
    runs = prepared(2)
    records = run(runs[0], NullSink())
    plain = MlflowSink(store)
    plain.open(runs[0])
    plain.close(records, 0.001)
    with writer_to(store, tmp_path) as writer, locked(store) as release:
        sinks = [writer.sink() for _ in range(2)]
        for sink, mine in zip(sinks, runs, strict=True):
            sink.open(mine)
        sinks[0].close(records, 0.001)
        sinks[1].update(records)
        for part in (records.curves, records.layers):
            for column in part.values():
                column[...] = 7
        release()
    assert points(store, sinks[0]) == points(store, plain)
    assert set(points(store, sinks[1])) < set(points(store, plain))


@pytest.mark.parametrize("ending", [KeyboardInterrupt(), SystemExit(143), ValueError("no such thing")])
def test_runs_that_do_not_come_to_their_end_say_why(store: Store, tmp_path: Path, ending: BaseException) -> None:
    writer = writer_to(store, tmp_path)
    sinks = [writer.sink(job) for job in range(3)]

    def progress(training: Training) -> None:
        step = training.last_step
        if step == 20:
            raise ending

    with pytest.raises(type(ending)), writer:
        run_stack(prepared(3), sinks, progress)
    expected = "FAILED" if isinstance(ending, ValueError) else "KILLED"
    assert [status(store, sink) for sink in sinks] == [expected] * 3
    assert all(store.client.get_run(str(sink.run_id)).data.tags["bpexp.error"].startswith(type(ending).__name__) for sink in sinks)


def test_an_error_of_one_run_ends_that_run_alone(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is thrown into the bin while it trains; another one finds a file where its artifacts would go."""
    monkeypatch.setattr("bpexp.experiment.UPDATE_SECONDS", -1.0)
    runs = prepared(4)
    steps = []

    def progress(training: Training) -> None:
        step, last = training.last_step, training.task.steps
        steps.append(step)
        if step == 5:
            wait_until(lambda: all(sink.run_id for sink in sinks))
            store.client.delete_run(str(sinks[1].run_id))
        if step == last:
            folder = Path(store.client.get_experiment(store.experiment_id).artifact_location, str(sinks[2].run_id))
            folder.parent.mkdir(exist_ok=True)
            folder.write_text("no folder")

    with writer_to(store, tmp_path) as writer:
        sinks = [writer.sink(job) for job in range(4)]
        run_stack(runs, sinks, progress)
    assert steps == list(range(31))
    assert [status(store, sink) for sink in sinks] == ["FINISHED", "RUNNING", "FAILED", "FINISHED"]
    assert [sink.failure.partition(":")[0] for sink in sinks] == ["", "MlflowException", "NotADirectoryError", ""]
    told = store.client.get_run(str(sinks[2].run_id)).data
    assert told.tags["bpexp.error"] == sinks[2].failure
    assert "summary/final_loss" in told.metrics  # what was measured is kept
    plain = [MlflowSink(store, job=job) for job in range(4)]
    run_stack(runs, plain)
    for job in (0, 2, 3):
        assert points(store, sinks[job]) == points(store, plain[job])
    assert [sink.waits for sink in sinks] == [False, True, False, False]  # the store took no word of the second one


def test_an_interruption_of_the_last_wait_leaves_the_run_in_the_spool(store: Store) -> None:
    """The database stays locked: the process ends all the same, and of the run, which had come to its end, nothing is lost."""
    code = f"""if True:
        from pathlib import Path
        from bpexp.config import RunConfig, TrackingConfig, check
        from bpexp.experiment import prepare, run
        from bpexp.tracking.writer import Writer
        config = check(RunConfig(depth=2, width=4, steps=5, tracking=TrackingConfig(experiment="interrupted")))
        prepared = prepare(config)
        class Told(Writer):
            def _wait(self, seconds):
                print("waiting", flush=True)
                super()._wait(seconds)
        with Told.to({store.uri!r}, config, Path.cwd()) as writer:
            with writer.link.attempt():
                print("connected", flush=True)
                input()
            run(prepared, writer.sink())
    """
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", code], env=environment(), stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "connected\n"
        with locked(store):
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "waiting\n"
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert errors.rstrip().endswith("KeyboardInterrupt")
    spool = Spool(Place(state_folder(store.uri, Path.cwd(), None), store.uri))
    assert len(spool.files()) == 1
    sent = spool.send(partial(connect, store.uri))
    assert [name for name, _ in sent.counts] == ["depth=2 width=4 lr=3"]
    experiment = store.client.get_experiment_by_name("interrupted")
    assert experiment is not None
    assert [run.info.status for run in store.client.search_runs([experiment.experiment_id])] == ["FINISHED"]
