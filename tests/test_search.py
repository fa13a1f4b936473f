"""`hydra/sweeper=optuna`: what is asked for, what is told, and that nothing is lost or done twice, whatever ends a command."""

import os
import re
import shlex
import signal
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from mlflow import MlflowClient
from optuna.trial import FrozenTrial, TrialState

import bpexp
from bpexp.config import DataConfig, RunConfig, written
from bpexp.core.normalization import NORMS
from bpexp.sweep.space import Choice, Interval, Range, Space, span
from bpexp.sweep.trials import METRICS, SAMPLERS, Settings, Trials
from bpexp.tracking import owner as owners
from bpexp.tracking.notes import plain
from bpexp.tracking.owner import HEARTBEAT, OWNER
from bpexp.tracking.standing import standing
from tests.bad_input.commands import attempt, refused
from tests.cli import inside, lines, query
from tests.sweeps import Command, Sweeps

SEARCH = ("-m", "hydra/sweeper=optuna")
NET = ("depth=3", "width=4", "activation=tanh", "batch_size=16", "data=synthetic", "hydra.launcher.n_jobs=1")
SPACE = ("lr=tag(log,interval(0.001,10))", "width=range(4,7)", "activation=tanh,relu")
FAIL, COMPLETE = TrialState.FAIL, TrialState.COMPLETE


def settings(**keys: object) -> list[str]:
    return [f"hydra.sweeper.{key}={written(value)}" for key, value in keys.items()]


def searched(sweeps: Sweeps, *words: str, steps: int = 20, code: int = 0) -> list[str]:
    """The lines that a search of small nets, in this process, prints."""
    done = inside(sweeps.folder, *SEARCH, *NET, f"steps={steps}", sweeps.word, *words)
    assert done.returncode == code, done
    return lines(done.stdout + done.stderr)


def study(sweeps: Sweeps) -> optuna.Study:
    storage = f"sqlite:///{sweeps.folder}/optuna.db"
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage)


def trials(sweeps: Sweeps) -> list[FrozenTrial]:
    """Those that were begun."""
    return [it for it in study(sweeps).get_trials() if it.state != TrialState.WAITING]


def told(found: list[FrozenTrial]) -> list[tuple[object, ...]]:
    return [(it.number, it.state, it.params, it.value) for it in found]


# ---------------------------------------------------------------------------------------------- what a search finds


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweeps, list[str]]:
    """A search over the learning rate, and what it prints."""
    sweeps = Sweeps(tmp_path_factory.mktemp("found"))
    return sweeps, searched(sweeps, "lr=tag(log,interval(0.0001,1))", *settings(n_trials=24, batch=6))


def loss(lr: float) -> float:
    config = RunConfig(depth=3, width=4, activation="tanh", batch_size=16, steps=20, lr=lr, data=DataConfig(name="synthetic"))
    return bpexp.train(config).summary["final_loss"]


def test_it_finds_what_is_better_than_where_it_began(found: tuple[Sweeps, list[str]]) -> None:
    begun = trials(found[0])
    values = [float(it.value) for it in begun if it.value is not None]
    assert [it.number for it in begun] == list(range(24))
    assert min(values) < loss(0.001)
    assert np.median(values[12:]) < np.median(values[:12])  # it learns from what it was told
    for it in begun[::5]:
        assert it.value == loss(it.params["lr"])


def test_the_closing_lines_tell_the_best_trial_and_the_command_that_trains_it_alone(found: tuple[Sweeps, list[str]]) -> None:
    sweeps, printed = found
    best = study(sweeps).best_trial
    label, head, command = printed[-1].split(": ")
    assert (label, head) == ("best", f" trial {best.number} of 24, final_loss {best.value:#.4g}")
    assert printed[0].split()[0] == "run"
    assert len(printed) == 1 + 24 + 2 + 1
    python, *words = shlex.split(command)
    assert (python, *words[:2]) == ("python", "-m", "bpexp")
    assert f"lr={best.params['lr']!r}" in words
    alone = inside(sweeps.folder, *words[2:])
    assert lines(alone.stdout)[0] == "this run was finished already; rerun=all runs it again"


