"""Tables of what the code knows, made when the site is built: a page asks for one with a comment, which readers of the repository don't see.

    <!-- table: keys bpexp.status:StatusConfig -->

The first word is a function of this module, the others are what it is told.  What is unknown ends the build.
"""

import csv
import re
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from importlib import import_module
from inspect import getdoc, signature
from math import isfinite
from operator import getitem
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

from bpexp.cli import REFUSED
from bpexp.config import TABLES, RunConfig, blanks, described, written
from bpexp.core.activations import ACTIVATIONS
from bpexp.core.paths import count_multiplications
from bpexp.core.probes import PROBES
from bpexp.core.rows import Row
from bpexp.datasets import COMMON, DATASETS
from bpexp.stopping import INTERRUPTED, TERMINATED
from bpexp.sweep.settings import Settings
from bpexp.theory.mean_field import NoCriticalPointError, critical, settled

COMMENT = re.compile(r"^<!-- table: (?P<words>[^>]+?) -->$", re.MULTILINE)
SET = re.compile(r"^(?P<indent> *)(?P<key>\w+): (?P<value>.*?) # (?P<text>.+)$", re.MULTILINE)  # a line of a file in conf/
NUMBER = re.compile(r"[−\d.,]+|none|∞")
HYDRAS = {"_target_", "max_batch_size"}  # keys of every such file
ROOT = Path(__file__).parents[2]

Rows = Iterable[Sequence[str]]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 (MkDocs calls it by names)
    """The page with its tables."""

    def table(found: re.Match[str]) -> str:
        name, *words = found["words"].split()
        if name not in MAKERS:
            raise PluginError(f"{page.file.src_uri}: there is no table {name}; there are {', '.join(MAKERS)}")
        try:
            return MAKERS[name](*words)
        except (AttributeError, LookupError, ModuleNotFoundError, OSError, TypeError) as error:
            raise PluginError(f"{page.file.src_uri}: table {found['words']}: {error}") from error

    return COMMENT.sub(table, markdown)


def ruled(head: Sequence[str], rows: Rows) -> str:
    """A table in Markdown; numbers stand to the right."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    rules = ["---:" if all(NUMBER.fullmatch(cell) for cell in column) else "---" for column in zip(*cells, strict=True)]
    lines = [head, rules, *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(text: str) -> str:
    return f"`{text}`"


def named(name: str, place: str) -> str:
    """A name that links can point to."""
    return f'<code id="{place}">{name}</code>'


def first_sentence(thing: object) -> str:
    """Of its documentation, up to the first full stop."""
    paragraph = (getdoc(thing) or "").partition("\n\n")[0].replace("\n", " ")
    return re.split(r"(?<! al)\.(?= +[A-Z]|$)", paragraph, maxsplit=1)[0]


# ---------------------------------------------------------------------------------------------- keys


def keys(place: str, group: str | None = None) -> str:
    """The keys of a schema, `module:Class`; of a group of it, of `top`, those of none.  Anchors of a command's keys begin with its module's name."""
    module, _, name = place.partition(":")
    schema = getattr(import_module(module), name)
    rows = [row for row in described(schema, schema()) if group is None or (row[0].partition(".")[0] if "." in row[0] else "top") == group]
    if not rows:
        raise LookupError(f"{name} has no keys in {group}")
    before = "" if schema is RunConfig else f"{module}-"
    return ruled(
        ("key", "default", "meaning", "allowed"),
        ((named(key, before + key), code(_default(schema, key, default)), text, _names(allowed)) for key, default, text, allowed in rows),
    )


def _default(schema: type, key: str, default: str) -> str:
    """As one types it; of a run's key null where the value follows from another key, which in a configuration fills it in."""
    return written(reduce(getitem, key.split("."), blanks())) if schema is RunConfig else default


def _names(allowed: str) -> str:
    """The names that are allowed, as code."""
    return re.sub(r"(?<=one of )[\w, ]+", lambda found: ", ".join(map(code, found.group().split(", "))), allowed)


def group_keys(name: str) -> str:
    """The keys of a file in conf/hydra/ with what its comments say of them; bounds, where the launcher's own schema has some."""
    text = (ROOT / "conf" / "hydra" / f"{name}.yaml").read_text()
    found = [(_group_at(text, match) + match["key"], match["value"], match["text"]) for match in SET.finditer(text)]
    if silent := set(_leaves(yaml.safe_load(text))) - HYDRAS - {key for key, _, _ in found}:
        raise LookupError(f"conf/hydra/{name}.yaml says nothing of {', '.join(silent)}")
    bounds = {key: allowed for key, _, _, allowed in described(Settings, Settings())}
    part = name.partition("/")[0]
    rows = ((named(f"hydra.{part}.{key}", f"hydra.{part}.{key}"), code(value), told, bounds.get(key, "")) for key, value, told in found)
    return ruled(("key", "default", "meaning", "allowed"), rows)


