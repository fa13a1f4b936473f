"""Numbers in words: as many digits as asked for, never another number."""

from math import inf, nan

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpexp.report import words

NORMAL = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻−", "0123456789--")


def read(text: str) -> float:
    """The number that a text says."""
    plain = text.replace(",", "").translate(NORMAL)
    mantissa, times, power = plain.partition(" × 10")
    return float(f"{mantissa}e{power}") if times else float(plain)


@given(st.floats(1e-307, 1e307), st.booleans())
def test_a_number_is_written_to_three_digits(x: float, negative: bool) -> None:
    x = -x if negative else x
    assert read(words.number(x)) == pytest.approx(x, rel=5.1e-3)


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (0.0, "0"),
        (0.45, "0.450"),
        (61.59, "61.6"),
        (1797.0, "1,800"),
        (0.99999, "1.00"),
        (9.996e-5, "0.000100"),
        (1.2e-7, "1.2 × 10⁻⁷"),
        (-2.04e-3, "−0.00204"),
        (1e34, "1 × 10³⁴"),
        (inf, "∞"),
        (-inf, "−∞"),
        (nan, "not a number"),
    ],
)
def test_numbers(x: float, text: str) -> None:
    assert words.number(x) == text


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (None, "unset"),
        (True, "true"),
        (50, "50"),
        (10_000, "10,000"),
        (3.0, "3"),
        (0.1, "0.1"),
        (1e-5, "1e−5"),
        (1e6, "1e6"),
        (123456.5, "123456.5"),
        ("sigmoid", "sigmoid"),
    ],
)
def test_values_of_keys(entry: object, text: str) -> None:
    assert words.value(entry) == text


@given(st.floats(-1e30, 1e30))
def test_a_value_is_written_exactly(x: float) -> None:
    assert float(words.value(x).translate(NORMAL)) == x


@pytest.mark.parametrize(
    ("log10_ratio", "text"),
    [
        (-6.13, "falls by 6.1 decades"),
        (-61.59, "falls by 61.6 decades"),
        (0.33, "rises by 0.33 decades"),
        (0.1, "stays about the same"),
        (-0.1, "stays about the same"),
        (-inf, "falls to exactly zero"),
        (nan, "is not defined"),
    ],
)
def test_what_a_quantity_does(log10_ratio: float, text: str) -> None:
    assert words.change(log10_ratio) == text


def test_listing_and_counting() -> None:
    assert words.listing([]) == ""
    assert words.listing(["a"]) == "a"
    assert words.listing(["a", "b", "c"]) == "a, b and c"
    assert words.listing(map(str, range(10)), most=4) == "0, 1, 2, …, 9"
    assert (words.count(1, "run"), words.count(1200, "run")) == ("1 run", "1,200 runs")
    assert (words.percent(0.9167), words.percent(0.5)) == ("91.7 %", "50 %")


def test_cells_become_plain_python_values() -> None:
    frame = pd.DataFrame({"i": [1, 2], "f": [0.5, np.nan], "s": ["a", None], "n": pd.array([3, None], "Int64"), "b": [True, False]})
    plain = [[words.plain(frame[name].iloc[row]) for name in frame] for row in (0, 1)]
    assert plain == [[1, 0.5, "a", 3, True], [2, None, None, None, False]]
    assert [type(value) for value in plain[0]] == [int, float, str, int, bool]
