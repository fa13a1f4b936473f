"""The launcher's keys, `hydra.launcher.…`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt
from pydantic import Strict, StringConstraints

from bpexp.config import ConfigError, Fault, T, flatten, parse

__all__ = ["Backend", "Settings", "parsed"]

Backend = Literal["processes", "loky", "dask", "ray", "submitit"]
HAS = {"address": ("dask", "ray"), "submitit": ("submitit",)}  # keys that some of them alone have a use for

Word = Annotated[str, StringConstraints(pattern=r"^[\w.,:;=@%/+*\[\]()&|-]+$")]  # it goes into a shell script
Count = Annotated[int, Strict(), Ge(1)]


@dataclass
class Slurm:
    """What a job asks for, by submitit's names."""

    cluster: Literal["slurm", "local"] | None = None
    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    constraint: Word | None = None
    exclude: Word | None = None
    timeout_min: Count | None = None
    mem_gb: Annotated[float, Gt(0)] | None = None
    cpus_per_task: Count | None = None


@dataclass
class Settings:
    """How stacks are made and who trains them."""

    memory: Count = 1024
    max_runs: Count = 64
    n_jobs: Count | None = None
    backend: Backend = "processes"
    address: str | None = None
    submitit: Slurm = field(default_factory=Slurm)

    @classmethod
    def of(cls, keys: dict[str, object]) -> "Settings":
        """Raises `ConfigError`."""
        settings = parsed(cls, keys, "hydra.launcher")
        usual = flatten(cls())
        for key, value in flatten(settings).items():
            backends = HAS.get(key.partition(".")[0])
            if value != usual[key] and backends and settings.backend not in backends:
                must = f"must be left out with backend={settings.backend}: it is for {' and '.join(backends)}"
                raise ConfigError([Fault(f"hydra.launcher.{key}", value, must)])
        return settings


def parsed(schema: type[T], keys: Mapping[str, object], node: str) -> T:
    """The keys of one of Hydra's nodes, checked.  Raises `ConfigError`, whose faults name them in full."""
    try:
        return parse(schema, keys)
    except ConfigError as error:
        raise ConfigError(Fault(f"{node}.{fault.key}", fault.value, fault.must) for fault in error.faults) from None
