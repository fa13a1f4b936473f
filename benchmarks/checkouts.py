"""The plain net's training step in this checkout and in another one, in turns: `python benchmarks/checkouts.py ../other [rounds=9]`.

The other checkout is any folder that holds an earlier `bpexp` (`git worktree add ../other v0.1`).  Each runs in a process of its own, both
take turns round by round, and a round's figure is the median step, forward, backward and update, without the probed ones.  Printed:
the median of the rounds in microseconds, their ratio, and the ratio's lowest and highest round.
"""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter

CELLS = [
    (depth, width, batch, runs)
    for depth in (3, 10, 50, 100)
    for width, batch, runs in ((16, 32, 1), (16, 32, 16), (64, 32, 1), (64, 128, 1), (256, 32, 1))
]
SECONDS = 0.25  # of training in a round, about


def measure(depth: int, width: int, batch: int, runs: int, steps: int) -> float:
    """The median step's microseconds."""
    from bpexp.config import RunConfig
    from bpexp.experiment import NullSink, prepare, run_stack

    prepared = prepare(RunConfig(depth=depth, width=width, batch_size=batch, steps=steps, probe_points=3))
    times: list[float] = []
    run_stack([prepared] * runs, [NullSink()] * runs, lambda *_told: times.append(perf_counter()))
    between = [b - a for step, (a, b) in enumerate(pairwise(times), start=1) if step not in prepared.probe_steps]
    return 1e6 * median(between)


def worker() -> None:
    """Answer each line `[depth, width, batch, runs, steps]`."""
    for line in sys.stdin:
        print(measure(*json.loads(line)), flush=True)


def compare(other: Path, rounds: int) -> None:
    """A line per cell."""
    here = Path(__file__).parents[1]
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, "worker"],
            cwd=folder,
            env={"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for folder in (other.resolve(), here)
    ]

    def ask(process: "subprocess.Popen[str]", *cell: int) -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        print(json.dumps(cell), file=process.stdin, flush=True)
        return float(process.stdout.readline())

    print(f"{'depth':>5} {'width':>5} {'batch':>5} {'runs':>5} {'other µs':>10} {'here µs':>10} {'ratio':>7} {'lowest':>7} {'highest':>7}")
    ratios = []
    for cell in CELLS:
        steps = max(20, int(SECONDS * 1e6 / ask(workers[0], *cell, 20)))
        ask(workers[1], *cell, 20)
        times = [[ask(process, *cell, steps) for process in workers] for _ in range(rounds)]
        before, after = (median(column) for column in zip(*times, strict=True))
        each = [new / old for old, new in times]
        ratios.append(median(each))
        print(
            "".join(f"{value:>5} " for value in cell) + f"{before:>10.1f} {after:>10.1f} {median(each):>7.3f} {min(each):>7.3f} {max(each):>7.3f}",
            flush=True,
        )
    print(f"median ratio over the {len(CELLS)} cells: {median(ratios):.3f}, highest {max(ratios):.3f}")


if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        worker()
    else:
        counts = [int(word.partition("=")[2]) for word in sys.argv[2:] if word.startswith("rounds=")]
        compare(Path(sys.argv[1]), *(counts or [9]))
