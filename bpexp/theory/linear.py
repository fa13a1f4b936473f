"""How deep linear nets learn: one mode of the product of D weight matrices, from aligned orthogonal initial weights.

Each mode of strength u, the product of D equal weights a = u^(1/D), learns on its own, by gradient descent on (s - u)²/2 in the limit of a small
learning rate (Saxe, McClelland & Ganguli 2014):

    du/dt = D u^(2 - 2/D) (s - u),        t = learning rate times steps

In x = ln(u/|s - u|) it is dx/dt = s D u^(1 - 2/D), which nothing is stiff in: x is linear in t both near s and, for D = 2, everywhere.
"""

from math import log

import numpy as np
from numpy.typing import ArrayLike

from bpexp.core.arrays import Float64s
from bpexp.theory.arguments import check, size

__all__ = ["descent_steps", "limit_time", "mode_strength", "time_to"]


def _check(depth: int, s: float, u0: float) -> None:
    check(depth >= 1, "depth", depth, "the number of weight matrices, at least 1")
    check(size(s) and s > 0.0, "s", s, "a strength above 0")
    check(size(u0) and u0 > 0.0, "u0", u0, "a strength above 0: at 0 a product of two or more stays")


def _goal(fraction: float, s: float, u0: float) -> float:
    u = fraction * s
    check(size(fraction) and (u0 <= u < s or s < u <= u0), "fraction", fraction, f"between u0/s = {u0 / s:g} and 1, which is never reached")
    return u


def _strength(x: Float64s | float, s: float, below: bool) -> Float64s:
    """The u of x = ln(u/|s - u|)."""
    return np.asarray(s / (1.0 + np.exp(-x)) if below else s / -np.expm1(-x))


def mode_strength(t: ArrayLike, depth: int, s: float, u0: float) -> Float64s:
    """The strength u at the times t >= 0 (any shape), from u0.

    To a relative 1e-9, or what a relative 1e-12 of t amounts to where a mode takes off after a long wait.
    """
    _check(depth, s, u0)
    times = np.asarray(t, np.float64)
    check(bool(np.all(np.isfinite(times) & (times >= 0.0))), "t", t, "times of 0 or more")
    if depth == 1:
        return np.asarray(s + (u0 - s) * np.exp(-times))
    if u0 == s or times.size == 0:
        return np.full(times.shape, s)
    from scipy.integrate import solve_ivp

    below = u0 < s
    order, index = np.unique(times, return_inverse=True)
    solution = solve_ivp(
        lambda _t, x: s * depth * _strength(x, s, below) ** (1.0 - 2.0 / depth),
        (0.0, float(order[-1]) or 1.0),
        [log(u0 / abs(s - u0))],
        method="DOP853",
        t_eval=order,
        rtol=1e-13,
        atol=1e-13,
    )
    return _strength(solution.y[0], s, below)[index].reshape(times.shape)


def time_to(fraction: float, depth: int, s: float, u0: float) -> float:
    """The t at which u = fraction s: the integral of dx / (s D u^(1 - 2/D)), to a relative 1e-10."""
    _check(depth, s, u0)
    u = _goal(fraction, s, u0)
    if u == u0:
        return 0.0
    from scipy.integrate import quad

    below = u0 < s
    start, end = (log(x / abs(s - x)) for x in (u0, u))
    value, _ = quad(lambda x: float(_strength(x, s, below)) ** (2.0 / depth - 1.0), start, end, epsabs=0.0, epsrel=1e-11, limit=500)
    return float(value) / (s * depth)


def limit_time(fraction: float, s: float, u0: float) -> float:
    """Where u = fraction s, t D as D -> infinity: ln[u (s - u0)/(u0 (s - u))]/s² + (1/u0 - 1/u)/s, the integral of du/(u² (s - u)).

    A net of any depth takes about as many steps, if its learning rate is proportional to 1/D (Saxe et al. 2014).
    """
    _check(2, s, u0)
    u = _goal(fraction, s, u0)
    return log(u * (s - u0) / (u0 * (s - u))) / s**2 + (1.0 / u0 - 1.0 / u) / s


def descent_steps(fraction: float, depth: int, s: float, u0: float, lr: float) -> float:
    """The steps that gradient descent with that learning rate takes to u = fraction s, to the first order in lr: `time_to`/lr + ln(f/f_0)/2.

    f = a^(D-1) (s - u) is the step of one weight over lr.  Euler's method follows da/dt = f - lr f f'/2 to the second order (Hairer, Lubich &
    Wanner 2006, ch. IX), so that t grows by lr/2 times the integral of f'/f (derived).
    """
    check(size(lr) and lr > 0.0, "lr", lr, "a learning rate above 0")
    u = _goal(fraction, s, u0)
    change = (1.0 - 1.0 / depth) * log(u / u0) + log((s - u) / (s - u0))
    return time_to(fraction, depth, s, u0) / lr + 0.5 * change
