"""The folder: its name, its files byte for byte, and a page that holds together."""

import hashlib
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib.image import imread

from bpexp.report.page import folder_name, render, write
from bpexp.report.selection import Study
from bpexp.tracking.reader import Runs
from tests.report.studies import configs, runs_of, with_runs
from tests.report.studies import study as study_of

NASTY = """<script>alert("x")</script> & 'depth' Ünï"""
VOID = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    """Collects a page's text, links and ids; fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.text: list[str] = []
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        found = dict(attrs)
        self.links += [link for name in ("href", "src") if (link := found.get(name))]
        self.ids += [name for name in [found.get("id")] if name]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self.open and self.open[-1] in ("th", "td"):
            self.rows[-1].append(data)


def report(runs: Runs, folder: Path) -> dict[str, bytes]:
    """Write a report; its files."""
    paths = list(write(runs, folder))
    assert paths[-1].name == "index.html"
    assert {path.name for path in paths} == {path.name for path in folder.iterdir()}
    return {path.name: path.read_bytes() for path in paths}


def page_of(runs: Runs) -> Page:
    """A page without pictures."""
    return Page(render(Study(runs), []))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Runs, dict[str, bytes]]:
    runs = runs_of(configs(depth=[3, 6], lr=[0.5, 1.0]), failed=(2,), name=NASTY)
    runs = replace(runs, runs=runs.runs.assign(name=[f"<b>run</b> {index}" for index in range(4)]))
    return runs, report(runs, tmp_path_factory.mktemp("report"))


def test_every_figure_is_there_as_png_and_svg(files: tuple[Runs, dict[str, bytes]]) -> None:
    names = {name.rpartition(".")[0] for name in files[1]} - {"runs", "index"}
    assert {"loss_curves", "gradient_profiles", "gradient_heatmap", "accuracy", "paths_against_backprop"} <= names
    for name in names:
        assert files[1][f"{name}.png"].startswith(b"\x89PNG")
        assert ET.fromstring(files[1][f"{name}.svg"]).tag.endswith("svg")  # our own file


def test_a_png_is_seven_inches_at_200_dots(files: tuple[Runs, dict[str, bytes]], tmp_path: Path) -> None:
    (tmp_path / "figure.png").write_bytes(files[1]["loss_curves.png"])
    assert imread(tmp_path / "figure.png").shape[1] == 1400


def test_the_page_parses_and_its_links_lead_somewhere(files: tuple[Runs, dict[str, bytes]]) -> None:
    page = Page(files[1]["index.html"].decode())
    assert page.links
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
        else:
            assert link in files[1]  # relative, beside the page
    assert len(set(page.ids)) == len(page.ids)


@pytest.mark.parametrize(
    "axes", [{}, {"depth": [1, 3, 6], "seed": [0, 1]}, {"depth": 3, "steps": [0, 12]}, {"depth": [3, 6], "probes": [[], ["q", "c"]]}]
)
def test_untrained_nets_have_a_report(axes: dict[str, Any], tmp_path: Path) -> None:
    """All figures, of one net, of several, beside trained ones and with probes that not all have."""
    runs = runs_of(configs(**({"steps": 0} | axes)))
    page = Page(report(runs, tmp_path / "report")["index.html"].decode())
    untrained = int((runs.runs["outcome"] == "untrained").sum())
    assert untrained == len(runs.runs) - ("steps" in axes)
    assert f"{untrained} untrained" in " ".join(page.text)
    assert sum(row[-1] == "untrained" for row in page.rows if row) == untrained


def test_names_are_escaped(files: tuple[Runs, dict[str, bytes]]) -> None:
    text = files[1]["index.html"].decode()
    page = Page(text)
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert page.text.count(NASTY) == 1  # the heading; the title has more to it
    assert "&lt;script&gt;" in text


def test_the_page_needs_nothing_from_elsewhere(files: tuple[Runs, dict[str, bytes]]) -> None:
    text = files[1]["index.html"].decode()
    assert "://" not in text
    assert "url(" not in text


def test_the_table_lists_all_runs_with_their_numbers(files: tuple[Runs, dict[str, bytes]]) -> None:
    runs, written = files
    head, *rows = Page(written["index.html"].decode()).rows
    assert head[:3] == ["run", "depth L", "learning rate η"]
    assert len(rows) == 4
    for (_, row), told in zip(runs.runs.iterrows(), rows, strict=True):
        assert told[:3] == [row["name"], str(row["depth"]), f"{row['lr']:g}"]
    assert rows[2][-1] == "failed"
    assert rows[2][head.index("loss")] == "–"
    good = runs.runs.iloc[3]
    assert rows[3][head.index("loss")] == f"{good['final_loss']:.3f}"
    assert rows[3][head.index("decades per layer")] == f"{good['delta_decades_per_layer']:.3f}"
    assert rows[3][-1] == good["outcome"]


def test_runs_without_records_are_counted_on_the_page(files: tuple[Runs, dict[str, bytes]]) -> None:
    assert "Not in the pictures, for want of records: 1 failed." in files[1]["index.html"].decode()


def test_a_diverged_run_says_when() -> None:
    wanted = configs(activation="linear", output="linear", depth=6, lr=1e30)
    rows = page_of(runs_of(wanted)).rows
    assert rows[1][-1] == "diverged at step 1"


def test_the_csv_holds_all_columns_of_all_runs(files: tuple[Runs, dict[str, bytes]]) -> None:
    runs, written = files
    back = pd.read_csv(StringIO(written["runs.csv"].decode()))
    assert list(back.columns) == list(runs.runs.columns)
    assert back["final_loss"].tolist()[:2] == runs.runs["final_loss"].tolist()[:2]
    assert back["name"].tolist() == runs.runs["name"].tolist()


def test_the_same_runs_give_the_same_bytes_whatever_the_users_settings(files: tuple[Runs, dict[str, bytes]], tmp_path: Path) -> None:
    with mpl.rc_context({"font.size": 20, "svg.hashsalt": "other", "lines.linewidth": 9, "savefig.dpi": 50, "xtick.direction": "in"}):
        again = report(files[0], tmp_path)
    assert {name: hashlib.sha256(data).hexdigest() for name, data in again.items()} == {
        name: hashlib.sha256(data).hexdigest() for name, data in files[1].items()
    }


def test_other_numbers_give_other_bytes(files: tuple[Runs, dict[str, bytes]], tmp_path: Path) -> None:
    runs = files[0]
    changed = replace(runs, curves=runs.curves.assign(loss_train=runs.curves["loss_train"] * 1.5))
    first = [next(wanted) for wanted in [write(changed, tmp_path)] for _ in ("png", "svg")]
    again = {path.name: path.read_bytes() for path in first}
    assert again["loss_curves.svg"] != files[1]["loss_curves.svg"]
    assert again["loss_curves.png"] != files[1]["loss_curves.png"]


def test_a_picture_that_no_longer_applies_leaves_no_file(tmp_path: Path) -> None:
    for name in ("accuracy.png", "accuracy.svg", "mine.txt"):
        (tmp_path / name).write_text("from before")
    list(write(runs_of(configs(depth=3), failed=(0,)), tmp_path))
    left = {path.name for path in tmp_path.iterdir()}
    assert {"accuracy.png", "accuracy.svg", "mine.txt"} & left == {"mine.txt"}


def test_all_runs_failed_is_a_page_still(tmp_path: Path) -> None:
    page = Page(report(runs_of(configs(depth=[3, 5]), failed=(0, 1)), tmp_path)["index.html"].decode())
    assert any("2 runs." in text for text in page.text)
    assert len(page.rows) == 3


def test_seeds_are_told_and_keys_that_follow_a_name_too() -> None:
    text = render(Study(runs_of(configs(loss=["squared_error", "cross_entropy"], seed=[0, 1]))), [])
    assert "<dt>seed</dt><dd>0 and 1</dd>" in text
    assert "The output differs with the loss." in text


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("depth=10,50,100", "depth-10-50-100-01234567"),
        ("Größe & <b>", "groe-b-01234567"),
        ("../../etc", "etc-01234567"),
        ("日本", "sweep-01234567"),
        ("x" * 200, "x" * 60 + "-01234567"),
    ],
)
def test_the_folder_is_a_slug_and_eight_letters(name: str, slug: str) -> None:
    assert folder_name(runs_of(configs(depth=3), name=name)) == slug


def test_a_lone_run_and_a_whole_experiment_have_folders_too() -> None:
    lone, all_runs = runs_of(configs(depth=3)), runs_of(configs(depth=[3, 5]))
    assert folder_name(replace(lone, sweep_id=None, sweep_name="depth=3")) == "depth-3-00000000"
    assert folder_name(replace(all_runs, sweep_id=None, sweep_name="bpexp")) == "bpexp-experiment-1"


def test_numbers_that_are_missing_are_dashes() -> None:
    some = with_runs(study_of(depth=[3, 6]), "final_accuracy_test", [None, 0.5])
    head, first, second = page_of(some.runs).rows
    assert (first[head.index("test accuracy")], second[head.index("test accuracy")]) == ("–", "50 %")
