"""Initial weights: their mean and variance by statistics, their bounds, their orthogonality, their independence of the dtype."""

from collections.abc import Callable
from inspect import signature
from math import sqrt

import numpy as np
import pytest

from bpexp.core.arrays import Float64s
from bpexp.core.initializers import INITIALIZERS
from tests.core.nets import architecture, draw

SHAPES = [(300, 300), (2000, 300), (300, 2000), (1, 500)]
SIGMAS = 5.0  # of the estimate: a right initializer fails one of a seed's tests with a probability of 6e-7; the seed is fixed

Formula = Callable[[int, int], float]

VARIANCES: dict[str, Formula] = {
    "standard": lambda n_in, _n_out: 1 / (3 * n_in),
    "lecun": lambda n_in, _n_out: 1 / n_in,
    "xavier": lambda n_in, n_out: 2 / (n_in + n_out),
    "he": lambda n_in, _n_out: 2 / n_in,
}
BOUNDS: dict[str, Formula] = {
    "standard": lambda n_in, _n_out: 1 / sqrt(n_in),
    "xavier": lambda n_in, n_out: sqrt(6 / (n_in + n_out)),
}
NORMAL = ["lecun", "he", "gaussian"]
SCALED = [name for name, function in INITIALIZERS.items() if "sigma_w2" in signature(function).parameters]


Case = tuple[str, dict[str, float], Formula | None]


def over_fan_in(sigma_w2: float) -> Formula:
    return lambda n_in, _n_out: sigma_w2 / n_in


def cases() -> list[Case]:
    """Each initializer with the variance that its formula promises; the scaled ones at three scales."""
    fixed: list[Case] = [(name, {}, VARIANCES.get(name)) for name in INITIALIZERS if name not in SCALED]
    scaled: list[Case] = [(name, {"sigma_w2": s}, over_fan_in(s)) for name in SCALED for s in (1 / 3, 1.0, 4.0)]
    return fixed + scaled


def matrix(name: str, shape: tuple[int, int], scale: dict[str, float] | None = None, seed: int = 7) -> Float64s:
    return INITIALIZERS[name](np.random.default_rng(seed), *shape, **(scale or {}))


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


@pytest.mark.parametrize("name", INITIALIZERS)
def test_layers_and_seeds_are_independent_and_repeatable(name: str) -> None:
    rng = np.random.default_rng(7)
    first, second = (INITIALIZERS[name](rng, 50, 50) for _ in range(2))
    np.testing.assert_array_equal(first, matrix(name, (50, 50)))
    for other in (second, matrix(name, (50, 50), seed=8)):
        assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < SIGMAS / 50


@pytest.mark.parametrize("name", INITIALIZERS)
def test_both_dtypes_start_from_the_same_weights_up_to_rounding(name: str) -> None:
    narrow, wide = (draw(architecture([20, 30, 30, 5], dtype=dtype), [1], name) for dtype in (np.float32, np.float64))
    for a, b in zip(narrow.W[1:], wide.W[1:], strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b.astype(np.float32))
