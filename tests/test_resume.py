"""A command that is typed again: what is finished is listed and not run, what is missing is run, by the names that it gives them."""

import time
from pathlib import Path

import pytest
from mlflow.entities import Run

import bpexp
from bpexp.config import RunConfig
from bpexp.experiment import numerics, prepare, run
from bpexp.tracking.database import Database
from bpexp.tracking.lookup import everything, left
from bpexp.tracking.sink import MlflowSink
from bpexp.tracking.store import Store, connect, search
from tests.cli import lines, query
from tests.sweeps import Sweeps

NET = ("width=4", "batch_size=16", "steps=20", "hydra.launcher.n_jobs=1")


def start(sweeps: Sweeps, *words: str) -> list[str]:
    """Run a sweep that comes to its end; the lines it prints, but for the two commands to type next."""
    done = sweeps.run("-m", *words, *NET)
    assert (done.code, done.err) == (0, "")
    return lines(done.out)[:-2]


@pytest.mark.parametrize("launcher", ["basic", "stacked"])
def test_a_run_that_failed_stays_so_until_it_is_asked_for(tmp_path: Path, launcher: str) -> None:
    sweeps, words = Sweeps(tmp_path), ("lr=0.01,0.02", "depth=3", f"hydra/launcher={launcher}")
    own = NET if launcher == "stacked" else NET[:-1]
    table = lines(sweeps.run("-m", *words, *own).out)[:-2]
    (parent,) = sweeps.parents()
    before, numbers = sweeps.jobs(parent), sweeps.numbers(parent)
    query(sweeps.file, "update runs set status = 'FAILED' where run_uuid = ?", before[1][1])
    query(sweeps.file, "insert into tags (key, value, run_uuid) values ('bpexp.error', 'OSError: no room', ?)", before[1][1])
    again = sweeps.run("-m", *words, *own)
    assert again.code == 1
    assert lines(again.out)[0] == "resumed: 1 of 2 runs were finished already, 1 failed (rerun=failed runs it again)"
    assert lines(again.err) == ["bpexp: failed before: depth=3 width=4 lr=0.02: OSError: no room"]
    assert sweeps.status(parent) == "FAILED"
    last = sweeps.run("-m", *words, *own, "rerun=failed")
    assert (last.code, last.err) == (0, "")
    assert lines(last.out)[:-2] == ["resumed: 1 of 2 runs were finished already", *table]
    assert [run_id for _, run_id in sweeps.jobs(parent)] == [run_id for _, run_id in before]
    assert [row[-1] for row in sweeps.table(parent)] == [run_id for _, run_id in before]  # written over, not added to
    assert list(sweeps.numbers(parent).values()) == list(numbers.values())
    assert sweeps.tag(before[1][1], "bpexp.error") == ""
    assert sweeps.parents() == [parent]
    assert sweeps.status(parent) == "FINISHED"


def test_a_lone_run(tmp_path: Path) -> None:
    sweeps, words = Sweeps(tmp_path), ("depth=3", *NET[:-1])
    first = sweeps.run(*words)
    assert (first.code, first.err) == (0, "")
    again = sweeps.run(*words)
    assert (again.code, again.err) == (0, "")
    assert lines(again.out) == ["this run was finished already; rerun=all runs it again", *lines(first.out)]
    (run_id,) = sweeps.nets()
    assert sweeps.run(*words, "rerun=all").code == 0
    assert sweeps.nets() != [run_id]
    assert len(sweeps.nets()) == 1
    query(sweeps.file, "update runs set status = 'FAILED'")
    failed = sweeps.run(*words)
    assert failed.code == 1
    assert lines(failed.err) == ["bpexp: failed: it failed before; rerun=failed runs it again"]


def test_a_larger_sweep_names_the_runs_it_finds_as_its_own(tmp_path: Path) -> None:
    """They were filed by a sweep in which something else was special; there they stay."""
    sweeps = Sweeps(tmp_path)
    start(sweeps, "lr=1,2", "depth=2")
    first, _, *rows = start(sweeps, "lr=1,2", "depth=2", "seed=1,0")
    assert first == "resumed: 2 of 4 runs were finished already"
    assert [row.split("  ")[0] for row in rows] == [f"depth=2 width=4 lr={lr} seed={seed}" for lr in (1, 2) for seed in (1, 0)]
    old, new = sweeps.parents()
    assert sweeps.statuses(old) == sweeps.statuses(new) == {"FINISHED": 2}
    assert [words.split()[2] for words, _ in sweeps.jobs(new)] == ["seed=1", "seed=0"] * 2
    found = bpexp.load_runs("latest", sweeps.uri).runs
    assert list(found["seed"]) == [1, 0, 1, 0]
    assert list(found["lr"]) == [1, 1, 2, 2]


