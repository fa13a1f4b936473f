"""A sweep that is started again: what is finished is listed and not run, what is missing is run, and the numbers are those of a sweep left alone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

import bpexp
from bpexp.config import RunConfig
from bpexp.core.training import NUMERICS
from bpexp.experiment import numerics, prepare, run
from bpexp.tracking.database import Database
from bpexp.tracking.lookup import everything, finished
from bpexp.tracking.sink import MlflowSink
from bpexp.tracking.store import Store, connect, search
from tests.cli import command, environment, lines, query

RESUME = "hydra.sweeper.resume=true"
KEPT = "tracking.uri=sqlite:///runs.db"
COST = "summary/step_seconds"  # a time, the one number that no run repeats
NET = ("width=4", "batch_size=16", KEPT)


class Sweeps:
    """The store of a folder in which sweeps run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "runs.db"
        self.uri = f"sqlite:///{self.file}"

    def start(self, *words: str) -> list[str]:
        """Run a sweep that comes to its end; the lines it prints, but for the two commands to type next."""
        ended = command(self.folder, "-m", *words)
        assert (ended.returncode, ended.stderr) == (0, "")
        return lines(ended.stdout)[:-2]

    def parents(self) -> list[str]:
        found = query(
            self.file, "select run_uuid from runs join tags using (run_uuid) where key = 'bpexp.kind' and value = 'sweep' order by start_time"
        )
        return [run_id for (run_id,) in found]

    def statuses(self, parent: str) -> Counter[str]:
        """What became of the runs that a parent launched."""
        children = "select run_uuid from tags where key = 'mlflow.parentRunId' and value = ?"
        return Counter(dict(query(self.file, f"select status, count(*) from runs where run_uuid in ({children}) group by status", parent)))

    def jobs(self, parent: str) -> list[tuple[str, str]]:
        """A manifest: overrides and run ids."""
        path = MlflowClient(self.uri).download_artifacts(parent, "manifest.json")
        return [(" ".join(job["overrides"]), job["run_id"]) for job in json.loads(Path(path).read_text())["jobs"]]

    def numbers(self, parent: str) -> dict[str, object]:
        """All that the runs of a sweep's jobs left: every point but their cost, and their files' bytes."""
        return {words: (self.points(run_id), self.files(run_id)) for words, run_id in self.jobs(parent)}

    def points(self, run_id: str) -> set[tuple[object, ...]]:
        return set(query(self.file, f"select key, step, value from metrics where run_uuid = ? and key != '{COST}'", run_id))

    def files(self, run_id: str) -> dict[str, bytes]:
        """Without config.yaml, which names the parent."""
        folder = Path(MlflowClient(self.uri).download_artifacts(run_id, ""))
        found = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "config.yaml"}
        assert sorted(found) == ["checkpoint.npz", "curves.parquet", "layers.parquet"]
        return found


# ---------------------------------------------------------------------------------------------- interrupted, then started again

LONG = ("depth=2,3", "seed=range(0,8)", "steps=3000", "probe_points=5", "hydra.launcher.max_runs=1", *NET)
COUNT = 16


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    sweeps = Sweeps(tmp_path_factory.mktemp("undisturbed"))
    sweeps.start(*LONG, "hydra.launcher.n_jobs=1")
    (parent,) = sweeps.parents()
    assert sweeps.statuses(parent) == {"FINISHED": COUNT}
    return sweeps.numbers(parent)


