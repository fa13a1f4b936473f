"""At which steps things are measured: properties of any schedule."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bpexp.core.schedule import log_spaced, spread
from tests.core.nets import REPEATABLE


@REPEATABLE
@given(last=st.integers(0, 10**8), points=st.integers(3, 300))
def test_log_spaced_is_sorted_distinct_and_has_both_ends(last: int, points: int) -> None:
    steps = log_spaced(last, points)
    assert np.issubdtype(steps.dtype, np.integer)
    assert steps[0] == 0
    assert steps[-1] == last
    assert (np.diff(steps) > 0).all()
    assert len(steps) <= points


@REPEATABLE
@given(last=st.integers(0, 10**6), points=st.integers(3, 60))
def test_log_spaced_spends_all_its_points(last: int, points: int) -> None:
    assert len(log_spaced(last, points)) == min(points, last + 1)


@REPEATABLE
@given(last=st.integers(100, 10**8), points=st.integers(10, 100))
def test_log_spaced_steps_grow_apart_by_a_constant_factor(last: int, points: int) -> None:
    """Up to rounding to whole numbers there is one factor q that leads from each step to the next."""
    steps = log_spaced(last, points)[1:]
    lowest_q = (steps[1:] - 0.5) / (steps[:-1] + 0.5)
    highest_q = (steps[1:] + 0.5) / (steps[:-1] - 0.5)
    assert lowest_q.max() <= highest_q.min() * (1 + 1e-9)


def test_log_spaced_of_a_usual_run() -> None:
    assert log_spaced(1000, 10).tolist() == [0, 1, 2, 6, 13, 32, 75, 178, 422, 1000]  # 1000**(i/8), rounded
    assert log_spaced(3, 40).tolist() == [0, 1, 2, 3]
    assert log_spaced(0, 40).tolist() == [0]


@REPEATABLE
@given(values=st.lists(st.integers(0, 10**9), min_size=1, max_size=100, unique=True), count=st.integers(2, 20))
def test_spread_takes_evenly_by_position(values: list[int], count: int) -> None:
    array = np.array(sorted(values), np.int64)
    taken = spread(array, count)
    assert len(taken) == min(count, len(array))
    assert taken[0] == array[0]
    assert taken[-1] == array[-1]
    positions = np.searchsorted(array, taken)
    np.testing.assert_array_equal(array[positions], taken)
    assert (np.diff(positions) > 0).all()
    even = np.linspace(0, len(array) - 1, len(taken))
    assert np.abs(positions - even).max() <= 0.5 + 1e-9


def test_spread_of_a_usual_run() -> None:
    assert spread(np.array([0, 1, 2, 6, 13, 32, 75, 178, 422]), 5).tolist() == [0, 2, 13, 75, 422]
    assert spread(np.arange(6), 4).tolist() == [0, 2, 3, 5]
    assert spread(np.array([4]), 5).tolist() == [4]
