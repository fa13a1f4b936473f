"""Which run converges, box-counting dimensions of known sets, and the units of the fractal study."""

from dataclasses import replace
from math import isnan, log, log10, sqrt
from typing import Any

import numpy as np
import pytest
import yaml
from matplotlib.path import Path
from numpy.typing import NDArray

from bpexp.config import RunConfig, nested, parse
from bpexp.datasets import load
from bpexp.experiment import train
from bpexp.measures import MEASURED, Cell
from bpexp.measures.boundary import box_counts, box_sizes, convergence, dimension, pieces
from bpexp.sweep.names import config_dir
from tests.report.studies import configs, runs_of

N = 49  # corners a side: as many as the study has


def corners(count: int = N) -> tuple[NDArray[Any], NDArray[Any]]:
    y, x = np.mgrid[0:count, 0:count]
    return x, y


# ---------------------------------------------------------------------------------------------- boxes


def test_boxes_are_counted_as_they_are_defined() -> None:
    """Against loops over the place of every box whose middle is in the picture."""
    phases = np.random.default_rng(1).random((14, 11)) < 0.1
    for size in (1, 2, 3, 4):
        total = 0
        for top in range(-(size // 2), phases.shape[0] - 1 - size // 2):
            for left in range(-(size // 2), phases.shape[1] - 1 - size // 2):
                both = [
                    0 < phases[i : i + 2, j : j + 2].sum() < 4
                    for i in range(max(top, 0), min(top + size, phases.shape[0] - 1))
                    for j in range(max(left, 0), min(left + size, phases.shape[1] - 1))
                ]
                total += any(both)
        assert box_counts(phases, [size]) == pytest.approx([total / size**2])


def test_sizes_end_at_a_quarter_of_the_picture() -> None:
    assert box_sizes(np.zeros((49, 60), bool)) == [1, 2, 3, 4, 6, 8, 12]
    assert box_sizes(np.zeros((21, 21), bool)) == [1, 2, 3, 4]


@pytest.mark.parametrize("slope", [0.0, 0.3, 0.97, -1.4])
def test_a_straight_line_has_dimension_1(slope: float) -> None:
    x, y = corners()
    assert dimension(y > slope * (x - 24) + 24.3).value == pytest.approx(1.0, abs=0.05)  # 1.00 but for steps in line with the squares


def test_a_circle_has_dimension_1() -> None:
    x, y = corners()
    assert dimension((x - 24) ** 2 + (y - 24) ** 2 < 200).value == pytest.approx(1.0, abs=0.02)


def test_what_is_everywhere_has_dimension_2() -> None:
    """Of two phases by chance one square in eight holds only one: from squares to boxes of two there is less to gain."""
    found = dimension(np.random.default_rng(0).random((N, N)) < 0.5)
    assert 1.9 < found.value < 2.0
    assert found.values[-1] == pytest.approx(2.0, abs=0.02)


def broken_line(turns: list[complex], times: int) -> NDArray[np.complex128]:
    """A line from 0 to 1 whose every piece is replaced by a path through these points, so often."""
    points = np.array([0.0, 1.0], complex)
    for _ in range(times):
        starts, steps = points[:-1], np.diff(points)
        points = np.append(np.stack([starts + steps * turn for turn in turns], axis=1).ravel(), 1.0)
    return points


def below(line: NDArray[np.complex128], count: int, low: float) -> NDArray[np.bool]:
    """Which corners of a grid on the unit square over y = `low` lie below a line from 0 to 1."""
    outline = np.append(line, [1.0 - 3.0j, -3.0j])
    x, y = np.meshgrid(np.linspace(0.01, 0.99, count), np.linspace(low, low + 0.98, count))
    inside = Path(np.c_[outline.real, outline.imag]).contains_points(np.c_[x.ravel(), y.ravel()])
    return np.asarray(inside.reshape(count, count))


KOCH = [0, 1 / 3, 1 / 3 + np.exp(1j * np.pi / 3) / 3, 2 / 3]
QUADRATIC = [0, 0.25, 0.25 + 0.25j, 0.5 + 0.25j, 0.5, 0.5 - 0.25j, 0.75 - 0.25j, 0.75]


@pytest.mark.parametrize(("turns", "times", "low", "exact"), [(KOCH, 6, -0.35, log(4) / log(3)), (QUADRATIC, 4, -0.49, 1.5)])
def test_known_fractals_come_out_too_low_by_an_eighth_at_most(turns: list[complex], times: int, low: float, exact: float) -> None:
    line = broken_line(turns, times)
    coarse, fine = (dimension(below(line, count, low)).value for count in (N, 193))
    assert exact - 0.125 < coarse < exact
    assert exact - 0.125 < fine < exact


def test_a_picture_of_one_phase_has_no_border() -> None:
    assert isnan(dimension(np.ones((N, N), bool)).value)


# ---------------------------------------------------------------------------------------------- convergence


def test_convergence_is_the_mean_of_the_last_twenty_losses_below_the_first() -> None:
    steps = np.arange(60)
    falls, grows = np.exp(-steps / 20.0), np.exp(steps / 20.0)
    swings = np.where(steps % 2, 2.2, 0.1)  # ends above the first one, and does not converge on the mean either
    swings[0] = 1.0
    quick = np.exp(-steps / 2.0)
    rises_last = np.where(steps < 59, 0.5, 1.5)  # the mean decides, not the last one
    rises_last[0] = 1.0
    ended = np.where(steps < 30, grows, np.nan)
    found = convergence(4.0 * np.array([falls, grows, swings, quick, ended, rises_last]))
    assert found[0] == pytest.approx(-falls.sum())
    assert found[1] == pytest.approx((1.0 / grows).sum())
    assert found[2] > 0
    assert found[0] < found[3] < 0
    assert found[5] == pytest.approx(-rises_last.sum())
    assert found[4] == pytest.approx((1.0 / grows[:30]).sum() + 30 * 1e-6)


def test_a_loss_counts_for_a_million_at_most() -> None:
    losses = np.array([[1.0] + [1e9] * 40, [1.0] + [0.0] * 40])
    assert convergence(losses).tolist() == pytest.approx([1.0 + 40e-6, -1.0])


def test_runs_lie_on_the_grid_of_their_learning_rates() -> None:
    rates, others = [0.01, 1.0, 1e4], [0.02, 2.0]
    axes: dict[str, Any] = {"activation": "tanh", "output": "linear", "batch_size": "full", "steps": 40, "lr": rates, "output_lr": others}
    wanted = configs(**axes)
    (piece,) = pieces(Cell.of(runs_of(wanted[::-1])))
    values = piece.values
    assert (piece.x.tolist(), piece.y.tolist()) == (rates, others)
    for config, (place, other) in zip(wanted, [(i, j) for i in range(3) for j in range(2)], strict=True):
        losses = train(config).curves["loss_train"]
        padded = np.append(losses, [np.nan] * (41 - len(losses)))
        assert values[other, place] == pytest.approx(float(convergence(padded[None])[0]))


def test_a_grid_with_a_gap_has_no_dimension() -> None:
    rates = [float(rate) for rate in np.logspace(-2, 4, 9)]
    axes: dict[str, Any] = {"depth": 2, "output": "linear", "batch_size": "full", "steps": 25, "lr": rates, "output_lr": rates}
    wanted = configs(**axes)
    assert MEASURED["box_dimension"](Cell.of(runs_of(wanted))).value > 0.5
    assert isnan(MEASURED["box_dimension"](Cell.of(runs_of(wanted[:40] + wanted[41:]))).value)


# ---------------------------------------------------------------------------------------------- units


def variant(activation: str) -> RunConfig:
    """The nets of the study with this activation, but for their learning rates."""
    study = yaml.safe_load((config_dir() / "study" / "fractal.yaml").read_text())
    words = next(text for text in study["hydra"]["sweeper"]["variants"] if f"activation={activation}" in text).split()
    own = {key: yaml.safe_load(value) for key, _, value in (word.partition("=") for word in words) if "lr" not in key}
    base = {key: study[key] for key in ("depth", "width", "output", "loss", "batch_size", "dtype", "data", "init")}
    changes: dict[str, Any] = nested(own)
    merged = base | {key: base[key] | value if isinstance(value, dict) else value for key, value in changes.items()}
    merged["data"] |= {"test_fraction": 0.0}
    return replace(parse(RunConfig, merged), steps=25)


@pytest.mark.parametrize("activation", ["tanh", "linear"])
@pytest.mark.parametrize(("first", "second"), [(10.0, 0.5), (0.2, 60.0), (40.0, 60.0)])
def test_the_papers_net_is_the_studys_in_other_units(activation: str, first: float, second: float) -> None:
    """Y = W2' phi(W1'x/√n)/n, the mean square of y - t as loss, a learning rate for each layer: its losses are 2/s² of ours, step by step."""
    config = variant(activation)
    n, size = config.width, config.data.strength
    assert size is not None
    assert size == pytest.approx(sqrt(n * float(str(config.init.sigma_w2))), rel=1e-7)
    ours = train(replace(config, lr=2 * first / n**2, output_lr=2 * second / n**2))
    start = train(replace(config, steps=0))
    inner = sqrt(2.0) if activation == "tanh" else 1.0
    W1, W2 = (W.astype(float) for W in start.weights)
    W1, W2 = W1 * sqrt(n) / inner, W2 * n / size
    data = load(config.data).split
    x, t = data.x_train, data.y_train / size
    for step in range(26):
        hidden = inner * (x @ W1) / sqrt(n)
        a = np.tanh(hidden) if activation == "tanh" else hidden
        error = a @ W2 / n - t
        loss = float((error**2).mean())
        assert ours.curves["loss_train"][step] == pytest.approx(loss * size**2 / 2.0, rel=1e-6)
        if loss > 1e12:  # it has diverged
            assert step > 3
            return
        out = 2.0 * error / len(x)
        inside = out @ W2.T / n * ((1.0 - a**2) if activation == "tanh" else 1.0)
        W1, W2 = W1 - first * inner * x.T @ inside / sqrt(n), W2 - second * a.T @ out / n


def test_the_weights_start_as_the_papers_do() -> None:
    """N(0, 1), in its units: the mean square within five standard errors."""
    config = variant("tanh")
    n, size = config.width, float(str(config.data.strength))
    W1, W2 = zip(*(train(replace(config, steps=0, seed=seed)).weights for seed in range(40)), strict=True)
    for W, scale in ((W1, sqrt(n / 2.0)), (W2, n / size)):
        squares = (scale * np.array(W)) ** 2
        assert abs(squares.mean() - 1.0) < 5.0 * sqrt(2.0 / squares.size)


def test_a_decade_of_the_papers_is_a_decade_of_ours() -> None:
    assert log10(16**2 / 2) == pytest.approx(2.1072, abs=1e-4)  # what the study's file adds
