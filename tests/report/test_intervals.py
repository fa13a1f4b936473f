"""Means and intervals over runs, against scipy's own, and how often they hold what they are an interval of."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bpexp.report.intervals import FEWEST, LEVEL, Interval, over_runs


@pytest.mark.parametrize("runs", [3, 5, 30])
@pytest.mark.parametrize("log", [False, True])
def test_the_interval_is_scipys(runs: int, log: bool) -> None:
    values = np.random.default_rng(runs).lognormal(-3.0, 1.0, runs)
    y = np.log(values) if log else values
    expected = np.array([y.mean(), *stats.t.interval(LEVEL, runs - 1, y.mean(), stats.sem(y))])
    found = Interval.of(values, log)
    np.testing.assert_allclose([found.mean, found.low, found.high], np.exp(expected) if log else expected, rtol=1e-12)
    assert found.runs == runs


def test_an_interval_holds_the_expected_value_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = [not Interval.of(rng.normal(5.0, 2.0, 4)).excludes(5.0) for _ in range(4000)]
    assert np.mean(held) == pytest.approx(LEVEL, abs=4 * np.sqrt(LEVEL * (1 - LEVEL) / 4000))


def test_of_too_few_runs_the_ends_are_the_lowest_and_the_highest_and_exclude_nothing() -> None:
    two, one = Interval.of([3.0, 1.0]), Interval.of([2.0])
    assert (two.mean, two.low, two.high) == (2.0, 1.0, 3.0)
    assert (one.mean, one.low, one.high) == (2.0, 2.0, 2.0)
    assert not two.excludes(9.0)
    assert FEWEST == 3


@pytest.mark.parametrize("log", [False, True])
def test_groups_have_the_interval_of_their_values(log: bool) -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"x": np.repeat([1, 2, 3, 4], [5, 3, 2, 1]), "y": rng.lognormal(size=11)})
    table = over_runs(frame.sample(frac=1, random_state=0), "x", "y", log)
    for x, group in frame.groupby("x"):
        expected = Interval.of(group["y"], log)
        assert tuple(table.loc[x]) == pytest.approx((expected.mean, expected.low, expected.high, expected.runs))


def test_what_is_missing_is_left_out_and_a_log_of_zero_has_no_interval() -> None:
    frame = pd.DataFrame({"x": [1, 1, 1, 2, 2, 2, 3, 3], "y": [1.0, 3.0, np.nan, -np.inf, 0.0, 1.0, -np.inf, -np.inf]})
    table = over_runs(frame, "x", "y")
    assert tuple(table.loc[1]) == (2.0, 1.0, 3.0, 2)
    assert np.isneginf(table["mean"][[2, 3]]).all()
    assert table.loc[[2, 3], ["low", "high"]].isna().all(axis=None)
