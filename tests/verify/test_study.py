"""The file of a study, and what is refused in it."""

from pathlib import Path

import pytest
import yaml

from bpexp.config import ConfigError
from bpexp.verify.study import find, read

CHECK = {
    "claim": "the loss falls",
    "measure": "number",
    "options": {"name": "final_loss"},
    "tolerance": {"at_most": 0.1},
    "because": "a gate",
}
STUDY = {"title": "A study", "source": "a paper, eq. 1", "checks": [CHECK]}


def written(folder: Path, study: object, name: str = "mine") -> Path:
    (folder / "study").mkdir(exist_ok=True)
    file = folder / "study" / f"{name}.yaml"
    file.write_text("# @package _global_\n" + yaml.safe_dump({"depth": 3, "study": study}))
    return file


def test_a_study_is_read(tmp_path: Path) -> None:
    study = read(written(tmp_path, STUDY | {"quick": ["seed=0"]}))
    assert (study.title, study.quick, study.figures) == ("A study", ["seed=0"], [])
    assert study.checks[0].options == {"name": "final_loss"}


def test_the_papers_number_may_differ_from_row_to_row(tmp_path: Path) -> None:
    check = CHECK | {"each": ["init.sigma_w2"], "paper": {1: 0.6284, 2.5: 0.1}, "target": "paper", "tolerance": {"relative": 0.1}}
    found = read(written(tmp_path, STUDY | {"checks": [check]})).checks[0]
    numbers = [found.papers_number({"init.sigma_w2": value}) for value in (1.0, 2.5, 3.0)]
    assert numbers == [0.6284, 0.1, None]


def test_only_files_that_claim_something_are_found_and_ones_own_win(tmp_path: Path) -> None:
    ours, own = tmp_path / "ours", tmp_path / "own"
    for folder in (ours, own):
        folder.mkdir()
        written(folder, STUDY, "both")
    written(ours, STUDY, "ours")
    (ours / "study" / "plain.yaml").write_text("# @package _global_\ndepth: 3\n")
    assert find([ours, own]) == {"both": own / "study" / "both.yaml", "ours": ours / "study" / "ours.yaml"}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"measure": "numbr"}, "study=mine: checks[1].measure=numbr: must be one of"),
        ({"measure": "numbr"}, "did you mean 'number'?"),
        ({"options": {}}, "study=mine: checks[1].options.name: must be there: number needs it"),
        ({"options": {"name": "x", "nme": 1}}, "study=mine: checks[1].options=nme: number takes name; did you mean 'name'?"),
        ({"theory": {}}, "study=mine: checks[1].theory=number: must be one of"),
        ({"tolerance": {}}, "study=mine: checks[1].tolerance: must be exactly one of relative, absolute"),
        ({"tolerance": {"at_most": 1, "at_least": 0}}, "study=mine: checks[1].tolerance: must be exactly one of"),
        ({"tolerance": {"at_mots": 1}}, "study=mine: checks[1].tolerance=at_mots: must be one of"),
        ({"tolerance": {"at_most": "x"}}, "study=mine: checks[1].tolerance.at_most=x: must be a number"),
        ({"tolerance": {"relative": 0.1}}, "study=mine: checks[1].tolerance.relative=0.1: needs a target"),
        ({"target": "paper", "tolerance": {"relative": 0.1}}, "study=mine: checks[1].target=paper: has no number"),
        ({"target": "book"}, "study=mine: checks[1].target=book: must be"),
        ({"where": {"dept": 3}}, "study=mine: checks[1].where=dept: no such key; did you mean 'depth'?"),
        ({"each": ["init.sigma"]}, "study=mine: checks[1].each=init.sigma: no such key"),
        ({"claim": 3}, "study=mine: checks[1].claim=3: must be a valid string"),
        ({"because": None}, "study=mine: checks[1].because=null: must be a valid string"),
        ({"surprise": 1}, "study=mine: checks[1].surprise=1: no such key"),
        ({"paper": float("nan")}, "study=mine: checks[1].paper"),
    ],
)
def test_a_check_that_makes_no_sense_is_refused_in_a_line(tmp_path: Path, change: dict[str, object], line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(written(tmp_path, STUDY | {"checks": [CHECK | change]}))
    assert any(line in str(fault) for fault in refused.value.faults), refused.value
    assert all("\n" not in str(fault) for fault in refused.value.faults)


@pytest.mark.parametrize(
    ("study", "line"),
    [
        (STUDY | {"checks": []}, "study=mine: checks: must list at least one"),
        (STUDY | {"figures": ["nothing"]}, "study=mine: figures=nothing: must be one of"),
        ({"title": "A study"}, "study=mine: source: must be there"),
        (STUDY | {"sources": "two"}, "study=mine: sources=two: no such key"),
        ("text", "study=mine: study=text: must"),
        (STUDY | {"checks": [3]}, "study=mine: checks[1]=3: must"),
    ],
)
def test_a_study_that_makes_no_sense_is_refused_in_a_line(tmp_path: Path, study: object, line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(written(tmp_path, study))
    assert any(line in str(fault) for fault in refused.value.faults), refused.value


def test_a_file_that_is_no_yaml_is_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "bad.yaml").write_text("study: [1, 2\nx: {")
    with pytest.raises(ConfigError, match="study=bad: can't be read"):
        find([tmp_path])


def test_every_fault_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    wrong = CHECK | {"measure": "nothing", "tolerance": {}}
    with pytest.raises(ConfigError) as refused:
        read(written(tmp_path, STUDY | {"checks": [wrong, wrong], "figures": ["none"]}))
    assert len(refused.value.faults) == 5
