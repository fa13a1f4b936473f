"""The papers' own figures, drawn from our runs.  To add one: write a function from a `Study` to a `Picture` and give it a row here."""

from collections.abc import Callable

from bpexp.report.papers import fractal, phase_diagram
from bpexp.report.picture import Picture
from bpexp.report.selection import Study

__all__ = ["FIGURES"]

FIGURES: dict[str, Callable[[Study], Picture]] = {**phase_diagram.FIGURES, **fractal.FIGURES}
