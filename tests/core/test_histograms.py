"""Histograms against NumPy's, of activations that were computed a second time; and where there is nothing to count."""

from dataclasses import replace

import numpy as np
import pytest

from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import Array
from bpexp.core.histograms import BINS, MOST_STEPS, histogram
from bpexp.core.records import Columns
from tests.core.looks import Case, observe
from tests.core.nets import DTYPES, HIDDEN, architecture, draw, make_task, train


def rows(found: Columns, step: int, layer: int) -> Columns:
    here = (found["step"] == step) & (found["layer"] == layer)
    return {name: column[here] for name, column in found.items()}


@pytest.mark.parametrize("hidden", ["sigmoid", "tanh", "relu", "linear", "gelu"])
def test_counts_are_numpys_of_the_activations(hidden: str) -> None:
    case = Case(architecture([6, 9, 8, 7, 4], hidden, "sigmoid", bias=True), "squared_error", 24, 2, seed=3)
    at = (0, 1, 2, 4, 6, 7)
    records, seen = observe(case, 7, ["histogram"], at)
    for run in range(case.runs):
        told = records[run].histograms
        assert list(told) == ["step", "layer", "bin", "left", "right", "count"]
        assert np.unique(told["step"]).tolist() == [0, 1, 2, 6, 7]  # five of the six, the ends among them
        assert np.unique(told["layer"]).tolist() == [1, 2, 3]  # the output layer is none
        for step in (0, 2, 7):
            _, a = seen[step][run].neurons()
            for layer in (1, 2, 3):
                low, high = case.net.activation.range
                counts, edges = np.histogram(a[layer], BINS, (low, high) if np.isfinite([low, high]).all() else None)
                found = rows(told, step, layer)
                np.testing.assert_array_equal(found["bin"], np.arange(1, BINS + 1))
                np.testing.assert_allclose(found["left"], edges[:-1], atol=1e-12)
                np.testing.assert_allclose(found["right"], edges[1:], atol=1e-12)
                np.testing.assert_array_equal(found["count"], counts)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_every_activation_is_counted(hidden: str, dtype: type) -> None:
    """Also those at the ends of the range, which a rounding may put outside it."""
    phi = ACTIVATIONS[hidden]
    z: Array = np.linspace(-60.0, 60.0, 999).astype(dtype)
    f = np.empty_like(z)
    phi.function(z, f)
    ends, counts = histogram(f, phi)
    assert counts.sum() == len(z)
    assert counts[0] > 0
    assert counts[-1] > 0
    if np.isfinite(phi.range).all():
        assert tuple(ends) == phi.range
    else:
        assert tuple(ends) == (f.min(), f.max())


def test_equal_activations_are_in_one_bin_without_width() -> None:
    ends, counts = histogram(np.zeros((5, 4), np.float32), ACTIVATIONS["relu"])
    assert ends.tolist() == [0.0, 0.0]
    assert counts.tolist() == [20] + [0] * (BINS - 1)
    ends, counts = histogram(np.full((5, 4), 0.5, np.float32), ACTIVATIONS["sigmoid"])
    assert ends.tolist() == [0.0, 1.0]
    assert counts[BINS // 2] == 20


def test_neighbours_on_the_axis_of_floats_are_told_apart() -> None:
    """Two numbers between which there is no room for a bin."""
    ends, counts = histogram(np.array([1.0, np.nextafter(1.0, 2.0)]), ACTIVATIONS["linear"])
    assert ends[0] < ends[1]
    assert (counts[0], counts[-1], counts.sum()) == (1, 1, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("hidden", ["sigmoid", "relu"])
def test_nothing_is_counted_where_something_is_not_finite(hidden: str, value: float) -> None:
    ends, counts = histogram(np.array([0.5, value]), ACTIVATIONS[hidden])
    assert np.isnan(ends).all()
    assert not counts.any()


def test_a_run_that_diverges_has_those_up_to_its_end() -> None:
    """Beside one that does not: looks are chosen before the training, one run's end changes none of the other's."""
    net = architecture([6, 5, 5, 4], "linear", "linear")
    task = replace(make_task(net, 40, 8, probes=list(range(41))), probes=("histogram",))
    calm, wild = train(task, draw(net, [1, 2]), [1e-3, 1e6], [3, 4])
    assert wild.diverged_at is not None
    assert wild.diverged_at < 10
    assert np.unique(calm.histograms["step"]).tolist() == [0, 10, 20, 30, 40]
    assert np.unique(wild.histograms["step"]).tolist() == [0]
    assert len(calm.histograms["count"]) == MOST_STEPS * 2 * BINS


def test_a_net_of_one_layer_has_columns_and_no_rows() -> None:
    net = architecture([6, 4])
    records = train(replace(make_task(net, 3, 8), probes=("histogram",)), draw(net, [1]), [0.1], [0])[0]
    assert {name: len(column) for name, column in records.histograms.items()} == dict.fromkeys(("step", "layer", "bin", "left", "right", "count"), 0)
