"""Arrays at given places of files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import DataError
from d2cli.files.regular import system_errors


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
    rest = _bytes_of(array)
    while rest:
        with system_errors(path):
            got = os.preadv(handle, [rest], offset)
        if not got:
            raise DataError(f"{path}: was cut off while it was read", "run again")
        rest, offset = rest[got:], offset + got


def write_at(handle: int, array: NDArray[Any], offset: int) -> None:
    """Write an array in C order to byte `offset` of an open file; OSError if it cannot be."""
    rest = _bytes_of(array)
    while rest:
        done = os.pwrite(handle, rest, offset)
        rest, offset = rest[done:], offset + done


def _bytes_of(array: NDArray[Any]) -> memoryview:
    """The bytes of an array in C order, not copied."""
    assert array.flags.c_contiguous
    return memoryview(array.reshape(-1).view(np.uint8).data)
