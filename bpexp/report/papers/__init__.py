"""The papers' own figures, drawn from our runs.  To add one: write a function from a `Study` to a `Picture` and give it a row here."""

from collections.abc import Callable, Mapping

from bpexp.report.papers import isometry, linear_nets
from bpexp.report.picture import Picture
from bpexp.report.selection import Study

__all__ = ["FIGURES"]

FIGURES: Mapping[str, Callable[[Study], Picture]] = {**linear_nets.FIGURES, **isometry.FIGURES}
