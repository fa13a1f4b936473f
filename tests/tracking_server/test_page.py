"""The commands of docs/how-to/server.md that make PostgreSQL a store: run as they stand, but for ports, the size of the nets and how many
processes train them.
"""

import os
import shlex
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.cli import ROOT
from tests.docs.fences import blocks
from tests.postgres import Postgres
from tests.served import serving
from tests.sweeps import Tracked

pytestmark = pytest.mark.services

SMALL = ("steps=5", "width=8")
MAKING, SERVER, THROUGH_IT, DIRECT = ("sudo", "echo", "chmod"), "mlflow server ", "tracking.uri=http:", "tracking.uri=postgresql"


def lines() -> list[str]:
    """Those that tell of PostgreSQL."""
    text = [block.text for block in blocks(ROOT / "docs/how-to/server.md") if block.language == "text"]
    return [line for part in text[text.index(next(it for it in text if "sudo" in it)) :] for line in part.splitlines()]


def test_the_commands_of_the_page(database: Postgres, tmp_path: Path) -> None:
    """The password is in `~/.pgpass` alone."""
    told = [line.replace(":5432", f":{database.port}").replace("n_jobs=8", "n_jobs=1") for line in lines()]
    home = {"HOME": str(tmp_path), "PGPASSWORD": ""}
    making = [line for line in told if line.startswith(MAKING)]
    (server,), (through,), (direct,) = ([line for line in told if word in line] for word in (SERVER, THROUGH_IT, DIRECT))
    assert sorted([*making, server, through, direct]) == sorted(told)
    for line in making:
        if line.startswith("sudo -u postgres "):
            program, *words = shlex.split(line)[3:]
            database(program, *words)
        else:
            subprocess.run(["sh", "-c", line], env=os.environ | home, check=True)
    assert (tmp_path / ".pgpass").stat().st_mode & 0o777 == 0o600

    *_, uri, _, _, _ = words = shlex.split(server)[2:]
    with serving(tmp_path / "served", uri, **home) as it:
        assert it.words == words
        sweeps = Tracked(tmp_path / "typed", it.uri, partial(database.query, "mlflow"))
        done = sweeps.run(*typed(through, sweeps), *SMALL)
        assert (done.code, len(sweeps.nets("FINISHED"))) == (0, 16), done

    sweeps = Tracked(tmp_path / "direct", uri, partial(database.query, "mlflow"), **home)
    done = sweeps.run(*typed(direct, sweeps), *SMALL, "hydra.launcher.n_jobs=1")
    assert (done.code, len(sweeps.nets("FINISHED"))) == (0, 32), done


def typed(line: str, sweeps: Tracked) -> list[str]:
    """The words of a sweep without its store, which `sweeps` adds."""
    python, m, bpexp, *words, store = shlex.split(line)
    assert (python, m, bpexp) == ("python", "-m", "bpexp")
    assert store in (sweeps.word, "tracking.uri=http://127.0.0.1:5000")
    return words
