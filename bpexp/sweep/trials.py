"""The trials of a search, in a study of Optuna's: asked for in batches, told in their order, taken up where the process died that had asked for them.

A trial that is RUNNING carries the process that trains it, as a run does (`bpexp.tracking.owner`).
"""

import logging
import math
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import optuna
from annotated_types import Ge, Le
from filelock import FileLock
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from pydantic import AfterValidator, Strict

from bpexp.cli import makeable
from bpexp.config import MAX_SEED, ConfigError, Fault, OneOf
from bpexp.sweep.names import short
from bpexp.sweep.space import Choice, Dimension, Interval, Space, Value
from bpexp.tracking.owner import HEARTBEAT, OWNER, alive, marks, owner

__all__ = ["METRICS", "SAMPLERS", "Settings", "Trials", "check_storage", "reached"]

STORAGE, STUDY = "hydra.sweeper.storage", "hydra.sweeper.study_name"
SQLITE = "sqlite:///"
WAIT_SECONDS = 20.0  # for another process that writes to the same file, or makes it
YOUNG_SECONDS, GLANCE_SECONDS = 5.0, 0.2  # a process says at once that a trial is its own: for so long one without an owner is waited for
FINE = 1e-3  # of an interval: what is no difference
ABOUT = "bpexp.search"  # attribute of a study: what its values are values of
OVER = (TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED)

METRICS = {  # of a run's summary, and what is better
    "final_loss": "minimize",
    "best_loss": "minimize",
    "final_test_loss": "minimize",
    "best_test_loss": "minimize",
    "final_accuracy_train": "maximize",
    "best_accuracy_train": "maximize",
    "final_accuracy_test": "maximize",
    "best_accuracy_test": "maximize",
    "initial_loss": "minimize",
    "plateau_loss": "minimize",
    "delta_decades_per_layer": "minimize",
}

Make = Callable[[int, int], BaseSampler]

SAMPLERS: dict[str, Make] = {  # by name: what draws a trial, of the sampler's seed and of one that differs from trial to trial
    "tpe": lambda _, own: TPESampler(seed=own, constant_liar=True),  # so that the trials of a batch lie apart
    "random": lambda _, own: RandomSampler(seed=own),
    "qmc": lambda seed, own: QMCSampler(seed=seed, scramble=True, independent_sampler=RandomSampler(own), warn_independent_sampling=False),
}
_METRIC, _SAMPLER = OneOf(METRICS), OneOf(SAMPLERS)


def _written(name: str) -> str:
    if not name.strip():
        raise ValueError("empty")
    return name


@dataclass
class Settings:
    """The keys of a search."""

    n_trials: Annotated[int, Strict(), Ge(1), Le(10**6)] = 40
    batch: Annotated[int, Strict(), Ge(1), Le(10**6)] = 8
    metric: Annotated[str, Strict(), _METRIC, AfterValidator(_METRIC.check)] = "final_loss"
    direction: Literal["minimize", "maximize"] | None = None
    sampler: Annotated[str, Strict(), _SAMPLER, AfterValidator(_SAMPLER.check)] = "tpe"
    seed: Annotated[int, Strict(), Ge(0), Le(MAX_SEED)] | None = 0
    storage: Annotated[str, Strict()] | None = "sqlite:///optuna.db"
    study_name: Annotated[str, Strict(), AfterValidator(_written)] | None = None

    @property
    def towards(self) -> str:
        """The direction that is meant."""
        return self.direction or METRICS[self.metric]


