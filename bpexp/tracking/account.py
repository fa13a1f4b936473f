"""What MLflow is to be told of a run or of a sweep, in a form that outlasts the process.

A run's records are cumulative and a point that is sent twice is stored once: an account may be told as often as one likes, and a newer one makes an
older one needless.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from mlflow.entities import Dataset, DatasetInput, InputTag
from numpy.typing import NDArray

from bpexp.config import RunConfig, parse
from bpexp.core.records import Records
from bpexp.experiment import Run
from bpexp.tracking.backend import NewRun
from bpexp.tracking.parent import Planned
from bpexp.tracking.sink import Ending, MlflowSink, new_run
from bpexp.tracking.store import Store

__all__ = ["KINDS", "Account", "RunAccount", "SweepAccount"]

Packed = tuple[dict[str, NDArray[Any]], dict[str, Any]]
COLUMNS = ("curves", "layers", "spectra", "histograms", "parameters")  # of records


@dataclass(frozen=True)
class RunAccount:
    """A run, from before it trains to its end."""

    kind: ClassVar[str] = "run"

    new: NewRun  # without the id of its experiment, which the store has to say
    config: RunConfig
    anew: bool = False  # also where the store has a finished one (`rerun=true`)
    run_id: str | None = None  # where the store has given one
    records: Records | None = None  # as far as it has come
    step_seconds: float | None = None  # of a run that came to its end
    ending: Ending | None = None  # of one that did not

    @classmethod
    def of(cls, run: Run, job: int, *, anew: bool) -> Self:
        return cls(new_run(run, "", job), run.config, anew)

    @property
    def name(self) -> str:
        """Of its file; names sort by the time at which runs began."""
        return f"{self.new.start}-{self.new.tags['bpexp.fingerprint']}-{self.new.tags['bpexp.job']}"

    @property
    def experiment(self) -> str:
        return self.config.tracking.experiment

    def placed(self, store: Store) -> NewRun:
        """The run as the store's backend takes it."""
        return replace(self.new, experiment_id=store.experiment_id)

    def filed(self, parents: Mapping[str, str]) -> Self:
        """The same under another parent, where its own has got an id."""
        parent = parents.get(str(self.config.tracking.parent), self.config.tracking.parent)
        tags = {key: parents.get(value, value) for key, value in self.new.tags.items()}
        tracking = replace(self.config.tracking, parent=parent)
        return replace(self, new=replace(self.new, tags=tags), config=replace(self.config, tracking=tracking))

    def tell(self, sink: MlflowSink) -> None:
        """Bring a run that the store has up to this account."""
        if self.records is not None and self.step_seconds is not None:
            sink.close(self.records, self.step_seconds)
            return
        if self.records is not None:
            sink.update(self.records)
        if self.ending is not None:
            sink.end(self.ending)

    def packed(self) -> Packed:
        """Arrays, and what JSON can tell."""
        new, records = self.new, self.records
        data = {"dataset": dict(new.data.dataset), "tags": {tag.key: tag.value for tag in new.data.tags}}
        run = {"name": new.name, "start": new.start, "tags": dict(new.tags), "parameters": dict(new.parameters), "data": data}
        told: dict[str, Any] = {"new": run, "config": asdict(self.config), "anew": self.anew, "run_id": self.run_id}
        told |= {"step_seconds": self.step_seconds, "ending": self.ending and asdict(self.ending)}
        if records is None:
            return {}, told
        arrays = {f"{part}/{name}": np.asarray(column) for part in COLUMNS for name, column in getattr(records, part).items()}
        return arrays, told | {"records": {"plateau": float(records.plateau), "diverged_at": records.diverged_at}}

    @classmethod
    def unpacked(cls, arrays: Mapping[str, NDArray[Any]], told: Mapping[str, Any]) -> Self:
        run, ending = dict(told["new"]), told["ending"]
        data = run.pop("data")
        inputs = DatasetInput(Dataset(**data["dataset"]), [InputTag(*tag) for tag in data["tags"].items()])
        records = None
        if "records" in told:
            parts: dict[str, Any] = {part: {} for part in COLUMNS}
            for name, array in arrays.items():
                part, _, column = name.partition("/")
                parts[part][column] = array
            records = Records(**parts, **told["records"])
        return cls(
            NewRun("", data=inputs, **run),
            parse(RunConfig, told["config"]),
            told["anew"],
            told["run_id"],
            records,
            told["step_seconds"],
            ending and Ending(**ending),
        )


@dataclass(frozen=True)
class SweepAccount:
    """A sweep's parent run, which is whole when none of its runs waits any more."""

    kind: ClassVar[str] = "sweep"

    name: str  # of its file; as long as there is no `run_id`, its runs have it for a parent (`tracking.parent`)
    experiment: str
    title: str
    swept: Mapping[str, str]  # each swept key with its values, as typed
    planned: Sequence[Planned]
    owner: str  # the process that it runs in (`bpexp.tracking.owner`)
    status: str | None = None  # None: it goes on
    run_id: str | None = None  # where the store has given one

    def packed(self) -> Packed:
        return {}, asdict(self)

    @classmethod
    def unpacked(cls, _arrays: Mapping[str, NDArray[Any]], told: Mapping[str, Any]) -> Self:
        return cls(**dict(told) | {"planned": [Planned(**job) for job in told["planned"]]})


Account = RunAccount | SweepAccount
KINDS: dict[str, type[Account]] = {kind.kind: kind for kind in (RunAccount, SweepAccount)}  # by how their files' names end
