"""The singular values of a net's Jacobian from input to output, J = W_1 D_1 W_2 D_2 … W_L D_L, D_l = diag(phi'(z_l)), in row vectors.

chi and kappa are those of `variance`: sigma_w2 E[phi'^2] and E[phi'^4]/E[phi'^2]^2 of a layer.  A layer's factor is taken as independent of
those before it, as in a wide net; where all phi' are 1 that is exact.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import cos, pi, sin, sqrt
from numbers import Real

import numpy as np

from bpexp.core.activations import Activation
from bpexp.theory.arguments import check, size
from bpexp.theory.variance import chi, kappa

__all__ = ["gaussian_product", "singular_value_mean", "squared_singular_values", "wide_product"]

Moments = tuple[float, float]  # the mean, and the variance over the squared mean


def squared_singular_values(phi: Activation, q: float | Sequence[float], sigma_w2: float, depth: int, orthogonal: bool) -> Moments:
    """The mean of the squared singular values of J in a wide net of `depth` equal layers, and their variance over the squared mean.

    chi^L and L kappa for Gaussian weights, L (kappa - 1) for orthogonal ones (Pennington, Schoenholz & Ganguli 2017); with
    one q per layer the product of the chi and the sum of the others.  Right for L well below the width.
    """
    qs = [float(q)] * depth if isinstance(q, Real) else list(q)  # type: ignore[arg-type]
    check(depth >= 1, "depth", depth, "the number of layers, at least 1")
    check(len(qs) == depth and all(size(x) for x in qs), "q", q, f"0 or more: one number, or one for each of the {depth} layers")
    each = {x: (chi(phi, sigma_w2, x), kappa(phi, x)) for x in set(qs)}
    mean = float(np.prod([each[x][0] for x in qs]))
    return mean, sum(each[x][1] - (1.0 if orthogonal else 0.0) for x in qs)


def _layers(sizes: Sequence[int], chi: Sequence[float], kappa: Sequence[float]) -> list[tuple[int, int, float, float]]:
    depth = len(sizes) - 1
    check(depth >= 1 and min(sizes) >= 1, "sizes", sizes, "the numbers of neurons n_0, …, n_L, two or more of at least 1")
    for key, value, least in (("chi", chi, 0.0), ("kappa", kappa, 1.0)):
        check(len(value) == depth and all(size(x) and x >= least for x in value), key, value, f"{depth} numbers, of at least {least:g}")
    return [(n_in, n_out, x, k) for (n_in, n_out), x, k in zip(pairwise(sizes), chi, kappa, strict=True)]


def wide_product(sizes: Sequence[int], chi: Sequence[float], kappa: Sequence[float], orthogonal: bool = False) -> Moments:
    """The same for layers of any shape, in the limit of wide ones: of the min(n_0, n_L) singular values that an n_0 × n_L matrix has.

    The mean of J Jᵀ over its n_0 eigenvalues is n_L/n_0 times the product of the chi.  With rho = tr (J Jᵀ)² / (tr J Jᵀ)², a free factor adds
    its own relative variance, and a layer n_in × n_out makes (derived; free compression where W is wider than high)

        rho -> rho + kappa/n_out                             Gaussian
        rho -> rho + kappa/n_out - 1/max(n_in, n_out)        orthogonal, W of `bpexp.core.initializers.orthogonal`

    from 1/n_0 on.  Equal layers give the sums of `squared_singular_values`.
    """
    rho, mean = 1.0 / sizes[0], 1.0
    for n_in, n_out, chi_, kappa_ in _layers(sizes, chi, kappa):
        rho += kappa_ / n_out - (1.0 / max(n_in, n_out) if orthogonal else 0.0)
        mean *= chi_ * n_out / n_in
    count = min(sizes[0], sizes[-1])
    return mean * sizes[0] / count, count * rho - 1.0


def gaussian_product(sizes: Sequence[int], chi: Sequence[float], kappa: Sequence[float]) -> Moments:
    """The same at finite widths, for Gaussian weights: E tr J Jᵀ and E tr (J Jᵀ)², exact for slopes that are independent of the weights.

    With G = J Jᵀ of the layers so far, the next makes sum_j d_j² g_j g_jᵀ of it, g_j ~ N(0, sigma_w2/n_in G), so by Wick's theorem, with
    s = (chi n_out/n_in)² (derived)

        E tr G²   -> s [(1 - 1/n_out + 2 kappa/n_out) E tr G² + kappa/n_out E (tr G)²]
        E (tr G)² -> s [(1 - 1/n_out + kappa/n_out) E (tr G)² + 2 kappa/n_out E tr G²]

    The variance is over nets as well as over singular values, its part of a net's own scale included.
    """
    n_0 = sizes[0]
    square, trace_square = 1.0, float(n_0)  # E tr G²/n_0 and E (tr G)²/n_0, over the product of s
    mean = 1.0
    for n_in, n_out, chi_, kappa_ in _layers(sizes, chi, kappa):
        k, one = kappa_ / n_out, 1.0 - 1.0 / n_out
        square, trace_square = (one + 2.0 * k) * square + k * trace_square, (one + k) * trace_square + 2.0 * k * square
        mean *= chi_ * n_out / n_in
    count = min(n_0, sizes[-1])
    return mean * n_0 / count, square * count / n_0 - 1.0


def singular_value_mean(sigma_w2: float, n_in: int = 1, n_out: int = 1) -> float:
    """The mean singular value of W (n_in, n_out) with independent entries of variance sigma_w2/n_in, in the limit of large ones of that shape.

    Their squares follow the law of Marchenko & Pastur 1967: v (1 + l + 2 sqrt(l) cos t), t of density 2/pi sin² t / (1 + l + 2 sqrt(l) cos t)
    on (0, pi), l the smaller over the larger side and v = sigma_w2 max(n_in, n_out)/n_in.  A square W has 8/(3 pi) sqrt(sigma_w2): the mean
    of the quarter circle.
    """
    check(size(sigma_w2), "sigma_w2", sigma_w2, "a variance: 0 or more")
    check(n_in >= 1 and n_out >= 1, "n_in, n_out", (n_in, n_out), "at least 1")
    from scipy.integrate import quad

    ratio = min(n_in, n_out) / max(n_in, n_out)

    def integrand(t: float) -> float:
        # (1 + l + 2 sqrt(l) cos t), t from pi on: a sum of squares, which loses nothing where it is small
        return cos(t / 2.0) ** 2 * sin(t / 2.0) ** 2 / sqrt((1.0 - sqrt(ratio)) ** 2 + 4.0 * sqrt(ratio) * sin(t / 2.0) ** 2)

    narrow = 1.0 - sqrt(ratio)  # the width of the integrand's feature at 0
    mean, _ = quad(integrand, 0.0, pi, points=[narrow] if 0.0 < narrow < pi else None, epsabs=1e-14, epsrel=1e-12, limit=400)
    return 8.0 / pi * mean * sqrt(sigma_w2 * max(n_in, n_out) / n_in)
