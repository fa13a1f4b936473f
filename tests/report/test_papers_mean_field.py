"""The data of the figures of untrained nets: points, theory's lines, levels."""

from math import log10
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from bpexp.config import RunConfig
from bpexp.core.activations import ACTIVATIONS
from bpexp.measures import MEASURED, Cell
from bpexp.measures.signal import forward
from bpexp.prediction import predict
from bpexp.report.papers import FIGURES
from bpexp.report.picture import Picture
from bpexp.report.selection import Study
from bpexp.theory.mean_field import decades_per_layer
from tests.report.studies import configs, runs_of

UNTRAINED = {"steps": 0, "batch_size": "full", "data__test_fraction": 0.0, "init__name": "gaussian"}


def study(*grids: dict[str, Any]) -> Study:
    """Untrained nets of several grids."""
    wanted: list[RunConfig] = [config for grid in grids for config in configs(**UNTRAINED | grid)]
    return Study(runs_of(wanted))


def cell(found: Study, **values: Any) -> Cell:
    return Cell.of(found.runs).where({name.replace("__", "."): value for name, value in values.items()})


def lines(ax: Axes, label: str) -> list[np.ndarray]:
    """(x, y) of each line of this name."""
    return [np.array(line.get_data(), float) for line in ax.lines if line.get_label() == label]


def levels(ax: Axes) -> list[float]:
    """Where horizontal lines lie."""
    heights = [np.array(line.get_data(), float)[1] for line in ax.lines]
    return [float(y[0]) for y in heights if len(y) == 2 and y[0] == y[1]]


def names(picture: Picture) -> list[str]:
    (legend,) = picture.figure.legends
    return [text.get_text() for text in legend.get_texts()]


# ---------------------------------------------------------------------------------------------- slopes


GAUSSIAN = {"depth": 14, "width": 20, "init__sigma_w2": [1.0, 2.0], "seed": [0, 1]}


def test_slopes_stand_over_their_variance_beside_theorys_curve() -> None:
    some = study(GAUSSIAN, {"depth": 14, "width": 20, "init__name": "xavier", "seed": [0, 1]}, {"depth": 14, "width": 30, "init__sigma_w2": 1.0})
    picture = FIGURES["slopes_over_variance"](some)
    left, middle, right = picture.figure.axes
    ((x, y),) = lines(left, "Gaussian, $N$ = 20")
    assert x.tolist() == [1.0, 2.0]
    for variance, height in zip(x, y, strict=True):
        measured = MEASURED["decades_per_layer"](cell(some, init__sigma_w2=variance, width=20), first=5, last=9)
        assert height == pytest.approx(measured.value)
        theory = decades_per_layer(ACTIVATIONS["sigmoid"], float(variance), 0.0)
        (_, off), *_ = [np.array(bars[0].get_data()) for bars in middle.containers if bars.get_label() == "Gaussian, $N$ = 20"]
        assert off[x.tolist().index(variance)] == pytest.approx(100.0 * (measured.value / theory - 1.0))
    ((x, _),) = lines(left, "uniform, $N$ = 20")
    assert x.tolist() == [1.0]
    assert len(lines(left, "Gaussian, $N$ = 30")) == 1
    ((x, y),) = lines(left, "theory")
    assert y[10] == pytest.approx(decades_per_layer(ACTIVATIONS["sigmoid"], float(x[10]), 0.0))
    assert x[0] < 1.0
    assert x[-1] > 2.0
    assert len(lines(right, "theory")) == 2  # the narrowest Gaussian nets alone
    assert names(picture) == ["Gaussian, $N$ = 20", "Gaussian, $N$ = 30", "uniform, $N$ = 20", "theory"]
    assert f"{decades_per_layer(ACTIVATIONS['sigmoid'], 2.0, 0.0):.4f}" in picture.sentence


def test_other_activations_and_biases_are_left_out_of_the_slopes() -> None:
    plain, more = study(GAUSSIAN), study(GAUSSIAN, {"depth": 14, "width": 20, "activation": "tanh", "init__sigma_w2": 1.0}, GAUSSIAN | {"bias": True})
    ((_, y),), ((_, other),) = (lines(FIGURES["slopes_over_variance"](it).figure.axes[0], "Gaussian, $N$ = 20") for it in (plain, more))
    assert y.tolist() == other.tolist()


# ---------------------------------------------------------------------------------------------- gradients


