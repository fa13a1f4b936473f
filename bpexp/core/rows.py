"""What every option has: activations, initializers, normalizations, skips, losses, optimizers and schedules are rows of tables.

A row is the one place where an option stands: the command line, the tests, the documentation and the gallery of cures read the tables.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from inspect import signature
from types import MappingProxyType
from typing import Any, TypeVar, overload

__all__ = ["Names", "Part", "Row", "RuleRow", "parameters"]

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Row:
    """What there is to say of an option.

    `equation` defines it, `effect` says what it changes in the recursion of the deltas, `source` where it comes from.
    `needs` holds the settings it makes sense with, by configuration key, the first of each being the usual one; `lr` learning rates worth
    trying with it, where they are not those of the plain net.
    """

    equation: str
    effect: str
    source: str
    needs: Mapping[str, tuple[object, ...]] = field(default_factory=dict, hash=False)
    lr: tuple[float, ...] = ()

    @property
    def keys(self) -> Mapping[str, Any]:
        """The keys of its group that it takes from the configuration, with their defaults (None: it has none)."""
        return {}


@dataclass(frozen=True)
class RuleRow(Row):
    """A row that is a function, `rule`, of two arguments that the core gives and of keys that the configuration gives."""

    rule: Callable[..., Any]

    @property
    def name(self) -> str:
        return str(self.rule.__name__)

    @property
    def keys(self) -> Mapping[str, Any]:
        return parameters(self.rule, after=2)


class Part(Mapping[str, R]):
    """The rows of a table that pass, also of those that are added later (`bpexp.core.own`)."""

    def __init__(self, table: Mapping[str, R], passes: Callable[[R], bool]) -> None:
        self.table, self.passes = table, passes

    def __getitem__(self, name: str) -> R:
        row = self.table[name]
        if not self.passes(row):
            raise KeyError(name)
        return row

    def __iter__(self) -> Iterator[str]:
        return (name for name, row in self.table.items() if self.passes(row))

    def __len__(self) -> int:
        return sum(map(self.passes, self.table.values()))


class Names(Sequence[str]):
    """Names that are looked up whenever they are asked for, because tables may grow."""

    def __init__(self, listed: Callable[[], Iterable[str]]) -> None:
        self.listed = listed

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return tuple(self.listed())[index]

    def __len__(self) -> int:
        return len(tuple(self.listed()))


@cache  # asked several times for each of a sweep's jobs
def parameters(function: Callable[..., Any], after: int) -> Mapping[str, Any]:
    """A function's parameters with their defaults, but for the first `after`: those that the configuration gives."""
    taken = list(signature(function).parameters.values())[after:]
    return MappingProxyType({key.name: None if key.default is key.empty else key.default for key in taken})
