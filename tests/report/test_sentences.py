"""Sentences against numbers computed here, also where the numbers are turned round: no word may be a habit."""

from dataclasses import replace

import numpy as np
import pytest

from bpexp.core.paths import count_multiplications
from bpexp.report.figures import PICTURES
from bpexp.report.picture import style
from bpexp.report.selection import Study
from tests.report.studies import configs, records, runs_of, study, with_layers, with_runs


def sentence(name: str, some: Study) -> str:
    (entry,) = [entry for entry in PICTURES if entry.name == name]
    assert entry.applies(some)
    with style():
        return entry.function(some).sentence


# ---------------------------------------------------------------------------------------------- loss


def test_a_lone_run_is_told_from_its_first_to_its_last_full_loss() -> None:
    (config,) = configs(depth=2, lr=1.0, steps=60)
    left = records(config)
    _, losses = left.probed("loss_train_full")
    assert losses[-1] < losses[0]
    share = 100 * losses[-1] / left.plateau
    expected = f"The full training loss falls from {losses[0]:.3f} to {losses[-1]:.3f}, {share:.1f} % of what a constant output reaches"
    assert sentence("loss_curves", Study(runs_of([config]))).startswith(expected)


@pytest.mark.parametrize(("last", "word"), [(0.2, "falls"), (1.0, "stays about the same"), (5.0, "rises")])
def test_the_word_for_a_lone_loss_follows_its_numbers(last: float, word: str) -> None:
    original = study(depth=2)
    probed = original.runs.curves["loss_train_full"].notna()
    values = np.where(probed, last, np.nan)
    values[0] = 1.0
    changed = Study(replace(original.runs, curves=original.runs.curves.assign(loss_train_full=values)))
    assert f"The full training loss {word} from 1.00 to {last:.{2 if last >= 1 else 3}f}" in sentence("loss_curves", changed)


def test_outcomes_are_counted() -> None:
    original = study(depth=[2, 3, 4, 5, 6])
    told = sentence("loss_curves", with_runs(original, "outcome", ["trained", "stuck", "stuck", "trained", "diverged"]))
    plateau = records(configs(depth=2)[0]).plateau
    assert told.startswith(f"Of 5 runs, 2 left the plateau of a constant output ({plateau:.3f}), 2 stayed stuck at or above it and 1 diverged;")
    told = sentence("loss_curves", with_runs(original, "outcome", ["stuck"] * 5))
    assert told.startswith(f"All 5 runs stayed stuck at or above the plateau of a constant output ({plateau:.3f});")
    assert sentence("loss_curves", with_runs(original, "outcome", ["diverged"] * 5)) == "All 5 runs diverged."


def test_untrained_nets_are_told_as_such() -> None:
    (config,) = configs(depth=2, steps=0)
    left = records(config)
    share = 100 * left.summary["final_loss"] / left.plateau
    told = sentence("loss_curves", Study(runs_of([config])))
    assert (
        told == f"The full training loss of the untrained net is {left.summary['final_loss']:.3f}, {share:.1f} % of what a constant output reaches."
    )
    assert sentence("loss_curves", study(depth=[2, 3], steps=0)).startswith("Both runs had no update; the full training loss ends lowest,")


def test_the_lowest_and_the_highest_final_loss_have_their_settings() -> None:
    original = study(depth=[2, 3, 4, 5])
    outcomes = with_runs(original, "outcome", ["trained", "trained", "trained", "diverged"])
    told = sentence("loss_curves", with_runs(outcomes, "final_loss", [0.3, 0.1, 0.7, 1e30]))
    assert told.endswith("the full training loss ends lowest, at 0.100, with L = 3, and highest, at 0.700, with L = 4.")
    told = sentence("loss_curves", with_runs(outcomes, "final_loss", [0.3, 0.3, 0.3, 0.1]))
    assert told.endswith("the full training loss ends at 0.300 in all 3 settings.")


def test_different_losses_are_not_compared() -> None:
    assert "lowest" not in sentence("loss_curves", study(loss=["squared_error", "cross_entropy"]))


# ---------------------------------------------------------------------------------------------- layers


def test_the_fall_of_the_gradient_is_the_ratio_of_its_ends() -> None:
    wanted = configs(depth=[5, 12])
    told = sentence("gradient_profiles", Study(runs_of(wanted)))
    parts = []
    for config in reversed(wanted):
        first, last = (records(config).profile("log10_grad_norm", step)[[0, -1]] for step in (0, config.steps))
        parts.append(f"falls by {first[1] - first[0]:.1f} decades with L = {config.depth} (at step 12: falls by {last[1] - last[0]:.1f} decades)")
    assert told.startswith(f"From the output layer back to layer 1 the gradient norm at step 0 {parts[0]} and {parts[1]}.")


@pytest.mark.parametrize(
    ("slope", "word"),
    [(1.0, "falls by 7.0 decades"), (-1.0, "rises by 7.0 decades"), (0.01, "stays about the same")],
)
@pytest.mark.parametrize(("name", "column"), [("gradient_profiles", "log10_grad_norm"), ("gradient_at_the_start", "log10_delta_norm")])
def test_falling_and_rising_gradients_are_told_apart(name: str, column: str, slope: float, word: str) -> None:
    changed = with_layers(study(depth=8), column, lambda _step, layer, _depth: slope * layer)
    assert f"{word} over 8 layers" in sentence(name, changed)


