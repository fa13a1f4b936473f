"""Initial weights: one row each, from a seeded generator to a matrix W of shape (n_in, n_out), with what a reader has to know of it.

The keyword arguments of a row's `draw` are the keys it takes from the configuration (`init.sigma_w2=4`).  All draw in float64 and
independently per layer; what the network trains in is rounded from that, so float32 and float64 start from the same weights.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import exp, sqrt
from typing import Any

import numpy as np
from numpy.random import Generator

from bpexp.core.arrays import Float64s
from bpexp.core.rows import Row, parameters

__all__ = ["INITIALIZERS", "Initializer", "draw_layer"]


@dataclass(frozen=True)
class Initializer(Row):
    """A distribution of initial weights.

    `draw(rng, n_in, n_out, **keys)` returns W (n_in, n_out).  `effect` is what it does to delta_{k-1} = (delta_k W_k^T) * phi'(z_{k-1}).
    `centre` is the mean of the previous layer's activations, which the biases of layers 2 … depth take off again (`draw_layer`).
    `solved`: sigma_w2 is not the user's but the mean-field theory's, which is asked for it before `draw` is called.
    `sigma_w2(n_in, n_out, **keys)` is n_in E[w²], what mean-field theory has to know of the weights; None where they are no independent
    draws, nor orthogonal ones, around 0, so that the theory has nothing to say.
    """

    draw: Callable[..., Float64s]
    sigma_w2: Callable[..., float] | None = None
    centre: float = 0.0
    solved: bool = False

    @property
    def name(self) -> str:
        return self.draw.__name__

    @property
    def keys(self) -> Mapping[str, Any]:
        return parameters(self.draw, after=3)

    def draws_orthogonal(self, **keys: Any) -> bool:
        """Whether all singular values of a square W are alike, given the keys of the row."""
        return self.draw is orthogonal or bool(keys.get("orthogonal"))


def draw_layer(
    rng: Generator, init: Initializer, k: int, n_in: int, n_out: int, *, bias: bool, sigma_b2: float = 0.0, **keys: float
) -> tuple[Float64s, Float64s | None]:
    """W (n_in, n_out) of layer k, then its biases (1, n_out), or None without biases.

    b[j] = N(0, sigma_b2) - centre sum_i W[i, j], the second term from layer 2 on: the inputs of layer 1 are no activations.
    """
    W = init.draw(rng, n_in, n_out, **keys)
    if not bias:
        return W, None
    b = sqrt(sigma_b2) * rng.standard_normal((1, n_out))
    if k > 1 and init.centre:
        b -= init.centre * W.sum(axis=0)
    return W, b


def _given(_n_in: int, _n_out: int, *, sigma_w2: float = 1.0, **_keys: Any) -> float:
    """The scale that the keys give, or the default of `gaussian` and `orthogonal`."""
    return sigma_w2


def _fixed(sigma_w2: float) -> Callable[[int, int], float]:
    """The same scale for layers of all sizes."""
    return lambda _n_in, _n_out: sigma_w2


def _glorot(n_in: int, n_out: int) -> float:
    return 2.0 * n_in / (n_in + n_out)


def _sussillo(n_in: int, _n_out: int) -> float:
    """g² of `sussillo`."""
    return 2.0 * exp(2.4 / (max(n_in, 6) - 2.4))


def zeros(_rng: Generator, n_in: int, n_out: int) -> Float64s:
    """All 0; takes no random numbers."""
    return np.zeros((n_in, n_out))


def identity(_rng: Generator, n_in: int, n_out: int, gain: float = 1.0) -> Float64s:
    """`gain` where i = j, else 0, also if W is not square; takes no random numbers.  A linear net's product of weights is gain^depth I."""
    return gain * np.eye(n_in, n_out)


def _uniform(rng: Generator, n_in: int, n_out: int, variance: float) -> Float64s:
    """Uniform on ±sqrt(3 variance), which has that variance."""
    bound = sqrt(3.0 * variance)
    return rng.uniform(-bound, bound, (n_in, n_out))


def standard(rng: Generator, n_in: int, n_out: int) -> Float64s:
    """U(±1/sqrt(n_in)), variance 1/(3 n_in): the usual heuristic before 2010 (Glorot & Bengio 2010, eq. 1)."""
    return _uniform(rng, n_in, n_out, 1.0 / (3.0 * n_in))


def lecun(rng: Generator, n_in: int, n_out: int) -> Float64s:
    """N(0, 1/n_in): keeps the variance of z for a linear neuron (LeCun et al. 1998, eq. 16)."""
    return gaussian(rng, n_in, n_out, sigma_w2=1.0)


