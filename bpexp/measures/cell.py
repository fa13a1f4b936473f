"""The runs that one row of verdicts is about, and what is measured of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import nan, sqrt
from typing import Any

import numpy as np
import pandas as pd

from bpexp.config import RunConfig, full_key
from bpexp.core.arrays import Float64s
from bpexp.tracking.reader import Runs, configuration

__all__ = ["Cell", "Measured", "place"]


@dataclass(frozen=True)
class Measured:
    """A quantity as it was found: `value`, its standard error (NaN where it was found once), and what each repetition gave."""

    value: float
    error: float
    values: tuple[float, ...]

    @classmethod
    def mean(cls, values: Sequence[float] | Float64s) -> "Measured":
        """The mean over repetitions; standard error s/√n, NaN where some are not finite."""
        found = np.asarray(values, np.float64)
        error = float(found.std(ddof=1)) / sqrt(len(found)) if len(found) > 1 and np.isfinite(found).all() else nan
        return cls(float(found.mean()) if len(found) else nan, error, tuple(map(float, found)))

    @classmethod
    def median(cls, values: Sequence[float] | Float64s) -> "Measured":
        """The median over repetitions; standard error √(π/2) s/√n, that of a normal distribution."""
        found = cls.mean(values)
        return replace(found, value=float(np.median(values)) if len(values) else nan, error=sqrt(np.pi / 2.0) * found.error)

    @classmethod
    def once(cls, value: float) -> "Measured":
        """A number that is not repeated: a count, a fit to all runs together."""
        return cls(float(value), nan, (float(value),))

    def interval(self, confidence: float) -> tuple[float, float]:
        """The values that the data allow at this confidence (Student's t with n - 1 degrees of freedom); the value alone where it was found once."""
        if not self.error > 0.0:
            return self.value, self.value
        from scipy.stats import t

        reach = float(t.ppf(0.5 + confidence / 2.0, len(self.values) - 1)) * self.error
        return self.value - reach, self.value + reach


@dataclass(frozen=True, eq=False)
class Cell:
    """Runs of a study, `frame` a row per run (columns: `bpexp.tracking.reader`), with their curves, layers and spectra."""

    study: Runs
    frame: pd.DataFrame

    @classmethod
    def of(cls, study: Runs) -> "Cell":
        """All runs that came to their end."""
        return cls(study, study.runs[study.runs["status"] == "FINISHED"].drop_duplicates("run_id"))

    def where(self, values: Mapping[str, Any]) -> "Cell":
        """The runs that have these values, by the names of the command line; where a list is given, one of its values."""
        frame = self.frame
        for name, value in values.items():
            frame = frame.loc[[_same(found, value) for found in frame[full_key(name)]]]  # of no rows [] would be no columns
        return replace(self, frame=frame)

    def each(self, names: Sequence[str]) -> Iterator[tuple[dict[str, Any], "Cell"]]:
        """A cell for each combination of the values that these keys take, in the order of the values."""
        columns = [full_key(name) for name in names]
        if not columns:
            yield {}, self
            return
        for values, frame in self.frame.groupby(columns, sort=True, dropna=False):
            yield dict(zip(columns, map(_plain, values), strict=True)), replace(self, frame=frame)

    def one_by_one(self) -> Iterator["Cell"]:
        """A cell for each run, in the order of the sweep."""
        for place in range(len(self.frame)):
            yield replace(self, frame=self.frame.iloc[place : place + 1])

    def by_seed(self) -> dict[int, "Cell"]:
        """The runs of each seed."""
        return {int(values["seed"]): part for values, part in self.each(["seed"])}

    def repeated(self, measure: Callable[["Cell"], float]) -> Measured:
        """The mean of a number that each run has."""
        return Measured.mean([measure(run) for run in self.one_by_one()])

    @cached_property
    def config(self) -> RunConfig:
        """The configuration of the first run: what a row's runs share is in it."""
        return configuration(self.frame.iloc[0].to_dict())

    @property
    def layers(self) -> pd.DataFrame:
        return self._of("layers")

    @property
    def curves(self) -> pd.DataFrame:
        return self._of("curves")

    @property
    def spectra(self) -> pd.DataFrame:
        return self._of("spectra")

    def profile(self, column: str, step: int = 0) -> Float64s:
        """A column over layers 1 … depth of a lone run at a probed step."""
        frame = self.layers
        return frame.loc[frame["step"] == step, column].to_numpy(np.float64)

    def _of(self, kind: str) -> pd.DataFrame:
        parts = self.study.by_run(kind)
        found = [parts[run_id] for run_id in self.frame["run_id"] if run_id in parts]
        return found[0] if len(found) == 1 else pd.concat(found, ignore_index=True) if found else getattr(self.study, kind).iloc[:0]


def place(layer: int, depth: int) -> int:
    """The index of a layer that is counted from 1, or with negative numbers from the output, -1 being the output layer."""
    return layer - 1 if layer > 0 else depth + layer


def _plain(value: Any) -> Any:
    """A cell of a frame as a plain value: None where it is missing."""
    return None if pd.isna(value) else value.item() if hasattr(value, "item") else value


def _same(found: Any, value: Any) -> bool:
    """Whether a run has this value, or one of a list; numbers are compared as numbers, to the digits that one types."""
    if isinstance(value, list):
        return any(_same(found, one) for one in value)
    plain = _plain(found)
    if isinstance(plain, int | float) and isinstance(value, int | float):
        return bool(np.isclose(plain, value, rtol=1e-9, atol=0.0))
    return bool(plain == value)
