"""A thread that tells a store of runs while they go on training.

Whoever trains goes on at once, whatever the store's speed and whether it is there.  Accounts are cumulative: of those of a run that wait only the
newest is kept.  A store that is away is tried again every few seconds and once more at the end; what it has not been told by then goes into the
spool.  An error of one run ends that run alone.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from threading import Condition, Thread
from types import TracebackType
from typing import Self

from bpexp.config import RunConfig
from bpexp.experiment import Run
from bpexp.tracking.account import RunAccount
from bpexp.tracking.backend import Held
from bpexp.tracking.link import Link
from bpexp.tracking.sink import MlflowSink
from bpexp.tracking.spool import Spool
from bpexp.tracking.store import Store, connect
from bpexp.tracking.tracked import Tracked
from bpexp.tracking.trouble import AwayError, reason, trouble

__all__ = ["Writer", "link_to"]

GRACE = 1.0  # seconds that an interruption leaves the store to be told of it

News = Sequence[tuple[Tracked, RunAccount]]


class Writer:
    """A context whose end waits until all is told or in the spool."""

    def __init__(self, link: Link, spool: Spool, *, anew: bool = False) -> None:
        """`anew`: runs are made also where the store has finished ones of their fingerprints."""
        self.link, self.spool, self.anew = link, spool, anew
        self.changed = Condition()  # guards all that follows
        self.tracked: list[Tracked] = []
        self.ending = self.ended = False
        self.error: BaseException | None = None  # a mistake of ours: those of the store are dealt with
        self.thread = Thread(target=self._work, name="writer", daemon=True)  # a store that hangs must not hold up an interruption

    @classmethod
    def to(cls, uri: str, config: RunConfig, cwd: Path, *, anew: bool = False) -> Self:
        """Into the store at a resolved URI, for runs with this configuration's `tracking` and `offline`, typed in the folder `cwd`."""
        return cls(link_to(uri, config.tracking.experiment, offline=config.offline), Spool.at(uri, config, cwd), anew=anew)

    def sink(self, job: int = 0) -> Tracked:
        """A sink that leaves the work to this writer."""
        self.tracked.append(Tracked(self.changed, job, anew=self.anew))
        return self.tracked[-1]

    def claim(self, sinks: Sequence[Tracked], runs: Sequence[Run]) -> list[Held] | None:
        """What the store has of runs that are about to train (`Backend.claim`): those that are finished or busy need not.  None: it is away."""
        for sink, run in zip(sinks, runs, strict=True):
            sink.prepare(run)
        try:
            with self.link.attempt() as store:
                return self._claim(store, sinks)
        except AwayError:
            return None

    def retire(self, sinks: Sequence[Tracked]) -> None:
        """Leave of each run that was made anew and has come to its end in the store the newest alone."""
        try:
            with self.link.attempt() as store:
                for it in sinks:
                    if it.sink is not None and it.account is not None and not (it.untold or it.failure):
                        store.backend.retire(store.experiment_id, it.account.new.fingerprint, keep=str(it.sink.run_id))
        except AwayError:
            return

    def __enter__(self) -> Self:
        try:
            self.thread.start()
        except RuntimeError as error:  # there is no memory for its stack
            raise MemoryError(str(error)) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self.changed:
            self.ending = True
            self.changed.notify_all()
        try:
            self._wait(None if error is None or isinstance(error, Exception) else GRACE)
        except BaseException:
            self._wait(GRACE)
            raise
        finally:
            self._spool()
        if self.error is not None and error is None:
            raise self.error

    def _wait(self, seconds: float | None) -> None:
        """For the thread's end; `Thread.join` forgets about the thread when it is interrupted."""
        with self.changed:
            self.changed.wait_for(lambda: self.ended, seconds)

    def _spool(self) -> None:
        """Keep what the store was not told."""
        for it in self.tracked:
            if not it.untold or it.account is None:
                continue
            try:
                self.spool.put(replace(it.account, run_id=None if it.sink is None else it.sink.run_id))
                it.waits = True
            except OSError as error:
                it.failure = it.failure or f"{type(error).__name__}: {reason(error)}"

    # ------------------------------------------------------------------------------------------ the thread

    def _work(self) -> None:
        try:
            while news := self._news():
                self._tell(news)
            while (news := self._untold()) and self._tell(news):
                pass
        except BaseException as error:  # raised again in the thread that trains
            self.error = error
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def _news(self) -> News:
        """What there is to tell, as soon as there is something and the store may be asked; nothing at the end."""
        with self.changed:
            while not self.ending:
                news, delay = self._untold(), self.link.delay
                if news and delay == 0:
                    return news
                self.changed.wait(delay if news else None)
            return []

    def _untold(self) -> News:
        with self.changed:
            return [(it, it.account) for it in self.tracked if it.untold and not it.held_back and it.account is not None]

    def _tell(self, news: News) -> bool:
        """Whether the store was there."""
        try:
            with self.link.attempt() as store:
                self._claim(store, [it for it, _ in news if it.sink is None])
                self._tell_together(store, [(it, it.sink, account) for it, account in news if it.sink is not None])
        except AwayError:
            return False
        except Exception as error:  # the store refuses these runs
            self._hold_back([it for it, _ in news if it.sink is None], error)
        return True

    def _claim(self, store: Store, sinks: Sequence[Tracked]) -> list[Held]:
        accounts = [it.account for it in sinks if it.account is not None]
        held = store.backend.claim([account.placed(store) for account in accounts], anew=self.anew) if accounts else []
        with self.changed:
            for it, its in zip(sinks, held, strict=True):
                it.take(store, its)
        return held

    def _hold_back(self, sinks: Sequence[Tracked], error: Exception) -> None:
        with self.changed:
            for it in sinks:
                it.held_back, it.remark = True, reason(error)

    def _tell_together(self, store: Store, news: Sequence[tuple[Tracked, MlflowSink, RunAccount]]) -> None:
        """In one go; where that fails, one by one, to see which it was.  What is told twice is stored once."""
        try:
            with store.backend.together():
                for _, sink, account in news:
                    account.tell(sink)
        except Exception as error:
            for _, sink, _ in news:
                sink.sent = -1  # who knows
            if trouble(error):
                raise
            for it, sink, account in news:
                self._tell_alone(it, sink, account)
        else:
            for it, _, account in news:
                it.told = account

    def _tell_alone(self, it: Tracked, sink: MlflowSink, account: RunAccount) -> None:
        try:
            account.tell(sink)
            it.told = account
        except Exception as error:
            if trouble(error):
                raise
            if it.failure:
                self._hold_back([it], error)
            else:
                it.fail(error)


@cache
def link_to(uri: str, experiment: str, *, offline: bool) -> Link:
    """A process's way to a store: one that is away is away for all of its stacks."""
    return Link(None if offline else partial(connect, uri, experiment))
