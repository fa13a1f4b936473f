"""Jacobians against autograd's, NumPy's SVD and differences; a hundred layers and more against numbers of a longer exponent."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bpexp.core.arrays import Float64s
from bpexp.core.jacobians import SAMPLES
from tests.core.looks import LONG, Case, Seen, cases, found, observe
from tests.core.nets import architecture, draw, evaluate, make_task, samples, train

NAMES = ["jacobian_mean", "jacobian_variance", "spectrum"]
AT = (0, 2, 3)


def squared_singular_values(now: Seen, k: int) -> list[Float64s]:
    """Of the first samples' J_k."""
    return [np.square(np.linalg.svd(now.jacobian(s, k), compute_uv=False), dtype=np.float64) for s in range(min(SAMPLES, len(now.x)))]


@pytest.mark.parametrize(
    "case", cases(12, seed=7), ids=lambda case: f"{case.net.sizes}-{case.net.activation.name}-{case.net.output.name}-{case.batch}"
)
def test_mean_variance_and_spectrum_are_those_of_the_singular_values(case: Case) -> None:
    records, seen = observe(case, AT[-1], NAMES, AT)
    for step in AT:
        for run in range(case.runs):
            squares = {k: squared_singular_values(seen[step][run], k) for k in case.net.layers}
            mean = [np.mean([values.mean() for values in squares[k]]) for k in case.net.layers]
            with np.errstate(invalid="ignore"):
                variance = [np.mean([values.var() / values.mean() ** 2 for values in squares[k]]) for k in case.net.layers]
            np.testing.assert_allclose(found(records[run], "jacobian_mean", step), mean, rtol=1e-9)
            np.testing.assert_allclose(found(records[run], "jacobian_variance", step), variance, rtol=1e-8, atol=1e-12)
            told = records[run].spectra
            for k in {max(1, case.net.depth - 1), case.net.depth}:
                here = (told["step"] == step) & (told["layer"] == k)
                wanted = np.sqrt(np.concatenate(squares[k]))
                np.testing.assert_allclose(10.0 ** told["log10_singular_value"][here], wanted, rtol=0, atol=1e-9 * wanted.max())
                count = min(case.net.sizes[0], case.net.sizes[k])
                np.testing.assert_array_equal(told["index"][here], np.tile(np.arange(1, count + 1), len(squares[k])))
                np.testing.assert_array_equal(told["sample"][here], np.repeat(np.arange(1, len(squares[k]) + 1), count))


def test_the_columns_of_a_spectrum() -> None:
    net = architecture([6, 9, 5, 4], "tanh", "sigmoid")
    spectra = train(replace(make_task(net, 3, 8, probes=[0, 3]), probes=("spectrum",)), draw(net, [1]), [0.1], [0])[0].spectra
    assert list(spectra) == ["step", "layer", "sample", "index", "log10_singular_value"]
    assert len(spectra["step"]) == 2 * SAMPLES * (5 + 4)
    keys = list(zip(*(spectra[name] for name in ("step", "layer", "sample", "index")), strict=True))
    assert keys == sorted(set(keys))
    values = spectra["log10_singular_value"].reshape(2, -1)[:, : SAMPLES * 5].reshape(-1, 5)
    assert (np.diff(values, axis=1) <= 0).all()


def test_the_jacobian_is_what_differences_of_the_net_say() -> None:
    """Softmax included, and the spectrum's norm: the sum of the squares of all that changes when the inputs are moved."""
    net = architecture([5, 7, 4], "tanh", "softmax", bias=True)
    data, parameters, step = samples(5, 4, 4, dtype=np.float64), draw(net, [1]), 1e-5
    moved = []
    for i in range(5):
        there, here = (evaluate(net, parameters, data.x_train + sign * step * np.eye(5)[i]).a[-1][0] for sign in (1, -1))
        moved.append((there - here) / (2 * step))
    wanted = np.mean(np.sum(np.square(moved), axis=(0, 2))) / 4
    task = replace(make_task(net, 0, 4, "cross_entropy", data=data, probes=[0]), probes=("jacobian_mean",))
    assert found(train(task, parameters, [0.1], [0])[0], "jacobian_mean", 0)[-1] == pytest.approx(wanted, rel=1e-8)


@LONG
@pytest.mark.parametrize(("dtype", "depth", "tolerance"), [(np.float32, 100, 1e-4), (np.float64, 600, 1e-9)])
def test_a_hundred_layers_of_sigmoids_and_more(dtype: type, depth: int, tolerance: float) -> None:
    """The product written out, in numbers with an exponent of 15 bits; its squares' squares leave even the range of float64."""
    net = architecture([4, *[5] * (depth - 1), 3], "sigmoid", "sigmoid", dtype=dtype)
    parameters = draw(net, [1])
    data = samples(4, 3, 2, dtype=dtype)
    neurons, jacobians = evaluate(net, parameters, data.x_train), []
    for s in range(2):
        J: Any = np.eye(4, dtype=np.longdouble)
        for k in net.layers:
            a = neurons.a[k][0, s].astype(np.longdouble)
            J = (J @ parameters.W[k][0].astype(np.longdouble)) * (a * (1 - a))
        jacobians.append(J)
    assert float(np.abs(jacobians[0]).max()) < (1e-50 if dtype is np.float32 else 1e-307)
    squares = [np.sum(J**2) / 3 for J in jacobians]
    variance = [3 * np.sum((J.T @ J) ** 2) / np.sum(J**2) ** 2 - 1 for J in jacobians]
    task = replace(make_task(net, 0, 2, data=data, probes=[0]), probes=tuple(NAMES))
    records = train(task, parameters, [0.1], [0])[0]
    assert records.profile("log10_jacobian_mean", 0)[-1] == pytest.approx(float(np.log10(np.mean(squares))), abs=tolerance)
    assert records.profile("jacobian_variance", 0)[-1] == pytest.approx(float(np.mean(variance)), abs=tolerance)
    last = (records.spectra["layer"] == depth) & (records.spectra["index"] == 1)
    scaled = [np.linalg.svd((J / np.abs(J).max()).astype(np.float64), compute_uv=False)[0] for J in jacobians]
    wanted = [np.log10(top) + float(np.log10(np.abs(J).max())) for top, J in zip(scaled, jacobians, strict=True)]
    np.testing.assert_allclose(records.spectra["log10_singular_value"][last], wanted, atol=tolerance)


def test_an_orthogonal_linear_net_has_no_variance() -> None:
    """Where all singular values are sigma^depth, to rounding, and not to the rounding of its square root."""
    net = architecture([6] * 41, "linear", "linear")
    records = train(replace(make_task(net, 0, 8, probes=[0]), probes=tuple(NAMES)), draw(net, [1], "orthogonal", sigma_w2=0.25), [0.1], [0])[0]
    np.testing.assert_allclose(records.profile("log10_jacobian_mean", 0), np.arange(1, 41) * np.log10(0.25), atol=1e-11)
    assert np.abs(records.profile("jacobian_variance", 0)).max() < 1e-26
    np.testing.assert_allclose(records.spectra["log10_singular_value"], 0.5 * records.spectra["layer"] * np.log10(0.25), atol=1e-11)
