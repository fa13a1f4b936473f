"""A training that is interrupted after any step, and goes on in any other stack, against one that nobody disturbs: bit for bit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bpexp.core.arrays import log2_norms
from bpexp.core.descent import Method
from bpexp.core.network import Parameters
from bpexp.core.normalization import NORMS
from bpexp.core.optimizers import OPTIMIZERS
from bpexp.core.probes import CHOSEN, PLAIN
from bpexp.core.records import Records
from bpexp.core.schedules import SCHEDULES
from bpexp.core.skips import SKIPS
from bpexp.core.state import State, pack, unpack
from bpexp.core.training import Task, Training
from bpexp.durable import read, write
from tests.core.nets import DTYPES, REPEATABLE, architecture, draw, make_task, shake, start, twin
from tests.core.test_shapes import assert_same

STEPS = 6
PROBED = [0, 2, 3, STEPS]  # so that there is a step before a probed one, one after, and one between two others
LR = 0.3, 0.05, 0.1
RUNS = range(3)
STACKS = [[1, 2, 0], [0], [2, 1], [1], [0, 2], [2]]


@dataclass(frozen=True)
class Case:
    """Three runs: `change` is made to their weights before they start, which without it leaves the last one to diverge at once."""

    task: Task
    lr: Sequence[Any]  # a number per run, or one per layer of each
    change: Callable[[Parameters], None]

    def initial(self) -> Parameters:
        parameters = shake(draw(self.task.net, RUNS))
        self.change(parameters)
        return parameters

    def begin(self, parameters: Parameters, runs: Sequence[int] = RUNS, seeds: Sequence[int] = RUNS) -> Training:
        return start(self.task, parameters, [self.lr[run] for run in runs], [seeds[run] for run in runs])


def lose_the_last(parameters: Parameters) -> None:
    parameters.W[1][2] = np.inf


def leave(parameters: Parameters) -> None: ...


def grow(parameters: Parameters) -> None:
    for W in parameters.W[1:]:
        np.multiply(W[1], 100.0, out=W[1])


def die(parameters: Parameters) -> None:
    """Layer 2 answers to nothing, so that all deltas before it are 0; behind it they shrink below 2**-16."""
    parameters.W[2][:] = -np.abs(parameters.W[2])
    for k, W in enumerate(parameters.W[3:], start=3):
        np.multiply(W, 0.02, out=W)
        parameters.b[k][:] = np.abs(parameters.b[k])
    parameters.b[2][:] = -10.0


@dataclass(frozen=True)
class Row:
    """What is not usual about a case."""

    net: dict[str, Any] = field(default_factory=dict)
    hidden: str = "tanh"
    width: int = 5
    depth: int = 5
    method: Method = field(default_factory=Method)
    batch: int = 5
    loss: str = "squared_error"
    lr: Sequence[Any] = LR
    task: dict[str, Any] = field(default_factory=dict)
    change: Callable[[Parameters], None] = lose_the_last

    def case(self, dtype: type) -> Case:
        output = "linear" if self.hidden == "linear" else "sigmoid"
        net = architecture([6, *[self.width] * (self.depth - 1), 4], self.hidden, output, bias=True, dtype=dtype, **self.net)
        task = make_task(net, STEPS, self.batch, self.loss, probes=PROBED)
        return Case(replace(task, method=self.method, **self.task), self.lr, self.change)


def scheduled(name: str) -> Method:
    return Method(factor=lambda step: float(SCHEDULES[name].rule(step, STEPS)))


BATCH_PROBES = tuple(name for name in CHOSEN if name not in PLAIN)
ROWS = {
    **{f"optimizer {name}": Row(method=Method(optimizer)) for name, optimizer in OPTIMIZERS.items()},
    **{f"schedule {name}": Row(method=scheduled(name)) for name in SCHEDULES},
    **{f"norm {name}": Row({"norm": name}, task={"probes": BATCH_PROBES}) for name in NORMS},
    **{f"skip {name}": Row({"skip": name}, task={"probes": BATCH_PROBES}) for name in SKIPS},
    "norm, skip, moments": Row({"norm": "batch", "skip": "rezero", "every": 2}, method=Method(OPTIMIZERS["adam"], {"weight_decay": 0.1}), depth=8),
    "clip": Row(method=Method(OPTIMIZERS["momentum"], clip=1e-3)),
    "rates of their own": Row(lr=[(lr, lr, lr, lr, lr / 9) for lr in LR], method=scheduled("cosine")),
    "one sample": Row(batch=1, task={"probes": CHOSEN}),
    "all samples": Row(batch=24, task={"probes": CHOSEN}),
    "deep": Row(hidden="sigmoid", depth=40, lr=(3.0, 1.0, 0.1), task={"probes": ("grad_cosine",)}),
    "deep, skips": Row({"skip": "scaled", "every": 7}, hidden="sigmoid", depth=40, lr=(3.0, 1.0, 0.1), method=Method(OPTIMIZERS["momentum"])),
    "deltas of 0": Row(hidden="relu", depth=9, change=die, lr=(2.0, 10.0, 30.0)),
    "wide": Row(width=256, depth=4, batch=5, task={"probes": ("grad_cosine", "spectrum")}),
    "wide, one sample": Row(width=256, depth=3, batch=1),
    "wide, products kept": Row(width=256, depth=3, batch=20, hidden="relu"),
    "compiled": Row(task={"engine": "numba", "probes": CHOSEN}),
    "compiled, one sample": Row(task={"engine": "numba"}, batch=1, method=scheduled("cosine")),
    "diverging": Row(hidden="linear", change=leave, lr=(0.01, 1e6, 3.0), task={"probes": CHOSEN}),
    "diverging, moments": Row({"norm": "batch"}, "linear", method=Method(OPTIMIZERS["momentum"]), change=leave, lr=(0.01, 1e6, 3.0)),
    "diverging, compiled": Row(hidden="linear", change=leave, lr=(0.01, 1e6, 3.0), task={"engine": "numba"}),
    "diverging behind a finite loss": Row(hidden="linear", change=grow, lr=(0.01, 1e37, 0.02)),
    "diverging, wide": Row(hidden="linear", width=256, depth=3, change=leave, lr=(1e-4, 1e6, 3.0)),
}
CASES = pytest.mark.parametrize(("turn", "name", "dtype"), [(turn, *case) for turn, case in enumerate(product(ROWS, DTYPES))])


def finish(training: Training) -> list[Records]:
    for _ in training.advance():
        pass
    return [training.records(run) for run in range(len(training.lr))]


def uninterrupted(case: Case) -> tuple[dict[int, list[State]], list[Records]]:
    """Each run's state after each step, and what becomes of it."""
    training = case.begin(case.initial())
    states = {step: [training.state(run) for run in RUNS] for step in training.advance()}
    return states, [training.records(run) for run in RUNS]


