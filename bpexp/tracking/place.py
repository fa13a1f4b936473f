"""Where the state of runs lies that is not in MLflow: what waits to be sent, and checkpoints."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from bpexp.masks import MASK, masked
from bpexp.tracking.store import sqlite_file

__all__ = ["FOLDER", "Place", "places", "state_folder"]

FOLDER = ".bpexp"
NOTE = "store.json"


def state_folder(uri: str, cwd: Path, own: str | None) -> Path:
    """The folder of a store at a resolved URI: in `own` (`tracking.state`), else beside the store's SQLite file, else in the working folder."""
    database = sqlite_file(uri)
    base = cwd / own if own is not None else (cwd if database is None else database.parent) / FOLDER
    return base / _key(uri)


class Place:
    """The state of one store's runs: `spool` is for `bpexp.tracking.spool.Spool`, `checkpoints` for trainings that were cut off."""

    def __init__(self, folder: Path, uri: str) -> None:
        """`uri`: of the store, perhaps with a mask in the place of a secret."""
        self.folder, self.spool, self.checkpoints = folder, folder / "spool", folder / "checkpoints"
        self.uri = masked(uri)

    def note(self) -> None:
        """Make the folder, and tell there whose state it holds."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / NOTE).write_text(json.dumps({"uri": self.uri}) + "\n")

    def reached(self, uri: str) -> str | None:
        """A URI to reach the store by: `uri` where that is the store's, else the place's own, unless it holds a mask."""
        if _key(uri) == self.folder.name:
            return uri
        return None if MASK in self.uri else self.uri


def places(base: Path) -> Iterator[Place]:
    """Those of all stores that have state in a folder."""
    for note in sorted(base.glob(f"*/{NOTE}")):
        try:
            uri = str(json.loads(note.read_text())["uri"])
        except (OSError, ValueError, LookupError, TypeError):
            uri = MASK
        yield Place(note.parent, uri)


def _key(uri: str) -> str:
    return hashlib.sha256(uri.encode()).hexdigest()[:16]
