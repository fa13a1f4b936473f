"""Configurations that make no sense, hundreds of them, made of the schema itself: each is refused in lines that name what is wrong."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from bpexp.report.theory_keys import TheoryConfig
from bpexp.verify.__main__ import VerifyConfig
from bpexp.walkthrough import Settings
from tests.bad_input.commands import refused
from tests.bad_input.generated import DRAWN, bad_words, of_schema

SOAK = 1000
TEXTS = ("sweep", "uri", "experiment", "out")  # keys to which whatever is typed is a text


class Tried(set[tuple[str, ...]]):
    """The words of all configurations so far; hypothesis writes down what a test is given, again and again."""

    def __repr__(self) -> str:
        return f"{len(self):,} configurations"


@pytest.fixture(scope="module")
def tried() -> Iterator[Tried]:
    found = Tried()
    yield found
    print(f"\n{len(found):,} distinct bad configurations refused")


def check(folder: Path, *words: str) -> None:
    lines = refused(folder, *words)
    named = [word.lstrip("+~").partition("=")[0].partition(".")[0] for word in words]
    assert any(line.lstrip("+").startswith(tuple(named)) for line in lines), lines


def refuse_all(folder: Path, words: tuple[str, ...], mode: int, tried: Tried) -> None:
    """Lone, or as a sweep, or out of a study's file."""
    if mode < 7:
        typed = words
    elif mode < 9 or not all(_plain(word) for word in words):
        typed = ("-m", "seed=0,1", *words)
    else:
        file = folder.parent / "own" / "study" / "bad.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            "# @package _global_\nhydra:\n  sweeper:\n    params:\n" + "".join(f"      {_entry(word)}\n" for word in words), encoding="utf-8"
        )
        typed = ("--config-dir", str(file.parent.parent), "study=bad")
        tried.add(("study", *words))
        refused(folder, *typed)
        return
    tried.add(typed)
    check(folder, *typed)


def _plain(word: str) -> bool:
    return word[0] not in "+~" and word.isprintable() and len(word) < 100


def _entry(word: str) -> str:
    key, _, value = word.partition("=")
    return f"{key}: {yaml.safe_dump(value, allow_unicode=True, width=10**6).splitlines()[0]}"


@settings(DRAWN, max_examples=60, phases=[Phase.explicit, Phase.generate])
@given(words=bad_words(), mode=st.integers(0, 9))
def test_generated(words: tuple[str, ...], mode: int, tried: Tried, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "generated" / "here"
    folder.mkdir(parents=True, exist_ok=True)
    refuse_all(folder, words, mode, tried)


@pytest.mark.soak
@settings(DRAWN, max_examples=SOAK, phases=[Phase.explicit, Phase.generate])
@given(words=bad_words(), mode=st.integers(0, 9))
def test_generated_for_hours(words: tuple[str, ...], mode: int, tried: Tried, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "soak" / "here"
    folder.mkdir(parents=True, exist_ok=True)
    refuse_all(folder, words, mode, tried)


@pytest.mark.parametrize("mode", [(), ("-m", "seed=0,1")], ids=["lone", "sweep"])
@pytest.mark.parametrize(
    "word",
    [
        "tracking.layers={a:1}",  # Hydra merges no table with a list
        "tracking.parent=???",  # to Hydra no text, but none
        f"depth={'1' * 5000}",  # more digits than Python reads
        f"depth={'[' * 1000}{']' * 1000}",
        f"depth={'{a:' * 1000}1{'}' * 1000}",
        f"tracking.experiment={'[' * 150}{']' * 150}",  # Hydra reads it, and can't go down into it
    ],
    ids=["table for a list", "missing", "digits", "lists", "tables", "lists that can be read"],
)
def test_found_before(word: str, mode: tuple[str, ...], tmp_path: Path) -> None:
    check(tmp_path, *mode, word)


@pytest.mark.parametrize("mode", [(), ("-m", "seed=0,1")], ids=["lone", "sweep"])
@pytest.mark.parametrize("offline", ["true", "false"])
@pytest.mark.parametrize("folder", ["''", "/dev/null/x", f"/{'x' * 5000}"], ids=["empty", "below a file", "long"])
def test_folders_that_can_hold_no_states(folder: str, offline: str, mode: tuple[str, ...], tmp_path: Path) -> None:
    (line,) = refused(tmp_path, *mode, f"tracking.state={folder}", f"offline={offline}", "depth=1", "steps=0")
    assert line.startswith("tracking.state")


@pytest.mark.parametrize("command", ["bpexp.status", "bpexp.sync"])
@pytest.mark.parametrize("word", ["nonsense", "ur=x", "experiment.x=1"])
def test_words_of_commands_that_read(command: str, word: str, tmp_path: Path) -> None:
    assert len(refused(tmp_path, word, command=command)) == 1


def test_a_folder_to_send_from_that_is_not_there(tmp_path: Path) -> None:
    assert refused(tmp_path, "folder=nowhere", command="bpexp.sync") == ["folder=nowhere: must be a folder that is there; or null"]


HYDRAS = {  # words of Hydra's own that it answers with a traceback when it has begun
    "hydra.verbose=[[1]]": (),
    "hydra.searchpath=[nope://x]": (),
    "hydra=3": (),
    "hydra.hydra_logging.root.level=NOPE": (),
    "hydra.job_logging.root.level=NOPE": (),
    "hydra.run.dir=${nope:1}": (),
    "hydra.run.dir=/dev/null/x": (),
    "hydra.sweep.dir=/dev/null/x": ("-m",),
    "hydra.sweep.dir=${oc.env:NOT_THERE}": ("-m",),
    "+hydra.launcher.other=1": ("-m",),
    "+hydra.sweeper.other=1": ("-m",),
    "hydra.sweeper.params=3": ("-m",),
    "hydra.launcher._target_=nope": ("-m",),
}


SCHEMA_KEYS = {"+hydra.launcher.other=1": "hydra.launcher.other=1"}  # told by a schema of ours, which knows of no plus


@pytest.mark.parametrize("word", HYDRAS)
def test_hydras_own_keys(word: str, tmp_path: Path) -> None:
    (line,) = refused(tmp_path, *HYDRAS[word], word, "depth=1", "steps=0")
    assert line.startswith(f"{SCHEMA_KEYS.get(word, word)}: ")


OTHERS = {"bpexp.theory": TheoryConfig, "bpexp.verify": VerifyConfig, "bpexp.walkthrough": Settings}


@pytest.mark.parametrize("command", OTHERS)
def test_the_other_commands(command: str, tmp_path: Path) -> None:
    schema = of_schema(OTHERS[command]).filter(lambda pair: pair[0] not in TEXTS and pair[1].isprintable() and pair[1].strip())

    @settings(DRAWN, max_examples=60, phases=[Phase.explicit, Phase.generate])
    @given(schema)
    def refuse_all_of_them(pair: tuple[str, str]) -> None:
        lines = refused(tmp_path, "=".join(pair), command=command)
        assert any(pair[0] in line for line in lines), lines

    refuse_all_of_them()
