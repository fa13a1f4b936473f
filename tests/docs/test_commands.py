"""Whatever the pages tell readers to type works: each command is run, with fewer steps and neurons, or looked at, or run by a test that is named.

A new command is run as it stands; one that takes too long, or needs what is not here, gets an entry in a table below, with the reason.
"""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from bpexp.report import cures
from tests.bad_input.commands import COMMANDS, attempt
from tests.cli import ROOT, environment
from tests.docs.fences import Command, blocks, commands, python_blocks
from tests.served import Server
from tests.sweeps import empty_store

SMALL = {"steps": "steps=5", "width": "width=8"}  # of every net that a command trains, where it says nothing else
CURES = """depth=5 lr=0.1 seed=0 steps=1 width=4 hydra.sweeper.tune=null
'hydra.sweeper.variants=["","activation=tanh","norm=batch","optimizer=adam"]'"""

LEAN = "tracking.layers=[] probe_points=10 tracking.checkpoint=false hydra.output_subdir=null"

PAIR = "depth=6,10 seed=0,1 steps=200"

INSTEAD = {  # what is run in place of a command: the same, but small
    "python -m bpexp study=cures": f"python -m bpexp study=cures {CURES}",
    "python -m bpexp study=slopes": "python -m bpexp study=slopes depth=6 width=8 seed=0",
    "python -m bpexp -m depth=50 seed=range(0,5000)": "python -m bpexp -m depth=5 'seed=range(0,2)'",
    "python -m bpexp -m depth=50 seed=range(5000,10000)": "python -m bpexp -m depth=5 'seed=range(5000,5002)'",
    f"python -m bpexp -m depth=50 seed=range(0,5000) {LEAN}": f"python -m bpexp -m depth=5 'seed=range(0,2)' {LEAN}",
}

ELSEWHERE = {  # the test, or the script, that runs a command in earnest, and words of it that show that it does
    "python -m bpexp.verify slopes": (".ci/run", "python -m bpexp.verify --quick"),
    "python -m bpexp.verify": (".ci/run", "python -m bpexp.verify --quick"),
    "python -m bpexp.verify --quick": (".ci/run", "python -m bpexp.verify --quick"),
    "python -m bpexp.verify mine --config-dir claims": ("tests/verify/test_command.py", 'add(folder, "mine", example())'),
    "python -m bpexp.ui": ("tests/security/test_ui.py", '"-m", "bpexp.ui"'),
    "python -m bpexp.report sweep=depth=10,50,100": ("tests/report/test_command.py", 'command(folder, f"sweep={NAME}")'),
    f"python -m bpexp.report sweep={PAIR},{PAIR} activation=tanh": ("tests/report/test_comparison.py", 'main(["sweep=width=6 depth=3,4,width='),
    "eval $(python -m bpexp -sc install=bash)": ("tests/test_completion.py", 'eval "$(python -m bpexp -sc install=bash)"'),
}

PAGES_ELSEWHERE = {"docs/how-to/cluster.md": "tests/engines/test_docs.py"}  # pages whose commands need services, and the tests that start them

ALL = [command for command in commands() if command.page not in PAGES_ELSEWHERE]
RUN = {command.line: command for command in ALL if command.line not in ELSEWHERE}  # each once, where it is told last
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


# ---------------------------------------------------------------------------------------------- what is run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where all of it is typed, one after the other, as in a checkout."""
    folder = tmp_path_factory.mktemp("typed")
    (folder / "mlflow.db").write_bytes(empty_store())
    rng = np.random.default_rng(0)
    np.savez(folder / "mine.npz", x=rng.random((60, 5)), y=rng.integers(0, 3, 60))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(ROOT))
        yield folder


def small(words: tuple[str, ...]) -> tuple[str, ...]:
    """The words of `python -m bpexp` for a net, or a sweep, of a second."""
    if any(word.startswith(("-", "study=")) and word != "-m" for word in words):
        return words
    given = {word.partition("=")[0] for word in words}
    return (*words, *(word for key, word in SMALL.items() if key not in given), *(["hydra.launcher.n_jobs=1"] if "-m" in words else []))


def run(folder: Path, module: str, words: tuple[str, ...]) -> None:
    with patch.dict(COMMANDS, {"bpexp.report.cures": cures.main}):
        done = attempt(folder, *(small(words) if module == "bpexp" else words), command=module, seconds=240)
    assert done.code in (None, 0), done
    assert "Traceback" not in done.out + done.err
    assert "failed" not in done.err


# ---------------------------------------------------------------------------------------------- what is looked at


def look_at_pip(words: tuple[str, ...]) -> None:
    """`pip install`: of files that are there, of extras and packages that the project knows."""
    assert words[0] == "install"
    extras: Mapping[str, list[str]] = PROJECT["project"]["optional-dependencies"]
    known = {re.split(r"[<>=\[]", it)[0] for some in extras.values() for it in some}
    for before, word in pairwise(words):
        if before == "-r":
            assert (ROOT / word).is_file()
        elif word != "-r":
            of_ours = re.fullmatch(r"\.(?:\[(\w+)\])?", word)
            assert (of_ours[1] or "bench") in extras if of_ours else word in known, word


def look_at_pytest(words: tuple[str, ...]) -> None:
    """Markers and files that are there, options that pytest has."""
    assert {word for word in words if word.startswith("-")} <= {"-m", "-n", "-q", "-s"}
    valued = {word: value for word, value in pairwise(words) if word in ("-m", "-n")}
    markers = {line.partition(":")[0] for line in PROJECT["tool"]["pytest"]["ini_options"]["markers"]}
    assert set(re.findall(r"\w+", valued.get("-m", ""))) - {"or", "not", "and"} <= markers
    assert all((ROOT / word).exists() for word in words if not word.startswith("-") and word not in valued.values())


