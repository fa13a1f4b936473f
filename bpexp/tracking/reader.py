"""From MLflow back to tidy frames: what reports and notebooks read.

`Runs.runs` has a row per run: run_id, name, status (MLflow's: FINISHED, FAILED, KILLED, RUNNING), outcome (trained, stuck,
untrained, diverged; missing where a run did not end), diverged_at, fingerprint, start_time, seconds, error; then a column per configuration key, by
its dotted name and with its own type (a list as one types it: `[q,c]`); then the summary's numbers (final_loss, delta_decades_per_layer, …), missing
where they are not defined, and step_seconds, what a training step took, over the number of runs that took it together.
`Runs.curves`, `Runs.layers`, `Runs.spectra` and `Runs.histograms` are the parquet artifacts (columns: `bpexp.core.records.Records`) of all runs, with
run_id in front; what a run has not measured is missing (NaN) where others have, and `spectra` and `histograms` have rows of those runs alone that
chose the probes `spectrum` and `histogram`.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from pandas.api.types import is_numeric_dtype
from pyarrow.lib import ArrowException

from bpexp.config import ConfigError, Fault, RunConfig, keys, nested, parse, takes_whole, unknown_name, untracked, written
from bpexp.core.histograms import HISTOGRAM
from bpexp.core.jacobians import SPECTRUM
from bpexp.core.probes import PROBES
from bpexp.masks import masked
from bpexp.plugins import VARIABLE
from bpexp.tracking.lookup import everything
from bpexp.tracking.owner import HEARTBEAT, OWNER, alive
from bpexp.tracking.parent import MANIFEST, working
from bpexp.tracking.store import exists, hastily, resolve, summary, unfit
from bpexp.tracking.trouble import reason

__all__ = [
    "FRAMES",
    "NoRunsError",
    "NoRunsYetError",
    "Origin",
    "Runs",
    "Stored",
    "configuration",
    "experiment_in",
    "gathered",
    "is_sweep",
    "load_runs",
    "read",
]

FRAMES = {  # each with its columns; a run's are in its artifact NAME.parquet
    "curves": ("step", "loss_train", "loss_train_full", "loss_test", "accuracy_train", "accuracy_test"),
    "layers": ("step", "layer", *(probe.column for probe in PROBES.values() if probe.always)),
    "spectra": ("step", "layer", "sample", "index", "log10_singular_value"),
    "histograms": ("step", "layer", "bin", "left", "right", "count"),
}
CHOSEN_BY = {"spectra": SPECTRUM, "histograms": HISTOGRAM}  # the probe that a run has a frame by, where not all runs have it
OF_CLASSES = {"accuracy_train", "accuracy_test"}  # a run whose targets are no classes has none


class NoRunsError(LookupError):
    """Nothing to read, and why."""

    def __init__(self, reason: str) -> None:
        super().__init__(masked(reason))


class NoRunsYetError(NoRunsError):
    """A sweep that is at work, and has not begun with its runs."""


def empty(name: str) -> pd.DataFrame:
    """A frame of no run."""
    return pd.DataFrame(columns=["run_id", *FRAMES[name]])


@dataclass(frozen=True)
class Origin:
    """A sweep among several: what it is called there, its id, what its runs were computed with (commits and numerics), and its whole name."""

    label: str
    sweep_id: str
    commits: tuple[str, ...] = ()
    numerics: tuple[str, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class Runs:
    """Frames of a sweep, of one run, or of an experiment; columns as the module says.

    `sweeps` is empty but where several are compared (`bpexp.tracking.compared`): `runs` then tells in a column `sweep` which one a run is of.
    """

    runs: pd.DataFrame
    curves: pd.DataFrame
    layers: pd.DataFrame
    sweep_id: str | None
    sweep_name: str
    experiment_id: str
    spectra: pd.DataFrame = field(default_factory=lambda: empty("spectra"))
    histograms: pd.DataFrame = field(default_factory=lambda: empty("histograms"))
    sweeps: tuple[Origin, ...] = ()
    uri: str = ""  # of the store that they are from
    at_work: bool = False  # whether a living process was at work on them, or on a sweep, as they were read

    @cached_property
    def _by_run(self) -> dict[str, dict[str, pd.DataFrame]]:
        return {}

    def by_run(self, kind: str) -> dict[str, pd.DataFrame]:
        """The curves, layers, … of each run that has some, by its id."""
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
    stored = read(uri, experiment)
    return gathered(stored, stored.head(sweep), frames)


def gathered(stored: "Stored", head: Run | None, frames: Collection[str] = tuple(FRAMES)) -> Runs:
    """Frames of a sweep or run of a store; None: of all its runs.  Raises `NoRunsError`."""
    members, at_work = stored.members(head), stored.at_work(head)
    if not members:
        raise (NoRunsYetError if at_work else NoRunsError)(f"sweep={stored.name(head)}: has no runs{' yet' if at_work else ''}")
    holders = {name: members if name in frames else [] for name in FRAMES}
    for name, probe in CHOSEN_BY.items():
        holders[name] = [run for run in holders[name] if probe in run.data.params.get("probes", "")]
    frame = pd.DataFrame([_row(run) for run in members]).astype({"diverged_at": "Int64"})
    if "seed" not in frame:
        raise NoRunsError(f"experiment={stored.experiment}: its runs have lost their parameters, or are none of bpexp's")
    curves, layers, spectra, histograms = (_read(stored.uri, holders[name], name) for name in FRAMES)
    sweep_id = str(head.info.run_id) if head else None
    name, at = stored.name(head), stored.experiment_id
    return Runs(frame, curves, layers, sweep_id, name, at, spectra, histograms, uri=stored.uri, at_work=at_work)


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


@dataclass(frozen=True)
class Stored:
    """An experiment as a store holds it; its runs without their curves, the oldest first."""

    uri: str
    client: MlflowClient
    experiment: str
    experiment_id: str
    runs: list[Run]

    @cached_property
    def nets(self) -> list[Run]:
        """The runs that are no sweeps."""
        return [run for run in self.runs if not is_sweep(run)]

    def name(self, head: Run | None) -> str:
        return str(head.info.run_name) if head else self.experiment

    def knows(self, sweep: str) -> bool:
        """Whether there is a sweep or run of this name or id."""
        return sweep == "latest" or sweep in self._names

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(str(name) for run in self.runs for name in (run.info.run_id, run.info.run_name))

    def head(self, sweep: str | None) -> Run | None:
        """The sweep or run that is meant; None for all of them.  Raises `NoRunsError`."""
        if not self.runs:
            raise NoRunsError("the experiment has no runs yet; `python -m bpexp -m depth=10,50,100` makes some")
        if sweep is None:
            return None
        named = self.runs if sweep == "latest" else [run for run in self.runs if sweep in (run.info.run_id, run.info.run_name)]
        if not named:
            known = [str(run.info.run_name) for run in self.runs if is_sweep(run)][-5:]
            must = f"no sweep or run of this name or id; the newest sweeps: {', '.join(known) or 'none'}"
            raise NoRunsError(str(Fault("sweep", sweep, must)))  # which cuts a name that is endless
        sweeps = [run for run in reversed(named) if is_sweep(run)]
        return max(sweeps, key=_opened) if sweeps else named[-1]

    def members(self, head: Run | None) -> list[Run]:
        """The runs of nets that belong to a sweep; a run itself."""
        if head is None:
            return self.nets
        if not is_sweep(head):
            return [head]
        found = [run for _, run in self.jobs(head) if run is not None]
        return list({run.info.run_id: run for run in found}.values())

    def at_work(self, head: Run | None) -> bool:
        """Whether a living process works at a sweep, trains a run, or, for None, does either with any of them."""
        if head is None:
            return any(self.at_work(run) for run in self.runs if run.info.status == "RUNNING")
        tags = head.data.tags
        return working(head, self.nets) if is_sweep(head) else head.info.status == "RUNNING" and alive(tags.get(OWNER, ""), tags.get(HEARTBEAT))

    def jobs(self, head: Run) -> list[tuple[str, Run | None]]:
        """The names of a sweep's jobs, each with its run: those of the manifest or, where there is none, the sweep's children.

        A job whose run is not told, or is in the bin, has the newest one of its fingerprint.
        """
        ids = {run.info.run_id: run for run in self.nets}
        marked = {run.data.tags.get("bpexp.fingerprint"): run for run in self.nets}
        try:
            if any(item.path == MANIFEST for item in self.client.list_artifacts(head.info.run_id)):
                listed = json.loads(Path(self.client.download_artifacts(head.info.run_id, MANIFEST)).read_text(encoding="utf-8"))["jobs"]
                names = [job.get("name") or " ".join(job["overrides"]) for job in listed]
                return [(name, ids.get(job["run_id"]) or marked.get(job.get("fingerprint", ""))) for name, job in zip(names, listed, strict=True)]
        except (MlflowException, OSError) as error:
            raise NoRunsError(f"{MANIFEST} of sweep {head.info.run_id} can't be read ({reason(error)})") from None
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
            raise NoRunsError(f"{MANIFEST} of sweep {head.info.run_id} is damaged: it must list jobs, each with its run_id") from None
        children = [run for run in self.nets if run.data.tags.get("mlflow.parentRunId") == head.info.run_id]
        return [(str(run.info.run_name), run) for run in sorted(children, key=lambda run: _whole(run, "bpexp.job") or 0)]


def read(uri: str | None, experiment: str) -> Stored:
    """All of an experiment.  Raises `NoRunsError` where there is none."""
    where = resolve(uri)
    client, found = experiment_in(where, experiment)
    with _readable(where):
        return Stored(where, client, experiment, found, everything(client, found))


def experiment_in(where: str, experiment: str) -> tuple[MlflowClient, str]:
    """The client of the store at a resolved URI, and the experiment's id there.  Raises `NoRunsError`."""
    if not exists(where):
        damage = unfit(where)
        told = f" ({damage})" if damage else ""
        raise NoRunsError(f"uri={where}: no store of MLflow's there{told}; `python -m bpexp` makes one where there is none")
    with _readable(where):
        client = MlflowClient(where)
        found = client.get_experiment_by_name(experiment)
    if found is None:
        raise NoRunsError(f"experiment={experiment}: no such experiment in {where}")
    return client, str(found.experiment_id)


