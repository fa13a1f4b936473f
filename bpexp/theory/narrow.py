"""What finite width takes from the norms of a typical net, layer by layer, to the first order in 1/width (derived).

Mean-field theory gives the means over nets of ||a_k||^2 and ||delta_k||^2 where all layers are infinitely wide.  In layers of n_k neurons:

1. Forwards, let q_k be the variance of layer k's z given the layers before it.  The mean of phi² over n_k independent z ~ N(0, q_k) is
   E[phi²] (1 + e_k), Var e_k = (E[phi⁴]/E[phi²]² - 1)/n_k, and ln q_{k+1} = ln(sigma_w2 E[phi²] (1 + e_k) + sigma_b2).  So ln q_k is spread out
   around its mean-field value, and its mean lies below it.
2. Backwards a layer multiplies ||delta||^2 by sigma_w2 E[phi'²] (1 + d_k), E[phi'²] being that at the net's own q_k and
   Var d_k = (3 E[phi'⁴]/E[phi'²]² - 1)/n_k (`width_correction`); the mean of ln(1 + d_k) is minus half of it.
3. W_{k+1} is not independent of delta_{k+1}, which hangs on h = a_k W_{k+1}: along a_k, one of n_k directions, the square of W delta is
   C_{k+1} = E[(h·delta)²]/(E[h²] ||delta||²) times that of an independent W.  Independent again is what is orthogonal to a_k, from which
   C_k = E[h² phi'²]/(E[h²] E[phi'²]) + E[h phi phi']²/(E[phi²] E[h²] E[phi'²]) (C_{k+1} - 1); C_L = 1 for a delta that knows nothing of z_L.
4. Orthogonal W keep lengths: h and W delta are uniform on spheres (on balls, partly, where W is not square), whose radius does not fluctuate.

The mean of a logarithm is taken because it is what a typical net shows, and what a mean over the logs of several runs estimates.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import exp, log

import numpy as np

from bpexp.core.activations import Activation
from bpexp.core.arrays import Float64s
from bpexp.theory.gaussian import gaussian_mean
from bpexp.theory.variance import outputs, slopes

__all__ = ["Lost", "lost_per_layer", "lost_to_width"]

X = (log(1e-24), log(1e12))  # of q: beyond them phi is a power of |z| on either side of 0, and what is asked for here no longer changes
STEP = 0.02  # of ln q, over which slopes and curvatures are taken: right to 1e-4 of themselves
FAR = 200  # layers from either end of a net
LN10 = log(10.0)

Function = Callable[[Float64s], Float64s]


@dataclass(frozen=True)
class Lost:
    """Decades by which the mean over nets of log10 of a norm lies below log10 of mean-field theory's root mean square.

    `delta`: of ||delta_k||, layers 1 … L; `grad`: of ||dL/dW_k|| = ||a_{k-1}|| ||delta_k||, the same layers; for one sample.
    """

    delta: Float64s
    grad: Float64s


def lost_to_width(
    phi: Activation,
    sizes: Sequence[int],
    sigma_w2: Sequence[float],
    sigma_b2: float,
    log10_q: Float64s,
    *,
    centre: float = 0.0,
    orthogonal: bool = False,
    directions: float = 1.0,
) -> Lost:
    """For a net of `sizes` n_0, …, n_L with hidden layers of phi, relative to ||delta_L|| and to the inputs, which are given.

    `sigma_w2` (n_in times the variance of a weight) and `log10_q` are per layer, 1 … L, the latter as `profile` has it; `centre` is what
    the biases of layers 2 … L take off the activations.
    `directions`: for the root mean square of ||delta_k|| over samples whose z are alike, the number of directions (tr S)²/tr S² that their
    delta_L are spread over, S = E[delta_Lᵀ delta_L].  What a weight matrix does to each of them averages out, what phi' does to all does not.
    """
    depth = len(sizes) - 1
    layers = [_Layer.of(phi, centre, float(log10_q[k - 1]), sigma_b2) for k in range(1, depth)]
    lost_a, lost_back = np.zeros(depth), np.zeros(depth)
    mean = variance = 0.0  # of ln q_k about its mean-field value
    for k, layer in enumerate(layers, start=1):
        n, kept = sizes[k], _kept(sizes[k], sizes[k - 1], orthogonal)
        lost_a[k] = -layer.out.typical(mean, variance, layer.noise(layer.out, kept) / n, layer.shift(layer.out, kept) / n)
        kept_back = _kept(sizes[k], sizes[k + 1], orthogonal)
        noise = layer.noise(layer.back, kept) + 2.0 * (layer.back.kurtosis - kept_back) / directions
        lost_back[k - 1] = -layer.back.typical(mean, variance, noise / n, layer.shift(layer.back, kept) / n)
        sent, share = layer.sent, _share(sigma_w2[k] * exp(layer.sent.value), sigma_b2)
        added = share**2 * layer.noise(sent, kept) / n
        slope, curvature = share * sent.slope, share * sent.curvature + share * (1.0 - share) * sent.slope**2
        mean = slope * mean + 0.5 * curvature * variance - 0.5 * added + share * layer.shift(sent, kept) / n
        variance = slope**2 * variance + added
    excess = 0.0  # C - 1
    for k in range(depth - 1, 0, -1):
        layer = layers[k - 1]
        lost_back[k - 1] -= excess * (layer.along - _kept(sizes[k], sizes[k + 1], orthogonal)) / sizes[k]
        excess = layer.own + layer.handed * excess - 1.0
    delta = np.cumsum(lost_back[::-1])[::-1] / (2.0 * LN10)
    return Lost(delta=delta, grad=delta + lost_a / (2.0 * LN10))


def lost_per_layer(
    phi: Activation, sigma_w2: float, sigma_b2: float, q: float, width: int, *, centre: float = 0.0, orthogonal: bool = False
) -> float:
    """Decades that width takes from ||delta|| per layer, between layers of one width that have settled at q, far from both ends of the net."""
    depth, log10_q = 2 * FAR, np.full(2 * FAR, log(q) / LN10 if q > 0.0 else -np.inf)
    lost = lost_to_width(phi, [width] * (depth + 1), [sigma_w2] * depth, sigma_b2, log10_q, centre=centre, orthogonal=orthogonal)
    return float(lost.delta[FAR - 1] - lost.delta[FAR])


def _kept(n: int, other: int, orthogonal: bool) -> float:
    """How much of a vector's length an orthogonal W keeps on its way from `other` neurons to n: 1 where no direction is lost; 0 if W is Gaussian."""
    return min(1.0, n / other) if orthogonal else 0.0


