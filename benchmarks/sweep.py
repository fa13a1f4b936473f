"""A whole sweep, from the command to the last run in the store, against a harness that one builds oneself."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.commands import folder, seconds
from benchmarks.tables import table
from benchmarks.timing import Options, spread

__all__ = ["OURS", "THEIRS", "agreement", "final", "measure", "section", "words"]

TITLE = "A sweep"
LRS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
SEEDS = 32
RUNS = len(LRS) * SEEDS
TOLERANCE = 1e-3  # of the last loss on the test set: 300 updates at large learning rates make much of a rounding
OURS = ("-m", "bpexp", "-m", "hydra/launcher=stacked")
THEIRS = ("-m", "benchmarks.harness.app", "-m")
WAYS = {
    "ours": (*OURS,),
    "harness": (*THEIRS,),
    "harness on all cores": (*THEIRS, "hydra/launcher=joblib"),
}
NAMES = {"harness": "the harness, Hydra's basic launcher", "harness on all cores": "the harness, Hydra's joblib launcher"}


def words(seeds: int, depth: int = 50, width: int = 32, steps: int = 300, lrs: tuple[float, ...] = LRS) -> list[str]:
    return [f"depth={depth}", f"width={width}", f"lr={','.join(map(str, lrs))}", f"seed=range({seeds})", f"steps={steps}"]


def final(cwd: Path) -> dict[tuple[float, int], float]:
    """The last loss on the test set of each run in a folder's store, by learning rate and seed."""
    query = """select lr.value, seed.value, last.value from latest_metrics last
        join params lr on lr.run_uuid = last.run_uuid and lr.key = 'lr' join params seed on seed.run_uuid = last.run_uuid and seed.key = 'seed'
        where last.key = 'loss/test'"""
    with closing(sqlite3.connect(cwd / "mlflow.db")) as database:
        return {(float(lr), int(seed)): value for lr, seed, value in database.execute(query)}


def agreement(ours: dict[tuple[float, int], float], theirs: dict[tuple[float, int], float]) -> float:
    """The largest relative difference of a loss, over the runs that both have trained, all of the others' among them."""
    assert theirs
    assert theirs.keys() <= ours.keys()
    return max(abs(theirs[key] / ours[key] - 1.0) for key in theirs)


def measure(options: Options) -> dict[str, Any]:
    """Wall seconds of each way in each round; the harness trains `share` of the runs."""
    seeds = {way: SEEDS if way == "ours" else max(1, options.share // len(LRS)) for way in WAYS}
    found: dict[str, Any] = {way: {"runs": len(LRS) * count, "seconds": [], "start": 0.0} for way, count in seeds.items()}
    for way, start in WAYS.items():
        if found[way]["runs"] < RUNS:  # what is not to be scaled: imports, the store's tables, a run without training
            with folder() as cwd:
                found[way]["start"] = round(seconds([*start, *words(1, steps=1, lrs=LRS[:1])], cwd), 2)
    for _ in range(max(1, options.rounds // 2)):  # each takes minutes
        losses = {}
        for way, start in WAYS.items():
            with folder() as cwd:
                took = seconds([*start, *words(seeds[way])], cwd)
                losses[way] = final(cwd)
            found[way]["seconds"].append(round(took, 2))
            found[way]["difference"] = agreement(losses["ours"], losses[way])
            print(way, found[way], flush=True)
    return found


def section(found: dict[str, Any]) -> str:
    lines, told = [], []
    mine = spread(found["ours"]["seconds"])[0]
    for way, each in found.items():
        scale = RUNS / each["runs"]
        middle, low, high = (each["start"] + scale * (value - each["start"]) for value in spread(each["seconds"]))
        scaled = f"{each['runs']}, scaled" if scale > 1 else str(RUNS)
        ratio = f"{middle / mine:.1f}"
        lines.append([NAMES.get(way, way), scaled, f"{middle:.1f}", f"{low:.1f}–{high:.1f}", ratio, f"{each['difference']:.1e}"])
        if way != "ours":
            told.append(f"{ratio} times as long by {NAMES[way]}")
    worst = max(each["difference"] for each in found.values())
    agree = "they do" if worst <= TOLERANCE else f"the largest difference is {worst:.1e}, relative"
    command = " ".join(["python", *OURS, *(f"'{word}'" if "(" in word else word for word in words(SEEDS))])
    head = ["way", "runs trained", "seconds", "lowest–highest", "over ours", "largest difference of a loss"]
    return f"""`{command}`: {RUNS} runs, default tracking, from an empty folder to the end of the process. The harness trains the
same nets in PyTorch eager and calls MLflow's log_metrics at the steps of our default tracking, each net a child run of one parent. It tracks less:
no norms of deltas, no loss on the whole training set, no profiles, no parquet files, no checkpoint.

The sweep takes {mine:.1f} s, and {"; ".join(told)}. Last losses on the test set are to agree to {TOLERANCE:g}: {agree}.

{table(head, lines)}"""
