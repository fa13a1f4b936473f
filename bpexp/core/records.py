"""What a run leaves behind: its curves, its layers, its outcome."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bpexp.core.arrays import Array

__all__ = ["Columns", "Records", "decades_lost", "decades_per_layer"]

Columns = dict[str, NDArray[Any]]

LEFT_THE_PLATEAU = 0.99  # "within 1 %"
SHALLOWEST_SLOPE = 5  # below, fewer than three hidden layers are left to fit a line to


@dataclass(frozen=True)
class Records:
    """The records of one run, as columns of equal length (`pandas.DataFrame(records.curves)` takes them as they are).

    `curves`, a row per step t: `step`, `loss_train` (the batch's mean loss at the weights after t updates) and, at probed steps, else NaN:
    `loss_train_full`, `loss_test` (mean over the whole set), `accuracy_train`, `accuracy_test` (where the targets are classes).
    `layers`, a row per probed step and layer: `step`, `layer` (1 … depth) and a column per probe that is always measured or chosen
    (`bpexp.core.probes`).
    `plateau` is the loss of the best constant output; `diverged_at` the number of updates after which the loss or a weight was not
    finite, or None; `parameters` are those at the end (where a run diverged, some may not be finite), by kind and layer: `W_001`, `b_001`, …
    `spectra`, where the probe `spectrum` is chosen, else empty: a row per singular value of the Jacobian da_k/dx at a probed step, of the last
    hidden layer and the output layer, of each of the batch's first samples (`bpexp.core.jacobians`): `step`, `layer`, `sample` (1 … 4 at most),
    `index` (1 for the largest), `log10_singular_value` (-inf for 0).
    `histograms`, where the probe `histogram` is chosen, else empty: a row per bin of a hidden layer's activations at five of the probed steps at
    most, the first and the last among them (`bpexp.core.histograms`): `step`, `layer`, `bin` (1 … 40), its ends `left` and `right`, `count`.
    """

    curves: Columns
    layers: Columns
    plateau: float
    diverged_at: int | None
    parameters: dict[str, Array]
    spectra: Columns = field(default_factory=dict)
    histograms: Columns = field(default_factory=dict)

    def of_kind(self, kind: str) -> tuple[Array, ...]:
        """The parameters of a kind, layer by layer."""
        return tuple(array for name, array in self.parameters.items() if name.rpartition("_")[0] == kind)

    @property
    def weights(self) -> tuple[Array, ...]:
        """Each layer's W (n_in, n_out), index 0 being layer 1."""
        return self.of_kind("W")

    @property
    def biases(self) -> tuple[Array, ...]:
        """Each layer's b (1, n_out); empty in a net without biases."""
        return self.of_kind("b")

    @property
    def outcome(self) -> str:
        """`diverged`: loss or weights stopped being finite.  `untrained`: there was no update (`steps=0`), so nothing can have come of it.
        `stuck`: at no probed step was the full training loss more than 1 % below that of the best constant output, which ignores the input.
        `trained`: all else.
        """
        if self.diverged_at is not None:
            return "diverged"
        if self.curves["step"][-1] == 0:
            return "untrained"
        best = np.nanmin(self.curves["loss_train_full"])
        return "trained" if best < LEFT_THE_PLATEAU * self.plateau else "stuck"

    @property
    def depth(self) -> int:
        return max(len(self.weights), int(self.layers["layer"].max(initial=0)))

    def probed(self, column: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The probed steps at which a column of `curves` is finite, and its values there."""
        finite = np.isfinite(self.curves[column])
        return self.curves["step"][finite], self.curves[column][finite]

    def profile(self, column: str, step: int) -> NDArray[np.float64]:
        """A column of `layers` over layers 1 … depth at one probed step."""
        return np.asarray(self.layers[column][self.layers["step"] == step])

    @property
    def delta_decades_per_layer(self) -> float | None:
        """`decades_per_layer` at step 0, before any update."""
        return decades_per_layer(self.profile("log10_delta_norm", 0))

    @property
    def summary(self) -> dict[str, float]:
        """The run in a few finite numbers: the full training loss before any update, final and best losses and accuracies, and the slope above."""
        numbers = {"plateau_loss": self.plateau}
        steps, losses = self.probed("loss_train_full")
        if len(steps) and steps[0] == 0:
            numbers["initial_loss"] = float(losses[0])
        for column, name in (("loss_train_full", "loss"), ("loss_test", "test_loss")):
            _, values = self.probed(column)
            if len(values):
                numbers |= {f"final_{name}": float(values[-1]), f"best_{name}": float(values.min())}
        for column in ("accuracy_train", "accuracy_test"):
            _, values = self.probed(column) if column in self.curves else ((), np.empty(0))
            if len(values):
                numbers |= {f"final_{column}": float(values[-1]), f"best_{column}": float(values.max())}
        if (slope := self.delta_decades_per_layer) is not None:
            numbers["delta_decades_per_layer"] = slope
        return numbers


def decades_per_layer(log10_delta_norm: NDArray[np.float64]) -> float | None:
    """How many powers of ten the gradient loses per layer on its way back; positive where it vanishes.

    The least-squares slope of log10 ||delta_k|| over the hidden layers 2 … depth-1: layer 1 sees the data, the output layer the loss, and both
    differ from those between.  None below depth 5, or where a norm is zero or not finite.
    """
    inner = log10_delta_norm[1:-1]
    if len(inner) < SHALLOWEST_SLOPE - 2 or not np.isfinite(inner).all():
        return None
    return decades_lost(log10_delta_norm, 2, len(log10_delta_norm) - 1)


def decades_lost(log10_norm: NDArray[np.float64], first: int, last: int) -> float:
    """Minus the slope of a log10 profile towards the input, by least squares over layers `first` … `last`: positive where it vanishes."""
    inner = log10_norm[first - 1 : last]
    return float(np.polyfit(np.arange(len(inner)), inner, 1)[0])
