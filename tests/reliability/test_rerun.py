"""A sweep that is typed again: what is run again, what is not, and what is told of it."""

from pathlib import Path

import pytest

from tests.cli import query
from tests.sweeps import Done, Sweeps

NET = ("-m", "width=8", "depth=3", "batch_size=8", "probe_points=3", "activation=relu", "output=linear", "data=synthetic", "hydra.launcher.n_jobs=1")
SWEEP = (*NET, "steps=30", "lr=0.05,1e9")


def ids(sweeps: Sweeps, parent: str) -> list[str]:
    return [run_id for _, run_id in sweeps.jobs(parent)]


def outcomes(sweeps: Sweeps, parent: str) -> list[str]:
    return [sweeps.tag(run_id, "bpexp.outcome") for run_id in ids(sweeps, parent)]


def told(done: Done) -> str:
    """The first line of a sweep that went as it should."""
    assert (done.code, done.err) == (0, "")
    return done.out.splitlines()[0]


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> Sweeps:
    """Of a sweep two runs of which diverge, which is no failure."""
    sweeps = Sweeps(tmp_path_factory.mktemp("rerun"))
    assert told(sweeps.run(*SWEEP, "seed=0,1")).startswith("run ")
    (parent,) = sweeps.parents()
    assert outcomes(sweeps, parent)[2:] == ["diverged"] * 2
    assert "diverged" not in outcomes(sweeps, parent)[:2]
    return sweeps


def test_a_finished_sweep_trains_nothing(sweeps: Sweeps) -> None:
    """And goes on under its parent."""
    parents, before = sweeps.parents(), query(sweeps.file, "select * from runs join tags using (run_uuid) where value = 'run'")
    assert told(sweeps.run(*SWEEP, "seed=0,1")) == "resumed: 4 of 4 runs were finished already"
    assert query(sweeps.file, "select * from runs join tags using (run_uuid) where value = 'run'") == before
    assert sweeps.parents() == parents
    assert [sweeps.status(parent) for parent in parents] == ["FINISHED"]


def test_a_larger_sweep_finds_those_of_a_smaller_one(sweeps: Sweeps) -> None:
    (old,) = sweeps.parents()
    assert told(sweeps.run(*SWEEP, "seed=0,1,2")) == "resumed: 4 of 6 runs were finished already"
    _, new = sweeps.parents()
    found = ids(sweeps, new)
    assert [found[place] for place in (0, 1, 3, 4)] == ids(sweeps, old)
    assert (sweeps.statuses(new), sweeps.twice()) == ({"FINISHED": 2}, [])


@pytest.mark.parametrize(("word", "again"), [("rerun=diverged", {3, 4, 5}), ("rerun=all", set(range(6))), ("resume=false", set(range(6)))])
def test_what_is_run_again(sweeps: Sweeps, word: str, again: set[int]) -> None:
    """Its numbers are the same, and of each run the newest is left."""
    parent = sweeps.parents()[1]
    before, numbers = ids(sweeps, parent), list(sweeps.numbers(parent).values())
    told(sweeps.run(*SWEEP, "seed=0,1,2", word))
    after = ids(sweeps, parent)
    assert {place for place in range(6) if after[place] != before[place]} == again
    assert list(sweeps.numbers(parent).values()) == numbers
    assert (len(sweeps.parents()), sweeps.twice(), sweeps.finished()) == (2, [], 6)


def test_runs_of_other_numerics_are_told_of(sweeps: Sweeps) -> None:
    query(sweeps.file, "update tags set value = 'an abacus' where key = 'bpexp.numerics'")
    done = sweeps.run(*SWEEP, "seed=0,1,2")
    assert (done.code, done.out.splitlines()[0]) == (0, "resumed: 6 of 6 runs were finished already")
    assert done.err.startswith("bpexp: some finished runs were computed with an abacus; here it is core ")
    assert len(done.err.splitlines()) == 1


def test_two_at_once_share_the_work(tmp_path: Path) -> None:
    sweeps, words = Sweeps(tmp_path), (*NET, "steps=8000", "lr=0.05", "seed=range(0,6)", "hydra.launcher.max_runs=1")
    both = [sweeps.start(*words), sweeps.start(*words)]
    try:
        assert [command.done().code for command in both] == [0, 0]
    finally:
        for command in both:
            command.end()
    assert len({sweeps.tag(run, "bpexp.owner") for run in sweeps.nets("FINISHED")}) == 2
    assert (sweeps.finished(), sweeps.nets("RUNNING"), sweeps.twice(), sweeps.checkpoints()) == (6, [], [], [])
    assert {sweeps.status(parent) for parent in sweeps.parents()} == {"FINISHED"}
