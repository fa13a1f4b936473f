"""Training goes on while a store is slow, and nothing is lost."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from bpexp.config import RunConfig, TrackingConfig, check
from bpexp.core.records import Records
from bpexp.experiment import NullSink, Run, prepare, run, run_stack
from bpexp.tracking import writer as module
from bpexp.tracking.backend import Client
from bpexp.tracking.sink import MlflowSink
from bpexp.tracking.store import Store, connect
from bpexp.tracking.writer import Writer
from tests.cli import environment, query

METRICS = "select key, step, value from metrics where run_uuid = ? and key <> 'summary/step_seconds' order by key, step, value"


def prepared(count: int = 1) -> list[Run]:
    return [prepare(check(RunConfig(depth=4, width=6, steps=30, seed=seed))) for seed in range(count)]


def path(store: Store) -> str:
    return store.uri.removeprefix("sqlite:///")


def points(store: Store, sink: MlflowSink) -> list[tuple[object, ...]]:
    return query(path(store), METRICS, sink.run_id)


def status(store: Store, sink: MlflowSink) -> str:
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


def test_a_stack_trains_to_its_end_while_the_database_is_locked(store: Store) -> None:
    runs = prepared(5)
    sinks, plain = ([MlflowSink(store, job=job) for job in range(5)] for _ in range(2))
    steps = []

    def progress(step: int, last: int) -> None:
        steps.append(step)
        if step == last:
            release()

    with Writer(store.backend.together) as writer, locked(store) as release:
        run_stack(runs, [writer.wrap(sink) for sink in sinks], progress)
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


def test_of_updates_that_wait_the_newest_is_kept(store: Store) -> None:
    (mine,) = prepared()
    records = run(mine, NullSink())
    sink, other = MlflowSink(store), MlflowSink(store)
    with Writer(store.backend.together) as writer, locked(store) as release:
        wrapped = writer.wrap(sink)
        wrapped.open(mine)
        sizes = []
        for last in range(30):
            wrapped.update(cut(records, last))
            assert sum(call.method == "update" for call in writer.waiting) <= 1
            sizes.append(writer.size)
        assert sizes[-1] < 2 * max(sizes[:2]) + sum(column.nbytes for part in (records.curves, records.layers) for column in part.values())
        other_wrapped = writer.wrap(other)
        other_wrapped.open(mine)
        other_wrapped.update(cut(records, 3))
        assert [call.method for call in writer.waiting if call.sink is other] == ["open", "update"]
        release()
    found = {(key, step) for key, step, _ in points(store, sink)}
    assert {step for _, step in found} == set(range(30))
    assert {step for _, step, _ in points(store, other)} == set(range(4))


def test_a_close_makes_the_update_before_it_needless(store: Store) -> None:
    (mine,) = prepared()
    records = run(mine, NullSink())
    sink = MlflowSink(store)
    with Writer(store.backend.together) as writer, locked(store) as release:
        wrapped = writer.wrap(sink)
        wrapped.open(mine)
        wrapped.update(cut(records, 9))
        wrapped.close(records, 0.001)
        assert [call.method for call in writer.waiting if call.method != "open"] == ["close"]
        release()
    assert writer.size == 0
    assert status(store, sink) == "FINISHED"
    assert {step for key, step, _ in points(store, sink) if key == "loss/train"} == set(range(31))


def test_what_waits_can_not_be_changed_any_more(store: Store) -> None:
    (mine,) = prepared()
    records = run(mine, NullSink())
    sinks = [MlflowSink(store) for _ in range(3)]
    sinks[2].open(mine)
    sinks[2].close(records, 0.001)
    with Writer(store.backend.together) as writer, locked(store) as release:
        for sink in sinks[:2]:
            writer.wrap(sink).open(mine)
        writer.wrap(sinks[0]).close(records, 0.001)
        writer.wrap(sinks[1]).update(records)
        for part in (records.curves, records.layers):
            for column in part.values():
                column[...] = 7
        release()
    assert points(store, sinks[0]) == points(store, sinks[2])
    assert set(points(store, sinks[1])) < set(points(store, sinks[2]))


@pytest.mark.parametrize("ending", [KeyboardInterrupt(), SystemExit(143), ValueError("no such thing")])
def test_runs_that_do_not_come_to_their_end_say_why(store: Store, ending: BaseException) -> None:
    sinks = [MlflowSink(store, job=job) for job in range(3)]

    def progress(step: int, _last: int) -> None:
        if step == 20:
            raise ending

    with pytest.raises(type(ending)), Writer(store.backend.together) as writer:
        run_stack(prepared(3), [writer.wrap(sink) for sink in sinks], progress)
    expected = "FAILED" if isinstance(ending, ValueError) else "KILLED"
    assert [status(store, sink) for sink in sinks] == [expected] * 3
    assert all(store.client.get_run(str(sink.run_id)).data.tags["bpexp.error"].startswith(type(ending).__name__) for sink in sinks)


def test_an_error_of_the_store_stops_the_training_at_its_next_call(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bpexp.experiment.UPDATE_SECONDS", -1.0)
    sinks = [MlflowSink(store, job=job) for job in range(3)]
    last = []

    def progress(step: int, _last: int) -> None:
        last.append(step)
        if step == 5:
            wait_until(lambda: bool(sinks[1].run_id and query(path(store), "select * from runs where run_uuid = ?", sinks[1].run_id)))
            store.client.delete_run(str(sinks[1].run_id))
        if step > 5:
            writer.thread.join(timeout=1)

    with pytest.raises(MlflowException, match=f"run {sinks[1].run_id or ''}.* is in the bin"), Writer(store.backend.together) as writer:
        run_stack(prepared(3), [writer.wrap(sink) for sink in sinks], progress)
    assert last[-1] < 30
    assert [status(store, sink) for sink in (sinks[0], sinks[2])] == ["FAILED"] * 2


def test_an_error_of_the_store_at_the_end_is_raised_there(store: Store) -> None:
    """A file stands where one run's artifacts would go; the other one's are there."""
    runs = prepared(2)
    sinks = [MlflowSink(store, job=job) for job in range(2)]

    def progress(step: int, last: int) -> None:
        if step == last:
            wait_until(lambda: sinks[1].run_id is not None)
            folder = Path(store.client.get_experiment(store.experiment_id).artifact_location, str(sinks[1].run_id))
            folder.parent.mkdir(exist_ok=True)
            folder.write_text("no folder")

    writer = Writer(store.backend.together)
    trained = []
    with pytest.raises(NotADirectoryError), writer:
        trained += run_stack(runs, [writer.wrap(sink) for sink in sinks], progress)
    assert len(trained) == 2
    assert status(store, sinks[1]) == "FAILED"
    assert status(store, sinks[0]) in {"FINISHED", "FAILED"}
    assert "summary/final_loss" in store.client.get_run(str(sinks[1].run_id)).data.metrics  # what was measured is kept


def test_a_run_waits_for_room(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FULL", 1)
    (mine,) = prepared()
    records = run(mine, NullSink())
    sinks = [MlflowSink(store) for _ in range(2)]
    opened = threading.Event()

    def second() -> None:
        writer.wrap(sinks[1]).open(mine)
        opened.set()

    with Writer(store.backend.together) as writer:
        with locked(store) as release:
            writer.wrap(sinks[0]).open(mine)
            writer.wrap(sinks[0]).close(records, 0.001)
            thread = threading.Thread(target=second)
            thread.start()
            assert not opened.wait(0.5)
            release()
        thread.join(60)
    assert [status(store, sink) for sink in sinks] == ["FINISHED", "RUNNING"]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_interruption_of_the_last_wait_ends_the_run(store: Store) -> None:
    code = f"""if True:
        from bpexp.config import RunConfig, check
        from bpexp.experiment import prepare, run
        from bpexp.tracking.sink import MlflowSink
        from bpexp.tracking.store import connect
        from bpexp.tracking.writer import Writer
        store, prepared = connect({store.uri!r}, "interrupted"), prepare(check(RunConfig(depth=2, width=4, steps=5)))
        input()
        class Told(Writer):
            def _wait(self):
                print("waiting", flush=True)
                super()._wait()
        with Told(store.backend.together) as writer:
            run(prepared, writer.wrap(MlflowSink(store)))
    """
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", code], env=environment(), stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        wait_until(lambda: store.client.get_experiment_by_name("interrupted") is not None)
        with locked(store) as release:
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "waiting\n"
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)  # for the signal to arrive: the process waits for the database, that is, for the next line
            release()
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert errors.rstrip().endswith("KeyboardInterrupt")
    experiment = store.client.get_experiment_by_name("interrupted")
    assert experiment is not None
    assert [run.info.status for run in store.client.search_runs([experiment.experiment_id])] == ["KILLED"]


@contextmanager
def server(folder: Path) -> Iterator[tuple[str, int]]:
    """A real server on this machine: its address and its process group."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--backend-store-uri"]
    line += [f"sqlite:///{folder}/served.db", "--artifacts-destination", str(folder / "artifacts")]
    process = subprocess.Popen(line, cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    uri = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None
        with suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    try:
        wait_until(answers)
        yield uri, process.pid
    finally:
        os.killpg(process.pid, signal.SIGCONT)
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def test_a_run_trains_while_a_server_stands_still(tmp_path: Path, store: Store) -> None:
    """To a server go the points that go to a database."""
    runs = prepared(2)
    with server(tmp_path) as (uri, group):
        served = connect(uri, "bpexp")
        assert isinstance(served.backend, Client)
        assert str(served.remark).startswith(f"bpexp: tracking.uri={uri}: points go through MLflow's client")
        sinks, plain = ([MlflowSink(each, job=job) for job in range(2)] for each in (served, store))
        os.killpg(group, signal.SIGSTOP)

        def progress(step: int, last: int) -> None:
            if step == last:
                os.killpg(group, signal.SIGCONT)

        with Writer(served.backend.together) as writer:
            run_stack(runs, [writer.wrap(sink) for sink in sinks], progress)
        run_stack(runs, plain)
        for sink, other in zip(sinks, plain, strict=True):
            found, expected = served.client.get_run(str(sink.run_id)), store.client.get_run(str(other.run_id))
            assert found.info.status == "FINISHED"
            assert found.data.params == expected.data.params
            assert found.data.tags == expected.data.tags
            checkpoint = np.load(served.client.download_artifacts(str(sink.run_id), "checkpoint.npz"))
            assert checkpoint.files
            assert query(tmp_path / "served.db", METRICS, sink.run_id) == points(store, other)
