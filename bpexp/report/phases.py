"""Pictures of a plane of two swept keys: where gradients vanish and where they explode, and which of its settings learn."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.transforms import offset_copy

from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import Float64s
from bpexp.prediction import hidden_sigma_w2
from bpexp.report import words
from bpexp.report.colours import DARK, ink
from bpexp.report.decades import DECADES, STEADY, decade_points, expected
from bpexp.report.over_settings import TRAIN_LOSS, Point, cells_of, panel_points, points
from bpexp.report.picture import WIDTH, Picture, cell_edges, key_axis, legend, panels, seeds_note, wrapped
from bpexp.report.predicted import draw_theory, predicted, theory_handle
from bpexp.report.selection import Key, Setting, Study
from bpexp.theory.mean_field import critical_line

__all__ = ["gradient_phases", "has_outcome_plane", "has_phases", "outcome_map"]

FEWEST = 3  # values of a key that make it a side of a plane
FILLED = 0.5  # of a plane, at least, has been run
MOST_WRITTEN = 36  # cells of a lone panel that carry their number
FINE = 41  # points of theory's line
VARIANCE, BIASES, DEPTH = "init.sigma_w2", "init.sigma_b2", "depth"
HALO = [withStroke(linewidth=2.2, foreground="white")]


@dataclass(frozen=True)
class Plane:
    """Two keys of numbers, and what was measured over them."""

    x: Key
    y: Key
    points: list[Point]

    @classmethod
    def of(cls, some: Sequence[Point], keys: Iterable[Key]) -> "Plane | None":
        """The pair of keys with most values; variances of weights lie along x, depths along y.  None where the points fill no plane."""
        levels = {key: {point.setting[key] for point in some} for key in keys if key.ordered}
        pair = sorted((key for key in levels if len(levels[key]) >= FEWEST), key=lambda key: -len(levels[key]))[:2]
        if len(pair) < 2 or len({tuple(p.setting[key] for key in pair) for p in some}) < FILLED * len(levels[pair[0]]) * len(levels[pair[1]]):
            return None
        x, y = sorted(pair, key=lambda key: (key.name != VARIANCE, key.name == DEPTH))
        return cls(x, y, list(some))


def _phase_plane(study: Study) -> tuple[Plane | None, list[Key]]:
    some, ignored = decade_points(study)
    return Plane.of(some, [key for key in study.swept if key not in ignored]), ignored


def has_phases(study: Study) -> bool:
    return _phase_plane(study)[0] is not None


def has_outcome_plane(study: Study) -> bool:
    """Whether there is a plane of settings that the picture of phases does not show with all that became of them."""
    plane, ignored = _phase_plane(study)
    return (plane is None or bool(ignored)) and Plane.of(points(study, TRAIN_LOSS), study.swept) is not None


# ---------------------------------------------------------------------------------------------- the pictures


def gradient_phases(study: Study) -> Picture:
    """Decades lost per layer as a colour over two keys, with the line of 0 and theory's critical line."""
    plane, ignored = _phase_plane(study)
    assert plane is not None
    most = max(abs(point.mean) for point in plane.points) or 1.0
    look = _Look(Normalize(-most, most), "PuOr", DECADES.write, "decades lost per layer (< 0: explodes)")
    figure, axes, groups, notes = _panels(plane, look)
    border = theory = False
    for ax, group in zip(axes, groups, strict=True):
        cells = _paint(ax, plane, group, look, lambda point: point.mean, written=len(axes) == 1)
        border |= _border(ax, plane, cells)
        theory |= _critical(ax, plane, study, group[0].setting)
        if not ignored:
            _mark(ax, plane, study, group, written=len(axes) == 1)
    handles: list[Artist] = [Line2D([], [], color=DARK, linewidth=1.8, label="measured: 0")] if border else []
    if theory:
        handles.append(theory_handle())
        handles[-1].set_label("critical by theory")
    legend(figure, [*handles, *([] if ignored else _mark_handles(study, plane.points))])
    notes += ["Before any update. White: not run, or fewer than three hidden layers to fit a line to."]
    notes += ["Theory's line: where χ = 1 at the fixed point, for endlessly wide and deep nets."] if theory else []
    notes += [f"The same for every {key.words}: it acts after step 0." for key in ignored]
    sentence = _phase_sentence(plane)
    return Picture(figure, sentence, (*notes, *seeds_note(study, "Colours", spread_shown=False)), numbers=_numbers(plane, study))


