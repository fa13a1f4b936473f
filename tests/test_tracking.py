"""The sink and the reader against a real SQLite store."""

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bpexp
from bpexp.config import ConfigError, DataConfig, RunConfig, TrackingConfig, aside, check, keys
from bpexp.core.records import Records
from bpexp.experiment import NullSink, Run, prepare, run
from bpexp.tracking.backend import Client
from bpexp.tracking.kept import REPORT
from bpexp.tracking.parent import Planned, SweepRun
from bpexp.tracking.points import LOSS_POINTS, Points
from bpexp.tracking.reader import FRAMES, NoRunsError, load_runs
from bpexp.tracking.sink import MlflowSink, run_name
from bpexp.tracking.store import Store, connect, exists, resolve
from tests.cli import environment, query
from tests.docs.names import numberless, tags_in_the_code, told


def trained(**changes: object) -> tuple[Run, Records]:
    settings: dict[str, object] = {"depth": 4, "width": 6, "steps": 30} | changes
    prepared = prepare(check(RunConfig(**settings)))  # type: ignore[arg-type]
    return prepared, run(prepared, NullSink())


def rows(store: Store, run_id: str | None) -> set[tuple[object, ...]]:
    """All points of a run in the database, with their multiplicity by primary key."""
    found = query(store.uri.removeprefix("sqlite:///"), "select key, step, timestamp, value from metrics where run_uuid = ?", run_id)
    assert len(found) == len(set(found))
    return set(found)


def test_sending_twice_stores_once(store: Store) -> None:
    prepared, records = trained()
    sink = MlflowSink(store)
    sink.open(prepared)
    sink.update(records)
    once = rows(store, sink.run_id)
    assert len(once) == 31 + 4 * 31 + 2 * 4 * 31  # loss/train, four curves and two norms of four layers, at 31 steps
    sink.update(records)
    assert rows(store, sink.run_id) == once
    sink.sent = -1  # as after a crash: what was sent is not known
    sink.update(records)
    assert rows(store, sink.run_id) == once
    sink.close(records, 0.001)
    assert rows(store, sink.run_id) > once
    assert store.client.get_run(str(sink.run_id)).info.status == "FINISHED"


def test_updates_on_the_way_come_to_the_same_points(store: Store) -> None:
    """Records cut at step 12, then whole, leave what one update leaves."""
    prepared, whole = trained()
    part = Records(
        {name: column[:13] for name, column in whole.curves.items()},
        {name: column[whole.layers["step"] <= 12] for name, column in whole.layers.items()},
        whole.plateau,
        None,
        whole.parameters,
    )
    stepwise, at_once = MlflowSink(store), MlflowSink(store)
    for sink in (stepwise, at_once):
        sink.open(prepared)
    stepwise.update(part)
    assert max(step for _, step, *_ in rows(store, stepwise.run_id)) == 12  # type: ignore[type-var]
    for sink in (stepwise, at_once):
        sink.close(whole, 0.001)
    kept = [{(key, step, value) for key, step, _, value in rows(store, sink.run_id)} for sink in (stepwise, at_once)]
    assert kept[0] == kept[1]


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), "KILLED"), (SystemExit(1), "KILLED"), (ValueError("no\nsecond line"), "FAILED")])
def test_an_aborted_run_says_why(store: Store, error: BaseException, status: str) -> None:
    prepared, records = trained()
    sink = MlflowSink(store)
    sink.open(prepared)
    sink.update(records)
    sink.abort(error)
    found = store.client.get_run(str(sink.run_id))
    assert found.info.status == status
    assert found.data.tags["bpexp.error"].startswith(type(error).__name__)
    assert "second line" not in found.data.tags["bpexp.error"]
    assert "bpexp.outcome" not in found.data.tags
    assert found.data.metrics  # what was sent is kept


def test_a_finished_run_cannot_be_aborted_any_more(store: Store) -> None:
    prepared, records = trained()
    sink = MlflowSink(store)
    sink.open(prepared)
    sink.close(records, 0.001)
    sink.abort(RuntimeError("a neighbour failed"))
    assert store.client.get_run(str(sink.run_id)).info.status == "FINISHED"


