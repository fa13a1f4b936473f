"""The schema of a run: plain dataclasses, and every check that needs no data.

A key's annotation holds its type, its bounds and a line of help; from it come the check (by pydantic), the words of a refusal
and `--help`.  `parse` turns a mapping into a checked configuration or raises `ConfigError`, which lists every fault at once.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from functools import cache
from math import isclose
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, AllowInfNan, Strict, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from bpexp.core.activations import ACTIVATIONS
from bpexp.core.engines import ENGINES, NEEDS, installed
from bpexp.core.initializers import INITIALIZERS
from bpexp.core.losses import LOSSES
from bpexp.core.normalization import NORMS
from bpexp.core.optimizers import OPTIMIZERS
from bpexp.core.own import digest, is_ours
from bpexp.core.probes import CHOSEN, PLAIN, PROBES
from bpexp.core.rows import Part, Row
from bpexp.core.schedules import SCHEDULES
from bpexp.core.skips import SKIPS
from bpexp.core.training import NUMERICS
from bpexp.masks import masked
from bpexp.theory.mean_field import SOLVED, NoCriticalPointError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "GROUPS",
    "TABLES",
    "WHOLE",
    "ConfigError",
    "DataConfig",
    "Fault",
    "InitConfig",
    "OptimizerConfig",
    "RunConfig",
    "ScheduleConfig",
    "SkipConfig",
    "StoreUri",
    "TrackingConfig",
    "aside",
    "asked",
    "blanks",
    "check",
    "choices",
    "described",
    "explain",
    "fingerprint",
    "flatten",
    "full_key",
    "given",
    "keys",
    "nested",
    "parse",
    "solved",
    "takes_text",
    "takes_whole",
    "unknown_name",
    "untracked",
    "written",
]

T = TypeVar("T", bound="DataclassInstance")


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a configuration, in one line: `depth=0: must be a whole number, at least 1`."""

    key: str
    value: object
    must: str

    def __str__(self) -> str:
        shown = "null" if self.value is None else masked(str(self.value))
        named = f"{self.key}={shown if len(shown) <= 80 else shown[:77] + '…'}" if shown else self.key
        line = masked(f"{named}: {self.must}")
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


