"""The plane of two keys: its colours, its border, theory's line and what is marked, against the records and the theory themselves."""

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.contour import QuadContourSet
from matplotlib.patches import Rectangle

from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import Float64s
from bpexp.report.phases import gradient_phases, has_outcome_plane, has_phases, outcome_map
from bpexp.report.picture import Picture, cell_edges, style
from bpexp.report.selection import Study
from bpexp.theory.mean_field import critical_line
from tests.report.studies import configs, records, runs_of, study, with_runs

GAUSSIAN: dict[str, Any] = {"init__name": "gaussian", "activation": "tanh"}
VARIANCES, DEPTHS = [0.5, 1.0, 3.0], [6, 8, 12]


def mesh(ax: Axes) -> QuadMesh:
    (found,) = [each for each in ax.collections if isinstance(each, QuadMesh)]
    return found


def values(ax: Axes) -> Float64s:
    return np.ma.asarray(mesh(ax).get_array()).filled(np.nan)


def contours(ax: Axes) -> list[QuadContourSet]:
    return [each for each in ax.collections if isinstance(each, QuadContourSet)]


@pytest.fixture(scope="module")
def plane() -> Study:
    return Study(runs_of(configs(**GAUSSIAN, depth=DEPTHS, init__sigma_w2=VARIANCES, width=20)))


@pytest.fixture(scope="module")
def phases(plane: Study) -> Picture:
    with style():
        return gradient_phases(plane)


def slopes() -> Float64s:
    wanted = configs(**GAUSSIAN, depth=DEPTHS, init__sigma_w2=VARIANCES, width=20)
    return np.array([records(config).delta_decades_per_layer for config in wanted], np.float64).reshape(3, 3)


def test_colours_are_the_records_slopes_variances_along_x_depths_along_y(phases: Picture) -> None:
    ax = phases.figure.axes[0]
    np.testing.assert_allclose(values(ax), slopes())
    assert (phases.figure.get_supxlabel(), phases.figure.get_supylabel()) == (r"weight variance $\sigma_w^2$", "depth $L$")
    low, high = mesh(ax).get_clim()
    assert -low == high == abs(slopes()).max()  # white is 0
    assert phases.numbers is not None
    np.testing.assert_allclose(phases.numbers["decades_per_layer"], slopes().ravel())


def test_the_border_is_where_the_measured_slope_is_zero(phases: Picture) -> None:
    (found,) = contours(phases.figure.axes[0])
    (path,) = found.get_paths()
    corners = np.asarray(path.vertices)
    for row, depth in enumerate(DEPTHS):
        expected = np.interp(0.0, slopes()[row][::-1], VARIANCES[::-1])  # slopes fall as variances rise
        assert corners[np.isclose(corners[:, 1], depth)][:, 0] == pytest.approx(expected)


def test_theorys_line_is_the_critical_one(phases: Picture) -> None:
    (line,) = [each for each in phases.figure.axes[0].get_lines() if each.get_label() == "theory"]
    critical = critical_line(ACTIVATIONS["tanh"], 0.0)
    assert np.unique(np.asarray(line.get_xdata(), float)) == pytest.approx(critical)


def test_over_both_variances_theorys_line_is_a_curve() -> None:
    some = study(**GAUSSIAN, depth=6, bias=True, init__sigma_w2=[0.5, 1.5, 4.0], init__sigma_b2=[0.0, 0.1, 0.3])
    with style():
        ax = gradient_phases(some).figure.axes[0]
    (line,) = [each for each in ax.get_lines() if each.get_label() == "theory"]
    x, y = np.asarray(line.get_data(), float)
    known = np.flatnonzero(np.isfinite(x) & (y > 0))[::10]
    assert len(known) >= 3
    assert x[known] == pytest.approx([critical_line(ACTIVATIONS["tanh"], float(b)) for b in y[known]])


def test_no_line_where_theory_knows_none() -> None:
    some = study(**GAUSSIAN, depth=[6, 8, 12], init__sigma_w2=VARIANCES, norm="batch")
    with style():
        ax = gradient_phases(some).figure.axes[0]
    assert not [each for each in ax.get_lines() if each.get_label() == "theory"]


