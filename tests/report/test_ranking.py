"""Studies of recipes: how recipes are named, by which runs they are judged, and that pictures, page and csv tell those numbers."""

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bpexp.config import RunConfig
from bpexp.report.page import save_figure, write
from bpexp.report.picture import Picture, style
from bpexp.report.ranking import ranking
from bpexp.report.recipe_profiles import recipe_panel, recipe_profiles
from bpexp.report.recipes import Standing, is_of_recipes, recipes, standings, table, the_best
from bpexp.report.selection import Study
from bpexp.tracking.reader import Runs
from tests.report.studies import configs, records, runs_of, study, with_layers, with_runs
from tests.report.test_figures import (
    applying,
    boxes,
    crowded_ticks,
    cut_off,
    legend_of,
    line,
    overlaps,
    picture,
    points_of,
    series,
    titles,
    x_of,
    y_of,
)

Recipe = dict[str, Any]
PLAIN: Recipe = {}
RELU: Recipe = {"activation": "relu"}
RELU_HE: Recipe = {"activation": "relu", "init__name": "he"}
ADAM: Recipe = {"optimizer__name": "adam"}
RECIPES = [PLAIN, RELU, RELU_HE, ADAM]
NAMES = ["plain", "activation=relu", "activation=relu init=he", "optimizer=adam"]


def variants(some: Sequence[Recipe], **axes: Any) -> list[RunConfig]:
    return [config for recipe in some for config in configs(**axes | recipe)]


def tuned(some: Sequence[Recipe], best: float = 1.0, **axes: Any) -> list[RunConfig]:
    """As a tuned sweep runs them: seed 0 with each of two learning rates, seeds 1 and 2 with one of them."""
    return [
        *(config for recipe in some for config in configs(lr=[0.5, 1.0], seed=0, **axes | recipe)),
        *(config for recipe in some for config in configs(lr=best, seed=[1, 2], **axes | recipe)),
    ]


def names_of(wanted: list[RunConfig]) -> list[str]:
    """The recipe of each configuration; nothing is trained."""
    return list(recipes(Study(runs_of(wanted, failed=tuple(range(len(wanted)))))).values())


def standing(some: Study, recipe: str, depth: int | None = None) -> Standing:
    (found,) = [one for one in standings(some) if one.recipe == recipe and depth in (None, one.depth)]
    return found


def seeds_of(some: Standing) -> list[int]:
    return sorted(some.study.frame.loc[list(some.runs.runs), "seed"])


def drawn(function: Callable[..., Picture], *arguments: Any) -> Picture:
    with style():
        return function(*arguments)


# ---------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        (PLAIN, "plain"),
        (RELU_HE, "activation=relu init=he"),
        (ADAM, "optimizer=adam"),
        ({"optimizer__name": "adam", "optimizer__beta1": 0.8}, "optimizer=adam optimizer.beta1=0.8"),
        ({"optimizer__clip": 1.0}, "optimizer.clip=1"),
        ({"optimizer__name": "nesterov", "optimizer__clip": 1.0}, "optimizer=nesterov optimizer.clip=1"),
        ({"skip__name": "residual"}, "skip=residual"),
        ({"skip__name": "residual", "skip__every": 2}, "skip=residual skip.every=2"),
        ({"schedule__name": "warmup"}, "schedule=warmup"),
        ({"loss": "cross_entropy"}, "loss=cross_entropy"),
        ({"loss": "cross_entropy", "output": "linear"}, "loss=cross_entropy output=linear"),
        ({"loss": "cross_entropy", "output": "sigmoid"}, "loss=cross_entropy output=sigmoid"),
        ({"output": "linear"}, "output=linear"),
        ({"init__name": "gaussian", "init__sigma_w2": 103.0}, "init=gaussian init.sigma_w2=103"),
        ({"bias": True, "norm": "batch"}, "norm=batch bias=true"),
    ],
)
def test_a_recipe_is_named_by_what_was_asked_for_beyond_the_plain_net(recipe: Recipe, name: str) -> None:
    others = [PLAIN, ADAM, {"skip__name": "rezero"}, {"init__name": "gaussian", "init__sigma_w2": 2.0}, {"loss": "cross_entropy"}]
    found = names_of(variants([*others, recipe], depth=[3, 6], lr=[0.5, 1.0], seed=[0, 1]))
    assert set(found[-8:]) == {name}
    assert set(found[:8]) == {"plain"}


