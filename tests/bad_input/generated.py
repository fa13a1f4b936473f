"""Bad configurations, made of the schema: what is wrong with a value follows from its key's annotation."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from bpexp.config import GROUPS, TABLES, OneOf, RunConfig, keys, written
from bpexp.core.engines import NEEDS
from bpexp.core.losses import LOSSES
from bpexp.core.normalization import NORMS
from bpexp.core.probes import PLAIN
from bpexp.core.skips import SKIPS

__all__ = ["DRAWN", "bad_words", "contradictions", "of_schema"]

DRAWN = settings(derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))

ODD = [
    "\N{RIGHT-TO-LEFT OVERRIDE}",
    "e\N{COMBINING ACUTE ACCENT}" * 3,
    "\udc80",
    "\N{GRINNING FACE}",
    "\x01",
    "\x1b[31m",
    "\n",
    "\r\n",
    "\u2028",
    "\ufeff",
    "\xa0",
]
BROKEN = ["[", "]", "{", "}", "'", '"', "${", "${nope}", "${nope:1}", "[1", "{a:1", "[1,]]", "((", "int(x)", "choice(", "range(1", "???"]
DEEP = ["[" * deep + "1" + "]" * deep for deep in (2, 30, 300, 1000)] + ["{a:" * deep + "1" + "}" * deep for deep in (1, 30, 1000)]
NUMBERS = ["nan", "inf", "-inf", "1e400", "-1e400", f"1{'0' * 400}", f"-1{'0' * 400}", "1" * 5000, "0.5", "-1", "-0.5", "2.5e-324", "1e3"]


def _notes(hint: Any) -> list[Any]:
    return [it for part in get_args(hint) for it in (part, *_notes(part))]


def fits(hint: Any, value: float) -> bool:
    """Whether a number lies within the bounds of a key's annotation: told without the library that the schema is checked by."""
    tests: dict[type, Callable[[Any], bool]] = {
        Ge: lambda it: value >= it.ge,
        Gt: lambda it: value > it.gt,
        Le: lambda it: value <= it.le,
        Lt: lambda it: value < it.lt,
    }
    return abs(value) < float("inf") and all(test(it) for it in _notes(hint) for kind, test in tests.items() if isinstance(it, kind))


def _bad(hint: Any) -> st.SearchStrategy[str]:
    """Values, as one types them, that a key of this annotation can't take."""
    notes = [hint, *_notes(hint)]
    texts, numbers = str in notes, float in notes or int in notes
    names = [name for it in notes if isinstance(it, OneOf) for name in it.names]
    names += [str(it) for part in notes if get_origin(part) is Literal for it in get_args(part)]
    found = [st.sampled_from(BROKEN), st.sampled_from(DEEP)]
    if numbers:
        bounds = [float(getattr(it, name)) for it in notes for name in ("ge", "gt", "le", "lt") if hasattr(it, name) and not isinstance(it, type)]
        near = [bound + step for bound in bounds for step in (-1, -0.5, 0, 0.5, 1, 1e6)]
        typed = NUMBERS + [repr(int(it) if it.is_integer() else it) for it in near]
        wrong = [it for it in typed if not fits(hint, _number(it)) or (float not in notes and not it.lstrip("-").isdigit())]
        found.append(st.sampled_from(wrong))
    if not texts or names:
        words = st.text(st.characters(categories=["Ll", "Lo", "So"]), min_size=1, max_size=12)
        mangled = st.sampled_from(names or ["on"]).flatmap(
            lambda name: st.sampled_from([name[1:], name + name[-1], name.upper(), f"'{name} '", name[::-1]])
        )
        found += [st.one_of(words, mangled).filter(lambda it: it not in (*names, "null", "true", "false", "nan", "inf")), st.sampled_from(ODD)]
    if texts and not names:
        found.append(st.sampled_from(["1", "1.5", "true", "[a]", "{a: 1}"]))
    return st.one_of(found)


def _number(text: str) -> float:
    try:
        return float(text)
    except OverflowError:
        return float("inf")


@st.composite
def of_schema(draw: st.DrawFn, schema: type) -> tuple[str, str]:
    """A key and what it can't take."""
    key = draw(st.sampled_from(sorted(keys(schema))))
    return key, draw(_bad(keys(schema)[key]))


def _misnamed() -> st.SearchStrategy[tuple[str, str]]:
    """Keys that are none: near ones, dotted ones, prefixes, anything."""
    known = sorted(keys(RunConfig))
    mangled = st.sampled_from(known).flatmap(
        lambda key: st.sampled_from([key[1:], f"{key}x", f"{key}.x", f"x.{key}", key.upper(), key.replace(".", "_") + "_"])
    )
    anything = st.text(st.characters(codec="ascii", categories=["L", "Nd"]), min_size=1, max_size=8)
    names = st.one_of(mangled, anything).filter(lambda it: it and it not in {*known, *TABLES, *(key.partition(".")[0] for key in known), "study"})
    return names.flatmap(lambda name: st.tuples(st.sampled_from([name, f"+{name}", f"++{name}"]), st.sampled_from(["1", "abc", "[1,2]", "null"])))


def contradictions() -> list[tuple[str, ...]]:
    """Values that are right one by one: keys that the chosen row has no use for, needs that are not met, what a net has no numbers for."""
    found: list[tuple[str, ...]] = []
    for group, table in GROUPS.items():
        used = {key: value for row in table.values() for key, value in row.keys.items()}
        for name, row in table.items():
            found += [(f"{group}={name}", f"{group}.{key}={written(1 if used[key] is None else used[key])}") for key in used if key not in row.keys]
    for key, table in TABLES.items():
        for name, row in table.items():
            found += [(f"{key}={name}", f"{need}={_other(need, allowed)}") for need, allowed in row.needs.items()]
    found += [(f"loss={name}", "output=tanh") for name, row in LOSSES.items() if row.outputs is not None]
    between: Mapping[str, Mapping[str, Any]] = {"norm": NORMS, "skip": SKIPS}
    found += [(f"{key}={name}", f"probes=[{PLAIN[0]}]") for key, table in between.items() for name in table if name != "none"]
    found += [("engine=numba", f"{key.removesuffix('.name')}={_other(key, allowed)}") for key, allowed in NEEDS.items() if key in TABLES]
    found += [("width=65536", "depth=10000"), ("init.sigma_b2=0.1",), ("skip=residual", "skip.every=9"), ("schedule=warmup", "schedule.warmup=1001")]
    return [
        *found,
        ("tracking.layers=[q]",),
        ("batch_size=5000",),
        ("data.test_fraction=1e-9",),
        ("data.classes=3",),
        ("dtype=float32", "optimizer=adam", "optimizer.eps=1e-60"),
    ]


def _other(key: str, allowed: Any) -> str:
    if set(allowed) <= {True, False}:
        return "false"
    return next(name for name in TABLES[key] if name not in allowed)


def bad_words() -> st.SearchStrategy[tuple[str, ...]]:
    """One to four words, each of them wrong, or two that don't go together."""
    typed = st.one_of(of_schema(RunConfig), of_schema(RunConfig), of_schema(RunConfig), _misnamed()).map("=".join)
    removed = st.sampled_from(sorted(keys(RunConfig))).map(lambda key: f"~{key}")
    return st.one_of(
        st.lists(st.one_of(typed, typed, typed, removed), min_size=1, max_size=4).map(tuple),
        typed.map(lambda word: (word,)),
        st.sampled_from(contradictions()),
    )
