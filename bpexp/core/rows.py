"""What every option has: activations, initializers, normalizations, skips, losses, optimizers and schedules are rows of tables.

A row is the one place where an option stands: the command line, the tests, the documentation and the gallery of cures read the tables.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from inspect import signature
from types import MappingProxyType
from typing import Any

__all__ = ["Row", "RuleRow", "parameters"]


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


@cache  # asked several times for each of a sweep's jobs
def parameters(function: Callable[..., Any], after: int) -> Mapping[str, Any]:
    """A function's parameters with their defaults, but for the first `after`: those that the configuration gives."""
    taken = list(signature(function).parameters.values())[after:]
    return MappingProxyType({key.name: None if key.default is key.empty else key.default for key in taken})
