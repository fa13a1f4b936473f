"""Several sweeps as one: frames of all their runs, with a column `sweep` that tells them apart.

A run that stands in several sweeps is a row of each: its id is followed by `@2` in the second, `@3` in the third.
"""

from collections.abc import Callable, Collection, Sequence

import pandas as pd
from mlflow.entities import Run

from bpexp.tracking.notes import own_words
from bpexp.tracking.reader import FRAMES, Origin, Runs, gathered, read

__all__ = ["SWEEP", "compared", "load", "parts_of", "tracked_id"]

SWEEP = "sweep"
LONGEST = 22  # characters of a label: a panel's title has room for them
TAGS = {"commits": "mlflow.source.git.commit", "numerics": "bpexp.numerics"}


def load(sweep: str | None = None, uri: str | None = None, experiment: str = "bpexp", frames: Collection[str] = tuple(FRAMES)) -> Runs:
    """`load_runs`, and where `sweep` names several, with commas between them, all of these.  Raises `NoRunsError`."""
    stored = read(uri, experiment)
    heads: dict[str, Run] = {}
    for part in parts_of(sweep, stored.knows) if sweep else ():
        head = stored.head(part)
        assert head is not None
        heads[head.info.run_id] = head
    if len(heads) < 2:
        return gathered(stored, next(iter(heads.values()), None), frames)
    names = [stored.name(head) for head in heads.values()]
    origins = [
        Origin(label, run_id, *_tags(stored.members(heads[run_id])), name)
        for label, run_id, name in zip(_labels(names, list(heads)), heads, names, strict=True)
    ]
    return compared([(origin, gathered(stored, heads[origin.sweep_id], frames)) for origin in origins])


def parts_of(text: str, known: Callable[[str], bool]) -> list[str]:
    """The names in `a,b`, or in `[a,b]`: names hold commas themselves, so a name that is known as a whole wins, then the fewest known parts.

    The whole text where it can't be split so.
    """
    if known(text):
        return [text]
    words = (text[1:-1] if text.startswith("[") and text.endswith("]") else text).split(",")
    best: dict[int, list[str]] = {0: []}  # by how many words: the fewest names that they are
    for end in range(1, len(words) + 1):
        ways = [[*best[start], name] for start in range(end) if start in best and known(name := ",".join(words[start:end]).strip())]
        if ways:
            best[end] = min(ways, key=len)
    return best.get(len(words), [text])


def compared(parts: Sequence[tuple[Origin, Runs]]) -> Runs:
    """The union of sweeps under their labels."""
    seen: set[str] = set()
    frames: dict[str, list[pd.DataFrame]] = {name: [] for name in ("runs", *FRAMES)}
    for number, (origin, runs) in enumerate(parts, 1):
        ids = {str(run_id) for run_id in runs.runs["run_id"]}
        again = {run_id: f"{run_id}@{number}" for run_id in ids & seen}
        seen |= ids
        for name, found in frames.items():
            frame: pd.DataFrame = getattr(runs, name)
            found.append(frame.assign(run_id=frame["run_id"].replace(again)))
        frames["runs"][-1].insert(1, SWEEP, origin.label)
    first = parts[0][1]
    return Runs(
        **{name: _joined(found) for name, found in frames.items()},
        sweep_id=None,
        sweep_name=" vs ".join(origin.label for origin, _ in parts),
        experiment_id=first.experiment_id,
        sweeps=tuple(origin for origin, _ in parts),
        uri=first.uri,
        at_work=any(runs.at_work for _, runs in parts),
    )


def tracked_id(run_id: str) -> str:
    """The id by which the store knows the run of a row."""
    return run_id.partition("@")[0]


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One below the other; columns of frames without rows have no types worth keeping."""
    return pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)


def _labels(names: Sequence[str], ids: Sequence[str]) -> list[str]:
    """What tells names apart: the words that not all have, cut where they are long; with the id's first letters where that leaves two alike."""
    apart = [" ".join(words) for words in own_words([name.split(" ") for name in names])]
    short = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1].rstrip(' ,=')}…" for name in (apart if all(apart) else names)]
    return [f"{name} ({run_id[:8]})" if short.count(name) > 1 else name for name, run_id in zip(short, ids, strict=True)]


def _tags(members: Sequence[Run]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    commits, numerics = (tuple(sorted({run.data.tags[tag] for run in members if tag in run.data.tags})) for tag in TAGS.values())
    return commits, numerics
