"""`python -m bpexp.ui`: MLflow's server for this machine alone, which ends with all that it has started."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest

from bpexp.tracking.store import Store
from bpexp.ui import main
from tests.cli import environment
from tests.served import free_port

SECONDS = 90  # for a server to start


def status(port: int, host: str) -> int:
    with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("GET", "/", headers={"Host": host})
        return connection.getresponse().status


@pytest.fixture
def port(store: Store, tmp_path: Path) -> Iterator[tuple[int, "subprocess.Popen[str]"]]:
    number = free_port()
    line = [sys.executable, "-m", "bpexp.ui", f"uri={store.uri}", f"port={number}"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(line, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=log, text=True)
        yield number, process
        process.terminate()
        process.communicate()


def test_it_serves_this_machine_alone_and_ends_whole(port: tuple[int, "subprocess.Popen[str]"], store: Store) -> None:
    number, process = port
    assert process.stdout
    link = f"http://127.0.0.1:{number}/#/experiments/{store.experiment_id}/runs?workflowType=machine_learning\n"
    assert process.stdout.readline() == link
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError):
            if status(number, f"127.0.0.1:{number}") == 200:
                break
        time.sleep(0.2)
    assert status(number, f"127.0.0.1:{number}") == 200
    assert status(number, f"localhost:{number}") == 200
    for host in ("evil.example", f"evil.example:{number}", f"10.0.0.1:{number}"):
        assert status(number, host) == 403
    with socket.socket() as elsewhere:  # of this machine, though all of 127.* is: only one of its addresses listens
        assert elsewhere.connect_ex(("127.0.0.2", number)) != 0
    children = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout
    started = [int(line.split()[0]) for line in children.splitlines() if f"--port {number}" in line]
    assert len(started) >= 2  # the server and its worker
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    for pid in started:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with suppress(SystemExit):
        assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_what_is_refused(tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    absent = f"uri=sqlite:///{tmp_path}/none.db"
    assert refused([absent, f"port={free_port()}"], capsys).startswith(f"bpexp: {absent}: no store of MLflow's there")
    assert refused([f"uri={store.uri}", "experiment=x", f"port={free_port()}"], capsys).startswith("bpexp: experiment=x: no such experiment")
    told = refused(["uri=http://me:hunter2@127.0.0.1:5000", f"port={free_port()}"], capsys)
    assert told == "bpexp: uri=http://***@127.0.0.1:5000: is a server, which has pages of its own\n"
    assert refused(["port=0"], capsys).startswith("bpexp: port=0: must be a whole number, at least 1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        assert refused([f"port={number}"], capsys) == f"bpexp: port={number}: must be free (Address already in use)\n"
    assert not list(tmp_path.iterdir())
