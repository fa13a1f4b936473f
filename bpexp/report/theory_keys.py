"""The keys of `python -m bpexp.theory`."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, Strict

from bpexp.config import HIDDEN, MAX_DEPTH, MAX_WIDTH, Finite, Help, OneOf

__all__ = ["TheoryConfig"]

ACTIVATION = OneOf(HIDDEN)


@dataclass
class TheoryConfig:
    """A net of equal layers, all with the same activation."""

    activation: Annotated[str, Strict(), ACTIVATION, AfterValidator(ACTIVATION.check), Help("activation of all layers")] = "sigmoid"
    sigma_w2: Annotated[float, Strict(), Gt(0), Finite, Help("fan_in times the variance of a weight")] = 1.0
    sigma_b2: Annotated[float, Strict(), Ge(0), Finite, Help("variance of a bias")] = 0.0
    depth: Annotated[int, Strict(), Ge(2), Le(MAX_DEPTH), Help("weight layers")] = 100
    width: Annotated[int, Strict(), Ge(1), Le(MAX_WIDTH), Help("neurons in each layer; null: endlessly many")] | None = None
    q_input: Annotated[float, Strict(), Gt(0), Finite, Help("mean square of an input")] = 1.0
    classes: Annotated[int, Strict(), Ge(2), Le(MAX_WIDTH), Help("classes, equally many samples of each, for the losses of a stuck net")] = 10
    out: Annotated[str, Strict(), Help("folder of the figure")] = "reports/theory"
