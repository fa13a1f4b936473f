"""Sweeps whose runs train in stacks, of several variants, with a tuned key: from the command line through to MLflow."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import cached_property
from math import ceil, inf
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import yaml
from joblib import cpu_count
from mlflow import MlflowClient
from mlflow.entities import Run
from omegaconf import OmegaConf

import bpexp
from bpexp.config import GROUPS, TABLES, DataConfig, InitConfig, RunConfig, TrackingConfig, aside, blanks, flatten, keys
from bpexp.experiment import memory, prepare
from bpexp.sweep import stacked
from bpexp.sweep.app import _register
from bpexp.sweep.carry import Job
from bpexp.sweep.gallery import alone, logspace
from bpexp.sweep.names import config_dir
from bpexp.sweep.settings import Settings
from bpexp.sweep.stacked import START_SECONDS, Load, load_of, processes, stack_key, stacks
from bpexp.sweep.tuning import rounds
from bpexp.tracking.notes import own_words
from tests.cli import ROOT, environment, inside, lines
from tests.sweeps import Sweeps

SMALL = ("steps=40", "width=6", "batch_size=16", "tracking.uri=sqlite:///runs.db")
COST = "summary/step_seconds"  # a time, the one number that no run repeats


class Store:
    """The store of a folder in which sweeps run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.folder}/runs.db")

    def all(self) -> list[Run]:
        if not (self.folder / "runs.db").exists():  # MLflow's client would make one
            return []
        found = self.client.get_experiment_by_name("bpexp")
        return [] if found is None else list(self.client.search_runs([found.experiment_id], order_by=["attributes.start_time ASC"]))

    def parent(self) -> Run:
        """The newest sweep's."""
        return [run for run in self.all() if run.data.tags["bpexp.kind"] == "sweep"][-1]

    def children(self) -> list[Run]:
        """The newest sweep's runs, by the number of their job."""
        found = [run for run in self.all() if run.data.tags.get("mlflow.parentRunId") == self.parent().info.run_id]
        return sorted(found, key=lambda run: int(run.data.tags["bpexp.job"]))

    def jobs(self) -> list[tuple[str, str]]:
        """The newest sweep's manifest: overrides and run ids."""
        path = self.client.download_artifacts(self.parent().info.run_id, "manifest.json")
        return [(" ".join(job["overrides"]), job["run_id"]) for job in json.loads(Path(path).read_text())["jobs"]]


def study(folder: Path, *, name: str = "mine", plain: dict[str, object] | None = None, **sweeper: object) -> str:
    """Write a study of one's own; returns the option that finds it."""
    path = folder / "conf" / "study" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"defaults": [{"override /hydra/launcher": "stacked"}], **(plain or {}), "hydra": {"sweeper": sweeper}}
    path.write_text(f"# @package _global_\n{yaml.safe_dump(content, sort_keys=False)}")
    return f"--config-dir={path.parent.parent}"


def done(folder: Path, *words: str) -> Store:
    ended = inside(folder, *words)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return Store(folder)


def refused(folder: Path, *words: str) -> list[str]:
    before = set(folder.rglob("*"))
    ended = inside(folder, *words)
    assert ended.returncode == 2, (ended.stdout, ended.stderr)
    assert ended.stdout == ""
    assert set(folder.rglob("*")) == before
    return [line.removeprefix("bpexp: ") for line in lines(ended.stderr)]


# ---------------------------------------------------------------------------------------------- stacks


def test_a_stack_is_what_differs_in_lr_seed_init_and_tracking_alone() -> None:
    base = RunConfig()
    same = [
        replace(base, lr=0.5),
        replace(base, output_lr=0.5),
        replace(base, seed=7),
        replace(base, init=InitConfig("gaussian", 2.0, 0.5)),
        replace(base, tracking=TrackingConfig(uri="x", run_name="y", parent="z")),
    ]
    assert {stack_key(config) for config in same} == {stack_key(base)}
    own = {key for key in keys(RunConfig) if key in ("lr", "output_lr", "seed") or key.startswith("init.") or aside(key)}
    assert {key for key, _ in stack_key(base)} == set(keys(RunConfig)) - own
    different = [replace(base, depth=3), replace(base, activation="tanh"), replace(base, steps=9), replace(base, data=replace(base.data, seed=1))]
    different += [replace(base, probes=["q"]), replace(base, probes=["q", "c"])]
    assert len({stack_key(config) for config in (base, *different)}) == 7