def test_more_quantities_per_layer_on_request(store: Store) -> None:
    tracking = TrackingConfig(layers=["saturated", "update_ratio"])
    prepared, records = trained(tracking=tracking)
    sink = MlflowSink(store)
    run(prepared, sink)
    names = {str(key) for key, *_ in rows(store, sink.run_id)}
    assert {name.split("/")[0] for name in names if "layer_" in name} == {"saturated", "update_ratio"}
    found = {step: value for key, step, _, value in rows(store, sink.run_id) if key == "update_ratio/layer_002"}
    assert not [name for name in names if name.startswith("profile/")]  # of norms that are tracked alone
    layers = pd.DataFrame(records.layers).query("layer == 2")
    expected = {int(step): 10.0**value for step, value in zip(layers["step"], layers["log10_update_ratio"], strict=True)}
    assert found == expected


def test_points_and_tags_come_in_calls_that_mlflow_takes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 1,000 metrics and tags together: a server refuses more."""
    prepared, _ = trained()
    sink, log_batch, sizes = MlflowSink(store), store.client.log_batch, []

    def counted(run_id: str, **parts: Any) -> Any:
        sizes.append(sum(map(len, parts.values())))
        return log_batch(run_id, **parts)

    sink.open(prepared)
    monkeypatch.setattr(store.client, "log_batch", counted)
    steps = np.arange(1999)
    points = Points.of([(np.full(1999, "x", object), steps, np.ones(1999))], 0)
    Client(store.client).log(str(sink.run_id), points, {"a": "1", "b": "2"})
    assert sum(sizes) == 1999 + 2
    assert max(sizes) <= 1000
    assert {step for key, step, *_ in rows(store, sink.run_id) if key == "x"} == set(range(1999))
    assert {"a": "1", "b": "2"}.items() <= store.client.get_run(str(sink.run_id)).data.tags.items()


def test_norms_beyond_float64_are_left_out_and_are_in_the_file(store: Store) -> None:
    prepared, records = trained(depth=600, width=4, steps=3, init=bpexp.InitConfig(name="standard"))
    sink = MlflowSink(store)
    run(prepared, sink)
    first = records.profile("log10_grad_norm", 0)
    assert np.isfinite(first).all()
    assert first[0] < -400  # far below the smallest float64
    kept = {key for key, step, *_ in rows(store, sink.run_id) if str(key).startswith("grad_norm/") and step == 0}
    assert kept == {f"grad_norm/layer_{k:03d}" for k in range(1, 601) if first[k - 1] > np.log10(np.finfo(np.float64).tiny)}
    saved = pd.read_parquet(store.client.download_artifacts(str(sink.run_id), "layers.parquet"))
    assert list(saved.query("step == 0")["log10_grad_norm"]) == list(first)


def test_a_norm_of_exactly_zero_is_sent_as_zero(store: Store) -> None:
    """Neurons of a relu that are all off pass no gradient on."""
    prepared, records = trained(depth=3, width=1, activation="relu", seed=1, steps=1)
    for seed in range(1, 50):
        prepared, records = trained(depth=3, width=1, activation="relu", seed=seed, steps=1)
        if np.isneginf(records.profile("log10_grad_norm", 0)[0]):
            break
    else:
        pytest.fail("no seed with a dead neuron")
    sink = MlflowSink(store)
    run(prepared, sink)
    assert {value for key, step, _, value in rows(store, sink.run_id) if key == "grad_norm/layer_001" and step == 0} == {0.0}


def test_a_long_run_sends_a_thinned_loss_curve(store: Store) -> None:
    prepared, _ = trained(steps=1500)
    sink = MlflowSink(store)
    records = run(prepared, sink)
    sent = {step: value for key, step, _, value in rows(store, sink.run_id) if key == "loss/train"}
    assert len(sent) == LOSS_POINTS
    assert {0, 1, 2, 1500} <= set(sent)
    assert sent == {step: loss for step, loss in enumerate(records.curves["loss_train"]) if step in sent}
    saved = pd.read_parquet(store.client.download_artifacts(str(sink.run_id), "curves.parquet"))
    assert len(saved) == 1501


def test_the_reference_tells_what_is_stored(store: Store) -> None:
    """Every tag, metric, parameter, file and column of a run and of a sweep is on a page of docs/reference/, and no file that is none."""
    names = told("tracking.md")
    assert {"bpexp.outcome", "bpexp.error", "bpexp.diverged_at", "mlflow.parentRunId"} <= tags_in_the_code() <= names

    prepared, sink = prepare(check(RunConfig(depth=6, width=4, steps=3, bias=True, probes=["q", "spectrum", "histogram"]))), MlflowSink(store)
    run(prepared, sink)
    sweep = SweepRun(store, "depth=6", {"depth": "6"}, [Planned(["depth=6"], prepared.fingerprint, "a net")])
    sweep.close("FINISHED", {})
    net, parent = (store.client.get_run(str(run_id)) for run_id in (sink.run_id, sweep.run_id))

    assert set(net.data.tags) | set(parent.data.tags) <= names
    assert set(net.data.params) == {key for key in keys(RunConfig) if not aside(key)}
    assert {"grad_norm/layer_N", "profile/log10_delta_norm/step_N", "summary/step_seconds"} <= numberless(net.data.metrics) <= numberless(names)
    files = {item.path for it in (net, parent) for item in store.client.list_artifacts(it.info.run_id)}
    assert files == {name for name in names if re.fullmatch(r"\w+\.(yaml|parquet|npz|json)", name)}
    assert f"{REPORT}/" in names

    rows = load_runs(str(sink.run_id), store.uri, frames=()).runs
    assert set(rows.columns) <= told("frames.md") | set(keys(RunConfig)) | {name.removeprefix("summary/") for name in names}


def test_a_name_tells_depth_width_lr_and_what_is_swept() -> None:
    config = RunConfig(depth=7, width=9, lr=0.25)
    assert run_name(config) == "depth=7 width=9 lr=0.25"
    assert run_name(config, {"depth": 7, "bias": True, "data.path": None}) == "depth=7 width=9 lr=0.25 bias=true data.path=null"


# ---------------------------------------------------------------------------------------------- the reader


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Records]]:
    """A store with two runs of one name and one that failed."""
    folder = tmp_path_factory.mktemp("filled")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        store = connect(resolve(None, folder), "bpexp")
    kept = []
    for seed in (0, 1):
        prepared, records = trained(seed=seed, depth=5, batch_size="full", lr=1e-05, steps=4)
        sink = MlflowSink(store)
        run(prepared, sink)
        kept.append(records)
    failed = MlflowSink(store)
    failed.open(prepared)
    failed.abort(RuntimeError("power cut"))
    return store.uri, kept


def test_frames_are_typed_and_whole(filled: tuple[str, list[Records]]) -> None:
    uri, records = filled
    found = load_runs(uri=uri)
    assert list(found.runs["status"]) == ["FINISHED", "FINISHED", "FAILED"]
    assert found.runs["depth"].tolist() == [5, 5, 5]
    assert pd.api.types.is_integer_dtype(found.runs["depth"])
    assert pd.api.types.is_float_dtype(found.runs["lr"])
    assert found.runs["lr"].tolist() == [1e-05] * 3
    assert pd.api.types.is_bool_dtype(found.runs["bias"])
    assert found.runs["batch_size"].tolist() == ["full"] * 3
    assert found.runs["init.name"].tolist() == ["xavier"] * 3
    assert found.runs["outcome"].tolist()[:2] == [record.outcome for record in records]
    assert pd.isna(found.runs["outcome"][2])
    assert found.runs["error"][2] == "RuntimeError: power cut"
    assert found.runs["delta_decades_per_layer"].tolist()[:2] == [record.delta_decades_per_layer for record in records]
    assert str(found.runs["start_time"].dtype).endswith("UTC]")
    for run_id, record in zip(found.runs["run_id"], records, strict=False):
        mine = found.curves[found.curves["run_id"] == run_id].drop(columns="run_id").reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, pd.DataFrame(record.curves), check_exact=True)
        layers = found.layers[found.layers["run_id"] == run_id].drop(columns="run_id").reset_index(drop=True)
        pd.testing.assert_frame_equal(layers, pd.DataFrame(record.layers), check_exact=True)
    assert set(found.curves["run_id"]) == set(found.runs["run_id"][:2])


@pytest.mark.parametrize("frames", [(), ("curves",), ["layers"], {"layers", "curves"}])
def test_frames_that_are_not_asked_for_are_not_read(filled: tuple[str, list[Records]], tmp_path: Path, frames: Any) -> None:
    """Their files may be gone."""
    uri, _ = filled
    whole = load_runs(uri=uri)
    moved = tmp_path / "mlflow.db"
    moved.write_bytes(Path(uri.removeprefix("sqlite:///")).read_bytes())
    for run_id, folder in query(moved, "select run_uuid, artifact_uri from runs"):
        query(moved, "update runs set artifact_uri = ? where run_uuid = ?", str(tmp_path / run_id), run_id)
        (tmp_path / run_id).mkdir()
        for name in frames:
            if (Path(folder) / f"{name}.parquet").exists():
                (tmp_path / run_id / f"{name}.parquet").write_bytes((Path(folder) / f"{name}.parquet").read_bytes())
    found = load_runs(uri=f"sqlite:///{moved}", frames=frames)
    pd.testing.assert_frame_equal(found.runs, whole.runs)
    for name, frame, full in (("curves", found.curves, whole.curves), ("layers", found.layers, whole.layers)):
        if name in frames:
            pd.testing.assert_frame_equal(frame, full)
        else:
            assert list(frame.columns) == ["run_id", *FRAMES[name]]
            assert len(frame) == 0


def test_curves_of_nets_whose_targets_are_no_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have no accuracies, and are no damaged runs."""
    monkeypatch.chdir(tmp_path)
    store = connect(resolve(None, tmp_path), "bpexp")
    linear = trained(depth=3, width=16, batch_size="full", data=DataConfig("linear", test_fraction=0.0), activation="linear", output="linear")[0]
    run(linear, MlflowSink(store))
    found = load_runs(uri=store.uri)
    assert found.runs["status"].tolist() == ["FINISHED"]
    assert list(found.curves.columns) == ["run_id", "step", "loss_train", "loss_train_full", "loss_test"]


