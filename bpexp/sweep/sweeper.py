"""The sweeper: expand, check all jobs, open the sweep's parent run, launch, close it whatever happens."""

import sys
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

from bpexp.cli import refuse
from bpexp.config import ConfigError, Fault, RunConfig, flatten, full_key, parse
from bpexp.experiment import numerics, prepare
from bpexp.sweep.compose import Composer, Words
from bpexp.sweep.grid import Grid, expand, flat_list, own_words
from bpexp.sweep.launcher import StackedLauncher
from bpexp.sweep.names import parse_word, short
from bpexp.sweep.reading import study_faults
from bpexp.sweep.stacked import WorkerError
from bpexp.sweep.tuning import check_tune, rounds
from bpexp.tracking.notes import Ended

if TYPE_CHECKING:
    from bpexp.tracking.lookup import Finished
    from bpexp.tracking.parent import Planned, SweepRun
    from bpexp.tracking.store import Store

__all__ = ["Sweeper"]

NAME_LENGTH, PARAMETER_LENGTH = 200, 6000  # MLflow takes 250 characters for a name, a line on the screen fewer


@dataclass(frozen=True)
class Plan:
    """A sweep that may start: its grid, the distinct runs that the jobs come to, and which run is whose."""

    grid: Grid
    configs: list[RunConfig]  # without their data: a sweep over data sets would hold all of them
    fingerprints: list[str]
    words: list[Words]  # of each run
    own: list[Words]  # those of them that not all runs have
    run_of_job: list[int]
    tune: str | None  # the key whose best value is chosen with the first seed


class Course:
    """How far a sweep has come: which of its plan's runs were launched and which need not be, and what became of them."""

    def __init__(self, found: Mapping[int, "Finished"]) -> None:
        """`found`: runs that were finished before."""
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
    def numbers(self) -> dict[int, int]:
        """Each run's number: launched ones have that of their job."""
        return {run: number for number, run in enumerate([*self.launched, *self.resumed])}

    @property
    def ended(self) -> dict[int, Ended]:
        """The runs that came to their end."""
        results = zip(self.launched, self.results, strict=False)  # fewer where the sweep was interrupted
        launched = {run: result.return_value for run, result in results if result.status == JobStatus.COMPLETED}
        return launched | {run: self.found[run].run for run in self.resumed}

    def losses(self) -> dict[int, float]:
        """The final training loss of each run that came to one."""
        return {run: it.summary.get("final_loss", inf) for run, it in self.ended.items() if it.outcome != "diverged"}


