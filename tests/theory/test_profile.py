"""The predicted profile against the recursion by adaptive quadrature, nets that are drawn at random, and exact identities."""

from math import log10, sqrt

import numpy as np
import pytest

from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import Float64s
from bpexp.theory.mean_field import decades_per_layer, settled, width_correction
from bpexp.theory.profile import profile
from bpexp.theory.variance import outputs, slopes
from tests.theory.formulas import FORMULAS, HIDDEN, mean_by_quad

SIZES = (7, 30, 50, 20, 40, 3)
WEIGHTS, BIASES = (0.5, 1.0, 1.7, 2.5, 1.2), (0.0, 0.1, 0.3, 0.0, 0.2)


@pytest.mark.parametrize("name", HIDDEN)
def test_the_recursion_by_adaptive_quadrature(name: str) -> None:
    function, slope = FORMULAS[name]
    q, a, per_weight = [], [0.4], [w / n for w, n in zip(WEIGHTS, SIZES, strict=False)]
    for n, variance, bias in zip(SIZES, per_weight, BIASES, strict=False):
        q.append(n * variance * a[-1] + bias)
        a.append(mean_by_quad(lambda z: function(z) ** 2, q[-1]))
    slope_2 = [mean_by_quad(lambda z: slope(z) ** 2, x) for x in q]
    slope_4 = [mean_by_quad(lambda z: slope(z) ** 4, x) for x in q]
    square = [4.0]  # of the delta at the output, then backwards
    for k in (3, 2, 1, 0):  # layer k + 1, of n = SIZES[k + 1] neurons, whose deltas come through the weights of the next
        square.insert(0, SIZES[k + 1] * per_weight[k + 1] * slope_2[k] * square[0])
    gradients = [SIZES[k] * a[k] * square[k] for k in range(5)]

    found = profile(ACTIVATIONS[name], SIZES, WEIGHTS, BIASES, 0.4, output=ACTIVATIONS[name], delta=2.0)
    kappa = [x / y**2 for x, y in zip(slope_4, slope_2, strict=True)]
    assert found.q == pytest.approx(q, rel=1e-8)
    assert found.chi == pytest.approx([w * x for w, x in zip((*WEIGHTS[1:], 1.0), slope_2, strict=True)], rel=1e-8)
    assert found.kappa == pytest.approx(kappa, rel=1e-8)
    assert found.log10_delta == pytest.approx(0.5 * np.log10(square), abs=1e-8)
    assert found.log10_grad == pytest.approx(0.5 * np.log10(gradients), abs=1e-8)
    lost = [width_correction(x, n) for x, n in zip(kappa[:4], SIZES[1:5], strict=True)]
    assert found.correction == pytest.approx([sum(lost[k:]) for k in range(5)], rel=1e-8)
    assert found.log10_typical_delta == pytest.approx(found.log10_delta - found.correction, rel=1e-15)


def test_a_softmax_or_no_output_takes_no_part() -> None:
    tanh = ACTIVATIONS["tanh"]
    plain, softmax = (profile(tanh, SIZES, 1.0, 0.1, 0.4, output=output) for output in (None, ACTIVATIONS["softmax"]))
    assert plain.chi[-1] == softmax.chi[-1] == plain.kappa[-1] == softmax.kappa[-1] == 1.0
    assert plain.log10_delta[-1] == plain.correction[-1] == 0.0


def draw(name: str, sizes: tuple[int, ...], weights: tuple[float, ...], biases: tuple[float, ...], x: Float64s, seed: int, uniform: bool) -> Float64s:
    """||delta_k||² and ||a_{k-1}||² ||delta_k||² of one net and the sample x, whose delta at the output has norm 1: shape (2, L)."""
    rng, phi = np.random.default_rng(seed), ACTIVATIONS[name]
    half = sqrt(3.0)
    Ws = [
        sqrt(w / n) * (rng.uniform(-half, half, (n, m)) if uniform else rng.standard_normal((n, m)))
        for w, n, m in zip(weights, sizes, sizes[1:], strict=False)
    ]
    a, z = [x], []
    for W, b in zip(Ws, biases, strict=True):
        z.append(a[-1] @ W + sqrt(b) * rng.standard_normal(W.shape[1]))
        a.append(outputs(phi, z[-1]))
    delta = rng.standard_normal(sizes[-1])
    deltas = [delta / np.linalg.norm(delta)]
    for W, z_ in zip(reversed(Ws[1:]), reversed(z[:-1]), strict=True):
        deltas.insert(0, (W @ deltas[0]) * slopes(phi, z_))
    d2 = np.array([d @ d for d in deltas])
    return np.array([d2, d2 * [v @ v for v in a[:-1]]])


