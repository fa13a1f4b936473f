"""Quantities of untrained nets that are spread over draws of the initial weights: norms of a layer, ratios of layers, logarithms over depth.

The logarithm of a norm walks at random from layer to layer.  Of a net of many layers each stretch of d layers is a walk of d steps, so that few
deep nets give as many walks as many shallow ones do; `log_norm_correlation` asks whether its steps are independent, as the law says they are.
"""

from collections.abc import Callable
from math import log, nan, sqrt
from typing import Any, Literal

import numpy as np

from bpexp.config import RunConfig
from bpexp.core.arrays import Float64s
from bpexp.measures.cell import Cell, Measured, place
from bpexp.prediction import hidden_sigma_w2, predict
from bpexp.theory.jacobian import singular_value_mean
from bpexp.theory.relu import log_norm_of_net, textbook_variance

__all__ = ["MEASURED", "PREDICTED", "log_squares", "paired", "stretches", "variance"]

LN_10 = log(10.0)

Law = Literal["exact", "textbook"]


# ---------------------------------------------------------------------------------------------- norms of layers


def norm_at(cell: Cell, layer: int, column: str = "log10_mean_delta_norm") -> Measured:
    """The median over draws of the weights of a norm at one layer at step 0; negative numbers count from the output, -1 being the output layer."""
    return Measured.median(10.0 ** profiles(cell, column)[:, place(layer, cell.config.depth)])


def ratio_per_layer(cell: Cell, first: int = 1, last: int | None = None, column: str = "log10_mean_delta_norm") -> Measured:
    """What a norm is multiplied by per layer on its way back from layer `last` (the last but one) to `first`, at step 0.

    The geometric mean over layers and over draws of the weights.
    """
    found = profiles(cell, column)
    end = last or found.shape[1] - 1
    logs = Measured.mean((found[:, first - 1] - found[:, end - 1]) / (end - first))
    ratio = 10.0**logs.value
    return Measured(ratio, ratio * LN_10 * logs.error, tuple(10.0**value for value in logs.values))


def predicted_ratio_per_layer(cell: Cell, first: int = 1, last: int | None = None, column: str = "log10_delta_norm") -> float:
    """The same of theory's profile, its width counted: of one sample's norms in nets with batches of one."""
    found, config = predict(cell.config), cell.config
    if found is None:
        return nan
    alone = config.batch_size == 1 and column == "log10_delta_norm"
    logs, end = found.profile.log10_delta - found.lost.delta if alone else found.log10_norm(column), last or config.depth - 1
    return float(10.0 ** ((logs[first - 1] - logs[end - 1]) / (end - first)))


def scale_at(cell: Cell, layer: int) -> Measured:
    """The root mean square of a layer's z at step 0 (probe `q`): the mean over draws of the weights."""
    return Measured.mean(np.sqrt(profiles(cell, "q")[:, place(layer, cell.config.depth)]))


def predicted_scale_at(cell: Cell, layer: int) -> float:
    """Theory's sqrt(q) at that layer of the same net, infinitely wide."""
    found = predict(cell.config)
    return nan if found is None else sqrt(float(found.profile.q[place(layer, cell.config.depth)]))


def scale_ratio(cell: Cell, layer: int, key: str, over: Any, under: Any) -> Measured:
    """The same of the nets whose `key` is `over`, over that of the nets with `under` and the same seed."""
    return paired(cell, key, over, under, lambda part: scale_at(part, layer).value)


def predicted_scale_ratio(cell: Cell, layer: int, key: str, over: Any, under: Any) -> float:
    """The ratio of theory's two scales."""
    return predicted_scale_at(cell.where({key: over}), layer) / predicted_scale_at(cell.where({key: under}), layer)


# ---------------------------------------------------------------------------------------------- logarithms over depth


def log_norm_mean(cell: Cell, layers: int = 1, column: str = "log10_delta_norm") -> Measured:
    """The mean of the change of ln ||delta||^2 over so many layers on the way back, at step 0; with batches of one sample, that sample's."""
    return Measured.mean(stretches(log_squares(cell, column), layers))


def predicted_log_norm_mean(cell: Cell, layers: int = 1) -> float:
    """Hanin's exact law for relu nets without biases."""
    return log_norm_of_net([cell.config.width] * layers, _scale(cell.config)).mean


def log_norm_variance(cell: Cell, layers: int = 1, column: str = "log10_delta_norm", over: Law | None = None) -> Measured:
    """The variance of that change, or how many times what a law (`over`: exact, or the textbook's 5 sum 1/n) says it is."""
    law = 1.0 if over is None else _variance(cell, layers, over)
    return variance(stretches(log_squares(cell, column), layers) / sqrt(law))


def variance(values: Float64s) -> Measured:
    """The variance of independent values, as the mean of n/(n - 1) times their squared deviations."""
    return Measured.mean((values - values.mean()) ** 2 * len(values) / max(1, len(values) - 1))


