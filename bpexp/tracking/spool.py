"""What waits to be sent to a store that is away: a folder with a durable file for each run and each sweep."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from bpexp.config import RunConfig
from bpexp.durable import DamagedError, read, write
from bpexp.tracking.account import KINDS, Account, RunAccount, SweepAccount
from bpexp.tracking.backend import Held
from bpexp.tracking.notes import Ended
from bpexp.tracking.owner import alive
from bpexp.tracking.parent import SweepRun
from bpexp.tracking.place import Place, state_folder
from bpexp.tracking.sink import MlflowSink
from bpexp.tracking.store import Store
from bpexp.tracking.trouble import reason, trouble

__all__ = ["Sent", "Spool"]

LOCK = ".lock"
TOGETHER = 50  # runs that are claimed at once


@dataclass
class Sent:
    """What became of accounts: each run's name and how many points of it were sent, and what else there is to tell, line by line."""

    counts: list[tuple[str, int]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


class StaysError(Exception):
    """An account that can't be sent yet: its words tell why."""


class Spool:
    """A folder of accounts, which processes may fill and one at a time may send."""

    def __init__(self, place: Place) -> None:
        self.place, self.folder = place, place.spool

    @classmethod
    def at(cls, uri: str, config: RunConfig, cwd: Path) -> Self:
        """Of the store at a resolved URI, for runs with this configuration's `tracking`, typed in the folder `cwd`."""
        return cls(Place(state_folder(uri, cwd, config.tracking.state), uri))

    def put(self, account: Account) -> None:
        """Keep an account, in the place of an older one of the same run.  Raises OSError."""
        self.place.note()
        self.folder.mkdir(exist_ok=True)
        write(self._file(account), *account.packed())

    def remove(self, account: Account) -> None:
        self._file(account).unlink(missing_ok=True)

    def files(self) -> list[Path]:
        """Of all accounts: runs in the order in which they began, then sweeps."""
        return [path for kind in KINDS for path in sorted(self.folder.glob(f"*.{kind}"))]

    def entries(self) -> Iterator[Account | DamagedError]:
        """All accounts that can be read; of each other one, why not."""
        for path in self.files():
            try:
                yield _read(path)
            except FileNotFoundError:  # sent meanwhile
                continue
            except (DamagedError, OSError) as error:
                yield DamagedError(f"{path}: {reason(error)}")

    @property
    def waiting(self) -> int:
        """Runs."""
        return sum(path.suffix[1:] == RunAccount.kind for path in self.files())

    def finished(self, fingerprint: str) -> Ended | None:
        """The run of a fingerprint that has come to its end and waits."""
        for path in sorted(self.folder.glob(f"*-{fingerprint}-*.{RunAccount.kind}")):
            try:
                account = _read(path)
            except (DamagedError, OSError):
                continue
            if isinstance(account, RunAccount) and account.records is not None and account.step_seconds is not None:
                records = account.records
                return Ended(account.run_id or "", account.new.name, records.outcome, records.summary)
        return None

    def send(self, connect: Callable[[str], Store]) -> Sent:
        """Send all that can be sent to the store, an experiment of which `connect` opens; what can't stays, with a remark.

        Every step may be done twice: an account is removed when all of it is stored.
        """
        if not self.files():
            return Sent()
        try:
            with FileLock(self.folder / LOCK, timeout=0):
                return _Sending(self, cache(connect)).send()
        except Timeout:
            return Sent(remarks=["another process is sending them"])

    def _file(self, account: Account) -> Path:
        return self.folder / f"{account.name}.{account.kind}"


def _read(path: Path) -> Account:
    """Raises DamagedError where a file is not what `Spool.put` has written."""
    arrays, told = read(path)
    try:
        return KINDS[path.suffix[1:]].unpacked(arrays, told)
    except (LookupError, TypeError, ValueError) as error:
        raise DamagedError(f"it is of another version ({reason(error)})") from error


class _Sending:
    """One go through a spool that no other process sends."""

    def __init__(self, spool: Spool, store: Callable[[str], Store]) -> None:
        self.spool, self.store, self.sent = spool, store, Sent()
        self.parents: dict[str, str] = {}  # of sweeps that were made here, their ids in the store
        self.unmade: set[str] = set()  # those that have none yet
        self.kept: set[str] = set()  # the parents of runs that wait
        self.claimed: dict[str, Held] = {}  # by the names of accounts that are not told yet

    def send(self) -> Sent:
        found = list(self.spool.entries())
        self.sent.remarks += [str(it) for it in found if isinstance(it, DamagedError)]
        runs, sweeps = [it for it in found if isinstance(it, RunAccount)], [it for it in found if isinstance(it, SweepAccount)]
        self.unmade = {it.name for it in sweeps if it.run_id is None}
        parents, closings = ([partial(step, it) for it in sweeps] for step in (self._parent, self._sweep))
        steps = [*parents, *[partial(self._run, it, runs[at + 1 : at + TOGETHER]) for at, it in enumerate(runs)], *closings]
        for step in steps:
            try:
                step()
            except Exception as error:  # why one can't be sent is no reason to keep the others
                self._stays(step.args[0], error)
                if trouble(error):
                    break
        return self.sent

    def _stays(self, account: Account, error: Exception) -> None:
        title = account.new.name if isinstance(account, RunAccount) else account.title
        self.sent.remarks.append(f"{title}: {reason(error)}")
        if isinstance(account, RunAccount) and account.config.tracking.parent:
            self.kept.add(account.config.tracking.parent)

    def _parent(self, sweep: SweepAccount) -> None:
        """Make a sweep's parent run, unless the store has it."""
        if sweep.run_id is None:
            parent = SweepRun(self.store(sweep.experiment), sweep.title, sweep.swept, sweep.planned)
            sweep = replace(sweep, run_id=parent.run_id)
            self.spool.put(sweep)
        self.parents[sweep.name] = str(sweep.run_id)
        self.unmade.discard(sweep.name)

    def _run(self, account: RunAccount, next_ones: Sequence[RunAccount]) -> None:
        if account.config.tracking.parent in self.unmade:
            raise StaysError("its sweep is not in the store")
        store = self.store(account.experiment)
        account = account.filed(self.parents)
        done = account.anew and account.run_id is not None and store.client.get_run(account.run_id).info.status == "FINISHED"
        held = self.claimed.pop(account.name, None) or self._claim(store, account, next_ones, anew=account.anew and not done)
        if held.state == "busy":
            raise StaysError(f"a process trains this run ({held.owner})")
        if held.state == "finished":
            self.sent.remarks.append(f"{account.new.name}: is finished in the store already")
        else:
            if account.anew and account.run_id != held.run_id:
                account = replace(account, run_id=held.run_id)
                self.spool.put(account)  # not to be made once more, should this be the last that we do
            sink = MlflowSink(store)
            sink.take(account.config, held)
            account.tell(sink)
            self.sent.counts.append((account.new.name, sink.points))
        self.spool.remove(account)

    def _claim(self, store: Store, account: RunAccount, next_ones: Sequence[RunAccount], *, anew: bool) -> Held:
        """What the claim of a run comes to; a server takes no longer for many than for one, so those that can be are claimed with it."""
        group = {account.new.fingerprint: account}
        for it in () if account.anew else next_ones:
            if not (it.anew or it.experiment != account.experiment or it.config.tracking.parent in self.unmade):
                group.setdefault(it.new.fingerprint, it.filed(self.parents))
        try:
            held = store.backend.claim([it.placed(store) for it in group.values()], anew=anew)
        except Exception as error:
            if len(group) == 1 or trouble(error):
                raise
            return self._claim(store, account, (), anew=anew)  # it was another's
        self.claimed |= {it.name: its for it, its in zip(group.values(), held, strict=True)}
        return self.claimed.pop(account.name)

    def _sweep(self, sweep: SweepAccount) -> None:
        """Close a sweep that has ended, once none of its runs waits."""
        run_id = self.parents.get(sweep.name, "")
        if not run_id:
            return  # that it was not made is told already
        if sweep.status is None and alive(sweep.owner, None):
            raise StaysError("this sweep goes on")
        if {sweep.name, run_id} & self.kept:
            raise StaysError("some of its runs wait")
        parent = SweepRun(self.store(sweep.experiment), sweep.title, sweep.swept, sweep.planned, run_id)
        parent.close(sweep.status or "KILLED", {})
        self.spool.remove(sweep)