def test_the_parent_run_tells_the_search(found: tuple[Sweeps, list[str]]) -> None:
    sweeps, printed = found
    (parent,) = sweeps.parents()
    run = MlflowClient(sweeps.uri).get_run(parent)
    assert run.data.params == {
        "lr": "tag(log,interval(0.0001,1))",
        "hydra/sweeper": "optuna",
        "hydra.sweeper.n_trials": "24",
        "hydra.sweeper.batch": "6",
    }
    assert run.info.status == "FINISHED"
    assert plain(printed[-1]) in run.data.tags["mlflow.note.content"]
    jobs = sweeps.jobs(parent)
    assert [f"lr={it.params['lr']!r}" for it in trials(sweeps)] == [words.split()[-1] for words, _ in jobs]
    assert [it.user_attrs["bpexp.run"] for it in trials(sweeps)] == [run_id for _, run_id in jobs]


def test_metrics_are_those_of_a_summary() -> None:
    assert METRICS.keys() == bpexp.train(RunConfig(depth=5, width=4, steps=1)).summary.keys()


def test_the_direction_is_that_of_the_metric(tmp_path: Path) -> None:
    sweeps = Sweeps(tmp_path)
    searched(sweeps, *SPACE, *settings(n_trials=3, batch=3, metric="final_accuracy_train"))
    assert study(sweeps).direction.name == "MAXIMIZE"
    assert all(0 <= value <= 1 for it in trials(sweeps) if (value := it.value) is not None)


# ---------------------------------------------------------------------------------------------- what is asked for


@pytest.mark.parametrize(("sampler", "more"), [(name, ("hydra.launcher.n_jobs=2",) if name == "tpe" else ()) for name in sorted(SAMPLERS)])
def test_a_seed_fixes_the_trials(tmp_path: Path, sampler: str, more: tuple[str, ...]) -> None:
    """Of each sampler, in one process and in two."""
    drawn: list[list[tuple[object, ...]]] = []
    for number, words in enumerate([(), more]):
        sweeps = Sweeps(tmp_path / str(number))
        searched(sweeps, *SPACE, *settings(n_trials=14, batch=7, sampler=sampler), *words)
        drawn.append(told(trials(sweeps)))
    assert drawn[0] == drawn[1]
    assert len({str(params) for _, _, params, _ in drawn[0]}) == 14


def test_another_seed_draws_other_trials(tmp_path: Path) -> None:
    drawn: list[float] = []
    for seed in (0, 1, None, None):
        sweeps = Sweeps(tmp_path / str(len(drawn)))
        searched(sweeps, *SPACE, *settings(n_trials=1, seed=seed))
        drawn.append(trials(sweeps)[0].params["lr"])
    assert len({*drawn}) == 4


@pytest.mark.parametrize("sampler", ["random", "qmc"])
@pytest.mark.parametrize("interval", ["0.5,4", "log 0.001,10", "1.00001,1.00002", "log 1,1.001"])
def test_numbers_are_short_where_that_is_fine_enough(interval: str, sampler: str) -> None:
    log, _, ends = interval.rpartition(" ")
    low, high = map(float, ends.split(","))
    space = spanned(f"lr=tag(log,interval({ends}))" if log else f"lr=interval({ends})")
    asked = Trials.open("any", space, Settings(n_trials=8, batch=9, sampler=sampler, storage=None), {"direction": "minimize"}).batch()
    drawn = [it.params["lr"] for it in asked]
    assert len({*drawn}) == 8
    assert all(low <= it <= high for it in drawn)
    assert all((float(f"{it:.4g}") == it) == (high > 1.1 * low) for it in drawn)


