"""Files that are whole or told to be damaged: whatever is cut off, changed, or killed on the way."""

import hashlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

from bpexp.durable import CHECKSUM, DamagedError, read, write
from tests.cli import environment
from tests.core.nets import REPEATABLE

Arrays = Mapping[str, NDArray[Any]]

ARRAYS: Arrays = {
    "weights/W_001": np.arange(12.0, dtype=np.float32).reshape(3, 4),
    "turned": np.arange(6.0).reshape(2, 3).T,
    "strided": np.arange(20)[::3],
    "one": np.array(-7),
    "none": np.empty((0, 3)),
    "not numbers": np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324]),
    "words": np.array([2**64 - 1, 0], np.uint64),
    "flags": np.array([[True, False]]),
}
TOLD = {"fingerprint": "abc", "step": 480, "part": {"é": [1, None, "x"]}}
BROKEN = "it is empty|it has [0-9]+ bytes|its checksum is another's|it is of another kind"


def assert_same_arrays(found: Arrays, expected: Arrays) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes(), name


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "some.file"
    write(path, ARRAYS, TOLD)
    return path


def test_what_is_written_is_read(file: Path) -> None:
    found, told = read(file)
    assert_same_arrays(found, ARRAYS)
    assert told == TOLD
    assert all(array.flags.writeable for array in found.values())
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    "name", ["", "/", "..", "../../etc/x", "a.npy", "a", "file", "arr_0", "allow_pickle", "names", "\0", "x" * 70_000, "\ud800", "C:\\é∂\n"]
)
def test_names_are_any_text(name: str, tmp_path: Path) -> None:
    arrays = {name: np.arange(3), f"{name}.npy": np.arange(4), "arr_1": np.arange(5)}
    write(tmp_path / "file", arrays, {})
    assert_same_arrays(read(tmp_path / "file")[0], arrays)


