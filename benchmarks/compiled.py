"""The same step by the core's compiled engines, where it offers some."""

from typing import Any

from benchmarks import ours, step
from benchmarks.tables import mark, microseconds, outcome, ratios, table
from benchmarks.timing import Options, Workers

__all__ = ["measure", "section"]

TITLE = "Compiled engines"


def measure(options: Options) -> list[dict[str, Any]]:
    names = ["ours", *(f"engine {engine}" for engine in ours.ENGINES)]
    if len(names) == 1:
        return []
    with Workers([*names, "reference"], options) as workers:
        return [{"cell": cell.written, "found": workers.compare(cell, names, reference="reference")} for cell in step.CELLS]


def section(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "The core has no compiled engine."
    engines = sorted({name for row in rows for name in row["found"] if name.startswith("engine ")})
    lines = []
    for row in rows:
        cell, found = row["cell"], row["found"]
        times = [microseconds(found, [name]) for name in ("ours", *engines)]
        lines.append([cell["depth"], cell["width"], cell["batch"], *times, *(mark(ratios(found, name, ["ours"])) for name in engines)])
    sums = "\n\n".join(f"{name}:\n\n{outcome(rows, name, {'NumPy': ['ours']})}" for name in engines)
    head = ["depth", "width", "batch", "NumPy, µs", *(f"{name}, µs" for name in engines), *(f"{name} / NumPy" for name in engines)]
    return f"The cells of the training step, by the core's compiled engines instead of NumPy.\n\n{sums}\n\n{table(head, lines)}"
