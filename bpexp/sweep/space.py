"""The space that a search's words span: which keys take which values, in Hydra's grammar as Hydra's own plug-in for Optuna reads it.

`a,b`, `choice(a,b)` and `glob(…)` are words to choose among; `range(1,9)` numbers at equal steps, its end left out; `interval(0.5,4)` all numbers
between two.  An interval may be tagged: `tag(log,interval(0.01,10))` is searched at equal ratios, `tag(int,…)` in whole numbers.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite
from typing import cast

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from bpexp.config import Fault, RunConfig, full_key, keys, takes_whole
from bpexp.sweep.compose import Words
from bpexp.sweep.grid import typed_values
from bpexp.sweep.names import is_hydras

__all__ = ["Choice", "Dimension", "Interval", "Range", "Space", "Value", "span"]

Value = str | int | float
TAGS = {"log", "int"}


@dataclass(frozen=True)
class Choice:
    """Words to choose among."""

    words: tuple[str, ...]

    @property
    def ends(self) -> tuple[Value, ...]:
        """The values that are checked before any trial."""
        return self.words

    def written(self, value: Value) -> str:
        return str(value)


@dataclass(frozen=True)
class Range:
    """Numbers at equal steps, ascending."""

    numbers: Sequence[int] | Sequence[float]
    step: int | float

    @property
    def ends(self) -> tuple[Value, ...]:
        return self.numbers[0], self.numbers[-1]

    def written(self, value: Value) -> str:
        return str(self.numbers[round((float(value) - self.numbers[0]) / self.step)])


@dataclass(frozen=True)
class Interval:
    """All numbers, or all whole ones, between two."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    @property
    def ends(self) -> tuple[Value, ...]:
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)

    def written(self, value: Value) -> str:
        return str(value)


Dimension = Choice | Range | Interval


@dataclass(frozen=True)
class Space:
    """The words of a search by their keys, in the order typed: those that are fixed, and those of the keys that are searched, as typed."""

    fixed: dict[str, str]
    dimensions: dict[str, Dimension]
    typed: dict[str, str]

    def words(self, values: Mapping[str, Value]) -> Words:
        """Those of a trial."""
        return (*(f"{key}={value}" for key, value in self.fixed.items()), *self.own(values))

    def own(self, values: Mapping[str, Value]) -> Words:
        """What a trial's words are besides those that all have."""
        return tuple(f"{key}={it.written(values[key])}" for key, it in self.dimensions.items())

    def corners(self) -> Iterator[dict[str, Value]]:
        """All lowest values, then of each key its others at the lowest of the rest, then all highest."""
        lowest = {key: it.ends[0] for key, it in self.dimensions.items()}
        yield lowest
        for key, it in self.dimensions.items():
            yield from (lowest | {key: end} for end in it.ends[1:])
        yield {key: it.ends[-1] for key, it in self.dimensions.items()}


def span(overrides: Iterable[Override]) -> tuple[Space, list[Fault]]:
    """The space of a search's words, and the faults of those that span none; of a key's words the last one counts."""
    fixed: dict[str, str] = {}
    dimensions: dict[str, Dimension] = {}
    typed: dict[str, str] = {}
    faults: list[Fault] = []
    for key, it in {override.get_key_element(): override for override in overrides}.items():
        if not it.is_sweep_override():
            fixed[key] = it.get_value_element_as_str()
            continue
        typed[key] = typed_values(it)
        if must := _refusal(it):
            faults.append(Fault(key, typed[key], must))
        else:
            dimensions[key] = _dimension(it)
    if not typed:
        must = "nothing to search: give a key an interval, a range or a choice, such as lr='tag(log,interval(0.01,10))' or depth='range(3,10)'"
        faults.append(Fault("hydra/sweeper", "optuna", must))
    return Space(fixed, dimensions, typed), faults


def _refusal(override: Override) -> str:
    """Why a word that is no single value spans nothing; empty where it spans something."""
    if is_hydras(override.key_or_group):
        return "can't be searched: it holds for a sweep as a whole"
    it = override.value()
    tags: set[str] = getattr(it, "tags", set())
    if not isinstance(it, IntervalSweep):
        if tags:
            return "only an interval has tags, such as tag(log,interval(0.01,10))"
        return "" if next(iter(override.sweep_string_iterator()), None) is not None else "has no values: an option list is empty"
    return f"an interval's tags are {' and '.join(sorted(TAGS))}" if tags - TAGS else _interval_refusal(override.key_or_group, it)


def _interval_refusal(name: str, it: IntervalSweep) -> str:
    low, high = cast("float", it.start), cast("float", it.end)
    if not (isfinite(low) and isfinite(high) and low <= high):
        return "must be an interval from a number to one that is no lower"
    if "log" in it.tags and low <= 0:
        return "must begin above 0 where it is tagged log"
    if "int" in it.tags:
        return "" if low == int(low) and high == int(high) else "must have whole ends where it is tagged int"
    key = full_key(name)
    if key in keys(RunConfig) and takes_whole(key):
        first, last = ceil(low), floor(high)
        return f"must be whole numbers, such as range({first},{last + 1}) or tag(int,interval({first},{last}))"
    return ""


def _dimension(override: Override) -> Dimension:
    it = override.value()
    if isinstance(it, IntervalSweep):
        return Interval(float(cast("float", it.start)), float(cast("float", it.end)), "log" in it.tags, "int" in it.tags)
    if isinstance(it, RangeSweep):
        numbers = it.range()
        if isinstance(numbers, range):  # perhaps a long one
            return Range(numbers if numbers.step > 0 else numbers[::-1], abs(numbers.step))
        return Range(tuple(sorted(numbers)), abs(it.step))
    return Choice(tuple(dict.fromkeys(override.sweep_string_iterator())))
