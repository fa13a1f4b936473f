"""Initial weights: their mean and variance by statistics, their bounds, their orthogonality, their independence of the dtype; and biases."""

from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from math import exp, sqrt

import numpy as np
import pytest

from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import Float64s
from bpexp.core.initializers import INITIALIZERS, draw_layer
from bpexp.core.network import Parameters
from tests.core.nets import architecture, draw, evaluate

SHAPES = [(300, 300), (2000, 300), (300, 2000), (1, 500)]
SIGMAS = 5.0  # of the estimate: a right initializer fails one of a seed's tests with a probability of 6e-7; the seed is fixed

Formula = Callable[[int, int], float]

VARIANCES: dict[str, Formula] = {
    "standard": lambda n_in, _n_out: 1 / (3 * n_in),
    "lecun": lambda n_in, _n_out: 1 / n_in,
    "xavier": lambda n_in, n_out: 2 / (n_in + n_out),
    "xavier_normal": lambda n_in, n_out: 2 / (n_in + n_out),
    "he": lambda n_in, _n_out: 2 / n_in,
    "he_uniform": lambda n_in, _n_out: 2 / n_in,
    "sussillo": lambda n_in, _n_out: 2 * exp(2.4 / (max(n_in, 6) - 2.4)) / n_in,
}
BOUNDS: dict[str, Formula] = {
    "standard": lambda n_in, _n_out: 1 / sqrt(n_in),
    "xavier": lambda n_in, n_out: sqrt(6 / (n_in + n_out)),
    "he_uniform": lambda n_in, _n_out: sqrt(6 / n_in),
}
EXACT: dict[str, Callable[[int, int], Float64s]] = {  # what takes no random numbers: its matrix itself
    "zeros": lambda n_in, n_out: np.full((n_in, n_out), 0.0),
    "identity": lambda n_in, n_out: np.array([[float(i == j) for j in range(n_out)] for i in range(n_in)]),
}
RANDOM = [name for name in INITIALIZERS if name not in EXACT]
NORMAL = ["lecun", "xavier_normal", "he", "gaussian", "critical", "shifted_critical", "sussillo"]
SCALED = [name for name, row in INITIALIZERS.items() if "sigma_w2" in row.keys]
FLAGGED = [name for name, row in INITIALIZERS.items() if "orthogonal" in row.keys]

Case = tuple[str, dict[str, float], Formula | None]


def needed(name: str) -> dict[str, float]:
    """Values for the keys that a row has no default for."""
    parameters = signature(INITIALIZERS[name].draw).parameters
    return {"sigma_w2": 1.5} if "sigma_w2" in parameters and parameters["sigma_w2"].default is parameters["sigma_w2"].empty else {}


def over_fan_in(sigma_w2: float) -> Formula:
    return lambda n_in, _n_out: sigma_w2 / n_in


def cases() -> list[Case]:
    """Each initializer with the variance that its formula promises; the scaled ones at three scales."""
    fixed: list[Case] = [(name, {}, VARIANCES.get(name)) for name in RANDOM if name not in SCALED]
    scaled: list[Case] = [(name, {"sigma_w2": s}, over_fan_in(s)) for name in SCALED for s in (1 / 3, 1.0, 4.0)]
    flagged: list[Case] = [(name, {"sigma_w2": 4.0, "orthogonal": True}, over_fan_in(4.0)) for name in FLAGGED]
    return fixed + scaled + flagged


