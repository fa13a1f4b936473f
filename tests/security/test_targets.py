"""What a stranger's configuration would have Hydra do is refused before anything is done."""

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import hydra
import pytest
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

import bpexp.sweep.app
from bpexp.sweep.allowed import TARGETS, guard
from bpexp.sweep.names import config_dir
from tests.hydra_state import kept

CALL = "{_target_: builtins.open, file: marker, mode: w}"  # Hydra's own list of what is dangerous does not have it
CHOSEN = "hydra/callbacks=x"
LOGGER = "version: 1\nroot: {level: INFO, handlers: [x]}\ndisable_existing_loggers: false\n"
MAIN = "defaults: [schema, _self_]\n"

Refusal = Callable[..., list[str]]


@pytest.fixture
def hydra_as_it_was() -> Iterator[None]:
    with kept():
        yield


@pytest.fixture
def refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], hydra_as_it_was: None) -> Refusal:
    """The lines of a command that leaves with exit code 2 and nothing behind, run in this process."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def run(*words: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["bpexp", *words])
        with pytest.raises(SystemExit) as left:
            bpexp.sweep.app.main()
        out, err = capfd.readouterr()
        assert left.value.code == 2, err
        assert out == ""
        assert not list(work.iterdir())
        return err.splitlines()

    return run


def folder(tmp_path: Path, **files: str) -> str:
    """A stranger's folder of configurations: texts by path, in which __ is a slash."""
    for name, text in files.items():
        path = tmp_path / "evil" / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(tmp_path / "evil")


def composed(capfd: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """What is said when the loader composes these words; nothing where it does."""
    bpexp.sweep.app._register()
    guard()
    with suppress(SystemExit), hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        hydra.compose("config", list(words))
    return capfd.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("word", "key"),
    [
        (f"+hydra.callbacks.x={CALL}", "hydra.callbacks.x._target_=builtins.open"),
        (
            f"+hydra.callbacks.x={{_target_: hydra.experimental.callbacks.LogJobReturnCallback, y: {CALL}}}",
            "hydra.callbacks.x.y._target_=",
        ),
        ("+hydra.callbacks.x._target_=hydra.experimental.callbacks.PickleJobInfoCallback", "hydra.callbacks.x._target_=hydra.experimental"),
        ("hydra.launcher._target_=os.system", "hydra.launcher._target_=os.system"),
        (f"+hydra.launcher.x={CALL}", "hydra.launcher.x._target_=builtins.open"),
        (f"+hydra.launcher.x=[[{CALL}]]", "hydra.launcher.x.0.0._target_=builtins.open"),
        ("hydra.sweeper._target_=os.system", "hydra.sweeper._target_=os.system"),
        (f"hydra.sweeper.params={{depth: {CALL}}}", "hydra.sweeper.params.depth._target_=builtins.open"),
        ("+hydra.job.env_set.PATH=evil", "hydra.job.env_set.PATH=evil"),
        ("+hydra.job.env_set.X='${oc.env:HOME}'", "hydra.job.env_set.X=${oc.env:HOME}"),
        ("hydra.job_logging.handlers.console.class=os.system", "hydra.job_logging.handlers.console.class=os.system"),
        ("hydra.job_logging.handlers.file.filename=/tmp/x", "hydra.job_logging.handlers.file.filename=/tmp/x"),
        ("hydra.job_logging.handlers.console.stream='ext://antigravity'", "hydra.job_logging.handlers.console.stream=ext://antigravity"),
        ("hydra.job_logging.formatters.simple.format='cfg://root'", "hydra.job_logging.formatters.simple.format=cfg://root"),
        ("hydra.job.name=../../x", "hydra.job.name=../../x"),
        ("hydra.output_subdir=../../x", "hydra.output_subdir=../../x"),
        ("hydra.output_subdir=..", "hydra.output_subdir=.."),
        ("hydra.searchpath=['pkg://antigravity']", "hydra.searchpath=pkg://antigravity"),
    ],
)
def test_words(capfd: pytest.CaptureFixture[str], hydra_as_it_was: None, word: str, key: str) -> None:
    lines = composed(capfd, word)
    assert len(lines) == 1
    assert lines[0].startswith(f"bpexp: {key}")
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("files", "chosen", "key"),
    [
        ({"hydra__callbacks__x": f"x: {CALL}"}, CHOSEN, "hydra.callbacks.x._target_"),
        ({"hydra__launcher__x": CALL}, "hydra/launcher=x", "hydra.launcher._target_"),
        ({"hydra__sweeper__x": CALL}, "hydra/sweeper=x", "hydra.sweeper._target_"),
        ({"data__x": f"# @package _global_\nhydra: {{callbacks: {{x: {CALL}}}}}"}, "data=x", "hydra.callbacks.x._target_"),
        ({"data__x": f"# @package _global_\nx: {CALL}\nhydra: {{callbacks: {{x: '${{x}}'}}}}"}, "data=x", "hydra.callbacks.x._target_"),
        ({"data__x": f"# @package _global_\nhydra: {{callbacks: '${{oc.decode:\"{{x: {CALL}}}\"}}'}}"}, "data=x", "hydra.callbacks"),
        ({"data__x": f"# @package _global_\nx: {CALL}\nhydra: {{launcher: {{x: '${{x}}'}}}}"}, "data=x", "hydra.launcher.x._target_"),
        ({"data__x": "# @package _global_\nx: {A: b}\nhydra: {job: {env_set: '${x}'}}"}, "data=x", "hydra.job.env_set"),
        ({"hydra__job_logging__x": LOGGER + "handlers: {x: {(): builtins.open, file: marker}}"}, "hydra/job_logging=x", "hydra.job_logging"),
        (
            {"hydra__hydra_logging__x": LOGGER + "handlers: {x: {(): builtins.open, file: marker}}"},
            "hydra/hydra_logging=x",
            "hydra.hydra_logging",
        ),
        (
            {"hydra__job_logging__x": LOGGER + "formatters: {x: {(): builtins.open, file: marker}}"},
            "hydra/job_logging=x",
            "hydra.job_logging.formatters",
        ),
        ({"hydra__job_logging__x": LOGGER + "filters: {x: {(): builtins.open, file: marker}}"}, "hydra/job_logging=x", "hydra.job_logging."),
    ],
)
def test_files(capfd: pytest.CaptureFixture[str], tmp_path: Path, hydra_as_it_was: None, files: dict[str, str], chosen: str, key: str) -> None:
    lines = composed(capfd, f"hydra.searchpath=['file://{folder(tmp_path, **files)}']", chosen)
    assert lines
    assert all(line.startswith(f"bpexp: {key}") for line in lines), lines


