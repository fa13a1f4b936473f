"""What chosen probes are compared with: each step's weights and batch taken from outside, and a net written a second time, for autograd."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import elementwise_grad, grad

from bpexp.core.arrays import Float64s
from bpexp.core.network import Architecture
from bpexp.core.probes import PROBES
from bpexp.core.records import Records
from bpexp.core.training import Task
from tests.core import formulas
from tests.core.nets import architecture, draw, make_task, start

__all__ = ["LONG", "Case", "Seen", "cases", "found", "observe"]

LONG: pytest.MarkDecorator = pytest.mark.skipif(np.finfo(np.longdouble).maxexp <= 1024, reason="longdouble has no more exponents than float64 here")


@dataclass(frozen=True)
class Case:
    """A net and how it trains."""

    net: Architecture
    loss: str
    batch: int
    runs: int
    seed: int

    def task(self, steps: int, probes: Sequence[str], at: Sequence[int]) -> Task:
        return replace(make_task(self.net, steps, self.batch, self.loss, probes=at), probes=tuple(probes))


def cases(count: int, *, dtype: type = np.float64, seed: int = 0) -> list[Case]:
    """Nets of 1 to 5 layers of any width, activation, output and batch."""
    rng, made = np.random.default_rng(seed), []
    for number in range(count):
        depth = int(rng.integers(1, 6))
        sizes = [int(n) for n in rng.integers(1, 9, depth)]
        loss, output = [("squared_error", "sigmoid"), ("squared_error", "linear"), ("cross_entropy", "softmax")][number % 3]
        hidden = ["tanh", "sigmoid", "gelu", "linear", "elu", "softplus", "erf", "relu"][number % 8]
        net = architecture([*sizes, int(rng.integers(2, 6))], hidden, output, bias=bool(rng.integers(2)), dtype=dtype)
        made.append(Case(net, loss, int(rng.choice([1, 2, 7, 24])), int(rng.integers(1, 4)), number))
    return made


@dataclass(frozen=True)
class Seen:
    """One run at one step, before the update, in float64."""

    net: Architecture
    loss: str
    W: list[Float64s]
    b: list[Float64s]
    x: Float64s
    y: Float64s

    def layers(self, x: Any, pushes: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """z_k and a_k of samples (B, n), index 0 being layer 1; `pushes` are added to each z_k."""
        z, a = [], [x]
        for k, (W, b, push) in enumerate(zip(self.W, self.b, pushes, strict=True), start=1):
            z.append(anp.dot(a[-1], W) + b + push)
            a.append(formulas.activation(self.net.phi(k).name)(z[-1]))
        return z, a

    def neurons(self) -> tuple[list[Float64s], list[Float64s]]:
        """z_1 …, a_0 …"""
        return self.layers(self.x, [0.0] * len(self.W))

    def deltas(self, s: int) -> list[Float64s]:
        """dL_s/dz_k of sample s by autograd: by how much a push of z_k changes the sample's loss."""
        x, y = self.x[s : s + 1], self.y[s : s + 1]
        loss = formulas.loss(self.loss, self.net.output.name)

        def value(pushes: Sequence[Any]) -> Any:
            z, a = self.layers(x, pushes)
            return loss(z[-1], a[-1], y)

        return [np.asarray(delta[0]) for delta in grad(value)([np.zeros((1, n)) for n in self.net.sizes[1:]])]

    def gradient(self, k: int) -> Float64s:
        """dL/dW_k of the batch's mean loss: the mean over samples of outer products."""
        _, a = self.neurons()
        return np.asarray(np.mean([np.outer(a[k - 1][s], self.deltas(s)[k - 1]) for s in range(len(self.x))], axis=0))

    def jacobian(self, s: int, k: int) -> Float64s:
        """da_k/dx of sample s, column by column."""

        def neuron(j: int) -> Callable[[Any], Any]:
            return lambda x: self.layers(x, [0.0] * len(self.W))[1][k][:, j]

        return np.stack([elementwise_grad(neuron(j))(self.x[s : s + 1])[0] for j in range(self.net.sizes[k])], axis=1)


def observe(case: Case, steps: int, probes: Sequence[str], at: Sequence[int], lr: float = 0.1) -> tuple[list[Records], list[list[Seen]]]:
    """Train; the records of each run, and what each run had at each step."""
    net, seeds = case.net, [10 * case.seed + run for run in range(case.runs)]
    training = start(case.task(steps, probes, at), draw(net, seeds, sigma_w2=1.5), [lr * (1 + run) for run in range(case.runs)], seeds)
    advance, seen = training.advance(), []
    for _ in range(steps + 1):
        W = [[weights[run].astype(np.float64) for weights in training.parameters.W[1:]] for run in range(case.runs)]
        b = [[bias[run].astype(np.float64) for bias in training.parameters.b[1:]] or [np.zeros(1)] * net.depth for run in range(case.runs)]
        next(advance)
        x, y = training.step.neurons.a[0].astype(np.float64), training.step.targets.astype(np.float64)
        seen.append([Seen(net, case.loss, W[run], b[run], x[run], y[run]) for run in range(case.runs)])
    return [training.records(run) for run in range(case.runs)], seen


def found(records: Records, name: str, step: int) -> Float64s:
    """A probe over the layers, not as its logarithm."""
    probe = PROBES[name]
    profile = records.profile(probe.column, step)
    return np.power(10.0, profile) if probe.log10 else profile
