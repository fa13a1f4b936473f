"""One training step: forward, backward, update and every layer's gradient norm."""

from typing import Any

import numpy as np

from benchmarks.cells import Cell
from benchmarks.tables import mark, microseconds, outcome, progress, ratios, right, table
from benchmarks.timing import Options, Workers, spread

__all__ = ["CELLS", "PEERS", "measure", "section"]

TITLE = "A training step"
CELLS = [Cell(depth, width, batch) for depth in (3, 10, 50, 100) for width in (16, 64, 256, 1024) for batch in (1, 32, 128)]
PEERS = {
    "PyTorch": ("torch fused", "torch foreach"),
    "JAX": ("jax unrolled", "jax scan", "jax unrolled, 50 steps a call", "jax scan, 50 steps a call"),
    "the tutorial's NumPy": ("tutorial",),
    "its matrix products alone": ("matmuls",),
}
OURS, REFERENCE = "ours", "reference"
PRODUCTS = ("torch matmuls", "matmuls")
NAMES = [OURS, *(name for names in PEERS.values() for name in names), PRODUCTS[0]]
FIFTY_AT_MOST = 1 << 28  # multiplications in a step: above, fifty steps take seconds, and the call costs nothing beside one


def contenders(cell: Cell) -> list[str]:
    long = 3 * cell.batch * cell.weights // 4 > FIFTY_AT_MOST
    return [name for name in NAMES if not (long and "50 steps" in name)]


def measure(options: Options) -> list[dict[str, Any]]:
    rows = []
    with Workers([*NAMES, REFERENCE], options) as workers:
        for cell in CELLS:
            rows.append({"cell": cell.written, "found": workers.compare(cell, contenders(cell), reference=REFERENCE)})
            print(progress(rows[-1], OURS, PEERS), flush=True)
    return rows


def _products(rows: list[dict[str, Any]]) -> str:
    """PyTorch's matrix products over NumPy's, by width."""
    widths: dict[int, list[float]] = {}
    for row in rows:
        if each := ratios(row["found"], PRODUCTS[0], PRODUCTS[1:]):
            widths.setdefault(row["cell"]["width"], []).append(spread(each)[0])
    told = ", ".join(f"{np.median(values):.2f} at width {width}" for width, values in widths.items())
    return f"PyTorch's own library takes for the matrix products alone, over NumPy's (median over depths and batches): {told}." if told else ""


def _threads(rows: list[dict[str, Any]]) -> float:
    """The largest processor time over wall time of a contender, in the median of its rounds."""
    return max((spread(each["cpu"])[0] for row in rows for each in row["found"].values() if "cpu" in each), default=1.0)


def section(rows: list[dict[str, Any]]) -> str:
    head = ["depth", "width", "batch", "ours, µs", *(f"{peer}, µs" for peer in PEERS), *(f"ours / {peer}" for peer in PEERS)]
    lines = []
    for row in rows:
        cell, found = row["cell"], row["found"]
        times = [microseconds(found, names) for names in PEERS.values()]
        each = [mark(ratios(found, OURS, names)) for names in PEERS.values()]
        lines.append([cell["depth"], cell["width"], cell["batch"], microseconds(found, [OURS]), *times, *each])
    return f"""Forward, backward, update and the gradient norm of every layer, at every step, of sigmoid nets in float32 on one core and a fixed
batch: 64 inputs, hidden layers of the width, 10 outputs. Medians of the rounds; a ratio below 1 is in our favour, with its lowest and highest round
in brackets, and is bold where the cell is not won. Of PyTorch the better of a fused and a foreach SGD counts, of JAX the best of an unrolled net and
a scan over the layers, with one step or fifty in a call (fifty where a step has at most {FIFTY_AT_MOST:,} multiplications).

{outcome(rows, OURS, PEERS)}

{_products(rows)}

{table(head, lines)}

All start from the same weights. Against a float64 training with exponents of its own, norms at the first step and losses after five updates:

{right(rows, NAMES)}

One thread it was: processor time over wall time came to {_threads(rows):.2f} at most."""
