"""The file of a study: a sweep as Hydra reads it and, under `study:`, what the sweep is to show (docs/studies.md explains it by an example)."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AllowInfNan, ConfigDict, Strict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from bpexp.config import ConfigError, Fault, RunConfig, full_key, keys, nearest, unknown_key
from bpexp.measures import MEASURED, PREDICTED
from bpexp.report.papers import FIGURES
from bpexp.tracking.reader import FRAMES
from bpexp.verify.judge import TOLERANCES

__all__ = ["Check", "StudyFile", "find", "read"]

Text = Annotated[str, Strict()]
Number = Annotated[float, AllowInfNan(allow_inf_nan=False)]
PLAIN = ConfigDict(extra="forbid")
NAME = re.compile(r"[A-Za-z0-9_-]+")


@checked(config=PLAIN)
class Check:
    """A claim about some of a study's runs."""

    claim: Text  # in a sentence
    measure: Text  # a name in `bpexp.measures.MEASURED`
    tolerance: dict[Text, Any]  # exactly one of `bpexp.verify.judge.TOLERANCES`
    because: Text  # where the tolerance comes from
    options: dict[Text, Any] = field(default_factory=dict)  # of the measure
    where: dict[Text, Any] = field(default_factory=dict)  # the runs that it is about, by values of keys; empty: all
    each: list[Text] = field(default_factory=list)  # keys: a row for each combination of their values
    theory: dict[Text, Any] | None = None  # options of the prediction of the measure's name; None: there is none
    paper: Number | dict[Any, Number] | None = None  # the paper's number, or a number for each value of the key under `each`
    target: Literal["theory", "paper"] | None = None  # which of the two the measured number is held against

    def papers_number(self, values: Mapping[str, Any]) -> float | None:
        """The paper's number for the row with these values."""
        if not isinstance(self.paper, dict):
            return self.paper
        return next((number for value, number in self.paper.items() if value in values.values()), None)


@checked(config=PLAIN)
class StudyFile:
    """What a study is to show."""

    title: Text
    source: Text  # with the number of the equation or figure
    checks: list[Check]
    figures: list[Text] = field(default_factory=list)  # names in `bpexp.report.papers.FIGURES`
    frames: list[Text] = field(default_factory=lambda: list(FRAMES))  # the records that checks and figures need, besides a row per run
    quick: list[Text] = field(default_factory=list)  # words that make the sweep small enough to run after every change


def find(folders: Iterable[Path]) -> dict[str, Path]:
    """The files in `study/` of these folders that claim something, by name; of two with one name that of the later folder."""
    files = {file.stem: file for folder in folders for file in sorted((folder / "study").glob("*.yaml"))}
    return {name: file for name, file in files.items() if "study" in _load(file)}


def read(path: Path) -> StudyFile:
    """A study's file, checked.  Raises `ConfigError` with every fault."""
    if not NAME.fullmatch(path.stem):
        raise ConfigError([Fault("study", path.stem, "must be a file whose name has letters, digits, - and _ only: its figures are named after it")])
    try:
        study = TypeAdapter(StudyFile).validate_python(_load(path)["study"])
    except ValidationError as error:
        raise ConfigError(_named(path, _place(it["loc"]), it["input"], _words(it["msg"])) for it in error.errors()) from None
    faults = [_named(path, place, value, must) for place, value, must in _faults(study)]
    if faults:
        raise ConfigError(faults)
    return study


def _load(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError([Fault(f"study={path.stem}", "", f"can't be read ({' '.join(str(error).split())[:200]})")]) from None
    return values if isinstance(values, dict) else {}


# ---------------------------------------------------------------------------------------------- faults


def _named(path: Path, place: str, value: object, must: str) -> Fault:
    return Fault(f"study={path.stem}: {place}", "" if isinstance(value, dict | list) else value, must)


def _place(location: Iterable[int | str]) -> str:
    """checks[2].tolerance, places in lists counted from 1."""
    text = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".") or "study"


def _words(message: str) -> str:
    """Pydantic's "Input should be a valid string", as a refusal says it."""
    return message.replace("Input should", "must").replace("Field required", "must be there").replace("Unexpected keyword argument", "no such key")


def _faults(study: StudyFile) -> Iterator[tuple[str, object, str]]:
    """Place, value and what is allowed, for all that types don't tell."""
    if not study.checks:
        yield "checks", "", "must list at least one"
    for name in study.figures:
        if name not in FIGURES:
            yield "figures", name, _one_of(name, FIGURES)
    for name in study.frames:
        if name not in FRAMES:
            yield "frames", name, _one_of(name, FRAMES)
    for number, check in enumerate(study.checks, 1):
        for place, value, must in _check_faults(check):
            yield f"checks[{number}].{place}", value, must


def _check_faults(check: Check) -> Iterator[tuple[str, object, str]]:
    for place, names in (("where", check.where), ("each", check.each)):
        yield from ((place, name, unknown_key(name, "", RunConfig).must) for name in names if full_key(name) not in keys(RunConfig))
    yield from _call_faults("measure", check.measure, MEASURED, "options", check.options)
    if check.theory is not None:
        yield from _call_faults("theory", check.measure, PREDICTED, "theory", check.theory)
    if check.target is not None and getattr(check, check.target) is None:
        yield "target", check.target, f"has no number: {check.target} is not there"
    if len(check.tolerance) != 1:
        yield "tolerance", "", f"must be exactly one of {', '.join(TOLERANCES)}"
        return
    ((kind, size),) = check.tolerance.items()
    if kind not in TOLERANCES:
        yield "tolerance", kind, _one_of(kind, TOLERANCES)
    elif must := TOLERANCES[kind].refusal(size, check.target):
        yield f"tolerance.{kind}", size, must


def _call_faults(
    place: str, name: str, table: Mapping[str, Callable[..., Any]], group: str, options: Mapping[str, Any]
) -> Iterator[tuple[str, object, str]]:
    """Whether there is a function of that name, and whether it takes the options of that group."""
    if name not in table:
        yield place, name, _one_of(name, table)
        return
    _, *parameters = signature(table[name]).parameters.values()
    takes = [it.name for it in parameters]
    for option in options:
        if option not in takes:
            yield group, option, f"{name} takes {', '.join(takes) or 'no options'}{nearest(option, takes)}"
    for it in parameters:
        if it.default is Parameter.empty and it.name not in options:
            yield f"{group}.{it.name}", "", f"must be there: {name} needs it"


def _one_of(name: str, names: Iterable[str]) -> str:
    return f"must be one of {', '.join(sorted(names))}{nearest(name, names)}"