@pytest.mark.parametrize("frames", ["curves", ("curve",), ("runs",)])
def test_a_frame_that_is_none(filled: tuple[str, list[Records]], frames: Any) -> None:
    with pytest.raises(ValueError, match="must be some of curves, layers"):
        load_runs(uri=filled[0], frames=frames)


def test_what_runs_have_chosen_comes_back_beside_those_that_have_not(store: Store) -> None:
    """Columns, spectra, tracked points; no file and no rows of those that did not ask; an untrained net's words."""
    wanted: list[dict[str, Any]] = [
        {},
        {"probes": ["q", "spread"], "tracking": TrackingConfig(layers=["q"])},
        {"probes": ["q", "spectrum", "histogram"], "steps": 0},
    ]
    kept, ids = [], []
    for changes in wanted:
        prepared, records = trained(**changes)
        sink = MlflowSink(store)
        run(prepared, sink)
        kept.append(records)
        ids.append(str(sink.run_id))
    found = load_runs(uri=store.uri)
    assert found.runs.set_index("run_id").loc[ids, "probes"].tolist() == ["[]", "[q,spread]", "[q,spectrum,histogram]"]
    for run_id, record in zip(ids, kept, strict=True):
        mine = found.layers[found.layers["run_id"] == run_id].reset_index(drop=True)
        pd.testing.assert_frame_equal(mine[list(record.layers)], pd.DataFrame(record.layers), check_exact=True)
        assert mine.drop(columns=["run_id", *record.layers]).isna().all(axis=None)
    for name in ("spectra", "histograms"):
        frame = getattr(found, name)
        frame = frame[frame["run_id"].isin(ids)].reset_index(drop=True)  # other tests have other runs here
        pd.testing.assert_frame_equal(frame.drop(columns="run_id"), pd.DataFrame(getattr(kept[2], name)), check_exact=True)
        assert set(frame["run_id"]) == {ids[2]}
        assert [any(file.path == f"{name}.parquet" for file in store.client.list_artifacts(run_id)) for run_id in ids] == [False, False, True]
    points = {(key, step): value for key, step, _, value in rows(store, ids[1]) if str(key).startswith("q/")}
    assert points["q/layer_002", 0] == kept[1].profile("q", 0)[1]
    untrained = store.client.get_run(ids[2]).data
    assert untrained.tags["bpexp.outcome"] == "untrained"
    assert "is **untrained**: it has a training loss of " in untrained.tags["mlflow.note.content"]
    assert "summary/step_seconds" not in untrained.metrics
    assert "summary/final_loss" in untrained.metrics


