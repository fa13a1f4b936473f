"""Files that are no data set: each is refused in a line that names it, whatever it holds, and nothing of it is run or waited for."""

import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bpexp.config import ConfigError, DataConfig, Fault
from bpexp.datasets import load
from tests.bad_input.commands import refused, watchdog
from tests.bad_input.generated import DRAWN

X = np.random.default_rng(1).standard_normal((30, 3))
LABELS = np.arange(30) % 3


def refusal(path: Path | str) -> Fault:
    with watchdog(), pytest.raises(ConfigError) as error:
        load(DataConfig(name="npz", path=str(path)))
    (fault,) = error.value.faults
    assert (fault.key, fault.value) == ("data.path", str(path))
    assert str(fault).isprintable()
    return fault


def member(array: Any) -> bytes:
    """An array as it lies in a .npz file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def header(descr: str, shape: str) -> bytes:
    """The first bytes of an array that says this of itself."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def archive(path: Path, *members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members:
            if name in file.namelist():
                with pytest.warns(UserWarning, match="Duplicate name"):
                    file.writestr(name, content)
            else:
                file.writestr(name, content)


GOOD = ("y.npy", member(LABELS))

# ---------------------------------------------------------------------------------------------- what the arrays are


class Payload:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("marker",)


@pytest.mark.parametrize("where", ["member", "file", "object array", "y"])
def test_a_pickle_is_not_run(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path, payload = tmp_path / "bad.npz", Payload()
    if where == "file":
        path.write_bytes(pickle.dumps(payload))
    elif where == "member":
        archive(path, ("x.npy", pickle.dumps(payload)), GOOD)
    elif where == "object array":
        np.savez(path, x=np.array([[payload]] * 4, object), y=LABELS[:4])
    else:
        np.savez(path, x=X, y=np.array([payload] * 30, object))
    refusal(path)
    assert [it.name for it in tmp_path.iterdir()] == ["bad.npz"]
    pickle.loads(pickle.dumps(payload))
    assert (tmp_path / "marker").exists()  # it would have been


STRUCTURED = np.zeros(30, [("a", float), ("b", int)])
ARRAYS: dict[str, dict[str, Any]] = {
    "text": {"x": X.astype(str), "y": LABELS},
    "bytes": {"x": X.astype("S"), "y": LABELS},
    "dates": {"x": X.astype("datetime64[s]"), "y": LABELS},
    "time spans": {"x": X, "y": LABELS.astype("timedelta64[s]")},
    "complex": {"x": X + 1j, "y": LABELS},
    "complex targets": {"x": X, "y": X.astype(np.complex64)},
    "truths": {"x": X > 0, "y": LABELS},
    "structured": {"x": STRUCTURED, "y": LABELS},
    "structured targets": {"x": X, "y": STRUCTURED},
    "raw": {"x": X.view("V8"), "y": LABELS},
    "a number": {"x": np.array(5.0), "y": LABELS},
    "a vector": {"x": X[:, 0], "y": LABELS},
    "three axes": {"x": X[:, :, None], "y": LABELS},
    "thirty axes": {"x": X.reshape(30, 3, *[1] * 28), "y": LABELS},
    "three axes of targets": {"x": X, "y": X[:, :, None]},
    "nan": {"x": np.where(X > 1, np.nan, X), "y": LABELS},
    "infinite": {"x": X, "y": np.where(X > 1, -np.inf, X)},
    "too large for float64": {"x": X.astype(np.longdouble) * np.longdouble("1e4000"), "y": LABELS},
    "no samples": {"x": X[:0], "y": LABELS[:0]},
    "no inputs": {"x": X[:, :0], "y": LABELS},
    "no outputs": {"x": X, "y": X[:, :0]},
    "a sample": {"x": X[:1], "y": LABELS[:1]},
    "fewer targets": {"x": X, "y": LABELS[:-1]},
    "one class": {"x": X, "y": np.zeros(30, int)},
    "none": {},
    "paths for names": {"../x": X, "/tmp/y": LABELS},
}


@pytest.mark.parametrize("arrays", ARRAYS.values(), ids=ARRAYS)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_arrays_that_will_not_do(arrays: dict[str, Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    refusal(tmp_path / "bad.npz")


def test_more_classes_than_there_is_memory_for(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", x=np.zeros((10**6, 1), np.int8), y=np.arange(10**6))
    assert "GiB of memory" in refusal(tmp_path / "bad.npz").must


# ---------------------------------------------------------------------------------------------- what the file says of itself


def test_a_bomb_is_known_by_what_it_says(tmp_path: Path) -> None:
    """Zeros, in the few bytes that a compressor makes of them: 8 GiB of the 8 TiB that are told of."""
    head = header("'<f8'", f"({2**40}, 1)")
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = squeeze.compress(head) + squeeze.flush(zlib.Z_FULL_FLUSH)
    zeros = squeeze.compress(bytes(2**26)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    _raw(tmp_path / "bomb.npz", ("x.npy", start + 128 * zeros, len(head) + 2**43, zipfile.ZIP_DEFLATED))
    assert (tmp_path / "bomb.npz").stat().st_size < 2**24
    assert "GiB of memory" in refusal(tmp_path / "bomb.npz").must


def _raw(path: Path, *members: tuple[str, bytes, int, int]) -> None:
    """A zip file whose members have these contents, sizes and methods, as they are given, beside a good y."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(*GOOD)
        for name, content, size, method in members:
            info = zipfile.ZipInfo(name)
            file.writestr(info, content)
            info.file_size, info.compress_type = size, method


@pytest.mark.parametrize("size", [0, 1, 64, 2**20, 2**31, 2**62])
def test_sizes_that_are_not_so(size: int, tmp_path: Path) -> None:
    _raw(tmp_path / "bad.npz", ("x.npy", member(X), size, zipfile.ZIP_STORED))
    refusal(tmp_path / "bad.npz")


HEADERS = {
    "huge": header("'<f8'", "(30, 1000000000000)"),
    "beyond 64 bits": header("'<f8'", "(30, 10000000000000000000000000)"),
    "negative": header("'<f8'", "(-30, -3)"),
    "negative that comes to nothing": header("'<f8'", "(30, 0, -1)"),
    "truths": header("'<f8'", "(True, True)"),
    "a call": header("'<f8'", "__import__('os').system('touch marker')"),
    "deep": header("'<f8'", "(" * 3000 + ")" * 3000),
    "deep lists": header("[" * 60 + "]" * 60, "(30, 3)"),
    "no type": header("'<q99'", "(30, 3)"),
    "object": header("'|O'", "(30, 3)"),
    "broken": header("'<f8'", "(30, 3")[:-3],
    "none": b"",
    "two bytes": b"\x93N",
    "of 4 GB": b"\x93NUMPY\x02\x00" + b"\xff" * 4 + b" " * 1000,
    "of tomorrow": b"\x93NUMPY\x09\x00" + header("'<f8'", "(30, 3)")[8:],
    "nothing of NumPy's": b"x" * 1000,
}


@pytest.mark.parametrize("head", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("behind", [0, 720, 10_000])
def test_forged_headers(head: bytes, behind: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    archive(tmp_path / "bad.npz", ("x.npy", head + bytes(behind)), GOOD)
    refusal(tmp_path / "bad.npz")
    assert not (tmp_path / "marker").exists()


def test_an_array_that_is_there_twice(tmp_path: Path) -> None:
    archive(tmp_path / "bad.npz", ("x.npy", member(X)), GOOD, ("x.npy", member(2 * X)))
    assert "x repeated" in refusal(tmp_path / "bad.npz").must


@pytest.mark.parametrize("name", ["../x.npy", "/x.npy", "./x.npy", "x.npy/", "X.npy", "x", "x.npy\n", "a/x.npy"])
def test_names_that_are_none(name: str, tmp_path: Path) -> None:
    archive(tmp_path / "bad.npz", (name, member(X)), GOOD)
    assert "x missing" in refusal(tmp_path / "bad.npz").must


def good(method: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        made.writestr("x.npy", member(X))
        made.writestr("y.npy", member(LABELS))
    return file.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_beginning_of_a_file(method: int, tmp_path: Path) -> None:
    whole, path = good(method), tmp_path / "cut.npz"
    path.write_bytes(whole)
    assert load(DataConfig(name="npz", path=str(path))).outputs == 3
    for length in {*range(0, len(whole), 17), *range(len(whole) - 30, len(whole))}:
        path.write_bytes(whole[:length])
        refusal(path)


@settings(DRAWN, max_examples=150)
@given(st.binary(max_size=400), st.sampled_from(["alone", "behind a zip's mark", "as x", "as y"]))
def test_random_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes, where: str) -> None:
    path = tmp_path_factory.getbasetemp() / "random.npz"
    if where == "alone":
        path.write_bytes(content)
    elif where.startswith("behind"):
        path.write_bytes(b"PK\x03\x04" + content)
    else:
        name = where.removeprefix("as ")
        archive(path, (f"{name}.npy", content), ("x.npy" if name == "y" else "y.npy", member(X)))
    refusal(path)


@settings(DRAWN, max_examples=150)
@given(st.data())
def test_a_file_with_wrong_bytes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """It is refused, or what is read of it is what lay there: zip files have checksums."""
    whole = bytearray(good(zipfile.ZIP_DEFLATED))
    for place, byte in data.draw(st.dictionaries(st.integers(0, len(whole) - 1), st.integers(0, 255), min_size=1, max_size=4)).items():
        whole[place] = byte
    path = tmp_path_factory.getbasetemp() / "wrong.npz"
    path.write_bytes(whole)
    try:
        with watchdog():
            found = load(DataConfig(name="npz", path=str(path))).split
    except ConfigError as error:
        if [fault.key for fault in error.faults] != ["data.path"]:
            raise
    else:
        assert sorted(np.concatenate([found.x_train, found.x_test]).ravel().tolist()) == sorted(X.ravel().tolist())


# ---------------------------------------------------------------------------------------------- what is no file


def _loop(path: Path) -> None:
    path.symlink_to(path)


PLACES: dict[str, Callable[[Path], object]] = {
    "missing": lambda _path: None,
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop": _loop,
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "npy": lambda path: path.write_bytes(member(X)),
    "zip of something else": lambda path: archive(path, ("readme.txt", b"hello")),
}


@pytest.mark.parametrize("name", ["bad.npz", "a\nb.npz", "\N{RIGHT-TO-LEFT OVERRIDE}zpn.bad"])
@pytest.mark.parametrize("make", PLACES.values(), ids=PLACES)
def test_places_that_hold_no_file(make: Callable[[Path], object], name: str, tmp_path: Path) -> None:
    make(tmp_path / name)
    refusal(tmp_path / name)


@pytest.mark.parametrize("path", ["", ".", "..", "/", "/dev/null", "/dev/zero", "/proc/self/mem", "a\0b", "x" * 300, "a/" * 3000, "~", "\udcff"])
def test_paths_that_lead_nowhere(path: str) -> None:
    refusal(path)


@pytest.mark.parametrize("mode", [(), ("-m", "seed=0,1")])
def test_on_the_command_line(mode: tuple[str, ...], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    assert refused(tmp_path, *mode, "data=npz", "data.path=pipe.npz") == ["data.path=pipe.npz: must be a file"]
