"""Who trains a run, and whether it still does.

A run that is RUNNING carries the process that trains it (tag `bpexp.owner`) and when that was last heard of (tag `bpexp.heartbeat`).  On the machine
of its owner the system knows whether a process lives; from another one, only its silence tells.  A run that has ended keeps both tags, which
then say where it was trained.
"""

import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["HEARTBEAT", "OWNER", "SILENCE", "Owner", "alive", "marks", "owner"]

OWNER, HEARTBEAT = "bpexp.owner", "bpexp.heartbeat"
SILENCE = 300.0  # s after which a process of another machine counts as dead: the machines' clocks must agree within minutes
PROC = Path("/proc")


@dataclass(frozen=True)
class Owner:
    """A process, told apart from those of other machines and from those that had its number before.  What the system does not tell is empty."""

    host: str  # each machine needs a name of its own
    boot: str  # differs after each start of the machine
    space: str  # of process numbers: a container has one of its own
    pid: int
    started: str  # clock ticks from boot to its start

    def __str__(self) -> str:
        """`host=lab boot=9b2e… space=4026531836 pid=4711 started=123456`."""
        return " ".join(f"{key}={value}" for key, value in asdict(self).items())

    @classmethod
    def parse(cls, told: str) -> "Owner | None":
        """The owner that a tag names; None where it names none."""
        words = dict(word.partition("=")[::2] for word in told.split())
        try:
            return cls(words["host"], words["boot"], words["space"], int(words["pid"]), words["started"])
        except (KeyError, ValueError):
            return None

    @property
    def place(self) -> tuple[str, str]:
        """Where process numbers mean the same, until the machine starts anew."""
        return self.host, self.space


def owner() -> str:
    """This process; asked anew each time, for a forked one is another."""
    return str(_self())


def marks() -> dict[str, str]:
    """The tags of a run that this process trains, as of now."""
    return {OWNER: owner(), HEARTBEAT: datetime.now(UTC).isoformat(timespec="seconds")}


def alive(told: str, heartbeat: str | None) -> bool:
    """Whether the process lives that a run's tags tell of.  What names no process, or one of another machine, lives while its heartbeat is no older
    than `SILENCE`.
    """
    it, here = Owner.parse(told), _self()
    if it is None or it.place != here.place:
        return _silence(heartbeat) <= SILENCE
    if it.boot != here.boot:
        return False
    if not here.started:  # no /proc
        return _answers(it.pid)
    state, started = _stat(it.pid)
    return state not in ("", "Z", "X") and started == it.started


def _self() -> Owner:
    boot = space = ""
    with suppress(OSError):
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        space = (PROC / "self/ns/pid").readlink().name[len("pid:[") : -1]
    pid = os.getpid()
    return Owner(socket.gethostname(), boot, space, pid, _stat(pid)[1])


def _stat(pid: int) -> tuple[str, str]:
    """A process's state and start; empty where there is no such process.  Its name may hold blanks and brackets: what follows the last one counts."""
    try:
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return "", ""
    return fields[0], fields[19]  # the third and the 22nd of all


def _answers(pid: int) -> bool:
    """Whether there is a process of this number, whoever it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _silence(heartbeat: str | None) -> float:
    """Seconds since a heartbeat; infinite where there was none."""
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(heartbeat or "")).total_seconds()
    except (TypeError, ValueError):  # no time, or one without its zone
        return float("inf")
