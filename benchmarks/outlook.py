"""The tables of docs/scale.md: measured costs, what the model makes of them, and how far it is right where that can be seen."""

from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

from benchmarks import costs, waiting
from benchmarks.model import Costs, Net, Prediction, Store, cycle, parts_needed, predict, work
from benchmarks.tables import table

__all__ = ["BLOCKS", "costs_of", "net_of", "store_of"]

RUNS, CORES = (10**4, 10**6, 10**8), (2, 64, 1024)
NET = "deep"  # of the outlook
STORES = ("SQLite", "server on PostgreSQL")  # of the outlook
BYTES = {"SQLite": "SQLite", "PostgreSQL": "PostgreSQL", "server on SQLite": "SQLite", "server on PostgreSQL": "PostgreSQL"}
MEMORY, ALONE = 4e9, 600.0  # bytes that a main process may take, and seconds for which nothing may train
DATABASE, FILES, WAIT = 100e9, 1e7, 3600.0  # bytes, files and seconds from which on one would rather not
QUIET = dict.fromkeys(costs.measured, 3.0) | {"stores": float(costs.WRITERS)}  # the load of a machine of two cores that measures, and nothing else
MACHINE = 2  # cores of the one that is measured on

PARTS = "several sweeps, each with a part of the grid"
FEWER = "`tracking.layers=[]`, fewer `probe_points`; a store for each part"
LEANER = "`hydra.output_subdir=null`, `tracking.checkpoint=false`; sweeps in several folders"

Kept = dict[str, Any]


# ---------------------------------------------------------------------------------------------- from measurements to the model's numbers


def costs_of(kept: Kept) -> Costs:
    """Slopes and intercepts of the lines through a sweep of few and one of many tiny runs."""
    few, many = (kept["sweeps"]["found"][str(runs)] for runs in (costs.FEW, costs.MANY))

    def slope(*names: str) -> float:
        return float(sum(many[name] - few[name] for name in names)) / (costs.MANY - costs.FEW)

    def start(*names: str) -> float:
        return float(sum(few[name] for name in names)) - costs.FEW * slope(*names)

    before, during = slope("plan cpu", "look cpu", "open cpu", "compose cpu"), slope("train cpu")
    after, tiny = slope("cpu") - before - during, kept["nets"]["found"]["tiny"]["stacked"]
    upkeep = slope("workers") - tiny
    alone = costs.FEW * (before + after + (tiny + upkeep + during) / MACHINE)
    return Costs(
        start=few["wall"] - alone,
        start_work=start("cpu", "workers"),
        before=before,
        during=during,
        after=after,
        upkeep=upkeep,
        memory=start("peak"),
        run_memory=slope("peak"),
        folder_bytes=slope("folder bytes"),
        folder_files=slope("folder files"),
        manifest_bytes=slope("manifest bytes"),
    )


def net_of(kept: Kept, name: str, *, layers: bool = True, checkpoint: bool = True) -> Net:
    """As it trains in a stack; `layers`: whether its layers' norms go to the store; `checkpoint`: whether its weights are kept."""
    it = kept["nets"]["found"][name]
    lost = 0 if checkpoint else it["checkpoint"]
    return Net(it["stacked"], it["points" if layers else "bare points"], it["bytes"] - lost, it["files"] - (not checkpoint), it["stack"])


def store_of(kept: Kept, name: str) -> Store:
    """Its pace is that of several writers together; what a run takes besides its points is that of its database."""
    from bpexp.tracking.backend import SETTLE  # of a claim, in which the store does nothing

    it = kept["bytes"]["found"][BYTES[name]]
    rate = median(row["rate"] for row in kept["stores"]["found"][f"{name}, {costs.WRITERS}"])
    return Store(rate, it["seconds"], it["run"], it["point"], 0.0 if name == "SQLite" else SETTLE)


# ---------------------------------------------------------------------------------------------- words


def count(value: float) -> str:
    """A number of runs."""
    digits = "⁰¹²³⁴⁵⁶⁷⁸⁹"
    power = len(str(int(value))) - 1
    return "10" + "".join(digits[int(it)] for it in str(power)) if value == 10**power else f"{value:,.0f}"


def _scaled(value: float, units: list[tuple[float, str]]) -> str:
    size, unit = next((it for it in units if value >= it[0]), units[-1])
    return f"{_short(value / size)} {unit}"


def duration(seconds: float) -> str:
    for least, size, unit in ((2 * 31_557_600, 31_557_600, "years"), (172_800, 86_400, "days"), (7200, 3600, "h"), (120, 60, "min")):
        if seconds >= least:
            return f"{_short(seconds / size)} {unit}"
    return f"{_short(seconds)} s" if seconds >= 1 else f"{_short(1000 * seconds)} ms"


