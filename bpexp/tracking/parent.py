"""A sweep in MLflow: the parent of its runs, with a manifest that maps each job to a run."""

import time
from collections.abc import Mapping, Sequence, Sized

from mlflow.entities import Param, Run, RunTag
from mlflow.exceptions import MlflowException

from bpexp.masks import masked
from bpexp.tracking.lookup import ended
from bpexp.tracking.notes import Ended, Row, markdown_table, plain, table_row
from bpexp.tracking.sink import common_tags
from bpexp.tracking.store import Store, search

__all__ = ["MANIFEST", "SweepRun"]

MANIFEST = "manifest.json"
NOTE_LENGTH = 8000  # characters that MLflow takes


class SweepRun:
    """The parent run: opened before the first job, closed whatever happens."""

    def __init__(self, store: Store, name: str, swept: Mapping[str, str]) -> None:
        """`swept`: each swept key with the values it takes, as typed."""
        self.store, self.name = store, name
        tags = common_tags("sweep", name)
        start = time.time_ns() // 1_000_000
        self.run_id: str = store.client.create_run(store.experiment_id, start, tags, name).info.run_id
        params = [Param(key, values) for key, values in swept.items()]
        store.client.log_batch(self.run_id, params=params, tags=[RunTag("bpexp.sweep", self.run_id)])

    def close(self, status: str, jobs: Sequence[Sequence[str]], run_of_job: Sequence[int], runs: Mapping[int, Ended] | None = None) -> list[Row]:
        """Write the manifest (job -> overrides, run id), the note and the status; return the table's rows, one per job.

        `jobs` are the overrides of each job, in the order asked for; `run_of_job` says which of the launched runs is whose: `x=1,1` is one
        run, listed twice.  `runs` tells of each run by its number; the store is asked where one is missing, which takes 2 ms a run and more.
        """
        client = self.store.client
        runs = dict(runs or {})
        if not set(run_of_job) <= set(runs):
            runs = {int(run.data.tags["bpexp.job"]): ended(run) for run in children(self.store, self.run_id)} | runs
        missing = "not started" if status == "KILLED" else "failed"  # a job that failed before its run was made
        rows, listed = [], []
        for words, number in zip(jobs, run_of_job, strict=True):
            run = runs.get(number)
            rows.append(table_row(run.name, run.summary, run.outcome) if run else table_row(" ".join(words), {}, missing))
            listed.append({"overrides": list(words), "run_id": run.run_id if run else None})
        note = f"{_counted(jobs, 'job')}, {_counted(runs, 'run')}: {plain(self.name)}.\n\n{markdown_table(rows)}"
        tags = {"mlflow.note.content": note[:NOTE_LENGTH]}
        try:
            client.log_dict(self.run_id, {"sweep": self.name, "jobs": listed}, MANIFEST)
        except (OSError, MlflowException) as error:  # the runs are there all the same: the sweep must not stay open for it
            status, tags["bpexp.error"] = "FAILED", f"{MANIFEST} could not be written: {masked(str(error)).splitlines()[0]}"
        client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        client.set_terminated(self.run_id, status)
        return rows


def _counted(things: Sized, noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def children(store: Store, parent: str) -> list[Run]:
    """The runs filed under a parent, in the order of their jobs."""
    found = search(store.client, store.experiment_id, f"tags.mlflow.parentRunId = '{parent}'")
    return sorted(found, key=lambda run: int(run.data.tags.get("bpexp.job", 0)))
