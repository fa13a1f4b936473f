"""The output folder of a job, as Hydra makes it: `multirun/<date>/<time>/<n>/.hydra/` with config.yaml, hydra.yaml and overrides.yaml.

Hydra writes a job's files in 60 ms.  But for a few entries the files of all jobs are the same, and YAML's block style puts each entry on
lines of its own: those of the others are kept.
"""

import copy
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import get_omega_conf_dumper

from bpexp.config import ConfigError, Fault
from bpexp.sweep.compose import Base, Composed
from bpexp.sweep.names import parse_word

__all__ = ["Folder", "Folders"]

Place = tuple[str, ...]  # of an entry: the keys that lead to it
Entries = dict[Place, object]
KNOWN = re.compile(r"\$\{hydra[:.]job\.(num|id|override_dirname)\}")
NOW = re.compile(r"\$\{now:[^${}]*\}")  # when the sweep began: the same for all jobs


@dataclass(frozen=True)
class Folder:
    """A job's folder, not made yet."""

    path: Path
    texts: Mapping[Path, str]  # what its files are to hold

    def write(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        for path, text in self.texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


class Folders:
    """The folders of a sweep's jobs."""

    def __init__(self, sweep: DictConfig) -> None:
        """`sweep`: the configuration of the sweep as a whole."""
        self.root = str(sweep.hydra.sweep.dir)
        self.pages: dict[int, tuple[Base, Page, Page]] = {}

    def __call__(self, number: int, job: Composed) -> Folder:
        base, config, hydra = self._pages(job.base)
        task = job.task
        told: dict[str, object] = {"id": str(number), "num": number, "override_dirname": _dirname(task, base.hydra["job"]["config"])}
        path = self._path(job, told)
        subdir = base.hydra["output_subdir"]
        texts = {}
        if subdir is not None:
            entries: Entries = {("hydra", "job", key): value for key, value in told.items()}
            entries |= {("hydra", "overrides", "task"): task, ("hydra", "runtime", "output_dir"): path}
            own = {tuple(key.split(".")): value for key, value in job.own.items()}
            pages = {"config.yaml": config.text(own), "hydra.yaml": hydra.text(entries), "overrides.yaml": _told((), task) if task else "[]\n"}
            texts = {Path(path, subdir, name): text for name, text in pages.items()}
        return Folder(Path(path), texts)

    def _pages(self, base: Base) -> tuple[Base, "Page", "Page"]:
        if id(base) not in self.pages:
            self.pages[id(base)] = base, Page(base.values), Page({"hydra": base.hydra})
        return self.pages[id(base)]

    def _path(self, job: Composed, told: Mapping[str, object]) -> str:
        """hydra.sweep.dir and .subdir of a job; OmegaConf is asked where they hang on more than its number and words."""
        sweep = job.base.hydra["sweep"]
        subdir = KNOWN.sub(lambda found: str(told[found[1]]), str(sweep["subdir"]))
        if "${" not in subdir + NOW.sub("", str(sweep["dir"])):
            return _joined(self.root, subdir)
        config = copy.deepcopy(job.base.config)
        for key, value in (job.own | {f"hydra.job.{key}": value for key, value in told.items()}).items():
            OmegaConf.update(config, key, value, merge=False)
        known = HydraConfig.instance()
        before = known.cfg
        known.set_config(config)
        try:
            path = _joined(str(config.hydra.sweep.dir), str(config.hydra.sweep.subdir))
        finally:
            known.cfg = before
        if "${" in path:  # Hydra would take it for an interpolation
            raise ConfigError([Fault("hydra.sweep.subdir", path, "must come to a name without ${")])
        return path


def _joined(folder: str, subdir: str) -> str:
    path = os.path.abspath(os.path.join(folder, subdir))  # noqa: PTH100, PTH118 (as Hydra does it: `..` is taken off)
    if not Path(path).is_relative_to(os.path.abspath(folder)):  # noqa: PTH100
        raise ConfigError([Fault("hydra.sweep.subdir", subdir, "must be a folder inside hydra.sweep.dir")])
    return path


def _dirname(task: list[str], settings: Mapping[str, Any]) -> str:
    form = settings["override_dirname"]
    return str(get_overrides_dirname([parse_word(word) for word in task], form["exclude_keys"], form["item_sep"], form["kv_sep"]))


class Page:
    """The YAML of nested values, ready to be told again with other values at some places."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.lines = dict(_entries(values))

    def text(self, changes: Entries) -> str:
        return "".join((self.lines | {place: _told(place, value) for place, value in changes.items()}).values())


def _entries(values: Mapping[str, Any], above: Place = ()) -> Iterator[tuple[Place, str]]:
    """Each entry's lines, those of the tables within it apart."""
    for key, value in values.items():
        place = (*above, key)
        if isinstance(value, dict) and value:
            yield place, _head(place)
            yield from _entries(value, place)
        else:
            yield place, _told(place, value)


def _told(place: Place, value: object) -> str:
    """An entry's lines.  What one job says others say as well: those of texts in a list, and of numbers and texts, are kept."""
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return _head(place) + "".join(_item(place, item) for item in value)
    if isinstance(value, str | int | float | None):
        return _scalar(place, value, str(value))
    return _yaml(place, value, len(place) - 1)


@lru_cache(maxsize=1024)
def _head(place: Place) -> str:
    return _yaml(place, [""], len(place) - 1).partition("\n")[0] + "\n" if place else ""


@lru_cache(maxsize=1024)
def _item(place: Place, text: str) -> str:
    return _yaml(place, [text], len(place))


@lru_cache(maxsize=1024)  # by its text as well: 1, 1.0 and True are equal, so are 0.0 and -0.0
def _scalar(place: Place, value: str | float | None, _text: str) -> str:
    return _yaml(place, value, len(place) - 1)


def _yaml(place: Place, value: object, left_out: int) -> str:
    """A value at its place, as `OmegaConf.to_yaml` writes it, without the first lines: those of the tables around it."""
    nested = value
    for key in reversed(place):
        nested = {key: nested}
    text: str = yaml.dump(nested, default_flow_style=False, allow_unicode=True, sort_keys=False, Dumper=get_omega_conf_dumper())
    return text.split("\n", left_out)[-1]
