"""The `key=value` arguments of the commands that are no Hydra apps."""

from dataclasses import dataclass
from typing import Annotated

import pytest
from annotated_types import Ge
from pydantic import Strict

from bpexp.cli import arguments
from bpexp.config import Help


@dataclass
class Schema:
    """One key of each kind."""

    name: Annotated[str, Strict(), Help("a text")] | None = "latest"
    plain: Annotated[str, Strict(), Help("a text")] = ""
    count: Annotated[int, Strict(), Ge(1), Help("a number")] = 1


@pytest.mark.parametrize("text", ["12345", "12e4", "true", "1.5", "depth=10,50", "a b", "[x]"])
def test_a_text_stays_one_whatever_it_looks_like(text: str) -> None:
    assert arguments(Schema, [f"name={text}", f"plain={text}"], "") == Schema(name=text, plain=text)


def test_other_types_are_read_and_null_is_none() -> None:
    assert arguments(Schema, ["name=null", "count=3"], "") == Schema(name=None, count=3)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["count=0"], ["count=0: must be a whole number, at least 1"]),
        (["count=x", "nme=1"], ["nme=1: no such key; did you mean 'name'?", "count=x: must be a whole number, at least 1"]),
        (["name"], ["name: must be written key=value"]),
    ],
)
def test_refusals(words: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        arguments(Schema, words, "")
    assert left.value.code == 2
    assert capsys.readouterr().err.splitlines() == [f"bpexp: {line}" for line in expected]


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        arguments(Schema, ["--help"], "what it does")
    assert left.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith("what it does")
    assert all(f"  {key}=" in printed for key in ("name", "plain", "count"))
