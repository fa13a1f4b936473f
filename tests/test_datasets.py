"""Data sets: what comes out, how it is split, and how wrong files and keys are refused."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from sklearn.datasets import load_digits

from bpexp.config import ConfigError, DataConfig, Fault
from bpexp.core.arrays import Float64s
from bpexp.datasets import DATASETS, Dataset, load, one_hot

ROOT = Path(__file__).parents[1]


def refused(config: DataConfig) -> list[Fault]:
    with pytest.raises(ConfigError) as error:
        load(config)
    return error.value.faults


def together(dataset: Dataset) -> tuple[Float64s, Float64s]:
    split = dataset.split
    return np.concatenate([split.x_train, split.x_test]), np.concatenate([split.y_train, split.y_test])


def in_order(rows: Float64s) -> Float64s:
    return rows[np.lexsort(rows.T[::-1])]


def assert_same(one: Dataset, two: Dataset) -> None:
    for name in ("x_train", "y_train", "x_test", "y_test"):
        np.testing.assert_array_equal(getattr(one.split, name), getattr(two.split, name))


# ---------------------------------------------------------------------------------------------- digits


def test_digits_are_scikit_learns() -> None:
    dataset = load(DataConfig())
    assert (dataset.name, dataset.inputs, dataset.outputs, dataset.split.classes) == ("digits", 64, 10, True)
    x, y = together(dataset)
    assert x.shape == (1797, 64)
    assert x.dtype == y.dtype == np.float64
    assert (x.min(), x.max()) == (0.0, 1.0)
    bunch = load_digits()
    np.testing.assert_array_equal(in_order(np.c_[16 * x, y.argmax(axis=1)]), in_order(np.c_[bunch.data, bunch.target]))
    np.testing.assert_array_equal(y.sum(axis=1), 1.0)
    assert np.isin(y, (0.0, 1.0)).all()


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.01])
def test_the_split_is_disjoint_and_of_the_size_asked_for(fraction: float) -> None:
    """Samples are told apart by a number of their own, as the split sees positions only."""
    split = load(DataConfig(name="synthetic", samples=1797, inputs=1, test_fraction=fraction)).split
    assert len(split.x_test) == len(split.y_test) == round(fraction * 1797)
    assert len(np.unique(np.concatenate([split.x_train, split.x_test]))) == len(split.x_train) + len(split.x_test) == 1797


def test_the_default_split_is_80_to_20() -> None:
    split = load(DataConfig()).split
    assert (len(split.x_train), len(split.x_test)) == (1438, 359)


def test_the_split_shuffles() -> None:
    """scikit-learn's digits come in a fixed order: the first rows of the training set must not be the first samples in theirs."""
    bunch, split = load_digits(), load(DataConfig()).split
    assert not (split.x_train[:50] * 16 == bunch.data[:50]).all(axis=1).any()
    assert not (split.x_test[:50] * 16 == bunch.data[:50]).all(axis=1).any()


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_the_seed_decides_on_the_split(name: str) -> None:
    one, two = (load(DataConfig(name=name, seed=seed)) for seed in (0, 1))
    assert_same(one, load(DataConfig(name=name, seed=0)))
    assert one.checksum == load(DataConfig(name=name, seed=0)).checksum
    assert one.checksum != two.checksum
    assert not np.array_equal(one.split.x_train, two.split.x_train)


def test_a_seed_changes_the_split_of_digits_and_not_the_samples() -> None:
    (x, y), (other_x, other_y) = (together(load(DataConfig(seed=seed))) for seed in (0, 1))
    np.testing.assert_array_equal(in_order(np.c_[x, y]), in_order(np.c_[other_x, other_y]))


