"""Nothing that is read is run: no pickles, no Python in YAML, whoever wrote the file."""

import ast
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bpexp.cli import arguments
from bpexp.config import ConfigError, DataConfig, RunConfig
from bpexp.datasets import load
from bpexp.experiment import prepare, run
from bpexp.report.__main__ import ReportConfig
from bpexp.tracking.reader import load_runs
from bpexp.tracking.sink import MlflowSink
from bpexp.tracking.store import Store
from bpexp.verify.study import find
from tests.cli import ROOT
from tests.security.test_targets import Refusal, hydra_as_it_was, refusal

__all__ = ["hydra_as_it_was", "refusal"]

TAG = "!!python/object/apply:os.system ['touch marker']"
PICKLES = {"cloudpickle", "dill", "marshal", "pickle", "shelve"}
RUNS_CODE = {"read_pickle", "unsafe_load", "full_load", "eval", "exec"}
LOADERS = {"joblib", "torch", "yaml"}  # whose `load` runs what it is given


class Attack:
    """What its pickle does to whoever reads it."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("marker",)


def dangers(source: str) -> Iterator[str]:
    """What of a module's source would run what it reads."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
            yield from sorted(PICKLES & {name.partition(".")[0] for name in names})
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
        owner = node.func.value.id if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) else ""
        words = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if name in RUNS_CODE or (name == "load" and owner in LOADERS) or "shell" in words:
            yield f"{owner}.{name}"
        if (name, owner) == ("load", "np") and words.get("allow_pickle") != "False":
            yield "np.load"


@pytest.mark.parametrize(
    "line",
    [
        *[
            "import pickle",
            "from dill import x",
            "np.load(f)",
            "np.load(f, allow_pickle=True)",
            "joblib.load(f)",
            "torch.load(f)",
            "pd.read_pickle(f)",
        ],
        *["yaml.load(f, Loader=L)", "yaml.unsafe_load(f)", "eval(x)", "subprocess.run(x, shell=True)"],
    ],
)
def test_dangers_are_seen(line: str) -> None:
    assert list(dangers(f"def f():\n    {line}"))


def test_the_source_has_none() -> None:
    files = [*ROOT.glob("bpexp/**/*.py"), *ROOT.glob("hydra_plugins/*.py")]
    assert len(files) > 80
    assert {str(file.relative_to(ROOT)): found for file in files if (found := list(dangers(file.read_text())))} == {}


def test_an_array_file_with_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("evil.npz", x=np.array([Attack()], dtype=object), y=np.zeros(1))
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(Attack()))
    for path in ("evil.npz", "bare.npz"):
        with pytest.raises(ConfigError, match=r"must be a \.npz file of plain numeric arrays"):
            load(DataConfig(name="npz", path=path))
    assert not Path("marker").exists()
    np.load("evil.npz", allow_pickle=True)["x"]  # that it is an attack
    assert Path("marker").is_dir()


@pytest.mark.parametrize("place", ["data/x", "hydra/launcher/x"])
def test_python_in_a_configuration(refusal: Refusal, tmp_path: Path, place: str) -> None:
    file = tmp_path / "evil" / f"{place}.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(f"x: {TAG}\n")
    group, _, option = place.rpartition("/")
    (line,) = refusal("--config-dir", str(tmp_path / "evil"), f"{group}={option}")
    assert "could not determine a constructor for the tag 'tag:yaml.org,2002:python/object/apply:os.system'" in line


def test_python_in_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study").mkdir()
    (tmp_path / "study/x.yaml").write_text(f"study: {TAG}\n")
    with pytest.raises(ConfigError, match="study=x: can't be read"):
        find([tmp_path])
    assert not Path("marker").exists()


@pytest.mark.parametrize("word", [f"out={TAG}", f"sweep={{a: {TAG}}}", f"{TAG}=1"])
def test_python_in_a_word(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        arguments(ReportConfig, [word], "")
    assert left.value.code == 2
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().err.startswith("bpexp: ")


def test_a_pickle_for_an_artifact(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sink = MlflowSink(store)
    run(prepare(RunConfig(depth=2, width=4, steps=2)), sink)
    (Path(sink.artifacts) / "curves.parquet").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(Exception, match="Parquet"):
        load_runs(sink.run_id, store.uri)
    assert not list(tmp_path.iterdir())
