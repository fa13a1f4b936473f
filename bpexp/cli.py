"""The command lines that are not Hydra apps: `key=value` arguments against a dataclass, refused in the same style; what any command says aside."""

import logging
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from bpexp import plugins
from bpexp.config import ConfigError, Fault, explain, parse, takes_text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["REFUSED", "arguments", "makeable", "refuse", "tell", "tell_logged"]

T = TypeVar("T", bound="DataclassInstance")
REFUSED = 2  # exit code of a command whose input is wrong, as argparse and the shell have it


def refuse(error: ConfigError) -> NoReturn:
    """Print each fault on a line of its own and leave with exit code 2."""
    tell(error.faults)
    raise SystemExit(REFUSED)


def tell(lines: Iterable[object]) -> None:
    """Print lines that are no result."""
    for line in lines:
        print(f"bpexp: {line}", file=sys.stderr, flush=True)


class Aside(logging.Handler):
    """Tells what is logged as all else is told."""

    def emit(self, record: logging.LogRecord) -> None:
        tell([record.getMessage()])


def tell_logged(*, all_of_it: bool) -> None:
    """From now on, tell of what this package logs the warnings or `all_of_it`: what is found, begun and ended."""
    logger = logging.getLogger("bpexp")
    logger.handlers, logger.propagate = [Aside()], False
    logger.setLevel(logging.INFO if all_of_it else logging.WARNING)


def makeable(folder: Path) -> None:
    """Raises `OSError` where a folder is not there and can't be made, as far as that can be told without making it."""
    there = next(it for it in (folder, *folder.absolute().parents) if it.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{there} is no folder")
    if not os.access(there, os.W_OK) or os.statvfs(there).f_blocks == 0:  # the system's own, such as /proc: root may write there, in vain
        raise PermissionError(f"{there} can't be written to")


def arguments(schema: type[T], argv: Sequence[str], description: str) -> T:
    """The configuration that `key=value` arguments make of a schema's defaults; answers --help, refuses what is wrong."""
    try:
        plugins.load()
        if {"-h", "--help"} & set(argv):
            print(f"{description}\n\nkeys (key=default, meaning, what is allowed):\n{explain(schema, schema())}")
            raise SystemExit(0)
        return parse(schema, _values(schema, argv))
    except ConfigError as error:
        refuse(error)


def _values(schema: type, argv: Sequence[str]) -> dict[str, object]:
    values: dict[str, object] = {}
    faults = []
    for word in argv:
        try:
            values |= _value(schema, word)
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    return values


def _value(schema: type, word: str) -> dict[str, object]:
    """What one argument sets."""
    key, equals, text = word.partition("=")
    if not equals:
        raise ConfigError([Fault(word, "", "must be written key=value")])
    try:
        values = OmegaConf.to_container(OmegaConf.from_dotlist([word]), resolve=True)
    except (OmegaConfBaseException, YAMLError, ValueError, RecursionError) as error:
        raise ConfigError([Fault(key, text, f"can't be read ({str(error).splitlines()[0]})")]) from None
    assert isinstance(values, dict)
    return {str(name): text if takes_text(schema, str(name)) and not isinstance(value, str | None) else value for name, value in values.items()}
