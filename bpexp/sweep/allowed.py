"""What a configuration may have Hydra make, call, import and set.

Hydra makes objects of every `_target_` under its own keys, and Python's logging calls what a logging configuration names.  A configuration may come
from a folder of somebody else's, so both take what stands in the tables here and nothing else.  `CheckedLoader` holds every configuration against
them as it is composed, of a lone run, a sweep and each of its jobs, before anything is made of it: no folder, no object.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import hydra._internal.hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from bpexp.cli import refuse
from bpexp.config import ConfigError, Fault
from bpexp.sweep.names import secret_refusal

__all__ = ["TARGETS", "CheckedLoader", "guard"]

Place = tuple[str, ...]  # of a value: the keys that lead to it, from `hydra` on

TARGETS: dict[Place, tuple[str, ...]] = {  # by place, in which * is any key; no other place may have a `_target_`
    ("launcher", "_target_"): (
        "hydra_plugins.bpexp_launcher.BpexpLauncher",
        "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
        "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    ),
    ("sweeper", "_target_"): (
        "hydra_plugins.bpexp_sweeper.BpexpSweeper",
        "hydra_plugins.bpexp_search.BpexpSearch",
        "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
    ),
    ("callbacks", "*", "_target_"): ("hydra.experimental.callbacks.LogJobReturnCallback",),  # Hydra's other one writes pickles
}
LOGGING: dict[str, tuple[str, ...]] = {  # by key: what Hydra's own options have
    "class": ("logging.StreamHandler", "logging.FileHandler"),
    "stream": ("ext://sys.stdout", "ext://sys.stderr"),
    "filename": ("${hydra.runtime.output_dir}/${hydra.job.name}.log", "hydra-${hydra.job.name}.log"),
}
CALLS = ("()", ".")  # keys of a logging configuration: a function to call, attributes to set
LOOKS_UP = ("${", "ext://", "cfg://")  # in a text of a logging configuration: what makes another value of it, an imported one as well
SLURM = (  # keys of Slurm's launcher that a file may set, to a text of one line: the others go into a shell script as they are
    {"_target_", "submitit_folder", "timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name", "stderr_to_stdout"}
    | {"partition", "qos", "comment", "constraint", "exclude", "gres", "cpus_per_gpu", "gpus_per_task", "mem_per_gpu", "mem_per_cpu", "account"}
    | {"signal_delay_s", "max_num_timeout", "array_parallelism"}
)
WRITTEN_OUT: tuple[Place, ...] = ((), ("job",), ("job", "env_set"), ("job_logging",), ("hydra_logging",))  # tables that no interpolation stands for
ADDRESSES: tuple[Place, ...] = (("tracking", "uri"), ("hydra", "sweeper", "storage"))  # of databases
NAMES = ("job.name", "output_subdir")  # of files and folders inside the output folder


class CheckedLoader(ConfigLoaderImpl):
    """Hydra's loader of configurations.  Leaves with exit code 2, and a line for each fault, where one asks for what is not allowed."""

    def load_configuration(
        self, config_name: str | None, overrides: list[str], run_mode: RunMode, from_shell: bool = True, validate_sweep_overrides: bool = True
    ) -> DictConfig:
        try:
            _refuse_if(self._packages(config_name, overrides))
            config = super().load_configuration(config_name, overrides, run_mode, from_shell, validate_sweep_overrides)
        except YAMLError as error:  # of a file: a safe loader takes no Python
            refuse(ConfigError([Fault("configuration", "", f"can't be read ({' '.join(str(error).split())[:200]})")]))
        _refuse_if(faults(config))
        return config

    def _packages(self, config_name: str | None, overrides: list[str]) -> Iterator[Fault]:
        """Search paths that are packages: Hydra imports them before it has composed anything."""
        primary = self.repository.load_config(config_name) if config_name else None
        paths: list[Any] = [OmegaConf.select(primary.config, "hydra.searchpath") if primary else None]
        with suppress(HydraException):  # as composing will tell
            paths += [word.value() for word in OverridesParser.create().parse_overrides(overrides) if word.key_or_group == "hydra.searchpath"]
        for path in (str(path) for some in paths if isinstance(some, Sequence) for path in some):
            if path.startswith("pkg:"):
                yield Fault("hydra.searchpath", path, "must be a folder: a package would be imported")


def guard() -> None:
    """Have Hydra load all configurations of this process through `CheckedLoader`."""
    vars(hydra._internal.hydra)["ConfigLoaderImpl"] = CheckedLoader  # noqa: SLF001 (the one place that all of Hydra's ways pass)