def outcome_map(study: Study) -> Picture:
    """Which share of the runs left the plateau, or where each has one run its final loss, as a colour over two keys."""
    plane = Plane.of(points(study, TRAIN_LOSS), study.swept)
    assert plane is not None
    several = any(len(point.setting.runs) > 1 for point in plane.points)
    losses = [point.mean for point in plane.points if not point.diverged and point.mean > 0]
    scale = LogNorm(min(losses), max(losses)) if losses and min(losses) < max(losses) else Normalize(0.0, 1.0)
    look = (
        _Look(Normalize(0.0, 1.0), "cividis", lambda share: words.percent(share).removesuffix(" %"), "share of runs that trained")
        if several
        else _Look(scale, "viridis_r", lambda loss: words.number(loss, 2), "final training loss")
    )
    figure, axes, groups, notes = _panels(plane, look)
    for ax, group in zip(axes, groups, strict=True):
        drawn = group if several else [point for point in group if not point.diverged]
        _paint(ax, plane, drawn, look, (lambda point: _share(study, point, "trained")) if several else (lambda point: point.mean), len(axes) == 1)
        _mark(ax, plane, study, group, written=len(axes) == 1)
    legend(figure, _mark_handles(study, plane.points))
    notes.append("White: not run." if several else "White: not run, or diverged.")
    return Picture(figure, _outcome_sentence(study, plane), tuple(notes), numbers=_numbers(plane, study))


# ---------------------------------------------------------------------------------------------- drawing


@dataclass(frozen=True)
class _Look:
    """How a number becomes a colour and a text."""

    norm: Normalize
    map: str
    write: Callable[[float], str]
    label: str


def _panels(plane: Plane, look: _Look) -> tuple[Figure, list[Axes], list[list[Point]], list[str]]:
    chosen, notes = panel_points(plane.points, [plane.x, plane.y])
    figure, axes = panels(len(chosen), 2.3, sharex=True, sharey=True)
    if len(axes) == 1:
        figure.set_size_inches(WIDTH, 3.9)
    for ax, (name, _) in zip(axes, chosen, strict=True):
        ax.set_title(wrapped(name))
        key_axis(ax.xaxis, plane.x)
        key_axis(ax.yaxis, plane.y)
        ax.grid(visible=False)
    figure.supxlabel(plane.x.axis)
    figure.supylabel(plane.y.axis)
    figure.colorbar(ScalarMappable(look.norm, look.map), ax=axes, label=look.label, pad=0.02, aspect=28)
    return figure, axes, [group for _, group in chosen], notes


def _sides(plane: Plane) -> tuple[Float64s, Float64s]:
    """The borders of the columns and of the rows."""
    x, y = (cell_edges(np.array(key.levels, np.float64), key.log) for key in (plane.x, plane.y))
    return x, y


def _paint(ax: Axes, plane: Plane, some: Sequence[Point], look: _Look, values: Callable[[Point], float], written: bool) -> Float64s:
    """Cells in their colours, some with their numbers; the array that they show."""
    cells = cells_of(plane.x, plane.y, some, values)
    x, y = _sides(plane)
    mesh = ax.pcolormesh(x, y, np.ma.masked_invalid(cells), norm=look.norm, cmap=look.map, shading="flat")
    ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    if written and cells.size <= MOST_WRITTEN:
        for point in some:
            behind = mesh.get_cmap()(look.norm(values(point)))
            place = (float(point.setting[plane.x]), float(point.setting[plane.y]))
            box = {"boxstyle": "round,pad=0.15", "facecolor": behind, "edgecolor": "none"}  # so that lines and hatches leave it readable
            ax.text(*place, look.write(values(point)), ha="center", va="center", color=ink(behind), fontsize=7, bbox=box, zorder=4)
    return cells


def _border(ax: Axes, plane: Plane, cells: Float64s) -> bool:
    """The line on which what was measured is 0; whether there is one."""
    known = cells[np.isfinite(cells)]
    if not (known.min() < 0.0 < known.max()):
        return False
    rows, columns = (np.isfinite(cells).any(axis=axis) for axis in (1, 0))  # a line goes across what nobody ran
    if rows.sum() < 2 or columns.sum() < 2:
        return False
    x, y = np.array(plane.x.levels, np.float64)[columns], np.array(plane.y.levels, np.float64)[rows]
    ax.contour(x, y, np.ma.masked_invalid(cells[np.ix_(rows, columns)]), levels=[0.0], colors=DARK, linewidths=1.8)
    return True


def _critical(ax: Axes, plane: Plane, study: Study, setting: Setting) -> bool:
    """Theory's critical line over the weights' variance; whether it has one in view."""
    if plane.x.name != VARIANCE or predicted(study, setting) is None:
        return False
    config = study.config(setting)
    if hidden_sigma_w2(config) != config.init.sigma_w2:
        return False
    phi, sigma_b2 = ACTIVATIONS[config.activation], config.init.sigma_b2 if config.bias else 0.0
    y = np.linspace(*ax.get_ylim(), FINE) if plane.y.name == BIASES and config.bias else np.array(ax.get_ylim())
    line = [critical_line(phi, max(0.0, float(at))) for at in y] if len(y) > 2 else [critical_line(phi, sigma_b2)] * 2
    found = np.array([np.nan if each is None else each for each in line])
    low, high = ax.get_xlim()
    return draw_theory(ax, np.where((low <= found) & (found <= high), found, np.nan), y)


