"""What a study's file need not spell out: the tables of the core as variants, every option alone; values at equal ratios."""

from collections.abc import Iterator

import numpy as np

from bpexp.config import TABLES, RunConfig, asked, flatten, full_key, written

__all__ = ["alone", "logspace"]

DIGITS = 8  # of a value: neighbours are told apart on any grid that one would train


def alone() -> list[str]:
    """A variant for each option of each table but the one that is there by default, with the settings it needs and learning rates to try."""
    defaults = flatten(RunConfig())
    return [" ".join(_words(key, name)) for key, table in TABLES.items() for name in table if name != defaults[full_key(key)]]


def _words(key: str, name: str) -> Iterator[str]:
    yield from (f"{it}={written(value)}" for it, value in asked(key, name).items())
    if rates := TABLES[key][name].lr:
        yield f"lr={','.join(map(written, rates))}"


def logspace(low: float, high: float, count: int) -> str:
    """So many values of a key from 10^low to 10^high, at equal ratios: `logspace(-1, 1, 3)` is 0.1,1,10."""
    return ",".join(f"{value:.{DIGITS}g}" for value in np.logspace(low, high, count))
