"""From measured numbers to verdicts."""

from math import inf, isnan, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpexp.measures import Measured
from bpexp.verify.judge import TOLERANCES, judge

NUMBERS = st.floats(-1e6, 1e6)
SOME = st.lists(NUMBERS, min_size=2, max_size=30)


def test_the_interval_of_a_mean_holds_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    draws, confidence = 4000, 0.9
    held = 0
    for _ in range(draws):
        low, high = Measured.mean(rng.normal(3.0, 2.0, 5)).interval(confidence)
        held += low <= 3.0 <= high
    assert abs(held / draws - confidence) < 4.0 * sqrt(confidence * (1 - confidence) / draws)


def test_the_interval_of_a_median_holds_it_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    held = [low <= 3.0 <= high for low, high in (Measured.median(rng.normal(3.0, 2.0, 51)).interval(0.9) for _ in range(2000))]
    assert 0.87 < np.mean(held) < 0.93


def test_what_was_found_once_has_no_error() -> None:
    measured = Measured.once(2.5)
    assert isnan(measured.error)
    assert measured.interval(0.95) == (2.5, 2.5)


@given(SOME)
def test_a_mean_is_the_mean_and_its_error_that_of_the_mean(values: list[float]) -> None:
    measured = Measured.mean(values)
    assert measured.value == pytest.approx(sum(values) / len(values), abs=1e-6)
    spread = sqrt(sum((value - measured.value) ** 2 for value in values) / (len(values) - 1))
    assert measured.error == pytest.approx(spread / sqrt(len(values)), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "target", "kind", "size", "verdict"),
    [
        ([1.001, 1.002, 1.003], 1.0, "relative", 0.01, "holds"),
        ([1.02, 1.021, 1.022], 1.0, "relative", 0.01, "fails"),
        ([0.6, 1.4, 1.0], 1.0, "relative", 0.01, "undecided"),  # the mean is right, and known to a half only
        ([-1.001, -1.002], -1.0, "relative", 0.01, "holds"),  # of a negative target too
        ([0.104, 0.105], 0.1, "absolute", 0.01, "holds"),
        ([0.111, 0.112], 0.1, "absolute", 0.01, "fails"),
        ([1.0, 1.2, 1.4], 1.25, "confidence", 0.95, "holds"),
        ([1.0, 1.01, 1.02], 1.25, "confidence", 0.95, "fails"),
        ([1.0], 1.0, "confidence", 0.95, "undecided"),  # one value contradicts nothing
        (list(range(101)), 97.0, "share", 0.95, "holds"),
        (list(range(101)), 99.0, "share", 0.95, "fails"),
        (list(range(101)), 3.0, "share", 0.95, "holds"),
        (list(range(101)), 1.0, "share", 0.95, "fails"),
        ([5.0], None, "between", [4.5, 9.0], "holds"),
        ([4.4], None, "between", [4.5, 9.0], "fails"),
        ([5.0, 5.1], None, "at_least", 4.0, "holds"),
        ([5.0, 9.0], None, "at_least", 4.0, "undecided"),
        ([3.0], None, "at_least", 4.0, "fails"),
        ([3.0], None, "at_most", 4.0, "holds"),
        ([], 1.0, "relative", 0.5, "fails"),
        ([inf], None, "at_most", 4.0, "fails"),
        ([1.0], float("nan"), "relative", 0.5, "fails"),  # where theory has no number, nothing agrees with it
    ],
)
def test_verdicts(values: list[float], target: float | None, kind: str, size: object, verdict: str) -> None:
    measured = Measured.once(values[0]) if len(values) == 1 else Measured.mean(values)
    assert judge(measured, target, kind, size)[0] == verdict


@given(SOME, st.sampled_from(["relative", "absolute"]), st.floats(1e-3, 10.0))
def test_what_holds_lies_in_the_band_with_an_interval_no_wider(values: list[float], kind: str, size: float) -> None:
    measured = Measured.mean(values)
    verdict, (low, high) = judge(measured, 1.0, kind, size)
    assert (verdict == "fails") == (not low <= measured.value <= high)
    least, most = measured.interval(0.95)
    assert (verdict == "undecided") == (low <= measured.value <= high and most - least > high - low)


@given(SOME, NUMBERS, st.floats(0.1, 0.99))
def test_a_share_asks_whether_the_target_is_one_of_the_values_that_occur(values: list[float], target: float, share: float) -> None:
    low, high = np.quantile(values, [0.5 - share / 2, 0.5 + share / 2])
    distance = min(abs(target - low), abs(target - high))
    if distance > 1e-6 * (1 + abs(target) + abs(low) + abs(high)):  # not at the edge, where roundings decide
        assert (judge(Measured.mean(values), target, "share", share)[0] == "holds") == (low < target < high)


@pytest.mark.parametrize(
    ("kind", "size", "target", "must"),
    [
        ("relative", 0, "theory", "must be a number above 0"),
        ("relative", True, "theory", "must be a number above 0"),
        ("relative", float("nan"), "theory", "must be a number above 0"),
        ("relative", 0.1, None, "needs a target"),
        ("confidence", 1.5, "paper", "must be a number between 0 and 1"),
        ("between", [2, 1], None, "must be two numbers"),
        ("between", "ab", None, "must be two numbers"),
        ("between", [1, 2], "paper", "has no target"),
        ("at_least", "x", None, "must be a number"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(kind: str, size: object, target: str | None, must: str) -> None:
    assert must in TOLERANCES[kind].refusal(size, target)


@pytest.mark.parametrize("kind", TOLERANCES)
def test_each_kind_has_words_and_a_size_that_is_taken(kind: str) -> None:
    size = [0.1, 0.5] if kind == "between" else 0.5
    tolerance = TOLERANCES[kind]
    assert tolerance.refusal(size, "theory" if tolerance.targeted else None) == ""
    assert "0.5" in tolerance.words(size) or "50" in tolerance.words(size)
