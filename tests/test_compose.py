"""Jobs composed from plain values, and their folders, against what Hydra's own basic launcher makes of the same words."""

import os
from collections.abc import Iterator
from pathlib import Path

import hydra
import pytest
from hydra._internal.callbacks import Callbacks
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from bpexp.config import GROUPS, ConfigError, RunConfig, keys
from bpexp.sweep.app import _register
from bpexp.sweep.compose import Composer
from bpexp.sweep.folders import Folders
from bpexp.sweep.names import config_dir, parse_word
from bpexp.sweep.reading import resolved

QUIET = ("hydra/job_logging=none", "hydra/hydra_logging=none", "hydra.mode=MULTIRUN")


@pytest.fixture(scope="module")
def loader() -> Iterator[ConfigLoader]:
    _register()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("multirun")


@pytest.fixture(scope="module")
def sweep(loader: ConfigLoader, root: Path) -> DictConfig:
    """A sweep's configuration, with a word of Hydra's that holds for all its jobs."""
    words = [*QUIET, f"hydra.sweep.dir={root}/${{now:%Y}}", "+hydra.job.env_set.A=b"]
    return loader.load_configuration("config", words, RunMode.MULTIRUN)


def hydras(loader: ConfigLoader, sweep: DictConfig, words: list[str], number: int) -> tuple[dict[str, object], dict[Path, str]]:
    """A job's values and its files, by Hydra's basic launcher."""
    found: list[DictConfig] = []
    launcher = BasicLauncher()
    launcher.setup(hydra_context=HydraContext(loader, Callbacks()), task_function=found.append, config=sweep)
    (job,) = launcher.launch([words], number)
    assert job.hydra_cfg is not None
    told = job.hydra_cfg.hydra
    folder = Path(told.runtime.output_dir)
    assert folder.is_dir()
    made = [] if told.output_subdir is None else sorted((folder / told.output_subdir).iterdir())
    return resolved(found[0]), {path: path.read_text(encoding="utf-8") for path in made}


def assert_the_same(loader: ConfigLoader, sweep: DictConfig, words: list[str], number: int = 0) -> None:
    """Values, their types, and files, byte for byte; or no configuration either way."""
    compose, folders = Composer(loader, sweep), Folders(sweep)
    try:
        expected, files = hydras(loader, sweep, words, number)
    except (HydraException, OmegaConfBaseException, ConfigError):
        with pytest.raises((ConfigError, OmegaConfBaseException)):  # the second where the words leave no name for a folder
            assert None not in (folders(number, compose(words)), compose(words).values)
        return
    finally:
        HydraConfig.instance().cfg = None
    job = compose(words)
    assert repr(job.values) == repr(expected)  # 1 is neither 1.0 nor true
    folder = folders(number, job)
    assert dict(folder.texts) == files
    for path in files:
        path.unlink()
    folder.write()
    assert {path: path.read_text(encoding="utf-8") for path in files} == files


TEXT = st.text("aZ09 ':#-_.,=%é漢🙂\u2028\"\\$[]&*!|>?~@", max_size=12)
LIKE_OTHERS = ["true", "false", "null", "relu", "full", "???", "1e3", "0x10", "012", "yes", "'1'", "'null'", "''"]
LISTS = ["[]", "[grad_norm]", "[1,'a b',null]", "[[1],{a:2}]"]
PLAIN = st.one_of(
    st.integers(-5, 10**6).map(str),
    st.floats(allow_nan=True).map(repr),
    st.sampled_from([*LIKE_OTHERS, *LISTS]),
    TEXT.map(lambda text: "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"),
)
SPECIAL = st.sampled_from(
    [
        "width=${depth}",
        "tracking.run_name='d${depth} of ${width}'",
        "lr=${nothing}",
        "tracking.experiment='\\${depth}'",
        "tracking.run_name='${now:%Y}'",
        "tracking.layers=['${activation}']",
        "data={seed:3}",
        "init={sigma_b2:0.5}",
        "+init.sigma_w2=2",
        "+depth=3",
        "++tracking.uri=x",
        "++lr=0.5",
        "+init.nothing=1",
        "~tracking.parent",
        "hydra.job.name=other",
        "hydra.job.config.override_dirname.item_sep=_",
        "hydra.output_subdir=null",
        "hydra.output_subdir=told",
        "hydra.job.chdir=true",
        "hydra.sweep.subdir=${hydra.job.override_dirname}",
        "hydra.sweep.subdir='${hydra:job.num}_${depth}'",
        "hydra.sweep.subdir=a/../${hydra.job.id}",
        "hydra.nothing=1",
    ]
)
OTHERS = ["data=synthetic", "data=nothing", "optimizer@foo=adam"]
GROUP = st.sampled_from([*(f"{group}={name}" for group, table in GROUPS.items() for name in table), *OTHERS])
WORD = st.one_of(st.tuples(st.sampled_from(sorted(keys(RunConfig))), PLAIN).map("=".join), SPECIAL, GROUP)


