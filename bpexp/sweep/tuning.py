"""Which runs of a sweep to launch, and when: all at once, or first what decides on a tuned key and then the runs of the winners.

Runs compete whose configurations differ in the tuned key alone, seeds and tracking left aside.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf

from bpexp.config import ConfigError, Fault, RunConfig, aside, flatten, full_key, keys, unknown_key, untracked, written

__all__ = ["check_tune", "rounds"]

TUNE = "hydra.sweeper.tune"
Losses = Callable[[], Mapping[int, float]]


def check_tune(name: object, configs: Sequence[RunConfig]) -> str:
    """The name itself; raises `ConfigError` where it is none, or where there is nothing to choose from."""
    if not isinstance(name, str):
        raise ConfigError([Fault(TUNE, name, "must be the name of a swept key, such as lr, or null")])
    key = full_key(name)
    if key not in keys(RunConfig):
        raise ConfigError([Fault(TUNE, name, unknown_key(key, name, RunConfig).must)])
    if key == "seed" or aside(key):
        raise ConfigError([Fault(TUNE, name, "must be a key that changes what a run learns")])
    if len({written(flatten(config)[key]) for config in configs}) < 2:
        raise ConfigError([Fault(TUNE, name, f"is not swept: list several values of {name}, or set {TUNE}=null")])
    return name


def rounds(configs: Sequence[RunConfig], name: str | None, losses: Losses) -> Iterator[list[int]]:
    """The runs of each round, as indices into `configs`.

    With `name`, the first round holds every value with the first seed.  `losses`, asked when that is over, tells the final training loss of
    each of its runs (a run that has none lost); the second round holds the other seeds of each value that won.
    """
    if name is None:
        yield list(range(len(configs)))
        return
    groups = list(_competing(configs, name))
    first = [[run for run in group if configs[run].seed == configs[group[0]].seed] for group in groups]
    yield sorted(run for runs in first for run in runs)
    found, rest = losses(), []
    for group, runs in zip(groups, first, strict=True):
        best = min(runs, key=lambda run: (found.get(run, inf), _order(configs[run], name)))
        rest += [run for run in group if run not in runs and _order(configs[run], name) == _order(configs[best], name)]
    if rest:
        yield sorted(rest)


def _competing(configs: Sequence[RunConfig], name: str) -> Iterator[list[int]]:
    """Groups of runs that are equal but for the tuned key and the seed."""
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, config in enumerate(configs):
        fixed = tuple(written(value) for key, value in untracked(config).items() if key not in (full_key(name), "seed"))
        groups[fixed].append(index)
    yield from groups.values()


def _order(config: RunConfig, name: str) -> tuple[float, str]:
    """Smaller values first; what is no number comes after all numbers, by the alphabet."""
    value = flatten(config)[full_key(name)]
    return (value, "") if isinstance(value, int | float) else (inf, written(value))
