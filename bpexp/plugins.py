"""What a user adds to the tables from outside: modules that are named in the environment, and call `bpexp.add`.

    BPEXP_PLUGINS=mine python -m bpexp -m activation=mine,tanh

Every process that trains, and every command, imports them before it reads a configuration.
"""

import os
from functools import cache
from importlib import import_module

from bpexp.config import ConfigError, Fault

__all__ = ["VARIABLE", "load"]

VARIABLE = "BPEXP_PLUGINS"  # names of modules, with commas between them


def load(names: str | None = None) -> None:
    """Import them, or modules that are named in the same way.  Raises `ConfigError` where one can't be."""
    _load(os.environ.get(VARIABLE, "") if names is None else names)


@cache
def _load(names: str) -> None:
    for name in filter(None, map(str.strip, names.split(","))):
        try:
            import_module(name)
        except Exception as error:  # a user's module may end in anything
            told = (str(error).splitlines() or [""])[0]
            raise ConfigError([Fault(VARIABLE, name, f"can't be imported ({type(error).__name__}: {told})")]) from error