def test_the_base_is_the_recipe_with_most_defaults_wherever_it_stands() -> None:
    assert names_of(variants([RELU_HE, RELU, PLAIN])) == ["activation=relu init=he", "activation=relu", "plain"]
    some = [RELU_HE | {"bias": True}, RELU, RELU | {"norm": "batch"}, RELU | {"norm": "layer", "bias": True}]
    assert names_of(variants(some)) == ["init=he bias=true", "plain", "norm=batch", "norm=layer bias=true"]


def test_a_base_with_keys_of_its_own_fills_nothing_in() -> None:
    some = [ADAM | {"optimizer__beta1": 0.8}, ADAM | {"activation": "relu"}, ADAM]
    assert names_of(variants(some)) == ["optimizer.beta1=0.8", "activation=relu", "plain"]


@pytest.mark.parametrize(
    "axes",
    [
        {"depth": [3, 5], "lr": [0.1, 1.0], "seed": [0, 1]},
        {"activation": ["sigmoid", "tanh", "relu"], "depth": [3, 5]},
        {"activation": ["sigmoid", "tanh"], "init__name": ["xavier", "he", "orthogonal"]},
        {"optimizer__name": ["sgd", "adam", "nesterov"], "activation": ["sigmoid", "tanh"]},
        {"loss": ["squared_error", "cross_entropy"], "width": [4, 6]},
        {"skip__name": ["none", "residual"], "norm": ["none", "batch"], "bias": [False, True]},
    ],
)
def test_a_grid_is_no_study_of_recipes(axes: dict[str, Any]) -> None:
    some = study(**axes)
    assert not is_of_recipes(some)
    assert not {"ranking", "recipe_profiles"} & applying(some)


def test_enough_recipes_that_form_no_grid_are_a_study_of_recipes_and_have_no_grid_pictures() -> None:
    assert not is_of_recipes(Study(runs_of(variants([PLAIN, RELU_HE]))))
    assert not is_of_recipes(Study(runs_of(variants(RECIPES), failed=(0, 1, 2, 3))))
    some = Study(runs_of(tuned(RECIPES, depth=[3, 6])))
    assert is_of_recipes(some)
    found = applying(some)
    assert {"ranking", "recipe_profiles", "loss_curves", "gradient_heatmap"} <= found
    assert not found & {"accuracy", "decades_per_layer", "gradient_at_the_start", "final_loss"}


# ---------------------------------------------------------------------------------------------- the learning rate and the runs that count


def test_a_tuned_sweeps_learning_rate_is_the_one_with_most_seeds_and_the_seed_that_chose_does_not_count() -> None:
    wanted = tuned(RECIPES, depth=3)
    worse = [2.0 if config.lr == 1.0 else 0.1 for config in wanted]
    for found in standings(with_runs(Study(runs_of(wanted)), "final_loss", worse)):
        assert found.lr == 1.0
        assert seeds_of(found) == [1, 2]
        assert found.tuned


def test_each_depth_has_its_own_learning_rate() -> None:
    some = Study(runs_of([*tuned(RECIPES, 0.5, depth=3), *tuned(RECIPES, 1.0, depth=5)]))
    assert {(found.depth, found.lr) for found in standings(some)} == {(3, 0.5), (5, 1.0)}


