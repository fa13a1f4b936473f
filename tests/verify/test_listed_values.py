"""A claim about runs of several values: all of them have to be there."""

from typing import Any

import pytest

from bpexp.measures import Cell
from bpexp.verify.study import Check, StudyFile
from bpexp.verify.verdicts import verdicts
from tests.report.studies import configs, runs_of

AXES: dict[str, Any] = {"depth": [2, 3, 4], "seed": [0, 1], "steps": 2}


def file(**where: Any) -> StudyFile:
    check = Check("They end somewhere", "number", {"at_least": 0}, "", options={"name": "final_loss"}, where=where)
    return StudyFile("title", "source", [check])


def test_a_list_of_values_is_one_of_them() -> None:
    cell = Cell.of(runs_of(configs(**AXES)))
    assert sorted(cell.where({"depth": [2, 4]}).frame["depth"]) == [2, 2, 4, 4]
    assert sorted(cell.where({"depth": [2, 4], "seed": 1}).frame["depth"]) == [2, 4]
    assert cell.where({"depth": [7]}).frame.empty


@pytest.mark.parametrize("quick", [False, True])
def test_a_claim_about_several_values_is_of_all_their_runs(quick: bool) -> None:
    (row,) = verdicts(file(depth=[2, 4]), runs_of(configs(**AXES)), quick=quick)
    assert row.about == "L = 2 and L = 4"
    assert len(row.ours.values) == 4


@pytest.mark.parametrize("depths", [[2, 7], [7], 7])
def test_a_claim_that_lacks_one_of_them_fails_and_is_left_out_where_quick(depths: Any) -> None:
    runs = runs_of(configs(**AXES))
    (row,) = verdicts(file(depth=depths), runs, quick=False)
    assert (row.about, row.verdict) == ("no such runs", "fails")
    assert verdicts(file(depth=depths), runs, quick=True) == ()
