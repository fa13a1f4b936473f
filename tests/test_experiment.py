"""One run, and stacks of runs: refusals that need the data, the order of a sink's calls, and numbers that depend on a run's own configuration."""

import subprocess
import sys
import tracemalloc
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from threadpoolctl import ThreadpoolController

import bpexp
from bpexp import experiment
from bpexp.config import ConfigError, DataConfig, Fault, InitConfig, OptimizerConfig, RunConfig, ScheduleConfig, check, fingerprint
from bpexp.core.arrays import Float64s
from bpexp.core.initializers import INITIALIZERS
from bpexp.core.records import Records
from bpexp.core.schedule import log_spaced
from bpexp.core.training import NUMERICS, Training
from bpexp.experiment import NullSink, Run, Sink, numerics, prepare, run, run_stack, train

ROOT = Path(__file__).parents[1]
SMALL = DataConfig(name="synthetic", samples=60, inputs=5, classes=3)


def config(**changes: Any) -> RunConfig:
    values: dict[str, Any] = {"depth": 3, "width": 6, "steps": 12, "batch_size": 8, "lr": 0.5, "data": SMALL}
    return check(RunConfig(**values | changes))


def small(**changes: Any) -> Run:
    return prepare(config(**changes))


def refused(wrong: RunConfig) -> list[Fault]:
    with pytest.raises(ConfigError) as error:
        prepare(wrong)
    return error.value.faults


def assert_same(one: Records, two: Records) -> None:
    """Bitwise, NaN included."""
    assert (one.plateau, one.diverged_at, list(one.curves), list(one.layers)) == (two.plateau, two.diverged_at, list(two.curves), list(two.layers))
    arrays = [(one.curves[name], two.curves[name]) for name in one.curves] + [(one.layers[name], two.layers[name]) for name in one.layers]
    for a, b in [*arrays, *zip(one.weights + one.biases, two.weights + two.biases, strict=True)]:
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def differ(one: Records, two: Records) -> bool:
    return one.curves["loss_train"].tobytes() != two.curves["loss_train"].tobytes()


# ---------------------------------------------------------------------------------------------- train


