"""What is said of runs, against the numbers that it is said of: nets trained here, and numbers turned round."""

import re
import shlex
from math import log10
from typing import Any

import numpy as np
import pytest

from bpexp.config import RunConfig, nested, parse, untracked
from bpexp.core.activations import ACTIVATIONS
from bpexp.datasets import load
from bpexp.prediction import input_lost_at, predict
from bpexp.report import words
from bpexp.report.causes import causes
from bpexp.report.findings import Finding, findings
from bpexp.report.remedies import command, remedy
from bpexp.report.selection import Study
from tests.report.studies import configs, only, records, runs_of, study, with_layers, with_runs

DEEP: dict[str, Any] = {"width": 20, "steps": 8}


def about(some: Study, name: str) -> Finding:
    (found,) = [finding for finding in findings(some) if finding.about.startswith(name)]
    return found


def kinds(some: Study) -> dict[str, str]:
    (setting,) = some.settings
    return {cause.kind: cause.sentence for cause in causes(some, setting)}


@pytest.fixture(scope="module")
def stuck() -> Study:
    return study(depth=30, **DEEP)


# ---------------------------------------------------------------------------------------------- what became of them


def test_runs_are_counted_and_the_best_is_named() -> None:
    some = with_runs(study(depth=[2, 3, 4, 5]), "outcome", ["trained", "trained", "stuck", "diverged"])
    some = with_runs(some, "final_accuracy_test", [0.5, 0.75, 0.25, 0.25])
    assert about(some, "What became").sentences == (
        "Of 4 runs 2 learned, 1 stayed stuck at the plateau of a constant output and 1 diverged.",
        "The best ends at 75 % of the test set, with L = 3.",
        "The deepest nets that learned have 3 layers; none with 4 or more did.",
    )


def test_a_depth_at_which_some_run_learned_is_one_at_which_nets_learn() -> None:
    some = with_runs(study(depth=[3, 5, 6], seed=[0, 1, 2]), "outcome", [*["trained"] * 4, *["stuck"] * 2, *["untrained"] * 3])
    assert not [sentence for sentence in about(some, "What became").sentences if "deepest" in sentence]
    alone = with_runs(study(depth=3, seed=[0, 1, 2]), "outcome", ["trained"] * 3)
    assert about(alone, "What became").sentences[1].startswith("On average they end at ")


def test_weights_between_layers_that_never_change_are_not_told_to_be_still() -> None:
    some = with_layers(study(depth=5), "log10_update_made", lambda _step, layer, _depth: -np.inf if layer in (1, 4) else -3.0)
    assert kinds(some)["unmoved"].startswith("In 2 layers of 5 no weight changed")


def test_a_lone_trained_net_needs_no_reasons() -> None:
    (config,) = configs(depth=3, lr=3.0, steps=300)
    some = Study(runs_of([config]))
    assert records(config).outcome == "trained"
    (found,) = findings(some)
    score = records(config).summary["final_accuracy_test"]
    assert found.sentences == ("The run learned.", f"It ends at {words.percent(score)} of the test set.")
    assert found.command is None


def test_runs_without_records_have_nothing_to_say() -> None:
    assert findings(study(depth=[3, 5], failed=(0, 1))) == []


# ---------------------------------------------------------------------------------------------- why they did not learn


def test_a_stuck_sigmoid_net_has_theorys_reason(stuck: Study) -> None:
    (config,) = configs(depth=30, **DEEP)
    left, theory = records(config), predict(config)
    assert left.outcome == "stuck"
    assert theory is not None
    assert theory.settled is not None
    assert theory.settled.chi < 0.1
    grad = left.profile("log10_grad_norm", 0)
    share, measured = words.ten_to(grad[0] - grad[-1]), left.delta_decades_per_layer
    assert grad[0] - grad[-1] < -15
    assert measured is not None
    assert theory.delta_decades_per_layer is not None
    assert kinds(stuck)["vanishing"] == (
        f"The gradient vanishes: before training its norm in layer 1 is {share} of that in layer 30. By theory χ₁ = {theory.settled.chi:.4f} < 1: "
        f"each layer takes {theory.delta_decades_per_layer:.3f} decades (measured: {measured:.3f})."
    )
    at = input_lost_at(config)
    assert at is not None
    assert f"from layer {at} on the activations of different inputs differ by less than the rounding of float32" in kinds(stuck)["lost input"]
    loss = left.summary["final_loss"]
    told = about(stuck, "Why the run is stuck")
    assert told.sentences[0] == f"The full training loss ends at {loss:.3f}; the best constant output has {left.plateau:.3f}."


