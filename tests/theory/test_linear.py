"""Modes of deep linear nets against closed forms, an integrator on the plain equation, gradient descent itself and published times."""

from itertools import pairwise
from math import exp, log, sqrt

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp

from bpexp.theory.linear import descent_steps, limit_time, mode_strength, time_to

CASES = [(depth, s, u0) for depth in (1, 2, 3, 5, 17, 100) for s, u0 in ((3.0, 0.3), (1.0, 1e-4), (0.5, 2.0), (2.0, 1.99))]


@pytest.mark.parametrize(("depth", "s", "u0"), CASES)
def test_the_plain_equation_integrated(depth: int, s: float, u0: float) -> None:
    times = np.linspace(0.0, 3.0 / (depth * max(s, 0.5)), 7)
    plain = solve_ivp(
        lambda _t, u: depth * u ** (2 - 2 / depth) * (s - u), (0.0, times[-1]), [u0], method="Radau", t_eval=times, rtol=1e-10, atol=1e-13 * u0
    )
    assert mode_strength(times, depth, s, u0) == pytest.approx(plain.y[0], rel=3e-8)


@given(depth=st.integers(1, 60), s=st.floats(0.05, 20), start=st.floats(-5, 1), fraction=st.floats(0.02, 0.999))
@settings(max_examples=60, deadline=None)
def test_strength_and_time_are_each_others_inverse(depth: int, s: float, start: float, fraction: float) -> None:
    """From below and, by the reflected fraction, from above."""
    u0 = s * 10.0**start
    assume(abs(u0 / s - 1) > 1e-3)
    goal = u0 / s + (1 - u0 / s) * fraction
    t = time_to(goal, depth, s, u0)
    takes_off = t * depth * (goal * s) ** (1 - 2 / depth) * abs(s - goal * s)  # d ln u / d ln t
    assert float(mode_strength(t, depth, s, u0)) == pytest.approx(goal * s, rel=1e-9 + 1e-12 * takes_off)


@given(depth=st.integers(1, 60), s=st.floats(0.05, 20), share=st.floats(0.01, 0.9), fraction=st.floats(0.05, 0.99))
@settings(max_examples=40, deadline=None)
def test_the_time_by_quadrature_over_u(depth: int, s: float, share: float, fraction: float) -> None:
    u0, u = share * s, s * (share + (1 - share) * fraction)
    expected, _ = quad(lambda v: v ** (2 / depth - 2) / (depth * (s - v)), u0, u, epsabs=0.0, epsrel=1e-12, limit=300)
    assert time_to(u / s, depth, s, u0) == pytest.approx(expected, rel=1e-9)


def test_depths_with_closed_forms() -> None:
    """D = 1: an exponential; D = 2: the logistic curve of Saxe et al. 2014."""
    s, u0, t = 1.7, 0.02, np.linspace(0, 3, 13)
    assert mode_strength(t, 1, s, u0) == pytest.approx(s + (u0 - s) * np.exp(-t), rel=1e-13)
    assert mode_strength(t, 2, s, u0) == pytest.approx(s / (1 + (s / u0 - 1) * np.exp(-2 * s * t)), rel=1e-10)
    assert time_to(0.9, 1, s, u0) == pytest.approx(log((s - u0) / (0.1 * s)), rel=1e-11)
    assert time_to(0.9, 2, s, u0) == pytest.approx(log(0.9 * (s - u0) / (0.1 * u0)) / (2 * s), rel=1e-11)


@pytest.mark.parametrize(("s", "u0", "fraction"), [(3.0, 0.3, 0.95), (1.0, 0.01, 0.5), (0.4, 0.9, 1.2)])
def test_deeper_and_deeper_nears_the_limit(s: float, u0: float, fraction: float) -> None:
    limit = limit_time(fraction, s, u0)
    expected, _ = quad(lambda u: 1 / (u * u * (s - u)), u0, fraction * s, epsabs=0.0, epsrel=1e-11)
    assert limit == pytest.approx(expected, rel=1e-9)
    gaps = [abs(depth * time_to(fraction, depth, s, u0) / limit - 1) for depth in (10**2, 10**3, 10**4)]
    assert gaps[0] > 9 * gaps[1] > 80 * gaps[2]  # of order 1/D
    assert gaps[2] < 2e-3


def descend(depth: int, s: float, u0: float, lr: float, goal: float) -> float:
    """Gradient descent on every weight of the product, and the step, interpolated, at which it passes the goal."""
    a, steps = u0 ** (1 / depth), 0
    before = a
    while a**depth < goal:
        before, a = a, a + lr * a ** (depth - 1) * (s - a**depth)
        steps += 1
    # near the goal a runs as the flow does: interpolated in time along it
    return steps - 1 + (time_to(goal / s, depth, s, before**depth) / time_to(a**depth / s, depth, s, before**depth))


