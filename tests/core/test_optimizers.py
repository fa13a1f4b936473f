"""Each optimizer against closed forms, the units of its gradients, clipping, and what stacked runs have of each other: nothing."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from inspect import Parameter, signature
from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bpexp.core.arrays import Array, Float64s
from bpexp.core.descent import Descent, Method
from bpexp.core.network import Gradients, Parameters
from bpexp.core.optimizers import OPTIMIZERS, Block, clip_factor
from tests.core.nets import DTYPES, architecture, epsilon
from tests.core.steps import Run, descend, net

WEIGHTS = np.array([[1.0, -2.0], [0.5, -0.25], [4.0, 8.0]])
GRADIENT = np.array([[0.5, 2.0], [-0.25, 1.0], [-8.0, 0.125]])
LR = 0.125


class Layer:
    """One layer of 3 x 2 weights that descends on given gradients, all of its runs on the same."""

    def __init__(self, name: str, lr: Sequence[float] = (LR,), dtype: type = np.float64, clip: float | None = None, **keys: float) -> None:
        net = architecture([3, 2], dtype=dtype)
        self.gradients, self.parameters = Gradients(net, len(lr), batch=1), Parameters(net, len(lr))
        self.parameters.W[1][:] = WEIGHTS
        self.descent = Descent(Method(OPTIMIZERS[name], keys, clip), self.parameters, self.gradients, np.array(lr))
        self.steps = 0

    def step(self, g: Array | float, exponent: int = 0) -> Array:
        """The weights (R, 3, 2) after another step."""
        self.gradients.W[1][:], self.gradients.exponent[:] = g, exponent
        self.descent.step(self.steps)
        self.steps += 1
        return self.parameters.W[1]


def close(found: Array, expected: Array, ulps: int = 8) -> None:
    """But for roundings, relative to the weights that a step was added to."""
    assert found.shape[1:] == expected.shape
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), rtol=0, atol=ulps * epsilon(found.dtype) * np.abs(WEIGHTS).max())


@pytest.mark.parametrize("dtype", DTYPES)
def test_sgd(dtype: type) -> None:
    """Exactly, the learning rate being a power of two."""
    found = Layer("sgd", (LR, 2 * LR), dtype).step(GRADIENT)
    np.testing.assert_array_equal(found, [WEIGHTS - LR * GRADIENT, WEIGHTS - 2 * LR * GRADIENT])


def travelled(steps: int, momentum: float) -> float:
    """The sum of v_1 … v_steps over g, for a constant g: v_n = g (1 - momentum^n) / (1 - momentum)."""
    return (steps - momentum * (1 - momentum**steps) / (1 - momentum)) / (1 - momentum)


@pytest.mark.parametrize("mu", [0.9, 0.5])
def test_momentum_accumulates(mu: float) -> None:
    layer = Layer("momentum", momentum=mu)
    for step in range(1, 21):
        close(layer.step(GRADIENT), WEIGHTS - LR * travelled(step, mu) * GRADIENT, ulps=1000)


@pytest.mark.parametrize("mu", [0.9, 0.5])
def test_nesterov_is_a_step_ahead_of_momentum(mu: float) -> None:
    layer = Layer("nesterov", momentum=mu)
    for step in range(1, 21):
        close(layer.step(GRADIENT), WEIGHTS - LR * (travelled(step + 1, mu) - 1) * GRADIENT, ulps=1000)


@pytest.mark.parametrize("name", ["momentum", "nesterov"])
def test_without_momentum_it_is_gradient_descent(name: str) -> None:
    layer, sgd = Layer(name, momentum=0.0), Layer("sgd")
    for factor in (1.0, -0.5, 4.0):
        np.testing.assert_array_equal(layer.step(factor * GRADIENT), sgd.step(factor * GRADIENT))


SIZES = [(np.float64, 1.0, 1e-20), (np.float32, 1.0, 1e-10), (np.float32, 1e-30, 1e-37), (np.float64, 1e-290, 1e-307), (np.float64, 1e290, 1e-8)]


@pytest.mark.parametrize("exponent", [0, -20])
@pytest.mark.parametrize(("dtype", "size", "eps"), SIZES)
@pytest.mark.parametrize("name", ["rmsprop", "adam", "adamw"])
def test_a_step_is_as_long_however_small_the_gradient(name: str, dtype: type, size: float, eps: float, exponent: int) -> None:
    """The first moves each weight by lr, over √(1 - alpha) in RMSprop; also where a square of the gradient lies outside of the dtype."""
    keys: dict[str, Any] = {"weight_decay": 0.0, "eps": eps}
    length = LR / sqrt(1 - 0.75) if name == "rmsprop" else LR
    layer = Layer(name, dtype=dtype, **keys | ({"alpha": 0.75} if name == "rmsprop" else {}))
    close(layer.step(np.ldexp(size * GRADIENT, -exponent), exponent), WEIGHTS - length * np.sign(GRADIENT))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_steps_on_as_long_as_the_gradient_stays(name: str, dtype: type) -> None:
    """m̂ = g and r̂ = |g| at every step: neither remembers that it started from 0."""
    layer = Layer(name, dtype=dtype, weight_decay=0.0, eps=1e-20)
    for step in range(1, 21):
        close(layer.step(GRADIENT), WEIGHTS - step * LR * np.sign(GRADIENT), ulps=100)


def test_rmsprop_remembers() -> None:
    """r² = (1 - alpha^n) g² after n equal gradients; and g² decays by alpha once they are 0, while no step is made."""
    layer, length = Layer("rmsprop", alpha=0.75, eps=1e-20), 0.0
    for step in range(1, 11):
        length += LR / sqrt(1 - 0.75**step)
        close(layer.step(GRADIENT), WEIGHTS - length * np.sign(GRADIENT), ulps=100)
    rested = layer.step(0.0).copy()
    close(rested, WEIGHTS - length * np.sign(GRADIENT), ulps=100)
    close(layer.step(GRADIENT), rested[0] - LR / sqrt((1 - 0.75**10) * 0.75**2 + 0.25) * np.sign(GRADIENT), ulps=100)


def test_adam_goes_on_after_the_gradient() -> None:
    """g, then 0: m̂ = beta1 / (1 + beta1) g, and r̂² = beta2 / (1 + beta2) g²."""
    layer, b1, b2 = Layer("adam", beta1=0.5, beta2=0.75, eps=1e-20), 0.5, 0.75
    layer.step(GRADIENT)
    close(layer.step(0.0), WEIGHTS - LR * (1 + b1 / (1 + b1) / sqrt(b2 / (1 + b2))) * np.sign(GRADIENT))


@pytest.mark.parametrize("name", ["rmsprop", "adam", "adamw"])
def test_eps_is_added_to_the_root(name: str) -> None:
    """At |g| = eps a step is half as long, in RMSprop with r = |g|."""
    keys: dict[str, Any] = {"alpha": 0.0} if name == "rmsprop" else {}
    close(Layer(name, eps=1e-3, weight_decay=0.0, **keys).step(1e-3 * np.sign(GRADIENT)), WEIGHTS - LR / 2 * np.sign(GRADIENT))


DECAY = 0.5
DECAYED: dict[str, Callable[[float], Float64s]] = {  # the weights after a step on g = 0, by lr
    "sgd": lambda lr: WEIGHTS * (1 - lr * DECAY),
    "momentum": lambda lr: WEIGHTS * (1 - lr * DECAY),
    "nesterov": lambda lr: WEIGHTS * (1 - lr * DECAY * 1.9),
    "rmsprop": lambda lr: WEIGHTS - lr / sqrt(1 - 0.99) * np.sign(WEIGHTS),
    "adam": lambda lr: WEIGHTS - lr * np.sign(WEIGHTS),
    "adamw": lambda lr: WEIGHTS * (1 - lr * DECAY),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_decay_without_a_gradient(name: str, dtype: type) -> None:
    """In every rule its own way, and not at all without a decay."""
    keys = {"eps": 1e-20} if "eps" in OPTIMIZERS[name].keys else {}
    found = Layer(name, (LR, LR / 2), dtype, weight_decay=DECAY, **keys).step(0.0)
    for run, lr in enumerate((LR, LR / 2)):
        close(found[run : run + 1], DECAYED[name](lr))
    np.testing.assert_array_equal(Layer(name, dtype=dtype, weight_decay=0.0).step(0.0)[0], WEIGHTS)


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "rmsprop", "adam"])
def test_the_decay_is_a_gradient(name: str) -> None:
    decayed, plain = Layer(name, weight_decay=DECAY), Layer(name)
    for factor in (1.0, -0.5, 4.0):
        g = factor * GRADIENT + DECAY * plain.parameters.W[1]
        close(decayed.step(factor * GRADIENT), plain.step(g)[0])


def test_adamw_decays_and_steps() -> None:
    """(1 - lr decay) W, then Adam's step for the same gradient."""
    both, adam, expected = Layer("adamw", weight_decay=DECAY), Layer("adam"), WEIGHTS
    for factor in (1.0, -0.5, 4.0):
        before = adam.parameters.W[1][0].copy()
        step = adam.step(factor * GRADIENT)[0] - before
        expected = expected * (1 - LR * DECAY) + step
        close(both.step(factor * GRADIENT), expected)


