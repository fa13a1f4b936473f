"""Each schedule against its closed form, at the start, in the middle, at the end; and that none leaves [0, 1]."""

from math import cos, pi, sin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpexp.core.schedules import SCHEDULES
from tests.core.nets import REPEATABLE

LONGEST = 100_000_000  # the most steps that a run may have
OTHER_KEYS: dict[str, st.SearchStrategy[dict[str, float]]] = {
    "constant": st.just({}),
    "step": st.fixed_dictionaries({"every": st.integers(1, LONGEST), "factor": st.floats(0, 1, exclude_min=True)}),
    "warmup": st.fixed_dictionaries({"warmup": st.integers(0, LONGEST)}),
    "cosine": st.fixed_dictionaries({"floor": st.floats(0, 1), "warmup": st.integers(0, LONGEST)}),
}


def factor(name: str, step: int, steps: int, **keys: float) -> float:
    return float(SCHEDULES[name].rule(step, steps, **keys))


@pytest.mark.parametrize("step", [0, 500, 999])
def test_constant(step: int) -> None:
    assert factor("constant", step, 1000) == 1.0


@pytest.mark.parametrize(("step", "drops"), [(0, 0), (299, 0), (300, 1), (599, 1), (600, 2), (900, 3), (999, 3)])
def test_step_drops_after_every_so_many(step: int, drops: int) -> None:
    assert factor("step", step, 1000, every=300) == pytest.approx(0.1**drops, rel=1e-15)


@pytest.mark.parametrize("steps", [1, 2, 3, 900, 1000, 10**8])
def test_step_and_warmup_go_by_the_length_of_the_training(steps: int) -> None:
    """Three levels, and a tenth of the steps, each rounded up."""
    third, tenth = -(-steps // 3), -(-steps // 10)
    assert [factor("step", at, steps) for at in (0, third - 1, third, 2 * third)] == pytest.approx([1, 1, 0.1, 0.01], rel=1e-15)
    assert factor("warmup", tenth - 1, steps) == factor("warmup", steps - 1, steps) == 1.0
    assert factor("warmup", 0, steps) == 1 / tenth


def test_step_with_other_keys() -> None:
    """Also a drop at every step, and a power of the factor that lies below float64."""
    assert [factor("step", step, 5, every=2, factor=0.5) for step in range(5)] == [1, 1, 0.5, 0.5, 0.25]
    assert [factor("step", step, 4, every=1, factor=0.25) for step in range(4)] == [1, 2**-2, 2**-4, 2**-6]
    assert factor("step", LONGEST - 1, LONGEST, every=1, factor=0.1) == 0.0


@pytest.mark.parametrize(("step", "expected"), [(0, 0.01), (49, 0.5), (98, 0.99), (99, 1.0), (100, 1.0), (999, 1.0)])
def test_warmup(step: int, expected: float) -> None:
    assert factor("warmup", step, 1000) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("warmup", [0, 1])
@pytest.mark.parametrize("name", ["warmup", "cosine"])
def test_a_warm_up_of_no_step_or_one_is_none(name: str, warmup: int) -> None:
    assert factor(name, 0, 1000, warmup=warmup) == 1.0


def test_cosine_without_warm_up() -> None:
    """1, and its half in the middle; at the last update sin² of half a step's angle."""
    assert factor("cosine", 0, 1000) == 1.0
    assert factor("cosine", 250, 1000) == pytest.approx(0.5 + 0.25 * 2**0.5, rel=1e-15)
    assert factor("cosine", 500, 1000) == pytest.approx(0.5, rel=1e-15)
    assert factor("cosine", 999, 1000) == pytest.approx(sin(pi / 2000) ** 2, rel=1e-10)
    assert factor("cosine", 1000, 1000) == 0.0


def test_cosine_ends_at_its_floor() -> None:
    assert factor("cosine", 0, 1000, floor=0.2) == 1.0
    assert factor("cosine", 500, 1000, floor=0.2) == pytest.approx(0.6, rel=1e-15)
    assert factor("cosine", 1000, 1000, floor=0.2) == 0.2
    assert {factor("cosine", step, 7, floor=1.0) for step in range(7)} == {1.0}


def test_cosine_after_warm_up() -> None:
    """Up in equal steps, 1 twice, and half a cosine over the steps that are left."""
    found = [factor("cosine", step, 12, warmup=4) for step in range(12)]
    assert found[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert found[5:] == pytest.approx([cos(pi * part / 16) ** 2 for part in range(1, 8)], rel=1e-14)


def test_warm_up_longer_than_the_run() -> None:
    """It ends under way: no division by what is left for the cosine."""
    assert [factor("cosine", step, 2, warmup=4) for step in range(2)] == [0.25, 0.5]
    assert [factor("warmup", step, 2, warmup=4) for step in range(2)] == [0.25, 0.5]
    assert factor("cosine", 3, 4, warmup=4) == 1.0


@pytest.mark.parametrize("name", SCHEDULES)
@REPEATABLE
@given(data=st.data())
def test_factors_lie_between_0_and_1(name: str, data: st.DataObject) -> None:
    steps = data.draw(st.integers(1, LONGEST), label="steps")
    step = data.draw(st.integers(0, steps - 1), label="step")
    keys = data.draw(OTHER_KEYS[name], label="keys")
    assert set(keys) == set(SCHEDULES[name].keys)
    for found in (factor(name, step, steps), factor(name, step, steps, **keys)):
        assert isinstance(found, float)
        assert 0.0 <= found <= 1.0


@pytest.mark.parametrize("name", ["step", "cosine"])
@REPEATABLE
@given(data=st.data())
def test_a_decay_never_rises(name: str, data: st.DataObject) -> None:
    steps = data.draw(st.integers(2, LONGEST), label="steps")
    step = data.draw(st.integers(0, steps - 2), label="step")
    assert factor(name, step + 1, steps) <= factor(name, step, steps)


def test_keys() -> None:
    """And their defaults."""
    assert {name: row.keys for name, row in SCHEDULES.items()} == {
        "constant": {},
        "step": {"every": None, "factor": 0.1},
        "warmup": {"warmup": None},
        "cosine": {"floor": 0.0, "warmup": 0},
    }


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_row_says_what_it_is_and_does(name: str) -> None:
    row = SCHEDULES[name]
    assert row.name == name == row.rule.__name__
    assert row.equation.startswith("η_t = η")
    assert row.effect.endswith(".")
    assert row.source
