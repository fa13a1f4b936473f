"""`python -m bpexp.theory`: theory's numbers for a net of equal layers, in a table, and its predicted profile, in a figure."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bpexp.cli import arguments
from bpexp.report.theory_keys import TheoryConfig

if TYPE_CHECKING:
    from bpexp.report.theory_numbers import Net, Section

__all__ = ["main"]

DESCRIPTION = """python -m bpexp.theory [key=value …]: what mean-field theory says of a net of equal layers, without data or training.

A table of its numbers, and the predicted profile of its gradients as a figure, into OUT/."""

PIPED_WIDTH = 250  # a file has room: nothing is folded


def main(argv: Sequence[str]) -> int:
    """Print the table, draw the figure; the exit code."""
    config = arguments(TheoryConfig, argv, DESCRIPTION)
    from bpexp.report.page import told  # after the arguments: --help and refusals need no pandas
    from bpexp.report.theory_numbers import Net

    return told(_written(Net.of(config), Path(config.out)), config.out)


def _written(net: "Net", folder: Path) -> Iterator[Path]:
    """The table on the screen, the figure into a folder that is made first: where it can't be, nothing else is done."""
    from bpexp.report.page import save_figure
    from bpexp.report.picture import style
    from bpexp.report.theory_figure import predicted_profile
    from bpexp.report.theory_numbers import sections

    folder.mkdir(parents=True, exist_ok=True)
    show(net.text, sections(net))
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
