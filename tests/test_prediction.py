"""What is predicted for a run, against nets that are drawn and measured by the training itself."""

from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bpexp.config import ConfigError, RunConfig, nested, parse
from bpexp.core.activations import ACTIVATIONS
from bpexp.core.initializers import INITIALIZERS
from bpexp.experiment import train
from bpexp.prediction import predict
from bpexp.theory.mean_field import critical, settled

SIGMAS = 4.0
SEEDS = 16
INPUTS, CLASSES = 20, 6
SMALL = {"width": 100, "depth": 9, "steps": 1, "dtype": "float64"}

# Nets that differ in all that theory is told: activation, weights, biases, the shift of the biases, the data, the output.
NETS: dict[str, dict[str, Any]] = {
    "xavier": {},
    "standard": {"init.name": "standard"},
    "digits": {"data.name": "digits", "data.path": None},
    "relu, he": {"activation": "relu", "init.name": "he"},
    "relu, xavier": {"activation": "relu"},
    "tanh with biases": {"activation": "tanh", "init.name": "gaussian", "init.sigma_w2": 1.3, "bias": True, "init.sigma_b2": 0.3},
    "orthogonal": {"activation": "tanh", "init.name": "orthogonal", "init.sigma_w2": 1.0},
    "critical": {"activation": "erf", "init.name": "critical", "init.orthogonal": True},
    "shifted": {"init.name": "shifted_critical", "bias": True, "init.sigma_b2": 0.2},
    "softmax": {"activation": "selu", "init.name": "lecun", "loss": "cross_entropy"},
    "linear output": {"activation": "gelu", "init.name": "lecun", "output": "linear"},
}


@pytest.fixture(scope="module", autouse=True)
def _data(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Samples of one length, as theory takes them to be: of a batch of different lengths it knows the mean square alone."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((160, INPUTS))
    x *= np.sqrt(INPUTS) / np.linalg.norm(x, axis=1, keepdims=True)
    path = tmp_path_factory.mktemp("data") / "sphere.npz"
    np.savez(path, x=x, y=(x @ rng.standard_normal((INPUTS, CLASSES))).argmax(axis=1))
    DATA.update({"data.name": "npz", "data.path": str(path)})


DATA: dict[str, Any] = {}


def config(**changes: Any) -> RunConfig:
    return parse(RunConfig, nested(DATA | SMALL | {key.replace("__", "."): value for key, value in changes.items()}))


def measured(changes: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """log10 ||delta_k||/||delta_L|| at step 0, (seeds, layers)."""
    profiles = [train(config(**changes, seed=seed, batch_size="full")).profile("log10_delta_norm", 0) for seed in range(SEEDS)]
    return np.array([profile - profile[-1] for profile in profiles])


@pytest.mark.parametrize("name", NETS)
def test_the_profile_of_delta_is_that_of_measured_nets(name: str) -> None:
    """The mean over seeds, to 4 standard errors, in every layer."""
    prediction = predict(config(**NETS[name]))
    assert prediction is not None
    found = measured(NETS[name])
    error = found.std(axis=0, ddof=1) / sqrt(SEEDS)
    off = np.abs(prediction.log10_delta - found.mean(axis=0))
    assert np.all(off[:-1] < SIGMAS * error[:-1])
    assert off[-1] == 0.0


@pytest.mark.parametrize("name", ["xavier", "digits", "softmax"])
def test_gradients_of_single_samples_are_those_of_measured_nets(name: str) -> None:
    """A batch of one: ||dL/dW_k|| of a sample, without what samples share.  A different sample for every seed."""
    prediction = predict(config(**NETS[name]))
    assert prediction is not None
    profiles = [train(config(**NETS[name], seed=seed, batch_size=1)).profile("log10_grad_norm", 0) for seed in range(2 * SEEDS)]
    found = np.array([profile - profile[-1] for profile in profiles])
    error = found.std(axis=0, ddof=1) / sqrt(2 * SEEDS)
    expected = prediction.log10_grad - prediction.log10_grad[-1]
    assert np.all(np.abs(expected - found.mean(axis=0))[1:-1] < SIGMAS * error[1:-1])


def test_the_slope_is_fitted_as_the_records_fit_theirs() -> None:
    prediction = predict(config())
    assert prediction is not None
    assert prediction.delta_decades_per_layer == pytest.approx(np.polyfit(np.arange(7), prediction.log10_delta[1:-1], 1)[0])
    shallow = predict(config(depth=4))
    assert shallow is not None
    assert shallow.delta_decades_per_layer is None


def test_where_endlessly_many_layers_settle() -> None:
    prediction = predict(config(activation="tanh", init__name="gaussian", init__sigma_w2=2.5, bias=True, init__sigma_b2=0.3))
    assert prediction is not None
    assert prediction.settled == settled(ACTIVATIONS["tanh"], 2.5, 0.3)
    assert prediction.narrow is not None
    deep = predict(config(activation="tanh", init__name="gaussian", init__sigma_w2=2.5, bias=True, init__sigma_b2=0.3, depth=60))
    assert deep is not None
    steps = np.diff(deep.profile.log10_delta - deep.lost.delta)  # far from both ends
    assert steps[25:35] == pytest.approx(prediction.settled.decades_per_layer + prediction.narrow, abs=1e-6)


def test_a_shifted_sigmoid_net_settles_where_its_weights_were_solved_for() -> None:
    prediction = predict(config(init__name="shifted_critical", bias=True, init__sigma_b2=0.4))
    assert prediction is not None
    assert prediction.settled is not None
    assert prediction.settled.q == pytest.approx(4.0 * critical(ACTIVATIONS["tanh"], 0.1).q, rel=1e-6)
    assert prediction.settled.chi == pytest.approx(1.0, abs=1e-6)


def test_a_variance_that_grows_without_end_settles_nowhere_and_has_a_profile() -> None:
    prediction = predict(config(activation="relu", init__name="gaussian", init__sigma_w2=3.0, bias=True, init__sigma_b2=0.1))
    assert prediction is not None
    assert (prediction.settled, prediction.narrow) == (None, None)
    assert np.all(np.diff(prediction.profile.q) > 0.0)


def test_biases_count_where_there_are_some() -> None:
    with_, without = (predict(config(init__sigma_b2=0.5, bias=bias)) for bias in (True, False))
    assert with_ is not None
    assert without is not None
    assert with_.profile.q[0] - without.profile.q[0] == pytest.approx(0.5)


SILENT: dict[str, dict[str, Any]] = {
    "normalization": {"norm": "layer"},
    "skip connections": {"skip.name": "residual"},
    **{name: {"init.name": name} for name, row in INITIALIZERS.items() if row.sigma_w2 is None},
    "no critical point": {"init.name": "critical", "activation": "softplus"},
}


@pytest.mark.parametrize("name", SILENT)
def test_theory_is_silent(name: str) -> None:
    assert predict(config(**SILENT[name])) is None


def test_data_that_is_gone_is_refused(tmp_path: Path) -> None:
    gone = {"data.name": "npz", "data.path": str(tmp_path / "gone.npz")}
    with pytest.raises(ConfigError, match="no such file"):
        predict(config(**gone))


def test_the_same_net_is_worked_out_once() -> None:
    first, again, other = predict(config()), predict(config(seed=5, lr=0.1)), predict(config(width=50))
    assert first is again
    assert first is not other