class Sweeper(BasicSweeper):
    """Hydra's grid sweeper, with every job checked before the first one starts and all of them filed under one run in MLflow."""

    def __init__(
        self, max_batch_size: int | None, params: dict[str, str] | None = None, variants: object = None, tune: object = None, resume: object = False
    ) -> None:
        super().__init__(max_batch_size, params)
        self.variants, self.tune, self.resume = flat_list(variants), tune, resume

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
            grid, faults = expand(self._parse_config(), self.variants, arguments, folders, self.parser)
            results = self._launch(self._plan(grid, [*self.word_faults, *faults, *study_faults(self.config), *self._own_faults()]))
        except ConfigError as error:
            refuse(error)  # not raised: Hydra would print a traceback
        finally:
            if self.stacked:
                self.stacked.stop()
        _report_failures(results)
        return results

    # ------------------------------------------------------------------------------------------ checking

    def _own_faults(self) -> list[Fault]:
        return [] if isinstance(self.resume, bool) else [Fault("hydra.sweeper.resume", self.resume, "must be true or false")]

    def _plan(self, grid: Grid, faults: list[Fault]) -> Plan:
        """Compose and check every job; raises `ConfigError` with the faults of all."""
        distinct: dict[str, tuple[int, RunConfig, Words]] = {}
        run_of_job = []
        for words in grid.jobs:
            try:
                run = prepare(parse(RunConfig, self.compose(words).values))
                if self.stacked:
                    self.stacked.admit(run)
            except ConfigError as error:
                faults.extend(error.faults)
                continue
            index, _, _ = distinct.setdefault(run.fingerprint, (len(distinct), run.config, words))
            run_of_job.append(index)
        if not faults and not distinct:
            faults = [Fault("-m", "", "no values, no runs: an option list is empty")]
        if faults:
            raise ConfigError(faults)
        configs, words_of_runs = [config for _, config, _ in distinct.values()], [words for _, _, words in distinct.values()]
        tune = None if self.tune is None else check_tune(self.tune, configs)
        return Plan(grid, configs, list(distinct), words_of_runs, own_words(words_of_runs), run_of_job, tune)

    # ------------------------------------------------------------------------------------------ running

    def _launch(self, plan: Plan) -> list[JobReturn]:
        """All rounds of the sweep, under one parent run."""
        assert self.config is not None
        if self.stacked and not self.resume:  # else who knows what is left to train
            self.stacked.start(plan.configs)  # while MLflow loads here as well

        from bpexp.sweep.screen import closing
        from bpexp.tracking.parent import SweepRun
        from bpexp.tracking.store import connect, resolve

        tracking = plan.configs[0].tracking
        store = connect(resolve(tracking.uri, Path(self.config.hydra.runtime.cwd)), tracking.experiment)
        if store.remark:
            print(store.remark, file=sys.stderr)
        self._write_folder()
        course = Course(_found(plan, store) if self.resume else {})
        parent = SweepRun(store, _cut(plan.grid.name, NAME_LENGTH), self._parameters(plan), _planned(plan, range(len(plan.configs))))
        status = "KILLED"
        try:
            for chosen in rounds(plan.configs, plan.tune, course.losses):
                first, missing = len(course.launched), course.begin(chosen)
                if plan.tune:
                    parent.plan(_planned(plan, course.numbers))
                if self.resume:
                    print(f"resumed: {len(chosen) - len(missing):,} of {len(chosen):,} runs were finished already", flush=True)
                course.results += self._round(plan, parent, missing, first)
            status = "FAILED" if any(result.status == JobStatus.FAILED for result in course.results) else "FINISHED"
        finally:
            rows = parent.close(status, {plan.fingerprints[run]: it for run, it in course.ended.items()})
            closing(rows, store, tracking.experiment)
        return course.results

    def _round(self, plan: Plan, parent: "SweepRun", chosen: Sequence[int], first: int) -> Sequence[JobReturn]:
        """Launch the chosen runs, numbered from `first`."""
        from bpexp.sweep.screen import sweep_bar

        assert self.launcher is not None
        if not chosen:
            return []
        jobs = [[*plan.words[run], *_filing(parent.run_id, plan.configs[run], plan.own[run])] for run in chosen]
        with sweep_bar(len(jobs)):
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


def _found(plan: Plan, store: "Store") -> dict[int, "Finished"]:
    """The runs of a plan that are finished in the store, by the names that this sweep gives them."""
    from bpexp.tracking.lookup import finished

    known = finished(store, set(plan.fingerprints))
    here = numerics()
    if others := {it.numerics for it in known.values()} - {here}:
        print(f"bpexp: some finished runs were computed with {' | '.join(sorted(others))}; here it is {here}", file=sys.stderr)
    named = {run: _name(plan.configs[run], plan.own[run]) for run, fingerprint in enumerate(plan.fingerprints) if fingerprint in known}
    return {run: known[plan.fingerprints[run]].named(name) for run, name in named.items()}


def _planned(plan: Plan, chosen: Collection[int]) -> list["Planned"]:
    """The jobs that come to one of the chosen runs."""
    from bpexp.tracking.parent import Planned

    names = {run: _name(plan.configs[run], plan.own[run]) for run in chosen}
    jobs = zip(plan.grid.jobs, plan.run_of_job, strict=True)
    return [Planned(words, plan.fingerprints[run], names[run]) for words, run in jobs if run in names]


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


def _report_failures(results: Sequence[JobReturn]) -> None:
    """One line for each job that failed, then exit code 1."""
    failed = [result for result in results if result.status == JobStatus.FAILED]
    for result in failed:
        error = result._return_value  # noqa: SLF001 (the public property raises it, after two lines of its own)
        words = " ".join(word for word in result.overrides or () if not word.startswith("tracking."))
        told = short(error) if isinstance(error, WorkerError) else f"{type(error).__name__}: {short(error)}"
        print(f"bpexp: failed: {words}: {told}", file=sys.stderr)
    if failed:
        raise SystemExit(1)
