"""Singular values of Jacobians against matrices that are drawn, free probability's own recursions and published numbers."""

from itertools import pairwise
from math import pi, prod, sqrt

import numpy as np
import pytest
from scipy.special import ndtri

from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import Float64s
from bpexp.core.initializers import gaussian, orthogonal
from bpexp.theory.jacobian import gaussian_product, singular_value_mean, squared_singular_values, wide_product
from bpexp.theory.mean_field import chi, kappa
from bpexp.theory.variance import slopes


def squares(sizes: tuple[int, ...], q: float, name: str, orthogonal_: bool, sigma_w2: float, seed: int) -> Float64s:
    """The squared singular values of a product of layers with slopes phi'(z) that are independent of the weights.

    The z of a layer are the quantiles of N(0, q) in random order, so that their moments are those of a wide layer.
    """
    rng, J = np.random.default_rng(seed), np.eye(sizes[0])
    for n_in, n_out in pairwise(sizes):
        W = (orthogonal if orthogonal_ else gaussian)(rng, n_in, n_out, sigma_w2)
        z = sqrt(q) * ndtri((rng.permutation(n_out) + 0.5) / n_out)
        J = J @ W * slopes(ACTIVATIONS[name], z)
    return np.asarray(np.linalg.svd(J, compute_uv=False) ** 2, np.float64)


SHAPES = [(8,) * 6, (3, 9, 5, 7), (12, 4, 10), (5, 20, 20, 6), (10, 10, 30)]


@pytest.mark.parametrize("name", ["linear", "tanh", "relu"])
@pytest.mark.parametrize("sizes", SHAPES)
def test_narrow_gaussian_products_drawn_at_random(name: str, sizes: tuple[int, ...]) -> None:
    """At widths of 3 to 30, where the limit of wide layers is far off: both moments within 4.5 standard errors over 20,000 nets."""
    phi, depth = ACTIVATIONS[name], len(sizes) - 1
    rng, count = np.random.default_rng(1), 20_000
    J = np.broadcast_to(np.eye(sizes[0]), (count, sizes[0], sizes[0]))
    for n_in, n_out in pairwise(sizes):
        J = J @ (sqrt(1.3 / n_in) * rng.standard_normal((count, n_in, n_out))) * slopes(phi, sqrt(0.6) * rng.standard_normal((count, 1, n_out)))
    small = min(sizes[0], sizes[-1])
    G = J @ J.swapaxes(1, 2) if sizes[0] <= sizes[-1] else J.swapaxes(1, 2) @ J
    first, second = np.trace(G, axis1=1, axis2=2) / small, (G**2).sum(axis=(1, 2)) / small
    mean, variance = gaussian_product(sizes, [chi(phi, 1.3, 0.6)] * depth, [kappa(phi, 0.6)] * depth)
    for found, expected in ((first, mean), (second, mean**2 * (1 + variance))):
        error = found.std(ddof=1) / sqrt(count)
        assert error < 0.1 * expected
        assert abs(found.mean() - expected) < 4.5 * error


@pytest.mark.parametrize("name", ["linear", "tanh", "relu"])
@pytest.mark.parametrize("orthogonal_", [False, True])
@pytest.mark.parametrize("sizes", [(200,) * 5, (150, 300, 200, 250), (300, 100, 250), (100, 300, 60), (250, 250, 100, 100, 250)])
def test_wide_products_drawn_at_random(name: str, orthogonal_: bool, sizes: tuple[int, ...]) -> None:
    """Over six nets: the mean within 3 %, the second moment within 2 % and the terms of order 1/width that the limit leaves out."""
    phi, depth = ACTIVATIONS[name], len(sizes) - 1
    found = np.concatenate([squares(sizes, 0.6, name, orthogonal_, 1.3, seed) for seed in range(6)])
    mean, variance = wide_product(sizes, [chi(phi, 1.3, 0.6)] * depth, [kappa(phi, 0.6)] * depth, orthogonal_)
    assert found.mean() == pytest.approx(mean, rel=0.03)
    assert (found**2).mean() == pytest.approx(mean**2 * (1 + variance), rel=0.02 + sum(2 * kappa(phi, 0.6) / n for n in sizes[1:]))


def test_orthogonal_linear_layers_that_never_narrow_keep_all_alike() -> None:
    mean, variance = wide_product((10, 10, 30, 40), [1.0] * 3, [1.0] * 3, orthogonal=True)
    assert mean == pytest.approx(4.0, rel=1e-14)
    assert variance == pytest.approx(0.0, abs=1e-14)
    assert squares((10, 10, 30, 40), 1.0, "linear", True, 1.0, 0) == pytest.approx(np.full(10, 4.0), rel=1e-12)