def go_on(case: Case, states: Sequence[State], stack: Sequence[int]) -> Training:
    """A fresh training of those runs, begun with weights and orders of samples that are nobody's."""
    parameters = Parameters(case.task.net, len(stack))
    for layers in parameters.arrays.values():
        for array in layers.values():
            array[:] = 0.25
    training = case.begin(parameters, stack, seeds=[77, 78, 79])
    training.restore([states[run] for run in stack])
    return training


def assert_goes_on(case: Case, states: Sequence[State], stack: Sequence[int], expected: Sequence[Records]) -> None:
    for run, found in zip(stack, finish(go_on(case, states, stack)), strict=True):
        assert_same(found, expected[run])
        for name in ("spectra", "histograms"):
            mine, others = getattr(found, name), getattr(expected[run], name)
            assert list(mine) == list(others)
            for column, values in others.items():
                np.testing.assert_array_equal(mine[column], values)


@CASES
def test_a_training_goes_on_as_if_nothing_had_been(turn: int, name: str, dtype: type, tmp_path: Path) -> None:
    """After every step, alone or in another stack, which takes turns; once by way of a file."""
    case = ROWS[name].case(dtype)
    states, expected = uninterrupted(case)
    assert list(states) == list(range(STEPS + 1))
    for step, those in states.items():
        assert_goes_on(case, those, STACKS[(step + turn) % len(STACKS)], expected)
    kept = []
    for run, state in enumerate(states[1]):
        write(tmp_path / str(run), state, {})
        kept.append(read(tmp_path / str(run))[0])
    assert_goes_on(case, kept, [2, 1, 0], expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_are_what_they_are_called(dtype: type) -> None:
    """Else they would test less than they seem to."""
    for name in ("diverging", "diverging, moments", "diverging, compiled", "diverging, wide"):
        first, *others = [record.diverged_at for record in uninterrupted(ROWS[name].case(dtype))[1]]
        assert first is None
        assert len({None, *others}) == 3, "at different steps"
    deep, skips, dead, wide = (finished(ROWS[name], dtype) for name in ("deep", "deep, skips", "deltas of 0", "wide"))
    for training in (deep, skips):
        peaks = [np.frexp(np.abs(delta[:2]).max(axis=(1, 2)))[1] for delta in training.step.gradients.delta[1:]]
        assert (training.step.gradients.exponent[:2, 1:].T[np.array(peaks) != 0] != 0).any(), "measured anew, they would be others"
    assert (np.array(skips.step.gradients.through) != 1).any()
    assert dead.step.zero.any(axis=0).all()
    assert wide.step.layerwise is not None


def finished(row: Row, dtype: type) -> Training:
    return interrupted(row, STEPS, dtype)[1]


@settings(REPEATABLE, max_examples=8)
@given(
    ends=st.lists(st.integers(0, STEPS), min_size=1, max_size=3, unique=True).map(sorted),
    orders=st.lists(st.permutations(list(RUNS)), min_size=3, max_size=3),
    cuts=st.lists(st.integers(1, 3), min_size=3, max_size=3),
    row=st.sampled_from(["deep", "norm, skip, moments", "diverging", "compiled"]),
)
def test_interrupted_several_times_and_put_together_anew(ends: list[int], orders: list[list[int]], cuts: list[int], row: str) -> None:
    case = ROWS[row].case(np.float32)
    _, expected = uninterrupted(case)
    training: dict[int, tuple[Training, int]] = {}
    begun = case.begin(case.initial())
    training = {run: (begun, run) for run in RUNS}
    for end, order, cut in zip(ends, orders, cuts, strict=False):
        for each, _ in training.values():
            proceed(each, end)
        states = [each.state(place) for each, place in training.values()]
        states = [states[list(training).index(run)] for run in RUNS]
        steps = {int(state["last_step"]) for state in states}
        if len(steps) > 1:  # a stack all of whose runs have diverged goes on no longer
            break
        training = {}
        for stack in filter(None, (order[:cut], order[cut:])):
            new = go_on(case, states, stack)
            training |= {run: (new, place) for place, run in enumerate(stack)}
    for run, (each, place) in training.items():
        finish(each)
        assert_same(each.records(place), expected[run])


def proceed(training: Training, end: int) -> None:
    if training.last_step < end:
        for step in training.advance():
            if step == end:
                return


# ------------------------------------------------------------------------------------------- states


def interrupted(row: Row, end: int, dtype: type = np.float32) -> tuple[Case, Training]:
    case = row.case(dtype)
    training = case.begin(case.initial())
    proceed(training, end)
    return case, training


def test_a_state_is_a_copy() -> None:
    case, training = interrupted(Row(method=Method(OPTIMIZERS["adam"]), task={"probes": CHOSEN}), 3)
    states = [training.state(run) for run in RUNS]
    before = [{name: array.copy() for name, array in state.items()} for state in states]
    expected = finish(training)
    for state, old in zip(states, before, strict=True):
        for name, array in old.items():
            np.testing.assert_array_equal(state[name], array)
    restored = go_on(case, states, RUNS)
    finish(restored)
    assert_goes_on(case, states, RUNS, expected)  # nor does who goes on with it write into it


@pytest.mark.parametrize("name", ROWS)
def test_a_state_is_numbers_alone(name: str) -> None:
    _, training = interrupted(ROWS[name], 3)
    for run in RUNS:
        for key, array in training.state(run).items():
            assert type(array) is np.ndarray, key
            assert array.dtype.kind in "biuf", key


def test_a_state_has_no_more_than_it_needs() -> None:
    """A wide net's weights once, and what a step has left only where the next one is compared with it; of a run that is over, no moments."""
    for end, compared in ((1, True), (4, False)):
        _, training = interrupted(Row(width=256, task={"probes": CHOSEN}), end)
        weights = sum(W[0].nbytes for W in training.parameters.W[1:])
        neurons = sum(a[0].nbytes for a in training.step.neurons.a) + sum(delta[0].nbytes for delta in training.step.gradients.delta[1:])
        size = sum(array.nbytes for array in training.state(0).values())
        assert weights + compared * neurons < size < weights + compared * neurons + 32_000
    assert {name.partition("/")[0] for name in training.state(2)} == {  # of a run that is over
        *("last_step", "diverged_at", "ended_at", "generator", "loss_train", "parameters", "spectra", "histograms"),
        *training.evaluated,
        *training.layers,
        *training.chosen.layers,
    }


def test_all_of_a_run_that_lasts_is_in_its_state_or_made_anew() -> None:
    """The promise that no weight is larger: it must hold of the weights that are put in."""
    case, training = interrupted(ROWS["wide"], 3)
    restored = go_on(case, [training.state(run) for run in RUNS], [1, 0])
    layerwise = restored.step.layerwise
    assert layerwise is not None
    assert (layerwise.bound >= np.exp2(log2_norms(restored.parameters.W[1:])) * (1 - 1e-6)).all()


def test_a_finished_training_is_restored_and_does_nothing() -> None:
    case, training = interrupted(Row(), STEPS)
    restored = go_on(case, [training.state(run) for run in RUNS], RUNS)
    assert list(restored.advance()) == []


def test_a_run_that_has_diverged_does_nothing_alone() -> None:
    case, training = interrupted(Row(), 4)
    restored = go_on(case, [training.state(run) for run in RUNS], [2])
    assert list(restored.advance()) == []
    assert_same(restored.records(0), training.records(2))


def test_what_is_left_of_a_diverged_run_in_the_stack_is_finite() -> None:
    """Its neighbours would wait for arithmetic on infinity."""
    case, training = interrupted(ROWS["diverging behind a finite loss"], 4)
    states = [training.state(run) for run in RUNS]
    assert not all(np.isfinite(array).all() for name, array in states[1].items() if name.startswith("parameters"))
    restored = go_on(case, states, RUNS)
    assert all(np.isfinite(arena.values).all() for arena in restored.parameters.arenas)


def without(states: list[State], name: str) -> list[State]:
    return [{key: array for key, array in states[0].items() if key != name}, *states[1:]]


def with_other(states: list[State], name: str, change: Callable[[Any], Any]) -> list[State]:
    return [{**states[0], name: change(states[0][name])}, *states[1:]]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda states, later: [states[0], later[1], states[2]],
        lambda states, _: states[:2],
        lambda states, _: [*states, states[0]],
        lambda _states, _: [],
        lambda states, _: without(states, "parameters/W_002"),
        lambda states, _: without(states, "order"),
        lambda states, _: with_other(states, "parameters/W_002", partial(np.resize, new_shape=(5, 4))),
        lambda states, _: with_other(states, "loss_train", lambda x: x[:1]),
        lambda states, _: with_other(states, "parameters/b_001", lambda x: x.astype(np.float64)),
    ],
    ids=["steps apart", "too few", "too many", "none", "no weights", "no order", "another shape", "of another length", "another dtype"],
)
def test_what_is_no_state_of_all_its_runs_is_refused(spoil: Callable[[list[State], list[State]], list[State]]) -> None:
    case, training = interrupted(Row(), 3)
    states = [training.state(run) for run in RUNS]
    proceed(training, 5)
    fresh = case.begin(twin(case.task.net, case.initial()))
    with pytest.raises(ValueError, match=r"need a state each|not a state of this training"):
        fresh.restore(spoil(states, [training.state(run) for run in RUNS]))


@pytest.mark.parametrize("name", ["shuffle", "integers", "standard_normal"])
def test_a_generator_goes_on_where_it_was(name: str) -> None:
    draw_some: Callable[[np.random.Generator], object] = {
        "shuffle": lambda rng: rng.shuffle(np.arange(7)),
        "integers": lambda rng: rng.integers(0, 100, 3, np.uint32),  # of an odd number half a draw is left
        "standard_normal": lambda rng: rng.standard_normal(5),
    }[name]
    generator, other = np.random.default_rng(1), np.random.default_rng(2)
    for _ in range(20):
        draw_some(generator)
        unpack(pack(generator), other)
        assert other.bit_generator.state == generator.bit_generator.state
    assert generator.integers(0, 2**63) == other.integers(0, 2**63)
