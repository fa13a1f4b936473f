"""The sweeper: expand, check all jobs, open the sweep's parent run, launch, close it whatever happens."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from bpexp.cli import refuse, tell
from bpexp.config import ConfigError, Fault, RunConfig, flatten, full_key, parse
from bpexp.experiment import prepare
from bpexp.sweep.carry import JobError, Where
from bpexp.sweep.compose import Composer, Words
from bpexp.sweep.grid import Grid, expand, flat_list
from bpexp.sweep.launcher import StackedLauncher
from bpexp.sweep.names import parse_word, short
from bpexp.sweep.reading import study_faults
from bpexp.sweep.stacked import seconds
from bpexp.sweep.tuning import check_tune, rounds
from bpexp.tracking.notes import Ended, own_words

if TYPE_CHECKING:
    from bpexp.tracking.lookup import Done
    from bpexp.tracking.parent import Planned
    from bpexp.tracking.sweep import Sweep

__all__ = ["Sweeper"]

log = logging.getLogger(__name__)

NAME_LENGTH, PARAMETER_LENGTH = 200, 6000  # MLflow takes 250 characters for a name, a line on the screen fewer


@dataclass(frozen=True)
class Plan:
    """A sweep that may start: its grid, the distinct runs that the jobs come to, and which run is whose."""

    grid: Grid
    configs: list[RunConfig]  # without their data: a sweep over data sets would hold all of them
    seconds: list[float]  # about how long each of them takes
    fingerprints: list[str]
    words: list[Words]  # of each run
    own: list[Words]  # those of them that not all runs have
    run_of_job: list[int]
    tune: str | None  # the key whose best value is chosen with the first seed


class Course:
    """How far a sweep has come: which of its plan's runs were launched and which need not be, and what became of them."""

    def __init__(self, found: Mapping[int, "Done"]) -> None:
        """`found`: runs that were finished, or failed, before and are left as they are."""
        self.found = found
        self.launched: list[int] = []  # in the order of their numbers
        self.resumed: list[int] = []
        self.results: list[JobReturn] = []

    def begin(self, chosen: Sequence[int]) -> list[int]:
        """Those of a round's runs that are to be launched."""
        missing = [run for run in chosen if run not in self.found]
        self.resumed += [run for run in chosen if run in self.found]
        self.launched += missing
        return missing

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


