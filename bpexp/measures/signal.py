"""Quantities of the signal on its way forwards, of samples that become alike, and of gradients that leave the range of a dtype."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, log10, nan, sqrt

import numpy as np

from bpexp.config import RunConfig
from bpexp.core.activations import ACTIVATIONS, Activation
from bpexp.core.arrays import Float64s
from bpexp.core.initializers import INITIALIZERS
from bpexp.datasets import load
from bpexp.measures.cell import Cell, Measured
from bpexp.measures.over_layers import decades_lost
from bpexp.prediction import predict
from bpexp.theory.correlation import correlation_fixed_point, spread_factor
from bpexp.theory.gaussian import gaussian_mean
from bpexp.theory.limits import plateau
from bpexp.theory.mean_field import width_correction
from bpexp.theory.variance import mean_square, outputs

__all__ = ["LIMITS", "MEASURED", "PREDICTED", "Forward", "first_at_the_floor", "forward", "limit_of", "rounding_floor"]

GRAD = "log10_sample_grad_norm"
TWICE = 0.5 * log10(2.0)  # above a floor in quadrature: as much signal as noise


@dataclass(frozen=True)
class Forward:
    """Theory of the signal in a run's untrained net, per layer 1 … L: the mean square q of z, the correlation c of two samples' z, the spread of a.

    `c` is the mean over pairs of samples, `log10_spread` that of the root mean square of a about its mean over samples, as the probes measure them.
    """

    q: Float64s
    c: Float64s
    log10_spread: Float64s


def forward(config: RunConfig) -> Forward | None:
    """The c-map from the data's own mean square and correlation on (Poole et al. 2016, eq. 5), all samples having the same q; None without a theory.

    1 - c and the mean square distance of two samples are handed on instead of c, so the spread is right where c has long been 1.
    """
    found = predict(config)
    if found is None or (config.bias and INITIALIZERS[config.init.name].centre):
        return None
    q, phi, last = found.profile.q, ACTIVATIONS[config.activation], ACTIVATIONS[str(config.output)]
    x = load(config.data).split.x_train
    samples = len(x)
    # half the mean square distance per neuron of two different samples
    apart = float(((x - x.mean(axis=0)) ** 2).sum()) / x.shape[1] / (samples - 1)
    sent = float(np.vdot(x, x)) / x.size
    shown = len(x) if config.batch_size == "full" else int(config.batch_size)
    sigma_b2 = config.init.sigma_b2 if config.bias else 0.0
    distance, spread = np.empty(len(q)), np.empty(len(q))
    for k, q_k in enumerate(map(float, q)):
        distance[k] = (q_k - sigma_b2) / sent * apart / q_k
        act = phi if k < len(q) - 1 else last
        if not act.elementwise:
            spread[k] = nan
            break
        apart = q_k * distance[k] * spread_factor(act, 1.0, q_k, distance[k])
        sent = mean_square(act, q_k)
        spread[k] = apart * (shown - 1) / shown
    with np.errstate(divide="ignore"):
        return Forward(q, 1.0 - distance, 0.5 * np.log10(spread))


# ---------------------------------------------------------------------------------------------- where layers settle


def settles_at(cell: Cell, column: str, first: int, last: int | None = None) -> Measured:
    """The mean of a column, such as q or c, over layers `first` … `last` (the last but one), at step 0."""
    return cell.repeated(lambda run: float(run.profile(column)[first - 1 : last or run.config.depth - 1].mean()))


def predicted_settles_at(cell: Cell, column: str) -> float:
    """The fixed point that theory has for the column: q*, or c*."""
    found = predict(cell.config)
    return nan if found is None or found.settled is None else float(getattr(found.settled, column))


# ---------------------------------------------------------------------------------------------- samples that become alike


def spread_lost(cell: Cell, first: int = 2, last: int | None = None) -> Measured:
    """How many powers of ten the spread between samples loses per layer on its way forwards, by least squares over layers `first` … `last`."""
    return cell.repeated(lambda run: -decades_lost(run.profile("log10_spread"), first, last or run.config.depth - 1))


def predicted_spread_lost(cell: Cell, first: int = 2, last: int | None = None) -> float:
    """The same of theory's spread; a layer's own width takes as much more as of ||delta||, for it multiplies by the same phi' and weights."""
    found, net = forward(cell.config), predict(cell.config)
    if found is None or net is None:
        return nan
    last = last or cell.config.depth - 1
    narrow = [width_correction(float(kappa), cell.config.width) for kappa in net.profile.kappa[first:last]]
    return -decades_lost(found.log10_spread, first, last) + float(np.mean(narrow))


