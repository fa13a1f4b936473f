"""What a terminal shows while a sweep trains: the lines, the news that they are made of, and a command in a terminal of its own."""

import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from dataclasses import replace
from fcntl import ioctl
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import pytest

from bpexp.config import RunConfig
from bpexp.experiment import NullSink, prepare, run_stack
from bpexp.sweep import live
from bpexp.sweep.carry import Job, Outcome, Where
from bpexp.sweep.news import News, Profile, Reporter, binned
from bpexp.sweep.view import Expected, View
from bpexp.sweep.worker import _teller
from bpexp.sweep.workers import Processes
from bpexp.tracking.notes import Ended
from tests.cli import environment
from tests.sweeps import Sweeps

PROFILE = Profile(0, 40, 50, tuple(np.linspace(-30, -1, 50)), -30.0, -1.0)
SUMMARY = {"final_loss": 0.45, "final_accuracy_test": 0.1, "delta_decades_per_layer": 0.62}


def runs(count: int = 6) -> dict[int, Expected]:
    return {number: Expected(f"depth=50 width=64 seed={number}", 1.0 + number) for number in range(count)}


def outcome(number: int, became: str = "stuck") -> Outcome:
    return Outcome(number, Ended(f"id{number}", f"run {number}", became, SUMMARY))


def shown(view: View, width: int = 100, height: int = 30) -> list[str]:
    lines = view.lines(width, height)
    assert len(lines) <= height
    assert all(line.cell_len <= width for line in lines)
    return [line.plain.rstrip() for line in lines]


@pytest.fixture
def view() -> View:
    view = View(runs())
    view.news(News((0, 1), 50, 100, PROFILE))
    view.news(News((2, 3), 0, 100, replace(PROFILE, number=2, step=0)))
    view.ends([outcome(4, "diverged"), outcome(5)])
    return view


def test_lines_tell_how_far_all_is_what_trains_a_profile_and_the_newest_outcomes(view: View) -> None:
    whole, first, second, head, profile, empty, title, newest, oldest = shown(view)
    assert whole.startswith("2 of 6 runs ")
    assert " 60%  0:0" in whole  # of 21 seconds of work, 1.5 of the first stack and 11 of two runs: steps weigh what they take
    assert (first.split()[:3], first.split()[-1]) == (["2", "runs", "━" * 20 + "─" * 20], "50/100")
    assert (second.split()[-1], empty) == ("0/100", "")
    assert head == "log10 ‖dL/dW‖, layers 1 … 50 (seed=2, step 0)"
    assert re.fullmatch(r"  -30\.0 ▁+▂+▃+▄+▅+▆+▇+█+ -1\.0", profile)
    assert len(profile.split()[1]) == 50
    assert title.split() == ["run", "loss", "accuracy", "decades", "outcome"]
    assert newest.split() == ["seed=5", "0.4500", "10.0%", "0.620", "stuck"]
    assert oldest.split() == ["seed=4", "0.4500", "10.0%", "0.620", "diverged"]


def test_an_outcome_has_the_colour_of_the_last_table(view: View) -> None:
    assert [str(line.style) for line in view.lines(100, 30)[-2:]] == ["yellow", "red"]


@pytest.mark.parametrize("height", range(1, 12))
@pytest.mark.parametrize("width", [1, 20, 40, 60, 200])
def test_a_small_screen_has_room_for_it(view: View, width: int, height: int) -> None:
    assert shown(view, width, height)
    if width >= 40:
        assert shown(view, width, height)[0].startswith("2 of 6 runs ")


def test_of_many_processes_the_last_are_counted() -> None:
    view = View(runs(40))
    for number in range(40):
        view.news(News((number,), 1, 2, PROFILE))
    assert shown(view, height=6)[3:5] == ["  and 38 more", "log10 ‖dL/dW‖, layers 1 … 50 (seed=0, step 40)"]


def test_a_stack_that_is_taken_apart_is_shown_in_its_parts(view: View) -> None:
    view.news(News((0,), 60, 100, PROFILE))
    assert list(view.training) == [(2, 3), (0,)]


def test_the_time_that_is_left_counts_the_work_of_this_session_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    view = View({0: Expected("a", 10.0), 1: Expected("b", 10.0)})
    view.ends([replace(outcome(1), found=True)])
    view.news(News((0,), 50, 100, None))  # from a checkpoint
    now += 10.0
    assert "to go" not in shown(view)[0]
    view.news(News((0,), 60, 100, None))
    assert shown(view)[0].endswith(" 80%  0:10, 0:40 to go")


def test_what_is_not_finite_is_a_dot() -> None:
    view = View(runs(1), lone=True)
    view.news(News((0,), 1, 2, Profile(0, 1, 4, (-np.inf, -2.0, -1.0, np.nan), -np.inf, np.nan)))
    assert shown(view)[-1] == "  -inf ·▁█· –"


def test_layers_in_groups_have_their_mean() -> None:
    values = np.arange(10.0)
    assert binned(values, 10) is values
    assert binned(values, 5).tolist() == [0.5, 2.5, 4.5, 6.5, 8.5]
    assert binned(values, 3).tolist() == [1.0, 4.0, 7.5]


