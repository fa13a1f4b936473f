"""Figures by the data that they hold: lines, bands, images, marks, labels; and that none of it overlaps."""

from itertools import combinations, pairwise
from math import log10
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox
from scipy import stats

from bpexp.config import RunConfig
from bpexp.core.arrays import Float64s
from bpexp.core.paths import count_multiplications
from bpexp.report.figures import PICTURES, draw
from bpexp.report.over_depth import multiplications
from bpexp.report.over_steps import smoothed
from bpexp.report.picture import MOST_PANELS, Picture, log_axis, style
from bpexp.report.selection import Study
from tests.report.studies import configs, only, records, runs_of, study, with_layers

STUDIES: dict[str, dict[str, Any]] = {
    "depths": {"depth": [3, 5, 12]},
    "one run": {},
    "one layer": {"depth": 1},
    "depth 1 beside 2": {"depth": [1, 2]},
    "learning rates": {"lr": [0.1, 1.0, 3.0, 10.0, 100.0]},
    "two keys": {"depth": [3, 5, 6], "lr": [0.1, 1.0, 10.0, 100.0]},
    "four keys": {"depth": [5, 6], "lr": [0.1, 1.0], "activation": ["sigmoid", "tanh"], "init__name": ["xavier", "he", "orthogonal"]},
    "seeds": {"seed": [0, 1, 2], "depth": [3, 6]},
    "only seeds": {"seed": [0, 1, 2]},
    "names": {"activation": ["sigmoid", "tanh", "relu"], "depth": 6},
    "losses": {"loss": ["squared_error", "cross_entropy"]},
    "one diverges": {"activation": "linear", "output": "linear", "depth": 6, "lr": [0.01, 1.0, 1e6]},
    "all diverge at once": {"activation": "linear", "output": "linear", "depth": 6, "lr": [1e30, 1e35]},
    "some seeds diverge": {"activation": "relu", "output": "linear", "depth": 3, "lr": [3.0, 4.0], "seed": [0, 1, 2, 3]},
    "a plane": {"init__name": "gaussian", "activation": "tanh", "init__sigma_w2": [0.5, 1.0, 4.0], "depth": [6, 8, 12], "steps": 3},
    "sixty depths": {"depth": list(range(1, 61)), "steps": 3, "width": 4},
    "depth 200": {"depth": [1, 200], "steps": 5, "width": 4},
    "histograms": {"depth": [2, 3, 12], "probes": [["histogram"]]},
    "histograms of relus": {"activation": "relu", "output": "linear", "lr": [0.1, 1e3], "seed": [0, 1], "depth": 4, "probes": [["histogram"]]},
    "histograms without training": {"activation": "tanh", "steps": 0, "probes": [["histogram"]]},
}
HUNDRED: dict[str, Any] = {"lr": [0.01 * 1.1**k for k in range(100)], "steps": 5}


def pictures(some: Study) -> dict[str, Picture]:
    return {entry.name: picture for entry, picture in draw(some)}


def applying(some: Study) -> set[str]:
    """The names of the pictures that a study has; none is drawn."""
    return {entry.name for entry in PICTURES if entry.applies(some)}


def picture(some: Study, name: str) -> Picture:
    (entry,) = [entry for entry in PICTURES if entry.name == name]
    assert entry.applies(some)
    with style():
        return entry.function(some)


def lines(ax: Axes, label: str) -> list[Line2D]:
    return [line for line in ax.get_lines() if line.get_label() == label]


def line(ax: Axes, label: str) -> Line2D:
    (found,) = lines(ax, label)
    return found


def x_of(drawn: Line2D) -> Float64s:
    return np.asarray(drawn.get_xdata(), np.float64)


def y_of(drawn: Line2D) -> Float64s:
    return np.asarray(drawn.get_ydata(), np.float64)


def series(ax: Axes) -> list[ErrorbarContainer]:
    """What `errorbar` drew."""
    return [found for found in ax.containers if isinstance(found, ErrorbarContainer)]


def points_of(found: ErrorbarContainer) -> Line2D:
    assert found.lines[0] is not None
    return found.lines[0]


def image_of(ax: Axes) -> Any:
    """The array of a panel's image, with its mask."""
    (image,) = ax.get_images()
    return np.ma.asarray(image.get_array())


