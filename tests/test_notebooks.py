"""The notebooks of examples/: stored without outputs, and every cell runs and shows what the text beside it says."""

import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.cli import ROOT, environment
from tests.sweeps import empty_store

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
PARAMETRIZE = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:zmq", "ignore::RuntimeWarning:zmq", "ignore::ResourceWarning")

Shown = dict[str, str]  # what each cell has shown as text, by id


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


@PARAMETRIZE
def test_notebook_is_stored_without_outputs_and_with_ids_that_stay(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    assert [cell.id for cell in notebook.cells] == [f"{path.name[:2]}-{number:02d}" for number in range(1, len(notebook.cells) + 1)]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The outputs of a notebook, run in a folder of its own; raises where a cell fails."""

    @cache
    def run(name: str) -> Any:
        (path,) = (path for path in NOTEBOOKS if path.name.startswith(name))
        folder = tmp_path_factory.mktemp(path.stem)
        (folder / "mlflow.db").write_bytes(empty_store())
        notebook = read(path)
        told = environment(PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]), HOME=str(folder))
        client = NotebookClient(notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
        client.execute(env=told)
        return {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}

    return run


def text(outputs: Any) -> str:
    found = [output.text if output.output_type == "stream" else output.data.get("text/plain", "") for output in outputs]
    return "\n".join(found)


def pictures(outputs: dict[str, Any]) -> int:
    return sum("image/png" in output.get("data", {}) for some in outputs.values() for output in some)


def test_first_sweep(executed: Any) -> None:
    outputs = executed("01")
    rows = [line.split() for line in text(outputs["01-05"]).splitlines()[1:]]
    assert [(row[1], row[2]) for row in rows] == [("3", "trained"), ("10", "stuck"), ("30", "stuck")]
    assert rows[0][-1] == "NaN"
    assert all(0.6 < float(row[-1]) < 0.66 for row in rows[1:])  # log10 4, and a little more where z is not 0
    first, *_, last = (float(line.split()[1]) for line in text(outputs["01-07"]).splitlines()[1:-1])
    assert last - first > 27 * 0.6
    assert pictures(outputs) == 1


def test_why_sigmoid_nets_vanish(executed: Any) -> None:
    outputs = executed("02")
    rows = [[float(word) for word in line.split()] for line in text(outputs["02-04"]).splitlines()[2:]]
    assert len(rows) == 6
    for _, measured, spread, theory in rows:
        assert abs(measured - theory) < 3 * spread / 5**0.5 + 0.005  # three standard errors, and what theory leaves out
    critical = dict(re.findall(r"^(\w+) .*, ([+-][\d.]+) decades", text(outputs["02-08"]), re.MULTILINE))
    assert set(critical) == {"sigmoid", "tanh", "relu"}
    assert all(abs(float(lost)) < 0.06 for lost in critical.values())
    assert pictures(outputs) == 1


def test_your_own(executed: Any) -> None:
    outputs = executed("03")
    slopes = [float(word) for word in re.findall(r"[\d.]+", text(outputs["03-03"]))]
    assert len(slopes) == 12
    assert slopes[:-1] == sorted(slopes[:-1])  # z shrinks from layer to layer, towards where softsign is steep
    (largest,) = re.findall(r"largest difference: ([\d.]+) decades", text(outputs["03-05"]))
    assert float(largest) < 0.1
    assert text(outputs["03-09"]).count(" holds") == 3
    assert "\x1b" not in text(outputs["03-09"])
    assert pictures(outputs) == 1
