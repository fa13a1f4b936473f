"""A real PostgreSQL on loopback, from Debian's packages: `apt-get install postgresql`."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

from tests.served import free_port

__all__ = ["Postgres", "postgres"]

USER = "postgres"  # who runs it where root tests: it refuses to run as root
ROLE, PASSWORD = "writer", "secret"  # of databases that are gone in minutes
SECONDS = 60


class Postgres:
    """A cluster in a folder of its own, with a role and the databases that it is asked for: made, started, stopped, always on the same port."""

    def __init__(self, folder: Path) -> None:
        """`folder`: an empty one with a short path (of a socket), which the user `postgres` can reach."""
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        assert found, "PostgreSQL is missing: apt-get install postgresql"
        self.bin, self.folder, self.port = found[-1], folder, free_port()
        if os.getuid() == 0:
            shutil.chown(folder, USER)
        self("initdb", "--username", USER, "--auth-host=scram-sha-256", "--auth-local=trust", "--no-sync", str(self.data))
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write(f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{folder}'\n")

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def administration(self) -> dict[str, str]:
        """With these variables PostgreSQL's own programs reach it, as who may do everything."""
        return {"PGHOST": str(self.folder), "PGPORT": str(self.port), "PGUSER": USER}

    def __call__(self, program: str, *words: str) -> None:
        """One of its programs, run as its user."""
        line = [str(self.bin / program), *words]
        line = ["runuser", "-u", USER, "--", *line] if os.getuid() == 0 else line
        quiet = subprocess.DEVNULL  # a pipe would stay open in the server that it starts
        subprocess.run(line, cwd=self.folder, env=os.environ | self.administration, check=True, timeout=SECONDS, stdout=quiet, stderr=quiet)

    def start(self) -> None:
        self("pg_ctl", "-D", str(self.data), "-l", str(self.folder / "log"), "-w", "start")

    def stop(self, how: Literal["fast", "immediate"] = "fast") -> None:
        """`immediate`: as a crash would, with recovery at the next start."""
        self("pg_ctl", "-D", str(self.data), "-m", how, "-w", "stop")

    def add(self, name: str) -> str:
        """A new database, and its address without the password."""
        self("createdb", "--owner", ROLE, name)
        return f"postgresql+psycopg2://{ROLE}@127.0.0.1:{self.port}/{name}"

    def query(self, database: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """What a statement finds in a database; `?` stand for the values."""
        import psycopg2

        with closing(psycopg2.connect(host=str(self.folder), port=self.port, user=USER, dbname=database)) as connection:
            cursor = connection.cursor()
            cursor.execute(statement.replace("%", "%%").replace("?", "%s"), values)
            return list(cursor.fetchall())


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A running one with the role `writer`, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp", ignore_cleanup_errors=True) as folder:  # a user's own may be closed to others
        it = Postgres(Path(folder))
        it.start()
        try:
            it("psql", "--command", f"create role {ROLE} login password '{PASSWORD}'")
            yield it
        finally:
            it.stop("immediate")