def interrupt(sweeps: Sweeps, how: str, *words: str, after: int) -> None:
    """Start a sweep, and end it by a signal once some of its runs are finished."""
    line = [sys.executable, "-m", "bpexp", "-m", *words]
    process = subprocess.Popen(
        line, cwd=sweeps.folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    before = len(sweeps.parents()) if sweeps.file.exists() else 0
    try:
        wait_for(process, lambda: sweeps.file.exists() and len(sweeps.parents()) > before)
        wait_for(process, lambda: sweeps.statuses(sweeps.parents()[-1])["FINISHED"] >= after)
        process.send_signal(signal.Signals[how])
        _, errors = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert (process.returncode, lines(errors)) == ((143, []) if how == "SIGTERM" else (130, ["bpexp: interrupted"]))


def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.parametrize(("how", "n_jobs"), [("SIGINT", 1), ("SIGTERM", 2)])
def test_only_the_missing_runs_of_an_interrupted_sweep_are_run(tmp_path: Path, undisturbed: dict[str, object], how: str, n_jobs: int) -> None:
    sweeps, words = Sweeps(tmp_path), (*LONG, f"hydra.launcher.n_jobs={n_jobs}")
    interrupt(sweeps, how, *words, after=3)
    (killed,) = sweeps.parents()
    done = sweeps.statuses(killed)["FINISHED"]
    assert 3 <= done < COUNT
    assert sweeps.statuses(killed)["RUNNING"] == 0

    first, *table = sweeps.start(*words, RESUME)
    assert first == f"resumed: {done} of {COUNT} runs were finished already"
    parent = sweeps.parents()[-1]
    assert sweeps.statuses(parent) == {"FINISHED": COUNT - done}
    assert sweeps.numbers(parent) == undisturbed
    assert len(table) == 1 + COUNT
    assert {line.split()[-1] for line in table[1:]} <= {"stuck", "trained"}
    note = MlflowClient(sweeps.uri).get_run(parent).data.tags["mlflow.note.content"]
    assert note.startswith(f"{COUNT} jobs, {COUNT} runs: depth=2,3 seed=range(0,8) ")
    assert note.count("\n| depth=") == COUNT

    found = bpexp.load_runs("latest", sweeps.uri)
    assert found.sweep_id == parent
    assert list(found.runs["run_id"]) == [run_id for _, run_id in sweeps.jobs(parent)]
    assert list(zip(found.runs["depth"], found.runs["seed"], strict=True)) == [(depth, seed) for depth in (2, 3) for seed in range(8)]
    assert found.curves["run_id"].nunique() == COUNT


def test_interrupted_twice(tmp_path: Path, undisturbed: dict[str, object]) -> None:
    """The second parent that is killed lists what the first one had, what it had itself, and what neither had."""
    sweeps, words = Sweeps(tmp_path), (*LONG, "hydra.launcher.n_jobs=1")
    interrupt(sweeps, "SIGINT", *words, after=2)
    interrupt(sweeps, "SIGTERM", *words, RESUME, after=2)
    first, second = sweeps.parents()
    done = [sweeps.statuses(parent)["FINISHED"] for parent in (first, second)]
    assert min(done) >= 2
    assert sum(done) < COUNT
    client = MlflowClient(sweeps.uri)
    listed = [client.get_run(run_id) if run_id else None for _, run_id in sweeps.jobs(second)]
    assert len(listed) == COUNT
    ended = [entry for entry in listed if entry and entry.info.status == "FINISHED"]
    assert Counter(entry.data.tags["mlflow.parentRunId"] for entry in ended) == {first: done[0], second: done[1]}
    note = client.get_run(second).data.tags["mlflow.note.content"]
    assert note.count("| not started |") == listed.count(None)

    assert sweeps.start(*words, RESUME)[0] == f"resumed: {sum(done)} of {COUNT} runs were finished already"
    assert sweeps.numbers(sweeps.parents()[-1]) == undisturbed


# ---------------------------------------------------------------------------------------------- what counts as finished

SHORT = ("steps=20", *NET)


def test_a_sweep_that_is_finished_launches_nothing(tmp_path: Path) -> None:
    """No run and no worker, which loky's `get_reusable_executor` would start: here it is made to fail."""
    sweeps, words = Sweeps(tmp_path), ("depth=2", "seed=0,1,1", *SHORT)
    once = sweeps.start(*words)
    (tmp_path / "sitecustomize.py").write_text(
        "import joblib.externals.loky as loky\ndef refuse(*_, **__): raise SystemExit('a worker')\nloky.get_reusable_executor = refuse\n"
    )
    refused = environment(PYTHONPATH=os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]]))

    def ended(*more: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "bpexp", "-m", *words, "hydra.launcher.n_jobs=2", *more]
        return subprocess.run(line, cwd=tmp_path, env=refused, capture_output=True, text=True, check=False, timeout=120)

    resumed = ended(RESUME)
    assert (resumed.returncode, resumed.stderr) == (0, "")
    first, *table = lines(resumed.stdout)[:-2]
    assert first == "resumed: 2 of 2 runs were finished already"
    assert table == once
    old, new = sweeps.parents()
    assert sweeps.statuses(new) == {}
    assert sweeps.jobs(new) == sweeps.jobs(old)
    assert len(list(tmp_path.glob("multirun/*/*/[0-9]*"))) == 2  # no folder of a job but those of the first sweep
    assert "a worker" in ended().stderr  # what is run again would start some


