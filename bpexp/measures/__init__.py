"""What a check may ask of runs: quantities measured from their records, and theory's numbers for the same nets.

A study's file names them.  `MEASURED[name](cell, **options)` answers with a `Measured`, `PREDICTED[name](cell, **options)` with a number; the
options are the function's keyword arguments.  To add one: write a function in a module of this folder and give it a row in the module's table.
"""

from collections.abc import Callable, Mapping

from bpexp.measures import boundary, over_layers, over_runs, trainability
from bpexp.measures.cell import Cell, Measured

__all__ = ["MEASURED", "PREDICTED", "Cell", "Measured"]

MEASURED: Mapping[str, Callable[..., Measured]] = over_layers.MEASURED | over_runs.MEASURED | trainability.MEASURED | boundary.MEASURED
PREDICTED: Mapping[str, Callable[..., float]] = over_layers.PREDICTED | trainability.PREDICTED
