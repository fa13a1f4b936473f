"""The variance of the Jacobian's squared singular values."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bpexp.datasets import load
from bpexp.measures import MEASURED, PREDICTED, Cell
from bpexp.measures.jacobian import predicted_variances
from bpexp.prediction import orthogonal
from bpexp.tracking.reader import Runs
from tests.report.studies import configs, records, runs_of

NET = {"activation": "tanh", "bias": True, "width": 12, "data__inputs": 12, "batch_size": 4, "steps": 0, "init__sigma_b2": 0.001}
PROBES = ["jacobian_mean", "jacobian_variance", "spectrum"]


def with_spectra(**axes: Any) -> Runs:
    """Runs whose frames have what the probes of Jacobians leave."""
    wanted = configs(**(NET | axes), probes=[PROBES])
    runs = runs_of(wanted)
    names = list(runs.runs["run_id"])
    spectra = pd.concat([pd.DataFrame(records(config).spectra).assign(run_id=name) for name, config in zip(names, wanted, strict=True)])
    text = f"[{','.join(PROBES)}]"  # as frames hold a list
    return replace(runs, runs=runs.runs.assign(probes=text), spectra=spectra)


def test_a_variance_is_that_of_the_singular_values() -> None:
    cell = Cell.of(with_spectra(depth=5, init__name="gaussian", seed=[0, 1]))
    found = MEASURED["singular_variance"](cell, layer=4)
    for run, value in zip(cell.one_by_one(), found.values, strict=True):
        frame = run.spectra[run.spectra["layer"] == 4]
        squares = [10.0 ** (2.0 * part["log10_singular_value"].to_numpy()) for _, part in frame.groupby("sample")]
        assert len(squares) == 4
        assert value == pytest.approx(np.mean([s.var() / s.mean() ** 2 for s in squares]))


def test_growth_and_change_are_differences_between_two_layers() -> None:
    cell = Cell.of(with_spectra(depth=6, init__name="gaussian"))
    at = [MEASURED["singular_variance"](cell, layer=layer).value for layer in (2, 5)]
    assert MEASURED["singular_variance_growth"](cell, first=2, last=5).value == pytest.approx((at[1] - at[0]) / 3)
    change = MEASURED["log10_singular_mean_change"](cell, first=2, last=5).value
    profile = cell.profile("log10_jacobian_mean")
    assert change == pytest.approx(profile[4] - profile[1])


def moments(q: float) -> tuple[float, float]:
    """E[phi'^2] and E[phi'^4] of tanh by a sum over a fine grid."""
    z = np.linspace(-12.0, 12.0, 200_001)
    weight = np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi) * (z[1] - z[0])
    slope = 1.0 - np.tanh(np.sqrt(q) * z) ** 2
    return float((weight * slope**2).sum()), float((weight * slope**4).sum())


@pytest.mark.parametrize("is_orthogonal", [True, False])
def test_theorys_variance_is_the_sum_over_the_layers(is_orthogonal: bool) -> None:
    name = "orthogonal" if is_orthogonal else "gaussian"
    cell = Cell.of(runs_of(configs(**NET, depth=6, init__name=name, init__sigma_w2=1.3)))
    assert orthogonal(cell.config) == is_orthogonal
    x = load(cell.config.data).split.x_train
    q, sums, logs = 1.3 * float((x**2).mean()) + 0.001, [], []
    z = np.linspace(-12.0, 12.0, 200_001)
    weight = np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi) * (z[1] - z[0])
    for _ in range(5):
        second, fourth = moments(q)
        sums.append(fourth / second**2 - is_orthogonal)
        logs.append(np.log10(1.3 * second))
        q = 1.3 * float((weight * np.tanh(np.sqrt(q) * z) ** 2).sum()) + 0.001
    np.testing.assert_allclose(predicted_variances(cell), np.cumsum(sums), rtol=1e-6)
    assert PREDICTED["singular_variance"](cell, layer=3) == pytest.approx(sum(sums[:3]), rel=1e-6)
    assert PREDICTED["log10_singular_mean_change"](cell, first=2, last=5) == pytest.approx(sum(logs[2:5]), rel=1e-5)
    for _ in range(200):
        q = 1.3 * float((weight * np.tanh(np.sqrt(q) * z) ** 2).sum()) + 0.001
    second, fourth = moments(q)
    assert PREDICTED["singular_variance_growth"](cell) == pytest.approx(fourth / second**2 - is_orthogonal, rel=1e-6)


def test_where_theory_has_no_number_there_is_none() -> None:
    cell = Cell.of(runs_of(configs(depth=3, init__name="zeros")))
    assert np.isnan(PREDICTED["singular_variance"](cell, layer=1))
    assert np.isnan(PREDICTED["singular_variance_growth"](cell))
    assert np.isnan(PREDICTED["log10_singular_mean_change"](cell, first=1, last=2))


def test_wide_nets_have_the_variance_of_theory() -> None:
    """Width 150, 10 hidden layers, 6 nets: the mean within 4 standard errors and what the width leaves out."""
    for keys in ({"init__orthogonal": True}, {"init__orthogonal": False}):
        net = NET | keys | {"width": 150, "data__inputs": 150, "init__name": "critical"}
        runs = runs_of(configs(**net, depth=11, seed=list(range(6)), probes=[PROBES[:2]]))
        cell = Cell.of(replace(runs, runs=runs.runs.assign(probes=f"[{','.join(PROBES[:2])}]")))
        ours, theory = MEASURED["singular_variance"](cell, layer=10), PREDICTED["singular_variance"](cell, layer=10)
        assert abs(ours.value - theory) < 4.0 * ours.error + 10 / 150 * theory
