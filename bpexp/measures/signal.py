"""Quantities of the signal on its way forwards, of samples that become alike, and of gradients that leave the range of a dtype."""

from collections.abc import Callable
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray

from bpexp.config import RunConfig
from bpexp.core.activations import ACTIVATIONS
from bpexp.core.arrays import Float64s
from bpexp.core.initializers import INITIALIZERS
from bpexp.core.records import decades_lost
from bpexp.datasets import load
from bpexp.measures.cell import Cell, Measured
from bpexp.prediction import hidden_sigma_w2, predict
from bpexp.theory.correlation import spread_factor
from bpexp.theory.limits import floors, input_lost_at, layers_until
from bpexp.theory.mean_field import width_correction
from bpexp.theory.variance import mean_square

__all__ = ["MEASURED", "PREDICTED", "Forward", "entries", "forward", "half_as_fast"]

GRAD = "log10_sample_grad_norm"


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
    """The mean of a column, such as q or c, over layers `first` … `last` (the last but one), at step 0; NaN where there are no such layers."""

    def mean(run: Cell) -> float:
        layers = run.profile(column)[first - 1 : last or run.config.depth - 1]
        return float(layers.mean()) if len(layers) else nan

    return cell.repeated(mean)


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


def indistinct_from(cell: Cell, first: int = 2, last: int = 8) -> Measured:
    """The first hidden layer where rounding makes up most of the spread between samples: from there on nothing depends on the input.

    Signal s and rounding n add in quadrature, so the spread's slope is s²/(s² + n²) times that of the signal alone, which it has over layers
    `first` … `last`: where they are alike, it falls half as fast.  NaN where it never does.
    """
    return cell.repeated(lambda run: half_as_fast(run.profile("log10_spread")[: run.config.depth - 1], first, last))


def half_as_fast(log10_spread: Float64s, first: int = 2, last: int = 8) -> float:
    """The first layer, from 1 on, to which a profile falls by less than half of what it loses per layer over `first` … `last`.

    Where samples are exactly alike (-inf) there is nothing more to lose.  NaN where the profile has no such slope.
    """
    if not np.isfinite(log10_spread[[first - 1, last - 1]]).all():
        return nan
    usual = (log10_spread[first - 1] - log10_spread[last - 1]) / (last - first)
    with np.errstate(invalid="ignore"):
        falls = -np.diff(log10_spread) >= 0.5 * usual
    return _first(np.append(False, ~falls))


def _first(holds: NDArray[np.bool]) -> float:
    """The place, from 1 on, of the first that holds; NaN where none does."""
    return float(np.argmax(holds)) + 1.0 if holds.any() else nan


def predicted_indistinct_from(cell: Cell) -> float:
    """The first layer where theory's spread is less than the unit roundoff of the activations themselves (`bpexp.theory.limits.input_lost_at`)."""
    config, sigma_w2 = cell.config, hidden_sigma_w2(cell.config)
    if predict(config) is None or sigma_w2 is None:
        return nan
    x, sigma_b2 = load(config.data).split.x_train, config.init.sigma_b2 if config.bias else 0.0
    q_input, v_input = float(np.mean(x**2)), float(np.mean(x.var(axis=0)))
    found = input_lost_at(ACTIVATIONS[config.activation], sigma_w2, sigma_b2, config.dtype, q_input=q_input, v_input=v_input)
    return nan if found is None else float(found)


# ---------------------------------------------------------------------------------------------- gradients that leave the range of a dtype


def layers_back(cell: Cell, limit: str, dtype: str = "float32", column: str = GRAD) -> Measured:
    """How many layers before the output one entries of dL/dW fall below a limit of a dtype (`bpexp.theory.limits.Floors`): normal, zero or square.

    A layer's entry is the root mean square of all, ||dL/dW_k|| / sqrt(n_{k-1} n_k).  The norms are exact whatever the run's own dtype.
    """
    return cell.repeated(lambda run: _back(run.profile(column), run.config, limit, dtype))


def predicted_layers_back(cell: Cell, limit: str, dtype: str = "float32", column: str = GRAD) -> float:
    """The same of theory's profile, laid through the norm that the runs have in the output layer, on which the loss decides."""
    found = predict(cell.config)
    if found is None:
        return nan
    start = cell.repeated(lambda run: float(run.profile(column)[-1])).value
    return _back(found.log10_grad - found.log10_grad[-1] + start, cell.config, limit, dtype)


def _back(log10_norm: Float64s, config: RunConfig, limit: str, dtype: str) -> float:
    found = layers_until(getattr(floors(dtype), limit), entries(log10_norm, config))
    return nan if found is None else float(found)


def entries(log10_norm: Float64s, config: RunConfig) -> Float64s:
    """log10 of the root mean square of each layer's entries, from that of the norms of dL/dW or W."""
    data = load(config.data)
    sizes = np.array([data.inputs, *[config.width] * (config.depth - 1), data.outputs], float)
    return np.asarray(log10_norm - 0.5 * np.log10(sizes[:-1] * sizes[1:]))


MEASURED: dict[str, Callable[..., Measured]] = {measure.__name__: measure for measure in (settles_at, spread_lost, indistinct_from, layers_back)}
PREDICTED: dict[str, Callable[..., float]] = {
    "settles_at": predicted_settles_at,
    "spread_lost": predicted_spread_lost,
    "indistinct_from": predicted_indistinct_from,
    "layers_back": predicted_layers_back,
}
