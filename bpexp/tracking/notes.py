"""What happened, in words: the two sentences on a run's page, the table on a sweep's.  Every number in them is read off the records."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bpexp.config import RunConfig
from bpexp.core.records import Records

__all__ = ["ABORTED", "Ended", "Row", "aborted_note", "markdown_table", "own_words", "plain", "run_note", "table_row"]

Row = tuple[str, str, str, str, str]
ABORTED = "This run was **"  # how the note of a run begins that did not come to its end
HEAD: Row = ("run", "loss", "accuracy", "decades lost per layer", "outcome")


@dataclass(frozen=True)
class Ended:
    """What a sweep needs to know of a run that is over: where it is, and what became of it (trained, stuck, untrained, diverged; failed, killed)."""

    run_id: str
    name: str
    outcome: str
    summary: Mapping[str, float]


def run_note(config: RunConfig, records: Records) -> str:
    """Two sentences: what became of the loss, and what became of the gradient."""
    return f"{_loss_sentence(config, records)} {_gradient_sentence(records)}"


def aborted_note(status: str, told: str) -> str:
    return f"{ABORTED}{status}**: {plain(told)}"


def _loss_sentence(config: RunConfig, records: Records) -> str:
    net = f"A net of {config.depth} {'layer' if config.depth == 1 else 'layers'}"
    summary = records.summary
    if records.outcome == "diverged":
        return f"{net} **diverged** at step {records.diverged_at:,}: its loss or a weight stopped being finite."
    loss, plateau = summary["final_loss"], records.plateau
    accuracy = f" and a test accuracy of {summary['final_accuracy_test']:.1%}" if "final_accuracy_test" in summary else ""
    if records.outcome == "untrained":
        return f"{net} is **untrained**: it has a training loss of {loss:.4g} (a constant output: {plateau:.4g}){accuracy}."
    if records.outcome == "stuck":
        return (
            f"{net} was **stuck**: after {config.steps:,} steps it has a training loss of {loss:.4g}{accuracy}, "
            f"and the best output that ignores its input has {plateau:.4g}."
        )
    return f"{net} **trained**: after {config.steps:,} steps it has a training loss of {loss:.4g} (a constant output: {plateau:.4g}){accuracy}."


def _gradient_sentence(records: Records) -> str:
    norms = records.profile("log10_delta_norm", 0)
    if len(norms) < 2 or not np.isfinite(norms[[0, -1]]).all():
        return "At step 0 there is no slope of the gradient over layers to speak of."
    ends = f"at step 0 ‖δ‖ is {_power(norms[-1])} at the output layer and {_power(norms[0])} at layer 1"
    slope = records.delta_decades_per_layer
    if slope is None:
        return f"Before any update, {ends}."
    verb = "loses" if slope > 0 else "gains"
    return f"On its way back the gradient {verb} {abs(slope):.3g} decades per layer: {ends}."


def _power(log10: float) -> str:
    """10**log10 in scientific notation, also beyond the range of floats."""
    exponent = int(np.floor(log10))
    return f"{10 ** (log10 - exponent):.1f}e{exponent:+03d}"


def table_row(name: str, summary: Mapping[str, float], outcome: str) -> Row:
    """One run's line in the table that ends a sweep; what a run has not is a dash."""

    def cell(key: str, form: str) -> str:
        return format(summary[key], form) if key in summary else "–"

    return name, cell("final_loss", "#.4g"), cell("final_accuracy_test", ".1%"), cell("delta_decades_per_layer", ".3f"), outcome


def own_words(names: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Of each name, given in words, those that not all of them have: what is special about it."""
    shared = set(names[0]).intersection(*names[1:]) if names else set()
    return [tuple(word for word in words if word not in shared) for words in names]


def markdown_table(rows: Iterable[Sequence[Any]]) -> str:
    lines = [HEAD, ("---", *["---:"] * 3, "---"), *[[plain(str(cell)) for cell in row] for row in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(text: str) -> str:
    """A text of one line that markdown shows as it is: a name is no tag, no link, no picture, no cell's end."""
    return re.sub(r"([\\`*\[\]<>|~&!])", r"\\\1", " ".join(text.split()))
