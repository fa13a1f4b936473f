"""Runs whose loss or weights stop being finite: they end there, say so, and keep what came before."""

import numpy as np
import pytest

from bpexp.core.arrays import Array
from bpexp.core.network import Parameters
from bpexp.core.records import Records
from bpexp.core.training import Task
from tests.core.nets import DTYPES, architecture, draw, make_task, start, train

STEPS = 30
BREAKS = {"the loss": (20.0, 1.0), "the weights": (1e37, 1e2)}  # learning rate, factor on the initial weights; the latter for float32


def linear(dtype: type, steps: int = STEPS, *, bias: bool = False, probes: range | None = None) -> Task:
    net = architecture([6, 5, 5, 4], "linear", "linear", bias=bias, dtype=dtype)
    return make_task(net, steps, 24, probes=probes or range(steps + 1))


def weights(task: Task, factor: float) -> Parameters:
    parameters = draw(task.net, [1])
    for arena in parameters.arenas:
        np.multiply(arena.values, factor, out=arena.values)
    return parameters


def tutorial(task: Task, parameters: Parameters, lr: float) -> tuple[int, list[float], list[Array]]:
    """Full-batch descent on a linear net, written out: after how many updates loss or weights are not finite, the losses before, the weights then."""
    W: list[Array] = [np.array(w[0]) for w in parameters.W[1:]]
    x, y = task.data.x_train, task.data.y_train
    losses: list[float] = []
    with np.errstate(all="ignore"):
        for updates in range(task.steps + 1):
            a = [x]
            for w in W:
                a.append(a[-1] @ w)
            loss = float(0.5 * np.square(a[-1] - y).sum() / np.array(len(x), x.dtype))
            if not np.isfinite(loss) or not all(np.isfinite(w).all() for w in W):
                return updates, losses, W
            losses.append(loss)
            delta = (a[-1] - y) / np.array(len(x), x.dtype)
            for k in reversed(range(len(W))):
                step = np.array(lr, x.dtype) * (a[k].T @ delta)
                delta = delta @ W[k].T
                W[k] = W[k] - step
    raise AssertionError("it did not diverge")


def diverged(dtype: type, breaks: str, *, bias: bool = False) -> tuple[Task, Records]:
    lr, factor = BREAKS[breaks]
    task = linear(dtype, bias=bias)
    records = train(task, weights(task, factor), [lr], [0])[0]
    assert records.outcome == "diverged"
    return task, records


CASES = pytest.mark.parametrize(("dtype", "breaks"), [(np.float32, "the loss"), (np.float64, "the loss"), (np.float32, "the weights")])


@CASES
def test_it_ends_where_plain_numpy_does(dtype: type, breaks: str) -> None:
    lr, factor = BREAKS[breaks]
    task, records = diverged(dtype, breaks)
    updates, losses, _ = tutorial(task, weights(task, factor), lr)
    assert records.diverged_at == updates < STEPS
    found = records.curves["loss_train"]
    np.testing.assert_allclose(found[:updates], losses, rtol=1e-4 if dtype is np.float32 else 1e-12)
    assert len(found) == updates + (breaks == "the loss")  # a loss that is not finite is told; after broken weights there is none
    assert not np.isfinite(found[updates:]).any()


@CASES
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_what_came_before_is_bitwise_that_of_a_shorter_run(dtype: type, breaks: str, bias: bool) -> None:
    """All curves and layers up to the last step before the end; but for `update_made` of that step, which a shorter run does not make."""
    task, records = diverged(dtype, breaks, bias=bias)
    lr, factor = BREAKS[breaks]
    end = records.diverged_at
    assert end is not None
    shorter = linear(dtype, end - 1, bias=bias)
    expected = train(shorter, weights(task, factor), [lr], [0])[0]
    assert expected.outcome != "diverged"
    for name, column in expected.curves.items():
        np.testing.assert_array_equal(records.curves[name][:end], column, err_msg=name)
    for name, column in expected.layers.items():
        compared = slice(0, -task.net.depth if name == "log10_update_made" else None)
        assert len(records.layers[name]) == len(column)
        np.testing.assert_array_equal(records.layers[name][compared], column[compared], err_msg=name)


@CASES
def test_weights_are_those_at_the_end(dtype: type, breaks: str) -> None:
    lr, factor = BREAKS[breaks]
    task, records = diverged(dtype, breaks)
    _, _, expected = tutorial(task, weights(task, factor), lr)
    for found, W in zip(records.weights, expected, strict=True):
        np.testing.assert_allclose(found, W, rtol=1e-4 if dtype is np.float32 else 1e-12)
    finite = all(np.isfinite(W).all() for W in records.weights)
    assert finite == (breaks == "the loss")


def test_a_probe_at_the_step_of_the_end_leaves_no_layers() -> None:
    task, records = diverged(np.float32, "the loss")
    end = records.diverged_at
    assert end is not None
    assert end in task.probe_steps
    assert end == records.curves["step"][-1]
    assert records.layers["step"].max() == end - 1
    assert np.isnan(records.curves["loss_train_full"][end])
    assert {len(column) for column in records.layers.values()} == {end * task.net.depth}


def test_training_stops_when_all_runs_have_diverged() -> None:
    task = linear(np.float32)
    training = start(task, draw(task.net, [1, 2]), [20.0, 40.0], [1, 2])
    done = list(training.advance())
    ends = [training.records(run).diverged_at for run in range(2)]
    assert done[-1] == max(end for end in ends if end is not None) < STEPS


def test_what_is_left_of_a_diverged_run_in_the_stack_is_finite() -> None:
    """Arithmetic on NaN and infinity can be slower by far, and the neighbours would wait for it."""
    task = linear(np.float32)
    training = start(task, draw(task.net, [1, 2]), [20.0, 1e-2], [1, 2])
    for _ in training.advance():
        pass
    assert [training.records(run).outcome == "diverged" for run in range(2)] == [True, False]
    for arena in training.parameters.arenas:
        assert np.isfinite(arena.values).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_finite_run_has_not_diverged(dtype: type) -> None:
    task = linear(dtype)
    records = train(task, draw(task.net, [1]), [1e-2], [0])[0]
    assert records.diverged_at is None
    assert all(np.isfinite(column).all() for column in records.curves.values())
