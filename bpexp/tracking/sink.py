"""The sink that writes a run to MLflow.

Every point's timestamp is the run's start in ms plus its step, so that a point sent twice is stored once.  Nothing that is NaN or infinite
is sent: the SQL store would make 1.8e308 of it.  The exact numbers are in the parquet files.
"""

import getpass
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from mlflow.data.numpy_dataset import from_numpy
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.entities.dataset import Dataset

from bpexp.config import RunConfig, untracked, written
from bpexp.core.probes import PROBES
from bpexp.core.records import Records
from bpexp.core.schedule import log_spaced, spread
from bpexp.experiment import Run, numerics
from bpexp.tracking.notes import run_note
from bpexp.tracking.store import Store

__all__ = ["MlflowSink", "common_tags", "run_name"]

Point = tuple[str, float, int]  # metric, value, step

BATCH = 950  # points in a call: MLflow takes 1,000 entries, tags among them
LOSS_POINTS = 200  # of loss/train: the curve looks the same, the page opens faster
PROFILED, PROFILES = ("grad_norm", "delta_norm"), 5  # depth profiles of a run
SMALLEST, LARGEST = np.log10(np.finfo(np.float64).tiny), np.log10(np.finfo(np.float64).max)
CURVES = {"loss_test": "loss/test", "loss_train_full": "loss/train_full", "accuracy_train": "accuracy/train", "accuracy_test": "accuracy/test"}
ENDED = {KeyboardInterrupt: "KILLED", SystemExit: "KILLED"}


def run_name(config: RunConfig, swept: Mapping[str, object] | None = None) -> str:
    """`depth=50 width=64 lr=3`, then whatever else a sweep varies."""
    told = {"depth": config.depth, "width": config.width, "lr": config.lr} | dict(swept or {})
    return " ".join(f"{key}={value:g}" if isinstance(value, float) else f"{key}={written(value)}" for key, value in told.items())


def common_tags(kind: str, name: str) -> dict[str, str]:
    """What every run of ours carries, a sweep's parent and a net alike."""
    tags = {"mlflow.runName": name, "mlflow.user": getpass.getuser(), "mlflow.source.name": "python -m bpexp", "mlflow.source.type": "LOCAL"}
    if commit := _commit():
        tags["mlflow.source.git.commit"] = commit
    return tags | {"bpexp.kind": kind, "bpexp.numerics": numerics()}


