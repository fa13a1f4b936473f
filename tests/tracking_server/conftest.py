"""PostgreSQL, for all tests here."""

from collections.abc import Iterator

import pytest

from tests.postgres import PASSWORD, Postgres, postgres


@pytest.fixture(scope="package")
def database() -> Iterator[Postgres]:
    """Running; this process and those that inherit its environment know the password."""
    with postgres() as database, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSWORD", PASSWORD)
        yield database
