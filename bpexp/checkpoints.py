"""Where a run's state is kept while it trains: the two newest checkpoints in a folder of its own, so that one of them is whole whatever happens."""

import re
from pathlib import Path

from bpexp.core.state import LAYOUT, State
from bpexp.durable import TEMPORARY, DamagedError, read, write

__all__ = ["Checkpoints"]

NAME = re.compile(r"checkpoint-(\d{10,})\.ckpt")


class Checkpoints:
    """The checkpoints of one run in `folder`, which is made when there is something to keep.

    `fingerprint` says which run it is, `numerics` what its bits depend on besides: a state of other ones would not be gone on with bitwise, and is
    not used.  `remarks` has a line for each file that `load` could not use.
    """

    def __init__(self, folder: Path, fingerprint: str, numerics: str) -> None:
        self.folder = folder
        self.told = {"fingerprint": fingerprint, "numerics": numerics, "layout": LAYOUT}
        self.remarks: list[str] = []

    def load(self) -> State | None:
        """The newest state that is whole and this run's; None where there is none."""
        for _, path in sorted(self._kept(), reverse=True):
            try:
                state, told = read(path)
            except (DamagedError, OSError) as error:
                self.remarks.append(f"{path}: not used: {error}")
                continue
            other = [f"{key} {told.get(key)}, not {value}" for key, value in self.told.items() if told.get(key) != value]
            if not other:
                return state
            self.remarks.append(f"{path}: not used: {'; '.join(other)}")
        return None

    def save(self, state: State) -> None:
        """Keep a state, and of the others the newest of an earlier step: later ones, of a training begun anew, were no good.

        Raises OSError, as on a full disk; the others stay then.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        step = int(state["last_step"])
        path = self.folder / f"checkpoint-{step:010d}.ckpt"
        write(path, state, self.told)
        earlier = max((found for found in self._kept() if found[0] < step), default=(step, path))
        for file in self._files():
            if file not in {path, earlier[1]}:
                file.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove them all, and the folder where nothing else is in it."""
        for file in self._files():
            file.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _kept(self) -> list[tuple[int, Path]]:
        """Each checkpoint with its step."""
        return [(int(match[1]), file) for file in self._files() if (match := NAME.fullmatch(file.name))]

    def _files(self) -> list[Path]:
        """Checkpoints, and beginnings of some that were interrupted."""
        files = list(self.folder.iterdir()) if self.folder.is_dir() else []
        return [file for file in files if NAME.fullmatch(file.name) or (NAME.match(file.name) and file.suffix == TEMPORARY)]
