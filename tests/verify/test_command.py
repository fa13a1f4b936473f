"""`python -m bpexp.verify` as a user runs it: the example of docs/studies.md, a claim that fails, an interruption, refusals."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml

from bpexp.verify.__main__ import main
from tests.bad_input.commands import Done
from tests.cli import ROOT, command, environment, lines, query
from tests.hydra_state import kept

RUNS = "select count(*) from runs join tags using (run_uuid) where key = 'bpexp.kind' and value = 'run'"


def example() -> str:
    """The study that the page on studies explains."""
    found = re.search(r"```yaml\n(.*?)```", (ROOT / "docs/studies.md").read_text(), re.DOTALL)
    assert found
    return found[1]


def add(folder: Path, name: str, text: str) -> None:
    (folder / "claims/study").mkdir(parents=True, exist_ok=True)
    (folder / "claims/study" / f"{name}.yaml").write_text(text)


def verify(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return command(folder, *words, "--config-dir", "claims", module="bpexp.verify")


def verify_here(folder: Path, *words: str) -> Done:
    """The same in this process; its sweeps are processes of their own."""
    out, err = io.StringIO(), io.StringIO()
    told = environment(MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false")  # as importing `bpexp.tracking.store` has set it
    with chdir(folder), patch.dict(os.environ, told, clear=True), redirect_stdout(out), redirect_stderr(err), kept():
        code = main([*words, "--config-dir", "claims"])
    return Done(code, out.getvalue(), err.getvalue())


def told(folder: Path) -> dict[str, dict[str, Any]]:
    return {study["study"]: study for study in json.loads((folder / "reports/verdicts/verdicts.json").read_text())}


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("verify")
    add(folder, "mine", example())
    return folder, verify(folder, "mine", "--quick")


def test_the_example_of_the_page_holds(judged: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, ended = judged
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    assert lines(ended.stdout)[-1] == "reports/verdicts/index.html"
    study = told(folder)["mine"]
    assert [check["verdict"] for check in study["checks"]] == ["holds", "holds"]
    assert study["checks"][0]["theory"] is not None
    assert len(study["checks"][0]["ours"]["values"]) == 5


def test_the_page_shows_claims_and_figures(judged: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = judged
    page = (folder / "reports/verdicts/index.html").read_text()
    assert "δ loses nothing on its way back" in page
    pictures = re.findall(r'(?:src|href)="([^"#]+\.(?:svg|png|csv))"', page)
    assert pictures
    assert all((folder / "reports/verdicts" / name).stat().st_size > 1000 for name in pictures)


def test_what_is_finished_is_judged_again_and_not_run_again(judged: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """A claim about the same nets that does not hold: exit code 1, and no further net."""
    folder, _ = judged
    before, first = query(folder / "mlflow.db", RUNS), told(folder)["mine"]
    study = yaml.safe_load(example())
    study["study"]["checks"][1]["tolerance"] = {"at_least": 1.0}
    add(folder, "wrong", "# @package _global_\n" + yaml.safe_dump(study, sort_keys=False))
    ended = verify_here(folder, "wrong", "mine", "--quick")
    assert ended.code == 1
    assert query(folder / "mlflow.db", RUNS) == before
    assert [check["verdict"] for check in told(folder)["wrong"]["checks"]] == ["holds", "fails"]
    again = told(folder)["mine"]
    assert [check["ours"] for check in again["checks"]] == [check["ours"] for check in first["checks"]]


def test_a_study_that_cannot_be_run_fails_with_its_reason(judged: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = judged
    add(folder, "broken", example().replace("depth: 12", "depth: 0"))
    ended = verify_here(folder, "broken", "--quick")
    assert ended.code == 1
    assert told(folder)["broken"]["failure"] == "bpexp: depth=0: must be a whole number, at least 1, at most 10,000"
    assert "depth=0: must be a whole number" in ended.out


def test_what_a_measure_or_a_figure_cannot_do_is_told_in_a_line(judged: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """A number that these runs have not; a figure of other runs.  Neither is another study's trouble."""
    folder, _ = judged
    none = {"claim": "nothing <b>", "measure": "number", "options": {"name": "finl_loss"}, "tolerance": {"at_most": 1}, "because": "no reason"}
    for name, change in (("nonumber", {"checks": [none]}), ("nofigure", {"figures": ["modes"]})):
        study = yaml.safe_load(example())
        study["study"] |= change
        add(folder, name, "# @package _global_\n" + yaml.safe_dump(study, sort_keys=False))
    ended = verify_here(folder, "nonumber", "nofigure", "mine", "--quick")
    assert ended.code == 1
    found = told(folder)
    assert found["nonumber"]["failure"] == "can't be judged: KeyError: 'finl_loss'"
    assert [check["verdict"] for check in found["nofigure"]["checks"] + found["mine"]["checks"]] == ["holds"] * 4
    (line,) = lines(ended.err)
    assert line.startswith("bpexp: study=nofigure: figures=modes: can't be drawn of these runs (")
    assert "can&#39;t be drawn of these runs" in (folder / "reports/verdicts/index.html").read_text()


