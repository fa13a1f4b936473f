"""Data sets: one function each, from the keys of `DataConfig` it names to arrays x (n, inputs) and y (n, outputs).

A function's keyword arguments are the keys it takes; a file in `conf/data/` gives them defaults.  `load` splits what comes back, by
`data.seed`, and sums it up in a checksum; with `data.test_fraction=0` nothing is kept for testing, and tests are on the training samples.
"""

import hashlib
import os
import stat
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib.util import find_spec
from inspect import signature
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import MAGIC_PREFIX
from numpy.typing import NDArray

from bpexp.config import ConfigError, DataConfig, Fault, nearest
from bpexp.core.initializers import orthogonal
from bpexp.core.training import Split

__all__ = ["DATASETS", "Dataset", "installed_memory", "load"]

COMMON = ("name", "seed", "test_fraction")  # keys that every data set has a use for
SIDE = 8  # pixels of a digit
FLOAT64 = 8  # bytes
MAX_LINEAR = 4096  # inputs of data=linear: a matrix of them takes 10 seconds

Samples = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Dataset:
    """A split data set in float64; `checksum` covers every value and the split."""

    name: str
    split: Split
    checksum: str

    @property
    def inputs(self) -> int:
        return int(self.split.x_train.shape[1])

    @property
    def outputs(self) -> int:
        return int(self.split.y_train.shape[1])


def _generator(seed: int) -> np.random.Generator:
    """The random numbers that samples are made or chosen by; the split has others."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))


def one_hot(labels: NDArray[Any]) -> NDArray[np.float64]:
    """Rows with a single 1, in the column of the label; columns in the labels' sorted order."""
    classes, index = np.unique(labels, return_inverse=True)
    return np.eye(len(classes))[index]


def digits(seed: int, size: int | None = None, samples: int | None = None) -> Samples:
    """scikit-learn's 8x8 handwritten digits (Alpaydin & Kaynak 1998): 1,797 samples, pixels / 16, one-hot targets; or `samples` of them, by the seed.

    A larger `size` draws each image on size x size pixels by bilinear interpolation between the centres of the 8 x 8, beyond which it is constant
    (scipy.ndimage.zoom of order 1, the images' edges on each other): 28 makes 784 inputs, in [0, 1] as before.
    """
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise ModuleNotFoundError(name="sklearn")
    table = np.loadtxt(Path(package.origin).parent / "datasets/data/digits.csv.gz", delimiter=",")  # importing the package takes a second
    x, y = table[:, :-1] / 16.0, one_hot(table[:, -1])
    if samples is not None:
        if samples > len(x):
            raise ConfigError([Fault("data.samples", samples, f"must be at most {len(x):,}, as many as data=digits has")])
        chosen = _generator(seed).permutation(len(x))[:samples]
        x, y = x[chosen], y[chosen]
    return (x if size is None or size == SIDE else _drawn_larger(x, size)), y


