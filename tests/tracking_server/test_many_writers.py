"""Eight processes train into one store in PostgreSQL, with a server on top and without one, while these are stopped and started.

What is there in the end is what the same sweep leaves in a SQLite file when nothing happens to it: every run, every point and every file, once.
"""

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from mlflow import MlflowClient

from bpexp.sync import main as sync
from bpexp.tracking.store import connect
from tests.postgres import PASSWORD, Postgres
from tests.served import serving
from tests.sweeps import Command, Sweeps, Tracked
from tests.test_claims import compete

pytestmark = pytest.mark.services

WRITERS, COUNT = 8, 16
SWEEP = (
    "-m",
    "depth=3",
    "width=16", "batch_size=8", "steps=8000", "probe_points=6", "optimizer=momentum", "lr=0.1", "data=synthetic",
)  # fmt: skip
ALONE = "hydra.launcher.max_runs=1"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    sweeps = Sweeps(tmp_path_factory.mktemp("undisturbed"))
    done = sweeps.run(*SWEEP, f"seed=range(0,{COUNT})", "hydra.launcher.n_jobs=1")
    assert (done.code, done.err) == (0, "")
    return sweeps.numbers(*sweeps.parents())


def waiting(sweeps: Tracked) -> list[Path]:
    return sorted(sweeps.folder.glob(".bpexp/*/spool/[!.]*"))


def disturb(sweeps: Tracked, sweep: Command, stop: Callable[[], object], start: Callable[[], object]) -> None:
    """Once another run has ended the store goes away, until another one has ended and waits for it."""
    ended = sweeps.finished()
    sweep.wait_for(lambda: sweeps.finished() > ended)
    before = {*waiting(sweeps)}
    stop()
    sweep.wait_for(lambda: {*waiting(sweeps)} - before)
    start()


def check(sweeps: Tracked, sweep: Command, undisturbed: dict[str, object]) -> None:
    done = sweep.done()
    assert done.code == 0, done
    assert "Traceback" not in done.out + done.err
    if late := len(waiting(sweeps)):  # it was over before the store was back
        assert sync([f"uri={sweeps.uri}", f"folder={sweeps.folder}/.bpexp"]) == 0
    (parent,) = sweeps.parents()
    assert sweeps.status(parent) == "FINISHED", done
    count = len(undisturbed)
    assert sweeps.statuses(parent) == {"FINISHED": count}
    assert len(sweeps.nets()) == len(sweeps.table(parent)) == count
    assert sweeps.twice() == []
    assert waiting(sweeps) == sweeps.checkpoints() == []
    found = sweeps.numbers(parent)
    assert found.keys() == undisturbed.keys()
    assert [words for words, left in found.items() if left != undisturbed[words]] == []
    print(f"of {count} runs {done.err.count('points that waited are sent')} waited for the store until the sweep's end, {late} files until later")


def test_a_server_whose_database_goes_away_and_which_is_killed_then(database: Postgres, tmp_path: Path, undisturbed: dict[str, object]) -> None:
    with serving(tmp_path / "server", database.add("served")) as server:
        sweeps = Tracked(tmp_path / "typed", server.uri, partial(database.query, "served"))
        sweep = sweeps.start(*SWEEP, f"seed=range(0,{COUNT})", f"hydra.launcher.n_jobs={WRITERS}", ALONE)
        try:
            disturb(sweeps, sweep, lambda: database.stop("fast"), database.start)
            disturb(sweeps, sweep, lambda: server.end(signal.SIGKILL), server.start)
            check(sweeps, sweep, undisturbed)
        finally:
            sweep.end()
        for run_id in [*sweeps.nets(), *sweeps.parents()]:
            assert MlflowClient(server.uri).get_run(run_id).info.artifact_uri.startswith("mlflow-artifacts:/")
        left = {path.relative_to(sweeps.folder) for path in sweeps.folder.rglob("*") if path.is_file()}
        ours, hydras = ({path for path in left if path.parts[0] == name} for name in (".bpexp", "multirun"))
        assert left == ours | hydras
        assert {path.name for path in ours} == {"store.json", ".lock"}
        assert {path.suffix for path in hydras} == {".yaml"}


def test_a_database_without_a_server_that_crashes(database: Postgres, tmp_path: Path, undisturbed: dict[str, object]) -> None:
    sweeps = Tracked(tmp_path / "typed", database.add("direct"), partial(database.query, "direct"), PGPASSWORD=PASSWORD)
    connect(sweeps.uri, "bpexp")  # there are tables to look at
    seeds = 9
    sweep = sweeps.start(*SWEEP, f"seed=range(0,{seeds})", "hydra.launcher.n_jobs=3", ALONE)
    try:
        disturb(sweeps, sweep, lambda: database.stop("immediate"), database.start)
        check(sweeps, sweep, dict([*undisturbed.items()][:seeds]))
    finally:
        sweep.end()


def test_processes_that_start_together_on_an_empty_database(database: Postgres, tmp_path: Path) -> None:
    """One of them makes MLflow's tables; of the runs that all of them claim each is made once."""
    compete(database.add("claimed"), tmp_path, 4, 6, 100, at_once=False, ask=partial(database.query, "claimed"), PGPASSWORD=PASSWORD)
