"""Who else can train a sweep's stacks: engines of other projects, a file for each, in which a class `Engine` is the way in.

    hydra.launcher.backend=dask hydra.launcher.address=tcp://head:8786

An engine takes a stack and gives a future of what became of it.  `bpexp.sweep.engines.futures` does the rest for all of them: hands stacks out,
hears of their ends as they come, and hands a stack whose worker was lost out again.
"""

import re
import socket
from importlib import import_module
from pathlib import Path

from bpexp.config import ConfigError, Fault
from bpexp.sweep.engines.futures import Elsewhere
from bpexp.sweep.settings import Settings

__all__ = ["opened"]

ADDRESS = re.compile(r"(\w+://)?\[?(?P<host>[^/\[\]]+)\]?:(?P<port>\d{1,5})")
SECONDS = 10.0  # for a scheduler to be reached


def opened(settings: Settings, processes: int, folder: Path) -> Elsewhere:
    """The engine that is asked for, with so many processes where it starts them itself; `folder` is the one in which the command was typed.

    Raises `ConfigError`.
    """
    if settings.address is not None:
        _check(settings.address)
    try:
        engine = import_module(f"{__name__}.{settings.backend}").Engine
    except ModuleNotFoundError as error:
        must = f"needs {error.name}, which is not installed: pip install 'bpexp[{settings.backend}]'"
        raise ConfigError([Fault("hydra.launcher.backend", settings.backend, must)]) from None
    return Elsewhere(engine(settings, processes, folder))


def _check(address: str) -> None:
    """Raises `ConfigError` where nobody listens: engines would try for minutes."""
    match = ADDRESS.fullmatch(address)
    if match is None:
        raise ConfigError([Fault("hydra.launcher.address", address, "must be host:port, perhaps with tcp:// or the like before it")])
    try:
        socket.create_connection((match["host"], int(match["port"])), SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError([Fault("hydra.launcher.address", address, f"must be where a scheduler listens ({error})")]) from None
