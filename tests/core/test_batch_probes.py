"""Chosen probes against autograd, sample by sample, and loops over pairs; beyond the range of the dtype; and that choosing them disturbs nothing."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, pairwise
from math import log10
from typing import Any

import numpy as np
import pytest

from bpexp.core import chosen, moments
from bpexp.core.arrays import Float64s
from bpexp.core.chosen import Chosen
from bpexp.core.network import Architecture
from bpexp.core.probes import CHOSEN, PROBES
from bpexp.core.records import Records
from tests.core.looks import LONG, Case, Seen, cases, found, observe
from tests.core.nets import DTYPES, architecture, draw, make_task, samples, shake, train, twin
from tests.core.test_shapes import assert_same

AT = (0, 1, 3, 4)


def rms(values: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def norm(x: Float64s) -> float:
    return float(np.linalg.norm(x))


def c_by_pairs(now: Seen, k: int) -> float:
    z = now.neurons()[0][k - 1]
    pairs = [float(one @ two) for one, two in combinations(z, 2)]
    return float(np.mean(pairs) / np.mean([row @ row for row in z])) if pairs else float("nan")


def spread(now: Seen, k: int) -> float:
    """By pairs: the mean square distance from the mean is half that of two samples drawn with replacement."""
    a = now.neurons()[1][k]
    if len(a) == 1:
        return float("nan")
    return float(np.sqrt(np.mean([np.sum((one - two) ** 2) for one in a for two in a]) / 2 / a.shape[1]))


def over_samples(now: Seen) -> range:
    return range(len(now.x))


EXPECTED: dict[str, Callable[[Seen, int], float]] = {
    "sample_delta_norm": lambda now, k: rms([norm(now.deltas(s)[k - 1]) for s in over_samples(now)]),
    "sample_grad_norm": lambda now, k: rms([norm(np.outer(now.neurons()[1][k - 1][s], now.deltas(s)[k - 1])) for s in over_samples(now)]),
    "mean_delta_norm": lambda now, k: norm(np.mean([now.deltas(s)[k - 1] for s in over_samples(now)], axis=0)),
    "q": lambda now, k: float(np.mean(now.neurons()[0][k - 1] ** 2)),
    "c": c_by_pairs,
    "spread": spread,
}
SKIPPED: dict[str, Any] = {"none": {}, "residual": {"every": 1}, "scaled": {"every": 2}, "rezero": {"every": 1}}
BATCH_PROBES = [*EXPECTED, "grad_cosine"]


def cosine(one: Float64s, two: Float64s) -> float:
    return float(np.sum(one * two)) / (norm(one) * norm(two))


def expected(name: str, seen: list[list[Seen]], step: int, run: int, k: int) -> float:
    if name != "grad_cosine":
        return EXPECTED[name](seen[step][run], k)
    return cosine(seen[step][run].gradient(k), seen[step - 1][run].gradient(k)) if step else float("nan")


def compare(case: Case, names: list[str], tolerance: float) -> None:
    records, seen = observe(case, AT[-1], names, AT)
    for name in names:
        for step in AT:
            for run in range(case.runs):
                wanted = [expected(name, seen, step, run, k) for k in case.net.layers]
                np.testing.assert_allclose(found(records[run], name, step), wanted, rtol=tolerance, atol=tolerance, err_msg=f"{name} {step} {run}")


def test_every_chosen_probe_has_a_formula_here_or_with_the_jacobians() -> None:
    assert set(CHOSEN) == {*BATCH_PROBES, "jacobian_mean", "jacobian_variance", "spectrum", "histogram"}


@pytest.mark.parametrize("case", cases(16), ids=lambda case: f"{case.net.sizes}-{case.net.activation.name}-{case.batch}-{case.runs}")
def test_probes_are_their_formulas(case: Case) -> None:
    compare(case, BATCH_PROBES, 1e-9)


@pytest.mark.parametrize("case", cases(6, dtype=np.float32, seed=3), ids=lambda case: f"{case.net.sizes}-{case.batch}-{case.runs}")
def test_in_float32_as_far_as_its_digits_go(case: Case) -> None:
    compare(case, ["sample_delta_norm", "sample_grad_norm", "mean_delta_norm", "q", "c"], 2e-4)


@pytest.mark.parametrize("batch", [1, 3, 24])
def test_wide_nets_which_keep_no_gradient(batch: int) -> None:
    net = architecture([3, 256, 256, 2], "tanh", "sigmoid")
    compare(Case(net, "squared_error", batch, 2, 1), BATCH_PROBES, 1e-9)


@pytest.mark.parametrize("skip", ["none", "residual", "rezero"])
@pytest.mark.parametrize("norm_name", ["none", "layer"])
def test_with_norms_and_skips_a_sample_has_what_it_has_alone(norm_name: str, skip: str) -> None:
    """The norms of each sample of a batch, against nets that see that sample alone and whose own norms are tested elsewhere."""
    net = architecture([6, *[5] * 6, 4], "tanh", "linear", norm=norm_name, skip=skip, **SKIPPED[skip])
    data, parameters = samples(6, 4, 8, dtype=np.float64), shake(draw(net, [1]))
    names = ("sample_delta_norm", "sample_grad_norm")
    together = train(replace(make_task(net, 0, 8, data=data, probes=[0]), probes=names), twin(net, parameters), [0.1], [0])[0]
    alone = []
    for s in range(8):
        one = replace(data, x_train=data.x_train[s : s + 1], y_train=data.y_train[s : s + 1])
        alone.append(train(make_task(net, 0, 1, data=one, probes=[0]), twin(net, parameters), [0.1], [0])[0])
    for name, of_one in zip(names, ("delta_norm", "grad_norm"), strict=True):
        wanted = np.sqrt(np.mean([found(records, of_one, 0) ** 2 for records in alone], axis=0))
        np.testing.assert_allclose(found(together, name, 0), wanted, rtol=1e-10)


@pytest.mark.parametrize("skip", ["none", "scaled"])
def test_with_batch_norm_the_gradients_are_compared_as_they_are(skip: str) -> None:
    """The cosine of two gradients that the update itself shows: plain descent moves the weights along them."""
    net = architecture([6, 5, 5, 5, 4], "tanh", "linear", norm="batch", skip=skip, **SKIPPED[skip])
    parameters = draw(net, [1])
    weights = []
    for steps in range(1, 4):
        trained = train(make_task(net, steps), twin(net, parameters), [1e-3], [5])[0]
        weights.append(trained.weights)
    records = train(replace(make_task(net, 3, probes=[0, 2, 3]), probes=("grad_cosine",)), twin(net, parameters), [1e-3], [5])[0]
    moves = [[b - a for a, b in zip(one, two, strict=True)] for one, two in pairwise(weights)]
    wanted = [cosine(before, after) for before, after in zip(*moves, strict=True)]
    np.testing.assert_allclose(records.profile("grad_cosine", 2), wanted, atol=1e-8)
    assert max(wanted) < 0.999


# ---------------------------------------------------------------------------------------------- range


def deep(dtype: type, depth: int) -> tuple[Architecture, Any]:
    net = architecture([4, *[5] * (depth - 1), 3], "sigmoid", "sigmoid", dtype=dtype)
    return net, draw(net, [1])


@LONG
@pytest.mark.parametrize(("dtype", "depth", "tolerance"), [(np.float32, 100, 1e-4), (np.float64, 600, 1e-10)])
def test_norms_beyond_the_range_of_the_dtype(dtype: type, depth: int, tolerance: float) -> None:
    """Backpropagation sample by sample in numbers with an exponent of 15 bits."""
    net, parameters = deep(dtype, depth)
    task = replace(make_task(net, 0, 6, probes=[0]), probes=("sample_delta_norm", "sample_grad_norm", "mean_delta_norm"))
    W = [weights[0].astype(np.longdouble) for weights in parameters.W[1:]]
    batch: Any = task.data
    rows = np.arange(24)
    np.random.default_rng(0).shuffle(rows)
    x, y = batch.x_train[rows[:6]].astype(np.longdouble), batch.y_train[rows[:6]].astype(np.longdouble)
    a = [x]
    for weights in W:
        a.append(1 / (1 + np.exp(-(a[-1] @ weights))))
    delta, deltas = (a[-1] - y) * a[-1] * (1 - a[-1]), list[Any]()
    for k in range(depth, 0, -1):
        deltas.insert(0, delta)
        delta = (delta @ W[k - 1].T) * a[k - 1] * (1 - a[k - 1])
    records = train(task, parameters, [0.1], [0])[0]

    def log10_rms(squares: Any) -> float:
        return float(0.5 * np.log10(np.mean(squares)))

    sample = [log10_rms(np.sum(d**2, axis=1)) for d in deltas]
    grad = [log10_rms(np.sum(d**2, axis=1) * np.sum(before**2, axis=1)) for d, before in zip(deltas, a, strict=False)]
    mean = [float(0.5 * np.log10(np.sum(np.mean(d, axis=0) ** 2))) for d in deltas]
    assert sample[0] < (-45 if dtype is np.float32 else -308)
    for name, wanted in (("sample_delta_norm", sample), ("sample_grad_norm", grad), ("mean_delta_norm", mean)):
        np.testing.assert_allclose(records.profile(f"log10_{name}", 0), wanted, rtol=0, atol=tolerance, err_msg=name)


def test_a_small_delta_of_a_large_activation_is_not_lost() -> None:
    """Two samples whose factors lie 400 decades apart, the other way round: squares of either would be 0."""
    net = architecture([1, 1], output="linear")
    data = replace(samples(1, 1, 2, dtype=np.float64), x_train=np.array([[1e-150], [1e150]]), y_train=np.array([[1e150], [0.0]]))
    parameters = draw(net, [0])
    parameters.W[1][:] = 1e-300
    records = train(replace(make_task(net, 0, 2, data=data, probes=[0]), probes=("sample_grad_norm",)), parameters, [0.1], [0])[0]
    assert records.profile("log10_sample_grad_norm", 0)[0] == pytest.approx(0.5 * log10((1.0 + 1.0) / 2), abs=1e-10)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_collapsed_net_has_no_spread_and_a_correlation_of_one(dtype: type) -> None:
    """Where rounding has made all samples one; before, the spread is right however small it is beside the mean."""
    net, parameters = deep(dtype, 60)
    records = train(replace(make_task(net, 0, 24, probes=[0]), probes=("spread", "c")), parameters, [0.1], [0])[0]
    spread, c = records.profile("log10_spread", 0), records.profile("c", 0)
    assert spread[-1] == -np.inf
    assert c[-1] == 1.0
    assert np.isfinite(spread[:8]).all()
    assert (np.diff(spread[:8]) < -0.2).all()
    assert (c[:8] <= 1.0).all()


def test_nothing_is_compared_with_itself() -> None:
    net = architecture([6, 5, 4], "tanh", "sigmoid")
    records = train(replace(make_task(net, 2, 1, probes=[0, 1, 2]), probes=("spread", "c", "q")), draw(net, [1]), [0.1], [0])[0]
    assert np.isnan(records.layers["log10_spread"]).all()
    assert np.isnan(records.layers["c"]).all()
    assert np.isfinite(records.layers["q"]).all()


def test_a_gradient_of_zero_has_no_direction() -> None:
    net = architecture([6, 5, 4], "relu", "linear", bias=True)
    parameters = draw(net, [1])
    parameters.b[1][:] = -100.0
    records = train(replace(make_task(net, 1, probes=[0, 1]), probes=CHOSEN), parameters, [0.1], [2])[0]
    assert np.isnan(records.profile("grad_cosine", 1)[0])
    assert records.profile("log10_sample_delta_norm", 0)[0] == -np.inf
    assert records.profile("log10_jacobian_mean", 0)[0] == -np.inf
    assert np.isnan(records.profile("jacobian_variance", 0)[0])


# ---------------------------------------------------------------------------------------------- what choosing them does not do

NETS: dict[str, dict[str, Any]] = {
    "plain": {},
    "wide": {"width": 256},
    "norm": {"norm": "batch"},
    "skip": {"skip": "residual", "every": 1},
    "one neuron": {"width": 1},
}


def setting(name: str, dtype: type, runs: int) -> tuple[Architecture, Any]:
    keys = dict(NETS[name])
    width = keys.pop("width", 5)
    net = architecture([6, *[width] * 4, 4], "tanh", "sigmoid", bias=True, dtype=dtype, **keys)
    return net, shake(draw(net, list(range(runs))))


def probes_of(name: str) -> tuple[str, ...]:
    return tuple(BATCH_PROBES) if name in {"norm", "skip"} else tuple(CHOSEN)


@pytest.mark.parametrize("batch", [2, 8])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NETS)
def test_a_run_is_bitwise_the_same_with_and_without(name: str, dtype: type, batch: int) -> None:
    net, parameters = setting(name, dtype, 2)
    task = make_task(net, 6, batch, probes=[0, 2, 3, 6])
    without = train(task, twin(net, parameters), [0.3, 0.5], [1, 2])
    with_them = train(replace(task, probes=probes_of(name)), twin(net, parameters), [0.3, 0.5], [1, 2])
    for one, two in zip(without, with_them, strict=True):
        assert set(two.layers) - set(one.layers) == {PROBES[probe].column for probe in probes_of(name) if probe in PROBES}
        assert_same(replace(two, layers={key: two.layers[key] for key in one.layers}), one)


@pytest.mark.parametrize("batch", [1, 2, 8])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NETS)
def test_a_stack_measures_what_its_runs_do_alone(name: str, dtype: type, batch: int) -> None:
    """Also beside one that diverges."""
    if name == "norm" and batch == 1:
        return
    net, parameters = setting(name, dtype, 4)
    parameters.W[2][3] = np.inf
    task = replace(make_task(net, 5, batch, probes=[0, 2, 5]), probes=probes_of(name))
    rates = [0.3, 0.5, 0.1, 0.1]
    stacked = train(task, twin(net, parameters), rates, [1, 2, 3, 4])
    assert [records.diverged_at is None for records in stacked] == [True, True, True, False]
    for run in range(3):
        alone = train(task, twin(net, parameters, slice(run, run + 1)), [rates[run]], [run + 1])[0]
        assert_same(stacked[run], alone)
        for here, there in ((stacked[run].spectra, alone.spectra), (stacked[run].histograms, alone.histograms)):
            for column, values in there.items():
                np.testing.assert_array_equal(here[column], values)


def count(monkeypatch: pytest.MonkeyPatch, name: str, calls: list[str]) -> None:
    """Note each time one of `bpexp.core.moments` is made."""
    made = getattr(moments, name)

    def noted(*parts: Any) -> Any:
        calls.append(name)
        return made(*parts)

    monkeypatch.setattr(chosen, name, noted)


def test_what_is_not_chosen_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call, no array, no column; with one that is chosen, that one alone."""
    calls: list[str] = []
    for name, probe in list(PROBES.items()):
        if not probe.always:

            def counted(now: Any, k: int, probe: Any = probe) -> Float64s:
                calls.append(probe.name)
                return np.asarray(probe.measure(now, k))

            counted.__name__ = name
            monkeypatch.setitem(PROBES, name, replace(probe, measure=counted))
    count(monkeypatch, "Before", calls)
    count(monkeypatch, "Factors", calls)
    net, parameters = setting("plain", np.float64, 1)
    records = train(make_task(net, 3, probes=[0, 2, 3]), twin(net, parameters), [0.1], [0])[0]
    assert calls == []
    assert set(records.layers) == {"step", "layer", *(probe.column for probe in PROBES.values() if probe.always)}
    assert records.spectra == records.histograms == {}
    nothing = Chosen((), net, 1, 8, 3)
    assert (nothing.layers, nothing.spectra, nothing.probes, nothing.pairs, nothing.histograms.chosen) == ({}, {}, [], False, False)
    train(replace(make_task(net, 3, probes=[0, 2, 3]), probes=("q",)), parameters, [0.1], [0])
    assert calls == ["Before", *["q"] * net.depth] * 3


