"""Where a net stops telling: the loss of one that ignores its input, the layer in which rounding hides the input, and where gradients underflow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log, log10

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from bpexp.core.activations import Activation
from bpexp.theory.arguments import check, size
from bpexp.theory.correlation import LEAST_Q, spread_factor
from bpexp.theory.variance import variance_map

__all__ = ["Floors", "floors", "input_lost_at", "layers_until", "plateau"]

LARGEST_Q = 1e12  # what lets q grow beyond it is straight lines on either side of 0, which draw samples together as a power of depth at most
SETTLED = 1e-13  # a relative change of the distance below it counts as none


def _entropy(p: float) -> float:
    return -p * log(p) if p > 0.0 else 0.0


# loss: the mean over samples of the best constant output, one-hot targets of these shares: summed over outputs, and as a mean over classes.
PLATEAUS: dict[str, tuple[Callable[[Sequence[float]], float], Callable[[Sequence[float]], float]]] = {
    "squared_error": (lambda p: 0.5 * sum(x * (1.0 - x) for x in p), lambda p: sum(x * (1.0 - x) for x in p) / len(p)),
    "cross_entropy": (lambda p: sum(map(_entropy, p)), lambda p: sum(map(_entropy, p))),
    "binary_cross_entropy": (
        lambda p: sum(_entropy(x) + _entropy(1.0 - x) for x in p),
        lambda p: sum(_entropy(x) + _entropy(1.0 - x) for x in p) / len(p),
    ),
}


def plateau(classes: int, loss: str, shares: Sequence[float] | None = None, per_class: bool = False) -> float:
    """The loss of the best constant output, a = the classes' shares, with one-hot targets: where a net ends that ignores its input.

    squared_error             1/2 sum p (1 - p): (C - 1)/(2 C) for equal shares, 1/2 ||a - y||² being a sample's loss
    cross_entropy             -sum p ln p: ln C
    binary_cross_entropy      -sum p ln p + (1 - p) ln(1 - p), summed over outputs

    `per_class` is the other convention of papers: the mean over classes, of (a - y)² without the 1/2, so (1/C)(1 - 1/C); the cross-entropy,
    one number per sample, is the same in both.
    """
    check(classes >= 2, "classes", classes, "at least 2")
    check(loss in PLATEAUS, "loss", loss, f"one of {', '.join(PLATEAUS)}")
    p = [1.0 / classes] * classes if shares is None else [float(x) for x in shares]
    valid = len(p) == classes and all(size(x) for x in p) and abs(sum(p) - 1.0) < 1e-9
    check(valid, "shares", shares, f"{classes} numbers of 0 or more that sum to 1")
    return PLATEAUS[loss][per_class](p)


def input_lost_at(
    phi: Activation, sigma_w2: float, sigma_b2: float, dtype: DTypeLike, *, q_input: float = 1.0, v_input: float | None = None, deepest: int = 1000
) -> int | None:
    """The first layer whose activations differ between samples by less than their rounding; None where there is none up to `deepest`.

    `q_input` is the mean square of the inputs' entries, `v_input` their mean variance over samples (all of q_input unless given).  A neuron's
    z varies over samples by v_1 = sigma_w2 v_input, then v_{k+1} = `spread_factor` v_k: by chi where samples are nearly alike, so the spread
    falls by the decades per layer by which the deltas do (derived).  The layer is the first with sqrt(v_{k+1}/sigma_w2), the spread of a_k, below
    u sqrt(E[phi(z_k)²]), u half the dtype's eps.  The roundings of a long sum in z hide the input up to a layer or two sooner.
    """
    check(size(q_input), "q_input", q_input, "a mean square: 0 or more")
    v = q_input if v_input is None else v_input
    check(size(v) and v <= q_input, "v_input", v_input, f"a variance: from 0 to q_input={q_input:g}")
    roundoff_2 = (float(np.finfo(np.dtype(dtype)).eps) / 2.0) ** 2
    q = sigma_w2 * q_input + sigma_b2
    if sigma_w2 * v == 0.0:
        return 1
    distance = sigma_w2 * v / q
    for k in range(1, deepest + 1):
        following = variance_map(phi, sigma_w2, sigma_b2, q)
        v = q * distance * spread_factor(phi, sigma_w2, q, distance)
        if v < roundoff_2 * (following - sigma_b2):
            return k
        before, distance = distance, v / following
        if following > LARGEST_Q or abs(distance - before) < SETTLED * before:
            return None
        q = max(following, LEAST_Q)
    return None


@dataclass(frozen=True)
class Floors:
    """log10 of what numbers of a dtype may fall under: they lose digits under `normal`, are 0 under `zero`, and have squares of 0 under `square`."""

    normal: float
    zero: float
    square: float


def floors(dtype: DTypeLike) -> Floors:
    """The smallest normal number, half of the smallest subnormal one, and the root of that."""
    info = np.finfo(np.dtype(dtype))
    zero = log10(float(info.smallest_normal)) - (info.nmant + 1) * log10(2.0)  # half of float64's smallest is no float64
    return Floors(log10(float(info.smallest_normal)), zero, zero / 2.0)


def layers_until(log10_threshold: float, log10_profile: ArrayLike) -> int | None:
    """How many layers back from the last one a profile first is below the threshold (0: at the last itself); None where it never is.

    For entries of a gradient, not its norm, take `Profile.log10_grad_entry`.
    """
    backwards = np.asarray(log10_profile, np.float64)[::-1]
    below = np.flatnonzero(backwards < log10_threshold)
    return int(below[0]) if below.size else None
