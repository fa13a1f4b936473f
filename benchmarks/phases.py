"""A sweep whose phases are timed: `python -m benchmarks.phases FILE WORDS…` does what `python -m bpexp WORDS…` does, and writes to FILE what each
phase of the main process took, as JSON.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

__all__ = ["PHASES"]

PHASES = {
    "plan": "compose and check every job",
    "look": "which runs are finished already",
    "open": "the parent run and its manifest",
    "compose": "the jobs that are left, once more, and their stacks",
    "train": "until the last run is stored, in the other processes",
    "close": "the manifest, the table and the note of the sweep",
}


class Clock:
    """Wall and processor seconds of each phase, and the process's memory at its end."""

    def __init__(self) -> None:
        self.phases: dict[str, dict[str, float]] = {}
        self.start = time.perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.phases[name] = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "bytes": resident()}

    def timed(self, owner: Any, attribute: str, name: str) -> None:
        """Have calls of a function count as a phase."""
        inner: Callable[..., Any] = getattr(owner, attribute)

        @wraps(inner)
        def call(*arguments: Any, **named: Any) -> Any:
            with self.phase(name):
                return inner(*arguments, **named)

        setattr(owner, attribute, staticmethod(call) if isinstance(owner.__dict__.get(attribute), classmethod) else call)

    def report(self) -> dict[str, Any]:
        """`launch` is taken apart: what it does besides training is `compose`."""
        launch, train = self.phases.pop("launch"), self.phases["train"]
        self.phases["compose"] = {key: launch[key] - train[key] for key in ("wall", "cpu")} | {"bytes": train["bytes"]}
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "phases": self.phases,
            "wall": time.perf_counter() - self.start,
            "cpu": time.process_time(),
            "workers": children.ru_utime + children.ru_stime,
            "peak": most(),
        }


def resident() -> int:
    """Bytes of memory that the process holds now."""
    return resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[1])


def most() -> int:
    """Bytes of memory that it has held at most: the kernel's count, since that of `getrusage` begins with what the process that started it held."""
    return 1024 * int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


def main(file: str, words: list[str]) -> None:
    clock = Clock()
    from hydra.core.plugins import Plugins

    Plugins.instance()  # loads Hydra's own sweeper anew: ours must be made of that one
    from bpexp.sweep import app, carry, launcher, sweeper
    from bpexp.tracking import sweep

    clock.timed(sweeper.Sweeper, "_plan", "plan")
    clock.timed(carry.Where, "left", "look")
    clock.timed(sweep.Sweep, "begin", "open")
    clock.timed(launcher.StackedLauncher, "launch", "launch")
    clock.timed(launcher, "train", "train")
    clock.timed(sweep.Sweep, "close", "close")
    sys.argv = ["bpexp", *words]
    app.main()
    Path(file).write_text(json.dumps(clock.report()))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
