"""Sweeps compared: how several are named, what makes one study of them, and what the page says of it."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.container import ErrorbarContainer

from bpexp.report.__main__ import main
from bpexp.report.comparison import comparison, differing_keys
from bpexp.report.figures import PICTURES
from bpexp.report.intervals import Interval
from bpexp.report.page import folder_name, render
from bpexp.report.paired import differences
from bpexp.report.picture import Picture, style
from bpexp.report.remedies import remedy
from bpexp.report.runs_table import lines, link
from bpexp.report.selection import Study
from bpexp.tracking.compared import compared, load, parts_of
from bpexp.tracking.reader import NoRunsError, Origin, Runs, load_runs
from bpexp.tracking.store import Store, connect, resolve
from tests.report.studies import configs, only, runs_of, with_runs
from tests.report.test_command import filled


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a,b", ["a", "b"]),
        ("[a,b]", ["a", "b"]),
        ("a, b", ["a", "b"]),
        ("depth=3,6", ["depth=3,6"]),  # a name that is known as a whole
        ("depth=3,6,a", ["depth=3,6", "a"]),
        ("a,depth=3,6,b", ["a", "depth=3,6", "b"]),
        ("depth=3,depth=3,6", ["depth=3", "depth=3,6"]),
        ("x,6", ["x,6"]),  # of two ways, the one with fewer names
        ("a,nothing", ["a,nothing"]),  # which is then told to be unknown
    ],
)
def test_names_may_hold_commas(text: str, parts: list[str]) -> None:
    assert parts_of(text, {"a", "b", "depth=3,6", "depth=3", "x", "6", "x,6"}.__contains__) == parts


def labelled(runs: Runs, label: str, first: str) -> Runs:
    """The runs under ids that begin with a letter of their own."""
    frames = {name: getattr(runs, name).assign(run_id=lambda frame: first + frame["run_id"].str[1:]) for name in ("runs", "curves", "layers")}
    return replace(runs, sweep_name=label, **frames)


@pytest.fixture(scope="module")
def pair() -> Study:
    """Two activations over the same depths and seeds, one of them with a depth more, and three runs that both have."""
    shared = labelled(runs_of(configs(depth=2, seed=[0, 1, 2])), "", "c")
    one, other = (
        labelled(runs_of(configs(activation=name, depth=depths, seed=[0, 1, 2])), name, first)
        for name, depths, first in (("sigmoid", [3, 5], "a"), ("tanh", [3, 5, 7], "b"))
    )
    parts = [
        replace(part, **{n: pd.concat([getattr(part, n), getattr(shared, n)], ignore_index=True) for n in ("runs", "curves", "layers")})
        for part in (one, other)
    ]
    origins = [Origin("first", "a" * 32), Origin("second", "b" * 32, commits=("0123456789abcdef",))]
    return Study(compared(list(zip(origins, parts, strict=True))))


def test_the_sweep_is_a_key_and_runs_of_both_are_in_both(pair: Study) -> None:
    assert [key.name for key in pair.swept] == ["sweep", "depth", "activation"]
    assert pair.swept[0].levels == ("first", "second")
    assert len(pair.frame) == (6 + 3) + (9 + 3)
    by_sweep = pair.frame.groupby("sweep")["run_id"].apply(lambda ids: {run_id.partition("@")[0] for run_id in ids})
    assert len(by_sweep["first"] & by_sweep["second"]) == 3
    for setting in pair.settings:
        assert len(setting.runs) == 3
        for run_id in setting.runs:
            assert len(pair.curves(run_id)) > 0
            assert (pair.layers(setting)["run_id"] == run_id).any()


def test_a_key_with_one_value_in_each_sweep_follows_the_sweep() -> None:
    parts = [(Origin(a, a * 32), labelled(runs_of(configs(activation=name, depth=[3, 5])), a, a)) for a, name in (("a", "sigmoid"), ("b", "tanh"))]
    some = Study(compared(parts))
    assert [key.name for key in some.swept] == ["sweep", "depth"]
    assert some.follows == {"activation": "sweep"}
    assert differing_keys(some) == {"activation": ("sigmoid", "tanh")}
    assert [(each.key, each.what, each.where) for each in differences(some) if each.key == "sweep"] == [
        ("sweep", "b", "L = 3"),
        ("sweep", "b", "L = 5"),
    ]


def test_a_run_of_both_is_one_run_in_mlflows_pages(pair: Study) -> None:
    told = lines(pair)
    assert len({line.id for line in told}) == len(told) == len({line.link for line in told}) + 3
    assert all(line.link.endswith(f"/runs/{line.tracked}") and line.tracked.isalnum() for line in told)


def test_sweeps_that_do_not_differ_are_told_to_be_alike() -> None:
    parts = [(Origin(a, a * 32), labelled(runs_of(configs(depth=[3, 5])), a, a)) for a in "ab"]
    with style():
        sentence = comparison(Study(compared(parts))).sentence
    assert sentence == "The sweeps have the same values of every key. There are 2 runs of a and 2 runs of b."


def test_what_differs_stands_in_a_table(pair: Study) -> None:
    with style():
        picture = comparison(pair)
    rows = {row[0]: row[1:] for row in picture.tables[0].rows}
    assert rows["depth"] == ("2, 3 and 5", "2, 3, 5 and 7")
    assert rows["activation"] == ("sigmoid", "tanh and sigmoid")
    assert rows["runs"] == ("9", "12")
    assert rows["code (git commit)"] == ("–", "0123456789")
    assert picture.sentence.endswith("There are 9 runs of first and 12 runs of second; 3 runs stand in more than one of them.")
    losses = pair.frame["final_loss"]
    for place, label in enumerate(("first", "second")):
        dots = [line for line in picture.figure.axes[0].get_lines() if line.get_label() == "run"][place]
        np.testing.assert_allclose(np.asarray(dots.get_xdata(), float), losses[pair.frame["sweep"] == label])


def lines_through(picture: Picture) -> list[tuple[str, list[float]]]:
    """The label, the middle and the ends of each line through the dots of a sweep, of losses."""
    found = []
    for bars in picture.figure.axes[0].containers:
        assert isinstance(bars, ErrorbarContainer)
        middle, _, (span,) = bars.lines
        (low, _), (high, _) = span.get_segments()[0]
        found.append((str(bars.get_label()), [*np.asarray(middle.get_xdata(), float), float(low), float(high)]))
    return found


def test_runs_of_different_settings_have_no_interval(pair: Study) -> None:
    with style():
        picture = comparison(pair)
    losses = [pair.frame["final_loss"][pair.frame["sweep"] == label] for label in ("first", "second")]
    assert [label for label, _ in lines_through(picture)] == ["median, lowest and highest"] * 2
    np.testing.assert_allclose([ends for _, ends in lines_through(picture)], [(some.median(), some.min(), some.max()) for some in losses])
    assert "no such interval" in " ".join(picture.notes)
    assert "Student" not in " ".join(picture.notes)


def test_runs_that_differ_in_their_seed_alone_have_one() -> None:
    parts = [
        (Origin(name, name[0] * 32), labelled(runs_of(configs(activation=name, depth=depths, seed=[0, 1, 2])), name, name[0]))
        for name, depths in (("sigmoid", [3]), ("tanh", [3, 5]))
    ]
    some = Study(compared(parts))
    with style():
        picture = comparison(some)
    around = Interval.of(some.frame["final_loss"][some.frame["sweep"] == "sigmoid"], log=True)
    (one, ends), (other, _) = lines_through(picture)
    assert (one, other) == ("mean, 95 % confidence interval", "median, lowest and highest")
    np.testing.assert_allclose(ends, [around.mean, around.low, around.high])
    assert [label.get_text() for label in picture.figure.legends[0].get_texts()] == ["a run", one, other]
    assert "no such interval" in " ".join(picture.notes)
    assert "Student's t" in " ".join(picture.notes)


def test_every_picture_of_compared_sweeps_is_drawn(pair: Study) -> None:
    applying = [entry for entry in PICTURES if entry.applies(pair)]
    assert {"comparison", "loss_curves"} <= {entry.name for entry in applying}
    for entry in applying:
        with style():
            assert entry.function(pair).sentence.endswith(".")


def test_the_nearest_run_that_learned_may_be_of_another_sweep(pair: Study) -> None:
    """The one that learned, not the first of its setting."""
    learned = (pair.runs.runs["sweep"] == "second") & (pair.runs.runs["activation"] == "tanh") & (pair.runs.runs["seed"] == 2)
    some = with_runs(pair, "outcome", np.where(learned, "trained", "stuck").tolist())
    advice = remedy(some, only(some, sweep="first", depth=5, activation="sigmoid"), [])
    assert advice is not None
    assert advice.sentence.startswith("The nearest run that learned differs in activation=tanh alone")
    assert "seed=2" in advice.command.split()
    other = with_runs(some, "data.seed", np.where(learned, 1, 0).tolist())
    advice = remedy(other, only(other, sweep="first", depth=5, activation="sigmoid"), [])
    assert advice is not None
    assert "steps=120" in advice.command.split()  # runs with other data say nothing


def test_the_folder_names_all_sweeps(pair: Study) -> None:
    assert folder_name(pair.runs) == "first-vs-second-aaaaaaaa-bbbbbbbb"


LONG = "width=6 activation=sigmoid,tanh,relu,gelu optimizer=momentum"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Path]:
    folder = tmp_path_factory.mktemp("work")
    store = connect(resolve("sqlite:///mlflow.db", folder), "bpexp")
    filled(store, "width=6 depth=3,4", [3, 4])
    filled(store, "width=6 depth=4,5", [4, 5])
    filled(store, LONG, [3])
    return store, folder


def test_the_command_compares_by_name_and_by_id(
    store: tuple[Store, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(store[1])
    uri = "sqlite:///mlflow.db"
    ids = [str(load_runs(name, uri, frames=()).sweep_id) for name in ("width=6 depth=3,4", "width=6 depth=4,5")]
    assert main(["sweep=width=6 depth=3,4,width=6 depth=4,5"]) == 0
    files = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert files[-1].parent.name == f"depth-3-4-vs-depth-4-5-{ids[0][:8]}-{ids[1][:8]}"
    assert "depth=3,4 vs depth=4,5" in files[-1].read_text()
    by_id = load(",".join(ids), uri)
    assert by_id.sweep_name == "depth=3,4 vs depth=4,5"  # what both names hold is left out
    assert [origin.sweep_id for origin in by_id.sweeps] == ids
    assert by_id.sweeps[0].numerics
    assert list(by_id.runs["sweep"]) == ["depth=3,4"] * 2 + ["depth=4,5"] * 2


def test_whole_names_stand_on_the_page(store: tuple[Store, Path]) -> None:
    """Labels are cut."""
    runs = load(f"width=6 depth=3,4,{LONG}", f"sqlite:///{store[1]}/mlflow.db")
    assert [origin.label for origin in runs.sweeps] == ["depth=3,4", "activation=sigmoid,ta…"]
    page = render(Study(runs), [])
    rows = re.findall(r'<dt>(.+?)</dt><dd>(.+?) \(<a href="(.+?)" rel="noreferrer"><code>(.+?)</code></a>\)</dd>', page)
    names = ["width=6 depth=3,4", LONG]
    assert rows == [(origin.label, name, link(runs, origin.sweep_id), origin.sweep_id) for origin, name in zip(runs.sweeps, names, strict=True)]


def test_one_name_is_one_sweep_and_unknown_ones_are_told(store: tuple[Store, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store[1])
    uri = "sqlite:///mlflow.db"
    whole = load("width=6 depth=3,4", uri)
    assert (whole.sweeps, whole.sweep_name) == ((), "width=6 depth=3,4")
    assert load(f"latest,{load('latest', uri).sweep_id}", uri).sweeps == ()
    assert load(None, uri).sweep_id is None
    with pytest.raises(NoRunsError, match="sweep=latest,nothing: no sweep or run"):
        load("latest,nothing", uri)