@pytest.mark.parametrize("size", [9, 14, 16, 28, 60])
def test_larger_digits_are_drawn_between_the_centres_of_the_pixels(size: int) -> None:
    """Rows, then columns, by np.interp, which is constant beyond its ends; targets and order as they were."""
    small, large = load(DataConfig()).split, load(DataConfig(size=size)).split
    at, centres = (np.arange(size) + 0.5) * 8 / size - 0.5, np.arange(8)
    weights = np.array([np.interp(at, centres, unit) for unit in np.eye(8)])
    for x, drawn in ((small.x_train, large.x_train), (small.x_test, large.x_test)):
        assert drawn.shape == (len(x), size**2)
        assert drawn.min() >= 0.0
        assert drawn.max() <= 1.0
        expected = np.einsum("nij,ia,jb->nab", x.reshape(-1, 8, 8), weights, weights)
        np.testing.assert_allclose(drawn.reshape(expected.shape), expected, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(small.y_train, large.y_train)
    np.testing.assert_array_equal(small.y_test, large.y_test)


def test_digits_of_eight_pixels_are_the_set_itself() -> None:
    assert load(DataConfig(size=8)).checksum == load(DataConfig()).checksum


def test_some_of_the_digits_are_a_choice_by_the_seed() -> None:
    """Some of all, each at most once; another seed chooses others, all of them is a choice too, and there are no more."""
    (x, y), (other, _) = (together(load(DataConfig(samples=100, seed=seed))) for seed in (0, 1))
    everything = np.c_[together(load(DataConfig()))]
    assert (x.shape, y.shape) == ((100, 64), (100, 10))
    found = np.c_[x, y]
    assert len(np.unique(found, axis=0)) == 100
    assert (found[:, None] == everything).all(axis=2).any(axis=1).all()
    assert not np.array_equal(in_order(x), in_order(other))
    assert np.isin(y.argmax(axis=1), range(10)).all()
    np.testing.assert_array_equal(in_order(np.c_[together(load(DataConfig(samples=1797)))]), in_order(everything))
    assert str(*refused(DataConfig(samples=1798))) == "data.samples=1798: must be at most 1,797, as many as data=digits has"


def test_fewer_digits_larger() -> None:
    split = load(DataConfig(size=12, samples=50, test_fraction=0.5)).split
    assert (split.x_train.shape, split.x_test.shape, split.classes) == ((25, 144), (25, 144), True)


def test_checksums_are_the_same_in_another_process_and_differ_between_data() -> None:
    made = [{"name": "synthetic"}, {"name": "synthetic", "classes": 3}, {"name": "synthetic", "samples": 999}]
    configs = [{}, {"seed": 1}, {"test_fraction": 0.3}, *made]
    here = [load(DataConfig(**config)).checksum for config in configs]  # type: ignore[arg-type]
    assert len(set(here)) == len(here)
    code = f"from bpexp.datasets import *; from bpexp.config import DataConfig; print([load(DataConfig(**c)).checksum for c in {configs!r}])"
    environment = os.environ | {"PYTHONHASHSEED": "5"}
    there = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert there.stdout.strip() == repr(here)


# ---------------------------------------------------------------------------------------------- synthetic


def test_synthetic_takes_its_sizes() -> None:
    dataset = load(DataConfig(name="synthetic", samples=50, inputs=3, classes=7))
    x, y = together(dataset)
    assert (x.shape, y.shape, dataset.inputs, dataset.outputs) == ((50, 3), (50, 7), 3, 7)
    x, y = together(load(DataConfig(name="synthetic")))
    assert (x.shape, y.shape) == ((1000, 16), (1000, 4))


def test_synthetic_inputs_are_gaussian_and_labels_a_function_of_them() -> None:
    x, y = together(load(DataConfig(name="synthetic", samples=20_000, inputs=4, seed=3)))
    deviation = 1 / np.sqrt(len(x))  # of a mean; the tests allow five of it, and the seed is fixed
    assert np.abs(x.mean(axis=0)).max() < 5 * deviation
    assert np.abs(np.cov(x.T) - np.eye(4)).max() < 5 * np.sqrt(2) * deviation
    labels = y.argmax(axis=1)
    near = np.abs(x[:300, None] - x[None, 300:]).sum(axis=2).argmin(axis=1) + 300  # the nearest of other samples
    same = (labels[:300] == labels[near]).mean()
    shares = y.mean(axis=0)
    assert same > (shares**2).sum() + 0.3  # two samples at random agree with the sum of squared shares


def test_the_smallest_set_that_can_be_split() -> None:
    split = load(DataConfig(name="synthetic", samples=4, classes=2)).split
    assert (len(split.x_train), len(split.x_test)) == (3, 1)
    for fraction in (0.01, 0.99):
        (fault,) = refused(DataConfig(name="synthetic", samples=4, test_fraction=fraction))
        assert (fault.key, fault.value) == ("data.test_fraction", fraction)


# ---------------------------------------------------------------------------------------------- nothing kept for testing


@pytest.mark.parametrize("name", ["digits", "synthetic", "noise", "linear"])
def test_with_a_fraction_of_0_all_samples_are_for_training_and_testing(name: str) -> None:
    split = load(DataConfig(name, test_fraction=0.0)).split
    np.testing.assert_array_equal(split.x_test, split.x_train)
    np.testing.assert_array_equal(split.y_test, split.y_train)
    if name != "linear":
        x, y = together(load(DataConfig(name)))
        np.testing.assert_array_equal(in_order(np.c_[split.x_train, split.y_train]), in_order(np.c_[x, y]))


def test_a_fraction_that_rounds_to_no_sample_is_not_0() -> None:
    (fault,) = refused(DataConfig("synthetic", samples=4, test_fraction=0.01))
    assert fault.key == "data.test_fraction"


# ---------------------------------------------------------------------------------------------- linear


@pytest.mark.parametrize("inputs", [1, 2, 5, 64])
def test_linear_inputs_are_white_and_its_map_is_of_one_strength(inputs: int) -> None:
    """The mean of xᵀx is I, and the least squares' solution has that singular value alone."""
    dataset = load(DataConfig("linear", inputs=inputs, strength=2.5, test_fraction=0.0))
    x, y = dataset.split.x_train, dataset.split.y_train
    assert (x.shape, y.shape, dataset.split.classes) == ((inputs, inputs), (inputs, inputs), False)
    np.testing.assert_allclose(x.T @ x / len(x), np.eye(inputs), rtol=0, atol=1e-14)
    solution = np.linalg.lstsq(x, y)[0]
    np.testing.assert_allclose(solution, 2.5 * np.eye(inputs), rtol=0, atol=1e-13)


def test_linear_inputs_are_by_the_seed_and_no_axes() -> None:
    one, same, other = (load(DataConfig("linear", seed=seed, inputs=8, test_fraction=0.0)) for seed in (0, 0, 1))
    assert one.checksum == same.checksum != other.checksum
    assert np.count_nonzero(one.split.x_train) == 64
    np.testing.assert_array_equal(one.split.y_train, one.split.x_train)


def test_linear_with_a_part_of_its_samples_is_refused() -> None:
    (fault,) = refused(DataConfig("linear"))
    assert str(fault) == "data.test_fraction=0.2: must be 0 with data=linear, whose inputs are whitened all together"
    (fault,) = refused(DataConfig("linear", inputs=4097, test_fraction=0.0))
    assert fault.key == "data.inputs"


# ---------------------------------------------------------------------------------------------- noise


def test_noise_is_gaussian_and_knows_nothing_of_its_inputs() -> None:
    """Mean and covariance of inputs and targets together, within five standard errors."""
    dataset = load(DataConfig("noise", seed=3, samples=20_000, inputs=3, outputs=2))
    assert (dataset.inputs, dataset.outputs, dataset.split.classes) == (3, 2, False)
    both = np.c_[together(dataset)]
    deviation = 1 / np.sqrt(len(both))
    assert np.abs(both.mean(axis=0)).max() < 5 * deviation
    assert np.abs(np.cov(both.T) - np.eye(5)).max() < 5 * np.sqrt(2) * deviation
    assert np.abs((both**4).mean(axis=0) - 3.0).max() < 5 * np.sqrt(96) * deviation  # the variance of x**4 is 105 - 9


def test_noise_takes_its_sizes_and_its_seed() -> None:
    x, y = together(load(DataConfig("noise")))
    assert (x.shape, y.shape) == ((1000, 16), (1000, 1))
    one, same, other = (load(DataConfig("noise", seed=seed, samples=10)) for seed in (0, 0, 1))
    assert one.checksum == same.checksum != other.checksum


def test_noise_of_a_strength_is_the_same_with_larger_targets() -> None:
    (x, y), (same, larger) = (together(load(DataConfig("noise", samples=20, strength=strength))) for strength in (None, 3.0))
    assert np.array_equal(x, same)
    assert np.array_equal(3.0 * y, larger)


# ---------------------------------------------------------------------------------------------- npz

X = np.random.default_rng(0).standard_normal((30, 3))
LABELS = np.arange(30) % 3
PLAIN = {"x": X, "y": LABELS}


def saved(folder: Path, **arrays: Any) -> str:
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return str(path)


def test_npz_whole_numbers_are_labels(tmp_path: Path) -> None:
    dataset = load(DataConfig(name="npz", path=saved(tmp_path, x=X, y=np.array([7, -2, 40])[LABELS])))
    x, y = together(dataset)
    assert dataset.split.classes
    np.testing.assert_array_equal(in_order(np.c_[x, y]), in_order(np.c_[X, np.eye(3)[[1, 0, 2]][LABELS]]))


@pytest.mark.parametrize("targets", [X[:, 0], X[:, :1], X[:, :2], LABELS.astype(float), np.c_[LABELS, LABELS]])
def test_npz_anything_else_is_targets(targets: Float64s, tmp_path: Path) -> None:
    dataset = load(DataConfig(name="npz", path=saved(tmp_path, x=X, y=targets)))
    x, y = together(dataset)
    assert not dataset.split.classes
    assert x.dtype == y.dtype == np.float64
    np.testing.assert_array_equal(in_order(np.c_[x, y]), in_order(np.c_[X, targets.reshape(30, -1)]))


def test_npz_one_hot_targets_are_classes(tmp_path: Path) -> None:
    assert load(DataConfig(name="npz", path=saved(tmp_path, x=X, y=np.eye(3)[LABELS]))).split.classes


def test_npz_smaller_types_and_other_arrays_are_taken(tmp_path: Path) -> None:
    path = saved(tmp_path, x=(100 * X).astype(np.int16), y=LABELS.astype(np.uint8), comment=np.array("hello"))
    x, _ = together(load(DataConfig(name="npz", path=path)))
    np.testing.assert_array_equal(in_order(x), in_order((100 * X).astype(np.int16).astype(np.float64)))


def test_npz_the_file_may_lie_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, **PLAIN)
    monkeypatch.chdir(tmp_path)
    assert load(DataConfig(name="npz", path="data.npz")).checksum == load(DataConfig(name="npz", path=path)).checksum