def test_among_equal_learning_rates_the_lowest_mean_loss_wins_then_the_smallest() -> None:
    wanted = variants(RECIPES, lr=[0.5, 1.0, 2.0], seed=[0, 1])

    def best(*losses: float, outcome: str = "trained") -> float:
        by_seed = dict(zip([(0.5, 0), (0.5, 1), (1.0, 0), (1.0, 1), (2.0, 0), (2.0, 1)], losses, strict=True))
        some = with_runs(Study(runs_of(wanted)), "final_loss", [by_seed[config.lr, config.seed] for config in wanted])
        some = with_runs(some, "outcome", [outcome if config.lr == 2.0 else "trained" for config in wanted])
        (lr,) = {found.lr for found in standings(some)}
        assert {tuple(seeds_of(found)) for found in standings(some)} == {(0, 1)}  # no seed chose more than another
        assert not any(found.tuned for found in standings(some))
        return lr

    assert best(0.5, 0.5, 0.3, 0.3, 0.9, 0.9) == 1.0
    assert best(0.1, 0.9, 0.4, 0.4, 0.6, 0.6) == 1.0
    assert best(0.4, 0.4, 0.4, 0.4, 0.4, 0.4) == 0.5
    assert best(0.5, 0.5, 0.3, 0.3, 0.1, 0.1) == 2.0
    assert best(0.5, 0.5, 0.3, 0.3, 0.1, 0.1, outcome="diverged") == 1.0


def test_where_there_is_only_the_seed_that_chose_it_counts() -> None:
    for found in standings(Study(runs_of(variants(RECIPES, lr=[0.5, 1.0])))):
        assert seeds_of(found) == [0]


# ---------------------------------------------------------------------------------------------- numbers


def with_accuracy_curves(original: Study, values: Callable[[str, int], dict[int, float]]) -> Study:
    """The same study with accuracies values(recipe, seed) by step, and none at other steps."""
    names, frame, curves = recipes(original), original.frame, original.runs.curves
    tables = {run_id: values(names[run_id], int(frame.loc[run_id, "seed"])) for run_id in frame.index}
    changed = [tables[run_id].get(step, np.nan) for run_id, step in zip(curves["run_id"], curves["step"], strict=True)]
    return Study(replace(original.runs, curves=curves.assign(accuracy_test=changed)))


def test_steps_to_90_percent_are_the_first_evaluation_at_or_above_and_never_is_no_number() -> None:
    curves = {
        ("plain", 1): {0: 0.1, 12: 0.899},
        ("plain", 2): {0: 0.1, 12: 0.2},
        ("activation=relu", 1): {0: 0.1, 3: 0.9, 6: 0.5, 12: 0.95},
        ("activation=relu", 2): {0: 0.1, 3: 0.89, 6: 0.99, 12: 0.1},
    }
    original = Study(runs_of(tuned(RECIPES, depth=3)))
    some = with_accuracy_curves(original, lambda recipe, seed: curves.get((recipe, seed), {0: 0.95} if seed == 1 else {0: 0.5}))
    numbers = table(standings(some)).set_index("recipe")
    assert numbers["reached"].to_dict() == {"plain": 0, "activation=relu": 2, "activation=relu init=he": 1, "optimizer=adam": 1}
    assert np.isnan(numbers.loc["plain", ["steps_median", "steps_mean", "steps_std"]].astype(float)).all()
    assert tuple(numbers.loc["activation=relu", ["steps_median", "steps_mean"]]) == (4.5, 4.5)
    assert numbers.loc["activation=relu", "steps_std"] == pytest.approx(np.sqrt(4.5))
    picture = drawn(ranking, some)
    told = {row[0]: row[picture.tables[0].heads.index("steps to 90\N{NO-BREAK SPACE}%")] for row in picture.tables[0].rows}
    assert told == {"plain": "never", "activation=relu": "4 (2 of 2)", "activation=relu init=he": "0 (1 of 2)", "optimizer=adam": "0 (1 of 2)"}
    assert picture.sentence.endswith("of 4 recipes 3 reach 90 % in some run, 1 in every run.")


