"""The folder: its name, its files byte for byte, and a page that holds together."""

import hashlib
import json
import re
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

from bpexp.report import interactive
from bpexp.report.inline import inlined
from bpexp.report.page import TEMPLATES, folder_name, render, save_text, source, write
from bpexp.report.runs_table import link
from bpexp.report.selection import Study
from bpexp.report.watching import settle
from bpexp.tracking.reader import Runs
from tests.report.studies import configs, runs_of, with_runs
from tests.report.studies import study as study_of

NASTY = """<script>alert("x")</script> & 'depth' Ünï"""
SERVED = "http://127.0.0.1:5000/#/experiments/1/runs/"
VOID = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    """Collects a page's text, scripts, links and ids; fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.text: list[str] = []
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self.scripts: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []  # tag, name, value
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
        self._attributes(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._attributes(tag, attrs)

    def _attributes(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        found = dict(attrs)
        self.links += [link for name in ("href", "src") if tag == "a" and (link := found.get(name))]
        self.ids += [name for name in [found.get("id")] if name]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
            return
        if not self.open or self.open[-1] != "style":
            self.text.append(data)
        if {"th", "td"} & set(self.open):
            self.rows[-1][-1] += data

    @property
    def data(self) -> Any:
        """What the scripts draw."""
        return json.loads(self.scripts[0])


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
    for found in page.links:
        if found.startswith("#"):
            assert found[1:] in page.ids
        elif not found.startswith(SERVED):
            assert found in files[1]  # relative, beside the page
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
    assert page.tags.count("script") == len(page.scripts) == 5  # the numbers and ours
    assert "b" not in page.tags
    assert page.text.count(NASTY) == 1  # the heading; the title has more to it
    assert "&lt;script&gt;" in text
    assert page.data["runs"][0]["name"] == "<b>run</b> 0"
    assert not set("<>&\u2028\u2029") & set(page.scripts[0])


def test_the_page_needs_nothing_from_elsewhere(files: tuple[Runs, dict[str, bytes]]) -> None:
    """Nothing is loaded from a network, nor from beside the page: it may be moved alone."""
    page = Page(files[1]["index.html"].decode())
    assert not {"img", "link", "iframe", "object", "embed", "base", "form", "source", "audio", "video"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert name not in ("src", "srcset", "style", "data", "poster", "ping")
        assert not name.startswith("on")
        if name == "href":
            assert tag == "a" or value.startswith(("#", "data:image/png;base64,"))
        assert not re.search(r"url\((?!#)", value)
        assert set(re.findall(r"url\(#([^)]*)\)", value)) <= set(page.ids)
    (css,) = re.findall(r"<style>(.*?)</style>", files[1]["index.html"].decode(), re.DOTALL)
    assert "url(" not in css
    assert "@import" not in css


def test_what_a_browser_may_run_is_ours(files: tuple[Runs, dict[str, bytes]]) -> None:
    page = Page(files[1]["index.html"].decode())
    ours = [source(name) for name in ("uplot/uPlot.iife.min.js", "report.js", "plots.js", "charts.js")]
    assert page.scripts[1:] == ours
    (policy,) = [value for _, name, value in page.attributes if name == "content" and value.startswith("default-src")]
    hashes = re.search(r"script-src((?: 'sha256-[\w+/=]+')+);", policy)
    assert hashes
    assert len(hashes[1].split()) == len(ours)
    assert policy.startswith("default-src 'none'; img-src data:; script-src 'sha256-")
    assert "unsafe" not in policy


def test_uplot_is_as_it_was_published() -> None:
    folder = TEMPLATES / "uplot"
    told = {name: digest for digest, name in (line.split() for line in (folder / "VERSION").read_text().splitlines()[2:])}
    assert told == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.name != "VERSION"}
    assert told["uPlot.iife.min.js"] == "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"  # of 1.6.32
    assert told["uPlot.min.css"] == "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04"
    assert "uPlot (v1.6.32)" in source("uplot/uPlot.iife.min.js")


def test_a_figure_on_the_page_is_the_one_in_its_file(files: tuple[Runs, dict[str, bytes]]) -> None:
    """All that is drawn, with ids of its own and no style that the policy forbids."""
    name = "gradient_heatmap"
    shown = inlined(files[1][f"{name}.svg"].decode(), name, 'a "b" <c>')
    root, file = ET.fromstring(shown), ET.fromstring(files[1][f"{name}.svg"])
    assert (root.get("role"), root.get("aria-label")) == ("img", 'a "b" <c>')
    for tag in ("path", "use", "image", "g", "clipPath"):
        assert len(list(root.iter(tag))) == len(list(file.iter(f"{{http://www.w3.org/2000/svg}}{tag}"))) > 0
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert ids
    assert all(str(found).startswith(f"{name}-") for found in ids)
    strokes = [element for element in root.iter() if element.get("stroke-width")]
    assert len(strokes) == sum("stroke-width" in element.get("style", "") for element in file.iter())
    assert not [element for element in root.iter() if element.get("style") or element.tag in ("style", "metadata")]


def test_the_script_is_given_what_was_measured(files: tuple[Runs, dict[str, bytes]]) -> None:
    runs, written = files
    data = Page(written["index.html"].decode()).data
    drawn = [run_id for run_id in runs.runs["run_id"] if run_id in set(runs.curves["run_id"])]
    assert sorted(run["id"] for run in data["runs"]) == sorted(drawn)
    assert set(data["labels"]) == set(interactive.CURVES)
    for run in data["runs"]:
        curves, layers = (frame[frame["run_id"] == run["id"]] for frame in (runs.curves, runs.layers))
        for column, (grid, values) in run["curves"].items():
            known = curves[["step", column]].dropna()
            assert data["grids"][grid] == known["step"].tolist()  # a dozen steps are not thinned
            assert values == pytest.approx(known[column].tolist(), rel=1e-3)
        assert run["steps"] == sorted(set(layers["step"]))
        for step, profile in zip(run["steps"], run["profiles"], strict=True):
            assert profile == pytest.approx(layers[layers["step"] == step].sort_values("layer")["log10_grad_norm"].tolist(), abs=6e-4)
        assert data["theory"][run["theory"]][-1] == 0.0
        assert len(data["theory"][run["theory"]]) == len(run["profiles"][0])


def test_what_is_not_finite_is_null_and_much_is_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first and the last step are kept; the budget is all runs' together."""
    monkeypatch.setattr(interactive, "NUMBERS", 60)
    monkeypatch.setattr(interactive, "FEWEST_POINTS", 3)
    runs = runs_of(configs(depth=[3, 6], steps=40))
    runs.curves.loc[runs.curves["step"] == 0, "loss_train"] = float("inf")
    runs.layers.loc[(runs.layers["step"] == 40) & (runs.layers["layer"] == 1), "log10_grad_norm"] = float("-inf")
    data = page_of(runs).data
    for run in data["runs"]:
        grid, values = run["curves"]["loss_train"]
        steps = data["grids"][grid]
        assert len(steps) == len(values) <= 30
        assert (steps[0], steps[-1], values[0]) == (0, 40, None)
        assert (len(run["steps"]), run["steps"][0], run["steps"][-1]) == (6, 0, 40)
        assert run["profiles"][-1][0] is None
        assert None not in run["profiles"][-1][1:]


