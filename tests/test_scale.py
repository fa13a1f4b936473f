"""What large sweeps would take: the model's arithmetic, and its bounds against a cluster simulated by events."""

from dataclasses import replace

import pytest

from benchmarks.model import Costs, Net, Store, parts_needed, predict
from benchmarks.waiting import bound, exponential, simulate, steady

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
    assert few.wall == pytest.approx(6.0 + 21.0 + 1e4 * 3.011 / 2)
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
