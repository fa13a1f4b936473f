"""Figures of isometry: their lines are the runs' numbers and theory's."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bpexp.measures import Cell
from bpexp.measures.jacobian import predicted_variances
from bpexp.report.papers import FIGURES
from bpexp.report.selection import Study
from tests.measures.test_dynamics import planted
from tests.measures.test_jacobian import with_spectra
from tests.report.studies import configs, runs_of


@pytest.fixture(scope="module")
def spectra() -> Study:
    parts = [with_spectra(depth=[3, 6], seed=[0, 1], init__name=name) for name in ("orthogonal", "gaussian")]
    runs: list[pd.DataFrame] = []
    curves: list[pd.DataFrame] = []
    layers: list[pd.DataFrame] = []
    values: list[pd.DataFrame] = []
    for number, part in enumerate(parts):
        for frames, frame in ((runs, part.runs), (curves, part.curves), (layers, part.layers), (values, part.spectra)):
            frames.append(frame.assign(run_id=[f"{number}{name}" for name in frame["run_id"]]))
    joined = [pd.concat(frames, ignore_index=True) for frames in (runs, curves, layers, values)]
    return Study(replace(parts[0], runs=joined[0], curves=joined[1], layers=joined[2], spectra=joined[3]))


def test_singular_values_are_drawn_as_their_distribution(spectra: Study) -> None:
    picture = FIGURES["singular_values"](spectra)
    assert [ax.get_title() for ax in picture.figure.axes] == ["tanh, orthogonal", "tanh, Gaussian"]
    ax = picture.figure.axes[1]
    for hidden in (2, 5):
        cell = Cell.of(spectra.runs).where({"depth": hidden + 1, "init": "gaussian"})
        expected = cell.spectra.query(f"layer == {hidden}")["log10_singular_value"].to_numpy()
        (line,) = [found for found in ax.lines if found.get_label() == f"{hidden} layers"]
        np.testing.assert_allclose(np.asarray(line.get_xdata(), float), np.sort(expected))
        share = np.asarray(line.get_ydata())
        assert share[-1] == 1.0
        assert len(share) == len(expected) == 2 * 4 * 12  # nets, samples, values
    near = np.abs(expected - 0.5 * np.log10(np.mean(10 ** (2 * expected)))) < np.log10(3)
    assert f"{100 * near.mean():.1f}".rstrip("0").rstrip(".") in picture.sentence


def test_variances_are_means_over_the_deepest_nets_beside_theorys_sums(spectra: Study) -> None:
    picture = FIGURES["singular_variances"](spectra)
    (ax,) = picture.figure.axes
    for name, init in (("tanh, orthogonal", "orthogonal"), ("tanh, Gaussian", "gaussian")):
        cell = Cell.of(spectra.runs).where({"depth": 6, "init": init})
        (line,) = [found for found in ax.lines if found.get_label() == name]
        means = cell.layers.groupby("layer")["jacobian_variance"].mean().to_numpy()[:5]
        np.testing.assert_allclose(np.asarray(line.get_ydata(), float), means)
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 6))
        drawn = [np.asarray(found.get_ydata(), float) for found in ax.lines]
        theory = predicted_variances(cell)
        assert any(len(values) == 5 and np.allclose(values, theory) for values in drawn)


def test_losses_are_those_at_the_rate_that_is_fastest_or_ends_lowest() -> None:
    runs = runs_of(configs(activation="tanh", init__name=["orthogonal", "gaussian"], lr=[0.1, 0.2], seed=[0, 1], steps=40))

    def loss(config: object, step: int) -> float:
        fast = config.lr == 0.2  # type: ignore[attr-defined]
        if config.init.name == "gaussian":  # type: ignore[attr-defined]
            return 1.0
        return 0.0 if step >= (10 if fast else 20) else 1.0

    cell = planted(runs, loss)
    frame = cell.study.runs
    ends = np.where((frame["init.name"] == "gaussian") & (frame["lr"] == 0.1), 0.7, 0.9)
    study = Study(replace(cell.study, runs=frame.assign(final_loss=ends)))
    picture = FIGURES["isometric_learning"](study)
    (ax,) = picture.figure.axes
    labels = [text.get_text() for text in picture.figure.legends[0].get_texts()]
    assert labels == ["tanh, orthogonal, $\\eta$ = 0.2", "tanh, Gaussian, $\\eta$ = 0.1"]
    (line,) = [found for found in ax.lines if found.get_label() == "tanh, orthogonal"]
    values = np.asarray(line.get_ydata(), float)
    assert values[4] == 1.0
    assert values[16] == 0.0
    assert "17 steps with tanh, orthogonal" in picture.sentence  # eight of the ten losses up to that step are 0
    assert "more than 40 with tanh, Gaussian" in picture.sentence