def test_runs_that_diverged_count_and_are_told() -> None:
    wanted = tuned(RECIPES, depth=3)
    original = with_runs(Study(runs_of(wanted)), "final_accuracy_test", [0.25 if config.seed == 2 else 0.75 for config in wanted])
    ended = [config.seed == 2 and config.activation == "relu" for config in wanted]
    some = with_runs(original, "outcome", ["diverged" if end else "trained" for end in ended])
    numbers = table(standings(some)).set_index("recipe")
    assert numbers["diverged"].to_dict() == {"plain": 0, "activation=relu": 1, "activation=relu init=he": 1, "optimizer=adam": 0}
    assert set(numbers["accuracy_mean"]) == {0.5}
    picture = drawn(ranking, some)
    told = {row[0]: row[-1] for row in picture.tables[0].rows}
    assert told == {"plain": "2", "activation=relu": "2, 1 diverged", "activation=relu init=he": "2, 1 diverged", "optimizer=adam": "2"}
    assert "Of a run that diverged (2 did) the last evaluation counts." in picture.notes
    assert len(x_of(line(picture.figure.axes[0], "diverged"))) == 2
    assert "diverged" in legend_of(picture.figure)


def test_equal_accuracies_share_a_rank() -> None:
    wanted = tuned(RECIPES, depth=3)
    values = {"plain": 0.5, "activation=relu": 0.9, "activation=relu init=he": 0.5, "optimizer=adam": 0.1}
    some = with_runs(Study(runs_of(wanted)), "final_accuracy_test", [values[name] for name in names_of(wanted)])
    numbers = table(standings(some))
    assert list(zip(numbers["rank"], numbers["recipe"], strict=True)) == [
        (1, "activation=relu"),
        (2, "plain"),
        (2, "activation=relu init=he"),
        (4, "optimizer=adam"),
    ]


def test_a_step_costs_so_many_times_the_plain_nets_at_the_same_depth() -> None:
    wanted = tuned(RECIPES, depth=[3, 6])
    times = {"plain": 2.0, "activation=relu": 3.0, "activation=relu init=he": 1.0, "optimizer=adam": 5.0}
    seconds = [config.depth * times[name] + {0: 100, 1: -0.5, 2: 0.5}[config.seed] for config, name in zip(wanted, names_of(wanted), strict=True)]
    some = with_runs(Study(runs_of(wanted)), "step_seconds", seconds)
    numbers = table(standings(some))
    for _, row in numbers.iterrows():
        assert row["cost"] == pytest.approx(times[row["recipe"]] / 2.0)
    picture = drawn(ranking, some)
    assert {row[0]: row[picture.tables[1].heads.index("time of a step")] for row in picture.tables[1].rows}["optimizer=adam"] == "2.50 ×"
    without = drawn(ranking, Study(runs_of(wanted)))
    assert "cost" not in table(standings(Study(runs_of(wanted))))
    assert all("time of a step" not in found.heads for found in without.tables)


def test_a_study_of_shallow_nets_has_no_column_of_decades() -> None:
    shallow, deep = drawn(ranking, Study(runs_of(tuned(RECIPES, depth=[3, 6])))).tables[::-1]
    assert (shallow.name, deep.name) == ("depth 3", "depth 6")
    assert not any("decades" in head for head in shallow.heads)
    assert sum("decades" in head for head in deep.heads) == 2


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Runs, Path]:
    """Runs that were timed, and the folder of their report."""
    runs, folder = runs_of(tuned(RECIPES, depth=[3, 6])), tmp_path_factory.mktemp("report")
    runs = replace(runs, runs=runs.runs.assign(step_seconds=np.linspace(1, 2, len(runs.runs))))
    list(write(runs, folder))
    return runs, folder


