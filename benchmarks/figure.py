"""Ratios of all cells as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from benchmarks import stack, step
from benchmarks.tables import Group, ratios
from benchmarks.timing import spread

__all__ = ["draw"]

Rows = Sequence[Mapping[str, Any]]
LIMIT = 4.0  # where the colours end, either way


def draw(raw: Mapping[str, Any], path: Path) -> None:
    """A row of panels for the step and one for stacks, a panel for each peer; blue is in our favour."""
    shown: list[tuple[str, Rows, Group, tuple[str, str], tuple[str, str]]] = []
    if raw.get("step"):
        shown.append(("step", raw["step"], step.PEERS, ("depth", "batch"), ("width", "")))
    if raw.get("stack"):
        shown.append(("stack", raw["stack"], stack.PEERS, ("depth", "batch"), ("width", "runs")))
    if not shown:
        return
    figure = Figure(figsize=(16, 1 + 5.5 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), 4, squeeze=False)
    for line, (what, rows, peers, down, across) in zip(axes, shown, strict=True):
        for place, (peer, names) in zip(line, peers.items(), strict=False):
            _panel(place, f"{what}: ours / {peer}", _ratios(rows, names, down, across), down, across)
        for place in line[len(peers) :]:
            place.set_axis_off()
    figure.savefig(path, dpi=110)


def _ratios(rows: Rows, names: Sequence[str], down: tuple[str, str], across: tuple[str, str]) -> dict[tuple[Any, Any], float]:
    """Median ratio by place in the panel, NaN where there is none."""
    found = {}
    for row in rows:
        cell, each = row["cell"], ratios(row["found"], "ours", names)
        at = tuple(tuple(cell[key] for key in keys if key) for keys in (down, across))
        found[at] = spread(each)[0] if each else np.nan
    return found  # type: ignore[return-value]


def _panel(axes: Any, title: str, found: dict[tuple[Any, Any], float], down: tuple[str, str], across: tuple[str, str]) -> None:
    lines, columns = (sorted({at[side] for at in found}) for side in (0, 1))
    values = np.array([[found.get((line, column), np.nan) for column in columns] for line in lines])
    axes.imshow(np.log(values), cmap="RdBu_r", norm=TwoSlopeNorm(0.0, -np.log(LIMIT), np.log(LIMIT)), aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        strong = abs(np.log(value)) > 0.7 * np.log(LIMIT) if np.isfinite(value) else False
        axes.text(j, i, f"{value:.2f}" if np.isfinite(value) else "–", ha="center", va="center", color="white" if strong else "black", fontsize=9)
    axes.set_xticks(range(len(columns)), [" · ".join(map(str, column)) for column in columns], rotation=0 if len(columns) < 6 else 90)
    axes.set_yticks(range(len(lines)), [" · ".join(map(str, line)) for line in lines])
    axes.set_xlabel(" · ".join(filter(None, across)))
    axes.set_ylabel(" · ".join(filter(None, down)))
    axes.set_title(title, fontsize=10)
