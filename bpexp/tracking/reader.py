"""From MLflow back to tidy frames: what reports and notebooks read.

`Runs.runs` has a row per run: run_id, name, status (MLflow's: FINISHED, FAILED, KILLED, RUNNING), outcome (trained, stuck,
untrained, diverged; missing where a run did not end), diverged_at, fingerprint, start_time, seconds, error; then a column per configuration key, by
its dotted name and with its own type (a list as one types it: `[q,c]`); then the summary's numbers (final_loss, delta_decades_per_layer, …), missing
where they are not defined, and step_seconds, what a training step took, over the number of runs that took it together.
`Runs.curves`, `Runs.layers` and `Runs.spectra` are the parquet artifacts (columns: `bpexp.core.records.Records`) of all runs, with run_id in front;
what a run has not measured is missing (NaN) where others have, and `spectra` has rows of those runs alone that chose the probe `spectrum`.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from bpexp.config import RunConfig, keys, nested, parse, takes_whole, untracked
from bpexp.core.jacobians import SPECTRUM
from bpexp.core.probes import PROBES
from bpexp.tracking.lookup import everything
from bpexp.tracking.parent import MANIFEST
from bpexp.tracking.store import exists, resolve, summary
from bpexp.tracking.trouble import reason

__all__ = ["FRAMES", "NoRunsError", "Runs", "configuration", "load_runs"]

FRAMES = {  # each with its columns; a run's are in its artifact NAME.parquet
    "curves": ("step", "loss_train", "loss_train_full", "loss_test", "accuracy_train", "accuracy_test"),
    "layers": ("step", "layer", *(probe.column for probe in PROBES.values() if probe.always)),
    "spectra": ("step", "layer", "sample", "index", "log10_singular_value"),
}


class NoRunsError(LookupError):
    """Nothing to read, and why."""


@dataclass(frozen=True)
class Runs:
    """Frames of a sweep, of one run, or of an experiment; columns as the module says."""

    runs: pd.DataFrame
    curves: pd.DataFrame
    layers: pd.DataFrame
    sweep_id: str | None
    sweep_name: str
    experiment_id: str
    spectra: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["run_id", *FRAMES["spectra"]]))

    @cached_property
    def _by_run(self) -> dict[str, dict[str, pd.DataFrame]]:
        return {}

    def by_run(self, kind: str) -> dict[str, pd.DataFrame]:
        """The curves, or layers, of each run that has some, by its id."""
        if kind not in self._by_run:
            self._by_run[kind] = {str(run_id): frame for run_id, frame in getattr(self, kind).groupby("run_id", sort=False)}
        return self._by_run[kind]


def load_runs(sweep: str | None = None, uri: str | None = None, experiment: str = "bpexp", frames: Collection[str] = tuple(FRAMES)) -> Runs:
    """Frames of what MLflow holds.

    `sweep`: a sweep's or run's id or name (of several of one name, the newest), `"latest"` for the newest sweep (the newest run, where there is
    no sweep), None for all runs.  `uri`: the store (None: MLflow's default here).  `frames`: those to read besides `runs`, which take two files a
    run; the others have their columns and no rows.  Raises `NoRunsError` with one line of reason, `ValueError` for a frame that is none.
    """
    if isinstance(frames, str) or not set(frames) <= set(FRAMES):
        raise ValueError(f"frames={frames!r}: must be some of {', '.join(FRAMES)}, such as ('curves',) or ()")
    where = resolve(uri)
    if not exists(where):
        raise NoRunsError(f"uri={where}: no store of MLflow's there; `python -m bpexp` makes one in the folder it runs in")
    try:
        client = MlflowClient(where)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            raise NoRunsError(f"experiment={experiment}: no such experiment in {where}")
        runs = everything(client, found.experiment_id)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise NoRunsError(f"uri={where}: can't be read ({reason(error)})") from None
    head, members = _select(client, runs, sweep)
    holders = {name: members if name in frames else [] for name in FRAMES}
    holders["spectra"] = [run for run in holders["spectra"] if SPECTRUM in run.data.params.get("probes", "")]
    curves, layers, spectra = (_read(where, holders[name], name) for name in FRAMES)
    frame = pd.DataFrame([_row(run) for run in members]).astype({"diverged_at": "Int64"})
    name = head.info.run_name if head else experiment
    return Runs(frame, curves, layers, head.info.run_id if head else None, str(name), str(found.experiment_id), spectra)


def configuration(row: Mapping[Any, Any]) -> RunConfig:
    """A row of `Runs.runs` as the configuration that it was; what a run of an older version does not tell takes its default."""
    told = {key: row[key] for key in untracked(RunConfig()) if key in row and not pd.isna(row[key])}
    return parse(RunConfig, nested({key: _of_frame(key, value) for key, value in told.items()}))


def _of_frame(key: str, value: Any) -> Any:
    """A value as the configuration had it: a column of a frame makes floats of whole numbers where it has gaps, and holds lists as texts."""
    if isinstance(value, str) and value.startswith("["):
        return [name for name in value.strip("[]").split(",") if name]
    plain = value.item() if hasattr(value, "item") else value
    return int(plain) if isinstance(plain, float) and takes_whole(key) else plain


def _is_sweep(run: Run) -> bool:
    return run.data.tags.get("bpexp.kind") == "sweep"


def _select(client: MlflowClient, runs: Sequence[Run], sweep: str | None) -> tuple[Run | None, list[Run]]:
    """The run that was asked for, and the runs of nets that belong to it."""
    nets = [run for run in runs if not _is_sweep(run)]
    if not runs:
        raise NoRunsError("the experiment has no runs yet; `python -m bpexp -m depth=10,50,100` makes some")
    if sweep is None:
        return None, nets
    if sweep == "latest":
        head = next(filter(_is_sweep, reversed(runs)), runs[-1])
    else:
        named = [run for run in runs if sweep in (run.info.run_id, run.info.run_name)]
        if not named:
            known = [str(run.info.run_name) for run in runs if _is_sweep(run)][-5:]
            raise NoRunsError(f"sweep={sweep}: no sweep or run of this name or id; the newest sweeps: {', '.join(known) or 'none'}")
        head = next(filter(_is_sweep, reversed(named)), named[-1])
    members = _members(client, head, nets) if _is_sweep(head) else [head]
    if not members:
        raise NoRunsError(f"sweep={head.info.run_name}: has no runs")
    return head, members


def _members(client: MlflowClient, head: Run, nets: Sequence[Run]) -> list[Run]:
    """A sweep is its manifest; where that is not written yet, its children."""
    by_id = {run.info.run_id: run for run in nets}
    if any(item.path == MANIFEST for item in client.list_artifacts(head.info.run_id)):
        jobs = json.loads(Path(client.download_artifacts(head.info.run_id, MANIFEST)).read_text())["jobs"]
        return [by_id[run_id] for run_id in dict.fromkeys(job["run_id"] for job in jobs) if run_id in by_id]
    children = [run for run in nets if run.data.tags.get("mlflow.parentRunId") == head.info.run_id]
    return sorted(children, key=lambda run: int(run.data.tags.get("bpexp.job", 0)))


def _row(run: Run) -> dict[str, Any]:
    tags, info = run.data.tags, run.info
    row: dict[str, Any] = {
        "run_id": info.run_id,
        "name": info.run_name,
        "status": info.status,
        "outcome": tags.get("bpexp.outcome"),
        "diverged_at": int(tags["bpexp.diverged_at"]) if "bpexp.diverged_at" in tags else None,
        "fingerprint": tags.get("bpexp.fingerprint"),
        "start_time": pd.Timestamp(info.start_time, unit="ms", tz="UTC"),
        "seconds": (info.end_time - info.start_time) / 1000 if info.end_time else None,
        "error": tags.get("bpexp.error"),
    }
    row |= {key: _typed(run.data.params[key]) for key in keys(RunConfig) if key in run.data.params}
    return row | summary(run)


def _typed(text: str) -> Any:
    """A parameter as the configuration had it, but for lists, which a frame can't group by: MLflow stores text."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return text if isinstance(value, list) else value


def _read(where: str, members: Sequence[Run], name: str) -> pd.DataFrame:
    """One parquet artifact of all runs that have it, stacked.  By its URI, which the run told: by the run's id, MLflow would look that up again."""
    artifact, frames = f"{name}.parquet", []
    for run in members:
        if run.info.status != "FINISHED":
            continue
        try:
            path = download_artifacts(artifact_uri=f"{str(run.info.artifact_uri).rstrip('/')}/{artifact}", tracking_uri=where)
        except (MlflowException, OSError):
            raise NoRunsError(f"{artifact} of run {run.info.run_id} is not at {run.info.artifact_uri}; was the folder moved or deleted?") from None
        frame = pd.read_parquet(path)
        frame.insert(0, "run_id", run.info.run_id)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["run_id", *FRAMES[name]])
