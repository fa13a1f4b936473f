"""The Hydra app: words -> checked configuration -> one run, or the sweeper that makes many.

MLflow takes over a second to import: it is imported once there is something to track, so that a refusal comes at once.
"""

import shlex
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from bpexp import stopping
from bpexp.cli import refuse, tell
from bpexp.config import GROUPS, ConfigError, Fault, blanks
from bpexp.experiment import Progress
from bpexp.stopping import INTERRUPTED, TERMINATED
from bpexp.sweep.carry import POLL_SECONDS, Job, JobError, Outcome, Place, carry_out, place_of
from bpexp.sweep.gallery import alone, logspace
from bpexp.sweep.help import help_text
from bpexp.sweep.names import STUDY, config_dir, is_hydras, parse_word, short, sort_words
from bpexp.sweep.reading import read
from bpexp.tracking.notes import Ended, table_row

__all__ = ["Task", "main"]


def main() -> None:
    """`python -m bpexp`: check the words, then hand over to Hydra."""
    stopping.install()
    _register()
    parser, typed = get_args_parser(), sys.argv[1:]
    arguments = parser.parse_args()
    if arguments.help:
        print(help_text(parser, _folders(arguments)))
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
    except SystemExit as error:
        if error.code == TERMINATED:
            _tell_interruption(typed)
        raise


def _tell_interruption(typed: Sequence[str]) -> None:
    print(f"bpexp: interrupted; {shlex.join(['python', '-m', 'bpexp', *typed])} goes on from here", file=sys.stderr)


def _check_words(arguments: Namespace) -> list[Fault]:
    """Refuse a lone run, or `--cfg`, that is wrong; a sweep's wrong words are taken out, and their faults returned for the sweeper to add its own."""
    sweep = _is_sweep(arguments)
    folders = _folders(arguments)
    good, faults = sort_words(arguments.overrides, folders, sweep=sweep)
    plain = len(folders) == 1 and arguments.config_name is None and arguments.config_path is None
    if sweep:
        whole = [word for word in good if is_hydras(key := parse_word(word).key_or_group) or key == STUDY]  # the same for all jobs
        if plain and any(word for word in whole if not word.startswith(STUDY)):
            _compose(folders[0], whole, faults)
        wrong = set(arguments.overrides) - set(good)
        sys.argv = [word for word in sys.argv if word not in wrong]
        return faults
    if plain and arguments.cfg is None:  # before Hydra makes a folder for the run
        faults += _lone_faults(_compose(folders[0], good, faults), store=not faults)
    if faults:
        raise ConfigError(faults)
    return []


def _compose(folder: Path, words: list[str], faults: list[Fault]) -> DictConfig:
    """Raises `ConfigError` with the faults there are and what only Hydra knows: its own keys, `group@package=option`."""
    try:
        with hydra.initialize_config_dir(str(folder), version_base="1.3"):
            return hydra.compose("config", words)
    except HydraException as error:
        raise ConfigError([*faults, Fault(" ".join(words), "", short(error))]) from None


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
        tracking = read(config).config.tracking
        if store:
            from bpexp.tracking.store import connect, resolve

            connect(resolve(tracking.uri), tracking.experiment)
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

    def __call__(self, config: DictConfig) -> Ended:
        from bpexp.sweep.screen import closing, run_bar
        from bpexp.tracking.sink import run_name
        from bpexp.tracking.store import connect

        settings, hydra_node = read(config).config, HydraConfig.get()
        lone = hydra_node.mode == RunMode.RUN
        place, name = place_of(settings.tracking, Path(hydra_node.runtime.cwd)), settings.tracking.run_name or run_name(settings)
        store = connect(place.uri, place.experiment)
        if lone and store.remark:
            tell([store.remark])
        with run_bar(name) as progress:
            outcome = _to_its_end(Job(0 if lone else hydra_node.job.num, settings), place, progress)
        tell(outcome.remarks)
        if outcome.run is None:
            if lone:
                tell([f"failed: {outcome.failure}"])
                raise SystemExit(1)
            raise JobError(outcome.failure)
        if lone:
            if outcome.found:
                print("this run was finished already; rerun=all runs it again")
            closing([table_row(name, outcome.run.summary, outcome.run.outcome)], store, settings.tracking.experiment)
        return outcome.run


def _to_its_end(job: Job, place: Place, progress: Progress) -> Outcome:
    """Carry a job out; where another process is at the run, when that one has ended."""
    (outcome,) = carry_out([job], place, progress)
    if outcome.busy:
        tell([f"this run is being trained by {outcome.busy}: waiting for it"])
    while outcome.busy:
        time.sleep(POLL_SECONDS)
        (outcome,) = carry_out([job], place, progress)
    return outcome