def test_train_needs_neither_hydra_nor_mlflow() -> None:
    code = f"""
import sys
import bpexp
from bpexp import DataConfig, RunConfig, train
records = train(RunConfig(depth=2, width=4, steps=3, data=DataConfig(**{vars(SMALL)!r})))
assert len(records.curves["step"]) == 4
print(sorted({{name.split(".")[0] for name in sys.modules}} & {{"hydra", "mlflow", "pandas", "matplotlib", "omegaconf", "rich"}}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_train_is_the_packages() -> None:
    assert bpexp.train is train


def test_training_learns() -> None:
    """Digits, in 200 steps: far better than the one in ten of a guess, and the loss far below the plateau."""
    records = train(RunConfig(depth=2, width=16, steps=200))
    assert records.outcome == "trained"
    assert records.summary["final_accuracy_test"] > 0.7
    assert records.summary["final_loss"] < 0.6 * records.plateau


def test_records_have_a_row_per_step_and_per_probed_step_and_layer() -> None:
    prepared = small(steps=30, probe_points=5)
    records = run(prepared, NullSink())
    np.testing.assert_array_equal(records.curves["step"], np.arange(31))
    assert prepared.probe_steps == tuple(log_spaced(30, 5))
    np.testing.assert_array_equal(records.layers["step"], np.repeat(prepared.probe_steps, 3))
    np.testing.assert_array_equal(records.layers["layer"], np.tile([1, 2, 3], len(prepared.probe_steps)))
    for name in ("loss_train_full", "loss_test", "accuracy_train", "accuracy_test"):
        np.testing.assert_array_equal(records.probed(name)[0], prepared.probe_steps)
    assert np.isfinite(records.curves["loss_train"]).all()


def test_a_run_that_diverges_ends_there() -> None:
    records = train(config(activation="linear", output="linear", lr=1e30, steps=1000))
    assert records.outcome == "diverged"
    assert records.diverged_at is not None
    assert records.diverged_at < 1000
    assert len(records.curves["step"]) <= records.diverged_at + 1


@pytest.mark.parametrize("changes", [{}, {"depth": 40}, {"optimizer": OptimizerConfig("adam")}, {"engine": "numba"}, {"norm": "layer", "width": 256}])
@pytest.mark.parametrize("schedule", ["constant", "step", "warmup", "cosine"])
def test_an_untrained_net_is_measured_and_keeps_its_weights(changes: dict[str, Any], schedule: str) -> None:
    """What a training measures at step 0, and nothing else."""
    if changes.get("engine") == "numba":
        pytest.importorskip("numba")
    wanted = config(**changes | {"steps": 0, "schedule": ScheduleConfig(schedule)})
    sink = Notebook()
    found, trained = run(prepare(wanted), sink), train(replace(wanted, steps=1))
    assert found.outcome == "untrained"
    assert found.curves["step"].tolist() == [0]
    assert set(found.layers["step"]) == {0}
    assert np.isnan(found.layers["log10_update_made"]).all()
    for column, values in found.curves.items():
        np.testing.assert_array_equal(values, trained.curves[column][:1])
    for column, values in found.layers.items():
        if column != "log10_update_made":
            np.testing.assert_allclose(values, trained.profile(column, 0), rtol=1e-5 if column == "log10_grad_norm" else 1e-12)
    for W, k in zip(found.weights, range(found.depth), strict=True):
        assert np.linalg.norm(W.astype(np.float64)) == pytest.approx(found.layers["weight_norm"][k], rel=1e-6)
    assert np.isnan(sink.seconds)


@pytest.mark.parametrize("wrong", [RunConfig(depth=0), RunConfig(output="softmax"), RunConfig(init=InitConfig(sigma_w2=2.0))])
def test_train_checks_first(wrong: RunConfig) -> None:
    with pytest.raises(ConfigError):
        train(wrong)


# ---------------------------------------------------------------------------------------------- what depends on the data


def test_prepare_says_what_identifies_the_run() -> None:
    prepared = small()
    assert prepared.fingerprint == fingerprint(prepared.config, prepared.dataset.checksum)
    assert prepared.batch_size == 8
    assert small(batch_size="full").batch_size == len(prepared.dataset.split.x_train) == 48
    assert small(data=replace(SMALL, seed=1)).fingerprint != small(seed=1).fingerprint != prepared.fingerprint


def test_a_batch_larger_than_the_data() -> None:
    assert small(batch_size=48).batch_size == 48
    (fault,) = refused(config(batch_size=49))
    assert (fault.key, fault.value) == ("batch_size", 49)
    assert "48" in fault.must
    assert "full" in fault.must


def npz(folder: Path, y: Float64s) -> DataConfig:
    path = folder / "data.npz"
    np.savez(path, x=np.linspace(-1.0, 1.0, 2 * len(y)).reshape(len(y), 2), y=y)
    return DataConfig(name="npz", path=str(path))


@pytest.mark.parametrize(
    ("output", "low", "high", "accepted"),
    [
        ("sigmoid", 0.0, 1.0, True),
        ("sigmoid", -0.01, 1.0, False),
        ("sigmoid", 0.0, 1.01, False),
        ("tanh", -1.0, 1.0, True),
        ("tanh", -1.1, 1.0, False),
        ("relu", 0.0, 100.0, True),
        ("relu", -0.1, 1.0, False),
        ("linear", -1e6, 1e6, True),
    ],
)
def test_targets_must_lie_in_the_outputs_range(output: str, low: float, high: float, accepted: bool, tmp_path: Path) -> None:
    wanted = config(output=output, data=npz(tmp_path, np.linspace(low, high, 40)))
    if accepted:
        assert prepare(wanted).dataset.outputs == 1
    else:
        (fault,) = refused(wanted)
        assert (fault.key, fault.value) == ("output", output)


def test_a_single_target_out_of_range_is_found_on_either_side_of_the_split(tmp_path: Path) -> None:
    for at in range(10):
        y = np.full(10, 0.5)
        y[at] = 1.5
        (fault,) = refused(config(batch_size=1, data=npz(tmp_path, y)))
        assert fault.key == "output"


def test_cross_entropy_needs_targets_that_sum_to_1(tmp_path: Path) -> None:
    y = np.random.default_rng(0).dirichlet(np.ones(3), 40)
    assert prepare(config(loss="cross_entropy", data=npz(tmp_path, y))).dataset.outputs == 3
    y[7] *= 0.5
    (fault,) = refused(config(loss="cross_entropy", data=npz(tmp_path / ".." / tmp_path.name, y)))
    assert (fault.key, fault.value) == ("loss", "cross_entropy")


def test_a_net_too_large_for_the_machine() -> None:
    (fault,) = refused(config(depth=10_000, width=65_536))
    assert (fault.key, fault.value) == ("width", 65_536)
    assert "GiB" in fault.must


def test_memory_is_refused_where_the_machine_has_less(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = small()
    needed = experiment.memory(prepared.config, prepared.dataset)
    monkeypatch.setattr(experiment, "installed_memory", lambda: needed)
    assert small() == prepared
    monkeypatch.setattr(experiment, "installed_memory", lambda: needed - 1)
    assert [fault.key for fault in refused(config())] == ["width"]


@pytest.mark.parametrize(
    "changes",
    [
        {"depth": 20, "width": 256, "steps": 2, "data": DataConfig()},
        {"depth": 3, "width": 500, "steps": 2, "dtype": "float64"},
        {"depth": 40, "width": 20, "steps": 2, "batch_size": "full", "data": DataConfig()},
        {"depth": 50, "width": 8, "steps": 60, "probe_points": 60},
        {"depth": 50, "width": 8, "steps": 60, "probe_points": 60, "probes": ["q", "c", "spread", "spectrum", "histogram"]},
        {"depth": 4, "width": 400, "steps": 2, "probes": ["grad_cosine"]},
        {"depth": 4, "width": 300, "steps": 2, "probes": ["jacobian_mean", "jacobian_variance"], "data": DataConfig()},
        {"depth": 40, "width": 20, "steps": 2, "batch_size": "full", "data": DataConfig(), "probes": ["sample_grad_norm", "grad_cosine"]},
    ],
)
def test_the_memory_foretold_is_about_what_is_used(changes: dict[str, Any]) -> None:
    """A run's peak, as Python's allocator sees it: neither a quarter below the estimate nor half as much again, and a MiB of objects."""
    prepared = small(**changes)
    tracemalloc.start()
    run(prepared, NullSink())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    estimate = experiment.memory(prepared.config, prepared.dataset)
    assert 0.75 * estimate < peak < 1.5 * estimate + 2**20


def test_every_fault_with_the_data_at_once(tmp_path: Path) -> None:
    wrong = config(batch_size=100, width=65_536, depth=10_000, data=npz(tmp_path, np.linspace(-1, 1, 40)))
    assert [fault.key for fault in refused(wrong)] == ["batch_size", "output", "width"]


def test_prepare_checks_combinations_too() -> None:
    (fault,) = refused(RunConfig(output="softmax", data=SMALL))
    assert fault.key == "output"


# ---------------------------------------------------------------------------------------------- sinks


@dataclass
class Notebook:
    """A sink that writes down what it is told, and fails where it is asked to."""

    fails_at: str = ""
    error: BaseException = field(default_factory=lambda: OSError("disk full"))
    calls: list[tuple[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def note(self, name: str, value: Any) -> None:
        self.calls.append((name, value))
        if name == self.fails_at:
            raise self.error

    def open(self, run: Run) -> None:
        self.note("open", run)

    def update(self, records: Records) -> None:
        self.note("update", records)

    def close(self, records: Records, step_seconds: float) -> None:
        self.seconds = step_seconds
        self.note("close", records)

    def abort(self, error: BaseException) -> None:
        self.note("abort", error)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Updates after every step, not every ten seconds."""
    monkeypatch.setattr(experiment, "UPDATE_SECONDS", -1.0)


