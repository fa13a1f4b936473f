"""Rows of a user's own: what may be added, that runs with them are told apart by what they compute, that every process knows them."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bpexp
from bpexp import plugins
from bpexp.config import ConfigError, OneOf, RunConfig, TrackingConfig, check, fingerprint, parse
from bpexp.core.activations import ACTIVATIONS, Activation
from bpexp.core.arrays import Array, Float64s
from bpexp.core.moments import Before
from bpexp.core.own import TABLES, digest
from bpexp.core.probes import CHOSEN, PROBES, Probe
from bpexp.core.rows import RuleRow
from bpexp.experiment import prepare, run
from bpexp.prediction import predict
from bpexp.sweep.gallery import alone
from bpexp.tracking.reader import NoRunsError
from bpexp.tracking.sink import MlflowSink
from bpexp.tracking.store import connect, resolve
from tests.bad_input.commands import refused
from tests.cli import inside
from tests.sweeps import empty_store

WORDS: dict[str, Any] = {"equation": "φ(z) = cz", "effect": "Every layer multiplies the deltas by c.", "source": "made up"}
LINE: dict[str, Any] = WORDS | {"range": (-np.inf, np.inf), "steepest": 1.0}
SMALL = RunConfig(depth=4, width=6, steps=3, activation="scaled")


def _times(factor: float, z: Array, out: Array) -> None:
    np.multiply(z, factor, out=out)


def _slope(factor: float, _z: Array, _a: Array, out: Array) -> None:
    np.copyto(out, factor)


def scaled(factor: float, **more: Any) -> Activation:
    functions = partial(_times, factor), partial(_slope, factor)
    return Activation("scaled", *functions, **(LINE | more))


def largest(now: Before, k: int) -> Float64s:
    """Max |z_k| over samples and neurons."""
    return np.asarray(np.abs(now.neurons.z[k]).max(axis=(1, 2)), np.float64)


@pytest.fixture(autouse=True)
def _tables() -> Iterator[None]:
    """As they were."""
    before = {kind: dict(table) for kind, table in TABLES.items()}
    yield
    for kind, table in TABLES.items():
        table.clear()
        table.update(before[kind])


def test_an_activation_is_a_value_of_the_key_from_then_on() -> None:
    with pytest.raises(ConfigError, match="activation=scaled: must be one of"):
        check(SMALL)
    bpexp.add(scaled(0.5))
    assert check(SMALL).activation == "scaled"
    with pytest.raises(ConfigError, match=r"one of .*, scaled, .*; did you mean 'scaled'"):
        parse(RunConfig, {"activation": "scald"})
    assert "activation=scaled" in alone()


def test_theory_has_the_row_and_not_just_its_name() -> None:
    config = RunConfig(depth=12, activation="scaled", output="linear", init=bpexp.InitConfig("gaussian", sigma_w2=1.0), steps=0)
    for factor in (0.5, 0.1):
        bpexp.add(scaled(factor))
        prediction = predict(check(config))
        assert prediction is not None
        assert bpexp.train(config).delta_decades_per_layer == pytest.approx(-np.log10(factor), abs=0.05)
        assert prediction.delta_decades_per_layer == pytest.approx(-np.log10(factor), abs=0.02)


def test_a_probe_is_chosen_and_tracked_by_its_name() -> None:
    bpexp.add(Probe(largest, log10=False))
    assert "largest" in CHOSEN
    records = bpexp.train(RunConfig(depth=4, width=6, steps=3, probes=["largest"], tracking=TrackingConfig(layers=["largest"])))
    assert records.layers["largest"].min() > 0
    assert "largest" not in bpexp.train(RunConfig(depth=4, width=6, steps=3)).layers


@pytest.mark.parametrize(
    ("row", "error", "words"),
    [
        (replace(scaled(1.0), name="tanh"), ValueError, "tanh: is a name that bpexp's own rows have"),
        (replace(scaled(1.0), name="two words"), ValueError, "two words: must be a name"),
        (Probe(largest, log10=False, always=True), ValueError, "largest: must be chosen by name"),
        ("tanh", TypeError, "'tanh': must be a row of a table: Activation, "),
    ],
)
def test_what_is_no_row_of_ones_own_is_refused(row: Any, error: type[Exception], words: str) -> None:
    before = dict(ACTIVATIONS), dict(PROBES)
    with pytest.raises(error, match=words):
        bpexp.add(row)
    assert before == (ACTIVATIONS, PROBES)


def test_spectrum_is_a_name_that_is_taken() -> None:
    def spectrum(now: Before, k: int) -> Float64s:
        return largest(now, k)

    with pytest.raises(ValueError, match="spectrum: is a name that bpexp's own rows have"):
        bpexp.add(Probe(spectrum, log10=False))


# ---------------------------------------------------------------------------------------------- fingerprints


def print_with(row: Activation) -> str:
    bpexp.add(row)
    return fingerprint(SMALL, "data")


def test_two_activations_of_one_name_are_two_runs() -> None:
    one = print_with(scaled(0.5))
    assert print_with(scaled(0.5)) == one == print_with(scaled(0.5, source="elsewhere"))
    assert len({one, print_with(scaled(0.25)), print_with(scaled(0.5, steepest=0.5)), fingerprint(RunConfig(depth=4, width=6, steps=3), "data")}) == 4


PLACES = [{"activation": "tanh", "output": "scaled"}, {"activation": "tanh", "probes": ["largest"]}, {"schedule": bpexp.ScheduleConfig("halved")}]


@pytest.mark.parametrize("change", PLACES)
def test_the_fingerprint_covers_every_place_of_an_own_row(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def halved(_step: int, _steps: int) -> float:
        return 0.5

    for row in (scaled(0.5), Probe(largest, log10=False), RuleRow(halved, **WORDS)):
        bpexp.add(row)
    config = replace(SMALL, **change)
    before = fingerprint(config, "data")
    monkeypatch.setattr("bpexp.config.digest", lambda row: digest(row)[::-1])
    assert fingerprint(config, "data") != before


def test_rows_of_ours_have_no_digest_in_a_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    bpexp.add(scaled(0.5))
    monkeypatch.delattr("bpexp.config.digest")
    assert fingerprint(RunConfig(probes=["q", "spectrum"]), "data")


NOTEBOOK = """
FACTOR = {factor}
def largest(now, k):
    return FACTOR * now.neurons.z[k].max(axis=(1, 2)) + sum(it {sign} 1 for it in ())
