"""From what Hydra composed to a run that may start."""

from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bpexp.config import ConfigError, Fault, RunConfig, parse
from bpexp.experiment import Run, prepare

__all__ = ["read", "settings"]


def read(config: DictConfig) -> Run:
    """The checked run that a composed configuration means.  Raises `ConfigError`."""
    return prepare(settings(config))


def settings(config: DictConfig) -> RunConfig:
    """A composed configuration by the schema, before the checks that need its data.  Raises `ConfigError`."""
    try:
        values: Any = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError([Fault(str(error.full_key or "configuration"), "", str(error).splitlines()[0])]) from None
    values.pop("hydra", None)
    return parse(RunConfig, values)
