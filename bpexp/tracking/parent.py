"""A sweep in MLflow: the parent of its runs, with a manifest that maps each job to a run."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities import Run, RunTag

from bpexp.tracking.notes import Row, markdown_table
from bpexp.tracking.sink import common_tags
from bpexp.tracking.store import Store

__all__ = ["MANIFEST", "SweepRun", "children"]

MANIFEST = "manifest.json"


class SweepRun:
    """The parent run: opened before the first job, closed whatever happens."""

    def __init__(self, store: Store, name: str, swept: Mapping[str, str]) -> None:
        """`swept`: each swept key with the values it takes, as typed."""
        self.store, self.name = store, name
        tags = common_tags("sweep", name) | {"bpexp.sweep": name}
        start = time.time_ns() // 1_000_000
        self.run_id: str = store.client.create_run(store.experiment_id, start, tags, name).info.run_id
        for key, values in swept.items():
            store.client.log_param(self.run_id, key, values)

    def close(self, status: str, jobs: Sequence[Sequence[str]], run_of_job: Sequence[int], rows: Sequence[Row]) -> None:
        """Write the manifest (job -> overrides, run id), the note and the status.

        `jobs` are the overrides of each job, in the order asked for; `run_of_job` says which of the launched runs is whose:
        `x=1,1` is one run, listed twice.
        """
        client = self.store.client
        ids = {int(run.data.tags["bpexp.job"]): run.info.run_id for run in children(self.store, self.run_id)}
        listed = [{"overrides": list(words), "run_id": ids.get(run)} for words, run in zip(jobs, run_of_job, strict=True)]
        client.log_dict(self.run_id, {"sweep": self.name, "jobs": listed}, MANIFEST)
        note = f"{len(jobs)} jobs, {len(ids)} runs: {self.name}.\n\n{markdown_table(rows)}"
        client.log_batch(self.run_id, tags=[RunTag("mlflow.note.content", note[:5000])])
        client.set_terminated(self.run_id, status)


def children(store: Store, parent: str) -> list[Run]:
    """The runs filed under a parent, in the order of their jobs."""
    found: list[Run] = []
    token: Any = None
    while True:
        page = store.client.search_runs([store.experiment_id], f"tags.mlflow.parentRunId = '{parent}'", page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            return sorted(found, key=lambda run: int(run.data.tags.get("bpexp.job", 0)))
