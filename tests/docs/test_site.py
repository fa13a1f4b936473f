"""The documentation site: it is built without a warning, loads nothing from elsewhere, and knows what the code knows."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from inspect import getsourcelines
from pathlib import Path

import pytest

from bpexp.config import RunConfig, blanks, keys, written
from bpexp.core.network import Affine
from bpexp.core.paths import count_multiplications
from bpexp.core.probes import CHOSEN, PROBES
from bpexp.plugins import VARIABLE
from bpexp.tracking.reader import FRAMES
from tests.cli import ROOT
from tests.docs.names import told

LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src"), ("source", "srcset"), ("object", "data")}
COMMANDS = {"report", "report.cures", "status", "sync", "theory", "ui", "verify", "walkthrough"}


@dataclass
class Page(HTMLParser):
    """What a page holds: places that links can point to, what it loads, its text."""

    ids: set[str] = field(default_factory=set)
    loaded: list[str] = field(default_factory=list)
    classes: set[str] = field(default_factory=set)
    text: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found["id"]} if "id" in found else set()
        self.classes |= set(found.get("class", "").split())
        self.loaded += [value for name, value in found.items() if (tag, name) in LOADED]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page(file: Path) -> Page:
    found = Page()
    found.feed(file.read_text())
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(line, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def elsewhere(address: str) -> bool:
    return address.startswith("//") or re.match(r"(?!data:)[a-z][a-z+.-]*:", address) is not None


def test_pages_load_nothing_from_another_host(site: Path) -> None:
    files = list(site.rglob("*.html"))
    pages = {str(file.relative_to(site)): page(file) for file in files}
    assert len(pages) > 25
    assert {name: [it for it in found.loaded if elsewhere(it)] for name, found in pages.items() if any(map(elsewhere, found.loaded))} == {}
    assert not {name for name, found in pages.items() if found.classes & {"mermaid", "arithmatex"}}  # a script would be fetched for them
    assert any(found.loaded for found in pages.values())
    styles = [found for file in site.rglob("*.css") for found in re.findall(r"(?:url\(|@import )[\"']?([^\"')]+)", file.read_text())]
    assert styles
    assert not [it for it in styles if elsewhere(it)]


def test_what_pages_load_is_there(site: Path) -> None:
    """MkDocs looks at what is written in Markdown; templates and copied pictures are looked at here."""
    lost = []
    for file in site.rglob("*.html"):
        if file.name != "404.html":  # from a folder of its own choice
            local = [it.partition("?")[0].partition("#")[0] for it in page(file).loaded if not it.startswith("data:")]
            lost += [(file.name, it) for it in local if not (file.parent / it).exists()]
    assert lost == []


def test_every_key_is_in_the_reference_with_its_default(site: Path) -> None:
    text = (site / "reference/keys.html").read_text()
    rows = dict(re.findall(r'<td><code id="([\w.]+)">\1</code></td>\s*<td>(?:<code>)?(.*?)(?:</code>)?</td>', text))
    assert set(keys(RunConfig)) <= set(rows)
    assert {"hydra.launcher.memory", "hydra.launcher.max_runs", "hydra.launcher.n_jobs", "hydra.sweeper.params", "hydra.sweeper.tune"} <= set(rows)
    assert {key: unescape(rows[key]) for key in ("depth", "lr", "output", "init.name", "init.sigma_b2", "tracking.layers")} == {
        "depth": "10",
        "lr": "3.0",
        "output": "null",
        "init.name": "xavier",
        "init.sigma_b2": "0.0",
        "tracking.layers": written(blanks()["tracking"]["layers"]),
    }


def test_every_command_is_in_the_reference(site: Path) -> None:
    modules = {file for file in (ROOT / "bpexp").rglob("*.py") if "if __name__ ==" in file.read_text()}
    names = {".".join(file.relative_to(ROOT / "bpexp").with_suffix("").parts).removesuffix("__main__").strip(".") for file in modules}
    assert names - {"", "sweep.worker"} == COMMANDS, "a command has come or gone: tell docs/reference/commands.md"
    found = page(site / "reference/commands.html")
    assert {f"python-m-bpexp{name and '.'}{name}".replace(".", "") for name in {"", *COMMANDS}} <= {it.replace(".", "") for it in found.ids}
    assert {"bpexp.status-sweep", "bpexp.ui-port", "bpexp.walkthrough-sizes", "bpexp.verify.__main__-jobs"} <= found.ids
    assert VARIABLE in told("commands.md")


def test_every_column_of_the_frames_is_told(site: Path) -> None:
    found = page(site / "reference/frames.html")
    assert {probe.column for probe in PROBES.values()} <= found.ids
    parts = dict(re.findall(r'<h2 id="(\w+)">(.*?)(?=<h2|</article>)', (site / "reference/frames.html").read_text(), re.DOTALL))
    named = {name: set(re.findall(r"<code[^>]*>(\w+)</code>", text)) for name, text in parts.items()}
    assert {name: missing for name, columns in FRAMES.items() if (missing := set(columns) - named[name])} == {}
    assert set(CHOSEN) <= set.union(*named.values())


# ---------------------------------------------------------------------------------------------- code and formulas


def test_code_on_a_page_is_the_source_with_its_line_numbers(site: Path) -> None:
    found = page(site / "backpropagation.html")
    text = "".join(found.text)
    lines, first = getsourcelines(Affine.forward)
    ((number, line),) = [(n, line.strip()) for n, line in enumerate(lines, first) if "np.matmul" in line]
    assert line in text
    assert f'<span class="normal">{number}</span>' in (site / "backpropagation.html").read_text()
    assert f"{count_multiplications((3,) * 8)[0]:,}" in text


def test_no_inclusion_table_or_formula_is_left_over(site: Path) -> None:
    asked = 0
    for file in (ROOT / "docs").rglob("*.md"):
        text = file.read_text()
        asked += len(re.findall(r'"code(?:: [^"]*)?"\)$', text, re.MULTILINE))
        built = site / file.relative_to(ROOT / "docs").with_suffix(".html")
        html = built.read_text()
        assert text.count('"code') == html.count('<span class="filename">'), file
        assert "<!-- table" not in html
        assert len(re.findall(r"^\$\$$", text, re.MULTILINE)) == 2 * html.count('<div class="formula"'), file
    assert asked > 30


SOURCE = '''\
def decorated(function):
    return function


class Net:
    @decorated
    def forward(self, x):
        """Doubles."""
        y = x
        return y + x
'''
CONFIG = """\
site_name: trial
theme: mkdocs
plugins: []
markdown_extensions: [tables, pymdownx.superfences, {{pymdownx.highlight: {{}}}}, {{pymdownx.arithmatex: {{generic: true}}}}]
hooks: [{hooks}/links.py, {hooks}/sources.py, {hooks}/tables.py, {hooks}/formulas.py]
"""


def built(folder: Path, text: str) -> str:
    """A page of this text, built by MkDocs with our hooks beside a source; raises what ends a build."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    (folder / "docs").mkdir()
    (folder / "docs/index.md").write_text(text)
    (folder / "net.py").write_text(SOURCE)
    (folder / "mkdocs.yml").write_text(CONFIG.format(hooks=ROOT / "docs/hooks"))
    build(load_config(str(folder / "mkdocs.yml"), strict=True))
    return (folder / "site/index.html").read_text()


