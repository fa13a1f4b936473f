"""The schema of a run: what each key accepts, how faults are told, what the fingerprint covers."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import reduce
from math import inf, nan, nextafter
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le, Lt
from hypothesis import given, settings
from hypothesis import strategies as st

from bpexp import config as module
from bpexp.config import (
    GROUPS,
    TABLES,
    ConfigError,
    Fault,
    InitConfig,
    RunConfig,
    TrackingConfig,
    check,
    explain,
    fingerprint,
    flatten,
    keys,
    parse,
)
from bpexp.core.activations import ACTIVATIONS
from bpexp.core.losses import LOSSES
from bpexp.core.probes import CHOSEN, PROBES
from bpexp.core.training import NUMERICS

ROOT = Path(__file__).parents[1]
KEYS = sorted(keys(RunConfig))

# The contract, written down a second time: (smallest or None, largest or None) of every key that is a number, and what lies just outside.
ABOVE_0 = ((5e-324, 0.0), (1.7e308, inf))
SHARE = ((0.0, -5e-324), (nextafter(1.0, 0.0), 1.0))
BOUNDS: dict[str, tuple[tuple[Any, Any] | None, tuple[Any, Any] | None]] = {
    "depth": ((1, 0), (10_000, 10_001)),
    "width": ((1, 0), (65_536, 65_537)),
    "lr": ABOVE_0,
    "output_lr": ABOVE_0,
    "steps": ((0, -1), (100_000_000, 100_000_001)),
    "batch_size": ((1, 0), None),
    "seed": ((0, -1), (2**63 - 1, 2**63)),
    "blas_threads": ((1, 0), (1024, 1025)),
    "probe_points": ((3, 2), None),
    "data.seed": ((0, -1), (2**63 - 1, 2**63)),
    "data.test_fraction": SHARE,
    "data.samples": ((4, 3), (10**9, 10**9 + 1)),
    "data.inputs": ((1, 0), (65_536, 65_537)),
    "data.outputs": ((1, 0), (65_536, 65_537)),
    "data.classes": ((2, 1), (65_536, 65_537)),
    "data.size": ((8, 7), (128, 129)),
    "data.strength": ABOVE_0,
    "init.sigma_w2": ABOVE_0,
    "init.sigma_b2": ((0.0, -5e-324), (1.7e308, inf)),
    "init.gain": ABOVE_0,
    "optimizer.momentum": SHARE,
    "optimizer.alpha": SHARE,
    "optimizer.beta1": SHARE,
    "optimizer.beta2": SHARE,
    "optimizer.eps": ABOVE_0,
    "optimizer.weight_decay": ((0.0, -5e-324), (1.7e308, inf)),
    "optimizer.clip": ABOVE_0,
    "schedule.every": ((1, 0), (100_000_000, 100_000_001)),
    "schedule.factor": (ABOVE_0[0], (1.0, nextafter(1.0, 2.0))),
    "schedule.warmup": ((0, -1), (100_000_000, 100_000_001)),
    "schedule.floor": ((0.0, -5e-324), (1.0, nextafter(1.0, 2.0))),
    "skip.every": ((1, 0), (10_000, 10_001)),
    "tracking.checkpoint_seconds": ((0.0, -5e-324), (1.7e308, inf)),
}


def nested(key: str, value: object) -> dict[str, Any]:
    """{"init.name": "he"} as {"init": {"name": "he"}}."""
    *groups, name = key.split(".")
    values: dict[str, Any] = {name: value}
    for group in reversed(groups):
        values = {group: values}
    return values


def faults(values: dict[str, Any]) -> list[Fault]:
    with pytest.raises(ConfigError) as refused:
        parse(RunConfig, values)
    return refused.value.faults


def parts(hint: Any) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """A key's plain types, each with its annotations; a union has several."""
    if get_origin(hint) is Annotated:
        base, *notes = get_args(hint)
        yield list if get_origin(base) is list else base, tuple(notes)
    elif get_origin(hint) is Literal:
        yield hint, ()
    elif get_origin(hint) is list:
        yield list, get_args(hint)
    elif hint is NoneType:
        yield NoneType, ()
    else:
        for part in get_args(hint):
            yield from parts(part)


def types(key: str) -> set[Any]:
    return {base for base, _ in parts(keys(RunConfig)[key])}