class Seeded(BaseSampler):
    """Draws a trial by the seed and its number: one that is taken up, or asked for after an interruption, is drawn as it would have been."""

    def __init__(self, make: Make, seed: int | None) -> None:
        self.make, self.seed = make, int(np.random.SeedSequence(seed).generate_state(1)[0])

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        own = int(np.random.SeedSequence((self.seed, trial.number)).generate_state(1)[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # news for us, not for who types a sampler's name
            self.of_trial = self.make(self.seed, own)
        self.of_trial.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.of_trial.infer_relative_search_space(study, trial)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        drawn = self.of_trial.sample_relative(study, trial, search_space)
        return {name: _short(value, search_space[name]) for name, value in drawn.items()}

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution) -> Any:
        return _short(self.of_trial.sample_independent(study, trial, param_name, param_distribution), param_distribution)


def _short(value: Any, drawn_from: BaseDistribution) -> Any:
    """A number of an interval in four digits, which one can read and type, unless the interval is so narrow that they make a difference."""
    if not isinstance(drawn_from, FloatDistribution) or drawn_from.step is not None:
        return value
    scale = math.log if drawn_from.log else float
    low, high = drawn_from.low, drawn_from.high
    rounded = min(max(float(f"{value:.4g}"), low), high)
    return rounded if abs(scale(rounded) - scale(value)) <= FINE * (scale(high) - scale(low)) else value


# ---------------------------------------------------------------------------------------------- the storage


def check_storage(url: str | None) -> None:
    """Raises `ConfigError` where no study can be kept at an address, as far as that can be told without making a file."""
    file = _file(url)
    with _opening(url):
        if file is None:
            _storage(url)
            return
        makeable(file.parent)
        if file.exists():
            with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as there:
                tables = {name for (name,) in there.execute("select name from sqlite_master where type = 'table'")}
            if tables and "studies" not in tables:
                raise OSError("it holds something else than studies")


def _storage(url: str | None) -> InMemoryStorage | RDBStorage:
    if url is None:
        return InMemoryStorage()
    file = _file(url)
    if file is None:
        return RDBStorage(url)
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(f".{file.name}.lock"), timeout=WAIT_SECONDS):  # of two that make its tables, one would fail
        return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": WAIT_SECONDS}})


def _file(url: str | None) -> Path | None:
    return Path(url.removeprefix(SQLITE)) if url is not None and url.startswith(SQLITE) else None


@contextmanager
def _opening(url: str | None) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the database driver's, SQLAlchemy's, Optuna's or the system's
        told = getattr(error, "strerror", None) or short(getattr(error, "orig", None) or error)
        raise ConfigError([Fault(STORAGE, url, f"must be a database that can be opened ({told})")]) from None


@contextmanager
def reached(url: str | None) -> Iterator[None]:
    """Raises `ConfigError` where a storage that was opened can't be reached any more."""
    try:
        yield
    except StorageInternalError as error:
        cause = error.__cause__ or error
        raise ConfigError([Fault(STORAGE, url, f"can't be used any more ({short(getattr(cause, 'orig', None) or cause)})")]) from None


# ---------------------------------------------------------------------------------------------- the trials