def test_the_null_sink_is_a_sink() -> None:
    sinks: list[Sink] = [NullSink(), Notebook()]
    assert differ(run_stack([small(), small(seed=1)], [sinks[0], sinks[0]])[0], run(small(seed=1), sinks[1]))


def test_a_short_run_opens_and_closes() -> None:
    prepared, sink = small(), Notebook()
    records = run(prepared, sink)
    assert sink.names == ["open", "close"]
    assert sink.calls[0][1] is prepared
    assert_same(sink.calls[1][1], records)


@pytest.mark.usefixtures("eager")
def test_updates_come_between_and_hold_all_records_so_far() -> None:
    prepared, sink = small(), Notebook()
    records = run(prepared, sink)
    assert sink.names == ["open", *["update"] * 13, "close"]
    for step, (_, seen) in enumerate(sink.calls[1:-1]):
        np.testing.assert_array_equal(seen.curves["step"], np.arange(step + 1))
        for name, values in seen.curves.items():
            np.testing.assert_array_equal(values, records.curves[name][: step + 1])
        probed = sum(at <= step for at in prepared.probe_steps)
        for name, values in seen.layers.items():
            np.testing.assert_array_equal(values, records.layers[name][: 3 * probed])


@pytest.mark.usefixtures("eager")
def test_every_sink_of_a_stack_gets_its_own_run() -> None:
    runs, sinks = [small(seed=seed) for seed in range(3)], [Notebook() for _ in range(3)]
    for prepared, sink, records in zip(runs, sinks, run_stack(runs, sinks), strict=True):
        assert sink.names == ["open", *["update"] * 13, "close"]
        assert sink.calls[0][1] is prepared
        np.testing.assert_array_equal(sink.calls[5][1].curves["loss_train"], records.curves["loss_train"][:5])
        assert_same(sink.calls[-1][1], records)