def indistinct_from(cell: Cell) -> Measured:
    """The first hidden layer where rounding makes up most of the spread between samples: from there on nothing depends on the input.

    The spread stops falling at a floor, its median over the deeper half of the hidden layers, and adds to it in quadrature: signal and
    floor are alike where the spread is sqrt(2) times the floor.  NaN where no layer is that near.
    """
    return cell.repeated(lambda run: first_at_the_floor(run.profile("log10_spread")[: run.config.depth - 1]))


def first_at_the_floor(log10_spread: Float64s) -> float:
    """The first layer at most sqrt(2) times above the median of the deeper half, from 1 on; NaN where there is none."""
    floor = float(np.median(log10_spread[len(log10_spread) // 2 :]))
    return _first(log10_spread <= floor + TWICE)


def predicted_indistinct_from(cell: Cell) -> float:
    """The first layer where theory's spread is below what rounding each activation once makes of it."""
    found, config = forward(cell.config), cell.config
    if found is None:
        return nan
    phi = ACTIVATIONS[config.activation]
    hidden = zip(found.log10_spread[: config.depth - 1], found.q, strict=False)
    return _first(np.array([spread < rounding_floor(phi, float(q), config.dtype) for spread, q in hidden]))


def rounding_floor(phi: Activation, q: float, dtype: str) -> float:
    """log10 of the root mean square of what rounding phi(z), z ~ N(0, q), to the nearest number of a dtype leaves: spacing / sqrt(12)."""

    def square(z: Float64s) -> Float64s:
        return np.asarray(np.spacing(np.abs(outputs(phi, z)).astype(dtype)), np.float64) ** 2

    return 0.5 * log10(gaussian_mean(square, q) / 12.0)


# ---------------------------------------------------------------------------------------------- gradients that leave the range of a dtype

# log10 of a size below which an entry is no normal number, is rounded to 0, or has a square that is rounded to 0
LIMITS: dict[str, Callable[["np.finfo[np.floating]"], float]] = {
    "subnormal": lambda info: log10(float(info.smallest_normal)),
    "zero": lambda info: log10(float(info.smallest_subnormal)) - log10(2.0),
    "zero_square": lambda info: 0.5 * (log10(float(info.smallest_subnormal)) - log10(2.0)),
}


def layers_back(cell: Cell, limit: str, dtype: str = "float32", column: str = GRAD) -> Measured:
    """How many layers before the output one the entries of dL/dW fall below a limit of a dtype: subnormal, zero or zero_square.

    An entry stands for the root mean square of the layer's: ||dL/dW_k|| / sqrt(n_{k-1} n_k).  The norms are exact whatever the run's own dtype.
    """
    return cell.repeated(lambda run: _fallen(run.profile(column), run.config, limit_of(limit, dtype)))


def predicted_layers_back(cell: Cell, limit: str, dtype: str = "float32", column: str = GRAD) -> float:
    """The same of theory's profile, laid through the norm that the runs have in the output layer, on which the loss decides."""
    found = predict(cell.config)
    if found is None:
        return nan
    start = cell.repeated(lambda run: float(run.profile(column)[-1])).value
    return _fallen(found.log10_grad - found.log10_grad[-1] + start, cell.config, limit_of(limit, dtype))


def limit_of(name: str, dtype: str) -> float:
    """log10 of one of LIMITS."""
    return LIMITS[name](np.finfo(dtype))


def _fallen(log10_norm: Float64s, config: RunConfig, limit: float) -> float:
    """Layers between the output layer and the first one, going back, whose typical entry is below the limit."""
    found = predict(config)
    assert found is not None
    sizes = np.array(found.profile.sizes, float)
    entries = log10_norm - 0.5 * np.log10(sizes[:-1] * sizes[1:])
    return _first(entries[::-1] < limit) - 1.0


def _first(holds: "np.typing.NDArray[np.bool]") -> float:
    """The place, from 1 on, of the first that holds; NaN where none does."""
    return float(np.argmax(holds)) + 1.0 if holds.any() else nan


# ---------------------------------------------------------------------------------------------- the plateau


def plateau_loss(cell: Cell) -> Measured:
    """The full training loss at the end."""
    return Measured.mean(cell.frame["final_loss"].to_numpy(float))


def predicted_plateau_loss(cell: Cell) -> float:
    """The loss of a net whose output ignores its input and is the targets' mean, for classes of equal size."""
    return plateau(load(cell.config.data).outputs, cell.config.loss)


MEASURED: dict[str, Callable[..., Measured]] = {
    measure.__name__: measure for measure in (settles_at, spread_lost, indistinct_from, layers_back, plateau_loss)
}
PREDICTED: dict[str, Callable[..., float]] = {
    "settles_at": predicted_settles_at,
    "spread_lost": predicted_spread_lost,
    "indistinct_from": predicted_indistinct_from,
    "layers_back": predicted_layers_back,
    "plateau_loss": predicted_plateau_loss,
}
