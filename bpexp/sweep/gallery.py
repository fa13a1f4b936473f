"""The tables of the core as variants of a sweep: every option alone, all else being the defaults."""

from collections.abc import Iterator

from bpexp.config import TABLES, RunConfig, flatten, written
from bpexp.core.rows import Row
from bpexp.sweep.tuning import tuned_key

__all__ = ["alone"]


def alone() -> list[str]:
    """A variant for each option of each table but the one that is there by default, with the settings it needs and learning rates to try."""
    return [" ".join(_words(key, name, row)) for key, table in TABLES.items() for name, row in table.items() if name != _default(key)]


def _default(key: str) -> object:
    return flatten(RunConfig())[tuned_key(key)]


def _words(key: str, name: str, row: Row) -> Iterator[str]:
    yield f"{key}={name}"
    yield from (f"{needed}={written(allowed[0])}" for needed, allowed in row.needs.items())
    if row.lr:
        yield f"lr={','.join(map(written, row.lr))}"
