"""What colours tell: values of a key, and on which of them white is read."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib import colormaps, rcParams
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import FuncNorm, ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bpexp.report.picture import MOST_NAMED, legend
from bpexp.report.selection import Key

__all__ = ["DARK", "Colours", "ink"]

DARK, LIGHT = "#222222", "white"
EQUAL = 0.213  # relative luminance of what has the same contrast with both: √(1.05 (0.016 + 0.05)) - 0.05
MAP_RANGE = (0.0, 0.9)  # of the colour map, for lines: its last tenth is too light on white


def ink(behind: Sequence[float]) -> str:
    """The one of `DARK` and `LIGHT` that has more contrast with a colour, of which red, green and blue come first (relative luminance: WCAG 2.2)."""
    x = np.asarray(behind[:3], np.float64)
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    return LIGHT if float(linear @ (0.2126, 0.7152, 0.0722)) < EQUAL else DARK


class Colours:
    """A colour per value: along a perceptually uniform map for numbers, from a palette for names.

    Up to eight are named in a legend, and lie evenly on the map; more are told by a colour bar, and lie on it by value.
    """

    def __init__(self, values: Iterable[Any], label: str, name: Callable[[Any], str], ordered: bool = True, scale: str = "linear") -> None:
        """`label` is what the colour bar says, `name` makes a legend's entry of a value; `scale`: linear, log, or steps (a log that holds 0)."""
        self.values: list[Any] = list(dict.fromkeys(values))
        self.label, self.name = label, name
        self._used: set[Any] = set()
        self.named = len(self.values) <= MOST_NAMED or not ordered
        self._ordered = ordered
        low, high = (min(self.values), max(self.values)) if ordered and self.values else (0, 1)
        norms: dict[str, Callable[[float, float], Normalize]] = {
            "linear": Normalize,
            "log": LogNorm,
            "steps": partial(FuncNorm, (np.log1p, np.expm1)),
        }
        self._norm = norms[scale](low, high)

    @classmethod
    def of(cls, key: Key | None) -> "Colours":
        """A colour per value of a key; without one, a single colour under None."""
        if key is None:
            return cls([None], "", str, ordered=False)
        return cls(key.levels, key.axis, key.math, key.ordered, "log" if key.log else "linear")

    def __getitem__(self, value: Any) -> Any:
        """The colour of a value, which the legend will then name."""
        self._used.add(value)
        if not self._ordered:
            palette = rcParams["axes.prop_cycle"].by_key()["color"]
            rank = self.values.index(value)
            return palette[rank] if len(self.values) <= len(palette) else colormaps["turbo"]((rank + 0.5) / len(self.values))
        if len(self.values) == 1:
            return rcParams["axes.prop_cycle"].by_key()["color"][0]
        place = self.values.index(value) / (len(self.values) - 1) if self.named else float(self._norm(value))
        return colormaps["viridis"](MAP_RANGE[0] + place * (MAP_RANGE[1] - MAP_RANGE[0]))

    def explain(self, figure: Figure, axes: Sequence[Axes], extra: Sequence[Artist] = ()) -> None:
        """A legend or a colour bar beside the axes, with `extra` marks explained too."""
        handles = [Line2D([], [], color=self[value], label=self.name(value)) for value in self.values if value in self._used] if self.named else []
        legend(figure, [*(handles if len(handles) > 1 else ()), *extra])
        if not self.named:
            trimmed = colormaps["viridis"].resampled(256)(np.linspace(*MAP_RANGE, 256))
            bar = figure.colorbar(ScalarMappable(self._norm, ListedColormap(trimmed)), ax=list(axes), label=self.label, aspect=30, pad=0.02)
            bar.outline.set_visible(False)
