"""The sink that writes a run to MLflow."""

import getpass
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlparse

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from mlflow import entities
from mlflow.data.numpy_dataset import from_numpy
from mlflow.entities import DatasetInput, InputTag
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from bpexp.config import RunConfig, untracked, written
from bpexp.core.records import Records
from bpexp.experiment import Run, numerics
from bpexp.masks import masked
from bpexp.tracking.backend import Held, NewRun
from bpexp.tracking.notes import aborted_note, run_note
from bpexp.tracking.owner import marks
from bpexp.tracking.points import Points, profiles, series, single
from bpexp.tracking.store import Store

__all__ = ["Ending", "MlflowSink", "common_tags", "new_run", "run_name"]

ENDED = {KeyboardInterrupt: "KILLED", SystemExit: "KILLED"}
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # PyYAML may be built without libyaml


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


def new_run(run: Run, experiment_id: str, job: int) -> NewRun:
    """A run as MLflow is told of it before it has trained: name, parameters, tags and data set."""
    config = run.config
    name = config.tracking.run_name or run_name(config)
    tags = common_tags("run", name) | {"bpexp.fingerprint": run.fingerprint, "bpexp.engine": config.engine, "bpexp.job": str(job)} | marks()
    if config.tracking.parent:
        tags |= {"mlflow.parentRunId": config.tracking.parent, "bpexp.sweep": config.tracking.parent}
    parameters = {key: written(value) for key, value in untracked(config).items()}
    return NewRun(experiment_id, name, time.time_ns() // 1_000_000, tags, parameters, _dataset(run))


@dataclass(frozen=True)
class Ending:
    """How a run ends that does not come to its end: KILLED where a user or a signal ended it, else FAILED; and why, in a line."""

    status: str
    told: str

    @classmethod
    def of(cls, error: BaseException) -> Self:
        reason = f": {masked(str(error)).splitlines()[0][:500]}" if str(error) else ""
        return cls(ENDED.get(type(error), "FAILED"), f"{type(error).__name__}{reason}")


class MlflowSink:
    """One run in MLflow: opened, updated as often as one likes, closed or aborted."""

    def __init__(self, store: Store, *, job: int = 0) -> None:
        self.store, self.job = store, job
        self.run_id: str | None = None
        self.sent = -1  # the last step whose points are stored
        self.points = 0  # sent in all

    def open(self, run: Run) -> None:
        """Make the MLflow run, unless this sink has one (`take`)."""
        if self.run_id is None:
            new = new_run(run, self.store.experiment_id, self.job)
            run_id, artifacts = self.store.backend.create(new)
            self.take(run.config, Held("new", run_id, artifacts, new.start))

    def take(self, config: RunConfig, held: Held) -> None:
        """Write to a run of this configuration that is there."""
        self.config, self.start, self.run_id, self.artifacts = config, held.start, held.run_id, held.artifacts

    def update(self, records: Records) -> None:
        """Send the points that are new, and that this process still trains."""
        points = Points.of(series(records, self.config, self.sent), self.start)
        self.store.backend.log(self._id, points, marks())
        self.points += len(points)
        self.sent = int(records.curves["step"][-1])

    def close(self, records: Records, step_seconds: float) -> None:
        """Send what is left, the summary with the cost of a step, the artifacts and the outcome."""
        config = self.config
        summary = records.summary | {"step_seconds": step_seconds}
        tags = {"bpexp.outcome": records.outcome, "mlflow.note.content": run_note(config, records)}
        if records.diverged_at is not None:
            tags["bpexp.diverged_at"] = str(records.diverged_at)
        last = single({f"summary/{key}": value for key, value in summary.items()})
        points = Points.of([*series(records, config, self.sent), *profiles(records, config), last], self.start)
        try:
            self._write_artifacts(records)
        except BaseException:
            self.store.backend.log(self._id, points, tags)  # what was measured is kept
            raise
        self.store.backend.log(self._id, points, tags, "FINISHED")
        self.points += len(points)

    def abort(self, error: BaseException) -> None:
        """End the run with the reason; a run that has ended stays as it is."""
        if self.run_id is not None:
            self.end(Ending.of(error))

    def end(self, ending: Ending) -> None:
        told, status = ending.told, ending.status
        self.store.backend.end(self._id, {"bpexp.error": told, "mlflow.note.content": aborted_note(status, told)}, status)

    @property
    def _id(self) -> str:
        assert self.run_id is not None, "open comes first"
        return self.run_id

    def _write_artifacts(self, records: Records) -> None:
        """Straight into the run's folder, where that is one of this machine."""
        if urlparse(self.artifacts).scheme in ("", "file"):
            folder = Path(LocalArtifactRepository(self.artifacts).artifact_dir)
            folder.mkdir(parents=True, exist_ok=True)
            write_artifacts(folder, self.config, records)
            return
        with tempfile.TemporaryDirectory() as temporary:
            write_artifacts(Path(temporary), self.config, records)
            self.store.client.log_artifacts(self._id, temporary)


_inputs: dict[tuple[str, str], DatasetInput] = {}  # by name and checksum: MLflow takes milliseconds to describe a data set


def _dataset(run: Run) -> DatasetInput:
    """The training set as MLflow lists it: name, digest, shapes."""
    data = run.dataset
    key = data.name, data.checksum
    if key not in _inputs:
        told = from_numpy(data.split.x_train, targets=data.split.y_train, name=data.name, digest=data.checksum).to_dict()
        entity = entities.Dataset(told["name"], told["digest"], told["source_type"], told["source"], told["schema"], told["profile"])
        _inputs[key] = DatasetInput(entity, [InputTag("mlflow.data.context", "training")])
    return _inputs[key]


def write_artifacts(folder: Path, config: RunConfig, records: Records) -> None:
    """config.yaml, curves.parquet, layers.parquet and, where chosen, spectra.parquet and histograms.parquet (columns: `bpexp.core.records.Records`),
    checkpoint.npz with the final W_001, b_001, … unless tracking.checkpoint=false.
    """
    told = asdict(config)
    told["tracking"]["uri"] = config.tracking.uri and masked(config.tracking.uri)
    (folder / "config.yaml").write_text(yaml.dump(told, Dumper=DUMPER, sort_keys=False))
    pq.write_table(pa.table(records.curves), folder / "curves.parquet")
    pq.write_table(pa.table(records.layers), folder / "layers.parquet")
    for name, columns in (("spectra", records.spectra), ("histograms", records.histograms)):
        if columns:
            pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    if config.tracking.checkpoint:
        arrays: dict[str, Any] = records.parameters
        np.savez(folder / "checkpoint.npz", **arrays)
