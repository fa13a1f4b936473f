"""What carries a training step out: NumPy, the reference, or one compiled function for small plain nets (`bpexp.core.compiled`)."""

from collections.abc import Mapping
from importlib.util import find_spec

from bpexp.core.step import Step

__all__ = ["CODES", "ENGINES", "NEEDS", "installed", "step_class"]

CODES = ("sigmoid", "tanh", "relu", "linear", "softmax")  # activations that are compiled, in the order of their codes there
ENGINES = ("numpy", "numba")
NEEDS: Mapping[str, tuple[object, ...]] = {  # what engine=numba can compute, by configuration key
    "activation": CODES[:4],
    "output": CODES,
    "loss": ("squared_error", "cross_entropy"),
    "norm": ("none",),
    "skip.name": ("none",),
    "optimizer.name": ("sgd",),
    "optimizer.weight_decay": (0, None),
    "optimizer.clip": (None,),
}


def installed(engine: str) -> bool:
    return engine == "numpy" or find_spec(engine) is not None


def step_class(engine: str) -> type[Step]:
    if engine == "numpy":
        return Step
    from bpexp.core.compiled import CompiledStep  # Numba takes a quarter of a second to import

    return CompiledStep