def options(key: str) -> tuple[str, ...]:
    """The names a key may take; none where any text will do."""
    return next((note.names for _, notes in parts(keys(RunConfig)[key]) for note in notes if isinstance(note, module.OneOf)), ())


WHOLE = [key for key in KEYS if int in types(key)]
REAL = [key for key in KEYS if float in types(key)]
TEXT = [key for key in KEYS if str in types(key)]
NAMES = [key for key in TEXT if options(key)]
OPTIONAL = [key for key in KEYS if NoneType in types(key)]


def other(key: str) -> Any:
    """A valid value of a key that is not its default."""
    default, kinds = flatten(RunConfig())[key], types(key)
    literals = [value for kind in kinds for value in get_args(kind) if value != default]
    made = {
        bool: not default,
        int: (default or 7) + 1 if int in kinds else None,
        float: 0.5 * default if float in kinds and default else 0.25,
        list: ["q"] if key == "probes" else ["grad_norm"],
        str: next((name for name in options(key) if name != default), f"{default or ''}x"),
    }
    return next((value for kind, value in made.items() if kind in kinds), *literals[:1])


def changed(key: str, value: Any) -> RunConfig:
    return parse(RunConfig, nested(key, value))


def test_every_key_is_of_a_kind_that_these_tests_know() -> None:
    literal, boolean, lists = (
        {"dtype", "rerun"},
        {"bias", "init.orthogonal", "tracking.checkpoint", "resume", "offline"},
        {"tracking.layers", "probes"},
    )
    assert set(WHOLE) | set(REAL) | set(TEXT) | literal | boolean | lists == set(KEYS)
    assert {"output", "engine", *(f"{key}.name" if key in GROUPS else key for key in TABLES)} == set(NAMES)
    for key in (*literal, *boolean, *lists):
        assert changed(key, other(key)) != RunConfig()


# ---------------------------------------------------------------------------------------------- what is accepted


def test_the_defaults_are_valid() -> None:
    assert check(RunConfig()) == parse(RunConfig, {}) == RunConfig()
    assert parse(RunConfig, asdict(RunConfig())) == RunConfig()


def test_the_defaults_are_the_documented_ones() -> None:
    flat = flatten(RunConfig())
    expected = {"depth": 10, "width": 64, "activation": "sigmoid", "output": "sigmoid", "loss": "squared_error", "bias": False}
    expected |= {"steps": 1000, "batch_size": 32, "seed": 0, "dtype": "float32", "blas_threads": 1, "data.name": "digits"}
    expected |= {"init.name": "xavier", "optimizer.name": "sgd", "data.test_fraction": 0.2, "tracking.experiment": "bpexp"}
    assert {key: flat[key] for key in expected} == expected


@pytest.mark.parametrize("key", [key for key in KEYS if len(options(key)) != 1])
def test_a_key_takes_its_default_and_another_value(key: str) -> None:
    default = flatten(RunConfig())[key]
    assert changed(key, default) == RunConfig()
    value = other(key)
    group, _, name = key.partition(".")
    filled = {f"{group}.{inner}": preset for inner, preset in GROUPS[group][value].keys.items()} if group in GROUPS and name == "name" else {}
    assert flatten(changed(key, value)) == flatten(RunConfig()) | {key: value} | filled | ({"output": "softmax"} if value == "cross_entropy" else {})


def test_bounds_are_written_down_for_every_number() -> None:
    assert set(BOUNDS) == set(WHOLE) | set(REAL)
    limits = {key: [note for _, notes in parts(keys(RunConfig)[key]) for note in notes if isinstance(note, Ge | Gt | Le | Lt)] for key in BOUNDS}
    assert all(limits.values())


@pytest.mark.parametrize("key", BOUNDS)
def test_bounds(key: str) -> None:
    for bound in BOUNDS[key]:
        if bound is not None:
            inside, outside = bound
            assert flatten(changed(key, inside))[key] == inside
            assert [(fault.key, fault.value) for fault in faults(nested(key, outside))] == [(key, outside)]


@pytest.mark.parametrize("key", [key for key in WHOLE if key not in REAL])
@pytest.mark.parametrize("value", [True, False, 5.0, 5.5, "5", nan, inf, "x"])
def test_a_whole_number_is_nothing_else(key: str, value: object) -> None:
    assert [fault.key for fault in faults(nested(key, value))] == [key]


