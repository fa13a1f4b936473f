"""A sweep from the command line through to what MLflow holds of it."""

import json
import math
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

import bpexp
from bpexp.config import RunConfig, TrackingConfig, aside, flatten, keys, parse, written
from bpexp.core.schedule import log_spaced
from bpexp.experiment import prepare
from tests.cli import ROOT, command, inside, lines, query
from tests.sweeps import Command

SMALL = ("steps=60", "width=8", "batch_size=16")
DEPTHS = (3, 5, 12)


class Sweep:
    """A folder in which a sweep has run, and a client that reads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.client = MlflowClient(f"sqlite:///{folder}/mlflow.db")

    def runs(self) -> list[Run]:
        found = self.client.get_experiment_by_name("bpexp")
        assert found is not None
        return list(self.client.search_runs([found.experiment_id], order_by=["attributes.start_time ASC"]))

    def parents(self) -> list[Run]:
        return [run for run in self.runs() if run.data.tags["bpexp.kind"] == "sweep"]

    def children(self, parent: Run) -> list[Run]:
        found = [run for run in self.runs() if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
        return sorted(found, key=lambda run: int(run.data.tags["bpexp.job"]))


@pytest.fixture(scope="module")
def depths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweep, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("depths")
    done = command(folder, "-m", "depth=3,5,12", *SMALL)
    assert done.returncode == 0, done.stderr
    return Sweep(folder), done


@pytest.fixture
def child(depths: tuple[Sweep, object]) -> Run:
    """The net with 12 layers."""
    sweep, _ = depths
    return sweep.children(sweep.parents()[0])[-1]


def config_of(depth: int) -> RunConfig:
    return RunConfig(depth=depth, steps=60, width=8, batch_size=16)


def test_one_parent_named_after_the_sweep_and_a_child_per_job(depths: tuple[Sweep, object]) -> None:
    sweep, _ = depths
    (parent,) = sweep.parents()
    assert parent.info.run_name == " ".join(["depth=3,5,12", *SMALL])  # as typed
    assert parent.info.status == "FINISHED"
    assert parent.data.params == {"depth": "3,5,12"}
    children = sweep.children(parent)
    assert [run.info.run_name for run in children] == [f"depth={depth} width=8 lr=3" for depth in DEPTHS]
    assert {run.info.status for run in children} == {"FINISHED"}
    assert [run.data.tags["bpexp.kind"] for run in (parent, *children)] == ["sweep", "run", "run", "run"]
    assert [run.data.tags["bpexp.job"] for run in children] == ["0", "1", "2"]
    assert len(sweep.runs()) == 4


def test_the_output_ends_with_a_table_and_two_commands(depths: tuple[Sweep, subprocess.CompletedProcess[str]]) -> None:
    sweep, done = depths
    printed = lines(done.stdout)
    assert printed[0].split() == ["run", "loss", "accuracy", "decades", "lost", "per", "layer", "outcome"]
    for line, run in zip(printed[1:4], sweep.children(sweep.parents()[0]), strict=True):
        assert line.startswith(str(run.info.run_name))
        assert line.split()[-1] == run.data.tags["bpexp.outcome"]
        assert f"{run.data.metrics['summary/final_loss']:#.4g}" in line.split()
        assert f"{run.data.metrics['summary/final_accuracy_test']:.1%}" in line.split()
    experiment = sweep.runs()[0].info.experiment_id
    assert printed[4] == f"next:  python -m bpexp.ui, then open http://127.0.0.1:5000/#/experiments/{experiment}/runs?workflowType=machine_learning"
    assert printed[5].split() == ["python", "-m", "bpexp.report"]
    assert len(printed) == 6


def test_no_bars_and_no_colours_where_there_is_no_terminal(depths: tuple[Sweep, subprocess.CompletedProcess[str]]) -> None:
    _, done = depths
    assert done.stderr == ""
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("depth", DEPTHS)
def test_metrics_have_the_names_of_the_contract(depths: tuple[Sweep, object], depth: int) -> None:
    sweep, _ = depths
    run = sweep.children(sweep.parents()[0])[DEPTHS.index(depth)]
    names = set(run.data.metrics)
    for kind in ("grad_norm", "delta_norm"):
        assert {name for name in names if name.startswith(f"{kind}/")} == {f"{kind}/layer_{k:03d}" for k in range(1, depth + 1)}
        profiles = {name for name in names if name.startswith(f"profile/log10_{kind}/")}
        assert len(profiles) == 5
        assert {f"profile/log10_{kind}/step_000000", f"profile/log10_{kind}/step_000060"} <= profiles
    assert {"loss/train", "loss/test", "loss/train_full", "accuracy/train", "accuracy/test", "summary/final_loss"} <= names
    assert ("summary/delta_decades_per_layer" in names) == (depth >= 5)


def test_layers_in_mlflow_are_those_of_the_parquet_file(depths: tuple[Sweep, object], child: Run) -> None:
    sweep, _ = depths
    layers = pd.read_parquet(sweep.client.download_artifacts(child.info.run_id, "layers.parquet"))
    assert set(layers["step"]) == set(log_spaced(60, 40))
    for kind in ("grad_norm", "delta_norm"):
        for layer in (1, 12):
            history = sweep.client.get_metric_history(child.info.run_id, f"{kind}/layer_{layer:03d}")
            rows = layers[layers["layer"] == layer]
            expected = {step: 10.0**value for step, value in zip(rows["step"], rows[f"log10_{kind}"], strict=True)}
            assert {point.step: point.value for point in history} == expected


def test_the_depth_profile_is_one_curve_over_layers(depths: tuple[Sweep, object], child: Run) -> None:
    sweep, _ = depths
    layers = pd.read_parquet(sweep.client.download_artifacts(child.info.run_id, "layers.parquet"))
    history = sweep.client.get_metric_history(child.info.run_id, "profile/log10_delta_norm/step_000000")
    first = layers[layers["step"] == 0]
    assert {point.step: point.value for point in history} == dict(zip(first["layer"], first["log10_delta_norm"], strict=True))
    slope = np.polyfit(first["layer"][1:-1], first["log10_delta_norm"][1:-1], 1)[0]
    assert child.data.metrics["summary/delta_decades_per_layer"] == pytest.approx(slope, rel=1e-9)
    assert slope > 0.3


def test_the_loss_curve(depths: tuple[Sweep, object], child: Run) -> None:
    sweep, _ = depths
    curves = pd.read_parquet(sweep.client.download_artifacts(child.info.run_id, "curves.parquet"))
    history = sweep.client.get_metric_history(child.info.run_id, "loss/train")
    assert [point.step for point in history] == list(range(61))
    assert [point.value for point in history] == list(curves["loss_train"])


def test_every_point_is_timed_by_its_step_and_is_finite(depths: tuple[Sweep, object]) -> None:
    sweep, _ = depths
    points = "select m.value, m.is_nan, m.timestamp, m.step, r.start_time from metrics m join runs r on m.run_uuid = r.run_uuid"
    rows = query(sweep.folder / "mlflow.db", points)
    assert len(rows) > 1000
    assert all(math.isfinite(value) and abs(value) < 1e308 and not is_nan for value, is_nan, *_ in rows)
    assert all(timestamp == start + step for *_, timestamp, step, start in rows)


def test_parameters_are_the_flattened_configuration(child: Run) -> None:
    expected = {key: written(value) for key, value in flatten(config_of(12)).items() if not aside(key)}
    assert child.data.params == expected
    assert child.data.params["depth"] == "12"
    assert child.data.params["init.name"] == "xavier"


def test_tags(depths: tuple[Sweep, object], child: Run) -> None:
    sweep, _ = depths
    (parent,) = sweep.parents()
    tags = child.data.tags
    assert tags["bpexp.fingerprint"] == prepare(config_of(12)).fingerprint
    assert tags["bpexp.sweep"] == parent.info.run_id == parent.data.tags["bpexp.sweep"]
    assert tags["bpexp.outcome"] == "stuck"
    assert "bpexp.diverged_at" not in tags
    assert "openblas" in tags["bpexp.numerics"].lower() or "numpy" in tags["bpexp.numerics"]
    git = subprocess.run(["git", "-C", str(ROOT), "ls-files", "--error-unmatch", "bpexp/tracking/sink.py"], capture_output=True, check=False)
    if git.returncode == 0:  # in a checkout
        head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        assert tags["mlflow.source.git.commit"] == head.stdout.strip()
    else:
        assert "mlflow.source.git.commit" not in tags


def test_a_note_says_in_two_sentences_what_happened(depths: tuple[Sweep, object], child: Run) -> None:
    sweep, _ = depths
    note = child.data.tags["mlflow.note.content"]
    first, second = note.split(". ", 1)
    assert first.startswith("A net of 12 layers was **stuck**")
    assert f"{child.data.metrics['summary/final_loss']:.4g}" in first
    assert f"{child.data.metrics['summary/delta_decades_per_layer']:.3g} decades per layer" in second
    assert second.count(". ") == 0
    parent_note = sweep.parents()[0].data.tags["mlflow.note.content"]
    assert parent_note.count("\n| depth=") == 3


def test_the_data_set_is_an_input_with_its_digest(child: Run) -> None:
    assert child.inputs is not None
    (given,) = child.inputs.dataset_inputs
    assert given.dataset.name == "digits"
    assert given.dataset.digest == prepare(config_of(12)).dataset.checksum
    assert [(tag.key, tag.value) for tag in given.tags] == [("mlflow.data.context", "training")]


def test_artifacts_hold_the_run(depths: tuple[Sweep, object], child: Run) -> None:
    sweep, _ = depths
    folder = Path(sweep.client.download_artifacts(child.info.run_id, ""))
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "curves.parquet", "layers.parquet", "checkpoint.npz"}
    read = parse(RunConfig, yaml.safe_load((folder / "config.yaml").read_text()))
    filed = TrackingConfig(parent=sweep.parents()[0].info.run_id, run_name=child.info.run_name)
    assert read == replace(config_of(12), tracking=filed)


def test_the_weights_kept_give_the_final_loss(depths: tuple[Sweep, object], child: Run) -> None:
    """Written out anew, in float64: sigmoid layers, half the squared distance to the targets."""
    sweep, _ = depths
    data = prepare(config_of(12)).dataset.split
    with np.load(sweep.client.download_artifacts(child.info.run_id, "checkpoint.npz")) as weights:
        for inputs, targets, name in ((data.x_train, data.y_train, "final_loss"), (data.x_test, data.y_test, "final_test_loss")):
            a = inputs
            for k in range(1, 13):
                a = 1 / (1 + np.exp(-a @ weights[f"W_{k:03d}"].astype(float)))
            loss = 0.5 * np.sum((a - targets) ** 2, axis=1).mean()
            assert child.data.metrics[f"summary/{name}"] == pytest.approx(loss, rel=1e-6)  # the run itself was in float32


def test_numbers_are_bitwise_those_of_the_same_run_alone(depths: tuple[Sweep, object], child: Run) -> None:
    sweep, _ = depths
    records = bpexp.train(config_of(12))
    folder = Path(sweep.client.download_artifacts(child.info.run_id, ""))
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "curves.parquet"), pd.DataFrame(records.curves), check_exact=True)
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "layers.parquet"), pd.DataFrame(records.layers), check_exact=True)
    with np.load(folder / "checkpoint.npz") as saved:
        assert sorted(saved.files) == [f"W_{k:03d}" for k in range(1, 13)]
        for k, weights in enumerate(records.weights, start=1):
            np.testing.assert_array_equal(saved[f"W_{k:03d}"], weights)


def test_the_manifest_maps_jobs_to_runs(depths: tuple[Sweep, object]) -> None:
    sweep, _ = depths
    (parent,) = sweep.parents()
    manifest = json.loads(Path(sweep.client.download_artifacts(parent.info.run_id, "manifest.json")).read_text())
    assert [job["overrides"][0] for job in manifest["jobs"]] == [f"depth={depth}" for depth in DEPTHS]
    assert [job["run_id"] for job in manifest["jobs"]] == [run.info.run_id for run in sweep.children(parent)]


def test_the_table_of_runs_is_one_of_mlflows(depths: tuple[Sweep, object]) -> None:
    sweep, _ = depths
    (parent,) = sweep.parents()
    shown = pd.DataFrame(**json.loads(Path(sweep.client.download_artifacts(parent.info.run_id, "runs.json")).read_text()))
    children = sweep.children(parent)
    numbers = [run.data.metrics for run in children]
    assert shown.to_dict("list") == {
        "run": [run.info.run_name for run in children],
        "depth": list(DEPTHS),
        "outcome": [run.data.tags["bpexp.outcome"] for run in children],
        "loss": [it["summary/final_loss"] for it in numbers],
        "accuracy": [it["summary/final_accuracy_test"] for it in numbers],
        "decades_per_layer": [pytest.approx(it.get("summary/delta_decades_per_layer", math.nan), nan_ok=True) for it in numbers],
        "run_id": [run.info.run_id for run in children],
    }
    assert json.loads(parent.data.tags["mlflow.loggedArtifacts"]) == [{"path": "runs.json", "type": "table"}]


@pytest.mark.parametrize("tag", ["tags.bpexp.outcome", "tags.`bpexp.outcome`"])
def test_runs_are_found_by_outcome_and_by_seed(depths: tuple[Sweep, object], tag: str) -> None:
    sweep, _ = depths
    (parent,) = sweep.parents()
    outcomes = [run.data.tags["bpexp.outcome"] for run in sweep.children(parent)]
    for outcome in ("trained", "stuck", "diverged"):
        condition = f"{tag} = '{outcome}' and params.seed = '0' and tags.mlflow.parentRunId = '{parent.info.run_id}'"
        assert len(sweep.client.search_runs([parent.info.experiment_id], condition)) == outcomes.count(outcome)


def test_a_run_listed_twice_trains_once_and_a_diverged_one_stops_nothing(depths: tuple[Sweep, object]) -> None:
    sweep, _ = depths
    done = inside(sweep.folder, "-m", "lr=1e6,0.01,0.010", "depth=3", "activation=linear", "output=linear", "steps=30", "width=8")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    parent = sweep.parents()[-1]
    diverged, calm = sweep.children(parent)
    assert parent.info.status == diverged.info.status == calm.info.status == "FINISHED"
    records = bpexp.train(RunConfig(lr=1e6, depth=3, activation="linear", output="linear", steps=30, width=8))
    assert diverged.data.tags["bpexp.outcome"] == "diverged"
    assert diverged.data.tags["bpexp.diverged_at"] == str(records.diverged_at)
    assert f"step {records.diverged_at}" in diverged.data.tags["mlflow.note.content"]
    assert calm.data.tags["bpexp.outcome"] != "diverged"
    manifest = json.loads(Path(sweep.client.download_artifacts(parent.info.run_id, "manifest.json")).read_text())
    assert [job["run_id"] for job in manifest["jobs"]] == [diverged.info.run_id, calm.info.run_id, calm.info.run_id]
    assert sum("lr=0.01" in line for line in lines(done.stdout)) == 2
    assert query(sweep.folder / "mlflow.db", "select count(*) from metrics where is_nan or abs(value) > 1.7e308") == [(0,)]


def test_a_job_that_fails_is_told_and_the_others_go_on(depths: tuple[Sweep, object], tmp_path: Path) -> None:
    """A real failure: a data file that was there when the sweep was checked is gone when its job starts."""
    sweep, _ = depths
    paths = [tmp_path / f"{name}.npz" for name in "abc"]
    for path, inputs in zip(paths, (30_000, 2, 3), strict=True):  # the first job takes seconds, the last one none
        np.savez(path, x=np.random.default_rng(inputs).standard_normal((8, inputs)), y=np.arange(8) % 2)
    rest = ["steps=6000", "depth=2", "width=4", "batch_size=4"]
    process = Command(sweep.folder, "-m", "hydra/launcher=basic", "data=npz", f"data.path={','.join(map(str, paths))}", *rest)
    try:
        before = len(sweep.runs())
        process.wait_for(lambda: len(sweep.runs()) == before + 2)
        paths[1].unlink()
        done = process.done()
    finally:
        process.end()
    assert done.code == 1
    gone = f"data.path={paths[1]}"
    assert lines(done.err) == [f"bpexp: failed: data=npz {gone} {' '.join(rest)}: ConfigError: {gone}: no such file"]
    assert [line.split()[-1] for line in lines(done.out)[1:4]][1] == "failed"
    parent = sweep.parents()[-1]
    assert parent.info.status == "FAILED"
    assert [run.info.status for run in sweep.children(parent)] == ["FINISHED", "FINISHED"]


def test_a_store_that_takes_no_artifacts_fails_the_runs_in_one_line_each(depths: tuple[Sweep, object], tmp_path: Path) -> None:
    """A file stands where the runs' artifacts would go."""
    sweep, _ = depths
    experiment = sweep.client.create_experiment("in the way", artifact_location=str(tmp_path / "file"))
    (tmp_path / "file").write_text("not a folder")
    done = inside(sweep.folder, "-m", "depth=2,3", "steps=3", "width=4", "tracking.experiment='in the way'")
    assert done.returncode == 1
    assert [line.split(": ")[:2] for line in lines(done.stderr)] == [["bpexp", "failed"]] * 2
    runs = sweep.client.search_runs([experiment])
    assert [run.info.status for run in runs] == ["FAILED"] * 3
    assert all(run.data.tags["bpexp.error"] for run in runs)


def test_every_key_of_the_schema_is_a_parameter(child: Run) -> None:
    assert set(child.data.params) == {key for key in keys(RunConfig) if not aside(key)}
