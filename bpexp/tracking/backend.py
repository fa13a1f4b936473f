"""What a sink asks of a store, and the way that every store of MLflow's takes: its client."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Literal, Protocol

from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from bpexp.tracking.notes import ABORTED
from bpexp.tracking.owner import HEARTBEAT, OWNER, alive
from bpexp.tracking.points import NONE, Points
from bpexp.tracking.trouble import trouble

__all__ = ["FINGERPRINT", "Backend", "Client", "Held", "Known", "NewRun", "judged"]

FINGERPRINT, ERROR, NOTE = "bpexp.fingerprint", "bpexp.error", "mlflow.note.content"
BATCH = 950  # points in a call: MLflow takes 1,000 entries, tags among them
SETTLE = 1.0  # s in which whoever is about to make the same run has made it
PAGE = 1000  # runs of one fingerprint, at most


@dataclass(frozen=True)
class NewRun:
    """What a run has before it has trained."""

    experiment_id: str
    name: str
    start: int  # ms since 1970
    tags: Mapping[str, str]
    parameters: Mapping[str, str]
    data: DatasetInput

    @property
    def fingerprint(self) -> str:
        return self.tags[FINGERPRINT]

    @property
    def marks(self) -> dict[str, str]:
        """The tags that tell who trains it."""
        return {key: self.tags[key] for key in (OWNER, HEARTBEAT)}


@dataclass(frozen=True)
class Held:
    """What a claim came to: the one run that an experiment has of a fingerprint, and whose it is."""

    state: Literal["new", "continued", "finished", "busy"]  # ours from now on: the first two
    run_id: str
    artifacts: str  # their URI
    start: int  # ms since 1970: of a continued run, when it was first begun
    owner: str = ""  # of a busy one: which process trains it


@dataclass(frozen=True)
class Known:
    """An active run, as far as a claim is concerned."""

    run_id: str
    artifacts: str
    start: int
    status: str
    owner: str
    heartbeat: str | None

    def held(self, state: Literal["new", "continued", "finished", "busy"]) -> Held:
        return Held(state, self.run_id, self.artifacts, self.start, self.owner if state == "busy" else "")


def judged(known: Sequence[Known], owner: str, lives: Callable[[str, str | None], bool], *, anew: bool) -> Held | None:
    """What a claim by `owner` comes to, given all active runs of the fingerprint, the oldest first; None: there is none to keep to."""
    done = [it for it in known if it.status == "FINISHED"]
    if done and not anew:
        return done[-1].held("finished")
    begun = [it for it in known if it.status != "FINISHED"]
    living = [it for it in begun if it.status == "RUNNING" and lives(it.owner, it.heartbeat)]
    if living:
        return living[0].held("continued" if living[0].owner == owner else "busy")
    return begun[-1].held("continued") if begun else None


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
        What a claim leaves behind is stored when it returns, also inside `together`.
        """

    def reopen(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Open a run again that has ended or lost its owner: RUNNING, without end, error or the note that told of it, and with these tags."""

    def retire(self, experiment_id: str, fingerprint: str, keep: str) -> None:
        """Move the FINISHED runs of a fingerprint, but for the run `keep`, to the store's bin, from which MLflow can restore them."""

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
        self._describe(info.run_id, run)
        return info.run_id, info.artifact_uri

    def claim(self, runs: Sequence[NewRun], *, anew: bool = False) -> list[Held]:
        """As `Backend.claim`, as far as that goes without transactions: look, write, wait for others who are about to write, look again.

        Of several processes that make a run, all but that of the oldest take theirs back; of several that take one over, the last to write its
        name keeps it.  Unprotected: a process that stands still for longer than `SETTLE` between its look and its write, and an owner that is
        taken for dead (silent for `SILENCE`, on another machine) and goes on.  Both then train the same run, or two runs of one fingerprint.
        What is told of a busy run may be of one that is taken back in the next moment.
        """
        lives = cache(alive)
        held = [self._first(run, lives, anew=anew) for run in runs]
        ours = [it.state in ("new", "continued") for it in held]
        if any(ours):
            time.sleep(SETTLE)
        return [self._settled(run, it, lives) if own else it for run, it, own in zip(runs, held, ours, strict=True)]

    def _first(self, run: NewRun, lives: Callable[[str, str | None], bool], *, anew: bool) -> Held:
        """A claim, but for what others write in the same moment."""
        found = {it.info.run_id: it for it in self._active(run.experiment_id, run.fingerprint)}
        held = judged([_known(it) for it in found.values()], run.tags[OWNER], lives, anew=anew)
        if held is None:
            run_id, artifacts = self.create(run)
            return Held("new", run_id, artifacts, run.start)
        if held.state == "continued":
            self.reopen(held.run_id, run.marks)
            inputs = found[held.run_id].inputs
            if not (inputs and inputs.dataset_inputs):  # its making was cut off
                self._describe(held.run_id, run)
        return held

    def _settled(self, run: NewRun, held: Held, lives: Callable[[str, str | None], bool]) -> Held:
        """What a claim has come to, once all can see what the others have written."""
        known = map(_known, self._active(run.experiment_id, run.fingerprint))
        first, *later = [it for it in known if it.run_id == held.run_id or (it.status == "RUNNING" and lives(it.owner, it.heartbeat))]
        for it in later:
            if it.owner == run.tags[OWNER]:
                self.client.delete_run(it.run_id)
        return first.held(held.state if first.owner == run.tags[OWNER] else "busy")

    def _active(self, experiment_id: str, fingerprint: str) -> list[Run]:
        """All active runs of a fingerprint, the oldest first, in an order that all processes agree on."""
        found = self.client.search_runs([experiment_id], f"tags.{FINGERPRINT} = '{fingerprint}'", max_results=PAGE)
        return sorted(found, key=lambda run: (run.info.start_time, run.info.run_id))

    def _describe(self, run_id: str, run: NewRun) -> None:
        self.client.log_batch(run_id, params=[Param(key, value) for key, value in run.parameters.items()])
        try:
            self.client.log_inputs(run_id, [run.data])
        except MlflowException as error:
            if trouble(error):
                raise
            self.client.log_inputs(run_id, [run.data])  # MLflow fails where another process has just been the first to name this data set

    def reopen(self, run_id: str, tags: Mapping[str, str]) -> None:
        """MLflow's client can't empty a run's end; the next one overwrites it."""
        old = self.client.get_run(run_id).data.tags
        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        for key in (ERROR, NOTE):
            if key in old and (key == ERROR or old[key].startswith(ABORTED)):
                self.client.delete_tag(run_id, key)
        self.client.update_run(run_id, "RUNNING")

    def retire(self, experiment_id: str, fingerprint: str, keep: str) -> None:
        for run in self._active(experiment_id, fingerprint):
            if run.info.status == "FINISHED" and run.info.run_id != keep:
                self.client.delete_run(run.info.run_id)

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


def _known(run: Run) -> Known:
    info, tags = run.info, run.data.tags
    return Known(info.run_id, str(info.artifact_uri), int(info.start_time), info.status, tags.get(OWNER, ""), tags.get(HEARTBEAT))
