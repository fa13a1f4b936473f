"""The output layer's own learning rate: against training loops in plain NumPy, in every way that a step is made, alone and in stacks."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bpexp.config import ConfigError, DataConfig, InitConfig, OptimizerConfig, RunConfig, ScheduleConfig, SkipConfig, check
from bpexp.core.arrays import Array
from bpexp.core.optimizers import OPTIMIZERS
from bpexp.core.records import Records
from bpexp.core.schedules import SCHEDULES
from bpexp.core.training import Split
from bpexp.experiment import NullSink, prepare, run_stack, train

SMALL = DataConfig("synthetic", samples=30, inputs=5, classes=6)  # as many as the hidden layers have neurons: all weights but the first lie together
LR, OUTPUT_LR = 0.002, 0.006  # low enough for wide nets to settle: where they don't, roundings grow

# ---------------------------------------------------------------------------------------------- the reference

Rule = Callable[[Array, Array, list[Array], float, int], Array]  # new weights from weights, gradient, memory, learning rate, t = 1, 2, …


def sgd(W: Array, g: Array, _memory: list[Array], lr: float, _t: int) -> Array:
    return W - lr * g


def momentum(W: Array, g: Array, memory: list[Array], lr: float, _t: int) -> Array:
    memory[0] = 0.9 * memory[0] + g
    return W - lr * memory[0]


def nesterov(W: Array, g: Array, memory: list[Array], lr: float, _t: int) -> Array:
    memory[0] = 0.9 * memory[0] + g
    return W - lr * (g + 0.9 * memory[0])


def rmsprop(W: Array, g: Array, memory: list[Array], lr: float, _t: int) -> Array:
    memory[0] = 0.99 * memory[0] + 0.01 * g**2
    return np.asarray(W - lr * g / (np.sqrt(memory[0]) + 1e-8))


def adam(W: Array, g: Array, memory: list[Array], lr: float, t: int) -> Array:
    memory[0], memory[1] = 0.9 * memory[0] + 0.1 * g, 0.999 * memory[1] + 0.001 * g**2
    return np.asarray(W - lr * (memory[0] / (1 - 0.9**t)) / (np.sqrt(memory[1] / (1 - 0.999**t)) + 1e-8))


def adamw(W: Array, g: Array, memory: list[Array], lr: float, t: int) -> Array:
    return adam(W - lr * 0.01 * W, g, memory, lr, t)


RULES: dict[str, Rule] = {rule.__name__: rule for rule in (sgd, momentum, nesterov, rmsprop, adam, adamw)}


def gradients(weights: list[Array], biases: list[Array], x: Array, y: Array) -> tuple[list[Array], list[Array]]:
    """Of half the squared error of a tanh net with linear outputs, the mean over samples."""
    activations = [x]
    for W, b in zip(weights[:-1], biases[:-1], strict=True):
        activations.append(np.tanh(activations[-1] @ W + b))
    delta = (activations[-1] @ weights[-1] + biases[-1] - y) / len(x)
    of_weights: list[Array] = []
    of_biases: list[Array] = []
    for W, a in zip(weights[::-1], activations[::-1], strict=True):
        of_weights.append(a.T @ delta)
        of_biases.append(delta.sum(axis=0, keepdims=True))
        delta = (delta @ W.T) * (1 - a**2)
    return of_weights[::-1], of_biases[::-1]


def reference(start: Records, data: Split, steps: int, rule: Rule, factors: list[float], clip: float | None) -> list[Array]:
    """Weights, then biases, after so many steps on all samples, the output layer's at OUTPUT_LR, the others at LR."""
    found = [*start.weights, *start.biases]
    depth = len(start.weights)
    memories: list[list[Array]] = [[np.zeros_like(W), np.zeros_like(W)] for W in found]
    for step in range(steps):
        of_weights, of_biases = gradients(found[:depth], found[depth:], data.x_train, data.y_train)
        grad = [*of_weights, *of_biases]
        norm = float(np.sqrt(sum((g**2).sum() for g in grad)))
        share = 1.0 if clip is None else min(1.0, clip / norm)
        for at, g in enumerate(grad):
            lr = (OUTPUT_LR if at % depth == depth - 1 else LR) * factors[step]
            found[at] = rule(found[at], share * g, memories[at], lr, step + 1)
    return found


def plain(**changes: Any) -> RunConfig:
    """Few steps are probed: those that are not descend in another way."""
    values: dict[str, Any] = {"depth": 4, "width": 6, "steps": 12, "activation": "tanh", "output": "linear", "bias": True, "dtype": "float64"}
    values |= {"batch_size": "full", "lr": LR, "output_lr": OUTPUT_LR, "data": SMALL, "init": InitConfig("gaussian", sigma_b2=0.1), "probe_points": 3}
    return RunConfig(**values | changes)


SHAPES: dict[str, dict[str, Any]] = {
    "one arena": {},
    "several arenas": {"data": replace(SMALL, classes=3)},
    "the output layer alone": {"depth": 1},
    "one sample": {"data": replace(SMALL, samples=4, test_fraction=0.75)},
    "wide": {"width": 300, "steps": 5},
    "wide, one sample": {"width": 300, "data": replace(SMALL, samples=4, test_fraction=0.75)},
    "compiled": {"engine": "numba"},
    "compiled, one sample": {"engine": "numba", "data": replace(SMALL, samples=4, test_fraction=0.75)},
}


