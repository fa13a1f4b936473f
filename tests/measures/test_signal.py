"""Measures of signals and gradients against plain loops, and theory's numbers for them against drawn nets."""

from math import isnan, log10, sqrt

import numpy as np
import pytest
from scipy.special import expit

from bpexp.core.arrays import Float64s
from bpexp.datasets import load
from bpexp.measures import MEASURED, PREDICTED
from bpexp.measures.signal import entries, forward, half_as_fast
from bpexp.theory.limits import floors
from tests.measures.cells import UNTRAINED, cell, made_up, weights
from tests.report.studies import configs

DEEP = {"depth": 30, "width": 60, "init__name": "gaussian", "init__sigma_w2": 1.0, "data__samples": 20, "probes": [["spread", "sample_grad_norm"]]}


def activations(**axes: object) -> list[Float64s]:
    """Of a sigmoid net without biases, layer by layer, in float64."""
    (config,) = configs(**UNTRAINED | axes)
    a, found = load(config.data).split.x_train, []
    for W in weights(config):
        a = expit(a @ W)
        found.append(a)
    return found


# ---------------------------------------------------------------------------------------------- where layers settle


def test_a_column_settles_at_its_mean_over_runs_and_the_named_layers() -> None:
    (config,) = configs(depth=5)
    runs = made_up(config, q=[[9.0, 1.0, 2.0, 3.0, 7.0], [9.0, 3.0, 4.0, 5.0, 7.0]])
    found = MEASURED["settles_at"](runs, column="q", first=2)  # the output layer is left out
    assert found.values == (2.0, 4.0)
    assert found.error == pytest.approx(1.0)
    assert MEASURED["settles_at"](runs, column="q", first=1, last=2).values == (5.0, 6.0)
    assert all(map(isnan, MEASURED["settles_at"](runs, column="q", first=5).values))


def test_theory_settles_where_its_maps_stay() -> None:
    nets = {"activation": "tanh", "bias": True, "init__name": "gaussian", "init__sigma_b2": 0.09}
    for sigma_w2, q, c in ((1.69, 0.6070, 1.0), (6.25, 4.0791, 0.1221)):  # Poole et al. 2016
        runs = cell(init__sigma_w2=sigma_w2, **nets)
        assert PREDICTED["settles_at"](runs, column="q") == pytest.approx(q, abs=1e-4)
        assert PREDICTED["settles_at"](runs, column="c") == pytest.approx(c, abs=1e-4)
    assert isnan(PREDICTED["settles_at"](cell(init__name="zeros"), column="q"))


@pytest.mark.parametrize("axes", [{"activation": "tanh", "init__sigma_w2": 2.5, "bias": True, "init__sigma_b2": 0.3}, {"init__sigma_w2": 6.0}, {}])
def test_theorys_signal_is_that_of_wide_drawn_nets(axes: dict[str, object]) -> None:
    nets = {"depth": 6, "width": 500, "init__name": "gaussian", "init__sigma_w2": 1.0, "data__samples": 20, "data__inputs": 300} | axes
    runs = cell(probes=[["q", "c", "spread"]], seed=[0, 1, 2, 3, 4, 5], **nets)
    found = forward(runs.config)
    assert found is not None
    for column, theory in (("q", found.q), ("c", found.c), ("log10_spread", found.log10_spread)):
        drawn = np.array([run.profile(column) for run in runs.one_by_one()])
        error = drawn.std(axis=0, ddof=1) / sqrt(len(drawn))
        assert np.all(np.abs(drawn.mean(axis=0) - theory)[:-1] < 6.0 * error[:-1] + 0.01 * np.abs(theory[:-1])), column  # 1 % for the width


def test_there_is_no_theory_of_a_net_with_shifted_biases_or_normalization() -> None:
    for axes in ({"init__name": "shifted_critical", "bias": True}, {"norm": "layer"}):
        (config,) = configs(**axes)
        assert forward(config) is None


# ---------------------------------------------------------------------------------------------- samples that become alike


def test_the_spread_is_lost_as_fast_as_in_a_plain_forward_pass() -> None:
    runs = cell(dtype="float64", **DEEP)
    spread = [log10(float(np.sqrt(((a - a.mean(axis=0)) ** 2).mean()))) for a in activations(dtype="float64", **DEEP)]
    x, y = np.arange(2, 16), np.array(spread[1:15])
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    assert MEASURED["spread_lost"](runs, first=2, last=15).value == pytest.approx(-slope, rel=1e-6)


def test_theory_loses_the_spread_of_many_nets() -> None:
    runs = cell(dtype="float64", seed=list(range(12)), **DEEP)
    found, theory = MEASURED["spread_lost"](runs, first=2, last=20), PREDICTED["spread_lost"](runs, first=2, last=20)
    assert abs(found.value - theory) < 4.0 * found.error
    assert found.error < 0.01


@pytest.mark.parametrize("noise", [-5.3, -7.0, -12.2])
def test_a_profile_falls_half_as_fast_where_signal_and_noise_are_alike(noise: float) -> None:
    place = np.arange(1, 41)
    signal = -1.0 - 0.6 * (place - 1)
    total = np.asarray(0.5 * np.log10(10.0 ** (2 * signal) + 10.0 ** (2 * noise)), np.float64)
    alike = 1.0 + (-1.0 - noise) / 0.6  # where the lines cross
    assert -0.5 <= half_as_fast(total, 2, 5) - alike <= 1.5  # a drop belongs to the layer that it leads to, and is looked at in whole layers
    assert half_as_fast(total + 3.0, 2, 5) == half_as_fast(total, 2, 5)  # whatever the units
    assert isnan(half_as_fast(np.asarray(signal, np.float64), 2, 5))


