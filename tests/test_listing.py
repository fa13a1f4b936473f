"""The table of a sweep's runs on its parent."""

import json
import time

from bpexp.tracking.listing import listing
from bpexp.tracking.notes import Ended


def ended(number: int) -> Ended:
    return Ended(f"id{number}", f"run {number}", "stuck", {"final_loss": 0.5, "final_accuracy_test": 0.1})


def test_columns_are_what_was_swept_and_what_came_of_it() -> None:
    words = [("depth=3", "init=he", "seed=1", "lr=1e-3"), ("depth=3", "init=lecun", "seed=1", "lr=1"), ("depth=3", "seed=1", "lr=inf")]
    table = listing([("a", words[0], ended(0)), ("b", words[1], Ended("", "b", "trained", {})), ("c", words[2], None)], "not started")
    assert table["columns"] == ["init", "seed", "lr", "outcome", "loss", "accuracy", "decades_per_layer", "run", "run_id"]
    assert table["data"] == [
        ["he", 1, 0.001, "stuck", 0.5, 0.1, None, "a", "id0"],
        ["lecun", 1, 1, "trained", None, None, None, "b", None],
        [None, 1, "inf", "not started", None, None, None, "c", None],
    ]
    assert "Infinity" not in json.dumps(table)


def test_a_long_sweep_is_listed_in_a_moment() -> None:
    jobs = [(f"run {number}", (f"lr={number}", "depth=10", f"seed={number % 5}", "width=64"), ended(number)) for number in range(2000)]
    start = time.process_time()
    assert len(listing(jobs, "failed")["data"]) == 2000
    assert time.process_time() - start < 0.5
