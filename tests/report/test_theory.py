"""Theory's lines and numbers in a report, and the command that prints them without one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bpexp.config import RunConfig
from bpexp.prediction import Prediction, predict
from bpexp.report.selection import Study
from bpexp.report.theory import main
from bpexp.report.theory_keys import TheoryConfig
from bpexp.report.theory_numbers import Net, sections
from bpexp.theory.mean_field import settled
from tests.report.studies import configs, records, runs_of, study, with_layers
from tests.report.test_figures import legend_of, line, lines, picture, points_of, series, x_of, y_of

COLUMNS = {"gradient_at_the_start": "log10_delta_norm", "gradient_profiles": "log10_grad_norm"}


def told(config: RunConfig) -> Prediction:
    found = predict(config)
    assert found is not None
    return found


@pytest.mark.parametrize("name", COLUMNS)
def test_the_line_starts_at_the_measured_norm_of_the_output_layer(name: str) -> None:
    (config,) = configs(depth=8)
    shown = picture(Study(runs_of([config])), name)
    drawn = line(shown.figure.axes[0], "theory")
    y, expected = y_of(drawn), told(config).log10_norm(COLUMNS[name])
    if name == "gradient_at_the_start":
        np.testing.assert_array_equal(x_of(drawn), np.arange(7, -1, -1))
    assert y[-1] == records(config).profile(COLUMNS[name], 0)[-1]
    np.testing.assert_allclose(y - y[-1], expected - expected[-1], atol=1e-12)
    assert drawn.is_dashed()
    assert legend_of(shown.figure).count("theory") == 1
    assert any("output layer" in note for note in shown.notes)


def test_decades_have_theorys_curve_through_the_values_of_the_points_and_between() -> None:
    wanted = configs(depth=8, init__name="gaussian", init__sigma_w2=[0.5, 2.0, 8.0])
    (ax,) = picture(Study(runs_of(wanted)), "decades_per_layer").figure.axes
    drawn, (points,) = line(ax, "theory"), map(points_of, series(ax))
    curve = dict(zip(x_of(drawn), y_of(drawn), strict=True))
    assert len(curve) > 20
    for config, x in zip(wanted, x_of(points), strict=True):
        assert curve[x] == pytest.approx(told(config).delta_decades_per_layer)
    halfway = min(curve, key=lambda x: abs(x - 1.0))
    (between,) = configs(depth=8, init__name="gaussian", init__sigma_w2=halfway)
    assert curve[halfway] == pytest.approx(told(between).delta_decades_per_layer)


def test_a_bar_has_theorys_mark_across_it_where_there_is_one() -> None:
    wanted = configs(activation=["sigmoid", "relu"], depth=8)
    (ax,) = picture(Study(runs_of(wanted)), "decades_per_layer").figure.axes
    for config, mark, place in zip(wanted, lines(ax, "theory"), (0.0, 1.0), strict=True):
        assert x_of(mark) == pytest.approx(told(config).delta_decades_per_layer)
        assert y_of(mark).mean() == pytest.approx(place)


@pytest.mark.parametrize("axes", [{"norm": "layer"}, {"init__name": "zeros"}, {"skip__name": "residual"}], ids=str)
def test_without_a_theory_there_is_no_line_no_legend_and_no_word(axes: dict[str, Any]) -> None:
    some = study(depth=[6, 8], **axes)
    for name in ("gradient_at_the_start", "gradient_profiles"):
        shown = picture(some, name)
        assert not any(lines(ax, "theory") for ax in shown.figure.axes)
        assert "theory" not in legend_of(shown.figure)
        assert "theory" not in " ".join([shown.sentence, *shown.notes]).lower()


def test_data_that_is_gone_takes_the_lines_away_and_nothing_else(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((40, 3))
    path = tmp_path / "classes.npz"
    np.savez(path, x=x, y=(x[:, 0] > 0).astype(int))
    some = study(depth=8, data__name="npz", data__path=str(path), data__samples=None, data__inputs=None, data__classes=None)
    assert lines(picture(some, "gradient_profiles").figure.axes[0], "theory")
    path.unlink()
    shown = picture(some, "gradient_profiles")
    assert lines(shown.figure.axes[0], "step 0")
    assert not lines(shown.figure.axes[0], "theory")


def test_whole_numbers_that_a_frame_made_floats_are_whole_again() -> None:
    some = study(depth=8)
    frame = some.runs.runs.assign(**{"data.samples": [60.0]})
    assert lines(picture(Study(replace(some.runs, runs=frame)), "gradient_profiles").figure.axes[0], "theory")


def test_an_output_layer_whose_norm_is_zero_anchors_nothing() -> None:
    zeroed = with_layers(study(depth=8), "log10_grad_norm", lambda _step, layer, _depth: -np.inf if layer == 8 else 0.0)
    assert not lines(picture(zeroed, "gradient_profiles").figure.axes[0], "theory")


@pytest.mark.parametrize("name", ["gradient_at_the_start", "decades_per_layer"])
def test_the_sentence_tells_both_slopes_and_the_error_of_the_mean(name: str) -> None:
    wanted = configs(depth=[6, 8], seed=[0, 1, 2])
    sentence = picture(Study(runs_of(wanted)), name).sentence
    slopes = [records(config).delta_decades_per_layer for config in wanted[3:]]
    error = np.std(np.array(slopes, float), ddof=1) / np.sqrt(3)
    theory = told(wanted[3]).delta_decades_per_layer
    assert f"measured {np.mean(np.array(slopes, float)):.4f} ± {error:.4f}, theory {theory:.4f} decades with L = 8" in sentence


# ---------------------------------------------------------------------------------------------- the command


def values(**keys: Any) -> dict[str, list[str]]:
    """The values of the command's table, by symbol."""
    found: dict[str, list[str]] = {}
    for section in sections(Net.of(TheoryConfig(**keys))):
        for row in section.rows:
            assert row.name
            assert row.source
            found.setdefault(row.symbol, []).append(row.value)
    return found


