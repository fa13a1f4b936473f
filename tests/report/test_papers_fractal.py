"""The data of the pictures of learning rates: shades by rank, counts, frames, dimensions along the border."""

from typing import Any

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from bpexp.measures.boundary import box_counts, convergence, dimension
from bpexp.report.papers import FIGURES
from bpexp.report.papers.fractal import planes
from bpexp.report.picture import Picture
from bpexp.report.selection import Study
from tests.report.studies import configs, records, runs_of

NETS: dict[str, Any] = {"depth": 2, "output": "linear", "batch_size": "full"}


def rates(low: float, high: float, count: int) -> list[float]:
    return [float(x) for x in np.logspace(low, high, count)]


def small() -> Study:
    """A large plane, a piece of it, and smaller pieces of both activations: told apart by their steps and by gaps."""
    wanted = [
        *configs(**NETS, activation="tanh", steps=25, lr=rates(-2, 4, 13), output_lr=rates(-2, 4, 13)),
        *configs(**NETS, activation="tanh", steps=30, lr=rates(0, 2, 12), output_lr=rates(-0.5, 1.5, 12)),
        *configs(**NETS, activation="linear", steps=30, lr=rates(0, 1.8, 11), output_lr=rates(-1, 1, 11)),
        *configs(**NETS, activation="tanh", steps=22, lr=rates(-1, 1, 9), output_lr=rates(-1, 1.5, 9)),
        *configs(**NETS, activation="tanh", steps=22, lr=rates(3, 5, 9), output_lr=rates(-1, 1.5, 9)),
        *configs(**NETS, activation="linear", steps=22, lr=rates(-1, 1, 9), output_lr=rates(-1, 1.5, 9)),
    ]
    return Study(runs_of(wanted))


@pytest.fixture(scope="module")
def some() -> Study:
    return small()


@pytest.fixture(scope="module")
def picture(some: Study) -> Picture:
    return FIGURES["trainability_border"](some)


def test_planes_are_found_by_what_their_nets_share_and_by_gaps(some: Study) -> None:
    found = planes(some)
    assert [(plane.name, plane.values.shape) for plane in found] == [
        ("tanh", (13, 13)),
        ("tanh", (12, 12)),
        ("linear", (11, 11)),
        *[(plane.name, (9, 9)) for plane in found[3:]],
    ]
    assert sorted((plane.name, round(float(plane.x.mean()), 6)) for plane in found[3:]) == [("linear", 0.0), ("tanh", 0.0), ("tanh", 4.0)]


def test_shades_are_ranks_within_a_phase_dark_next_to_the_border(some: Study, picture: Picture) -> None:
    plane = planes(some)[0]
    shades = np.asarray(picture.figure.axes[0].images[0].get_array())
    configurations = configs(**NETS, activation="tanh", steps=25, lr=rates(-2, 4, 13), output_lr=rates(-2, 4, 13))
    losses = [records(config).curves["loss_train"] for config in configurations]
    padded = np.array([np.append(loss, [np.nan] * (26 - len(loss))) for loss in losses])
    values = convergence(padded).reshape(13, 13).T  # the output layer's rate upwards
    assert plane.values == pytest.approx(values)
    assert 0 < (values < 0).sum() < values.size
    assert np.array_equal(shades < 0.5, values < 0)
    slowest = {False: np.where(values < 0, values, np.inf).argmin(), True: np.where(values < 0, -np.inf, values).argmax()}
    assert shades.ravel()[slowest[False]] == pytest.approx(0.5, abs=1e-5)
    assert shades.ravel()[slowest[True]] == pytest.approx(0.5, abs=1e-5)


def test_the_piece_is_framed_in_the_plane_that_it_is_of(some: Study, picture: Picture) -> None:
    frames = [patch for patch in picture.figure.axes[0].patches if patch.get_label() == "frame"]
    assert len(frames) == 1
    left, right, bottom, top = planes(some)[1].box
    assert isinstance(frames[0], Rectangle)
    box = frames[0].get_bbox()
    assert (box.x0, box.x1, box.y0, box.y1) == pytest.approx((left, right, bottom, top))
    assert not any(patch.get_label() == "frame" for ax in picture.figure.axes[1:3] for patch in ax.patches)


def test_counts_and_dimensions_are_those_of_the_measure(some: Study, picture: Picture) -> None:
    found = planes(some)
    counts, along = picture.figure.axes[3:5]
    by_shape = {plane.values.shape: plane for plane in found[:3]}
    shown = sorted(by_shape.values(), key=lambda plane: -plane.span)
    for line, plane in zip(counts.lines, shown, strict=True):
        sizes = np.asarray(line.get_xdata(), int)
        assert np.asarray(line.get_ydata()) == pytest.approx(box_counts(plane.phases, sizes.tolist()))
        assert f"{dimension(plane.phases).value:.2f}" in str(line.get_label())
    lines = {line.get_label(): np.asarray(line.get_data(), float) for line in along.lines}
    for name, (x, y) in ((name, lines[name]) for name in ("tanh", "linear")):
        own = sorted((plane for plane in found[3:] if plane.name == name), key=lambda plane: plane.x[0])
        assert x == pytest.approx([plane.x.mean() for plane in own])
        assert y == pytest.approx([dimension(plane.phases).value for plane in own], nan_ok=True)


def test_one_piece_is_a_picture_and_its_counts() -> None:
    picture = FIGURES["trainability_border"](
        Study(runs_of(configs(**NETS, activation="tanh", steps=30, lr=rates(0, 2, 9), output_lr=rates(0, 2, 9))))
    )
    first, second, bar = picture.figure.axes
    assert len(first.images) == 1
    assert len(second.lines) == 1
    assert not bar.images
    assert "along the border" not in picture.sentence


def test_a_plane_with_a_gap_is_left_out() -> None:
    wanted = configs(**NETS, activation="tanh", steps=22, lr=rates(0, 2, 3), output_lr=rates(0, 2, 3))[1:]
    picture = FIGURES["trainability_border"](Study(runs_of(wanted)))
    assert picture.sentence == "No pairs of learning rates form a grid."
