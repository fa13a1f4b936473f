"""What the page on clusters tells readers to type works: schedulers and workers run while the commands that use them do."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli import command
from tests.docs.fences import Command, commands
from tests.docs.test_commands import SMALL, look_at_pip
from tests.engines.clusters import process
from tests.served import free_port, wait_until
from tests.sweeps import empty_store

pytestmark = pytest.mark.engines

PAGE = "docs/how-to/cluster.md"
PORT = re.compile("8786|6379")
PORTS = {"8786": str(free_port()), "6379": str(free_port())}  # the page's are perhaps taken
ALL = [it for it in commands() if it.page == PAGE]
STAYS: dict[tuple[str, ...], str] = {
    ("dask", "scheduler"): "Scheduler at",
    ("dask", "worker"): "Registered to",
    ("ray", "start"): "Ray runtime started",
}  # and what it says then
MORE: dict[tuple[str, ...], tuple[str, ...]] = {("ray", "start"): ("--include-dashboard=false", "--block")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where all of it is typed, in the order of the page."""
    folder = tmp_path_factory.mktemp("typed")
    (folder / "mlflow.db").write_bytes(empty_store())
    with ExitStack() as services:
        for it in ALL:
            words = tuple(free(it.words))
            if (says := STAYS.get(words[:2])) is not None:
                told = services.enter_context(process(folder, "-".join(words[:2]), *words, *MORE.get(words[:2], ())))
                wait_until(lambda told=told, says=says: says in told.read_text())  # type: ignore[misc]
        yield folder


def free(words: tuple[str, ...]) -> list[str]:
    """With ports that nobody has."""
    return [PORT.sub(lambda found: PORTS[found[0]], word) for word in words]


@pytest.mark.parametrize("it", [it for it in ALL if it.words[:2] not in STAYS], ids=str)
def test_command(it: Command, folder: Path) -> None:
    if it.words[0] == "pip":
        look_at_pip(it.words[1:])
        return
    assert it.words[:3] == ("python", "-m", "bpexp")
    words = free(it.words[3:])
    given = {word.partition("=")[0] for word in words}
    done = command(folder, *words, *(word for key, word in SMALL.items() if key not in given))
    if "http://tracking:5000" in it.line:  # all of it is right, but for the server that is not there
        assert done.stderr.startswith("bpexp: tracking.uri=http://tracking:5000: must be a store that can be opened")
        return
    assert (done.returncode, done.stderr) == (0, "")
    assert "next:  python -m bpexp.ui" in done.stdout


def test_every_command_is_of_a_known_kind() -> None:
    assert {it.words[0] for it in ALL} == {"pip", "dask", "ray", "python"}
