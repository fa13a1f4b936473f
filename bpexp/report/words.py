"""Numbers and words: how values are written, and which word a number earns."""

from collections.abc import Iterable, Sequence
from math import floor, isfinite, log10
from typing import Any

import pandas as pd

__all__ = ["change", "count", "decades", "every", "listing", "number", "percent", "plain", "power", "ten_to", "value"]

MINUS = "\N{MINUS SIGN}"
SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
UNCHANGED = 0.15  # decades: less than a factor of 1.4 either way is called "about the same"


def plain(entry: Any) -> Any:
    """A cell of a frame as a plain Python value; None where it is missing."""
    if pd.isna(entry):
        return None
    return entry.item() if hasattr(entry, "item") else entry


def number(x: float, digits: int = 3) -> str:
    """A number with so many significant digits: 0.0831, 61.6, 1,797, 1.2 × 10⁻⁷."""
    if not isfinite(x):
        return "not a number" if x != x else f"{MINUS if x < 0 else ''}∞"  # noqa: PLR0124 (NaN alone differs from itself)
    if x == 0:
        return "0"
    rounded = float(f"{x:.{digits - 1}e}")
    size = floor(log10(abs(rounded)))
    if not -4 <= size <= 6:
        mantissa = f"{rounded / 10.0**size:.{digits - 1}f}" if abs(size) < 300 else f"{rounded:.{digits - 1}e}".split("e")[0]
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa} × {power(size)}".replace("-", MINUS)
    return f"{rounded:,.{max(0, digits - 1 - size)}f}".replace("-", MINUS)


def power(exponent: int) -> str:
    """10⁻⁶²."""
    return "10" + str(exponent).translate(SUPERSCRIPTS)


def ten_to(exponent: float, digits: int = 2) -> str:
    """10**exponent, also where that is beyond a float: 2.3 × 10⁻⁶²."""
    if abs(exponent) < 300:
        return number(10.0**exponent, digits)
    whole = floor(exponent)
    return f"{number(10.0 ** (exponent - whole), digits)} × {power(whole)}"


def value(entry: Any) -> str:
    """The value of a key, as short as it can be written exactly: 50, 0.1, 1e-5, true, sigmoid."""
    if entry is None:
        return "unset"
    if isinstance(entry, bool):
        return str(entry).lower()
    if isinstance(entry, float):
        text = repr(entry).removesuffix(".0")
        if abs(entry) >= 1e5 and float(short := f"{entry:.2e}") == entry:
            text = short
        mantissa, e, exponent = text.partition("e")
        if e:
            text = f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(exponent)}"
        return text.replace("-", MINUS)
    return f"{entry:,}" if isinstance(entry, int) and abs(entry) >= 10_000 else str(entry)


def percent(fraction: float) -> str:
    """91.7 %."""
    return f"{100 * fraction:.1f} %".replace(".0 %", " %")


def decades(x: float) -> str:
    """So many powers of ten, unsigned: 6.1 decades."""
    return f"{number(abs(x), 2 if abs(x) < 10 else 3)} decades"


def change(log10_ratio: float) -> str:
    """What a quantity does whose logarithm changes by this much: "falls by 6.1 decades"."""
    if log10_ratio != log10_ratio:  # noqa: PLR0124 (NaN)
        return "is not defined"
    if log10_ratio == float("-inf"):
        return "falls to exactly zero"
    if abs(log10_ratio) < UNCHANGED:
        return "stays about the same"
    return f"{'rises' if log10_ratio > 0 else 'falls'} by {decades(log10_ratio)}"


def count(n: int, noun: str) -> str:
    """3 runs, 1 run."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def every(n: int, noun: str) -> str:
    """All 3 runs, both runs, the run."""
    return f"the {noun}" if n == 1 else f"both {noun}s" if n == 2 else f"all {n:,} {noun}s"


def listing(parts: Iterable[str], most: int = 6) -> str:
    """a, b and c; the middle of a long list is left out: a, b, …, z."""
    items: Sequence[str] = list(parts)
    if len(items) > most:
        return ", ".join([*items[: most - 1], "…", items[-1]])
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)
