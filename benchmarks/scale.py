"""What 10⁴, 10⁶ and 10⁸ runs would take: `python -m benchmarks.scale [measure [part …]]` writes the tables of docs/scale.md and prints them.

`measure` first measures the parts that are named, or all, and keeps their numbers in benchmarks/raw/scale.json; it takes minutes, most of
them at the stores, and needs what `benchmarks.stores` needs.
"""

import json
import os
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.costs import measured
from benchmarks.outlook import BLOCKS
from benchmarks.timing import ROOT

PAGE = ROOT / "docs" / "scale.md"
BLOCK = re.compile(r"(?<=<!-- scale: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)
KEPT = ROOT / "benchmarks" / "raw" / "scale.json"
PACKAGES = ("numpy", "hydra-core", "mlflow", "sqlalchemy")


def kept() -> dict[str, Any]:
    """Each part's numbers, with when and on what they were measured."""
    return dict(json.loads(KEPT.read_text())) if KEPT.exists() else {}


def keep(part: str, found: Any) -> None:
    KEPT.write_text(json.dumps(kept() | {part: {"on": _here(), "found": found}}, indent=1) + "\n")


def _here() -> dict[str, str]:
    names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    line = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit,
        "machine": f"{os.cpu_count()} cores of {names[0] if names else platform.machine()}, Python {platform.python_version()}, {versions}",
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def written(page: str, kept: dict[str, Any]) -> str:
    """The page with its tables made again: what stands between `<!-- scale: NAME -->` and `<!-- end -->`."""
    return BLOCK.sub(lambda found: f"{found[1]}{found[2]}\n{BLOCKS[found[1]](kept)}\n\n", page)


def main(words: list[str]) -> None:
    if words and (words[0] != "measure" or not set(words[1:]) <= set(measured)):
        print(f"scale: {' '.join(words)}: must be nothing, or measure and some of {', '.join(measured)}", file=sys.stderr)
        raise SystemExit(2)
    for part in (words[1:] or measured) if words else ():
        keep(part, measured[part]())
    text = written(PAGE.read_text(), kept())
    PAGE.write_text(text)
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