def xavier(rng: Generator, n_in: int, n_out: int) -> Float64s:
    """U(±sqrt(6/(n_in + n_out))), variance 2/(n_in + n_out) (Glorot & Bengio 2010, eq. 16)."""
    return _uniform(rng, n_in, n_out, 2.0 / (n_in + n_out))


def xavier_normal(rng: Generator, n_in: int, n_out: int) -> Float64s:
    """N(0, 2/(n_in + n_out)), the variance of `xavier` (Glorot & Bengio 2010, eq. 12)."""
    return sqrt(2.0 / (n_in + n_out)) * rng.standard_normal((n_in, n_out))


def he(rng: Generator, n_in: int, n_out: int) -> Float64s:
    """N(0, 2/n_in): keeps the mean square of z through relu (He et al. 2015, eq. 10)."""
    return gaussian(rng, n_in, n_out, sigma_w2=2.0)


def he_uniform(rng: Generator, n_in: int, n_out: int) -> Float64s:
    """U(±sqrt(6/n_in)), the variance of `he`."""
    return _uniform(rng, n_in, n_out, 2.0 / n_in)


def gaussian(rng: Generator, n_in: int, n_out: int, sigma_w2: float = 1.0) -> Float64s:
    """N(0, sigma_w2/n_in), the ensemble of mean-field theory (Poole et al. 2016)."""
    return sqrt(sigma_w2 / n_in) * rng.standard_normal((n_in, n_out))


def orthogonal(rng: Generator, n_in: int, n_out: int, sigma_w2: float = 1.0) -> Float64s:
    """A random matrix with orthonormal rows or columns, uniform over all such (Saxe et al. 2014), on the scale of `gaussian`.

    The mean square of an entry is sigma_w2/n_in, so z has the same variance as under `gaussian`: Wᵀ W = sigma_w2 I where n_out <= n_in, else
    W Wᵀ = sigma_w2 n_out/n_in I.  The signs of R's diagonal make the QR factor uniformly distributed (Mezzadri 2007).
    """
    q, r = np.linalg.qr(rng.standard_normal((max(n_in, n_out), min(n_in, n_out))))
    q *= np.sign(np.diagonal(r))
    scale = sqrt(sigma_w2 * max(1.0, n_out / n_in))
    return np.asarray(scale * (q.T if n_in < n_out else q), dtype=np.float64)


ENSEMBLES = {False: gaussian, True: orthogonal}  # by the key `orthogonal`, which hides the function of that name


def critical(rng: Generator, n_in: int, n_out: int, sigma_w2: float, orthogonal: bool = False) -> Float64s:
    """`gaussian` or `orthogonal` with the sigma_w2 that is handed in: the one at which sigma_w2 E[phi'(z)^2] = 1."""
    return ENSEMBLES[orthogonal](rng, n_in, n_out, sigma_w2)


def shifted_critical(rng: Generator, n_in: int, n_out: int, sigma_w2: float, orthogonal: bool = False) -> Float64s:
    """The weights of `critical`; the row's `centre` makes the biases."""
    return critical(rng, n_in, n_out, sigma_w2, orthogonal)


def sussillo(rng: Generator, n_in: int, n_out: int) -> Float64s:
    """N(0, g²/n_in) with g = sqrt 2 exp(1.2 / (max(n_in, 6) - 2.4)) (Sussillo & Abbott 2014, for relu)."""
    g = sqrt(2.0) * exp(1.2 / (max(n_in, 6) - 2.4))
    return g / sqrt(n_in) * rng.standard_normal((n_in, n_out))