def test_progress_is_told_every_step() -> None:
    seen: list[tuple[int, int]] = []
    run(small(), NullSink(), lambda training: seen.append((training.last_step, training.task.steps)))
    assert seen == [(step, 12) for step in range(13)]


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), SystemExit(3)], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", ["update", "close", "progress"])
def test_what_fails_aborts_every_sink_and_goes_on_up(place: str, error: BaseException) -> None:
    sinks = [Notebook(), Notebook(place, error), Notebook()]

    def progress(training: Training) -> None:
        step = training.last_step
        if place == "progress" and step == 5:
            raise error

    with pytest.raises(type(error)) as raised:
        run_stack([small(seed=seed) for seed in range(3)], sinks, progress)
    assert raised.value is error
    for sink in sinks:
        assert sink.names[0] == "open"
        assert sink.calls[-1] == ("abort", error)
        assert sink.names.count("abort") == 1
    assert "close" not in sinks[2].names


@pytest.mark.parametrize("error", [OSError("no server"), KeyboardInterrupt()], ids=lambda error: type(error).__name__)
def test_a_sink_that_does_not_open_aborts_those_that_are_open(error: BaseException) -> None:
    sinks = [Notebook(), Notebook("open", error), Notebook()]
    with pytest.raises(type(error)):
        run_stack([small(seed=seed) for seed in range(3)], sinks)
    assert sinks[0].names == ["open", "abort"]
    assert sinks[0].calls[-1] == ("abort", error)
    assert "open" not in sinks[2].names


def test_as_many_sinks_as_runs() -> None:
    sink = Notebook()
    with pytest.raises(ValueError, match=r"argument|sink"):
        run_stack([small(), small(seed=1)], [sink])
    assert "close" not in sink.names
    assert sink.names.count("open") == sink.names.count("abort")


# ---------------------------------------------------------------------------------------------- numbers

