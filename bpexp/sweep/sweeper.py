"""The sweeper: expand, check all jobs, open the sweep's parent run, launch, close it whatever happens."""

import copy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from bpexp.cli import refuse
from bpexp.config import ConfigError, Fault, RunConfig, flatten, keys
from bpexp.sweep.names import config_dir, sort_words
from bpexp.sweep.reading import read
from bpexp.sweep.screen import closing, sweep_bar

__all__ = ["Sweeper"]

Words = tuple[str, ...]
NAME_LENGTH = 200  # MLflow takes 250 characters, a line on the screen fewer


@dataclass(frozen=True)
class Plan:
    """A sweep that may start: the jobs as asked for, the distinct runs they come to, and which run is whose."""

    jobs: list[Words]
    configs: list[RunConfig]  # without their data: a sweep over data sets would hold all of them
    words: list[Words]  # of each run
    run_of_job: list[int]


class Sweeper(BasicSweeper):
    """Hydra's grid sweeper, with every job checked before the first one starts and all of them filed under one run in MLflow."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.bases: dict[Words, DictConfig] = {}
        self.word_faults: Sequence[Fault] = getattr(task_function, "faults", ())

    def sweep(self, arguments: list[str]) -> Any:
        """All jobs' results.  Leaves with exit code 2, and nothing done, where any job is wrong; with 1 where any failed."""
        assert self.config is not None
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        try:
            plan = self._plan([tuple(job) for batch in self.split_arguments(overrides, None) for job in batch])
            results = self._launch(plan, overrides)
        except ConfigError as error:
            refuse(error)  # not raised: Hydra would print a traceback
        _report_failures(results)
        return results

    # ------------------------------------------------------------------------------------------ checking

    def _plan(self, jobs: list[Words]) -> Plan:
        """Compose and check every job; raises `ConfigError` with the faults of all."""
        faults = [*self.word_faults, *sort_words(self._parse_config(), [config_dir()], sweep=True)[1]]
        distinct: dict[str, tuple[int, RunConfig, Words]] = {}
        run_of_job = []
        for words in jobs:
            try:
                run = read(self._compose(words))
            except ConfigError as error:
                faults.extend(error.faults)
                continue
            index, _, _ = distinct.setdefault(run.fingerprint, (len(distinct), run.config, words))
            run_of_job.append(index)
        if not faults and not distinct:
            faults = [Fault("-m", "", "no values, no runs: an option list is empty")]
        if faults:
            raise ConfigError(faults)
        return Plan(jobs, [config for _, config, _ in distinct.values()], [words for _, _, words in distinct.values()], run_of_job)

    def _compose(self, words: Words) -> DictConfig:
        """A job's configuration.  Hydra composes once per choice of groups, which takes 40 ms; plain values are set on a copy."""
        plain, rest = {}, []
        for word in words:
            override = OverridesParser.create().parse_override(word)
            if override.key_or_group in keys(RunConfig):
                plain[override.key_or_group] = override.value()
            else:
                rest.append(word)
        config = copy.deepcopy(self._base(tuple(rest)))
        for key, value in plain.items():
            OmegaConf.update(config, key, value, merge=False)
        return config

    def _base(self, words: Words) -> DictConfig:
        assert self.hydra_context is not None
        assert self.config is not None
        if words not in self.bases:
            config = self.hydra_context.config_loader.load_sweep_config(self.config, list(words))
            with open_dict(config):
                del config["hydra"]
            self.bases[words] = config
        return self.bases[words]

    # ------------------------------------------------------------------------------------------ running

    def _launch(self, plan: Plan, overrides: Sequence[Override]) -> Sequence[JobReturn]:
        from bpexp.tracking.parent import SweepRun
        from bpexp.tracking.store import connect, resolve

        assert self.config is not None
        assert self.launcher is not None
        tracking = plan.configs[0].tracking
        store = connect(resolve(tracking.uri, Path(self.config.hydra.runtime.cwd)), tracking.experiment)
        swept = {override.key_or_group: _typed(override) for override in overrides if override.is_sweep_override()}
        folder = Path(self.config.hydra.sweep.dir)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(self.config, folder / "multirun.yaml")
        except OSError as error:
            raise ConfigError([Fault("hydra.sweep.dir", folder, f"can't be written to ({error.strerror or error})")]) from None
        parent = SweepRun(store, _name(swept, overrides), swept)
        launched = [[*words, *_filing(parent.run_id, config, swept)] for words, config in zip(plan.words, plan.configs, strict=True)]
        results: Sequence[JobReturn] = []
        status = "KILLED"
        try:
            with sweep_bar(len(launched)):
                results = self.launcher.launch(launched, initial_job_idx=0)
            status = "FAILED" if any(result.status == JobStatus.FAILED for result in results) else "FINISHED"
        finally:
            closing(parent.close(status, plan.jobs, plan.run_of_job), store, tracking.experiment)
        return results


def _typed(override: Override) -> str:
    """The values of a swept key as they were typed."""
    return str(override.input_line).partition("=")[2]


def _name(swept: Mapping[str, str], overrides: Sequence[Override]) -> str:
    """`depth=10,50,100`: what is swept, or whatever was typed."""
    words = [f"{key}={values}" for key, values in swept.items()] or [str(override.input_line) for override in overrides]
    name = " ".join(words) or "defaults"
    return name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 1]}…"


def _filing(parent: str, config: RunConfig, swept: Mapping[str, str]) -> list[str]:
    """The overrides that file a job under the sweep, with a name that tells what is special about it."""
    from bpexp.tracking.sink import run_name

    values = flatten(config)
    name = config.tracking.run_name or run_name(config, {key: values.get(key, values.get(f"{key}.name")) for key in swept})
    quoted = name.replace("\\", "\\\\").replace("'", "\\'")
    return [f"tracking.parent={parent}", f"tracking.run_name='{quoted}'"]


def _report_failures(results: Sequence[JobReturn]) -> None:
    """One line for each job that failed, then exit code 1."""
    failed = [result for result in results if result.status == JobStatus.FAILED]
    for result in failed:
        error = result._return_value  # noqa: SLF001 (the public property raises it, after two lines of its own)
        words = " ".join(word for word in result.overrides or () if not word.startswith("tracking."))
        print(f"bpexp: failed: {words}: {type(error).__name__}: {str(error).partition(chr(10))[0]}", file=sys.stderr)
    if failed:
        raise SystemExit(1)
