"""The sweeper that searches: a sweep whose jobs follow from what became of those before.

Each batch of trials is checked, listed in the sweep's manifest and launched as a round of any sweep is: trials of one shape train as a stack.
"""

import hashlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from math import isfinite
from typing import TYPE_CHECKING

from bpexp.cli import refuse, tell
from bpexp.config import ConfigError, Fault, RunConfig, full_key, untracked, written
from bpexp.sweep.course import Course, Plan
from bpexp.sweep.grid import sweep_name, typed_values
from bpexp.sweep.names import parse_word
from bpexp.sweep.reading import study_faults
from bpexp.sweep.settings import parsed
from bpexp.sweep.space import Value, span
from bpexp.sweep.sweeper import Sweeper

if TYPE_CHECKING:
    from optuna.trial import Trial

    from bpexp.sweep.trials import Trials
    from bpexp.tracking.notes import Ended

__all__ = ["Search"]

NAME_LENGTH = 200  # of a study: Optuna takes 512 characters
OWN = ("metric", "direction", "sampler", "seed")  # keys of the sweeper by which another search has the same words
WITHOUT = ("diverged", "failed", "killed")  # outcomes that have no value


class Search(Sweeper):
    """Optuna asks, runs answer."""

    def __init__(self, **keys: object) -> None:
        """`keys`: see `bpexp.sweep.trials.Settings`."""
        super().__init__(max_batch_size=None)
        if find_spec("optuna") is None:
            refuse(ConfigError([Fault("hydra/sweeper", "optuna", "is not installed: pip install 'bpexp[optuna]'")]))
        from bpexp.sweep.trials import Settings

        try:
            self.settings = parsed(Settings, keys, "hydra.sweeper")
        except ConfigError as error:
            refuse(error)

    # ------------------------------------------------------------------------------------------ checking

    def _plan(self, arguments: Sequence[str]) -> Plan:
        """Check the corners of the space; its trials come later."""
        from bpexp.sweep.trials import check_storage

        assert self.config is not None
        self.space, wrong = span(self.parser.parse_overrides(list(arguments)))
        faults = [*self.word_faults, *wrong, *study_faults(self.config)]
        corners = dict.fromkeys(self.space.words(values) for values in self.space.corners())
        samples = [run.config for _, run in self._checked(corners, faults)]
        if faults:
            raise ConfigError(faults)
        check_storage(self.settings.storage)
        typed = [parse_word(word) for word in self.config.hydra.overrides.hydra]
        told = {it.key_or_group: typed_values(it) for it in typed if it.key_or_group.startswith(("hydra/sweeper", "hydra.sweeper."))}
        return Plan(sweep_name(self.space.typed, arguments, 0), self.space.typed | told, whole=False, sample=samples[0])

    # ------------------------------------------------------------------------------------------ running

    def _rounds(self, plan: Plan, course: Course) -> Iterator[list[int]]:
        from bpexp.sweep.trials import Trials

        trials = Trials.open(self.settings.study_name or self._study_name(plan.title), self.space, self.settings, self._about(plan.config))
        return self._batches(trials, plan, course)

    def _batches(self, trials: "Trials", plan: Plan, course: Course) -> Iterator[list[int]]:
        """The runs of the trials that are over, then those of each batch; when a batch has come back, its trials are told."""
        from bpexp.sweep.trials import reached

        with reached(self.settings.storage):
            before = [run for it in trials.over() for run in self._runs(plan, it.params, [])]
            self.found = self._best(trials)
            if before:
                yield list(dict.fromkeys(before))
            while batch := trials.batch():
                runs = [self._run_of(plan, trial) for trial in batch]
                yield [run for run in dict.fromkeys(runs) if run is not None and run not in course.begun]
                ended = course.ended
                for trial, run in zip(batch, runs, strict=True):
                    self._tell(trials, trial, None if run is None else ended.get(run))
                self.found = self._best(trials)
            if others := len(trials.running()):
                tell([f"{others:,} of the trials {'is' if others == 1 else 'are'} trained by other processes"])

    def _run_of(self, plan: Plan, trial: "Trial") -> int | None:
        """The run that a trial comes to; None, and a line about it, where its values make no sense together."""
        faults: list[Fault] = []
        run = next(self._runs(plan, trial.params, faults), None)
        tell(f"trial {trial.number} has failed: {fault}" for fault in faults)
        return run

    def _runs(self, plan: Plan, values: Mapping[str, Value], faults: list[Fault]) -> Iterator[int]:
        """The run that a trial of these values comes to, if there is one."""
        for words, run in self._checked([self.space.words(values)], faults):
            number = plan.add(words, run)
            if number == len(plan.own):
                plan.own.append(self.space.own(values))
            yield number

    def _tell(self, trials: "Trials", trial: "Trial", ended: "Ended | None") -> None:
        if ended is None or ended.outcome in WITHOUT:
            trials.tell(trial, None, outcome=ended.outcome if ended else "failed")
            return
        value = ended.summary.get(self.settings.metric)
        if value is None or not isfinite(value):
            tell([f"trial {trial.number} has failed: its run has no {self.settings.metric}"])
            value = None
        trials.tell(trial, value, outcome=ended.outcome, run=ended.run_id)

    # ------------------------------------------------------------------------------------------ words

    def _about(self, sample: RunConfig) -> dict[str, str]:
        """What the trials' values depend on besides what is drawn: the words of the space, and what is fixed and not as it would be by itself."""
        usual, searched = untracked(RunConfig()), {full_key(key) for key in self.space.typed}
        fixed = {key: written(value) for key, value in untracked(sample).items() if key not in searched and value != usual[key]}
        return {"metric": self.settings.metric, "direction": self.settings.towards, **fixed, **self.space.typed}

    def _study_name(self, title: str) -> str:
        """The words typed, so that they find their study again."""
        usual = type(self.settings)()
        own = [f"{key}={written(value)}" for key in OWN if (value := getattr(self.settings, key)) != getattr(usual, key)]
        name = " ".join([title, *own])
        return name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 10]}… {hashlib.sha256(name.encode()).hexdigest()[:8]}"

    def _best(self, trials: "Trials") -> str:
        """The best trial so far, its value, and the command that trains it alone."""
        over, best = len(trials.over()), trials.best()
        if best is None:
            return f"best:  none of {over:,} trials has a {self.settings.metric}" if over else ""
        trial, value = best
        alone = shlex.join(["python", "-m", "bpexp", *self.space.words(trial.params)])
        return f"best:  trial {trial.number} of {over:,}, {self.settings.metric} {value:#.4g}: {alone}"
