"""Sinks that write while their runs go on training.

A thread makes the sinks' calls, in the order in which they came; whoever trains goes on at once, whatever the store's speed.  Records are
cumulative: an update that still waits is dropped when its run sends more, so that no run has more than one waiting, and no run is opened while
too much waits.  An error of the store ends the open runs and is raised where the training next calls, or at the end.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from threading import Condition, Thread
from types import TracebackType
from typing import Any, Self

from bpexp.core.records import Columns, Records
from bpexp.experiment import Run, Sink

__all__ = ["Writer"]

FULL = 1 << 28  # bytes of records that may wait before another run is opened


@dataclass(frozen=True, eq=False)
class Call:
    """One of the methods of a sink, what it is given, and how many bytes that keeps."""

    sink: Sink
    method: str
    arguments: tuple[Any, ...]
    size: int = 0

    def replaces(self, other: "Call") -> bool:
        return other.sink is self.sink and other.method == "update" and self.method in ("update", "close")


class Writer:
    """A context whose end waits until all is stored; `together` is entered around calls that were waiting side by side."""

    def __init__(self, together: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self.together = together
        self.opened: list[Sink] = []  # and not ended: the thread's own
        self.changed = Condition()  # guards all that follows
        self.waiting: list[Call] = []
        self.size = 0  # bytes that wait or are being written
        self.ending = self.ended = False
        self.error: BaseException | None = None
        self.thread = Thread(target=self._work, name="writer", daemon=True)  # whoever interrupts the wait for it twice is let go

    def wrap(self, sink: Sink) -> Sink:
        """A sink that leaves the work to this writer."""
        return _Wrapped(self, sink)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self.changed:
            self.ending = True
            self.changed.notify_all()
        try:
            self._wait()
        except BaseException as interruption:
            self._fail(interruption)
            self._wait()
            raise
        if self.error is not None and error is None:
            raise self.error

    def put(self, call: Call) -> None:
        """Leave a call to the thread.  A run is opened when there is room; after an error the thread ends all runs by itself."""
        with self.changed:
            self.changed.wait_for(lambda: call.method != "open" or self.size < FULL or self.error is not None)
            if self.error is not None:
                if call.method == "abort":
                    return
                raise self.error
            for old in filter(call.replaces, list(self.waiting)):
                self.waiting.remove(old)
                self.size -= old.size
            self.waiting.append(call)
            self.size += call.size
            self.changed.notify_all()

    def _wait(self) -> None:
        """For the thread's end; `Thread.join` forgets about the thread when it is interrupted."""
        with self.changed:
            self.changed.wait_for(lambda: self.ended)

    def _work(self) -> None:
        """The thread: make the calls that wait; after an error, end the runs that are open."""
        try:
            while calls := self._take():
                self._make(calls)
        except BaseException as error:  # raised again in the thread that trains
            self._fail(error)
        if self.error is not None:
            with suppress(Exception), self.together():  # a store that failed may refuse this as well: its first error is the one to tell
                for sink in self.opened:
                    sink.abort(self.error)
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def _take(self) -> list[Call]:
        """All calls that wait; none at the end."""
        with self.changed:
            self.changed.wait_for(lambda: self.waiting or self.ending or self.error is not None)
            calls, self.waiting = self.waiting, []
            return calls if self.error is None else []

    def _make(self, calls: Sequence[Call]) -> None:
        self.opened += [call.sink for call in calls if call.method == "open"]
        with self.together():
            for call in calls:
                getattr(call.sink, call.method)(*call.arguments)
        ended = [call.sink for call in calls if call.method in ("close", "abort")]
        self.opened = [sink for sink in self.opened if sink not in ended]
        with self.changed:
            self.size -= sum(call.size for call in calls)
            self.changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self.changed:
            self.error = self.error or error
            self.changed.notify_all()


class _Wrapped:
    """A `Sink`."""

    def __init__(self, writer: Writer, sink: Sink) -> None:
        self.writer, self.sink = writer, sink

    def open(self, run: Run) -> None:
        self.writer.put(Call(self.sink, "open", (run,)))

    def update(self, records: Records) -> None:
        kept = _kept(records)
        self.writer.put(Call(self.sink, "update", (kept,), _size(kept)))

    def close(self, records: Records, step_seconds: float) -> None:
        kept = _kept(records)
        self.writer.put(Call(self.sink, "close", (kept, step_seconds), _size(kept)))

    def abort(self, error: BaseException) -> None:
        self.writer.put(Call(self.sink, "abort", (error,)))


def _kept(records: Records) -> Records:
    """Records that the training can't change any more: their columns are views into what it still writes to."""

    def copied(columns: Columns) -> Columns:
        return {name: column.copy() for name, column in columns.items()}

    return replace(records, curves=copied(records.curves), layers=copied(records.layers))


def _size(records: Records) -> int:
    return sum(array.nbytes for part in (records.curves, records.layers, records.parameters, records.spectra) for array in part.values())
