"""Pictures whose horizontal axis is the training step: loss and accuracy."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, SymmetricalLogLocator
from numpy.typing import NDArray

from bpexp.report import words
from bpexp.report.colours import Colours
from bpexp.report.numbers import line, of_setting, rows, stacked
from bpexp.report.picture import (
    Picture,
    band,
    count_axis,
    end_handle,
    log_axis,
    over_runs,
    panels,
    plateau_handle,
    seeds_note,
    shown,
    shown_facets,
    title,
    wrapped,
)
from bpexp.report.selection import Setting, Study, colour_key

__all__ = ["accuracy_curves", "loss_curves", "smoothed"]

Floats = NDArray[np.float64]

POINTS = 400  # drawn of a curve
WINDOW = 0.02  # of the steps: what a smoothed point is the mean of
NOISY = 0.01  # a curve is smoothed if it is typically further than this, relatively, from its smoothed self
FEW_STEPS = 20  # below which powers of ten are too few ticks
BEYOND = 30.0  # times the losses that runs start and end at: what lies further up leaves the axis
LOG_FROM = 20.0  # largest over smallest loss from which the axis is logarithmic


def smoothed(values: Floats, at: NDArray[np.int64], half: int) -> Floats:
    """Means over 2 half + 1 values around each place.

    Near the start the window shrinks on both sides, so that the first value is itself; at the end it is cut off on the right, so that the last
    one is the mean of half + 1 values.
    """
    before = np.minimum(half, at)
    after = np.minimum(before, len(values) - 1 - at)
    return np.array([values[place - b : place + a + 1].mean() for place, b, a in zip(at, before, after, strict=True)])


@dataclass(frozen=True)
class Curve:
    """A run's training loss as it is drawn, all that is to be in view (the line, or every step behind it), and where it ends if it diverged."""

    steps: NDArray[np.int64]
    loss: Floats
    extent: Floats
    end: tuple[float, float] | None


def _finite_loss(study: Study, run_id: str) -> tuple[NDArray[np.int64], Floats]:
    frame = study.curves(run_id)
    loss = frame["loss_train"].to_numpy(float)
    finite = np.isfinite(loss)
    return frame["step"].to_numpy(np.int64)[finite], loss[finite]


def _grid(study: Study) -> tuple[NDArray[np.int64], int]:
    """Steps at which all runs' curves are drawn, and half the smoothing window: 0 where the curves are smooth by themselves."""
    raw = {run_id: _finite_loss(study, run_id) for setting in study.settings for run_id in setting.runs}
    last = max((int(steps[-1]) for steps, _ in raw.values() if len(steps)), default=0)
    grid = np.unique(np.linspace(0, last, POINTS + 1).round().astype(np.int64))
    half = max(1, round(last * WINDOW / 2))
    distances = []
    for steps, loss in raw.values():
        if len(steps) > 2 * half:
            at = grid[grid < len(steps)]
            with np.errstate(all="ignore"):
                distances.append(np.abs(loss[at] / smoothed(loss, at, half) - 1.0))
    noisy = any(np.nanmedian(distance) > NOISY for distance in distances)
    return grid, half if noisy else 0


def _curve(study: Study, run_id: str, grid: NDArray[np.int64], half: int, alone: bool, behind: bool) -> Curve:
    steps, loss = _finite_loss(study, run_id)
    if not len(steps):
        return Curve(steps, loss, loss, None)
    at = grid[grid < len(steps)]  # steps are counted from 0: a step is its own place
    if alone and at[-1] != len(steps) - 1:
        at = np.append(at, len(steps) - 1)
    diverged = bool(study.frame["outcome"].loc[run_id] == "diverged")
    line = loss[at] if diverged else smoothed(loss, at, half)  # a mean would see the explosion before it comes
    return Curve(steps[at], line, loss if behind else line, (float(steps[-1]), float(loss[-1])) if diverged else None)


