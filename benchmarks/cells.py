"""A cell of a table: one shape of net, and what a contender must be able to do with it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHECKED", "Cell", "Floats", "Stepper", "log10"]

Floats = NDArray[np.float64]
CHECKED = 5  # updates after which losses are compared


@dataclass(frozen=True)
class Cell:
    """Shape, number of runs in lockstep, and other keys of the configuration where they are not the default."""

    depth: int
    width: int
    batch: int
    runs: int = 1
    keys: Mapping[str, Any] = field(default_factory=dict)

    @property
    def written(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def weights(self) -> int:
        """Bytes of all weights in float32, 64 inputs and 10 outputs."""
        return 4 * self.runs * (64 * self.width + (self.depth - 2) * self.width**2 + 10 * self.width)


class Stepper(ABC):
    """A training under way on one fixed batch: each call is `unit` whole steps, every layer's gradient norm taken at each of them."""

    unit = 1

    @abstractmethod
    def __call__(self) -> None: ...

    @abstractmethod
    def norms(self) -> Floats:
        """log10 ‖dL/dW_k‖ of each run and layer at the last step, (R, depth)."""

    @abstractmethod
    def losses(self) -> Floats:
        """The loss of each run at the last step, before its update, (R,)."""

    def wait(self) -> None:  # noqa: B027 (most have nothing to wait for)
        """Until all that was asked for is done."""

    def run(self, steps: int) -> int:
        """At least that many steps; returns how many."""
        calls = ceil(steps / self.unit)
        for _ in range(calls):
            self()
        self.wait()
        return calls * self.unit

    def first(self) -> tuple[Floats, Floats]:
        """The norms at the first step, and the losses after CHECKED updates."""
        self()
        norms = self.norms()
        for _ in range(CHECKED):
            self()
        return norms, self.losses()


def log10(norms: Any) -> Floats:
    """-inf for a norm of 0."""
    with np.errstate(divide="ignore"):
        return np.log10(np.asarray(norms, np.float64))
