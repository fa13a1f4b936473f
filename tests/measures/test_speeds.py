"""Quantities over draws of the initial weights, against numbers computed here from records, by loops, and from random numbers."""

from dataclasses import replace
from math import exp, log, sqrt
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bpexp.measures import MEASURED, PREDICTED, Cell, speeds
from bpexp.theory.relu import log_norm_of_net
from tests.report.studies import configs, records, runs_of

WALKS = {"data__name": "noise", "data__samples": 4, "data__inputs": 6, "data__classes": None, "activation": "relu", "output": "linear"}


def cell(**axes: Any) -> Cell:
    return Cell.of(runs_of(configs(**axes)))


def with_column(original: Cell, column: str, values: Any) -> Cell:
    """The same runs with other numbers in a column of `layers`: values(run, layer, depth), runs counted from 0."""
    runs = original.study
    number = {run_id: index for index, run_id in enumerate(runs.runs["run_id"])}
    depth = dict(zip(runs.runs["run_id"], runs.runs["depth"], strict=True))
    changed = [values(number[r], k, depth[r]) for r, k in zip(runs.layers["run_id"], runs.layers["layer"], strict=True)]
    return Cell.of(replace(runs, layers=runs.layers.assign(**{column: np.asarray(changed, float)})))


# ---------------------------------------------------------------------------------------------- norms of layers


def test_the_norm_at_a_layer_is_the_median_over_draws() -> None:
    wanted = configs(seed=[0, 1, 2, 3], depth=4, steps=0, probes=[["mean_delta_norm"]])
    found = [10.0 ** records(config).profile("log10_mean_delta_norm", 0) for config in wanted]
    measured = speeds.norm_at(Cell.of(runs_of(wanted)), 2)
    assert measured.values == pytest.approx([norms[1] for norms in found])
    assert measured.value == pytest.approx(np.median([norms[1] for norms in found]))
    assert speeds.norm_at(Cell.of(runs_of(wanted)), -1).values == pytest.approx([norms[3] for norms in found])


def test_layers_are_told_apart_where_the_sweep_has_them_in_another_order() -> None:
    everything = with_column(cell(seed=[0, 1, 2], depth=[3, 4], steps=0), "log10_delta_norm", lambda run, layer, _: 10 * run + layer)
    chosen = everything.where({"depth": 4})
    runs = [int(index) for index in np.flatnonzero(everything.study.runs["depth"] == 4)]
    assert speeds.profiles(chosen, "log10_delta_norm").tolist() == [[10 * run + layer for layer in (1, 2, 3, 4)] for run in runs]
    with pytest.raises(ValueError, match=r"depth=\[.*\]: must be the same"):
        speeds.profiles(everything, "log10_delta_norm")


def test_the_ratio_per_layer_is_the_geometric_mean_of_successive_ratios() -> None:
    wanted = configs(seed=[0, 1, 2], depth=5, steps=0)
    found = [10.0 ** records(config).profile("log10_delta_norm", 0) for config in wanted]
    each = [np.prod([norms[k] / norms[k + 1] for k in range(3)]) ** (1 / 3) for norms in found]  # hidden layers 1 … 4
    measured = speeds.ratio_per_layer(Cell.of(runs_of(wanted)), column="log10_delta_norm")
    assert measured.values == pytest.approx(each)
    assert measured.value == pytest.approx(np.prod(each) ** (1 / 3))
    logs = np.log(each)
    assert measured.error == pytest.approx(measured.value * logs.std(ddof=1) / sqrt(3))
    some = speeds.ratio_per_layer(Cell.of(runs_of(wanted)), first=2, last=3, column="log10_delta_norm")
    assert some.values == pytest.approx([norms[1] / norms[2] for norms in found])


@pytest.mark.parametrize("column", ["log10_delta_norm", "log10_grad_norm"])
def test_theorys_ratio_per_layer_is_that_of_drawn_nets(column: str) -> None:
    """One sample's, in narrow tanh nets: within four standard errors, which are small enough to see the width."""
    axes = {"seed": list(range(150)), "depth": 6, "width": 12, "steps": 0, "batch_size": 1, "activation": "tanh", "init__name": "standard"}
    found = cell(**axes)
    measured = speeds.ratio_per_layer(found, first=2, last=5, column=column)
    theory = speeds.predicted_ratio_per_layer(found, first=2, last=5, column=column)
    assert abs(measured.value - theory) < 4.0 * measured.error
    assert measured.error < 0.015