def matrix(name: str, shape: tuple[int, int], scale: dict[str, float] | None = None, seed: int = 7) -> Float64s:
    return INITIALIZERS[name].draw(np.random.default_rng(seed), *shape, **(needed(name) if scale is None else scale))


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (5, 2), (1, 1)], ids=str)
@pytest.mark.parametrize("name", EXACT)
def test_what_is_not_random_is_exactly_its_matrix(name: str, shape: tuple[int, int]) -> None:
    """Whatever the seed; and the next layer's random numbers are the ones that it would have had without."""
    rng = np.random.default_rng(7)
    W = INITIALIZERS[name].draw(rng, *shape)
    assert W.dtype == np.float64
    np.testing.assert_array_equal(W, EXACT[name](*shape))
    np.testing.assert_array_equal(matrix(name, shape, seed=8), W)
    assert rng.random() == np.random.default_rng(7).random()


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (5, 2), (1, 1)], ids=str)
def test_the_identity_has_its_gain_on_the_diagonal(shape: tuple[int, int]) -> None:
    W = matrix("identity", shape, {"gain": 0.3})
    assert (np.diagonal(W) == 0.3).all()
    assert np.count_nonzero(W) == min(shape)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("name", "scale", "variance"), cases(), ids=lambda value: str(value) if isinstance(value, str | dict) else "")
def test_mean_is_zero_and_variance_its_formula(name: str, scale: dict[str, float], variance: Formula | None, shape: tuple[int, int]) -> None:
    """z-tests of the means of w and of w**2, their standard errors estimated from the same weights."""
    W = matrix(name, shape, scale)
    assert W.shape == shape
    assert W.dtype == np.float64
    assert np.isfinite(W).all()
    assert abs(W.mean()) < SIGMAS * W.std() / sqrt(W.size)
    if variance is not None:
        squares = np.square(W)
        assert abs(squares.mean() - variance(*shape)) <= SIGMAS * squares.std() / sqrt(W.size)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("name", "scale", "_variance"), cases(), ids=lambda value: str(value) if isinstance(value, str | dict) else "")
def test_a_row_knows_the_mean_square_of_its_weights(name: str, scale: dict[str, float], _variance: Formula | None, shape: tuple[int, int]) -> None:
    """n_in E[w²], against the weights themselves: to rounding where they are orthogonal, else a z-test with their own standard error."""
    row, squares = INITIALIZERS[name], shape[0] * np.square(matrix(name, shape, scale))
    assert row.sigma_w2 is not None
    told = row.sigma_w2(*shape, **scale)
    error = squares.std() / sqrt(squares.size)
    assert abs(squares.mean() - told) <= (1e-12 * told if row.draws_orthogonal(**scale) else SIGMAS * error)


@pytest.mark.parametrize("name", RANDOM)
def test_a_row_knows_whether_its_matrices_are_orthogonal(name: str) -> None:
    for keys in ({}, {"orthogonal": True}) if name in FLAGGED else ({},):
        values = np.linalg.svd(matrix(name, (40, 40), needed(name) | keys), compute_uv=False)
        assert INITIALIZERS[name].draws_orthogonal(**keys) == (np.ptp(values) < 1e-12 * values[0])


def test_of_weights_that_are_not_random_theory_has_nothing_to_say() -> None:
    assert {name for name, row in INITIALIZERS.items() if row.sigma_w2 is None} == set(EXACT)


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_uniform_weights_fill_their_bounds(name: str, shape: tuple[int, int]) -> None:
    """None outside; the outermost within the share of 1/count that the largest of so many leaves empty, at a confidence of 1 - 1e-6."""
    W, bound = matrix(name, shape), BOUNDS[name](*shape)
    empty = -np.log(1e-6) / W.size
    for extreme in (W.max(), -W.min()):
        assert bound * (1 - 2 * empty) < extreme <= bound
    quarters = np.histogram(W, bins=4, range=(-bound, bound))[0]
    assert np.abs(quarters - W.size / 4).max() < SIGMAS * sqrt(W.size * 3 / 16)


@pytest.mark.parametrize("name", NORMAL)
def test_normal_weights_have_the_fourth_moment_of_a_normal(name: str) -> None:
    W = matrix(name, (300, 300))
    fourth = (W / sqrt(np.square(W).mean())) ** 4
    assert abs(fourth.mean() - 3.0) < SIGMAS * sqrt(96 / W.size)  # the variance of x**4 is 105 - 9
    assert abs(np.mean(W > 0) - 0.5) < SIGMAS * sqrt(0.25 / W.size)