def loss_curves(study: Study) -> Picture:
    """The batch's training loss over the steps, a line per setting, and the plateau of a constant output."""
    grid, half = _grid(study)
    key = colour_key(study.swept)
    chosen, facet_notes = shown_facets(study.settings, [key])
    colours = Colours.of(key)
    figure, axes = panels(len(chosen), sharex=True, sharey=True)
    curves = {setting: _curves(study, setting, grid, half) for _, settings in chosen for setting in settings}
    plateaus = [plateau for _, settings in chosen for plateau in _plateaus(study, settings)]
    drawn = [(ax, curve) for ax, (_, settings) in zip(axes, chosen, strict=True) for setting in settings for curve in curves[setting]]
    view = View.of([curve for _, curve in drawn], plateaus)
    numbers: list[pd.DataFrame] = []
    for ax, (name, settings) in zip(axes, chosen, strict=True):
        ax.set_title(wrapped(name))
        for setting in settings:
            tables = _draw_loss(ax, study, setting, curves[setting], colours[setting[key]], half, view.log)
            numbers += [rows(quantity, table, of_setting(setting)) for quantity, table in tables.items()]
        for plateau in _plateaus(study, settings):
            ax.axhline(plateau, color="black", linestyle=(0, (4, 3)), linewidth=1, label="plateau", zorder=1.5)
    extra = [plateau_handle()] if plateaus else []
    ended = any(curve.end for _, curve in drawn)
    notes = [f"Lines are means over {2 * half + 1} steps around each point, fewer near the ends{_but_not(ended)}."] if half else []
    if ended:
        extra.append(end_handle())
    notes += _set_loss_axis(axes, drawn, view)
    colours.explain(figure, axes, extra)
    for ax in axes:
        count_axis(ax.xaxis)
        ax.margins(x=0.02)
    figure.supxlabel("training step")
    figure.supylabel("training loss of the batch")
    return Picture(figure, _loss_sentence(study), (*notes, *facet_notes, *seeds_note(study, log=view.log)), numbers=stacked(numbers))


def _behind(study: Study, setting: Setting, half: int) -> bool:
    """Whether every step is shown behind the line: a lone run's."""
    return half > 0 and len(setting.runs) == 1 and len(study.settings) == 1


def _curves(study: Study, setting: Setting, grid: NDArray[np.int64], half: int) -> list[Curve]:
    alone, behind = len(setting.runs) == 1, _behind(study, setting, half)
    return [_curve(study, run_id, grid, half, alone, behind) for run_id in setting.runs]


def _draw_loss(ax: Axes, study: Study, setting: Setting, curves: list[Curve], colour: object, half: int, log: bool) -> dict[str, pd.DataFrame]:
    """What is drawn of the curves of a setting's runs, by its name."""
    frame = pd.concat([pd.DataFrame({"step": curve.steps, "loss": curve.loss}) for curve in curves])
    tables = {"loss_train": over_runs(frame, "step", "loss", log)}
    band(ax, tables["loss_train"], colour, label=setting.text() or "loss")
    if _behind(study, setting, half):
        steps, loss = _finite_loss(study, setting.runs[0])
        ax.plot(steps, loss, color=colour, alpha=0.25, linewidth=0.6, label="every step")
        tables["loss_train_of_every_step"] = line("step", steps, loss)
    if levels := _plateaus(study, [setting]):
        tables["plateau_loss"] = line("step", [0.0] * len(levels), levels)
    return tables


def _plateaus(study: Study, settings: list[Setting]) -> list[float]:
    """The distinct losses of the best constant output."""
    return sorted({float(f"{plateau:.6g}") for setting in settings for plateau in study.numbers(setting, "plateau_loss")})


