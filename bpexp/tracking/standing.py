"""How far a sweep, or a run, has come: what became of each job, and the words that take up what is left."""

import re
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow.entities import Run

from bpexp.config import RunConfig, untracked, written
from bpexp.tracking.owner import HEARTBEAT, OWNER, alive
from bpexp.tracking.parent import working
from bpexp.tracking.reader import Stored, is_sweep, read

__all__ = ["Standing", "standing"]

WORD = re.compile(r" (?=[\w./@+~]+=)")  # the blank before a word of a sweep's name
VARIANTS = re.compile(r" ?\d+ variants$")
ENDS = {"FINISHED": "finished", "FAILED": "failed"}


@dataclass(frozen=True)
class Standing:
    """Of a sweep, a run, or all runs: its name, a state for each job, whether all of them are finished, and the command that resumes, if one can."""

    name: str
    state: str
    jobs: list[tuple[str, str]]  # the run's name; its state and, after a colon, more about it
    finished: bool
    resume: str | None


def standing(sweep: str | None, uri: str | None, experiment: str) -> Standing:
    """As `bpexp.tracking.reader.load_runs` takes them.  Raises `NoRunsError`."""
    stored = read(uri, experiment)
    head = stored.head(sweep)
    listed = stored.jobs(head) if head and is_sweep(head) else [(str(run.info.run_name), run) for run in stored.members(head)]
    jobs = [(name, _state(stored, run)) for name, run in listed]
    finished = all(run is not None and run.info.status == "FINISHED" for _, run in listed)
    state, words = ("", []) if head is None else _of_sweep(stored, head) if is_sweep(head) else (jobs[0][1], _net_words(head))
    resume = None
    if head and not finished and not state.startswith("running"):
        where = [("tracking.experiment", experiment, "bpexp"), ("tracking.uri", uri, None)]
        resume = shlex.join(["python", "-m", "bpexp", *words, *(f"{key}={value}" for key, value, default in where if value != default)])
    return Standing(stored.name(head), state, jobs, finished, resume)


def _of_sweep(stored: Stored, head: Run) -> tuple[str, list[str]]:
    """A sweep's state, and its words: its name is the words typed, as far as it has room for them."""
    state = "running" if working(head, stored.nets) else ENDS.get(head.info.status, "interrupted")
    name, told = VARIANTS.sub("", str(head.info.run_name)), dict(head.data.params)
    variants, tune = told.pop("variants", ""), told.pop("tune", "")
    words = [word for word in WORD.split(name) if "=" in word and not word.endswith("…")]
    keys = {word.partition("=")[0] for word in words}
    if "study" not in keys:  # else the rest is the study's
        words += [f"{key}={values}" for key, values in told.items() if key not in keys]
        words += [f"hydra.sweeper.variants={variants.split(' | ')}"] if variants else []
        words += [f"hydra.sweeper.tune={tune}"] if tune else []
    return state, ["-m", *words]


def _net_words(run: Run) -> list[str]:
    """What is not as it would be by itself."""
    usual = {key: written(value) for key, value in untracked(RunConfig()).items()}
    return [f"{key.removesuffix('.name')}={value}" for key, value in run.data.params.items() if value not in ("null", usual.get(key))]


def _state(stored: Stored, run: Run | None) -> str:
    """What became of a run, in words: `trained`, `failed: ValueError: no`, `running: since …: step 12 of 500`, `dead: …`."""
    if run is None:
        return "missing"
    status, tags = run.info.status, run.data.tags
    if status == "FINISHED":
        return tags.get("bpexp.outcome", "finished")
    if status == "RUNNING" and alive(tags.get(OWNER, ""), tags.get(HEARTBEAT)):
        return f"running: since {_time(run)}{_step(stored, run)}"
    if status == "RUNNING":
        return f"dead: last heard of {tags.get(HEARTBEAT, _time(run))}"
    if status == "KILLED":
        return f"interrupted{_step(stored, run)}"
    return f"failed: {tags['bpexp.error']}" if "bpexp.error" in tags else "failed"


def _time(run: Run) -> str:
    return datetime.fromtimestamp(run.info.start_time / 1000, UTC).isoformat(timespec="seconds")


def _step(stored: Stored, run: Run) -> str:
    """The last step whose loss is stored."""
    steps = [point.step for point in stored.client.get_metric_history(run.info.run_id, "loss/train")]
    return f": step {max(steps)} of {run.data.params.get('steps', '?')}" if steps else ""