VARIANTS: list[dict[str, Any]] = [
    {},
    {"dtype": "float64"},
    {"bias": True, "init": InitConfig(sigma_b2=0.5)},
    {"batch_size": "full", "activation": "tanh", "output": "tanh"},
    {"loss": "cross_entropy", "activation": "relu", "init": InitConfig("he")},
    {"depth": 1},
    {"depth": 40, "width": 4, "batch_size": 1},
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_run_is_deterministic(changes: dict[str, Any]) -> None:
    assert_same(train(config(**changes)), train(config(**changes)))


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_stack_is_bitwise_its_runs_alone(changes: dict[str, Any]) -> None:
    """Runs that differ in seed, learning rate and variance, one of which diverges."""
    inits = [changes.get("init", InitConfig()), InitConfig("gaussian", sigma_w2=3.0), InitConfig("orthogonal")]
    runs = [small(**changes | {"seed": seed, "lr": 0.1 * (seed + 1), "init": init}) for seed, init in enumerate(inits)]
    runs.append(small(**changes | {"seed": 9, "lr": 1e300}))
    stacked = run_stack(runs, [NullSink()] * 4)
    for prepared, records in zip(runs, stacked, strict=True):
        assert_same(records, run(prepared, NullSink()))
    assert_same(run_stack(runs[::-1], [NullSink()] * 4)[0], stacked[-1])
    assert len({records.curves["loss_train"].tobytes() for records in stacked}) == 4


@pytest.mark.parametrize("lr", [50.0, 1e10, 1e30, 1e38, 1e300])
def test_a_stack_in_which_one_diverges_goes_on(lr: float) -> None:
    """Late and early, by its loss and by its weights."""
    runs = [small(seed=seed, lr=lr, activation="linear", output="linear") for seed, lr in enumerate((0.01, lr, 0.02))]
    records = run_stack(runs, [NullSink()] * 3)
    assert [record.diverged_at is None for record in records] == [True, False, True]
    assert len(records[0].curves["step"]) == 13
    for prepared, record in zip(runs, records, strict=True):
        assert_same(record, run(prepared, NullSink()))


def test_the_seed_decides_on_weights_and_order() -> None:
    assert differ(train(config(seed=0)), train(config(seed=1)))
    assert differ(train(config(batch_size="full", seed=0)), train(config(batch_size="full", seed=1)))


def initial(records: Records) -> Float64s:
    return records.profile("weight_norm", 0)


def test_weights_batches_and_data_have_seeds_of_their_own() -> None:
    """The weights do not change with what the batches draw, nor with the data; the data do not change with the run's seed."""
    one = train(config())
    for changes in ({"batch_size": 3}, {"batch_size": "full"}, {"steps": 20}, {"lr": 0.1}, {"data": replace(SMALL, seed=1)}):
        other = train(config(**changes))
        np.testing.assert_array_equal(initial(other), initial(one))
        assert differ(one, other)
    assert small(seed=5).dataset.checksum == small().dataset.checksum != small(data=replace(SMALL, seed=1)).dataset.checksum


def test_batch_norm_needs_more_than_one_sample() -> None:
    data = replace(SMALL, samples=4, test_fraction=0.75)
    (fault,) = refused(config(norm="batch", batch_size="full", data=data))
    assert str(fault) == "norm=batch: needs batches of at least 2, and data=synthetic has 1 training sample"
    assert prepare(config(norm="layer", batch_size="full", data=data)).batch_size == 1


def test_what_is_solved_for_is_part_of_the_run() -> None:
    """The variance at the critical point: handed to the weights, told among the parameters, covered by the fingerprint."""
    run = small(activation="tanh", bias=True, init=InitConfig("critical", sigma_b2=0.05))
    assert run.config.init.sigma_w2 == pytest.approx(1.76095, abs=5e-6)
    assert run.fingerprint == small(activation="tanh", bias=True, init=replace(run.config.init)).fingerprint
    assert run.fingerprint != small(activation="tanh", bias=True, init=InitConfig("critical")).fingerprint
    tanh, sigmoid = InitConfig("critical"), InitConfig("shifted_critical")
    assert small(activation="tanh", init=tanh).config.init.sigma_w2 == pytest.approx(1.0, abs=1e-9)
    assert small(activation="sigmoid", bias=True, init=sigmoid).config.init.sigma_w2 == pytest.approx(16.0, abs=1e-8)


@pytest.mark.parametrize(("name", "given"), [("xavier", {}), ("standard", {}), ("gaussian", {"sigma_w2": 7.0}), ("orthogonal", {"sigma_w2": 0.3})])
def test_weights_start_from_the_initializer_and_biases_from_their_variance(name: str, given: dict[str, Any]) -> None:
    """With a learning rate too small to move a weight, the last weights are the first."""
    records = train(config(dtype="float64", lr=1e-300, bias=True, init=InitConfig(name, sigma_b2=0.25, **given)))
    rng = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(0,)))
    for W, b, (n_in, n_out) in zip(records.weights, records.biases, [(5, 6), (6, 6), (6, 3)], strict=True):
        np.testing.assert_array_equal(W, INITIALIZERS[name].draw(rng, n_in, n_out, **given))
        np.testing.assert_array_equal(b, 0.5 * rng.standard_normal((1, n_out)))