def readable(words: list[str]) -> bool:
    try:
        return all(parse_word(word) for word in words)
    except HydraException:
        return False


DRAWN = settings(
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # no shrinking: an example takes Hydra a tenth of a second
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
WORDS = st.lists(WORD, max_size=6, unique_by=lambda word: word.partition("=")[0]).filter(readable)


@settings(DRAWN, max_examples=25)
@given(words=WORDS, number=st.integers(0, 3000))
def test_jobs_are_composed_and_filed_as_hydra_does_it(loader: ConfigLoader, sweep: DictConfig, words: list[str], number: int) -> None:
    assert_the_same_from_here(loader, sweep, words, number)


@pytest.mark.soak
@settings(DRAWN, max_examples=2000)
@given(words=WORDS, number=st.integers(0, 3000))
def test_jobs_are_composed_and_filed_as_hydra_does_it_for_an_hour(loader: ConfigLoader, sweep: DictConfig, words: list[str], number: int) -> None:
    assert_the_same_from_here(loader, sweep, words, number)


def assert_the_same_from_here(loader: ConfigLoader, sweep: DictConfig, words: list[str], number: int) -> None:
    """Some words make Hydra change the folder."""
    here = Path.cwd()
    try:
        assert_the_same(loader, sweep, words, number)
    finally:
        os.chdir(here)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["depth=3", "lr=0.1", "tracking.run_name='depth=3 lr=0.1'"],
        ["lr=1", "++lr=2"],
        ["init.sigma_b2=1", "init={sigma_b2:2}"],
        ["tracking.run_name='a very long name of a run: " + 20 * "word and " + "end'", "depth=4"],
        ["depth=3", "width=${depth}", "lr=0.25"],
        ["optimizer=adam", "optimizer.beta1=0.5", "hydra.sweep.subdir=${optimizer.name}_${depth}", "depth=7"],
    ],
    ids=" ".join,
)
def test_jobs_that_share_words_with_others_are_as_if_alone(loader: ConfigLoader, sweep: DictConfig, words: list[str]) -> None:
    assert_the_same(loader, sweep, words)


def test_jobs_that_share_a_base_do_not_see_each_other(loader: ConfigLoader, sweep: DictConfig) -> None:
    compose, folders = Composer(loader, sweep), Folders(sweep)
    jobs = [["depth=3", "init.sigma_b2=1"], ["lr=2"], ["depth=5", "tracking.layers=[]"], ["init=he"], []]
    jobs += [[f"lr={equal}"] for equal in ("1", "1.0", "true", "'1'", "0.0", "-0.0")]
    composed = [compose(words) for words in jobs]
    assert len(compose.bases) == 2  # one for each choice of groups
    for number, (words, job) in enumerate(zip(jobs, composed, strict=True)):
        expected, files = hydras(loader, sweep, words, number)
        assert (repr(job.values), dict(folders(number, job).texts)) == (repr(expected), files)
    HydraConfig.instance().cfg = None
