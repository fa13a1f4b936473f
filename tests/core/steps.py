"""Steps of an optimizer on given gradients: over 12 decades from layer to layer, of another size at every step, and stored in any units."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from bpexp.core.arrays import Array, Float64s
from bpexp.core.descent import Descent, Method
from bpexp.core.network import Architecture, Gradients, Parameters
from tests.core.nets import architecture

DECADES = 12
Key = tuple[str, int]  # kind of parameter, layer


@cache
def net(dtype: type = np.float64) -> Architecture:
    """With parameters of all kinds: in every layer, in all but the last, in every other one; of several shapes."""
    return architecture([4, 5, 5, 5, 5, 5, 5, 3], bias=True, dtype=dtype, norm="batch", skip="rezero", every=2)


def arrays(parameters: Parameters) -> dict[Key, Array]:
    """All that are trained, (R, n_in, n_out) each."""
    return {(arena.kind, k): view for arena in parameters.arenas for k, view in arena.views()}


def size(depth: int, k: int) -> float:
    """Of layer k's gradients and weights, so that a step is seen in the weights of all."""
    return float(10.0 ** (-DECADES * (depth - k) / (depth - 1)))


@cache
def draw(net: Architecture, seed: int, step: int) -> dict[Key, Float64s]:
    """One run's gradients at a step, as the net's dtype has them; at step -1 its weights before the first."""
    rng = np.random.default_rng([seed, step + 1])
    found = {}
    for (kind, k), view in arrays(Parameters(net, 1)).items():
        values = size(net.depth, k) * 10.0 ** rng.uniform(-1, 1) * rng.standard_normal(view[0].shape)
        found[kind, k] = values.astype(net.dtype).astype(np.float64)
    return found


def store(gradients: Gradients, run: int, values: Mapping[Key, Float64s], exponents: Mapping[Key, int] | None = None) -> None:
    """Put one run's gradients in place, as value / 2**exponent with the exponents given, else 0."""
    for (kind, k), view in arrays(gradients).items():
        exponent = exponents[kind, k] if exponents else 0
        view[run] = np.ldexp(values[kind, k], -exponent)
        gradients.exponents[kind][run, k] = exponent


@cache
def draw_exponents(net: Architecture, seed: int, step: int) -> dict[Key, int]:
    """One run's exponents, those of weights and biases in common as in a net's own gradients."""
    rng = np.random.default_rng([seed, step + 1, 1])
    limit = 40 if net.dtype == np.float32 else 300
    found = {(kind, k): int(rng.integers(-limit, limit)) for kind, k in arrays(Parameters(net, 1))}
    return {(kind, k): found["W" if kind == "b" else kind, k] for kind, k in found}


@dataclass(frozen=True)
class Run:
    """One run of a stack: which gradients it gets, and how far it goes with them; or each of its layers, where they have their own rates."""

    seed: int
    lr: float
    own: tuple[float, ...] = ()


def descend(net: Architecture, method: Method, runs: Sequence[Run], steps: int, *, units: bool = False) -> Iterator[dict[Key, Array]]:
    """The weights after every step.  `units`: gradients come with exponents that are not 0."""
    parameters, gradients = Parameters(net, len(runs)), Gradients(net, len(runs), batch=1)
    for index, run in enumerate(runs):
        for key, values in draw(net, run.seed, -1).items():
            arrays(parameters)[key][index] = values
    descent = Descent(method, parameters, gradients, np.array([run.own or run.lr for run in runs]))
    for step in range(steps):
        for index, run in enumerate(runs):
            store(gradients, index, draw(net, run.seed, step), draw_exponents(net, run.seed, step) if units else None)
        descent.step(step)
        yield {key: view.copy() for key, view in arrays(parameters).items()}
