"""The files that others' tools read of the repository: how to cite it, what to check before a commit."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import bpexp
from tests.cli import ROOT

CFF = {"cff-version", "message", "title", "authors"}  # what CFF 1.2.0 requires


def loaded(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def test_citation_is_complete_and_of_this_version() -> None:
    told = loaded("CITATION.cff")
    assert set(told) >= CFF
    assert told["cff-version"] == "1.2.0"
    assert told["version"] == bpexp.__version__
    assert told["license"] == "Apache-2.0"
    assert told["authors"] == [{"name": "The bpexp developers"}]


HOOKS = [hook for repo in loaded(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]


def test_hooks_come_from_nowhere_else() -> None:
    assert [repo["repo"] for repo in loaded(".pre-commit-config.yaml")["repos"]] == ["local"]
    assert len({hook["id"] for hook in HOOKS}) == len(HOOKS)


@pytest.mark.parametrize("hook", HOOKS, ids=[hook["id"] for hook in HOOKS])
def test_hook_is_a_command_of_the_environment_and_one_that_ci_runs(hook: dict[str, Any]) -> None:
    assert hook["language"] == "system"
    program, *words = shlex.split(hook["entry"])
    assert shutil.which(program, path=str(Path(sys.executable).parent)), program
    assert " ".join([f'"$bin/{program}"', *words]) in (ROOT / ".ci" / "run").read_text()
