"""Every study that comes with bpexp: its file is read, and each of its runs, and of those of its small version, would start."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import hydra
import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

from bpexp.config import RunConfig, full_key, parse, untracked
from bpexp.experiment import prepare
from bpexp.sweep.app import _register
from bpexp.sweep.compose import Composer
from bpexp.sweep.grid import expand, flat_list
from bpexp.sweep.names import config_dir, is_hydras, parse_word, sort_words
from bpexp.sweep.reading import study_faults
from bpexp.verify.study import StudyFile, find, read

FILES = find([config_dir()])
MOST_RUNS = 8_000  # of a study: each takes its 15 ms besides its training
MOST_QUICK_RUNS = 600
FEW_RUNS = 20  # that need no small version


@pytest.fixture(scope="module", autouse=True)
def _hydra() -> Iterator[None]:
    _register()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        yield


@dataclass(frozen=True)
class Planned:
    """A sweep that was not started: its name, its jobs, and the distinct runs that they come to, by fingerprint."""

    name: str
    jobs: int
    runs: dict[str, RunConfig]


@cache
def planned(name: str, words: tuple[str, ...] = ()) -> Planned:
    """What `python -m bpexp -m study=NAME WORDS` would run, each run checked with its data.

    Not by the sweeper itself: where its module is there before Hydra looks for plug-ins, as in a test, Hydra makes a second class of its base.
    """
    loader = GlobalHydra.instance().config_loader()
    typed, faults = sort_words([f"study={name}", *words], [config_dir()], sweep=True)
    general = [word for word in typed if word.startswith("study=") or is_hydras(parse_word(word).key_or_group)]
    config = loader.load_configuration("config", [*general, "hydra.mode=MULTIRUN"], RunMode.MULTIRUN)
    sweeper: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
    params = [f"{key}={values}" for key, values in (sweeper["params"] or {}).items()]
    own = [word for word in typed if not is_hydras(parse_word(word).key_or_group)]
    grid, wrong = expand(params, flat_list(sweeper["variants"]), own, [config_dir()], OverridesParser.create(config_loader=loader))
    assert [*faults, *wrong, *study_faults(config)] == []
    compose = Composer(loader, config)
    runs = [prepare(parse(RunConfig, compose(job).values)) for job in grid.jobs]
    return Planned(grid.name, len(grid.jobs), {run.fingerprint: run.config for run in runs})


def test_there_are_studies() -> None:
    assert {"phase_diagram", "fractal"} <= set(FILES)


@pytest.fixture(params=FILES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def file(name: str) -> StudyFile:
    """Read: its measures and its figures are there, and take the options that it gives them."""
    return read(FILES[name])


def test_every_run_of_a_study_would_start_and_is_another(name: str, file: StudyFile) -> None:
    found = planned(name)
    assert 0 < len(found.runs) == found.jobs <= MOST_RUNS
    assert found.name == f"study={name}"
    asked = {full_key(key) for check in file.checks for key in (*check.where, *check.each)}
    assert asked <= set(untracked(RunConfig()))


def test_the_claims_of_a_study_are_about_runs_that_it_has(name: str, file: StudyFile) -> None:
    configs = [untracked(config) for config in planned(name).runs.values()]
    for check in file.checks:
        wanted = {full_key(key): value for key, value in check.where.items()}
        assert any(all(same(config[key], value) for key, value in wanted.items()) for config in configs), check.claim


def same(found: Any, value: Any) -> bool:
    """Numbers to the digits that one types, as a check compares them; of a list any."""
    if isinstance(value, list):
        return any(same(found, one) for one in value)
    if any(isinstance(it, bool | str | None) for it in (found, value)):
        return bool(found == value)
    return bool(np.isclose(found, value, rtol=1e-9, atol=0.0))


def test_its_small_version_is_no_other_and_is_small(name: str, file: StudyFile) -> None:
    if not file.quick:
        assert len(planned(name).runs) <= FEW_RUNS
        return
    full, small = planned(name), planned(name, tuple(file.quick))
    assert 0 < len(small.runs) == small.jobs <= min(len(full.runs), MOST_QUICK_RUNS)
    assert cost(small) < cost(full)
    assert small.name.startswith(f"study={name}")


def cost(some: Planned) -> int:
    """Layers that are trained, times their steps."""
    return sum((config.steps + 1) * config.depth for config in some.runs.values())


def test_a_file_that_claims_something_says_so_in_full(file: StudyFile) -> None:
    for check in file.checks:
        assert check.claim[0].isupper(), check.claim
        assert not check.claim.endswith("."), check.claim
        assert check.because, check.claim
