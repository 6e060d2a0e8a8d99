"""Arrays at given places of files."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import DataError
from d2cli.files.regular import system_errors


class OpenFile(ABC):
    """A file that is open for reading, by several threads at a time."""

    @abstractmethod
    def head(self, count: int) -> bytes:
        """The first `count` bytes, or fewer if the file is shorter. May raise OSError."""

    @abstractmethod
    def read_into(self, array: NDArray[Any], offset: int) -> None:
        """Fill an array in C order from byte `offset` on.

        Raises:
            DataError: if the file ends before, or cannot be read.
        """

    @abstractmethod
    def size(self) -> int:
        """Bytes of the file. May raise OSError."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> OpenFile:
        """Closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()


class FilePlace(Protocol):
    """Where a file is. It can be pickled, and its text is for messages."""

    def open(self) -> OpenFile:
        """Open the file for reading. Raises OSError."""


@dataclass(frozen=True)
class LocalFile:
    """The place of a file on this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def open(self) -> OpenFile:
        """See :class:`FilePlace`."""
        return _OpenHere(self.path)


class _OpenHere(OpenFile):
    def __init__(self, path: Path) -> None:
        self._path, self._handle = path, os.open(path, os.O_RDONLY)

    def head(self, count: int) -> bytes:
        return os.pread(self._handle, count, 0)

    def read_into(self, array: NDArray[Any], offset: int) -> None:
        read_into(self._handle, array, offset, self._path)

    def size(self) -> int:
        return os.fstat(self._handle).st_size

    def close(self) -> None:
        os.close(self._handle)


def read_numbers(path: Path, dtype: Any, shape: tuple[int, ...], offset: int) -> NDArray[Any]:
    """A new array of `shape`, from byte `offset` of a file on; errors as of :func:`read_into`."""
    array = np.empty(shape, dtype)
    with system_errors(path):
        handle = os.open(path, os.O_RDONLY)
    try:
        read_into(handle, array, offset, path)
    finally:
        os.close(handle)
    return array


def read_into(handle: int, array: NDArray[Any], offset: int, path: Path) -> None:
    """Fill an array in C order from byte `offset` of an open file; safe in several threads.

    Raises:
        DataError: if the file ends before, or cannot be read. It was long enough when opened.
    """
    rest = bytes_of(array)
    while rest:
        with system_errors(path):
            got = os.preadv(handle, [rest], offset)
        if not got:
            raise was_cut_off(path)
        rest, offset = rest[got:], offset + got


def was_cut_off(place: object) -> DataError:
    """The error of a file that ends too early."""
    return DataError(f"{place}: was cut off while it was read", "run again")


def write_at(handle: int, array: NDArray[Any], offset: int) -> None:
    """Write an array in C order to byte `offset` of an open file; OSError if it cannot be."""
    rest = bytes_of(array)
    while rest:
        done = os.pwrite(handle, rest, offset)
        rest, offset = rest[done:], offset + done


def bytes_of(array: NDArray[Any]) -> memoryview:
    """The bytes of an array in C order, not copied."""
    assert array.flags.c_contiguous
    return memoryview(array.reshape(-1).view(np.uint8).data)
