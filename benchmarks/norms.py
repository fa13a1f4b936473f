"""What norms cost that are right beyond float32's range."""

from typing import Any

from benchmarks.cells import Cell
from benchmarks.tables import mark, microseconds, outcome, ratios, right, table
from benchmarks.timing import Options, Workers

__all__ = ["measure", "section"]

TITLE = "Norms beyond float32's range"
NETS = {"vanishing": {}, "critical": {"activation": "tanh", "init.name": "critical"}}
CELLS = [Cell(depth, width, batch, keys=keys) for keys in NETS.values() for depth in (10, 100) for width in (16, 64, 256) for batch in (1, 32, 128)]
NAMES = ["ours", "ours uncontrolled"]


def measure(options: Options) -> list[dict[str, Any]]:
    with Workers([*NAMES, "reference"], options) as workers:
        return [{"cell": cell.written, "found": workers.compare(cell, NAMES, reference="reference")} for cell in CELLS]


def section(rows: list[dict[str, Any]]) -> str:
    nets = {str(keys): net for net, keys in NETS.items()}
    lines = []
    for row in rows:
        cell, found = row["cell"], row["found"]
        times = [microseconds(found, [name]) for name in NAMES]
        lines.append([nets[str(cell["keys"])], cell["depth"], cell["width"], cell["batch"], *times, mark(ratios(found, NAMES[0], NAMES[1:]))])
    head = ["net", "depth", "width", "batch", "with range control, µs", "without, µs", "with / without"]
    return f"""The product's step against the same step whose deltas stay as float32 has them: on sigmoid nets, where gradients vanish, and on
critical tanh nets, where they do not. A ratio below 1 means that control saves time: numbers below float32's normal range are slow.

{outcome(rows, NAMES[0], {"the step without control": NAMES[1:]})}

{table(head, lines)}

{right(rows, NAMES)}"""