def volume(size: float) -> str:
    return _scaled(size, [(1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")])


def _short(value: float) -> str:
    """Two figures at least."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def rounded(value: float) -> str:
    """Two figures, for what is a model's."""
    if value < 1:
        return "under 1"
    scale = 10 ** max(0, len(str(int(value))) - 2)
    return f"{round(value / scale) * scale:,.0f}"


# ---------------------------------------------------------------------------------------------- tables


def measured_on(kept: Kept) -> str:
    lines = [[part, it["on"]["date"], it["on"]["commit"], it["on"]["load"], it["on"]["machine"]] for part, it in kept.items()]
    return table(["part", "measured", "at commit", "load of the machine", "on"], lines)


def crowded(kept: Kept) -> str:
    """A warning, where there is cause for one."""
    parts = [part for part, it in kept.items() if float(it["on"]["load"]) > QUIET[part]]
    if not parts:
        return "Measured on a machine that did nothing else."
    told = f"**Measured on a machine that was busy with other work** ({', '.join(parts)})"
    return f"{told}: times are too long, above all those of the stores, which take more points a second than this page says."


def training(kept: Kept) -> str:
    lines = []
    for name, it in kept["nets"]["found"].items():
        layer_steps = it["depth"] * it["steps"]
        lines.append([
            name,
            f"{it['depth']} × {it['width']}, {it['steps']:,} step{'s' if it['steps'] > 1 else ''}",
            *(_short(1 / it[way]) for way in ("alone", "stacked")),
            *(f"{layer_steps / it[way]:,.0f}" for way in ("alone", "stacked")),
            it["stack"],
            f"{it['points']:,}",
            f"{it['bare points']:,}",
            volume(it["bytes"]),
        ])  # fmt: skip
    head = ["net", "depth × width", "runs a second, alone", "stacked", "layer-steps a second, alone", "stacked", "runs in the stack"]
    return table([*head, "points a run", "with `tracking.layers=[]`", "artifacts"], lines)


def run(kept: Kept) -> str:
    it, (few, many) = costs_of(kept), costs.PAGES
    page = (kept["pages"]["found"][str(many)] - kept["pages"]["found"][str(few)]) / (many - few)
    lines = [
        ["main process: compose and check, before the first run", duration(it.before)],
        ["main process: folder, news, screen, while others train", duration(it.during)],
        ["main process: manifest, table and note, after the last run", duration(it.after)],
        ["training process: claim, points, files, the run's end", duration(it.upkeep)],
        [f"memory of the main process, above {volume(it.memory)}", volume(it.run_memory)],
        ["folder under `multirun/`", f"{volume(it.folder_bytes)} in {it.folder_files:.0f} files"],
        ["`manifest.json` and `runs.json`", volume(it.manifest_bytes)],
        ["page of the report", volume(page)],
        ["database, SQLite", " and ".join(volume(kept["bytes"]["found"]["SQLite"][what]) + f" a {what}" for what in ("run", "point"))],
        ["database, PostgreSQL", " and ".join(volume(kept["bytes"]["found"]["PostgreSQL"][what]) + f" a {what}" for what in ("run", "point"))],
    ]
    return table(["what", "of a run"], lines)


def stores(kept: Kept) -> str:
    lines, each = [], costs_of(kept)
    for name in BYTES:
        store, alone = store_of(kept, name), median(row["rate"] for row in kept["stores"]["found"][f"{name}, 1"])
        cells = [f"{alone:,.0f}", f"{store.points:,.0f}", duration(store.seconds)]
        for net in ("narrow", "default", "deep"):
            both = (predict(1, 1, net_of(kept, net, layers=layers), store, each).saturation for layers in (True, False))
            cells.append(" / ".join(rounded(cores) for cores in both))
        lines.append([name, *cells])
    head = ["store", "points a second, 1 writer", f"{costs.WRITERS} writers", "of the store, a run without its points"]
    return table([*head, *(f"saturated by cores, {net}" for net in ("narrow", "default", "deep"))], lines)


def times(kept: Kept) -> str:
    each, lines = costs_of(kept), []
    for runs in RUNS:
        sweeps = parts_needed(runs, each, MEMORY, ALONE)
        for cores in CORES:
            cells = []
            for layers in (True, False):
                for name in STORES:
                    told = predict(runs, cores, net_of(kept, NET, layers=layers), store_of(kept, name), each, sweeps)
                    cells.append(f"{duration(told.wall)} ({told.busiest})")
            lines.append([count(runs), f"{sweeps:,}", f"{cores:,}", *cells])
    return table(["runs", "in sweeps", "cores", *STORES, *(f"{name}, `tracking.layers=[]`" for name in STORES)], lines)


def sizes(kept: Kept) -> str:
    each, lines = costs_of(kept), []
    lean = replace(each, folder_bytes=0.0, folder_files=0.0)
    for runs in RUNS:

        def told(net: Net, name: str, its: Costs, runs: int = runs) -> Prediction:
            return predict(runs, 1, net, store_of(kept, name), its)

        full, bare = net_of(kept, NET), net_of(kept, NET, layers=False, checkpoint=False)
        one, few = told(full, "SQLite", each), told(bare, "SQLite", lean)
        other = told(full, "server on PostgreSQL", each)
        cells = [volume(one.memory), duration(one.alone), volume(one.manifest), volume(one.database), volume(other.database), volume(few.database)]
        lines.append([count(runs), *cells, f"{volume(one.bytes)}, {one.files:.1e}", f"{volume(few.bytes)}, {few.files:.1e}"])
    head = ["runs in one sweep", "memory of the main process", "it works alone", "manifest and table", "database, SQLite", "PostgreSQL"]
    return table([*head, "SQLite, lean", "files, bytes and number", "lean"], lines)


def breaks(kept: Kept) -> str:
    """What breaks from where on, the first for this net first."""
    each, full, bare = costs_of(kept), net_of(kept, NET), net_of(kept, NET, layers=False)
    sqlite, postgres = (store_of(kept, name) for name in STORES)
    saturated = {
        name: [predict(1, 1, net, store, each).saturation for net in (full, bare)] for name, store in zip(STORES, (sqlite, postgres), strict=True)
    }
    by_runs = [
        (FILES / (full.files + each.folder_files), f"over {count(FILES)} files", LEANER),
        (WAIT / each.before, f"the first run starts after {duration(WAIT)}", PARTS),
        ((MEMORY - each.memory) / each.run_memory, f"the main process takes {volume(MEMORY)}", PARTS),
        (DATABASE / (sqlite.run_bytes + full.points * sqlite.point_bytes), f"SQLite's file is over {volume(DATABASE)}", FEWER),
    ]
    lines = [[f"{rounded(runs)} runs", what, remedy] for runs, what, remedy in sorted(by_runs)]
    for name, (cores, more) in sorted(saturated.items(), key=lambda it: it[1]):
        lines.append(
            [
                f"{rounded(cores)} cores",
                f"store saturated: {name}",
                f"`tracking.layers=[]`: from {rounded(more)} cores on; fewer `probe_points`; several stores",
            ]
        )
    main = cycle(full, sqlite, each) / each.during
    lines.append([f"{rounded(main)} cores", "one main process can't hand out more", PARTS])
    return table(["from", "what", "what to change"], lines)


def check(kept: Kept) -> str:
    """Sweeps that were not used to find the costs."""
    each, tiny, lines = costs_of(kept), net_of(kept, "tiny"), []
    for runs, found in kept["check"]["found"].items():
        wall = predict(int(runs), MACHINE, tiny, store_of(kept, "SQLite"), each).wall
        cpu = work(int(runs), tiny, each)
        cells = [
            f"{cpu:.1f}",
            f"{found['work']:.1f}",
            f"{cpu / found['work']:.2f}",
            f"{wall:.1f}",
            f"{found['wall']:.1f}",
            f"{wall / found['wall']:.2f}",
        ]
        lines.append([f"{int(runs):,}", *cells])
    head = [
        "tiny runs",
        "s of the processor, predicted",
        "measured",
        "predicted / measured",
        "s of wall time, predicted",
        "measured",
        "predicted / measured",
    ]
    return table(head, lines)


def crowd(kept: Kept) -> str:
    """The model's bound over a simulation by events, for the outlook's net without its layers' points at SQLite's store."""
    net, store = net_of(kept, NET, layers=False), store_of(kept, STORES[0])
    serve = store.service(net)
    train = cycle(net, store, costs_of(kept)) - serve
    full, lines = (train + serve) / serve, []
    for part in (0.25, 0.5, 0.8, 1.0, 1.25, 2.0, 4.0):
        workers = max(1, round(part * full))
        most = waiting.bound(workers, train, serve)
        equal = waiting.simulate(workers, lambda: train, lambda: serve, 4000, skip=20 * workers)
        random = waiting.simulate(workers, waiting.exponential(train, 1), waiting.exponential(serve, 2), 40_000, skip=2000)
        cells = (most / equal, most / random, waiting.steady(workers, train, serve) / random)
        lines.append([f"{part:g}", f"{workers:,}", f"{most:.2f}", *(f"{ratio:.3f}" for ratio in cells)])
    head = ["cores over those that saturate", "cores", "runs a second, model", "model / simulation, equal runs", "model / simulation, random runs"]
    return table([*head, "mean value analysis / simulation, random runs"], lines)


BLOCKS: dict[str, Callable[[Kept], str]] = {
    maker.__name__: maker for maker in (times, sizes, breaks, training, run, stores, check, crowd, measured_on, crowded)
}
