"""Hydra and logging keep what they are told in places that all of a process shares."""

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from omegaconf.basecontainer import BaseContainer

__all__ = ["kept"]


@contextmanager
def kept() -> Iterator[None]:
    """What a command tells them in this context is forgotten after it."""
    plugins = Plugins.instance()
    state, handlers = Singleton.get_state(), logging.root.handlers[:]
    before = {it: signal.getsignal(it) for it in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}  # `bpexp.stopping`
    loader, level = vars(sys.modules["hydra._internal.hydra"])["ConfigLoaderImpl"], logging.root.level
    try:
        yield
    finally:
        for opened in {*logging.root.handlers} - {*handlers}:
            opened.close()
        Singleton._instances = state["instances"] | {Plugins: plugins}  # Hydra's own way loads all plug-ins anew, and their classes are others then
        BaseContainer._resolvers = state["omegaconf_resolvers"]
        vars(sys.modules["hydra._internal.hydra"])["ConfigLoaderImpl"] = loader
        logging.root.handlers[:], logging.root.level = handlers, level
        for it, handler in before.items():
            signal.signal(it, handler)