def test_the_schedule_multiplies_the_learning_rate() -> None:
    """By the factor of the step, the first being step 0; the decay of AdamW too."""
    for name in ("sgd", "adamw"):
        layer = Layer(name, weight_decay=DECAY)
        layer.descent.method = replace(layer.descent.method, factor=lambda step: [1.0, 0.5, 0.25][step])
        expected = WEIGHTS
        for factor in (1.0, 0.5, 0.25):
            expected = expected * (1 - factor * LR * DECAY)
            close(layer.step(0.0), expected)


def test_the_product_of_rate_and_unit_is_rounded() -> None:
    """And neither of them alone, which here float32 does not have."""
    layer = Layer("sgd", (2.0**150,), np.float32)
    layer.parameters.W[1][:] = 0.0
    with np.errstate(over="ignore"):  # as in a training, where overflow is an outcome
        found = layer.step(GRADIENT, -160)
    np.testing.assert_array_equal(found[0], -GRADIENT * 2.0**-10)


# Clipping


def step_of(exponents: Sequence[int], clip: float | None, dtype: type, size: float = 1.0) -> list[Float64s]:
    """What a step of length 1 moves weights of 0 by, layer by layer, for gradients of a seed in units of 2**exponents."""
    net, rng = architecture([3] * (len(exponents) + 1), dtype=dtype), np.random.default_rng(0)
    parameters, gradients = Parameters(net, 1), Gradients(net, 1, batch=1)
    for k, exponent in zip(net.layers, exponents, strict=True):
        gradients.W[k][:] = size * rng.standard_normal((3, 3))
        gradients.exponent[:, k] = exponent
    Descent(Method(OPTIMIZERS["sgd"], clip=clip), parameters, gradients, np.ones(1)).step(0)
    return [-W[0].astype(np.float64) for W in parameters.W[1:]]


