"""The data of the phase diagram: its colours, the crossings, theory's curve and the critical line."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import QuadMesh

from bpexp.core.activations import ACTIVATIONS
from bpexp.report.papers import FIGURES
from bpexp.report.picture import Picture
from bpexp.report.selection import Study
from bpexp.theory.mean_field import correlation_depth, critical_line
from tests.report.studies import study, with_runs

TANH: dict[str, Any] = {"activation": "tanh", "bias": True, "init__name": "gaussian", "init__sigma_b2": 0.05, "steps": 3}
DEPTHS, VARIANCES = [10, 20, 30], [1.0, 1.7, 3.0]
ACCURACIES = {1.0: [0.9, 0.7, 0.3], 1.7: [0.9, 0.8, 0.7], 3.0: [0.9, 0.4, 0.1]}


def diagram() -> tuple[Study, Picture]:
    """Tiny nets of two seeds with made-up accuracies."""
    some = study(**TANH, depth=DEPTHS, init__sigma_w2=VARIANCES, seed=[0, 1])
    frame = some.runs.runs
    columns = zip(frame["init.sigma_w2"], frame["depth"], frame["seed"], strict=True)
    made_up = [ACCURACIES[variance][DEPTHS.index(depth)] + (0.02 if seed else -0.02) for variance, depth, seed in columns]
    changed = with_runs(some, "final_accuracy_train", made_up)
    return changed, FIGURES["phase_diagram"](changed)


@pytest.fixture(scope="module")
def picture() -> Picture:
    return diagram()[1]


def test_each_column_is_the_accuracy_over_depth_and_columns_do_not_overlap(picture: Picture) -> None:
    ax = picture.figure.axes[0]
    meshes = ax.collections
    assert len(meshes) == len(VARIANCES)
    ends = []
    for mesh, variance in zip(meshes, VARIANCES, strict=True):
        assert np.asarray(mesh.get_array()).ravel() == pytest.approx(ACCURACIES[variance])
        assert isinstance(mesh, QuadMesh)
        corners = np.asarray(mesh.get_coordinates())
        assert np.unique(corners[..., 1]).tolist() == [5.0, 15.0, 25.0, 35.0]
        low, high = corners[..., 0].min(), corners[..., 0].max()
        assert low < variance < high
        ends.append((low, high))
    assert all(high < low for (_, high), (low, _) in pairwise(ends))


def test_crossings_and_theory_stand_where_they_belong(picture: Picture) -> None:
    lines = {line.get_label(): np.asarray(line.get_data(), float) for line in picture.figure.axes[0].lines}
    x, y = lines["crossing"]
    assert x.tolist() == [1.0, 3.0]  # at 1.7 all depths can be trained
    assert y == pytest.approx([25.0, 18.0])
    tanh = ACTIVATIONS["tanh"]
    x, y = lines["theory"]
    place = int(np.argmin(abs(x - 3.0)))
    assert y[place] == pytest.approx(6.0 * correlation_depth(tanh, float(x[place]), 0.05))
    border = critical_line(tanh, 0.05)
    assert border is not None
    assert np.isnan(y[np.argmin(abs(x - border))])  # it goes up for ever
    assert lines["critical"][0].tolist() == pytest.approx([border, border])


def test_the_sentence_tells_the_lengths_and_the_deepest(picture: Picture) -> None:
    tanh = ACTIVATIONS["tanh"]
    ratios = [25.0 / correlation_depth(tanh, 1.0, 0.05), 18.0 / correlation_depth(tanh, 3.0, 0.05)]
    assert picture.sentence.startswith(f"Nets learn down to {min(ratios):.1f} to {max(ratios):.1f} correlation lengths where")
    assert "deeper than any that was trained, at σw² = 1.7 (theory's critical point: 1.76)" in picture.sentence
    assert any("2 runs" in note for note in picture.notes)


def test_one_variance_that_trains_everywhere_makes_no_claim() -> None:
    some = study(**TANH, depth=[10, 20], init__sigma_w2=1.7)
    picture = FIGURES["phase_diagram"](with_runs(some, "final_accuracy_train", [0.9, 0.9]))
    assert picture.sentence == "No variance has depths on both sides of what can be trained."
