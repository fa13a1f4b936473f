"""Rows of a user's own: added to the tables while a program runs, and told apart by what they compute.

A name says what a row of ours computes, for a change of it raises `NUMERICS`; a row of somebody else's may be another one tomorrow.
"""

import sys
from dataclasses import fields
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import CodeType
from typing import Any

from bpexp.core.activations import ACTIVATIONS, Activation
from bpexp.core.initializers import INITIALIZERS, Initializer
from bpexp.core.losses import LOSSES, Loss
from bpexp.core.normalization import NORMS, Norm
from bpexp.core.optimizers import OPTIMIZERS, Optimizer
from bpexp.core.probes import CHOSEN, PROBES, Probe
from bpexp.core.rows import Row, RuleRow
from bpexp.core.schedules import SCHEDULES
from bpexp.core.skips import SKIPS, Skip

__all__ = ["add", "digest", "is_ours"]

AnyRow = Row | Probe[Any]
TABLES: dict[type, dict[str, Any]] = {  # by the type of their rows
    Activation: ACTIVATIONS,
    Initializer: INITIALIZERS,
    Loss: LOSSES,
    Norm: NORMS,
    Optimizer: OPTIMIZERS,
    Probe: PROBES,
    RuleRow: SCHEDULES,
    Skip: SKIPS,
}
OURS: tuple[AnyRow, ...] = tuple(row for table in TABLES.values() for row in table.values())
WORDS = {entry.name for entry in fields(Row)}  # what is said of a row, and changes no number
NUMBERS = (bool, int, float, complex, str, tuple)  # whose text is the same in every process


def add(row: AnyRow) -> None:
    """Put a row of your own into the table of its kind: an `Activation`, a `Probe`, an `Initializer`, …

    One of the same name that was added before is replaced.  Raises `TypeError` for what is no row, and `ValueError` for a name that is taken by
    one of ours, and for a probe that would be measured without being chosen, which would give runs of one configuration several kinds of records.
    """
    table = TABLES.get(type(row))
    if table is None:
        raise TypeError(f"{row!r}: must be a row of a table: {', '.join(sorted(kind.__name__ for kind in TABLES))}")
    name = str(getattr(row, "name"))  # noqa: B009 (every row has one, which `Row` itself does not know)
    if not name.isidentifier():
        raise ValueError(f"{name}: must be a name of letters, digits and _")
    if (name in table and is_ours(table[name])) or (table is PROBES and name not in table and name in CHOSEN):
        raise ValueError(f"{name}: is a name that bpexp's own rows have; take another")
    if isinstance(row, Probe) and row.always:
        raise ValueError(f"{name}: must be chosen by name; always=True is for bpexp's own probes")
    table[name] = row


def is_ours(row: AnyRow) -> bool:
    """Whether a row came with bpexp."""
    return any(row is it for it in OURS)


def digest(row: AnyRow) -> str:
    """A hash of what a row computes: its numbers, and of each of its functions the whole text of the file that it stands in.

    So a change anywhere in that file makes another row of it.  Of a function that stands in no file, as in a notebook, the compiled code is taken,
    with the numbers that it finds around it; what functions take from other modules is not looked at.
    """
    told = {entry.name: _told(getattr(row, entry.name)) for entry in fields(row) if entry.name not in WORDS}
    return sha256(repr(sorted(told.items())).encode()).hexdigest()[:16]


def _told(value: Any) -> object:
    """A row's entry in words that are the same in every process."""
    if isinstance(value, partial):
        return _told(value.func), [_told(it) for it in value.args], sorted((key, _told(it)) for key, it in value.keywords.items())
    if not callable(value):
        return repr(value)
    name, module = getattr(value, "__qualname__", type(value).__qualname__), str(getattr(value, "__module__", None))
    if module.partition(".")[0] == "bpexp" or not hasattr(value, "__code__"):
        return module, name
    cells = [_told(cell.cell_contents) for cell in value.__closure__ or ()]
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is not None:
        return name, value.__defaults__, cells, sha256(Path(file).read_bytes()).hexdigest()
    around = {word: value.__globals__.get(word) for word in value.__code__.co_names}
    return value.__defaults__, cells, _compiled(value.__code__), sorted((word, it) for word, it in around.items() if isinstance(it, NUMBERS))


def _compiled(code: CodeType) -> object:
    inner = [_compiled(it) if isinstance(it, CodeType) else repr(it) for it in code.co_consts]
    return code.co_code.hex(), code.co_names, inner