@dataclass(frozen=True)
class Trials:
    """The trials of one study."""

    study: Study
    space: Space
    settings: Settings

    @classmethod
    def open(cls, name: str, space: Space, settings: Settings, about: Mapping[str, str]) -> "Trials":
        """`about`: what makes other values of the same trials.  Raises `ConfigError` where the study can't be opened, or is another search's."""
        optuna.logging.set_verbosity(optuna.logging.INFO if logging.getLogger("bpexp").isEnabledFor(logging.INFO) else optuna.logging.WARNING)
        sampler = Seeded(SAMPLERS[settings.sampler], settings.seed)
        with _opening(settings.storage):
            study = optuna.create_study(
                storage=_storage(settings.storage),
                sampler=sampler,
                study_name=name,
                direction="minimize" if settings.towards == "minimize" else "maximize",
                load_if_exists=True,
            )
            there = study.user_attrs.get(ABOUT)
            if there is None:
                study.set_user_attr(ABOUT, dict(about))
        there = dict(about if there is None else there) | {"direction": study.direction.name.lower()}
        if other := [key for key in sorted({*there, *about}) if there.get(key) != about.get(key)]:
            told = "; ".join(f"{key} is {there.get(key, 'as usual')} there, {about.get(key, 'as usual')} here" for key in other)
            raise ConfigError([Fault(STUDY, name, f"must be another name: this study is of another search ({told})")])
        return cls(study, space, settings)

    def over(self) -> list[FrozenTrial]:
        """Those that have come to their end, by their numbers."""
        return [it for it in self.study.get_trials(deepcopy=False, states=OVER) if it.params.keys() == self.space.dimensions.keys()]

    def running(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def batch(self) -> list[Trial]:
        """The next trials to train: first those that were left behind, none when there are as many as asked for or others train the rest."""
        left, size = self._left_behind()[: self.settings.batch], self.settings.batch
        trials = [self._drawn(Trial(self.study, it._trial_id)) for it in left]  # noqa: SLF001 (what Optuna itself makes of a number)
        if left:  # of a batch that was being asked for, the rest, as if nothing had been
            size = min(size, len(left) + -self._asked() % size)
        while len(trials) < size and self._asked() < self.settings.n_trials:
            trial = self.study.ask()
            if trial.number >= self.settings.n_trials:  # another process was faster: it waits for somebody who wants more
                self.study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)  # noqa: SLF001
                break
            trials.append(self._drawn(trial))
        return trials

    def _asked(self) -> int:
        return sum(it.state != TrialState.WAITING for it in self.study.get_trials(deepcopy=False))

    def _left_behind(self) -> list[FrozenTrial]:
        """Trials that are RUNNING and that nobody trains."""
        while any(_young(it) for it in self.running()):
            time.sleep(GLANCE_SECONDS)
        return [it for it in self.running() if not _lives(it)]

    def _drawn(self, trial: Trial) -> Trial:
        """The trial as this process's, with its values."""
        for key, mark in marks().items():
            trial.set_user_attr(key, mark)
        for key, it in self.space.dimensions.items():
            _draw(trial, key, it)
        return trial

    def tell(self, trial: Trial, value: float | None, **notes: str) -> None:
        """What a trial has come to; None: it has failed.  One that was told by another process, which took this one for dead, stays as it is."""
        with suppress(UpdateFinishedTrialError):
            for name, note in notes.items():
                trial.set_user_attr(f"bpexp.{name}", note)
            state = TrialState.FAIL if value is None else TrialState.COMPLETE
            self.study.tell(trial, value, state, skip_if_finished=True)

    def best(self) -> tuple[FrozenTrial, float] | None:
        """The best trial so far, with its value."""
        found = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        valued = [(it, float(it.value)) for it in found if it.value is not None]
        sign = 1 if self.settings.towards == "minimize" else -1
        return min(valued, key=lambda it: sign * it[1], default=None)


def _draw(trial: Trial, key: str, it: Dimension) -> Value:
    """A value, which is the trial's from then on."""
    if isinstance(it, Choice):
        return str(trial.suggest_categorical(key, it.words))
    if isinstance(it, Interval):
        if it.whole:
            return trial.suggest_int(key, int(it.low), int(it.high), log=it.log)
        return trial.suggest_float(key, it.low, it.high, log=it.log)
    if isinstance(it.numbers, range):
        return trial.suggest_int(key, it.numbers[0], it.numbers[-1], step=it.numbers.step)
    return trial.suggest_float(key, it.numbers[0], it.numbers[-1], step=it.step)


def _lives(trial: FrozenTrial) -> bool:
    """Whether another process trains it: what this one has asked for is told before it asks for more."""
    told = trial.user_attrs.get(OWNER)
    return told not in (None, owner()) and alive(str(told), trial.user_attrs.get(HEARTBEAT))


def _young(trial: FrozenTrial) -> bool:
    """Whether a process may just be about to say that it trains it."""
    started = trial.datetime_start
    return OWNER not in trial.user_attrs and started is not None and abs((datetime.now(started.tzinfo) - started).total_seconds()) < YOUNG_SECONDS
