"""Whole sweeps whose server is not there, goes away or does not answer."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli import environment, lines, query
from tests.proxy import Fault, Proxy
from tests.served import Server
from tests.sweeps import Command

HERE = "hydra.launcher.n_jobs=1"
RUNS = """select run_uuid, status, kind.value from runs join experiments using (experiment_id) join tags kind using (run_uuid)
    where experiments.name = ? and runs.lifecycle_stage = 'active' and kind.key = 'bpexp.kind' order by start_time"""
LAST = "select count(*), count(distinct key || ' ' || step), max(step) from metrics where run_uuid = ?"


def typed(folder: Path, *words: str, module: str = "bpexp", uri: str | None = None) -> subprocess.CompletedProcess[str]:
    """A command, with MLFLOW_TRACKING_URI where there is a `uri`."""
    line = [sys.executable, "-m", module, *words]
    told = environment(**({} if uri is None else {"MLFLOW_TRACKING_URI": uri}))
    return subprocess.run(line, cwd=folder, env=told, capture_output=True, text=True, check=False, timeout=240)


def nets(server: Server, experiment: str) -> list[str]:
    """The runs of an experiment with one sweep that is over, every one of them finished."""
    found = query(server.database, RUNS, experiment)
    assert {status for _, status, _ in found} == {"FINISHED"}
    assert [kind for *_, kind in found].count("sweep") == 1
    return [run_id for run_id, _, kind in found if kind == "run"]


def stored(server: Server, runs: list[str], steps: int) -> int:
    """How many points the runs have, none of them twice, up to their last step."""
    points = 0
    for run_id in runs:
        ((count, distinct, last),) = query(server.database, LAST, run_id)
        assert (count, last) == (distinct, steps)
        points += count
    return points


def spooled(folder: Path, kind: str) -> list[Path]:
    return sorted(folder.glob(f".bpexp/*/spool/*.{kind}"))


@pytest.mark.soak  # its parts, in one process: tests/test_sync.py
def test_a_sweep_whose_server_was_never_there(server: Server, proxy: Proxy, tmp_path: Path) -> None:
    """Refused; done offline, twice; filed once, by who knows the secret; found finished by the same sweep online."""
    words = ["-m", "depth=2,3", "seed=0,1", "width=4", "steps=20", "tracking.experiment=never", HERE]
    secret = f"http://me:verysecret@127.0.0.1:{proxy.port}"
    proxy.refuse()
    refused = typed(tmp_path, *words, uri=secret)
    (line,) = lines(refused.stderr)
    assert line.startswith(f"bpexp: tracking.uri=http://***@127.0.0.1:{proxy.port}: must be a store that can be opened (")
    assert line.endswith("Connection refused; offline=true trains without it)")
    assert (refused.returncode, refused.stdout, list(tmp_path.iterdir())) == (2, "", [])

    offline = typed(tmp_path, *words, "offline=true", uri=secret)
    assert offline.returncode == 0, offline.stderr
    assert "4 runs wait in " in offline.stderr
    before = {path: path.read_bytes() for path in spooled(tmp_path, "run")}
    assert len(before) == 4
    again = typed(tmp_path, *words, "offline=true", uri=secret)
    assert again.returncode == 0, again.stderr
    assert {path: path.read_bytes() for path in spooled(tmp_path, "run")} == before
    assert not any(b"verysecret" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())

    proxy.accept()
    start = time.monotonic()
    masked = typed(tmp_path, module="bpexp.sync")
    assert masked.returncode == 1
    assert masked.stderr.endswith("; its URI holds a secret: say uri=…, or set MLFLOW_TRACKING_URI\n")
    sent = typed(tmp_path, module="bpexp.sync", uri=secret)
    assert (sent.returncode, sent.stderr) == (0, "")
    assert typed(tmp_path, module="bpexp.sync", uri=secret).stdout == "nothing waits\n"
    counts = [int(number.replace(",", "")) for number in re.findall(r": ([\d,]+) points sent", sent.stdout)]
    runs = nets(server, "never")
    found = stored(server, runs, 20)
    assert (len(counts), sum(counts)) == (len(runs), found) == (4, found)
    print(f"{sum(counts)} points sent, {found} found, {time.monotonic() - start:.1f} s with all commands")

    online = typed(tmp_path, *words, uri=secret)
    assert online.returncode == 0, online.stderr
    assert "resumed: 4 of 4 runs were finished already" in online.stdout
    assert nets(server, "never") == runs
    assert stored(server, runs, 20) == found


def test_a_sweep_whose_server_goes_away_and_is_back_at_the_next_start(server: Server, proxy: Proxy, tmp_path: Path) -> None:
    """It trains to its end; started again, it sends what waits and trains nothing."""
    steps = 10_000
    words = ["depth=2,3", "seed=0,1", "width=8", f"steps={steps}", "tracking.experiment=away", f"tracking.uri={proxy.uri}", HERE]
    process = Command(tmp_path, "-m", *words)
    try:
        process.wait_for(lambda: any(kind == "run" for *_, kind in query(server.database, RUNS, "away")))
        proxy.refuse()
        code, errors = process.done().code, process.done().err
    finally:
        process.end()
    assert code == 0, errors
    assert "4 runs wait in " in errors
    assert "Connection refused" in errors
    assert len(spooled(tmp_path, "run")) == 4
    proxy.accept()
    again = typed(tmp_path, "-m", *words)
    assert again.returncode == 0, again.stderr
    assert "resumed: 4 of 4 runs were finished already" in again.stdout
    counts = [int(number.replace(",", "")) for number in re.findall(r": ([\d,]+) points that waited are sent", again.stderr)]
    runs = nets(server, "away")
    found = stored(server, runs, steps)
    assert (len(counts), sum(counts)) == (len(runs), found) == (4, found)
    assert spooled(tmp_path, "run") == spooled(tmp_path, "sweep") == []
    print(f"{sum(counts)} points sent, {found} found")


@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.soak), 2])
def test_an_interruption_of_a_sweep_whose_server_hangs(server: Server, proxy: Proxy, tmp_path: Path, processes: int) -> None:
    """It ends soon, and what there is to tell waits."""
    experiment = f"hangs with {processes}"
    words = ["depth=2,3", "seed=0,1", "width=8", "steps=10_000_000", f"tracking.experiment={experiment}", f"tracking.uri={proxy.uri}"]
    words += ["tracking.checkpoint_seconds=0.5", f"hydra.launcher.n_jobs={processes}"]
    process = Command(tmp_path, "-m", *words)
    try:
        process.wait_for(lambda: sum(kind == "run" for *_, kind in query(server.database, RUNS, experiment)) >= 2)
        process.wait_for(lambda: len({path.parent for path in tmp_path.glob(".bpexp/*/checkpoints/*/*.ckpt")}) >= 2 * processes)  # they train
        proxy.add(Fault(times=1000, stall=True))
        process.wait_for(lambda: bool(proxy.met))
        done, seconds = process.signalled(signal.SIGINT)
    finally:
        process.end()
    print(f"interrupted with {processes} processes: ended after {seconds:.1f} s")
    assert done.code == 130, done.err
    assert seconds < 10
    assert len(spooled(tmp_path, "run")) >= 2
    assert len(spooled(tmp_path, "sweep")) == 1
    assert sorted(tmp_path.glob(".bpexp/*/checkpoints/*/*"))
