"""Docstrings are plain text with formulas in it: for the pages that are made of them, what Markdown would take for markup is escaped."""

import re
from typing import Any

from griffe import Extension, Object

LITERAL = re.compile(r"`[^`]*`|^    .*$", re.MULTILINE)  # code, and indented blocks, which Markdown leaves alone
MARKUP = re.compile(r"[\[\]*_<>|$\\]")


class Prose(Extension):
    """The extension of Griffe's that `mkdocs.yml` names."""

    def on_object(self, *, obj: Object, **_more: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = escaped(obj.docstring.value)


def escaped(text: str) -> str:
    """A docstring as Markdown that says the same."""
    found, end = [], 0
    for literal in LITERAL.finditer(text):
        found += [_escaped(text[end : literal.start()]), literal.group()]
        end = literal.end()
    return "".join([*found, _escaped(text[end:])])


def _escaped(prose: str) -> str:
    return MARKUP.sub(lambda found: {"<": "&lt;", ">": "&gt;", "|": "&#124;"}.get(found.group(), f"\\{found.group()}"), prose)