@contextmanager
def _readable(where: str) -> Iterator[None]:
    try:
        with hastily():
            yield
    except Exception as error:  # what MLflow makes of rows that it has not written may end in anything
        raise NoRunsError(f"uri={where}: can't be read ({reason(error)})") from None


def is_sweep(run: Run) -> bool:
    return run.data.tags.get("bpexp.kind") == "sweep"


def _opened(sweep: Run) -> float:
    """Seconds from 1970 to when a sweep was started, or started again: a parent's heartbeat is of then."""
    told = sweep.data.tags.get(HEARTBEAT)
    return datetime.fromisoformat(told).timestamp() if told else sweep.info.start_time // 1000


def _whole(run: Run, tag: str) -> int | None:
    """A tag that is a whole number, where the run has it."""
    text = run.data.tags.get(tag)
    if text is not None and not re.fullmatch(r"\d{1,15}", text):
        raise NoRunsError(f"run {run.info.run_id} is damaged: its tag {tag} must be a whole number, and is {text[:40]!r}")
    return None if text is None else int(text)


def _row(run: Run) -> dict[str, Any]:
    tags, info = run.data.tags, run.info
    try:
        row: dict[str, Any] = {
            "run_id": info.run_id,
            "name": info.run_name,
            "status": info.status,
            "outcome": tags.get("bpexp.outcome"),
            "diverged_at": _whole(run, "bpexp.diverged_at"),
            "fingerprint": tags.get("bpexp.fingerprint"),
            "start_time": pd.Timestamp(int(info.start_time), unit="ms", tz="UTC"),
            "seconds": (info.end_time - info.start_time) / 1000 if info.end_time and info.status != "RUNNING" else None,
            "error": tags.get("bpexp.error"),
        }
        row |= {key: _typed(run.data.params[key]) for key in keys(RunConfig) if key in run.data.params}
        told = untracked(configuration(row))
        if info.status == "FINISHED" and "seed" in row:  # of an older version, which had not all of these keys; one that failed may lack any
            row |= {key: written(value) if isinstance(value, list) else value for key, value in told.items() if key not in row}
        return row | {name: float(value) for name, value in summary(run).items()}
    except ConfigError as error:
        must = f"is not known here; if it is one of your own, {VARIABLE} must name the module that adds it"
        unknown = [Fault(fault.key, fault.value, must) for fault in error.faults if unknown_name(fault)]
        raise NoRunsError(f"run {info.run_id} {f'has {unknown[0]}' if unknown else f'is damaged: {reason(error)}'}") from None
    except (TypeError, ValueError) as error:
        raise NoRunsError(f"run {info.run_id} is damaged: {reason(error)}") from None


