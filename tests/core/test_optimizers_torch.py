"""Every optimizer, schedule and the clipping against PyTorch's, in float64, step for step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest

from bpexp.core.arrays import Array
from bpexp.core.descent import Method
from bpexp.core.optimizers import OPTIMIZERS
from bpexp.core.schedules import SCHEDULES
from tests.core.steps import Key, Run, descend, draw, net

pytestmark = pytest.mark.torch

STEPS = 100
RUNS = [Run(seed=0, lr=0.01), Run(seed=1, lr=0.003), Run(seed=2, lr=0.02)]
TOLERANCE = 1e-10
LIMIT = 5.0  # among the norms of all gradients together


@pytest.fixture(scope="module")
def torch() -> Any:
    """Not skipped where PyTorch is missing: who asks for these tests wants to know."""
    import torch

    return torch


@dataclass(frozen=True)
class Twin:
    """PyTorch's optimizer for a row: the class, and what it takes for the row's defaults to be its own."""

    name: str
    always: dict[str, Any] = field(default_factory=dict)
    other: tuple[dict[str, float], ...] = ()

    def start(self, torch: Any, weights: list[Any], lr: float, keys: Mapping[str, float]) -> Any:
        return getattr(torch.optim, self.name)(weights, lr=lr, **(self.always | keywords(keys)))


def keywords(keys: Mapping[str, float]) -> dict[str, Any]:
    """A row's keys as PyTorch has them."""
    if "beta1" not in keys:
        return dict(keys)
    return {"betas": (keys["beta1"], keys["beta2"])} | {key: value for key, value in keys.items() if not key.startswith("beta")}


MOMENTS = {"beta1": 0.7, "beta2": 0.95}
TWINS = {
    "sgd": Twin("SGD", other=({"weight_decay": 0.1},)),
    "momentum": Twin("SGD", {"momentum": 0.9}, ({"momentum": 0.5, "weight_decay": 0.1}, {"momentum": 0.0})),
    "nesterov": Twin("SGD", {"momentum": 0.9, "nesterov": True}, ({"momentum": 0.5, "weight_decay": 0.1},)),
    "rmsprop": Twin("RMSprop", other=({"alpha": 0.8, "eps": 1e-4, "weight_decay": 0.1}, {"alpha": 0.0})),
    "adam": Twin("Adam", other=(MOMENTS | {"eps": 1e-4, "weight_decay": 0.1}, {"beta1": 0.0, "beta2": 0.0})),
    "adamw": Twin("AdamW", other=(MOMENTS | {"eps": 1e-4, "weight_decay": 0.3}, MOMENTS | {"weight_decay": 0.0})),
}
WITH_KEYS = [(name, keys) for name, twin in TWINS.items() for keys in ({}, *twin.other)]


