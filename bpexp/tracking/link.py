"""The way to a store that may be away for a while."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bpexp.tracking.store import HASTE, Store, sqlite_file
from bpexp.tracking.trouble import AwayError, reason, trouble

__all__ = ["RETRY", "Link"]

RETRY = 10.0  # seconds between two attempts

for _name, _value in HASTE.items():
    os.environ.setdefault(_name, _value)  # in a process that trains: a store that is away holds up the end of each stack


class Link:
    """A store that is connected to when it is first used, and left alone for a while after it was found to be away."""

    def __init__(self, connect: Callable[[], Store] | None) -> None:
        """`connect`: None for a store that is not to be asked (`offline=true`)."""
        self.connect = connect
        self.store: Store | None = None
        self.why = "offline=true" if connect is None else ""  # it was not reached when it was last asked
        self.next = -1.0  # time.monotonic() of the next attempt

    @property
    def delay(self) -> float | None:
        """Seconds until the next attempt; None where there will be none."""
        return None if self.connect is None else max(0.0, self.next - time.monotonic())

    @contextmanager
    def attempt(self) -> Iterator[Store]:
        """The store; raises `AwayError` where it is, at once or in between, away.  Other errors are the caller's."""
        if self.connect is None:
            raise AwayError(self.why)
        try:
            self.store = self.store or self.connect()
            yield self.store
        except Exception as error:
            if not trouble(error):
                raise
            self.why, self.next = reason(error), time.monotonic() + RETRY
            raise AwayError(self.why) from error
        except BaseException:  # an interruption: what is still to be done must not hang once more
            if self.store is None or sqlite_file(self.store.uri) is None:
                self.connect, self.why = None, "interrupted"
            raise
