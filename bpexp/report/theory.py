"""`python -m bpexp.theory`: theory's numbers for a net of equal layers, in a table, and its predicted profile, in a figure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, Strict

from bpexp.cli import arguments
from bpexp.config import HIDDEN, MAX_DEPTH, MAX_WIDTH, Finite, Help, OneOf

if TYPE_CHECKING:
    from bpexp.report.theory_numbers import Net, Section

__all__ = ["TheoryConfig", "main"]

DESCRIPTION = """python -m bpexp.theory [key=value …]: what mean-field theory says of a net of equal layers, without data or training.

A table of its numbers, and the predicted profile of its gradients as a figure, into OUT/."""

ACTIVATION = OneOf(tuple(sorted(HIDDEN)))
PIPED_WIDTH = 250  # a file has room: nothing is folded


@dataclass
class TheoryConfig:
    """A net of equal layers, all with the same activation."""

    activation: Annotated[str, Strict(), ACTIVATION, AfterValidator(ACTIVATION.check), Help("activation of all layers")] = "sigmoid"
    sigma_w2: Annotated[float, Strict(), Gt(0), Finite, Help("fan_in times the variance of a weight")] = 1.0
    sigma_b2: Annotated[float, Strict(), Ge(0), Finite, Help("variance of a bias")] = 0.0
    depth: Annotated[int, Strict(), Ge(2), Le(MAX_DEPTH), Help("weight layers")] = 100
    width: Annotated[int, Strict(), Ge(1), Le(MAX_WIDTH), Help("neurons in each layer; null: endlessly many")] | None = None
    q_input: Annotated[float, Strict(), Gt(0), Finite, Help("mean square of an input")] = 1.0
    classes: Annotated[int, Strict(), Ge(2), Le(MAX_WIDTH), Help("classes, equally many samples of each, for the losses of a stuck net")] = 10
    out: Annotated[str, Strict(), Help("folder of the figure")] = "reports/theory"


def main(argv: Sequence[str]) -> int:
    """Print the table, draw the figure; the exit code."""
    config = arguments(TheoryConfig, argv, DESCRIPTION)
    from bpexp.report.page import told  # after the arguments: --help and refusals need no pandas
    from bpexp.report.theory_numbers import Net, sections

    net = Net.of(config)
    show(net.text, sections(net))
    return told(_drawn(net, Path(config.out)), config.out)


def _drawn(net: "Net", folder: Path) -> Iterator[Path]:
    from bpexp.report.page import save_figure
    from bpexp.report.picture import style
    from bpexp.report.theory_figure import predicted_profile

    folder.mkdir(parents=True, exist_ok=True)
    with style():
        figure = predicted_profile(net)
    yield from save_figure(figure, folder, net.file_name)


def show(title: str, parts: "Sequence[Section]") -> None:
    """The table on the screen; plain, and wide enough for a line per row, where it is no terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    rows = [row for part in parts for row in part.rows]
    symbols, values, names = (max(len(getattr(row, name)) for row in rows) for name in ("symbol", "value", "name"))
    console.print(title)
    for part in parts:
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0), expand=console.is_terminal)
        table.add_column(no_wrap=True, min_width=symbols)
        table.add_column(no_wrap=True, min_width=values)
        table.add_column(ratio=1, min_width=None if console.is_terminal else names)
        table.add_column(ratio=1, style="dim")
        for row in part.rows:
            table.add_row(row.symbol, row.value, row.name, row.source)
        console.print(f"\n{part.title}", style="bold")
        console.print(table)
    console.print()
