"""The figures of papers on initial weights: their data against the runs', and the sentences against numbers computed here."""

from dataclasses import replace
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bpexp.measures import Cell, speeds
from bpexp.report.papers import FIGURES, initialization, saturation
from bpexp.report.picture import Picture, style
from bpexp.report.selection import Study
from bpexp.theory.relu import log_norm_of_net
from bpexp.verify.study import read
from tests.report.studies import configs, records, runs_of

STUDIES = Path(initialization.__file__).parents[3] / "conf" / "study"
NOISE = {"data__name": "noise", "data__samples": 4, "data__inputs": 6, "data__classes": None}


def drawn(name: str, some: Study) -> Picture:
    with style():
        return FIGURES[name](some)


def line(ax: Axes, label: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The one line of this label."""
    (found,) = [it for it in ax.lines if it.get_label() == label]
    return np.asarray(found.get_xdata(), float), np.asarray(found.get_ydata(), float)


# ---------------------------------------------------------------------------------------------- nielsen


def speeds_study() -> Study:
    return Study(runs_of(configs(depth=[3, 4], seed=list(range(20)), steps=0, probes=[["mean_delta_norm"]])))


def test_speeds_are_medians_over_draws_with_nielsens_on_them() -> None:
    some = speeds_study()
    picture = drawn("speeds", some)
    for ax, depth in zip(picture.figure.axes, (3, 4), strict=True):
        logs = np.array(
            [
                records(it).profile("log10_mean_delta_norm", 0)
                for it in configs(depth=depth, seed=list(range(20)), steps=0, probes=[["mean_delta_norm"]])
            ]
        )
        layers, medians = line(ax, "median")
        assert layers.tolist() == list(range(1, depth))
        assert medians == pytest.approx(np.median(logs[:, :-1], axis=0))
        assert len(ax.collections) == depth - 1 + 1  # a violin per hidden layer, and the bars
        (bars,) = [it for it in ax.collections if hasattr(it, "get_segments")]
        low, high = np.array([segment[:, 1] for segment in bars.get_segments()]).T
        assert (low, high) == (pytest.approx(np.quantile(logs[:, :-1], 0.025, axis=0)), pytest.approx(np.quantile(logs[:, :-1], 0.975, axis=0)))
        _, his = line(ax, "Nielsen")
        assert 10.0**his == pytest.approx(initialization.NIELSEN[depth - 1])
        _, theory = line(ax, "theory")
        assert theory[-1] == pytest.approx(medians[-1])


def test_the_sentence_counts_nielsens_numbers_inside_ours() -> None:
    some = speeds_study()
    layers = some.runs.layers
    depth = layers["run_id"].map(some.runs.runs.set_index("run_id")["depth"])
    place = layers["run_id"].map({run_id: index % 20 for index, run_id in enumerate(some.runs.runs["run_id"])}) / 20.0 - 0.5
    his = [np.log10(initialization.NIELSEN[d - 1][k - 1]) if k < d else 0.0 for d, k in zip(depth, layers["layer"], strict=True)]
    around = layers.assign(log10_mean_delta_norm=np.array(his) + 0.1 * place)
    assert drawn("speeds", Study(replace(some.runs, layers=around))).sentence.startswith("5 of the 5 speeds")
    one_off = around["log10_mean_delta_norm"] + np.where((depth == 4) & (layers["layer"] == 1), 1.0, 0.0)
    found = drawn("speeds", Study(replace(some.runs, layers=around.assign(log10_mean_delta_norm=one_off)))).sentence
    assert found.startswith("4 of the 5 speeds")


def test_the_study_and_its_figure_have_the_same_numbers_of_nielsens() -> None:
    told: dict[int, dict[int, float]] = {}
    for check in read(STUDIES / "nielsen.yaml").checks:
        if check.measure == "norm_at":
            assert isinstance(check.paper, float)
            told.setdefault(check.where["depth"] - 1, {})[check.options["layer"]] = check.paper
    assert {hidden: tuple(layers[k] for k in sorted(layers)) for hidden, layers in told.items()} == initialization.NIELSEN


# ---------------------------------------------------------------------------------------------- the random walk


def walks_study() -> Study:
    axes: dict[str, Any] = NOISE | {"depth": 31, "width": 6, "activation": "relu", "output": "linear", "batch_size": 1, "steps": 0}
    return Study(runs_of([*configs(**axes, init__name="he", seed=list(range(12))), *configs(**axes, init__name="sussillo", seed=[20, 21, 22])]))


def test_the_random_walk_shows_means_and_variances_with_their_intervals_and_both_laws() -> None:
    some = walks_study()
    picture = drawn("random_walk", some)
    left, right = picture.figure.axes
    he = Cell.of(some.runs).where({"init": "he"})
    for ax, measure in ((left, speeds.log_norm_mean), (right, speeds.log_norm_variance)):
        assert len(ax.containers) == 2
        for container, init in zip(ax.containers, ("he", "sussillo"), strict=True):
            assert container.get_label() == init
        points, _, (bars,) = ax.containers[0]
        found = [measure(he, int(length)) for length in points.get_xdata()]
        assert points.get_ydata() == pytest.approx([it.value for it in found])
        assert [segment[1, 1] - segment[0, 1] for segment in bars.get_segments()] == pytest.approx([2 * 1.96 * it.error for it in found])
    lengths, law = line(right, "theory")
    assert lengths[-1] == 30
    assert law == pytest.approx([log_norm_of_net([6] * int(n)).variance for n in lengths])
    _, textbook = line(right, "textbook")
    assert textbook == pytest.approx(5 * lengths / 6)
    means = [it for it in left.lines if it.get_label() == "theory"]
    assert np.asarray(means[0].get_ydata(), float) == pytest.approx([log_norm_of_net([6] * int(n)).mean for n in lengths])
    gain_2 = 2.0 * exp(2.4 / (6.0 - 2.4))
    assert float(np.asarray(means[1].get_ydata())[-1]) == pytest.approx(log_norm_of_net([6] * 30, gain_2).mean)
    assert f"{speeds.log_norm_variance(he, 30).value:.3g}" in picture.sentence


# ---------------------------------------------------------------------------------------------- he and xavier


def test_he_and_xavier_shows_losses_by_epoch_and_the_scale_of_z() -> None:
    axes: dict[str, Any] = {"depth": 4, "width": 9, "activation": "relu", "loss": "cross_entropy", "probes": [["q"]], "init__name": ["he", "lecun"]}
    trained = configs(**axes, seed=[0, 1], steps=18)  # 48 samples in batches of 8: 6 steps an epoch
    some = Study(runs_of([*trained, *configs(**axes, seed=[5], steps=0)]))
    picture = drawn("he_and_xavier", some)
    left, right = picture.figure.axes
    epochs, losses = line(left, "he")
    mine = [records(it) for it in trained if it.init.name == "he"]
    assert epochs.tolist() == [1, 2, 3]
    by_hand = [np.mean([r.curves["loss_train"][6 * e : 6 * e + 6].mean() for r in mine]) for e in range(3)]
    assert losses == pytest.approx(by_hand)
    _, scales = line(right, "he")
    assert scales == pytest.approx(np.mean([0.5 * np.log10(r.profile("q", 0)) for r in mine], axis=0))
    theory = [np.asarray(it.get_ydata(), float) for it in right.lines if it.get_label() == "theory"]
    assert theory[0] - theory[1] == pytest.approx(0.5 * np.log10(2) * np.arange(1, 5))
    assert "0.250 times as large with init=lecun as with init=he" in picture.sentence


# ---------------------------------------------------------------------------------------------- saturation


def test_saturation_shows_each_hidden_layers_activations_and_when_the_net_escapes() -> None:
    wanted = configs(depth=[3, 4], steps=40, lr=3.0, probe_points=12, loss=["cross_entropy"])
    runs = runs_of(wanted)
    depth = runs.curves["run_id"].map(runs.runs.set_index("run_id")["depth"])
    escapes = (runs.curves["step"] >= 20) & (depth == 3)
    some = Study(replace(runs, curves=runs.curves.assign(accuracy_test=np.where(escapes, 0.9, 0.1))))
    picture = drawn("saturation", some)
    for ax, config in zip(picture.figure.axes, wanted, strict=True):
        for layer in range(1, config.depth):
            steps, means = line(ax, f"layer {layer}")
            at = records(config).layers["layer"] == layer
            assert steps.tolist() == records(config).layers["step"][at].tolist()
            assert means == pytest.approx(records(config).layers["activation_mean"][at])
        assert len([it for it in ax.lines if str(it.get_label()).startswith("layer")]) == config.depth - 1
    assert picture.sentence == "Half of the test samples are right with 2 hidden layers after 20 updates and 3 hidden layers not within 40."


def test_delta_and_gradient_are_means_of_logs_relative_to_the_last_hidden_layer() -> None:
    wanted = configs(depth=5, width=20, steps=0, batch_size=1, activation="tanh", init__name="standard", seed=list(range(15)))
    picture = drawn("delta_and_gradient", Study(runs_of(wanted)))
    (ax,) = picture.figure.axes
    for column, (label, _) in saturation.NORMS.items():
        layers, means = line(ax, label)
        logs = np.array([records(it).profile(column, 0)[:4] for it in wanted])
        assert layers.tolist() == [1, 2, 3, 4]
        assert means == pytest.approx((logs - logs[:, 3:]).mean(axis=0))
    theory = [np.asarray(it.get_ydata(), float) for it in ax.lines if it.get_label() == "theory"]
    assert theory[0][1] < -0.4  # delta vanishes by √3 or more per layer,
    assert abs(theory[1][1]) < 0.05  # the gradient of the weights does not
    assert "falls by" in picture.sentence
    assert "stays about the same (∇W)" in picture.sentence
