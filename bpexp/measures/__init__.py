"""What a check may ask of runs: quantities measured from their records, and theory's numbers for the same nets.

A study's file names them.  `MEASURED[name](cell, **options)` answers with a `Measured`, `PREDICTED[name](cell, **options)` with a number; the
options are the function's keyword arguments.  To add one: write a function in a module of this folder and give it a row in the module's table.
"""

from collections.abc import Callable, Mapping

from bpexp.measures import (
    boundary,
    comparison,
    dynamics,
    jacobian,
    learning_rates,
    over_layers,
    over_runs,
    over_steps,
    signal,
    speeds,
    trainability,
    work,
)
from bpexp.measures.cell import Cell, Measured

__all__ = ["MEASURED", "PREDICTED", "Cell", "Measured"]

MODULES = (boundary, comparison, dynamics, jacobian, learning_rates, over_layers, over_runs, over_steps, signal, speeds, trainability, work)

MEASURED: Mapping[str, Callable[..., Measured]] = {name: it for module in MODULES for name, it in module.MEASURED.items()}
PREDICTED: Mapping[str, Callable[..., float]] = {name: it for module in MODULES for name, it in module.PREDICTED.items()}