def norm(layers: Sequence[Float64s]) -> float:
    return float(np.linalg.norm(np.stack(layers)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("exponent", [10, 100, 5000, 10**6])
def test_clipped_is_as_long_as_the_limit_and_points_the_same_way(exponent: int, dtype: type) -> None:
    found = step_of([exponent, exponent - 3, exponent + 2], 0.375, dtype)
    plain = step_of([0, -3, 2], None, dtype)
    # log2 of the norm, of the exponent's size, has that many roundings of 2**-53
    tolerance = 8 * epsilon(dtype) + 2 * exponent * epsilon(np.float64)
    assert norm(found) == pytest.approx(0.375, rel=tolerance)
    np.testing.assert_allclose(np.stack(found) / norm(found), np.stack(plain) / norm(plain), rtol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_small_is_nothing_beside_what_is_large(dtype: type) -> None:
    """A gradient of 2**-5000 takes no part in the norm, and its step is 0; one of 2**5000 leaves nothing of one near 1."""
    limit = 0.375
    np.testing.assert_array_equal(step_of([0, -5000], limit, dtype)[0], step_of([0], limit, dtype)[0])
    assert not step_of([0, -5000], limit, dtype)[1].any()
    large, small = step_of([5000, 0], limit, dtype)
    assert not small.any()
    assert norm([large]) == pytest.approx(limit, rel=8 * epsilon(dtype) + 1e-11)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("exponents", [[0, -7, 3], [-5000, 0, -5000], [-5000, -5000, -5000]])
def test_below_the_limit_nothing_changes(exponents: list[int], dtype: type) -> None:
    plain = step_of(exponents, None, dtype)
    np.testing.assert_array_equal(step_of(exponents, 1.01 * norm(plain) + 1e-30, dtype), plain)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradients_of_zero_are_not_divided_by_their_norm(name: str) -> None:
    assert np.isfinite(Layer(name, clip=1.0).step(0.0)).all()
    np.testing.assert_array_equal(Layer(name, clip=1.0, weight_decay=DECAY).step(0.0), Layer(name, weight_decay=DECAY).step(0.0))


def test_the_factor_by_hand() -> None:
    """Norms of 3 and 4 are 5 together; a run each, and one whose gradients are 0."""
    squares = np.array([[9.0, 16.0], [9.0, 16.0], [9.0, 16.0], [0.0, 0.0], [0.0, 256.0], [0.0, 25.0]])
    exponents = np.array([[0, 0], [5000, 5000], [-5000, -5000], [0, 0], [0, 0], [9000, -2]])
    for limit, expected in ((2.0, [(0.4, 0), (0.4, -5000), (1, 0), (1, 0), (0.125, 0), (1, 0)]), (1.0, [(0.2, 0), (0.2, -5000), (1, 0)])):
        mantissas, powers = clip_factor(squares, exponents, limit)
        for mantissa, power, (factor, exponent) in zip(mantissas, powers, expected, strict=False):
            assert mantissa * 2.0 ** (int(power) - exponent) == pytest.approx(factor, rel=1e-15)


def test_the_decay_is_not_clipped() -> None:
    """It is added to what clipping has left, as in PyTorch."""
    g = 1e6 * GRADIENT
    clipped = g / np.linalg.norm(g)
    close(Layer("sgd", clip=1.0, weight_decay=DECAY).step(g), WEIGHTS - LR * (clipped + DECAY * WEIGHTS))


# Stacks


STACK = [Run(0, 0.01), Run(1, 0.003), Run(2, 0.02), Run(3, 1e-4)]


def keys(name: str) -> dict[str, float]:
    return {**OPTIMIZERS[name].keys, "weight_decay": 0.1}


@pytest.mark.parametrize("clip", [None, 5.0])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_of_a_stack_is_the_run_alone(name: str, dtype: type, clip: float | None) -> None:
    method = Method(OPTIMIZERS[name], keys(name), clip, lambda step: 1 / (step + 1))
    stack = list(descend(net(dtype), method, STACK, 12, units=True))
    for index, run in enumerate(STACK):
        for found, alone in zip(stack, descend(net(dtype), method, [run], 12, units=True), strict=True):
            for key, weights in alone.items():
                np.testing.assert_array_equal(found[key][index], weights[0])


@pytest.mark.parametrize("clip", [None, 5.0])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_layer_with_a_rate_of_its_own_descends_as_in_a_net_of_that_rate(name: str, dtype: type, clip: float | None) -> None:
    """All that it trains: on given gradients no layer sees the others' steps.  A stack in which each layer of each run has another rate."""
    method, depth = Method(OPTIMIZERS[name], keys(name), clip, lambda step: 1 / (step + 1)), net(dtype).depth
    rates = [tuple(0.01 * 1.3**k * (run + 1) for k in range(depth)) for run in range(2)]
    mixed = list(descend(net(dtype), method, [Run(run, 1.0, own) for run, own in enumerate(rates)], 6, units=True))
    for run, own in enumerate(rates):
        for k, lr in enumerate(own, start=1):
            for found, alone in zip(mixed, descend(net(dtype), method, [Run(run, lr)], 6, units=True), strict=True):
                for key in (key for key in alone if key[1] == k):
                    np.testing.assert_array_equal(found[key][run], alone[key][0])


@pytest.mark.parametrize("clip", [None, 5.0])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_units_are_no_matter(name: str, dtype: type, clip: float | None) -> None:
    """A gradient g stored as g / 2**e with any e, another one for every run, layer and kind, is g; its norm too."""
    method = Method(OPTIMIZERS[name], keys(name), clip)
    pairs = zip(descend(net(dtype), method, STACK, 12), descend(net(dtype), method, STACK, 12, units=True), strict=True)
    for plain, scaled in pairs:
        for key, weights in plain.items():
            np.testing.assert_array_equal(scaled[key], weights)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_that_has_diverged_leaves_its_neighbours_alone(name: str) -> None:
    """Also where all their gradients are clipped."""
    layers = [Layer(name, (LR, LR, LR), clip=1.0) for _ in range(2)]
    g = np.stack([GRADIENT, GRADIENT, GRADIENT])
    broken = g.copy()
    broken[1] = np.nan
    with np.errstate(all="ignore"):
        for _ in range(3):
            sound, found = layers[0].step(g), layers[1].step(broken)
    np.testing.assert_array_equal(found[[0, 2]], sound[[0, 2]])
    assert np.isnan(found[1]).all()


def moments(layer: Layer) -> list[Array]:
    return [moment for found in layer.descent.moments for moment in found]


@pytest.mark.parametrize("name", [name for name, row in OPTIMIZERS.items() if row.moments])
def test_clear_forgets_the_moments_of_dead_runs_alone(name: str) -> None:
    layer = Layer(name, (LR, LR, LR))
    layer.step(GRADIENT)
    before = [moment.copy() for moment in moments(layer)]
    dead: NDArray[np.bool] = np.array([False, True, False])
    layer.descent.clear(dead)
    assert len(before) == OPTIMIZERS[name].moments
    for was, now in zip(before, moments(layer), strict=True):
        assert was.all()
        assert not now[1].any()
        np.testing.assert_array_equal(now[~dead], was[~dead])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_clear_where_nothing_is_remembered_changes_nothing(name: str) -> None:
    layer = Layer(name, (LR, LR))
    layer.descent.clear(np.array([True, True]))
    np.testing.assert_array_equal(layer.step(GRADIENT), Layer(name, (LR, LR)).step(GRADIENT))


# Rows


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_rule_uses_its_moments(name: str) -> None:
    """All that its row counts, and no other."""
    row = OPTIMIZERS[name]

    def rule(count: int) -> tuple[Array, ...]:
        one: Array = np.ones((1, 1, 1, 1))
        found = tuple(np.zeros((1, 1, 3, 2)) for _ in range(count))
        row.rule(Block(WEIGHTS[None, None].copy(), GRADIENT[None, None].copy(), found, one, one, one), 1)
        return found

    assert all(moment.all() for moment in rule(row.moments))
    if row.moments:
        with pytest.raises((IndexError, ValueError)):
            rule(row.moments - 1)


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, row in OPTIMIZERS.items() for key in row.keys])
def test_every_key_matters(name: str, key: str) -> None:
    """Its default is what holds where it is not given."""
    default = OPTIMIZERS[name].keys[key]
    layers = Layer(name), Layer(name, **{key: default}), Layer(name, **{key: 0.9 * default + 0.01})
    for factor in (1.0, 0.5):
        plain, given, other = (layer.step(factor * GRADIENT) for layer in layers)
    np.testing.assert_array_equal(plain, given)
    assert (plain != other).all()


def test_keys() -> None:
    """And their defaults, which are PyTorch's."""
    moments = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    assert {name: row.keys for name, row in OPTIMIZERS.items()} == {
        "sgd": {"weight_decay": 0.0},
        "momentum": {"momentum": 0.9, "weight_decay": 0.0},
        "nesterov": {"momentum": 0.9, "weight_decay": 0.0},
        "rmsprop": {"alpha": 0.99, "eps": 1e-8, "weight_decay": 0.0},
        "adam": moments | {"weight_decay": 0.0},
        "adamw": moments | {"weight_decay": 0.01},
    }


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_row_says_what_it_is_and_does(name: str) -> None:
    row = OPTIMIZERS[name]
    assert row.name == name == row.rule.__name__
    taken = [parameter for parameter in signature(row.rule).parameters.values() if parameter.default is not Parameter.empty]
    assert row.keys == {parameter.name: parameter.default for parameter in taken}
    assert "W ← " in row.equation
    assert row.effect.endswith(".")
    assert row.source
    assert len(row.lr) >= 3
    assert all(0 < low < high for low, high in pairwise(row.lr))
