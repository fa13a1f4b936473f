"""What mean-field theory predicts for a run's untrained net, layer by layer: its own sizes, initial weights, biases, activation and data.

`bpexp.theory` knows nothing of configurations and data sets; here a configuration is put into its terms.  Nothing is trained.
"""

from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bpexp.config import RunConfig, given, solved
from bpexp.core.activations import ACTIVATIONS, Activation
from bpexp.core.arrays import Float64s
from bpexp.core.initializers import INITIALIZERS, Initializer
from bpexp.core.records import decades_per_layer
from bpexp.datasets import load
from bpexp.theory.limits import input_lost_at as lost_at
from bpexp.theory.mean_field import NoCriticalPointError, NoFixedPointError, Settled, settled
from bpexp.theory.narrow import Lost, lost_per_layer, lost_to_width
from bpexp.theory.profile import Profile, profile

__all__ = ["Prediction", "hidden_sigma_w2", "input_lost_at", "orthogonal", "predict"]


@dataclass(frozen=True)
class Prediction:
    """Of an untrained net, per layer 1 … L: entry k - 1 is layer k's.

    `profile` is that of infinitely wide layers, norms relative to ||delta_L|| = 1; `lost` what the net's own width takes from those of one
    sample, `lost_by_all` from their root mean square over the data, to whose deltas a weight matrix does not do the same.

    `settled` is where endlessly many of its hidden layers would settle, None where the variance of z grows without end; its decades per layer
    are those of wide layers, to which `narrow` adds those that are lost to their width.
    """

    profile: Profile
    lost: Lost
    lost_by_all: Lost
    settled: Settled | None
    narrow: float | None

    @property
    def log10_delta(self) -> Float64s:
        """log10 of the root mean square of ||delta_k|| over the data, up to a constant: its mean over nets of this width."""
        return self.profile.log10_delta - self.lost_by_all.delta

    @property
    def log10_grad(self) -> Float64s:
        """log10 ||dL/dW_k|| for one sample, up to a constant: its mean over nets of this width."""
        return self.profile.log10_grad - self.lost.grad

    def log10_norm(self, column: str) -> Float64s:
        """The one of the two that a column of `Records.layers` is to be compared with."""
        return {"log10_delta_norm": self.log10_delta, "log10_grad_norm": self.log10_grad}[column]

    @property
    def delta_decades_per_layer(self) -> float | None:
        """What `Records.delta_decades_per_layer` is to be compared with: the slope of `log10_delta`, fitted over the same layers."""
        return decades_per_layer(self.log10_delta)


def predict(config: RunConfig) -> Prediction | None:
    """Theory's prediction for a checked configuration; raises `ConfigError` where its data can't be loaded.

    None where theory has none: with normalization or skip connections, and for weights that are not random.
    """
    init = INITIALIZERS[config.init.name]
    if config.norm != "none" or config.skip.name != "none" or init.sigma_w2 is None:
        return None
    try:
        part = solved(config).init
    except NoCriticalPointError:
        return None
    data = load(config.data)
    x = data.split.x_train
    net = _Net(
        sizes=(data.inputs, *[config.width] * (config.depth - 1), data.outputs),
        q_input=float(np.vdot(x, x)) / x.size,
        activation=ACTIVATIONS[config.activation],
        output=ACTIVATIONS[str(config.output)],
        init=init,
        keys=tuple(given(part, init).items()),
        sigma_b2=part.sigma_b2 if config.bias else 0.0,
        centre=init.centre if config.bias else 0.0,
        directions=_directions(ACTIVATIONS[str(config.output)], data.split.y_train),
    )
    return _predict(net)