class ConfigError(ValueError):
    """A configuration that is refused, with all its faults."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = list({str(fault): fault for fault in faults}.values())  # by their words: a value may be a list
        super().__init__("\n".join(map(str, self.faults)))


@dataclass(frozen=True, eq=False)
class OneOf:
    """The names that a key may take: those that a table has when it is asked, for rows may be added to it (`bpexp.core.own`)."""

    table: Collection[str]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.table))

    def check(self, name: str) -> str:
        if name not in self.table:
            raise PydanticCustomError("one_of", "not one of the names")
        return name


@dataclass(frozen=True)
class Help:
    """What a key means, in a line."""

    text: str


def _one_of(table: Collection[str]) -> tuple[OneOf, AfterValidator]:
    options = OneOf(table)
    return options, AfterValidator(options.check)


def nearest(name: str, names: Iterable[str]) -> str:
    """What to add to a refusal, such as `; did you mean 'depth'?`, or nothing where no name is near."""
    close = get_close_matches(name, list(names), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


HIDDEN = Part(ACTIVATIONS, lambda row: row.elementwise)
TABLES: dict[str, Mapping[str, Row]] = {
    "activation": HIDDEN,
    "init": INITIALIZERS,
    "norm": NORMS,
    "skip": SKIPS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}
GROUPS: dict[str, Mapping[str, Row]] = {key: TABLES[key] for key in ("init", "skip", "schedule", "optimizer")}  # a name and keys of its own

_HIDDEN, _HIDDEN_CHECK = _one_of(HIDDEN)
_OUTPUT, _OUTPUT_CHECK = _one_of(ACTIVATIONS)
_LOSS, _LOSS_CHECK = _one_of(LOSSES)
_ENGINE, _ENGINE_CHECK = _one_of(ENGINES)
_INIT, _INIT_CHECK = _one_of(INITIALIZERS)
_OPTIMIZER, _OPTIMIZER_CHECK = _one_of(OPTIMIZERS)
_NORM, _NORM_CHECK = _one_of(NORMS)
_SKIP, _SKIP_CHECK = _one_of(SKIPS)
_SCHEDULE, _SCHEDULE_CHECK = _one_of(SCHEDULES)
_PROBE, _PROBE_CHECK = _one_of(PROBES)
_CHOSEN, _CHOSEN_CHECK = _one_of(CHOSEN)


def _in_order(probes: list[str]) -> list[str]:
    """Each once, as the table has them: what is asked for in another order is the same run."""
    return [name for name in CHOSEN if name in probes]


Finite = AllowInfNan(allow_inf_nan=False)
MISSING = "???"  # as OmegaConf has it
AS_PRINTED = 1e-5  # a solution that was read off a page and typed is that solution
MAX_DEPTH, MAX_WIDTH, MAX_STEPS, MAX_SEED = 10_000, 65_536, 100_000_000, 2**63 - 1
WHOLE = ("resume", "rerun", "offline")  # keys that hold for a sweep as a whole
MAX_SIZE = 128  # pixels a side: as arrays, all digits then take 0.5 GB


@dataclass
class DataConfig:
    """Where samples come from.  Which keys a data set uses, `bpexp.datasets` says."""

    name: Annotated[str, Strict(), Help("digits, synthetic, linear, noise, npz or mnist")] = "digits"
    seed: Annotated[int, Strict(), Ge(0), Le(MAX_SEED), Help("of the split (and of made data); apart from the run's seed")] = 0
    test_fraction: Annotated[float, Strict(), Ge(0), Lt(1), Finite, Help("share of the samples kept for testing; 0: train and test on all")] = 0.2
    samples: Annotated[int, Strict(), Ge(4), Le(10**9), Help("number of samples (data=synthetic, noise; data=digits: so many of them)")] | None = None
    inputs: Annotated[int, Strict(), Ge(1), Le(MAX_WIDTH), Help("number of inputs (data=synthetic, linear, noise)")] | None = None
    outputs: Annotated[int, Strict(), Ge(1), Le(MAX_WIDTH), Help("number of targets of a sample (data=noise)")] | None = None
    classes: Annotated[int, Strict(), Ge(2), Le(MAX_WIDTH), Help("number of classes (data=synthetic)")] | None = None
    size: Annotated[int, Strict(), Ge(8), Le(MAX_SIZE), Help("pixels a side, 8 being the set itself (data=digits)")] | None = None
    strength: Annotated[float, Strict(), Gt(0), Finite, Help("of the map to be learned (data=linear), or of the targets (data=noise)")] | None = None
    path: Annotated[str, Strict(), Help("file with arrays x and y (data=npz)")] | None = None


@dataclass
class InitConfig:
    """How weights start.  W has mean 0 and variance sigma_w2 / fan_in."""

    name: Annotated[str, Strict(), _INIT, _INIT_CHECK, Help("distribution of the initial weights")] = "xavier"
    sigma_w2: Annotated[float, Strict(), Gt(0), Finite, Help("fan_in times the variance of a weight")] | None = None
    sigma_b2: Annotated[float, Strict(), Ge(0), Finite, Help("variance of a bias")] = 0.0
    orthogonal: Annotated[bool, Strict(), Help("whether the weights are orthogonal instead of Gaussian")] | None = None
    gain: Annotated[float, Strict(), Gt(0), Finite, Help("what each neuron's one weight is")] | None = None


@dataclass
class OptimizerConfig:
    """What turns a gradient into a step."""

    name: Annotated[str, Strict(), _OPTIMIZER, _OPTIMIZER_CHECK, Help("rule of the update")] = "sgd"
    momentum: Annotated[float, Strict(), Ge(0), Lt(1), Help("share of the last step in the next")] | None = None
    alpha: Annotated[float, Strict(), Ge(0), Lt(1), Help("memory of the mean square of the gradient")] | None = None
    beta1: Annotated[float, Strict(), Ge(0), Lt(1), Help("memory of the mean gradient")] | None = None
    beta2: Annotated[float, Strict(), Ge(0), Lt(1), Help("memory of the mean square of the gradient")] | None = None
    eps: Annotated[float, Strict(), Gt(0), Finite, Help("added to the root of the mean square")] | None = None
    weight_decay: Annotated[float, Strict(), Ge(0), Finite, Help("pull of the weights towards 0")] | None = None
    clip: Annotated[float, Strict(), Gt(0), Finite, Help("norm of all gradients together, at most; null: no clipping")] | None = None


@dataclass
class ScheduleConfig:
    """How the learning rate changes over the steps."""

    name: Annotated[str, Strict(), _SCHEDULE, _SCHEDULE_CHECK, Help("schedule of the learning rate")] = "constant"
    every: Annotated[int, Strict(), Ge(1), Le(MAX_STEPS), Help("steps between two drops; null: a third of all")] | None = None
    factor: Annotated[float, Strict(), Gt(0), Le(1), Help("what a drop multiplies the learning rate by")] | None = None
    warmup: Annotated[int, Strict(), Ge(0), Le(MAX_STEPS), Help("steps of linear warm-up; null: schedule=warmup takes a tenth of all")] | None = None
    floor: Annotated[float, Strict(), Ge(0), Le(1), Help("share of the learning rate that is left at the end")] | None = None


@dataclass
class SkipConfig:
    """How layers' activations are handed on past the layers after them."""

    name: Annotated[str, Strict(), _SKIP, _SKIP_CHECK, Help("skip connections")] = "none"
    every: Annotated[int, Strict(), Ge(1), Le(MAX_DEPTH), Help("layers that a connection passes")] | None = None


