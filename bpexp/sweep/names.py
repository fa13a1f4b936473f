"""Are these keys ours?  Checked on the words as typed, before Hydra composes anything, because Hydra stops at the first wrong one."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString, ValueType
from hydra.errors import HydraException

import bpexp
from bpexp.config import GROUPS, Fault, RunConfig, aside, keys, must_be, nearest, unknown_key
from bpexp.masks import masked

__all__ = ["STUDY", "config_dir", "groups", "is_hydras", "parse_word", "secret_refusal", "short", "sort_words"]

INTERPOLATION = re.compile(r"\$\{[^{}]*\}")
STUDY = "study"  # the group whose options are sweeps: a file tells params, variants, launcher


def config_dir() -> Path:
    """Where the configuration lies: beside the package in a checkout, inside it in a wheel."""
    package = Path(bpexp.__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def groups(folders: Iterable[Path]) -> dict[str, list[str]]:
    """Every configuration group with its options: a folder and its files, a table of ours and its rows."""
    found = {group: sorted(table) for group, table in GROUPS.items()}
    for folder in (inner for outer in folders if outer.is_dir() for inner in sorted(outer.iterdir()) if inner.is_dir() and inner.name != "hydra"):
        found[folder.name] = sorted({*found.get(folder.name, []), *(file.stem for file in folder.glob("*.yaml"))})
    return found


def sort_words(words: Sequence[str], folders: Iterable[Path], *, sweep: bool) -> tuple[list[str], list[Fault]]:
    """The overrides that name keys of ours or of Hydra's, and the faults of all others."""
    good, faults, options = [], [], groups(folders)
    for word in words:
        try:
            found = _faults(parse_word(word), options, sweep=sweep)
        except (HydraException, ValueError, RecursionError) as error:  # the last two of numbers of thousands of digits, of lists in lists in lists
            key, _, value = word.partition("=")
            found = [Fault(key, value, "must be written key=value" if "=" not in word else f"can't be read ({short(error)})")]
        faults.extend(found)
        if not found:
            good.append(word)
    return good, faults


@cache
def parse_word(word: str) -> Override:
    """An override as Hydra reads it, which takes 0.2 ms: a sweep's jobs share most of their words."""
    return OverridesParser.create().parse_override(word)


def short(error: BaseException) -> str:
    """The first line of what an error says."""
    return masked(str(error)).partition("\n")[0]


def _faults(override: Override, known: Mapping[str, list[str]], *, sweep: bool) -> list[Fault]:
    key = override.key_or_group
    shown = str(override.input_line).partition("=")[2]
    if is_hydras(key):
        return []  # Hydra's own to check
    several = _study_refusal if key == STUDY else partial(_sweep_refusal, grouped=key in known)
    if (must := _refusal(override, known, shown)) or (must := several(override, sweep=sweep)):
        return [Fault(key, shown, must)]
    if key not in known or override.value_type == ValueType.GLOB_CHOICE_SWEEP:
        return []
    options = known[key]
    wrong = [value for value in _choices(override) if value not in options]
    return [Fault(key, value, f"must be one of {', '.join(options)}{nearest(value, options)}") for value in wrong]


def is_hydras(key: str) -> bool:
    """Whether a key or a group is one of Hydra's own."""
    return key.partition("/")[0].partition(".")[0] == "hydra"


def _refusal(override: Override, known: Mapping[str, list[str]], shown: str) -> str:
    """Why this key can't be set at all; empty where it can."""
    key = override.key_or_group
    if override.is_delete():
        return "keys can't be removed"
    if key in keys(RunConfig) and _nested(override.value()):  # which Hydra can't always merge with what is there, nor go down into
        return must_be(keys(RunConfig)[key])
    if key in known or key in keys(RunConfig):
        return secret_refusal(shown.strip("'\"")) if key == "tracking.uri" else ""
    if key in _tables():
        return f"is a table of keys; set one of them, such as {_tables()[key]}=…"
    return unknown_key(key, shown, RunConfig).must


def _nested(value: object) -> bool:
    """Whether it is a table, or a list of other than plain values: no key takes one."""
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(it, dict | list) for it in value))


def secret_refusal(uri: object, key: str = "tracking.uri") -> str:
    """Why an address of a store can't stand in a configuration, which is written into folders; empty where it can."""
    written = INTERPOLATION.sub("", str(uri)).replace(":@", "@").replace("//@", "//")  # what is looked up is not written
    if masked(written) == written:
        return ""
    own = "MLFLOW_TRACKING_URI, or " if key == "tracking.uri" else ""
    return f"must hold no password or token: set {own}{key}='${{oc.env:NAME}}' with a variable of your own"


def _sweep_refusal(override: Override, *, sweep: bool, grouped: bool) -> str:
    """Why this key can't take several values, where it does; empty where it may."""
    if not override.is_sweep_override():
        return ""
    if aside(override.key_or_group):
        return "can't be swept: it holds for a sweep as a whole"
    if not sweep:
        return "several values make a sweep: add -m"
    if override.value_type == ValueType.GLOB_CHOICE_SWEEP and not grouped:
        return "glob(…) chooses among the options of a group; list the values"
    if not override.is_discrete_sweep() or override.value_type == ValueType.GLOB_CHOICE_SWEEP:
        return ""
    return "" if next(iter(override.sweep_iterator()), None) is not None else "has no values"


def _study_refusal(override: Override, *, sweep: bool) -> str:
    if override.is_sweep_override():
        return "one study at a time: each is a sweep of its own"
    return "" if sweep else "a study is a sweep: add -m"


def _tables() -> dict[str, str]:
    """Names that hold keys but are none, with the first key in each."""
    return {key.partition(".")[0]: key for key in reversed(keys(RunConfig)) if "." in key}


def _choices(override: Override) -> list[str]:
    """The options that an override of a group names."""
    values: list[Any] = list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]
    return [value.text if isinstance(value, QuotedString) else str(value) for value in values]
