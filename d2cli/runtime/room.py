"""Memory for what a file claims to hold: a claim that no memory can hold is refused by name."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import DataError
from d2cli.runtime.memory import total_memory


def room(shape: tuple[int, ...], dtype: np.dtype, where: str) -> NDArray[Any]:
    """An array to be filled from the file and field `where`; its memory is used as it is filled.

    Raises:
        DataError: if it is larger than the memory of this machine, of its control groups, or of
            this process.
    """
    size = math.prod(shape) * dtype.itemsize
    try:
        if size > _most():
            raise MemoryError
        return np.empty(shape, dtype)
    except MemoryError:
        raise DataError(
            f"{where}: {_claim(shape, dtype)} take {size:,} bytes, more than there is memory",
            "a .npy file is read in place, without a copy in memory",
        ) from None


@cache
def _most() -> float:
    """Bytes that cannot be more; as it was at first, since many files may ask."""
    most = total_memory()
    return math.inf if most is None else most


def _claim(shape: tuple[int, ...], dtype: np.dtype) -> str:
    return f"{' × '.join(f'{length:,}' for length in shape)} values of type {dtype}"