def test_npz_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    config = DataConfig(name="npz", path=saved(tmp_path, **PLAIN))
    before = load(config)
    saved(tmp_path, x=2 * X, y=LABELS)
    os.utime(tmp_path / "data.npz", (1, 1))  # a clock may be too coarse to tell the two apart
    after = load(config)
    np.testing.assert_array_equal(after.split.x_train, 2 * before.split.x_train)
    assert after.checksum != before.checksum


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": X},
        {"y": LABELS},
        {"inputs": X, "targets": LABELS},
        {"x": X[:, 0], "y": LABELS},
        {"x": X.reshape(30, 3, 1), "y": LABELS},
        {"x": X, "y": LABELS[:29]},
        {"x": X, "y": LABELS.reshape(30, 1, 1)},
        {"x": X, "y": np.zeros((30, 0))},
        {"x": X[:, :0], "y": LABELS},
        {"x": X[:1], "y": LABELS[:1]},
        {"x": X[:0], "y": LABELS[:0]},
        {"x": np.array(5.0), "y": LABELS},
        {"x": np.where(X > 2, np.nan, X), "y": LABELS},
        {"x": X, "y": np.where(X > 2, np.inf, X)},
        {"x": X, "y": LABELS.astype(str)},
        {"x": X + 0j, "y": LABELS},
        {"x": X, "y": np.array([{"a": 1}] * 30, dtype=object)},
        {"x": X.astype(object), "y": LABELS},
    ],
)
def test_npz_arrays_that_will_not_do(arrays: dict[str, Any], tmp_path: Path) -> None:
    (fault,) = refused(DataConfig(name="npz", path=saved(tmp_path, **arrays)))
    assert fault.key == "data.path"
    assert str(fault).isprintable()