@cache
def _commit() -> str | None:
    """The commit of the checkout that this file is part of; None in an installed wheel, also one inside somebody's repository."""
    here = Path(__file__).resolve()

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(here.parent), *words], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603, S607

    try:
        git("ls-files", "--error-unmatch", here.name)
        return git("rev-parse", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return None


class MlflowSink:
    """One run in MLflow: opened, updated as often as one likes, closed or aborted."""

    def __init__(self, store: Store, *, job: int = 0) -> None:
        self.store, self.job = store, job
        self.run_id: str | None = None
        self.closed = False
        self.sent = -1  # the last step whose points are stored

    def open(self, run: Run) -> None:
        """Make the MLflow run, with its parameters, tags and data set."""
        self.run, self.start = run, time.time_ns() // 1_000_000
        config = run.config
        name = config.tracking.run_name or run_name(config)
        tags = common_tags("run", name) | {"bpexp.fingerprint": run.fingerprint, "bpexp.job": str(self.job)}
        if config.tracking.parent:
            tags |= {"mlflow.parentRunId": config.tracking.parent, "bpexp.sweep": config.tracking.parent}
        client = self.store.client
        self.run_id = client.create_run(self.store.experiment_id, self.start, tags, name).info.run_id
        client.log_batch(self.run_id, params=[Param(key, written(value)) for key, value in untracked(config).items()])
        client.log_inputs(self.run_id, [_dataset(run)])

    def update(self, records: Records) -> None:
        """Send the points that are new."""
        self._send(self._points(records, self.sent))
        self.sent = int(records.curves["step"][-1])

    def close(self, records: Records, step_seconds: float) -> None:
        """Send what is left, the summary with the cost of a step, the artifacts and the outcome."""
        summary = records.summary | {"step_seconds": step_seconds}
        points = [*self._points(records, self.sent), *_profiles(records, self.run.config)]
        points += [(f"summary/{key}", value, 0) for key, value in summary.items()]
        tags = {"bpexp.outcome": records.outcome, "mlflow.note.content": run_note(self.run.config, records)}
        if records.diverged_at is not None:
            tags["bpexp.diverged_at"] = str(records.diverged_at)
        self._send(points, tags)
        with tempfile.TemporaryDirectory() as folder:
            write_artifacts(Path(folder), self.run.config, records)
            self.store.client.log_artifacts(self._id, folder)
        self.store.client.set_terminated(self._id, "FINISHED")
        self.closed = True

    def abort(self, error: BaseException) -> None:
        """End the run as KILLED where a user or a signal ended it, else as FAILED, with the reason."""
        if self.run_id is None or self.closed:
            return
        status = ENDED.get(type(error), "FAILED")
        reason = str(error).splitlines()[0][:500] if str(error) else ""
        told = f"{type(error).__name__}: {reason}"
        self._send((), {"bpexp.error": told, "mlflow.note.content": f"This run was **{status}**: {told}"})
        self.store.client.set_terminated(self._id, status)
        self.closed = True

    @property
    def _id(self) -> str:
        assert self.run_id is not None, "open comes first"
        return self.run_id

    def _send(self, points: Iterable[Point], tags: Mapping[str, str] | None = None) -> None:
        """Finite points and tags, in as few calls as MLflow allows: a call costs as much as a hundred points."""
        metrics = [Metric(name, value, self.start + step, step) for name, value, step in points if isfinite(value)]
        full = len(metrics) // BATCH * BATCH
        for first in range(0, full, BATCH):
            self.store.client.log_batch(self._id, metrics=metrics[first : first + BATCH])
        if tags or metrics[full:]:
            self.store.client.log_batch(self._id, metrics=metrics[full:], tags=[RunTag(key, value) for key, value in (tags or {}).items()])

    def _points(self, records: Records, after: int) -> Iterator[Point]:
        """Curves and layers beyond step `after`."""
        chosen = np.intersect1d(records.curves["step"], log_spaced(self.run.config.steps, LOSS_POINTS))
        for step in chosen[chosen > after]:
            yield "loss/train", float(records.curves["loss_train"][step]), int(step)
        for column, name in CURVES.items():
            if column in records.curves:
                for step, value in zip(*records.probed(column), strict=True):
                    if step > after:
                        yield name, float(value), int(step)
        for name in self.run.config.tracking.layers:
            yield from _layer_points(records, name, after)


def _layer_points(records: Records, name: str, after: int) -> Iterator[Point]:
    """`grad_norm/layer_001` …; a number beyond float64's range is left out here, and is in layers.parquet as log10."""
    probe, layers = PROBES[name], records.layers
    rows = zip(layers["step"], layers["layer"], layers[probe.column], strict=True)
    for step, layer, value in rows:
        if step <= after or np.isnan(value):
            continue
        if probe.log10 and not (np.isneginf(value) or SMALLEST <= value < LARGEST):
            continue
        yield f"{name}/layer_{layer:03d}", 10.0**value if probe.log10 else value, int(step)


def _profiles(records: Records, config: RunConfig) -> Iterator[Point]:
    """Of each tracked norm one curve per chosen step whose x axis is the layer: exponential decay is a straight line."""
    for name in (name for name in config.tracking.layers if name in PROFILED):
        for step in spread(np.unique(records.layers["step"]), PROFILES):
            for layer, value in enumerate(records.profile(PROBES[name].column, step), start=1):
                yield f"profile/log10_{name}/step_{step:06d}", float(value), layer


def _dataset(run: Run) -> DatasetInput:
    """The training set as MLflow lists it: name, digest, shapes."""
    data = run.dataset
    source = from_numpy(data.split.x_train, targets=data.split.y_train, name=data.name, digest=data.checksum)
    told = source.to_dict()
    entity = Dataset(told["name"], told["digest"], told["source_type"], told["source"], told["schema"], told["profile"])
    return DatasetInput(entity, [InputTag("mlflow.data.context", "training")])


def write_artifacts(folder: Path, config: RunConfig, records: Records) -> None:
    """config.yaml, curves.parquet and layers.parquet (columns: `bpexp.core.records.Records`), checkpoint.npz with the final W_001, b_001, …"""
    (folder / "config.yaml").write_text(yaml.safe_dump(asdict(config), sort_keys=False))
    pq.write_table(pa.table(records.curves), folder / "curves.parquet")
    pq.write_table(pa.table(records.layers), folder / "layers.parquet")
    arrays: dict[str, Any] = records.parameters
    np.savez(folder / "checkpoint.npz", **arrays)