StoreUri = Annotated[
    str, Strict(), Help("MLflow tracking URI; null: MLflow's own default, sqlite:///mlflow.db here")
]  # of every command that reads or writes tracked runs


@dataclass
class TrackingConfig:
    """Where runs are recorded.  No key of this group changes a run's numbers."""

    uri: StoreUri | None = None
    experiment: Annotated[str, Strict(), Help("MLflow experiment")] = "bpexp"
    layers: list[Annotated[str, Strict(), _PROBE, _PROBE_CHECK]] = field(default_factory=lambda: ["grad_norm", "delta_norm"])
    run_name: Annotated[str, Strict(), Help("name of the run; null: made of depth, width and lr")] | None = None
    checkpoint: Annotated[bool, Strict(), Help("whether the weights at the end are kept, in checkpoint.npz")] = True
    checkpoint_seconds: Annotated[float, Strict(), Ge(0), Finite, Help("between two states of a training that are kept to go on from")] = 30.0
    parent: Annotated[str, Strict(), Help("id of the run to file this one under; a sweep sets it")] | None = None
    state: (
        Annotated[str, Strict(), Help("folder of checkpoints and of what waits to be sent; null: .bpexp beside the SQLite file, or here")] | None
    ) = None


@dataclass
class RunConfig:
    """One run.  `RunConfig(depth=50)` is the default run with 50 layers."""

    depth: Annotated[int, Strict(), Ge(1), Le(MAX_DEPTH), Help("weight layers, the output layer included")] = 10
    width: Annotated[int, Strict(), Ge(1), Le(MAX_WIDTH), Help("neurons in each hidden layer")] = 64
    activation: Annotated[str, Strict(), _HIDDEN, _HIDDEN_CHECK, Help("activation of the hidden layers")] = "sigmoid"
    output: Annotated[str, Strict(), _OUTPUT, _OUTPUT_CHECK, Help("activation of the output layer; null: the loss's own")] | None = None
    loss: Annotated[str, Strict(), _LOSS, _LOSS_CHECK, Help("mean over samples, sum over outputs")] = "squared_error"
    bias: Annotated[bool, Strict(), Help("whether neurons have a bias")] = False
    norm: Annotated[str, Strict(), _NORM, _NORM_CHECK, Help("normalization of the hidden layers' pre-activations")] = "none"
    lr: Annotated[float, Strict(), Gt(0), Finite, Help("learning rate")] = 3.0
    output_lr: Annotated[float, Strict(), Gt(0), Finite, Help("learning rate of the output layer; null: lr")] | None = None
    steps: Annotated[int, Strict(), Ge(0), Le(MAX_STEPS), Help("updates of the weights; 0 measures the untrained net")] = 1000
    batch_size: Annotated[int, Strict(), Ge(1)] | Literal["full"] = 32
    seed: Annotated[int, Strict(), Ge(0), Le(MAX_SEED), Help("of the weights and of the order of samples")] = 0
    dtype: Annotated[Literal["float32", "float64"], Help("precision of the arithmetic")] = "float32"
    engine: Annotated[str, Strict(), _ENGINE, _ENGINE_CHECK, Help("what computes a step; numba is for small plain nets")] = "numpy"
    blas_threads: Annotated[int, Strict(), Ge(1), Le(1024), Help("threads of the matrix products; part of the fingerprint")] = 1
    probe_points: Annotated[int, Strict(), Ge(3), Help("log-spaced steps at which every layer is measured, at most")] = 40
    probes: Annotated[list[Annotated[str, Strict(), _CHOSEN, _CHOSEN_CHECK]], AfterValidator(_in_order), Help("layers' further quantities")] = field(
        default_factory=list
    )
    resume: Annotated[bool, Strict(), Help("whether finished runs are left as they are, and interrupted ones go on; false: all anew")] = True
    rerun: Annotated[Literal["all", "failed", "diverged"], Help("what is run again that was run before; null: what was interrupted")] | None = None
    offline: Annotated[bool, Strict(), Help("records wait here, for python -m bpexp.sync; the store is not asked")] = False
    data: DataConfig = field(default_factory=DataConfig)
    init: InitConfig = field(default_factory=InitConfig)
    skip: SkipConfig = field(default_factory=SkipConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        if self.output is None and self.loss in LOSSES:
            self.output = LOSSES[self.loss].default_output
        for group, row in _rows(self):
            part = getattr(self, group)
            setattr(self, group, replace(part, **{key: default for key, default in row.keys.items() if getattr(part, key) is None}))


def blanks() -> dict[str, Any]:
    """The schema's defaults as nested plain values, with None where a value follows from another key."""
    return asdict(RunConfig()) | {"output": None, **{group: asdict(type(getattr(RunConfig(), group))()) for group in GROUPS}}


def _rows(config: RunConfig) -> Iterator[tuple[str, Row]]:
    """Each group's row that the configuration names, where there is one of that name."""
    for group, table in GROUPS.items():
        name = getattr(config, group).name
        if name in table:
            yield group, table[name]


EXTRA_HELP = {
    "batch_size": "samples per step; 1 for one at a time, full for the whole training set",
    "tracking.layers": "quantities per layer sent to MLflow; layers.parquet holds all of them",
}


# ---------------------------------------------------------------------------------------------- keys and words


@cache
def keys(schema: type) -> dict[str, Any]:
    """Every key of a schema, dotted, with its annotation."""
    found: dict[str, Any] = {}
    for name, hint in get_type_hints(schema, include_extras=True).items():
        if name.startswith("__"):
            continue
        found |= {f"{name}.{key}": inner for key, inner in keys(hint).items()} if isinstance(hint, type) and is_dataclass(hint) else {name: hint}
    return found


def _metadata(hint: Any) -> Iterator[Any]:
    """What is annotated to a type or to a member of its union."""
    for part in get_args(hint):
        yield part
        yield from _metadata(part)


def full_key(name: str) -> str:
    """The configuration key that a name of the command line means: `init` is init.name."""
    return f"{name}.name" if f"{name}.name" in keys(RunConfig) else name


def asked(key: str, name: str) -> dict[str, object]:
    """What one sets for an option of a table, by the names of the command line: its own key, then what it needs."""
    return {key: name} | {needed: allowed[0] for needed, allowed in TABLES[key][name].needs.items()}


def takes_text(schema: type, key: str) -> bool:
    """Whether a key takes a text, so that what looks like a number (an id such as 12e4) is none."""
    hint = keys(schema).get(key)
    return str in (hint, *_metadata(hint))


def takes_whole(key: str) -> bool:
    """Whether a key of a run takes no other numbers than whole ones."""
    parts = [(hint := keys(RunConfig)[key]), *_metadata(hint)]
    return int in parts and float not in parts


def unknown_name(fault: Fault) -> bool:
    """Whether a fault of a run is a name that no row of its table has."""
    rows = [note for note in _metadata(keys(RunConfig)[fault.key]) if isinstance(note, OneOf)] if fault.key in keys(RunConfig) else []
    return isinstance(fault.value, str) and any(fault.value not in note.table for note in rows)


def _kind(hint: Any) -> str:
    """A type and its bounds in words: "a number above 0"."""
    if hint is NoneType:
        return "null"
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    if get_origin(hint) is list:
        return f"a list [...] of {_kind(get_args(hint)[0])}"
    if get_origin(hint) is not Annotated:
        return "; or ".join(_kind(part) for part in get_args(hint))
    base, *notes = get_args(hint)
    if names := next((note for note in notes if isinstance(note, OneOf)), None):
        return "one of " + ", ".join(names.names)
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}.get(base) or _kind(base)
    bounds = [
        f"{word} {getattr(note, attribute):,}"
        for note in notes
        for kind, attribute, word in ((Ge, "ge", "at least"), (Gt, "gt", "above"), (Le, "le", "at most"), (Lt, "lt", "below"))
        if isinstance(note, kind)
    ]
    return ", ".join([words, *bounds])


