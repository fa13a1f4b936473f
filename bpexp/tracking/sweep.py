"""A sweep's parent run, whether or not the store is there: what can't be told now waits with the sweep's runs."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Self

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from bpexp.config import ConfigError, Fault, RunConfig
from bpexp.tracking.account import SweepAccount
from bpexp.tracking.link import Link
from bpexp.tracking.notes import Ended, Row
from bpexp.tracking.owner import owner
from bpexp.tracking.parent import Planned, SweepRun, rows
from bpexp.tracking.spool import Spool
from bpexp.tracking.store import Store, connect
from bpexp.tracking.trouble import AwayError, reason
from bpexp.tracking.writer import link_to

__all__ = ["Sweep", "catch_up"]


class Sweep:
    """Opened before the first job, closed whatever happens; `id` is what its runs are filed under."""

    def __init__(self, link: Link, spool: Spool, account: SweepAccount) -> None:
        self.link, self.spool, self.account = link, spool, account
        self.remarks: list[str] = []  # of its end

    @classmethod
    def begin(cls, uri: str, config: RunConfig, cwd: Path, title: str, swept: Mapping[str, str], planned: Sequence[Planned]) -> Self:
        """In the store at a resolved URI, as `bpexp.tracking.writer.Writer.to` takes it.  Raises `ConfigError` where nothing can be written."""
        name = f"{time.time_ns() // 1_000_000}-{os.getpid()}"
        account = SweepAccount(name, config.tracking.experiment, title, swept, planned, owner())
        spool = Spool.at(uri, config, cwd)
        sweep = cls(link_to(uri, config.tracking.experiment, offline=config.offline), spool, account)
        try:
            sweep._tell()
        except (MlflowException, SQLAlchemyError) as error:
            raise ConfigError([Fault("tracking.uri", uri, f"must be a store that can be written to ({reason(error)})")]) from error
        except OSError as error:
            folder = spool.folder if config.offline else uri
            raise ConfigError([Fault("tracking", folder, f"can't be written to ({error.strerror or error})")]) from error
        return sweep

    @property
    def id(self) -> str:
        return self.account.run_id or self.account.name

    def plan(self, planned: Sequence[Planned]) -> None:
        """Write down that these are the jobs."""
        self.account = replace(self.account, planned=planned)
        self._tell()

    def _tell(self) -> None:
        try:
            with self.link.attempt() as store:
                known = self.account.run_id is not None
                run = self._run(store)
                if known:
                    run.plan(self.account.planned)
        except AwayError:
            self.spool.put(self.account)

    def _run(self, store: Store) -> SweepRun:
        """The parent run as it is in the store, made if need be."""
        it = self.account
        run = SweepRun(store, it.title, it.swept, it.planned, it.run_id)
        self.account = replace(it, run_id=run.run_id)
        return run

    def close(self, status: str, runs: Mapping[str, Ended], remark: str = "") -> list[Row]:
        """Send what waits, if the store is back, then end the sweep; returns the table's rows, one per job (`runs`: by their fingerprints).

        `remark`: what is to be said of it as a whole.
        """
        self.account = replace(self.account, status=status)
        if status == "KILLED":
            self._keep()  # there may be no time for more
        else:
            self.remarks += catch_up(self.link, self.spool)
        try:
            with self.link.attempt() as store:
                found = self._run(store).close(status, runs, remark)
        except Exception as error:  # a store that is away, or that takes no more
            if not isinstance(error, AwayError):
                self.remarks.append(f"the sweep is not closed in the store: {reason(error)}")
            self._keep()
            return rows(self.account.planned, runs, status)
        if self.spool.waiting:
            self._keep()  # to be closed once more, with those that wait
        else:
            self.spool.remove(self.account)
        return found

    def _keep(self) -> None:
        try:
            self.spool.put(self.account)
        except OSError as error:
            self.remarks.append(f"{self.spool.folder}: can't be written to ({error.strerror or error})")


def catch_up(link: Link, spool: Spool) -> list[str]:
    """Send what waits, where the store is there; lines about it."""
    if link.connect is None or not spool.files():
        return []
    try:
        with link.attempt() as store:
            sent = spool.send(partial(connect, store.uri))
    except AwayError as error:
        return [str(error)]
    return [f"{name}: {points:,} points that waited are sent" for name, points in sent.counts] + sent.remarks
