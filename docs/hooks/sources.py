"""Lines of the package beside the text that explains them, taken from the source when the site is built: they can't drift apart.

A line of a page that holds nothing but a link with the title "code" stands for the function, method or class that it names:

    [Affine.forward](../bpexp/core/network.py "code")

and with a pattern for the lines from the first to the last that match it, wherever the function has them:

    [Affine.forward](../bpexp/core/network.py "code: np.matmul")

What is not found, and a pattern that nothing matches, ends the build.
"""

import ast
import posixpath
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from textwrap import dedent

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

INCLUSION = re.compile(r'^\[`?(?P<name>[\w.]+)`?\]\((?P<target>[^)\s]+\.py) "code(?:: (?P<pattern>.+))?"\)$', re.MULTILINE)

Definition = ast.FunctionDef | ast.ClassDef


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 (MkDocs calls it by names)
    """The page with its inclusions carried out."""
    root = Path(config.docs_dir).parent

    def inclusion(found: re.Match[str]) -> str:
        place = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page.file.src_uri), found["target"]))
        try:
            first, lines = excerpt(root / place, found["name"], found["pattern"])
        except LookupError as error:
            raise PluginError(f"{page.file.src_uri}: {place}: {error}") from None
        return f'``` {{ .python title="{place}: {found["name"]}" linenums="{first}" }}\n{lines}\n```'

    return INCLUSION.sub(inclusion, markdown)


def excerpt(file: Path, name: str, pattern: str | None = None) -> tuple[int, str]:
    """The number of the first line, and the lines, of a definition or of what a pattern matches in it; raises `LookupError`."""
    if not file.is_file():
        raise LookupError("there is no such file")
    text = file.read_text(encoding="utf-8")
    node = definition(text, name)
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    lines = text.splitlines()[first - 1 : node.end_lineno]
    if pattern is not None:
        hits = [number for number, line in enumerate(lines) if re.search(pattern, line)]
        if not hits:
            raise LookupError(f"no line of {name} matches {pattern}")
        first, lines = first + hits[0], lines[hits[0] : hits[-1] + 1]
    return first, dedent("\n".join(lines))


def definition(text: str, name: str) -> Definition:
    """The function or class of a source that a name such as `Affine.forward` means, also one inside a function."""
    found: ast.AST = _parsed(text)
    for part in name.split("."):
        inner = next((node for node in _definitions(found) if node.name == part), None)
        if inner is None:
            raise LookupError(f"there is no {name}")
        found = inner
    assert isinstance(found, Definition)
    return found


@cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


def _definitions(node: ast.AST) -> Iterator[Definition]:
    return (inner for inner in ast.iter_child_nodes(node) if isinstance(inner, Definition))
