"""What 10⁴, 10⁶ and 10⁸ runs would take: `python -m benchmarks.scale [measure [part …]]` writes the tables of docs/scale.md and prints them.

`measure` first measures the parts that are named, or all, and keeps their numbers in benchmarks/raw/scale.json; it takes some ten minutes and needs
what `benchmarks.stores` needs.
"""

import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from typing import Any

from benchmarks.costs import measured
from benchmarks.timing import ROOT

KEPT = ROOT / "benchmarks" / "raw" / "scale.json"
PACKAGES = ("numpy", "hydra-core", "mlflow", "sqlalchemy")


def kept() -> dict[str, Any]:
    """Each part's numbers, with when and on what they were measured."""
    return dict(json.loads(KEPT.read_text())) if KEPT.exists() else {}


def keep(part: str, found: Any) -> None:
    KEPT.write_text(json.dumps(kept() | {part: {"on": _here(), "found": found}}, indent=1) + "\n")


def _here() -> dict[str, str]:
    names = [line.partition(":")[2].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]  # noqa: SIM115, PTH123
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit,
        "machine": f"{os.cpu_count()} cores of {names[0] if names else platform.machine()}, Python {platform.python_version()}, {versions}",
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def main(words: list[str]) -> None:
    if words and (words[0] != "measure" or not set(words[1:]) <= set(measured)):
        print(f"scale: {' '.join(words)}: must be nothing, or measure and some of {', '.join(measured)}", file=sys.stderr)
        raise SystemExit(2)
    for part in (words[1:] or measured) if words else ():
        keep(part, measured[part]())


if __name__ == "__main__":
    main(sys.argv[1:])
