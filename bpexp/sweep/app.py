"""The Hydra app: words -> checked configuration -> one run, or the sweeper that makes many.

MLflow takes over a second to import: it is imported once there is something to track, so that a refusal comes at once.
"""

import signal
import sys
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from bpexp.cli import refuse
from bpexp.config import GROUPS, ConfigError, Fault, blanks
from bpexp.experiment import run
from bpexp.sweep.gallery import alone, logspace
from bpexp.sweep.help import help_text
from bpexp.sweep.names import STUDY, config_dir, is_hydras, parse_word, short, sort_words
from bpexp.sweep.reading import read
from bpexp.tracking.notes import Ended, table_row

__all__ = ["Job", "main"]

INTERRUPTED, TERMINATED = 130, 143  # exit codes of a command that Ctrl-C or `kill` ended, as the shell has them


def main() -> None:
    """`python -m bpexp`: check the words, then hand over to Hydra."""
    signal.signal(signal.SIGTERM, _terminate)
    _register()
    parser = get_args_parser()
    arguments = parser.parse_args()
    if arguments.help:
        print(help_text(parser, _folders(arguments)))
        return
    asks = arguments.hydra_help or arguments.info is not None or arguments.shell_completion
    try:
        faults = [] if asks else _check_words(arguments)
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")(Job(tuple(faults)))()
    except ConfigError as error:
        refuse(error)
    except KeyboardInterrupt:
        print("bpexp: interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def _terminate(_signal: int, _frame: object) -> NoReturn:
    """What a batch system sends when time is up: runs are closed as they are at Ctrl-C."""
    raise SystemExit(TERMINATED)


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
        settings = read(config).config
        if store and not settings.offline:
            from bpexp.tracking.store import connect, resolve

            told = connect(resolve(settings.tracking.uri), settings.tracking.experiment)
            if told.remark:
                print(told.remark, file=sys.stderr)
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
class Job:
    """The task function of Hydra: one composed configuration -> one run in MLflow, of which it tells.

    `faults` are those found in the words as typed, which are gone by now: a sweep adds them to what it finds itself.
    """

    faults: tuple[Fault, ...] = ()

    def __call__(self, config: DictConfig) -> Ended:
        from bpexp.sweep.screen import closing, run_bar
        from bpexp.tracking.sink import run_name
        from bpexp.tracking.store import resolve
        from bpexp.tracking.tracked import RecordError
        from bpexp.tracking.writer import Writer

        prepared = read(config)
        settings, told = prepared.config, HydraConfig.get()
        cwd, lone = Path(told.runtime.cwd), told.mode == RunMode.RUN
        name = settings.tracking.run_name or run_name(settings)
        with run_bar(name) as progress, Writer.to(resolve(settings.tracking.uri, cwd), settings, cwd) as writer:
            sink = writer.sink(0 if lone else told.job.num)
            records = run(prepared, sink, progress)
        if sink.failure:
            raise RecordError(sink.failure)
        ended = Ended(str(sink.run_id or ""), name, records.outcome, records.summary)
        if lone:
            if sink.waits:
                print(f"bpexp: {name} waits in {writer.spool.folder}: {sink.remark or writer.link.why}", file=sys.stderr)
            closing([table_row(name, ended.summary, ended.outcome)], writer.link.store, settings.tracking.experiment, waits=sink.waits)
        return ended