def test_the_layer_where_the_input_is_lost_is_the_one_where_its_spread_goes_under() -> None:
    """Theory's layer against the net's own activations: two layers before it inputs differ by more than rounding, two after it they do not."""
    (config,) = configs(depth=30, width=200, steps=0, probes=[["spread"]], batch_size="full")
    at, left = input_lost_at(config), records(config)
    assert at is not None
    rms = 0.5 * np.log10(left.profile("activation_mean", 0) ** 2 + left.profile("activation_std", 0) ** 2)
    over = left.profile("log10_spread", 0) - rms - log10(np.finfo(np.float32).eps / 2)
    assert over[at - 3] > 0
    assert over[at + 1] < 0.5
    assert input_lost_at(parse(RunConfig, nested(untracked(config) | {"depth": at - 1}))) is None


def test_weights_that_never_change_are_told_with_the_steps_that_were_asked_for(stuck: Study) -> None:
    left = records(configs(depth=30, **DEEP)[0])
    steps = np.unique(left.layers["step"])[:-1]  # the last one measures alone
    made, asked = (np.array([left.profile(name, step) for step in steps]) for name in ("log10_update_made", "log10_update_ratio"))
    still = np.flatnonzero(np.isneginf(made).all(axis=0)) + 1
    assert 0 < still.max() < 30
    largest = float(asked[:, : still.max()].max())
    assert kinds(stuck)["unmoved"] == (
        f"In layers 1 to {still.max()} of 30 no weight changed at any probed step: "
        f"the steps asked for were at most {words.ten_to(largest)} of their norm, and the unit roundoff of float32 is 6 × 10⁻⁸."
    )


@pytest.mark.parametrize(("change", "kind"), [(-1.9, None), (-2.1, "vanishing"), (2.1, "exploding"), (1.9, None)])
def test_a_gradient_vanishes_or_explodes_from_two_decades_on(change: float, kind: str | None) -> None:
    some = with_layers(study(depth=3), "log10_grad_norm", lambda _step, layer, _depth: change if layer == 1 else 0.0)
    found = set(kinds(some)) & {"vanishing", "exploding"}
    assert found == ({kind} if kind else set())


def test_an_exploding_net_has_theorys_reason() -> None:
    (config,) = configs(depth=30, activation="tanh", init__name="gaussian", init__sigma_w2=9.0, width=40, steps=2)
    some = with_runs(Study(runs_of([config])), "outcome", ["diverged"])
    grad, theory = records(config).profile("log10_grad_norm", 0), predict(config)
    assert theory is not None
    assert theory.settled is not None
    assert theory.settled.chi > 1
    told = kinds(some)["exploding"]
    assert told.startswith(
        f"The gradient explodes: before training its norm in layer 1 is {words.ten_to(grad[0] - grad[-1])} times that in layer 30."
    )
    assert f"χ₁ = {theory.settled.chi:.2f} > 1: each layer adds" in told


def test_layers_that_let_nothing_pass() -> None:
    original = study(depth=5, activation="relu")
    dead = with_layers(original, "saturated", lambda step, layer, _depth: 1.0 if layer == 2 and step >= 3 else 0.5)
    told = kinds(dead)["saturated"]
    assert told == "Hardly any gradient passes layer 2: all activations there are saturated, from step 3 on, of those that were probed."
    output = with_layers(original, "saturated", lambda _step, layer, depth: float(layer == depth))
    assert kinds(output)["saturated"] == "Hardly any gradient passes the output layer: all activations there are saturated, before training already."
    later = with_layers(original, "saturated", lambda step, layer, _depth: 0.995 if layer == 2 or (layer == 3 and step >= 3) else 0.5)
    assert kinds(later)["saturated"] == (
        "Hardly any gradient passes 2 of 5 layers: nearly all activations there are saturated, from step 3 on, of those that were probed."
    )
    assert "saturated" not in kinds(with_layers(original, "saturated", lambda *_: 0.6))  # relus are off half of the time
    bounded = with_layers(study(depth=5), "saturated", lambda step, layer, depth: 0.0 if layer == depth else 0.6 if step else 0.25)
    assert kinds(bounded)["saturated"] == "Of the hidden activations 60 % are saturated at step 12 (25 % at step 0)."


def test_steps_that_lead_nowhere_and_steps_that_lead_astray() -> None:
    (config,) = configs(depth=2, lr=1e-5)
    left = records(config)
    steps = np.unique(left.layers["step"])[:-1]
    made = 10.0 ** np.array([left.profile("log10_update_made", step) for step in steps])
    ways = [sum((made[i, k] + made[i + 1, k]) / 2 * (steps[i + 1] - steps[i]) for i in range(len(steps) - 1)) for k in range(2)]
    layer = int(np.argmax(ways)) + 1
    told = kinds(Study(runs_of([config])))["slow"]
    assert told == (
        f"The steps are too small: even if all of them pointed one way, layer {layer}, which moves most, "
        f"would be {words.number(max(ways), 2)} of its weights' norm away after 11 steps."
    )
    assert "slow" not in kinds(study(depth=2, lr=3.0))
    wild = with_layers(study(depth=3), "log10_update_made", lambda step, layer, _depth: 2.0 if (step, layer) == (1, 2) else -3.0)
    assert kinds(wild)["too large"] == "The steps are too large: that of step 1 is 100 times the norm of the weights in layer 2."
    assert "too large" not in kinds(with_layers(study(depth=3), "log10_update_made", lambda *_: 0.9))