@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", "elu", "gelu"])
def test_nets_drawn_at_random(name: str, uniform: bool) -> None:
    """Mean squares over 60 nets of different widths: within 4.5 standard errors, and 1/width, which the theory leaves out."""
    sizes, weights, biases = (100, 300, 200, 400, 250, 5), (1.0, 2.5, 1.5, 2.0, 0.7), (0.0, 0.2, 0.0, 0.1, 0.3)
    x = np.random.default_rng(5).standard_normal(100)
    nets = np.array([draw(name, sizes, weights, biases, x, seed, uniform) for seed in range(60)])
    found = profile(ACTIVATIONS[name], sizes, weights, biases, float(np.mean(x**2)))
    expected = 10.0 ** (2.0 * np.array([found.log10_delta, found.log10_grad]))
    error = nets.std(axis=0, ddof=1) / sqrt(len(nets))
    assert np.all(error < 0.08 * expected)
    assert np.all(np.abs(nets.mean(axis=0) - expected) <= 4.5 * error + expected / 200)


@pytest.mark.parametrize(("name", "sigma_w2"), [("relu", 2.0), ("tanh", 1.5), ("sigmoid", 4.0), ("linear", 1.0)])
def test_the_typical_delta_of_narrow_nets(name: str, sigma_w2: float) -> None:
    """The mean of log10 ||delta_1|| over 1500 nets, twelve layers of 40: the correction is most of what sets it apart from the wide net's."""
    sizes = (40,) * 13
    x = np.ones(40)
    logs = 0.5 * np.log10([draw(name, sizes, (sigma_w2,) * 12, (0.0,) * 12, x, seed, False)[0, 0] for seed in range(1500)])
    error = logs.std(ddof=1) / sqrt(len(logs))
    found = profile(ACTIVATIONS[name], sizes, sigma_w2, 0.0, 1.0)
    assert found.correction[0] > 8 * error  # without it, the next line would not hold
    assert logs.mean() == pytest.approx(found.log10_typical_delta[0], rel=0.0, abs=4 * error + 0.1 * found.correction[0])


@pytest.mark.parametrize(("sigma_w2", "decades"), [(1.0, -61.45), (1 / 3, -83.24)])
def test_a_hundred_sigmoid_layers(sigma_w2: float, decades: float) -> None:
    found = profile(ACTIVATIONS["sigmoid"], (64, *[256] * 99, 10), sigma_w2, 0.0, 0.2)
    assert round(found.log10_delta[0] - found.log10_delta[98], 2) == pytest.approx(decades, abs=0.011)
    steps = -np.diff(found.log10_delta[40:99])
    assert steps == pytest.approx(np.full(58, -decades_per_layer(ACTIVATIONS["sigmoid"], sigma_w2, 0.0)), abs=1e-10)


@pytest.mark.parametrize(("name", "sigma_w2", "sigma_b2"), [("tanh", 1.69, 0.09), ("selu", 0.8, 0.1), ("gelu", 1.5, 0.3), ("erf", 9.0, 0.0)])
def test_a_deep_net_settles(name: str, sigma_w2: float, sigma_b2: float) -> None:
    found, end = profile(ACTIVATIONS[name], [10] * 401, sigma_w2, sigma_b2, 1.0), settled(ACTIVATIONS[name], sigma_w2, sigma_b2, width=10)
    assert (found.q[-2], found.chi[-2], found.kappa[-2]) == pytest.approx((end.q, end.chi, end.kappa), rel=1e-9)
    assert np.diff(found.log10_typical_delta[-9:-1]) == pytest.approx(np.full(7, end.decades_per_layer), abs=1e-9)


FAR = 1500


def test_numbers_beyond_float64() -> None:
    sizes = [10] * (FAR + 1)
    grows = profile(ACTIVATIONS["linear"], sizes, 4.0, 0.0, 1.0)
    assert grows.log10_q[-1] == pytest.approx(FAR * log10(4.0), rel=1e-12)
    assert np.isposinf(grows.q[-1])
    assert grows.log10_delta[0] == pytest.approx((FAR - 1) * log10(2.0), rel=1e-12)
    assert grows.log10_grad == pytest.approx(np.full(FAR, (FAR - 1) * log10(2.0) + 0.5), rel=1e-12)
    for name in ("relu", "leaky_relu"):
        found = profile(ACTIVATIONS[name], sizes, 6.0, 0.0, 1.0)
        factor = 6.0 * (1.0 + ACTIVATIONS_LEAK[name] ** 2) / 2.0
        assert found.log10_q[-1] == pytest.approx(log10(6.0) + (FAR - 1) * log10(factor), rel=1e-11)
        assert found.log10_delta[0] == pytest.approx(0.5 * (FAR - 1) * log10(factor), rel=1e-11)
    shrinks = profile(ACTIVATIONS["tanh"], sizes, 0.01, 0.0, 1e-30)
    assert shrinks.log10_q[-1] == pytest.approx(-30.0 - 2.0 * FAR, rel=1e-12)
    assert shrinks.q[-1] == 0.0
    assert shrinks.log10_delta[0] == pytest.approx(-(FAR - 1.0), rel=1e-12)


