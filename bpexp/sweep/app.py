"""The Hydra app: words -> checked configuration -> one run, or the sweeper that makes many.

MLflow takes over a second to import: it is imported once there is something to track, so that a refusal comes at once.
"""

import os
import shlex
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra._internal.callbacks import Callbacks
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from bpexp import plugins, stopping
from bpexp.cli import makeable, refuse, tell, tell_logged
from bpexp.config import GROUPS, ConfigError, Fault, RunConfig, blanks
from bpexp.masks import masking
from bpexp.stopping import INTERRUPTED
from bpexp.sweep.allowed import guard
from bpexp.sweep.carry import POLL_SECONDS, Job, JobError, Outcome, Tell, Where, carry_out
from bpexp.sweep.completion import SCRIPT, complete
from bpexp.sweep.gallery import alone, logspace
from bpexp.sweep.help import help_text
from bpexp.sweep.names import STUDY, config_dir, is_hydras, parse_word, short, sort_words
from bpexp.sweep.reading import read
from bpexp.tracking.notes import Ended, table_row

if TYPE_CHECKING:
    from bpexp.tracking.lookup import Done
    from bpexp.tracking.store import Store

__all__ = ["Task", "main"]

VERBOSE = ("--verbose", "-v")


def main() -> None:
    """`python -m bpexp`: check the words, then hand over to Hydra."""
    stopping.install()
    try:
        plugins.load()
    except ConfigError as error:
        refuse(error)
    _register()
    guard()
    parser, typed = get_args_parser(), sys.argv[1:]
    parser.add_argument(*VERBOSE, action="store_true", help="Tell more: what is found, begun and ended; MLflow's own lines")
    tell_logged(all_of_it=not set(VERBOSE).isdisjoint(typed))
    sys.argv = [word for word in sys.argv if word not in VERBOSE]  # Hydra does not know it
    arguments = parser.parse_args()
    if arguments.help:
        print(help_text(parser, _folders(arguments)))
        return
    if arguments.shell_completion and arguments.overrides in (["install=bash"], ["query=bash"]):  # other shells are Hydra's
        print(SCRIPT if "install=bash" in arguments.overrides else "\n".join(complete(os.environ.get("COMP_LINE", ""), _folders(arguments))))
        return
    asks = arguments.hydra_help or arguments.info is not None or arguments.shell_completion
    try:
        faults = [] if asks else _check_words(arguments)
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")(Task(tuple(faults)))()
    except ConfigError as error:
        refuse(error)
    except KeyboardInterrupt:
        _tell_interruption(typed)
        raise SystemExit(INTERRUPTED) from None
    except SystemExit:
        if stopping.stopped():
            _tell_interruption(typed)
        raise


def _tell_interruption(typed: Sequence[str]) -> None:
    tell([f"interrupted; {shlex.join(['python', '-m', 'bpexp', *typed])} goes on from here"])


def _check_words(arguments: Namespace) -> list[Fault]:
    """Refuse a lone run, or `--cfg`, that is wrong; a sweep's wrong words are taken out, and their faults returned for the sweeper to add its own."""
    sweep = _is_sweep(arguments)
    folders = _folders(arguments)
    good, faults = sort_words(arguments.overrides, folders, sweep=sweep)
    plain = len(folders) == 1 and arguments.config_name is None and arguments.config_path is None
    if sweep:
        whole = [word for word in good if is_hydras(key := parse_word(word).key_or_group) or key == STUDY]  # the same for all jobs
        if plain and any(word for word in whole if not word.startswith(STUDY)):
            _compose(folders[0], whole, faults, sweep=True)
        wrong = set(arguments.overrides) - set(good)
        sys.argv = [word for word in sys.argv if word not in wrong]
        return faults
    if plain and arguments.cfg is None:  # before Hydra makes a folder for the run
        faults += _lone_faults(_compose(folders[0], good, faults), store=not faults)
    if faults:
        raise ConfigError(faults)
    return []


def _compose(folder: Path, words: list[str], faults: list[Fault], *, sweep: bool = False) -> DictConfig:
    """Raises `ConfigError` with the faults there are and what only Hydra knows: its own keys, `group@package=option`."""
    try:
        with hydra.initialize_config_dir(str(folder), version_base="1.3"):
            config = hydra.compose("config", words, return_hydra_config=True)
            if any(is_hydras(parse_word(word).key_or_group) for word in words):
                _rehearse(config, sweep=sweep)
            return config
    except ConfigError as error:
        raise ConfigError([*faults, *error.faults]) from None
    except Exception as error:  # what Hydra makes of its own keys may end in anything
        told = f"{short(error)} ({short(error.__cause__)})" if error.__cause__ else short(error)
        about = [word for word in words if word in told] or [word for word in words if is_hydras(parse_word(word).key_or_group)] or words
        raise ConfigError([*faults, Fault(" ".join(about), "", told)]) from None


