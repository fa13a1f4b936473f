"""A sink that never lets the store's trouble reach the training: it keeps what there is to tell, and `bpexp.tracking.writer` tells it."""

from dataclasses import replace
from threading import Condition
from typing import Any

from bpexp.core.records import Columns, Records
from bpexp.experiment import Run
from bpexp.tracking.account import RunAccount
from bpexp.tracking.backend import Held
from bpexp.tracking.sink import Ending, MlflowSink
from bpexp.tracking.store import Store

__all__ = ["RecordError", "Tracked"]


class RecordError(RuntimeError):
    """What was trained could not be recorded: why, in its words."""


class Tracked:
    """A `Sink`: the newest account of a run, and which one the store has.

    `failure` is empty, or tells what the run failed of, its training apart: a full disk, say.  What its training records from then on is left
    out.  `waits`: whether its account is in the spool.
    """

    def __init__(self, changed: Condition, job: int, *, anew: bool) -> None:
        """`anew`: the run is made also where the store has a finished one of its fingerprint."""
        self.changed, self.job, self.anew = changed, job, anew  # `changed` guards all that follows
        self.account: RunAccount | None = None
        self.opened = False
        self.told: RunAccount | None = None
        self.held: Held | None = None  # as soon as the store has said whose the run is
        self.sink: MlflowSink | None = None  # where it is ours
        self.failure = self.remark = ""
        self.held_back = False  # nothing is to be told before the end, and that to the spool
        self.waits = False

    @property
    def run_id(self) -> str | None:
        return None if self.held is None else self.held.run_id

    @property
    def untold(self) -> bool:
        return self.opened and self.account is not self.told

    def prepare(self, run: Run) -> None:
        """What `open` does first, for a run that is claimed before it trains."""
        self.account = self.account or RunAccount.of(run, self.job, anew=self.anew)

    def take(self, store: Store, held: Held) -> None:
        """Be told whose the run is: from now on the store has it, or has no need of what is trained here."""
        assert self.account is not None
        self.held = held
        if held.state in ("new", "continued"):
            self.sink = MlflowSink(store, job=self.job)
            self.sink.take(self.account.config, held)
        elif held.state == "finished":
            self.told, self.remark = self.account, "was finished by another process meanwhile"
        else:
            self.held_back, self.remark = True, f"is trained by another process as well ({held.owner})"

    # ------------------------------------------------------------------------------------------ called by the training

    def open(self, run: Run) -> None:
        with self.changed:
            self.prepare(run)
            self.opened = True
            self.changed.notify_all()

    def update(self, records: Records) -> None:
        self._add(records=_kept(records))

    def close(self, records: Records, step_seconds: float) -> None:
        self._add(records=_kept(records), step_seconds=step_seconds)

    def abort(self, error: BaseException) -> None:
        if self.account is not None and self.account.step_seconds is None:  # else it has come to its end
            self._add(ending=Ending.of(error))

    def _add(self, **changes: Any) -> None:
        with self.changed:
            if self.account is not None and not self.failure:
                self.account = replace(self.account, **changes)
                self.changed.notify_all()

    # ------------------------------------------------------------------------------------------ called by the writer

    def fail(self, error: Exception) -> None:
        """End the run for an error of its own."""
        ending = Ending.of(error)
        with self.changed:
            assert self.account is not None
            self.failure = self.failure or ending.told
            self.account = replace(self.account, step_seconds=None, ending=ending)


def _kept(records: Records) -> Records:
    """Records that the training can't change any more: their columns are views into what it still writes to."""

    def copied(columns: Columns) -> Columns:
        return {name: column.copy() for name, column in columns.items()}

    return replace(records, curves=copied(records.curves), layers=copied(records.layers))