INITIALIZERS: dict[str, Initializer] = {
    row.name: row
    for row in (
        Initializer(
            zeros,
            equation="W = 0",
            effect="delta_k W_kᵀ = 0: no delta leaves the output layer, so the first step can change that layer alone. "
            "The neurons of a hidden layer, alike at the start, stay alike.",
            source="Rumelhart, Hinton & Williams 1986, on symmetry breaking",
        ),
        Initializer(
            identity,
            equation="W[i, j] = gain where i = j, else 0",
            effect="Each neuron hands its delta to the one of the same number, times gain φ': nothing is mixed, and with a gain of 1 and linear or "
            "active relu neurons nothing is lost.",
            source="Le, Jaitly & Hinton 2015, whose gain is 1",
        ),
        Initializer(
            standard,
            sigma_w2=_fixed(1.0 / 3.0),
            equation="W ~ U(±1/√n_in), variance 1/(3 n_in)",
            effect="The mean square of the deltas is multiplied by E[φ'²]/3 at every layer: even without φ' they shrink, by √3 per layer.",
            source="Glorot & Bengio 2010, eq. 1",
        ),
        Initializer(
            lecun,
            sigma_w2=_fixed(1.0),
            equation="W ~ N(0, 1/n_in)",
            effect="‖delta‖² is multiplied by E[φ'²] at every layer: kept by linear neurons, shrunk by those whose slopes are 1 at most.",
            source="LeCun et al. 1998, Efficient BackProp, eq. 16",
        ),
        Initializer(
            xavier,
            sigma_w2=_glorot,
            equation="W ~ U(±√(6/(n_in + n_out))), variance 2/(n_in + n_out)",
            effect="A compromise between keeping the variance of z forwards and of the deltas backwards; between layers of equal width both are "
            "multiplied as under lecun.",
            source="Glorot & Bengio 2010, eq. 16",
        ),
        Initializer(
            xavier_normal,
            sigma_w2=_glorot,
            equation="W ~ N(0, 2/(n_in + n_out))",
            effect="As xavier, whose variance it has: in a wide layer the sums over many weights do not show the shape of their distribution.",
            source="Glorot & Bengio 2010, eq. 12",
        ),
        Initializer(
            he,
            sigma_w2=_fixed(2.0),
            equation="W ~ N(0, 2/n_in)",
            effect="‖delta‖² is multiplied by 2 E[φ'²] at every layer: by 1 with relu, of whose neurons half are active. "
            "Slopes near 1 everywhere, as those of tanh near 0, make the deltas grow.",
            source="He et al. 2015, eq. 10",
        ),
        Initializer(
            he_uniform,
            sigma_w2=_fixed(2.0),
            equation="W ~ U(±√(6/n_in)), variance 2/n_in",
            effect="As he, whose variance it has.",
            source="the variance of He et al. 2015, eq. 10",
        ),
        Initializer(
            gaussian,
            sigma_w2=_given,
            equation="W ~ N(0, sigma_w2/n_in)",
            effect="‖delta‖² is multiplied by sigma_w2 E[φ'²] at every layer: below 1 the deltas vanish, above 1 they explode. "
            "The singular values of W are spread out, so some directions of delta shrink and others grow at any sigma_w2.",
            source="Poole et al. 2016",
        ),
        Initializer(
            orthogonal,
            sigma_w2=_given,
            equation="WᵀW = sigma_w2 I where n_out ≤ n_in, else WWᵀ = sigma_w2 n_out/n_in I, uniform over all such matrices",
            effect="All singular values of W are alike: it multiplies ‖delta‖ by the same factor in every direction. "
            "Between layers of equal width that is √sigma_w2, and only φ' tells directions apart.",
            source="Saxe, McClelland & Ganguli 2014",
        ),
        Initializer(
            critical,
            sigma_w2=_given,
            equation="W as gaussian, or as orthogonal with init.orthogonal=true, at the sigma_w2 where sigma_w2 E[φ'(z)²] = 1",
            effect="In a wide net each layer multiplies ‖delta‖² by 1: the deltas neither vanish nor explode.",
            source="Poole et al. 2016; Schoenholz et al. 2017; orthogonal: Pennington, Schoenholz & Ganguli 2017",
            solved=True,
        ),
        Initializer(
            shifted_critical,
            sigma_w2=_given,
            equation="W as critical; b[j] = -1/2 Σ_i W[i, j] from layer 2 on",
            effect="The biases take the sigmoid's mean of 1/2 off again. As sigmoid(z) = (1 + tanh(z/2))/2, a layer with weights 4W' is then exactly "
            "a tanh layer with weights W': the 4 makes up for φ'(z) = tanh'(z/2)/4, so the deltas can be kept as tanh's can.",
            source="the identity sigmoid(z) = (1 + tanh(z/2))/2; the critical point as under critical",
            needs={"bias": (True,), "activation": ("sigmoid",)},
            centre=0.5,
            solved=True,
        ),
        Initializer(
            sussillo,
            sigma_w2=_sussillo,
            equation="W ~ N(0, g²/n_in), g = √2 exp(1.2/(max(n_in, 6) - 2.4))",
            effect="He's √2 keeps the mean of ‖delta‖², which a few large values make up; the typical delta of a narrow net still shrinks. "
            "This g keeps the mean of log ‖delta‖, and is he's in a wide net.",
            source="Sussillo & Abbott 2014",
            needs={"activation": ("relu",)},
        ),
    )
}
