"""Figures of the activations: images against NumPy's histograms, titles and sentences against the probe `saturated`."""

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from bpexp.core.activations import ACTIVATIONS
from bpexp.core.histograms import BINS
from bpexp.core.records import Records
from bpexp.report.activations import saturated_from
from bpexp.report.selection import Study
from tests.report.studies import configs, records, runs_of, study, with_layers
from tests.report.test_figures import applying, image_of, legend_of, lines, picture, titles, y_of


def images(some: Study) -> list[Axes]:
    return [ax for ax in picture(some, "activation_histograms").figure.axes if ax.get_images()]


def counts(found: Records, step: int) -> Any:
    """(bins, layers)"""
    return found.histograms["count"][found.histograms["step"] == step].reshape(-1, BINS).T


def test_bounded_activations_are_shares_of_their_bins() -> None:
    wanted = configs(depth=[3, 6], probes=[["histogram"]])
    axes = images(Study(runs_of(wanted)))
    assert len(axes) == 4
    for ax, (config, step) in zip(axes, [(config, step) for config in wanted for step in (0, 12)], strict=True):
        expected = counts(records(config), step)
        np.testing.assert_allclose(image_of(ax), expected / expected.sum(axis=0), atol=1e-12)
        assert tuple(ax.get_images()[0].get_extent()) == (0.5, config.depth - 0.5, 0.0, 1.0)
        assert [y_of(mark)[0] for mark in lines(ax, "saturated")] == pytest.approx([0.0127, 0.9873], abs=1e-4)
        assert ax.get_images()[0].origin == "lower"


def test_unbounded_activations_are_measured_by_the_largest_of_their_layer() -> None:
    (config,) = configs(depth=4, activation="linear", output="linear", lr=0.01, probes=[["histogram"]])
    ax = images(Study(runs_of([config])))[0]
    told = records(config).histograms
    assert tuple(ax.get_images()[0].get_extent())[2:] == (-1.0, 1.0)
    for layer in (1, 2, 3):
        here = (told["step"] == 0) & (told["layer"] == layer)
        middles, weights = (told["left"] + told["right"])[here] / 2, told["count"][here]
        largest = max(abs(told["left"][here][0]), abs(told["right"][here][-1]))
        cells = image_of(ax)[:, layer - 1]
        assert cells.sum() == pytest.approx(1.0)
        mean = float((np.linspace(-1, 1, BINS + 1)[:-1] + 1 / BINS) @ cells)
        assert mean == pytest.approx(float(np.average(middles, weights=weights)) / largest, abs=1e-2)
    assert "beyond: saturated" not in legend_of(ax.figure)  # type: ignore[arg-type]


def test_a_dead_layer_is_one_cell() -> None:
    (config,) = configs(depth=3, activation="relu", init__name="zeros", probes=[["histogram"]])
    cells = image_of(images(Study(runs_of([config])))[0])
    assert cells[0].tolist() == [1.0, 1.0]
    assert cells[1:].max() == 0.0


def test_the_titles_name_what_is_saturated() -> None:
    some = with_layers(
        study(depth=4, probes=[["histogram"]]), "saturated", lambda step, layer, depth: (layer / 10 if step else 0.0) + (layer == depth)
    )
    told = titles(picture(some, "activation_histograms").figure)
    assert told == ["$L$ = 4, step 0:\n0 % saturated", "$L$ = 4, step 12:\n20 % saturated"]  # the mean of 0.1, 0.2 and 0.3: hidden layers alone
    sentence = picture(some, "saturation").sentence
    assert sentence == "Of the hidden layers' activations are saturated: 0 % at step 0 and 20 % at step 12 (most in layer 3: 30 %)."


def test_the_spread_over_the_layers_is_told() -> None:
    some = with_layers(
        study(depth=[4, 6], probes=[["histogram"]]), "activation_std", lambda _step, layer, depth: 10.0 ** (-layer if depth == 6 else 0)
    )
    told = picture(some, "activation_histograms").sentence
    assert "the standard deviation of the activations at step 0 falls by 4.0 decades with L = 6 and stays about the same with L = 4." in told


def test_figures_are_there_for_those_who_have_something_to_show() -> None:
    assert "activation_histograms" not in applying(study(depth=3))
    assert "saturation" not in applying(with_layers(study(depth=3), "saturated", lambda *_: 0.0))
    assert "saturation" not in applying(study(depth=1, activation="relu"))
    assert "saturation" in applying(study(depth=3, activation="relu"))


@pytest.mark.parametrize(("name", "z"), [("sigmoid", 4.357), ("tanh", 2.178), ("erf", 1.731)])
def test_lines_stand_where_the_slope_is_a_twentieth_of_the_steepest(name: str, z: float) -> None:
    phi = ACTIVATIONS[name]
    at, a = np.array([-z, z]), np.empty(2)
    phi.function(at, a)
    assert saturated_from(phi) == pytest.approx(tuple(a), abs=1e-3)