ACTIVATIONS_LEAK = {"relu": 0.0, "leaky_relu": 0.01}


@pytest.mark.parametrize("name", HIDDEN)
def test_beyond_the_edge_the_means_go_on_as_powers(name: str) -> None:
    """The profile of a huge and of a tiny input is continuous with that of an input at which the quadrature still reaches."""
    far, further = (profile(ACTIVATIONS[name], [10] * 4, 1.0, 0.0, 10.0**x) for x in (11.99, 12.01))
    near, nearer = (profile(ACTIVATIONS[name], [10] * 4, 1.0, 0.0, 10.0**-x) for x in (23.99, 24.01))
    for one, other in ((far, further), (near, nearer)):
        assert one.log10_delta == pytest.approx(other.log10_delta, abs=0.011)
        assert one.log10_q[1:] == pytest.approx(other.log10_q[1:], abs=0.021)
        assert one.kappa == pytest.approx(other.kappa, rel=0.03)


def test_erf_far_out_against_its_closed_forms() -> None:
    q = 1e40
    found = profile(ACTIVATIONS["erf"], [10, 10, 10], 1.0, 0.0, q)
    assert found.chi[0] == pytest.approx(4 / np.pi / sqrt(1 + 4 * q), rel=1e-6)
    assert found.kappa[0] == pytest.approx((1 + 4 * q) / sqrt(1 + 8 * q), rel=1e-6)
    assert found.q[1] == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize(("sigma_w2", "sigma_b2"), [(16.0, 0.0), (9.0, 0.0), (25.0, 0.3)])
def test_a_centred_sigmoid_net_is_a_tanh_net(sigma_w2: float, sigma_b2: float) -> None:
    """Z = 2 z', W = 4 W' from layer 2 on and 2 W' in layer 1, b = 2 b' (derived): also after 600 layers, where q may be 1e-150."""
    sizes, layers = (5, *[20] * 600, 3), 601
    shifted = profile(ACTIVATIONS["sigmoid"], sizes, sigma_w2, sigma_b2, 0.7, centre=0.5)
    tanh = profile(ACTIVATIONS["tanh"], sizes, [sigma_w2 / 4, *[sigma_w2 / 16] * (layers - 1)], sigma_b2 / 4, 0.7)
    assert shifted.log10_q == pytest.approx(tanh.log10_q + log10(4.0), rel=1e-9, abs=1e-9)
    assert shifted.chi[:-1] == pytest.approx(tanh.chi[:-1], rel=1e-9)
    assert shifted.log10_delta == pytest.approx(tanh.log10_delta, abs=1e-9)


def test_no_weights_no_deltas() -> None:
    found = profile(ACTIVATIONS["tanh"], [4, 4, 4], 0.0, 0.0, 1.0)
    assert np.all(np.isneginf(found.log10_q))
    assert found.log10_delta.tolist() == [-np.inf, 0.0]


BAD: list[tuple[dict[str, object], str]] = [
    ({"sizes": [4]}, r"^sizes=\[4\]: must be the numbers of neurons"),
    ({"sizes": [4, 0, 2]}, r"^sizes=\[4, 0, 2\]: must be the numbers of neurons"),
    ({"sigma_w2": [1.0, 1.0]}, r"^sigma_w2=\[1.0, 1.0\]: must be 0 or more: one number, or one for each of the 3 layers$"),
    ({"sigma_w2": -1.0}, r"^sigma_w2=-1.0: must be 0 or more"),
    ({"sigma_b2": float("nan")}, r"^sigma_b2=nan: must be 0 or more"),
    ({"q_input": -0.1}, r"^q_input=-0.1: must be a mean square"),
    ({"delta": float("inf")}, r"^delta=inf: must be a norm"),
    ({"phi": ACTIVATIONS["softmax"]}, r"^activation=softmax: must be elementwise$"),
]


@pytest.mark.parametrize(("changed", "message"), BAD)
def test_what_is_no_net_is_refused_in_a_line(changed: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"phi": ACTIVATIONS["tanh"], "sizes": [4, 5, 6, 2], "sigma_w2": 1.0, "sigma_b2": 0.0, "q_input": 1.0}
    with pytest.raises(ValueError, match=message):
        profile(**(arguments | changed))  # type: ignore[arg-type]
