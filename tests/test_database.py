"""What is written straight into MLflow's tables is what MLflow's client would have written."""

import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import IntegrityError

from bpexp.config import InitConfig, RunConfig, TrackingConfig, check
from bpexp.core.records import Records
from bpexp.experiment import NullSink, Run, prepare, run
from bpexp.tracking import database
from bpexp.tracking.backend import Client
from bpexp.tracking.database import REVISIONS, Database
from bpexp.tracking.owner import marks
from bpexp.tracking.points import Points, series
from bpexp.tracking.sink import MlflowSink
from bpexp.tracking.store import Store, connect, resolve
from tests.cli import environment, query

TINY, HUGE = 5e-324, 1.7976931348623157e308


def made(folder: Path) -> Store:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # where MLflow puts the artifacts
        return connect(resolve(None, folder), "bpexp")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return made(tmp_path_factory.mktemp("store"))


def through_client(store: Store) -> Store:
    """The same store, whose runs go through MLflow's client."""
    return Store(store.client, store.uri, store.experiment_id, Client(store.client))


def trained(**changes: object) -> tuple[Run, Records]:
    settings: dict[str, object] = {"depth": 4, "width": 6, "steps": 30} | changes
    prepared = prepare(check(RunConfig(**settings)))  # type: ignore[arg-type]
    return prepared, run(prepared, NullSink())


def points(*rows: tuple[str, float, int, int]) -> Points:
    names, values, timestamps, steps = zip(*rows, strict=True)
    return Points(np.array(names, object), np.array(values, float), np.array(timestamps), np.array(steps))


def table(store: Store, name: str, columns: str, run_id: str) -> list[tuple[Any, ...]]:
    return sorted(query(store.uri.removeprefix("sqlite:///"), f"select {columns} from {name} where run_uuid = ?", run_id))


METRIC = "key, value, timestamp, step, is_nan, typeof(value), typeof(timestamp), typeof(step), typeof(is_nan)"

