"""Jobs carried out in this process: claimed, gone on with from their checkpoints, trained as stacks, tracked."""

import logging
import shlex
import socket
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bpexp.checkpoints import Checkpoints
from bpexp.cli import makeable, tell
from bpexp.config import ConfigError, Fault, RunConfig
from bpexp.core.records import Records
from bpexp.core.state import State
from bpexp.experiment import Keep, Run, numerics, prepare, run_stack
from bpexp.masks import masked
from bpexp.sweep.names import short
from bpexp.sweep.news import News, Reporter
from bpexp.tracking.notes import Ended

if TYPE_CHECKING:
    from bpexp.tracking.backend import Held
    from bpexp.tracking.lookup import Done
    from bpexp.tracking.spool import Spool
    from bpexp.tracking.store import Store
    from bpexp.tracking.tracked import Tracked
    from bpexp.tracking.writer import Writer

__all__ = ["POLL_SECONDS", "Job", "JobError", "Outcome", "Tell", "Where", "carry_out", "close_open_runs", "give_up", "told"]

log = logging.getLogger(__name__)

POLL_SECONDS = 2.0  # between two looks at runs that other processes train

Tell = Callable[[News], None]


@dataclass(frozen=True)
class Job:
    """A run to be trained, with its number in the sweep; `data` is the checksum of what it is to train on, empty where that is not checked."""

    number: int
    config: RunConfig
    data: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a job: its run, which may have been `found` finished, or why it failed (`OSError: …`), or which other process is at it
    (`busy`); and what else is to be told.
    """

    number: int
    run: Ended | None = None
    found: bool = False
    failure: str = ""
    busy: str = ""
    remarks: tuple[str, ...] = ()


class JobError(RuntimeError):
    """Why a job failed, by an error's name and words: not every exception survives the way from another process."""


@dataclass(frozen=True)
class Where:
    """The store, by its resolved URI, and the folder in which the command was typed."""

    uri: str
    cwd: Path

    def checkpoints(self, config: RunConfig, fingerprint: str) -> Checkpoints:
        """Of the run of this fingerprint, `config` being its own or another of the same sweep."""
        return Checkpoints(self._spool(config).place.checkpoints / fingerprint, fingerprint, numerics())

    def check(self, config: RunConfig) -> None:
        """Raises `ConfigError` where a folder that is asked for can't hold states, as far as that can be told without making it."""
        asked = config.tracking.state
        try:
            if asked is not None:
                makeable(self._spool(config).folder)
        except OSError as error:
            raise ConfigError([Fault("tracking.state", asked, f"must be a folder that can be written to ({error.strerror or error})")]) from None
        if asked is not None and not asked.strip():
            raise ConfigError([Fault("tracking.state", asked, "must be a folder; or null")])

    def store(self, config: RunConfig) -> "Store | None":
        """The store that a command is about to use, to which what waits is sent first; None where it is not to be asked.  Raises `ConfigError`."""
        self.check(config)
        if config.offline:
            return None
        from bpexp.tracking.store import connect
        from bpexp.tracking.sweep import catch_up
        from bpexp.tracking.writer import link_to

        store = connect(self.uri, config.tracking.experiment)
        log.info("store %s, experiment %s (id %s)", masked(self.uri), config.tracking.experiment, store.experiment_id)
        tell([store.remark] if store.remark else [])
        tell(catch_up(link_to(self.uri, config.tracking.experiment, offline=False), self._spool(config)))
        return store

    def left(self, config: RunConfig, store: "Store | None", fingerprints: Sequence[str]) -> dict[str, "Done"]:
        """Those of a command's runs that have come to their end, or failed, before and are not run again."""
        if store is None:
            return {}
        from bpexp.tracking.lookup import left

        found, here = left(store, fingerprints, resume=config.resume, rerun=config.rerun), numerics()
        if others := {it.numerics for it in found.values()} - {here}:
            tell([f"some finished runs were computed with {' | '.join(sorted(others))}; here it is {here}"])
        for fingerprint in found:
            self.checkpoints(config, fingerprint).clear()
        return found

    def waiting(self, config: RunConfig) -> list[str]:
        """A line where runs wait to be sent: why, and what sends them."""
        from bpexp.tracking.store import resolve
        from bpexp.tracking.writer import link_to

        spool = self._spool(config)
        if not spool.waiting:
            return []
        why = link_to(self.uri, config.tracking.experiment, offline=config.offline).why
        words = [f"uri={masked(self.uri)}"] if self.uri != resolve(None, self.cwd) else []
        words += [f"folder={config.tracking.state}"] if config.tracking.state else []
        told = f"{spool.waiting:,} {'run waits' if spool.waiting == 1 else 'runs wait'} in {spool.folder}" + (f" ({why})" if why else "")
        return [f"{told}; {shlex.join(['python', '-m', 'bpexp.sync', *words])} sends what waits"]

    def _spool(self, config: RunConfig) -> "Spool":
        from bpexp.tracking.spool import Spool

        return Spool.at(self.uri, config, self.cwd)


