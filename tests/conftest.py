"""What several files of tests share."""

from collections.abc import Iterator

import pytest

from bpexp.tracking.store import Store, connect, resolve
from tests.proxy import Proxy
from tests.served import Server, serving


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
