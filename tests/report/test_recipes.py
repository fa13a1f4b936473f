"""Studies of recipes: their names, the runs they are judged by, their numbers, and how page and pictures tell them."""

from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bpexp.config import RunConfig, nested, parse, solved
from bpexp.report.page import write
from bpexp.report.ranking import in_lines
from bpexp.report.recipe_profiles import recipe_panel
from bpexp.report.recipes import PLAIN, Standing, is_of_recipes, recipes, standings, table, the_best
from bpexp.report.selection import Study
from tests.report.studies import DEFAULTS, runs_of, study, with_runs
from tests.report.test_figures import applying, picture

RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "activation=relu": {"activation": "relu"},
    "activation=relu init=he": {"activation": "relu", "init.name": "he"},
    "init=critical": {"init.name": "critical"},
    "init=shifted_critical bias=true": {"init.name": "shifted_critical", "bias": True},
    "skip=scaled": {"skip.name": "scaled"},
    "skip=scaled skip.every=2": {"skip.name": "scaled", "skip.every": 2},
    "loss=cross_entropy": {"loss": "cross_entropy"},
    "optimizer=adam": {"optimizer.name": "adam"},
    "optimizer=momentum optimizer.momentum=0.5": {"optimizer.name": "momentum", "optimizer.momentum": 0.5},
    "optimizer.clip=0.5": {"optimizer.clip": 0.5},
}
DEPTHS, RATES, WINNER, SEEDS = (5, 6), (0.5, 0.02), 0.02, (1, 2, 3)


def wanted() -> list[RunConfig]:
    """As a tuned sweep runs it: seed 0 with all learning rates, the others with the winner's alone."""
    pairs = [(0, lr) for lr in RATES] + [(seed, WINNER) for seed in SEEDS]
    return [
        solved(parse(RunConfig, nested(DEFAULTS | values | {"depth": depth, "seed": seed, "lr": lr})))
        for seed, lr in pairs
        for depth in DEPTHS
        for values in RECIPES.values()
    ]


@pytest.fixture(scope="module")
def tuned() -> Study:
    return Study(runs_of(wanted()))


def standing(some: Study, recipe: str, depth: int) -> Standing:
    (found,) = [it for it in standings(some) if (it.recipe, it.depth) == (recipe, depth)]
    return found


def numbers(some: Study) -> dict[tuple[int, str], dict[str, Any]]:
    """The rows of the table, by depth and recipe."""
    rows: list[dict[str, Any]] = table(standings(some)).to_dict("records")  # type: ignore[assignment]
    return {(row["depth"], row["recipe"]): row for row in rows}


def test_a_recipe_is_named_by_what_one_types(tuned: Study) -> None:
    names = recipes(tuned)
    assert set(names.values()) == set(RECIPES)
    for run_id, config in zip(tuned.runs.runs["run_id"], wanted(), strict=True):
        values = RECIPES[names[run_id]]
        assert (config.activation, config.optimizer.name) == (values.get("activation", "sigmoid"), values.get("optimizer.name", "sgd"))
        assert (config.init.name, config.skip.name, config.loss) == (
            values.get("init.name", "xavier"),
            values.get("skip.name", "none"),
            values.get("loss", "squared_error"),
        )


def test_a_recipe_is_judged_by_the_seeds_that_did_not_choose_its_learning_rate(tuned: Study) -> None:
    assert len(standings(tuned)) == len(RECIPES) * len(DEPTHS)
    for it in standings(tuned):
        assert (it.lr, it.tuned) == (WINNER, True)
        assert sorted(tuned.frame["seed"].loc[list(it.runs.runs)]) == list(SEEDS)


def test_without_tuning_the_learning_rate_of_the_lowest_loss_counts_with_all_its_seeds() -> None:
    grid = [
        parse(RunConfig, nested(DEFAULTS | values | {"seed": seed, "lr": lr, "depth": 5}))
        for values in list(RECIPES.values())[:4]
        for lr in (0.02, 0.5)
        for seed in (0, 1)
    ]
    some = Study(runs_of(grid))
    for it in standings(some):
        losses = some.runs.runs[[recipes(some)[run] == it.recipe for run in some.runs.runs["run_id"]]].groupby("lr")["final_loss"].mean()
        assert it.lr == losses.idxmin()
        assert (len(it.runs.runs), it.tuned) == (2, False)


