"""The pictures of a report.  To add one: write a function from a `Study` to a `Picture`, and give it a row here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bpexp.report.activations import activation_histograms, saturates, saturation
from bpexp.report.comparison import comparison
from bpexp.report.decades import decade_points, decades
from bpexp.report.learning_rates import has_learning_rates, learning_rates
from bpexp.report.over_depth import paths_against_backprop
from bpexp.report.over_layers import at_the_start, gradient_heatmap, gradient_profiles
from bpexp.report.over_settings import accuracy, final_loss
from bpexp.report.over_steps import accuracy_curves, loss_curves
from bpexp.report.paired import has_pairs, paired_differences
from bpexp.report.phases import gradient_phases, has_outcome_plane, has_phases, outcome_map
from bpexp.report.picture import Picture, style
from bpexp.report.ranking import few_of, of_the_best, ranking
from bpexp.report.recipe_profiles import recipe_profiles
from bpexp.report.recipes import is_of_recipes
from bpexp.report.selection import Study
from bpexp.report.updates import first_update, update_ratio, updates

__all__ = ["PICTURES", "Entry", "draw"]


@dataclass(frozen=True)
class Entry:
    """A row of the table below: `name` is its files', `applies` says whether a study has what the picture needs."""

    name: str
    title: str
    function: Callable[[Study], Picture]
    applies: Callable[[Study], bool]


def _panels(name: str, title: str, function: Callable[[Study], Picture], applies: Callable[[Study], bool]) -> Entry:
    """A picture with a panel per setting."""
    return Entry(name, title, of_the_best(function), lambda study: applies(few_of(study)))


def _over_keys(study: Study) -> bool:
    """Whether the swept keys can be axes and colours: those of recipes would leave most places empty."""
    return not is_of_recipes(study)


def _settings_with(study: Study, column: str) -> int:
    return sum(len(study.numbers(setting, column)) > 0 for setting in study.settings)


def _any_layers(study: Study, deeper_than: int = 0) -> bool:
    return any(study.depth(setting) > deeper_than and len(study.layers(setting)) > 0 for setting in study.settings)


def _histograms(study: Study) -> bool:
    return any(len(study.histograms(setting)) > 0 for setting in study.settings)


def _scores(study: Study, column: str) -> bool:
    return _over_keys(study) and bool(study.swept) and _settings_with(study, column) > 1


PICTURES: tuple[Entry, ...] = (
    Entry("comparison", "The sweeps beside each other", comparison, lambda study: bool(study.runs.sweeps) and bool(study.settings)),
    Entry("ranking", "Which recipes learn", ranking, is_of_recipes),
    Entry("recipe_profiles", "What each recipe does to the gradient", recipe_profiles, lambda study: is_of_recipes(study) and _any_layers(study)),
    _panels("loss_curves", "Loss during training", loss_curves, lambda study: bool(study.settings)),
    Entry(
        "gradient_at_the_start", "The error on its way back, before training", at_the_start, lambda study: _any_layers(study, 1) and _over_keys(study)
    ),
    _panels("gradient_profiles", "Gradient norm over the layers", gradient_profiles, _any_layers),
    _panels("gradient_heatmap", "Gradient norm over layers and steps", gradient_heatmap, lambda study: _any_layers(study, 1)),
    _panels("first_update", "What the first update changes", first_update, updates),
    _panels("update_ratio", "How far each step moves the weights", update_ratio, updates),
    _panels("saturation", "Saturated activations over the layers", saturation, lambda study: _any_layers(study, 1) and saturates(study)),
    _panels("activation_histograms", "How the activations are distributed", activation_histograms, _histograms),
    Entry("decades_per_layer", "Decades lost per layer", decades, lambda study: _over_keys(study) and len(decade_points(study)[0]) > 1),
    Entry("gradient_phases", "Where gradients vanish and where they explode", gradient_phases, lambda study: _over_keys(study) and has_phases(study)),
    Entry("outcome_map", "Which settings learn", outcome_map, lambda study: _over_keys(study) and has_outcome_plane(study)),
    Entry("learning_rates", "Loss over the learning rate", learning_rates, lambda study: _over_keys(study) and has_learning_rates(study)),
    Entry("accuracy", "Accuracy over the sweep", accuracy, lambda study: _scores(study, "final_accuracy_test")),
    _panels("accuracy_curves", "Accuracy during training", accuracy_curves, lambda study: _settings_with(study, "final_accuracy_test") > 0),
    Entry(
        "final_loss",
        "Final loss over the sweep",
        final_loss,
        lambda study: _scores(study, "final_test_loss") and not _scores(study, "final_accuracy_test"),
    ),
    Entry("paired_differences", "Differences, paired by seed", paired_differences, has_pairs),
    Entry("paths_against_backprop", "The sum over paths against backpropagation", paths_against_backprop, lambda _study: True),
)


def draw(study: Study) -> Iterator[tuple[Entry, Picture]]:
    """The pictures that apply, one after the other."""
    for entry in PICTURES:
        if entry.applies(study):
            with style():
                picture = entry.function(study)
            yield entry, picture