def test_what_nobody_has_chosen_has_an_empty_frame(filled: tuple[str, list[Records]]) -> None:
    found = load_runs(uri=filled[0])
    assert found.spectra.empty
    assert list(found.spectra.columns) == ["run_id", "step", "layer", "sample", "index", "log10_singular_value"]
    assert found.histograms.empty
    assert list(found.histograms.columns) == ["run_id", "step", "layer", "bin", "left", "right", "count"]


def test_a_run_by_id_by_name_and_the_newest(filled: tuple[str, list[Records]]) -> None:
    uri, _ = filled
    everything = load_runs(uri=uri).runs
    assert load_runs(everything["run_id"][0], uri).runs["seed"].tolist() == [0]
    assert load_runs(everything["name"][0], uri).runs["run_id"].tolist() == [everything["run_id"][2]]  # of one name, the newest
    assert load_runs("latest", uri).runs["run_id"].tolist() == [everything["run_id"][2]]


def test_nothing_to_read_is_told_in_a_line(filled: tuple[str, list[Records]], tmp_path: Path) -> None:
    uri, _ = filled
    missing = f"sqlite:///{tmp_path}/none.db"
    for name, content in (("empty.db", b""), ("junk.db", b"no database")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(NoRunsError, match="no store of MLflow's there"):
            load_runs(uri=f"sqlite:///{tmp_path}/{name}")
        assert (tmp_path / name).read_bytes() == content
        (tmp_path / name).unlink()
    for line, arguments in {
        f"uri={missing}: no store of MLflow's there": {"uri": missing},
        "experiment=other: no such experiment": {"uri": uri, "experiment": "other"},
        "sweep=ghost: no sweep or run of this name": {"uri": uri, "sweep": "ghost"},
    }.items():
        with pytest.raises(NoRunsError) as refused:
            load_runs(**arguments)
        assert str(refused.value).startswith(line)
        assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []  # looking makes nothing


def test_a_run_of_an_older_version_has_the_defaults_of_keys_that_it_did_not_have(filled: tuple[str, list[Records]], tmp_path: Path) -> None:
    uri, _ = filled
    copy = tmp_path / "mlflow.db"
    copy.write_bytes(Path(uri.removeprefix("sqlite:///")).read_bytes())
    whole = load_runs(uri=uri, frames=()).runs
    assert list(whole["status"]) == ["FINISHED", "FINISHED", "FAILED"]
    for key in ("norm", "skip.name", "probes"):
        query(copy, "delete from params where key = ? and run_uuid <> ?", key, whole["run_id"][1])
    found = load_runs(uri=f"sqlite:///{copy}", frames=()).runs
    pd.testing.assert_frame_equal(found[:2], whole[:2], check_like=True)
    assert found.loc[2, ["norm", "skip.name", "probes"]].isna().all()  # a run that failed may have lost them


def test_artifacts_that_are_gone_are_told(filled: tuple[str, list[Records]], tmp_path: Path) -> None:
    uri, _ = filled
    copy = tmp_path / "mlflow.db"
    copy.write_bytes(Path(uri.removeprefix("sqlite:///")).read_bytes())
    query(copy, "update runs set artifact_uri = ?", str(tmp_path / "moved"))
    with pytest.raises(NoRunsError, match=r"curves\.parquet of run .* was the folder moved or deleted"):
        load_runs(uri=f"sqlite:///{copy}")


# ---------------------------------------------------------------------------------------------- the store


def test_a_store_whose_making_was_cut_off_is_made_anew(tmp_path: Path) -> None:
    """Killed as soon as a database has tables, long before it has all of them."""
    code = "from pathlib import Path; from bpexp.tracking.store import connect, resolve; connect(resolve(None, Path.cwd()), 'bpexp')"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment())
    try:
        while tables(tmp_path) == 0:
            assert process.poll() is None, "made before it could be cut off"
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert not exists(f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / ".mlflow.db.unfinished-journal").touch()  # which is there or not, as the moment is
    made = connect(f"sqlite:///{tmp_path}/mlflow.db", "bpexp")
    assert made.client.get_experiment(made.experiment_id).name == "bpexp"
    assert {path.name for path in tmp_path.iterdir()} <= {"mlflow.db", ".mlflow.db.lock", "mlruns"}


def tables(folder: Path) -> int:
    """In whatever database lies in a folder."""
    found = 0
    for path in folder.glob("*mlflow.db*"):
        if not path.name.endswith((".lock", "-journal", "-wal", "-shm")):
            found += len(query(path, "select name from sqlite_master"))
    return found


def test_a_deleted_experiment_is_not_written_to(store: Store) -> None:
    store.client.delete_experiment(store.client.create_experiment("gone"))
    with pytest.raises(ConfigError, match=r"tracking\.experiment=gone: this experiment is in the store's bin"):
        connect(store.uri, "gone")


def test_which_store_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert resolve(None, tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    assert resolve("sqlite:///a/b.db", tmp_path) == f"sqlite:///{tmp_path}/a/b.db"
    assert resolve("sqlite:////a/b.db", tmp_path) == "sqlite:////a/b.db"
    assert resolve("http://127.0.0.1:5000", tmp_path) == "http://127.0.0.1:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////elsewhere.db")
    assert resolve(None, tmp_path) == "sqlite:////elsewhere.db"
    assert not exists("sqlite:////elsewhere.db")
