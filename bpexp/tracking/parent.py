"""A sweep in MLflow: the parent of its runs, with a manifest that maps each job to a run.

The manifest is there from the start, so that of a sweep that was cut off one can tell what is missing.  Started again, a sweep goes on under the
parent that it has.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass

from mlflow.entities import Param, Run, RunTag
from mlflow.exceptions import MlflowException

from bpexp.masks import masked
from bpexp.tracking.listing import listing
from bpexp.tracking.lookup import ended, newest
from bpexp.tracking.notes import Ended, Row, markdown_table, plain, table_row
from bpexp.tracking.owner import HEARTBEAT, OWNER, alive, marks
from bpexp.tracking.sink import common_tags
from bpexp.tracking.store import Store, search
from bpexp.tracking.trouble import trouble

__all__ = ["MANIFEST", "Planned", "SweepRun", "rows", "working"]

MANIFEST = "manifest.json"
TABLE = "runs.json"
SHOWN = {"mlflow.loggedArtifacts": json.dumps([{"path": TABLE, "type": "table"}])}  # by which MLflow's pages know it for a table
NOTE_LENGTH = 8000  # characters that MLflow takes
SAME = "bpexp.sweep_fingerprint"


@dataclass(frozen=True)
class Planned:
    """A job as it was asked for, and the run that it comes to: `x=1,1` is one run, listed twice."""

    overrides: Sequence[str]
    fingerprint: str
    name: str  # of the run


class SweepRun:
    """The parent run: opened before the first job, closed whatever happens."""

    def __init__(self, store: Store, name: str, swept: Mapping[str, str], planned: Sequence[Planned], run_id: str | None = None) -> None:
        """`swept`: each swept key with the values it takes, as typed; `planned`: the jobs, in the order asked for.

        The sweep is that of `run_id`, as it is.  Without one, a sweep of this name and these runs that no living process works at is opened again,
        else a new one is made; its manifest is written.
        """
        self.store, self.name, self.planned = store, name, planned
        if run_id is not None:
            self.run_id = run_id
            return
        text = json.dumps([name, sorted({job.fingerprint for job in planned}) or dict(swept)])  # a search does not know its runs yet
        same = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.run_id = _open_again(store, same) or _make(store, name, swept, same)
        self.plan(planned)

    def plan(self, planned: Sequence[Planned]) -> None:
        """Write the manifest of these jobs, none of whose runs is known yet."""
        self.planned = planned
        self._list({})

    def close(self, status: str, runs: Mapping[str, Ended], remark: str = "") -> list[Row]:
        """Write the manifest with the runs' ids, the table of the runs, the note and the status; return the note's rows, one per job.

        `runs` tells of each run by its fingerprint; the store is asked where one is missing or has no id yet, which takes 2 ms a run and more.
        `remark`: what is to be said of the sweep as a whole.
        """
        client = self.store.client
        if unknown := {job.fingerprint for job in self.planned} - {key for key, run in runs.items() if run.run_id}:
            runs = dict(runs) | {key: ended(run) for key, run in newest(self.store, unknown).items()}
        found = rows(self.planned, runs, status)
        head = f"{_counted(self.planned, 'job')}, {_counted(runs, 'run')}: {plain(self.name)}."
        note = "\n\n".join([head, *([plain(remark)] if remark else []), markdown_table(found)])
        tags = {"mlflow.note.content": note[:NOTE_LENGTH]} | SHOWN
        jobs = [(job.name, job.overrides, runs.get(job.fingerprint)) for job in self.planned]
        error = self._list(runs) or self._write(listing(jobs, _missing(status)), TABLE)
        if error:  # the runs are there all the same: the sweep must not stay open for it
            status, tags["bpexp.error"] = "FAILED", error
        client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        client.set_terminated(self.run_id, status)
        return found

    def _list(self, runs: Mapping[str, Ended]) -> str:
        """Write the manifest; why that could not be, where it could not."""
        ids = {fingerprint: run.run_id or None for fingerprint, run in runs.items()}  # one that waits has none yet
        jobs = [
            {"overrides": list(job.overrides), "fingerprint": job.fingerprint, "name": job.name, "run_id": ids.get(job.fingerprint)}
            for job in self.planned
        ]
        return self._write({"sweep": self.name, "jobs": jobs}, MANIFEST)

    def _write(self, told: Mapping[str, object], name: str) -> str:
        """Write an artifact, over one that is there; why that could not be, where it could not.  Trouble that passes is raised."""
        try:
            self.store.client.log_dict(self.run_id, dict(told), name)
        except (OSError, MlflowException) as error:
            if trouble(error):
                raise
            return f"{name} could not be written: {masked(str(error)).splitlines()[0]}"
        return ""


def rows(planned: Sequence[Planned], runs: Mapping[str, Ended], status: str) -> list[Row]:
    """A row per job, of a sweep that ended with this status; `runs`: by their fingerprints."""
    missing = _missing(status)
    found = [(job, runs.get(job.fingerprint)) for job in planned]
    return [table_row(job.name, run.summary, run.outcome) if run else table_row(job.name, {}, missing) for job, run in found]


def _missing(status: str) -> str:
    """What became of a job without a run, in a sweep that ended with this status."""
    return "not started" if status == "KILLED" else "failed"  # before its run was made


def working(head: Run, nets: Sequence[Run]) -> bool:
    """Whether a living process works at a sweep.  Nobody renews a parent's heartbeat: its runs' (among `nets`) counts for it."""
    ours = [run.data.tags for run in nets if run.data.tags.get("mlflow.parentRunId") == head.info.run_id]
    heard = [tags[HEARTBEAT] for tags in [head.data.tags, *ours] if HEARTBEAT in tags]
    return head.info.status == "RUNNING" and alive(head.data.tags.get(OWNER, ""), max(heard, default=None))


def _open_again(store: Store, same: str) -> str | None:
    """The newest sweep of this fingerprint, if nobody works at it; of two processes that open it in the same moment, the last keeps it."""
    found = list(search(store.client, store.experiment_id, f"tags.{SAME} = '{same}'"))
    if not found:
        return None
    head, tags = found[-1], marks()
    run_id = str(head.info.run_id)
    nets = search(store.client, store.experiment_id, f"tags.mlflow.parentRunId = '{run_id}' and attributes.status = 'RUNNING'")
    if head.data.tags.get(OWNER) != tags[OWNER] and working(head, list(nets)):  # one that waited twice is opened twice, by its sender
        return None
    store.backend.reopen(run_id, tags)
    return run_id if store.client.get_run(run_id).data.tags[OWNER] == tags[OWNER] else None


def _make(store: Store, name: str, swept: Mapping[str, str], same: str) -> str:
    tags = common_tags("sweep", name) | {SAME: same} | marks()
    run_id = str(store.client.create_run(store.experiment_id, time.time_ns() // 1_000_000, tags, name).info.run_id)
    params = [Param(key, values) for key, values in swept.items()]
    store.client.log_batch(run_id, params=params, tags=[RunTag("bpexp.sweep", run_id)])
    return run_id


def _counted(things: Sized, noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"
