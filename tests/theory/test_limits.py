"""Plateaus against the core's own losses, lost inputs and underflow against nets that are run in their dtype."""

from itertools import count
from math import inf, log, log10, sqrt

import numpy as np
import pytest

from bpexp.core.activations import ACTIVATIONS
from bpexp.core.losses import LOSSES
from bpexp.theory.limits import floors, input_lost_at, layers_until, plateau
from bpexp.theory.profile import profile
from bpexp.theory.variance import outputs, slopes

SHARES = [[0.5, 0.5], [0.1, 0.2, 0.7], [0.25, 0.0, 0.75], [0.05] * 20]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shares", SHARES)
def test_plateaus_are_the_best_constants_of_the_core(loss: str, shares: list[float]) -> None:
    """Of 20 one-hot targets with these shares: the core's plateau, and the least loss that any constant output gets out of a search."""
    from scipy.optimize import minimize

    classes = len(shares)
    y = np.eye(classes)[np.repeat(np.arange(classes), np.round(20 * np.array(shares)).astype(int))]
    assert plateau(classes, loss, shares) == pytest.approx(LOSSES[loss].plateau(y), rel=1e-12)

    def value(z: np.ndarray) -> float:
        zs = np.broadcast_to(z, (1, *y.shape)).copy()
        a, total = np.empty_like(zs), np.empty(1)
        ACTIVATIONS[LOSSES[loss].default_output].function(zs, a)
        LOSSES[loss].value(zs, a, y[None], np.empty_like(zs), total)
        return float(total[0]) / len(y)

    least = minimize(value, np.zeros(classes), method="BFGS", options={"gtol": 1e-7}).fun
    assert least == pytest.approx(plateau(classes, loss, shares), abs=1e-4)


def test_plateaus_of_ten_equal_classes() -> None:
    assert plateau(10, "squared_error") == pytest.approx(0.45, rel=1e-14)
    assert plateau(10, "squared_error", per_class=True) == pytest.approx(0.09, rel=1e-14)
    assert plateau(10, "cross_entropy") == plateau(10, "cross_entropy", per_class=True) == pytest.approx(log(10), rel=1e-14)
    assert plateau(10, "binary_cross_entropy") == pytest.approx(log(10) - 9 * log(0.9), rel=1e-13)
    assert plateau(10, "binary_cross_entropy", per_class=True) == pytest.approx((log(10) - 9 * log(0.9)) / 10, rel=1e-13)
    for classes in (2, 3, 17):
        assert plateau(classes, "squared_error") == pytest.approx((classes - 1) / (2 * classes), rel=1e-14)


def test_what_is_no_plateau_is_refused_in_a_line() -> None:
    with pytest.raises(ValueError, match=r"^classes=1: must be at least 2$"):
        plateau(1, "cross_entropy")
    with pytest.raises(ValueError, match=r"^loss=hinge: must be one of squared_error, cross_entropy, binary_cross_entropy$"):
        plateau(2, "hinge")
    for shares in ([0.5, 0.4], [1.0], [1.5, -0.5], [float("nan"), 1.0]):
        with pytest.raises(ValueError, match=r"^shares=.*: must be 2 numbers of 0 or more that sum to 1$"):
            plateau(2, "cross_entropy", shares)


def spreads(name: str, sigma_w2: float, sigma_b2: float, dtype: type, x: np.ndarray, depth: int, width: int) -> list[float]:
    """The spread of the activations between samples over their root mean square, layer by layer, of a net that is run in its dtype."""
    rng, found = np.random.default_rng(6), []
    a: np.ndarray = x.astype(dtype)
    for _ in range(depth):
        W = sqrt(sigma_w2 / a.shape[1]) * rng.standard_normal((a.shape[1], width))
        z = a @ W.astype(dtype) + (sqrt(sigma_b2) * rng.standard_normal(width)).astype(dtype)
        a = np.empty_like(z)
        ACTIVATIONS[name].function(z, a)
        half = len(a) // 2
        apart = (a[:half] - a[half:]).astype(np.float64)  # exact: of variances, the sum over samples would round more than the net
        found.append(sqrt(np.mean(apart**2) / 2 / np.mean(a.astype(np.float64) ** 2)))
    return found


LOST = [("sigmoid", 1.0, 0.0), ("sigmoid", 1 / 3, 0.0), ("sigmoid", 4.0, 0.0), ("tanh", 0.3, 0.1), ("softplus", 0.5, 0.0), ("elu", 0.3, 0.4)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "sigma_w2", "sigma_b2"), LOST)
def test_the_input_is_lost_where_a_net_in_that_dtype_stops_following(name: str, sigma_w2: float, sigma_b2: float, dtype: type) -> None:
    """Where rounding makes up half of the mean square of the spread: to a layer, and half a decade of spread for the floor of another sum."""
    x = np.random.default_rng(2).random((120, 64))
    at = input_lost_at(ACTIVATIONS[name], sigma_w2, sigma_b2, dtype, q_input=float(np.mean(x**2)), v_input=float(x.var(axis=0).mean()))
    assert at is not None
    found = np.array(spreads(name, sigma_w2, sigma_b2, dtype, x, at + 12, 300))
    per_layer = (log10(found[at - 8]) - log10(found[at - 4])) / 4 if at > 9 else log10(found[1] / found[3]) / 2
    floor = log10(np.sqrt(np.mean(found[-4:] ** 2)))
    crossing = next(k for k in count(1) if log10(found[k - 1]) < floor + log10(2) / 2 + 0.05)  # as much rounding as signal
    assert per_layer > 0.1
    assert abs(crossing - at) <= 1 + 0.5 / per_layer


