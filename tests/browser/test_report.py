"""A report's page as one uses it: opened from a file that was moved alone, in a browser."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bpexp.prediction import predict
from bpexp.report.page import render, save_text, write
from bpexp.report.selection import Study
from bpexp.tracking.reader import Runs, configuration
from tests.report.studies import configs, runs_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

HOSTILE = "</script><script>document.documentElement.id='ran'</script><img src=x onerror=\"document.documentElement.id='ran'\">"


@pytest.fixture(scope="module")
def runs() -> Runs:
    """Four runs, of which the third has failed; a name that would be code."""
    found = runs_of(configs(depth=[3, 6], lr=[0.5, 1.0]), failed=(2,), name=HOSTILE)
    return replace(found, runs=found.runs.assign(name=["all alpha", f"all {HOSTILE}", "all gone", "all omega"]))


@pytest.fixture(scope="module")
def file(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    *_, page = write(runs, tmp_path_factory.mktemp("report"))
    return page.replace(tmp_path_factory.mktemp("moved") / "alone.html")


@pytest.fixture
def report(file: Path, page: "Page") -> Iterator["Page"]:
    """The page, which asks for no other file and runs nothing that a name holds."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    yield page
    assert page.evaluate("document.documentElement.id") == ""
    assert [url for url in asked if not url.startswith("data:image/png;")] == [file.as_uri()]


def hover_at_the_end(page: "Page", chart: str) -> None:
    """Move the mouse onto the right edge of a chart, as often as it takes: one that has just been laid out may miss a lone move."""
    over, box = page.locator(f"#{chart} .u-over"), page.locator(f"#{chart} .hover strong")
    for _ in range(50):
        place = over.bounding_box()
        assert place
        over.hover(position={"x": place["width"] - 1, "y": place["height"] / 2})
        if box.count():
            return
        page.mouse.move(1, 1)
        page.wait_for_timeout(100)
    pytest.fail("no values at the cursor")


def told(page: "Page", chart: str) -> tuple[str, dict[str, str]]:
    """What stands at the cursor of a chart: where it is, and each line's value by its name."""
    box = page.locator(f"#{chart} .hover")
    lines = [row.inner_text().split("\n") for row in box.locator("div").all()]
    return box.locator("strong").inner_text(), {name: value for name, value in lines}  # noqa: C416 (pairs alone)


def column(page: "Page", head: str) -> list[str]:
    heads = [text.strip() for text in page.locator("#table thead th").all_inner_texts()]
    return [row.locator("th, td").nth(heads.index(head)).inner_text().strip() for row in page.locator("#table tbody tr:visible").all()]