@dataclass(frozen=True)
class Mine:
    """A run that is this process's to train."""

    job: Job
    run: Run
    sink: "Tracked"
    checkpoints: Checkpoints
    state: State | None

    def outcome(self, records: Records | Exception) -> Outcome:
        """When its records are stored, or wait to be."""
        failure = self.sink.failure or (told(records) if isinstance(records, Exception) else "")
        notes = tuple(note for note in (self.sink.remark, *self.checkpoints.remarks) if note)
        name = self.job.config.tracking.run_name or ""
        remarks = tuple(f"{name or 'this run'}: {note}" for note in notes)
        if failure or isinstance(records, Exception):
            return Outcome(self.job.number, failure=failure, remarks=remarks)
        self.checkpoints.clear()
        run = Ended(str(self.sink.run_id or ""), name, records.outcome, records.summary)
        return Outcome(self.job.number, run, remarks=remarks)


def carry_out(jobs: Sequence[Job], where: Where, news: Tell = lambda _news: None) -> list[Outcome]:
    """Jobs of one shape; `news` is what there is to tell of their trainings.  What fails is told in its outcome, and what is too large for the memory
    tried again by halves; an interruption keeps all states, ends the runs as KILLED and is raised.
    """
    try:
        return _Carrying(jobs, where, news).outcomes()
    except MemoryError as error:
        if len(jobs) == 1:
            return [Outcome(jobs[0].number, failure=told(error))]
    except Exception as error:  # the data's, or a mistake of ours
        return [Outcome(job.number, failure=told(error)) for job in jobs]
    half = len(jobs) // 2
    return carry_out(jobs[:half], where, news) + carry_out(jobs[half:], where, news)