def _typed(text: str) -> Any:
    """A parameter as the configuration had it, but for lists, which a frame can't group by: MLflow stores text."""
    try:
        value = json.loads(text)
    except (RecursionError, ValueError):
        return text
    return text if isinstance(value, list | dict) else value


def _read(where: str, members: Sequence[Run], name: str) -> pd.DataFrame:
    """One parquet artifact of all runs that have it, stacked.  By its URI, which the run told: by the run's id, MLflow would look that up again."""
    artifact, frames = f"{name}.parquet", []
    for run in members:
        if run.info.status != "FINISHED":
            continue
        try:
            path = download_artifacts(artifact_uri=f"{str(run.info.artifact_uri).rstrip('/')}/{artifact}", tracking_uri=where)
        except Exception:  # an address that is none may end in anything
            raise NoRunsError(f"{artifact} of run {run.info.run_id} is not at {run.info.artifact_uri}; was the folder moved or deleted?") from None
        frame = _frame(path, name, f"{artifact} of run {run.info.run_id}")
        frame.insert(0, "run_id", run.info.run_id)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else empty(name)


def _frame(path: str, name: str, called: str) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError, ArrowException) as error:
        raise NoRunsError(f"{called} is damaged ({reason(error)})") from None
    needed = [column for column in FRAMES[name] if column in frame or column not in OF_CLASSES]
    if lost := [column for column in needed if column not in frame or not is_numeric_dtype(frame[column])]:
        raise NoRunsError(f"{called} is damaged: it must have numbers in {', '.join(lost)}")
    return frame
