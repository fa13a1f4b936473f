"""Quantities of the input–output Jacobian J_k = da_k/dx of untrained nets: its squared singular values (probes jacobian_mean, jacobian_variance)."""

from collections.abc import Callable
from math import nan

import numpy as np

from bpexp.core.arrays import Float64s
from bpexp.measures.cell import Cell, Measured
from bpexp.measures.over_layers import log10_ratio
from bpexp.prediction import orthogonal, predict

__all__ = ["MEASURED", "PREDICTED", "predicted_variances"]


def singular_variance(cell: Cell, layer: int) -> Measured:
    """The variance of the squared singular values of J_k, over their squared mean, at a layer of the untrained net; mean over runs."""
    return cell.repeated(lambda run: float(run.profile("jacobian_variance")[layer - 1]))


def predicted_singular_variance(cell: Cell, layer: int) -> float:
    """The same in a wide net: the sum over the layers of κ(q_k), less 1 where weights are orthogonal (Pennington et al. 2017)."""
    return float(predicted_variances(cell)[layer - 1])


def predicted_variances(cell: Cell) -> Float64s:
    """That of each hidden layer 1 … depth - 1, with the q_k of this very net."""
    found, config = predict(cell.config), cell.config
    if found is None:
        return np.full(config.depth - 1, nan)
    kappas = found.profile.kappa[: config.depth - 1]
    return np.cumsum(kappas - 1.0 if orthogonal(config) else kappas)


def singular_variance_growth(cell: Cell, first: int, last: int) -> Measured:
    """By how much that variance grows per layer between two layers, mean over runs."""

    def found(run: Cell) -> float:
        profile = run.profile("jacobian_variance")
        return float(profile[last - 1] - profile[first - 1]) / (last - first)

    return cell.repeated(found)


def predicted_singular_variance_growth(cell: Cell) -> float:
    """κ(q*), less 1 where weights are orthogonal: in layers whose q has settled."""
    found, config = predict(cell.config), cell.config
    if found is None or found.settled is None:
        return nan
    return found.settled.kappa - (1.0 if orthogonal(config) else 0.0)


def log10_singular_mean_change(cell: Cell, first: int, last: int) -> Measured:
    """log10 of how many times as large the mean of the squared singular values of J is at one layer as at another before it; mean over runs."""
    return log10_ratio(cell, last, first, "log10_jacobian_mean")


def predicted_log10_singular_mean_change(cell: Cell, first: int, last: int) -> float:
    """The same in a wide net of equal layers: the sum of log10 χ_k, χ_k = σw² E[φ'(z_k)²], over the layers between."""
    found = predict(cell.config)
    return nan if found is None else float(np.log10(found.profile.chi[first:last]).sum())


MEASURED: dict[str, Callable[..., Measured]] = {
    "singular_variance": singular_variance,
    "singular_variance_growth": singular_variance_growth,
    "log10_singular_mean_change": log10_singular_mean_change,
}
PREDICTED: dict[str, Callable[..., float]] = {
    "singular_variance": predicted_singular_variance,
    "singular_variance_growth": predicted_singular_variance_growth,
    "log10_singular_mean_change": predicted_log10_singular_mean_change,
}
