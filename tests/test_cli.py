"""What a user types, and what is said to what is wrong."""

import socket
from pathlib import Path

import numpy as np
import pytest
import yaml

import bpexp
from bpexp.config import RunConfig, blanks, keys
from bpexp.sweep.names import config_dir, groups
from bpexp.sweep.screen import closing
from bpexp.tracking.notes import Row
from bpexp.tracking.store import connect
from tests.cli import command, inside, lines


def untouched(folder: Path) -> bool:
    return list(folder.iterdir()) == []


def refused(folder: Path, *words: str) -> list[str]:
    """The lines in which a command is refused; nothing else is said or done."""
    before = set(folder.iterdir())
    done = inside(folder, *words)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stdout == ""
    assert set(folder.iterdir()) == before
    found = lines(done.stderr)
    assert all(line.startswith("bpexp: ") for line in found), done.stderr
    return [line.removeprefix("bpexp: ") for line in found]


def test_all_faults_of_all_jobs_at_once(tmp_path: Path) -> None:
    found = refused(tmp_path, "-m", "depth=10,0", "lr=-1,abc")
    assert sorted(found) == [
        "depth=0: must be a whole number, at least 1, at most 10,000",
        "lr=-1: must be a number, above 0",
        "lr=abc: must be a number, above 0",
    ]


WRONG = {
    "typo": (["dpeth=3"], ["dpeth=3: no such key; did you mean 'depth'?"]),
    "typo in a table": (["init.sigma=2"], ["init.sigma=2: no such key; did you mean 'init.sigma_w2'?"]),
    "no key at all": (["xyzzy=1"], ["xyzzy=1: no such key; --help lists all keys"]),
    "unknown option": (["init=xaver"], [f"init=xaver: must be one of {', '.join(groups([config_dir()])['init'])}; did you mean 'xavier'?"]),
    "whole number": (["depth=2.5"], ["depth=2.5: must be a whole number, at least 1, at most 10,000"]),
    "truth": (["bias=maybe"], ["bias=maybe: must be true or false"]),
    "no number": (["lr=nan"], ["lr=nan: must be a number, above 0"]),
    "an unknown activation": (
        ["activation=sigmoit"],
        [
            (
                "activation=sigmoit: must be one of elu, erf, gelu, leaky_relu, linear, relu, scaled_tanh, selu, sigmoid, silu, "
                "softplus, tanh; did you mean 'sigmoid'?"
            )
        ],
    ),
    "batch larger than the data": (
        ["batch_size=5000"],
        ["batch_size=5000: must be at most 1,438, the training samples of data=digits, or full"],
    ),
    "output and loss": (["loss=cross_entropy", "output=sigmoid"], ["output=sigmoid: must be softmax with loss=cross_entropy"]),
    "a table": (["init.name=he", "data={}"], ["data={}: must be one of digits, linear, mnist, noise, npz, synthetic"]),
    "no equals sign": (["depth"], ["depth: must be written key=value"]),
    "an added key": (["+foo=1"], ["foo=1: no such key; --help lists all keys"]),
    "a removed key": (["~depth"], ["depth: keys can't be removed"]),
    "a missing file": (["data=npz", "data.path=no.npz"], ["data.path=no.npz: no such file"]),
    "a foreign store": (["tracking.uri=nonsense://x"], None),
    "two at once": (
        ["depth=0", "widht=3"],
        ["widht=3: no such key; did you mean 'width'?", "depth=0: must be a whole number, at least 1, at most 10,000"],
    ),
}


@pytest.mark.parametrize("words", WRONG)
def test_a_lone_run_is_refused(tmp_path: Path, words: str) -> None:
    typed, expected = WRONG[words]
    found = refused(tmp_path, *typed)
    if expected is None:
        assert len(found) == 1
        assert found[0].startswith("tracking.uri=nonsense://x: must be")
    else:
        assert found == expected


LATER = {"batch larger than the data", "output and loss", "a missing file", "a foreign store", "two at once"}  # seen where all else is right


