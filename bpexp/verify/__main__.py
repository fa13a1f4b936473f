"""`python -m bpexp.verify`: run studies, judge what they claim, write the table."""

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

from annotated_types import Ge
from pydantic import Strict

from bpexp.cli import arguments, makeable, refuse, tell
from bpexp.config import ConfigError, Fault, Help, StoreUri, nearest
from bpexp.stopping import INTERRUPTED, TERMINATED
from bpexp.sweep.names import config_dir

if TYPE_CHECKING:
    from bpexp.verify.study import StudyFile

__all__ = ["VerifyConfig", "main"]

DESCRIPTION = """python -m bpexp.verify [NAME …] [--quick] [--config-dir DIR] [key=value …]

Runs the studies of these names (none: all that claim something), judges their claims, and writes OUT/index.html and OUT/verdicts.json.
What is finished already is not run again.  Exit code 0 if every claim holds, 1 if one does not, 2 if the words are wrong.

  --quick            small versions of the studies, in a few minutes
  --config-dir DIR   also the studies in DIR/study/: your own"""


@dataclass
class VerifyConfig:
    """Where the runs are tracked, and where the table goes."""

    uri: StoreUri | None = None
    experiment: Annotated[str, Strict(), Help("MLflow experiment of the studies' runs")] = "verify"
    out: Annotated[str, Strict(), Help("folder of the table and the figures")] = "reports/verdicts"
    jobs: Annotated[int, Strict(), Ge(1), Help("studies side by side; null: one per core")] | None = None


@dataclass(frozen=True)
class Words:
    """The command line, sorted."""

    names: list[str]
    quick: bool
    folder: Path | None
    config: VerifyConfig


def main(argv: Sequence[str]) -> int:
    """Run, judge, write; the exit code."""
    words = _words(argv)
    from bpexp.verify.study import find, read

    try:
        files = find([config_dir(), *([words.folder] if words.folder else [])])
        studies = {name: read(files[name]) for name in _chosen(words.names, list(files))}
    except ConfigError as error:
        refuse(error)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return _verify(studies, words)
    except KeyboardInterrupt:
        print("bpexp: interrupted; the same command goes on where this one ended", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def _terminate(_signal: int, _frame: object) -> NoReturn:
    raise SystemExit(TERMINATED)


def _words(argv: Sequence[str]) -> Words:
    """Names and switches apart from what is written key=value.  Leaves where something is wrong."""
    names, pairs, folder, quick = [], [], None, False
    rest = iter(argv)
    for word in rest:
        if word == "--quick":
            quick = True
        elif word == "--config-dir" or word.startswith("--config-dir="):
            folder = word.partition("=")[2] or next(rest, "")
        elif "=" in word or word in ("-h", "--help"):
            pairs.append(word)
        elif word.startswith("-"):
            refuse(ConfigError([Fault(word, "", "no such switch; there are --quick and --config-dir DIR")]))
        else:
            names.append(word)
    config = arguments(VerifyConfig, pairs, DESCRIPTION)
    if folder is not None and not (folder and Path(folder).is_dir()):
        refuse(ConfigError([Fault("--config-dir", folder, "must be a folder")]))
    return Words(names, quick, Path(folder) if folder else None, config)


def _chosen(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """The names that were asked for, or all."""
    if wrong := [name for name in names if name not in known]:
        raise ConfigError(Fault("study", name, f"must be one of {', '.join(known)}{nearest(name, known)}") for name in wrong)
    return list(dict.fromkeys(names)) or list(known)


def _verify(studies: dict[str, "StudyFile"], words: Words) -> int:
    """Everything after the words: 0 if every claim holds, else 1."""
    from joblib import cpu_count

    from bpexp.tracking.store import connect, resolve
    from bpexp.verify.page import Page
    from bpexp.verify.running import Place, launch
    from bpexp.verify.screen import screen
    from bpexp.verify.verdicts import of_launch

    config, out = words.config, Path(words.config.out)
    try:
        makeable(out)
        uri = resolve(config.uri)
        connect(uri, config.experiment)
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        refuse(ConfigError([Fault("out", config.out, f"cannot be written to ({error.strerror or error})")]))
    except ConfigError as error:
        refuse(ConfigError(Fault(fault.key.removeprefix("tracking."), fault.value, fault.must) for fault in error.faults))
    place = Place(uri, config.experiment, words.folder, config.jobs or cpu_count())
    asked = {name: study.quick if words.quick else [] for name, study in studies.items()}
    found, page = {}, Page(out, words.quick)
    with screen(list(studies)) as shown:
        for ended in launch(asked, place):
            found[ended.name] = of_launch(ended, studies[ended.name], asked[ended.name], place, quick=words.quick)
            shown.ended(found[ended.name])
            page.write([found[name] for name in studies if name in found])
    shown.table([found[name] for name in studies])
    print(out / "index.html")
    tell(page.undrawn)
    return 0 if all(judged.holds for judged in found.values()) and not page.undrawn else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
