"""How the theory refuses an argument: in one line, before any work is done."""

from math import isfinite

__all__ = ["check", "size"]


def check(holds: bool, key: str, value: object, must: str) -> None:
    """Raise ValueError, `key=value: must be …`, unless it holds."""
    if not holds:
        raise ValueError(f"{key}={value}: must be {must}")


def size(x: float) -> bool:
    """Whether x is a finite number of 0 or more."""
    return isfinite(x) and x >= 0.0
