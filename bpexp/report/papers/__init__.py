"""The figures of studies: the papers' own, drawn from our runs, and every picture of a report.

To add one: write a function from a `Study` to a `Picture` and give it a row here.
"""

from collections.abc import Callable

from bpexp.report.figures import PICTURES
from bpexp.report.papers import fractal, initialization, isometry, linear_nets, mean_field, phase_diagram, saturation
from bpexp.report.picture import Picture
from bpexp.report.selection import Study

__all__ = ["FIGURES"]

MODULES = (fractal, initialization, isometry, linear_nets, mean_field, phase_diagram, saturation)

FIGURES: dict[str, Callable[[Study], Picture]] = {entry.name: entry.function for entry in PICTURES}
FIGURES |= {name: it for module in MODULES for name, it in module.FIGURES.items()}