def test_the_csv_holds_what_pandas_makes_of_the_frames(report: tuple[Runs, Path]) -> None:
    runs, folder = report
    found = pd.read_csv(folder / "ranking.csv").set_index(["depth", "recipe"]).sort_index()

    named = {("sigmoid", "xavier", "sgd"): 0, ("relu", "xavier", "sgd"): 1, ("relu", "he", "sgd"): 2, ("sigmoid", "xavier", "adam"): 3}
    keys = runs.runs[["activation", "init.name", "optimizer.name"]].apply(tuple, axis=1)
    frame = runs.runs.assign(recipe=[NAMES[named[key]] for key in keys])[lambda f: f["seed"] > 0]
    groups = frame.groupby(["depth", "recipe"])
    last = runs.layers[(runs.layers["step"] == 12) & (runs.layers["layer"] > 1) & (runs.layers["layer"] < 6)].merge(frame[["run_id", "depth"]])
    slopes = {run_id: np.polyfit(rows["layer"], rows["log10_delta_norm"], 1)[0] for run_id, rows in last[last["depth"] == 6].groupby("run_id")}
    at = runs.curves[runs.curves["accuracy_test"] >= 0.9].groupby("run_id")["step"].min()
    frame = frame.assign(end=frame["run_id"].map(slopes), steps=frame["run_id"].map(at))
    for column, name in (
        ("final_accuracy_test", "accuracy"),
        ("delta_decades_per_layer", "decades_start"),
        ("end", "decades_end"),
        ("steps", "steps"),
    ):
        groups = frame.groupby(["depth", "recipe"])[column]
        np.testing.assert_allclose(found[f"{name}_mean"], groups.mean(), rtol=1e-12)
        np.testing.assert_allclose(found[f"{name}_std"], groups.std(ddof=1), rtol=1e-12)
    assert found["decades_end_mean"].notna().sum() == 4  # of depth 6
    assert list(found["runs"]) == [2] * 8
    assert list(found["lr"]) == [1.0] * 8
    seconds = frame.groupby(["depth", "recipe"])["step_seconds"].mean()
    np.testing.assert_allclose(found["cost"], seconds / seconds.xs("plain", level="recipe").reindex(seconds.index, level="depth"), rtol=1e-12)
    for depth in (3, 6):
        here = found.xs(depth, level="depth")
        assert list(here["rank"]) == list((-here["accuracy_mean"]).rank(method="min"))


# ---------------------------------------------------------------------------------------------- pictures


def test_dots_are_means_bars_go_to_both_runs_and_rows_go_by_the_greatest_depth() -> None:
    some = Study(runs_of(tuned(RECIPES, depth=[3, 6])))
    picture = drawn(ranking, some)
    assert titles(picture.figure) == ["$L$ = 3", "$L$ = 6"]
    numbers = table(standings(some))
    deep = numbers[numbers["depth"] == 6]
    rows = {text.get_text().replace("\n", " "): place for text, place in zip(picture.figure.axes[0].get_yticklabels(), range(9), strict=False)}
    assert list(rows) == list(deep["recipe"])
    for ax, depth in zip(picture.figure.axes, (3, 6), strict=True):
        (dots,) = series(ax)
        ticks = list(ax.get_yticks())
        here = numbers[numbers["depth"] == depth].set_index("recipe")
        for x, y in zip(x_of(points_of(dots)), y_of(points_of(dots)), strict=True):
            recipe = list(rows)[ticks.index(y)]
            assert x == here.loc[recipe, "accuracy_mean"]
        bars = {round(float(ends[0][1]), 6): ends[:, 0] for ends in dots.lines[2][0].get_segments()}
        for recipe, place in rows.items():
            (judged,) = [each for each in standings(some) if (each.depth, each.recipe) == (depth, recipe)]
            both = judged.numbers("final_accuracy_test")
            assert len(both) == 2
            np.testing.assert_allclose(bars[round(float(ticks[place]), 6)], [both.min(), both.max()], atol=1e-12)
        assert x_of(line(ax, "plain"))[0] == here.loc["plain", "accuracy_mean"]
    bottom, top = picture.figure.axes[0].get_ylim()
    assert bottom > top  # the best is on top


def test_the_sentence_names_the_best_and_the_plain_net_at_the_greatest_depth() -> None:
    wanted = tuned(RECIPES, depth=[3, 6])
    values = {"plain": 0.125, "activation=relu": 0.5, "activation=relu init=he": 0.75, "optimizer=adam": 0.25}
    accuracies = [values[name] + {0: 0.2, 1: 0.0, 2: 0.1}[config.seed] for name, config in zip(names_of(wanted), wanted, strict=True)]
    some = with_accuracy_curves(with_runs(Study(runs_of(wanted)), "final_accuracy_test", accuracies), lambda *_: {0: 0.5})
    assert drawn(ranking, some).sentence == (
        "At depth 6, activation=relu init=he ends highest, at 80.0 ± 7.1 % of the test set, the plain net at 17.5 ± 7.1 %; "
        "of 4 recipes none reaches 90 %."
    )