def test_a_diverged_run_is_finished_and_a_failed_one_is_not(tmp_path: Path) -> None:
    sweeps = Sweeps(tmp_path)
    words = ("lr=1e6,0.01,0.02", "depth=3", "activation=linear", "output=linear", *SHORT, "hydra/launcher=basic")
    table = sweeps.start(*words)
    assert table[1].split()[-1] == "diverged"
    ids = [run_id for _, run_id in sweeps.jobs(sweeps.parents()[0])]
    query(sweeps.file, "update runs set status = 'FAILED' where run_uuid = ?", ids[1])
    first, *again = sweeps.start(*words, RESUME)
    assert first == "resumed: 2 of 3 runs were finished already"
    assert again == table
    listed = [run_id for _, run_id in sweeps.jobs(sweeps.parents()[-1])]
    assert [new == old for new, old in zip(listed, ids, strict=True)] == [True, False, True]


def test_a_larger_sweep_names_the_runs_it_finds_as_its_own(tmp_path: Path) -> None:
    """They were filed by a sweep in which something else was special; there they stay."""
    sweeps = Sweeps(tmp_path)
    sweeps.start("lr=1,2", "depth=2", *SHORT)
    first, _, *rows = sweeps.start("lr=1,2", "depth=2", "seed=1,0", *SHORT, RESUME)
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
    net = ("activation=linear", "output=linear", "depth=2", "steps=60", *NET)
    sweeps, alone = Sweeps(tmp_path / "a"), Sweeps(tmp_path / "b")
    for folder in (sweeps.folder, alone.folder):
        folder.mkdir()
    words = ("lr=1e6,0.03,1e-5", "seed=5,0,1", *net, "hydra.sweeper.tune=lr")
    expected = alone.start(*words)
    sweeps.start("lr=0.03,1e6", "seed=5", *net)
    sweeps.start("lr=1e-5,0.03", "seed=0", *net)
    first, second, *table = sweeps.start(*words, RESUME)
    assert first == "resumed: 2 of 3 runs were finished already"
    assert second == "resumed: 1 of 2 runs were finished already"
    assert table == expected
    assert sweeps.numbers(sweeps.parents()[-1]) == alone.numbers(alone.parents()[0])
    first, second, *table = sweeps.start(*words, RESUME)
    assert (first, second) == ("resumed: 3 of 3 runs were finished already", "resumed: 2 of 2 runs were finished already")
    assert table == expected


def test_resume_is_true_or_false(tmp_path: Path) -> None:
    refused = command(tmp_path, "-m", "seed=0,-1", "hydra.sweeper.resume=maybe")
    assert refused.returncode == 2
    assert sorted(lines(refused.stderr)) == [
        "bpexp: hydra.sweeper.resume=maybe: must be true or false",
        "bpexp: seed=-1: must be a whole number, at least 0, at most 9,223,372,036,854,775,807",
    ]
    assert list(tmp_path.iterdir()) == []


def test_runs_of_other_numerics_are_told_of(tmp_path: Path) -> None:
    sweeps, words = Sweeps(tmp_path), ("depth=2", "seed=0,1", *SHORT)
    sweeps.start(*words)
    query(sweeps.file, "update tags set value = 'an abacus' where key = 'bpexp.numerics'")
    ended = command(tmp_path, "-m", *words, RESUME)
    assert ended.returncode == 0
    (line,) = lines(ended.stderr)
    assert line.startswith(f"bpexp: some finished runs were computed with an abacus; here it is core {NUMERICS}; numpy {np.__version__}; ")


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


def test_the_newest_finished_run_of_each_fingerprint(kept: tuple[Store, dict[str, list[str]]], way: str) -> None:
    store, ids = kept
    assert (Database.of(store.client) is None) == (way == "client")
    found = finished(store, fingerprints(0, 1, 2, 3, 4, 5))
    assert {key: it.run.run_id for key, it in found.items()} == {
        fingerprints(0).pop(): ids["same"][1],
        fingerprints(1).pop(): ids["other"][0],
    }
    assert finished(store, fingerprints(2, 3, 4)) == finished(store, set()) == {}
    records = bpexp.train(RunConfig(depth=2, width=3, steps=3, seed=1))
    (other,) = finished(store, fingerprints(1)).values()
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
