"""Markdown tables of ratios, and the sentence that sums one up."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.timing import spread

__all__ = ["Group", "best", "mark", "microseconds", "name_of", "outcome", "progress", "ratios", "right", "table"]

Group = Mapping[str, Sequence[str]]  # a peer, and the contenders of which the best one counts
Found = Mapping[str, Mapping[str, Any]]  # of one cell, by contender: its times, or a note


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """All columns but those of words aligned to the right."""
    lines = [[str(cell) for cell in row] for row in rows]
    words = [all(not line[column][:1].isdigit() and not line[column].startswith("**") for line in lines) for column in range(len(head))]
    rule = [":--" if it else "--:" for it in words]
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(head), rule, *lines])


def best(found: Found, names: Sequence[str]) -> str | None:
    """The fastest of some contenders; None where none has a time."""
    timed = [name for name in names if found.get(name, {}).get("us")]
    return min(timed, key=lambda name: spread(found[name]["us"])[0], default=None)


def ratios(found: Found, ours: str, names: Sequence[str]) -> list[float]:
    """Ours over the best of the others, round by round."""
    other = best(found, names)
    if other is None or not found.get(ours, {}).get("us"):
        return []
    return [a / b for a, b in zip(found[ours]["us"], found[other]["us"], strict=True)]


def mark(values: Sequence[float]) -> str:
    """Median ratio with its lowest and highest round; bold where it is not won."""
    if not values:
        return "–"
    middle, low, high = spread(values)
    shown = f"{middle:.2f}" if middle < 1.0 else f"**{middle:.2f}**"
    return f"{shown} ({low:.2f}–{high:.2f})"


def microseconds(found: Found, names: Sequence[str]) -> str:
    """The best one's median, with which one it is where there is a choice."""
    name = best(found, names)
    if name is None:
        return "; ".join(dict.fromkeys(found[it]["note"] for it in names if "note" in found.get(it, {}))) or "–"
    value = spread(found[name]["us"])[0]
    shown = f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"
    return shown if len(names) == 1 else f"{shown} {name.partition(' ')[2]}"


def name_of(row: Mapping[str, Any]) -> str:
    """A cell in words, as `depth 50, width 64, batch 32`."""
    cell = row["cell"]
    words = [f"{key} {cell[key]}" for key in ("depth", "width", "batch")]
    words += [f"{cell['runs']} runs"] if cell["runs"] > 1 else []
    return ", ".join(words + [f"{key}={value}" for key, value in cell["keys"].items()])


def progress(row: Mapping[str, Any], ours: str, peers: Group) -> str:
    """A cell in a line, for who waits."""
    return "; ".join([name_of(row), *(f"{peer} {mark(ratios(row['found'], ours, names))}" for peer, names in peers.items())])


def outcome(rows: Sequence[Mapping[str, Any]], ours: str, peers: Group) -> str:
    """Cells won against each peer, the middle ratio and the worst cell; a line for each."""
    sentences = []
    for peer, names in peers.items():
        measured = {name_of(row): spread(each)[0] for row in rows if (each := ratios(row["found"], ours, names))}
        if not measured:
            continue
        won, worst = sum(ratio < 1.0 for ratio in measured.values()), max(measured, key=lambda name: measured[name])
        middle = float(np.median(list(measured.values())))
        sentences.append(f"- Against {peer}: {won} of {len(measured)} cells won, median ratio {middle:.2f}, worst {measured[worst]:.2f} ({worst}).")
    return "\n".join(sentences)


def right(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Of how many norms each contender is right, and the largest error of a loss."""
    lines = []
    for name in names:
        checks = [row["found"][name]["check"] for row in rows if "check" in row["found"].get(name, {})]
        if checks:
            good, zero, every = (sum(check[key] for check in checks) for key in ("right", "zero", "of"))
            lines.append((name, f"{good:,} of {every:,}", f"{zero:,}", f"{max(check['loss'] for check in checks):.1e}"))
    return table(["contender", "norms right to 1e-4", "norms that are 0", "largest relative error of a loss"], lines)
