"""What large sweeps would take: the model's arithmetic, and its bounds against a cluster simulated by events."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import outlook, scale
from benchmarks.costs import FEW, MANY
from benchmarks.model import Costs, Net, Store, parts_needed, predict
from benchmarks.phases import PHASES
from benchmarks.waiting import bound, exponential, simulate, steady
from tests.cli import ROOT, environment

NET = Net(seconds=3.0, points=1000.0, bytes=5e4, files=4.0)
STORE = Store(points=50_000.0, seconds=0.005, run_bytes=2e4, point_bytes=200.0)
COSTS = Costs(6.0, 9.0, 2e-3, 1e-3, 1e-4, 0.01, 2e8, 1e4, 13e3, 3.0, 450.0)
SERVICE = 0.025


@pytest.mark.parametrize("workers", [1, 4, 39, 40, 41, 160])
def test_equal_runs_come_through_the_store_as_fast_as_the_model_says(workers: int) -> None:
    measured = simulate(workers, lambda: 39 * SERVICE, lambda: SERVICE, 4000, skip=400)
    assert measured == pytest.approx(bound(workers, 39 * SERVICE, SERVICE), rel=0.01)


@pytest.mark.parametrize("workers", [1, 4, 20, 40, 80, 160])
def test_unequal_runs_come_through_as_fast_as_queueing_theory_says_and_never_faster_than_the_model(workers: int) -> None:
    train = 39 * SERVICE
    measured = simulate(workers, exponential(train, 1), exponential(SERVICE, 2), 60_000, skip=2000)
    assert measured == pytest.approx(steady(workers, train, SERVICE), rel=0.02)
    assert measured <= 1.02 * bound(workers, train, SERVICE)
    if workers <= 20 or workers >= 80:  # half and twice the cores at which the store saturates
        assert measured >= 0.97 * bound(workers, train, SERVICE)
    else:
        assert measured >= 0.85 * bound(workers, train, SERVICE)


def test_runs_end_at_the_pace_of_the_busiest_part() -> None:
    few, many = predict(1e4, 2, NET, STORE, COSTS), predict(1e4, 1024, NET, STORE, COSTS)
    assert few.busiest == "cores"
    assert few.wall == pytest.approx(6.0 + 21.0 + 1e4 * 3.031 / 2)
    assert many.busiest == "store"
    assert many.wall == pytest.approx(6.0 + 21.0 + 1e4 * SERVICE)
    assert predict(1e4, few.saturation, NET, STORE, COSTS).wall == pytest.approx(many.wall)
    swift = replace(STORE, points=1e9, seconds=0.0)
    assert predict(1e4, 10_000, NET, swift, COSTS).busiest == "main process"
    assert predict(1e4, 10_000, NET, swift, COSTS, sweeps=10).busiest == "cores"


def test_bytes_and_files_grow_with_the_runs_and_the_main_process_with_its_part_of_them() -> None:
    one, parts = predict(1e6, 64, NET, STORE, COSTS), predict(1e6, 64, NET, STORE, COSTS, sweeps=100)
    assert one.database == parts.database == 1e6 * (2e4 + 2e5)
    assert one.files == parts.files == 7e6
    assert one.memory == pytest.approx(2e8 + 1e10)
    assert parts.memory == pytest.approx(2e8 + 1e8)
    assert parts.alone == pytest.approx(one.alone / 100)


def test_a_sweep_is_made_of_as_many_parts_as_memory_and_time_ask_for() -> None:
    assert parts_needed(1e4, COSTS, memory=4e9, alone=3600.0) == 1
    by_memory, by_time = parts_needed(1e6, COSTS, memory=1e9, alone=1e9), parts_needed(1e6, COSTS, memory=1e12, alone=60.0)
    assert by_memory == 13
    assert predict(1e6, 64, NET, STORE, COSTS, sweeps=by_memory).memory <= 1e9 < predict(1e6, 64, NET, STORE, COSTS, sweeps=by_memory - 1).memory
    assert predict(1e6, 64, NET, STORE, COSTS, sweeps=by_time).alone <= 60.0 < predict(1e6, 64, NET, STORE, COSTS, sweeps=by_time - 1).alone


def sweep(runs: int) -> dict[str, float]:
    """What would be measured of a sweep whose every cost is a straight line."""
    lines = {"plan cpu": (0.5, 1e-3), "look cpu": (0.01, 2e-4), "open cpu": (0.1, 3e-4), "compose cpu": (0.0, 5e-4)}
    lines |= {"train cpu": (0.2, 1e-3), "close cpu": (0.0, 1e-5), "cpu": (4.0, 3.1e-3), "workers": (5.0, 0.012)}
    lines |= {"peak": (2e8, 1e4), "folder bytes": (600.0, 13e3), "folder files": (1.0, 3.0), "manifest bytes": (50.0, 450.0)}
    wall = 6.0 + runs * (2.1e-3 + (0.012 + 1e-3) / 2)
    return {"wall": wall} | {name: start + slope * runs for name, (start, slope) in lines.items()}


def test_costs_are_found_where_they_are_straight_lines() -> None:
    kept = {"sweeps": {"found": {str(runs): sweep(runs) for runs in (FEW, MANY)}}, "nets": {"found": {"tiny": {"stacked": 0.002}}}}
    found = outlook.costs_of(kept)
    for name, value in vars(COSTS).items():
        assert getattr(found, name) == pytest.approx(value), name


def test_a_stores_pace_is_that_of_its_writers_together() -> None:
    size = {"run": 2e4, "point": 2e2, "seconds": 0.005}
    rounds = {f"{name}, 8": [{"rate": rate} for rate in (9e3, 8e3, 1e4)] for name in outlook.BYTES}
    kept = {"stores": {"found": rounds}, "bytes": {"found": {"SQLite": size, "PostgreSQL": size}}}
    assert outlook.store_of(kept, "SQLite") == Store(9e3, 0.005, 2e4, 2e2)
    assert outlook.store_of(kept, "server on PostgreSQL") == Store(9e3, 0.005, 2e4, 2e2, settle=1.0)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (outlook.duration(0.0021), "2.1 ms"),
        (outlook.duration(119.0), "119 s"),
        (outlook.duration(3 * 86400.0), "3.0 days"),
        (outlook.duration(1e9), "32 years"),
        (outlook.volume(13e3), "13 kB"),
        (outlook.volume(2.5e12), "2.5 TB"),
        (outlook.rounded(123_456.0), "120,000"),
        (outlook.rounded(0.7), "under 1"),
        (outlook.count(10**8), "10⁸"),
        (outlook.count(1234), "1,234"),
    ],
)
def test_sizes_are_told_in_units_that_one_can_read(told: str, words: str) -> None:
    assert told == words


def test_the_page_says_what_was_measured() -> None:
    page = scale.PAGE.read_text()
    assert page == scale.written(page, scale.kept())
    assert page.count("<!-- scale: ") == len(outlook.BLOCKS) == page.count("<!-- end -->")


def test_a_word_that_is_no_part_is_refused_in_a_line() -> None:
    line = [sys.executable, "-m", "benchmarks.scale", "measure", "nothing"]
    done = subprocess.run(line, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


@pytest.mark.bench
def test_all_phases_of_a_sweep_are_timed(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "benchmarks.phases", "told.json", "-m", "depth=2", "width=2", "steps=1", "seed=1,2"]
    subprocess.run(line, cwd=tmp_path, env=environment(), capture_output=True, check=True)
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["phases"].keys() == PHASES.keys()
    assert sum(each["cpu"] for each in told["phases"].values()) <= told["cpu"]
    assert sum(each["wall"] for each in told["phases"].values()) <= told["wall"]
