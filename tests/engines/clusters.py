"""Schedulers and workers of Dask and Ray on loopback, started as docs/how-to/cluster.md says."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.cli import environment
from tests.served import free_port, wait_until

__all__ = ["dask", "dask_worker", "killed", "process", "ray"]

SCRIPTS = Path(sys.executable).parent
RENAMED = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"')  # before a name and a command, which runs on a machine of that name then


@contextmanager
def dask(folder: Path, workers: int) -> Iterator[str]:
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    words = ["--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    with process(folder, "scheduler", "dask", "scheduler", *words) as told:
        wait_until(lambda: "Scheduler at" in told.read_text())
        with dask_worker(folder, address, workers):
            yield address


@contextmanager
def dask_worker(folder: Path, address: str, count: int, host: str = "") -> Iterator[None]:
    """`host`: the name of the machine that these workers are to be on."""
    words = [address, "--nthreads", "1", "--nworkers", str(count), "--no-dashboard"]
    with process(folder, host or "worker", "dask", "worker", *words, host=host) as told:
        wait_until(lambda: told.read_text().count("Registered to") == count)
        yield


@contextmanager
def ray(folder: Path, workers: int) -> Iterator[str]:
    port = free_port()
    words = ["--head", f"--port={port}", "--node-ip-address=127.0.0.1", f"--num-cpus={workers}", "--include-dashboard=false", "--block"]
    with process(folder, "head", "ray", "start", *words) as told:
        wait_until(lambda: "Ray runtime started" in told.read_text())
        yield f"127.0.0.1:{port}"


def killed(folder: Path, name: str) -> None:
    """Kill a process that runs in a folder."""
    os.killpg(int((folder / f"{name}.pid").read_text()), signal.SIGKILL)


@contextmanager
def process(folder: Path, name: str, command: str, *words: str, host: str = "") -> Iterator[Path]:
    """A command of this environment in a session of its own, and the file of what it prints."""
    folder.mkdir(exist_ok=True)
    told = folder / f"{name}.txt"
    with told.open("w") as file:
        line: Sequence[str] = [*((*RENAMED, host) if host else ()), str(SCRIPTS / command), *words]
        process = subprocess.Popen(line, cwd=folder, env=environment(RAY_USAGE_STATS_ENABLED="0"), stdout=file, stderr=file, start_new_session=True)
    (folder / f"{name}.pid").write_text(str(process.pid))
    try:
        yield told
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