def test_the_table_of_the_sigmoid_net() -> None:
    found, expected = values(), settled(Net.of(TheoryConfig()).phi, 1.0, 0.0)
    assert [float(found[symbol][0]) for symbol in ("q*", "c*", "χ₁", "κ", "ξ_grad", "ξ_c", "s")] == pytest.approx(
        [expected.q, expected.c, expected.chi, expected.kappa, expected.gradient_depth, expected.correlation_depth, expected.decades_per_layer],
        rel=1e-7,
    )
    assert float(found["σw² crit"][0]) == pytest.approx(103.0076, rel=1e-6)
    assert found["L"] == ["0.45", "2.3025851", "3.2508297", "0.09"]


def test_what_is_not_defined_is_none_or_left_out() -> None:
    endless = values(activation="relu", sigma_w2=3.0, sigma_b2=0.1, width=64)
    assert endless["q*"] == endless["σw² crit"] == ["none"]
    assert not {"χ₁", "s", "g"} & set(endless)
    assert len(values(activation="relu", sigma_w2=2.0, width=64)["g"]) == 2


@pytest.mark.parametrize("activation", ["elu", "erf", "gelu", "linear", "scaled_tanh", "silu", "softplus"])
def test_every_activation_has_a_table(activation: str) -> None:
    assert all(value for row in values(activation=activation, depth=10, width=20, sigma_b2=0.05).values() for value in row)


def test_the_command_prints_the_table_and_draws_the_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "figures"
    assert main([f"out={out}", "depth=12", "width=30"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert sorted(printed[-2:]) == sorted(str(path) for path in out.iterdir())
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert {Path(name).suffix for name in first} == {".png", ".svg"}
    assert main([f"out={out}", "depth=12", "width=30"]) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
    assert any(line.startswith("χ₁") for line in printed)


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (["activation=softmax", "depth=1"], ["activation=softmax: must be one of", "depth=1: must be a whole number, at least 2"]),
        (["sigma_w=2"], ["sigma_w=2: no such key; did you mean 'sigma_w2'?"]),
    ],
)
def test_what_the_command_refuses(words: list[str], refused: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    found = sorted(capsys.readouterr().err.splitlines())
    assert len(found) == len(refused)
    assert all(line.startswith(f"bpexp: {start}") for line, start in zip(found, sorted(refused), strict=True))


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["out=/proc/none", "depth=5"])
    printed = capsys.readouterr()
    assert (ended.value.code, printed.out) == (2, "")
    assert printed.err.startswith("bpexp: out=/proc/none: cannot be written to")
    assert printed.err.count("\n") == 1
