"""Quantities of a run's course, against curves that are made here and runs that are trained here."""

from dataclasses import replace
from math import inf, isnan
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bpexp.measures import Cell, over_steps
from tests.report.studies import configs, records, runs_of


def frame(values: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"step": np.arange(0, 10 * len(values), 10), "x": values})


@pytest.mark.parametrize(
    ("values", "bounds", "step"),
    [
        ([0.1, 0.4, 0.6, 0.3, 0.9], {"above": 0.5}, 20.0),
        ([0.1, 0.5, 0.5], {"above": 0.5}, inf),  # not beyond it
        ([0.1, np.nan, 0.6], {"above": 0.5}, 20.0),  # steps that are not probed tell nothing
        ([0.9, 0.6, 0.2], {"below": 0.5}, 20.0),
        ([0.4, 0.6, 0.2], {"below": 0.3, "above": 0.5}, 10.0),
        ([0.9, 0.6, 0.2], {"above": 0.5}, 0.0),
        ([0.9], {}, inf),
        ([], {"above": 0.5}, inf),
    ],
)
def test_the_first_passage_is_the_first_step_beyond_a_bound(values: list[float], bounds: dict[str, float], step: float) -> None:
    assert over_steps.first_passage(frame(values), "x", **bounds) == step


def test_steps_until_reads_the_probed_steps_of_each_run() -> None:
    wanted = configs(depth=2, steps=60, lr=2.0, seed=[0, 1, 2], probe_points=20)
    by_hand = []
    for config in wanted:
        steps, values = records(config).probed("accuracy_train")
        by_hand.append(float(steps[values > 0.6][0]))
    assert min(by_hand) > 0
    measured = over_steps.steps_until(Cell.of(runs_of(wanted)), "accuracy_train", above=0.6)
    assert measured.values == tuple(by_hand)
    assert over_steps.steps_until(Cell.of(runs_of(wanted)), "accuracy_train", above=1.0).value == inf


def _with_accuracy(original: Cell, values: Any) -> Cell:
    """The same runs with another test accuracy: values(depth, step)."""
    depth = dict(zip(original.study.runs["run_id"], original.study.runs["depth"], strict=True))
    curves = original.study.curves
    changed = [values(depth[run], step) for run, step in zip(curves["run_id"], curves["step"], strict=True)]
    return Cell.of(replace(original.study, curves=curves.assign(accuracy_test=changed)))


def test_a_delay_compares_runs_of_one_seed_and_one_that_never_gets_there_has_its_steps() -> None:
    original = Cell.of(runs_of(configs(depth=[2, 3, 4], steps=40, seed=[0, 1])))
    found = _with_accuracy(original, lambda depth, step: float(step >= {2: 4, 3: 20}.get(depth, inf)))
    assert over_steps.delay(found, "depth", 3, 2, above=0.5).values == (5.0, 5.0)
    assert over_steps.delay(found, "depth", 4, 2, above=0.5).values == (10.0, 10.0)
    assert isnan(over_steps.delay(found, "depth", 5, 2, above=0.5).value)


def test_the_lowest_value_of_a_layer_is_that_before_the_curve_passes() -> None:
    wanted = configs(depth=3, steps=40, lr=5.0, probe_points=15)
    layers = pd.DataFrame(records(wanted[0]).layers)
    found = _with_accuracy(Cell.of(runs_of(wanted)), lambda _, step: float(step >= 10))
    for layer, number in ((1, 1), (-2, 2)):
        values = layers[(layers["layer"] == number) & (layers["step"] < 10)]["activation_mean"]
        assert over_steps.lowest_until(found, layer, above=0.5).value == pytest.approx(values.min())
        assert values.min() != layers[layers["layer"] == number]["activation_mean"].min()  # it goes on falling
    assert over_steps.lowest_until(found, 1, above=2.0).value == pytest.approx(layers[layers["layer"] == 1]["activation_mean"].min())


def test_the_final_loss_is_the_full_one_and_theory_has_that_of_a_constant_output() -> None:
    wanted = configs(depth=2, steps=5, seed=[0, 1], loss=["cross_entropy"])
    found = Cell.of(runs_of(wanted))
    by_hand = [records(config).probed("loss_train_full")[1][-1] for config in wanted]
    assert over_steps.final_loss(found).values == pytest.approx(by_hand)
    assert over_steps.predicted_final_loss(found) == pytest.approx(np.log(3))
    assert over_steps.predicted_final_loss(Cell.of(runs_of(configs(depth=2, steps=5)))) == pytest.approx(1 / 3)