def test_a_reporter_tells_of_the_first_step_the_last_one_and_seldom_between() -> None:
    told: list[News] = []
    net = RunConfig(depth=4, width=4, activation="linear", output="linear", steps=300, batch_size=4, probe_points=5)
    stack = [prepare(replace(net, lr=lr)) for lr in (1e30, 0.001)]
    reporter = Reporter([7, 9], told.append)
    start = time.monotonic()
    records = run_stack(stack, [NullSink()] * 2, reporter)
    assert records[0].outcome == "diverged"
    assert [told[0].step, told[-1].step, told[-1].steps] == [0, 300, 300]
    assert len(told) <= 2 + (time.monotonic() - start) / 0.2
    assert {news.numbers for news in told} == {(7, 9)}
    last = told[-1].profile
    assert last is not None
    assert (last.number, last.step, last.depth) == (9, 300, 4)  # the other one has diverged
    assert list(last.cells) == records[1].profile("log10_grad_norm", 300).tolist()
    assert (last.first, last.last) == (last.cells[0], last.cells[-1])


def test_a_worker_waits_for_nobody_to_listen() -> None:
    ours, theirs = Pipe()
    tell, sent = _teller(theirs), News(tuple(range(64)), 1, 2, PROFILE)
    for _ in range(2000):  # more than a pipe holds
        tell(sent)
    assert ours.recv() == sent
    ours.close()
    tell(sent)


def test_nothing_is_drawn_and_nothing_fails_where_nothing_is_watched(capsys: pytest.CaptureFixture[str]) -> None:
    live.news(News((0,), 1, 2, PROFILE))
    live.ends([outcome(0)])
    with live.watching(runs()):
        live.news(News((0,), 1, 2, PROFILE))
        live.ends([outcome(0)])
    assert capsys.readouterr() == ("", "")


# ---------------------------------------------------------------------------------------------- in a terminal


def in_a_terminal(folder: Path, *words: str, width: int = 90, height: int = 20) -> str:
    """What `python -m bpexp words…` writes to its terminal."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    told = {key: value for key, value in environment(TERM="xterm-256color", NO_COLOR="1").items() if key not in ("COLUMNS", "LINES")}
    line, pieces = [sys.executable, "-m", "bpexp", *words], []
    with subprocess.Popen(line, cwd=folder, env=told, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        try:
            with suppress(OSError):  # how a terminal ends whose last process is gone
                while piece := os.read(ours, 65536):
                    pieces.append(piece)
        finally:
            process.kill()
            os.close(ours)
    return b"".join(pieces).decode()


def _too_late(*_: object) -> None:
    raise TimeoutError


def test_a_process_that_dies_while_a_terminal_is_drawn_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both of its ends are ready at once, and those of the process in its place have the same numbers."""
    ours, theirs = pty.openpty()
    monkeypatch.setenv("TERM", "xterm-256color")
    with os.fdopen(ours, "rb"), os.fdopen(theirs, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        workers = Processes(1)
        workers.workers[0].process.kill()
        workers.workers[0].process.wait()
        before = signal.signal(signal.SIGALRM, _too_late)
        signal.alarm(60)
        try:
            *_, (done,) = workers.run([[Job(0, RunConfig())]], Where("nowhere://", tmp_path), lambda _: None, lambda _: None)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
            workers.stop(gently=False)
    assert "nowhere" in done.failure


SWEEP = ("-m", "depth=6", "lr=0.1,1", "seed=0,1", "width=16", "steps=2500", "hydra.launcher.max_runs=2", "hydra.launcher.n_jobs=2")


def test_a_sweep_in_a_terminal(tmp_path: Path) -> None:
    sweeps = Sweeps(tmp_path)
    written = in_a_terminal(tmp_path, *SWEEP, "-v", sweeps.word)
    assert "of 4 runs" in written
    assert "\x1b[2K" in written  # drawn again and again in one place
    assert re.search(r"  lr=0\.1 × 2|  lr=1 × 2|  seed=[01] × 2", written)
    assert re.search(r"log10 ‖dL/dW‖, layers 1 … 6 \(.*step [\d,]+\)", written)
    assert not re.search(r"\x1b\[[\d;]*3[0-7]m", written)  # no colours
    assert written.rstrip().endswith(f"python -m bpexp.report uri={sweeps.uri}")
    last = written[written.rindex("run  ") :]
    assert len(re.findall(r"depth=6 width=16 lr=(?:0\.1|1) seed=[01] .*(?:stuck|trained)", last)) == 4
    assert len(re.findall(r"bpexp: [1-4] of 4: depth=6 width=16 lr=(?:0\.1|1) seed=[01]: loss", written)) == 4
    assert f"bpexp: store {sweeps.uri}, experiment bpexp" in written.replace("\r\n", "")
    again = sweeps.run(*SWEEP, "-v", sweeps.word)
    assert len(re.findall(r"bpexp: finished before: depth=6 width=16", again.err)) == 4
    assert "\x1b" not in again.err + again.out


@pytest.mark.parametrize(("term", "drawn"), [("xterm", True), ("dumb", False), ("", False)])
def test_a_terminal_that_can_only_print_is_not_drawn_on(term: str, drawn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    monkeypatch.setenv("TERM", term)
    with os.fdopen(theirs, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with live.watching(runs()):
            live.news(News((0,), 1, 2, PROFILE))
            print("said meanwhile", file=sys.stderr)
        print("the end", file=sys.stderr, flush=True)
        written = ""
        while "the end" not in written:
            written += os.read(ours, 65536).decode()
    os.close(ours)
    assert ("\x1b" in written) == drawn
    assert ("0 of 6 runs" in written) == drawn
    assert "said meanwhile" in written