def test_trials_of_the_same_values_are_one_run(tmp_path: Path) -> None:
    sweeps = Sweeps(tmp_path)
    printed = searched(sweeps, "lr=0.1,0.2", *settings(n_trials=7, batch=3))
    assert not any(line.startswith("resumed") for line in printed)
    begun = trials(sweeps)
    assert [it.state for it in begun] == [COMPLETE] * 7
    assert {(it.params["lr"], it.value) for it in begun} == {(f"{lr}", loss(lr)) for lr in (0.1, 0.2)}
    assert len(sweeps.nets()) == 2
    assert len(sweeps.jobs(sweeps.parents()[0])) == 7


def test_no_storage(tmp_path: Path) -> None:
    sweeps = Sweeps(tmp_path)
    printed = searched(sweeps, *SPACE, *settings(n_trials=2, batch=2, storage=None))
    assert printed[-1].startswith("best:  trial ")
    assert not list(tmp_path.glob("*optuna*"))


# ---------------------------------------------------------------------------------------------- trials that fail


def test_a_run_that_diverged_is_a_trial_that_failed(tmp_path: Path) -> None:
    sweeps = Sweeps(tmp_path)
    searched(sweeps, "lr=0.01,1e6", "activation=linear", "output=linear", *settings(n_trials=6, batch=3, sampler="random"), steps=30)
    begun = trials(sweeps)
    assert {(it.params["lr"], it.state) for it in begun} == {("0.01", COMPLETE), ("1000000.0", FAIL)}
    assert {it.user_attrs["bpexp.outcome"] for it in begun if it.state == FAIL} == {"diverged"}


def test_a_run_that_failed_is_a_trial_that_failed_and_the_search_goes_on(tmp_path: Path) -> None:
    """Really: a file stands where the runs' artifacts would go."""
    sweeps = Sweeps(tmp_path)
    (tmp_path / "file").write_text("no folder")
    MlflowClient(sweeps.uri).create_experiment("in the way", artifact_location=str(tmp_path / "file"))
    printed = searched(sweeps, *SPACE, "tracking.experiment='in the way'", *settings(n_trials=4, batch=2), code=1)
    assert [it.state for it in trials(sweeps)] == [FAIL] * 4
    assert sum(line.startswith("bpexp: failed: ") for line in printed) == 4
    assert "best:  none of 4 trials has a final_loss" in printed


def test_a_summary_without_the_metric(tmp_path: Path) -> None:
    sweeps = Sweeps(tmp_path)
    printed = searched(sweeps, "depth=4,5", *settings(n_trials=6, batch=6, metric="delta_decades_per_layer"))
    assert {(it.params["depth"], it.state) for it in trials(sweeps)} == {("4", FAIL), ("5", COMPLETE)}
    assert any(re.fullmatch(r"bpexp: trial \d has failed: its run has no delta_decades_per_layer", line) for line in printed)


def test_values_that_make_no_sense_together(tmp_path: Path) -> None:
    """Each of them does, with the others' lowest."""
    sweeps = Sweeps(tmp_path)
    words = ("activation=tanh,gelu,relu", "init=gaussian,critical,lecun")
    printed = searched(sweeps, *words, *settings(n_trials=16, batch=8, sampler="random"))
    begun = trials(sweeps)
    failed = {(it.params["activation"], it.params["init"]) for it in begun if it.state == FAIL}
    assert failed == {("gelu", "critical")}
    (line,) = {re.sub(r"\d+", "N", line, count=1) for line in printed if line.startswith("bpexp: ")}
    assert line.startswith("bpexp: trial N has failed: init=critical: no sigma_w2 keeps gradients with activation=gelu")
    searched(sweeps, *words, *settings(n_trials=16, batch=8, sampler="random"))  # and is no trouble later


# ---------------------------------------------------------------------------------------------- going on


