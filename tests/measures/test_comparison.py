"""One setting's number less another's."""

from math import hypot

import pytest

from bpexp.measures import MEASURED, PREDICTED
from tests.measures.cells import cell

OPTIONS = {"first": 2, "last": 7}


def test_a_difference_is_that_of_two_measures_and_its_error_that_of_both() -> None:
    runs = cell(depth=8, width=[20, 30], seed=[0, 1, 2])
    one, other = ({"width": 20}, {"width": 30})
    found = MEASURED["difference"](runs, measure="decades_per_layer", one=one, other=other, options=OPTIONS)
    first, second = (MEASURED["decades_per_layer"](runs.where(values), **OPTIONS) for values in (one, other))
    assert found.value == pytest.approx(first.value - second.value)
    assert found.value == pytest.approx(sum(found.values) / 3)
    assert found.error == pytest.approx(hypot(first.error, second.error))


def test_theorys_difference_is_that_of_its_two_numbers() -> None:
    sigmoid = {"init__name": "gaussian", "depth": 8, "width": 30}
    runs = cell(init__sigma_w2=[1.0, 2.0], **sigmoid)
    one, other = ({"init.sigma_w2": 1}, {"init.sigma_w2": 2})
    found = PREDICTED["difference"](runs, measure="decades_per_layer", one=one, other=other, options={"settled": True})
    assert found == pytest.approx(0.6270 - 0.4979, abs=1e-4)
