"""What finite width takes from a typical net's norms, against nets that are drawn here, forwards and back, one sample each."""

import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from math import log, sqrt

import numpy as np
import pytest

from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import Float64s
from bpexp.theory.mean_field import settled, width_correction
from bpexp.theory.narrow import lost_per_layer, lost_to_width
from bpexp.theory.profile import profile
from bpexp.theory.relu import log_norm_moments

WIDTH, DEPTH, NETS = 64, 7, 600
SIZES = (20, *[WIDTH] * (DEPTH - 1), 10)
SIGMAS = 4.0
# sigma_w2, sigma_b2 of nets that keep, lose and gain
NETS_OF = {
    "sigmoid": [(4.0, 0.0), (1.0, 0.3)],
    "tanh": [(1.5, 0.05), (4.0, 0.0)],
    "relu": [(2.0, 0.0), (1.0, 0.5)],
    "selu": [(1.0, 0.2)],
    "linear": [(1.0, 0.0)],
}
CASES = [(name, *scales, orthogonal) for name, pairs in NETS_OF.items() for scales in pairs for orthogonal in (False, True)]


def matrices(rng: np.random.Generator, n_in: int, n_out: int, sigma_w2: float, orthogonal: bool) -> Float64s:
    """(nets, n_in, n_out), the mean square of an entry being sigma_w2/n_in."""
    W = rng.standard_normal((NETS, n_in, n_out))
    if not orthogonal:
        return sqrt(sigma_w2 / n_in) * W
    q, r = np.linalg.qr(W if n_in >= n_out else W.transpose(0, 2, 1))
    q *= np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]
    return np.asarray(sqrt(sigma_w2 * max(1.0, n_out / n_in)) * (q if n_in >= n_out else q.transpose(0, 2, 1)))


def layers(name: str, sigma_w2: float, sigma_b2: float, orthogonal: bool) -> tuple[list[Float64s], list[Float64s], list[Float64s]]:
    """Activations a_0 … a_L and slopes of layers 1 … L, (nets, 1, n_k); weights.  One sample, of mean square 1, for all nets."""
    rng, phi = np.random.default_rng(5), ACTIVATIONS[name]
    a, slopes, W = [np.ones((NETS, 1, SIZES[0]))], [], []
    for n_in, n_out in pairwise(SIZES):
        W.append(matrices(rng, n_in, n_out, sigma_w2, orthogonal))
        z = a[-1] @ W[-1] + sqrt(sigma_b2) * rng.standard_normal((NETS, 1, n_out))
        a.append(np.empty_like(z))
        phi.function(z, a[-1])
        slopes.append(np.empty_like(z))
        phi.derivative(z, a[-1], slopes[-1])
    return a, slopes, W


def back(delta: Float64s, slopes: list[Float64s], W: list[Float64s]) -> Iterator[Float64s]:
    """delta_L, …, delta_1."""
    yield delta
    for k in range(DEPTH, 1, -1):
        delta = (delta @ W[k - 1].transpose(0, 2, 1)) * slopes[k - 2]
        yield delta


@cache
def drawn(name: str, sigma_w2: float, sigma_b2: float, orthogonal: bool) -> tuple[Float64s, Float64s]:
    """log10 ||delta_k|| and log10 ||dL/dW_k||, (nets, layers), for a delta_L of norm 1 that knows nothing of the net."""
    a, slopes, W = layers(name, sigma_w2, sigma_b2, orthogonal)
    delta = np.random.default_rng(6).standard_normal((NETS, 1, SIZES[-1]))
    delta /= np.linalg.norm(delta, axis=2, keepdims=True)
    norms = np.array([np.linalg.norm(delta, axis=(1, 2)) for delta in back(delta, slopes, W)][::-1]).T
    lengths = np.array([np.linalg.norm(a[k], axis=(1, 2)) for k in range(DEPTH)]).T
    return np.log10(norms), np.log10(norms * lengths)


def predicted(name: str, sigma_w2: float, sigma_b2: float, orthogonal: bool) -> tuple[Float64s, Float64s, Float64s, Float64s]:
    """Of wide layers, delta and gradient; what is lost of either."""
    phi = ACTIVATIONS[name]
    wide = profile(phi, SIZES, sigma_w2, sigma_b2, 1.0)
    lost = lost_to_width(phi, SIZES, [sigma_w2] * DEPTH, sigma_b2, wide.log10_q, orthogonal=orthogonal)
    return wide.log10_delta, wide.log10_grad, lost.delta, lost.grad


@pytest.mark.parametrize("case", CASES, ids=str)
def test_means_of_logarithms_over_drawn_nets(case: tuple[str, float, float, bool]) -> None:
    """To 4 standard errors."""
    wide_delta, wide_grad, lost_delta, lost_grad = predicted(*case)
    for measured, wide, lost in zip(drawn(*case), (wide_delta, wide_grad), (lost_delta, lost_grad), strict=True):
        error = measured.std(axis=0, ddof=1) / sqrt(NETS)
        assert np.all(np.abs(wide - lost - measured.mean(axis=0)) <= SIGMAS * error + 1e-12)  # roundings, where all nets have one norm


