"""What several files of tests share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from bpexp.tracking import store as stores
from bpexp.tracking.store import Store, connect, resolve
from tests.proxy import Proxy
from tests.served import Server, serving

pytest.register_assert_rewrite("tests.sweeps", "tests.engines.sweep")  # so that what they find wrong is told as in a test


@pytest.fixture(scope="session", autouse=True)
def _tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """MLflow takes seconds to make its tables: where this process would make a database, it copies one that MLflow has made for all tests.

    Processes that a test starts make theirs themselves.
    """
    ours = tmp_path_factory.getbasetemp()
    made = (ours.parent if ours.name.startswith("popen-") else ours) / "made.db"  # one for all processes that run tests
    make = stores._create

    def copy(database: Path) -> None:
        with FileLock(f"{made}.lock"):
            if not made.exists():
                make(made)
        unfinished = database.with_name(f".{database.name}.unfinished")
        shutil.copyfile(made, unfinished)
        unfinished.replace(database)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "_create", copy)
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # where MLflow puts the artifacts
        return connect(resolve(None, folder), "bpexp")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    proxy = Proxy(server.port)
    yield proxy
    proxy.heal()
    if proxy.server is not None:
        proxy.refuse()
