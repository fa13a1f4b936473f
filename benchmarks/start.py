"""From the command line to `--help` and back."""

from typing import Any

from benchmarks.commands import folder, seconds
from benchmarks.tables import table
from benchmarks.timing import Options, spread

__all__ = ["measure", "section"]

TITLE = "Start"
COMMANDS = {
    "python -m bpexp --help": ["-m", "bpexp", "--help"],
    'python -c "import hydra, numpy, pydantic"': ["-c", "import hydra, numpy, pydantic"],
    'python -c "import numpy"': ["-c", "import numpy"],
    'python -c "import mlflow"': ["-c", "import mlflow"],
    'python -c "import torch"': ["-c", "import torch"],
}


def measure(options: Options) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with folder() as cwd:
        for turn in range(options.rounds + 1):
            for name, words in COMMANDS.items():
                took = seconds(words, cwd)
                if turn:  # the first one reads files from the disk
                    found[name].append(round(took, 4))
    return found


def section(found: dict[str, Any]) -> str:
    lines = []
    for name, times in found.items():
        middle, low, high = spread(times)
        lines.append([f"`{name}`", f"{1000 * middle:.0f}", f"{1000 * low:.0f}–{1000 * high:.0f}"])
    ours, floor = (spread(found[name])[0] for name in list(COMMANDS)[:2])
    return f"""A whole process, files in the disk's cache, and what imports alone take.

`--help` takes {1000 * ours:.0f} ms, {1000 * (ours - floor):.0f} ms more than the imports of the packages that it cannot do without.

{table(["command", "ms", "lowest–highest"], lines)}"""