def test_samples_that_are_exactly_alike_have_nothing_more_to_lose() -> None:
    assert half_as_fast(np.array([-1.0, -2.0, -3.0, -4.0, -np.inf, -np.inf]), 1, 3) == 6.0
    assert isnan(half_as_fast(np.full(6, -np.inf), 1, 3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rounding_hides_the_input_where_theory_says(dtype: str) -> None:
    runs = cell(dtype=dtype, **DEEP | {"depth": 60})
    found = MEASURED["indistinct_from"](runs).value
    assert abs(found - PREDICTED["indistinct_from"](runs)) <= 2.0
    # from there on another data set gives the same activations but for two roundings, and some layers before it does not
    net = DEEP | {"depth": 60, "dtype": dtype}
    one, other = activations(**net), activations(**net | {"data__seed": 1})
    roundoff = float(np.finfo(dtype).eps)
    apart = [float(np.abs(a.mean(axis=0) - b.mean(axis=0)).max()) for a, b in zip(one, other, strict=True)]
    assert apart[int(found) + 1] <= 2 * roundoff
    assert apart[int(found) - 6] > 20 * roundoff


# ---------------------------------------------------------------------------------------------- gradients that leave the range of a dtype


def test_an_entry_is_the_norm_over_the_root_of_the_number_of_weights() -> None:
    (config,) = configs(depth=3, width=4)  # 5 inputs, 3 classes
    assert entries(np.zeros(3), config) == pytest.approx([-0.5 * log10(20), -0.5 * log10(16), -0.5 * log10(12)])


def test_layers_are_counted_back_from_the_output_to_the_first_below_a_limit() -> None:
    (config,) = configs(depth=6, width=5, data__inputs=5, data__classes=5)
    limit, five = floors("float32").normal, log10(5.0)
    profile = [limit - 9.0, limit - 2.0, limit + 0.1, limit + 3.0, limit + 4.0, limit + 5.0]
    runs = made_up(config, log10_sample_grad_norm=[[x + five for x in profile]] * 2)
    assert MEASURED["layers_back"](runs, limit="normal").values == (4.0, 4.0)
    assert MEASURED["layers_back"](runs, limit="zero").values == (5.0, 5.0)
    assert MEASURED["layers_back"](runs, limit="square").values == (0.0, 0.0)  # at the output layer itself
    assert isnan(MEASURED["layers_back"](runs, limit="normal", dtype="float64").value)


def test_a_plain_float32_backward_pass_loses_its_gradient_as_many_layers_back() -> None:
    axes = DEEP | {"depth": 90, "width": 40, "batch_size": 1, "data__samples": 4, "probes": [["sample_grad_norm"]]}
    runs = cell(seed=[0, 1, 2], **axes)
    found = {limit: MEASURED["layers_back"](runs, limit=limit) for limit in ("normal", "zero")}
    for limit, measured in found.items():
        assert abs(measured.value - PREDICTED["layers_back"](runs, limit=limit)) <= 1.5
    for place, config in enumerate(configs(**UNTRAINED | axes | {"seed": [0, 1, 2]})):
        normal, zero = _plain_float32_backward(config)
        assert abs(found["normal"].values[place] - normal) <= 2.0  # where half of the entries are lost, beside where their root mean square is
        assert abs(found["zero"].values[place] - zero) <= 2.0


def _plain_float32_backward(config: object) -> tuple[int, int]:
    """How many layers back half of the entries of dL/dW are no normal float32, and are 0."""
    data = load(config.data).split  # type: ignore[attr-defined]
    matrices = [W.astype(np.float32) for W in weights(config)]  # type: ignore[arg-type]
    a = [data.x_train[:1].astype(np.float32)]
    for W in matrices:
        a.append(expit(a[-1] @ W))
    delta = (a[-1] - data.y_train[:1].astype(np.float32)) * a[-1] * (1 - a[-1])
    shares = []
    for k in range(len(matrices) - 1, -1, -1):
        grad = np.abs(a[k].T @ delta)
        shares.append(((grad < np.finfo(np.float32).smallest_normal).mean(), (grad == 0).mean()))
        if k:
            delta = (delta @ matrices[k].T) * a[k] * (1 - a[k])
    return tuple(next(back for back, share in enumerate(shares) if share[kind] > 0.5) for kind in (0, 1))  # type: ignore[return-value]


# ---------------------------------------------------------------------------------------------- the plateau


@pytest.mark.parametrize(("loss", "plateau"), [("squared_error", 0.375), ("cross_entropy", 2.0 * log10(2.0) / log10(np.e))])
def test_a_stuck_net_ends_at_the_plateau_of_its_classes(loss: str, plateau: float) -> None:
    runs = cell(loss=loss, data__classes=4)
    assert PREDICTED["final_loss"](runs) == pytest.approx(plateau)
    assert MEASURED["final_loss"](runs).value == runs.frame["final_loss"].iloc[0]


def test_a_deep_sigmoid_net_is_stuck_at_the_plateau() -> None:
    nets = {"depth": 15, "width": 20, "data__samples": 400, "steps": 300, "lr": 3.0, "seed": [0, 1]}
    runs = cell(**nets)
    shares = load(runs.config.data).split.y_train.mean(axis=0)
    best = 0.5 * float((shares * (1.0 - shares)).sum())
    assert MEASURED["final_loss"](runs).value == pytest.approx(best, rel=0.01)