def test_a_learning_rate_that_diverges_is_not_the_best() -> None:
    grid = [parse(RunConfig, nested(DEFAULTS | values | {"lr": lr, "depth": 5})) for values in list(RECIPES.values())[:4] for lr in (0.02, 0.5, 2.0)]
    some = Study(runs_of(grid))
    losses = some.runs.runs["final_loss"] - 100.0 * (some.runs.runs["lr"] == 2.0)  # the lowest, but for what became of them
    fallen = with_runs(with_runs(some, "final_loss", list(losses)), "outcome", ["diverged" if lr == 2.0 else "stuck" for lr in some.runs.runs["lr"]])
    assert all(it.lr < 2.0 for it in standings(fallen))


def test_numbers_are_those_of_the_runs(tuned: Study) -> None:
    found = numbers(tuned)
    runs = tuned.runs.runs.set_index("run_id")
    for it in standings(tuned):
        chosen, row = runs.loc[list(it.runs.runs)], found[it.depth, it.recipe]
        for name, column in (("accuracy", "final_accuracy_test"), ("decades_start", "delta_decades_per_layer")):
            assert row[f"{name}_mean"] == pytest.approx(np.mean(chosen[column]), rel=1e-12)
            assert row[f"{name}_std"] == pytest.approx(np.std(chosen[column], ddof=1), rel=1e-9, abs=1e-12)
        layers = tuned.runs.layers
        slopes = []
        for run_id in it.runs.runs:
            last = layers[(layers["run_id"] == run_id) & (layers["step"] == layers["step"].max())].sort_values("layer")
            inner = last["log10_delta_norm"].to_numpy()[1:-1]
            slopes.append(np.polyfit(range(len(inner)), inner, 1)[0])
        assert row["decades_end_mean"] == pytest.approx(np.mean(slopes), rel=1e-9)
        assert (row["lr"], row["runs"], row["diverged"]) == (WINNER, len(SEEDS), 0)
    for depth in DEPTHS:
        rows = [row for row in found.values() if row["depth"] == depth]
        means = [row["accuracy_mean"] for row in rows]
        assert means == sorted(means, reverse=True)
        assert [row["rank"] for row in rows] == [1 + sum(other > mean for other in means) for mean in means]


def test_steps_to_90_percent_are_of_the_runs_that_got_there(tuned: Study) -> None:
    it = standing(tuned, "activation=relu", 5)
    reached = dict(zip(it.runs.runs, (4, 9, inf), strict=True))
    curves = tuned.runs.curves.copy()
    probed = curves["accuracy_test"].notna()
    for run_id, step in reached.items():
        rows = probed & (curves["run_id"] == run_id)
        curves.loc[rows, "accuracy_test"] = np.where(curves.loc[rows, "step"] >= step, 0.9, 0.89)
    known = sorted(tuned.runs.curves["step"][probed].unique())
    first = [min((at for at in known if at >= step), default=inf) for step in reached.values()]
    changed = Study(replace(tuned.runs, curves=curves))
    assert standing(changed, "activation=relu", 5).steps_to_good == first
    row = numbers(changed)[5, "activation=relu"]
    assert (row["reached"], row["steps_median"], row["steps_mean"]) == (2, np.mean(first[:2]), np.mean(first[:2]))


def test_a_steps_time_is_told_over_the_plain_nets_at_the_same_depth(tuned: Study) -> None:
    assert "cost" not in table(standings(tuned))  # older sweeps have no times
    names, frame = recipes(tuned), tuned.runs.runs
    seconds = [depth * (3.0 if names[run] == "optimizer=adam" else 2.0) for run, depth in zip(frame["run_id"], frame["depth"], strict=True)]
    found = numbers(with_runs(tuned, "step_seconds", seconds))
    assert {(recipe == "optimizer=adam", row["cost"]) for (_, recipe), row in found.items()} == {(True, 1.5), (False, 1.0)}


