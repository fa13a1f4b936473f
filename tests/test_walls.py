"""Who may import what: each heavy package is known to one room, and rooms know each other one way only.

Read off the sources, so that an import inside a function or under TYPE_CHECKING counts as well; then off the modules that a process really loads.
"""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.cli import ROOT, environment

# A package, and the only places that may name it.
OWNERS = {
    "hydra": ("bpexp.sweep", "bpexp.__main__", "hydra_plugins"),
    "omegaconf": ("bpexp.sweep", "bpexp.cli"),
    "mlflow": ("bpexp.tracking",),
    "sqlalchemy": ("bpexp.tracking",),
    "pyarrow": ("bpexp.tracking",),
    "pandas": ("bpexp.tracking", "bpexp.measures", "bpexp.report"),
    "matplotlib": ("bpexp.report",),
    "jinja2": ("bpexp.report",),
    "sklearn": ("bpexp.datasets",),
    "dask": ("bpexp.sweep.engines.dask",),
    "distributed": ("bpexp.sweep.engines.dask",),
    "ray": ("bpexp.sweep.engines.ray",),
    "submitit": ("bpexp.sweep.engines.submitit",),
    "joblib": ("bpexp.sweep", "bpexp.verify"),
    "rich": ("bpexp.sweep", "bpexp.report", "bpexp.verify", "bpexp.walkthrough"),
    "numba": ("bpexp.core.kernels",),
    "optuna": ("bpexp.sweep.search", "bpexp.sweep.trials"),
}

# Packages of extras that need not be there for these tests, and the requirement that brings each.
ABSENT = {"dask": "distributed", "distributed": "distributed", "ray": "ray", "submitit": "submitit"}

# A room, and the rooms of ours that it may know besides itself.
KNOWS = {
    "bpexp.core": (),
    "bpexp.durable": (),
    "bpexp.stopping": (),
    "bpexp.checkpoints": ("bpexp.core", "bpexp.durable"),
    "bpexp.theory": ("bpexp.core.activations", "bpexp.core.arrays"),
    "bpexp.theory.__main__": ("bpexp.report.theory",),  # a command with a figure, under theory's name
    "bpexp.masks": (),
    "bpexp.config": ("bpexp.core", "bpexp.masks", "bpexp.theory"),
    "bpexp.datasets": ("bpexp.config", "bpexp.core"),
    "bpexp.plugins": ("bpexp.config",),
    "bpexp.cli": ("bpexp.config", "bpexp.plugins"),
    "bpexp.experiment": ("bpexp.checkpoints", "bpexp.config", "bpexp.core", "bpexp.datasets", "bpexp.stopping", "bpexp.theory"),
    "bpexp.prediction": ("bpexp.config", "bpexp.core", "bpexp.datasets", "bpexp.theory"),
    "bpexp.tracking": ("bpexp.config", "bpexp.core", "bpexp.durable", "bpexp.experiment", "bpexp.masks", "bpexp.plugins"),
    "bpexp.measures": ("bpexp.config", "bpexp.core", "bpexp.datasets", "bpexp.prediction", "bpexp.theory", "bpexp.tracking.reader"),
    "bpexp.report": (
        "bpexp.cli",
        "bpexp.config",
        "bpexp.core",
        "bpexp.datasets",
        "bpexp.measures",
        "bpexp.prediction",
        "bpexp.stopping",
        "bpexp.theory",
        "bpexp.tracking.compared",
        "bpexp.tracking.kept",
        "bpexp.tracking.pages",
        "bpexp.tracking.reader",
    ),
    "bpexp.walkthrough": ("bpexp.cli", "bpexp.config", "bpexp.core"),
    "bpexp.status": ("bpexp.cli", "bpexp.config", "bpexp.sweep.screen", "bpexp.tracking"),
    "bpexp.sync": ("bpexp.cli", "bpexp.config", "bpexp.masks", "bpexp.tracking"),
    "bpexp.ui": ("bpexp.cli", "bpexp.config", "bpexp.stopping", "bpexp.tracking"),
    "bpexp.sweep": (
        "bpexp.checkpoints",
        "bpexp.cli",
        "bpexp.config",
        "bpexp.core",
        "bpexp.experiment",
        "bpexp.masks",
        "bpexp.plugins",
        "bpexp.stopping",
        "bpexp.tracking",
    ),
    "bpexp.verify": ("bpexp.cli", "bpexp.config", "bpexp.measures", "bpexp.report", "bpexp.stopping", "bpexp.sweep", "bpexp.tracking"),
    "bpexp.__main__": ("bpexp.sweep",),
    "hydra_plugins": ("bpexp.sweep",),
}
DOOR = "bpexp"  # the package itself: what it offers to users, it fetches from any room
STUBS = {"_typeshed"}  # exists for type checkers only

