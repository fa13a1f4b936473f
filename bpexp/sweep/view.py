"""A sweep under way in as many lines as a terminal has: how far it is, what trains, the profile of a gradient, the newest outcomes."""

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import RLock

import numpy as np
from rich.console import Console, ConsoleOptions
from rich.text import Text

from bpexp.sweep.carry import Outcome
from bpexp.sweep.news import News, Profile, binned
from bpexp.sweep.screen import fitted, narrow_table, short_names
from bpexp.tracking.notes import Row, own_words, table_row

__all__ = ["Expected", "View"]

NEWEST = 8  # outcomes that are shown
BAR = 40  # cells of a bar, at most
GUESS_SECONDS, GUESS_SHARE = 2.0, 0.003  # of all the work, before the time that is left can be told
BLOCKS = "▁▂▃▄▅▆▇█"
ROOMY = 70  # cells from which on bars begin at one column


@dataclass(frozen=True)
class Expected:
    """A run that is to be trained, and about how many seconds it takes."""

    name: str
    seconds: float


class View:
    """Runs by the numbers of their jobs."""

    def __init__(self, runs: Mapping[int, Expected], *, lone: bool = False) -> None:
        self.runs, self.lone, self.lock = runs, lone, RLock()  # it is drawn by a thread of its own
        self.names = dict(zip(runs, short_names([run.name for run in runs.values()]), strict=True))
        self.shares: dict[int, float] = {}  # of the steps of each run that has begun, those that are done
        self.training: dict[tuple[int, ...], News] = {}  # what trains together, in the order in which it began
        self.profile: Profile | None = None
        self.rows: deque[Row] = deque(maxlen=NEWEST)  # the newest first
        self.ended = 0
        self.found = 0.0  # seconds of work that had been done before
        self.opened = time.monotonic()
        self.begun: float | None = None

    # ------------------------------------------------------------------------------------------ what comes in

    def news(self, news: News) -> None:
        with self.lock:
            self._note(news)

    def _note(self, news: News) -> None:
        share = news.step / news.steps if news.steps else 1.0
        fresh = [number for number in news.numbers if number not in self.shares]
        if self.begun is None:
            self.begun = time.monotonic()
        self.found += share * sum(self.runs[number].seconds for number in fresh)
        self.shares |= dict.fromkeys(news.numbers, share)
        if news.numbers not in self.training:  # their stack may have been taken apart
            self._drop(news.numbers)
        self.training[news.numbers] = news
        if news.profile is not None and news.numbers == next(reversed(self.training)):
            self.profile = news.profile

    def ends(self, outcomes: Iterable[Outcome]) -> None:
        with self.lock:
            for outcome in outcomes:
                self._end(outcome)

    def _end(self, outcome: Outcome) -> None:
        self.ended += 1
        if outcome.found:
            self.found += self.runs[outcome.number].seconds * (1 - self.shares.get(outcome.number, 0.0))
        self.shares[outcome.number] = 1.0
        self._drop([outcome.number])
        run = outcome.run
        self.rows.appendleft(table_row(self.names[outcome.number], run.summary if run else {}, run.outcome if run else "failed"))

    def _drop(self, numbers: Iterable[int]) -> None:
        gone = set(numbers)
        self.training = {key: news for key, news in self.training.items() if gone.isdisjoint(key)}

    # ------------------------------------------------------------------------------------------ what is shown

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> Iterator[Text]:
        with self.lock:
            return iter(self.lines(options.max_width, options.size.height - 1))

    def lines(self, width: int, height: int) -> list[Text]:
        """At most `height` lines: what comes first is left out last."""
        training = list(self.training.values())
        bars = [] if self.lone else [self._stack(news, width) for news in training]
        room = max(0, height - 1 - len(self._profile(width)))
        if len(bars) > room:
            kept = max(0, room - 1)
            bars = [*bars[:kept], Text(f"  and {len(bars) - kept} more", style="dim")][:room]
        found = [self._whole(width), *bars, *self._profile(width)]
        left = height - len(found)
        if self.rows and left >= 3:
            found += [Text(), *narrow_table(list(self.rows)[: left - 2], width)]
        for line in found:
            line.no_wrap = True
            line.truncate(width, overflow="ellipsis")
        return found[:height]

    def _whole(self, width: int) -> Text:
        """How far all is, and when it will be done."""
        work = sum(run.seconds for run in self.runs.values())
        done = sum(self.runs[number].seconds * share for number, share in self.shares.items())
        now = time.monotonic()
        times = _clock(now - self.opened)
        if self.begun is not None and now - self.begun > GUESS_SECONDS and done - self.found > GUESS_SHARE * work:
            times += f", {_clock((now - self.begun) * (work - done) / (done - self.found))} to go"
        if self.lone:
            newest = next(iter(self.training.values()), None)
            return _bar(next(iter(self.runs.values())).name, done / work, f"{_steps(newest)}  {times}" if newest else times, width)
        return _bar(f"{self.ended:,} of {len(self.runs):,} runs", done / work, f"{done / work:4.0%}  {times}", width)

    def _stack(self, news: News, width: int) -> Text:
        name = _shared_words([self.names[number] for number in news.numbers])
        count = len(news.numbers)
        told = name if count == 1 else f"{name} × {count}" if name else f"{count} runs"
        return _bar(f"  {told}", news.step / max(1, news.steps), _steps(news), width)

    def _profile(self, width: int) -> list[Text]:
        """A cell for each layer or, where there is less room, each group of layers."""
        it = self.profile
        if it is None:
            return []
        first, last = (f"{value:.1f}" if math.isfinite(value) else "–" if math.isnan(value) else f"{value}" for value in (it.first, it.last))
        cells = binned(np.asarray(it.cells), max(1, width - len(first) - len(last) - 4))
        whose = "" if self.lone else f"{self.names[it.number]}, "
        head = f"log10 ‖dL/dW‖, layers 1 … {it.depth} ({whose}step {it.step:,})"
        if len(head) > width:
            head = f"log10 ‖dL/dW‖ 1 … {it.depth} ({whose}step {it.step:,})"
        return [Text(head, style="dim"), Text.assemble(f"  {first} ", (_sparkline(cells), "cyan"), f" {last}")]


def _steps(news: News) -> str:
    return f"{news.step:>{len(f'{news.steps:,}')},}/{news.steps:,}"


def _clock(seconds: float) -> str:
    """4:05, or 1:04:05."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _bar(name: str, share: float, told: str, width: int) -> Text:
    """A name, a bar, and what is told of it; where there is no room for all three, no bar, then not all of the name."""
    room = width - len(told) - 2
    named = min(30 if width >= ROOMY else room, room)
    cells = min(BAR, room - named - 2)
    if cells < 8:
        named, cells = room, 0
    full = min(cells, int(cells * share))
    bar = Text.assemble(("━" * full, "green"), ("─" * (cells - full), "dim"), "  " if cells else "")
    return Text.assemble(fitted(name, named), "  ", bar, told)


def _sparkline(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> str:
    """From the lowest to the highest; what is not finite is a dot."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((value - low) * scale)] if math.isfinite(value) else "·" for value in values)


def _shared_words(names: Sequence[str]) -> str:
    """The words that all of these names have, as the first of them has them."""
    words = [name.split() for name in names]
    own = own_words(words)[0]
    return " ".join(word for word in words[0] if word not in own)
