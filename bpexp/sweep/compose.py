"""From a job's words to its configuration, thousands of times.

Hydra composes once per choice of groups, which takes 60 ms; the plain values of each job are set on a copy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bpexp.config import ConfigError, Fault, RunConfig, keys
from bpexp.sweep.names import is_hydras, parse_word, short
from bpexp.sweep.reading import resolved, runs_part

__all__ = ["Base", "Composed", "Composer", "Words"]

Words = tuple[str, ...]
Values = dict[str, Any]  # of a configuration, nested


@dataclass(frozen=True)
class Base:
    """A configuration as Hydra composed it, which jobs share whose other words set plain values."""

    config: DictConfig  # in full: with the node `hydra`
    values: Values  # all but that node, interpolations not resolved
    hydra: Values
    interpolated: bool  # whether there are any in what is a run's


@dataclass(frozen=True)
class Composed:
    """A job's configuration: its base, and what its own words set on it."""

    words: Words
    base: Base
    own: dict[str, Any]

    @property
    def task(self) -> list[str]:
        """Its words but for those that are Hydra's own."""
        return [word for word in self.words if not is_hydras(parse_word(word).key_or_group)]

    @property
    def values(self) -> Values:
        """Nested plain values, interpolations resolved.  Raises `ConfigError` where that can't be."""
        values = runs_part(self.base.values)
        for key, value in self.own.items():
            table, dot, name = key.rpartition(".")
            if dot:
                values[table] = {**values[table], name: value}
            else:
                values[name] = value
        if not self.base.interpolated:
            return values
        config = OmegaConf.create(values)
        OmegaConf.copy_cache(from_config=self.base.config, to_config=config)
        return resolved(config)


class Composer:
    """The configurations of a sweep's jobs, the same as Hydra's."""

    def __init__(self, loader: ConfigLoader, sweep: DictConfig) -> None:
        """`sweep`: the configuration of the sweep as a whole."""
        self.loader, self.sweep = loader, sweep
        self.bases: dict[Words, Base] = {}

    def __call__(self, words: Sequence[str]) -> Composed:
        """Raises `ConfigError` where Hydra composes nothing of these words."""
        overrides = [parse_word(word) for word in words]
        named = [override.key_or_group for override in overrides]
        own = {it.key_or_group: it.value() for it in overrides if _is_plain(it) and named.count(it.key_or_group) == 1}
        if any(isinstance(it.value(), dict) for it in overrides):  # what a table sets and what its keys set goes by their order
            own = {}
        base = self._base(tuple(word for word, key in zip(words, named, strict=True) if key not in own))
        if not all(_has(base.values, key) for key in own):
            own, base = {}, self._base(tuple(words))
        return Composed(tuple(words), base, own)

    def _base(self, words: Words) -> Base:
        if words not in self.bases:
            try:
                config = self.loader.load_sweep_config(self.sweep, list(words))
            except (HydraException, OmegaConfBaseException) as error:
                raise ConfigError([Fault(" ".join(words), "", short(error))]) from None
            values: Any = OmegaConf.to_container(config, resolve=False, enum_to_str=True)
            hydra = values.pop("hydra")
            self.bases[words] = Base(config, values, hydra, _interpolated(runs_part(values)))
        return self.bases[words]


def _is_plain(override: Override) -> bool:
    """Whether all that a word does is to set a key of ours to a value that stands for itself."""
    sets = override.type in (OverrideType.CHANGE, OverrideType.FORCE_ADD) and override.package is None and not override.is_sweep_override()
    if not sets or override.key_or_group not in keys(RunConfig):
        return False
    return not _interpolated(override.value())


def _interpolated(value: object) -> bool:
    """Whether there is a text in it that OmegaConf would make something else of."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(_interpolated, inner)) or (isinstance(value, str) and "${" in value)


def _has(values: Values, key: str) -> bool:
    """Whether a key of ours is there, in a table that is one."""
    table, dot, name = key.rpartition(".")
    return name in values.get(table, ()) if dot and isinstance(values.get(table), dict) else not dot and name in values