@REPEATABLE
@given(
    arrays=st.dictionaries(
        st.text(max_size=8),
        arrays_of.arrays(
            st.one_of(
                arrays_of.boolean_dtypes(), arrays_of.integer_dtypes(), arrays_of.floating_dtypes(endianness="="), arrays_of.complex_number_dtypes()
            ),
            arrays_of.array_shapes(min_dims=0, min_side=0),
        ),
        max_size=4,
    )
)
def test_any_arrays(arrays: Arrays, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    write(path, arrays, {})
    assert_same_arrays(read(path)[0], arrays)


def test_numpy_opens_it_as_well(file: Path) -> None:
    with np.load(file) as found:
        np.testing.assert_array_equal(found["arr_1"], ARRAYS["weights/W_001"])
        assert json.loads(found["arr_0"].tobytes())["told"] == TOLD


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o007])
def test_a_file_has_the_users_rights(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        write(tmp_path / "file", ARRAYS, TOLD)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~mask


# ------------------------------------------------------------------------------------------- damaged


def assert_damaged(path: Path) -> None:
    with pytest.raises(DamagedError, match=BROKEN) as caught:
        read(path)
    assert len(str(caught.value)) < 60
    assert "\n" not in str(caught.value)


def test_a_file_that_is_cut_off_anywhere_is_damaged(file: Path) -> None:
    whole = file.read_bytes()
    lengths = {*range(CHECKSUM + 2), *range(0, len(whole), 37), *range(len(whole) - CHECKSUM - 2, len(whole))}
    for length in lengths:
        file.write_bytes(whole[:length])
        assert_damaged(file)
    for longer in (whole + b"\0", whole + whole, b"\0" + whole):
        file.write_bytes(longer)
        assert_damaged(file)


@REPEATABLE
@given(data=st.data())
def test_a_file_with_another_byte_is_damaged(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped"
    write(path, ARRAYS, TOLD)
    whole = bytearray(path.read_bytes())
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(whole)
    assert_damaged(path)


def sealed(path: Path, body: bytes) -> None:
    """With a checksum that is right: of somebody who knows how."""
    path.write_bytes(body + hashlib.sha256(body).digest())


@REPEATABLE
@given(at=st.floats(0, 1), change=st.binary(min_size=1, max_size=8))
def test_a_forged_file_is_whole_or_damaged_and_nothing_else(at: float, change: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "forged"
    write(path, ARRAYS, TOLD)
    body = bytearray(path.read_bytes()[:-CHECKSUM])
    start = int(at * (len(body) - len(change)))
    body[start : start + len(change)] = change
    sealed(path, bytes(body))
    try:
        read(path)
    except DamagedError:
        assert_damaged(path)


def npz(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


def npy(array: NDArray[Any], **header: object) -> bytes:
    """An array, whose header says something else where that is given."""
    out = io.BytesIO()
    honest: dict[str, Any] = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(out, honest | header)
    return out.getvalue() + array.tobytes()


def told_as(value: object) -> bytes:
    return npy(np.frombuffer(json.dumps(value).encode(), np.uint8))


HEADER = told_as({"names": ["x"], "told": {}})
FORGED = {
    "no archive": b"not an archive at all",
    "zeros": bytes(1000),
    "an empty archive": npz(),
    "no npy": npz(("a", b"some text")),
    "names and no arrays": npz(("a", HEADER)),
    "more arrays than names": npz(("a", HEADER), ("b", npy(np.zeros(2))), ("c", npy(np.zeros(2)))),
    "a header that is no JSON": npz(("a", npy(np.zeros(3, np.uint8)))),
    "a header of another kind": npz(("a", told_as([1, 2]))),
    "nothing told": npz(("a", told_as({"names": []}))),
    "names that are none": npz(("a", told_as({"names": 3, "told": {}}))),
    "deep JSON": npz(("a", npy(np.frombuffer(b"[" * 200_000, np.uint8)))),
    "an array without end": npz(("a", HEADER), ("b", npy(np.zeros(2), shape=(2**40, 2**20)))),
    "one that is too large for any address": npz(("a", HEADER), ("b", npy(np.zeros(2), shape=(2**62, 2**62)))),
    "one of negative size": npz(("a", HEADER), ("b", npy(np.zeros(2), shape=(-1, -2)))),
    "one of nothing, many times": npz(("a", HEADER), ("b", npy(np.zeros(0, "S1"), descr="|S0", shape=(2**50,)))),
    "one that is cut off": npz(("a", HEADER), ("b", npy(np.zeros(2), shape=(3,)))),
    "objects": npz(("a", HEADER), ("b", npy(np.zeros(2), descr="|O", shape=(2,)))),
    "compressed": npz(("a", HEADER), ("b", npy(np.zeros(100_000))), compression=zipfile.ZIP_DEFLATED),
}


@pytest.mark.parametrize("name", FORGED)
def test_what_is_of_another_kind_is_damaged(name: str, tmp_path: Path) -> None:
    sealed(tmp_path / "file", FORGED[name])
    assert_damaged(tmp_path / "file")


def test_what_forged_files_are_made_with_is_right(tmp_path: Path) -> None:
    sealed(tmp_path / "file", npz(("a", HEADER), ("b", npy(np.arange(2.0)))))
    assert_same_arrays(read(tmp_path / "file")[0], {"x": np.arange(2.0)})


def test_a_checksum_that_looks_like_an_archives_end_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It happens once in 10**8 files."""

    class Unlucky:
        def digest(self) -> bytes:
            return b"PK\x05\x06" + bytes(CHECKSUM - 4)

    monkeypatch.setattr(hashlib, "file_digest", lambda file, _name: (file.read(), Unlucky())[1])
    write(tmp_path / "file", ARRAYS, TOLD)
    assert_same_arrays(read(tmp_path / "file")[0], ARRAYS)


def test_what_can_not_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        read(tmp_path)


# ------------------------------------------------------------------------------------------- refused, failed, killed


@pytest.mark.parametrize("array", [np.array([{}], object), np.array(["text"]), np.zeros(2, [("a", float)]), np.array(["2026"], "datetime64[D]")])
def test_only_numbers_are_kept(array: NDArray[Any], file: Path) -> None:
    with pytest.raises(TypeError, match=r"strange: .* is no kind of number"):
        write(file, {"fine": np.zeros(2), "strange": array}, {})
    assert_whole_and_alone(file)


def test_only_what_json_can_tell_is_told(file: Path) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        write(file, {}, {"x": object()})
    assert_whole_and_alone(file)


def assert_whole_and_alone(file: Path) -> None:
    """As it was before: nothing is left of what failed."""
    assert_same_arrays(read(file)[0], ARRAYS)
    assert list(file.parent.iterdir()) == [file]


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file of this process may grow larger: its writes fail, as on a full disk, and part of what is written stays."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


LARGE = {"large": np.zeros(10_000), "another": np.ones(10_000)}


@pytest.mark.parametrize("size", [0, 100, 50_000, 160_000])
def test_a_full_disk_leaves_the_old_file(size: int, file: Path) -> None:
    with room_for(size), pytest.raises(OSError, match=r"\[Errno 27\]"):
        write(file, LARGE, {})
    assert_whole_and_alone(file)
    with room_for(2**20):
        write(file, LARGE, {})
    assert_same_arrays(read(file)[0], LARGE)


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_what_fails_last_leaves_the_old_file(call: str, error: BaseException, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(os if call == "fsync" else Path, call, fail)
    with pytest.raises(type(error)):
        write(file, LARGE, {})
    monkeypatch.undo()
    assert_whole_and_alone(file)


def test_all_is_on_disk_before_it_has_its_name_and_the_name_after(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[tuple[str, object]] = []
    fsync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        status = os.fstat(handle)
        events.append(("synced", (status.st_ino, status.st_size)))
        fsync(handle)

    def replaced(path: Path, target: Path) -> Path:
        events.append(("replaced", (path.stat().st_ino, path.stat().st_size)))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    write(file, LARGE, {})
    (_, first), (_, second), (_, third) = events
    assert [name for name, _ in events] == ["synced", "replaced", "synced"]
    assert first == second == (file.stat().st_ino, file.stat().st_size)
    assert third == (file.parent.stat().st_ino, file.parent.stat().st_size)


KILLS = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from bpexp.durable import read, write

def write_for_ever(path, finished):
    number = 0
    while True:
        number += 1
        write(path, {str(i): np.full(40_000, number) for i in range(8)}, {"number": number})
        os.write(finished, b".")

for attempt in range(12):
    path = Path(sys.argv[1], str(attempt), "file")
    path.parent.mkdir()
    out, finished = os.pipe()
    child = os.fork()
    if child == 0:
        write_for_ever(path, finished)
    os.close(finished)
    count = len(os.read(out, 1))
    time.sleep(0.003 * attempt)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(out, 1000):
        count += len(more)
    found, told = read(path)
    equal = all((array == told["number"]).all() for array in found.values())
    print(count, told["number"], equal, len(list(path.parent.iterdir())), flush=True)
"""


def test_a_process_that_is_killed_while_it_writes_leaves_a_whole_file(tmp_path: Path) -> None:
    """The last one that was finished, or the next one; killed at moments spread over a writing."""
    line = [sys.executable, "-c", KILLS, str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, env=environment(OPENBLAS_NUM_THREADS="1"), check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    told = [line.split() for line in done.stdout.splitlines()]
    assert len(told) == 12
    for finished, number, equal, _ in told:
        assert equal == "True"
        assert int(number) - int(finished) in {0, 1}
    assert any(files == "2" for *_, files in told), "none was killed on its way: nothing has been tested"
