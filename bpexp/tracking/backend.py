"""What a sink asks of a store, and the way that every store of MLflow's takes: its client."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol

from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Metric, Param, RunTag

from bpexp.tracking.points import NONE, Points

__all__ = ["Backend", "Client", "Held", "NewRun"]

BATCH = 950  # points in a call: MLflow takes 1,000 entries, tags among them


@dataclass(frozen=True)
class NewRun:
    """What a run has before it has trained."""

    experiment_id: str
    name: str
    start: int  # ms since 1970
    tags: Mapping[str, str]
    parameters: Mapping[str, str]
    data: DatasetInput


@dataclass(frozen=True)
class Held:
    """What a claim came to: the one run that an experiment has of a fingerprint, and whose it is."""

    state: Literal["new", "continued", "finished", "busy"]  # ours from now on: the first two
    run_id: str
    artifacts: str  # their URI
    start: int  # ms since 1970: of a continued run, when it was first begun
    owner: str = ""  # of a busy one: which process trains it


class Backend(Protocol):
    """A way into a store.  What a call leaves behind is stored when it returns or, inside `together`, at the end of that; a point sent twice is
    stored once.
    """

    def create(self, run: NewRun) -> tuple[str, str]:
        """Make a run; returns its id and the URI of its artifacts."""

    def claim(self, runs: Sequence[NewRun], *, anew: bool = False) -> list[Held]:
        """Make each run, or take over the one that the experiment has of its fingerprint (tag `bpexp.fingerprint`), so that no two processes
        train the same.

        An active run of the fingerprint that is RUNNING and whose owner lives is left alone: busy; with this process's own owner it is continued.
        One that is FINISHED is left as it is, unless `anew`, which makes a new one.  One that is KILLED or FAILED, or RUNNING with a dead owner,
        is opened again (RUNNING, the tags of `run` that tell of owner and heartbeat, without its error) and continued.  Else a new one is made.
        """

    def log(self, run_id: str, points: Points, tags: Mapping[str, str], status: str | None = None) -> None:
        """Add points and tags to a run; where there is a `status`, end the run with it."""

    def end(self, run_id: str, tags: Mapping[str, str], status: str) -> None:
        """Add tags to a run and end it; one that has ended stays as it is."""

    def together(self) -> AbstractContextManager[None]:
        """Calls of one thread that may be stored in one go."""


class Client:
    """Through MLflow's client: servers, all databases."""

    def __init__(self, client: MlflowClient) -> None:
        self.client = client

    def create(self, run: NewRun) -> tuple[str, str]:
        info = self.client.create_run(run.experiment_id, run.start, dict(run.tags), run.name).info
        self.client.log_batch(info.run_id, params=[Param(key, value) for key, value in run.parameters.items()])
        self.client.log_inputs(info.run_id, [run.data])
        return info.run_id, info.artifact_uri

    def log(self, run_id: str, points: Points, tags: Mapping[str, str], status: str | None = None) -> None:
        """In as few calls as MLflow allows: a call costs as much as a hundred points."""
        columns = (points.names.tolist(), points.values.tolist(), points.timestamps.tolist(), points.steps.tolist())
        metrics = [Metric(*row) for row in zip(*columns, strict=True)]
        full = len(metrics) // BATCH * BATCH
        for first in range(0, full, BATCH):
            self.client.log_batch(run_id, metrics=metrics[first : first + BATCH])
        if tags or metrics[full:]:
            self.client.log_batch(run_id, metrics=metrics[full:], tags=[RunTag(key, value) for key, value in tags.items()])
        if status is not None:
            self.client.set_terminated(run_id, status)

    def end(self, run_id: str, tags: Mapping[str, str], status: str) -> None:
        if self.client.get_run(run_id).info.status == "RUNNING":
            self.log(run_id, NONE, tags, status)

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()
