"""The training loop against the same thing written out in plain NumPy, as a tutorial would; the sampler; what is recorded when."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpexp.core.arrays import Array, Float64s
from bpexp.core.probes import PROBES
from bpexp.core.training import CHUNK, Sampler, Split, Training
from tests.core.formulas import FORMULAS, LOSS_FORMULAS
from tests.core.nets import DTYPES, REPEATABLE, architecture, draw, make_task, samples, start, train

STEPS, COUNT, LR = 12, 24, 0.3
BATCHES = [1, 7, COUNT]
CASES = [("sigmoid", "squared_error", "sigmoid"), ("tanh", "cross_entropy", "softmax"), ("relu", "squared_error", "linear")]
TOLERANCE: dict[type, float] = {np.float32: 3e-5, np.float64: 1e-12}


@dataclass
class Tutorial:
    """A net with biases in float64: two lists, a loop forward, a loop backward.  Derivatives are written from z."""

    W: list[Float64s]
    b: list[Float64s]
    hidden: str
    loss: str
    output: str

    def forward(self, x: Float64s) -> tuple[list[Float64s], list[Float64s]]:
        z, a = [], [x]
        for k, (W, b) in enumerate(zip(self.W, self.b, strict=True), start=1):
            z.append(a[-1] @ W + b)
            a.append(FORMULAS[self.output if k == len(self.W) else self.hidden](z[-1]))
        return z, a

    def mean_loss(self, x: Float64s, y: Float64s) -> float:
        z, a = self.forward(x)
        return float(LOSS_FORMULAS[self.loss](z[-1], a[-1], y))

    def accuracy(self, x: Float64s, y: Float64s) -> float:
        return float(np.mean([np.argmax(row) == np.argmax(target) for row, target in zip(self.forward(x)[1][-1], y, strict=True)]))

    def update(self, x: Float64s, y: Float64s, lr: float) -> None:
        z, a = self.forward(x)
        delta = (a[-1] - y) / len(x)
        if self.loss == "squared_error":
            delta *= SLOPES[self.output](z[-1])
        for k in reversed(range(len(self.W))):
            grad_W, grad_b = a[k].T @ delta, delta.sum(axis=0)
            if k > 0:
                delta = (delta @ self.W[k].T) * SLOPES[self.hidden](z[k - 1])
            self.W[k] = self.W[k] - lr * grad_W
            self.b[k] = self.b[k] - lr * grad_b


SLOPES: dict[str, Callable[[Float64s], Float64s]] = {
    "sigmoid": lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2,
    "tanh": lambda z: 1 / np.cosh(z) ** 2,
    "relu": lambda z: (z > 0).astype(float),
    "linear": np.ones_like,
}


def begin(case: tuple[str, str, str], batch: int, dtype: type) -> tuple[Training, Tutorial]:
    hidden, loss, output = case
    net = architecture([6, 5, 5, 4], hidden, output, bias=True, dtype=dtype)
    task = make_task(net, STEPS, batch, loss, probes=[0, 5, STEPS], data=samples(6, 4, COUNT, dtype=dtype))
    training = start(task, draw(net, [1]), [LR], [2])
    weights, biases = ([view[0].astype(np.float64) for view in views[1:]] for views in (training.parameters.W, training.parameters.b))
    return training, Tutorial(weights, [b[0] for b in biases], hidden, loss, output)


def wide(*arrays: Array) -> tuple[Float64s, ...]:
    return tuple(array.astype(np.float64) for array in arrays)


def follow(training: Training, tutorial: Tutorial) -> dict[str, list[float]]:
    """Train both, the tutorial on the batches that the sampler chose; the tutorial's curves."""
    data = training.task.data
    sets = {"train": wide(data.x_train, data.y_train), "test": wide(data.x_test, data.y_test)}
    curves: dict[str, list[float]] = {name: [] for name in ("loss_train", "loss_train_full", "loss_test", "accuracy_train", "accuracy_test")}
    for step in training.advance():
        x, y = wide(training.step.neurons.a[0][0], training.step.targets[0])
        curves["loss_train"].append(tutorial.mean_loss(x, y))
        if step in training.task.probe_steps:
            for part, loss in (("train", "loss_train_full"), ("test", "loss_test")):
                curves[loss].append(tutorial.mean_loss(*sets[part]))
                curves[f"accuracy_{part}"].append(tutorial.accuracy(*sets[part]))
        if step < STEPS:  # the last step measures and does not update
            tutorial.update(x, y, LR)
    return curves


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_training_is_the_tutorial(case: tuple[str, str, str], batch: int, dtype: type) -> None:
    """loss_train[t] is the loss of step t's batch at the weights after t updates; the other curves are those weights' on all samples."""
    training, tutorial = begin(case, batch, dtype)
    expected = follow(training, tutorial)
    records = training.records(0)
    for name, values in expected.items():
        steps, found = records.probed(name)
        assert list(steps) == (list(range(STEPS + 1)) if name == "loss_train" else [0, 5, STEPS])
        np.testing.assert_allclose(found, values, rtol=TOLERANCE[dtype], err_msg=name)
    for found_W, W in zip(records.weights, tutorial.W, strict=True):
        np.testing.assert_allclose(found_W, W, rtol=0, atol=10 * TOLERANCE[dtype])
    for found_b, b in zip(records.biases, tutorial.b, strict=True):
        np.testing.assert_allclose(found_b[0], b, rtol=0, atol=10 * TOLERANCE[dtype])


