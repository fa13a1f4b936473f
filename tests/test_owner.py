"""Whether the process lives that trains a run."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bpexp.tracking import owner as module
from bpexp.tracking.owner import HEARTBEAT, OWNER, SILENCE, Owner, alive, marks, owner
from tests.cli import environment

HERE = Owner.parse(owner())
assert HERE is not None


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def of(process: subprocess.Popen[bytes]) -> str:
    """What a process would tell of itself."""
    assert HERE is not None
    return str(replace(HERE, pid=process.pid, started=module._stat(process.pid)[1]))


def test_this_process_lives_and_its_tags_say_who_it_is() -> None:
    told = marks()
    assert told[OWNER] == owner() == str(HERE)
    assert f"pid={os.getpid()} " in told[OWNER]
    assert datetime.now(UTC) - datetime.fromisoformat(told[HEARTBEAT]) < timedelta(minutes=1)
    assert alive(told[OWNER], told[HEARTBEAT])
    assert alive(told[OWNER], None)  # here the system knows


def test_a_process_lives_until_it_ends(sleeper: subprocess.Popen[bytes]) -> None:
    told = of(sleeper)
    assert alive(told, ago(10 * SILENCE))
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{sleeper.pid}").exists() or sys.platform != "linux"  # a zombie: nobody has asked for its end
    assert not alive(told, ago(0))
    sleeper.wait()
    assert not alive(told, ago(0))


@pytest.mark.skipif(not HERE.started, reason="the system does not tell when a process started")
def test_a_number_that_has_a_new_holder(sleeper: subprocess.Popen[bytes]) -> None:
    it = Owner.parse(of(sleeper))
    assert it is not None
    assert alive(str(it), None)
    assert not alive(str(replace(it, started=str(int(it.started) - 1))), ago(0))
    assert not alive(str(replace(it, boot="before")), ago(0))


@pytest.mark.parametrize(
    "told",
    [replace(HERE, host="elsewhere"), replace(HERE, space="1"), "", "nonsense", "host=x pid=many", "a=b"],
    ids=["another machine", "another container", "nobody", "nonsense", "half of one", "something else"],
)
def test_of_others_only_their_silence_tells(told: object) -> None:
    """Those of another machine, or container, whatever their numbers; and what names no process."""
    assert alive(str(told), ago(SILENCE - 30))
    assert not alive(str(told), ago(SILENCE + 30))
    for heartbeat in (None, "", "yesterday", "2026-01-01T00:00:00"):
        assert not alive(str(told), heartbeat)


def test_a_forked_process_is_another() -> None:
    code = """if True:
        import os
        from bpexp.tracking.owner import alive, owner
        before = owner()
        if os.fork() == 0:
            assert owner() != before and f"pid={os.getpid()} " in owner() and alive(before, None)
            os._exit(0)
        assert owner() == before and os.wait()[1] == 0
    """
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)


def test_where_the_system_tells_little(sleeper: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether there is a process of that number."""
    monkeypatch.setattr(module, "PROC", tmp_path)
    here = Owner.parse(owner())
    assert here == Owner(str(HERE and HERE.host), "", "", os.getpid(), "")
    assert alive(str(here), None)
    told = str(replace(here, pid=sleeper.pid))
    assert alive(told, None)
    sleeper.kill()
    sleeper.wait()
    assert not alive(told, ago(0))
    assert alive(str(replace(here, pid=1)), None)  # another user's, mostly
