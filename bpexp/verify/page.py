"""The folder of verdicts: index.html with the table and every study's figures, verdicts.json with all numbers."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from bpexp.report import words
from bpexp.report.page import Shown, glued, save_figure, save_table, save_text, template
from bpexp.report.papers import FIGURES
from bpexp.report.picture import style
from bpexp.report.selection import Study
from bpexp.sweep.names import short
from bpexp.verify.screen import HEADS, cells
from bpexp.verify.verdicts import Judged

__all__ = ["Page"]

MOST_VALUES = 1000  # of a row that verdicts.json lists one by one
VERDICTS = {"holds": "hold", "undecided": "undecided", "fails": "fail"}  # of several claims


@dataclass
class Page:
    """The folder, which is written anew whenever a study has been judged: an interrupted table is one too."""

    folder: Path
    quick: bool
    pictures: dict[str, list[Shown]] = field(default_factory=dict)  # of each study, drawn once
    undrawn: list[str] = field(default_factory=list)  # why figures are missing

    def write(self, studies: Sequence[Judged]) -> None:
        """Write the page, the numbers, and the figures of studies that are new."""
        for judged in studies:
            if judged.name not in self.pictures:
                self.pictures[judged.name] = list(self._pictures(judged))
        numbers = json.dumps([_numbers(judged) for judged in studies], indent=1, ensure_ascii=False, allow_nan=False)
        save_text(self.folder / "verdicts.json", f"{numbers}\n")
        sections = [_section(judged, self.pictures[judged.name]) for judged in studies]
        head = {"summary": _summary(studies), "quick": self.quick, "undrawn": self.undrawn, "heads": HEADS}
        save_text(self.folder / "index.html", template("verdicts.html.j2").render(**head, studies=sections))

    def _pictures(self, judged: Judged) -> Iterator[Shown]:
        """A study's figures.  A sweep may lack what a figure needs: then that is told, and the verdicts stand."""
        if judged.runs is None:
            return
        study = Study(judged.runs)
        for name in judged.file.figures:
            file = f"{judged.name}-{name}" if name != judged.name else name
            try:
                with style():
                    picture = FIGURES[name](study)
                list(save_figure(picture.figure, self.folder, file))
                save_table(self.folder / f"{file}.csv", picture.numbers)
            except Exception as error:
                self.undrawn.append(f"study={judged.name}: figures={name}: can't be drawn of these runs ({type(error).__name__}: {short(error)})")
            else:
                yield Shown(file, judged.file.title, glued(picture.sentence), tuple(map(glued, picture.notes)), picture.tables)


def _summary(studies: Sequence[Judged]) -> str:
    """How much holds, and what does not."""
    rows = [verdict for judged in studies for verdict in judged.verdicts]
    counts = {word: sum(row.verdict == verdict for row in rows) for verdict, word in VERDICTS.items()}
    told = words.listing(f"{count:,} {word}" for word, count in counts.items() if count)
    unrun = [judged.name for judged in studies if judged.failure]
    text = f"{words.count(len(rows), 'claim')} in {len(studies)} {'study' if len(studies) == 1 else 'studies'}: {told or 'none judged'}."
    return text + (f" Could not be run: {words.listing(unrun)}." if unrun else "")


def _section(judged: Judged, pictures: Sequence[Shown]) -> dict[str, Any]:
    rows = []
    for _, group in groupby(judged.verdicts, lambda row: (row.claim, row.because)):
        together = list(group)
        spans = [len(together), *[0] * (len(together) - 1)]  # a claim is told once
        rows += [
            {"cells": cells(row), "verdict": row.verdict, "because": row.because, "span": span} for row, span in zip(together, spans, strict=True)
        ]
    return {
        "name": judged.name,
        "title": judged.file.title,
        "source": judged.file.source,
        "seconds": f"{judged.seconds:,.0f} s",
        "runs": words.count(len(judged.runs.runs), "run") if judged.runs else "no runs",
        "failure": judged.failure,
        "rows": rows,
        "pictures": pictures,
    }


def _numbers(judged: Judged) -> dict[str, Any]:
    """All that the table says, for programs; what is no number is null."""
    head = {"study": judged.name, "title": judged.file.title, "source": judged.file.source, "seconds": round(judged.seconds, 1)}
    checks = [asdict(row) for row in judged.verdicts]
    for check in checks:
        values = check["ours"]["values"]
        check["ours"] |= {"count": len(values), "values": values if len(values) <= MOST_VALUES else None}
    return head | {"failure": judged.failure or None, "checks": [_finite(check) for check in checks]}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
