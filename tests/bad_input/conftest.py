"""A store with a sweep of two runs in it, made once; each test spoils a copy."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bad_input.commands import attempt
from tests.cli import query

SWEEP = ("-m", "seed=0,1", "depth=5", "width=4", "steps=5", "hydra.launcher.n_jobs=1", "hydra.sweep.dir=multirun")


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        done = attempt(folder, *SWEEP)
    assert done.code is None, done
    return folder


@pytest.fixture
def copied(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Makes a copy whose runs' files lie in it too; in `tmp_path` it stands alone."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def copied() -> Path:
        folder = tmp_path / "store"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        for table, column in (("runs", "artifact_uri"), ("experiments", "artifact_location")):
            query(folder / "mlflow.db", f"update {table} set {column} = replace({column}, ?, ?)", str(whole), str(folder))
        return folder

    return copied