def test_stacks_are_small_enough_and_enough_and_the_longest_comes_first() -> None:
    deep = [Job(number, RunConfig(depth=50, seed=number)) for number in range(10)]
    flat = [Job(10 + number, RunConfig(depth=2, seed=number)) for number in range(30)]
    loads = {stack_key(deep[0].config): Load(most=6, seconds=5.0, data=""), stack_key(flat[0].config): Load(most=8, seconds=0.2, data="")}
    found = stacks([*flat, *deep], loads, workers=2)
    assert sorted(job.number for stack in found for job in stack) == list(range(40))
    assert [len(stack) for stack in found] == [5, 5, 8, 8, 7, 7]
    assert all(len({job.config.depth for job in stack}) == 1 for stack in found)
    assert [len(stack) for stack in stacks(flat[:10], loads, workers=3)] == [4, 3, 3]  # one for each worker
    assert [len(stack) for stack in stacks(deep[:1], loads, workers=8)] == [1]


def load(settings: Settings | None = None, **changes: Any) -> Load:
    return load_of(prepare(RunConfig(**changes)), settings or Settings())


def test_a_stack_holds_what_fits_the_cache_and_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacked, "_cache", lambda: 2**20)
    assert [load(width=width).most for width in (16, 64, 256, 1024)] == [64, 17, 1, 1]
    assert load(width=64, dtype="float64").most == 8
    assert load(width=16, data=DataConfig("synthetic"), settings=Settings(max_runs=5)).most == 5
    whole = prepare(RunConfig(width=16, depth=100))
    needed = {runs: memory(whole.config, whole.dataset, runs) for runs in (1, 3)}
    most = {mebibytes: load_of(whole, Settings(memory=mebibytes)).most for mebibytes in (ceil(needed[3] / 2**20), 1024)}
    assert list(most.values()) == [3, 64]


def test_a_process_needs_work_to_be_worth_its_start() -> None:
    cores = cpu_count()
    short, long = Load(1, START_SECONDS / 10, ""), Load(1, 100.0, "")
    assert processes([short] * 5, Settings()) == 1
    assert processes([long] * 100, Settings()) == cores
    assert processes([short] * 5, Settings(n_jobs=3)) == 3  # who asks for them gets them
    assert processes([long], Settings(n_jobs=3)) == 1
    assert load(steps=10**6).seconds > 100 * load(steps=10).seconds


SOME_DIVERGE = ("depth=5", "lr=0.1,300", "seed=0,1", "init=he,xavier", "activation=linear", "output=linear")
MANY_CURES = ("depth=6", "seed=0,1", "lr=0.01,0.1", "norm=batch", "skip=rezero", "optimizer=adam", "schedule=cosine", "optimizer.clip=1")
FEW = ("depth=2,5", "lr=0.1,300", "activation=linear", "output=linear")


def artifacts(store: Store, run: Run) -> dict[str, bytes]:
    """The files of a run, but for the one that tells its parent."""
    folder = Path(store.client.download_artifacts(run.info.run_id, ""))
    return {name: (folder / name).read_bytes() for name in ("curves.parquet", "layers.parquet", "checkpoint.npz")}