@pytest.mark.parametrize(
    ("uri", "base"),
    [
        ("sqlite:////x/mlflow.db", "http://127.0.0.1:5000"),
        ("", "http://127.0.0.1:5000"),
        ("http://lab:5001", "http://lab:5001"),
        ("https://me:hunter2@lab/tracking/?token=hunter2", "https://lab/tracking"),
        ("http://[hunter2", "http://127.0.0.1:5000"),
        ("javascript:alert(1)", "http://127.0.0.1:5000"),
    ],
)
def test_runs_lead_to_mlflows_pages(uri: str, base: str) -> None:
    runs = replace(runs_of(configs(depth=[3, 6])), uri=uri, experiment_id="7")
    links = page_of(runs).links
    assert [f"{base}/#/experiments/7/runs/{run_id}" for run_id in runs.runs["run_id"]] == [it for it in links if "/runs/" in it][1:]
    assert link(runs, str(runs.sweep_id)) in links
    assert "hunter2" not in render(Study(runs), [])


def test_numbers_can_be_sorted(files: tuple[Runs, dict[str, bytes]]) -> None:
    """Each cell with a number holds it as one; a dash holds none."""
    text = files[1]["index.html"].decode()
    cells = re.findall(r'<td(?: data-number="([^"]*)")?>([^<]*)</td>', text)
    assert cells
    losses = [f"{loss:.9g}" for loss in files[0].runs["final_loss"].dropna()]
    assert set(losses) <= {number for number, _ in cells}
    assert all((number == "") == (told == "–") for number, told in cells)  # this table has no other words


def test_a_page_that_is_watched_is_read_again_until_it_settles(tmp_path: Path) -> None:
    runs = runs_of(configs(depth=3))
    page = save_text(tmp_path / "index.html", render(Study(runs), [], refresh=5))
    assert '<meta http-equiv="refresh" content="5">' in page.read_text()
    settle(page)
    assert page.read_text() == render(Study(runs), [])
    settle(tmp_path / "none.html")
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


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
    assert page.data == {}
    assert "charts" not in page.ids
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