def test_the_sentence_counts_signs_and_finds_the_border_of_the_last_row(plane: Study) -> None:
    some = with_runs(plane, "delta_decades_per_layer", [0.2, 0.1, -0.2, 0.2, 0.001, -0.2, 0.2, 0.1, -0.3])
    with style():
        told = gradient_phases(some).sentence
    assert told == (
        "The untrained net's gradient vanishes in 5 of 9 settings and explodes in 3; in 1 it does neither (less than 0.01 decades per layer)."
        " With L = 12 the border lies between σw² = 1 and σw² = 3."
    )


def test_diverged_cells_are_hatched_and_stuck_ones_dotted(plane: Study) -> None:
    outcomes = ["trained"] * 9
    outcomes[2], outcomes[3] = "diverged", "stuck"
    with style():
        ax = gradient_phases(with_runs(plane, "outcome", outcomes)).figure.axes[0]
    (hatched,) = [patch for patch in ax.patches if isinstance(patch, Rectangle) and patch.get_hatch()]
    assert hatched.get_x() < VARIANCES[2] < hatched.get_x() + hatched.get_width()
    assert hatched.get_y() < DEPTHS[0] < hatched.get_y() + hatched.get_height()
    (dots,) = [line for line in ax.get_lines() if line.get_label() == "stuck"]
    assert np.asarray(dots.get_data(), float).T.tolist() == [[VARIANCES[0], DEPTHS[1]]]


def test_a_learning_rate_makes_no_phases_but_a_map_of_outcomes() -> None:
    some = study(depth=6, lr=[0.1, 1.0, 10.0], batch_size=[4, 8, 16], seed=[0, 1, 2])
    assert not has_phases(some)
    assert has_outcome_plane(some)
    outcomes = (["trained", "stuck", "diverged"] + ["trained"] * 3) * 4 + ["stuck"] * 3
    with style():
        picture = outcome_map(with_runs(some, "outcome", outcomes))
    found = values(picture.figure.axes[0])
    assert sorted(found.ravel()) == pytest.approx([0.0] + [1 / 3] * 4 + [1.0] * 4)
    assert picture.sentence == ("In 4 of 9 settings every run leaves the plateau of a constant output, in 4 some do; in 4 a run diverges.")


def test_without_seeds_the_map_of_outcomes_shows_losses_and_leaves_out_what_diverged() -> None:
    wanted = configs(activation="linear", output="linear", depth=3, lr=[0.001, 0.01, 1e6], batch_size=[4, 8, 16])
    with style():
        found = values(outcome_map(Study(runs_of(wanted))).figure.axes[0])
    losses = {(config.batch_size, config.lr): records(config) for config in wanted}
    expected = {key: np.nan if left.outcome == "diverged" else left.summary["final_loss"] for key, left in losses.items()}
    assert np.isnan([loss for (_, lr), loss in expected.items() if lr == 1e6]).all()
    table = np.array([[expected[size, lr] for lr in (0.001, 0.01, 1e6)] for size in (4, 8, 16)])
    assert any(found.shape == each.shape and np.allclose(found, each, equal_nan=True) for each in (table, table.T))


@pytest.mark.parametrize(
    "axes", [{"depth": [6, 8, 12]}, {"depth": [6, 8, 12], "width": [4, 5]}, {"depth": [6, 8, 12], "activation": ["tanh", "relu"]}]
)
def test_fewer_than_three_values_make_no_plane(axes: dict[str, Any]) -> None:
    some = study(**axes)
    assert not has_phases(some)
    assert not has_outcome_plane(some)


def test_edges_lie_midway_on_the_axis_that_shows_them() -> None:
    assert cell_edges(np.array([1.0, 3.0, 7.0])).tolist() == [0.0, 2.0, 5.0, 9.0]
    assert cell_edges(np.array([1.0, 100.0]), log=True) == pytest.approx([0.1, 10.0, 1000.0])