@pytest.mark.parametrize("probes", [[0, 9], [0, 3, 4, 9], list(range(10))], ids=str)
@pytest.mark.parametrize("classes", [True, False], ids=["classes", "numbers"])
def test_columns_and_their_lengths(classes: bool, probes: list[int]) -> None:
    net = architecture([6, 5, 5, 4], "tanh", "sigmoid")
    data = samples(6, 4, dtype=np.float64)
    data = Split(data.x_train, data.y_train, data.x_test, data.y_test, classes=classes)
    records = train(make_task(net, 9, probes=probes, data=data), draw(net, [1]), [0.1], [2])[0]
    accuracies = ["accuracy_train", "accuracy_test"] if classes else []
    assert set(records.curves) == {"step", "loss_train", "loss_train_full", "loss_test", *accuracies}
    assert list(records.layers) == ["step", "layer", *(probe.column for probe in PROBES.values() if probe.always)]
    assert list(records.curves["step"]) == list(range(10))
    assert {len(column) for column in records.curves.values()} == {10}
    assert {len(column) for column in records.layers.values()} == {3 * len(probes)}
    assert list(records.layers["step"]) == [step for step in probes for _ in net.layers]
    assert list(records.layers["layer"]) == [1, 2, 3] * len(probes)
    assert np.isfinite(records.curves["loss_train"]).all()
    for name in ("loss_train_full", "loss_test", *accuracies):
        assert list(np.flatnonzero(np.isfinite(records.curves[name]))) == probes
    assert records.depth == len(records.weights) == 3
    assert records.biases == ()


def test_records_so_far_are_the_beginning_of_the_records() -> None:
    net = architecture([6, 5, 5, 4], "tanh", "sigmoid")
    training = start(make_task(net, 9, probes=[0, 2, 6, 9]), draw(net, [1]), [0.1], [2])
    advance = training.advance()
    for _ in range(5):
        next(advance)
    early = training.records(0)
    for _ in advance:
        pass
    late = training.records(0)
    assert list(early.curves["step"]) == [0, 1, 2, 3, 4]
    assert sorted(set(early.layers["step"])) == [0, 2]
    for name, column in early.curves.items():
        np.testing.assert_array_equal(column, late.curves[name][:5])
    for name, column in early.layers.items():
        np.testing.assert_array_equal(column, late.layers[name][: 2 * net.depth])
    assert not np.array_equal(early.weights[0], late.weights[0])  # a copy of that moment, not a view


