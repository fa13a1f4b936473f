"""The processes of this machine in which a sweep trains; what is done when one of them dies stands in `bpexp.sweep.strikes`."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from bpexp.stopping import held
from bpexp.sweep.carry import POLL_SECONDS, Job, Outcome, Tell, Where, carry_out
from bpexp.sweep.news import News, drawable
from bpexp.sweep.strikes import Begin, Stack, struck
from bpexp.sweep.worker import READY

__all__ = ["ONE_THREAD", "PATIENCE", "Here", "Processes", "Workers", "start"]

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # a run that asks for more gets them
STARTS = 3  # of one worker that dies before it has begun to work
PIECE = 65536  # bytes that are read at once
PATIENCE = 3.2  # seconds for workers to keep their states and end: a step gets `bpexp.stopping.STEP_SECONDS`


class Workers(Protocol):
    """Who trains."""

    @property
    def count(self) -> int:
        """Stacks that may be under way at once."""

    @property
    def poll_seconds(self) -> float:
        """Between two looks at runs that other processes train."""

    def run(self, stacks: Iterable[Sequence[Job]], where: Where, begin: Begin, news: Tell) -> Iterator[list[Outcome]]:
        """The outcomes of each stack, as they come; `begin` is told each job that is handed out, `news` what there is to tell of their trainings."""

    def stop(self, *, gently: bool) -> None:
        """End them at once; or `gently`: when they have kept the states of what they train, which gets a few seconds."""


class Here:
    """The main process by itself."""

    count = 1
    poll_seconds = POLL_SECONDS

    def run(self, stacks: Iterable[Sequence[Job]], where: Where, begin: Begin, news: Tell) -> Iterator[list[Outcome]]:
        for stack in stacks:
            for job in stack:
                begin(job)
            yield carry_out(stack, where, news)

    def stop(self, *, gently: bool) -> None: ...


@dataclass(eq=False)
class Worker:
    """One process."""

    process: subprocess.Popen[bytes]
    connection: Connection
    errors: int | None  # its standard error, where that does not go straight to ours
    ready: bool = False
    stack: Stack | None = None

    @classmethod
    def start(cls) -> "Worker":
        ours, theirs = Pipe()
        own = ONE_THREAD | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # what is imported here is imported there
        line = [sys.executable, "-m", "bpexp.sweep.worker", str(theirs.fileno())]
        before = signal.pthread_sigmask(
            signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP}
        )  # the terminal's are the main process's, from the first moment
        errors, written = os.pipe() if drawable() else (None, None)  # what it says must not end up in what is drawn
        process = subprocess.Popen(line, env=os.environ | own, pass_fds=[theirs.fileno()], stderr=written)  # noqa: S603
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        if written is not None:
            os.close(written)
        return cls(process, ours, errors)

    @property
    def ends(self) -> list[Connection | int]:
        """Where there may be something to read."""
        return [self.connection] if self.errors is None else [self.connection, self.errors]

    def pass_on(self) -> None:
        """Print what it has written to its standard error."""
        assert self.errors is not None
        if written := os.read(self.errors, PIECE):
            sys.stderr.write(written.decode(errors="replace"))
        else:
            os.close(self.errors)
            self.errors = None

    def close(self) -> None:
        """When the process has ended: print what is left; what its own children, if any are left, may still say is not waited for."""
        self.connection.close()
        while self.errors is not None and wait([self.errors], 0):
            self.pass_on()
        if self.errors is not None:
            os.close(self.errors)
            self.errors = None

    def hand(self, stack: Stack, where: Where) -> None:
        self.stack = stack
        with suppress(OSError):  # it has just died: its end of the connection will say so
            self.connection.send((stack.jobs, where))


@dataclass
class Processes:
    """Several processes, which load what training takes while others do something else."""

    count: int
    workers: list[Worker] = field(default_factory=list)
    starts: int = 0  # in a row that came to nothing
    poll_seconds: float = POLL_SECONDS

    def __post_init__(self) -> None:
        self.workers = [Worker.start() for _ in range(self.count)]

    def run(self, stacks: Iterable[Sequence[Job]], where: Where, begin: Begin, news: Tell) -> Iterator[list[Outcome]]:
        queue = deque(Stack(jobs) for jobs in stacks)
        while queue or any(worker.stack for worker in self.workers):
            self._hand_out(queue, where, begin)
            for worker, said in self._heard():
                if said is None:
                    yield self._bury(worker, queue, where)
                    continue
                self.starts = 0
                if said == READY:
                    worker.ready = True
                elif isinstance(said, News):
                    news(said)
                else:
                    worker.stack = None
                    yield said

    def _hand_out(self, queue: deque[Stack], where: Where, begin: Begin) -> None:
        for worker in self.workers:
            if queue and worker.ready and worker.stack is None:
                stack = queue.popleft()
                for job in stack.jobs:
                    begin(job)
                worker.hand(stack, where)

    def _heard(self) -> Iterator[tuple[Worker, Any]]:
        """What workers tell next, None for one that has died; what they write to their standard error is passed on."""
        ends: dict[object, Worker] = {end: worker for worker in self.workers for end in worker.ends}
        for end in wait([end for worker in self.workers for end in worker.ends]):
            worker = ends[end]
            if end is worker.connection:
                try:
                    said = worker.connection.recv()
                except (EOFError, OSError):
                    said = None
                yield worker, said
            elif worker.errors is not None:  # else it has just been buried; another's files may have the numbers of its own by now
                worker.pass_on()

    def stop(self, *, gently: bool) -> None:
        for worker in self.workers:
            worker.process.send_signal(signal.SIGTERM if gently and worker.ready else signal.SIGKILL)
        end = time.monotonic() + PATIENCE
        for worker in self.workers:
            try:
                worker.process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            worker.close()
        self.workers = []

    def _bury(self, worker: Worker, queue: deque[Stack], where: Where) -> list[Outcome]:
        """Put another in the place of a worker that died; what has failed with it."""
        code, stack = worker.process.wait(), worker.stack
        worker.close()
        if not worker.ready:
            self.starts += 1
            if self.starts == STARTS:
                raise ChildProcessError(f"a training process ends before it has begun (exit code {code})")
        with held():
            self.workers[self.workers.index(worker)] = Worker.start()
        if stack is None:
            return []
        outcomes, again = struck(stack, where, _death(code))
        queue.extendleft(reversed(again))
        return outcomes


def start(count: int, there: Workers | None = None) -> Workers:
    """As many workers; those that are there already, where they are as many."""
    if there is not None:
        if there.count == count:
            return there
        there.stop(gently=False)
    return Here() if count == 1 else Processes(count)


def _death(code: int) -> str:
    """How a process ended, in words."""
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"its process {how}" + (", as the system does when memory runs out," if code == -signal.SIGKILL else "")