MANY = ("lr=tag(log,interval(0.01,1))", "seed=range(0,100)", *settings(n_trials=9, batch=3))
LONG = ("steps=3000", "probe_points=6", "tracking.checkpoint_seconds=0.1")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[object, ...]]:
    sweeps = Sweeps(tmp_path_factory.mktemp("undisturbed"))
    searched(sweeps, *MANY, *LONG)
    return told(trials(sweeps))


def started(sweeps: Sweeps, *words: str) -> Command:
    return sweeps.start(*SEARCH, *NET, *LONG, *words)


def under_way(sweeps: Sweeps) -> bool:
    """Whether a batch has come back and another trains."""
    try:
        ((count,),) = query(sweeps.folder / "optuna.db", "select count(*) from trials where state = 'COMPLETE'")
    except sqlite3.OperationalError:  # there are no tables so far
        return False
    return count >= 3 and bool(sweeps.checkpoints())


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="asks /proc who lives")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_same_command_goes_on(tmp_path: Path, undisturbed: list[tuple[object, ...]], number: int, code: int) -> None:
    """In the midst of a batch: no trial is lost, none told twice, and the next ones are those that would have come."""
    sweeps = Sweeps(tmp_path)
    command = started(sweeps, *MANY)
    try:
        command.wait_for(lambda: under_way(sweeps))
        done, _ = command.signalled(number)
        assert done.code == code
    finally:
        command.end()
    left = trials(sweeps)
    assert {it.state for it in left} == {COMPLETE, TrialState.RUNNING}
    resume = standing("latest", sweeps.uri, "bpexp").resume
    assert resume is not None
    assert {*shlex.split(resume)} > {*SEARCH, *NET[:-1], *MANY, *LONG[:2]}
    done = sweeps.run(*SEARCH, *NET, *LONG, *MANY)
    assert (done.code, done.err) == (0, "")
    assert told(trials(sweeps)) == undisturbed
    assert (sweeps.twice(), sweeps.checkpoints()) == ([], [])
    (parent,) = sweeps.parents()
    assert sweeps.status(parent) == "FINISHED"
    assert len(sweeps.jobs(parent)) == 9
    assert {run_id for _, run_id in sweeps.jobs(parent)} == {it.user_attrs["bpexp.run"] for it in trials(sweeps)}


def test_a_batch_that_was_being_asked_for_is_filled_up(tmp_path: Path) -> None:
    """One that nobody owns and that has no values yet, and one with some: as a process leaves them that is killed while it asks."""
    whole, cut = Sweeps(tmp_path / "whole"), Sweeps(tmp_path / "cut")
    words = (*SPACE, *settings(n_trials=8, batch=4))
    for sweeps in (whole, cut):
        searched(sweeps, *words[:-2], *settings(n_trials=4, batch=4))
    searched(whole, *words)
    study(cut).ask()
    query(cut.folder / "optuna.db", "update trials set datetime_start = '2020-01-01 00:00:00.0' where number = 4")
    searched(cut, *words)
    assert told(trials(cut)) == told(trials(whole))


def opened(**keys: object) -> Trials:
    """A study in memory."""
    given = {"n_trials": 8, "batch": 4, "storage": None} | keys
    return Trials.open("any", spanned("lr=interval(1,2)"), Settings(**given), {"direction": "minimize"})  # type: ignore[arg-type]


@pytest.mark.parametrize(("asked", "over", "numbers"), [(2, 0, [0, 1, 2, 3]), (4, 3, [3]), (4, 4, [4, 5, 6, 7]), (6, 5, [5, 6, 7]), (8, 8, [])])
def test_a_batch_is_the_one_that_was_cut_off_or_the_next(asked: int, over: int, numbers: list[int]) -> None:
    """While it was asked for: its rest is asked for as well; while it was told: its rest alone, before anything else is asked for."""
    trials = opened()
    for number in range(asked):
        trial = trials.study.ask()
        trial.set_user_attr(OWNER, owners.owner())
        if number < over:
            trial.suggest_float("lr", 1, 2)
            trials.tell(trial, 1.0)
    assert [it.number for it in trials.batch()] == numbers