@pytest.mark.parametrize("sent", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)])
def test_interrupted_it_closes_its_runs_and_goes_on_where_it_was(tmp_path: Path, sent: signal.Signals) -> None:
    slow = yaml.safe_load(example())
    slow |= {"steps": 1500, "depth": 6}
    slow["hydra"]["sweeper"]["params"] |= {"width": "16", "seed": "range(0,4)"}
    slow["hydra"]["launcher"] = {"max_runs": 1}
    slow["study"]["checks"] = [
        {"claim": "all end", "measure": "number", "options": {"name": "final_loss"}, "tolerance": {"at_most": 10.0}, "because": "an upper bound"}
    ]
    add(tmp_path, "slow", "# @package _global_\n" + yaml.safe_dump(slow, sort_keys=False))
    line = [sys.executable, "-m", "bpexp.verify", "slow", "--config-dir", "claims"]
    process = subprocess.Popen(line, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finished = "select count(*) from runs where status = 'FINISHED' and run_uuid in (select run_uuid from tags where value = 'run')"
    end = time.monotonic() + 120
    while not ((tmp_path / "mlflow.db").exists() and query(tmp_path / "mlflow.db", finished)[0][0]):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.1)
    process.send_signal(sent)
    process.communicate(timeout=60)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[sent]
    assert query(tmp_path / "mlflow.db", "select count(*) from runs where status = 'RUNNING'") == [(0,)]
    kept = query(tmp_path / "mlflow.db", finished)[0][0]
    assert 0 < kept < 8
    ended = verify_here(tmp_path, "slow")
    assert ended.code == 0, ended
    assert query(tmp_path / "mlflow.db", finished) == [(8,)]
    assert len(told(tmp_path)["slow"]["checks"][0]["ours"]["values"]) == 8


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["minne"], "bpexp: study=minne: must be one of "),
        (["--quik"], "bpexp: --quik: no such switch; there are --quick and --config-dir DIR"),
        (["--config-dir", "nowhere"], "bpexp: --config-dir=nowhere: must be a folder"),
        (["--config-dir"], "bpexp: --config-dir: must be a folder"),
        (["--config-dir="], "bpexp: --config-dir: must be a folder"),
        (["ou=x"], "bpexp: ou=x: no such key; did you mean 'out'?"),
        (["jobs=0"], "bpexp: jobs=0: must be a whole number, at least 1"),
        (["out=/proc/none"], "bpexp: out=/proc/none: cannot be written to"),
    ],
)
def test_wrong_words_are_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(line)
    assert len(lines(printed.err)) == 1
    assert (printed.out, list(tmp_path.iterdir())) == ("", [])


def test_a_file_that_makes_no_sense_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    add(tmp_path, "mine", example().replace("decades_per_layer", "decades_per_leyer"))
    with pytest.raises(SystemExit) as ended:
        main(["mine", "--config-dir", "claims"])
    assert ended.value.code == 2
    refused = lines(capsys.readouterr().err)
    assert len(refused) == 3  # the measure twice, theory's number once
    assert all("did you mean 'decades_per_layer'?" in line for line in refused)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["claims"]