@pytest.mark.parametrize("key", REAL)
def test_a_number_is_finite_and_may_be_whole(key: str) -> None:
    for value in (nan, inf, -inf, True, "0.5", "x"):
        assert [fault.key for fault in faults(nested(key, value))] == [key]
    low, high = BOUNDS[key]
    inside = [whole for whole in (0, 1, 2) if low and high and low[0] <= whole <= high[0]]
    assert inside
    for whole in inside:
        value = flatten(changed(key, whole))[key]
        assert (value, type(value)) == (float(whole), float)


@pytest.mark.parametrize("value", [0, 1, "true", "yes", 1.0, None])
def test_true_or_false_is_nothing_else(value: object) -> None:
    assert [fault.key for fault in faults({"bias": value})] == ["bias"]


@pytest.mark.parametrize("key", TEXT)
@pytest.mark.parametrize("value", [1, 1.5, True])
def test_a_text_is_nothing_else(key: str, value: object) -> None:
    assert [fault.key for fault in faults(nested(key, value))] == [key]


@pytest.mark.parametrize("key", [key for key in KEYS if key not in OPTIONAL])
def test_null_is_no_value(key: str) -> None:
    assert [fault.key for fault in faults(nested(key, None))] == [key]


@pytest.mark.parametrize("key", NAMES)
def test_a_key_with_names_takes_each_and_lists_them_all_in_a_refusal(key: str) -> None:
    for name in options(key):
        assert flatten(changed(key, name))[key] == name
    (fault,) = faults(nested(key, "nonesuch"))
    assert all(name in fault.must for name in options(key))


def test_the_names_are_those_of_the_tables() -> None:
    assert set(options("output")) == set(ACTIVATIONS)
    assert set(options("activation")) == {name for name, row in ACTIVATIONS.items() if row.elementwise}
    assert set(options("loss")) == set(LOSSES)


def test_batch_size_and_dtype() -> None:
    assert changed("batch_size", "full").batch_size == "full"
    for key, value in (("batch_size", "all"), ("batch_size", 0), ("batch_size", None), ("dtype", "float16"), ("dtype", 32)):
        assert [fault.key for fault in faults({key: value})] == [key]


def test_the_tracked_layers_are_a_list_of_probes() -> None:
    assert changed("tracking.layers", []).tracking.layers == []
    (fault,) = faults(nested("tracking.layers", "grad_norm"))
    assert fault.key == "tracking.layers"
    (fault,) = faults(nested("tracking.layers", ["grad_norm", "grad_nrom"]))
    assert (fault.key, fault.value) == ("tracking.layers", "grad_nrom")
    assert "did you mean 'grad_norm'?" in fault.must


def test_the_output_is_the_losss_own_where_none_is_named() -> None:
    for name, loss in LOSSES.items():
        assert RunConfig(loss=name).output == changed("loss", name).output == loss.default_output
    assert RunConfig(output="tanh").output == "tanh"


# ---------------------------------------------------------------------------------------------- how faults are told


def test_every_fault_at_once() -> None:
    found = faults({"depth": 0, "lr": -1.0, "activation": "sigmoidal", "init": {"name": "hee", "sigma_w2": 0.0}, "wdith": 3, "data": {"sed": 1}})
    assert {fault.key for fault in found} == {"depth", "lr", "activation", "init.name", "init.sigma_w2", "wdith", "data.sed"}
    assert len(found) == 7


def test_a_value_that_fits_no_member_of_a_union_is_one_fault() -> None:
    for key in ("batch_size", "output", "data.samples", "init.sigma_w2"):
        assert len(faults(nested(key, "x"))) == 1


@pytest.mark.parametrize(
    ("key", "value", "near"),
    [
        ("dept", 3, "depth"),
        ("init.nam", "he", "init.name"),
        ("sigma_w2", 1.0, "init.sigma_w2"),
        ("activation", "sigmiod", "sigmoid"),
        ("init.name", "xaver", "xavier"),
        ("loss", "cross_entrpy", "cross_entropy"),
    ],
)
def test_the_nearest_name(key: str, value: object, near: str) -> None:
    (fault,) = faults(nested(key, value))
    assert f"did you mean '{near}'?" in fault.must


def test_no_near_name_points_to_the_help() -> None:
    (fault,) = faults({"qqqq": 1})
    assert "did you mean" not in fault.must
    assert "--help" in fault.must


