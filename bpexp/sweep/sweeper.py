"""The sweeper: expand, check all jobs, open the sweep's parent run, launch, close it whatever happens."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from bpexp.cli import refuse, tell
from bpexp.config import ConfigError, Fault, RunConfig, parse
from bpexp.experiment import Run, prepare
from bpexp.sweep.carry import Where
from bpexp.sweep.compose import Composer, Words
from bpexp.sweep.course import Course, Plan
from bpexp.sweep.grid import expand, flat_list
from bpexp.sweep.launcher import StackedLauncher
from bpexp.sweep.reading import study_faults
from bpexp.sweep.tuning import check_tune, rounds
from bpexp.tracking.notes import own_words

if TYPE_CHECKING:
    from bpexp.tracking.lookup import Done
    from bpexp.tracking.sweep import Sweep

__all__ = ["Sweeper"]

log = logging.getLogger(__name__)

NAME_LENGTH, PARAMETER_LENGTH = 200, 6000  # MLflow takes 250 characters for a name, a line on the screen fewer


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
        self.found = ""  # what is to be said of the sweep as a whole, in a line

    def sweep(self, arguments: list[str]) -> Any:
        """All jobs' results.  Leaves with exit code 2, and nothing done, where any job is wrong; with 1 where any failed."""
        try:
            course = self._launch(self._plan(arguments))
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

    def _plan(self, arguments: Sequence[str]) -> Plan:
        """Compose and check every job; raises `ConfigError` with the faults of all."""
        assert self.config is not None
        folders = [Path(source.path) for source in self.config.hydra.runtime.config_sources if source.schema == "file"]
        own = self._own_faults()
        grid, wrong = expand([] if own else self._parse_config(), self.variants, arguments, folders, self.parser)
        faults = [*self.word_faults, *wrong, *study_faults(self.config), *own]
        told = {"variants": " | ".join(map(str, self.variants)), "tune": str(self.tune or "")}
        plan = Plan(grid.name, grid.swept | told)
        for words, run in self._checked(grid.jobs, faults):
            plan.add(words, run)
        if not faults and not plan.configs:
            faults = [Fault("-m", "", "no values, no runs: an option list is empty")]
        if faults:
            raise ConfigError(faults)
        plan.own = own_words(plan.words)
        if self.tune is not None:
            plan.tune, plan.whole = check_tune(self.tune, plan.configs), False
        return plan

    def _checked(self, jobs: Iterable[Words], faults: list[Fault]) -> Iterator[tuple[Words, Run]]:
        """Each job with the run that it comes to; the faults of those that come to none are added to `faults`."""
        for words in jobs:
            try:
                run = prepare(parse(RunConfig, self.compose(words).values))
                if self.stacked:
                    self.stacked.admit(run)
            except ConfigError as error:
                faults.extend(error.faults)
            else:
                yield words, run

    # ------------------------------------------------------------------------------------------ running

    def _launch(self, plan: Plan) -> Course:
        """All rounds of the sweep, under one parent run."""
        assert self.config is not None
        if self.stacked and plan.configs:
            self.stacked.start(plan.configs)  # while MLflow loads here as well

        from bpexp.sweep.screen import closing
        from bpexp.tracking.store import resolve
        from bpexp.tracking.sweep import Sweep

        config, cwd = plan.config, Path(self.config.hydra.runtime.cwd)
        where = Where(resolve(config.tracking.uri, cwd), cwd)
        store, course = where.store(config), Course()
        coming = self._rounds(plan, course)
        self._write_folder()
        parent = Sweep.begin(where.uri, config, cwd, _cut(plan.title, NAME_LENGTH), _parameters(plan.told), plan.jobs_of(range(len(plan.configs))))
        status = "KILLED"
        try:
            for chosen in coming:
                found = where.left(config, store, [plan.fingerprints[run] for run in chosen])
                first, missing = len(course.launched), course.begin(chosen, plan, found)
                if not plan.whole:
                    parent.plan(plan.jobs_of([*course.launched, *course.resumed]))
                if len(missing) < len(chosen):
                    print(_resumed([course.found[run] for run in chosen if run in course.found], len(chosen)), flush=True)
                course.results += self._round(plan, parent, missing, first)
            status = "FAILED" if course.failures else "FINISHED"
        finally:
            rows = parent.close(status, {plan.fingerprints[run]: it for run, it in course.ended.items()}, self.found)
            closing(rows, store, config.tracking.experiment)
            print(self.found, end="\n" if self.found else "", flush=True)
            tell([*parent.remarks, *where.waiting(config)])
        return course

    def _rounds(self, plan: Plan, course: Course) -> Iterator[list[int]]:
        """The runs to launch, round by round; the next one is asked for when the last one is over."""
        return rounds(plan.configs, plan.tune, course.losses)

    def _round(self, plan: Plan, parent: "Sweep", chosen: Sequence[int], first: int) -> Sequence[JobReturn]:
        """Launch the chosen runs, numbered from `first`."""
        from bpexp.sweep.live import Expected, watching

        assert self.launcher is not None
        if not chosen:
            return []
        jobs = [[*plan.words[run], *_filing(parent.id, plan.name(run))] for run in chosen]
        runs = {number: Expected(plan.name(run), plan.seconds[run]) for number, run in enumerate(chosen, first)}
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


def _parameters(told: Mapping[str, str]) -> dict[str, str]:
    """What the parent run tells of the sweep, as MLflow takes it."""
    return {key: _cut(value, PARAMETER_LENGTH) for key, value in told.items() if value}


def _resumed(found: Sequence["Done"], of: int) -> str:
    failed = sum(it.failed for it in found)
    told = f"resumed: {len(found) - failed:,} of {of:,} runs were finished already"
    return f"{told}, {failed:,} failed (rerun=failed runs {'it' if failed == 1 else 'them'} again)" if failed else told


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _filing(parent: str, name: str) -> tuple[str, str]:
    """The overrides that file a job under the sweep, with its name."""
    quoted = name.replace("\\", "\\\\").replace("'", "\\'")
    return (f"tracking.parent={parent}", f"tracking.run_name='{quoted}'")