def by_hand(torch: Any, optimizer: Any) -> Any:
    """Warm-up over 20 steps, half a cosine from 1 to 0.1 over the others: PyTorch has no such schedule in one."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: (step + 1) / 20 if step < 20 else 0.1 + 0.9 * np.cos(np.pi * (step - 20) / (2 * (STEPS - 20))) ** 2
    )


SCHEDULED: dict[str, tuple[str, dict[str, float], Callable[[Any, Any], Any]]] = {
    "constant": ("constant", {}, lambda torch, optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)),
    "step": ("step", {"every": 30, "factor": 0.3}, lambda torch, optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 30, gamma=0.3)),
    "warmup": ("warmup", {"warmup": 40}, lambda torch, optimizer: torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 40, total_iters=39)),
    "cosine": ("cosine", {}, lambda torch, optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)),
    "cosine with all": ("cosine", {"floor": 0.1, "warmup": 20}, by_hand),
}


def factor(schedule: str) -> Callable[[int], float]:
    name, keys, _ = SCHEDULED[schedule]
    return partial(SCHEDULES[name].rule, steps=STEPS, **keys) if name == "cosine" else lambda step: SCHEDULES[name].rule(step, STEPS, **keys)


def tensors(torch: Any, seed: int, step: int) -> dict[Key, Any]:
    return {key: torch.tensor(values) for key, values in draw(net(), seed, step).items()}


def clipped(torch: Any, gradients: Mapping[Key, Any], limit: float | None) -> dict[Key, Any]:
    """By min(1, limit / norm) exactly: clip_grad_norm_ has norm + 1e-6."""
    if limit is None:
        return dict(gradients)
    norm = torch.cat([g.flatten() for g in gradients.values()]).norm()
    return {key: g * torch.clamp(limit / norm, max=1.0) for key, g in gradients.items()}


def torch_descends(torch: Any, name: str, keys: Mapping[str, float], schedule: str, limit: float | None, run: Run) -> list[dict[Key, Array]]:
    """The weights after every step."""
    weights = {key: values.requires_grad_() for key, values in tensors(torch, run.seed, -1).items()}
    optimizer = TWINS[name].start(torch, list(weights.values()), run.lr, keys)
    scheduler = SCHEDULED[schedule][2](torch, optimizer)
    found = []
    for step in range(STEPS):
        gradients = clipped(torch, tensors(torch, run.seed, step), limit)
        for key, weight in weights.items():
            weight.grad = gradients[key]
        optimizer.step()
        scheduler.step()
        found.append({key: weight.detach().numpy().copy() for key, weight in weights.items()})
    return found


class Comparison:
    """The largest deviation from what is expected, array by array: in norms, relative to the largest that the array has had.

    A weight may pass through 0, and what it had before still is what its rounding is relative to.
    """

    def __init__(self) -> None:
        self.norms: dict[Key, float] = {}

    def __call__(self, found: Mapping[Key, Array], expected: Mapping[Key, Array]) -> float:
        assert set(found) == set(expected)
        self.norms = {key: max(self.norms.get(key, 0.0), float(np.linalg.norm(weights))) for key, weights in expected.items()}
        return max(float(np.linalg.norm(found[key] - weights)) / self.norms[key] for key, weights in expected.items())


def of_run(found: Mapping[Key, Array], run: int) -> dict[Key, Array]:
    return {key: weights[run] for key, weights in found.items()}


def test_every_row_has_its_twin() -> None:
    assert set(TWINS) == set(OPTIMIZERS)
    assert {name for name, _, _ in SCHEDULED.values()} == set(SCHEDULES)
    for name, row in OPTIMIZERS.items():
        assert {key for other, keys in WITH_KEYS if other == name for key in keys} == set(row.keys)


@pytest.mark.parametrize("limit", [None, LIMIT])
@pytest.mark.parametrize("schedule", SCHEDULED)
@pytest.mark.parametrize(("name", "keys"), WITH_KEYS, ids=lambda value: value if isinstance(value, str) else ",".join(value) or "defaults")
def test_every_step(torch: Any, name: str, keys: dict[str, float], schedule: str, limit: float | None) -> None:
    method = Method(OPTIMIZERS[name], keys, limit, factor(schedule))
    stack, alone = descend(net(), method, RUNS, STEPS), descend(net(), method, RUNS[1:2], STEPS)
    in_units = descend(net(), method, RUNS, STEPS, units=True)
    expected = zip(*(torch_descends(torch, name, keys, schedule, limit, run) for run in RUNS), strict=True)
    compare, compare_in_units = [Comparison() for _ in RUNS], [Comparison() for _ in RUNS]
    for found, lone, scaled, those in zip(stack, alone, in_units, expected, strict=True):
        for key, weights in found.items():
            np.testing.assert_array_equal(weights[1], lone[key][0])
            np.testing.assert_array_equal(weights, scaled[key])
        for run, that in enumerate(those):
            assert compare[run](of_run(found, run), that) <= TOLERANCE
            assert compare_in_units[run](of_run(scaled, run), that) <= TOLERANCE


def norm(torch: Any, gradients: Mapping[Key, Any]) -> float:
    return float(torch.cat([g.flatten() for g in gradients.values()]).norm())


@pytest.mark.parametrize("run", RUNS)
def test_the_limit_lies_among_the_norms(torch: Any, run: Run) -> None:
    """So that clipping does something at some steps and nothing at others."""
    above = [norm(torch, tensors(torch, run.seed, step)) > LIMIT for step in range(STEPS)]
    assert STEPS / 10 < sum(above) < STEPS * 9 / 10


@pytest.mark.parametrize("limit", [0.01, 1.0, 1e6])
def test_clipping(torch: Any, limit: float) -> None:
    """As clip_grad_norm_ does it, but for the 1e-6 that it adds to the norm.  The step is so long that the weights before it do not count."""
    expected = tensors(torch, 0, 0)
    size, lr = norm(torch, expected), 1e20
    for g in expected.values():
        g.grad = g.clone()
    torch.nn.utils.clip_grad_norm_(list(expected.values()), limit)
    (found,) = descend(net(), Method(OPTIMIZERS["sgd"], clip=limit), [Run(seed=0, lr=lr)], 1)
    for key, g in expected.items():
        exactly = (size + 1e-6) / size if size > limit else 1.0
        np.testing.assert_allclose(-found[key][0] / lr, g.grad.numpy() * exactly, rtol=TOLERANCE)
