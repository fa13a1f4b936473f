"""A sweep's runs, and how far it has come with them."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn, JobStatus

from bpexp.config import RunConfig, flatten, full_key
from bpexp.experiment import Run
from bpexp.sweep.carry import JobError
from bpexp.sweep.compose import Words
from bpexp.sweep.names import parse_word, short
from bpexp.sweep.stacked import seconds
from bpexp.tracking.notes import Ended

if TYPE_CHECKING:
    from bpexp.tracking.lookup import Done
    from bpexp.tracking.parent import Planned

__all__ = ["Course", "Plan"]

log = logging.getLogger(__name__)


@dataclass
class Plan:
    """A sweep that may start: its jobs, the distinct runs that they come to, and which run is whose.  A search adds to it as it goes on."""

    title: str
    told: dict[str, str]  # by key: what the parent run tells of the sweep
    tune: str | None = None  # the key whose best value is chosen with the first seed
    whole: bool = True  # whether all jobs were known before the first of them started, and are launched whatever comes of others
    jobs: list[Words] = field(default_factory=list)
    run_of_job: list[int] = field(default_factory=list)
    fingerprints: list[str] = field(default_factory=list)  # of each run
    configs: list[RunConfig] = field(default_factory=list)  # without its data: a sweep over data sets would hold all of them
    seconds: list[float] = field(default_factory=list)  # about how long it takes
    words: list[Words] = field(default_factory=list)
    own: list[Words] = field(default_factory=list)  # those of them that tell it apart
    numbers: dict[str, int] = field(default_factory=dict)  # of the runs, by their fingerprints
    sample: RunConfig | None = None  # of a sweep without runs so far, what one of them might be

    @property
    def config(self) -> RunConfig:
        """Of a run; all have the same keys that hold for a sweep as a whole."""
        return self.sample or self.configs[0]

    def add(self, words: Words, run: Run) -> int:
        """Note a job; the number of the run that it comes to, which other jobs may have come to before."""
        number = self.numbers.setdefault(run.fingerprint, len(self.configs))
        if number == len(self.configs):
            self.fingerprints.append(run.fingerprint)
            self.configs.append(run.config)
            self.seconds.append(seconds(run))
            self.words.append(words)
        self.jobs.append(words)
        self.run_of_job.append(number)
        return number

    def name(self, run: int) -> str:
        """A run's name, which tells what is special about it."""
        from bpexp.tracking.sink import run_name

        config = self.configs[run]
        values = flatten(config)
        special = [parse_word(word).key_or_group for word in self.own[run]]
        return config.tracking.run_name or run_name(config, {key: values.get(full_key(key)) for key in special})

    def jobs_of(self, chosen: Collection[int]) -> list["Planned"]:
        """The jobs that come to one of the chosen runs."""
        from bpexp.tracking.parent import Planned

        names = {run: self.name(run) for run in chosen}
        jobs = zip(self.jobs, self.run_of_job, strict=True)
        return [Planned(words, self.fingerprints[run], names[run]) for words, run in jobs if run in names]


class Course:
    """How far a sweep has come: which of its plan's runs were launched and which need not be, and what became of them."""

    def __init__(self) -> None:
        self.found: dict[int, Done] = {}  # runs that were finished, or failed, before and are left as they are
        self.launched: list[int] = []  # in the order of their numbers
        self.resumed: list[int] = []
        self.results: list[JobReturn] = []

    def begin(self, chosen: Sequence[int], plan: Plan, found: Mapping[str, "Done"]) -> list[int]:
        """Those of a round's runs that are to be launched; `found`: by their fingerprints, what became before of others."""
        missing = []
        for run in chosen:
            before = found.get(plan.fingerprints[run])
            if before is None:
                missing.append(run)
                continue
            it = self.found[run] = before.named(plan.name(run))
            self.resumed.append(run)
            log.info("%s: %s: %s", "failed before" if it.failed else "finished before", it.run.name, it.error if it.failed else it.run.outcome)
        self.launched += missing
        return missing

    @property
    def begun(self) -> set[int]:
        """All runs of the rounds so far."""
        return {*self.launched, *self.resumed}

    @property
    def ended(self) -> dict[int, Ended]:
        """The runs that came to their end."""
        results = zip(self.launched, self.results, strict=False)  # fewer where the sweep was interrupted
        launched = {run: result.return_value for run, result in results if result.status == JobStatus.COMPLETED}
        return launched | {run: self.found[run].run for run in self.resumed}

    @property
    def failures(self) -> list[str]:
        """A line for each run that failed, now or before."""
        now = [_failure(result) for result in self.results if result.status == JobStatus.FAILED]
        return now + [f"failed before: {self.found[run].run.name}: {self.found[run].error}" for run in self.resumed if self.found[run].failed]

    def losses(self) -> dict[int, float]:
        """The final training loss of each run that came to one."""
        return {run: it.summary.get("final_loss", inf) for run, it in self.ended.items() if it.outcome != "diverged"}


def _failure(result: JobReturn) -> str:
    error = result._return_value  # noqa: SLF001 (the public property raises it, after two lines of its own)
    words = " ".join(word for word in result.overrides or () if not word.startswith("tracking."))
    told = short(error) if isinstance(error, JobError) else f"{type(error).__name__}: {short(error)}"
    return f"failed: {words}: {told}"
