"""`python -m bpexp.sync`: send what waits for a store that was away, or that was not to be asked."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Strict

from bpexp.cli import arguments, refuse, tell
from bpexp.config import ConfigError, Fault, Help
from bpexp.masks import masked

if TYPE_CHECKING:
    from bpexp.tracking.place import Place

__all__ = ["SyncConfig", "main"]

URI = "MLFLOW_TRACKING_URI"
DESCRIPTION = """python -m bpexp.sync [key=value …]: send to MLflow the runs and sweeps that wait in a folder: none is lost, none is sent twice."""


@dataclass
class SyncConfig:
    """Which store, and where its runs wait."""

    uri: Annotated[str, Strict(), Help("MLflow tracking URI; null: those of all runs that wait here")] | None = None
    folder: Annotated[str, Strict(), Help("folder of what waits, as tracking.state; null: .bpexp beside the SQLite file, or here")] | None = None


def main(argv: Sequence[str]) -> int:
    """Send what waits; the exit code."""
    config = arguments(SyncConfig, argv, DESCRIPTION)
    from bpexp.tracking.spool import Sent, Spool  # after the arguments: --help and refusals need no MLflow
    from bpexp.tracking.store import connect, resolve

    if config.folder is not None and not Path(config.folder).is_dir():
        refuse(ConfigError([Fault("folder", config.folder, "must be a folder that is there; or null")]))
    own = resolve(config.uri, Path.cwd())
    left = 0
    for place in _places(config, own):
        spool, uri = Spool(place), place.reached(own)
        sent = Sent() if uri is None else spool.send(partial(connect, uri))
        for name, points in sent.counts:
            print(f"{name}: {points:,} points sent")
        tell(sent.remarks)
        if waiting := len(spool.files()):
            how = "" if uri else f"; its URI holds a secret: say uri=…, or set {URI}"
            tell([f"{waiting:,} wait in {place.folder} for {place.uri}{how}"])
            left += waiting
    if not left:
        print(f"nothing waits for {masked(config.uri)}" if config.uri else "nothing waits")
    return 1 if left else 0


def _places(config: SyncConfig, own: str) -> list["Place"]:
    """Of one store, or of all that have state where this one has it, or here."""
    from bpexp.tracking.place import FOLDER, Place, places, state_folder

    here = Path.cwd()
    mine = state_folder(own, here, config.folder)
    if config.uri is not None:
        return [Place(mine, own)]
    return [place for base in dict.fromkeys([mine.parent, here / FOLDER]) for place in places(base)]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
