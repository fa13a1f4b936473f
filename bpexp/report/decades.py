"""Decades that the untrained nets' gradients lose per layer, over the swept keys: measured, and by theory."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bpexp.report import words
from bpexp.report.colours import Colours
from bpexp.report.numbers import of_setting, stacked
from bpexp.report.over_settings import (
    Measure,
    Point,
    Series,
    bar_place,
    bar_thickness,
    draw_series,
    drawn_keys,
    fit_bars,
    panel_points,
    point_rows,
    points,
    value_axis,
)
from bpexp.report.picture import Picture, end_handle, panels, seeds_note, wrapped
from bpexp.report.predicted import NOTE, Slope, draw_theory, predicted, slopes_sentence, theory_handle
from bpexp.report.selection import Key, Setting, Study, idle, one_of_each

__all__ = ["DECADES", "STEADY", "decade_points", "decades", "expected"]

SLOPE = "delta_decades_per_layer"
STEADY = 0.01  # decades per layer: less than 2.4 % a layer, a factor of 10 over 100 layers
DECADES = Measure(SLOPE, "decades lost per layer", "decades per layer", words.number)
CONTINUED = ("depth", "width", "init.sigma_w2", "init.sigma_b2")  # keys of a net alone: between its values theory's curve goes on
PLACES = 33  # at which such a curve is asked for


def decades(study: Study) -> Picture:
    """Decades that the untrained net's gradient loses per layer, over the depth or whatever else was swept."""
    some, ignored = decade_points(study)
    keys = sorted(drawn_keys(study, some), key=lambda key: (not key.ordered, key.name != "depth"))
    x, rest = keys[0], keys[1:]
    colour = max(rest, key=lambda key: len(key.levels), default=None)
    chosen, notes = panel_points(some, [x, colour])
    colours = Colours.of(colour)
    figure, axes = panels(len(chosen), 2.4, sharex=True, sharey=True)
    fit_bars(figure, axes, x)
    theory = False
    for ax, (name, group) in zip(axes, chosen, strict=True):
        ax.set_title(wrapped(name))
        split = [(value, [point for point in group if point.setting[colour] == value]) for value in colours.values]  # noqa: PD011 (no frame's)
        series = [(colours.name(value), colours[value], part) for value, part in split if part]
        draw_series(ax, x, series)
        theory |= theory_beside(ax, study, x, series)
    value_axis(axes, x, DECADES)
    ends = [end_handle()] if any(point.diverged for point in some) else []
    colours.explain(figure, axes, [*([theory_handle()] if theory else []), *ends])
    notes.append("Minus the least-squares slope of log10 ‖δ‖ towards the input, over the hidden layers 2 … L − 1, before any update.")
    notes += [f"{NOTE}, fitted in the same way."] if theory else []
    notes += [f"The same for every {key.words}: it acts after step 0." for key in ignored]
    if missing := len(study.settings) - len(points(study, DECADES)):
        notes.append(f"{words.count(missing, 'setting')} left out: fewer than three hidden layers to fit a line to, or a norm that is exactly zero.")
    numbers = stacked([point_rows(study, some, SLOPE, ignored), _theory_rows(study, some, ignored)])
    return Picture(figure, _decades_sentence(study, some, ignored), (*notes, *seeds_note(study, "Points")), numbers=numbers)


def decade_points(study: Study) -> tuple[list[Point], list[Key]]:
    """The points of that picture, and the keys that make no difference to it."""
    some = {point.setting: point for point in points(study, DECADES)}
    ignored = idle(study.swept, {setting: point.mean for setting, point in some.items()})
    return [some[setting] for setting in one_of_each(some, ignored)], ignored


def _decades_sentence(study: Study, some: Sequence[Point], ignored: Sequence[Key]) -> str:
    ends = [max(some, key=lambda p: p.mean), min(some, key=lambda p: p.mean)]
    ways = ["neither vanishes nor explodes" if abs(p.mean) < STEADY else "vanishes" if p.mean > 0 else "explodes" for p in ends]
    rates = [
        f"{words.number(abs(p.mean))} decades per layer (a factor of {words.number(10.0 ** abs(p.mean))}) with {p.setting.text(without=ignored)}"
        for p in ends
    ]
    theory = slopes_sentence(
        {point.setting: Slope.of(study.numbers(point.setting, SLOPE), expected(study, point.setting)) for point in ends}, ignored
    )
    if ways[0] == ways[1]:
        return f"On its way back through the untrained net the gradient {ways[0]}: between {rates[0]} and {rates[1]}.{theory}"
    return f"On its way back through the untrained net the gradient {ways[0]}, {rates[0]}, and {ways[1]}, {rates[1]}.{theory}"


# ---------------------------------------------------------------------------------------------- theory


def expected(study: Study, setting: Setting, changes: Mapping[str, float] | None = None) -> float | None:
    """The same number by theory; None where it has none."""
    found = predicted(study, setting, changes)
    return None if found is None else found.delta_decades_per_layer


def _theory_rows(study: Study, some: Sequence[Point], ignored: Sequence[Key]) -> pd.DataFrame:
    """Theory's number for each point of which it has one."""
    known = [(point.setting, value) for point in some if (value := expected(study, point.setting)) is not None]
    return pd.DataFrame([of_setting(setting, ignored) | {"quantity": f"theory_{SLOPE}", "mean": value} for setting, value in known])


def theory_beside(ax: Axes, study: Study, key: Key, series: Sequence[Series]) -> bool:
    """Theory's curve over a key of numbers, its mark at each bar over a key of names; whether it has any."""
    drawn = [_curve(ax, study, key, some) if key.ordered else _marks(ax, study, key, index, series) for index, (_, _, some) in enumerate(series)]
    return any(drawn)


def _curve(ax: Axes, study: Study, key: Key, some: Sequence[Point]) -> bool:
    x = [float(point.setting[key]) for point in some]
    if key.name not in CONTINUED or len(x) < 2:
        return draw_theory(ax, x, _known(expected(study, point.setting) for point in some))
    places = _between(key, x)
    first = some[0].setting
    return draw_theory(ax, places, _known(expected(study, first, {key.name: place}) for place in places))


def _between(key: Key, x: Sequence[float]) -> list[float]:
    """Places for a smooth curve, those of the points among them; whole numbers for a key that counts."""
    grid = (np.geomspace if key.log else np.linspace)(min(x), max(x), PLACES)
    counts = all(isinstance(value, int) for value in key.levels)
    return sorted({float(round(place)) if counts else float(place) for place in grid} | set(x))


def _known(found: Iterable[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in found]


def _marks(ax: Axes, study: Study, key: Key, index: int, series: Sequence[Series]) -> bool:
    """Across each bar of a series."""
    half, drawn = bar_thickness(series) / 2, False
    for point in series[index][2]:
        value, place = expected(study, point.setting), bar_place(key, point, index, series)
        drawn |= value is not None and draw_theory(ax, [value, value], [place - half, place + half])
    return drawn
