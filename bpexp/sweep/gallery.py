"""The tables of the core as variants of a sweep: every option alone, all else being the defaults."""

from collections.abc import Iterator

from bpexp.config import TABLES, RunConfig, asked, flatten, full_key, written

__all__ = ["alone"]


def alone() -> list[str]:
    """A variant for each option of each table but the one that is there by default, with the settings it needs and learning rates to try."""
    defaults = flatten(RunConfig())
    return [" ".join(_words(key, name)) for key, table in TABLES.items() for name in table if name != defaults[full_key(key)]]


def _words(key: str, name: str) -> Iterator[str]:
    yield from (f"{it}={written(value)}" for it, value in asked(key, name).items())
    if rates := TABLES[key][name].lr:
        yield f"lr={','.join(map(written, rates))}"
