"""Arrays in a file that is whole or told to be damaged, whatever kills the process or the machine while it is written.

A file is an uncompressed npz archive and, after it, the SHA-256 of all its bytes.  `numpy.load` opens it as well: `arr_0` holds, as JSON in
UTF-8, what is told of the arrays and their names, for names in an archive can't be any text; `arr_1`, … are the arrays.
"""

import hashlib
import io
import json
import os
import secrets
import struct
import zipfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["TEMPORARY", "DamagedError", "read", "write"]

TEMPORARY = ".tmp"  # how a file's name ends until it is whole; what a killed process leaves may be removed
CHECKSUM = hashlib.sha256().digest_size
MALFORMED = (EOFError, LookupError, OSError, OverflowError, RuntimeError, TypeError, ValueError, struct.error, zipfile.BadZipFile)


class DamagedError(ValueError):
    """A file that is not what `write` has written: torn, changed, or never one of its kind."""


def write(path: Path, arrays: Mapping[str, NDArray[Any]], told: Mapping[str, Any]) -> None:
    """Put arrays, under any names, and what JSON can tell of them into a file; `path` holds the old one or, once it is safely on disk, the new one.

    Raises OSError where there is no room, TypeError for arrays of anything but numbers and for what JSON can't tell: the old file stays then.
    """
    for name, array in arrays.items():
        if not _numeric(array.dtype):
            raise TypeError(f"{name}: {array.dtype} is no kind of number")
    header = np.frombuffer(json.dumps({"names": list(arrays), "told": dict(told)}).encode(), np.uint8)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        with temporary.open("x+b") as file:
            np.savez(file, header, *arrays.values())
            file.seek(0)
            file.write(hashlib.file_digest(file, "sha256").digest())  # it has been read to its end
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def read(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays of a file, and what it tells of them.  Raises DamagedError, and OSError for a file that can't be read at all."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= CHECKSUM:
            raise DamagedError("it is empty" if size == 0 else f"it has {size} bytes")
        body = _Body(file, size - CHECKSUM)
        if hashlib.file_digest(body, "sha256").digest() != file.read():
            raise DamagedError("its checksum is another's")
        try:
            return _content(body)
        except MALFORMED as error:
            raise DamagedError(f"it is of another kind ({type(error).__name__})") from error


class _Body(io.RawIOBase):
    """A file but for its checksum, in which an archive's end would be looked for."""

    def __init__(self, file: io.BufferedReader, size: int) -> None:
        self.file, self.size = file, size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self.file.seek(offset + self.size, os.SEEK_SET) if whence == os.SEEK_END else self.file.seek(offset, whence)

    def readinto(self, buffer: "WriteableBuffer") -> int:
        room = memoryview(buffer).cast("B")
        return self.file.readinto(room[: max(0, self.size - self.file.tell())])


def _content(body: _Body) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    with zipfile.ZipFile(body) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > body.size:
            raise ValueError("its arrays are larger than itself")
        header, *arrays = [_array(archive, member) for member in members]
    found = json.loads(header.tobytes())
    return dict(zip(found["names"], arrays, strict=True)), dict(found["told"])


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    """Memory is taken only where a member has as many bytes as its array is said to have."""
    with archive.open(member) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("another version of npy")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if not _numeric(dtype) or file.tell() + prod(shape) * dtype.itemsize != member.file_size:
            raise ValueError(f"{dtype} {shape} in {member.file_size} bytes")
        file.seek(0)
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _numeric(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biufc"


def _sync_folder(folder: Path) -> None:
    """Put on disk which files a folder has: a renaming is safe only then."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
