"""Jobs carried out in this process: claimed, gone on with from their checkpoints, trained as stacks, tracked."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bpexp.checkpoints import Checkpoints
from bpexp.config import RunConfig
from bpexp.core.records import Records
from bpexp.core.state import State
from bpexp.experiment import Keep, Run, numerics, prepare, run_stack
from bpexp.tracking.notes import Ended

if TYPE_CHECKING:
    from bpexp.tracking.backend import Held
    from bpexp.tracking.tracked import Tracked
    from bpexp.tracking.writer import Writer

__all__ = ["POLL_SECONDS", "Job", "JobError", "Outcome", "Where", "carry_out", "close_open_runs", "give_up"]

POLL_SECONDS = 2.0  # between two looks at runs that other processes train

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """A run to be trained, with its number in the sweep."""

    number: int
    config: RunConfig


@dataclass(frozen=True)
class Outcome:
    """What became of a job: its run, which may have been `found` finished, or why it failed (`OSError: …`), or which other process is at it
    (`busy`); whether it `waits` to be sent, and what else is to be told.
    """

    number: int
    run: Ended | None = None
    found: bool = False
    failure: str = ""
    busy: str = ""
    waits: bool = False
    remarks: tuple[str, ...] = ()


class JobError(RuntimeError):
    """Why a job failed, by an error's name and words: not every exception survives the way from another process."""


@dataclass(frozen=True)
class Where:
    """The store, by its resolved URI, and the folder in which the command was typed."""

    uri: str
    cwd: Path

    def checkpoints(self, run: Run) -> Checkpoints:
        return Checkpoints(self.kept(run.config) / run.fingerprint, run.fingerprint, numerics())

    def kept(self, config: RunConfig) -> Path:
        """The folder of all runs' checkpoints."""
        from bpexp.tracking.place import Place, state_folder

        return Place(state_folder(self.uri, self.cwd, config.tracking.state), self.uri).checkpoints


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
        failure = self.sink.failure or (_told(records) if isinstance(records, Exception) else "")
        notes = tuple(note for note in (self.sink.remark, *self.checkpoints.remarks) if note)
        name = self.job.config.tracking.run_name or ""
        remarks = tuple(f"{name or 'this run'}: {note}" for note in notes)
        if failure or isinstance(records, Exception):
            return Outcome(self.job.number, failure=failure, remarks=remarks)
        self.checkpoints.clear()
        run = Ended(str(self.sink.run_id or ""), name, records.outcome, records.summary)
        return Outcome(self.job.number, run, waits=self.sink.waits, remarks=remarks)


def carry_out(jobs: Sequence[Job], where: Where, progress: Progress = lambda _step, _steps: None) -> list[Outcome]:
    """Jobs of one shape.  What fails is told in its outcome, and what is too large for the memory tried again by halves; an interruption keeps all
    states, ends the runs as KILLED and is raised.
    """
    try:
        return _Carrying(jobs, where, progress).outcomes()
    except MemoryError as error:
        if len(jobs) == 1:
            return [Outcome(jobs[0].number, failure=_told(error))]
    except Exception as error:  # the data's, or a mistake of ours
        return [Outcome(job.number, failure=_told(error)) for job in jobs]
    half = len(jobs) // 2
    return carry_out(jobs[:half], where, progress) + carry_out(jobs[half:], where, progress)


@dataclass
class _Carrying:
    """One go at some jobs."""

    jobs: Sequence[Job]
    where: Where
    progress: Progress
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
        if config.rerun is not None:
            writer.retire([mine.run.fingerprint for mine, records in ended if isinstance(records, Records) and not mine.sink.failure])
        return self.others + [mine.outcome(records) for mine, records in ended]

    def _groups(self, writer: "Writer") -> list[list[Mine]]:
        """The runs that are ours to train, those together that have come equally far."""
        runs = [prepare(job.config) for job in self.jobs]
        sinks = [writer.sink(job.number) for job in self.jobs]
        held = writer.claim(sinks, runs) or [None] * len(runs)
        groups: dict[int, list[Mine]] = defaultdict(list)
        for job, run, sink, it in zip(self.jobs, runs, sinks, held, strict=True):
            if it is not None and it.state in ("busy", "finished"):
                self.others.append(self._other(job, it, writer))
                continue
            checkpoints = self.where.checkpoints(run)
            state = checkpoints.load() if job.config.resume else None
            if state is None:
                checkpoints.clear()
            groups[-1 if state is None else int(state["last_step"])].append(Mine(job, run, sink, checkpoints, state))
        return list(groups.values())

    def _other(self, job: Job, held: "Held", writer: "Writer") -> Outcome:
        from bpexp.tracking.lookup import ended

        if held.state == "busy":
            return Outcome(job.number, busy=held.owner)
        with writer.link.attempt() as store:
            return Outcome(job.number, ended(store.client.get_run(held.run_id)), found=True)

    def _train(self, group: Sequence[Mine]) -> list[tuple[Mine, Records | Exception]]:
        """The records of runs that have come equally far, or what they failed of."""
        states = [mine.state for mine in group if mine.state is not None]
        keep = Keep([mine.checkpoints for mine in group], states, group[0].job.config.tracking.checkpoint_seconds)
        try:
            return list(zip(group, run_stack([mine.run for mine in group], [mine.sink for mine in group], self.progress, keep), strict=True))
        except MemoryError:
            raise
        except Exception as error:  # the others go on
            return [(mine, error) for mine in group]


def give_up(job: Job, where: Where, error: Exception) -> Outcome:
    """End a run as FAILED whose process can't tell of it any more."""
    from bpexp.tracking.writer import Writer

    with Writer.to(where.uri, job.config, where.cwd) as writer:
        sink = writer.sink(job.number)
        sink.open(prepare(job.config))
        sink.abort(error)
    return Outcome(job.number, failure=_told(error), waits=sink.waits)


def close_open_runs(job: Job, where: Where, error: BaseException) -> None:
    """End the runs of a job's sweep whose processes are gone, as their sinks would have; a store that is away stays as it is."""
    from bpexp.tracking.owner import HEARTBEAT, OWNER, alive
    from bpexp.tracking.sink import Ending
    from bpexp.tracking.store import search
    from bpexp.tracking.trouble import AwayError
    from bpexp.tracking.writer import Writer

    condition = f"tags.mlflow.parentRunId = '{job.config.tracking.parent}' and attributes.status = 'RUNNING'"
    try:
        with Writer.to(where.uri, job.config, where.cwd).link.attempt() as store:
            for run in list(search(store.client, store.experiment_id, condition)):
                if not alive(run.data.tags.get(OWNER, ""), run.data.tags.get(HEARTBEAT)):
                    Ending.of(error).tell(store, run.info.run_id)
    except AwayError:
        return


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