VALUES = [0.0, -0.0, 1.5, -2.5, TINY, -TINY, 2.2250738585072014e-308, HUGE, -HUGE, 1e300, 0.1, 1 / 3, np.nan, np.inf, -np.inf]
ODD = [("odd", value, 1000 + step, step) for step, value in enumerate(VALUES)]
BATCHES = {
    "all kinds of values": [ODD],
    "sent again": [ODD, ODD],
    "sent again in part": [ODD[:6], ODD[3:]],
    "twice in a batch": [[*ODD, *ODD]],
    "twice in a batch and sent before": [ODD[2:4], [*ODD, *ODD]],
    "out of order": [[("m", 1.0, 5, 5), ("m", 2.0, 3, 3)], [("m", 3.0, 4, 4)], [("m", 4.0, 6, 6), ("m", 0.0, 1, 1)]],
    "at one step, the later time is the latest": [[("m", 1.0, 50, 2), ("m", 9.0, 40, 2)], [("m", 8.0, 45, 2)], [("m", -1.0, 60, 2)]],
    "at one step and time, the greater value is the latest": [
        [("m", 1.0, 5, 2), ("m", 3.0, 5, 2), ("m", 2.0, 5, 2)],
        [("m", 2.5, 5, 2)],
        [("m", 4.0, 5, 2)],
    ],
    "a NaN ties with zero, and the first one stays": [[("a", np.nan, 5, 2), ("a", 0.0, 5, 2), ("b", 0.0, 5, 2), ("b", np.nan, 5, 2)]],
    "a NaN ties with a zero that is stored, and the reverse": [[("a", np.nan, 5, 2), ("b", 0.0, 5, 2)], [("a", 0.0, 5, 2), ("b", np.nan, 5, 2)]],
    "a NaN is the latest of negative ones": [[("a", -1.0, 5, 2), ("a", np.nan, 5, 2)], [("a", -2.0, 5, 2)]],
    "negative steps": [[("m", 1.0, 5, -3), ("m", 2.0, 6, -4)]],
    "many metrics": [
        [(f"layer_{k % 300:03d}", k * 0.1, 10 + k // 300, k // 300) for k in range(900)],
        [(f"layer_{k:03d}", 1.0, 12, 2) for k in range(600)],
    ],
}


@pytest.mark.parametrize("batches", BATCHES.values(), ids=BATCHES)
def test_the_points_that_the_client_would_store(store: Store, batches: list[list[tuple[str, float, int, int]]]) -> None:
    """Two runs each, their batches by turns: what one run has leaves the other alone."""
    direct, client = ([store.client.create_run(store.experiment_id).info.run_id for _ in range(2)] for _ in range(2))
    for batch in batches:
        for position, part in enumerate((batch, batch[::-1])):
            store.backend.log(direct[position], points(*part), {})
            store.client.log_batch(client[position], metrics=[Metric(*row) for row in part])
    assert isinstance(store.backend, Database)
    for ours, theirs in zip(direct, client, strict=True):
        for name in ("metrics", "latest_metrics"):
            assert table(store, name, METRIC, ours) == table(store, name, METRIC, theirs) != []
        history = {key: store.client.get_metric_history(ours, key) for key in {row[0] for batch in batches for row in batch}}
        for key, found in history.items():
            assert repr([(it.value, it.step, it.timestamp) for it in found]) == repr(
                [(it.value, it.step, it.timestamp) for it in store.client.get_metric_history(theirs, key)]
            )


def test_random_points_in_random_batches(store: Store) -> None:
    """A few keys, steps, times and values, so that all kinds of ties come up."""
    rng = np.random.default_rng(7)
    direct, client = (store.client.create_run(store.experiment_id).info.run_id for _ in range(2))
    for _ in range(25):
        drawn = rng.integers(0, (4, 4, 3, 3), (20, 4)).tolist()
        picked = [(f"k{key}", (-1.0, 0.0, np.nan, 2.0)[value], time, step) for key, value, time, step in drawn]
        store.backend.log(direct, points(*picked), {})
        store.client.log_batch(client, metrics=[Metric(*row) for row in picked])
        for name in ("metrics", "latest_metrics"):
            assert table(store, name, METRIC, direct) == table(store, name, METRIC, client)


def test_more_points_than_a_transaction_takes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "TRANSACTION", 1500)
    run_id = store.client.create_run(store.experiment_id).info.run_id
    steps = np.arange(4001)
    store.backend.log(run_id, Points.of([(np.full(len(steps), "x", object), steps, steps / 7)], 10), {"a": "1"}, "FINISHED")
    assert table(store, "metrics", "step, value, timestamp", run_id) == [(step, step / 7, step + 10) for step in range(4001)]
    found = store.client.get_run(run_id)
    assert (found.data.metrics, found.info.status) == ({"x": 4000 / 7}, "FINISHED")


def shown(store: Store, run_id: str) -> dict[str, object]:
    """Everything that MLflow tells of a run but its identity and its times."""
    found = store.client.get_run(run_id)
    files = {item.path: item.is_dir for item in store.client.list_artifacts(run_id)}
    told = store.client.download_artifacts(run_id, "config.yaml") if files else None
    info = dict(found.info)
    start, end = info.pop("start_time"), info.pop("end_time")
    assert isinstance(start, int)
    assert info.pop("run_id") == run_id
    assert info.pop("artifact_uri") == f"{store.client.get_experiment(store.experiment_id).artifact_location}/{run_id}/artifacts"
    info.pop("run_uuid", None)  # its older name
    assert found.inputs is not None
    inputs = [(dict(item.dataset), [dict(tag) for tag in item.tags]) for item in found.inputs.dataset_inputs]
    return {
        "info": info,
        "ended": end is not None and start <= end,
        "params": found.data.params,
        "tags": found.data.tags,
        "metrics": {key: value for key, value in found.data.metrics.items() if key != "summary/step_seconds"},
        "inputs": inputs,
        "files": files,
        "config": told and Path(told).read_text(),
    }


RUN = "name, source_type, source_name, entry_point_name, user_id, status, source_version, lifecycle_stage, experiment_id, deleted_time"


@pytest.mark.parametrize("end", ["closed", "aborted", "open"])
def test_a_run_that_the_client_would_have_made(store: Store, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = marks()
    monkeypatch.setattr("bpexp.tracking.sink.marks", lambda: now)  # a heartbeat is a time
    tracking = TrackingConfig(run_name="a 'name' with \"quotes\" and ‖δ‖", parent=store.client.create_run(store.experiment_id).info.run_id)
    prepared, records = trained(tracking=tracking, data=RunConfig().data)
    sinks = [MlflowSink(each, job=3) for each in (store, through_client(store))]
    for sink in sinks:
        sink.open(prepared)
        if end == "closed":
            sink.close(records, 0.001)
        elif end == "aborted":
            sink.update(records)
            sink.abort(RuntimeError("power cut"))
    direct, client = (str(sink.run_id) for sink in sinks)
    assert shown(store, direct) == shown(store, client)
    assert shown(store, direct)["inputs"]
    for name, columns in {"runs": RUN, "params": "key, value", "tags": "key, value"}.items():
        assert table(store, name, columns, direct) == table(store, name, columns, client) != []
    assert len(table(store, "metrics", "key, value, step", direct)) == len(table(store, "metrics", "key, value, step", client))


def test_an_end_is_final_either_way(store: Store) -> None:
    prepared, records = trained()
    for each in (store, through_client(store)):
        sink = MlflowSink(each)
        sink.open(prepared)
        sink.close(records, 0.001)
        sink.abort(RuntimeError("a neighbour failed"))
        found = store.client.get_run(str(sink.run_id))
        assert found.info.status == "FINISHED"
        assert "bpexp.error" not in found.data.tags


def test_a_data_set_is_stored_once(store: Store) -> None:
    prepared, _ = trained(data=RunConfig().data)
    for each in (store, through_client(store), store):
        MlflowSink(each).open(prepared)
    path = store.uri.removeprefix("sqlite:///")
    assert len(query(path, "select distinct dataset_uuid from datasets where digest = ?", prepared.dataset.checksum)) == 1
    assert query(path, "pragma foreign_key_check") == []
    assert query(path, "pragma integrity_check") == [("ok",)]


def test_nothing_is_written_into_the_bin(store: Store) -> None:
    prepared, records = trained()
    other = connect(store.uri, "thrown away")
    sink = MlflowSink(other)
    sink.open(prepared)
    other.client.delete_run(str(sink.run_id))
    with pytest.raises(MlflowException, match=f"run {sink.run_id} is in the bin"):
        sink.update(records)
    other.client.delete_experiment(other.experiment_id)
    with pytest.raises(MlflowException, match=f"experiment {other.experiment_id} is in the bin"):
        MlflowSink(other).open(prepared)
    with pytest.raises(MlflowException, match="run 0123 is not there"):
        store.backend.log("0123", points(("m", 1.0, 1, 1)), {})
    assert table(store, "metrics", "key", "0123") == table(store, "metrics", "key", str(sink.run_id)) == []


def test_calls_together_are_stored_at_the_end_or_not_at_all(store: Store) -> None:
    prepared, _ = trained()
    sinks = [MlflowSink(store) for _ in range(3)]
    with store.backend.together():
        for sink in sinks:
            sink.open(prepared)
        assert not [row for sink in sinks for row in table(store, "runs", "name", str(sink.run_id))]
    assert [store.client.get_run(str(sink.run_id)).info.status for sink in sinks] == ["RUNNING"] * 3
    lost = MlflowSink(store)

    def fails() -> None:
        with store.backend.together():
            lost.open(prepared)
            store.backend.log("nobody's", points(("m", 1.0, 1, 1)), {})

    with pytest.raises(MlflowException, match="nobody's is not there"):
        fails()
    lost.abort(RuntimeError("it never was"))
    assert table(store, "runs", "name", str(lost.run_id)) == []


def test_what_no_column_takes_is_refused_whole(store: Store) -> None:
    run_id = store.client.create_run(store.experiment_id).info.run_id
    bad = Points(np.array(["good", None], object), np.ones(2), np.ones(2, int), np.ones(2, int))
    with pytest.raises(IntegrityError):
        store.backend.log(run_id, bad, {})
    assert table(store, "metrics", "key", run_id) == []


def test_other_tables_go_through_the_client(tmp_path: Path) -> None:
    store = made(tmp_path)
    assert isinstance(store.backend, Database)
    assert store.remark is None
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        assert connection.execute("select version_num from alembic_version").fetchall() == [(REVISIONS[-1],)]
        connection.execute("update alembic_version set version_num = 'of tomorrow'")
    assert Database.of(store.client) is None
    assert str(through_client(store).remark).startswith(f"tracking.uri={store.uri}: points go through MLflow's client")


WRITERS, RUNS, STEPS = 4, 8, 1000


def test_four_processes_lose_nothing(tmp_path: Path) -> None:
    """While a fifth holds the database again and again."""
    store = made(tmp_path)
    code = f"""if True:
        import numpy as np
        from bpexp.tracking.points import Points, series
        from bpexp.tracking.store import connect
        from tests.cli import forked
        def write(_number):
            store = connect({store.uri!r}, "bpexp")
            for _ in range({RUNS}):
                run_id = store.client.create_run(store.experiment_id).info.run_id
                names = np.array([f"m{{k}}" for k in range(3)] * {STEPS}, object)
                steps = np.repeat(np.arange({STEPS}), 3)
                store.backend.log(run_id, Points.of([(names, steps, np.sqrt(steps))], 5), {{"done": "yes"}}, "FINISHED")
        forked({WRITERS}, write)
    """
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
    runs = "select count(*) from runs"
    while not query(tmp_path / "mlflow.db", runs)[0][0]:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None, timeout=120)) as connection:
        for _ in range(5):
            connection.execute("begin exclusive")
            connection.execute("select 1").fetchall()
            connection.execute("commit")
    assert query(tmp_path / "mlflow.db", runs)[0][0] < WRITERS * RUNS  # they are still at it
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    counted = query(tmp_path / "mlflow.db", "select count(*), count(distinct run_uuid), min(value), max(value) from metrics")
    assert counted == [(WRITERS * RUNS * STEPS * 3, WRITERS * RUNS, 0.0, float(np.sqrt(STEPS - 1)))]
    latest = query(tmp_path / "mlflow.db", "select count(*), min(step), max(step) from latest_metrics")
    assert latest == [(WRITERS * RUNS * 3, STEPS - 1, STEPS - 1)]
    assert query(tmp_path / "mlflow.db", "select distinct status from runs") == [("FINISHED",)]


@pytest.mark.parametrize("after", [-1, 1])
def test_points_in_columns_are_the_points_one_by_one(after: int) -> None:
    """The layers' points, from the records row by row; some are too small for float64."""
    prepared, records = trained(depth=600, width=4, steps=3, init=InitConfig(name="standard"))
    found = Points.of(series(records, prepared.config, after), 100)
    assert (found.timestamps == found.steps + 100).all()
    columns = (found.names.tolist(), found.steps.tolist(), found.values.tolist())
    rows = {(name, step): value for name, step, value in zip(*columns, strict=True) if "layer_" in name}
    expected: dict[tuple[str, int], float] = {}
    for norm in ("grad_norm", "delta_norm"):
        layers = [records.layers[name].tolist() for name in ("step", "layer", f"log10_{norm}")]
        for step, layer, value in zip(*layers, strict=True):
            if step > after and value >= np.log10(np.finfo(float).tiny):
                expected[f"{norm}/layer_{layer:03d}", step] = 10.0**value
    assert rows == expected
    assert 0 < len(rows) < 2 * 600 * (3 - max(after, -1))
