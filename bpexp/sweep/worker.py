"""A process that trains: `python -m bpexp.sweep.worker FD`, the number being its end of a connection to the main process.

It says that it is ready, then answers each stack of jobs with what became of them.  Where the main process is gone, or sends SIGTERM, it keeps
the state of what it trains and ends.
"""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread
from typing import Any

from bpexp import plugins, stopping

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
        while True:
            connection.send(carry_out(*tasks.get()))


def _listen(connection: Connection, tasks: "SimpleQueue[Any]") -> None:
    """Hand tasks on, until there is nobody any more who would send one."""
    try:
        while True:
            tasks.put(connection.recv())
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(sys.argv[1:])
