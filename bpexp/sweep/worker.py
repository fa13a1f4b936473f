"""A process that trains: `python -m bpexp.sweep.worker FD`, the number being its end of a connection to the main process.

It says that it is ready, then answers each stack of jobs with news of its training and, in the end, with what became of them.  Where the main
process is gone, or sends SIGTERM, it keeps the state of what it trains and ends.
"""

import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

from bpexp import plugins, stopping

if TYPE_CHECKING:
    from bpexp.sweep.news import News

__all__ = ["READY", "main"]

READY = "ready"


def main(argv: Sequence[str]) -> None:
    stopping.install(worker=True)
    plugins.load()
    import bpexp.tracking.sink  # noqa: F401 (MLflow takes a second to load: now)
    from bpexp.sweep.carry import carry_out

    connection: Connection = Connection(int(argv[0]))
    tasks: SimpleQueue[Any] = SimpleQueue()
    Thread(target=_listen, args=(connection, tasks), daemon=True).start()
    with suppress(OSError):  # nobody is there any more who would hear it
        connection.send(READY)
        news = _teller(connection)
        while True:
            jobs, where = tasks.get()
            connection.send(carry_out(jobs, where, news))


def _teller(connection: Connection) -> "Callable[[News], None]":
    """Sends news, but waits for nobody: not for a main process that stands still, nor for one that is gone."""
    room = select.poll()
    room.register(connection.fileno(), select.POLLOUT)

    def tell(news: "News") -> None:
        if room.poll(0):
            with suppress(OSError):
                connection.send(news)

    return tell


def _listen(connection: Connection, tasks: "SimpleQueue[Any]") -> None:
    """Hand tasks on, until there is nobody any more who would send one."""
    try:
        while True:
            tasks.put(connection.recv())
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(sys.argv[1:])
