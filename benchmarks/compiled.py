"""The same step by the core's compiled engines, where it offers some."""

from typing import Any

from benchmarks import ours, step
from benchmarks.tables import mark, microseconds, outcome, ratios, right, table
from benchmarks.timing import Options, Workers

__all__ = ["CELLS", "measure", "section"]

TITLE = "Compiled engines"


WIDEST = 64  # beyond, matrix products are what takes the time
CELLS = [cell for cell in step.CELLS if cell.width <= WIDEST]


def measure(options: Options) -> list[dict[str, Any]]:
    engines = [f"engine {engine}" for engine in ours.ENGINES]
    names = ["ours", *engines, *step.PEERS["PyTorch"], *step.PEERS["JAX"]]
    with Workers([*names, "reference"], options) as workers:
        return [{"cell": cell.written, "found": workers.compare(cell, names, reference="reference")} for cell in CELLS]


def section(rows: list[dict[str, Any]]) -> str:
    engines = sorted({name for row in rows for name in row["found"] if name.startswith("engine ")})
    peers = {"NumPy": ("ours",), "PyTorch": step.PEERS["PyTorch"], "JAX": step.PEERS["JAX"]}
    lines = []
    for row in rows:
        cell, found = row["cell"], row["found"]
        times = [microseconds(found, [name]) for name in engines]
        against = [mark(ratios(found, engine, them)) for engine in engines for them in peers.values()]
        lines.append([cell["depth"], cell["width"], cell["batch"], *times, *against])
    sums = "\n\n".join(f"{name}:\n\n{outcome(rows, name, peers)}" for name in engines)
    head = ["depth", "width", "batch", *(f"{name}, µs" for name in engines), *(f"{name} / {peer}" for name in engines for peer in peers)]
    return f"""The narrow cells of the training step by `engine=numba`, the core's compiled step, against the core in NumPy, PyTorch and JAX.

{sums}

{table(head, lines)}

{right(rows, ["ours", *engines])}"""