def test_a_tuned_sweep_counts_the_losses_it_finds(tmp_path: Path) -> None:
    """The first round is finished, in part by another sweep: the winner's other seeds are run, or found, and nobody else's."""
    net = ("activation=linear", "output=linear", "depth=2")
    sweeps, alone = Sweeps(tmp_path / "a"), Sweeps(tmp_path / "b")
    words = ("lr=1e6,0.03,1e-5", "seed=5,0,1", *net, "hydra.sweeper.tune=lr")
    expected = start(alone, *words)
    start(sweeps, "lr=0.03,1e6", "seed=5", *net)
    start(sweeps, "lr=1e-5,0.03", "seed=0", *net)
    first, second, *table = start(sweeps, *words)
    assert first == "resumed: 2 of 3 runs were finished already"
    assert second == "resumed: 1 of 2 runs were finished already"
    assert table == expected
    assert sweeps.numbers(sweeps.parents()[-1]) == alone.numbers(alone.parents()[0])
    first, second, *table = start(sweeps, *words)
    assert (first, second) == ("resumed: 3 of 3 runs were finished already", "resumed: 2 of 2 runs were finished already")
    assert table == expected


# ---------------------------------------------------------------------------------------------- the lookup


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, list[str]]]:
    """A store whose experiment holds three finished runs of one fingerprint (the newest of them in the bin) and one of another, a failed and an
    open run, and runs of another experiment; with the ids of each kind.
    """
    folder = tmp_path_factory.mktemp("kept")
    uri = f"sqlite:///{folder}/runs.db"
    ids: dict[str, list[str]] = {"same": [], "other": [], "failed": [], "open": [], "elsewhere": []}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # where MLflow puts the artifacts
        store, elsewhere = connect(uri, "bpexp"), connect(uri, "elsewhere")

    def file(kind: str, where: Store, seed: int) -> None:
        prepared, sink = prepare(RunConfig(depth=2, width=3, steps=3, seed=seed)), MlflowSink(where)
        if kind in ("failed", "open"):
            sink.open(prepared)
        else:
            run(prepared, sink)
        if kind == "failed":
            sink.abort(RuntimeError("power cut"))
        ids[kind].append(str(sink.run_id))
        time.sleep(0.005)  # runs that start in different ms

    for kind, where, seed in [("same", store, 0)] * 3 + [("other", store, 1), ("failed", store, 2), ("open", store, 3), ("elsewhere", elsewhere, 4)]:
        file(kind, where, seed)
    store.client.delete_run(ids["same"][-1])
    return store, ids


def fingerprints(*seeds: int) -> set[str]:
    return {prepare(RunConfig(depth=2, width=3, steps=3, seed=seed)).fingerprint for seed in seeds}


@pytest.fixture(params=["rows", "client"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways into the one store: by its tables, and by MLflow's client as where these are not known."""
    if request.param == "client":
        monkeypatch.setattr("bpexp.tracking.database.REVISIONS", ())
    return str(request.param)


def test_the_newest_run_of_each_fingerprint_that_is_left_as_it_is(kept: tuple[Store, dict[str, list[str]]], way: str) -> None:
    store, ids = kept
    assert (Database.of(store.client) is None) == (way == "client")
    found = left(store, fingerprints(0, 1, 2, 3, 4, 5), resume=True, rerun=None)
    assert {key: (it.run.run_id, it.failed, it.error) for key, it in found.items()} == {
        fingerprints(0).pop(): (ids["same"][1], False, ""),
        fingerprints(1).pop(): (ids["other"][0], False, ""),
        fingerprints(2).pop(): (ids["failed"][0], True, "RuntimeError: power cut"),
    }
    assert left(store, fingerprints(3, 4), resume=True, rerun=None) == left(store, set(), resume=True, rerun=None) == {}
    assert left(store, fingerprints(0, 2), resume=True, rerun="all") == left(store, fingerprints(0, 2), resume=False, rerun=None) == {}
    assert list(left(store, fingerprints(0, 2), resume=True, rerun="failed")) == list(fingerprints(0))
    records = bpexp.train(RunConfig(depth=2, width=3, steps=3, seed=1))
    (other,) = left(store, fingerprints(1), resume=True, rerun="diverged").values()
    assert other.numerics == numerics()
    assert (other.run.name, other.run.outcome) == ("depth=2 width=3 lr=3", records.outcome)
    assert {key: value for key, value in other.run.summary.items() if key != "step_seconds"} == records.summary


def test_rows_are_read_as_mlflow_reads_them(kept: tuple[Store, dict[str, list[str]]], way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = kept
    monkeypatch.setattr("bpexp.tracking.lookup.IDS", 2)  # several statements

    def told(entry: Run) -> tuple[object, ...]:
        data = entry.data
        return vars(entry.info), data.tags, data.params, {key: value for key, value in data.metrics.items() if key.startswith("summary/")}

    rows = everything(store.client, store.experiment_id)
    assert [told(entry) for entry in rows] == [told(entry) for entry in search(store.client, store.experiment_id)]
    assert len(rows) == 5