def choices(hint: Any) -> list[str]:
    """What an annotation allows, where that is a choice of words."""
    parts = [hint, *_metadata(hint)]
    if any(get_origin(part) is list for part in parts):
        return []
    names = [name for part in parts if isinstance(part, OneOf) for name in part.names]
    return names or [str(it) for part in parts if get_origin(part) is Literal for it in get_args(part)] or ["true", "false"] * (bool in parts)


def written(value: object) -> str:
    """A value as one would type it."""
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def described(schema: type, defaults: object) -> list[tuple[str, str, str, str]]:
    """Of every key: its name, its default as one types it, what it means, what is allowed."""
    flat = flatten(defaults)
    texts = {key: next((note.text for note in _metadata(hint) if isinstance(note, Help)), "") for key, hint in keys(schema).items()}
    return [(key, written(flat[key]), EXTRA_HELP.get(key) or texts[key], _kind(hint)) for key, hint in keys(schema).items()]


def explain(schema: type, defaults: object) -> str:
    """A table of every key: name, default, what it means, what is allowed.  For `--help`."""
    rows = [(f"  {key}={default}", text, allowed) for key, default, text, allowed in described(schema, defaults)]
    return "\n".join(f"{key:<34} {text}\n{'':<34}   ({allowed})" for key, text, allowed in rows)