def test_a_sweep_is_refused_for_all_that_is_wrong_with_it(tmp_path: Path) -> None:
    together = [WRONG[name] for name in WRONG if name not in LATER]
    expected = [line for _, lines_ in together for line in lines_ or ()]
    assert len(expected) == len(WRONG) - len(LATER)
    assert sorted(refused(tmp_path, "-m", "seed=0,1", *(word for typed, _ in together for word in typed))) == sorted(expected)


@pytest.mark.parametrize("words", sorted(LATER))
def test_a_sweep_is_refused_alike(tmp_path: Path, words: str) -> None:
    typed, expected = WRONG[words]
    found = refused(tmp_path, "-m", "seed=0,1", *typed)
    assert len(found) == len(typed) if expected is None else sorted(found) == sorted(expected)


@pytest.mark.parametrize(
    ("words", "must"),
    [
        (["depth=1,2"], "depth=1,2: several values make a sweep: add -m"),
        (
            ["-m", "lr=interval(0,1)"],
            "lr=interval(0,1): must be a list of values, such as 1,2,5 or range(1,5); an interval is for hydra/sweeper=optuna",
        ),
        (["-m", "tracking.experiment=a,b"], "tracking.experiment=a,b: can't be swept: it holds for a sweep as a whole"),
        (["-m", "rerun=all,failed"], "rerun=all,failed: can't be swept: it holds for a sweep as a whole"),
        (["-m", "init=he,lecan"], f"init=lecan: must be one of {', '.join(groups([config_dir()])['init'])}; did you mean 'lecun'?"),
        (["--cfg", "job", "dpeth=3"], "dpeth=3: no such key; did you mean 'depth'?"),
        (["-m", "seed=range(0,0)"], "seed=range(0,0): has no values"),
        (["-m", "activation=glob(*)"], "activation=glob(*): glob(…) chooses among the options of a group; list the values"),
        (["-m", "init=glob(zzz*)"], "-m: no values, no runs: an option list is empty"),
        (["hydra.mode=RUN", "depth=1,2"], "depth=1,2: several values make a sweep: add -m"),
        (["init@foo=he"], "init@foo=he: Could not override 'init@foo'."),
        (["hydra.foo=1"], "hydra.foo=1: Could not override 'hydra.foo'. (Key 'foo' not in 'HydraConf')"),
        (["-m", "hydra.mode=MULTIRUN", "depth=0"], "depth=0: must be a whole number, at least 1, at most 10,000"),
    ],
)
def test_sweeps_that_are_none(tmp_path: Path, words: list[str], must: str) -> None:
    assert refused(tmp_path, *words) == [must]


def test_a_server_that_is_not_there_is_told_of_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # a port where nobody listens
        uri = f"http://127.0.0.1:{taken.getsockname()[1]}"
        (line,) = refused(tmp_path, "-m", "seed=0,1", f"tracking.uri={uri}")
    assert line.startswith(f"tracking.uri={uri}: must be a store that can be opened (")


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (line,) = refused(tmp_path, "depth=[1")
    assert line.startswith("depth=[1: can't be read (")


def test_targets_outside_the_range_of_the_output(tmp_path: Path) -> None:
    np.savez(tmp_path / "wide.npz", x=np.ones((10, 2)), y=np.linspace(-3, 3, 10))
    (line,) = refused(tmp_path, "data=npz", "data.path=wide.npz", "batch_size=2")
    assert line == "output=sigmoid: reaches 0 … 1, but the targets of data=npz lie in -3 … 3"


def test_help_explains_every_key(tmp_path: Path) -> None:
    done = command(tmp_path, "--help")
    assert done.returncode == 0
    assert untouched(tmp_path)
    explained = {line.split("=")[0].strip() for line in done.stdout.splitlines() if line.startswith("  ") and "=" in line}
    assert set(keys(RunConfig)) <= explained
    for group, options in groups([config_dir()]).items():
        assert f"{group}: {', '.join(options)}" in done.stdout