@dataclass
class _Carrying:
    """One go at some jobs."""

    jobs: Sequence[Job]
    where: Where
    news: Tell
    others: list[Outcome] = field(default_factory=list)  # of jobs whose runs are not ours to train

    def outcomes(self) -> list[Outcome]:
        from bpexp.tracking.writer import Writer

        config = self.jobs[0].config
        anew = not config.resume or config.rerun in ("all", "diverged")
        ended: list[tuple[Mine, Records | Exception]] = []
        with Writer.to(self.where.uri, config, self.where.cwd, anew=anew) as writer:
            groups = self._groups(writer)
            for place, group in enumerate(groups):
                try:
                    ended += self._train(group)
                except BaseException as error:
                    for mine in (mine for rest in groups[place + 1 :] for mine in rest):
                        mine.sink.open(mine.run)
                        mine.sink.abort(error)
                    raise
        if anew:
            writer.retire([mine.sink for mine, records in ended if isinstance(records, Records)])
        return self.others + [mine.outcome(records) for mine, records in ended]

    def _groups(self, writer: "Writer") -> list[list[Mine]]:
        """The runs that are ours to train, those together that have come equally far."""
        runs = [_prepared(job) for job in self.jobs]
        sinks = [writer.sink(job.number) for job in self.jobs]
        held: Sequence[Held | None] = writer.claim(sinks, runs) or [None] * len(runs)
        groups: dict[int, list[Mine]] = defaultdict(list)
        for job, run, sink, it in zip(self.jobs, runs, sinks, held, strict=True):
            if it is not None and it.state == "busy":
                self.others.append(Outcome(job.number, busy=it.owner))
                continue
            checkpoints = self.where.checkpoints(run.config, run.fingerprint)
            before = self._before(writer, run, it)
            if before is not None or not job.config.resume:
                checkpoints.clear()
            if before is not None:
                self.others.append(Outcome(job.number, before, found=True))
                continue
            state = checkpoints.load() if job.config.resume else None
            groups[-1 if state is None else int(state["last_step"])].append(Mine(job, run, sink, checkpoints, state))
        return list(groups.values())

    def _before(self, writer: "Writer", run: Run, held: "Held | None") -> Ended | None:
        """A run that has come to its end before, as the store or, where that is away, what waits for it tells."""
        from bpexp.tracking.lookup import ended

        if held is None:
            return None if writer.anew else writer.spool.finished(run.fingerprint)
        if held.state != "finished":
            return None
        with writer.link.attempt() as store:
            return replace(ended(store.client.get_run(held.run_id)), name=run.config.tracking.run_name or "")

    def _train(self, group: Sequence[Mine]) -> list[tuple[Mine, Records | Exception]]:
        """The records of runs that have come equally far, or what they failed of."""
        states = [mine.state for mine in group if mine.state is not None]
        keep = Keep([mine.checkpoints for mine in group], states, group[0].job.config.tracking.checkpoint_seconds)
        try:
            reporter = Reporter([mine.job.number for mine in group], self.news)
            return list(zip(group, run_stack([mine.run for mine in group], [mine.sink for mine in group], reporter, keep), strict=True))
        except MemoryError:
            raise
        except Exception as error:  # the others go on
            return [(mine, error) for mine in group]


def _prepared(job: Job) -> Run:
    """Raises ValueError where this machine has other data under the name than the one on which the sweep was planned."""
    run = prepare(job.config)
    if job.data not in ("", run.dataset.checksum):
        data = job.config.data
        raise ValueError(f"data={data.path or data.name}: {socket.gethostname()} has other data under this name (checksum {run.dataset.checksum})")
    return run


def give_up(job: Job, where: Where, error: Exception) -> Outcome:
    """End a run as FAILED whose process can't tell of it any more."""
    from bpexp.tracking.writer import Writer

    with Writer.to(where.uri, job.config, where.cwd) as writer:
        sink = writer.sink(job.number)
        sink.open(prepare(job.config))
        sink.abort(error)
    return Outcome(job.number, failure=told(error))


def close_open_runs(job: Job, where: Where, error: BaseException) -> None:
    """End the runs of a job's sweep whose processes are gone, as their sinks would have; a store that is away stays as it is."""
    from bpexp.tracking.owner import HEARTBEAT, OWNER, alive
    from bpexp.tracking.sink import MlflowSink
    from bpexp.tracking.store import search
    from bpexp.tracking.trouble import AwayError
    from bpexp.tracking.writer import link_to

    condition = f"tags.mlflow.parentRunId = '{job.config.tracking.parent}' and attributes.status = 'RUNNING'"
    try:
        with link_to(where.uri, job.config.tracking.experiment, offline=job.config.offline).attempt() as store:
            for run in list(search(store.client, store.experiment_id, condition)):
                if not alive(run.data.tags.get(OWNER, ""), run.data.tags.get(HEARTBEAT)):
                    sink = MlflowSink(store)
                    sink.run_id = run.info.run_id
                    sink.abort(error)
    except AwayError:
        return


def told(error: BaseException) -> str:
    """`OSError: …`, in one line."""
    return f"{type(error).__name__}: {short(error)}"