def test_theorys_ratio_is_that_of_one_sample_where_batches_are_of_one() -> None:
    axes: dict[str, Any] = {"depth": 6, "width": 64, "steps": 0, "activation": "relu", "init__name": "he"}
    exact = exp(0.5 * log_norm_of_net([64]).mean)
    assert speeds.predicted_ratio_per_layer(cell(**axes, batch_size=1)) == pytest.approx(exact, abs=1e-3)  # the square of 1/width
    assert speeds.predicted_ratio_per_layer(cell(**axes, batch_size=8)) > exact + 5e-3  # all samples together lose less


def test_the_scale_is_the_root_of_q_and_nets_of_one_draw_are_compared() -> None:
    axes = {"depth": 5, "width": 9, "steps": 0, "activation": "relu", "probes": [["q"]], "init__name": ["he", "lecun"], "seed": [0, 1, 2]}
    found = cell(**axes)
    own = [sqrt(records(config).profile("q", 0)[3]) for config in configs(**{**axes, "init__name": "he"})]
    assert speeds.scale_at(found.where({"init": "he"}), 4).values == pytest.approx(own)
    options: dict[str, Any] = {"layer": -1, "key": "init", "over": "lecun", "under": "he"}
    ratio = speeds.scale_ratio(found, **options)
    assert ratio.values == pytest.approx([2.0**-2.5] * 3, rel=1e-5)  # homogeneous: one factor of 1/√2 per layer
    assert speeds.predicted_scale_ratio(found, **options) == pytest.approx(2.0**-2.5)
    assert speeds.predicted_scale_at(found.where({"init": "lecun"}), 3) == pytest.approx(sqrt(_mean_square() * 0.25))


def _mean_square() -> float:
    """Of an input of the data set that the studies here have."""
    from bpexp.datasets import load

    x = load(configs()[0].data).split.x_train
    return float((x**2).mean())


def test_runs_are_paired_by_their_seeds() -> None:
    found = cell(depth=[2, 3], seed=[4, 5, 6], steps=0)
    values = {(2, 4): 3.0, (2, 5): 5.0, (2, 6): 7.0, (3, 4): 6.0, (3, 5): 20.0, (3, 6): 7.0}
    measured = speeds.paired(found, "depth", 3, 2, lambda run: values[run.config.depth, run.config.seed])
    assert measured.values == (2.0, 4.0, 1.0)
    without = replace(found, frame=found.frame[(found.frame["depth"] == 2) | (found.frame["seed"] != 5)])
    assert speeds.paired(without, "depth", 3, 2, lambda run: values[run.config.depth, run.config.seed]).values == (2.0, 1.0)


# ---------------------------------------------------------------------------------------------- logarithms over depth


def test_stretches_are_the_changes_between_layers_that_far_apart() -> None:
    found = with_column(cell(depth=8, seed=[0, 1], steps=0), "log10_delta_norm", lambda run, layer, _: (run + 1) * layer**2)
    walks = speeds.log_squares(found)
    expected = [[2 * log(10) * (run + 1) * (layer**2 - 64) for layer in range(8, 0, -1)] for run in (0, 1)]
    assert walks == pytest.approx(np.array(expected))
    squares = [64, 49, 36, 25, 16, 9, 4, 1]
    changes = [squares[at + 3] - squares[at] for at in (0, 3)]  # the layer that is left over makes no stretch
    by_hand = [2 * log(10) * scale * change for scale in (1, 2) for change in changes]
    assert speeds.stretches(walks, 3) == pytest.approx(by_hand)
    assert speeds.log_norm_mean(found, 3).value == pytest.approx(np.mean(by_hand))
    assert speeds.log_norm_variance(found, 3).value == pytest.approx(np.var(by_hand, ddof=1))