def test_a_refusal_reads_key_value_and_what_it_must_be() -> None:
    (fault,) = faults({"depth": 0})
    assert str(fault).startswith("depth=0: must be a whole number, at least 1")
    (fault,) = faults({"lr": None})
    assert str(fault).startswith("lr=null: must be a number, above 0")


def test_an_error_has_a_line_per_fault() -> None:
    with pytest.raises(ConfigError) as refused:
        parse(RunConfig, {"depth": 0, "width": "wide", "nmae": "x" * 1000})
    assert str(refused.value).splitlines() == [str(fault) for fault in refused.value.faults]
    assert len(refused.value.faults) == 3
    assert max(map(len, str(refused.value).splitlines())) < 200


@pytest.mark.parametrize("value", [[1, 2], {"a": 1}, [], [{"a": [1]}], "two\nlines", "\r", "a\x1b[31mb"])
@pytest.mark.parametrize("key", KEYS)
def test_a_value_of_any_shape_is_refused_in_one_line_each(key: str, value: object) -> None:
    if key in TEXT and isinstance(value, str) and key not in NAMES:
        return  # a text is what it says
    if key in {"tracking.layers", "probes"} and value == []:
        return
    for fault in faults(nested(key, value)):
        assert fault.key.startswith(key)
        assert str(fault).isprintable()


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(["full", "he", "float64", "digits"])
anything = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2), max_leaves=4)
groups = st.dictionaries(st.sampled_from(sorted({key.split(".")[-1] for key in KEYS})), anything, max_size=2)


@settings(derandomize=True, database=None, deadline=None, max_examples=300)
@given(st.dictionaries(st.sampled_from(sorted({key.split(".")[0] for key in KEYS})) | st.text(max_size=3), anything | groups, max_size=3))
def test_whatever_comes_in_is_a_configuration_or_a_refusal_with_faults(values: dict[str, Any]) -> None:
    try:
        config = parse(RunConfig, values)
    except ConfigError as error:
        assert error.faults  # noqa: PT017 (either outcome is right)
    else:
        assert parse(RunConfig, asdict(config)) == config


@pytest.mark.parametrize("group", ["data", "init", "optimizer", "tracking"])
@pytest.mark.parametrize("value", [None, 5, "he"])
def test_a_group_that_is_no_group(group: str, value: object) -> None:
    (fault,) = faults({group: value})
    assert fault.key == group


def test_an_unknown_group_is_refused_even_when_empty() -> None:
    (fault,) = faults({"intit": {}})
    assert fault.key == "intit"


# ---------------------------------------------------------------------------------------------- keys, help, flatten


def test_keys_and_values_go_together() -> None:
    assert list(keys(RunConfig)) == list(flatten(RunConfig()))
    assert flatten(RunConfig(init=InitConfig("gaussian", sigma_w2=4.0)))["init.sigma_w2"] == 4.0


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_explained(key: str) -> None:
    lines = explain(RunConfig, RunConfig()).splitlines()
    (at,) = [index for index, line in enumerate(lines) if line.startswith(f"  {key}=")]
    meaning = lines[at].split(maxsplit=1)[1:]
    assert meaning
    assert meaning[0].strip()
    allowed = lines[at + 1].strip()
    assert allowed.startswith("(")
    assert allowed.removeprefix("(").removesuffix(")").strip()
    assert all(name in allowed for name in options(key))


