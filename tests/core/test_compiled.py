"""The compiled step against NumPy's, and a stack of its runs against each alone."""

from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import product
from operator import methodcaller

import numpy as np
import pytest

from bpexp.config import ConfigError, OptimizerConfig, RunConfig, check, fingerprint
from bpexp.core.arrays import Array, Float64s
from bpexp.core.descent import Method
from bpexp.core.engines import CODES, ENGINES, NEEDS, step_class
from bpexp.core.losses import LOSSES
from bpexp.core.network import Architecture, Parameters
from bpexp.core.step import Step
from tests.core.nets import DTYPES, architecture, broken_runs, draw, epsilon, make_task, probabilities, samples, train
from tests.core.test_norms import in_float64
from tests.core.test_shapes import assert_same

PAIRS = [("squared_error", output) for output in CODES[:4]] + [("cross_entropy", "softmax")]
BATCHES = [1, 5, 32]
ALIVE = np.ones(1, bool)


def rounded(parameters: Parameters, seed: int, eps: float) -> Parameters:
    """Every weight moved by a rounding."""
    moved, rng = deepcopy(parameters), np.random.default_rng(seed)
    for k, W in enumerate(parameters.W[1:], start=1):
        moved.W[k][:] = W * (1.0 + eps * rng.choice([-1.0, 1.0], W.shape))
    return moved


def after_one_batch(engine: str, net: Architecture, loss: str, x: Array, y: Array, parameters: Parameters, lr: float = 0.1) -> Step:
    step = step_class(engine)(net, LOSSES[loss], Method(), len(x), parameters, np.array([lr]))
    step.neurons.a[0][:], step.targets[:] = x, y
    with np.errstate(all="ignore"):  # as a training does
        step.forward()
        step.backward(ALIVE)
    return step