def _leaves(values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        yield from (f"{key}.{inner}" for inner in _leaves(value)) if value and isinstance(value, Mapping) else [key]


def _group_at(text: str, match: re.Match[str]) -> str:
    """`submitit.` before an indented key: the last line before it that is not."""
    before = re.findall(r"^(\w+):", text[: match.start()], re.MULTILINE)
    return f"{before[-1]}." if match["indent"] else ""


# ---------------------------------------------------------------------------------------------- options


def options(key: str) -> str:
    """The options of a table of the core, each with its equation, the keys of its group that it takes, and what it needs."""
    rows = ((_cure(key, name), row.equation, _taken(row), _needs(row)) for name, row in TABLES[key].items())
    return ruled(("option", "equation", "its keys", "needs"), rows)


def _cure(key: str, name: str) -> str:
    return f"[`{key}={name}`](../cures.md#{key}{name})"


def _taken(row: Row) -> str:
    return ", ".join(code(f"{key}={written(default)}") for key, default in row.keys.items()) or "–"


def _needs(row: Row) -> str:
    return (
        "; ".join(" or ".join(code(f"{key.removesuffix('.name')}={written(value)}") for value in allowed) for key, allowed in row.needs.items())
        or "–"
    )


def datasets() -> str:
    """The data sets, with the keys that each takes."""
    own = {name: [code(f"data.{key}") for key in signature(function).parameters if key not in COMMON] for name, function in DATASETS.items()}
    rows = ((code(f"data={name}"), first_sentence(function), ", ".join(own[name]) or "–") for name, function in DATASETS.items())
    return ruled(("option", "what it is", "its keys"), rows)


def studies() -> str:
    """The files of conf/study/ that claim something."""
    found = {file.stem: yaml.safe_load(file.read_text()).get("study") for file in sorted((ROOT / "conf/study").glob("*.yaml"))}
    told = ((code(f"study={name}"), study["title"], study["source"]) for name, study in found.items() if study)
    silent = ", ".join(code(name) for name, study in found.items() if not study)
    return f"{ruled(('study', 'what it is about', 'source'), told)}\n\nWithout a claim of their own: {silent}."


# ---------------------------------------------------------------------------------------------- commands


def command(module: str, name: str | None = None) -> str:
    """What `--help` says of a command, and its keys, where it has some of its own."""
    found = import_module(module)
    text = f"``` text\n{found.DESCRIPTION}\n```"
    return f"{text}\n\n{keys(f'{module}:{name}')}" if name else text


def exit_codes() -> str:
    """Exit codes, with the numbers that the commands use."""
    hangup = 128 + signal.SIGHUP
    rows = (
        ("0", "all", "done; runs that diverged are done too: that is an outcome"),
        ("1", "`bpexp`", "a run has failed; a line for each says which and why"),
        ("1", "`bpexp.status`", "not all jobs are finished"),
        ("1", "`bpexp.sync`", "something still waits"),
        ("1", "`bpexp.verify`", "a claim does not hold or is undecided, or a figure could not be drawn"),
        ("1", "`bpexp.walkthrough`", "a result differs from the core's by more than rounding"),
        (str(REFUSED), "all", "the input is wrong: a line for each fault, nothing has been created"),
        (str(hangup), "`bpexp`", "the terminal was closed"),
        (str(INTERRUPTED), "`bpexp`, `bpexp.report`, `bpexp.ui`, `bpexp.verify`", "Ctrl-C"),
        (str(TERMINATED), "`bpexp`, `bpexp.ui`, `bpexp.verify`", "SIGTERM"),
    )
    return ruled(("code", "command", "meaning"), rows)


# ---------------------------------------------------------------------------------------------- records


def probes(which: str) -> str:
    """The probes that are `always` measured, or `chosen`: columns of layers.parquet."""
    chosen = [probe for probe in PROBES.values() if probe.always == (which == "always")]
    rows = ((named(probe.column, probe.column), code(probe.name), first_sentence(probe.measure)) for probe in chosen)
    return ruled(("column", "probe", "meaning"), rows)


def pictures() -> str:
    """The pictures of a report."""
    from bpexp.report.figures import PICTURES

    return ruled(("file", "title"), ((code(entry.name), entry.title) for entry in PICTURES))


# ---------------------------------------------------------------------------------------------- numbers


def example() -> str:
    """The table that ends the sweep of the report in reports/example/, from its numbers."""
    from bpexp.tracking.notes import markdown_table, table_row

    with (ROOT / "reports/example/runs.csv").open() as file:
        runs = list(csv.DictReader(file))
    told = ("final_loss", "final_accuracy_test", "delta_decades_per_layer")
    return markdown_table(table_row(run["name"], {key: float(run[key]) for key in told if run[key]}, run["outcome"]) for run in runs)


def multiplications(neurons: str, deepest: str) -> str:
    """Multiplications of both ways to a gradient, counted now."""
    n, rows = int(neurons), []
    for depth in range(1, int(deepest) + 1):
        paths, backprop = count_multiplications((n,) * (depth + 1))
        rows.append((str(depth), f"{n ** (depth - 1):,}", f"{paths:,}", f"{backprop:,}", f"{paths / backprop:,.1f}"))
    return ruled(("depth L", "paths from a weight of layer 1", "every path by itself", "backpropagation", "ratio"), rows)


def decades() -> str:
    """What mean-field theory says of each activation, with weights of variance 1/n, and at its critical point."""
    rows = []
    for name, phi in ACTIVATIONS.items():
        if not phi.elementwise:
            continue
        found = settled(phi, 1.0, 0.0)
        try:
            point = f"{critical(phi).sigma_w2:.4g}"
        except NoCriticalPointError:
            point = "none"
        lost = f"{found.decades_per_layer:.3f}" if isfinite(found.decades_per_layer) else "∞"
        rows.append((code(name), f"{phi.steepest:.4g}", f"{found.q:.3g}", f"{found.chi:.3g}", lost.replace("-", "−"), point))
    return ruled(("activation", "largest slope", "q*", "χ", "decades lost per layer", "critical σ_w²"), rows)


MAKERS: dict[str, Callable[..., str]] = {
    maker.__name__: maker
    for maker in (keys, group_keys, options, datasets, studies, command, exit_codes, probes, pictures, example, multiplications, decades)
}
