"""Theory beside what was measured: what `bpexp.prediction` says of a study's settings, as thin dashed lines and as numbers in a sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from bpexp.config import ConfigError
from bpexp.core.arrays import Float64s
from bpexp.core.records import decades_per_layer
from bpexp.prediction import Prediction, predict
from bpexp.report import words
from bpexp.report.selection import Key, Setting, Study

__all__ = ["NOTE", "Slope", "anchored", "draw_theory", "predicted", "slope", "slopes_sentence", "theory_handle"]

HALO = [withStroke(linewidth=1.7, foreground="white")]  # so that its dashes are seen on a dark line
LINE: dict[str, Any] = {
    "color": "#222222",
    "linestyle": (0, (4, 5)),
    "linewidth": 0.9,
    "zorder": 2.6,
}  # thin, and above what it is to be compared with
NOTE = "Theory: mean-field theory of the untrained nets, with its correction for their width"


def predicted(study: Study, setting: Setting, changes: Mapping[str, Any] | None = None) -> Prediction | None:
    """Theory's word on a setting's nets, some keys `changes` of them changed.

    None where it has none, and where the runs don't tell enough: a part of their configuration or their data is not there any more.
    """
    try:
        return predict(study.config(setting, changes))
    except ConfigError:
        return None


# ---------------------------------------------------------------------------------------------- lines


def theory_handle() -> Artist:
    return Line2D([], [], color=LINE["color"], linestyle=LINE["linestyle"], linewidth=LINE["linewidth"], label="theory")


def draw_theory(ax: Axes, x: Sequence[float] | Float64s, y: Sequence[float] | Float64s) -> bool:
    """A line of theory's, and whether there is anything of it."""
    known = np.isfinite(np.asarray(y, np.float64))
    if known.any():
        ax.plot(np.asarray(x), np.where(known, y, np.nan), label="theory", path_effects=HALO, **LINE)
    return bool(known.any())


def anchored(prediction: Prediction | None, column: str, measured: pd.Series) -> pd.DataFrame | None:
    """Theory's log10 of a norm, `mean` by layer, moved to the norm measured in the output layer; None where there is none.

    `measured` is by layer.
    """
    if prediction is None:
        return None
    line = prediction.log10_norm(column)
    depth = len(line)
    if depth < 2 or depth not in measured.index or not np.isfinite(measured[depth]):
        return None
    return pd.DataFrame({"mean": line - line[-1] + float(measured[depth])}, pd.Index(range(1, depth + 1), name="layer"))


# ---------------------------------------------------------------------------------------------- numbers


@dataclass(frozen=True)
class Slope:
    """Decades lost per hidden layer: the mean over runs, its standard error (None: a lone run), and what theory says."""

    measured: float
    error: float | None
    theory: float

    def __str__(self) -> str:
        around = "" if self.error is None else f" ± {_decimals(self.error)}"
        return f"measured {_decimals(self.measured)}{around}, theory {_decimals(self.theory)}"

    @classmethod
    def of(cls, measured: "Sequence[float] | pd.Series[float]", theory: float | None) -> "Slope | None":
        if theory is None or not len(measured) or not np.isfinite(measured).all():
            return None
        error = float(np.std(measured, ddof=1) / np.sqrt(len(measured))) if len(measured) > 1 else None
        return cls(float(np.mean(measured)), error, theory)


def _decimals(x: float) -> str:
    """A number of decades as far as it can be told: 0.0001 a layer is a hundredth of one over 100 layers."""
    return f"{round(x, 4) + 0.0:.4f}".replace("-", words.MINUS)


def slope(study: Study, setting: Setting, column: str) -> Slope | None:
    """Of a setting's untrained nets; None where theory or the measurement has none."""
    prediction = predicted(study, setting)
    if prediction is None:
        return None
    frame = study.layers(setting)
    start = frame[frame["step"] == 0].sort_values("layer")
    found = [decades_per_layer(part[column].to_numpy(np.float64)) for _, part in start.groupby("run_id")]
    return Slope.of([each for each in found if each is not None], decades_per_layer(prediction.log10_norm(column)))


def slopes_sentence(slopes: Mapping[Setting, Slope | None], ignored: Sequence[Key] = ()) -> str:
    """` Per hidden layer: measured 0.628 ± 0.002, theory 0.627 decades with L = 50.`, or nothing where theory has none."""
    parts = [f"{found} decades{_with(setting, ignored)}" for setting, found in slopes.items() if found is not None]
    return f" Lost per hidden layer: {'; '.join(parts)}." if parts else ""


def _with(setting: Setting, ignored: Sequence[Key]) -> str:
    text = setting.text(without=ignored)
    return f" with {text}" if text else ""