@pytest.mark.parametrize(("depth", "batch"), [*product([1, 3], BATCHES), (2, 5), (100, 5)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_both_engines_are_right_to_rounding(loss: str, output: str, dtype: type, batch: int, depth: int) -> None:
    """Loss, deltas' and gradients' norms of every layer against float64's, as far as the net itself does not magnify a rounding of its weights."""
    for hidden in CODES[:4]:
        net = architecture([7, *[6] * (depth - 1), 4], hidden, output, bias=True, dtype=dtype)
        rng = np.random.default_rng(0)
        x: Array = rng.random((batch, 7)).astype(dtype)
        y: Array = probabilities(rng, batch, 4).astype(dtype)
        weights = draw(net, [1], "he" if hidden == "relu" else "xavier")
        wide, copy = in_float64(net, weights)
        exact = after_one_batch("numpy", wide, loss, x, y, copy)
        moved = [after_one_batch("numpy", wide, loss, x, y, rounded(copy, seed, epsilon(dtype))) for seed in range(5)]
        for engine in ENGINES:
            found = after_one_batch(engine, net, loss, x, y, weights)
            np.testing.assert_allclose(found.value, exact.value, rtol=4 * (depth + 2) * epsilon(dtype))
            for norm in (methodcaller("log2_delta"), methodcaller("log2_grad")):
                of_it, of_exact = norm(found), norm(exact)
                held = np.isfinite(of_exact)  # a layer of relus may be off altogether
                np.testing.assert_array_equal(np.isfinite(of_it), held)
                sensitive = np.max([np.abs(norm(step)[held] - of_exact[held]) for step in moved], axis=0)  # a neuron near its kink, a loss near 0
                assert (np.abs(of_it[held] - of_exact[held]) < 4 * (depth + 2) * epsilon(dtype) + 4 * sensitive).all(), (engine, hidden, norm)


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_an_update_is_numpys(loss: str, output: str, dtype: type, batch: int, bias: bool) -> None:
    net = architecture([7, 6, 6, 4], "tanh", output, bias=bias, dtype=dtype)
    rng = np.random.default_rng(0)
    x: Array = rng.random((batch, 7)).astype(dtype)
    y: Array = probabilities(rng, batch, 4).astype(dtype)
    ends = []
    for engine in ENGINES:
        parameters = draw(net, [1])
        step = after_one_batch(engine, net, loss, x, y, parameters, lr=0.5)
        before = [W.copy() for W in parameters.W[1:]]
        expected = step.log2_grad()
        np.testing.assert_array_equal(expected, step.log2_grad())  # looking moves nothing
        assert all(np.array_equal(a, b) for a, b in zip(parameters.W[1:], before, strict=True))
        grad = step.update(0, ALIVE, norms=True)
        assert grad is not None
        np.testing.assert_array_equal(grad, expected)
        assert not any(np.array_equal(a, b) for a, b in zip(parameters.W[1:], before, strict=True))
        ends.append([*parameters.W[1:], *parameters.b[1:]])
    for numpys, compiled in zip(*ends, strict=True):
        np.testing.assert_allclose(compiled, numpys, rtol=0, atol=8 * epsilon(dtype))


def stacked(net: Architecture, lr: list[float], batch: int, scale: list[float]) -> None:
    """Train a stack, then each of its runs alone."""
    task = replace(make_task(net, 8, batch, probes=[0, 3, 8], data=samples(6, 4, 48, dtype=net.dtype)), engine="numba")

    def initial(runs: list[int]) -> Parameters:
        parameters = draw(net, runs)
        for arena in parameters.arenas:
            for place, run in enumerate(runs):
                arena.values[place] *= scale[run]
        return parameters

    everyone = list(range(len(lr)))
    together = train(task, initial(everyone), lr, everyone)
    for run in everyone:
        assert_same(together[run], train(task, initial([run]), [lr[run]], [run])[0])
    assert [records.outcome == "diverged" for records in together] == [rate > 1e3 for rate in lr]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", BATCHES)
def test_a_run_in_a_stack_is_bitwise_the_run_alone(dtype: type, batch: int) -> None:
    """Also beside one that diverges, and one whose deltas leave the dtype's range on their way."""
    large = 1e30 if dtype is np.float32 else 1e250
    stacked(architecture([6, *[6] * 20, 4], "linear", "linear", bias=True, dtype=dtype), [1e-3, large, 1e-3], batch, [0.3, 1.0, 1e-6])


@pytest.mark.parametrize("hidden", CODES[:4])
def test_training_goes_where_numpys_goes(hidden: str) -> None:
    """A hundred steps: roundings have not grown past a hundred-thousandth of the loss."""
    net = architecture([6, 8, 8, 4], hidden, "sigmoid", bias=True, dtype=np.float32)
    task = make_task(net, 100, 8, probes=[0, 100], data=samples(6, 4, 48))
    numpys, compiled = (train(replace(task, engine=engine), draw(net, [1], "lecun"), [0.5], [0])[0] for engine in ENGINES)
    np.testing.assert_allclose(compiled.curves["loss_train"], numpys.curves["loss_train"], rtol=1e-5)
    assert numpys.curves["loss_train"][-1] < 0.9 * numpys.curves["loss_train"][0]
    assert any(not np.array_equal(a, b) for a, b in zip(numpys.weights, compiled.weights, strict=True))  # it is another engine


def test_weights_that_are_not_finite_are_found() -> None:
    """A rate that throws the weights beyond float32 at the first update, behind a sigmoid whose loss stays finite."""
    net = architecture([6, 8, 4], "sigmoid", "sigmoid", dtype=np.float32)
    task = replace(make_task(net, 5, 8, probes=[0, 5], data=samples(6, 4, 48)), engine="numba")
    found = train(task, draw(net, [1]), [3e38], [0])[0]
    expected = train(replace(task, engine="numpy"), draw(net, [1]), [3e38], [0])[0]
    assert found.diverged_at == expected.diverged_at
    finite: Float64s = np.array([np.isfinite(W).all() for W in found.weights])
    assert finite.all() == np.all([np.isfinite(W).all() for W in expected.weights])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("lost", [0, 1])
def test_weights_that_are_not_numbers_are_found_behind_a_finite_loss(lost: int, engine: str) -> None:
    """One of two runs has an infinite activation and a delta of 0, its output being the target: 0 times infinity is no number."""
    net = architecture([3, 4, 4, 1], "linear", "sigmoid", dtype=np.float32)
    parameters = draw(net, [1, 2])
    step = step_class(engine)(net, LOSSES["squared_error"], Method(), 1, parameters, np.array([0.1, 0.1]))
    alive = np.ones(2, bool)
    with np.errstate(all="ignore"):
        for number in range(3):
            step.neurons.a[0][:], step.targets[:] = 1.0, 1.0
            if number == 2:
                for W in parameters.W[1:]:
                    W[lost] = 1e30
            step.forward()
            step.backward(alive)
            step.update(number, alive)
            assert np.isfinite(step.value).all()
            assert broken_runs(step) == [number == 2 and run == lost for run in range(2)]


WRONG = {
    "activation": partial(replace, activation="gelu"),
    "loss": partial(replace, loss="binary_cross_entropy", output="sigmoid"),
    "norm": partial(replace, norm="layer"),
    "optimizer": partial(replace, optimizer=OptimizerConfig("adam")),
    "optimizer.weight_decay": partial(replace, optimizer=OptimizerConfig("sgd", weight_decay=0.1)),
    "optimizer.clip": partial(replace, optimizer=OptimizerConfig("sgd", clip=1.0)),
}


@pytest.mark.parametrize("key", WRONG)
def test_what_is_not_compiled_is_refused(key: str) -> None:
    right = RunConfig(engine="numba")
    assert check(right).engine == "numba"
    with pytest.raises(ConfigError, match=rf"^{key}=.*: must be .* with engine=numba$"):
        check(WRONG[key](right))
    check(WRONG[key](RunConfig()))


def test_every_need_is_a_key() -> None:
    assert set(NEEDS) >= set(WRONG) - {"optimizer"}
    assert all(name in ENGINES for name in ("numpy", "numba"))


def test_a_fingerprint_knows_the_engine() -> None:
    assert fingerprint(RunConfig(), "x") != fingerprint(RunConfig(engine="numba"), "x")