@pytest.mark.parametrize("words", [[CHOSEN], ["-m", "depth=2,3", CHOSEN], ["-m", "depth=2,3", "hydra/sweeper=basic", CHOSEN], ["study=x"]])
def test_nothing_is_begun(refusal: Refusal, tmp_path: Path, words: list[str]) -> None:
    study = f"# @package _global_\nhydra: {{callbacks: {{x: {CALL}}}}}"
    (line,) = refusal("--config-dir", folder(tmp_path, hydra__callbacks__x=f"x: {CALL}", study__x=study), *words)
    assert line.startswith("bpexp: hydra.callbacks.x._target_=builtins.open: must be hydra.experimental.callbacks.LogJobReturnCallback")


def test_a_main_configuration_of_somebody_elses(refusal: Refusal, tmp_path: Path) -> None:
    evil = folder(tmp_path, config=f"{MAIN}hydra: {{callbacks: {{x: {CALL}}}}}", other=f"{MAIN}hydra: {{launcher: {{_target_: os.system}}}}")
    folder(tmp_path, packages=f"{MAIN}hydra: {{searchpath: ['pkg://antigravity']}}", uri=f"{MAIN}tracking: {{uri: 'http://me:secret@h'}}")
    assert refusal("--config-path", evil)[0].startswith("bpexp: hydra.callbacks.x._target_=")
    assert refusal("--config-path", evil, "--config-name", "packages")[0].startswith("bpexp: hydra.searchpath=pkg://antigravity")
    assert refusal("--config-dir", evil, "--config-name", "uri")[0].startswith("bpexp: tracking.uri=http://***@h: must hold no password")
    assert refusal("--config-dir", evil, "--config-name", "other")[0].startswith("bpexp: hydra.launcher._target_=")


