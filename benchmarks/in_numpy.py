"""NumPy's contenders: the net as a tutorial writes it, and its matrix products alone."""

from typing import Any

import numpy as np

from benchmarks import ours
from benchmarks.cells import Cell, Floats, Stepper, log10

__all__ = ["Matmuls", "Tutorial"]


class Tutorial(Stepper):
    """Lists of arrays, a new array for every result."""

    def __init__(self, cell: Cell) -> None:
        self.lr = np.float32(ours.configuration(cell).lr)
        self.x, self.y = ours.batch(cell)
        self.W = list(ours.weights(cell))
        self.found: list[Any] = []
        self.loss = 0.0

    def __call__(self) -> None:
        W, batch = self.W, len(self.x)
        a = [self.x]
        for w in W:
            a.append(sigmoid(a[-1] @ w))
        error = a[-1] - self.y
        self.loss = 0.5 * np.sum(error**2) / batch
        delta = error * a[-1] * (1 - a[-1]) / batch
        gradients = []
        for k in reversed(range(len(W))):
            gradients.append(a[k].T @ delta)
            if k > 0:
                delta = (delta @ W[k].T) * a[k] * (1 - a[k])
        gradients.reverse()
        self.found = [np.linalg.norm(g) for g in gradients]
        for k, g in enumerate(gradients):
            W[k] -= self.lr * g

    def norms(self) -> Floats:
        return log10([self.found])

    def losses(self) -> Floats:
        return np.array([self.loss], np.float64)


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


class Matmuls(Stepper):
    """a W, aᵀ δ and δ Wᵀ of each layer into buffers that are there already, of the first layer only two: they train nothing."""

    def __init__(self, cell: Cell) -> None:
        rng = np.random.default_rng(0)
        self.calls: list[tuple[Any, Any, Any]] = []
        backwards: list[tuple[Any, Any, Any]] = []
        for W in ours.weights(cell):
            (n_in, n_out), rows = W.shape, cell.batch
            a, delta = (rng.standard_normal((rows, n), np.float32) for n in (n_in, n_out))
            self.calls.append((a, W, np.empty((rows, n_out), np.float32)))
            backwards.append((a.T, delta, np.empty_like(W)))
            if len(self.calls) > 1:
                backwards.append((delta, W.T, np.empty((rows, n_in), np.float32)))
        self.calls += reversed(backwards)

    def __call__(self) -> None:
        for a, b, out in self.calls:
            np.matmul(a, b, out=out)

    def norms(self) -> Floats:
        return np.empty((0, 0))

    def losses(self) -> Floats:
        return np.empty(0)
