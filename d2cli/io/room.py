"""Memory for what a file claims to hold: a claim that no memory can hold is refused by name."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import DataError


def room(shape: tuple[int, ...], dtype: np.dtype, where: str) -> NDArray[Any]:
    """An array to be filled from the file and field `where`; its memory is used as it is filled.

    Raises:
        DataError: if it is larger than the memory of this machine, or of this process.
    """
    size = math.prod(shape) * dtype.itemsize
    try:
        if size > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
            raise MemoryError
        return np.empty(shape, dtype)
    except MemoryError:
        raise DataError(
            f"{where}: {_claim(shape, dtype)} take {size:,} bytes, more than there is memory",
            "a .npy file is read in place, without a copy in memory",
        ) from None


def _claim(shape: tuple[int, ...], dtype: np.dtype) -> str:
    return f"{' × '.join(f'{length:,}' for length in shape)} values of type {dtype}"
