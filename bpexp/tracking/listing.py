"""A sweep's runs as a table of MLflow's, which its pages show on the parent run: what was swept beside what came of it."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress

from bpexp.tracking.notes import Ended

__all__ = ["listing"]

SUMMARY = {  # columns: what a summary calls them
    "loss": "final_loss",
    "accuracy": "final_accuracy_test",
    "decades_per_layer": "delta_decades_per_layer",
}


def listing(jobs: Sequence[tuple[str, Sequence[str], Ended | None]], missing: str) -> dict[str, list[object]]:
    """`columns` and `data`, a row per job, in the order of the jobs: (its run's name, its overrides, what became of it).

    The columns are a column for each key that not all jobs set alike, and for `seed` where it is set, `outcome` (`missing`, where there is no run),
    `loss`, `accuracy`, `decades_per_layer` (null where a run has none), `run` and `run_id`.
    """
    settings = [dict(word.partition("=")[::2] for word in words) for _, words, _ in jobs]
    keys = dict.fromkeys(key for its in settings for key in its)
    swept = [key for key in keys if key == "seed" or len({its.get(key) for its in settings}) > 1]
    data: list[object] = []
    for (name, _, run), its in zip(jobs, settings, strict=True):
        summary: Mapping[str, float] = run.summary if run else {}
        told = [summary.get(key) for key in SUMMARY.values()]
        data.append([*(_value(its.get(key)) for key in swept), run.outcome if run else missing, *told, name, (run.run_id if run else "") or None])
    return {"columns": [*swept, "outcome", *SUMMARY, "run", "run_id"], "data": data}


def _value(text: str | None) -> object:
    """A number where a text is one: the pages sort by it."""
    for kind in (int, float):
        with suppress(ValueError):
            number = kind(text or "")
            return number if math.isfinite(number) else text  # infinity is no JSON
    return text