def predicted_log_norm_variance(cell: Cell, layers: int = 1, over: Law | None = None) -> float:
    """Hanin's exact law for relu nets without biases, or how many times what another says it is."""
    exact = log_norm_of_net([cell.config.width] * layers, _scale(cell.config)).variance
    return exact if over is None else exact / _variance(cell, layers, over)


def _variance(cell: Cell, layers: int, law: Law) -> float:
    widths = [cell.config.width] * layers
    return textbook_variance(widths) if law == "textbook" else log_norm_of_net(widths, _scale(cell.config)).variance


def log_norm_correlation(cell: Cell, layers: int = 1, column: str = "log10_delta_norm") -> Measured:
    """The correlation of the change over so many layers with that over the layers before them, over all neighbours in all nets."""
    changes = stretches(log_squares(cell, column), layers)
    own = (changes - changes.mean()) / changes.std()
    by_net = own.reshape(-1, len(own) // len(log_squares(cell, column)))
    return Measured.mean((by_net[:, 1:] * by_net[:, :-1]).ravel())


def predicted_log_norm_correlation(_cell: Cell, layers: int = 1) -> float:  # noqa: ARG001
    """0: the layers' factors are independent in the exact law."""
    return 0.0


def log_squares(cell: Cell, column: str = "log10_delta_norm") -> Float64s:
    """Row by row a net's ln ||delta||^2 over that of the output layer, against the distance 0 … L-1 from it; nets with a dead layer are left out."""
    found = 2.0 * LN_10 * profiles(cell, column)[:, ::-1]
    alive = found[np.isfinite(found).all(axis=1)]
    return alive - alive[:, :1]


def stretches(walks: Float64s, layers: int) -> Float64s:
    """The changes over stretches of so many layers that don't overlap, net after net."""
    return np.diff(walks[:, ::layers], axis=1).ravel()


def _scale(config: RunConfig) -> float:
    """n_in times the variance of a weight between two hidden layers; NaN where theory has nothing to say."""
    found = hidden_sigma_w2(config)
    return nan if found is None else found


# ---------------------------------------------------------------------------------------------- singular values


def mean_singular_value(cell: Cell, layer: int) -> Measured:
    """The mean singular value of the Jacobian da_k/dx at step 0 (probe `spectrum`), over its values, the samples, and draws of the weights."""
    return cell.repeated(lambda run: _mean_singular_value(run, layer))


def _mean_singular_value(run: Cell, layer: int) -> float:
    frame = run.spectra
    at = frame[(frame["step"] == 0) & (frame["layer"] == 1 + place(layer, run.config.depth))]
    return float((10.0 ** at["log10_singular_value"].to_numpy(np.float64)).mean())


def predicted_mean_singular_value(cell: Cell, layer: int) -> float:
    """The quarter circle's 8/(3 pi) sigma_w, for one square layer of linear neurons."""
    if layer != 1 or cell.config.activation != "linear":
        return nan
    return singular_value_mean(_scale(cell.config))


# ---------------------------------------------------------------------------------------------- the runs' records


def paired(cell: Cell, key: str, over: Any, under: Any, measure: Callable[[Cell], float]) -> Measured:
    """What a run with `key` = `over` has, over what the run with `under` and the same seed has; the mean over seeds."""
    upper, lower = ({int(run.frame["seed"].iloc[0]): measure(run) for run in cell.where({key: value}).one_by_one()} for value in (over, under))
    return Measured.mean([upper[seed] / lower[seed] for seed in sorted(upper.keys() & lower.keys())])


def profiles(cell: Cell, column: str, step: int = 0) -> Float64s:
    """A column over layers 1 … L at a probed step, a row per run.  Raises ValueError where runs differ in depth."""
    if cell.frame["depth"].nunique() != 1:
        raise ValueError(f"depth={sorted(cell.frame['depth'].unique())}: must be the same in all runs that are measured together")
    frame = cell.layers
    return frame.loc[frame["step"] == step, column].to_numpy(np.float64).reshape(len(cell.frame), -1)


MEASURED: dict[str, Callable[..., Measured]] = {
    "norm_at": norm_at,
    "ratio_per_layer": ratio_per_layer,
    "scale_at": scale_at,
    "scale_ratio": scale_ratio,
    "log_norm_mean": log_norm_mean,
    "log_norm_variance": log_norm_variance,
    "log_norm_correlation": log_norm_correlation,
    "mean_singular_value": mean_singular_value,
}
PREDICTED: dict[str, Callable[..., float]] = {
    "ratio_per_layer": predicted_ratio_per_layer,
    "scale_at": predicted_scale_at,
    "scale_ratio": predicted_scale_ratio,
    "log_norm_mean": predicted_log_norm_mean,
    "log_norm_variance": predicted_log_norm_variance,
    "log_norm_correlation": predicted_log_norm_correlation,
    "mean_singular_value": predicted_mean_singular_value,
}