def look_at_uv(words: tuple[str, ...]) -> None:
    """`uv pip compile`: the lock files that are there, of extras that are there."""
    assert words[:3] == ("pip", "compile", "pyproject.toml")
    valued = list(pairwise(words))
    assert {value for word, value in valued if word == "--extra"} <= set(PROJECT["project"]["optional-dependencies"])
    assert all((ROOT / value).is_file() for word, value in valued if word == "-o")


def look_at_ci(words: tuple[str, ...]) -> None:
    assert not words
    assert os.access(ROOT / ".ci/run", os.X_OK)


def look_at_venv(words: tuple[str, ...]) -> None:
    assert words == (".venv",)


def look_at_activation(words: tuple[str, ...]) -> None:
    assert words == (".venv/bin/activate",)


LOOKED_AT: Mapping[tuple[str, ...], Callable[[tuple[str, ...]], None]] = {  # by how a command begins: it installs, or takes minutes
    ("python", "-m", "venv"): look_at_venv,
    ("python", "-m", "pytest"): look_at_pytest,
    ("pip",): look_at_pip,
    ("uv",): look_at_uv,
    (".ci/run",): look_at_ci,
    (".",): look_at_activation,
}


@pytest.mark.parametrize("command", [command for command in ALL if RUN.get(command.line) is command], ids=str)
def test_command(command: Command, folder: Path) -> None:
    first, *rest = shlex.split(INSTEAD[command.line]) if command.line in INSTEAD else command.words
    words = ({"python3": "python"}.get(name := first.removeprefix(".venv/bin/"), name), *rest)
    for start, look in LOOKED_AT.items():
        if words[: len(start)] == start:
            look(words[len(start) :])
            return
    assert words[:2] == ("python", "-m"), f"{command.line}: no test knows how to try this; give it an entry in a table here"
    run(folder, words[2], words[3:])


def lines_of(page: str, word: str) -> list[str]:
    """Those of the block of a page, one that is not run as it stands, that has a word."""
    (text,) = (block.text for block in blocks(ROOT / page) if block.language == "text" and word in block.text)
    return text.splitlines()


def test_commands_that_know_rows_of_ones_own(folder: Path) -> None:
    """In processes of their own: the rows would stay in the tables of all tests."""
    page, place = ROOT / "docs/how-to/activation.md", folder / "rows"
    place.mkdir()
    (place / "my_rows.py").write_text("\n\n".join(block.text for block in blocks(page) if block.language == "py"))
    (place / "mlflow.db").write_bytes(empty_store())
    export, *lines = lines_of("docs/how-to/activation.md", "BPEXP_PLUGINS")
    name, _, value = export.removeprefix("export ").partition("=")
    for line in lines:
        python, m, module, *words = shlex.split(line)
        assert (python, m) == ("python", "-m")
        words = [*small(tuple(words))] if module == "bpexp" else words
        typed = [sys.executable, m, module, *words]
        done = subprocess.run(typed, cwd=place, env=environment(**{name: value}), capture_output=True, text=True, timeout=240, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "softsign" in done.stdout


def test_commands_that_use_a_server(folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is made of the page's own words, but for its port and folder."""
    page = "docs/how-to/server.md"
    (serve,), (export, *lines) = lines_of(page, "sqlite:///served.db"), lines_of(page, "MLFLOW_TRACKING_URI")
    program, *words = shlex.split(serve)[1:]
    assert (program, words[::2]) == ("server", [word for word in server.words if word in words[::2]])
    for line in (f"{export} && {lines[0]}", *lines[1:]):
        *before, command = line.replace("http://127.0.0.1:5000", server.uri).split(" && ")
        for name, _, value in (it.removeprefix("export ").partition("=") for it in before):
            monkeypatch.setenv(name, value)
        run(folder, "bpexp", tuple(shlex.split(command)[3:]))
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_no_entry_of_a_table_is_left_over() -> None:
    assert not (INSTEAD.keys() | ELSEWHERE.keys()) - {command.line for command in ALL}


@pytest.mark.parametrize("page", PAGES_ELSEWHERE)
def test_another_test_runs_a_page(page: str) -> None:
    assert f'"{page}"' in (ROOT / PAGES_ELSEWHERE[page]).read_text()


@pytest.mark.parametrize("line", ELSEWHERE)
def test_another_test_runs_it(line: str) -> None:
    file, words = ELSEWHERE[line]
    assert words in (ROOT / file).read_text()


# ---------------------------------------------------------------------------------------------- Python


@pytest.mark.parametrize("page", python_blocks())
def test_python(page: str, folder: Path) -> None:
    """A page's blocks, one after the other; where a comment holds a value alone, it is the line's."""
    names: dict[str, Any] = {"display": print}
    with chdir(folder), patch.dict(os.environ, {"MPLBACKEND": "agg"}):
        for text in python_blocks()[page]:
            exec(compile(text, page, "exec"), names)
            for expression, value in re.findall(r"^(\S.*?)  # ('[^']*'|[\d.]+)$", text, re.MULTILINE):
                assert eval(expression, names) == ast.literal_eval(value), expression


def test_rows_of_ones_own_are_those_that_the_notebook_runs() -> None:
    """The page's file, which is not run here: its rows would stay in the tables of all tests."""
    page, notebook = ROOT / "docs/how-to/activation.md", json.loads((ROOT / "examples/03-your-own.ipynb").read_text())
    (source,) = (text for cell in notebook["cells"] if (text := "".join(cell["source"])).startswith("%%writefile my_rows.py\n"))
    parts = [block.text.strip() for block in blocks(page) if block.language == "py"]
    assert "\n\n\n".join(parts) == source.partition("\n")[2].strip()