@dataclass(frozen=True)
class View:
    """Of the axis of losses: its ends, None where no loss is positive, and whether it is logarithmic."""

    ends: tuple[float, float] | None
    log: bool

    @classmethod
    def of(cls, curves: list[Curve], plateaus: list[float]) -> "View":
        """Fitted to the runs that did not diverge, to all where all did; not to what some go through between their first and last step."""
        calm = [curve.extent for curve in curves if curve.end is None and len(curve.loss)]
        values = np.concatenate([*(calm or [curve.extent for curve in curves]), np.array(plateaus)])
        positive = values[values > 0]
        if not len(positive):
            return cls(None, log=False)
        low, high = float(positive.min()), float(positive.max())
        ends = [float(curve.loss[place]) for curve in curves if curve.end is None and len(curve.loss) for place in (0, -1)]
        high = min(high, BEYOND * max([*ends, *plateaus], default=high))
        starts = [float(curve.loss[0]) for curve in curves if len(curve.loss)]
        high = max([high, *(start for start in starts if start <= 10 * high)])  # a run that diverges starts like the others
        log = high > LOG_FROM * low
        return cls((low / 1.3, high * 1.3) if log else (0.0, 1.08 * high), log)


def _set_loss_axis(axes: list[Axes], drawn: list[tuple[Axes, Curve]], view: View) -> list[str]:
    """Set the axis, and mark where runs ended."""
    if view.ends is None:
        return []
    axes[0].set_yscale("log" if view.log else "linear")
    axes[0].set_ylim(view.ends)
    if view.log:
        log_axis(axes[0].yaxis)
    beyond, top = 0, view.ends[1]
    for ax, curve in drawn:
        if curve.end:
            beyond += curve.end[1] > top
            ax.plot(curve.end[0], min(curve.end[1], top), "x", color="#444444", markersize=5, clip_on=False, label="diverged", zorder=3)
    back = sum(curve.end is None and bool((curve.loss > top).any()) for _, curve in drawn)
    left = [f"{words.count(beyond, 'run')} left the axis before diverging: the cross on the upper edge marks the last step."] if beyond else []
    return [*left, f"{words.count(back, 'run')} left the axis and came back."] if back else left


def _but_not(ended: bool) -> str:
    return "; those of runs that diverged are not smoothed" if ended else ""


def _loss_sentence(study: Study) -> str:
    """What became of the runs, and how low the loss got."""
    outcomes = [outcome for setting in study.settings for outcome in study.outcomes(setting)]
    calm = [setting for setting in study.settings if "diverged" not in study.outcomes(setting) and len(study.numbers(setting, "final_loss"))]
    finals = {setting: float(study.numbers(setting, "final_loss").mean()) for setting in calm}
    if not study.swept and len(outcomes) <= 1:
        return _one_loss_sentence(study)
    head = _outcomes_told(outcomes, _plateaus(study, list(study.settings)))
    if not finals:
        return head + "."
    best, worst = min(finals, key=finals.__getitem__), max(finals, key=finals.__getitem__)
    low, high = words.number(finals[best]), words.number(finals[worst])
    if "loss" in {key.name for key in study.swept}:
        return head + "."  # different losses cannot be compared
    if low == high:
        where = (
            f" with {best.text()}"
            if len(finals) == 1 and study.swept
            else f" in {words.every(len(finals), 'setting')}"
            if study.swept
            else " on average"
        )
        return f"{head}; the full training loss ends at {low}{where}."
    return f"{head}; the full training loss ends lowest, at {low}, with {best.text()}, and highest, at {high}, with {worst.text()}."


def _outcomes_told(outcomes: list[str], plateaus: list[float]) -> str:
    """All 3 runs stayed stuck at or above the plateau of a constant output (0.450)."""
    level = f" ({words.number(plateaus[0])})" if len(plateaus) == 1 else ""
    plateau = iter([f"the plateau of a constant output{level}", "it"])
    counts = {outcome: outcomes.count(outcome) for outcome in ("trained", "stuck", "untrained", "diverged") if outcome in outcomes}
    verbs, others = {"trained": "left", "stuck": "stayed stuck at or above"}, {"untrained": "had no update"}
    ways = {outcome: f"{verbs[outcome]} {next(plateau)}" if outcome in verbs else others.get(outcome, outcome) for outcome in counts}
    if len(ways) == 1:
        everyone = words.every(len(outcomes), "run")
        return f"{everyone[0].upper()}{everyone[1:]} {''.join(ways.values())}"
    return f"Of {len(outcomes)} runs, {words.listing(f'{counts[outcome]} {way}' for outcome, way in ways.items())}"