@pytest.mark.parametrize(("name", "sigma_w2"), [("lecun", 1.0), ("he", 2.0)])
def test_named_scales_of_the_gaussian(name: str, sigma_w2: float) -> None:
    np.testing.assert_array_equal(matrix(name, (30, 20)), matrix("gaussian", (30, 20), {"sigma_w2": sigma_w2}))


@pytest.mark.parametrize("name", SCALED)
def test_sigma_w2_scales_the_variance_exactly(name: str) -> None:
    one, four = (matrix(name, (30, 20), {"sigma_w2": s}) for s in (1.0, 4.0))
    np.testing.assert_array_equal(four, 2 * one)


@pytest.mark.parametrize("sigma_w2", [1.0, 2.5])
@pytest.mark.parametrize("shape", [(40, 40), (60, 20), (20, 60), (1, 9), (9, 1), (1, 1)], ids=str)
def test_orthogonal_matrices_are_orthogonal(shape: tuple[int, int], sigma_w2: float) -> None:
    """WᵀW = sigma_w2 I towards fewer neurons, WWᵀ = sigma_w2 n_out/n_in I towards more; the mean square is sigma_w2/n_in exactly."""
    W, (n_in, n_out) = matrix("orthogonal", shape, {"sigma_w2": sigma_w2}), shape
    product, scale = (W.T @ W, sigma_w2) if n_out <= n_in else (W @ W.T, sigma_w2 * n_out / n_in)
    np.testing.assert_allclose(product, scale * np.eye(min(shape)), rtol=0, atol=1e-13)
    assert np.square(W).mean() == pytest.approx(sigma_w2 / n_in, rel=1e-13)


def test_orthogonal_matrices_are_uniformly_distributed() -> None:
    """Under the uniform distribution W and -W are as likely: the trace has mean 0 and variance 1.  LAPACK's own signs give some -0.6."""
    traces = np.array([np.trace(matrix("orthogonal", (3, 3), seed=seed)) for seed in range(2000)])
    assert abs(traces.mean()) < SIGMAS / sqrt(2000)
    assert abs(np.square(traces).mean() - 1.0) < SIGMAS * np.square(traces).std() / sqrt(2000)


@pytest.mark.parametrize("orthogonal", [False, True])
@pytest.mark.parametrize("name", FLAGGED)
def test_critical_weights_are_those_of_the_ensemble_at_its_scale(name: str, orthogonal: bool) -> None:
    expected = matrix("orthogonal" if orthogonal else "gaussian", (30, 20), {"sigma_w2": 2.5})
    np.testing.assert_array_equal(matrix(name, (30, 20), {"sigma_w2": 2.5, "orthogonal": orthogonal}), expected)


@pytest.mark.parametrize(("n_in", "g"), [(1, 1.97369), (6, 1.97369), (10, 1.65611), (100, 1.43171), (10_000, 1.41438)])
def test_sussillos_factor_by_hand(n_in: int, g: float) -> None:
    """The square root of 2 times e**(1/3) for up to 6 inputs, the root alone for many."""
    found = matrix("sussillo", (n_in, 3)) / matrix("gaussian", (n_in, 3), {"sigma_w2": 1.0})
    np.testing.assert_allclose(found, g, rtol=1e-5)


@pytest.mark.parametrize("name", RANDOM)
def test_layers_and_seeds_are_independent_and_repeatable(name: str) -> None:
    rng = np.random.default_rng(7)
    first, second = (INITIALIZERS[name].draw(rng, 50, 50, **needed(name)) for _ in range(2))
    np.testing.assert_array_equal(first, matrix(name, (50, 50)))
    for other in (second, matrix(name, (50, 50), seed=8)):
        assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < SIGMAS / 50


@pytest.mark.parametrize("name", INITIALIZERS)
def test_both_dtypes_start_from_the_same_weights_up_to_rounding(name: str) -> None:
    narrow, wide = (draw(architecture([20, 30, 30, 5], dtype=dtype), [1], name, **needed(name)) for dtype in (np.float32, np.float64))
    for a, b in zip(narrow.W[1:], wide.W[1:], strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b.astype(np.float32))