@pytest.mark.parametrize(
    ("words", "count", "diverged", "launchers"),
    [
        (SOME_DIVERGE, 8, True, ["stacked", "stacked hydra.launcher.n_jobs=2"]),
        (MANY_CURES, 4, False, ["stacked"]),
        (FEW, 4, True, ["joblib", "submitit_local"]),
    ],
    ids=["some diverge", "many cures", "launchers of others"],
)
def test_a_run_is_bitwise_the_same_under_every_launcher(
    tmp_path: Path, words: tuple[str, ...], count: int, diverged: bool, launchers: list[str]
) -> None:
    store = done(tmp_path, "-m", *words, *SMALL, "hydra/launcher=basic")
    parent, alone, jobs = store.parent(), store.children(), store.jobs()
    assert len(alone) == count
    assert (0 < [run.data.tags["bpexp.outcome"] for run in alone].count("diverged") < count) == diverged
    for launcher in launchers:
        done(tmp_path, "-m", *words, *SMALL, "rerun=all", *f"hydra/launcher={launcher}".split())
        runs = store.children()
        assert [run_id for _, run_id in store.jobs()] == [run.info.run_id for run in runs]
        assert [overrides.replace(" rerun=all", "") for overrides, _ in store.jobs()] == [overrides for overrides, _ in jobs]
        assert {run.info.status for run in (*alone, *runs, parent, store.parent())} == {"FINISHED"}
        for run, other in zip(alone, runs, strict=True):
            assert artifacts(store, other) == artifacts(store, run)
            numbers, others = ({name: value for name, value in it.data.metrics.items() if name != COST} for it in (run, other))
            assert others == numbers
            assert all(it.data.metrics[COST] > 0 for it in (run, other))
            assert other.data.params == run.data.params
            assert other.info.run_name == run.info.run_name
            assert other.data.tags["bpexp.fingerprint"] == run.data.tags["bpexp.fingerprint"]
    told = [{path.relative_to(folder) for path in folder.glob("*/.hydra/*")} for folder in tmp_path.glob("multirun/*/*")]
    assert told == [{Path(str(number), ".hydra", f"{name}.yaml") for number in range(count) for name in ("config", "hydra", "overrides")}] * len(told)
    assert len(told) == 1 + len(launchers)


def test_a_stack_that_fails_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    """A real failure: a data file that was there when the sweep was checked is gone when its stack starts."""
    paths = [tmp_path / f"{name}.npz" for name in "ab"]
    for path, inputs in zip(paths, (30_000, 2), strict=True):  # the first stack takes seconds
        np.savez(path, x=np.random.default_rng(inputs).standard_normal((8, inputs)), y=np.arange(8) % 2)
    rest = ["steps=2000", "depth=2", "width=4", "batch_size=4"]
    swept = ["seed=0,1", "data=npz", f"data.path={','.join(map(str, paths))}"]
    sweeps = Sweeps(tmp_path)
    process = sweeps.start("-m", "hydra/launcher=stacked", "hydra.launcher.n_jobs=1", *swept, *rest)
    try:
        process.wait_for(lambda: sweeps.nets("RUNNING"))
        paths[1].unlink()
        code, errors = process.done().code, process.done().err
    finally:
        process.end()
    assert code == 1
    gone = f"data.path={paths[1]}"
    told = [f"bpexp: failed: seed={seed} data=npz {gone} {' '.join(rest)}: ConfigError: {gone}: no such file" for seed in (0, 1)]
    assert lines(errors) == told
    store = Store(tmp_path)
    assert store.parent().info.status == "FAILED"
    assert [run.info.status for run in store.children()] == ["FINISHED", "FINISHED"]
    assert [run_id is None for _, run_id in store.jobs()] == [False, True, False, True]


def test_runs_of_a_stack_that_cannot_be_filed_are_failed(tmp_path: Path) -> None:
    """A file stands where the runs' artifacts would go."""
    store = Store(tmp_path)
    experiment = store.client.create_experiment("in the way", artifact_location=str(tmp_path / "file"))
    (tmp_path / "file").write_text("not a folder")
    ended = inside(tmp_path, "-m", "depth=2,3", "seed=0,1", "hydra/launcher=stacked", *SMALL, "tracking.experiment='in the way'")
    assert ended.returncode == 1
    assert [line.split(": ")[:2] for line in lines(ended.stderr)] == [["bpexp", "failed"]] * 4
    runs = store.client.search_runs([experiment])
    assert [run.info.status for run in runs] == ["FAILED"] * 5
    assert all(run.data.tags["bpexp.error"] for run in runs)