def test_a_panel_per_recipe_holds_its_gradient_norms_at_both_ends_and_the_plain_nets() -> None:
    picture = drawn(recipe_profiles, Study(runs_of(tuned(RECIPES, depth=[3, 6]))))
    panels = {ax.get_title(loc="left").replace("\n", " "): ax for ax in picture.figure.axes}
    assert next(iter(panels)) == "plain"
    assert set(panels) == set(NAMES)

    def mean(recipe: Recipe, step: int) -> Any:
        return np.mean([records(config).profile("log10_grad_norm", step) for config in configs(depth=6, lr=1.0, seed=[1, 2], **recipe)], axis=0)

    for name, recipe in zip(NAMES, RECIPES, strict=True):
        for end, step in (("start", 0), ("end", 12)):
            np.testing.assert_allclose(y_of(line(panels[name], end)), mean(recipe, step), rtol=1e-12)
            np.testing.assert_allclose(y_of(line(panels[name], f"plain, {end}")), mean(PLAIN, step), rtol=1e-12)
            assert list(x_of(line(panels[name], end))) == [1, 2, 3, 4, 5, 6]
        left, right = panels[name].get_xlim()
        assert (0 < left < 1, 6 < right < 7) == (True, True)


def test_a_recipes_panel_is_a_picture_of_its_own() -> None:
    some = Study(runs_of(tuned(RECIPES, depth=[3, 6])))
    changed = with_layers(some, "log10_grad_norm", lambda step, layer, _depth: layer * (1.0 if step == 0 else -2.0))
    picture = drawn(recipe_panel, changed, "activation=relu init=he")
    (ax,) = picture.figure.axes
    assert ax.get_title(loc="left") == "activation=relu init=he"
    assert list(y_of(line(ax, "start"))) == [1, 2, 3, 4, 5, 6]
    assert picture.sentence == (
        "At depth 6 the gradient norm, from the output layer back to layer 1, falls by 5.0 decades before training (plain: falls by 5.0 decades) "
        "and rises by 10.0 decades at the end (plain: rises by 10.0 decades) with activation=relu init=he."
    )
    assert "plain:" not in drawn(recipe_panel, some, "plain").sentence
    with pytest.raises(LookupError, match="no such recipe"):
        recipe_panel(some, "activation=relu init=hee")


def test_one_net_that_loses_everything_does_not_flatten_the_others() -> None:
    original = Study(runs_of(tuned(RECIPES, depth=6)))
    lost = {run_id for run_id, recipe in recipes(original).items() if recipe == "optimizer=adam"}
    layers = original.runs.layers
    norms = np.where(layers["run_id"].isin(lost) & (layers["step"] == 12), -90.0 + layers["layer"], layers["layer"] / 2)
    picture = drawn(recipe_profiles, Study(replace(original.runs, layers=layers.assign(log10_grad_norm=norms))))
    bottom, top = picture.figure.axes[0].get_ylim()
    assert -3 < bottom < 0.5
    assert 3 < top < 5
    assert any(note.startswith("Lines that leave the axis") for note in picture.notes)


def test_other_pictures_show_the_plain_net_and_the_best_alone() -> None:
    wanted = tuned(
        [PLAIN, *({"activation": name} for name in ("tanh", "erf", "elu", "selu", "gelu", "silu", "softplus")), RELU_HE, ADAM], depth=[3, 6]
    )
    worst = with_runs(Study(runs_of(wanted)), "final_accuracy_test", [0.1 if name == "plain" else 0.5 for name in names_of(wanted)])
    few = the_best(worst, 4)
    assert set(few.frame["depth"]) == {6}
    assert set(few.frame["seed"]) == {1, 2}
    assert len(few.frame) == 8
    assert set(few.frame.index) == set(few.runs.curves["run_id"]) == set(few.runs.layers["run_id"])
    assert "plain" in {recipes(worst)[run_id] for run_id in few.frame.index}
    for name in ("loss_curves", "gradient_heatmap", "accuracy_curves"):
        assert picture(worst, name).notes[0] == "Of all recipes, the plain one and the best at depth 6, each with its best learning rate."