@pytest.mark.parametrize("depth", [2, 3, 10, 100])
@pytest.mark.parametrize("s", [3.0, 2.0, 1.0])
def test_gradient_descent_on_the_products_weights(depth: int, s: float) -> None:
    """From .3 to 95 % of s at the rate .002/D, as the flow says within 1 %, and with the first order in the rate at least 20 times as near."""
    lr = 0.002 / depth
    steps = descend(depth, s, 0.3, lr, 0.95 * s)
    flow, corrected = time_to(0.95, depth, s, 0.3) / lr, descent_steps(0.95, depth, s, 0.3, lr)
    assert flow == pytest.approx(steps, rel=0.01)
    assert abs(corrected - steps) < max(abs(flow - steps) / 20, 2e-2)


def test_the_correction_leaves_an_error_of_second_order() -> None:
    """In steps: the flow's stays as it is, the corrected one's falls with the rate."""
    found = []
    for lr in (0.02, 0.01, 0.005):
        steps = descend(3, 2.0, 0.3, lr, 1.4)
        found.append((time_to(0.7, 3, 2.0, 0.3) / lr - steps, descent_steps(0.7, 3, 2.0, 0.3, lr) - steps))
    flow, corrected = np.abs(np.array(found)).T
    assert flow[2] > 0.9 * flow[1] > 0.8 * flow[0]
    assert corrected[2] < 0.6 * corrected[1] < 0.36 * corrected[0]


def test_matrices_that_are_trained() -> None:
    """Three matrices of 6 neurons, aligned with the target's singular vectors, trained by plain gradient descent: each mode on its own."""
    rng, lr, u0 = np.random.default_rng(8), 0.001, 0.2
    bases = [np.linalg.qr(rng.standard_normal((6, 6)))[0] for _ in range(4)]
    strengths = np.array([3.0, 2.0, 1.5, 1.0, 0.7, 0.4])
    target = bases[0] @ np.diag(strengths) @ bases[3].T
    Ws = [u0 ** (1 / 3) * a @ b.T for a, b in pairwise(bases)]
    for _ in range(400):
        error = Ws[0] @ Ws[1] @ Ws[2] - target
        steps = [error @ (Ws[1] @ Ws[2]).T, Ws[0].T @ error @ Ws[2].T, (Ws[0] @ Ws[1]).T @ error]
        for W, step in zip(Ws, steps, strict=True):
            np.subtract(W, lr * step, out=W)
    found = np.diag(bases[0].T @ Ws[0] @ Ws[1] @ Ws[2] @ bases[3])
    expected = [float(mode_strength(400 * lr, 3, s, u0)) for s in strengths]
    assert found == pytest.approx(expected, rel=0.01)
    assert expected[0] / u0 > 5  # it has learned


def test_any_shape_of_times_in_any_order() -> None:
    times = np.array([[0.5, 0.0], [0.1, 0.5]])
    found = mode_strength(times, 4, 2.0, 0.1)
    assert found.shape == (2, 2)
    assert found[0, 0] == found[1, 1] > found[1, 0] > found[0, 1] == pytest.approx(0.1, rel=1e-14)
    assert float(mode_strength(0.0, 4, 2.0, 0.1)) == pytest.approx(0.1, rel=1e-14)
    assert mode_strength([], 4, 2.0, 0.1).shape == (0,)
    assert mode_strength([0.0, 1.0], 4, 2.0, 2.0).tolist() == [2.0, 2.0]
    assert float(mode_strength(1e4, 4, 2.0, 0.1)) == pytest.approx(2.0, rel=1e-12)
    assert time_to(0.05, 4, 2.0, 0.1) == 0.0


BAD = [
    ((0.5, 0, 1.0, 0.1), r"^depth=0: must be"),
    ((0.5, 2, -1.0, 0.1), r"^s=-1.0: must be a strength above 0$"),
    ((0.5, 2, 1.0, 0.0), r"^u0=0.0: must be a strength above 0"),
    ((1.0, 2, 1.0, 0.1), r"^fraction=1.0: must be between u0/s = 0.1 and 1, which is never reached$"),
    ((0.05, 2, 1.0, 0.1), r"^fraction=0.05: must be between"),
    ((1.5, 2, 1.0, 1.2), r"^fraction=1.5: must be between u0/s = 1.2 and 1"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_what_never_happens_is_refused_in_a_line(arguments: tuple[float, int, float, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        time_to(*arguments)


def test_times_and_rates_that_are_none_are_refused_in_a_line() -> None:
    with pytest.raises(ValueError, match=r"^t=-1.0: must be times of 0 or more$"):
        mode_strength(-1.0, 2, 1.0, 0.1)
    with pytest.raises(ValueError, match=r"^lr=0.0: must be a learning rate above 0$"):
        descent_steps(0.5, 2, 1.0, 0.1, 0.0)


def test_a_mode_that_starts_small_waits() -> None:
    """The plateau before the drop: from u0 -> 0 the time of a net of D > 2 grows as u0^(2/D - 1)."""
    times = [time_to(0.5, 4, 1.0, exp(-x)) for x in (14.0, 16.0)]
    assert times[1] / times[0] == pytest.approx(exp(2 * (1 - 2 / 4)), rel=0.01)
    assert sqrt(times[1]) > 20
