"""Counts of multiplications, and what is made of them."""

from itertools import pairwise, product
from math import isnan

import pytest

from bpexp.core.paths import count_multiplications
from bpexp.measures import MEASURED, PREDICTED
from bpexp.measures.work import by_formula
from tests.measures.cells import cell

SQUARE = {"width": 2, "data__inputs": 2, "data__classes": 2, "data__samples": 8}


def test_both_formulas_count_what_nets_of_any_sizes_multiply() -> None:
    for sizes in [(1, 1), (3, 2), (2, 1, 3), (4, 3, 2, 5), (1, 2, 3, 2, 1), (2, 2, 2, 2, 2, 2)]:
        assert (by_formula["paths"](sizes), by_formula["backpropagation"](sizes)) == count_multiplications(sizes)


@pytest.mark.parametrize("way", ["paths", "backpropagation"])
def test_the_net_that_is_counted_is_that_of_the_runs(way: str) -> None:
    found = MEASURED["multiplications"](cell(depth=3, width=4, data__inputs=5, data__classes=3), way=way)
    assert found.value == count_multiplications((5, 4, 4, 3))[way == "backpropagation"]
    assert PREDICTED["multiplications"](cell(depth=3, width=4, data__inputs=5, data__classes=3), way=way) == found.value


@pytest.mark.parametrize("width", [2, 3])
def test_a_layer_more_multiplies_the_paths_by_the_width(width: int) -> None:
    nets = cell(depth=[1, 2, 3, 4, 5], **SQUARE | {"width": width, "data__inputs": width, "data__classes": width})
    paths = [len(list(product(range(width), repeat=depth + 1))) for depth in range(1, 6)]  # a neuron of every layer, the inputs among them
    ratios = [deep / shallow for shallow, deep in pairwise(paths)]
    found = MEASURED["path_growth"](nets).values
    assert len(found) == 3
    assert found == pytest.approx(ratios[:3])
    assert PREDICTED["path_growth"](nets) == width


def test_depths_with_a_gap_have_no_growth_but_a_mean_work_per_layer() -> None:
    nets = cell(depth=[1, 3, 5], **SQUARE)
    assert isnan(MEASURED["path_growth"](nets).value)
    assert MEASURED["work_per_layer"](nets, way="backpropagation").values == (10.0, 10.0)  # 2 n² + n
    assert PREDICTED["work_per_layer"](nets, way="backpropagation") == 10.0


def test_only_backpropagations_work_is_linear_in_the_depth() -> None:
    nets = cell(depth=[1, 2, 3, 4, 5], **SQUARE)
    assert MEASURED["linear_share"](nets, way="backpropagation").value == pytest.approx(1.0, abs=1e-12)
    assert MEASURED["linear_share"](nets, way="paths").value < 0.9
    assert MEASURED["work_per_layer"](nets, way="paths").error > 0.0
    assert isnan(MEASURED["linear_share"](cell(depth=[1, 2], **SQUARE), way="paths").value)  # two points are always on a line


def test_both_ways_give_the_same_gradient_to_rounding() -> None:
    found = MEASURED["largest_difference"](cell(depth=4, seed=[0, 1, 2], **SQUARE))
    assert len(set(found.values)) == 3 or max(found.values) == 0.0
    assert max(found.values) < 1e-14
    assert MEASURED["largest_difference"](cell(depth=4, **SQUARE), way="backpropagation").value == 0.0