class Sweeper(BasicSweeper):
    """Hydra's grid sweeper, with every job checked before the first one starts and all of them filed under one run in MLflow."""

    def __init__(self, max_batch_size: int | None, params: dict[str, str] | None = None, variants: object = None, tune: object = None) -> None:
        super().__init__(max_batch_size, params)
        self.variants, self.tune = flat_list(variants), tune

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.stacked = self.launcher if isinstance(self.launcher, StackedLauncher) else None
        self.compose = self.stacked.compose if self.stacked else Composer(hydra_context.config_loader, config)
        self.parser = OverridesParser.create(config_loader=hydra_context.config_loader)
        self.word_faults: Sequence[Fault] = getattr(task_function, "faults", ())

    def sweep(self, arguments: list[str]) -> Any:
        """All jobs' results.  Leaves with exit code 2, and nothing done, where any job is wrong; with 1 where any failed."""
        assert self.config is not None
        folders = [Path(source.path) for source in self.config.hydra.runtime.config_sources if source.schema == "file"]
        try:
            own = self._own_faults()
            grid, faults = expand([] if own else self._parse_config(), self.variants, arguments, folders, self.parser)
            course = self._launch(self._plan(grid, [*self.word_faults, *faults, *study_faults(self.config), *own]))
        except ConfigError as error:
            refuse(error)  # not raised: Hydra would print a traceback
        finally:
            if self.stacked:
                self.stacked.stop()
        if course.failures:
            tell(course.failures)
            raise SystemExit(1)
        return course.results

    # ------------------------------------------------------------------------------------------ checking

    def _own_faults(self) -> list[Fault]:
        params: object = self.params
        if isinstance(params or {}, Mapping):
            return []
        return [Fault("hydra.sweeper.params", params, "must be keys with their values, such as {depth: '10,50'}, or null")]

    def _plan(self, grid: Grid, faults: list[Fault]) -> Plan:
        """Compose and check every job; raises `ConfigError` with the faults of all."""
        distinct: dict[str, tuple[int, RunConfig, Words, float]] = {}
        run_of_job = []
        for words in grid.jobs:
            try:
                run = prepare(parse(RunConfig, self.compose(words).values))
                if self.stacked:
                    self.stacked.admit(run)
            except ConfigError as error:
                faults.extend(error.faults)
                continue
            index, *_ = distinct.setdefault(run.fingerprint, (len(distinct), run.config, words, seconds(run)))
            run_of_job.append(index)
        if not faults and not distinct:
            faults = [Fault("-m", "", "no values, no runs: an option list is empty")]
        if faults:
            raise ConfigError(faults)
        _, configs, words_of_runs, lengths = map(list, zip(*distinct.values(), strict=True))
        tune = None if self.tune is None else check_tune(self.tune, configs)
        return Plan(grid, configs, lengths, list(distinct), words_of_runs, own_words(words_of_runs), run_of_job, tune)

    # ------------------------------------------------------------------------------------------ running

    def _launch(self, plan: Plan) -> Course:
        """All rounds of the sweep, under one parent run."""
        assert self.config is not None
        if self.stacked:
            self.stacked.start(plan.configs)  # while MLflow loads here as well

        from bpexp.sweep.screen import closing
        from bpexp.tracking.store import resolve
        from bpexp.tracking.sweep import Sweep

        config, cwd = plan.configs[0], Path(self.config.hydra.runtime.cwd)
        where = Where(resolve(config.tracking.uri, cwd), cwd)
        store = where.store(config)
        self._write_folder()
        known = where.left(config, store, plan.fingerprints)
        course = Course({run: known[it].named(_name(plan.configs[run], plan.own[run])) for run, it in enumerate(plan.fingerprints) if it in known})
        for number, it in course.found.items():
            log.info(
                "%s: %s",
                "failed before" if it.failed else "finished before",
                f"{_name(plan.configs[number], plan.own[number])}: {it.error if it.failed else it.run.outcome}",
            )
        parent = Sweep.begin(
            where.uri, config, cwd, _cut(plan.grid.name, NAME_LENGTH), self._parameters(plan), _planned(plan, range(len(plan.configs)))
        )
        status = "KILLED"
        try:
            for chosen in rounds(plan.configs, plan.tune, course.losses):
                first, missing = len(course.launched), course.begin(chosen)
                if plan.tune:
                    parent.plan(_planned(plan, [*course.launched, *course.resumed]))
                if len(missing) < len(chosen):
                    print(_resumed([course.found[run] for run in chosen if run in course.found], len(chosen)), flush=True)
                course.results += self._round(plan, parent, missing, first)
            status = "FAILED" if course.failures else "FINISHED"
        finally:
            rows = parent.close(status, {plan.fingerprints[run]: it for run, it in course.ended.items()})
            closing(rows, store, config.tracking.experiment)
            tell([*parent.remarks, *where.waiting(config)])
        return course

    def _round(self, plan: Plan, parent: "Sweep", chosen: Sequence[int], first: int) -> Sequence[JobReturn]:
        """Launch the chosen runs, numbered from `first`."""
        from bpexp.sweep.live import Expected, watching

        assert self.launcher is not None
        if not chosen:
            return []
        jobs = [[*plan.words[run], *_filing(parent.id, plan.configs[run], plan.own[run])] for run in chosen]
        runs = {number: Expected(_name(plan.configs[run], plan.own[run]), plan.seconds[run]) for number, run in enumerate(chosen, first)}
        with watching(runs):
            return self.launcher.launch(jobs, initial_job_idx=first)

    def _write_folder(self) -> None:
        assert self.config is not None
        folder = Path(self.config.hydra.sweep.dir)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(self.config, folder / "multirun.yaml")
        except OSError as error:
            raise ConfigError([Fault("hydra.sweep.dir", folder, f"can't be written to ({error.strerror or error})")]) from None

    def _parameters(self, plan: Plan) -> dict[str, str]:
        """What the parent run tells of the sweep: swept keys, and how they were chosen."""
        told = {"variants": " | ".join(map(str, self.variants)), "tune": plan.tune or ""}
        return {key: _cut(value, PARAMETER_LENGTH) for key, value in (plan.grid.swept | told).items() if value}


def _planned(plan: Plan, chosen: Collection[int]) -> list["Planned"]:
    """The jobs that come to one of the chosen runs."""
    from bpexp.tracking.parent import Planned

    names = {run: _name(plan.configs[run], plan.own[run]) for run in chosen}
    jobs = zip(plan.grid.jobs, plan.run_of_job, strict=True)
    return [Planned(words, plan.fingerprints[run], names[run]) for words, run in jobs if run in names]


def _resumed(found: Sequence["Done"], of: int) -> str:
    failed = sum(it.failed for it in found)
    told = f"resumed: {len(found) - failed:,} of {of:,} runs were finished already"
    return f"{told}, {failed:,} failed (rerun=failed runs {'it' if failed == 1 else 'them'} again)" if failed else told


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _filing(parent: str, config: RunConfig, own: Iterable[str]) -> tuple[str, str]:
    """The overrides that file a job under the sweep, with its name."""
    quoted = _name(config, own).replace("\\", "\\\\").replace("'", "\\'")
    return (f"tracking.parent={parent}", f"tracking.run_name='{quoted}'")


def _name(config: RunConfig, own: Iterable[str]) -> str:
    """A run's name, which tells what is special about it."""
    from bpexp.tracking.sink import run_name

    values = flatten(config)
    special = [parse_word(word).key_or_group for word in own]
    return config.tracking.run_name or run_name(config, {key: values.get(full_key(key)) for key in special})
