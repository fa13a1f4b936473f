"""Names that would be code, or paths, are names."""

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpexp.config import ConfigError, RunConfig, TrackingConfig, check
from bpexp.experiment import prepare, run
from bpexp.report.page import folder_name, template, write
from bpexp.sweep.folders import Folder, _joined
from bpexp.tracking.notes import markdown_table, plain
from bpexp.tracking.parent import Planned, SweepRun
from bpexp.tracking.reader import Runs, load_runs
from bpexp.tracking.sink import MlflowSink
from bpexp.tracking.store import connect, resolve
from bpexp.verify.study import read
from tests.browser.conftest import installed
from tests.report.studies import runs_of

SCRIPT = "</script><script>document.documentElement.id='ran'</script><img src=x onerror=\"document.documentElement.id='ran'\">"
BROWSER = installed()
PATHS = ["../../x", "/etc/x", "a\x00b", "..", ".", "", "x" * 5000, "Ünï/cødé ☃", "con\nfig", "~/x", "C:\\x"]


def sweep_of(folder: Path, name: str) -> Runs:
    """A sweep of two real runs, all of whose names are this one."""
    store = connect(resolve("sqlite:///mlflow.db", folder), name)
    configs = [RunConfig(depth=depth, width=4, steps=2, tracking=TrackingConfig(experiment=name, run_name=name)) for depth in (2, 3)]
    planned = [Planned([f"depth={config.depth}"], prepare(config).fingerprint, name) for config in configs]
    parent = SweepRun(store, name, {"depth": "2,3"}, planned)
    for job, config in enumerate(configs):
        config.tracking.parent = parent.run_id
        run(prepare(check(config)), MlflowSink(store, job=job))
    parent.close("FINISHED", {})
    return load_runs("latest", store.uri, name)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("named")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        runs = sweep_of(folder, SCRIPT)
        list(write(runs, folder / "reports" / folder_name(runs)))
    (made,) = (folder / "reports").iterdir()
    return made


def test_no_file_of_a_report_holds_a_tag(report: Path) -> None:
    holders = [path.name for path in report.iterdir() if b"<script>document" in path.read_bytes() or b"<img src=x" in path.read_bytes()]
    assert holders == ["runs.csv"]  # which is no page
    text = (report / "index.html").read_text()
    assert "&lt;script&gt;" in text
    assert text.count("</script>") == text.count("<script") == 5  # the page's own: its numbers, a library and three scripts


def dom(page: Path) -> str:
    assert BROWSER
    line = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={page.parent / 'profile'}", "--dump-dom", page.as_uri()]
    return subprocess.run(line, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.browser
def test_a_browser_runs_nothing(report: Path, tmp_path: Path) -> None:
    """Not what names hold, and, were they not escaped, not that either; styles apply, as a width tells."""
    shutil.copytree(report, tmp_path / "report")
    page = tmp_path / "report/index.html"
    text = page.read_text()
    assert 'id="ran"' not in dom(page)
    page.write_text(text.replace("<main>", f"<main>{SCRIPT}<style>main {{ color: red }}</style>"))
    assert 'id="ran"' not in dom(page)
    page.write_text(text.replace("<main>", f"<main>{SCRIPT}").replace("Content-Security-Policy", "x"))
    assert 'id="ran"' in dom(page)  # that it is an attack


@pytest.mark.parametrize("name", ["index.html.j2", "verdicts.html.j2"])
def test_styles_and_scripts_are_those_that_the_policy_allows(name: str) -> None:
    import hashlib
    import re
    from base64 import b64encode

    def digests(found: list[str]) -> str:
        return " ".join(f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in found)

    parts = ("sweeps", "swept", "follows", "fixed", "pictures", "rows", "studies", "undrawn", "heads", "findings")
    nothing: dict[str, list[str]] = {key: [] for key in parts}
    text = template(name).render(**nothing, name="x", summary="", sweep=None, experiment_id="", refresh=None, data=None, quick=False)
    policy, style = re.findall(r'content="(default-src.*?)"', text), re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(policy) == len(style) == 1
    images, allowed = ("data:", f"script-src {digests(scripts)}; ") if name == "index.html.j2" else ("'self' file:", "")
    assert len(scripts) == 4 * (name == "index.html.j2")
    assert policy[0] == f"default-src 'none'; img-src {images}; {allowed}style-src {digests(style)}; base-uri 'none'; form-action 'none'"
    assert "&" not in style[0]
    rest = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"\sstyle=|\son\w+=|https?:", rest)
    assert rest.count("<script") == rest.count('<script type="application/json"') == (name == "index.html.j2")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a|b", r"a\|b"),
        ("<script>", r"\<script\>"),
        ("![x](http://h/x.png)", r"\!\[x\](http://h/x.png)"),
        ("`*~&", r"\`\*\~\&"),
        ("a\\|b", r"a\\\|b"),
        ("a\n\n# b", "a # b"),
        ("depth=50 init.sigma_w2=4", "depth=50 init.sigma_w2=4"),
    ],
)
def test_a_name_in_a_note_is_text(name: str, told: str) -> None:
    assert plain(name) == told
    assert markdown_table([(name, "1", "2", "3", "trained")]).splitlines()[2] == f"| {told} | 1 | 2 | 3 | trained |"


@pytest.mark.parametrize("name", PATHS)
def test_a_report_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    runs = runs_of([RunConfig(depth=2, width=4, steps=2)])
    for some in (Runs(runs.runs, runs.curves, runs.layers, None, name, "1"), Runs(runs.runs, runs.curves, runs.layers, name, name, name)):
        folder = folder_name(some)
        assert Path(folder).name == folder
        assert folder not in ("", ".", "..")
        assert len(folder) < 200
        (tmp_path / folder).mkdir(exist_ok=True)


@pytest.mark.parametrize("stem", ["..", "a b", "x,y", "javascript:alert(1)", "<script>", "Ünï", "x" * 10 + "'"])
def test_a_study_is_named_plainly(stem: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be a file whose name has letters, digits, - and _ only"):
        read(tmp_path / f"{stem}.yaml")


def test_a_jobs_folder_is_in_the_sweeps() -> None:
    assert _joined("/a/b", "c/../d") == "/a/b/d"
    assert _joined("/a/b", ".") == "/a/b"
    for subdir in ("..", "../bc", "data.path=../../../x", "/etc"):
        with pytest.raises(ConfigError, match=r"must be a folder inside hydra\.sweep\.dir"):
            _joined("/a/b", subdir)


@pytest.fixture(params=[0o077, 0o022], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_files_have_the_users_umask(umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = sweep_of(tmp_path, "plain")
    list(write(runs, tmp_path / "reports" / folder_name(runs)))
    Folder(tmp_path / "multirun/0", {tmp_path / "multirun/0/.hydra/config.yaml": "x: 1\n"}).write()
    made = list(tmp_path.rglob("*"))
    names = {path.name for path in made}
    assert {"mlflow.db", ".mlflow.db.lock", ".mlflow.db.queue", "index.html", "runs.csv", "curves.parquet", "checkpoint.npz", "config.yaml"} <= names
    for path in made:
        most = 0o777 if path.is_dir() else 0o666
        assert stat.S_IMODE(path.stat().st_mode) & ~(most & ~umask) == 0, path
    shared = {path.name for path in made if umask == 0o022 and not stat.S_IMODE(path.stat().st_mode) & 0o044}
    assert not shared
