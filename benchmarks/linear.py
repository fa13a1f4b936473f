"""Whether time grows as depth and as the number of runs do."""

from typing import Any

import numpy as np

from benchmarks.cells import Cell
from benchmarks.commands import folder, seconds
from benchmarks.tables import table
from benchmarks.timing import Options, Workers, spread

__all__ = ["fit", "measure", "section"]

TITLE = "Linearity"
DEPTHS = (10, 20, 50, 100, 200, 400)
RUNS = (8, 32, 128, 512, 2048)
WIDTH, BATCH = 64, 32
TINY = ("depth=3", "width=8", "batch_size=8", "steps=20", "hydra/launcher=stacked")


def measure(options: Options) -> dict[str, Any]:
    """Microseconds a step by depth, seconds of a sweep by its runs, each in every round."""
    one = Options(1, options.core)
    steps: dict[int, list[float]] = {depth: [] for depth in DEPTHS}
    sweeps: dict[int, list[float]] = {runs: [] for runs in RUNS}
    with Workers(["ours"], one) as workers:
        for _ in range(options.rounds):
            for depth in DEPTHS:
                steps[depth] += workers.compare(Cell(depth, WIDTH, BATCH), ["ours"])["ours"]["us"]
    for turn in range(options.rounds):
        for runs in RUNS:
            if turn == 0 or runs < RUNS[-1]:  # the largest takes minutes
                with folder() as cwd:
                    sweeps[runs].append(round(seconds(["-m", "bpexp", "-m", f"seed=range({runs})", *TINY], cwd), 3))
    return {"step": steps, "sweep": sweeps}


def fit(times: dict[str, list[float]]) -> tuple[float, float, float, float]:
    """The exponent of a power law through the medians; intercept and slope of a straight line; its largest relative residual.

    The line weighs relative errors, so that the smallest counts as much as the largest.
    """
    x = np.array(list(times), float)
    y = np.array([spread(each)[0] for each in times.values()])
    exponent = np.polyfit(np.log(x), np.log(y), 1)[0]
    slope, intercept = np.polyfit(x, y, 1, w=1.0 / y)
    return float(exponent), float(intercept), float(slope), float(np.max(np.abs((intercept + slope * x) / y - 1.0)))


def section(found: dict[str, Any]) -> str:
    power, start, slope, off = fit(found["step"])
    sweep_power, sweep_start, sweep_slope, sweep_off = fit(found["sweep"])
    steps = [[depth, *_cells(times, 1.0, int(depth))] for depth, times in found["step"].items()]
    sweeps = [[runs, *_cells(times, 1000.0, int(runs))] for runs, times in found["sweep"].items()]
    return f"""The step at width {WIDTH}, batch {BATCH}, by depth; and whole sweeps of a tiny net (`{" ".join(TINY)}`), by the number of runs.

Time goes as depth to the power {power:.3f}: {start:.1f} µs and {slope:.2f} µs a layer, off by {100 * off:.1f} % at most. A sweep's goes as
the number of runs to the power {sweep_power:.3f}: {sweep_start:.2f} s and {1000 * sweep_slope:.2f} ms a run, off by {100 * sweep_off:.1f} % at most.

{table(["depth", "µs a step", "lowest–highest", "µs a layer"], steps)}

{table(["runs", "ms in all", "lowest–highest", "ms a run"], sweeps)}"""


def _cells(times: list[float], unit: float, count: int) -> list[str]:
    middle, low, high = (unit * value for value in spread(times))
    return [f"{middle:,.0f}", f"{low:,.0f}–{high:,.0f}", f"{middle / count:,.2f}"]
