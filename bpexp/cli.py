"""The command lines that are not Hydra apps: `key=value` arguments against a dataclass, refused in the same style."""

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NoReturn, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from bpexp.config import ConfigError, Fault, explain, parse, takes_text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["REFUSED", "arguments", "refuse", "tell"]

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


def arguments(schema: type[T], argv: Sequence[str], description: str) -> T:
    """The configuration that `key=value` arguments make of a schema's defaults; answers --help, refuses what is wrong."""
    if {"-h", "--help"} & set(argv):
        print(f"{description}\n\nkeys (key=default, meaning, what is allowed):\n{explain(schema, schema())}")
        raise SystemExit(0)
    try:
        return parse(schema, _values(schema, argv))
    except ConfigError as error:
        refuse(error)


def _values(schema: type, argv: Sequence[str]) -> dict[str, object]:
    faults = [Fault(word, "", "must be written key=value") for word in argv if "=" not in word]
    try:
        values = OmegaConf.to_container(OmegaConf.from_dotlist([word for word in argv if "=" in word]), resolve=True)
    except (OmegaConfBaseException, YAMLError) as error:
        raise ConfigError([*faults, Fault(" ".join(argv), "", str(error).splitlines()[0])]) from None
    if faults:
        raise ConfigError(faults)
    assert isinstance(values, dict)
    typed = dict(word.split("=", 1) for word in argv)
    return {
        str(key): typed[str(key)] if takes_text(schema, str(key)) and not isinstance(value, str | None) else value for key, value in values.items()
    }