def _share(study: Study, point: Point, outcome: str) -> float:
    return study.outcomes(point.setting).count(outcome) / len(point.setting.runs)


def _is_stuck(study: Study, point: Point) -> bool:
    return _share(study, point, "stuck") == 1.0


def _mark(ax: Axes, plane: Plane, study: Study, some: Sequence[Point], written: bool) -> None:
    """Hatches where a run diverged, dots where all stayed stuck, below a number that is written."""
    x, y = _sides(plane)
    (mesh,) = [found for found in ax.collections if isinstance(found, QuadMesh)]
    colours = mesh.to_rgba(np.ma.asarray(mesh.get_array())).reshape(len(plane.y.levels), len(plane.x.levels), 4)
    stuck = [(float(p.setting[plane.x]), float(p.setting[plane.y])) for p in some if _is_stuck(study, p)]
    for point in some:
        if point.diverged:
            column, row = plane.x.levels.index(point.setting[plane.x]), plane.y.levels.index(point.setting[plane.y])
            size = (x[column + 1] - x[column], y[row + 1] - y[row])
            colour = ink(colours[row, column]) if colours[row, column, 3] else DARK
            ax.add_patch(Rectangle((x[column], y[row]), *size, fill=False, edgecolor=colour, linewidth=0.0, hatch="////", label="diverged"))
    below = written and len(plane.x.levels) * len(plane.y.levels) <= MOST_WRITTEN
    place = offset_copy(ax.transData, ax.get_figure(root=True), 0.0, -8.0 if below else 0.0, "points")
    ax.plot(*np.array(stuck).reshape(-1, 2).T, ".", color=DARK, markersize=5, label="stuck", transform=place, path_effects=HALO)


def _mark_handles(study: Study, some: Sequence[Point]) -> list[Artist]:
    found: list[Artist] = []
    if any(point.diverged for point in some):
        found.append(Patch(fill=False, edgecolor=DARK, linewidth=0.0, hatch="////", label="a run diverged"))
    if any(_is_stuck(study, point) for point in some):
        found.append(Line2D([], [], color=DARK, linestyle="", marker=".", markersize=5, label="stuck at the plateau"))
    return found


# ---------------------------------------------------------------------------------------------- numbers


def _phase_sentence(plane: Plane) -> str:
    """How often either happens, and where in the last row one becomes the other."""
    means = [point.mean for point in plane.points]
    vanishing, exploding = sum(mean >= STEADY for mean in means), sum(mean <= -STEADY for mean in means)
    level = len(means) - vanishing - exploding
    text = f"The untrained net's gradient vanishes in {vanishing} of {words.count(len(means), 'setting')} and explodes in {exploding}"
    text += f"; in {level} it does neither (less than {STEADY:g} decades per layer)" if level else ""
    last = max(plane.points, key=lambda point: (plane.y.levels.index(point.setting[plane.y]), point.setting[plane.x])).setting
    others = [key for key in last.keys if key != plane.x]
    row = sorted((p for p in plane.points if all(p.setting[key] == last[key] for key in others)), key=lambda p: p.setting[plane.x])
    signs = [(a, b) for a, b in pairwise(row) if (a.mean > 0.0) != (b.mean > 0.0)]
    if len(signs) != 1:
        return f"{text}."
    (a, b) = signs[0]
    x = plane.x
    around = f"{x.text(a.setting[x])} and {x.text(b.setting[x])}"
    return f"{text}. With {last.text(without=[x])} the border lies between {around}."


def _outcome_sentence(study: Study, plane: Plane) -> str:
    whole = [point for point in plane.points if _share(study, point, "trained") == 1.0]
    some = [point for point in plane.points if 0.0 < _share(study, point, "trained") < 1.0]
    n = len(plane.points)
    if not whole and not some:
        return f"No run of {words.every(n, 'setting')} leaves the plateau of a constant output."
    text = f"In {len(whole)} of {words.count(n, 'setting')} every run leaves the plateau of a constant output"
    text += f", in {len(some)} some do" if some else ""
    diverged = sum(point.diverged for point in plane.points)
    return text + (f"; in {diverged} a run diverges." if diverged else ".")


def _numbers(plane: Plane, study: Study) -> pd.DataFrame:
    """A row per cell."""
    rows = []
    for point in plane.points:
        row = {key.name: point.setting[key] for key in point.setting.keys}
        slopes = study.numbers(point.setting, DECADES.column)
        row |= {"runs": len(point.setting.runs), "decades_per_layer": slopes.mean(), "theory_decades_per_layer": expected(study, point.setting)}
        row |= {outcome: study.outcomes(point.setting).count(outcome) for outcome in ("trained", "stuck", "diverged")}
        rows.append(row | {"final_loss": study.numbers(point.setting, TRAIN_LOSS.column).mean()})
    return pd.DataFrame(rows)