def test_a_definition_is_included_whole_or_in_part(tmp_path: Path) -> None:
    text = built(
        tmp_path, '[Net.forward](../net.py "code")\n\n[Net](../net.py "code: y = x")\n\n[elsewhere](../net.py) ends.\n\n    [in code](../net.py)\n'
    )
    assert re.findall(r'<span class="normal">\s*(\d+)</span>', text) == ["6", "7", "8", "9", "10", "9"]
    assert "elsewhere (<code>net.py</code>) ends" in text
    plain = unescape(re.sub(r"<[^>]+>", "", text))
    assert "@decorated\ndef forward(self, x):" in plain
    assert plain.count("y = x\n") == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[Net.backward](../net.py "code")', "there is no Net.backward"),
        ('[Net.forward](../net.py "code: y = z")', "no line of Net.forward matches y = z"),
        ('[Net.forward](../nets.py "code")', "there is no such file"),
        ("[a source](../nets.py)", "../nets.py is not there"),
        ("<!-- table: kees -->", "there is no table kees"),
        ("<!-- table: keys bpexp.config:RunConfig dta -->", "has no keys in dta"),
        ("<!-- table: keys bpexp.config:Runs -->", "has no attribute 'Runs'"),
        ("$\\left( x$", "the formula \\left( x can't be read"),
        ("$x & y$", "the formula x & y can't be read"),
        ("$\\unheardof x$", "does not know"),
    ],
)
def test_what_is_not_there_ends_the_build(tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, reason: str) -> None:
    from mkdocs.exceptions import Abort

    with pytest.raises(Abort):
        built(tmp_path, text)
    assert reason in caplog.text