# ---------------------------------------------------------------------------------------------- combinations


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"loss": "cross_entropy", "output": "sigmoid"}, {"output"}),
        ({"output": "softmax"}, {"output"}),
        ({"init": {"name": "xavier", "sigma_w2": 2.0}}, {"init.sigma_w2"}),
        ({"init": {"name": "he", "sigma_w2": 2.0}}, {"init.sigma_w2"}),
        ({"init": {"sigma_b2": 0.1}}, {"init.sigma_b2"}),
        ({"tracking": {"experiment": "  "}}, {"tracking.experiment"}),
        ({"init": {"name": "critical", "sigma_w2": 100.0}}, {"init.sigma_w2"}),  # it is solved for
        ({"init": {"name": "critical"}, "activation": "softplus"}, {"init"}),  # there is no critical point
        ({"init": {"name": "critical", "sigma_b2": 0.1}, "activation": "relu", "bias": True}, {"init"}),
        ({"init": {"name": "shifted_critical"}}, {"bias"}),
        ({"init": {"name": "shifted_critical"}, "activation": "tanh"}, {"bias", "activation"}),
        ({"init": {"name": "sussillo"}}, {"activation"}),
        ({"init": {"orthogonal": True}}, {"init.orthogonal"}),
        ({"init": {"gain": 1.0}}, {"init.gain"}),
        ({"init": {"name": "identity", "sigma_w2": 1.0}}, {"init.sigma_w2"}),
        ({"norm": "batch", "batch_size": 1}, {"batch_size"}),
        ({"norm": "layer", "width": 1}, {"width"}),
        ({"skip": {"every": 2}}, {"skip.every"}),
        ({"skip": {"name": "residual", "every": 9}}, {"skip.every"}),
        ({"optimizer": {"momentum": 0.9}}, {"optimizer.momentum"}),
        ({"optimizer": {"name": "momentum", "beta1": 0.9, "eps": 1e-8}}, {"optimizer.beta1", "optimizer.eps"}),
        ({"optimizer": {"name": "adam", "eps": 1e-60}}, {"optimizer.eps"}),
        ({"optimizer": {"name": "adam", "eps": 7e-46}}, {"optimizer.eps"}),
        ({"schedule": {"warmup": 10}}, {"schedule.warmup"}),
        ({"schedule": {"name": "warmup", "warmup": 1001}}, {"schedule.warmup"}),
        (
            {"output": "softmax", "init": {"sigma_w2": 1.0, "sigma_b2": 1.0}, "tracking": {"experiment": ""}},
            {"output", "init.sigma_w2", "init.sigma_b2", "tracking.experiment"},
        ),
    ],
)
def test_combinations_that_make_no_sense(values: dict[str, Any], expected: set[str]) -> None:
    config = parse(RunConfig, values)
    with pytest.raises(ConfigError) as refused:
        check(config)
    assert {fault.key for fault in refused.value.faults} == expected
    assert len(refused.value.faults) == len(expected)


@pytest.mark.parametrize(
    "values",
    [
        {"loss": "cross_entropy"},
        {"loss": "cross_entropy", "output": "softmax"},
        {"output": "linear"},
        {"init": {"name": "gaussian", "sigma_w2": 4.0}},
        {"init": {"name": "orthogonal", "sigma_w2": 0.5}},
        {"bias": True, "init": {"sigma_b2": 0.1}},
        {"init": {"name": "identity", "gain": 0.5}},
        {"init": {"name": "critical"}},
        {"init": {"name": "critical", "sigma_w2": 103.008}},  # as one would read it off a page
        {"init": {"name": "critical", "sigma_b2": 0.05, "orthogonal": True}, "activation": "tanh", "bias": True},
        {"init": {"name": "shifted_critical"}, "bias": True},
        {"norm": "batch", "batch_size": 2},
        {"norm": "batch", "batch_size": "full"},
        {"norm": "layer", "batch_size": 1},
        {"skip": {"name": "residual", "every": 8}},
        {"skip": {"name": "rezero"}, "depth": 1},
        {"optimizer": {"name": "adam", "eps": 1e-60}, "dtype": "float64"},
        {"optimizer": {"name": "adam", "eps": 8e-46}},  # rounded to the smallest number of float32
        {"optimizer": {"name": "adam", "eps": 1e300}},  # beyond float32, and no warning: no step, but what was asked for
        {"optimizer": {"clip": 1.0, "weight_decay": 0.1}, "schedule": {"name": "cosine", "warmup": 1000}},
    ],
)
def test_combinations_that_make_sense(values: dict[str, Any]) -> None:
    config = parse(RunConfig, values)
    assert check(config) == config


def test_a_configuration_made_in_python_is_checked_like_any_other() -> None:
    with pytest.raises(ConfigError) as refused:
        check(RunConfig(depth=0, lr=nan, init=InitConfig(name="hee")))
    assert [fault.key for fault in refused.value.faults] == ["depth", "lr", "init.name"]
    checked = check(RunConfig(lr=1))
    assert type(checked.lr) is float


# ---------------------------------------------------------------------------------------------- fingerprint


