"""What README, CONTRIBUTING and docs/ tell readers to type: the commands and the Python of their fenced blocks."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from textwrap import dedent

from tests.cli import ROOT

__all__ = ["PAGES", "Block", "Command", "blocks", "commands", "python_blocks"]

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELLS = {"", "sh", "bash", "console", "shell"}
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    text: str


@dataclass(frozen=True)
class Command:
    """One command of a block: what stands between two `&&`, without its comment."""

    page: str
    words: tuple[str, ...]

    @property
    def line(self) -> str:
        return " ".join(self.words)

    def __str__(self) -> str:
        return f"{self.page}: {self.line}"


def blocks(path: Path) -> Iterator[Block]:
    for found in FENCE.finditer(path.read_text()):
        language = (found["language"].split() or [""])[0]
        yield Block(str(path.relative_to(ROOT)), language, dedent(found["text"]))


def commands() -> list[Command]:
    """All of them, in the order of the pages; in a block that shows a console, those after a `$`."""
    found = []
    for block in (block for page in PAGES for block in blocks(page) if block.language in SHELLS):
        lines = block.text.replace("\\\n", " ").splitlines()
        if any(line.startswith("$ ") for line in lines):
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        for line in lines:
            parts = groupby(shlex.split(line, comments=True), lambda word: word == "&&")
            found += [Command(block.page, tuple(words)) for between, words in parts if not between]
    return found


def python_blocks() -> dict[str, list[str]]:
    """The Python of each page, block by block."""
    found: dict[str, list[str]] = {}
    for block in (block for page in PAGES for block in blocks(page) if block.language == "python"):
        found.setdefault(block.page, []).append(block.text)
    return found