def _share(weights: float, biases: float) -> float:
    return weights / (weights + biases) if weights > 0.0 else 0.0


@dataclass(frozen=True)
class _Moments:
    """ln E[f(z)²] at ln q = x, its slope and curvature in x, and E[f⁴]/E[f²]²."""

    value: float
    slope: float
    curvature: float
    kurtosis: float

    @classmethod
    def of(cls, f: Function, x: float) -> "_Moments":
        low, here, high = (log(gaussian_mean(lambda z: f(z) ** 2, exp(x + step))) for step in (-STEP, 0.0, STEP))
        fourth = gaussian_mean(lambda z: f(z) ** 4, exp(x))
        return cls(here, (high - low) / (2.0 * STEP), (high - 2.0 * here + low) / STEP**2, fourth / exp(2.0 * here))

    def typical(self, mean: float, variance: float, noise: float, shift: float) -> float:
        """The mean over nets of ln of the mean of f² over neurons, less ln E[f²] at the mean-field q."""
        return self.slope * mean + 0.5 * self.curvature * variance - 0.5 * noise + shift


@dataclass(frozen=True)
class _Layer:
    """A hidden layer at its mean-field q: the moments of phi - centre, which the next z is made of, of phi and of phi'.

    `share` is E[h²]/q, h being z without its bias; `own` and `handed` are the coefficients of C_k's recursion, and
    `along` = E[phi'² phi²]/(E[phi'²] E[phi²]).
    """

    sent: _Moments
    out: _Moments
    back: _Moments
    share: float
    own: float
    handed: float
    along: float

    @classmethod
    @cache  # layers that have settled are alike
    def of(cls, phi: Activation, centre: float, log10_q: float, sigma_b2: float) -> "_Layer":
        x = min(max(log10_q * LN10, X[0]), X[1])
        q = exp(x)
        share = max(0.0, 1.0 - sigma_b2 / q)

        def sends(z: Float64s) -> Float64s:
            return outputs(phi, z) - centre

        sent, out, back = (_Moments.of(f, x) for f in (sends, lambda z: outputs(phi, z), lambda z: slopes(phi, z)))
        passed = gaussian_mean(lambda z: z**2 / q * slopes(phi, z) ** 2, q) / exp(back.value)  # of h = share z + what is independent of z
        crossed = gaussian_mean(lambda z: z * sends(z) * slopes(phi, z), q) ** 2 / (q * exp(sent.value + back.value))
        both = gaussian_mean(lambda z: (sends(z) * slopes(phi, z)) ** 2, q)
        return cls(sent, out, back, share, share * passed + 1.0 - share, share * crossed, both / exp(sent.value + back.value))

    def noise(self, f: _Moments, kept: float) -> float:
        """The variance of the mean of f² over neurons, over its squared mean, times their number."""
        return f.kurtosis - 1.0 - 2.0 * kept * (self.share * f.slope) ** 2

    def shift(self, f: _Moments, kept: float) -> float:
        """How far ln of the mean of f² lies above ln E[f²] where h lies on a sphere, times the number of neurons: -E[h²]² (d²/dq²) E[f²] / E[f²]."""
        return -kept * self.share**2 * (f.curvature + f.slope**2 - f.slope)