def test_a_worker_imports_what_its_main_process_does(tmp_path: Path) -> None:
    """Also where only that one knows where the package lies."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from bpexp.sweep.workers import Worker; print(Worker.start().connection.recv())"
    told = {key: value for key, value in environment().items() if key != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=told, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, "ready\n"), done.stderr


@pytest.mark.parametrize(
    ("word", "must"),
    [
        ("hydra.launcher.n_jobs=0", "hydra.launcher.n_jobs=0: must be a whole number, at least 1; or null"),
        ("hydra.launcher.max_runs=many", "hydra.launcher.max_runs=many: must be a whole number, at least 1"),
        (
            "hydra.launcher.memry=3",
            "hydra/launcher=stacked hydra.launcher.memry=3: Could not override 'hydra.launcher.memry'. (Key 'memry' is not in struct)",
        ),
        ("hydra.launcher.memory=0.5", "hydra.launcher.memory=0.5: must be a whole number, at least 1"),
        ("hydra.launcher.memory=1", "hydra.launcher.memory=1: must be at least 3, the MiB that a run takes with depth=10 and width=64"),
    ],
)
def test_wrong_keys_of_the_launcher(tmp_path: Path, word: str, must: str) -> None:
    assert refused(tmp_path, "-m", "seed=0,1", "hydra/launcher=stacked", word) == [must]


# ---------------------------------------------------------------------------------------------- variants


def test_the_jobs_are_the_union_of_the_variants_grids(tmp_path: Path) -> None:
    given = study(
        tmp_path, plain={"steps": 5}, params={"depth": "2,3", "lr": "0.5"}, variants=["", "activation=relu init=he", "bias=true lr=1,2", "lr=0.50"]
    )
    store = done(tmp_path, given, "study=mine", "width=4", "tracking.uri=sqlite:///runs.db")
    found = bpexp.load_runs("latest", f"sqlite:///{tmp_path}/runs.db").runs
    rows = zip(found["depth"], found["lr"], found["activation"], found["init.name"], found["bias"], strict=True)
    assert sorted(rows) == sorted(
        [(depth, 0.5, "sigmoid", "xavier", False) for depth in (2, 3)]
        + [(depth, 0.5, "relu", "he", False) for depth in (2, 3)]
        + [(depth, lr, "sigmoid", "xavier", True) for depth in (2, 3) for lr in (1.0, 2.0)]
    )
    assert set(found["steps"]) == {5}
    assert len(store.jobs()) == 10  # the last variant is the first one over again: listed, and not run twice
    assert len({run_id for _, run_id in store.jobs()}) == 8
    parent = store.parent()
    assert parent.info.run_name == "study=mine width=4"
    assert parent.data.params == {"depth": "2,3", "variants": " | activation=relu init=he | bias=true lr=1,2 | lr=0.50"}
    assert "depth=3 width=4 lr=0.5 activation=relu init=he" in set(found["name"])


def test_the_command_line_wins_over_variants_and_they_over_params(tmp_path: Path) -> None:
    given = study(tmp_path, params={"depth": "2,3", "steps": 3}, variants=["lr=1", "lr=2 depth=4", "steps=4"])
    done(tmp_path, given, "study=mine", "lr=5", "width=4", "tracking.uri=sqlite:///runs.db")
    found = bpexp.load_runs("latest", f"sqlite:///{tmp_path}/runs.db").runs
    rows = zip(found["depth"], found["lr"], found["steps"], strict=True)
    assert list(rows) == [(2, 5.0, 3), (3, 5.0, 3), (4, 5.0, 3), (2, 5.0, 4), (3, 5.0, 4)]


def test_variants_from_the_command_line_under_the_basic_launcher(tmp_path: Path) -> None:
    store = done(tmp_path, "-m", *SMALL, 'hydra.sweeper.variants=["depth=2","depth=3 activation=tanh"]')
    assert store.parent().info.run_name == "steps=40 width=6 batch_size=16 2 variants"
    assert [(run.data.params["depth"], run.data.params["activation"]) for run in store.children()] == [("2", "sigmoid"), ("3", "tanh")]


def test_wrong_words_of_variants_are_all_told(tmp_path: Path) -> None:
    general = ["study=mine", "hydra.job.chdir=true"]
    variants = ["dpeth=3", "init=xaver", "activation=rleu", "relu", "lr='1", 3, *general, "lr=interval(0,1)", "depth=0,2"]
    given = study(tmp_path, params={"seed": "0,1"}, variants=variants)
    found = refused(tmp_path, given, "study=mine", "widht=3")
    assert [line.partition(": ")[0] for line in found] == [
        "widht=3",
        "dpeth=3",
        "init=xaver",
        "relu",
        "hydra.sweeper.variants=lr='1",
        "hydra.sweeper.variants=3",
        "study=mine",
        "hydra.job.chdir=true",
        "lr=interval(0,1)",
        "activation=rleu",
        "depth=0",
    ]
    assert found[1] == "dpeth=3: no such key; did you mean 'depth'?"
    assert found[9].endswith("did you mean 'relu'?")


def test_what_is_special_about_a_job_are_the_words_that_not_all_have() -> None:
    assert own_words([("a=1", "b=2"), ("a=1", "b=3", "c=4")]) == [("b=2",), ("b=3", "c=4")]
    assert own_words([]) == []


# ---------------------------------------------------------------------------------------------- a tuned key


def grid(lrs: tuple[float, ...], seeds: tuple[int, ...], depths: tuple[int, ...] = (3,)) -> list[RunConfig]:
    return [RunConfig(depth=depth, lr=lr, seed=seed) for depth in depths for lr in lrs for seed in seeds]


def second_round(configs: list[RunConfig], losses: dict[tuple[int, float], float]) -> list[tuple[int, float, int]]:
    """What follows a first round in which (depth, lr) came to these losses."""
    told = rounds(configs, "lr", lambda: {run: losses[configs[run].depth, configs[run].lr] for run in first if key(run) in losses})

    def key(run: int) -> tuple[int, float]:
        return configs[run].depth, configs[run].lr

    first = next(told)
    assert {configs[run].seed for run in first} == {configs[0].seed}
    assert len(first) == len({key(run) for run in range(len(configs))})
    return [(configs[run].depth, configs[run].lr, configs[run].seed) for runs in told for run in runs]


def test_the_value_of_the_lowest_loss_gets_the_other_seeds() -> None:
    configs = grid((3.0, 0.1, 1.0), (4, 0, 7), depths=(2, 5))
    losses = {(2, 3.0): 0.2, (2, 0.1): 0.4, (2, 1.0): 0.3, (5, 3.0): 0.9, (5, 0.1): 0.5, (5, 1.0): 0.6}
    assert second_round(configs, losses) == [(2, 3.0, 0), (2, 3.0, 7), (5, 0.1, 0), (5, 0.1, 7)]


@pytest.mark.parametrize(
    ("losses", "best"),
    [({}, 0.1), ({3.0: 0.5}, 3.0), ({3.0: 0.5, 1.0: 0.5}, 1.0), ({3.0: inf, 1.0: inf, 0.1: inf}, 0.1), ({1.0: inf, 3.0: 0.7, 0.1: 0.8}, 3.0)],
)
def test_what_is_missing_lost_and_ties_go_to_the_smaller_value(losses: dict[float, float], best: float) -> None:
    assert second_round(grid((3.0, 0.1, 1.0), (0, 1)), {(3, lr): loss for lr, loss in losses.items()}) == [(3, best, 1)]


def test_without_a_tuned_key_all_runs_are_one_round() -> None:
    assert list(rounds(grid((1.0, 2.0), (0, 1)), None, dict)) == [[0, 1, 2, 3]]
    assert list(rounds(grid((1.0, 2.0), (0,)), "lr", dict)) == [[0, 1]]  # no seeds are left


@pytest.mark.parametrize("launcher", ["basic", "stacked"])
def test_a_tuned_sweep_runs_the_winners_only(tmp_path: Path, launcher: str) -> None:
    """The middle rate is the best one of a linear net: the smallest hardly moves, the largest diverges."""
    net = ("activation=linear", "output=linear", "depth=2,3", "width=6", "batch_size=16", "steps=60", "tracking.uri=sqlite:///runs.db")
    store = done(tmp_path, "-m", "lr=1e6,0.03,1e-5", "seed=5,0,1", *net, "hydra.sweeper.tune=lr", f"hydra/launcher={launcher}")
    runs = [(int(run.data.params["depth"]), float(run.data.params["lr"]), int(run.data.params["seed"])) for run in store.children()]
    assert sorted(runs[:6]) == [(depth, lr, 5) for depth in (2, 3) for lr in (1e-5, 0.03, 1e6)]
    assert sorted(runs[6:]) == [(depth, 0.03, seed) for depth in (2, 3) for seed in (0, 1)]
    first = {(run.data.params["depth"], float(run.data.params["lr"])): run for run in store.children()[:6]}
    assert {run.data.tags["bpexp.outcome"] == "diverged" for (_, lr), run in first.items() if lr == 1e6} == {True}
    for depth in ("2", "3"):
        assert first[depth, 0.03].data.metrics["summary/final_loss"] < first[depth, 1e-5].data.metrics["summary/final_loss"]
    listed = {run_id: words for words, run_id in store.jobs()}
    assert set(listed) == {run.info.run_id for run in store.children()}
    assert all(f"seed={run.data.params['seed']}" in listed[run.info.run_id].split() for run in store.children())
    assert store.parent().data.params["tune"] == "lr"
    assert len(bpexp.load_runs("latest", f"sqlite:///{tmp_path}/runs.db").runs) == 10


@pytest.mark.parametrize(
    ("words", "must"),
    [
        (["lr=1", "hydra.sweeper.tune=lr"], "hydra.sweeper.tune=lr: is not swept: list several values of lr, or set hydra.sweeper.tune=null"),
        (["hydra.sweeper.tune=lrr"], "hydra.sweeper.tune=lrr: no such key; did you mean 'lr'?"),
        (["hydra.sweeper.tune=seed"], "hydra.sweeper.tune=seed: must be a key that changes what a run learns"),
        (["lr=1,2", "hydra.sweeper.tune=5"], "hydra.sweeper.tune=5: must be the name of a swept key, such as lr, or null"),
        (["lr=1,2", "hydra.sweeper.tune=[lr]"], "hydra.sweeper.tune=['lr']: must be the name of a swept key, such as lr, or null"),
        (["lr=1,2", "hydra.sweeper.variants=5"], "hydra.sweeper.variants=5: must be a text with the words of one variant, or a list of such texts"),
        (["hydra.sweeper.variants={a:1}"], "hydra.sweeper.variants={'a': 1}: must be a text with the words of one variant, or a list of such texts"),
        (["lr=1,0", "hydra.sweeper.tune=lr"], "lr=0: must be a number, above 0"),
    ],
)
def test_a_tuned_key_that_is_none(tmp_path: Path, words: list[str], must: str) -> None:
    assert refused(tmp_path, "-m", "seed=0,1", *words) == [must]


def test_a_job_that_would_come_second_is_checked_before_the_first_starts(tmp_path: Path) -> None:
    assert len(refused(tmp_path, "-m", "lr=1,2", "seed=0,-1", "hydra.sweeper.tune=lr")) == 1


# ---------------------------------------------------------------------------------------------- studies and options


def test_studies_are_listed_refused_and_leave_nothing_in_the_configuration(tmp_path: Path) -> None:
    (line,) = refused(tmp_path, "study=curse")
    assert line.startswith("study=curse: must be one of ")
    assert line.endswith("did you mean 'cures'?")
    assert refused(tmp_path, "study=cures", "hydra.mode=RUN") == ["study=cures: a study is a sweep: add -m"]
    assert refused(tmp_path, "--run", "study=cures") == ["study=cures: a study is a sweep: add -m"]
    assert refused(tmp_path, "-m", "study=cures,cures") == ["study=cures,cures: one study at a time: each is a sweep of its own"]
    shown = inside(tmp_path, "--cfg", "job", "study=cures")
    assert shown.returncode == 0, shown.stderr
    assert set(yaml.safe_load(shown.stdout)) == {key.partition(".")[0] for key in keys(RunConfig)}


TELLS = {  # what a study may say of itself; nobody but its reader resolves what is in it
    "title": "A claim",
    "checks": [{"of": "${nowhere.at.all}", "between": [1, 2]}],
    "quick": {"depth": "${width}", "missing": "???", "when": "${oc.env:NOT_SET_AT_ALL}"},
}


@pytest.mark.parametrize("launcher", ["basic", "stacked"])
def test_what_a_study_tells_of_itself_reaches_no_run(tmp_path: Path, launcher: str) -> None:
    """Here of a study that sweeps nothing: one run, the same as without a study."""
    plain: dict[str, object] = {"depth": 2, "width": 4, "steps": 3, "study": TELLS, "tracking": {"uri": "sqlite:///runs.db"}}
    store = done(tmp_path, study(tmp_path, plain=plain), "study=mine", f"hydra/launcher={launcher}")
    assert store.parent().info.run_name == "study=mine"
    (run,) = store.children()
    assert run.data.tags["bpexp.fingerprint"] == prepare(RunConfig(depth=2, width=4, steps=3)).fingerprint
    assert set(run.data.params) == {key for key in keys(RunConfig) if not aside(key)}
    config = yaml.safe_load(Path(store.client.download_artifacts(run.info.run_id, "config.yaml")).read_text())
    assert set(config) == {key.partition(".")[0] for key in keys(RunConfig)}
    (told,) = tmp_path.glob("multirun/*/*/0/.hydra/config.yaml")
    assert yaml.safe_load(told.read_text())["study"] == TELLS  # Hydra's folder of a job has all that was composed
    found = bpexp.load_runs("study=mine", f"sqlite:///{tmp_path}/runs.db", frames=())
    assert list(found.runs["depth"]) == [2]


def test_what_a_study_tells_of_itself_is_shown_and_not_set(tmp_path: Path) -> None:
    given = study(tmp_path, plain={"study": TELLS}, params={"seed": "0,1"})
    shown = inside(tmp_path, given, "--cfg", "job", "study=mine")
    assert shown.returncode == 0, shown.stderr
    assert yaml.safe_load(shown.stdout)["study"] == TELLS
    assert refused(tmp_path, given, "-m", "study=mine", "study.title=x", "+study.new=1", "depth=0") == [
        "study.title=x: no such key; --help lists all keys",
        "study.new=1: no such key; --help lists all keys",
        "depth=0: must be a whole number, at least 1, at most 10,000",
    ]


def test_a_study_without_its_first_line_is_refused(tmp_path: Path) -> None:
    """Hydra would put all of it where a study tells of itself, and the sweep would be one of the defaults."""
    path = tmp_path / "conf" / "study" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump({"width": 4, "title": "A claim", "hydra": {"sweeper": {"params": {"seed": "0,1"}}}}, sort_keys=False))
    must = "is read by nobody there: a study's file must begin with # @package _global_"
    assert refused(tmp_path, "--config-dir=conf", "-m", "study=mine") == [f"study.width: {must}", f"study.hydra: {must}"]


def test_the_study_of_cures_is_right_as_it_stands(tmp_path: Path) -> None:
    """All its jobs are checked; what is wrong is the one word typed."""
    assert refused(tmp_path, "study=cures", "steps=-1") == ["steps=-1: must be a whole number, at least 0, at most 100,000,000"]


def test_the_study_of_cures_holds_every_row_of_every_table() -> None:
    """Each alone, with the settings it needs: a row that is added is in the study."""
    variants = alone()
    for key, table in TABLES.items():
        default = flatten(RunConfig())[f"{key}.name" if key in GROUPS else key]
        first = [words.partition(" ")[0] for words in variants if words.startswith(f"{key}=")]
        assert first == [f"{key}={name}" for name in table if name != default]
    assert "init=sussillo activation=relu" in variants
    assert "optimizer=adam lr=0.0003,0.003,0.03" in variants


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_every_row_of_a_table_is_an_option(tmp_path: Path, group: str) -> None:
    """Also where a folder of the user's adds one."""
    (tmp_path / "conf" / group).mkdir(parents=True)
    name = next(iter(GROUPS[group]))
    (tmp_path / "conf" / group / "mine.yaml").write_text(f"name: {name}\n")
    _register()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        for option in GROUPS[group]:
            composed = OmegaConf.to_container(hydra.compose("config", [f"{group}={option}"]))
            assert composed == blanks() | {group: blanks()[group] | {"name": option}}
    mine = inside(tmp_path, "--config-dir=conf", "--cfg", "job", f"{group}=mine")
    assert yaml.safe_load(mine.stdout)[group]["name"] == name
    options = ", ".join(sorted([*GROUPS[group], "mine"]))
    assert f"{group}: {options}" in inside(tmp_path, "--config-dir=conf", "--help").stdout
    (line,) = refused(tmp_path, "--config-dir=conf", f"{group}=minx")
    assert line == f"{group}=minx: must be one of {options}; did you mean 'mine'?"


def test_values_at_equal_ratios_are_told_in_a_word() -> None:
    values = [float(text) for text in logspace(-3, 2, 11).split(",")]
    assert values == pytest.approx([10 ** (-3 + step / 2) for step in range(11)], rel=1e-7)
    assert logspace(-1, 1, 3) == "0.1,1,10"
