"""The numbers behind a picture, in one frame: what its CSV file holds.

A row per point that is drawn: what tells its setting (a column per swept key), its place (`step`, `layer`, …), the `quantity`, and over the setting's
runs their `mean`, the ends `low` and `high` of the band around it, and `runs`, how many.  What was not measured, such as theory's lines, has a `mean`
alone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from bpexp.core.arrays import Float64s, Ints
from bpexp.report.selection import Key, Setting

__all__ = ["as_drawn", "line", "of_setting", "rows", "stacked"]

LAST = ["quantity", "mean", "low", "high", "runs"]


def rows(quantity: str, table: pd.DataFrame, told: Mapping[str, Any]) -> pd.DataFrame:
    """A table by place, such as `over_runs` makes, as rows of a quantity; `told` is what they have in common."""
    frame = table.reset_index().assign(quantity=quantity)
    places = [name for name in frame if name not in LAST]
    return frame.assign(**told)[[*told, *places, *(name for name in LAST if name in frame)]]


def of_setting(setting: Setting, ignored: Iterable[Key] = ()) -> dict[str, Any]:
    """The swept keys and their values."""
    return {key.name: setting[key] for key in setting.keys if key not in ignored}


def line(place: str, x: Sequence[float] | Float64s | Ints, y: Sequence[float] | Float64s) -> pd.DataFrame:
    """A table of what was not measured."""
    return pd.DataFrame({"mean": np.asarray(y, np.float64)}, pd.Index(np.asarray(x), name=place))


def stacked(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """All rows, with the quantity and its numbers last; a place that some have not is empty there."""
    found = pd.concat(list(parts), ignore_index=True)
    ends = [name for name in LAST if name in found]
    return found[[*(name for name in found if name not in LAST), *ends]]


def as_drawn(figure: Figure) -> pd.DataFrame:
    """What a figure holds, artist by artist: `panel`, numbered from 1, `title`, `series`, its label, `x` and `y`; of images also the `value` there.

    For figures that are put together of many things, such as those after papers.
    """
    found = []
    for panel, ax in enumerate(figure.axes, start=1):
        told = {"panel": panel, "title": ax.get_title() or ax.get_title(loc="left")}
        found += [pd.DataFrame({**told, "series": label, **columns}) for label, columns in _series(ax)]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["panel", "title", "series", "x", "y"])


def _series(ax: Axes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Lines, images and meshes, each with its label and its points; a mesh's are the middles of its cells."""
    for each in ax.get_lines():
        x, y = np.asarray(each.get_xydata(), np.float64).T
        yield str(each.get_label()), {"x": x, "y": y}
    for image in ax.get_images():
        cells = np.ma.filled(np.ma.asarray(image.get_array(), np.float64), np.nan)
        left, right, bottom, top = image.get_extent()
        x, y = np.meshgrid(_middles(left, right, cells.shape[1]), _middles(bottom, top, cells.shape[0]))
        yield str(image.get_label()), _cells(x, y, cells)
    for mesh in ax.collections:
        if isinstance(mesh, QuadMesh):
            corners = np.asarray(mesh.get_coordinates(), np.float64)
            middles = (corners[:-1, :-1] + corners[:-1, 1:] + corners[1:, :-1] + corners[1:, 1:]) / 4.0
            values = np.ma.filled(np.ma.asarray(mesh.get_array(), np.float64), np.nan)
            yield str(mesh.get_label()), _cells(middles[..., 0], middles[..., 1], values.reshape(middles.shape[:2]))


def _middles(low: float, high: float, count: int) -> Float64s:
    """Of so many equal parts."""
    return np.asarray(low + (high - low) * (np.arange(count) + 0.5) / count)


def _cells(x: Float64s, y: Float64s, value: Float64s) -> dict[str, Any]:
    return {"x": x.ravel(), "y": y.ravel(), "value": value.ravel()}
