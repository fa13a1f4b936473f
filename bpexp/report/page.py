"""A report's folder: figures as PNG and SVG with their numbers as CSV, runs.csv, and index.html, which shows them.

The page needs nothing but itself: figures, numbers, styles and scripts are in it.  The same runs give the same bytes: no dates, no random ids,
nothing of the machine.
"""

import re
import unicodedata
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, Template, select_autoescape
from markupsafe import Markup
from matplotlib.figure import Figure

from bpexp.cli import refuse
from bpexp.config import ConfigError, Fault
from bpexp.report import words
from bpexp.report.figures import PICTURES, draw
from bpexp.report.findings import findings
from bpexp.report.inline import inlined
from bpexp.report.interactive import interactive
from bpexp.report.picture import Table, style
from bpexp.report.runs_table import heads, lines, link
from bpexp.report.selection import Study, words_of
from bpexp.tracking.reader import Runs

__all__ = ["Shown", "folder_name", "glued", "render", "save_figure", "save_table", "save_text", "template", "told", "write"]

FORMATS: dict[str, dict[str, Any]] = {"png": {}, "svg": {"metadata": {"Date": None}}}
TEMPLATES = Path(__file__).with_name("templates")
TEMPORARY = ".tmp"  # how a file's name ends until it is whole


@dataclass(frozen=True)
class Shown:
    """A picture on the page."""

    name: str
    title: str
    sentence: str
    notes: tuple[str, ...]
    tables: tuple[Table, ...] = ()
    drawing: str = ""  # the figure as a part of the page


def folder_name(runs: Runs) -> str:
    """The slug of the sweep's name and the first letters of its id, of each of several; without one, of the lone run's, else the experiment's."""
    lone = runs.runs["run_id"].iloc[0] if len(runs.runs) == 1 else f"experiment-{runs.experiment_id}"
    plain = unicodedata.normalize("NFKD", runs.sweep_name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60].strip("-")
    if runs.sweeps:
        return "-".join([slug, *(origin.sweep_id[:8] for origin in runs.sweeps)])
    ending = re.sub(r"[^A-Za-z0-9-]+", "-", str(runs.sweep_id or lone))
    return f"{slug or 'sweep'}-{ending if runs.sweep_id is None and len(runs.runs) != 1 else ending[:8]}"


def write(runs: Runs, folder: Path, refresh: int | None = None) -> Iterator[Path]:
    """Write a report, yielding each file as it is done, index.html last.  Files of pictures that no longer apply are removed.

    `refresh`: seconds after which a browser is to read the page again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study, pictures = Study(runs), []
    for entry, picture in draw(study):
        yield from save_figure(picture.figure, folder, entry.name)
        yield save_table(folder / f"{entry.name}.csv", picture.numbers)
        told = (glued(picture.sentence), tuple(map(glued, picture.notes)))
        drawing = inlined((folder / f"{entry.name}.svg").read_text(encoding="utf-8"), entry.name, f"{entry.title}. {told[0]}")
        pictures.append(Shown(entry.name, entry.title, *told, picture.tables, drawing))
    for name in {entry.name for entry in PICTURES} - {shown.name for shown in pictures}:
        for ending in (*FORMATS, "csv"):
            (folder / f"{name}.{ending}").unlink(missing_ok=True)
    yield save_table(folder / "runs.csv", runs.runs)
    yield save_text(folder / "index.html", render(study, pictures, refresh))


def save_figure(figure: Figure, folder: Path, name: str) -> Iterator[Path]:
    """Write a figure in all formats; the first lays it out for all of them."""
    for ending, options in FORMATS.items():
        path = folder / f"{name}.{ending}"
        with style():
            figure.savefig(path, **options)
        figure.set_layout_engine("none")  # to lay it out takes as long as to draw it
        yield path


def told(files: Iterable[object], out: str) -> int:
    """Print each file (or a line about it) as it is written; the exit code.  Refused in a line where `out` can't be written to."""
    try:
        for line in files:
            print(line, flush=True)
    except OSError as error:
        refuse(ConfigError([Fault("out", out, f"cannot be written to ({error.strerror or error})")]))
    return 0


def save_table(path: Path, frame: pd.DataFrame) -> Path:
    return save_text(path, frame.to_csv(index=False, lineterminator="\n"))


def save_text(path: Path, text: str) -> Path:
    """Write a file that is at any time the old one or the new one, as a whole: a browser may be reading it."""
    temporary = path.with_name(path.name + TEMPORARY)
    temporary.write_text(text, encoding="utf-8", newline="\n")
    return temporary.replace(path)


# ---------------------------------------------------------------------------------------------- the page


def template(name: str) -> Template:
    """A page of `templates/`, which escapes what it is given."""
    environment = Environment(
        loader=PackageLoader("bpexp.report"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["source"] = source
    environment.filters["sha256"] = lambda text: b64encode(sha256(text.encode()).digest()).decode()  # as a browser checks it
    return environment.get_template(name)


@cache
def source(name: str) -> Markup:
    """A style sheet or script of `templates/`, as it is."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704 (no user's)


def render(study: Study, pictures: Sequence[Shown], refresh: int | None = None) -> str:
    """The page that shows these pictures, and all runs in a table."""
    runs = study.runs
    return template("index.html.j2").render(
        name=runs.sweep_name,
        refresh=refresh,
        sweep=None if runs.sweep_id is None else (runs.sweep_id, link(runs, runs.sweep_id)),
        sweeps=[(origin.label, origin.name or origin.label, origin.sweep_id, link(runs, origin.sweep_id)) for origin in runs.sweeps],
        experiment_id=runs.experiment_id,
        summary=_summary(study),
        swept=_swept(study),
        follows=_followers(study),
        fixed=[(words_of(name), words.value(value)) for name, value in study.fixed.items()],
        findings=findings(study),
        pictures=pictures,
        heads=heads(study),
        rows=lines(study),
        data=interactive(study),
    )


def glued(text: str) -> str:
    """No line breaks between a symbol and its value."""
    return text.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")


def _swept(study: Study) -> list[tuple[str, str]]:
    """Each swept key, and the seed where there are several, with its values."""
    found = [(key.words, words.listing(map(key.written, key.levels), most=12)) for key in study.swept]
    return [*found, ("seed", words.listing(map(str, study.seeds), most=12))] if len(study.seeds) > 1 else found


def _summary(study: Study) -> str:
    """How many runs there are, what became of them, and which have nothing to show."""
    frame = study.frame
    found = [f"{n:,} {outcome}" for outcome in ("trained", "stuck", "untrained", "diverged") if (n := int((frame["outcome"] == outcome).sum()))]
    drawn = {run_id for setting in study.settings for run_id in setting.runs}
    bare = frame[~frame["run_id"].isin(drawn | study.measured_again)]
    text = words.count(len(frame), "run") + (f": {words.listing(found)}" if found else "") + "."
    if len(bare):
        statuses = bare["status"].str.lower().value_counts(sort=False).sort_index()
        text += f" Not in the pictures, for want of records: {words.listing(f'{n:,} {status}' for status, n in statuses.items())}."
    if again := len(study.measured_again):
        text += f" {words.count(again, 'run')} {'is' if again == 1 else 'are'} not in the pictures: others are the same with more probes."
    return text


def _followers(study: Study) -> list[str]:
    """A sentence for each key that decides on others."""
    led = {leader: [words_of(key) for key, other in study.follows.items() if other == leader] for leader in study.follows.values()}
    return [f"The {words.listing(keys)} {'differs' if len(keys) == 1 else 'differ'} with the {words_of(leader)}." for leader, keys in led.items()]
