"""RESULTS.md and its picture, from the raw numbers of all parts that have been measured."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks import compiled, cures, engines, figure, linear, machine, memory, norms, stack, start, step, sweep, tracking
from benchmarks.timing import Options

__all__ = ["PARTS", "keep", "rebuild"]

HERE = Path(__file__).resolve().parent
PARTS: dict[str, ModuleType] = {
    "step": step,
    "numba": compiled,
    "norms": norms,
    "stack": stack,
    "cures": cures,
    "memory": memory,
    "linear": linear,
    "tracking": tracking,
    "start": start,
    "sweep": sweep,
    "engines": engines,
}

MADE = """`python -m benchmarks` measures all of this again, in some hours; `python -m benchmarks step sweep` measures some parts and keeps the
numbers of the others. It needs `pip install .[bench]`, and `.[engines]` for that part."""
HOW = """Every contender runs in a process of its own. All of a cell are pinned to the same core, with one thread each, and take turns round by round,
so that what else the machine does meets all of them alike. A number is the median of the rounds ({rounds}), a ratio that of the rounds' ratios."""


def keep(part: str, raw: Any, options: Options, folder: Path = HERE) -> None:
    """Store a part's numbers with what they were measured on."""
    (folder / "raw").mkdir(exist_ok=True)
    written = {"rounds": options.rounds, "machine": machine.describe(), "found": raw}
    (folder / "raw" / f"{part}.json").write_text(json.dumps(written, separators=(",", ":")) + "\n")


def rebuild(folder: Path = HERE) -> Path:
    """The page, from all stored parts; closing words are kept in WORDS.md."""
    stored = {part: json.loads(file.read_text()) for part in PARTS if (file := folder / "raw" / f"{part}.json").exists()}
    figure.draw({part: each["found"] for part, each in stored.items()}, folder / "ratios.png")
    rounds = ", ".join(f"{part} {each['rounds']}" for part, each in stored.items())
    pieces = [
        "# What it costs, side by side",
        MADE,
        "## How it was measured",
        HOW.format(rounds=rounds),
        machine.section({part: each["machine"] for part, each in stored.items()}),
        *(["![Ratios of all cells](ratios.png)"] if (folder / "ratios.png").exists() else []),
    ]
    for part, each in stored.items():
        module = PARTS[part]
        pieces += [f"## {module.TITLE}", module.section(each["found"])]
    words = HERE / "WORDS.md"
    pieces += [words.read_text().strip()] if words.exists() else []
    page = folder / "RESULTS.md"
    page.write_text("\n\n".join(pieces) + "\n")
    return page