def test_a_run_that_has_lost_what_it_chose_has_no_recipe() -> None:
    some = Study(runs_of(variants(RECIPES), failed=(3,)))
    lost = with_runs(some, "skip.name", ["none", "none", "none", None])
    assert set(recipes(lost).values()) == set(NAMES[:3])


def test_what_the_best_have_no_records_for_is_no_picture() -> None:
    some = Study(runs_of([*tuned(RECIPES, depth=6), *configs(depth=3, probes=[["histogram"]])]))
    assert is_of_recipes(some)
    assert any(len(some.histograms(setting)) for setting in some.settings)
    assert "loss_curves" in applying(some)
    assert "activation_histograms" not in applying(some)


def test_sixty_recipes_leave_room_for_each_other() -> None:
    some = [{"activation": name, **change} for name in ("tanh", "relu", "elu", "selu", "gelu", "silu") for change in LONG]
    wanted = [*variants([PLAIN, *some], depth=[3, 5], steps=2, width=3), *variants([PLAIN, *some], depth=6, seed=[0, 1], steps=2, width=3)]
    crowd = Study(runs_of(wanted))
    assert len(set(recipes(crowd).values())) == 55
    for function in (ranking, recipe_profiles):
        picture = drawn(function, crowd)
        assert picture.figure.get_figwidth() == 7.0
        assert picture.figure.get_figheight() < 20
        covered = boxes(picture.figure)
        assert not overlaps(covered)
        assert not cut_off(picture.figure, covered)
        assert not crowded_ticks(picture.figure)
        assert "nan" not in picture.sentence


LONG: list[Recipe] = [
    {},
    {"init__name": "he"},
    {"init__name": "orthogonal"},
    {"norm": "batch"},
    {"skip__name": "residual"},
    {"loss": "cross_entropy"},
    {"optimizer__name": "adam"},
    {"init__name": "he", "norm": "layer", "optimizer__name": "adam", "loss": "cross_entropy"},
    {"init__name": "he", "norm": "batch", "optimizer__name": "adam", "loss": "binary_cross_entropy", "skip__name": "residual"},
]


# ---------------------------------------------------------------------------------------------- the page


def test_the_page_shows_a_table_per_depth_and_links_the_csv(report: tuple[Runs, Path]) -> None:
    runs, folder = report
    text = (folder / "index.html").read_text()
    assert '<a href="ranking.csv">' in text
    assert re.findall(r"<summary>(depth \d)</summary>", text) == ["depth 6", "depth 3"]
    deep = text.split("<summary>depth 6</summary>")[1].split("</table>")[0]
    told = re.findall(r'<tr><th scope="row">([^<]*)</th><td>(\d)</td><td>([^<]*)</td>', deep)
    numbers = table(standings(Study(runs)))
    for (recipe, rank, accuracy), (_, row) in zip(told, numbers[numbers["depth"] == 6].iterrows(), strict=True):
        assert (recipe, int(rank)) == (row["recipe"], row["rank"])
        assert accuracy == f"{100 * row['accuracy_mean']:.1f} ± {100 * row['accuracy_std']:.1f} %"


def test_pictures_of_recipes_are_the_same_bytes_again_and_laid_out_in_all_of_them(report: tuple[Runs, Path], tmp_path: Path) -> None:
    runs, folder = report
    for function in (ranking, recipe_profiles):
        figure = drawn(function, Study(runs)).figure
        for path in save_figure(figure, tmp_path, function.__name__):
            assert path.read_bytes() == (folder / path.name).read_bytes()
        figure.set_dpi(200)  # as it was laid out: with fewer dots a text is wider, by its hints
        covered = boxes(figure)
        assert not overlaps(covered)
        assert not cut_off(figure, covered)


def test_runs_that_are_no_recipes_any_more_leave_no_ranking(report: tuple[Runs, Path], tmp_path: Path) -> None:
    _, folder = report
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    list(write(runs_of(configs(depth=[3, 6]), failed=(0, 1)), tmp_path))
    assert not list(tmp_path.glob("ranking.*"))