def _rehearse(config: DictConfig, *, sweep: bool) -> None:
    """Have Hydra do what its own keys ask for, but for files: when it starts in earnest, all that it has for a fault is a traceback."""
    own = config.hydra
    makeable(Path(own.sweep.dir if sweep else own.run.dir))
    for logging in (own.hydra_logging, own.job_logging):
        told = {**logging, "handlers": {name: {"class": "logging.NullHandler"} for name in logging.get("handlers") or ()}}
        configure_log(OmegaConf.create(told), own.verbose)
    if sweep:
        context = HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=Callbacks())
        Plugins.instance().instantiate_sweeper(hydra_context=context, task_function=Task(), config=config)


def _folders(arguments: Namespace) -> list[Path]:
    """Where configurations lie: ours, or what stands in for it, and the user's own."""
    return [Path(arguments.config_path or config_dir()), *([Path(arguments.config_dir)] if arguments.config_dir else [])]


def _is_sweep(arguments: Namespace) -> bool:
    """Whether the words make a sweep; a study is one, and Hydra is told so."""
    modes = [word.upper() for word in arguments.overrides if word.lower().startswith("hydra.mode=")]
    study = any(word.startswith(f"{STUDY}=") for word in arguments.overrides)
    if study and not (modes or arguments.multirun or arguments.run):
        sys.argv.append("hydra.mode=MULTIRUN")
        return True
    return bool(arguments.multirun) or "HYDRA.MODE=MULTIRUN" in modes


def _lone_faults(config: DictConfig, *, store: bool) -> list[Fault]:
    """All that is wrong with a lone run and, where the rest is right, with the store it would go to."""
    try:
        settings = read(config).config
        if store:
            from bpexp.tracking.store import connect, resolve

            uri = resolve(settings.tracking.uri)
            Where(uri, Path.cwd()).check(settings)
            if not settings.offline:
                connect(uri, settings.tracking.experiment)
    except ConfigError as error:
        return error.faults
    return []


def _register() -> None:
    """What Hydra finds in `conf/` rests on the schema's defaults; a table's rows are options of its group."""
    options = ConfigStore.instance()
    options.store(name="schema", node=blanks())
    for group, table in GROUPS.items():
        for name in table:
            options.store(group=group, name=name, node={"name": name})
    OmegaConf.register_new_resolver("bpexp.alone", alone, replace=True)
    OmegaConf.register_new_resolver("bpexp.logspace", logspace, replace=True)


@dataclass(frozen=True)
class Task:
    """The task function of Hydra: one composed configuration -> one run in MLflow, of which it tells.

    `faults` are those found in the words as typed, which are gone by now: a sweep adds them to what it finds itself.
    """

    faults: tuple[Fault, ...] = ()

    def __call__(self, config: DictConfig) -> Ended | None:
        from bpexp.sweep import live
        from bpexp.tracking.sink import run_name
        from bpexp.tracking.store import resolve

        plugins.load()  # Hydra's own launchers call this in other processes
        prepared, told = read(config), HydraConfig.get()
        settings, cwd, lone = prepared.config, Path(told.runtime.cwd), told.mode == RunMode.RUN
        where, name = Where(resolve(settings.tracking.uri, cwd), cwd), settings.tracking.run_name or run_name(settings)
        settings = replace(settings, tracking=replace(settings.tracking, run_name=name))
        store = where.store(settings) if lone else None
        job = Job(0 if lone else told.job.num, settings)
        with masking(), live.watching({job.number: live.Expected(name, 1.0)}, lone=True) if lone else nullcontext():
            before = where.left(settings, store, [prepared.fingerprint]).get(prepared.fingerprint)
            outcome = _known(before) if before else _to_its_end(job, where, live.news)
            live.ends([outcome])
        tell(outcome.remarks)
        if outcome.run is None and not lone:
            raise JobError(outcome.failure)
        if lone:
            _tell_end(outcome, where, settings, store)
        return outcome.run


def _known(before: "Done") -> Outcome:
    """Of a run that was over before."""
    if before.failed:
        told = f" ({before.error})" if before.error else ""
        return Outcome(0, failure=f"it failed before{told}; rerun=failed runs it again")
    return Outcome(0, before.run, found=True)


def _to_its_end(job: Job, where: Where, news: Tell) -> Outcome:
    """Carry a job out; where another process is at the run, when that one has ended."""
    (outcome,) = carry_out([job], where, news)
    if outcome.busy:
        tell([f"this run is being trained by {outcome.busy}: waiting for it"])
    while outcome.busy:
        time.sleep(POLL_SECONDS)
        (outcome,) = carry_out([job], where, news)
    return outcome


def _tell_end(outcome: Outcome, where: Where, settings: RunConfig, store: "Store | None") -> None:
    """What a lone run has come to.  Leaves with exit code 1 where it has failed."""
    from bpexp.sweep.screen import closing

    if outcome.found:
        print("this run was finished already; rerun=all runs it again")
    name, run = str(settings.tracking.run_name), outcome.run
    row = table_row(name, run.summary, run.outcome) if run else table_row(name, {}, "failed")
    closing([row], store, settings.tracking.experiment)
    tell(where.waiting(settings))
    if run is None:
        tell([f"failed: {outcome.failure}"])
        raise SystemExit(1)