def test_only_the_step_before_a_probed_one_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[str] = []
    count(monkeypatch, "Factors", copies)
    net, parameters = setting("plain", np.float64, 1)
    train(replace(make_task(net, 20, probes=[0, 7, 20]), probes=("grad_cosine",)), parameters, [0.1], [0])
    assert copies == ["Factors"] * 2


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("hidden", ["sigmoid", "tanh", "relu"])
def test_the_compiled_step_measures_the_same(hidden: str, batch: int) -> None:
    """To the digits that its own arithmetic has in common with NumPy's."""
    pytest.importorskip("numba")
    net = architecture([6, 5, 5, 4], hidden, "sigmoid", bias=True)
    task = replace(make_task(net, 4, batch, probes=[0, 3, 4]), probes=CHOSEN)
    one, two = (train(replace(task, engine=engine), draw(net, [1, 2]), [0.1, 0.2], [3, 4]) for engine in ("numpy", "numba"))
    for ours, theirs in zip(one, two, strict=True):
        assert_close(ours, theirs)


def assert_close(ours: Records, theirs: Records) -> None:
    for name in CHOSEN:
        if name in PROBES:
            np.testing.assert_allclose(theirs.layers[PROBES[name].column], ours.layers[PROBES[name].column], rtol=1e-9, atol=1e-9, err_msg=name)
    certain = ours.spectra["log10_singular_value"] > -8
    np.testing.assert_allclose(theirs.spectra["log10_singular_value"][certain], ours.spectra["log10_singular_value"][certain], atol=1e-7)
    assert certain.any()
