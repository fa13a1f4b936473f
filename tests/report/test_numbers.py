"""The numbers behind pictures against what is drawn, artist by artist; and that they come back from their files."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bpexp.report.numbers import as_drawn
from bpexp.report.page import write
from bpexp.report.selection import Study
from tests.report.studies import configs, records, runs_of, study
from tests.report.test_figures import image_of, line, lines, picture, points_of, series, x_of, y_of


def part(numbers: pd.DataFrame, **values: Any) -> pd.DataFrame:
    for column, value in values.items():
        numbers = numbers[numbers[column] == value]
    return numbers


def assert_drawn(ax: Axes, label: str, numbers: pd.DataFrame, place: str) -> None:
    np.testing.assert_array_equal(x_of(line(ax, label)), numbers[place])
    np.testing.assert_array_equal(y_of(line(ax, label)), numbers["mean"].where(np.isfinite(numbers["mean"])))


@pytest.fixture(scope="module")
def some() -> Study:
    return study(depth=[5, 8], seed=[0, 1], batch_size="full")


@pytest.mark.parametrize(("name", "column"), [("gradient_profiles", "log10_grad_norm"), ("saturation", "saturated")])
def test_profiles(name: str, column: str) -> None:
    relus = study(depth=[5, 8], seed=[0, 1], activation="relu")
    shown = picture(relus, name)
    for ax, depth in zip(shown.figure.axes, (5, 8), strict=True):
        mine = part(shown.numbers, depth=depth, quantity=column)
        assert len(mine["step"].unique()) == 5
        for step in mine["step"].unique():
            assert_drawn(ax, f"step {step}", part(mine, step=step), "layer")
        theory = part(shown.numbers, depth=depth, quantity="theory_log10_grad_norm")
        if column == "log10_grad_norm":
            np.testing.assert_allclose(y_of(line(ax, "theory")), theory["mean"])
        else:
            assert theory.empty


def test_bands_are_told_with_the_number_of_runs(some: Study) -> None:
    wanted = configs(depth=5, seed=[0, 1], batch_size="full")
    row = part(picture(some, "gradient_profiles").numbers, depth=5, step=12, layer=2, quantity="log10_grad_norm").iloc[0]
    values = [records(config).profile("log10_grad_norm", 12)[1] for config in wanted]
    assert row["mean"] == pytest.approx(np.mean(values))
    assert row["low"] < row["mean"] < row["high"]
    assert row["runs"] == 2


def test_curves(some: Study) -> None:
    losses, accuracies = picture(some, "loss_curves"), picture(some, "accuracy_curves")
    for ax, depth in zip(accuracies.figure.axes, (5, 8), strict=True):
        assert_drawn(losses.figure.axes[0], f"L = {depth}", part(losses.numbers, depth=depth, quantity="loss_train"), "step")
        plateau = part(losses.numbers, depth=depth, quantity="plateau_loss")["mean"]
        assert plateau.tolist() == pytest.approx([records(configs(depth=depth)[0]).plateau], rel=1e-5)
        assert_drawn(ax, "test set", part(accuracies.numbers, depth=depth, quantity="accuracy_test"), "step")


def test_every_step_of_a_noisy_lone_run() -> None:
    shown = picture(study(batch_size=1, steps=300), "loss_curves")
    every = part(shown.numbers, quantity="loss_train_of_every_step")
    np.testing.assert_array_equal(y_of(line(shown.figure.axes[0], "every step")), every["mean"])
    assert len(part(shown.numbers, quantity="loss_train")) == 301


def test_what_lies_at_the_start_and_in_the_heat_map(some: Study) -> None:
    start, heat = picture(some, "gradient_at_the_start"), picture(some, "gradient_heatmap")
    images = [ax for ax in heat.figure.axes if ax.get_images()]
    for ax, depth in zip(images, (5, 8), strict=True):
        mine = part(start.numbers, depth=depth, quantity="log10_delta_norm").sort_values("layer", ascending=False)
        np.testing.assert_array_equal(y_of(line(start.figure.axes[0], f"L = {depth}")), mine["mean"])
        table = part(heat.numbers, depth=depth).pivot_table(index="layer", columns="step", values="mean")
        np.testing.assert_array_equal(image_of(ax), table)


@pytest.mark.parametrize(("name", "column"), [("accuracy", "final_accuracy_test"), ("decades_per_layer", "delta_decades_per_layer")])
def test_points_over_the_settings(some: Study, name: str, column: str) -> None:
    shown = picture(some, name)
    drawn, mine = points_of(series(shown.figure.axes[0])[-1]), part(shown.numbers, quantity=column)
    np.testing.assert_array_equal(x_of(drawn), mine["depth"])
    np.testing.assert_array_equal(y_of(drawn), mine["mean"])
    assert mine["runs"].tolist() == [2, 2]


def test_updates() -> None:
    shown = picture(study(depth=30, steps=20, lr=1.0), "update_ratio")
    (ax,) = shown.figure.axes
    for label, layer in (("first layer", 1), ("halfway", 16), ("last layer", 30)):
        mine = part(shown.numbers, layer=layer)
        wanted = records(configs(depth=30, steps=20, lr=1.0)[0])
        at = (wanted.layers["layer"] == layer) & ~np.isnan(wanted.layers["log10_update_made"])
        np.testing.assert_array_equal(mine["mean"], wanted.layers["log10_update_made"][at])
        assert_drawn(ax, label, mine, "step")
    assert next(x_of(mark).size for mark in lines(ax, "_zero")) == 20  # nothing of the first layer ever moves


def test_multiplications(some: Study) -> None:
    shown = picture(some, "paths_against_backprop")
    for way, name in enumerate(("every path by itself", "backpropagation")):
        for how, told_by in (("formula", "formula"), ("counted", "count")):
            mine = part(shown.numbers, way=name, told_by=told_by)
            np.testing.assert_array_equal(y_of(line(shown.figure.axes[0], f"{how} {way}")), mine["log10_multiplications"])


def test_a_figure_of_many_things_tells_what_it_holds() -> None:
    figure = Figure()
    left, right = figure.subplots(1, 2)
    left.plot([1, 2], [3, np.nan], label="a line")
    left.set_title("one")
    right.imshow([[1.0, 2.0], [3.0, 4.0]], origin="lower", extent=(0, 4, 0, 2))
    right.pcolormesh([0.0, 1.0, 3.0], [0.0, 2.0], np.array([[5.0, 6.0]]))
    told = as_drawn(figure)
    np.testing.assert_array_equal(part(told, series="a line")[["panel", "x", "y"]], [[1, 1, 3], [1, 2, np.nan]])
    assert part(told, series="a line")["title"].unique().tolist() == ["one"]
    found = part(told, panel=2)[["x", "y", "value"]].to_numpy().tolist()
    assert found == [[1, 0.5, 1], [3, 0.5, 2], [1, 1.5, 3], [3, 1.5, 4], [0.5, 1, 5], [2, 1, 6]]
    assert list(as_drawn(Figure()).columns) == ["panel", "title", "series", "x", "y"]


def test_each_figure_of_a_report_has_its_file(tmp_path: Path) -> None:
    some = study(depth=[3, 6], probes=[["histogram"]])
    files = {path.name for path in write(some.runs, tmp_path)}
    figures = {name.removesuffix(".png") for name in files if name.endswith(".png")}
    assert {f"{name}.csv" for name in figures} | {"runs.csv"} == {name for name in files if name.endswith(".csv")}
    for name in figures:
        wanted = picture(some, name).numbers.reset_index(drop=True)
        pd.testing.assert_frame_equal(pd.read_csv(tmp_path / f"{name}.csv"), wanted, check_dtype=False)
    assert runs_of(configs(depth=3)).histograms.empty