def slope(config: RunConfig) -> float:
    found = records(config).delta_decades_per_layer
    assert found is not None
    return found


def laid_out(figure: Figure) -> Any:
    """The renderer of a figure that has been laid out, and has all its artists where they will be drawn."""
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return canvas.get_renderer()  # type: ignore[no-untyped-call]


def students(values: Any) -> tuple[float, float]:
    """The 95 % confidence interval of a mean, by scipy."""
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    return float(low), float(high)


def titles(figure: Figure) -> list[str]:
    return [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")]


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


# ---------------------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", STUDIES)
def test_every_picture_that_applies_is_drawn_and_nothing_in_it_overlaps(name: str) -> None:
    some = study(**STUDIES[name])
    drawn = pictures(some)
    assert {"loss_curves", "gradient_profiles", "paths_against_backprop"} <= set(drawn)
    for picture in drawn.values():
        assert len(picture.numbers) > 0
        assert picture.numbers.columns.is_unique
        assert picture.sentence.endswith(".")
        assert "nan" not in picture.sentence
        assert "None" not in picture.sentence
        assert picture.figure.get_figwidth() == pytest.approx(7.0)
        covered = boxes(picture.figure)
        assert not overlaps(covered)
        assert not cut_off(picture.figure, covered)
        assert not crowded_ticks(picture.figure)


def boxes(figure: Figure) -> list[Bbox]:
    """What legends and panels, their labels included, cover in a figure; a colour bar is a panel."""
    renderer = laid_out(figure)
    artists: list[Artist] = [*figure.legends, *figure.axes]
    labels = [text for name in ("_supxlabel", "_supylabel") if (text := getattr(figure, name))]
    return [box for artist in [*artists, *labels] if (box := artist.get_tightbbox(renderer)) is not None]


def overlaps(covered: list[Bbox]) -> list[tuple[Bbox, Bbox]]:
    shrunk = [box.padded(-2.0) for box in covered]  # marks may reach over an axis by a little
    return [(a, b) for a, b in combinations(shrunk, 2) if a.overlaps(b)]


def cut_off(figure: Figure, covered: list[Bbox]) -> list[Bbox]:
    return [box for box in covered if box.x0 < -1 or box.y0 < -1 or box.x1 > figure.bbox.x1 + 1 or box.y1 > figure.bbox.y1 + 1]


def crowded_ticks(figure: Figure) -> list[str]:
    """Tick labels that run into their neighbours."""
    found = []
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [
                tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high and tick.label1.get_visible() and tick.label1.get_text()
            ]
            shown = [(tick.label1.get_text(), tick.label1.get_window_extent()) for tick in ticks]
            found += [f"{a} | {b}" for (a, box), (b, other) in pairwise(shown) if box.overlaps(other)]
    return found


def test_drawing_leaves_matplotlib_as_it_was() -> None:
    before = dict(mpl.rcParams)
    pictures(study(depth=[3, 5]))
    assert dict(mpl.rcParams) == before


def test_runs_without_records_leave_the_other_pictures_alone() -> None:
    assert set(pictures(study(depth=[3, 5], failed=(0, 1)))) == {"paths_against_backprop"}
    (ax,) = picture(study(depth=[3, 5], failed=(0,)), "loss_curves").figure.axes
    assert len(lines(ax, "L = 3")) == 0
    assert len(lines(ax, "L = 5")) == 1


def test_names_of_pictures_are_unique_and_fit_for_files() -> None:
    names = [entry.name for entry in PICTURES]
    assert len(set(names)) == len(names)
    assert all(name.replace("_", "").isalnum() and name.islower() for name in names)


# ---------------------------------------------------------------------------------------------- over steps


def test_a_smooth_loss_is_drawn_as_it_is() -> None:
    (config,) = configs(batch_size="full")
    shown = picture(Study(runs_of([config])), "loss_curves")
    drawn = line(shown.figure.axes[0], "loss")
    curve = records(config).curves
    np.testing.assert_array_equal(x_of(drawn), curve["step"])
    np.testing.assert_array_equal(y_of(drawn), curve["loss_train"])
    assert not any("means over" in note for note in shown.notes)


def test_a_noisy_loss_is_smoothed_over_the_window_that_the_note_tells() -> None:
    (config,) = configs(batch_size=1, steps=300)
    shown = picture(Study(runs_of([config])), "loss_curves")
    drawn, raw = line(shown.figure.axes[0], "loss"), records(config).curves["loss_train"]
    assert shown.notes[0].startswith("Lines are means over 7 steps")
    y = y_of(drawn)
    assert y[0] == raw[0]
    assert y[150] == pytest.approx(raw[147:154].mean())
    assert y[-1] == pytest.approx(raw[-4:].mean())
    np.testing.assert_array_equal(y_of(line(shown.figure.axes[0], "every step")), raw)
    low, high = shown.figure.axes[0].get_ylim()
    assert low <= raw.min() <= raw.max() <= high


def test_smoothing_keeps_constants_and_the_ends_it_promises() -> None:
    at = np.arange(50)
    np.testing.assert_allclose(smoothed(np.full(50, 3.0), at, 4), 3.0)
    values = np.arange(50.0) ** 2
    assert smoothed(values, at, 4)[-1] == values[-5:].mean()
    assert smoothed(values, at, 4)[0] == values[0]


def test_the_plateau_is_a_dashed_line_at_its_loss() -> None:
    shown = picture(study(depth=[3, 5]), "loss_curves")
    plateau = records(configs(depth=3)[0]).plateau
    drawn = line(shown.figure.axes[0], "plateau")
    assert y_of(drawn)[0] == pytest.approx(plateau, rel=1e-5)
    assert drawn.is_dashed()
    assert legend_of(shown.figure) == ["$L$ = 3", "$L$ = 5", "best constant output"]


def test_a_diverged_run_is_shown_until_its_end_and_marked() -> None:
    wanted = configs(activation="linear", output="linear", depth=6, lr=[0.01, 1.0])
    shown = picture(Study(runs_of(wanted)), "loss_curves")
    (ax,) = shown.figure.axes
    left = records(wanted[1])
    finite = np.flatnonzero(np.isfinite(left.curves["loss_train"]))
    assert left.diverged_at is not None
    (mark,) = lines(ax, "diverged")
    assert x_of(mark).tolist() == [finite[-1]]
    np.testing.assert_array_equal(y_of(line(ax, "η = 1")), left.curves["loss_train"][finite])
    assert "diverged" in legend_of(shown.figure)
    calm = records(wanted[0]).curves["loss_train"]
    assert ax.get_ylim()[1] < 2 * calm.max()  # fitted to the run that did not diverge
    assert left.curves["loss_train"][finite[-1]] > ax.get_ylim()[1]  # so the cross stands on the upper edge
    assert y_of(mark).tolist() == [ax.get_ylim()[1]]
    assert any("left the axis" in note for note in shown.notes)


def test_seeds_make_a_mean_and_a_band_over_its_confidence_interval() -> None:
    wanted = configs(seed=[0, 1, 2], depth=3, batch_size="full")
    shown = picture(Study(runs_of(wanted)), "loss_curves")
    (ax,) = shown.figure.axes
    curves = np.array([records(config).curves["loss_train"] for config in wanted])
    np.testing.assert_allclose(y_of(line(ax, "loss")), curves.mean(axis=0))
    ((band,),) = [ax.collections]
    corners = np.asarray(band.get_paths()[0].vertices)
    for step in (1, 7):
        heights = corners[corners[:, 0] == step][:, 1]
        assert (heights.min(), heights.max()) == pytest.approx(students(curves[:, step]))
    assert (
        "Lines are means over 3 runs per setting, one per seed; the spread around them is the mean's 95 % confidence interval (Student's t, n = 3)."
        in shown.notes
    )


def test_on_a_logarithmic_axis_means_and_intervals_are_over_logarithms() -> None:
    wanted = configs(seed=[0, 1, 2], depth=2, batch_size="full", lr=4.0, steps=400, data__classes=2)
    shown = picture(Study(runs_of(wanted)), "loss_curves")
    (ax,) = shown.figure.axes
    assert ax.get_yscale() == "log"
    drawn = line(ax, "loss")
    curves = np.log([records(config).curves["loss_train"][x_of(drawn).astype(int)] for config in wanted])
    np.testing.assert_allclose(y_of(drawn), np.exp(curves.mean(axis=0)))
    corners = np.asarray(ax.collections[0].get_paths()[0].vertices)
    heights = corners[corners[:, 0] == 200][:, 1]
    (place,) = np.flatnonzero(x_of(drawn) == 200)
    assert (heights.min(), heights.max()) == pytest.approx(tuple(np.exp(students(curves[:, place]))))
    assert any(note.startswith("Lines are geometric means over 3 runs") and "over logarithms" in note for note in shown.notes)


def test_of_two_runs_both_are_shown() -> None:
    wanted = configs(seed=[0, 1], depth=3, batch_size="full")
    shown = picture(Study(runs_of(wanted)), "loss_curves")
    corners = np.asarray(shown.figure.axes[0].collections[0].get_paths()[0].vertices)
    heights = corners[corners[:, 0] == 7][:, 1]
    assert sorted({*heights}) == pytest.approx(sorted(records(config).curves["loss_train"][7] for config in wanted))
    assert any(note.endswith("the spread around them goes from the lowest to the highest.") for note in shown.notes)


def test_accuracy_curves_hold_the_probed_accuracies() -> None:
    (config,) = configs()
    (ax,) = picture(Study(runs_of([config])), "accuracy_curves").figure.axes
    for part, label in (("accuracy_train", "training set"), ("accuracy_test", "test set")):
        steps, values = records(config).probed(part)
        np.testing.assert_array_equal(x_of(line(ax, label)), steps)
        np.testing.assert_array_equal(y_of(line(ax, label)), values)


# ---------------------------------------------------------------------------------------------- over layers


def test_profiles_hold_the_norms_of_the_steps_they_name() -> None:
    wanted = configs(depth=[3, 8])
    figure = picture(Study(runs_of(wanted)), "gradient_profiles").figure
    assert titles(figure) == ["$L$ = 3", "$L$ = 8"]
    named = [int(text.removeprefix("step ")) for text in legend_of(figure) if text != "theory"]
    assert (named[0], named[-1]) == (0, 12)
    for ax, config in zip(figure.axes, wanted, strict=True):
        for step in named:
            drawn = line(ax, f"step {step}")
            np.testing.assert_array_equal(x_of(drawn), np.arange(1, config.depth + 1))
            np.testing.assert_allclose(y_of(drawn), records(config).profile("log10_grad_norm", step))


def test_norms_of_exactly_zero_are_gaps_with_triangles() -> None:
    zeroed = with_layers(study(depth=8), "log10_grad_norm", lambda _step, layer, _depth: -np.inf if layer <= 3 else -layer)
    profiles, heatmap = picture(zeroed, "gradient_profiles"), picture(zeroed, "gradient_heatmap")
    (ax,) = profiles.figure.axes
    assert np.isnan(y_of(line(ax, "step 0"))).tolist() == [True] * 3 + [False] * 5
    marks = [mark for mark in lines(ax, "_zero") if len(x_of(mark))]
    assert marks
    assert all(x_of(mark).tolist() == [1, 2, 3] for mark in marks)
    assert "exactly zero" in legend_of(profiles.figure)
    image = image_of(heatmap.figure.axes[0])
    assert np.ma.getmaskarray(image)[:, 0].tolist() == [True] * 3 + [False] * 5
    assert any(note.startswith("Grey") for note in heatmap.notes)


def test_norms_that_are_all_zero_break_nothing() -> None:
    zeroed = with_layers(study(depth=[5, 8]), "log10_grad_norm", lambda *_: -np.inf)
    zeroed = with_layers(zeroed, "log10_delta_norm", lambda *_: -np.inf)
    for picture in pictures(zeroed).values():
        assert not overlaps(boxes(picture.figure))


def test_the_heat_map_is_a_table_of_layers_and_probed_steps() -> None:
    wanted = configs(depth=[3, 8])
    figure = picture(Study(runs_of(wanted)), "gradient_heatmap").figure
    panels = [ax for ax in figure.axes if ax.get_images()]
    for ax, config in zip(panels, wanted, strict=True):
        left = records(config)
        probed = np.unique(left.layers["step"])
        image = ax.get_images()[0]
        expected = np.array([left.profile("log10_grad_norm", step) for step in probed]).T
        np.testing.assert_allclose(image_of(ax), expected)
        assert image.origin == "lower"
        assert tuple(image.get_extent()) == (-0.5, len(probed) - 0.5, 0.5, config.depth + 0.5)
        assert ax.xaxis.get_major_formatter()(len(probed) - 1) == "12"


def test_panels_share_an_axis_only_where_their_ranges_compare() -> None:
    apart, together = (
        with_layers(study(depth=depths, steps=3), "log10_grad_norm", lambda _s, layer, depth: layer - depth) for depths in ([5, 50], [5, 6])
    )
    assert any("own vertical axis" in note for note in picture(apart, "gradient_profiles").notes)
    assert any("own colour scale" in note for note in picture(apart, "gradient_heatmap").notes)
    profiles = picture(together, "gradient_profiles")
    assert not any("own" in note for note in profiles.notes)
    limits = {ax.get_ylim() for ax in profiles.figure.axes}
    assert len(limits) == 1
    colours = {ax.get_images()[0].get_clim() for ax in picture(together, "gradient_heatmap").figure.axes if ax.get_images()}
    assert colours == {(-5.0, 0.0)}


def test_the_start_shows_delta_from_the_output_back_and_the_learning_rate_once() -> None:
    wanted = configs(depth=[3, 6], lr=[0.1, 1.0])
    shown = picture(Study(runs_of(wanted)), "gradient_at_the_start")
    (ax,) = shown.figure.axes
    drawn = [item for item in ax.get_lines() if item.get_label() not in ("_zero", "theory")]
    assert len(drawn) == 2
    for item, config in zip(drawn, (wanted[0], wanted[2]), strict=True):
        away = x_of(item)
        profile = records(config).profile("log10_delta_norm", 0)
        np.testing.assert_allclose(y_of(item), profile[config.depth - 1 - away.astype(int)])
    assert "The same for every learning rate: it acts after step 0." in shown.notes
    assert legend_of(shown.figure) == ["$L$ = 3", "$L$ = 6", "theory"]


def test_the_first_update_shows_what_is_asked_for_and_what_the_dtype_makes_of_it() -> None:
    wanted = configs(depth=[5, 40])
    shown = picture(Study(runs_of(wanted)), "first_update")
    for ax, config in zip(shown.figure.axes, wanted, strict=True):
        asked, made = (records(config).profile(f"log10_update_{name}", 0) for name in ("ratio", "made"))
        np.testing.assert_allclose(y_of(line(ax, "asked for")), asked)
        still = np.isneginf(made)
        np.testing.assert_allclose(y_of(line(ax, "made"))[~still], made[~still])
        assert np.isnan(y_of(line(ax, "made"))[still]).all()
        assert x_of(line(ax, "_zero")).tolist() == (1 + np.flatnonzero(still)).tolist()
    assert still.any()  # float32 makes nothing of a step of 1e-20
    assert "exactly zero" in legend_of(shown.figure)


# ---------------------------------------------------------------------------------------------- over settings


def test_decades_are_the_records_slopes_over_the_depth() -> None:
    wanted = configs(depth=[3, 5, 8, 12])
    shown = picture(Study(runs_of(wanted)), "decades_per_layer")
    (ax,) = shown.figure.axes
    (points,) = map(points_of, series(ax))
    assert records(wanted[0]).delta_decades_per_layer is None
    np.testing.assert_array_equal(x_of(points), [5, 8, 12])
    np.testing.assert_allclose(y_of(points), [slope(config) for config in wanted[1:]])
    assert ax.get_ylim()[0] == 0.0
    assert any(note.startswith("1 setting left out") for note in shown.notes)


def test_decades_over_names_are_bars_from_zero() -> None:
    wanted = configs(activation=["sigmoid", "tanh", "relu"], depth=8)
    (ax,) = picture(Study(runs_of(wanted)), "decades_per_layer").figure.axes
    widths = [bar.get_width() for bar in ax.patches if isinstance(bar, Rectangle)]
    assert widths == pytest.approx([slope(config) for config in wanted])
    low, high = ax.get_xlim()
    assert low <= min(0.0, *widths)
    assert high >= max(0.0, *widths)
    assert [ax.yaxis.get_major_formatter()(place) for place in ax.get_yticks()] == ["sigmoid", "tanh", "relu"]


def test_decades_are_not_drawn_over_a_key_that_they_do_not_depend_on() -> None:
    assert "decades_per_layer" not in applying(study(depth=8, lr=[0.1, 1.0]))
    shown = picture(study(depth=[6, 8], lr=[0.1, 1.0]), "decades_per_layer")
    assert "The same for every learning rate: it acts after step 0." in shown.notes
    assert len(shown.figure.axes[0].containers) == 1


def test_error_bars_are_confidence_intervals_over_seeds() -> None:
    wanted = configs(depth=[6, 8], seed=[0, 1, 2])
    (ax,) = picture(Study(runs_of(wanted)), "decades_per_layer").figure.axes
    ((points, _caps, (bars,)),) = [found.lines for found in series(ax)]
    assert points is not None
    for index, segment in enumerate(bars.get_segments()):
        slopes = [slope(config) for config in wanted[3 * index : 3 * index + 3]]
        assert segment[:, 1] == pytest.approx(students(slopes))
        assert y_of(points)[index] == pytest.approx(np.mean(slopes))


def test_accuracy_over_a_learning_rate_has_a_logarithmic_axis() -> None:
    wanted = configs(lr=[0.1, 1.0, 10.0])
    (ax,) = picture(Study(runs_of(wanted)), "accuracy").figure.axes
    assert ax.get_xscale() == "log"
    for container, column in zip(series(ax), ("final_accuracy_train", "final_accuracy_test"), strict=True):
        points = points_of(container)
        np.testing.assert_array_equal(x_of(points), [0.1, 1.0, 10.0])
        np.testing.assert_allclose(y_of(points), [records(config).summary[column] for config in wanted])
    assert ax.get_ylim()[0] == 0.0


def test_accuracy_over_two_keys_is_a_grid() -> None:
    wanted = configs(depth=[3, 5], lr=[0.1, 1.0, 10.0])
    shown = picture(Study(runs_of(wanted)), "accuracy")
    ax = shown.figure.axes[0]
    expected = np.array([records(config).summary["final_accuracy_test"] for config in wanted]).reshape(2, 3)
    np.testing.assert_allclose(image_of(ax), expected)
    assert ax.get_images()[0].get_clim() == (0.0, 1.0)
    assert sorted(float(text.get_text()) for text in ax.texts) == pytest.approx(sorted(100 * expected.ravel()), abs=0.0501)
    assert [ax.xaxis.get_major_formatter()(place) for place in (0, 1, 2)] == ["0.1", "1", "10"]


def test_a_pair_that_nobody_ran_stays_empty_in_the_grid() -> None:
    wanted = configs(depth=[3, 5], lr=[0.1, 1.0, 10.0])[:-1]
    ax = picture(Study(runs_of(wanted)), "accuracy").figure.axes[0]
    assert np.ma.getmaskarray(image_of(ax))[1].tolist() == [False, False, True]


def test_pairs_that_fill_no_grid_are_dots() -> None:
    wanted = [configs(lr=0.1 * 2**k, width=3 + k)[0] for k in range(6)]
    ax = picture(Study(runs_of(wanted)), "accuracy").figure.axes[0]
    (dots,) = ax.collections
    np.testing.assert_allclose(np.asarray(dots.get_offsets()), [(3 + k, 0.1 * 2**k) for k in range(6)])
    np.testing.assert_allclose(np.asarray(dots.get_array()), [records(config).summary["final_accuracy_test"] for config in wanted])


def test_three_keys_make_panels_of_the_smallest() -> None:
    figure = picture(study(depth=[3, 5, 6], lr=[0.1, 1.0, 10.0], activation=["sigmoid", "tanh"]), "accuracy").figure
    assert titles(figure) == ["sigmoid", "tanh"]


def test_diverged_settings_are_crossed_out() -> None:
    some = study(activation="linear", output="linear", depth=[5, 6], lr=[0.01, 1e30])
    shown = picture(some, "accuracy")
    marks = [(x_of(mark)[0], y_of(mark)[0]) for mark in lines(shown.figure.axes[0], "diverged")]
    assert sorted((round(x - 0.36), round(y - 0.32)) for x, y in marks) == [(0, 1), (1, 1)]
    assert "Of a run that diverged, the last value before that is shown." in shown.notes
    assert {f"$L$ = {depth}, $\\eta$ = 1e30\ndiverged at step 1" for depth in (5, 6)} <= set(titles(picture(some, "gradient_profiles").figure))


def test_targets_that_are_no_classes_have_a_final_loss_instead(tmp_path: Any) -> None:
    x = np.random.default_rng(0).standard_normal((40, 3))
    np.savez(tmp_path / "line.npz", x=x, y=x.sum(axis=1))
    small = {"data__name": "npz", "data__path": str(tmp_path / "line.npz"), "data__samples": None, "data__inputs": None, "data__classes": None}
    wanted = configs(**small, output="linear", lr=0.01, depth=[2, 3])
    some = Study(runs_of(wanted))
    assert not {"accuracy", "accuracy_curves"} & applying(some)
    (ax,) = picture(some, "final_loss").figure.axes
    found = [y_of(points_of(container)) for container in series(ax)]
    np.testing.assert_allclose(found, [[records(config).summary[name] for config in wanted] for name in ("final_loss", "final_test_loss")])


# ---------------------------------------------------------------------------------------------- many settings, colours


def test_a_hundred_settings_are_thinned_to_panels_and_the_note_names_them() -> None:
    some = study(**HUNDRED)
    shown = picture(some, "gradient_profiles")
    assert len(titles(shown.figure)) == MOST_PANELS
    (note,) = [note for note in shown.notes if "settings are shown" in note]
    assert note.startswith(f"{MOST_PANELS} of 100 settings")
    assert note.count("η = ") == MOST_PANELS
    assert only(some, lr=0.01).text() in note


def test_few_ordered_values_are_named_along_the_map_and_many_have_a_colour_bar() -> None:
    few = picture(study(depth=[3, 5, 12]), "loss_curves").figure
    lightness = [np.dot(mpl.colors.to_rgb(handle.get_color()), (0.21, 0.72, 0.07)) for handle in few.legends[0].get_lines()[:3]]
    assert lightness == sorted(lightness)
    many = picture(study(**STUDIES["sixty depths"]), "loss_curves").figure
    assert [ax.get_ylabel() for ax in many.axes if ax.get_label() == "<colorbar>"] == ["depth $L$"]
    assert legend_of(many) == ["best constant output"]


def test_names_have_colours_of_their_own() -> None:
    (ax,) = picture(study(activation=["sigmoid", "tanh", "relu"]), "loss_curves").figure.axes
    assert len({mpl.colors.to_hex(line(ax, name).get_color()) for name in ("sigmoid", "tanh", "relu")}) == 3


# ---------------------------------------------------------------------------------------------- over depth


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_the_formula_is_what_is_counted(depth: int, n: int) -> None:
    assert multiplications(depth, n) == count_multiplications((n,) * (depth + 1))


def test_the_paths_picture_holds_the_counts() -> None:
    (ax,) = picture(study(depth=[3, 30]), "paths_against_backprop").figure.axes
    for way in (0, 1):
        dots = line(ax, f"counted {way}")
        expected = [np.log10(count_multiplications((3,) * (depth + 1))[way]) for depth in range(1, 6)]
        np.testing.assert_allclose(y_of(dots)[:5], expected)
        assert max(x_of(line(ax, f"formula {way}"))) == 30


def test_the_deepest_nets_a_configuration_allows_are_no_float_s_business() -> None:
    paths, backprop = multiplications(10_000)
    assert log10(paths) == pytest.approx(2 * log10(3) + 9_999 * log10(3) + log10(1.5 * (2 * 9_999 + 1) - 1.5), abs=1e-3)
    assert backprop == 3 + 9 * 10_000 + 12 * 9_999


@pytest.mark.parametrize(
    ("low", "high"), [(1.0, 1.0006), (0.4505, 0.4508), (0.4, 0.45), (0.2, 0.9), (0.03, 0.4), (1e-7, 10.0), (1.9, 2.1), (9.99, 10.01)]
)
def test_a_logarithmic_axis_has_ticks_that_tell_its_scale(low: float, high: float) -> None:
    ax = Figure().subplots()
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    log_axis(ax.xaxis)
    ticks = [x for x in ax.xaxis.get_majorticklocs() if low <= x <= high]
    labels = ax.xaxis.get_major_formatter().format_ticks(ticks)
    assert len(set(labels)) == len(ticks) >= 2
    for x, label in zip(ticks, labels, strict=True):
        if "$" not in label:
            assert float(label) == pytest.approx(x, rel=1e-5)
