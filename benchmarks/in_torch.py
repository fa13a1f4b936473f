"""PyTorch's contenders, eager: its own functions, autograd and optimizers, as one who knows it writes them."""

from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 (what everyone calls it)

from benchmarks import in_numpy, ours
from benchmarks.cells import Cell, Floats, Stepper, log10
from bpexp.config import OptimizerConfig
from bpexp.core.optimizers import OPTIMIZERS

__all__ = ["ACTIVATIONS", "LOSSES", "NORMS", "OPTIMIZERS_OF", "SKIPS", "Matmuls", "Net", "Stack"]

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "scaled_tanh": lambda z: 1.7159 * torch.tanh((2.0 / 3.0) * z),
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "selu": F.selu,
    "gelu": F.gelu,
    "silu": F.silu,
    "softplus": F.softplus,
    "linear": lambda z: z,
    "erf": torch.erf,
}
# From the last layer's z and one-hot targets y to the loss summed over the batch.
LOSSES: dict[str, Callable[[Any, Any], Any]] = {
    "squared_error": lambda z, y: 0.5 * F.mse_loss(torch.sigmoid(z), y, reduction="sum"),
    "cross_entropy": lambda z, y: F.cross_entropy(z, y.argmax(1), reduction="sum"),
    "binary_cross_entropy": lambda z, y: F.binary_cross_entropy_with_logits(z, y, reduction="sum"),
}
NORMS = ("none", "batch", "layer")
SKIPS = ("none", "residual", "scaled", "rezero")
OPTIMIZERS_OF: dict[str, tuple[Any, dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {}),
    "momentum": (torch.optim.SGD, {}),
    "nesterov": (torch.optim.SGD, {"nesterov": True}),
    "rmsprop": (torch.optim.RMSprop, {}),
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
}


class Net(Stepper):
    """One net; `kind` is the optimizer's implementation, fused or foreach."""

    def __init__(self, cell: Cell, kind: str) -> None:
        torch.set_num_threads(1)
        config = ours.configuration(cell)
        self.x, self.y = (torch.from_numpy(array) for array in ours.batch(cell))
        self.phi, self.loss_of = ACTIVATIONS[config.activation], LOSSES[config.loss]
        self.norm, self.skip = config.norm, config.skip.name
        assert self.norm in NORMS
        assert self.skip in SKIPS
        self.W = [torch.from_numpy(np.ascontiguousarray(W.T)).requires_grad_() for W in ours.weights(cell)]  # (out, in), as Linear has them
        others: list[Any] = []
        hidden, width = cell.depth - 1, cell.width
        if self.norm != "none":
            self.gain = [torch.ones(width, requires_grad=True) for _ in range(hidden)]
            self.shift = [torch.zeros(width, requires_grad=True) for _ in range(hidden)]
            self.running = [(torch.zeros(width), torch.ones(width)) for _ in range(hidden)]
            others += self.gain + self.shift
        self.scale: Any = {"residual": 1.0, "scaled": 1.0 / sqrt(cell.depth)}.get(self.skip)
        if self.skip == "rezero":
            self.scales = [torch.zeros((), requires_grad=True) for _ in range(hidden)]
            others += self.scales[1:]
        self.optimizer = optimizer(config.optimizer, [*self.W, *others], config.lr, kind)
        self.loss: Any = None
        self.found: Any = None

    def forward(self) -> Any:
        """The last layer's z."""
        a = self.x
        for k, W in enumerate(self.W[:-1]):
            z = F.linear(a, W)
            if self.norm == "layer":
                z = F.layer_norm(z, z.shape[1:], self.gain[k], self.shift[k])
            elif self.norm == "batch":
                z = F.batch_norm(z, *self.running[k], self.gain[k], self.shift[k], training=True)
            f = self.phi(z)
            if self.skip == "none" or k == 0:
                a = f
            elif self.skip == "rezero":
                a = torch.addcmul(a, f, self.scales[k])
            else:
                a = torch.add(a, f, alpha=self.scale)
        return F.linear(a, self.W[-1])

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss_of(self.forward(), self.y) / len(self.x)
        loss.backward()
        self.found = torch._foreach_norm([W.grad for W in self.W])  # noqa: SLF001 (what clip_grad_norm_ takes)
        self.optimizer.step()
        self.loss = loss.detach()

    def norms(self) -> Floats:
        return log10([torch.stack(self.found).numpy()])

    def losses(self) -> Floats:
        return np.array([self.loss.item()])


def optimizer(config: OptimizerConfig, parameters: list[Any], lr: float, kind: str) -> Any:
    """PyTorch's optimizer of the product's name, with the product's keys."""
    make, keys = OPTIMIZERS_OF[config.name]
    given = {key: getattr(config, key) for key in OPTIMIZERS[config.name].keys}
    if "beta1" in given:
        given["betas"] = given.pop("beta1"), given.pop("beta2")
    return make(parameters, lr=lr, **keys, **given, **{kind: True})


def fused(cell: Cell) -> Stepper:
    return Net(cell, "fused")


def foreach(cell: Cell) -> Stepper:
    return Net(cell, "foreach")


class Matmuls(in_numpy.Matmuls):
    """The same products by torch.mm: what the library of PyTorch's matrix products makes of them."""

    def __init__(self, cell: Cell) -> None:
        torch.set_num_threads(1)
        super().__init__(cell)
        self.calls = [(torch.from_numpy(a), torch.from_numpy(b), torch.from_numpy(out)) for a, b, out in self.calls]

    def __call__(self) -> None:
        for a, b, out in self.calls:
            torch.mm(a, b, out=out)


class Stack(Stepper):
    """R plain nets in lockstep by torch.bmm."""

    def __init__(self, cell: Cell) -> None:
        torch.set_num_threads(1)
        config, runs = ours.configuration(cell), cell.runs
        self.x, self.y = (torch.from_numpy(array).expand(runs, *array.shape).contiguous() for array in ours.batch(cell))
        each = [ours.weights(cell, run) for run in range(runs)]
        self.W = [torch.from_numpy(np.stack(layer)).requires_grad_() for layer in zip(*each, strict=True)]
        self.optimizer = torch.optim.SGD(self.W, lr=config.lr, fused=True)
        self.batch = cell.batch
        self.loss: Any = None
        self.found: Any = None

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        a = self.x
        for W in self.W:
            a = torch.sigmoid(torch.bmm(a, W))
        losses = 0.5 * (a - self.y).square().sum((1, 2)) / self.batch
        losses.sum().backward()
        self.found = [torch.linalg.vector_norm(W.grad, dim=(1, 2)) for W in self.W]
        self.optimizer.step()
        self.loss = losses.detach()

    def norms(self) -> Floats:
        return log10(torch.stack(self.found, dim=1).numpy())

    def losses(self) -> Floats:
        return np.asarray(self.loss.numpy(), np.float64)