def number(text: str) -> float:
    """1.2 × 10⁻⁷, or a plain number."""
    mantissa, _, power = text.replace("−", "-").replace(",", "").partition(" × 10")
    return float(mantissa) * 10.0 ** int(power.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")) or 0)


def norms(runs: Runs, step: int, layer: int) -> list[float]:
    rows = runs.layers[(runs.layers["step"] == step) & (runs.layers["layer"] == layer)]
    return sorted(10.0 ** rows["log10_grad_norm"].to_numpy())


def predicted(runs: Runs, layer: int) -> list[float]:
    """Theory's norm in a layer, of each run with records: from the one that was measured in the output layer at step 0."""
    found = []
    for run_id in runs.by_run("layers"):
        row = runs.runs[runs.runs["run_id"] == run_id].iloc[0]
        prediction = predict(configuration(row.to_dict()))
        assert prediction
        line, start = prediction.log10_norm("log10_grad_norm"), runs.by_run("layers")[run_id].query("step == 0").set_index("layer")
        found.append(10.0 ** float(line[layer - 1] - line[-1] + start["log10_grad_norm"][row["depth"]]))
    return found


def test_a_curve_tells_its_values_under_the_cursor(report: "Page", runs: Runs) -> None:
    hover_at_the_end(report, "over-steps")
    where, values = told(report, "over-steps")
    assert where == "step 12"
    last = runs.curves[runs.curves["step"] == 12]["loss_train"]
    assert sorted(map(number, values.values())) == pytest.approx(sorted(last), rel=5e-3)
    assert set(values) == {"alpha", HOSTILE, "omega"}  # without the word that all have
    report.select_option("#column", "accuracy_test")
    report.locator("#over-steps").press("ArrowRight")
    assert all(value.endswith(" %") for value in told(report, "over-steps")[1].values())


def test_the_slider_moves_the_profile(report: "Page", runs: Runs) -> None:
    chart, slider = report.locator("#over-layers"), report.locator("#step")
    chart.press("ArrowRight")
    for press, step in (("Home", 0), ("End", 12), ("ArrowLeft", 11)):
        slider.press(press)
        assert report.locator("#step-told").inner_text() == f"step {step}"
        where, values = told(report, "over-layers")
        assert where == "layer 1"
        theory = values.pop("theory")
        assert sorted(map(number, values.values())) == pytest.approx(norms(runs, step, 1), rel=0.06)
        assert number(theory) in [pytest.approx(norm, rel=0.06) for norm in predicted(runs, 1)]
    for _ in range(5):
        chart.press("ArrowRight")
    where, values = told(report, "over-layers")
    assert where == "layer 6"
    assert set(values) == {"omega", "theory"}  # the others have three
    assert number(values["theory"]) == pytest.approx(norms(runs, 0, 6)[0], rel=0.06)


def test_the_training_can_be_played(report: "Page") -> None:
    from playwright.sync_api import expect

    report.click("#play")
    expect(report.locator("#play")).not_to_have_text("▶")
    expect(report.locator("#step-told")).to_have_text("step 12")
    expect(report.locator("#play")).to_have_text("▶")


def test_lines_are_drawn_of_the_runs_that_are_chosen(report: "Page") -> None:
    assert report.locator("#table input").count() == 3  # the failed run has nothing to draw
    inked = "[...document.querySelectorAll('.chart canvas')].map(it => it.toDataURL())"
    both = report.evaluate(inked)
    report.uncheck("text=all omega >> xpath=preceding-sibling::input")
    report.locator("#over-layers").press("ArrowRight")
    assert set(told(report, "over-layers")[1]) == {"alpha", HOSTILE, "theory"}
    fewer = report.evaluate(inked)
    assert all(a != b for a, b in zip(both, fewer, strict=True))
    report.click("#none")
    assert report.locator(".chart canvas").count() == 0
    assert report.locator(".empty").count() == 2
    report.fill("#filter", "omega")
    report.click("#all")
    report.locator("#over-layers").press("ArrowRight")
    assert set(told(report, "over-layers")[1]) == {"omega", "theory"}


def test_a_click_or_a_key_on_a_heading_sorts(report: "Page") -> None:
    head = report.locator("#table thead th", has_text="loss")
    report.click("#table thead th:has-text('loss') button")
    assert head.get_attribute("aria-sort") == "ascending"
    *losses, last = column(report, "loss")
    assert last == "–"
    assert losses == sorted(losses, key=number)
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert column(report, "loss") == [*losses[::-1], "–"]
    report.click("#table thead th:has-text('run') button")
    assert column(report, "run")[0] == f"all {HOSTILE}"
    assert head.get_attribute("aria-sort") is None


def test_numbers_are_sorted_by_their_size(report: "Page") -> None:
    """Not by the words that they are written in."""
    report.evaluate("""[['1,797', 1797], ['9', 9], ['1.2 × 10⁻⁷', 1.2e-7], ['−0.0831', -0.0831]].forEach(([text, number], place) => {
        const cell = document.querySelectorAll('#table tbody tr')[place].cells[1];
        [cell.textContent, cell.dataset.number] = [text, number];
    })""")
    report.click("#table thead th:has-text('depth') button")
    assert column(report, "depth L") == ["−0.0831", "1.2 × 10⁻⁷", "9", "1,797"]


def test_the_filter_keeps_lines_that_have_all_words(report: "Page") -> None:
    assert report.locator("#count").inner_text() == "4 runs"
    report.fill("#filter", "ALL failed")
    assert column(report, "run") == ["all gone"]
    assert report.locator("#count").inner_text() == "1 of 4 runs"
    report.fill("#filter", "")
    assert len(column(report, "run")) == 4


def luminance(colour: list[float]) -> float:
    linear = [c / 3294.6 if c <= 10.3 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_in_both_schemes(scheme: "str", report: "Page") -> None:
    """WCAG 2.2's contrast of 4.5, of all that has words of its own; charts are drawn in the colours of the scheme."""
    report.emulate_media(color_scheme=scheme)
    found = report.evaluate("""() => {
        const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
        const below = (it) => {
            const colour = numbers(getComputedStyle(it).backgroundColor);
            return colour.length < 4 || colour[3] ? colour : below(it.parentElement);
        };
        const own = [...document.querySelectorAll('body *:not(script, svg *, option)')].filter(it =>
            it.checkVisibility() && [...it.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
        return own.map(it => [it.tagName + ' ' + it.textContent.slice(0, 30), numbers(getComputedStyle(it).color), below(it)]);
    }""")
    assert len(found) > 50
    for words, ink, paper in found:
        light, dark = sorted([luminance(ink), luminance(paper)], reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, words
    paper = report.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (luminance(paper) < 0.1) == (scheme == "dark")


@pytest.mark.parametrize("width", [390, 800, 1400])
def test_nothing_is_wider_than_the_window(width: int, report: "Page") -> None:
    report.set_viewport_size({"width": width, "height": 900})
    report.wait_for_timeout(100)
    assert report.evaluate("document.documentElement.scrollWidth") <= width
    for canvas in report.locator(".chart canvas").all():
        box = canvas.bounding_box()
        assert box
        assert 200 < box["width"] <= width


def test_it_prints(report: "Page") -> None:
    """Figures, the table and what all runs share, without what can only be used on a screen."""
    assert report.pdf(format="A4").startswith(b"%PDF")
    report.emulate_media(media="print")
    hidden = [it for it in ("nav", "#charts", "#sought", "#table input >> nth=0") if report.locator(it).is_visible()]
    assert hidden == []
    assert report.locator("#table tbody tr").first.is_visible()
    assert report.evaluate("document.querySelector('details dd').checkVisibility({contentVisibilityAuto: true})")


def test_without_scripts_it_reads_as_well(file: Path, browser: "Browser") -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.locator("#table tbody tr:visible").count() == 4
    assert page.locator("section > figure svg:visible").count() > 5
    for place in ("#charts", "#sought", "#table button", "#table input"):
        assert page.locator(f"{place}:visible").count() == 0
    context.close()


def test_its_scripts_run_in_mlflows_frame(file: Path, page: "Page") -> None:
    """Which is sandboxed, and has no origin."""
    page.goto("about:blank")
    page.evaluate(
        """(text) => document.body.append(Object.assign(document.createElement('iframe'), {
            src: URL.createObjectURL(new Blob([text], {type: 'text/html'})), sandbox: 'allow-scripts', width: 900, height: 900}))""",
        file.read_text(),
    )
    frame = page.frame_locator("iframe")
    frame.locator("#over-layers canvas").wait_for()
    frame.locator("#step").press("End")
    assert frame.locator("#step-told").inner_text() == "step 12"


def test_what_was_chosen_outlasts_a_page_that_is_read_again(runs: Runs, tmp_path: Path, page: "Page") -> None:
    from playwright.sync_api import expect

    file = save_text(tmp_path / "index.html", render(Study(runs), [], refresh=2))
    page.goto(file.as_uri())
    page.uncheck("text=all omega >> xpath=preceding-sibling::input")
    page.locator("#step").press("End")
    page.fill("#filter", "all")
    page.evaluate("document.documentElement.lang = 'la'")
    expect(page.locator("html")).to_have_attribute("lang", "en")  # it has been read again
    assert page.locator("#step-told").inner_text() == "step 12"
    assert page.locator("#filter").input_value() == "all"
    assert [box.is_checked() for box in page.locator("#table input").all()] == [True, True, False]


def test_figures_have_a_name_and_are_drawn(report: "Page") -> None:
    figures = report.locator("section > figure svg").all()
    assert figures
    for figure in figures:
        label, box, size = figure.get_attribute("aria-label"), figure.bounding_box(), figure.get_attribute("viewBox")
        assert label
        assert box
        assert size
        assert math.isclose(box["width"] / box["height"], float(size.split()[2]) / float(size.split()[3]), rel_tol=0.01)
