"""Whole commands, from start to finish, in a folder of their own."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from benchmarks.timing import environment

__all__ = ["folder", "seconds"]


@contextmanager
def folder() -> Iterator[Path]:
    """An empty one, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="bench-") as path:
        yield Path(path)


def seconds(words: Sequence[str], cwd: Path) -> float:
    """Wall time of `python words…` as a user starts it."""
    start = perf_counter()
    done = subprocess.run([sys.executable, *words], cwd=cwd, env=environment(one_thread=False), capture_output=True, text=True, check=False)
    took = perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return took