def test_nets_with_a_dead_layer_are_left_out() -> None:
    column = "log10_delta_norm"
    found = with_column(cell(depth=4, seed=[0, 1, 2], steps=0), column, lambda run, layer, _: -np.inf if run == 1 and layer < 3 else run + layer)
    assert len(speeds.log_squares(found)) == 2
    assert speeds.log_norm_mean(found, 1).value == pytest.approx(-2 * log(10))


def test_the_error_of_a_variance_is_that_of_many_variances() -> None:
    rng = np.random.default_rng(0)
    found = [speeds.variance(rng.standard_exponential(200)) for _ in range(3000)]
    values, errors = np.array([it.value for it in found]), np.array([it.error for it in found])
    assert values.mean() == pytest.approx(1.0, abs=4 * values.std() / sqrt(3000))
    assert np.sqrt((errors**2).mean()) == pytest.approx(values.std(), rel=0.1)


def test_neighbouring_steps_are_correlated_within_their_net_alone() -> None:
    rng = np.random.default_rng(1)
    steps = rng.standard_normal((40, 60))
    steps[:, 1:] += 0.75 * steps[:, :-1]  # a moving average, whose correlation is .75/(1 + .75²) = .48
    walks = np.cumsum(steps, axis=1)
    found = with_column(cell(depth=60, width=2, seed=list(range(40)), steps=0), "log10_delta_norm", lambda run, k, depth: walks[run, depth - k])
    measured = speeds.log_norm_correlation(found)
    changes = np.diff(walks, axis=1)
    by_hand = np.corrcoef(changes[:, 1:].ravel(), changes[:, :-1].ravel())[0, 1]
    assert measured.value == pytest.approx(by_hand, abs=0.01)
    assert measured.value == pytest.approx(0.48, abs=4 * measured.error)
    assert len(measured.values) == 40 * 58


@pytest.mark.parametrize("init", ["he", "sussillo"])
def test_deltas_of_narrow_relu_nets_follow_the_exact_law(init: str) -> None:
    found = cell(**WALKS, depth=101, width=8, seed=list(range(25)), batch_size=1, steps=0, init__name=init)
    for name, options in (("log_norm_mean", {"layers": 10}), ("log_norm_variance", {"layers": 10}), ("log_norm_correlation", {})):
        measured, theory = MEASURED[name](found, **options), PREDICTED[name](found, **options)
        assert abs(measured.value - theory) < 4.0 * measured.error, name
    textbook = speeds.log_norm_variance(found, 10, over="textbook")
    assert textbook.value == pytest.approx(speeds.log_norm_variance(found, 10).value / (5 * 10 / 8))
    assert textbook.value > 1.0 + 4.0 * textbook.error
    assert speeds.predicted_log_norm_variance(found, 10, over="exact") == pytest.approx(1.0)


# ---------------------------------------------------------------------------------------------- singular values


def test_the_mean_singular_value_is_that_of_the_weights_of_a_linear_layer() -> None:
    axes = {"data__name": "noise", "data__inputs": 40, "data__samples": 6, "data__classes": None, "activation": "linear", "output": "linear"}
    wanted = configs(**axes, depth=3, width=40, steps=0, probes=[["spectrum"]], batch_size=2, init__name="standard", seed=[0, 1])
    runs = runs_of(wanted)
    spectra = [pd.DataFrame(records(it).spectra).assign(run_id=run_id) for it, run_id in zip(wanted, runs.runs["run_id"], strict=True)]
    found = Cell.of(replace(runs, spectra=pd.concat(spectra)))
    by_hand = [np.linalg.svd(records(it).weights[0] @ records(it).weights[1], compute_uv=False).mean() for it in wanted]
    assert speeds.mean_singular_value(found, 2).values == pytest.approx(by_hand, rel=1e-5)
    assert speeds.mean_singular_value(found, -2).values == pytest.approx(by_hand, rel=1e-5)
    assert speeds.predicted_mean_singular_value(found, 1) == pytest.approx(8.0 / (3.0 * np.pi) / sqrt(3.0))
    assert np.isnan(speeds.predicted_mean_singular_value(found, 2))