def test_a_diverged_run_says_when_and_why() -> None:
    wanted = configs(activation="linear", output="linear", depth=6, lr=[0.01, 1e6])
    some, end = Study(runs_of(wanted)), records(wanted[1]).diverged_at
    assert end is not None
    told = about(some, "Why η = 1e6 diverged")
    assert told.sentences[0] == f"Loss or weights stopped being finite after {words.count(end, 'update')}."
    assert any(sentence.startswith("The steps are too large") for sentence in told.sentences)


def test_a_few_of_many_are_explained() -> None:
    some = with_runs(study(depth=[2, 3, 4, 5, 6, 7]), "outcome", ["stuck"] * 6)
    assert about(some, "What became").sentences == ("All 6 runs stayed stuck at the plateau of a constant output.",)
    told = [finding for finding in findings(some) if finding.about.startswith("Why")]
    assert [finding.about for finding in told] == ["Why L = 2 is stuck", "Why L = 4 is stuck", "Why L = 7 is stuck"]
    assert told[-1].sentences[-1] == "3 more settings are stuck too."


# ---------------------------------------------------------------------------------------------- underflow


@pytest.mark.parametrize("depth", [100, 200])
def test_where_plain_numbers_underflow(depth: int) -> None:
    """The layers at which NumPy makes a subnormal number, or 0, of a typical entry of the gradient."""
    (config,) = configs(depth=depth, width=20, steps=0)
    grad, data = records(config).profile("log10_grad_norm", 0), load(config.data)
    sizes = [data.inputs, *[20] * (depth - 1), data.outputs]
    log2 = [np.log2(10.0) * (grad[k - 1] - 0.5 * log10(sizes[k - 1] * sizes[k])) for k in range(1, depth + 1)]
    (text,) = [found for found in findings(Study(runs_of([config]))) if found.about.startswith("What plain numbers")]
    single = [np.ldexp(np.float32(2.0 ** (x % 1)), int(x // 1)) for x in log2]
    zero = max(k for k, value in enumerate(single, start=1) if value == 0)
    subnormal = max(k for k, value in enumerate(single, start=1) if value < np.finfo(np.float32).smallest_normal)
    assert f"subnormal in float32 from layer {subnormal} back and 0 from layer {zero} back" in text.sentences[0]
    double = [np.ldexp(2.0 ** (x % 1), int(x // 1)) for x in log2]
    assert ("float64 would hold the gradient of every layer" in text.sentences[0]) is all(x >= np.finfo(np.float64).smallest_normal for x in double)


def test_nothing_underflows_in_a_shallow_net() -> None:
    assert not [found for found in findings(study(depth=3)) if found.about.startswith("What plain")]


# ---------------------------------------------------------------------------------------------- what to try next


def configuration(typed: str, **more: str) -> RunConfig:
    """A command of one run, read word by word."""
    head, *words_ = shlex.split(typed)[2:]
    assert head == "bpexp"
    flat: dict[str, Any] = {}
    for word in (word for word in words_ if word != "-m"):
        key, _, value = word.partition("=")
        value = more.get(key, value)
        full = f"{key}.name" if f"{key}.name" in untracked(RunConfig()) else key
        flat[full] = value == "true" if value in ("true", "false") else value[1:-1].split(",") if value.startswith("[") else _number(value)
    return parse(RunConfig, nested(flat))


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"depth": 30, "lr": 1e-5, "probes": ["histogram", "q"]},
        {"init.name": "gaussian", "init.sigma_w2": 4.0, "activation": "tanh"},
        {"optimizer.name": "adam", "optimizer.weight_decay": 0.1, "loss": "cross_entropy", "skip.name": "residual", "dtype": "float64"},
        {"data.name": "synthetic", "data.samples": 60, "bias": True, "init.name": "shifted_critical", "seed": 3},
    ],
)
def test_a_command_is_the_configuration_that_it_was_made_of(values: dict[str, Any]) -> None:
    config = parse(RunConfig, nested(values))
    assert configuration(command(config)) == config


def test_theory_chooses_the_weights_that_keep_the_gradient(stuck: Study) -> None:
    """The choice is the least of all that it has, in numbers; and the net that it gives does what it says."""
    (config,) = configs(depth=30, **DEEP)
    (setting,) = stuck.settings
    advice = remedy(stuck, setting, ["vanishing"])
    assert advice is not None
    chosen = configuration(advice.command, lr="0.5")
    assert advice.command.startswith("python -m bpexp -m ")
    assert "lr=0.5,0.05" in advice.command

    def lost(name: str, bias: bool) -> float:
        found = predict(parse(RunConfig, nested(untracked(config) | {"init.name": name, "init.sigma_w2": None, "bias": bias})))
        assert found is not None
        return float(found.log10_delta[-1] - found.log10_delta[0])

    options = {"init=critical": lost("critical", bias=False), "init=shifted_critical bias=true": lost("shifted_critical", bias=True)}
    best = min(options, key=lambda told: abs(options[told]))
    now = lost("xavier", bias=False)
    assert advice.sentence.startswith(f"With {best} the gradient loses {words.decades(options[best])} from layer 30 back to layer 1 by theory")
    assert re.search(f"in place of (the )?{re.escape(words.decades(now))}", advice.sentence)
    delta = records(chosen).profile("log10_delta_norm", 0)
    assert abs(delta[-1] - delta[0]) < 0.2 * now


def test_without_theory_something_between_the_layers() -> None:
    some = with_runs(study(depth=30, activation="softplus", **DEEP), "outcome", ["stuck"])
    assert some.config(some.settings[0]).activation == "softplus"
    told = about(some, "Why the run is stuck")
    assert told.command is not None
    assert "norm=batch" in told.command
    single = with_runs(study(depth=30, activation="softplus", batch_size=1, **DEEP), "outcome", ["stuck"])
    assert "norm=layer" in (about(single, "Why the run is stuck").command or "")


def test_the_nearest_run_that_learned() -> None:
    """Of the same depth, in the fewest keys; among equals the one that ended best."""
    some = study(depth=[5, 6], lr=[0.1, 1.0], activation=["sigmoid", "tanh", "relu"])
    frame = some.runs.runs
    good = ((frame["depth"] == 6) & (frame["lr"] == 1.0) & (frame["activation"] != "sigmoid")) | ((frame["depth"] == 5) & (frame["lr"] == 1.0))
    some = with_runs(some, "outcome", np.where(good, "trained", "stuck").tolist())
    some = with_runs(some, "final_accuracy_test", np.where(frame["depth"] == 5, 0.9, np.where(frame["activation"] == "relu", 0.75, 0.5)).tolist())
    advice = remedy(some, only(some, depth=6, lr=1.0, activation="sigmoid"), [])
    assert advice is not None
    assert advice.sentence == "The nearest run that learned differs in activation=relu alone and ended at 75 % of the test set."
    assert configuration(advice.command) == configs(depth=6, lr=1.0, activation="relu")[0]
    advice = remedy(some, only(some, depth=6, lr=0.1, activation="sigmoid"), [])
    assert advice is not None
    assert "differs in 2 keys, activation=relu and lr=1," in advice.sentence


def test_of_equally_near_runs_without_accuracy_the_lowest_loss_wins() -> None:
    some = study(depth=3, lr=[0.01, 0.1, 1.0, 10.0])
    some = with_runs(some, "outcome", ["trained", "trained", "trained", "diverged"])
    some = with_runs(with_runs(some, "final_loss", [0.3, 0.1, 0.2, 9.0]), "final_accuracy_test", [None] * 4)
    advice = remedy(some, only(some, lr=10.0), [])
    assert advice is not None
    assert advice.sentence == "The nearest run that learned differs in lr=0.1 alone."


@pytest.mark.parametrize(("kind", "made", "lr"), [("slow", -5.0, 500.0), ("too large", 1.0, 0.0005), ("saturated", -3.0, 0.05)])
def test_another_learning_rate_follows_from_the_first_step(kind: str, made: float, lr: float) -> None:
    """lr=0.5 made a step of 10**made: 10**-2 is wanted, and where the net was led astray a tenth of the rate at most."""
    some = with_runs(with_layers(study(depth=3), "log10_update_made", lambda _step, layer, _depth: made - layer + 1), "outcome", ["stuck"])
    advice = remedy(some, some.settings[0], [kind])
    assert advice is not None
    assert configuration(advice.command) == configs(depth=3, lr=lr)[0]
    assert f"lr={lr:g}" in advice.sentence


def test_what_has_no_reason_is_given_more_steps() -> None:
    some = with_runs(study(depth=3), "outcome", ["stuck"])
    advice = remedy(some, some.settings[0], [])
    assert advice is not None
    assert configuration(advice.command) == configs(depth=3, steps=120)[0]
    assert ACTIVATIONS[configuration(advice.command).activation].name == "sigmoid"
    assert advice.sentence.startswith("None of the usual causes is to be seen")
    unmoved = remedy(some, some.settings[0], ["unmoved"])
    assert unmoved is not None
    assert unmoved.sentence == "More steps would tell whether the net is slow or stuck."
