"""From what Hydra composed to a run that may start."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bpexp.config import ConfigError, Fault, RunConfig, blanks, parse
from bpexp.experiment import Run, prepare
from bpexp.sweep.names import STUDY

__all__ = ["read", "resolved", "runs_part", "study_faults"]


def read(config: DictConfig) -> Run:
    """The checked run that a composed configuration means.  Raises `ConfigError`."""
    return prepare(parse(RunConfig, resolved(config)))


def resolved(config: DictConfig) -> dict[str, Any]:
    """A run's part of a composed configuration as plain values.  Raises `ConfigError` where an interpolation leads nowhere."""
    raw: Any = OmegaConf.to_container(config, resolve=False)
    own = OmegaConf.create(runs_part(raw))
    OmegaConf.copy_cache(from_config=config, to_config=own)  # what `${now:…}` said once
    try:
        values: Any = OmegaConf.to_container(own, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError([Fault(str(error.full_key or "configuration"), "", str(error).splitlines()[0])]) from None
    return dict(values)


def runs_part(values: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what is not a run's: Hydra's node, and what a study says of itself."""
    return {key: value for key, value in values.items() if key not in ("hydra", STUDY)}


def study_faults(config: DictConfig) -> list[Fault]:
    """A study's file without its first line is read by nobody: all of it lands in the node in which a study tells of itself."""
    raw: Any = OmegaConf.to_container(config, resolve=False)
    told = raw.get(STUDY)
    lost = [key for key in told if key in ("hydra", *blanks())] if isinstance(told, dict) else []
    return [Fault(f"{STUDY}.{key}", "", "is read by nobody there: a study's file must begin with # @package _global_") for key in lost]
