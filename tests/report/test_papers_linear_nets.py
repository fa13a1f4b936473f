"""Figures of deep linear nets: their lines and images are the runs' numbers and theory's."""

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh

from bpexp.measures import MEASURED, PREDICTED, Cell
from bpexp.measures.dynamics import mode_strengths
from bpexp.report.papers import FIGURES
from bpexp.report.papers.linear_nets import _edges
from bpexp.report.selection import Study
from bpexp.theory import linear
from tests.measures.test_dynamics import MODES, falls_at, planted
from tests.measures.test_learning_rates import ORTHOGONAL
from tests.report.studies import configs, runs_of


def lines(ax: Axes, label: str) -> list[Any]:
    return [line for line in ax.lines if line.get_label() == label]


def test_modes_are_drawn_over_depth_times_t_with_theory_on_them() -> None:
    axes = MODES | {"steps": 400, "data__strength": [1.0, 2.0]}
    wanted = [c for depth in (2, 6) for c in configs(**axes, depth=depth, lr=0.02 / depth, init__gain=0.3 ** (1 / depth))]
    study = Study(runs_of(wanted))
    picture = FIGURES["modes"](study)
    left, right = picture.figure.axes
    for run in Cell.of(study.runs).where({"data.strength": 2.0}).one_by_one():
        depth = run.config.depth
        (line,) = lines(left, f"D = {depth}")
        times, strengths = mode_strengths(run)
        np.testing.assert_allclose(np.asarray(line.get_xdata(), float), depth * times)
        np.testing.assert_allclose(np.asarray(line.get_ydata(), float), strengths)
    dashed = [line for line in left.lines if not str(line.get_label()).startswith("D =")]
    assert len(dashed) == 2
    x, y = np.asarray(dashed[1].get_xdata()), np.asarray(dashed[1].get_ydata())
    np.testing.assert_allclose(y, linear.mode_strength(x / 6, 6, 2.0, 0.3), rtol=1e-6)
    for strength in (1.0, 2.0):
        (points,) = lines(right, f"s = {strength:g}")
        cells = [cell for _, cell in Cell.of(study.runs).where({"data.strength": strength}).each(["depth"])]
        np.testing.assert_allclose(np.asarray(points.get_ydata(), float), [MEASURED["learning_time"](cell, per_layer=True).value for cell in cells])
    worst = MEASURED["learning_time_error"](Cell.of(study.runs)).value
    assert f"{100 * worst:.2g} % off" in picture.sentence


def test_steps_and_rates_of_the_seeds_are_dots_and_their_means_lines() -> None:
    runs = runs_of(configs(depth=[2, 4], lr=[0.1, 0.2], seed=[0, 1], init__name=["orthogonal", "gaussian"], steps=30))
    cell = planted(runs, falls_at(lambda c: np.inf if c.init.name == "gaussian" and c.depth == 4 else c.depth + c.seed + (c.lr > 0.15)))
    picture = FIGURES["steps_over_depth"](Study(cell.study))
    left, right = picture.figure.axes
    (line,) = lines(left, "orthogonal")
    late = 4  # the mean of 5 batches is below 0.3 with the fourth low one of them
    by_hand = [np.exp(np.mean(np.log([max(late, depth + seed + 3) for seed in (0, 1)]))) for depth in (2, 4)]
    np.testing.assert_allclose(np.asarray(line.get_ydata(), float), by_hand)
    (line,) = lines(left, "Gaussian")
    assert list(line.get_ydata())[1] == pytest.approx(30.0)  # none got there
    (line,) = lines(right, "Gaussian")
    np.testing.assert_allclose(np.asarray(line.get_xdata(), float), [2.0])
    np.testing.assert_allclose(np.asarray(line.get_ydata(), float), [0.1])
    assert "to 30 with Gaussian weights" in picture.sentence


def test_losses_over_depth_and_rate_are_an_image_with_the_law_on_it() -> None:
    rates = [0.1, 0.2, 0.4, 0.8, 1.6]
    modes = configs(**MODES, depth=[2, 4], lr=rates, steps=14, init__gain=0.7)
    study = Study(runs_of([*modes, *configs(**ORTHOGONAL | {"steps": 14}, depth=[2, 4], lr=[0.1, 0.4, 1.6], seed=[0, 1])]))
    picture = FIGURES["rates_over_depth"](study)
    ax = picture.figure.axes[0]
    (mesh,) = [found for found in ax.collections if isinstance(found, QuadMesh)]
    image: Any = np.ma.asarray(mesh.get_array()).reshape(len(rates), 2)
    cell = Cell.of(study.runs).where({"data": "linear"})
    for row, lr in enumerate(rates):
        for column, depth in enumerate((2, 4)):
            loss = cell.where({"lr": lr, "depth": depth}).curves["loss_train"].to_numpy(float)
            if np.isfinite(loss).all():
                assert image[row, column] == pytest.approx(np.log10(loss[-1] / loss[0]))
    (law,) = lines(ax, "2/λ")
    np.testing.assert_allclose(np.asarray(law.get_ydata(), float), [PREDICTED["largest_lr"](part) for _, part in cell.each(["depth"])])
    np.testing.assert_allclose(np.asarray(law.get_ydata(), float), [1.0, 0.5])
    (edge,) = lines(ax, "edge")
    np.testing.assert_allclose(
        np.asarray(edge.get_ydata(), float), [MEASURED["largest_lr"](part, share=0.01).value for _, part in cell.each(["depth"])]
    )
    (best,) = lines(ax, "best")
    np.testing.assert_allclose(np.asarray(best.get_ydata(), float), [MEASURED["best_lr"](part, after=12).value for _, part in cell.each(["depth"])])


def test_cells_end_half_way_to_their_neighbours() -> None:
    np.testing.assert_allclose(_edges([2, 4, 8]), [2 / np.sqrt(2), 2 * np.sqrt(2), 4 * np.sqrt(2), 8 * np.sqrt(2)])
    assert len(_edges([3.0])) == 2