def _drawn_larger(x: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Images (n, 8 * 8) as (n, size * size)."""
    from scipy.ndimage import zoom  # takes a while to import

    images = zoom(x.reshape(-1, SIDE, SIDE), (1, size / SIDE, size / SIDE), order=1, mode="nearest", grid_mode=True)
    return np.clip(images.reshape(len(x), -1), 0.0, 1.0)  # but for roundings they are there already


def synthetic(seed: int, samples: int | None = None, inputs: int | None = None, classes: int | None = None) -> Samples:
    """Gaussian inputs, labelled by the largest output of a random teacher net, inputs -> 2 inputs (tanh) -> classes."""
    samples, inputs, classes = samples or 1000, inputs or 16, classes or 4
    rng = _generator(seed)
    x = rng.standard_normal((samples, inputs))
    hidden = np.tanh(x @ rng.standard_normal((inputs, 2 * inputs)) / np.sqrt(inputs))
    labels = (hidden @ rng.standard_normal((2 * inputs, classes))).argmax(axis=1)
    return x, np.eye(classes)[labels]


def linear(seed: int, test_fraction: float, inputs: int | None = None, strength: float | None = None) -> Samples:
    """A linear map with all singular values s = `strength`, y = s x, on n = `inputs` whitened samples: the mean of xᵀx is I, exactly to rounding.

    x (n, n) is √n times a random orthogonal matrix (defaults: n = 16, s = 1), so the squared error of a linear net with the product of weights W is
    ‖W - s I‖² / 2 (Saxe, McClelland & Ganguli 2014), and a batch has to be full to see it.  What a part of the samples sees is no longer whitened:
    `data.test_fraction` must be 0, as in `conf/data/linear.yaml`.
    """
    inputs, strength = inputs or 16, 1.0 if strength is None else strength
    if test_fraction:
        raise ConfigError([Fault("data.test_fraction", test_fraction, "must be 0 with data=linear, whose inputs are whitened all together")])
    if inputs > MAX_LINEAR:
        raise ConfigError([Fault("data.inputs", inputs, f"must be at most {MAX_LINEAR:,} with data=linear, which has as many samples")])
    x = orthogonal(_generator(seed), inputs, inputs, sigma_w2=inputs)
    return x, strength * x


def noise(seed: int, samples: int | None = None, inputs: int | None = None, outputs: int | None = None, strength: float | None = None) -> Samples:
    """Inputs N(0, 1) and targets N(0, s²) that have nothing to do with each other, s = `strength`: the full-batch problem of Sohl-Dickstein 2024.

    Defaults: 1,000 samples, 16 inputs, 1 target, s = 1.  With nothing to generalise from, `conf/data/noise.yaml` keeps no samples for testing.
    """
    samples, inputs, outputs = samples or 1000, inputs or 16, outputs or 1
    rng = _generator(seed)
    x, y = rng.standard_normal((samples, inputs)), rng.standard_normal((samples, outputs))
    return x, y if strength is None else strength * y


def npz(path: str | None = None) -> Samples:
    """Arrays x (n, inputs) and y from a NumPy .npz file; whole numbers in a flat y are class labels, anything else is targets."""
    if path is None:
        raise ConfigError([Fault("data.path", None, "must name a .npz file with arrays x and y")])
    try:
        x, y = _x_and_y(Path(path))
        return _finite(x), _targets(y)
    except _UnusableError as error:
        raise ConfigError([Fault("data.path", path, str(error))]) from None


class _UnusableError(Exception):
    """Why a file is no data set."""


def _x_and_y(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Nothing is taken out of the file before what it says of itself is right."""
    try:
        _check_kind(path)
        with path.open("rb") as raw, zipfile.ZipFile(raw) as archive:
            x, y = _heads(archive)
            _check_heads(x, y)
            return x.read(archive), y.read(archive)
    except _UnusableError:
        raise
    except FileNotFoundError:
        raise _UnusableError("no such file") from None
    except OSError as error:
        raise _UnusableError(f"can't be read ({error.strerror or error})") from None
    except Exception:  # what is no such file may look like one for any number of bytes
        raise _UnusableError("must be a .npz file of plain numeric arrays (pickled objects are not loaded)") from None


def _check_kind(path: Path) -> None:
    if not stat.S_ISREG(path.stat().st_mode):  # of a pipe or a device one would never see the end
        raise _UnusableError("must be a file")
    with path.open("rb") as raw:
        if raw.read(len(MAGIC_PREFIX)) == MAGIC_PREFIX:
            raise _UnusableError("must be a .npz file, not .npy")


@dataclass(frozen=True)
class _Head:
    """What a file says of one of its arrays."""

    member: zipfile.ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        return prod(self.shape)

    def read(self, archive: zipfile.ZipFile) -> NDArray[Any]:
        with archive.open(self.member) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)


def _heads(archive: zipfile.ZipFile) -> tuple[_Head, _Head]:
    """Those of x and y."""
    found = {name: [it for it in archive.infolist() if it.filename == f"{name}.npy"] for name in ("x", "y")}
    if missing := [name for name, members in found.items() if not members]:
        raise _UnusableError(f"must hold arrays x and y; {' and '.join(missing)} missing")
    if twice := [name for name, members in found.items() if len(members) > 1]:
        raise _UnusableError(f"must hold arrays x and y once each; {' and '.join(twice)} repeated")
    return _head(archive, found["x"][0]), _head(archive, found["y"][0])