@pytest.mark.parametrize("key", KEYS)
def test_the_fingerprint_covers_every_key_but_tracking_the_path_and_what_becomes_of_earlier_runs(key: str) -> None:
    config: Any = RunConfig()
    *groups, name = key.split(".")
    setattr(reduce(getattr, groups, config), name, other(key))
    same = key.startswith("tracking.") or key in ("data.path", "resume", "rerun", "offline")
    assert (fingerprint(config, "data") == fingerprint(RunConfig(), "data")) is same


def test_the_fingerprint_covers_the_data_and_the_cores_numerics(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(RunConfig(), "data")
    assert fingerprint(RunConfig(), "other data") != before
    monkeypatch.setattr(module, "NUMERICS", NUMERICS + 1)
    assert fingerprint(RunConfig(), "data") != before


def test_fingerprints_tell_values_apart_that_look_alike() -> None:
    values: list[dict[str, Any]] = [
        {},
        {"seed": 1},
        {"data": {"seed": 1}},
        {"depth": 64, "width": 10},
        {"batch_size": "full"},
        {"lr": 3.0000000000000004},
    ]
    values += [{"init": {"name": "gaussian", "sigma_w2": value}} for value in (0.1 + 0.2, 0.3, 1.0)]
    assert len({fingerprint(parse(RunConfig, value), "data") for value in values}) == len(values)


def test_a_default_that_is_typed_out_is_the_default() -> None:
    written_out = {"init": {"name": "gaussian", "sigma_w2": 1.0}, "optimizer": {"name": "sgd", "weight_decay": 0.0}}
    assert fingerprint(parse(RunConfig, written_out), "data") == fingerprint(parse(RunConfig, {"init": {"name": "gaussian"}}), "data")


def test_how_a_configuration_was_written_makes_no_difference() -> None:
    one = check(RunConfig(lr=2, output="sigmoid", tracking=TrackingConfig(run_name="a")))
    two = parse(RunConfig, {"lr": 2.0, "depth": 10})
    assert fingerprint(one, "data") == fingerprint(two, "data")


def test_the_fingerprint_is_the_same_in_another_process() -> None:
    code = "from bpexp.config import RunConfig, fingerprint; print(fingerprint(RunConfig(depth=7), 'data'))"
    for seed in ("1", "2"):
        found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True)
        assert found.stdout.strip() == fingerprint(RunConfig(depth=7), "data")


# ---------------------------------------------------------------------------------------------- probes


def test_probes_that_are_typed_in_another_order_or_twice_are_the_same_run() -> None:
    one, two = (parse(RunConfig, {"probes": names}) for names in (["q", "c", "spectrum"], ["spectrum", "c", "q", "c"]))
    assert one.probes == two.probes
    assert sorted(one.probes) == ["c", "q", "spectrum"]
    assert fingerprint(one, "data") == fingerprint(two, "data") != fingerprint(RunConfig(), "data")


@pytest.mark.parametrize("name", [name for name, probe in PROBES.items() if probe.always])
def test_what_is_always_measured_is_not_chosen(name: str) -> None:
    (fault,) = faults({"probes": [name]})
    assert fault.key == "probes"
    assert "spectrum" in fault.must


@pytest.mark.parametrize("name", CHOSEN)
@pytest.mark.parametrize(("change", "words"), [({"norm": "layer"}, "norm=layer"), ({"skip": {"name": "residual"}}, "skip=residual")])
def test_jacobians_are_those_of_plain_nets(name: str, change: dict[str, Any], words: str) -> None:
    config = parse(RunConfig, {"probes": [name], **change})
    if name in {"jacobian_mean", "jacobian_variance", "spectrum"}:
        with pytest.raises(ConfigError) as refused:
            check(config)
        assert str(refused.value) == f"probes=[{name}]: must be measured in a plain net, without {words}"
    else:
        assert check(config) == config


def test_what_is_tracked_must_be_measured() -> None:
    with pytest.raises(ConfigError) as refused:
        check(RunConfig(probes=["c"], tracking=TrackingConfig(layers=["saturated", "c", "q"])))
    assert str(refused.value) == "tracking.layers=[q]: must be measured to be tracked: probes=[c,q]"
    assert check(RunConfig(probes=["c", "q"], tracking=TrackingConfig(layers=["q"]))).tracking.layers == ["q"]
    assert [fault.key for fault in faults({"tracking": {"layers": ["spectrum"]}})] == ["tracking.layers"]
