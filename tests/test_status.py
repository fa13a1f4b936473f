"""`python -m bpexp.status` of a sweep that holds all that may become of a job."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bpexp import status
from bpexp.config import RunConfig, TrackingConfig
from bpexp.experiment import Run, prepare, run
from bpexp.tracking.parent import Planned, SweepRun
from bpexp.tracking.sink import MlflowSink
from bpexp.tracking.store import connect
from tests.sweeps import FORKS

NET = RunConfig(depth=2, width=3, steps=3)
SEEDS = {name: seed for seed, name in enumerate(("fine", "spoilt", "stopped", "going", "gone", "never"))}
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"


def net(name: str, parent: str | None = None, **more: float) -> Run:
    config = replace(NET, seed=SEEDS[name], tracking=TrackingConfig(run_name=name, parent=parent))
    return prepare(replace(config, **more) if more else config)  # type: ignore[arg-type]


def leave_open(uri: str, parent: str) -> None:
    """What a process leaves that is killed."""
    MlflowSink(connect(uri, "bpexp")).open(net("gone", parent))
    os._exit(9)


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = status.main(words)
    captured = capsys.readouterr()
    assert captured.err == ""
    return code, captured.out


def test_all_that_may_become_of_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)  # where MLflow puts the artifacts
    uri = f"sqlite:///{tmp_path}/runs.db"
    store = connect(uri, "bpexp")
    wild = RunConfig(depth=3, width=3, steps=30, lr=1e9, activation="linear", output="linear")
    names: dict[str, Callable[[str | None], Run]] = {name: lambda parent, name=name: net(name, parent) for name in SEEDS}  # type: ignore[misc]
    names["wild"] = lambda parent: prepare(replace(wild, tracking=TrackingConfig(run_name="wild", parent=parent)))
    jobs = [Planned([f"seed={name}"], make(None).fingerprint, name) for name, make in names.items()]
    sweep = SweepRun(store, "depth=2 seed=range(0,7)", {"seed": "range(0,7)"}, jobs)

    def opened(name: str) -> MlflowSink:
        sink = MlflowSink(store)
        sink.open(names[name](sweep.run_id))
        return sink

    for name in ("fine", "wild"):
        run(names[name](sweep.run_id), MlflowSink(store))
    opened("spoilt").abort(OSError("no such thing"))
    opened("stopped").abort(KeyboardInterrupt())
    opened("going")
    killed = FORKS.Process(target=leave_open, args=(uri, sweep.run_id))
    killed.start()
    killed.join()
    assert killed.exitcode == 9

    code, out = told(capsys, f"uri={uri}")
    assert code == 1
    head, _, *table = out.splitlines()
    assert head == "depth=2 seed=range(0,7): running"
    states = dict(re.split(" {2,}", line, maxsplit=1) for line in table[: len(names)])
    for name, state in {
        "fine": "stuck",
        "wild": "diverged",
        "spoilt": "failed: OSError: no such thing",
        "stopped": "interrupted",
        "going": f"running: since {TIME}",
        "gone": f"dead: last heard of {TIME}",
        "never": "missing",
    }.items():
        assert re.fullmatch(state, states[name].strip()), (name, states[name])
    counts = "7 in all: 1 stuck, 1 failed, 1 interrupted, 1 running, 1 dead, 1 missing, 1 diverged"
    assert counts in out
    assert "resume:" not in out  # it goes on