def test_the_published_depth_of_a_plain_sigmoid_net() -> None:
    """About 13 layers in float32 and 24 in float64 on 8x8 digits, whose mean square and variance these are."""
    found = [input_lost_at(ACTIVATIONS["sigmoid"], 1.0, 0.0, dtype, q_input=0.2346, v_input=0.0733) for dtype in ("float32", "float64")]
    assert found == [pytest.approx(13, abs=1.5), pytest.approx(24, abs=2.5)]


def test_inputs_that_are_not_lost() -> None:
    tanh, relu, linear = (ACTIVATIONS[name] for name in ("tanh", "relu", "linear"))
    assert input_lost_at(tanh, 3.0, 0.05, "float32") is None  # chaotic
    assert input_lost_at(tanh, 0.5, 0.0, "float32") is None  # all shrinks alike
    assert input_lost_at(relu, 2.0, 0.0, "float32", deepest=100) is None  # as 1/depth alone
    assert input_lost_at(linear, 4.0, 0.0, "float64") is None
    assert input_lost_at(relu, 3.0, 0.1, "float32", deepest=300) is None  # q leaves the range
    assert input_lost_at(tanh, 0.9, 0.1, "float32", deepest=3) is None
    assert input_lost_at(tanh, 0.0, 0.1, "float32") == 1
    assert input_lost_at(tanh, 1.0, 0.1, "float32", v_input=0.0) == 1
    with pytest.raises(ValueError, match=r"^v_input=2.0: must be a variance: from 0 to q_input=1$"):
        input_lost_at(tanh, 1.0, 0.1, "float32", v_input=2.0)
    with pytest.raises(ValueError, match=r"^q_input=inf: must be a mean square"):
        input_lost_at(tanh, 1.0, 0.1, "float32", q_input=inf)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floors_are_where_numbers_and_squares_give_way(dtype: type) -> None:
    found, ten = floors(dtype), np.longdouble(10.0)
    assert dtype(np.finfo(dtype).smallest_normal) == pytest.approx(10.0**found.normal, rel=1e-12)
    assert dtype(ten ** np.longdouble(found.zero + 0.001)) > 0
    assert dtype(ten ** np.longdouble(found.zero - 0.001)) == 0
    above, below = (dtype(10.0 ** (found.square + x)) for x in (0.001, -0.001))
    assert above * above > 0
    assert below * below == 0


def test_layers_are_counted_back_from_the_last() -> None:
    profile_ = [-9.0, -7.0, -5.0, -3.0, -1.0]
    assert [layers_until(x, profile_) for x in (0.0, -1.0, -2.9, -8.0, -9.0)] == [0, 1, 1, 4, None]
    assert layers_until(-1e9, [-inf, 0.0]) == 1


def test_where_float32_gradients_give_way() -> None:
    """Backwards in float32 through sigmoid layers: rows of a plain net's weight gradients that are 0, all of them and at least one entry."""
    rng, n, depth = np.random.default_rng(0), 256, 80
    phi, x = ACTIVATIONS["sigmoid"], rng.random((1, n))
    Ws = [sqrt(1 / n) * rng.standard_normal((n, n)) for _ in range(depth)]
    a, z = [x], []
    for W in Ws:
        z.append(a[-1] @ W)
        a.append(outputs(phi, z[-1]))
    delta = (0.1 * rng.standard_normal((1, n))).astype(np.float32)
    predicted_ = profile(phi, [n] * (depth + 1), 1.0, 0.0, float(np.mean(x**2)), delta=float(np.linalg.norm(delta)))
    zero = square = None
    for back in range(depth):
        k = depth - back
        grad = a[k - 1].astype(np.float32).T @ delta
        if zero is None and np.median(np.abs(grad)) == 0.0:
            zero = back
        if square is None and np.median(grad**2) == 0.0:
            square = back
        if k > 1:
            delta = (delta @ Ws[k - 1].astype(np.float32).T) * slopes(phi, z[k - 2]).astype(np.float32)
    floors_ = floors(np.float32)
    assert zero is not None
    assert square is not None
    assert abs(zero - (layers_until(floors_.zero, predicted_.log10_grad_entry) or 0)) <= 1
    assert abs(square - (layers_until(floors_.square, predicted_.log10_grad_entry) or 0)) <= 1


def test_entries_are_norms_over_the_root_of_their_number() -> None:
    found = profile(ACTIVATIONS["tanh"], (4, 9, 16), 1.0, 0.0, 1.0)
    assert found.log10_grad - found.log10_grad_entry == pytest.approx([log10(6.0), log10(12.0)], rel=1e-13)
    assert found.log10_delta - found.log10_delta_entry == pytest.approx([log10(3.0), log10(4.0)], rel=1e-13)
