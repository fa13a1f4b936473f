"""Peak memory of a training.  As a program, one training in a process that has done nothing else: `python -m benchmarks.memory ours 128 rss`."""

import json
import resource
import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np

from benchmarks.cells import Cell
from benchmarks.tables import table
from benchmarks.timing import ROOT, Options, environment

__all__ = ["main", "measure", "section"]

TITLE = "Memory"
DEPTH, WIDTH, BATCHES, STEPS = 100, 1024, (1, 128), 2
WHO = {"ours": "ours, steps alone", "run": "ours, a run with its probes and evaluations", "foreach": "PyTorch, foreach", "fused": "PyTorch, fused"}
PAGE = resource.getpagesize()


def main(who: str, batch: str, how: str) -> None:
    """Prints the peak's bytes above those that imports and data take; `how`: rss, the process's, or numpy, what tracemalloc sees."""
    from benchmarks import ours

    cell = Cell(DEPTH, WIDTH, int(batch))
    ours.batch(cell)
    make: Any = ours.plain
    if who in ("fused", "foreach"):
        from benchmarks import in_torch

        make = getattr(in_torch, who)
    np.seterr(all="ignore")
    if how == "numpy":
        tracemalloc.start()
    with open("/proc/self/statm") as status:  # noqa: PTH123 (a file of the kernel)
        before = PAGE * int(status.read().split()[1])
    if who == "run":
        ours.whole_run(cell, STEPS)
    else:
        make(cell).run(STEPS)
    if how == "numpy":
        print(json.dumps(_numpy_peak()))
    else:
        print(json.dumps(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))


def _numpy_peak() -> int:
    return tracemalloc.get_traced_memory()[1]


def measure(options: Options) -> list[dict[str, Any]]:  # noqa: ARG001 (memory is the same in every round)
    rows = []
    for batch in BATCHES:
        for who in WHO:
            ways = ("rss", "numpy") if who in ("ours", "run") else ("rss",)
            rows.append({"who": who, "batch": batch} | {how: _peak(who, batch, how) for how in ways})
    return rows


def _peak(who: str, batch: int, how: str) -> int:
    line = [sys.executable, "-m", "benchmarks.memory", who, str(batch), how]
    return int(subprocess.run(line, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True).stdout)


def needed(batch: int) -> int:
    """Bytes of weights, activations and deltas in float32."""
    neurons = (DEPTH - 1) * WIDTH + 10
    return Cell(DEPTH, WIDTH, batch).weights + 4 * batch * (64 + 2 * neurons)


def section(rows: list[dict[str, Any]]) -> str:
    lines, peaks = [], {}
    for row in rows:
        batch, who, least = row["batch"], row["who"], needed(row["batch"])
        peaks[who, batch] = row["rss"] / least
        arrays = f"{row['numpy'] / least:.2f}" if "numpy" in row else "–"
        lines.append([batch, WHO[who], f"{row['rss'] / 2**20:,.0f}", f"{row['rss'] / least:.2f}", arrays])
    theirs = {batch: min(peaks["foreach", batch], peaks["fused", batch]) for batch in BATCHES}
    told = [f"At batch {batch} a whole run of ours takes {peaks['run', batch]:.2f} times that, PyTorch {theirs[batch]:.2f}" for batch in BATCHES]
    head = ["batch", "training", "peak, MiB", "over what is needed", "by tracemalloc, over the same"]
    return f"""Peak memory of {STEPS} steps at depth {DEPTH}, width {WIDTH}, float32, in a process of its own, above what imports and data
take, over the bytes of weights, activations and deltas ({", ".join(f"{needed(batch) / 2**20:,.0f} MiB at batch {batch}" for batch in BATCHES)}).

{". ".join(told)}.

{table(head, lines)}"""


if __name__ == "__main__":
    main(*sys.argv[1:])