@pytest.mark.parametrize("dtype", DTYPES)
def test_probing_changes_nothing(dtype: type) -> None:
    net = architecture([6, 5, 5, 4], "sigmoid", "sigmoid", bias=True, dtype=dtype)
    few, many = (train(make_task(net, 20, probes=probes), draw(net, [1]), [0.5], [2])[0] for probes in ([0, 20], list(range(21))))
    np.testing.assert_array_equal(few.curves["loss_train"], many.curves["loss_train"])
    for a, b in zip(few.weights + few.biases, many.weights + many.biases, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_set_larger_than_a_chunk_is_averaged_over_all_its_samples() -> None:
    net = architecture([6, 5, 4], "tanh", "sigmoid")
    data = samples(6, 4, 2 * CHUNK + 37, dtype=np.float64)
    records = train(make_task(net, 0, probes=[0], data=data), draw(net, [1]), [0.1], [2])[0]
    tutorial = Tutorial([W.astype(np.float64) for W in records.weights], [np.zeros(5), np.zeros(4)], "tanh", "squared_error", "sigmoid")
    x, y = data.x_train.astype(np.float64), data.y_train.astype(np.float64)
    assert records.curves["loss_train_full"][0] == pytest.approx(tutorial.mean_loss(x, y), rel=1e-13)
    assert records.curves["accuracy_train"][0] == pytest.approx(tutorial.accuracy(x, y), rel=1e-13)


@REPEATABLE
@given(count=st.integers(1, 20), size=st.integers(1, 20), runs=st.integers(1, 3), epochs=st.integers(1, 4))
def test_the_sampler_visits_each_sample_once_per_epoch(count: int, size: int, runs: int, epochs: int) -> None:
    """Input and target stay together; what does not fill a batch is left out of its epoch."""
    size = min(size, count)
    numbers: Array = np.arange(float(count))[:, None]
    generators = [np.random.default_rng(seed) for seed in range(runs)]
    sampler = Sampler(Split(numbers, -numbers, numbers, numbers, classes=False), size, generators)
    x, y = np.empty((2, runs, size, 1))
    for _ in range(epochs):
        visited = []
        for _ in range(count // size):
            sampler.next(x, y)
            np.testing.assert_array_equal(-y, x)
            visited.append(x[:, :, 0].copy())
        for run in np.concatenate(visited, axis=1):
            assert len(set(run)) == len(run) == count // size * size
            assert set(run) <= set(range(count))


def test_the_sampler_shuffles_anew_each_epoch_and_each_run_by_its_own_generator() -> None:
    numbers: Array = np.arange(24.0)[:, None]
    sampler = Sampler(Split(numbers, numbers, numbers, numbers, classes=False), 8, [np.random.default_rng(seed) for seed in (1, 2)])
    batches = np.empty((2, 3, 2, 8, 1))
    for batch in batches.reshape(-1, 2, 8, 1):
        sampler.next(batch, np.empty_like(batch))
    epochs = [np.concatenate(list(epoch[..., 0]), axis=1) for epoch in batches]
    orders = [*epochs[0], *epochs[1]]
    assert all(sorted(order) == list(range(24)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


def test_a_full_batch_is_in_order_and_leaves_the_generator_alone() -> None:
    numbers: Array = np.arange(24.0)[:, None]
    generator, untouched = np.random.default_rng(1), np.random.default_rng(1)
    sampler = Sampler(Split(numbers, numbers, numbers, numbers, classes=False), 24, [generator])
    x = np.empty((1, 24, 1))
    for _ in range(2):
        sampler.next(x, np.empty_like(x))
        np.testing.assert_array_equal(x[0], numbers)
    assert generator.random() == untouched.random()
