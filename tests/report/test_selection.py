"""What a study takes for swept, how it groups runs, and which of many things it shows."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpexp.report.page import render
from bpexp.report.recipes import PLAIN, recipes
from bpexp.report.selection import Key, Setting, Study, facets, idle, one_of_each, spread, sub_grid
from tests.report.studies import configs, runs_of, study


def names(some: Study) -> list[str]:
    return [key.name for key in some.swept]


def test_several_values_make_a_key_swept_and_seeds_repeat_a_setting() -> None:
    some = study(depth=[5, 3], lr=[1.0, 0.5], seed=[0, 1, 2])
    assert names(some) == ["depth", "lr"]
    assert [setting.levels for setting in some.settings] == [(3, 0.5), (3, 1.0), (5, 0.5), (5, 1.0)]
    assert {len(setting.runs) for setting in some.settings} == {3}
    assert some.seeds == [0, 1, 2]
    frame = some.frame
    for setting in some.settings:
        assert {tuple(row) for row in frame.loc[list(setting.runs), ["depth", "lr"]].to_numpy()} == {setting.levels}


def test_one_run_has_one_setting_and_nothing_swept() -> None:
    some = study()
    assert names(some) == []
    assert len(some.settings) == 1
    assert some.fixed["depth"] == 3
    assert some.fixed["init.name"] == "xavier"
    assert "init.sigma_w2" not in some.fixed  # it is not set


def test_names_keep_the_order_they_came_in() -> None:
    assert [s.levels for s in study(activation=["tanh", "sigmoid", "relu"]).settings] == [("tanh",), ("sigmoid",), ("relu",)]


def test_the_output_follows_the_loss() -> None:
    some = study(loss=["squared_error", "cross_entropy"])
    assert names(some) == ["loss"]
    assert some.follows == {"output": "loss"}
    assert "output" not in some.fixed


def test_a_number_that_a_name_fixes_follows_it() -> None:
    pairs = [*configs(init__name="gaussian", init__sigma_w2=2.0, width=[4, 6]), *configs(init__name="orthogonal", init__sigma_w2=3.0, width=[4, 6])]
    some = Study(runs_of(pairs))
    assert names(some) == ["width", "init.name"]
    assert some.follows == {"init.sigma_w2": "init.name"}


@pytest.fixture(scope="module")
def measured() -> Study:
    """Three seeds, each with two lists of probes, and one depth more without."""
    return Study(runs_of([*configs(probes=[[], ["q", "c"]], seed=[0, 1, 2]), *configs(depth=5, seed=[0, 1, 2])]))


def test_what_is_measured_is_no_setting_and_no_run_counts_twice(measured: Study) -> None:
    assert names(measured) == ["depth"]
    assert [setting.levels for setting in measured.settings] == [(3,), (5,)]
    assert [list(measured.frame.loc[list(setting.runs), "seed"]) for setting in measured.settings] == [[0, 1, 2], [0, 1, 2]]
    assert set(measured.frame.loc[list(measured.settings[0].runs), "probes"]) == {"[q,c]"}
    assert "3 runs are not in the pictures: others are the same with more probes." in render(measured, [])
    assert "for want of records" not in render(measured, [])


def test_nor_is_it_a_part_of_a_recipe(measured: Study) -> None:
    assert set(recipes(measured).values()) == {PLAIN}


def test_a_run_that_is_repeated_as_it_was_stays() -> None:
    some = study(seed=[0, 0], probes=[["q"]])
    assert [len(setting.runs) for setting in some.settings] == [2]


def test_runs_without_records_are_known_and_not_drawn() -> None:
    some = study(depth=[3, 5, 7], failed=(1,))
    assert list(some.swept[0].levels) == [3, 5, 7]
    assert [setting.levels for setting in some.settings] == [(3,), (7,)]
    assert len(some.frame) == 3


def test_a_run_that_failed_before_it_had_a_configuration_spoils_nothing() -> None:
    runs = runs_of(configs(depth=[3, 5]))
    lost = pd.DataFrame([{"run_id": "f" * 32, "name": "lost", "status": "FAILED"}])
    some = Study(replace(runs, runs=pd.concat([runs.runs, lost], ignore_index=True)))
    assert names(some) == ["depth"]
    assert some.swept[0].ordered
    assert [setting.levels for setting in some.settings] == [(3,), (5,)]


def test_a_run_listed_twice_is_one_run() -> None:
    runs = runs_of(configs(depth=[3, 5]))
    twice = Study(replace(runs, runs=pd.concat([runs.runs, runs.runs.iloc[:1]], ignore_index=True)))
    assert [len(setting.runs) for setting in twice.settings] == [1, 1]


@pytest.mark.parametrize(
    ("name", "levels", "log"),
    [
        ("lr", (0.1, 0.2), True),
        ("output_lr", (0.1, 0.2), True),
        ("width", (16, 64, 256), True),
        ("depth", (10, 50, 100), False),
        ("depth", (1, 2, 3, 4), False),
        ("depth", (2, 4, 8, 16), True),
        ("width", (16, 256), False),
        ("init.sigma_b2", (0.0, 0.1, 10.0), False),
    ],
)
def test_which_axes_are_logarithmic(name: str, levels: tuple[float, ...], log: bool) -> None:
    assert Key(name, levels, ordered=True).log is log


def test_labels_use_the_fields_symbols() -> None:
    depth, lr, variance = (Key(name, (1.0, 2.0), ordered=True) for name in ("depth", "lr", "init.sigma_w2"))
    assert (depth.text(50), depth.math(50), depth.axis) == ("L = 50", "$L$ = 50", "depth $L$")
    assert (lr.text(0.1), lr.axis) == ("η = 0.1", r"learning rate $\eta$")
    assert variance.math(4.0) == r"$\sigma_w^2$ = 4"
    assert Key("activation", ("tanh", "relu"), ordered=False).text("tanh") == "tanh"
    assert Key("data.seed", (1, 2), ordered=True).text(1) == "data seed = 1"
    assert Key("data.path", ("$a$", "b"), ordered=False).math("$a$") == r"data path = \$a\$"


def test_values_have_the_digits_that_tell_them_apart() -> None:
    close = Key("lr", (0.1234501, 0.1234599), ordered=True)
    assert [close.written(value) for value in close.levels] == ["0.12345", "0.12346"]
    far = Key("lr", (1 / 3, 2 / 3), ordered=True)
    assert [far.written(value) for value in far.levels] == ["0.333", "0.667"]


@given(st.integers(1, 300), st.integers(2, 20))
def test_a_spread_choice_holds_both_ends_and_no_item_twice(items: int, most: int) -> None:
    chosen = spread(range(items), most)
    assert len(chosen) == min(items, most) == len(set(chosen))
    assert (chosen[0], chosen[-1]) == (0, items - 1)
    assert chosen == sorted(chosen)


def grid(*sizes: int) -> list[Setting]:
    keys = tuple(Key(f"key{index}", tuple(range(size)), ordered=True) for index, size in enumerate(sizes))
    return [Setting(keys, tuple(int(i) for i in place), (str(place),)) for place in np.ndindex(*sizes)]


@pytest.mark.parametrize("sizes", [(100,), (3, 4), (10, 10), (2, 50), (4, 4, 4), (2, 3)])
def test_a_choice_of_settings_covers_each_key(sizes: tuple[int, ...]) -> None:
    chosen = sub_grid(grid(*sizes), 9)
    assert 4 < len(chosen) <= 9
    for axis, size in enumerate(sizes):
        places = {setting.levels[axis] for setting in chosen}
        assert {0, size - 1} <= places or len(places) == 1


def test_settings_that_form_no_grid_are_chosen_by_position() -> None:
    diagonal = [setting for setting in grid(50, 50) if setting.levels[0] == setting.levels[1]]
    assert [setting.levels[0] for setting in sub_grid(diagonal, 5)] == [0, 12, 24, 37, 49]


def test_a_key_that_makes_no_difference_is_idle() -> None:
    settings = grid(3, 4)
    keys = settings[0].keys
    results = {setting: setting.levels[0] ** 2 for setting in settings}
    assert idle(keys, results) == [keys[1]]
    assert [setting.levels for setting in one_of_each(settings, [keys[1]])] == [(0, 0), (1, 0), (2, 0)]
    assert idle(keys, {setting: sum(setting.levels) for setting in settings}) == []
    assert idle(keys, {setting: 1 for setting in settings if setting.levels[0] == setting.levels[1]}) == []  # nothing differs in one key alone


def test_facets_are_the_keys_that_are_not_inside() -> None:
    settings = grid(2, 3)
    x, y = settings[0].keys
    assert [name for name, _ in facets(settings, [x])] == ["key1 = 0", "key1 = 1", "key1 = 2"]
    assert [[setting[x] for setting in group] for _, group in facets(settings, [x])] == [[0, 1]] * 3
    assert [name for name, _ in facets(settings, [x, y])] == [""]
