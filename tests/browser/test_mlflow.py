"""What MLflow's own pages show of a sweep: found by outcome, its table, its charts, its report."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.bad_input.commands import attempt
from tests.cli import environment, inside
from tests.served import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = pytest.mark.browser

WORDS = ("-m", "depth=3,100", "lr=0.1,1e9", "width=16", "steps=40", "batch_size=8", "activation=relu", "output=linear", "init=he")
PATIENCE = 30.0  # seconds


class Pages:
    """The pages of a store with one sweep, which has a report."""

    def __init__(self, page: "Page", folder: Path, port: int) -> None:
        self.page, self.at = page, f"http://127.0.0.1:{port}/#/experiments/1/runs"
        self.runs = {str(run.info.run_name): run for run in MlflowClient(f"sqlite:///{folder}/mlflow.db").search_runs(["1"])}
        (self.parent,) = (run for run in self.runs.values() if run.data.tags["bpexp.kind"] == "sweep")
        self.deep = self.runs["depth=100 width=16 lr=0.1"]

    def show(self, run: Run | None, tab: str = "", *, until: str) -> float:
        """Open a run's page, or that of all runs, until a text is there; the seconds that it takes."""
        self.page.goto("about:blank")  # else the page that is there would only be changed
        start = time.monotonic()
        self.page.goto(self.at if run is None else f"{self.at}/{run.info.run_id}{tab}")
        self.text(until).wait_for()
        return time.monotonic() - start

    def text(self, text: str) -> "Locator":
        return self.page.get_by_text(text, exact=True).first


@pytest.fixture(scope="module")
def pages(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    folder = tmp_path_factory.mktemp("pages")
    done = inside(folder, *WORDS, "hydra.launcher.n_jobs=1")
    assert done.returncode == 0, done.stderr
    port = free_port()
    page = browser.new_page(viewport={"width": 1700, "height": 1000})
    page.set_default_timeout(1000 * PATIENCE)
    page.add_init_script("localStorage.clear()")  # as one opens it for the first time
    pages = Pages(page, folder, port)
    assert attempt(folder, command="bpexp.report", seconds=240).code == 0
    line = [sys.executable, "-m", "bpexp.ui", f"port={port}"]
    with subprocess.Popen(line, cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            deadline = time.monotonic() + 2 * PATIENCE
            while not _answers(port):
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield pages
        finally:
            page.close()
            server.terminate()


def _answers(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_runs_are_found_by_their_outcome(pages: Pages) -> None:
    pages.show(None, until=str(pages.parent.info.run_name))
    diverged = [name for name, run in pages.runs.items() if run.data.tags.get("bpexp.outcome") == "diverged"]
    assert 1 <= len(diverged) < 4
    search = pages.page.get_by_test_id("search-box")
    search.fill("tags.bpexp.outcome = 'diverged'")
    search.press("Enter")
    pages.page.get_by_text(f"{len(diverged) + 1} matching runs").wait_for()  # they and their sweep
    pages.page.get_by_role("gridcell").get_by_role("button").first.click()  # opens the sweep
    for name in diverged:
        pages.text(name).wait_for()
    assert pages.page.get_by_role("row").get_by_text("depth=3 width=16 lr=0.1", exact=True).count() == 0


def test_runs_are_compared_and_grouped_by_seed(pages: Pages) -> None:
    pages.show(None, until=str(pages.parent.info.run_name))
    search = pages.page.get_by_test_id("search-box")
    search.fill("params.depth = '3'")
    search.press("Enter")
    pages.page.get_by_text("3 matching runs").wait_for()  # two and their sweep
    pages.page.get_by_role("gridcell").get_by_role("button").first.click()  # opens the sweep
    boxes = pages.page.locator("[role=row] input[type=checkbox]:visible")
    for number in (2, 3):  # the first one chooses all, the second the sweep
        boxes.nth(number).click()
    pages.page.get_by_role("button", name="Compare", exact=True).first.click()
    pages.text("Comparing 2 Runs from 1 Experiment").wait_for()
    pages.show(None, until=str(pages.parent.info.run_name))
    pages.page.get_by_role("button", name="Group by").first.click()
    pages.page.get_by_role("menuitemcheckbox", name="seed", exact=True).click()
    pages.text("Group: 0").wait_for()


def test_a_sweeps_page_has_its_note_and_its_runs(pages: Pages) -> None:
    pages.show(pages.parent, until="Child runs")
    for name, run in pages.runs.items():
        if run is not pages.parent:
            pages.text(name).wait_for()
    pages.page.get_by_text("4 jobs, 4 runs").first.wait_for()
    pages.page.get_by_text("decades lost per layer").first.wait_for()


def test_a_sweeps_table_is_shown_as_one(pages: Pages) -> None:
    pages.show(pages.parent, "/artifacts/runs.json", until="decades_per_layer")
    pages.text("View as table").wait_for()
    pages.text("manifest.json").wait_for()
    for title in ("depth", "lr", "outcome", "loss", "accuracy"):
        assert pages.text(title).is_visible()
    outcomes = [run.data.tags["bpexp.outcome"] for run in pages.runs.values() if run is not pages.parent]
    for outcome in set(outcomes):
        assert pages.page.get_by_text(outcome, exact=True).count() == outcomes.count(outcome)


def test_a_report_is_shown_with_its_script(pages: Pages) -> None:
    pages.show(pages.parent, "/artifacts/report/index.html", until="Artifacts")
    shown = pages.page.frame_locator("iframe").locator("body")
    shown.locator("canvas").first.wait_for()  # a chart, which its script has drawn
    assert shown.locator("h1").inner_text() == pages.parent.info.run_name


def test_the_charts_of_100_layers_open_soon_and_a_search_leaves_the_profiles(pages: Pages) -> None:
    seconds = pages.show(pages.deep, "/model-metrics", until="layer_001")
    start = time.monotonic()
    pages.page.get_by_placeholder("Search metric charts").fill("profile/")
    pages.text("step_000040").wait_for()
    found = time.monotonic() - start
    print(f"the charts of 100 layers: {seconds:.1f} s, its profiles: {found:.1f} s")
    assert pages.page.get_by_text("layer_001", exact=True).count() == 0
    pages.page.locator(".js-plotly-plot .xtick").first.wait_for()
    ticks = pages.page.locator(".js-plotly-plot").first.locator(".xtick").all_text_contents()
    assert max(map(float, ticks)) >= 80  # its x axis counts layers
    assert seconds < PATIENCE
