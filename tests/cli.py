"""Commands run as a user runs them: a process of their own, in a folder of their own."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def environment(**more: str) -> dict[str, str]:
    """This process's, without MLflow's settings, with the package on the path."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "BPEXP_", "HYDRA_", "PYTEST_"))}
    return kept | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"} | more


def command(folder: Path, *words: str, module: str = "bpexp", **more: Any) -> subprocess.CompletedProcess[str]:
    """`python -m bpexp words…` in `folder`."""
    line = [sys.executable, "-m", module, *words]
    return subprocess.run(line, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=240, **more)


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def query(database: Path | str, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """What a statement finds in, or does to, a SQLite file."""
    with closing(sqlite3.connect(database)) as connection, connection:
        return connection.execute(statement, values).fetchall()