def test_npz_the_missing_array_is_named(tmp_path: Path) -> None:
    (fault,) = refused(DataConfig(name="npz", path=saved(tmp_path, x=X)))
    assert "y missing" in fault.must
    (fault,) = refused(DataConfig(name="npz", path=saved(tmp_path, z=X)))
    assert "x and y missing" in fault.must


def damaged_npz(path: Path) -> None:
    """A compressed file whose index is whole and whose contents are not."""
    np.savez_compressed(path, x=X, y=LABELS)
    with ZipFile(path) as file:
        start = file.infolist()[0].header_offset + 60
    content = bytearray(path.read_bytes())
    content[start : start + 60] = bytes(255 - byte for byte in content[start : start + 60])
    path.write_bytes(content)


def npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, X)


def pickled(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([{}], dtype=object), allow_pickle=True)


def truncated(path: Path) -> None:
    np.savez(path, x=X, y=LABELS)
    path.write_bytes(path.read_bytes()[:300])


def unwritten(_path: Path) -> None:
    pass


FILES: list[Callable[[Path], object]] = [
    unwritten,
    Path.touch,
    Path.mkdir,
    lambda path: path.write_text("x,y\n1,2\n"),
    damaged_npz,
    npy,
    pickled,
    truncated,
]


@pytest.mark.parametrize("write", FILES, ids=["missing", "empty", "folder", "text", "damaged", "npy", "pickled", "truncated"])
def test_npz_files_that_are_none(write: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    write(path)
    (fault,) = refused(DataConfig(name="npz", path=str(path)))
    assert (fault.key, fault.value) == ("data.path", str(path))


def test_npz_needs_a_path() -> None:
    (fault,) = refused(DataConfig(name="npz"))
    assert (fault.key, fault.value) == ("data.path", None)


# ---------------------------------------------------------------------------------------------- mnist, from a cache and without a network

PIXELS = np.random.default_rng(1).integers(0, 256, (20, 4))
DIGITS = np.arange(20) % 10


def write_cache(home: Path) -> None:
    """What scikit-learn keeps of mnist_784 after a download, with 20 images of 4 pixels."""
    names = [f"pixel{i + 1}" for i in range(PIXELS.shape[1])]
    columns = [{"index": str(i), "name": name, "data_type": "numeric"} for i, name in enumerate(names)]
    columns.append({"index": "4", "name": "class", "data_type": "nominal"})
    features = [
        column
        | {"is_target": str(column["name"] == "class").lower(), "is_ignore": "false", "is_row_identifier": "false", "number_of_missing_values": "0"}
        for column in columns
    ]
    header = ["@RELATION mnist_784", *(f"@ATTRIBUTE {name} real" for name in names), "@ATTRIBUTE class {0,1,2,3,4,5,6,7,8,9}", "@DATA"]
    rows = [",".join(map(str, [*pixels, digit])) for pixels, digit in zip(PIXELS, DIGITS, strict=True)]
    arff = "\n".join([*header, *rows, ""]).encode()
    checksum = hashlib.md5(arff, usedforsecurity=False).hexdigest()
    url = "https://openml.org/data/v1/download/52667/mnist_784.arff"
    found = {"did": 554, "name": "mnist_784", "version": 1, "status": "active", "format": "ARFF"}
    about = {"id": "554", "name": "mnist_784", "version": "1", "status": "active", "format": "ARFF", "url": url, "md5_checksum": checksum}
    files: dict[str, Any] = {
        "api/v1/json/data/list/data_name/mnist_784/limit/2/data_version/1": {"data": {"dataset": [found]}},
        "api/v1/json/data/554": {"data_set_description": about | {"description": "small", "file_id": "52667", "default_target_attribute": "class"}},
        "api/v1/json/data/features/554": {"data_features": {"feature": features}},
        "api/v1/json/data/qualities/554": {"data_qualities": {"quality": [{"name": "NumberOfInstances", "value": str(len(rows))}]}},
        "data/v1/download/52667/mnist_784.arff": arff,
    }
    for name, content in files.items():
        path = home / "openml" / "openml.org" / f"{name}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content if isinstance(content, bytes) else json.dumps(content).encode()))


def test_mnist_comes_from_scikit_learns_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cache(tmp_path)
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    dataset = load(DataConfig(name="mnist", seed=1))
    x, y = together(dataset)
    assert (dataset.inputs, dataset.outputs, dataset.split.classes, x.dtype) == (4, 10, True, np.dtype(np.float64))
    np.testing.assert_array_equal(in_order(np.c_[x, y]), in_order(np.c_[PIXELS / 255, np.eye(10)[DIGITS]]))


def test_mnist_without_a_network_says_so(tmp_path: Path) -> None:
    """In a process of its own, whose way to the network leads to a port where nobody listens."""
    code = """
from bpexp.config import ConfigError, DataConfig
from bpexp.datasets import load
try:
    load(DataConfig(name="mnist"))
except ConfigError as error:
    print(error)
"""
    nobody = "http://127.0.0.1:9"
    environment = os.environ | {"SCIKIT_LEARN_DATA": str(tmp_path), "https_proxy": nobody, "http_proxy": nobody, "no_proxy": ""}
    line = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    (told,) = done.stdout.splitlines()
    assert told.startswith("data=mnist: ")
    assert "OpenML" in told
    assert "data=digits" in told


# ---------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("digits", "inputs", 3),
        ("digits", "outputs", 3),
        ("digits", "strength", 2.0),
        ("digits", "classes", 2),
        ("digits", "path", "x.npz"),
        ("synthetic", "path", "x.npz"),
        ("synthetic", "size", 8),
        ("synthetic", "outputs", 3),
        ("linear", "samples", 16),
        ("linear", "outputs", 16),
        ("noise", "classes", 2),
        ("noise", "size", 8),
        ("npz", "samples", 100),
        ("mnist", "classes", 3),
    ],
)
def test_a_key_that_a_data_set_does_not_use_is_refused(name: str, key: str, value: Any) -> None:
    (fault,) = refused(DataConfig(**({"name": name, "path": "y.npz"} if name == "npz" else {"name": name}) | {key: value}))
    assert (fault.key, fault.value) == (f"data.{key}", value)
    assert name in fault.must


EVERY: dict[str, Any] = {
    "samples": 5,
    "inputs": 3,
    "outputs": 3,
    "classes": 3,
    "size": 9,
    "strength": 1.0,
    "path": "x.npz",
}  # that not all data sets use


def test_every_unused_key_is_told_at_once() -> None:
    assert [fault.key for fault in refused(DataConfig(inputs=5, classes=2))] == ["data.inputs", "data.classes"]
    assert {fault.key for fault in refused(DataConfig("mnist", **EVERY))} == {f"data.{key}" for key in EVERY}


def test_an_unknown_data_set() -> None:
    (fault,) = refused(DataConfig(name="digit"))
    assert fault.key == "data.name"
    assert "did you mean 'digits'?" in fault.must
    assert all(name in fault.must for name in DATASETS)


def test_labels_become_columns_in_their_order() -> None:
    np.testing.assert_array_equal(one_hot(np.array([3, 1, 3, 2])), [[0, 0, 1], [1, 0, 0], [0, 0, 1], [0, 1, 0]])
