"""The same sweep under each engine that a launcher can hand its stacks to, all of them on this machine."""

from typing import Any

from benchmarks.commands import folder, seconds
from benchmarks.tables import table
from benchmarks.timing import Options, spread

__all__ = ["ENGINES", "measure", "section"]

TITLE = "Engines"
SWEEP = ("-m", "bpexp", "-m", "depth=20,50", "seed=range(0,32)", "width=32", "steps=5000", "hydra.launcher.max_runs=8", "hydra.launcher.n_jobs=2")
ENGINES = {
    "processes, the default": ("hydra.launcher.backend=processes",),
    "loky": ("hydra.launcher.backend=loky",),
    "dask": ("hydra.launcher.backend=dask",),
    "ray": ("hydra.launcher.backend=ray",),
    "submitit, locally": ("hydra.launcher.backend=submitit", "hydra.launcher.submitit.cluster=local"),
    "one process": ("hydra.launcher.n_jobs=1",),
}


def measure(options: Options) -> dict[str, list[float]]:
    """Wall seconds of whole commands, from an empty folder to the end of the process."""
    found: dict[str, list[float]] = {name: [] for name in ENGINES}
    for _ in range(max(1, options.rounds // 2)):
        for name, words in ENGINES.items():
            with folder() as cwd:
                found[name].append(round(seconds([*SWEEP, *words], cwd), 2))
            print(name, found[name], flush=True)
    return found


def section(found: dict[str, Any]) -> str:
    first = spread(next(iter(found.values())))[0]
    lines = []
    for name, times in found.items():
        middle, low, high = spread(times)
        lines.append([name, f"{middle:.1f}", f"{low:.1f}–{high:.1f}", f"{middle / first:.2f}"])
    command = " ".join(["python", *(f"'{word}'" if "(" in word else word for word in SWEEP)])
    return f"""`{command}`:
64 runs in 8 stacks, from an empty folder to the end of the process, `hydra.launcher.backend` as told. What they differ in is mostly
their start, which is the same for a sweep of hours; submitit starts a process for each stack.

{table(["engine", "seconds", "lowest–highest", "over the default"], lines)}"""
