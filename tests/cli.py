"""Commands run as a user runs them: a process of their own, in a folder of their own."""

import os
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.bad_input.commands import attempt

ROOT = Path(__file__).resolve().parent.parent

Query = Callable[..., list[tuple[Any, ...]]]  # what a statement finds in a database, `?` standing for values


def environment(**more: str) -> dict[str, str]:
    """This process's, without MLflow's settings, with the package on the path."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "BPEXP_", "HYDRA_", "PYTEST_"))}
    return kept | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"} | more


def command(folder: Path, *words: str, module: str = "bpexp", **more: Any) -> subprocess.CompletedProcess[str]:
    """`python -m bpexp words…` in `folder`."""
    line = [sys.executable, "-m", module, *words]
    return subprocess.run(line, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=240, **more)


def forked(count: int, work: Callable[[int], object]) -> None:
    """Do the work in so many processes at once, which share what this one has imported; leaves with 1 where one of them fails.

    For a process of its own, that has one thread: each would take seconds to import MLflow, and none would meet the others.
    """
    line, go = os.pipe()
    children = []
    for number in range(count):
        child = os.fork()
        if not child:
            os.close(go)
            os.read(line, 1)  # until all are there
            try:
                work(number)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    os.close(go)
    ends = [os.waitpid(child, 0)[1] for child in children]
    if any(ends):
        sys.exit(1)


def inside(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`python -m bpexp words…` in `folder`, but in this process: it takes a tenth of the time."""
    with patch.dict(os.environ, {"PYTHONPATH": str(ROOT)}):  # for processes that it starts
        done = attempt(folder, *words, seconds=240)
    assert isinstance(done.code, int | None), done
    return subprocess.CompletedProcess(words, done.code or 0, done.out, done.err)


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def query(database: Path | str, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """What a statement finds in, or does to, a SQLite file."""
    with closing(sqlite3.connect(database)) as connection, connection:
        return connection.execute(statement, values).fetchall()
