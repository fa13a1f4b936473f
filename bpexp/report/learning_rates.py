"""How the loss that a training ends at depends on the learning rate, and where trainings begin to diverge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, nan

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from bpexp.report import words
from bpexp.report.colours import Colours
from bpexp.report.intervals import Interval
from bpexp.report.picture import Picture, key_axis, log_axis, panels, plateau_handle, seeds_note, shown_facets, wrapped
from bpexp.report.selection import Key, Setting, Study, colour_key

__all__ = ["Edge", "has_learning_rates", "learning_rates", "rate_lines"]

LR = "lr"
FEWEST = 4  # rates
STRIP = 0.16  # of a panel's height, for the edges
LOWEST = 1e-12  # of the plateau: losses below are no longer told apart


@dataclass(frozen=True)
class Edge:
    """Between which learning rates divergence begins; 0 or infinity where no rate was tried on that side."""

    calm: float
    diverged: float

    @classmethod
    def of(cls, diverged: Mapping[float, bool]) -> "Edge":
        """The smallest rate at which some run diverged, and the largest below it, at which none did."""
        first = min((rate for rate, ended in diverged.items() if ended), default=inf)
        return cls(max((rate for rate in diverged if rate < first), default=0.0), first)

    def text(self, key: Key) -> str:
        if self.diverged == inf:
            return f"above {key.text(self.calm)}, the largest that was tried"
        if self.calm == 0.0:
            return f"at {key.text(self.diverged)}, the smallest that was tried, or below"
        return f"between {key.text(self.calm)} and {key.text(self.diverged)}"


@dataclass(frozen=True)
class Line:
    """What differs in the learning rate alone: `final` and `best` losses over the rates at which no run diverged, the edge and the best rate."""

    settings: tuple[Setting, ...]
    rates: tuple[float, ...]
    final: dict[float, Interval]
    best: dict[float, Interval]
    edge: Edge

    @property
    def lr(self) -> float:
        """The rate with the lowest final loss; NaN where all diverged."""
        return min(self.final, key=lambda rate: self.final[rate].mean, default=nan)

    def text(self, key: Key) -> str:
        return self.settings[0].text(without=[key])


def _key(study: Study) -> Key | None:
    return next((key for key in study.swept if key.name == LR and key.ordered), None)


def rate_lines(study: Study) -> list[Line]:
    """One per combination of the other keys; geometric means over runs."""
    key = _key(study)
    groups: dict[tuple[object, ...], list[Setting]] = {}
    for setting in study.settings:
        groups.setdefault(tuple(setting[other] for other in study.swept if other != key), []).append(setting)
    return [_line(study, key, settings) for settings in groups.values()] if key else []


def _line(study: Study, key: Key, settings: Sequence[Setting]) -> Line:
    ended = {float(setting[key]): "diverged" in study.outcomes(setting) for setting in settings}
    found: dict[str, dict[float, Interval]] = {}
    for name in ("final_loss", "best_loss"):
        values = {float(setting[key]): study.numbers(setting, name) for setting in settings}
        found[name] = {rate: Interval.of(some[some > 0], log=True) for rate, some in values.items() if (some > 0).any() and not ended[rate]}
    return Line(tuple(settings), tuple(ended), found["final_loss"], found["best_loss"], Edge.of(ended))


def has_learning_rates(study: Study) -> bool:
    """Whether some line has rates enough, and a loss at one of them; different losses have no common axis."""
    return "loss" not in {key.name for key in study.swept} and any(len(line.settings) >= FEWEST and line.final for line in rate_lines(study))


def learning_rates(study: Study) -> Picture:
    """Final and best training loss over the learning rate, a line per other setting, the best rate of each and the edge of divergence."""
    key, lines = _key(study), rate_lines(study)
    assert key is not None
    by_setting = {line.settings[0]: line for line in lines}
    colour = colour_key([other for other in study.swept if other != key])
    chosen, notes = shown_facets(by_setting, [key, colour])
    colours = Colours.of(colour)
    figure, axes = panels(len(chosen), 2.6, sharex=True, sharey=True)
    plateaus = sorted({float(f"{x:.6g}") for line in lines for setting in line.settings for x in study.numbers(setting, "plateau_loss")})
    for ax, (name, group) in zip(axes, chosen, strict=True):
        ax.set_title(wrapped(name))
        for place, setting in enumerate(group):
            _draw(ax, by_setting[setting], colours[setting[colour]], (place + 0.5) / len(group))
        for plateau in plateaus:
            ax.axhline(plateau, color="black", linestyle=(0, (4, 3)), linewidth=1, label="plateau", zorder=1.5)
    key_axis(axes[0].xaxis, key)
    _set_axis(axes, lines, plateaus)
    colours.explain(figure, axes, _handles(lines, bool(plateaus), has_colours=colour is not None))
    figure.supxlabel(key.axis)
    figure.supylabel("full training loss")
    notes += ("Lines end where a run diverges: losses are those of the rates at which none did.",)
    notes += tuple(seeds_note(study, "Points", log=True))
    return Picture(figure, _sentence(lines, key), notes, numbers=_numbers(study, lines, key))


def _draw(ax: Axes, line: Line, colour: object, place: float) -> None:
    """Final losses with their intervals, the best ones thin, a ring around the best rate; in the strip on top, at that height, the edge."""
    x = sorted(line.rates)
    final, lowest = (np.array([_numbers_of(found.get(rate)) for rate in x]) for found in (line.final, line.best))  # NaN: a gap
    spans = np.abs(final[:, 1:].T - final[:, 0]) if any(each.runs > 1 for each in line.final.values()) else None
    ax.errorbar(x, final[:, 0], yerr=spans, color=colour, marker="o", markersize=3.5, elinewidth=0.9, label="final")
    ax.plot(x, lowest[:, 0], color=colour, linewidth=0.8, linestyle=(0, (1, 1.5)), label="lowest")
    if line.final:
        ax.plot(line.lr, line.final[line.lr].mean, "o", markersize=9, markerfacecolor="none", markeredgecolor=colour, label="best")
    if line.edge.diverged < inf:
        height = 1.0 - STRIP * (0.12 + 0.76 * place)
        low = line.edge.calm or line.edge.diverged
        ax.plot([low, line.edge.diverged], [height] * 2, color=colour, linewidth=2.0, transform=ax.get_xaxis_transform(), label="edge")
        ax.plot(line.edge.diverged, height, "x", color="#444444", markersize=4, transform=ax.get_xaxis_transform(), label="diverged", zorder=3)


def _numbers_of(around: Interval | None) -> tuple[float, float, float]:
    return (nan, nan, nan) if around is None else (around.mean, around.low, around.high)


def _set_axis(axes: Sequence[Axes], lines: Sequence[Line], plateaus: Sequence[float]) -> None:
    """A logarithmic axis that leaves the strip free."""
    losses = [each.mean for line in lines for each in (*line.final.values(), *line.best.values())] + list(plateaus)
    high = max(losses)
    low = max(min(losses), LOWEST * high)
    span = np.log10(high / low) + 0.1
    axes[0].set_yscale("log")
    axes[0].set_ylim(low / 10 ** (0.06 * span + 0.02), high * 10 ** ((0.06 + STRIP) / (1 - STRIP) * span))
    log_axis(axes[0].yaxis)
    for ax in axes:
        ax.margins(x=0.04)


def _handles(lines: Sequence[Line], plateau: bool, has_colours: bool) -> list[Artist]:
    grey = "#444444" if has_colours else "C0"
    found: list[Artist] = [
        Line2D([], [], color=grey, marker="o", markersize=3.5, label="after the last step"),
        Line2D([], [], color=grey, linewidth=0.8, linestyle=(0, (1, 1.5)), label="lowest on the way"),
        Line2D([], [], color=grey, linestyle="", marker="o", markersize=8, markerfacecolor="none", label="best rate"),
    ]
    if any(line.edge.diverged < inf for line in lines):
        found.append(Line2D([], [], color=grey, linewidth=2.0, marker="x", markersize=4, markeredgecolor="#444444", label="edge of divergence"))
    return [*found, *([plateau_handle()] if plateau else [])]


def _sentence(lines: Sequence[Line], key: Key) -> str:
    """The lowest loss and its rate, and the edges that lie lowest and highest."""
    known = [line for line in lines if line.final]
    best = min(known, key=lambda line: line.final[line.lr].mean)
    where = f" and {best.text(key)}" if best.text(key) else ""
    text = f"The lowest final training loss, {words.number(best.final[best.lr].mean)}, is reached with {key.text(best.lr)}{where}"
    edges: dict[Edge, list[str]] = {}
    for line in sorted(lines, key=lambda line: (line.edge.diverged, line.edge.calm)):
        edges.setdefault(line.edge, []).append(line.text(key))
    first, last = next(iter(edges)), next(reversed(edges))
    if first.diverged == inf:
        return f"{text}; no run diverged."
    if len(edges) == 1:
        return f"{text}; divergence begins {first.text(key)}{' in every line' if len(lines) > 1 else ''}."
    return f"{text}; divergence begins {first.text(key)} with {words.listing(edges[first])}, and {last.text(key)} with {words.listing(edges[last])}."


def _numbers(study: Study, lines: Sequence[Line], key: Key) -> pd.DataFrame:
    """A row per setting."""
    rows = []
    for line in lines:
        for setting in line.settings:
            rate = float(setting[key])
            row = {each.name: setting[each] for each in setting.keys}
            row |= {"runs": len(setting.runs), "diverged": study.outcomes(setting).count("diverged")}
            for name, found in (("final_loss", line.final), ("best_loss", line.best)):
                row |= dict(zip((name, f"{name}_low", f"{name}_high"), _numbers_of(found.get(rate)), strict=True))
            rows.append(row | {"best_lr": rate == line.lr, "edge_calm": line.edge.calm, "edge_diverged": line.edge.diverged})
    return pd.DataFrame(rows)
