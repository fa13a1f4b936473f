"""What is installed is all that is needed: the wheel, in another folder."""

import os
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import bpexp
from tests.cli import ROOT, environment


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)], check=True, capture_output=True, text=True
    )
    (found,) = out.glob("*.whl")
    return found


def test_the_wheel_carries_what_is_not_python(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    conf = {f"bpexp/conf/{path.relative_to(ROOT / 'conf')}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert conf
    assert conf <= names
    package = {str(path.relative_to(ROOT)) for path in (ROOT / "bpexp").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert package <= names
    assert {"bpexp/py.typed", "hydra_plugins/bpexp_sweeper.py"} <= names
    assert not any(name.startswith(("tests/", "reports/")) for name in names)


def test_the_wheel_says_what_it_is_and_needs(wheel: Path) -> None:
    """What pip reads: the package's own version, the dependencies that pyproject.toml declares, the licence."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        told = message_from_bytes(archive.read(name))
        assert any(path.endswith("/LICENSE") for path in archive.namelist())
        (script,) = [archive.read(name).decode() for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt")]
    assert "bpexp = bpexp.sweep.app:main" in script
    assert told["Version"] == bpexp.__version__
    needed = [line for line in told.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert set(map(Requirement, needed)) == set(map(Requirement, project["dependencies"]))
    assert told["License-Expression"] == project["license"]


def test_the_same_commands_work_from_the_wheel_in_another_folder(wheel: Path, tmp_path: Path) -> None:
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    with zipfile.ZipFile(wheel) as archive:  # a wheel of pure Python is installed by unpacking it
        archive.extractall(site)
    there = environment(PYTHONPATH=str(site))

    def python(*words: str) -> str:
        done = subprocess.run([sys.executable, *words], cwd=work, env=there, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "trained" in python("-m", "bpexp", "-m", "depth=2,3", "steps=200", "width=16", "lr=3")
    place, depths = python("-c", "import bpexp; print(bpexp.__file__, *bpexp.load_runs('latest').runs['depth'], sep='\\n')").split("\n", 1)
    assert place.startswith(str(site))
    assert depths.split() == ["2", "3"]
    python("-m", "bpexp.report")
    (page,) = work.glob("reports/*/index.html")
    assert page.stat().st_size > 1000
    assert "core" in python("-m", "bpexp.walkthrough")
    assert os.fspath(work / "mlflow.db") in [os.fspath(path) for path in work.iterdir()]
