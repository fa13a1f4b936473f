"""Quantities that a run has one of: losses, accuracies, outcomes."""

from collections.abc import Callable

from bpexp.measures.cell import Cell, Measured

__all__ = ["MEASURED", "PREDICTED"]


def number(cell: Cell, name: str) -> Measured:
    """The mean over runs of a number of the summary, such as final_loss or best_accuracy_train."""
    return Measured.mean(cell.frame[name].to_numpy(float))


def share(cell: Cell, outcome: str) -> Measured:
    """The share of runs that came to an outcome: trained, stuck, diverged."""
    return Measured.mean([float(found == outcome) for found in cell.frame["outcome"]])


MEASURED: dict[str, Callable[..., Measured]] = {"number": number, "share": share}
PREDICTED: dict[str, Callable[..., float]] = {}
