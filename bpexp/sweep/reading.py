"""From what Hydra composed to a run that may start."""

from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bpexp.config import ConfigError, Fault, RunConfig, parse
from bpexp.experiment import Run, prepare

__all__ = ["read", "resolved"]


def read(config: DictConfig) -> Run:
    """The checked run that a composed configuration means.  Raises `ConfigError`."""
    return prepare(parse(RunConfig, resolved(config)))


def resolved(config: DictConfig) -> dict[str, Any]:
    """Our part of a composed configuration as plain values.  Raises `ConfigError` where an interpolation leads nowhere."""
    try:
        values: Any = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError([Fault(str(error.full_key or "configuration"), "", str(error).splitlines()[0])]) from None
    values.pop("hydra", None)
    return dict(values)