def test_float32_and_float64_start_from_the_same_weights() -> None:
    single, double = (train(config(dtype=dtype, lr=1e-300)) for dtype in ("float32", "float64"))
    for one, two in zip(single.weights, double.weights, strict=True):
        assert (one.dtype, two.dtype) == (np.dtype(np.float32), np.dtype(np.float64))
        np.testing.assert_array_equal(one, two.astype(np.float32))


@pytest.mark.parametrize(("depth", "strength", "rate"), [(2, 3.0, 1e-3), (5, 2.0, 4e-4), (20, 1.5, 1e-4)])
def test_a_deep_linear_net_on_whitened_inputs_learns_as_its_modes_do(depth: int, strength: float, rate: float) -> None:
    """From u = .3 all of them as du/dt = D u^(2 - 2/D) (s - u) (Saxe, McClelland & Ganguli 2014): the time to 95 % by SciPy, within 0.5 %.

    And at first step by step as one weight does by gradient descent, u = w^D.  The loss is n (s - u)² / 2.
    """
    n, start = 4, 0.3

    def speed(_t: float, u: Float64s) -> Float64s:
        return np.asarray(depth * u ** (2 - 2 / depth) * (strength - u))

    def arrived(_t: float, u: Float64s) -> float:
        return float(u[0] - 0.95 * strength)

    events = solve_ivp(speed, (0.0, 100.0), [start], rtol=1e-10, atol=1e-12, events=arrived).t_events
    assert events is not None
    expected = events[0][0] / rate
    data = DataConfig("linear", inputs=n, strength=strength, test_fraction=0.0)
    net: dict[str, Any] = {"depth": depth, "width": n, "activation": "linear", "output": "linear", "data": data, "dtype": "float64"}
    records = train(config(**net, init=InitConfig("identity", gain=start ** (1 / depth)), lr=rate, batch_size="full", steps=int(1.1 * expected)))
    assert records.summary["initial_loss"] == pytest.approx(n * (strength - start) ** 2 / 2, rel=1e-12)
    u = strength - np.sqrt(2 * records.curves["loss_train"] / n)
    assert np.argmax(u > 0.95 * strength) == pytest.approx(expected, rel=5e-3)
    w, found = start ** (1 / depth), []
    for _ in range(200):
        found.append(w**depth)
        w += rate * w ** (depth - 1) * (strength - w**depth)
    np.testing.assert_allclose(u[:200], found, rtol=1e-10)


def blas_threads() -> list[int]:
    return [pool["num_threads"] for pool in ThreadpoolController().info() if pool["user_api"] == "blas"]


@pytest.mark.parametrize("threads", [1, 2])
def test_blas_has_the_threads_of_the_configuration_and_gets_its_own_back(threads: int) -> None:
    prepared, seen = small(blas_threads=threads), set[int]()
    with ThreadpoolController().limit(limits=3 - threads, user_api="blas"):
        before = blas_threads()
        records = run(prepared, NullSink(), lambda _training: seen.update(blas_threads()))
        assert (seen, blas_threads()) == ({threads}, before)
    assert_same(records, run(prepared, NullSink()))


def test_numerics_names_what_bits_depend_on() -> None:
    assert f"core {NUMERICS}; numpy {np.__version__}; " in numerics()
    assert numerics() == numerics()