"""


def test_a_function_without_a_file_is_told_by_its_code_and_its_numbers() -> None:
    def of(**changes: object) -> str:
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(NOTEBOOK.format(**({"factor": 1.0, "sign": "+"} | changes)), "<cell>", "exec"), names)
        return digest(Probe(names["largest"], log10=False))

    main = sys.modules["__main__"]
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(main, "__file__", raising=False)  # as in a notebook
        assert of() == of()
        assert len({of(), of(factor=2.0), of(sign="-")}) == 3


# ---------------------------------------------------------------------------------------------- from a file, in every process

MINE = """
import numpy as np
import bpexp
from bpexp.core.activations import Activation

def function(z, out):
    np.multiply(z, 0.5, out=out)

def derivative(z, a, out):
    np.copyto(out, 0.5)

bpexp.add(Activation("halved", function, derivative, range=(-np.inf, np.inf), steepest=0.5, equation="z / 2", effect="halves", source="none"))
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module of the user's, in the folder in which commands are typed."""
    (tmp_path / "my_rows.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(plugins.VARIABLE, "my_rows")
    plugins._load.cache_clear()
    yield tmp_path / "my_rows.py"
    plugins._load.cache_clear()
    sys.modules.pop("my_rows", None)


def test_a_sweep_and_its_processes_know_it(mine: Path) -> None:
    words = ["-m", "activation=halved,linear", "output=linear", "depth=5", "width=4", "steps=2", "hydra.launcher.n_jobs=2", "offline=true"]
    done = inside(mine.parent, *words)
    assert done.returncode == 0, done.stderr
    lost = {line.split("activation=")[1].split()[0]: float(line.split()[-2]) for line in done.stdout.splitlines() if "activation=" in line}
    for name, found in lost.items():
        expected = bpexp.train(RunConfig(depth=5, width=4, steps=2, activation=name, output="linear")).delta_decades_per_layer
        assert found == pytest.approx(expected, abs=0.0005)  # as it is printed
    assert lost["halved"] > lost["linear"]


def test_a_change_of_its_file_makes_another_run_of_it(mine: Path) -> None:
    plugins.load()
    config = replace(SMALL, activation="halved")
    before = fingerprint(config, "data")
    assert fingerprint(config, "data") == before
    mine.write_text(MINE.replace("0.5", "0.25"))
    assert fingerprint(config, "data") != before


def test_runs_with_rows_that_are_not_here_say_which_and_what_is_missing(tmp_path: Path) -> None:
    uri = resolve("sqlite:///mlflow.db", tmp_path)
    (tmp_path / "mlflow.db").write_bytes(empty_store())
    bpexp.add(scaled(0.5))
    sink = MlflowSink(connect(uri, "bpexp"))
    run(prepare(SMALL), sink)
    assert list(bpexp.load_runs(None, uri).runs["activation"]) == ["scaled"]
    del ACTIVATIONS["scaled"]
    with pytest.raises(NoRunsError) as told:
        bpexp.load_runs(None, uri)
    must = "is not known here; if it is one of your own, BPEXP_PLUGINS must name the module that adds it"
    assert str(told.value) == f"run {sink.run_id} has activation=scaled: {must}"


@pytest.mark.parametrize("words", [("bpexp", "depth=3"), ("bpexp.theory", "depth=3")])
def test_a_module_that_is_not_there_is_told_in_a_line(words: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(plugins.VARIABLE, "nonesuch")
    plugins._load.cache_clear()
    (line,) = refused(tmp_path, words[1], command=words[0])
    assert line == "BPEXP_PLUGINS=nonesuch: can't be imported (ModuleNotFoundError: No module named 'nonesuch')"
    plugins._load.cache_clear()


def test_names_of_a_key_are_those_of_its_table() -> None:
    table = {"one": 1}
    key = OneOf(table)
    table["two"] = 2
    assert key.names == ("one", "two")
    assert key.check("two") == "two"