@pytest.mark.parametrize(("name", "shape"), [*((name, "one arena") for name in RULES), *(("sgd", shape) for shape in SHAPES if shape != "one arena")])
@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_two_rates_are_those_of_a_loop_in_numpy(name: str, shape: str, clip: float | None, schedule: str) -> None:
    if shape.startswith("compiled"):
        pytest.importorskip("numba")
        clip = None  # the compiled step has none
    config = plain(**SHAPES[shape], optimizer=OptimizerConfig(name, clip=clip), schedule=ScheduleConfig(schedule))
    start = train(replace(config, lr=1e-300, output_lr=None, optimizer=OptimizerConfig(), schedule=ScheduleConfig()))
    row, keys = SCHEDULES[schedule], {key: getattr(check(config).schedule, key) for key in SCHEDULES[schedule].keys}
    factors = [row.rule(step, config.steps, **keys) for step in range(config.steps)]
    records = train(config)
    expected = reference(start, prepare(check(config)).dataset.split, config.steps, RULES[name], factors, clip)
    for found, wanted, first in zip((*records.weights, *records.biases), expected, (*start.weights, *start.biases), strict=True):
        assert np.abs(found - first).max() > 1e-7  # far beyond what is allowed
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-11)


def test_every_optimizer_has_its_loop() -> None:
    assert set(RULES) == set(OPTIMIZERS)


# ---------------------------------------------------------------------------------------------- bits


WAYS: dict[str, dict[str, Any]] = {
    **{name: {"optimizer": OptimizerConfig(name)} for name in OPTIMIZERS},
    "mini-batches": {"batch_size": 8, "dtype": "float32", "bias": False, "init": InitConfig("he")},
    "one at a time": {"batch_size": 1, "dtype": "float32"},
    "deep": {"depth": 40, "activation": "sigmoid", "dtype": "float32", "batch_size": 8},
    "operations between": {"norm": "batch", "skip": SkipConfig("rezero"), "batch_size": 8, "optimizer": OptimizerConfig("adam", clip=0.1)},
    "wide": {"width": 300, "steps": 4, "batch_size": 8, "schedule": ScheduleConfig("cosine")},
    "wide, one at a time": {"width": 300, "steps": 4, "batch_size": 1, "dtype": "float32"},
    "compiled": {"engine": "numba", "batch_size": 8, "schedule": ScheduleConfig("cosine")},
    "compiled, one at a time": {"engine": "numba", "batch_size": 1, "dtype": "float32"},
}


def way(name: str, **changes: Any) -> RunConfig:
    if name.startswith("compiled"):
        pytest.importorskip("numba")
    return plain(**WAYS[name] | changes)


def assert_same(one: Records, two: Records) -> None:
    for some, others in ((one.curves, two.curves), (one.layers, two.layers), (one.parameters, two.parameters)):
        assert some.keys() == others.keys()
        for name, values in some.items():
            np.testing.assert_array_equal(values, others[name], err_msg=name)


@pytest.mark.parametrize("name", WAYS)
def test_a_rate_that_is_the_others_changes_no_bit(name: str) -> None:
    without, with_it, other = (train(way(name, output_lr=rate)) for rate in (None, LR, OUTPUT_LR))
    assert_same(with_it, without)
    assert not np.array_equal(other.weights[-1], without.weights[-1])


@pytest.mark.parametrize("name", WAYS)
def test_a_stack_of_runs_with_several_output_rates_is_its_runs_alone(name: str) -> None:
    """One has none, and one diverges."""
    runs = [prepare(check(way(name, seed=seed, output_lr=rate))) for seed, rate in enumerate((OUTPUT_LR, None, 1e-3, 1e300))]
    stacked = run_stack(runs, [NullSink()] * len(runs))
    assert [records.diverged_at is None for records in stacked] == [True, True, True, False]
    for run, records in zip(runs, stacked, strict=True):
        assert_same(records, run_stack([run], [NullSink()])[0])
    assert_same(run_stack(runs[1:2] * 2, [NullSink()] * 2)[0], stacked[1])


def test_the_first_step_of_the_other_layers_does_not_know_it() -> None:
    one, two = (train(plain(steps=1, output_lr=rate)) for rate in (0.1, 0.2))
    for a, b in zip((*one.weights[:-1], *one.biases[:-1]), (*two.weights[:-1], *two.biases[:-1]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not (one.weights[-1] == two.weights[-1]).any()


# ---------------------------------------------------------------------------------------------- records and refusals


@pytest.mark.parametrize("name", ["sgd", "wide", "compiled", "one at a time"])
def test_the_update_ratio_is_with_the_layers_own_rate(name: str) -> None:
    """Which of plain descent is what the update has made, to the digits of float32."""
    config = way(name, schedule=ScheduleConfig())
    layers = train(config).layers
    lr = np.where(layers["layer"] == config.depth, OUTPUT_LR, LR)
    expected = np.log10(lr) + layers["log10_grad_norm"] - np.log10(layers["weight_norm"])
    np.testing.assert_allclose(layers["log10_update_ratio"], expected, rtol=0, atol=1e-12)
    updated = layers["step"] < config.steps
    np.testing.assert_allclose(layers["log10_update_made"][updated], expected[updated], rtol=0, atol=1e-3)


def test_a_rate_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        check(RunConfig(output_lr=0.0))
    assert str(refused.value) == "output_lr=0.0: must be a number, above 0; or null"
