"""Vectors without a type: the layouts of big-ann-benchmarks and of the texmex corpus.

Nothing in these files says what they are. The ending gives the type, and the sizes that the file
begins with must be those of the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import DataError
from d2cli.files.formats.fields import Field, MappedField
from d2cli.files.raw.numbers import read_numbers

#: big-ann: the number of vectors and of columns, uint32 each, then all values.
_ONE_HEADER = {".fbin": "<f4", ".u8bin": "u1", ".i8bin": "i1"}
#: texmex: before each vector the number of its columns, int32.
_HEADER_EACH = {".fvecs": "<f4", ".bvecs": "u1", ".ivecs": "<i4"}
#: The endings of both.
VECTOR_ENDINGS = (*_ONE_HEADER, *_HEADER_EACH)


def vector_fields(path: Path) -> list[Field]:
    """The one array of a file of vectors.

    Raises:
        DataError: if the sizes in the file are not those of the file.
    """
    ending, size = path.suffix.lower(), path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
    if len(head) < 8:
        raise DataError(f"{path}: is too short for a {ending} file")
    if ending in _ONE_HEADER:
        dtype = np.dtype(_ONE_HEADER[ending])
        n, width = struct.unpack("<II", head)
        if size != 8 + n * width * dtype.itemsize:
            says = f"the header claims {n:,} vectors of {width:,} {dtype} values"
            raise DataError(f"{path}: {says}, which are not the {size:,} bytes of the file")
        return [MappedField(path, "", (n, width), dtype, 8)]
    (width,) = struct.unpack("<i", head[:4])
    return [_PrefixedField(path, size, width, np.dtype(_HEADER_EACH[ending]))]


class _PrefixedField(Field):
    """Vectors that each follow their length; every length is checked while they are read."""

    def __init__(self, path: Path, size: int, width: int, dtype: np.dtype) -> None:
        n, rest = divmod(size, 4 + max(width, 0) * dtype.itemsize)
        if width <= 0 or rest:
            says = f"the first vector claims {width:,} {dtype} values"
            raise DataError(f"{path}: {says}, which do not divide the {size:,} bytes of the file")
        super().__init__(path, "", (n, width), dtype)
        self._row = np.dtype([("width", "<i4"), ("values", dtype, (width,))])

    def blocks(self) -> Iterator[NDArray[Any]]:
        for start, stop in self.spans(self.n, self.shape[1]):
            at = start * self._row.itemsize
            block = read_numbers(self.path, self._row, (stop - start,), at)
            wrong = block["width"] != self.shape[1]
            if wrong.any():
                row = int(np.argmax(wrong))
                says = f"has {block['width'][row]} values, the rows before have {self.shape[1]}"
                raise DataError(f"{self.path}: row {start + row} {says}")
            yield block["values"]