def flatten(config: object) -> dict[str, Any]:
    """A configuration's values by dotted key."""
    found: dict[str, Any] = {}
    assert is_dataclass(config)
    for entry in fields(config):
        value = getattr(config, entry.name)
        found |= {f"{entry.name}.{key}": inner for key, inner in flatten(value).items()} if is_dataclass(value) else {entry.name: value}
    return found


def given(part: object, row: Row) -> dict[str, Any]:
    """The keys that a row takes, with the configuration's values."""
    return {key: getattr(part, key) for key in row.keys}


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted key as nested ones, which `parse` takes: {"init.name": "he"} is {"init": {"name": "he"}}."""
    found: dict[str, Any] = {}
    for key, value in flat.items():
        *groups, last = key.split(".")
        at = found
        for group in groups:
            at = at.setdefault(group, {})
        at[last] = value
    return found


def aside(key: str) -> bool:
    """Whether a key changes none of a run's numbers: where it is recorded, and what becomes of earlier ones."""
    return key.startswith("tracking.") or key in WHOLE


def untracked(config: RunConfig) -> dict[str, Any]:
    """The values of a run by dotted key, but for those that change none of its numbers."""
    return {key: value for key, value in flatten(config).items() if not aside(key)}


def unknown_key(key: str, value: object, schema: type) -> Fault:
    return Fault(key, value, f"no such key{nearest(key, keys(schema)) or '; --help lists all keys'}")


# ---------------------------------------------------------------------------------------------- checks