FILES = [*sorted((ROOT / "bpexp").rglob("*.py")), *sorted((ROOT / "hydra_plugins").rglob("*.py"))]


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(source: str, module: str = "bpexp.somewhere") -> Iterator[str]:
    """Every module that a source names in an import, wherever it stands; `from a import b` names `a.b`, as b may be a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*module.split(".")[: -node.level], *filter(None, [node.module])]) if node.level else str(node.module)
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                yield node.args[0].value


def inside(name: str, places: tuple[str, ...] | list[str]) -> bool:
    return any(f"{name}.".startswith(f"{place}.") for place in places)


@cache
def all_imports() -> frozenset[tuple[str, str]]:
    """(module of ours, what it imports)."""
    return frozenset((module_name(file), name) for file in FILES for name in imported(file.read_text(), module_name(file)))


def ours() -> Iterator[tuple[str, str]]:
    """(module of ours, module or name of ours that it imports)."""
    return ((module, name) for module, name in all_imports() if inside(name, ("bpexp", "hydra_plugins")))


def foreign() -> Iterator[tuple[str, str]]:
    """(module of ours, package of others that it imports), the standard library's left out."""
    for module, name in all_imports() - set(ours()):
        package = name.partition(".")[0]
        if package not in sys.stdlib_module_names | STUBS:
            yield module, package


def test_imports_are_found_wherever_they_stand() -> None:
    source = """
import a, b.c as d
from e.f import g
def function():
    from h import i
    import_module("j")
    importlib.import_module("k.l")
if TYPE_CHECKING:
    import m
from . import n
from ..o import p
"""
    assert sorted(imported(source, "x.y.z")) == ["a", "b.c", "e.f.g", "h.i", "j", "k.l", "m", "x.o.p", "x.y.n"]


@pytest.mark.parametrize("package", OWNERS)
def test_a_heavy_package_is_known_where_it_belongs(package: str) -> None:
    places = {module for module, name in foreign() if name == package}
    assert places, f"nothing imports {package}: take it off the list"
    assert not {module for module in places if not inside(module, OWNERS[package])}


@pytest.mark.parametrize("room", ["bpexp.core", "bpexp.theory"])
def test_the_core_and_the_theory_are_numpy_scipy_and_themselves(room: str) -> None:
    assert {package for module, package in foreign() if inside(module, (room,))} - {"numba"} == {"numpy", "scipy"}


def test_rooms_know_each_other_one_way() -> None:
    wrong = []
    for module, name in ours():
        if DOOR in (module, name):  # `import bpexp` tells where the package lies
            continue
        room = max((room for room in KNOWS if inside(module, (room,))), key=len)
        if not inside(name, [room, *KNOWS[room]]):
            wrong.append(f"{module} imports {name}")
    assert not wrong


def test_the_core_never_looks_at_the_package_that_holds_it() -> None:
    assert not {(module, name) for module, name in ours() if inside(module, ("bpexp.core",)) and not inside(name, ("bpexp.core",))}


def distributions(lines: list[str]) -> set[str]:
    """The distributions that requirements name, those of extras left out."""
    requirements = [Requirement(line) for line in lines]
    always = [it for it in requirements if it.marker is None or it.marker.evaluate({"extra": ""})]
    return {it.name.lower().replace("_", "-") for it in always}


def test_all_that_is_imported_is_declared_and_the_reverse() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared, extras = distributions(project["dependencies"]), project["optional-dependencies"]
    chosen = distributions(extras["fast"] + extras["optuna"])
    providers = packages_distributions()
    packages = {package for _, package in foreign()}
    used = {package: {name.lower().replace("_", "-") for name in providers[package]} for package in packages - ABSENT.keys()}
    brought = declared.union(*(distributions(requires(name) or []) for name in declared))  # mlflow brings sqlalchemy, pydantic its core
    assert {package for package, names in used.items() if not names & (brought | chosen)} == set()
    assert declared - set().union(*used.values()) == set()
    assert packages >= ABSENT.keys()
    assert set(ABSENT.values()) == distributions(extras["dask"] + extras["ray"] + extras["submitit"])


LOADS = {
    "import bpexp": {
        "numba",
        "hydra",
        "mlflow",
        "matplotlib",
        "omegaconf",
        "pandas",
        "pyarrow",
        "rich",
        "scipy.optimize",
        "scipy.special",
        "sklearn",
    },
    "import bpexp; bpexp.train(bpexp.RunConfig(depth=2, width=4, steps=2))": {"hydra", "mlflow", "matplotlib", "omegaconf", "pandas", "sklearn"},
    "import bpexp.sweep.app, hydra_plugins.bpexp_search": {
        "joblib",
        "mlflow",
        "matplotlib",
        "optuna",
        "pandas",
        "rich",
        "scipy.optimize",
        "scipy.special",
        "sklearn",
    },
    "import bpexp.report.__main__": {"hydra", "mlflow", "matplotlib", "pandas", "scipy.optimize", "sklearn"},
}


@pytest.mark.parametrize("code", LOADS)
def test_what_is_not_needed_is_not_loaded(code: str, tmp_path: Path) -> None:
    line = [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"]
    done = subprocess.run(line, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not LOADS[code] & set(done.stdout.split())
    assert "numpy" in done.stdout.split()  # the list is one
