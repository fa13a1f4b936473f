"""The benchmarks at tiny size: contenders compute the same, the numbers are told as they are."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import cures, linear, step, sweep
from benchmarks.cells import Cell
from benchmarks.page import rebuild
from benchmarks.tables import mark, outcome, ratios, table
from benchmarks.timing import Options, Workers, agreement
from bpexp.config import TABLES
from tests.cli import ROOT, environment

TINY = Cell(depth=4, width=6, batch=8)
NUMPY = ("ours", "ours uncontrolled", "tutorial", "matmuls")
OTHERS = ("torch fused", "torch foreach", "torch matmuls", *step.PEERS["JAX"])
STACKS = ("ours", "torch.bmm", "jax.vmap unrolled", "jax.vmap scan")


def compare(cell: Cell, *names: str) -> dict[str, dict[str, Any]]:
    with Workers([*names, "reference"], Options(rounds=2)) as workers:
        return workers.compare(cell, names, reference="reference")


def check(found: dict[str, dict[str, Any]], cell: Cell) -> None:
    """All have trained the same net: norms and losses agree with those of float64."""
    for name, each in found.items():
        assert "note" not in each, (name, each)
        assert len(each["us"]) == 2
        if "matmuls" not in name:
            assert each["check"]["loss"] < 1e-5, name
            assert each["check"]["right"] == each["check"]["of"] == cell.runs * cell.depth, name


def test_numpys_contenders_learn_the_same() -> None:
    check(compare(TINY, *NUMPY), TINY)


@pytest.mark.bench
def test_all_contenders_learn_the_same() -> None:
    check(compare(TINY, "ours", *OTHERS), TINY)


@pytest.mark.bench
def test_all_stacks_learn_the_same() -> None:
    cell = Cell(depth=4, width=6, batch=8, runs=3)
    check(compare(cell, *STACKS), cell)


@pytest.mark.bench
def test_every_cure_learns_the_same_in_pytorch() -> None:
    names = ("ours", "torch fused", "torch foreach")
    with Workers([*names, "reference"], Options(rounds=2)) as workers:
        for cell in cures.cells(depth=5, width=6, batch=8):
            found = workers.compare(cell, names, reference="reference")
            timed = {name: each for name, each in found.items() if "note" not in each}
            assert "ours" in timed, found
            assert len(timed) > 1, (cell, found)
            check(timed, cell)


def test_every_option_that_a_step_can_feel_is_a_cell_of_the_cures() -> None:
    options = {(key.partition(".")[0], value) for cell in cures.cells() for key, value in cell.keys.items()}
    plain = {("activation", "sigmoid"), ("norm", "none"), ("skip", "none"), ("loss", "squared_error"), ("optimizer", "sgd")}
    assert {(key, name) for key, table in TABLES.items() if key not in ("init", "schedule") for name in table} - plain <= options
    assert not plain & options


def test_norms_that_float32_cannot_hold_are_counted() -> None:
    cell = Cell(depth=60, width=6, batch=2)
    with Workers(["ours", "tutorial", "reference"], Options(rounds=1)) as workers:
        found = workers.compare(cell, ["ours", "tutorial"], reference="reference")
    assert found["ours"]["check"]["right"] == 60
    assert 0 < found["tutorial"]["check"]["zero"] <= 60 - found["tutorial"]["check"]["right"]


def test_a_contender_that_fails_has_a_note_and_the_others_have_times() -> None:
    wrong = Cell(depth=4, width=6, batch=8, keys={"activation": "no such"})
    with Workers(["ours", "engine no such"], Options(rounds=1)) as workers:
        assert "activation=no such" in workers.compare(wrong, ["ours"])["ours"]["note"]
        found = workers.compare(TINY, ["ours", "engine no such"])
        assert "no such" in found["engine no such"]["note"]
        assert len(found["ours"]["us"]) == 1


def test_agreement_sees_a_wrong_norm_and_a_wrong_loss() -> None:
    right = {"norms": [[0.0, -1.0, -80.0]], "losses": [2.0]}
    wrong = {"norms": [[0.0, -1.0001, float("-inf")]], "losses": [2.2]}
    nothing = {"norms": [[0.0, -1.0, float("-inf")]], "losses": [2.0]}
    assert agreement(right, right) == {"loss": 0.0, "right": 3, "zero": 0, "of": 3}
    assert agreement(nothing, nothing) == {"loss": 0.0, "right": 3, "zero": 1, "of": 3}
    assert agreement({**right, "losses": [1e-9]}, {**right, "losses": [0.0]})["loss"] == pytest.approx(1e-6)
    assert agreement(wrong, right) == {"loss": pytest.approx(0.1), "right": 1, "zero": 1, "of": 3}


def row(depth: int, **us: list[float]) -> dict[str, Any]:
    return {"cell": Cell(depth, 6, 8).written, "found": {name: {"us": times} for name, times in us.items()}}


def test_ratios_are_taken_round_by_round_against_the_fastest() -> None:
    found = row(3, ours=[1.0, 3.0, 2.0], slow=[9.0, 9.0, 9.0], fast=[2.0, 2.0, 4.0])["found"]
    assert ratios(found, "ours", ["slow", "fast"]) == [0.5, 1.5, 0.5]
    assert ratios(found, "ours", ["nobody"]) == []
    assert mark([0.5, 1.5, 0.5]) == "0.50 (0.50–1.50)"
    assert mark([1.0, 1.5, 2.0]) == "**1.50** (1.00–2.00)"


def test_the_outcome_counts_wins_and_names_the_worst_cell() -> None:
    rows = [row(3, ours=[1.0], peer=[2.0]), row(10, ours=[3.0], peer=[2.0]), row(50, ours=[1.0], peer=[4.0])]
    told = "- Against Peer: 2 of 3 cells won, median ratio 0.50, worst 1.50 (depth 10, width 6, batch 8)."
    assert outcome(rows, "ours", {"Peer": ["peer"], "Absent": ["absent"]}) == told


def test_a_table_aligns_numbers_to_the_right() -> None:
    assert table(["way", "µs"], [["ours", "1.5"], ["theirs", "**2.5**"]]).splitlines()[1] == "| :-- | --: |"


def test_a_fit_finds_exponent_line_and_residual() -> None:
    line = {str(x): [10.0 + 2.0 * x] for x in (10, 20, 40)}
    power = {str(x): [3.0 * x**2.0] for x in (10, 20, 40)}
    assert linear.fit(line)[1:] == pytest.approx((10.0, 2.0, 0.0), abs=1e-9)
    assert linear.fit(power)[0] == pytest.approx(2.0)
    assert linear.fit(power)[3] > 0.1


def test_a_fit_weighs_relative_errors() -> None:
    times = {1: 1.2, 10: 9.0, 100: 110.0, 1000: 1000.0}
    _, intercept, slope, worst = linear.fit({str(x): [y] for x, y in times.items()})
    errors = [(intercept + slope * x) / y - 1.0 for x, y in times.items()]
    assert sum(error * x / y for error, (x, y) in zip(errors, times.items(), strict=True)) == pytest.approx(0.0, abs=1e-9)  # d/d slope
    assert worst == pytest.approx(max(map(abs, errors)))


@pytest.mark.parametrize("word", ["nothing", "rounds=0", "rounds=many", "core=4096", "share=12"])
def test_a_wrong_word_is_refused_in_a_line(word: str) -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks", word], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"benchmarks: {word}: must be ")
    assert len(done.stderr.splitlines()) == 1


def test_the_page_is_made_of_the_numbers_that_are_stored(tmp_path: Path) -> None:
    names = [name for peer in step.PEERS.values() for name in peer]
    rows = [row(depth, ours=[2.0, 3.0, 4.0], **{name: [float(depth)] * 3 for name in names}) for depth in (3, 10)]
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "step.json").write_text(json.dumps({"rounds": 3, "machine": {"cores": "2"}, "found": rows}))
    page = rebuild(tmp_path).read_text()
    assert "| cores | 2 |" in page
    assert "| 10 | 6 | 8 | 3.0 | 10.0 fused |" in page
    assert "0.30 (0.20–0.40)" in page
    assert "- Against JAX: 1 of 2 cells won, median ratio 0.65, worst 1.00 (depth 3, width 6, batch 8)." in page
    assert "## Stacks" not in page
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.bench
def test_the_harness_learns_what_the_sweep_learns(tmp_path: Path) -> None:
    losses = []
    for way, start in (("ours", sweep.OURS), ("theirs", sweep.THEIRS)):
        folder = tmp_path / way
        folder.mkdir()
        line = [sys.executable, *start, *sweep.words(2, depth=3, width=8, steps=60, lrs=(0.3, 3.0))]
        done = subprocess.run(line, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode == 0, done.stderr
        losses.append(sweep.final(folder))
    assert len(losses[0]) == len(losses[1]) == 4
    assert sweep.agreement(*losses) < 1e-5