def test_entries_of_the_gradient_are_drawn_with_theory_from_the_output_on() -> None:
    some = study({"depth": 90, "width": 12, "init__sigma_w2": [0.5, 1.0], "probes": [["sample_grad_norm"]]})
    picture = FIGURES["deep_gradients"](some)
    (ax,) = picture.figure.axes
    sizes = np.array([5, *[12] * 89, 3], float)
    root = 0.5 * np.log10(sizes[:-1] * sizes[1:])
    for place, variance in enumerate((0.5, 1.0)):
        ((x, y),) = lines(ax, f"entries {place}")
        run = cell(some, init__sigma_w2=variance)
        assert x.tolist() == list(range(1, 91))
        assert y == pytest.approx(run.profile("log10_sample_grad_norm") - root)
        found = predict(run.config)
        assert found is not None
        theory = lines(ax, "theory")[place][1]
        assert theory[-1] == pytest.approx(y[-1])
        assert np.diff(theory) == pytest.approx(np.diff(found.log10_grad - root))
    found_levels = sorted(levels(ax))
    tiny, least = float(np.finfo(np.float32).smallest_normal), float(np.finfo(np.float32).smallest_subnormal)
    assert found_levels == pytest.approx([log10(least / 2), log10(tiny), log10(least / 2) / 2])
    assert "subnormal from" in picture.sentence


# ---------------------------------------------------------------------------------------------- samples that become alike


def test_the_spread_ends_at_the_rounding_of_each_dtype() -> None:
    some = study({"depth": 50, "width": 40, "init__sigma_w2": 1.0, "dtype": ["float32", "float64"], "probes": [["spread"]]})
    picture = FIGURES["forward_collapse"](some)
    (ax,) = picture.figure.axes
    for place, dtype in enumerate(("float32", "float64")):
        ((x, y),) = lines(ax, dtype)
        spread = cell(some, dtype=dtype).profile("log10_spread")[: len(x)]
        assert y[np.isfinite(y)] == pytest.approx(spread[np.isfinite(spread)])
        found = forward(cell(some, dtype=dtype).config)
        assert found is not None
        theory = lines(ax, "theory")[place][1]
        known = np.isfinite(theory)
        assert theory[known] == pytest.approx(found.log10_spread[: len(theory)][known])
        level = float(np.finfo(dtype).eps) / 2.0
        floors = levels(ax)
        assert any(abs(floor - log10(level)) < 0.4 for floor in floors)  # of activations of about 1/2
        first = MEASURED["indistinct_from"](cell(some, dtype=dtype)).value
        assert f"layer {first:.0f} in {dtype}" in picture.sentence
    assert names(picture) == ["float32", "float64", "theory", "rounding of $a$", "exactly zero"]  # in so narrow a net samples end up the very same


# ---------------------------------------------------------------------------------------------- correlations


def test_q_and_c_are_drawn_with_theory_from_each_data_sets_start() -> None:
    tanh = {
        "activation": "tanh",
        "bias": True,
        "depth": 12,
        "width": 60,
        "init__sigma_b2": 0.09,
        "init__sigma_w2": [1.69, 6.25],
        "probes": [["q", "c"]],
    }
    some = study(tanh | {"seed": [0, 1]})
    picture = FIGURES["correlations"](some)
    left, right = picture.figure.axes
    for ax, column in ((left, "q"), (right, "c")):
        points, theory = lines(ax, "synthetic"), lines(ax, "theory")
        assert len(points) == len(theory) == 2
        for place, variance in enumerate((1.69, 6.25)):
            runs = cell(some, init__sigma_w2=variance)
            means = np.mean([run.profile(column) for run in runs.one_by_one()], axis=0)
            assert points[place][1] == pytest.approx(means[:-1])
            found = forward(runs.config)
            assert found is not None
            assert theory[place][1] == pytest.approx(getattr(found, column)[:-1])
    assert sorted(levels(right)) == pytest.approx([0.1221, 1.0], abs=1e-4)
    assert "(theory 0.6070 and 1.0000)" in picture.sentence
    assert "(theory 4.0791 and 0.1221)" in picture.sentence


@pytest.mark.parametrize("name", ["slopes_over_variance", "deep_gradients", "forward_collapse", "correlations", "paths_against_backprop"])
def test_every_figure_can_be_drawn(name: str) -> None:
    probes = [["spread", "sample_grad_norm", "q", "c"]]
    picture = FIGURES[name](study({"depth": 16, "width": 8, "init__sigma_w2": [1.0, 2.0], "probes": probes}))
    picture.figure.canvas.draw()
    assert picture.sentence.endswith(".")
    assert all(note.endswith(".") for note in picture.notes)