def _one_loss_sentence(study: Study) -> str:
    setting = study.settings[0]
    full = study.curves(setting.runs[0])["loss_train_full"].dropna()
    full = full[np.isfinite(full)]
    plateaus = _plateaus(study, [setting])
    outcome = (study.outcomes(setting) or ["unknown"])[0]
    end = words.plain(study.frame["diverged_at"].loc[setting.runs[0]])
    ended = f"; the run diverged at step {int(end):,}" if outcome == "diverged" and end is not None else ""
    if not len(full):
        return f"The run has no finite loss at a probed step{ended}."
    start, last = float(full.iloc[0]), float(full.iloc[-1])
    way = words.change(float(np.log10(last / start))).split(" by ")[0] if start > 0 and last > 0 else "goes"
    share = f", {words.percent(last / plateaus[0])} of what a constant output reaches" if plateaus and plateaus[0] > 0 else ""
    if outcome == "untrained":
        return f"The full training loss of the untrained net is {words.number(start)}{share}."
    stuck = ", so the run is stuck" if outcome == "stuck" else ""
    return f"The full training loss {way} from {words.number(start)} to {words.number(last)}{share}{stuck}{ended}."


def accuracy_curves(study: Study) -> Picture:
    """Accuracy on the training and the test set at the probed steps, a panel per setting."""
    settings, notes = shown([setting for setting in study.settings if _has_accuracy(study, setting)])
    figure, axes = panels(len(settings), sharey=True)
    parts = {"accuracy_train": "training set", "accuracy_test": "test set"}
    colours = Colours(parts, "", parts.__getitem__, ordered=False)
    last = max(1, *(int(study.curves(run_id)["step"].max()) for setting in settings for run_id in setting.runs))
    numbers = []
    for ax, setting in zip(axes, settings, strict=True):
        frame = pd.concat([study.curves(run_id) for run_id in setting.runs])
        for part, label in parts.items():
            table = over_runs(frame, "step", part)
            band(ax, table, colours[part], label=label)
            numbers.append(rows(part, table, of_setting(setting)))
        ax.set_title(title(study, setting))
        ax.set_xscale("symlog", linthresh=1, linscale=0.4)
        ax.set_xlim(0, last)
        ax.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1, subs=[1.0, 2.0, 5.0] if last < FEW_STEPS else [1.0]))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    axes[0].set_ylim(0, 1.02)
    colours.explain(figure, axes)
    figure.supxlabel("training step (logarithmic from 1)")
    figure.supylabel("accuracy")
    return Picture(figure, _accuracy_sentence(study), (*notes, *seeds_note(study)), numbers=stacked(numbers))


def _has_accuracy(study: Study, setting: Setting) -> bool:
    return len(study.numbers(setting, "final_accuracy_test")) > 0


def _accuracy_sentence(study: Study) -> str:
    """Where the test accuracy got to, at best and at the end, in the setting that ends best."""
    finals = {setting: float(study.numbers(setting, "final_accuracy_test").mean()) for setting in study.settings if _has_accuracy(study, setting)}
    setting = max(finals, key=finals.__getitem__)
    best = float(study.numbers(setting, "best_accuracy_test").mean())
    where = f" with {setting.text()}" if study.swept else ""
    peak = "its highest" if best <= finals[setting] else f"{words.percent(best)} at its highest"
    return f"Test accuracy ends at {words.percent(finals[setting])}{where}, {peak}."
