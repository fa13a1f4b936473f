"""Differences paired by seed: against scipy's own interval of the differences, and what counts as a pair."""

import numpy as np
import pytest
from scipy import stats

from bpexp.report.paired import differences, has_pairs, paired_differences
from bpexp.report.picture import style
from bpexp.report.selection import Study
from bpexp.tracking.compared import compared
from bpexp.tracking.reader import Origin
from tests.report.studies import configs, records, runs_of, study, with_runs
from tests.report.test_figures import points_of, series

AXES = {"activation": ["sigmoid", "tanh", "relu"], "depth": [2, 4], "seed": [0, 1, 2, 3]}


@pytest.fixture(scope="module")
def some() -> Study:
    return Study(runs_of(configs(**AXES)))


def numbers(column: str, **values: object) -> np.ndarray:
    return np.array([records(config).summary[column] for config in configs(**(AXES | values))])


def test_differences_are_those_of_the_seeds_with_scipys_interval(some: Study) -> None:
    found = {(each.what, each.where): each for each in differences(some) if each.key == "activation"}
    assert set(found) == {(name, f"L = {depth}") for name in ("tanh", "relu") for depth in (2, 4)}
    for (name, where), each in found.items():
        depth = int(where[-1])
        mine, theirs = (
            {column: numbers(column, activation=a, depth=depth) for column in ("final_loss", "final_accuracy_test")} for a in (name, "sigmoid")
        )
        logs = np.log(mine["final_loss"]) - np.log(theirs["final_loss"])
        points = mine["final_accuracy_test"] - theirs["final_accuracy_test"]
        assert each.loss is not None
        assert each.accuracy is not None
        low, high = stats.t.interval(0.95, 3, logs.mean(), stats.sem(logs))
        assert np.log([each.loss.mean, each.loss.low, each.loss.high]) == pytest.approx([logs.mean(), low, high])
        low, high = stats.t.interval(0.95, 3, points.mean(), stats.sem(points))
        assert [each.accuracy.mean, each.accuracy.low, each.accuracy.high] == pytest.approx([points.mean(), low, high])
        assert each.loss.excludes(1.0) == (stats.ttest_rel(np.log(mine["final_loss"]), np.log(theirs["final_loss"])).pvalue < 0.05)


def test_numbers_have_their_reference_in_the_first_value(some: Study) -> None:
    depths = [each for each in differences(some) if each.key == "depth"]
    assert {(each.what, each.reference, each.where) for each in depths} == {("L = 4", "L = 2", name) for name in ("sigmoid", "tanh", "relu")}


def test_the_figure_fills_points_whose_interval_leaves_out_equality(some: Study) -> None:
    with style():
        picture = paired_differences(some)
    for ax, column, same, scale in zip(picture.figure.axes, ("loss", "accuracy"), (1.0, 0.0), (1.0, 100.0), strict=True):
        drawn = [points_of(found) for found in series(ax)]
        expected = [getattr(each, column) for each in differences(some) if each.key == "activation"]
        assert [np.asarray(line.get_xdata()).item() for line in drawn] == pytest.approx([scale * each.mean for each in expected])
        assert [line.get_markerfacecolor() == "white" for line in drawn] == [not each.excludes(same) for each in expected]
    assert picture.numbers is not None
    assert len(picture.numbers) == len(differences(some))
    assert [table.name for table in picture.tables] == ["activation: against sigmoid", "depth: against L = 2"]


def test_the_sentence_counts_what_is_certain() -> None:
    losses = [1.0, 2.0, 3.0, 0.5, 1.1, 1.4, 1.9, 2.1, 2.9]
    with style():
        picture = paired_differences(with_runs(study(activation=["sigmoid", "tanh", "relu"], seed=[0, 1, 2]), "final_loss", losses))
    ratio = stats.gmean([0.5, 1.1 / 2, 1.4 / 3])
    start = "Against sigmoid, paired by seed, the final training loss is lower in 1 of 2 settings and higher in 0, as far as"
    assert picture.sentence.startswith(f"{start} 95 % confidence intervals tell; most with tanh: {ratio:.3f} times (")
    assert picture.tables[0].rows[0][-1].startswith("loss")


def test_runs_that_diverged_and_seeds_of_one_side_make_no_pair() -> None:
    original = Study(runs_of([*configs(activation="sigmoid", seed=[0, 1, 2, 3]), *configs(activation="tanh", seed=[1, 2, 3, 4])]))
    (each,) = differences(original)
    assert each.seeds == 3
    ended = with_runs(original, "outcome", ["trained", "diverged", *["trained"] * 6])
    (each,) = differences(ended)
    assert each.seeds == 2
    assert not has_pairs(ended)
    assert has_pairs(original)


def test_one_row_is_not_compared_with_itself_in_another_sweep() -> None:
    runs = runs_of(configs(seed=[0, 1, 2]))
    both = Study(compared([(Origin("a", "1"), runs), (Origin("b", "2"), runs)]))
    assert len(both.settings) == 2
    assert differences(both) == []


def test_too_few_seeds_or_different_losses_have_no_such_picture() -> None:
    assert not has_pairs(study(depth=[2, 3], seed=[0, 1]))
    assert not has_pairs(study(loss=["squared_error", "cross_entropy"], seed=[0, 1, 2]))
    assert not has_pairs(study(seed=[0, 1, 2]))


def test_recipes_are_compared_with_the_plain_net() -> None:
    base = {"steps": 30, "data__samples": 80, "seed": [0, 1, 2], "depth": 3}
    changes = [{}, {"activation": "relu"}, {"activation": "tanh", "init__name": "he"}]
    wanted = [config for change in changes for config in configs(**base, **change)]
    found = differences(Study(runs_of(wanted)))
    assert {(each.key, each.what, each.reference) for each in found} == {
        ("recipe", "activation=relu", "plain"),
        ("recipe", "activation=tanh init=he", "plain"),
    }
