"""JAX's contenders: one jitted step, unrolled or with the equal hidden layers in a scan; one step or fifty in a call; one net or a vmap of many."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks import ours
from benchmarks.cells import CHECKED, Cell, Floats, Stepper, log10

__all__ = ["STEPS", "Net"]

STEPS = 50  # in one call


def loss_of(W: Any, x: Any, y: Any) -> Any:
    """W is a list, or (first, hidden ones as one array, last)."""
    if isinstance(W, list):
        a = x
        for w in W:
            a = jax.nn.sigmoid(a @ w)
    else:
        first, hidden, last = W
        a, _ = lax.scan(lambda a, w: (jax.nn.sigmoid(a @ w), None), jax.nn.sigmoid(x @ first), hidden)
        a = jax.nn.sigmoid(a @ last)
    return 0.5 * jnp.sum((a - y) ** 2) / len(x)


def norms_of(gradient: Any) -> Any:
    """Of each layer, (depth,)."""
    return jnp.concatenate([jnp.sqrt(jnp.sum(g * g, axis=(-2, -1))).reshape(-1) for g in gradient])


def step(W: Any, x: Any, y: Any, lr: float) -> Any:
    loss, gradient = jax.value_and_grad(loss_of)(W, x, y)
    return jax.tree.map(lambda w, g: w - lr * g, W, gradient), (loss, norms_of(gradient))


def steps(W: Any, x: Any, y: Any, lr: float) -> Any:
    return lax.scan(lambda W, _: step(W, x, y, lr), W, None, length=STEPS)


class Net(Stepper):
    """`scan`: over hidden layers; `unit`: steps in a call; `stacked`: a vmap over the runs' weights."""

    def __init__(self, cell: Cell, *, scan: bool, unit: int = 1, stacked: bool = False) -> None:
        assert all(device.platform == "cpu" for device in jax.devices())
        self.unit, self.stacked = unit, stacked
        self.x, self.y = map(jnp.asarray, ours.batch(cell))
        each = [ours.weights(cell, run) for run in range(cell.runs)]
        layers = [np.stack(layer) if stacked else layer[0] for layer in zip(*each, strict=True)]
        W: Any = [layers[0], np.stack(layers[1:-1], axis=1 if stacked else 0), layers[-1]] if scan else layers
        self.W: Any = tuple(map(jnp.array, W)) if scan else [jnp.array(w) for w in W]
        one = partial(step if unit == 1 else steps, lr=ours.configuration(cell).lr)
        call = jax.vmap(one, (0, None, None)) if stacked else one
        self.call = jax.jit(call, donate_argnums=0).lower(self.W, self.x, self.y).compile()
        self.found: Any = None

    def __call__(self) -> None:
        self.W, self.found = self.call(self.W, self.x, self.y)

    def wait(self) -> None:
        jax.block_until_ready((self.W, self.found))

    def norms(self) -> Floats:
        norms = log10(self.found[1])
        return norms if self.stacked else norms[None] if self.unit == 1 else norms[-1:]

    def losses(self) -> Floats:
        return np.asarray(self.found[0], np.float64).reshape(-1)[-1:] if not self.stacked else np.asarray(self.found[0], np.float64)

    def first(self) -> tuple[Floats, Floats]:
        if self.unit == 1:
            return super().first()
        self()
        losses, norms = self.found
        return log10(norms[:1]), np.asarray(losses[CHECKED : CHECKED + 1], np.float64)


def unrolled(cell: Cell) -> Stepper:
    return Net(cell, scan=False)


def scan(cell: Cell) -> Stepper:
    return Net(cell, scan=True)


def unrolled_50(cell: Cell) -> Stepper:
    return Net(cell, scan=False, unit=STEPS)


def scan_50(cell: Cell) -> Stepper:
    return Net(cell, scan=True, unit=STEPS)


def vmap_unrolled(cell: Cell) -> Stepper:
    return Net(cell, scan=False, stacked=True)


def vmap_scan(cell: Cell) -> Stepper:
    return Net(cell, scan=True, stacked=True)
