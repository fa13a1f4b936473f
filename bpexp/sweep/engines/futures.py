"""Stacks trained by an engine that gives futures of them."""

from asyncio import CancelledError
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Protocol

from bpexp.sweep.carry import Job, Outcome, Tell, Where, told
from bpexp.sweep.engines.task import Task
from bpexp.sweep.strikes import Begin, Stack, struck

__all__ = ["Elsewhere", "Engine"]

GLANCE_SECONDS = 1.0  # between two looks for a worker that has come, or come back, while stacks wait for one


class Engine(Protocol):
    """A pool of processes, here or on other machines."""

    @property
    def lost(self) -> tuple[type[BaseException], ...]:
        """What a future raises when its worker was lost, and nothing else is wrong."""

    @property
    def together(self) -> bool:
        """Whether all workers are lost with one."""

    @property
    def poll_seconds(self) -> float:
        """Between two looks at runs that other processes train."""

    @property
    def count(self) -> int:
        """Stacks that may be under way at once."""

    def submit(self, task: Task, jobs: Sequence[Job], where: Where) -> "Future[list[Outcome]]": ...

    def stop(self) -> None:
        """End what is under way, where that is ours to end."""


@dataclass
class Elsewhere:
    """`bpexp.sweep.workers.Workers` of an engine."""

    engine: Engine
    under_way: dict["Future[list[Outcome]]", Stack] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return self.engine.count

    @property
    def poll_seconds(self) -> float:
        return self.engine.poll_seconds

    def run(self, stacks: Iterable[Sequence[Job]], where: Where, begin: Begin, news: Tell) -> Iterator[list[Outcome]]:  # noqa: ARG002 (no engine tells)
        queue, task = deque(Stack(jobs) for jobs in stacks), Task.here()
        while queue or self.under_way:
            while queue and self._room_for(queue[0]):
                stack = queue.popleft()
                for job in stack.jobs:
                    begin(job)
                self.under_way[self._submitted(task, stack, where)] = stack
            for future in wait(self.under_way, GLANCE_SECONDS if queue else None, FIRST_COMPLETED).done:
                yield self._ended(future, self.under_way.pop(future), queue, where)

    def _submitted(self, task: Task, stack: Stack, where: Where) -> "Future[list[Outcome]]":
        try:
            return self.engine.submit(task, stack.jobs, where)
        except Exception as error:  # the engine has no use for it, or can't be reached any more
            future: Future[list[Outcome]] = Future()
            future.set_exception(error)
            return future

    def _room_for(self, stack: Stack) -> bool:
        """Where all die together, a stack under suspicion is tried alone: it must not take others with it, nor be taken for what another did."""
        if self.engine.together and any(it.suspect for it in (stack, *self.under_way.values())):
            return not self.under_way
        return len(self.under_way) < self.count

    def _ended(self, future: "Future[list[Outcome]]", stack: Stack, queue: deque[Stack], where: Where) -> list[Outcome]:
        try:
            return future.result()
        except self.engine.lost as error:
            outcomes, again = struck(stack, where, f"its worker was lost ({type(error).__name__})")
            queue.extendleft(reversed(again))
            return outcomes
        except (Exception, CancelledError) as error:  # the worker can't do this, and another could not either; or the engine is gone
            return [Outcome(job.number, failure=told(error)) for job in stack.jobs]

    def stop(self, *, gently: bool) -> None:  # noqa: ARG002 (an engine knows one way)
        for future in self.under_way:
            future.cancel()
        self.under_way = {}
        self.engine.stop()
