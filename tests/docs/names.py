"""What the reference says that MLflow holds, and what the code says."""

import ast
import re
from collections.abc import Iterable

from tests.cli import ROOT

__all__ = ["numberless", "tags_in_the_code", "told"]

OURS = r"bpexp\.\w+"
MLFLOWS = r"mlflow\.(?!db$|store\b|tracking\b)[\w.]+"  # but for names of files and modules


def told(page: str) -> set[str]:
    """What a page of the reference names as code."""
    return set(re.findall(r"`([^`\n]+)`", (ROOT / "docs/reference" / page).read_text()))


def tags_in_the_code() -> set[str]:
    """Texts in the tracking room that can only be tags."""
    found: set[str] = set()
    for file in (ROOT / "bpexp/tracking").glob("*.py"):
        texts = {node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        found |= {text for text in texts if re.fullmatch(f"{OURS}|{MLFLOWS}", text)}
    return found


def numberless(metrics: Iterable[str]) -> set[str]:
    """One name for the metrics of all layers, or steps."""
    return {re.sub(r"_\d+$", "_N", metric) for metric in metrics}