def input_lost_at(config: RunConfig) -> int | None:
    """The first hidden layer of a checked configuration's untrained net in which rounding hides the input (`bpexp.theory.limits`).

    None where there is none, and where theory has no word.  Raises `ConfigError` where its data can't be loaded.
    """
    if predict(config) is None or INITIALIZERS[config.init.name].centre:
        return None
    sigma_w2 = hidden_sigma_w2(config)
    assert sigma_w2 is not None
    x = load(config.data).split.x_train
    spread = float(np.mean(np.var(x, axis=0)))
    sigma_b2 = solved(config).init.sigma_b2 if config.bias else 0.0
    square = max(float(np.vdot(x, x)) / x.size, spread)
    phi = ACTIVATIONS[config.activation]
    return lost_at(phi, sigma_w2, sigma_b2, config.dtype, q_input=square, v_input=spread, deepest=config.depth - 1)


def hidden_sigma_w2(config: RunConfig) -> float | None:
    """n_in times the mean square of a weight between two hidden layers; None where the weights are not random."""
    init = INITIALIZERS[config.init.name]
    return None if init.sigma_w2 is None else init.sigma_w2(config.width, config.width, **given(solved(config).init, init))


def orthogonal(config: RunConfig) -> bool:
    """Whether the weights of a run start as orthogonal matrices."""
    init = INITIALIZERS[config.init.name]
    return init.draws_orthogonal(**given(config.init, init))


def _directions(output: Activation, y: NDArray[np.floating[Any]]) -> float:
    """How many directions the errors of an untrained net's outputs are spread over: (tr S)²/tr S² of a - y, with a the same for all samples.

    a is the output for z = 0, of a softmax 1/n.
    """
    a = np.empty((1, y.shape[1]))
    output.function(np.zeros_like(a), a)
    error = a - y
    small = error if len(error) <= error.shape[1] else error.T
    gram = small @ small.T
    return float(np.trace(gram) ** 2 / np.vdot(gram, gram)) if gram.any() else 1.0


@dataclass(frozen=True)
class _Net:
    """All that theory is told."""

    sizes: tuple[int, ...]
    q_input: float
    activation: Activation
    output: Activation
    init: Initializer
    keys: tuple[tuple[str, object], ...]
    sigma_b2: float
    centre: float
    directions: float


@cache
def _predict(net: _Net) -> Prediction:
    phi, init, keys = net.activation, net.init, dict(net.keys)
    assert init.sigma_w2 is not None
    weights = [init.sigma_w2(n_in, n_out, **keys) for n_in, n_out in pairwise(net.sizes)]
    found = profile(phi, net.sizes, weights, net.sigma_b2, net.q_input, output=net.output, centre=net.centre)
    orthogonal = init.draws_orthogonal(**keys)
    lost, lost_by_all = (
        lost_to_width(phi, net.sizes, weights, net.sigma_b2, found.log10_q, centre=net.centre, orthogonal=orthogonal, directions=directions)
        for directions in (1.0, net.directions)
    )
    width = net.sizes[-2]
    sigma_w2 = init.sigma_w2(width, width, **keys)
    wide = _settled(phi, sigma_w2, net.sigma_b2, net.centre)
    if wide is None:
        return Prediction(found, lost, lost_by_all, None, None)
    narrow = lost_per_layer(phi, sigma_w2, net.sigma_b2, wide.q, width, centre=net.centre, orthogonal=orthogonal)
    return Prediction(found, lost, lost_by_all, wide, narrow)


def _settled(phi: Activation, sigma_w2: float, sigma_b2: float, centre: float) -> Settled | None:
    """A centred sigmoid net is a tanh net with sigma_w2/16 and sigma_b2/4, of twice whose z its own are made (`shifted_critical`)."""
    try:
        if not centre:
            return settled(phi, sigma_w2, sigma_b2)
        assert (phi.name, centre) == ("sigmoid", 0.5)
        tanh = settled(ACTIVATIONS["tanh"], sigma_w2 / 16.0, sigma_b2 / 4.0)
        return replace(tanh, q=4.0 * tanh.q)
    except NoFixedPointError:
        return None