def test_runs_that_diverged_are_counted_and_marked(tuned: Study) -> None:
    it = standing(tuned, "skip=scaled", 6)
    frame = tuned.runs.runs
    changed = with_runs(tuned, "outcome", list(frame["outcome"].where(frame["run_id"] != it.runs.runs[0], "diverged")))
    assert [key for key, row in numbers(changed).items() if row["diverged"]] == [(6, "skip=scaled")]
    assert numbers(changed)[6, "skip=scaled"]["diverged"] == 1
    drawn = [line for ax in picture(changed, "ranking").figure.axes for line in ax.get_lines() if line.get_label() == "diverged"]
    marks = [line for line in drawn if len(np.asarray(line.get_xdata()))]
    assert len(marks) == 1


def test_a_grid_has_no_recipes() -> None:
    for axes in ({"depth": [5, 6], "lr": [0.1, 0.5]}, {"activation": ["tanh", "relu", "elu"], "init__name": ["he", "lecun"]}, {"seed": [0, 1, 2]}):
        some = study(**axes)
        assert not is_of_recipes(some)
        assert not {"ranking", "recipe_profiles"} & applying(some)


def test_a_search_has_no_recipes() -> None:
    """It tries each value of a number once, of which a grid would have each with all values of the others."""
    tried = [{"init.name": "gaussian", "init.sigma_w2": 1.0 + place / 10, "activation": name} for place, name in enumerate(["tanh", "relu"] * 6)]
    some = Study(runs_of([solved(parse(RunConfig, nested(DEFAULTS | values | {"depth": 5}))) for values in tried]))
    assert len(set(recipes(some).values())) == 12
    assert not is_of_recipes(some)
    few = Study(runs_of([solved(parse(RunConfig, nested(DEFAULTS | values | {"depth": 5}))) for values in tried[:5]]))
    assert is_of_recipes(few)


def test_the_pictures_show_every_recipe_and_the_page_ranks_them(tuned: Study, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    names = {path.name for path in write(tuned.runs, folder)}
    assert {"ranking.csv", "ranking.png", "recipe_profiles.svg", "index.html"} <= names
    written = pd.read_csv(folder / "ranking.csv")
    pd.testing.assert_frame_equal(written, table(standings(tuned)), check_exact=True, check_dtype=False)
    page = (folder / "index.html").read_text()
    assert all(f'<th scope="row">{recipe}</th>' in page for recipe in RECIPES)
    profiles = picture(tuned, "recipe_profiles")
    titles = [ax.get_title(loc="left").replace("= ", "=").split() for ax in profiles.figure.axes]
    assert sorted(map(" ".join, titles)) == sorted(RECIPES)


def test_a_panel_shows_the_recipe_before_the_plain_net(tuned: Study) -> None:
    picture = recipe_panel(tuned, "activation=relu")
    (ax,) = picture.figure.axes
    layers, it = tuned.runs.layers, standing(tuned, "activation=relu", 6)
    start = layers[layers["run_id"].isin(it.runs.runs) & (layers["step"] == 0)].groupby("layer")["log10_grad_norm"].mean()
    (line,) = [line for line in ax.get_lines() if line.get_label() == "start"]
    np.testing.assert_allclose(np.asarray(line.get_ydata(), float), start, rtol=1e-12)
    assert {line.get_label() for line in ax.get_lines()} >= {"start", "end", "plain, start", "plain, end"}


def test_the_best_keep_the_plain_net_among_them(tuned: Study) -> None:
    few = the_best(tuned, 4)
    kept = set(recipes(few).values())
    deepest = [it.recipe for it in standings(tuned) if it.depth == max(DEPTHS)]
    assert {recipes(tuned)[run] for run in few.runs.runs["run_id"]} == {PLAIN, *[name for name in deepest if name != PLAIN][:3]}
    assert len(kept) == 4


def test_a_name_is_broken_between_its_changes() -> None:
    assert in_lines("activation=relu init=he skip=rezero", 24) == "activation=relu init=he\nskip=rezero"
    assert in_lines("optimizer.weight_decay=0.0001", 24) == "optimizer.weight_decay=\n0.0001"