def parse(schema: type[T], values: Mapping[str, Any]) -> T:
    """A checked configuration from nested plain values; raises `ConfigError` with every fault."""
    leaves = [(key, value) for key, value in _leaves(values) if not (value == {} and _group(key, schema))]
    faults = [unknown_key(key, value, schema) for key, value in leaves if key not in keys(schema)]
    try:
        config: T = _adapter(schema).validate_python(values)
    except ValidationError as error:
        for problem in error.errors():
            key = _key(problem["loc"], schema)
            if key is not None:
                faults.append(_fault(key, problem["input"], keys(schema)[key]))
        raise ConfigError(faults) from None
    faults += [Fault(key, value, "must be given: ??? stands for a missing value") for key, value in leaves if value == MISSING]
    if faults:
        raise ConfigError(faults)
    return config


def check(config: T) -> T:
    """A configuration made in Python, checked like one from the command line; returned with its blanks filled."""
    checked = parse(type(config), asdict(config))
    if isinstance(checked, RunConfig) and (faults := list(combinations(checked))):
        raise ConfigError(faults)
    return checked


@cache
def _adapter(schema: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(schema)


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _group(name: str, schema: type) -> bool:
    return any(key.startswith(f"{name}.") for key in keys(schema))


def _key(location: tuple[int | str, ...], schema: type) -> str | None:
    """The key that pydantic's location lies in: its longest prefix that is a key (what follows are members of unions, places in lists)."""
    parts = [str(part) for part in location]
    return next((key for end in range(len(parts), 0, -1) if (key := ".".join(parts[:end])) in keys(schema)), None)


def _fault(key: str, value: object, hint: Any) -> Fault:
    names = next((note.names for note in _metadata(hint) if isinstance(note, OneOf)), ())
    hint_words = nearest(str(value), names) if names else ""
    return Fault(key, value, f"{must_be(hint)}{hint_words}")


def must_be(hint: Any) -> str:
    """What an annotation allows, as a refusal says it."""
    return f"must be {_kind(hint)}"


def combinations(config: RunConfig) -> Iterator[Fault]:
    """Values that are right one by one and make no sense together."""
    yield from _output_faults(config)
    yield from _init_faults(config)
    yield from _unused(config)
    yield from _count_faults(config)
    yield from _engine_faults(config)
    yield from _probe_faults(config)
    eps = config.optimizer.eps
    if eps is not None and eps <= float(np.finfo(config.dtype).smallest_subnormal) / 2:  # half of it is rounded to 0
        yield Fault("optimizer.eps", eps, f"is 0 in dtype={config.dtype}, and 0 / 0 is no step")
    if not config.tracking.experiment.strip():
        yield Fault("tracking.experiment", config.tracking.experiment, "must not be empty")


def _output_faults(config: RunConfig) -> Iterator[Fault]:
    loss = LOSSES[config.loss]
    assert config.output is not None
    if loss.outputs is not None and config.output not in loss.outputs:
        yield Fault("output", config.output, f"must be {' or '.join(loss.outputs)} with loss={config.loss}")
    if loss.outputs is None and not ACTIVATIONS[config.output].elementwise:
        yield Fault("output", config.output, f"does not go with loss={config.loss}, only with loss=cross_entropy")


def _init_faults(config: RunConfig) -> Iterator[Fault]:
    values, unmet = flatten(config), False
    for key, allowed in INITIALIZERS[config.init.name].needs.items():
        if values[key] not in allowed:
            unmet = True
            yield Fault(key, written(values[key]), f"must be {' or '.join(map(written, allowed))} with init={config.init.name}")
    if config.init.sigma_b2 and not config.bias:
        yield Fault("init.sigma_b2", config.init.sigma_b2, "must be 0 without biases; or set bias=true")
    elif not unmet:
        yield from _solution_faults(config)


def _solution_faults(config: RunConfig) -> Iterator[Fault]:
    """An initializer whose sigma_w2 is solved for: there must be a solution, and no other value may be asked for."""
    try:
        sigma_w2 = solved(config).init.sigma_w2
    except NoCriticalPointError as error:
        yield Fault("init", config.init.name, str(error))
        return
    given = config.init.sigma_w2
    if given is not None and sigma_w2 is not None and not isclose(given, sigma_w2, rel_tol=AS_PRINTED):
        yield Fault("init.sigma_w2", given, f"is solved for with init={config.init.name}, and is {sigma_w2:.9g} here; leave it out")


def solved(config: RunConfig) -> RunConfig:
    """The configuration with the sigma_w2 that its initializer has theory solve for.  Raises `NoCriticalPointError`."""
    solve = SOLVED.get(config.init.name)
    if solve is None:
        return config
    point = solve(ACTIVATIONS[config.activation], config.init.sigma_b2)
    return replace(config, init=replace(config.init, sigma_w2=point.sigma_w2))


def _engine_faults(config: RunConfig) -> Iterator[Fault]:
    """What the compiled step can't compute, and whether there is one."""
    if config.engine == "numpy":
        return
    if not installed(config.engine):
        yield Fault("engine", config.engine, f"is not installed: pip install {config.engine}, or engine=numpy")
    values = flatten(config)
    for key, allowed in NEEDS.items():
        if values[key] not in allowed:
            words = [written(value) for value in dict.fromkeys(allowed) if value is not None or len(allowed) == 1]
            yield Fault(key.removesuffix(".name"), written(values[key]), f"must be {' or '.join(words)} with engine={config.engine}")


def _probe_faults(config: RunConfig) -> Iterator[Fault]:
    """Probes that are not defined for the net, and tracked ones that are not measured."""
    between = [f"{key}={name}" for key, name in (("norm", config.norm), ("skip", config.skip.name)) if name != "none"]
    if between and (undefined := [name for name in config.probes if name in PLAIN]):
        yield Fault("probes", written(undefined), f"must be measured in a plain net, without {' and '.join(between)}")
    unmeasured = [name for name in config.tracking.layers if not PROBES[name].always and name not in config.probes]
    if unmeasured:
        yield Fault("tracking.layers", written(unmeasured), f"must be measured to be tracked: probes={written([*config.probes, *unmeasured])}")


def _count_faults(config: RunConfig) -> Iterator[Fault]:
    """Counts that others bound."""
    over, blocks, warmup = NORMS[config.norm].over, config.skip.every, config.schedule.warmup
    if over is not None and getattr(config, over) == 1:
        yield Fault(over, 1, f"must be at least 2 with norm={config.norm}, which would subtract each number from itself")
    most = max(1, config.depth - 2)
    if blocks is not None and blocks > most:
        yield Fault("skip.every", blocks, f"must be at most {most} with depth={config.depth}: a skip joins hidden layers")
    if warmup is not None and warmup > config.steps:
        yield Fault("schedule.warmup", warmup, f"must be at most steps={config.steps}")


def _unused(config: RunConfig) -> Iterator[Fault]:
    """Keys that are set and that the chosen row of their group does not take, though others do."""
    for group, chosen in _rows(config):
        part = getattr(config, group)
        for key in dict.fromkeys(key for row in GROUPS[group].values() for key in row.keys):
            value, users = getattr(part, key), sorted(name for name, row in GROUPS[group].items() if key in row.keys)
            if value is not None and key not in chosen.keys:
                yield Fault(f"{group}.{key}", written(value), f"has no meaning with {group}={part.name}; allowed with {group}={', '.join(users)}")


def fingerprint(config: RunConfig, data_checksum: str) -> str:
    """A hash of all that fixes a run's numbers and its records: the configuration but for `tracking`, the data, the core's numerics."""
    fixed = untracked(config)
    del fixed["data.path"]  # the checksum knows what the file holds, wherever it lies
    own = _own(config)
    text = json.dumps({"config": fixed, "data": data_checksum, "numerics": NUMERICS} | ({"own": own} if own else {}), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _own(config: RunConfig) -> dict[str, str]:
    """Digests of the rows that a run takes and that did not come with bpexp: of these a name does not say what they compute."""
    values = flatten(config)
    named: list[tuple[str, Mapping[str, Any], str]] = [(key, table, values[full_key(key)]) for key, table in TABLES.items()]
    named += [("output", ACTIVATIONS, str(config.output)), *(("probes", PROBES, name) for name in config.probes)]
    rows = {f"{key}={name}": table[name] for key, table, name in named if name in table}
    return {word: digest(row) for word, row in rows.items() if not is_ours(row)}
