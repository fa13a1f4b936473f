"""A contender's process: pinned to one core, it answers lines of JSON.

{"build": cell} -> {}; {"first": true} -> {"norms", "losses"}; {"run": steps} -> {"steps", "seconds", "cpu"}; {"drop": true} -> {}.
What goes wrong is an answer too: {"error": words}.
"""

import gc
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from time import perf_counter, process_time
from typing import Any

__all__ = ["CONTENDERS", "main"]

CONTENDERS = {  # and `engine …`, by the core's compiled engine of that name
    "ours": "ours:plain",
    "ours alone": "ours:alone",
    "ours uncontrolled": "ours:uncontrolled",
    "reference": "ours:reference",
    "torch fused": "in_torch:fused",
    "torch foreach": "in_torch:foreach",
    "torch matmuls": "in_torch:Matmuls",
    "torch.bmm": "in_torch:Stack",
    "jax unrolled": "in_jax:unrolled",
    "jax scan": "in_jax:scan",
    "jax unrolled, 50 steps a call": "in_jax:unrolled_50",
    "jax scan, 50 steps a call": "in_jax:scan_50",
    "jax.vmap unrolled": "in_jax:vmap_unrolled",
    "jax.vmap scan": "in_jax:vmap_scan",
    "matmuls": "in_numpy:Matmuls",
    "tutorial": "in_numpy:Tutorial",
}


class Contender:
    """What the process holds between two lines."""

    def __init__(self, name: str) -> None:
        import numpy as np

        np.seterr(all="ignore")  # overflow and underflow are outcomes here
        _, _, engine = name.partition("engine ")
        module, _, function = ("ours:compiled" if engine else CONTENDERS[name]).partition(":")
        make: Callable[..., Any] = getattr(import_module(f"benchmarks.{module}"), function)
        self.make = partial(make, engine=engine) if engine else make
        self.stepper: Any = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        ((what, value),) = request.items()
        return {"build": self.build, "first": self.first, "run": self.run, "drop": self.build}[what](value)

    def build(self, cell: Any) -> dict[str, Any]:
        from benchmarks.cells import Cell

        self.stepper = None
        gc.collect()
        if isinstance(cell, dict):
            self.stepper = self.make(Cell(**cell))
        return {}

    def first(self, _: Any) -> dict[str, Any]:
        norms, losses = self.stepper.first()
        return {"norms": norms.tolist(), "losses": losses.tolist()}

    def run(self, steps: int) -> dict[str, Any]:
        start, cpu = perf_counter(), process_time()
        done = self.stepper.run(steps)
        return {"steps": done, "seconds": perf_counter() - start, "cpu": process_time() - cpu}


def main(name: str, core: str) -> None:
    os.sched_setaffinity(0, {int(core)})  # before any library counts cores
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    contender = Contender(name)
    for line in sys.stdin:
        try:
            answer = contender.answer(json.loads(line))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