def test_a_job_of_a_sweep(capfd: pytest.CaptureFixture[str], tmp_path: Path, hydra_as_it_was: None) -> None:
    """Logging is set up for each job anew, from what its own words come to, whichever launcher and sweeper compose it."""
    evil = folder(tmp_path, data__x="# @package _global_\nhydra: {job_logging: {formatters: {simple: {(): os.system}}}}")
    bpexp.sweep.app._register()
    guard()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        sweep = loader.load_configuration("config", [f"hydra.searchpath=['file://{evil}']", "hydra.mode=MULTIRUN"], RunMode.MULTIRUN)
        assert loader.load_sweep_config(sweep, ["data=noise"]).data.name == "noise"
        with pytest.raises(SystemExit):
            loader.load_sweep_config(sweep, ["data=x"])
    assert capfd.readouterr().err == "bpexp: hydra.job_logging.formatters.simple.()=os.system: must not be there: () is for programs\n"


def test_what_slurm_runs_is_typed(capfd: pytest.CaptureFixture[str], tmp_path: Path, hydra_as_it_was: None) -> None:
    launcher = f"_target_: {TARGETS['launcher', '_target_'][-1]}\n"
    texts = {"a": "setup: [touch marker]", "b": 'partition: "x\\ntouch marker"', "c": "partition: x"}
    evil = folder(tmp_path, **{f"hydra__launcher__{name}": launcher + text for name, text in texts.items()})
    path = f"hydra.searchpath=['file://{evil}']"
    assert composed(capfd, path, "hydra/launcher=a")[0].startswith("bpexp: hydra.launcher.setup=['touch marker']: must be typed")
    assert composed(capfd, path, "hydra/launcher=b")[0].startswith("bpexp: hydra.launcher.partition=x\\ntouch marker: must be typed")
    assert composed(capfd, path, "hydra/launcher=c") == []


def test_whom_to_trust_is_typed(capfd: pytest.CaptureFixture[str], tmp_path: Path, hydra_as_it_was: None) -> None:
    """What comes from a scheduler is unpickled."""
    stacked = (config_dir() / "hydra/launcher/stacked.yaml").read_text()
    evil = folder(tmp_path, hydra__launcher__a=stacked.replace("address: null", "address: evil:8786").replace("backend: processes", "backend: dask"))
    path = f"hydra.searchpath=['file://{evil}']"
    assert composed(capfd, path, "hydra/launcher=a")[0].startswith("bpexp: hydra.launcher.address=evil:8786: must be typed")
    assert composed(capfd, path, "hydra/launcher=a", "hydra.launcher.address=good:8786") == []


@pytest.mark.parametrize(
    "words",
    [
        ["hydra/launcher=submitit_slurm", "hydra.launcher.setup=[module load python]"],
        ["hydra/launcher=submitit_local"],
        ["hydra/launcher=joblib"],
        ["hydra/launcher=basic", "hydra/sweeper=basic"],
        ["+hydra.callbacks.x._target_=hydra.experimental.callbacks.LogJobReturnCallback"],
        ["hydra/job_logging=stdout", "hydra/hydra_logging=hydra_debug"],
        ["hydra/job_logging=none", "hydra/hydra_logging=disabled", "+hydra.job_logging.root.level=DEBUG"],
        ["study=cures"],
        ["study=fractal"],
    ],
)
def test_what_is_allowed(capfd: pytest.CaptureFixture[str], hydra_as_it_was: None, words: list[str]) -> None:
    assert composed(capfd, *words) == []


def test_every_row_is_a_class() -> None:
    for allowed in TARGETS.values():
        for path in allowed:
            module, _, name = path.rpartition(".")
            assert hasattr(__import__(module, fromlist=[name]), name), path


def test_without_the_guard_hydra_does_as_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hydra_as_it_was: None) -> None:
    monkeypatch.chdir(tmp_path)
    bpexp.sweep.app._register()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        Callbacks(hydra.compose("config", [f"+hydra.callbacks.x={CALL}"], return_hydra_config=True)).callbacks[0].close()
    assert Path("marker").exists()
