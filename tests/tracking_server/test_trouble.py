"""Which errors of PostgreSQL pass."""

import re
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Connection, Engine, NullPool, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from bpexp.tracking.trouble import reason, trouble
from tests.postgres import ROLE, Postgres

pytestmark = pytest.mark.services

KILL = "select pg_terminate_backend(pid) from pg_stat_activity where usename = ?"


@pytest.fixture(scope="module")
def engine(database: Postgres) -> Iterator[Engine]:
    engine = create_engine(database.add("errors"), poolclass=NullPool)
    yield engine
    engine.dispose()


def ask(connection: Connection, statement: str = "select 1") -> None:
    connection.execute(text(statement))


def refused(database: Postgres, engine: Engine) -> None:
    database.stop()
    try:
        engine.connect()
    finally:
        database.start()


def too_many(database: Postgres, engine: Engine) -> None:
    database("psql", "--command", f"alter role {ROLE} connection limit 0")
    try:
        engine.connect()
    finally:
        database("psql", "--command", f"alter role {ROLE} connection limit -1")


def ended(database: Postgres, engine: Engine) -> None:
    with engine.connect() as connection:
        ask(connection)
        database.query("errors", KILL, ROLE)
        ask(connection)


def crashed(database: Postgres, engine: Engine) -> None:
    with engine.connect() as connection:
        ask(connection)
        database.stop("immediate")
        database.start()
        ask(connection)


def closed(database: Postgres, engine: Engine) -> None:
    """As a driver finds a connection that was cut off in the statement before."""
    with engine.connect() as connection:
        ask(connection)
        driver = connection.connection.dbapi_connection
        assert driver is not None
        driver.close()
        ask(connection)


def unknown(database: Postgres, engine: Engine) -> None:
    with engine.connect() as connection:
        ask(connection, "select * from nowhere")


CASES: dict[str, tuple[Callable[[Postgres, Engine], None], bool]] = {  # by what the driver says of them
    "Connection refused": (refused, True),
    "too many connections for role": (too_many, True),
    "terminating connection due to administrator command|server closed the connection unexpectedly": (ended, True),  # as the words arrive, or not
    "server closed the connection unexpectedly": (crashed, True),
    "connection already closed": (closed, True),
    'relation "nowhere" does not exist': (unknown, False),
}


@pytest.mark.parametrize("words", CASES)
def test_errors(database: Postgres, engine: Engine, words: str) -> None:
    fail, passes = CASES[words]
    with pytest.raises(SQLAlchemyError) as raised:
        fail(database, engine)
    assert re.search(words, reason(raised.value))
    assert trouble(raised.value) == passes
