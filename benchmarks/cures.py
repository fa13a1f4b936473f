"""Each cure alone, against the same in PyTorch."""

from collections.abc import Iterator
from typing import Any

from benchmarks.cells import Cell
from benchmarks.tables import mark, microseconds, outcome, ratios, right, table
from benchmarks.timing import Options, Workers
from bpexp.config import TABLES, RunConfig, asked, flatten, full_key

__all__ = ["KEYS", "cells", "measure", "section"]

TITLE = "Cures"
KEYS = ("activation", "norm", "skip", "loss", "optimizer")  # what costs time in a step: the others are the start's, or a factor
PEERS = {"PyTorch": ("torch fused", "torch foreach")}
NAMES = ["ours", *PEERS["PyTorch"]]
LR = 0.01  # where a row names none


def cells(depth: int = 50, width: int = 64, batch: int = 32) -> Iterator[Cell]:
    """The plain net, then every option of every table but those that the plain net has."""
    yield Cell(depth, width, batch, keys={"lr": LR})
    defaults = flatten(RunConfig())
    for key in KEYS:
        for name, row in TABLES[key].items():
            if name != defaults[full_key(key)]:
                rates = row.lr or (LR,)
                words = {full_key(it): value for it, value in asked(key, name).items()}
                yield Cell(depth, width, batch, keys={**words, "lr": rates[len(rates) // 2]})


def measure(options: Options) -> list[dict[str, Any]]:
    with Workers([*NAMES, "reference"], options) as workers:
        return [{"cell": cell.written, "found": workers.compare(cell, NAMES, reference="reference")} for cell in cells()]


def section(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        words = [f"{key}={value}" for key, value in row["cell"]["keys"].items() if key != "lr"]
        times = [microseconds(row["found"], names) for names in (["ours"], *PEERS.values())]
        lines.append(["`" + (" ".join(words) or "plain") + "`", *times, mark(ratios(row["found"], "ours", PEERS["PyTorch"]))])
    return f"""One option of one table at a time, depth 50, width 64, batch 32, all else as in the plain net, against PyTorch's own functions
and optimizers (the better of fused and foreach): microseconds a step, all gradient norms included.

{outcome(rows, "ours", PEERS)}

{table(["option", "ours, µs", "PyTorch, µs", "ours / PyTorch"], lines)}

{right(rows, NAMES)}"""