@pytest.mark.parametrize("orthogonal_", [False, True])
def test_equal_layers_are_the_sums_of_pennington_and_the_narrow_law_nears_the_wide(orthogonal_: bool) -> None:
    phi, qs = ACTIVATIONS["tanh"], [0.3, 0.3, 0.7, 1.1]
    mean, variance = squared_singular_values(phi, qs, 1.6, 4, orthogonal_)
    assert mean == pytest.approx(prod(chi(phi, 1.6, q) for q in qs), rel=1e-13)
    assert variance == pytest.approx(sum(kappa(phi, q) - orthogonal_ for q in qs), rel=1e-13)
    layers = [chi(phi, 1.6, q) for q in qs], [kappa(phi, q) for q in qs]
    assert wide_product([77] * 5, *layers, orthogonal_) == pytest.approx((mean, variance), rel=1e-12)
    assert squared_singular_values(phi, 0.7, 1.6, 3, orthogonal_) == squared_singular_values(phi, [0.7] * 3, 1.6, 3, orthogonal_)
    if not orthogonal_:
        gaps = [gaussian_product([n] * 5, *layers)[1] / variance - 1 for n in (100, 1000, 10_000)]
        assert gaps[0] > 9 * gaps[1] > 80 * gaps[2] > 0  # of order 1/n


def test_the_published_orthogonal_tanh_net() -> None:
    """Pennington et al. 2017: q* = 0.107, 64 layers, which is 2.8: and a net of 200 neurons that goes forward with its own z."""
    phi, depth, n = ACTIVATIONS["tanh"], 64, 200
    mean, variance = squared_singular_values(phi, 0.107, 1 / chi(phi, 1.0, 0.107), depth, orthogonal=True)
    assert mean == pytest.approx(1.0, rel=1e-12)
    assert variance == pytest.approx(2.81, abs=0.015)
    sigma_w2 = 1 / chi(phi, 1.0, 0.107)
    sigma_b2 = 0.107 - sigma_w2 * float(np.mean(np.tanh(sqrt(0.107) * np.random.default_rng(0).standard_normal(10**6)) ** 2))
    rng, J = np.random.default_rng(7), np.eye(n)
    z = sqrt(0.107) * rng.standard_normal(n)
    for _ in range(depth):
        W = orthogonal(rng, n, n, sigma_w2)
        J = J * (1 - np.tanh(z) ** 2) @ W
        z = np.tanh(z) @ W + sqrt(sigma_b2) * rng.standard_normal(n)
    found = np.linalg.svd(J, compute_uv=False) ** 2
    assert found.var() / found.mean() ** 2 == pytest.approx(variance, rel=0.15)


@pytest.mark.parametrize(("n_in", "n_out"), [(600, 600), (600, 300), (300, 600), (500, 50), (400, 399)])
@pytest.mark.parametrize("uniform", [False, True])
def test_the_mean_singular_value_of_a_layer(n_in: int, n_out: int, uniform: bool) -> None:
    rng = np.random.default_rng(2)
    draw = rng.uniform(-sqrt(3), sqrt(3), (n_in, n_out)) if uniform else rng.standard_normal((n_in, n_out))
    found = np.linalg.svd(sqrt(0.7 / n_in) * draw, compute_uv=False).mean()
    assert found == pytest.approx(singular_value_mean(0.7, n_in, n_out), rel=0.004)


def test_mean_singular_values_with_closed_forms() -> None:
    assert singular_value_mean(1.0) == pytest.approx(8 / (3 * pi), rel=1e-12)
    assert round(singular_value_mean(1.0), 3) == 0.849  # Glorot & Bengio 2010, normalized
    assert round(singular_value_mean(1 / 3), 3) == 0.49  # and standard
    assert singular_value_mean(2.0, 10**8, 1) == pytest.approx(sqrt(2.0), rel=1e-7)
    assert singular_value_mean(2.0, 1, 10**8) == pytest.approx(sqrt(2e8), rel=1e-7)
    assert singular_value_mean(1.0, 10**6, 10**6 - 1) == pytest.approx(8 / (3 * pi), rel=2e-6)


def test_what_is_no_product_is_refused_in_a_line() -> None:
    tanh = ACTIVATIONS["tanh"]
    with pytest.raises(ValueError, match=r"^q=\[1.0\]: must be 0 or more: one number, or one for each of the 2 layers$"):
        squared_singular_values(tanh, [1.0], 1.0, 2, orthogonal=False)
    with pytest.raises(ValueError, match=r"^depth=0: must be"):
        squared_singular_values(tanh, 1.0, 1.0, 0, orthogonal=False)
    with pytest.raises(ValueError, match=r"^kappa=\[0.5\]: must be 1 numbers, of at least 1$"):
        wide_product([2, 2], [1.0], [0.5])
    with pytest.raises(ValueError, match=r"^chi=\[1.0\]: must be 2 numbers"):
        gaussian_product([2, 2, 2], [1.0], [1.0, 1.0])
    with pytest.raises(ValueError, match=r"^sizes=\[2\]: must be"):
        gaussian_product([2], [], [])
    with pytest.raises(ValueError, match=r"^sigma_w2=-1.0: must be a variance"):
        singular_value_mean(-1.0)