def _head(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> _Head:
    with archive.open(member) as stream:
        if np.lib.format.read_magic(stream) != (1, 0):  # the others are for arrays with named columns
            raise ValueError(member.filename)
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        head = _Head(member, shape, dtype)
        if head.size * dtype.itemsize != member.file_size - stream.tell():
            raise ValueError(member.filename)
        return head


def _check_heads(x: _Head, y: _Head) -> None:
    _check_memory(sum(it.size * (it.dtype.itemsize + FLOAT64) for it in (x, y)))
    numeric = {x.dtype.kind, y.dtype.kind} <= set("iuf")  # what spans of time are made of counts as whole numbers elsewhere
    shapes = len(x.shape) == 2 and len(y.shape) in (1, 2) and x.shape[0] == y.shape[0] >= 2 and x.size > 0 and y.size > 0
    if not (numeric and shapes):
        raise _UnusableError(f"x must be numbers (n, inputs) and y (n,) or (n, outputs), n at least 2; found x {_told(x)}, y {_told(y)}")


def _told(head: _Head) -> str:
    return f"{head.shape} of {head.dtype}"


def _check_memory(needed: int) -> None:
    if needed > installed_memory():
        raise _UnusableError(f"needs about {needed / 2**30:,.0f} GiB of memory, this machine has {installed_memory() / 2**30:,.0f}")


def installed_memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _finite(array: NDArray[Any]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):  # of a longer float type
        numbers = array.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise _UnusableError("x and y must be finite")
    return numbers


def _targets(y: NDArray[Any]) -> NDArray[np.float64]:
    if y.ndim == 2 or not np.issubdtype(y.dtype, np.integer):
        return _finite(y.reshape(len(y), -1))
    classes = len(np.unique(y))
    if classes == 1:
        raise _UnusableError("y must hold at least 2 classes, or targets that are no whole numbers; found 1")
    _check_memory(FLOAT64 * classes * (len(y) + classes))
    return one_hot(y)


def mnist() -> Samples:
    """MNIST (LeCun et al. 1998) from OpenML through scikit-learn, cached in its data folder: 70,000 samples, pixels / 255."""
    from sklearn.datasets import fetch_openml

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it tries again
            bunch = fetch_openml("mnist_784", version=1, as_frame=False, parser="liac-arff", n_retries=1, delay=1e-3)
    except OSError as error:  # URLError, timeouts and HTTP errors are all of it
        reason = getattr(error, "reason", error)
        must = f"could not be fetched from OpenML and is not in scikit-learn's cache ({reason}); use data=digits offline"
        raise ConfigError([Fault("data", "mnist", must)]) from None
    return np.asarray(bunch.data, dtype=np.float64) / 255.0, one_hot(bunch.target)


DATASETS: dict[str, Callable[..., Samples]] = {function.__name__: function for function in (digits, synthetic, linear, noise, npz, mnist)}


@lru_cache(maxsize=2)
def _load(name: str, seed: int, test_fraction: float, _stamp: object, *arguments: tuple[str, Any]) -> Dataset:
    """The samples in a random order: the first for testing, the others for training, or with a fraction of 0 all for both."""
    x, y = DATASETS[name](**dict(arguments))
    held_out = round(test_fraction * len(x))
    if test_fraction and not 1 <= held_out < len(x):
        raise ConfigError([Fault("data.test_fraction", test_fraction, f"leaves a side of the split empty with {len(x)} samples")])
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,))).permutation(len(x))
    train, test = order[held_out:], order[:held_out] if test_fraction else order
    classes = bool(y.shape[1] > 1 and np.isin(y, (0.0, 1.0)).all() and (y.sum(axis=1) == 1.0).all())
    split = Split(x[train], y[train], x[test], y[test], classes)
    digest = hashlib.sha256()
    for array in (split.x_train, split.y_train, split.x_test, split.y_test):
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return Dataset(name, split, digest.hexdigest()[:16])


def _stamp(path: str | None) -> tuple[int, int] | None:
    """What changes when a file is written again."""
    try:
        found = Path(path or "").stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size


def load(config: DataConfig) -> Dataset:
    """The data set that a configuration names, split; the last two stay in memory.  Raises `ConfigError`."""
    if config.name not in DATASETS:
        must = f"must be one of {', '.join(DATASETS)}{nearest(config.name, DATASETS)}"
        raise ConfigError([Fault("data.name", config.name, must)])
    takes = signature(DATASETS[config.name]).parameters
    special = (key.name for key in fields(config) if key.name not in COMMON)
    if unused := [key for key in special if getattr(config, key) is not None and key not in takes]:
        raise ConfigError(Fault(f"data.{key}", getattr(config, key), f"is not used by data={config.name}") for key in unused)
    arguments = tuple((key, getattr(config, key)) for key in takes)
    try:
        return _load(config.name, config.seed, config.test_fraction, _stamp(config.path), *arguments)
    except ModuleNotFoundError as error:
        raise ConfigError([Fault("data", config.name, f"needs the package {error.name}")]) from None
