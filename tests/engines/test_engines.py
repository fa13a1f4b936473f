"""Each engine trains the same sweep, undisturbed and with a worker killed: the same numbers, each once."""

import os
import signal
import time
from pathlib import Path

import pytest

from bpexp.tracking.owner import OWNER
from tests.engines.sweep import ENGINES, SWEEP, Numbers, caught, owners, pid, run, whole
from tests.sweeps import Sweeps

pytestmark = pytest.mark.engines


@pytest.mark.parametrize("engine", ENGINES)
def test_the_numbers_are_the_same(tmp_path: Path, engine: str, expected: Numbers) -> None:
    sweeps = Sweeps(tmp_path)
    start = time.monotonic()
    done = run(sweeps, *SWEEP, *ENGINES[engine])
    print(f"{engine}: {time.monotonic() - start:.1f} s")
    whole(sweeps, done, expected)
    assert len(owners(sweeps, "FINISHED")) >= 2


@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_worker_s_stack_is_trained_by_another(tmp_path: Path, engine: str, expected: Numbers) -> None:
    sweeps = Sweeps(tmp_path)
    start = time.monotonic()
    with sweeps.start(*SWEEP, *ENGINES[engine]) as command:
        victim, cut_off = caught(sweeps, command)
        os.kill(pid(victim), signal.SIGKILL)
        done = command.done()
    print(f"{engine}: {time.monotonic() - start:.1f} s")
    whole(sweeps, done, expected)
    assert victim not in [sweeps.tag(net, OWNER) for net in cut_off]