@pytest.mark.parametrize("case", [case for case in CASES if not case[3] and case[0] != "linear"], ids=str)
def test_without_it_theory_would_miss_the_first_layer(case: tuple[str, float, float, bool]) -> None:
    """Which is how sharp the test above is: wide layers alone are off by more standard errors than it allows."""
    deltas, _ = drawn(*case)
    error = deltas[:, 0].std(ddof=1) / sqrt(NETS)
    assert predicted(*case)[0][0] - deltas[:, 0].mean() > SIGMAS * error


@pytest.mark.parametrize("orthogonal", [False, True])
def test_narrower_and_more_nets_tell_the_small_terms(orthogonal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What W's dependence on delta does (Gaussian), and that h lies on a sphere (orthogonal): more than 4 standard errors of these nets."""
    here = sys.modules[__name__]
    monkeypatch.setattr(here, "NETS", 5000)
    monkeypatch.setattr(here, "SIZES", (20, *[20] * (DEPTH - 1), 20))
    case = ("sigmoid", 4.0, 0.0, orthogonal)
    deltas, _ = drawn.__wrapped__(*case)
    wide, _, lost, _ = predicted(*case)
    assert abs(wide[0] - lost[0] - deltas[:, 0].mean()) < SIGMAS * deltas[:, 0].std(ddof=1) / sqrt(5000)


def test_linear_orthogonal_nets_lose_nothing() -> None:
    _, _, lost_delta, lost_grad = predicted("linear", 1.0, 0.0, True)
    np.testing.assert_allclose(lost_delta, 0.0, atol=1e-9)
    assert lost_grad == pytest.approx(0.0, abs=0.01)  # n_0 = 20 inputs to 64 neurons, then 64 to 10: nothing but the last is not square


@pytest.mark.parametrize("width", [50, 200, 1000])
@pytest.mark.parametrize("name", ["relu", "linear"])
def test_where_slopes_and_lengths_do_not_hang_together_it_is_the_width_correction(name: str, width: int) -> None:
    """And for relu the exact law's mean, to the first order in 1/N."""
    phi = ACTIVATIONS[name]
    lost = lost_per_layer(phi, 2.0, 0.0, 1.0, width)
    assert lost == pytest.approx(width_correction(settled(phi, 1.0 if name == "linear" else 2.0, 0.0).kappa, width), rel=1e-6)
    if name == "relu":
        assert lost == pytest.approx(-log_norm_moments(width).mean / (2.0 * log(10.0)), rel=8.0 / width)


@pytest.mark.parametrize("orthogonal", [False, True])
def test_a_centred_sigmoid_net_loses_what_its_tanh_net_loses(orthogonal: bool) -> None:
    sigmoid, tanh = (
        lost_per_layer(ACTIVATIONS[name], sigma_w2, sigma_b2, q, 64, centre=centre, orthogonal=orthogonal)
        for name, sigma_w2, sigma_b2, q, centre in (("sigmoid", 24.0, 0.4, 2.0, 0.5), ("tanh", 1.5, 0.1, 0.5, 0.0))
    )
    assert sigmoid == pytest.approx(tanh, rel=1e-6)


def test_directions_take_off_what_the_weights_do_to_each_of_them() -> None:
    """Of relu's 5 = 3 kappa - 1, kappa - 1 = 1 is the neurons' that are off, for all samples; the rest is shared by the directions."""
    relu = ACTIVATIONS["relu"]
    one, four = (lost_to_width(relu, SIZES, [2.0] * DEPTH, 0.0, np.zeros(DEPTH), directions=n).delta for n in (1.0, 4.0))
    np.testing.assert_allclose(four[:-1] / one[:-1], (1.0 + 4.0 / 4.0) / 5.0, rtol=1e-9)


def test_samples_of_several_directions_are_measured_so() -> None:
    """Nets of relu with ten equally strong errors at the output: the root mean square over them."""
    _, slopes, W = layers("relu", 2.0, 0.0, False)
    deltas = np.broadcast_to(np.eye(SIZES[-1]), (NETS, SIZES[-1], SIZES[-1]))
    *_, first = back(deltas, slopes, W)
    norms = 0.5 * np.log10(np.square(first).sum(axis=2).mean(axis=1))
    error = norms.std(ddof=1) / sqrt(NETS)
    ten, one = (lost_to_width(ACTIVATIONS["relu"], SIZES, [2.0] * DEPTH, 0.0, np.zeros(DEPTH), directions=n).delta[0] for n in (10.0, 1.0))
    assert abs(norms.mean() + ten) < SIGMAS * error < abs(norms.mean() + one)
