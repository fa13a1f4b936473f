"""`python -m bpexp.report` as a user runs it: a process of its own, a real store, real runs, and no Hydra anywhere."""

import json
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bpexp.experiment import prepare, run
from bpexp.report import watching
from bpexp.report.__main__ import main
from bpexp.report.page import folder_name
from bpexp.tracking.kept import REPORT, keep
from bpexp.tracking.parent import Planned, SweepRun
from bpexp.tracking.reader import Runs, load_runs
from bpexp.tracking.sink import MlflowSink, run_name
from bpexp.tracking.store import Store, connect, resolve
from tests.cli import environment
from tests.report.studies import configs

ROOT = Path(__file__).parents[2]
NAME = "depth=3,6"


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")} | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-m", "bpexp.report", *words], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def as_a_module(name: str, monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    """The exit code of `python -m name words…`, here."""
    monkeypatch.setattr(sys, "argv", [name, *words])
    for module in (name, f"{name}.__main__"):
        if hasattr(sys.modules.get(module), "main"):
            monkeypatch.delitem(sys.modules, module)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(name, run_name="__main__")
    return ended.value.code


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def filled(store: Store, name: str, depths: list[int], broken: bool = False) -> None:
    """A sweep over depths, every run trained and tracked; if `broken`, one more run that failed at its start."""
    wanted = configs(depth=[*depths, 9] if broken else depths)
    planned = [Planned([f"depth={config.depth}"], prepare(config).fingerprint, run_name(config)) for config in wanted]
    parent = SweepRun(store, name, {"depth": ",".join(map(str, depths))}, planned)
    for job, config in enumerate(wanted):
        config.tracking.parent = parent.run_id
        sink = MlflowSink(store, job=job)
        if job < len(depths):
            run(prepare(config), sink)
        else:
            sink.open(prepare(config))
            sink.abort(RuntimeError("out of luck"))
    parent.close("FINISHED", {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of two sweeps, and nothing of Hydra's."""
    folder = tmp_path_factory.mktemp("work")
    store = connect(resolve("sqlite:///mlflow.db", folder), "bpexp")
    filled(store, NAME, [3, 6], broken=True)
    filled(store, "newest", [4])
    return folder


@pytest.fixture(scope="module")
def printed(folder: Path) -> list[Path]:
    """What a process of its own says that it has written."""
    before = listing(folder)
    done = command(folder, f"sweep={NAME}")
    assert (done.returncode, done.stderr) == (0, "")
    assert not {name for name in listing(folder) - before if not name.startswith("reports")}  # no database, no Hydra folder
    return [Path(line) for line in done.stdout.splitlines()]


def test_the_command_writes_a_report_from_mlflow_alone(folder: Path, printed: list[Path]) -> None:
    assert printed[-1].name == "index.html"
    assert {path.parts[0] for path in printed} == {"reports"}
    home = folder / printed[-1].parent
    assert home.name.startswith("depth-3-6-")
    assert {path.name for path in printed} == {path.name for path in home.iterdir()}
    runs = load_runs(NAME, resolve("sqlite:///mlflow.db", folder))
    assert home.name == f"depth-3-6-{str(runs.sweep_id)[:8]}"
    text = (home / "index.html").read_text()
    assert list(runs.runs["status"]) == ["FINISHED", "FINISHED", "FAILED"]
    for loss in runs.runs["final_loss"].dropna():
        assert f">{loss:.3f}<" in text
    assert ">failed<" in text


def artifacts(folder: Path, run_id: str) -> dict[str, bytes]:
    """What MLflow keeps of a run's report."""
    place = Path(connect(resolve("sqlite:///mlflow.db", folder), "bpexp").client.get_run(run_id).info.artifact_uri) / REPORT
    return {path.name: path.read_bytes() for path in place.iterdir()} if place.exists() else {}


def test_mlflow_keeps_the_report_with_its_sweep(folder: Path, printed: list[Path]) -> None:
    runs = load_runs(NAME, resolve("sqlite:///mlflow.db", folder), frames=())
    assert artifacts(folder, str(runs.sweep_id)) == {path.name: (folder / path).read_bytes() for path in printed}
    assert not any(artifacts(folder, run_id) for run_id in runs.runs["run_id"])


def test_a_report_takes_the_place_of_an_earlier_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a lone run, too; nothing is kept where that is not wanted, or where there is nothing that all runs belong to."""
    monkeypatch.chdir(folder)
    (lone,) = load_runs("newest", resolve("sqlite:///mlflow.db", folder), frames=()).runs["run_id"]
    assert main([f"sweep={lone}", "log=false"]) == 0
    assert artifacts(folder, lone) == {}
    assert main([f"sweep={lone}"]) == 0
    first = artifacts(folder, lone)
    assert "index.html" in first
    store = connect(resolve("sqlite:///mlflow.db", folder), "bpexp")
    store.client.log_text(lone, "of a figure that is no more", f"{REPORT}/old.csv")
    assert keep(store.uri, lone, [folder / "reports" / folder_name(load_runs(lone, store.uri)) / name for name in first]) == ""
    assert artifacts(folder, lone) == first
    before = listing(folder)
    assert main(["sweep=null"]) == 0
    assert not {name for name in listing(folder) - before if not name.startswith("reports")}


def test_an_interruption_leaves_the_earlier_report(tmp_path: Path) -> None:
    store = connect(resolve("sqlite:///mlflow.db", tmp_path), "bpexp")
    run_id = store.client.create_run(store.experiment_id).info.run_id
    files = [tmp_path / name for name in ("a.png", "b.png", "index.html")]

    def drawn(text: str, until: int = 3) -> Iterator[Path]:
        for file in files[:until]:
            file.write_text(text)
            yield file
        if until < len(files):
            raise KeyboardInterrupt

    assert keep(store.uri, run_id, drawn("old")) == ""
    with pytest.raises(KeyboardInterrupt):
        keep(store.uri, run_id, drawn("new", until=1))
    assert artifacts(tmp_path, run_id) == {"a.png": b"new", "b.png": b"old", "index.html": b"old"}


def test_where_mlflow_cannot_keep_a_report_it_stands_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    runs = load_runs(NAME, resolve("sqlite:///mlflow.db", folder), frames=()).runs
    (failed,) = runs["run_id"][runs["status"] == "FAILED"]
    place = Path(connect(resolve("sqlite:///mlflow.db", folder), "bpexp").client.get_run(failed).info.artifact_uri)
    assert not place.exists()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("no folder")
    assert main([f"sweep={failed}"]) == 0
    told = capsys.readouterr()
    place.unlink()
    (line,) = told.err.splitlines()
    assert line.startswith(f"bpexp: the report is not kept in MLflow: run {failed} can't be written to (")
    assert Path(told.out.splitlines()[-1]).exists()


def test_a_sweep_is_watched_until_it_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real sweep, to which something happens at every other look; what has not changed is not drawn again."""
    monkeypatch.setattr(watching, "SECONDS", 0.01)
    monkeypatch.chdir(tmp_path)
    store = connect(resolve("sqlite:///mlflow.db", tmp_path), "bpexp")
    wanted = configs(depth=[2, 3])
    parent = SweepRun(store, "watched", {}, [Planned([], prepare(config).fingerprint, run_name(config)) for config in wanted])
    sinks = [MlflowSink(store, job=job) for job in range(2)]
    events: Iterator[Callable[[], object]] = iter(
        [
            lambda: sinks[0].open(prepare(wanted[0])),
            lambda: sinks[0].abort(RuntimeError("no")),
            lambda: run(prepare(wanted[1]), sinks[1]),
            lambda: filled(store, "newer", []),  # which is not the one that is watched
            lambda: parent.close("FINISHED", {}),
        ]
    )
    looks, drawn = [], []

    def load(sweep: str | None, whole: bool) -> Runs:
        looks.append(whole)
        if not whole and looks.count(False) % 2 == 0:
            next(events)()
        return load_runs(sweep, store.uri, frames=("curves",) if whole else ())

    def draw(runs: Runs) -> None:
        drawn.append((list(runs.runs["status"]), len(runs.by_run("curves")), runs.at_work))

    watching.watch(load, "latest", draw)
    both = ["FAILED", "FINISHED"]
    assert drawn == [(["RUNNING"], 0, True), (["FAILED"], 0, True), (both, 1, True), (both, 1, False)]
    assert looks.count(True) == len(drawn)
    assert not list(events)


def test_ctrl_c_ends_the_watching(tmp_path: Path) -> None:
    """With what has been drawn, which is not read again."""
    store = connect(resolve("sqlite:///mlflow.db", tmp_path), "bpexp")
    wanted = configs(depth=[2, 3])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        parent = SweepRun(store, "watched", {}, [Planned([], prepare(config).fingerprint, run_name(config)) for config in wanted])
    wanted[0].tracking.parent = parent.run_id
    MlflowSink(store).open(prepare(wanted[0]))
    line = [sys.executable, "-m", "bpexp.report", "watch=true", "log=true"]
    with subprocess.Popen(line, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        told = process.stdout.readline()
        page = tmp_path / told.partition(":")[0]
        watched = page.read_text()
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "")
    assert told.endswith("index.html: 0 runs have ended, 1 are running\n")
    assert process.returncode == 130
    assert 'http-equiv="refresh"' in watched
    assert 'http-equiv="refresh"' not in page.read_text()
    assert artifacts(tmp_path, parent.run_id) == {}


def test_another_process_writes_the_same_bytes(
    folder: Path, printed: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert main([f"sweep={NAME}", "out=again"]) == 0
    again = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path("reports", *path.parts[1:]) for path in again] == printed
    for first, second in zip(printed, again, strict=True):
        assert (folder / first).read_bytes() == (folder / second).read_bytes()


def test_the_newest_sweep_is_the_default(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)
    assert main(["out=newest"]) == 0
    assert all(Path(line).parent.name.startswith("newest-") for line in capsys.readouterr().out.splitlines())


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command in a folder, here; the one line with which it refuses."""

    def refusal(folder: Path, *words: str) -> str:
        monkeypatch.chdir(folder)
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        before = listing(folder)
        try:
            code: object = main(words)
        except SystemExit as left:
            code = left.code
        told = capsys.readouterr()
        assert (code, told.out) == (2, "")
        (line,) = told.err.splitlines()
        assert line.startswith("bpexp: ")
        assert listing(folder) == before
        return line

    return refusal


def test_no_store_is_one_line_and_no_new_database(tmp_path: Path, refusal: Callable[..., str]) -> None:
    assert "mlflow.db" in refusal(tmp_path)
    assert listing(tmp_path) == set()


def test_a_refusal_is_the_exit_code_of_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert as_a_module("bpexp.report", monkeypatch) == 2


def test_a_sweep_that_is_not_there_is_named(folder: Path, refusal: Callable[..., str]) -> None:
    line = refusal(folder, "sweep=nothing")
    assert "nothing" in line
    assert NAME in line  # what there is


def test_an_experiment_that_is_not_there_is_named(folder: Path, refusal: Callable[..., str]) -> None:
    assert "experiment=elsewhere" in refusal(folder, "experiment=elsewhere")


def test_an_experiment_without_runs_says_so(folder: Path, refusal: Callable[..., str]) -> None:
    connect(resolve("sqlite:///mlflow.db", folder), "empty")
    assert "no runs" in refusal(folder, "experiment=empty")


@pytest.mark.parametrize("words", [("swep=latest",), ("latest",), ("out=null",)])
def test_wrong_arguments_are_refused(tmp_path: Path, words: tuple[str, ...], refusal: Callable[..., str]) -> None:
    assert words[0].partition("=")[0] in refusal(tmp_path, *words)


def test_a_folder_that_cannot_be_written_is_one_line(folder: Path, refusal: Callable[..., str]) -> None:
    assert refusal(folder, "out=mlflow.db").startswith("bpexp: out=mlflow.db: cannot be written to")


def test_help_needs_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    told = capsys.readouterr().out
    assert all(word in told for word in ("sweep=latest", "uri=null", "experiment=bpexp", "out=reports", "log=true", "watch=false"))
    assert listing(tmp_path) == set()


def test_a_report_loads_neither_hydra_nor_pyplot(tmp_path: Path) -> None:
    code = "import bpexp.report.__main__, bpexp.report.page, json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    modules = set(json.loads(done.stdout))
    assert "bpexp.report.page" in modules
    assert not {"hydra", "matplotlib.pyplot", "bpexp.sweep"} & modules
