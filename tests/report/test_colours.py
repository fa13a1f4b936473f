"""What is written on a colour can be read."""

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb

from bpexp.report.colours import DARK, LIGHT, ink
from bpexp.report.over_settings import accuracy
from bpexp.report.phases import outcome_map
from bpexp.report.picture import style
from tests.report.studies import study


def luminance(colour: object) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]  # type: ignore[arg-type]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: object, other: object) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("name", ["viridis", "viridis_r", "cividis", "PuOr"])
def test_ink_is_what_has_more_contrast(name: str) -> None:
    colours = [tuple(colour[:3]) for colour in colormaps[name](np.linspace(0.0, 1.0, 256))]
    for colour in colours:
        assert contrast(ink(colour), colour) == pytest.approx(max(contrast(DARK, colour), contrast(LIGHT, colour)), rel=0.01)
    assert {ink(colour) for colour in colours} == {DARK, LIGHT}


def test_numbers_in_cells_are_written_in_it() -> None:
    some = study(depth=[2, 3, 5], lr=[0.1, 1.0, 10.0])
    with style():
        for draw in (accuracy, outcome_map):
            ax = draw(some).figure.axes[0]
            painted = [*ax.images, *ax.collections][0]
            colours = painted.to_rgba(np.ma.asarray(painted.get_array())).reshape(-1, 4)
            assert len(ax.texts) == len(colours) == 9
            assert sorted(text.get_color() for text in ax.texts) == sorted(ink(tuple(colour)) for colour in colours)
