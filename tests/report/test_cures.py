"""The page of the cures: that the one in the repository is what the tables and its own numbers make, and that the command writes it."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bpexp.config import TABLES, RunConfig, nested, parse
from bpexp.report.cures import figure_name, page, recipe_words, write
from bpexp.report.selection import Study
from bpexp.tracking.store import connect, resolve
from tests.cli import lines
from tests.report.studies import DEFAULTS, runs_of
from tests.report.test_command import as_a_module, filled

DOCS = Path(__file__).parents[2] / "docs"
OPTIONS = [(key, name) for key, rows in TABLES.items() for name in rows]
AGAIN = "docs/cures.md is not what the tables say now: run `python -m bpexp study=cures` and `python -m bpexp.report.cures`"


def test_the_page_in_the_repository_is_the_one_that_tables_and_numbers_make() -> None:
    assert (DOCS / "cures.md").read_text() == page(pd.read_csv(DOCS / "cures" / "ranking.csv")), AGAIN


def test_every_option_has_been_run_and_has_its_figure() -> None:
    text = (DOCS / "cures.md").read_text()
    assert "not run" not in text, AGAIN
    linked = re.findall(r"\]\(([^)#]+)\)", text)
    assert len(linked) > len(OPTIONS)
    assert all((DOCS / path).is_file() for path in linked), AGAIN
    drawn = {path.name for path in (DOCS / "cures").glob("*.png")}
    assert drawn == {Path(path).name for path in linked if path.endswith(".png")}, "figures that no cure has"


@pytest.mark.parametrize(("key", "name"), OPTIONS)
def test_five_lines_each(key: str, name: str) -> None:
    text = (DOCS / "cures.md").read_text()
    assert text.count(f"\n### {key}={name}\n") == 1, AGAIN
    entry = text.split(f"\n### {key}={name}\n")[1].split("\n#")[0].strip().splitlines()
    told = [line for line in entry if line]
    row = TABLES[key][name]
    assert len(told) == 5
    assert row.equation in told[0]
    assert row.effect in told[1]
    assert row.source in told[2]
    assert "%" in told[3]
    assert told[4].endswith(f"(cures/{figure_name(key, name)})")


def test_an_option_is_found_by_the_words_that_it_takes() -> None:
    assert recipe_words("activation", "sigmoid") == recipe_words("norm", "none") == frozenset()
    assert recipe_words("init", "shifted_critical") == {"init=shifted_critical", "bias=true"}
    assert recipe_words("init", "sussillo") == {"init=sussillo", "activation=relu"}
    assert len({recipe_words(key, name) for key, name in OPTIONS}) == len(OPTIONS) - len(TABLES) + 1


def test_a_study_becomes_a_page_with_its_numbers(tmp_path: Path) -> None:
    recipes: tuple[dict[str, Any], ...] = (
        {},
        {"activation": "relu"},
        {"init.name": "he"},
        {"activation": "relu", "init.name": "he"},
        {"norm": "batch"},
    )
    some = Study(runs_of([parse(RunConfig, nested(DEFAULTS | values | {"depth": 6, "seed": seed})) for values in recipes for seed in (0, 1)]))
    names = [path.relative_to(tmp_path).as_posix() for path in write(some, tmp_path)]
    assert names == [
        "cures/ranking.csv",
        "cures/ranking.png",
        *(f"cures/{name}.png" for name in ("plain", "activation-relu", "init-he", "norm-batch")),
        "cures.md",
    ]
    text = (tmp_path / "cures.md").read_text()
    accuracy = some.runs.runs[some.runs.runs["norm"] == "batch"]["final_accuracy_test"]
    told = f"test accuracy {100 * accuracy.mean():.1f} ± {100 * accuracy.std():.1f} % at depth 6"
    assert told in text.split("### norm=batch")[1].split("###")[0]
    assert "Points are means over 2 runs; bars are 95 % confidence intervals of the mean (Student's t), of fewer than 3 runs from" in text
    assert "**Measured**: not run" in text.split("### norm=layer")[1].split("###")[0]
    again = tmp_path / "again"
    for path in write(some, again):
        assert path.read_bytes() == (tmp_path / path.relative_to(again)).read_bytes()


def test_a_sweep_without_recipes_is_refused_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    filled(connect(resolve(None, tmp_path), "bpexp"), "depth=2,3 steps=2 width=4", [2, 3])
    assert as_a_module("bpexp.report.cures", monkeypatch) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert lines(printed.err) == ["bpexp: sweep=latest: depth=2,3 steps=2 width=4 has no recipes to compare; `python -m bpexp study=cures` runs some"]
    assert not (tmp_path / "docs").exists()