def _refuse_if(found: Iterator[Fault]) -> None:
    if refused := list(found):
        refuse(ConfigError(refused))


def faults(config: DictConfig) -> Iterator[Fault]:
    """All that a composed configuration asks for and that is not allowed."""
    whole: Any = OmegaConf.to_container(config, resolve=False)
    node = whole["hydra"]
    unread = [place for place in WRITTEN_OUT if isinstance(_at(node, place), str)]
    if unread:
        yield from (Fault(_key(place), _at(node, place), "must be written out") for place in unread)
        return
    for place in ADDRESSES:
        uri, key = _at(whole, place), ".".join(place)
        if must := secret_refusal(uri, key):
            yield Fault(key, uri, must)
    yield from _target_faults(node)
    for part in ("launcher", "sweeper", "callbacks"):
        yield from _resolved_faults(config, part)
    for part in ("job_logging", "hydra_logging"):
        yield from _logging_faults(part, node[part])
    for key, value in node["job"]["env_set"].items():
        yield Fault(f"hydra.job.env_set.{key}", value, "must be set where the command is typed")
    for key in NAMES:
        name = OmegaConf.select(config, f"hydra.{key}")
        if name is not None and ("/" in str(name) or str(name) in ("", ".", "..")):
            yield Fault(f"hydra.{key}", name, "must be a name without /")


def _at(node: Any, place: Place) -> Any:
    """The value at a place; where something stands on the way to it that is no table, that."""
    for key in place:
        if not isinstance(node, dict):
            break
        node = node.get(key)
    return node


def _leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every value that is neither a table nor a list, or is an empty one, with its place."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in inner:
        yield from _leaves(entry, (*place, str(key)))
    if not inner:
        yield place, value


def _key(place: Place) -> str:
    return ".".join(("hydra", *place))


def _target_faults(node: Mapping[str, Any]) -> Iterator[Fault]:
    for place, value in _leaves(node):
        if "_target_" in place:
            allowed = TARGETS.get(place) or TARGETS.get((*place[:1], "*", *place[2:]), ())
            if value not in allowed:
                yield Fault(_key(place), value, f"must be {_one_of(allowed)}" if allowed else "is not allowed there: nothing is made of it")


def _resolved_faults(config: DictConfig, part: str) -> Iterator[Fault]:
    """What is not allowed and where an interpolation stands for it; also what a file would have Slurm run."""
    try:
        node = config.hydra[part]
        resolved: Any = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    except OmegaConfBaseException as error:
        yield Fault(f"hydra.{part}", "", f"can't be resolved ({str(error).splitlines()[0]})")
        return
    yield from _target_faults({part: resolved})
    if isinstance(resolved, dict):
        yield from _untyped_faults(resolved, OmegaConf.to_container(config.hydra.overrides.hydra))


def _untyped_faults(launcher: Mapping[str, Any], typed: Any) -> Iterator[Fault]:
    """What a file would have Slurm run, or whom it would have us trust."""
    target = str(launcher.get("_target_"))
    why = "it goes into the script that Slurm runs" if target.endswith(".SlurmLauncher") else "this process runs what is sent from there"
    for key, value in launcher.items():
        if target.endswith(".SlurmLauncher"):
            asks = (value and key not in SLURM) or any("\n" in str(it) for _, it in _leaves(value))
        else:
            asks = target.endswith(".BpexpLauncher") and key == "address" and value
        if asks and not any(re.match(rf"\+*hydra\.launcher\.{re.escape(key)}\b", word) for word in typed):
            yield Fault(f"hydra.launcher.{key}", value, f"must be typed, not stand in a file: {why}")


def _logging_faults(part: str, node: Any) -> Iterator[Fault]:
    for place, value in _leaves(node, (part,)):
        if calls := [key for key in place if key in CALLS]:
            yield Fault(_key(place), value, f"must not be there: {calls[0]} is for programs")
        elif (allowed := LOGGING.get(place[-1])) is not None:
            if value not in allowed:
                yield Fault(_key(place), value, f"must be {_one_of(allowed)}")
        elif isinstance(value, str) and any(mark in value for mark in LOOKS_UP):
            yield Fault(_key(place), value, f"must be a text without {' and '.join(LOOKS_UP)}")


def _one_of(allowed: tuple[str, ...]) -> str:
    return allowed[0] if len(allowed) == 1 else f"one of {', '.join(allowed)}"
