"""Tab completion in bash: groups with their options, keys with what they may be.  Read off the schema; Hydra's own way, which composes a whole
configuration for each press of the key, does not know what a key may be, nor `python -m`.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

from bpexp.config import GROUPS, RunConfig, choices, flatten, keys, written
from bpexp.sweep.names import groups
from bpexp.sweep.settings import Backend

__all__ = ["SCRIPT", "complete"]

SCRIPT = r"""
_bpexp() {
    local line=${COMP_LINE:0:COMP_POINT} helper=("${COMP_WORDS[0]}")
    if [[ ${helper[0]##*/} == python* ]]; then
        [[ ${COMP_WORDS[1]} == -m && ${COMP_WORDS[2]} == bpexp ]] || return
        helper+=(-m bpexp)
    fi
    local word=${line##*[[:space:]]}
    mapfile -t COMPREPLY < <(COMP_LINE=$line "${helper[@]}" -sc query=bash 2>/dev/null)
    if [[ $COMP_WORDBREAKS == *=* && $word == *=* ]]; then  # bash puts what stands before it back by itself
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*=}"}"}")
    fi
}
complete -o nospace -o bashdefault -o default -F _bpexp bpexp
complete -p python &>/dev/null || complete -o nospace -o bashdefault -o default -F _bpexp python python3
"""
FLAGS = ("-m", "-v", "--cfg", "--config-dir", "--help", "--multirun", "--verbose", "--version")
HYDRAS = {  # Hydra's own keys that one types
    "hydra/launcher": ("basic", "stacked"),
    "hydra.launcher.address": (),
    "hydra.launcher.backend": get_args(Backend),
    "hydra.launcher.max_runs": ("64",),
    "hydra.launcher.memory": ("1024",),
    "hydra.launcher.n_jobs": (),
    "hydra.run.dir": (),
    "hydra.sweep.dir": (),
}


def complete(line: str, folders: Iterable[Path]) -> list[str]:
    """What the last word of a command line, as far as it is typed, may become."""
    word = line.rpartition(" ")[2]
    if word.startswith("-"):
        return [flag for flag in FLAGS if flag.startswith(word)]
    known = _known(folders)
    key, equals, value = word.partition("=")
    if not equals:
        return sorted(f"{name}=" for name in known if name.startswith(word))
    before, comma, last = value.rpartition(",")
    return [f"{key}={before}{comma}{it}" for it in known.get(key, ()) if it.startswith(last)]


def _known(folders: Iterable[Path]) -> dict[str, Sequence[str]]:
    """Every group and key, with its options or, where it has none, its default."""
    defaults = flatten(RunConfig())
    named = {f"{group}.name" for group in (*GROUPS, "data")}  # what `init=…` sets
    found: dict[str, Sequence[str]] = {
        key: choices(hint) or ([] if defaults[key] is None else [written(defaults[key])]) for key, hint in keys(RunConfig).items()
    }
    return {**{key: options for key, options in found.items() if key not in named}, **groups(folders), **HYDRAS}
