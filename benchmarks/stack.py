"""Runs in lockstep."""

import os
from typing import Any

from benchmarks.cells import Cell
from benchmarks.tables import mark, microseconds, outcome, progress, ratios, table
from benchmarks.timing import Options, Workers

__all__ = ["PEERS", "measure", "section"]

TITLE = "Stacks"
CELLS = [Cell(depth, width, batch, runs) for width in (16, 64, 256) for depth in (10, 100) for batch in (1, 32, 128) for runs in (8, 32, 64)]
PEERS = {"a loop of single runs": ("ours alone",), "torch.bmm": ("torch.bmm",), "jax.vmap": ("jax.vmap unrolled", "jax.vmap scan")}
NAMES = ["ours", *(name for names in PEERS.values() for name in names)]
COPIES = 16  # of the weights, that all contenders together hold at the worst


def measure(options: Options) -> list[dict[str, Any]]:
    rows = []
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    with Workers(NAMES, options) as workers:
        for cell in CELLS:
            if COPIES * cell.weights > memory:
                rows.append({"cell": cell.written, "found": {name: {"note": f"weights of {cell.weights / 1e9:.1f} GB"} for name in NAMES}})
                continue
            found = workers.compare(cell, [name for name in NAMES if cell.depth == 10 or name != "jax.vmap unrolled"])
            for name, each in found.items():
                if "us" in each and name != "ours alone":
                    each["us"] = [round(value / cell.runs, 3) for value in each["us"]]
            rows.append({"cell": cell.written, "found": found})
            print(progress(rows[-1], "ours", PEERS), flush=True)
    return rows


def section(rows: list[dict[str, Any]]) -> str:
    head = ["width", "depth", "batch", "runs", "ours", *PEERS, *(f"ours / {peer}" for peer in PEERS)]
    lines = []
    for row in rows:
        cell, found = row["cell"], row["found"]
        times = [microseconds(found, names) for names in (["ours"], *PEERS.values())]
        each = [mark(ratios(found, "ours", names)) for names in PEERS.values()]
        lines.append([cell["width"], cell["depth"], cell["batch"], cell["runs"], *times, *each])
    return f"""Many runs of one shape, each with its own weights, in one training on one core: microseconds a run and step, all gradient norms of
every run included. Of jax.vmap the better of an unrolled net (depth 10) and a scan counts.

{outcome(rows, "ours", PEERS)}

{table(head, lines)}"""
