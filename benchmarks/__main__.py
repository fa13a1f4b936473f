"""`python -m benchmarks [part …] [rounds=5] [core=1] [share=256]`: measure parts, all by default, and write benchmarks/RESULTS.md.

`python -m benchmarks page` measures nothing and makes the page of the stored numbers again.
"""

import os
import sys
from dataclasses import fields
from time import perf_counter

from benchmarks.page import PARTS, keep, rebuild
from benchmarks.timing import Options

PAGE = "page"
BOUNDS = {"rounds": range(1, 101), "core": sorted(os.sched_getaffinity(0)), "share": range(8, 257, 8)}


def read(words: list[str]) -> tuple[list[str], Options]:
    """Parts and options; ends the process where a word is neither."""
    parts, values = [], {}
    for word in words:
        key, equals, value = word.partition("=")
        if word in (*PARTS, PAGE):
            parts.append(word)
        elif equals and key in BOUNDS and value.isdecimal() and int(value) in BOUNDS[key]:
            values[key] = int(value)
        elif equals and key in BOUNDS:
            allowed = BOUNDS[key]
            step = f" in steps of {allowed.step}" if isinstance(allowed, range) and allowed.step > 1 else ""
            _refuse(f"{word}: must be a whole number from {allowed[0]} to {allowed[-1]}{step}")
        else:
            _refuse(f"{word}: must be one of {', '.join(PARTS)}, {PAGE}, or {', '.join(f'{it.name}=' for it in fields(Options))}")
    return [part for part in parts or PARTS if part != PAGE], Options(**values)


def _refuse(line: str) -> None:
    print(f"benchmarks: {line}", file=sys.stderr)
    raise SystemExit(2)


def main() -> None:
    parts, options = read(sys.argv[1:])
    for part in parts:
        start = perf_counter()
        keep(part, PARTS[part].measure(options), options)
        print(f"{part}: {perf_counter() - start:.0f} s", flush=True)
        rebuild()
    print(rebuild())


if __name__ == "__main__":
    main()
