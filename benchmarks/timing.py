"""Contenders in processes of their own on one core, taking turns round by round; and what is made of the times."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmarks.cells import Cell

__all__ = ["ROOT", "Options", "Process", "Workers", "environment", "spread"]

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 0.15  # of a round, about
BUILD_SECONDS = 60.0  # to draw the weights and to compile, at most
ANSWER_SECONDS = 600.0
SMALL_LOSS = 1e-3  # of a net that knows its batch: outputs within a rounding of 0 and 1 have no relative error to speak of
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1") | {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
}
CHOSEN_BY_LIBRARY = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # unset: every library takes the kernels that it takes by itself
SETTINGS = ("MLFLOW_", "HYDRA_", "BPEXP_")  # of the user's own: unset too


@dataclass(frozen=True)
class Options:
    """Of the command line: `rounds=5 core=1 share=256`; `share` are the runs of the sweep that the harness really trains."""

    rounds: int = 5
    core: int = max(os.sched_getaffinity(0))
    share: int = 256


def environment(*, one_thread: bool = True) -> dict[str, str]:
    """Of every process that is measured."""
    kept = {key: value for key, value in os.environ.items() if key not in CHOSEN_BY_LIBRARY and not key.startswith(SETTINGS)}
    kept |= {"PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}
    return kept | ONE_THREAD if one_thread else kept


class ContenderError(RuntimeError):
    """Why a contender has no number."""


class Process:
    """A Python module of ours that answers each line of JSON with one."""

    def __init__(self, *words: str, cwd: Path = ROOT, one_thread: bool = True) -> None:
        self.line, self.cwd, self.env = [sys.executable, "-m", *words], cwd, environment(one_thread=one_thread)
        self._start()

    def _start(self) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(self.line, cwd=self.cwd, env=self.env, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)

    def send(self, request: Any) -> None:
        assert self.process.stdin is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)

    def receive(self, seconds: float = ANSWER_SECONDS) -> Any:
        """The answer; a process that takes longer, or is gone, is replaced by a new one.  Raises `ContenderError`."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            self.close()
            self._start()
            raise ContenderError("process ended" if ready else f"took over {seconds:.0f} s")
        answer = json.loads(line)
        if isinstance(answer, dict) and "error" in answer:
            raise ContenderError(answer["error"])
        return answer

    def ask(self, request: Any, seconds: float = ANSWER_SECONDS) -> Any:
        self.send(request)
        return self.receive(seconds)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


class Workers:
    """One process for each contender, for all cells of a part."""

    def __init__(self, names: Sequence[str], options: Options) -> None:
        self.names, self.options = names, options

    def __enter__(self) -> Self:
        self.processes = {name: Process("benchmarks.worker", name, str(self.options.core)) for name in self.names}
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.close()

    def first(self, name: str, cell: Cell) -> dict[str, Any]:
        """A contender's norms at the first step and its losses after some, from a new start."""
        self.processes[name].ask({"build": cell.written}, BUILD_SECONDS)
        return dict(self.processes[name].ask({"first": True}))

    def compare(self, cell: Cell, names: Sequence[str], *, reference: str | None = None) -> dict[str, dict[str, Any]]:
        """For each contender its microseconds a step in each round, or a note on why it has none; and how far it agrees with the reference."""
        right = self._right(reference, cell) if reference else None
        found: dict[str, dict[str, Any]] = {}
        steps: dict[str, int] = {}
        for name in names:
            try:
                first = self.first(name, cell)
                found[name] = {"check": agreement(first, right)} if right and first["losses"] else {}
                steps[name] = self._steps(name)
            except ContenderError as error:
                found[name] = {"note": str(error)}
        for _ in range(self.options.rounds):
            for name in list(steps):
                try:
                    done = self.processes[name].ask({"run": steps[name]})
                except ContenderError as error:
                    found[name] = {"note": str(error)}
                    del steps[name]
                    continue
                found[name].setdefault("us", []).append(round(1e6 * done["seconds"] / done["steps"], 3))
                found[name].setdefault("cpu", []).append(round(done["cpu"] / done["seconds"], 3))
        for name in names:
            self.processes[name].ask({"drop": True})
        return found

    def _right(self, reference: str, cell: Cell) -> dict[str, Any] | None:
        """What a contender agrees with; None, and no check, where the reference has failed."""
        try:
            return self.first(reference, cell)
        except ContenderError:
            return None
        finally:
            self.processes[reference].ask({"drop": True})

    def _steps(self, name: str) -> int:
        """That fill a round; found out from warm steps."""
        count = 1
        while True:
            done = self.processes[name].ask({"run": count})
            each = done["seconds"] / done["steps"]
            if done["seconds"] > SECONDS / 5:
                return int(max(1, SECONDS / each))
            count = max(2 * count, int(SECONDS / 4 / each))


def agreement(first: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    """The largest relative error of a loss; of how many layers the norm is right, to 1e-4, and how many norms are 0, out of how many."""
    losses, true_losses = np.array(first["losses"]), np.array(right["losses"])
    norms, true_norms = np.array(first["norms"]), np.array(right["norms"])
    wrong = float(np.max(np.abs(losses - true_losses) / np.maximum(true_losses, SMALL_LOSS)))
    with np.errstate(invalid="ignore"):
        close = (np.abs(norms - true_norms) < 1e-4 / np.log(10.0)) | (norms == true_norms)  # a norm may truly be 0
    return {"loss": wrong, "right": int(close.sum()), "zero": int(np.isneginf(norms).sum()), "of": true_norms.size}


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, lowest and highest."""
    return float(np.median(values)), float(np.min(values)), float(np.max(values))
