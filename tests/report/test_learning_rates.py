"""Losses over the learning rate: lines, best rates and edges against the records, and edges by hand."""

from math import inf

import numpy as np
import pytest
from scipy import stats

from bpexp.report.learning_rates import Edge, has_learning_rates, learning_rates, rate_lines
from bpexp.report.picture import Picture, style
from bpexp.report.selection import Study
from tests.report.studies import configs, records, runs_of, study

RATES = [0.01, 0.1, 1.0, 10.0, 1e6]
AXES = {"activation": "linear", "output": "linear", "depth": [2, 4], "lr": RATES, "seed": [0, 1, 2]}


@pytest.fixture(scope="module")
def rates() -> Study:
    return Study(runs_of(configs(**AXES)))


@pytest.fixture(scope="module")
def picture(rates: Study) -> Picture:
    with style():
        return learning_rates(rates)


def by_hand(depth: int) -> dict[float, list[float] | None]:
    """Final losses of all seeds by rate; None where one of them diverged."""
    found: dict[float, list[float] | None] = {}
    for rate in RATES:
        left = [records(config) for config in configs(**(AXES | {"depth": depth, "lr": rate}))]
        found[rate] = None if any(each.outcome == "diverged" for each in left) else [each.summary["final_loss"] for each in left]
    return found


@pytest.mark.parametrize("place", [0, 1])
def test_points_are_geometric_means_and_the_best_and_the_edge_are_those_of_the_records(rates: Study, place: int) -> None:
    line = rate_lines(rates)[place]
    losses = by_hand([2, 4][place])
    calm = [rate for rate, some in losses.items() if some]
    assert list(line.final) == calm
    assert 0 < len(calm) < len(RATES)
    for rate in calm:
        logs = np.log(losses[rate] or [])
        expected = [logs.mean(), *stats.t.interval(0.95, 2, logs.mean(), stats.sem(logs))]
        assert np.log([line.final[rate].mean, line.final[rate].low, line.final[rate].high]) == pytest.approx(expected)
    assert line.lr == min(calm, key=lambda rate: np.log(losses[rate] or []).mean())
    first = min(set(RATES) - set(calm))
    assert line.edge == Edge(max(rate for rate in calm if rate < first), first)


def test_the_figure_holds_the_lines_the_edges_and_the_best_rates(rates: Study, picture: Picture) -> None:
    (ax,) = picture.figure.axes
    lines = rate_lines(rates)
    drawn = {name: [each for each in ax.get_lines() if each.get_label() == name] for name in ("edge", "best", "lowest", "plateau")}
    for line, edge, best, lowest in zip(lines, drawn["edge"], drawn["best"], drawn["lowest"], strict=True):
        assert np.asarray(edge.get_xdata(), float).tolist() == [line.edge.calm, line.edge.diverged]
        assert (np.asarray(best.get_xdata()).item(), np.asarray(best.get_ydata()).item()) == (line.lr, line.final[line.lr].mean)
        y = np.asarray(lowest.get_ydata(), float)
        assert y[np.isfinite(y)] == pytest.approx([line.best[rate].mean for rate in line.best])
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    plateau = records(configs(**(AXES | {"depth": 2, "lr": 0.01, "seed": 0}))[0]).plateau
    assert any(np.asarray(each.get_ydata(), float)[0] == pytest.approx(plateau, rel=1e-5) for each in drawn["plateau"])
    assert picture.numbers is not None
    assert len(picture.numbers) == len(rates.settings)
    assert picture.numbers["best_lr"].sum() == 2


def test_the_sentence_tells_the_best_and_the_edges(rates: Study, picture: Picture) -> None:
    best = min(rate_lines(rates), key=lambda line: line.final[line.lr].mean)
    key = next(key for key in rates.swept if key.name == "lr")
    assert picture.sentence.startswith(f"The lowest final training loss, {best.final[best.lr].mean:.3g}")
    assert f"is reached with {key.text(best.lr)} and {best.text(key)}; divergence begins between η = " in picture.sentence


@pytest.mark.parametrize(
    ("ended", "edge"),
    [
        ({1.0: False, 2.0: False, 3.0: True, 4.0: False}, Edge(2.0, 3.0)),  # what is calm beyond the edge is luck
        ({1.0: False, 2.0: False}, Edge(2.0, inf)),
        ({1.0: True, 2.0: True}, Edge(0.0, 1.0)),
    ],
)
def test_edges(ended: dict[float, bool], edge: Edge) -> None:
    assert Edge.of(ended) == edge


def test_few_rates_or_different_losses_have_no_such_picture() -> None:
    assert not has_learning_rates(study(lr=[0.1, 1.0, 3.0]))
    assert not has_learning_rates(study(lr=[0.1, 0.2, 0.4, 1.0], loss=["squared_error", "cross_entropy"]))
    assert has_learning_rates(study(lr=[0.1, 0.2, 0.4, 1.0]))