def test_no_more_trials_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two processes that ask for the last one in the same moment, the slower one gives its own back."""
    trials = opened(n_trials=2)
    for _ in range(2):
        trials.tell(trials.study.ask(), 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(Trials, "_asked", lambda self: 1)  # as it was when this process looked
        assert trials.batch() == []
    assert [it.state.name for it in trials.study.trials] == ["COMPLETE", "COMPLETE", "WAITING"]
    assert trials.batch() == []
    assert [it.number for it in replace(trials, settings=replace(trials.settings, n_trials=3)).batch()] == [2]


def test_a_trial_is_told_once() -> None:
    trials = opened()
    first, *_ = trials.batch()
    trials.tell(first, 2.0, outcome="trained")
    trials.tell(first, 1.0, outcome="stuck")
    trials.tell(first, None)
    (over,) = trials.over()
    assert (over.value, over.state, over.user_attrs["bpexp.outcome"]) == (2.0, COMPLETE, "trained")


def test_more_trials_of_the_same_search(tmp_path: Path) -> None:
    sweeps = Sweeps(tmp_path)
    for count in (2, 3, 3):
        printed = searched(sweeps, *SPACE, *settings(n_trials=count, batch=2))
        assert len(trials(sweeps)) == count
    assert printed[0] == "resumed: 3 of 3 runs were finished already"
    assert len(sweeps.nets()) == 3
    assert [len(sweeps.jobs(parent)) for parent in sweeps.parents()] == [2, 3]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="asks /proc who lives")
def test_a_trial_of_a_process_that_lives_is_left_alone(tmp_path: Path) -> None:
    sweeps = Sweeps(tmp_path)
    searched(sweeps, *SPACE, *settings(n_trials=1))
    pid = os.getppid()
    other = str(replace(owners._self(), pid=pid, started=owners._stat(pid)[1]))
    theirs = study(sweeps).ask()
    for key, value in (owners.marks() | {OWNER: other}).items():
        theirs.set_user_attr(key, value)
    printed = searched(sweeps, *SPACE, *settings(n_trials=4))
    assert [it.state.name for it in study(sweeps).trials] == ["COMPLETE", "RUNNING", "COMPLETE", "COMPLETE"]
    assert "bpexp: 1 of the trials is trained by other processes" in printed
    theirs.set_user_attr(OWNER, re.sub(r"started=\d+", "started=1", other))  # of one that had its number before
    searched(sweeps, *SPACE, *settings(n_trials=4))
    assert [it.state.name for it in trials(sweeps)] == ["COMPLETE"] * 4
    assert HEARTBEAT in trials(sweeps)[1].user_attrs


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="asks /proc who lives")
def test_two_processes_share_a_study(tmp_path: Path) -> None:
    sweeps = Sweeps(tmp_path)
    words = ("lr=tag(log,interval(0.01,1))", *settings(n_trials=12, batch=2))
    commands = [started(sweeps, *words) for _ in range(2)]
    try:
        ends = [command.done() for command in commands]
    finally:
        for command in commands:
            command.end()
    assert [done.code for done in ends] == [0, 0], ends
    assert all("Traceback" not in done.err for done in ends)
    begun = trials(sweeps)
    assert [(it.number, it.state) for it in begun] == [(number, COMPLETE) for number in range(12)]
    assert len({it.params["lr"] for it in begun}) == 12
    assert len({it.user_attrs[OWNER] for it in begun}) == 2
    assert sweeps.twice() == []
    assert len(sweeps.nets("FINISHED")) == 12


# ---------------------------------------------------------------------------------------------- what is refused


REFUSED = {
    "lr=0.1": "hydra/sweeper=optuna: nothing to search: give a key an interval, a range or a choice, such as lr='tag(log,interval(0.01,10))' or "
    "depth='range(3,10)'",
    "depth=interval(3,9.5)": "depth=interval(3,9.5): must be whole numbers, such as range(3,10) or tag(int,interval(3,9))",
    "batch_size=interval(3,9)": "batch_size=interval(3,9): must be whole numbers, such as range(3,10) or tag(int,interval(3,9))",
    "lr=interval(-1,1)": "lr=-1.0: must be a number, above 0",
    "lr=tag(log,interval(-1,1))": "lr=tag(log,interval(-1,1)): must begin above 0 where it is tagged log",
    "lr=interval(2,1)": "lr=interval(2,1): must be an interval from a number to one that is no lower",
    "lr=interval(0,inf)": "lr=interval(0,inf): must be an interval from a number to one that is no lower",
    "lr=tag(lg,interval(1,2))": "lr=tag(lg,interval(1,2)): an interval's tags are int and log",
    "width=tag(int,interval(1.5,3))": "width=tag(int,interval(1.5,3)): must have whole ends where it is tagged int",
    "width=tag(log,range(1,3))": "width=tag(log,range(1,3)): only an interval has tags, such as tag(log,interval(0.01,10))",
    "depth=range(0,3)": "depth=0: must be a whole number, at least 1, at most 10,000",
    "depth=range(3,10002)": "depth=10001: must be a whole number, at least 1, at most 10,000",
    "norm=none,bacth": f"norm=bacth: must be one of {', '.join(sorted(NORMS))}; did you mean 'batch'?",
    "hydra.sweeper.n_trials=0": "hydra.sweeper.n_trials=0: must be a whole number, at least 1, at most 1,000,000",
    "hydra.sweeper.batch=0": "hydra.sweeper.batch=0: must be a whole number, at least 1, at most 1,000,000",
    "hydra.sweeper.sampler=tpa": "hydra.sweeper.sampler=tpa: must be one of qmc, random, tpe; did you mean 'tpe'?",
    "hydra.sweeper.metric=final_los": f"hydra.sweeper.metric=final_los: must be one of {', '.join(sorted(METRICS))}; did you mean 'final_loss'?",
    "hydra.sweeper.direction=up": "hydra.sweeper.direction=up: must be minimize or maximize; or null",
    "hydra.sweeper.seed=-1": "hydra.sweeper.seed=-1: must be a whole number, at least 0, at most 9,223,372,036,854,775,807; or null",
    "hydra.sweeper.study_name=' '": "hydra.sweeper.study_name= : must be a text; or null",
    "hydra.sweeper.storage=nonsense": "hydra.sweeper.storage=nonsense: must be a database that can be opened (Could not parse SQLAlchemy URL "
    "from given URL string)",
    "hydra.sweeper.storage=sqlite:////dev/null/x.db": "hydra.sweeper.storage=sqlite:////dev/null/x.db: must be a database that can be opened "
    "(/dev/null is no folder)",
    "hydra.sweeper.storage=postgresql://me:secret@host/db": "hydra.sweeper.storage=postgresql://me:***@host/db: must hold no password or token: set "
    "hydra.sweeper.storage='${oc.env:NAME}' with a variable of your own",
    "+hydra.sweeper.other=1": "hydra.sweeper.other=1: no such key; --help lists all keys",
}


@pytest.mark.parametrize("word", REFUSED)
def test_refused(tmp_path: Path, word: str) -> None:
    space = [] if word in ("lr=0.1", *[it for it in REFUSED if it.startswith("lr=")]) else ["lr=interval(1,2)"]
    assert refused(tmp_path, *SEARCH, word, *space, "steps=0") == [REFUSED[word]]


def test_all_that_is_wrong_with_a_space_is_told_at_once(tmp_path: Path) -> None:
    found = refused(tmp_path, *SEARCH, "dpeth=range(3,5)", "lr=interval(-1,2)", "depth=interval(3,5)", "width=0", "steps=0")
    assert [line.partition(": ")[0] for line in found] == ["dpeth=range(3,5)", "depth=interval(3,5)", "width=0", "lr=-1.0"]


def test_files_that_are_something_else(tmp_path: Path) -> None:
    sweeps = Sweeps(tmp_path)
    (tmp_path / "text.db").write_text("no database, but a text that is long enough to look like one" * 20)
    for name, why in (("runs.db", "it holds something else than studies"), ("text.db", "file is not a database")):
        (line,) = refused(tmp_path, *SEARCH, "lr=interval(1,2)", sweeps.word, f"hydra.sweeper.storage=sqlite:///{name}")
        assert line == f"hydra.sweeper.storage=sqlite:///{name}: must be a database that can be opened ({why})"


def test_a_study_of_another_search(tmp_path: Path) -> None:
    sweeps, name = Sweeps(tmp_path), settings(n_trials=1, study_name="mine")
    searched(sweeps, "lr=interval(0.1,0.2)", *name)
    before = told(trials(sweeps))
    for word, differs in {
        "steps=21": "steps is 20 there, 21 here",
        "hydra.sweeper.metric=best_loss": "metric is final_loss there, best_loss here",
        "lr=interval(0.1,0.3)": "lr is interval(0.1,0.2) there, interval(0.1,0.3) here",
        "hydra.sweeper.direction=maximize": "direction is minimize there, maximize here",
    }.items():
        words = [it for it in ("lr=interval(0.1,0.2)", *name) if it.partition("=")[0] != word.partition("=")[0]]
        done = attempt(tmp_path, *SEARCH, *NET, "steps=20", sweeps.word, *words, word)
        assert (done.code, done.out) == (2, "")
        assert done.err == f"bpexp: hydra.sweeper.study_name=mine: must be another name: this study is of another search ({differs})\n"
    assert told(trials(sweeps)) == before
    assert len(sweeps.parents()) == 1


def test_where_optuna_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Plugins.instance()  # a module of theirs must not be there before Hydra has looked for them
    monkeypatch.setattr("bpexp.sweep.search.find_spec", lambda name: None)
    assert refused(tmp_path, *SEARCH, "lr=interval(1,2)") == ["hydra/sweeper=optuna: is not installed: pip install 'bpexp[optuna]'"]


# ---------------------------------------------------------------------------------------------- the space of some words


def spanned(*words: str) -> Space:
    space, faults = span(OverridesParser.create().parse_overrides(list(words)))
    assert faults == []
    return space


def test_the_words_of_a_space() -> None:
    space = spanned(
        "a=1", "lr=tag(log,interval(0.1,10))", "b='x y'", "width=tag(int,log,interval(4,64))", "depth=range(9,2,-3)", "c=range(0.1,0.75,0.2)"
    )
    assert space.fixed == {"a": "1", "b": "'x y'"}
    assert space.dimensions == {
        "lr": Interval(0.1, 10.0, log=True),
        "width": Interval(4.0, 64.0, log=True, whole=True),
        "depth": Range(range(3, 10, 3), 3),
        "c": Range((0.1, 0.30000000000000004, 0.5, 0.7000000000000001), 0.2),
    }
    assert space.words({"lr": 1e-05, "width": 7, "depth": 6, "c": 0.3}) == (
        "a=1", "b='x y'", "lr=1e-05", "width=7", "depth=6", "c=0.30000000000000004",
    )  # fmt: skip
    assert spanned("x=a,'b c',null", "x=2,3").dimensions == {"x": Choice(("2", "3"))}  # the last one counts


def test_the_corners_of_a_space() -> None:
    corners = [tuple(it.values()) for it in spanned("x=a,b,c", "y=interval(1,2)", "z=range(3,9)").corners()]
    assert corners == [("a", 1.0, 3), ("b", 1.0, 3), ("c", 1.0, 3), ("a", 2.0, 3), ("a", 1.0, 8), ("c", 2.0, 8)]
