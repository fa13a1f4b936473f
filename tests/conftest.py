"""What several files of tests share."""

import pytest

from bpexp.tracking.store import Store, connect, resolve


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # where MLflow puts the artifacts
        return connect(resolve(None, folder), "bpexp")
