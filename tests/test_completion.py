"""The tab key, in a real bash."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bpexp.config import RunConfig, choices, keys
from bpexp.core.activations import ACTIVATIONS
from bpexp.core.initializers import INITIALIZERS
from bpexp.sweep.completion import FLAGS, SCRIPT, complete
from bpexp.sweep.names import config_dir, groups
from tests.cli import environment

FOLDERS = [config_dir()]
ASK = """
press() {
    COMP_LINE="$*" COMP_POINT=${#COMP_LINE} COMP_WORDS=($(sed 's/=/ = /g' <<<"$*")) COMPREPLY=()
    "$completer"
    echo "${COMPREPLY[*]}"
}
eval "$(python -m bpexp -sc install=bash)"
[[ $(complete -p bpexp) =~ -F\\ ([^ ]+) ]] && completer=${BASH_REMATCH[1]}
complete -p python
press python -m bpexp de
press python -m bpexp -m depth=3,10 init=he,xa
press bpexp study=poo
press python -m http.server init=he
press bpexp -
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_tab_key(tmp_path: Path) -> None:
    for name, line in (("python", f'exec {sys.executable} "$@"'), ("bpexp", f'exec {sys.executable} -m bpexp "$@"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    there = environment() | {"PATH": f"{tmp_path}:{environment()['PATH']}"}
    done = subprocess.run(["bash", "--norc", "-c", ASK], cwd=tmp_path, env=there, capture_output=True, text=True, check=False, timeout=120)
    assert done.stderr == ""
    own, *answers = done.stdout.splitlines()
    assert own.endswith("-F _bpexp python")
    assert answers == ["depth=", "he,xavier he,xavier_normal", "poole", "", " ".join(FLAGS)]


def test_a_completion_that_python_has_stays() -> None:
    words = f"complete -F other python\n{SCRIPT}\ncomplete -p python"
    done = subprocess.run(["bash", "--norc", "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout == "complete -F other python\n"


def test_every_group_and_key_completes() -> None:
    known = complete("bpexp ", FOLDERS)
    named = {f"{group}.name" for group in groups(FOLDERS)}
    assert {f"{key}=" for key in {*keys(RunConfig), *groups(FOLDERS)} - named} <= set(known)
    assert not {f"{key}=" for key in named} & set(known)
    for group, options in groups(FOLDERS).items():
        assert complete(f"bpexp {group}=", FOLDERS) == [f"{group}={option}" for option in options]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("dep", ["depth="]),
        ("depth=", ["depth=10"]),
        ("activation=sig", ["activation=sigmoid"]),
        ("activation=tanh,sig", ["activation=tanh,sigmoid"]),
        ("bias=", ["bias=true", "bias=false"]),
        ("rerun=f", ["rerun=failed"]),
        ("optimizer.eps=", []),
        ("nonsense=", []),
        ("--he", ["--help"]),
    ],
)
def test_words(typed: str, words: list[str]) -> None:
    assert complete(f"python -m bpexp lr=3 {typed}", FOLDERS) == words


def test_choices_are_those_of_the_tables() -> None:
    hints = keys(RunConfig)
    assert choices(hints["activation"]) == sorted(name for name, row in ACTIVATIONS.items() if row.elementwise)
    assert choices(hints["init.name"]) == sorted(INITIALIZERS)
    assert choices(hints["lr"]) == choices(hints["probes"]) == []