@pytest.mark.parametrize("k", [1, 2, 9])
@pytest.mark.parametrize("name", INITIALIZERS)
def test_a_layer_is_its_weights_and_then_its_biases(name: str, k: int) -> None:
    """Drawn in that order, of variance sigma_b2; from layer 2 on the row's centre times each neuron's sum of weights is taken off."""
    row, rng = INITIALIZERS[name], np.random.default_rng(7)
    W, b = draw_layer(np.random.default_rng(7), row, k, 30, 20, bias=True, sigma_b2=0.25, **needed(name))
    np.testing.assert_array_equal(W, row.draw(rng, 30, 20, **needed(name)))
    assert b is not None
    assert b.shape == (1, 20)
    noise = 0.5 * rng.standard_normal((1, 20))
    if row.centre == 0.0 or k == 1:
        np.testing.assert_array_equal(b, noise)
    else:
        np.testing.assert_allclose(b, noise - row.centre * np.array([[sum(W[:, j]) for j in range(20)]]), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_a_layer_without_biases_takes_no_random_numbers_for_them(name: str) -> None:
    rng, other = np.random.default_rng(7), np.random.default_rng(7)
    W, b = draw_layer(rng, INITIALIZERS[name], 2, 30, 20, bias=False, **needed(name))
    np.testing.assert_array_equal(W, INITIALIZERS[name].draw(other, 30, 20, **needed(name)))
    assert b is None
    assert rng.random() == other.random()


def test_a_layer_is_given_its_keys() -> None:
    W, _ = draw_layer(np.random.default_rng(7), INITIALIZERS["critical"], 2, 30, 20, bias=False, sigma_w2=2.5, orthogonal=True)
    np.testing.assert_array_equal(W, matrix("orthogonal", (30, 20), {"sigma_w2": 2.5}))


def test_biases_of_variance_zero_are_the_centre_alone() -> None:
    row = replace(INITIALIZERS["identity"], centre=0.25)
    for k, expected in ((1, 0.0), (2, -0.25)):
        np.testing.assert_array_equal(draw_layer(np.random.default_rng(7), row, k, 4, 4, bias=True)[1], np.full((1, 4), expected))


def test_a_shifted_sigmoid_net_is_a_tanh_net() -> None:
    """As sigmoid(z) = (1 + tanh(z/2))/2: with weights 4 W, in layer 1, whose inputs are no activations, 2 W, z is twice the tanh net's."""
    sizes, row = [7, 30, 40, 20, 5], INITIALIZERS["shifted_critical"]
    tanh, sigmoid = architecture(sizes, "tanh", "tanh"), architecture(sizes, "sigmoid", "sigmoid", bias=True)
    plain, shifted = draw(tanh, [1], "gaussian", sigma_w2=1.2), Parameters(sigmoid, 1)
    for k in tanh.layers:
        W = (2 if k == 1 else 4) * plain.W[k][0]
        given = replace(row, draw=lambda _rng, _n_in, _n_out, W=W: W)
        shifted.W[k][0], b = draw_layer(np.random.default_rng(0), given, k, *W.shape, bias=True)
        assert b is not None
        shifted.b[k][0] = b
    x = np.random.default_rng(2).standard_normal((6, 7))
    expected, found = evaluate(tanh, plain, x), evaluate(sigmoid, shifted, x)
    for k in tanh.layers:
        np.testing.assert_allclose(found.z[k], 2 * expected.z[k], rtol=0, atol=1e-13)
        np.testing.assert_allclose(found.a[k], (1 + expected.a[k]) / 2, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_a_row_says_what_it_is_and_does(name: str) -> None:
    row = INITIALIZERS[name]
    assert row.name == row.draw.__name__ == name
    assert list(row.keys) == list(signature(row.draw).parameters)[3:]
    assert row.equation.startswith("W")
    assert row.effect.endswith(".")
    assert row.source
    assert row.solved == (name in FLAGGED)
    assert not row.centre or row.needs["bias"] == (True,)  # it lies in the biases
    for activation in row.needs.get("activation", ()):
        assert ACTIVATIONS[str(activation)].elementwise