def test_a_gradient_of_exactly_zero_falls_to_zero_and_unknown_ones_are_not_compared() -> None:
    gone = with_layers(study(depth=8), "log10_delta_norm", lambda _step, layer, _depth: -np.inf if layer < 4 else 0.0)
    assert "falls to exactly zero over 8 layers" in sentence("gradient_at_the_start", gone)
    nothing = with_layers(study(depth=8), "log10_delta_norm", lambda *_: -np.inf)
    assert sentence("gradient_at_the_start", nothing) == "No untrained net has an error norm at both ends that could be compared."


@pytest.mark.parametrize(("sign", "word"), [(1, "rises by 12.0 decades"), (-1, "falls by 12.0 decades")])
def test_the_heat_map_tells_how_the_first_layers_gradient_changes(sign: int, word: str) -> None:
    changed = with_layers(study(depth=8), "log10_grad_norm", lambda step, layer, _depth: sign * step / layer)
    assert sentence("gradient_heatmap", changed) == f"Between the first and the last probed step the gradient norm of layer 1 {word} over 8 layers."


def test_layers_that_the_first_update_leaves_alone_are_counted() -> None:
    wanted = configs(depth=[5, 40])
    still = [int(np.isneginf(records(config).profile("log10_update_made", 0)).sum()) for config in wanted]
    assert still[0] == 0 < still[1]
    told = sentence("first_update", Study(runs_of(wanted)))
    assert told == f"The first update leaves every weight as it was in {still[1]} of 40 layers with L = 40 and in none of 5 layers with L = 5."
    assert sentence("first_update", study(depth=[3, 5])) == "The first update changes weights in every layer in both settings."
    assert sentence("first_update", study(depth=3)) == "The first update changes weights in every layer."
    assert "first_update" not in {entry.name for entry in PICTURES if entry.applies(study(depth=3, steps=0))}  # there was none


def test_means_over_seeds_are_what_is_told() -> None:
    wanted = configs(depth=6, seed=[0, 1, 2])
    profiles = np.array([records(config).profile("log10_delta_norm", 0) for config in wanted])
    fall = (profiles[:, -1] - profiles[:, 0]).mean()
    assert f"falls by {fall:.1f} decades over 6 layers" in sentence("gradient_at_the_start", Study(runs_of(wanted)))


# ---------------------------------------------------------------------------------------------- settings


def decades(slopes: list[float]) -> str:
    depths = list(range(5, 5 + len(slopes)))
    return sentence("decades_per_layer", with_runs(study(depth=depths), "delta_decades_per_layer", slopes))


def test_the_word_for_the_decades_follows_their_sign() -> None:
    start = "On its way back through the untrained net the gradient"
    assert decades([0.6, 0.7]).startswith(
        f"{start} vanishes: between 0.700 decades per layer (a factor of {10**0.7:.2f}) with L = 6 "
        f"and 0.600 decades per layer (a factor of {10**0.6:.2f}) with L = 5."
    )
    assert decades([-0.6, -0.7]).startswith(f"{start} explodes: between")
    assert decades([0.5, -0.25]).startswith(
        f"{start} vanishes, 0.500 decades per layer (a factor of {10**0.5:.2f}) with L = 5, "
        f"and explodes, 0.250 decades per layer (a factor of {10**0.25:.2f}) with L = 6."
    )
    assert decades([0.001, -0.002]).startswith(f"{start} neither vanishes nor explodes: between")


def accuracy(values: list[float]) -> str:
    depths = list(range(2, 2 + len(values)))
    return sentence("accuracy", with_runs(study(depth=depths), "final_accuracy_test", values))


def test_the_best_and_the_worst_accuracy_and_the_way_between_the_ends() -> None:
    assert accuracy([0.5, 0.9, 0.1]) == (
        "The test set's accuracy is highest, 90 %, with L = 3 and lowest, 10 %, with L = 4; it falls from 50 % to 10 % between L = 2 and L = 4."
    )
    assert accuracy([0.5, 0.9, 0.6]).endswith("; it rises from 50 % to 60 % between L = 2 and L = 4.")
    assert accuracy([0.5, 0.9, 0.5]).endswith("; it is 50 % both with L = 2 and with L = 4.")
    assert accuracy([0.5, 0.5]) == "The test set's accuracy is 50 % in both settings."


def test_accuracy_during_training_tells_the_end_and_the_peak_of_the_best_setting() -> None:
    some = with_runs(study(depth=[2, 3]), "final_accuracy_test", [0.4, 0.8])
    assert sentence("accuracy_curves", with_runs(some, "best_accuracy_test", [0.9, 0.85])) == (
        "Test accuracy ends at 80 % with L = 3, 85 % at its highest."
    )
    assert sentence("accuracy_curves", with_runs(some, "best_accuracy_test", [0.9, 0.8])) == "Test accuracy ends at 80 % with L = 3, its highest."


# ---------------------------------------------------------------------------------------------- depth


def test_the_work_of_both_ways_at_the_greatest_depth() -> None:
    paths, backprop = count_multiplications((3,) * 6)
    assert sentence("paths_against_backprop", study(depth=[2, 5])) == (
        f"At depth 5 the sum over all paths takes {paths:,} multiplications and backpropagation {backprop} (counted), "
        f"{paths / backprop:.1f} times as many for the same gradient."
    )


def test_beyond_what_is_counted_the_formula_speaks() -> None:
    told = sentence("paths_against_backprop", study(depth=30))
    paths = sum(
        9 * (3 ** (30 - k) * (2 * (30 - k) + 1) + 1) for k in range(1, 31)
    )  # n² weights, n^(L-k) paths, 2 (L-k) + 1 products, and the input's
    mantissa, exponent = f"{paths:.1e}".split("e+")
    superscript = exponent.translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    assert f"takes {mantissa} × 10{superscript} multiplications" in told
    assert "(by formula)" in told