def test_cfg_job_shows_the_defaults(tmp_path: Path) -> None:
    done = inside(tmp_path, "--cfg", "job")
    assert done.returncode == 0
    assert untouched(tmp_path)
    shown = flatten_mapping(yaml.safe_load(done.stdout))
    assert shown == flatten_mapping(blanks())  # which output it is, the loss decides; which keys an optimizer has, its name


def flatten_mapping(values: dict[str, object], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in values.items():
        found |= flatten_mapping(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def test_every_file_of_a_data_set_composes_to_what_it_says() -> None:
    """The options of the other groups are made of tables (see test_stacked)."""
    assert groups([config_dir()])["data"]
    for option in groups([config_dir()])["data"]:
        assert yaml.safe_load((config_dir() / "data" / f"{option}.yaml").read_text())["name"] == option


def test_a_lone_run_a_range_and_a_choice_of_options(tmp_path: Path) -> None:
    small = ("steps=5", "width=4", "depth=2")
    lone = inside(tmp_path, *small, "hydra.job.chdir=true")
    assert lone.returncode == 0, lone.stderr
    assert lines(lone.stdout)[1].startswith("depth=2 width=4 lr=3")
    assert (tmp_path / "mlflow.db").exists()  # also where Hydra changes the folder
    done = inside(tmp_path, "-m", *small, "seed=range(0,2)", "init=glob(*,exclude=[s*,l*,x*,g*,i*,z*,c*,*_uniform])", "bias=true")
    assert done.returncode == 0, done.stderr
    found = bpexp.load_runs("latest", f"sqlite:///{tmp_path}/mlflow.db")
    assert found.sweep_name == "steps=5 width=4 depth=2 seed=range(0,2) init=glob(*,exclude=[s*,l*,x*,g*,i*,z*,c*,*_uniform]) bias=true"
    assert list(zip(found.runs["seed"], found.runs["init.name"], strict=True)) == [(0, "he"), (0, "orthogonal"), (1, "he"), (1, "orthogonal")]
    assert set(found.runs["name"]) == {f"depth=2 width=4 lr=3 seed={seed} init={init}" for seed in (0, 1) for init in ("he", "orthogonal")}
    assert all(found.runs["bias"])
    mode = inside(tmp_path, *small, "hydra.mode=MULTIRUN", "lr=1,2")
    assert mode.returncode == 0, mode.stderr
    assert list(bpexp.load_runs("latest", f"sqlite:///{tmp_path}/mlflow.db").runs["lr"]) == [1.0, 2.0]


@pytest.mark.parametrize(("count", "terminal"), [(100, "1"), (101, "1"), (101, None)])
def test_a_long_table_does_not_run_over_the_screen(
    count: int, terminal: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There it is told in a line what became of the runs; a file has room."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", terminal)
    rows: list[Row] = [(f"run {number}", "0.5", "90%", "0.1", "stuck" if number % 2 else "trained") for number in range(count)]
    closing(rows, connect(f"sqlite:///{tmp_path}/mlflow.db", "bpexp"), "bpexp")
    told = capsys.readouterr().out
    shown = count <= 100 or not terminal
    assert ("run 99" in told) == shown
    assert ("101 runs: 51 trained, 50 stuck." in told) != shown
    assert "python -m bpexp.report" in told


def test_another_store_and_experiment_are_named_in_the_commands_to_type_next(tmp_path: Path) -> None:
    done = inside(tmp_path, "steps=2", "width=4", "depth=2", "tracking.uri=sqlite:///sub/runs.db", "tracking.experiment=mine")
    assert done.returncode == 0, done.stderr
    where = f"sqlite:///{tmp_path}/sub/runs.db"
    assert f"python -m bpexp.ui uri={where}, then open " in done.stdout
    assert f"python -m bpexp.report experiment=mine uri={where}" in done.stdout
    assert len(bpexp.load_runs(uri=where, experiment="mine").runs) == 1


def test_tab_completion_in_other_shells_is_hydras(tmp_path: Path) -> None:
    done = inside(tmp_path, "-sc", "install=zsh")
    assert done.returncode == 0
    assert "complete" in done.stdout
