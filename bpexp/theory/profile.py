"""The profile that theory predicts for a given net, layer by layer, without assuming that its layers have settled.

Forwards q_1 = sigma_w2 q_0 + sigma_b2, q_0 the mean square of an input, then q_{k+1} = sigma_w2 E[phi(z_k)^2] + sigma_b2.  Backwards
delta_k[i] = phi'(z_k[i]) sum_j delta_{k+1}[j] W_{k+1}[i, j], so with W independent of delta (Schoenholz et al. 2017, sec. 4)

    E||delta_k||^2 = n_k Var(W_{k+1}) E[phi'(z_k)^2] E||delta_{k+1}||^2 = sigma_w2_{k+1} E[phi'(z_k)^2] E||delta_{k+1}||^2

for sigma_w2 is the variance of a weight times its n_in, and layer k+1 has n_in = n_k.  No width is left in the norms.
All of it is kept as log10, for after hundreds of layers both q and ||delta|| may have left the range of float64.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, log10
from numbers import Real

import numpy as np

from bpexp.core.activations import ACTIVATIONS, Activation
from bpexp.core.arrays import Float64s
from bpexp.theory.arguments import check, size
from bpexp.theory.gaussian import gaussian_mean
from bpexp.theory.mean_field import width_correction
from bpexp.theory.variance import outputs, slopes

__all__ = ["Profile", "profile"]

LOG10_Q = (-24.0, 12.0)  # from these on every mean is a power of q, for phi is one of |z| on either side of 0
STEP = 2.0  # of log10 q, over which that power is told


@dataclass(frozen=True)
class Profile:
    """One number per layer, 1 … L: entry k - 1 is layer k's.

    `q` is E[z_k^2] (0 or inf where `log10_q` is beyond float64), `kappa` E[phi'^4]/E[phi'^2]^2.  `chi` is E||delta_k||^2 / E||delta_{k+1}||^2;
    at the output layer E[phi_out'(z_L)^2], which the loss's gradient is multiplied by, or 1 where no output activation is given.
    `log10_delta` and `log10_grad` are log10 of the root of the mean over nets of ||delta_k||^2 and of ||dL/dW_k||^2 = ||a_{k-1}||^2 ||delta_k||^2,
    for one sample.  The mean of log10 ||delta_k|| over nets lies lower, by `correction` decades: the sum of `width_correction` over the
    layers k … L-1, to the first order in 1/width.
    """

    sizes: tuple[int, ...]
    q: Float64s
    log10_q: Float64s
    chi: Float64s
    kappa: Float64s
    log10_delta: Float64s
    log10_grad: Float64s
    correction: Float64s

    @property
    def log10_typical_delta(self) -> Float64s:
        """The mean of log10 ||delta_k|| over nets of these widths."""
        return self.log10_delta - self.correction

    @property
    def log10_delta_entry(self) -> Float64s:
        """The same for one neuron's delta: its root mean square."""
        return self.log10_delta - 0.5 * np.log10(self.sizes[1:])

    @property
    def log10_grad_entry(self) -> Float64s:
        """The same for one weight's gradient: its root mean square."""
        return self.log10_grad - 0.5 * (np.log10(self.sizes[1:]) + np.log10(self.sizes[:-1]))


def profile(
    phi: Activation,
    sizes: Sequence[int],
    sigma_w2: float | Sequence[float],
    sigma_b2: float | Sequence[float],
    q_input: float,
    *,
    output: Activation | None = None,
    delta: float | None = None,
    centre: float = 0.0,
) -> Profile:
    """The profile of a net of `sizes` n_0, …, n_L whose hidden layers use phi.

    `sigma_w2` is n_in times the variance of a weight, Gaussian or uniform, and `sigma_b2` the variance of a bias: one number, or one per layer.
    `q_input` is E[x^2] over samples and inputs, `delta` the norm of a sample's delta at the output layer (1 unless given).  `output` is that
    layer's activation; a softmax has no slope of its own.  `centre`: the biases of layers 2 … L take centre sum_i W[i, j] off (sigmoid
    with 1/2 is a tanh net).  Raises ValueError in a line where an argument is none of these.
    """
    layers = len(sizes) - 1
    check(layers >= 1 and all(n >= 1 for n in sizes), "sizes", sizes, "the numbers of neurons n_0, …, n_L, two or more of at least 1")
    check(phi.elementwise, "activation", phi.name, "elementwise")
    check(size(q_input), "q_input", q_input, "a mean square: 0 or more")
    check(delta is None or size(delta), "delta", delta, "a norm: 0 or more")
    weights, biases = _per_layer("sigma_w2", sigma_w2, layers), _per_layer("sigma_b2", sigma_b2, layers)

    log10_q, log10_a = _forward(phi, weights, biases, _log10(q_input), centre)
    slope_2 = np.array([_log10_mean(lambda z: slopes(phi, z) ** 2, x) for x in log10_q[:-1]])
    slope_4 = np.array([_log10_mean(lambda z: slopes(phi, z) ** 4, x) for x in log10_q[:-1]])
    last_2, last_4 = _last(output, log10_q[-1])
    log10_chi = np.array([*(_log10(w) + x for w, x in zip(weights[1:], slope_2, strict=True)), last_2])
    log10_kappa = np.array([*(slope_4 - 2.0 * slope_2), last_4 - 2.0 * last_2])
    log10_delta = _log10(1.0 if delta is None else delta) + 0.5 * np.append(_sums_from_the_end(log10_chi[:-1]), 0.0)
    with np.errstate(over="ignore", under="ignore"):
        q, chi, kappa = 10.0**log10_q, 10.0**log10_chi, 10.0**log10_kappa
    lost = [width_correction(float(kappa_), n) for kappa_, n in zip(kappa[:-1], sizes[1:-1], strict=True)]
    return Profile(
        sizes=tuple(sizes),
        q=q,
        log10_q=log10_q,
        chi=chi,
        kappa=kappa,
        log10_delta=log10_delta,
        log10_grad=log10_delta + 0.5 * (log10_a + np.log10(sizes[:-1])),
        correction=np.append(_sums_from_the_end(np.array(lost)), 0.0),
    )


def _forward(phi: Activation, weights: Float64s, biases: Float64s, log10_q_input: float, centre: float) -> tuple[Float64s, Float64s]:
    """log10 of q_1 … q_L, and of the mean square of an entry of a_0 … a_{L-1}."""
    log10_q: list[float] = []
    squares, sent = [log10_q_input], log10_q_input  # sent: the mean square of a - centre, which z is made of
    for sigma_w2, sigma_b2 in zip(weights, biases, strict=True):
        if log10_q:
            squares.append(_log10_mean(lambda z: outputs(phi, z) ** 2, log10_q[-1]))
            sent = _log10_mean(lambda z: _centred(phi, centre, z) ** 2, log10_q[-1]) if centre else squares[-1]
        log10_q.append(_log10_sum(_log10(sigma_w2) + sent, _log10(sigma_b2)))
    return np.array(log10_q), np.array(squares)


def _centred(phi: Activation, centre: float, z: Float64s) -> Float64s:
    """phi(z) - centre; sigmoid(z) - 1/2 as tanh(z/2)/2, which keeps its digits at small z."""
    if phi.name == "sigmoid" and centre == 0.5:
        return 0.5 * outputs(ACTIVATIONS["tanh"], 0.5 * z)
    return outputs(phi, z) - centre


def _last(output: Activation | None, log10_q: float) -> tuple[float, float]:
    """log10 of E[phi_out'^2] and of E[phi_out'^4]."""
    if output is None or not output.elementwise:
        return 0.0, 0.0
    return _log10_mean(lambda z: slopes(output, z) ** 2, log10_q), _log10_mean(lambda z: slopes(output, z) ** 4, log10_q)


def _log10_mean(f: Callable[[Float64s], Float64s], log10_q: float) -> float:
    """log10 E[f(z)] of an f >= 0, z ~ N(0, q).

    At the ends of LOG10_Q and beyond, the mean goes as q to a power that is a multiple of 1/2: an even power of |z| has a whole one, and a mean
    that what is near 0 makes up has -1/2.
    """
    near = min(max(log10_q, LOG10_Q[0]), LOG10_Q[1])
    value = _log10(gaussian_mean(f, 10.0**near))
    if near == log10_q:
        return value
    inner = near - STEP if near > 0.0 else near + STEP
    power = round(2.0 * (value - _log10(gaussian_mean(f, 10.0**inner))) / (near - inner)) / 2.0
    return value + power * (log10_q - near) if power else value  # 0 times inf is no number


def _sums_from_the_end(x: Float64s) -> Float64s:
    """Entry k: x[k] + … + x[-1]."""
    return np.cumsum(x[::-1])[::-1]


def _log10(x: float) -> float:
    return log10(x) if x > 0.0 else -inf


def _log10_sum(x: float, y: float) -> float:
    """log10 (10^x + 10^y)."""
    high, low = max(x, y), min(x, y)
    return high if low == -inf else high + log10(1.0 + 10.0 ** (low - high))


def _per_layer(key: str, value: float | Sequence[float], layers: int) -> Float64s:
    each = [float(value)] * layers if isinstance(value, Real) else list(value)  # type: ignore[arg-type]
    check(len(each) == layers and all(size(x) for x in each), key, value, f"0 or more: one number, or one for each of the {layers} layers")
    return np.array(each, np.float64)
